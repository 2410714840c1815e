"""`prefcourse start`: a course laid, opened, closed, and nothing of the user's touched. The map. The doctor."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import nbformat
import pytest
from jupyter_client.blocking import BlockingKernelClient

import prefcourse
from prefcourse.build.cells import code_cells
from prefcourse.checks.exercise import exercises_of
from prefcourse.learner import course, doctor, findings, hooks, lay, overview, places, progress, start

ROOT = Path(__file__).parent.parent
ROOMS = ("notebooks", "exercises", "solutions")
START = "import argparse, sys; from prefcourse.learner import start; p = argparse.ArgumentParser(); "
START += "start.add_arguments(p); sys.exit(start.main(p.parse_args()))"


def parsed(module, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """Progress, and the course's own Jupyter, apart from anybody's."""
    monkeypatch.setenv("PREFCOURSE_HOME", str(tmp_path / "progress"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "progress"


@pytest.fixture
def no_server(monkeypatch):
    """All but JupyterLab itself."""
    monkeypatch.setattr(start, "serve", lambda folder, args: 0)


# --- where, and from where ---------------------------------------------------------------------------------


def test_the_folder_is_the_one_asked_for_or_the_course_around_or_a_new_one(tmp_path, monkeypatch):
    assert start.where("there") == tmp_path / "there"
    assert start.where(None) == tmp_path / "prefcourse-course"
    (tmp_path / "laid" / "exercises").mkdir(parents=True)
    (tmp_path / "laid" / lay.MANIFEST).touch()
    for inside, expected in ((tmp_path / "laid" / "exercises", tmp_path / "laid"), (ROOT / "tests", ROOT)):
        monkeypatch.chdir(inside)
        assert start.where(None) == expected


def test_the_course_comes_from_the_checkout_or_from_inside_the_package(tmp_path, monkeypatch):
    assert course.course_source() == ROOT
    monkeypatch.setattr(prefcourse, "__file__", str(tmp_path / "prefcourse" / "__init__.py"))
    with pytest.raises(course.CourseError, match="Install it again: pip install"):
        course.course_source()
    inside = tmp_path / "prefcourse" / "_course"
    shutil.copytree(ROOT / "notebooks", inside / "notebooks")
    assert course.course_source() == inside


def test_the_wheel_carries_the_course_and_all_data_files(tmp_path):
    pytest.importorskip("hatchling", reason="builds a wheel; pip install hatchling")
    code = f"from hatchling.build import build_wheel; build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
    inside = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    listed = subprocess.run(["git", "ls-files", "prefcourse", *ROOMS], cwd=ROOT, capture_output=True, text=True)
    for name in filter(None, listed.stdout.splitlines()):
        if not name.startswith("notebooks/source/") and (ROOT / name).exists():
            assert (name if name.startswith("prefcourse/") else f"prefcourse/_course/{name}") in inside
    assert not any(name.endswith("README.py") for name in inside)


# --- laying, and what is said ------------------------------------------------------------------------------


@pytest.fixture
def edition(tmp_path, monkeypatch) -> Path:
    source = tmp_path / "edition"
    for room in ROOMS:
        (source / room).mkdir(parents=True)
        for path in (ROOT / room).glob("02_*.ipynb"):
            shutil.copy(path, source / room)
    shutil.copy(ROOT / "notebooks" / "README.ipynb", source / "notebooks")
    monkeypatch.setattr(course, "course_source", lambda: source)
    return source


def write_in(path: Path, text: str) -> None:
    book = nbformat.read(path, as_version=4)
    code_cells(book)[0].source += text
    nbformat.write(book, path)


def test_laid_kept_and_renewed_each_said(edition, tmp_path, no_server, capsys):
    mine = "mine/exercises/02_preference_optimization_overview.ipynb"
    for expected in ("4 new", "all as it was"):
        assert start.main(parsed(start, "mine")) == 0
        assert expected in capsys.readouterr().out
    write_in(tmp_path / mine, "\n# my words")
    assert start.main(parsed(start, "mine")) == 0
    assert "1 with your changes, kept" in capsys.readouterr().out
    for room in ("exercises", "solutions"):
        write_in(next((edition / room).glob("02_*")), "\n# a better question")
    assert start.main(parsed(start, "mine")) == 0
    said = capsys.readouterr().out
    assert "1 brought up to date" in said
    beside = "02_preference_optimization_overview.new.ipynb"
    assert f"overview.ipynb has a newer edition. You changed yours, so it stays; the new one is {beside}" in said
    assert "# my words" in Path(mine).read_text() and "a better question" in Path(mine).with_name(beside).read_text()


def test_a_checkout_is_opened_as_it_lies(tmp_path, no_server, capsys):
    (tmp_path / "clone" / "notebooks" / "source").mkdir(parents=True)
    (tmp_path / "clone" / "prefcourse").mkdir()
    assert start.main(parsed(start, "clone")) == 0
    assert "opened as it is" in capsys.readouterr().out
    assert not (tmp_path / "clone" / lay.MANIFEST).exists() and not (tmp_path / "clone" / "exercises").exists()


# --- what can be in the way --------------------------------------------------------------------------------


def missing(monkeypatch, *names: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in names else find(name))


def refused(capsys, *words: str) -> str:
    assert start.main(parsed(start, *words)) == 1
    return capsys.readouterr().err


def test_a_port_that_is_taken_is_said_before_anything_is_laid(edition, no_server, capsys):
    with socket.create_server(("localhost", 0)) as taken:
        number = taken.getsockname()[1]
        said = refused(capsys, "mine", "--port", str(number))
    assert f"port {number} of localhost: " in said and "leave --port out and a free one is found" in said
    assert not Path("mine").exists()
    assert "leave --ip out" in refused(capsys, "--ip", "no-such-place.invalid")
    assert "from 1 to 65535" in refused(capsys, "--port", "77777")


@pytest.mark.parametrize(
    ("package", "words"), [("jupyterlab", "-m pip install jupyterlab"), ("ipykernel", "-m pip install ipykernel")]
)
def test_a_missing_package_comes_with_the_line_that_mends_it(package, words, no_server, monkeypatch, capsys):
    missing(monkeypatch, package)
    assert words in refused(capsys)


def test_a_kernel_whose_python_is_gone_is_said(tmp_path, no_server, monkeypatch, capsys):
    spec = tmp_path / "share" / "kernels" / "python3" / "kernel.json"
    findings_of_spec = {"/no/such/python": findings.Sign.NO, "git": findings.Sign.MISSING, "python": findings.Sign.YES}
    spec.parent.mkdir(parents=True)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    for program, sign in findings_of_spec.items():
        spec.write_text(json.dumps({"argv": [program, "-m", "ipykernel_launcher"]}))
        assert doctor.kernel().sign == sign
    spec.write_text(json.dumps({"argv": ["/no/such/python"]}))
    assert "-m ipykernel install --sys-prefix" in refused(capsys)


def test_a_folder_that_cannot_be_written_is_said(tmp_path, edition, no_server, monkeypatch, capsys):
    (tmp_path / "file").touch()
    assert "choose another folder: prefcourse start ~/" in refused(capsys, "file/below")
    assert "choose another folder" in refused(capsys, "file")
    monkeypatch.setenv("PREFCOURSE_HOME", str(tmp_path / "file"))
    assert "set PREFCOURSE_HOME" in refused(capsys, "mine")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_said(tmp_path, edition, no_server, capsys):
    (tmp_path / "shelf").mkdir(mode=0o555)
    assert "choose another folder" in refused(capsys, "shelf")


def test_without_a_screen_no_browser_is_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    assert "--no-browser" in start.command(tmp_path, parsed(start))
    monkeypatch.setenv("DISPLAY", ":0")
    assert "--no-browser" not in start.command(tmp_path, parsed(start))
    assert "--no-browser" in start.command(tmp_path, parsed(start, "--no-browser"))


def test_on_a_remote_machine_the_tunnel_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", "1.2.3.4 5 6.7.8.9 22")
    said = start.welcome("http://course:8890/lab?token=t", tmp_path, parsed(start, "--no-browser"))
    assert "Open in your browser:\n  http://course:8890/lab?token=t" in said
    assert "ssh -N -L 8890:localhost:8890 " in said


def test_the_token_is_on_no_command_line_and_options_for_jupyterlab_pass(tmp_path):
    words = start.command(tmp_path, parsed(start, "--port", "9", "--lab=--ServerApp.base_url=/a", "--lab=--debug"))
    assert words[-2:] == ["--ServerApp.base_url=/a", "--debug"] and "--ServerApp.port_retries=0" in words
    assert not any("token=" in word.lower() for word in words)


# --- JupyterLab itself -------------------------------------------------------------------------------------


@pytest.fixture
def running(tmp_path):
    """The real thing, in somebody's home; ended at the latest after the test."""
    somebody = tmp_path / "somebody"
    (somebody / ".jupyter").mkdir(parents=True)
    (somebody / ".jupyter" / "jupyter_server_config.py").write_text("raise SystemExit('read by mistake')")
    environment = os.environ | {"HOME": str(somebody), "PYTHONPATH": str(ROOT)}
    environment = {name: value for name, value in environment.items() if not name.startswith("JUPYTER")}
    process = subprocess.Popen(
        [sys.executable, "-c", START, "mine", "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    yield process
    if process.poll() is None:
        process.terminate()
        process.communicate(timeout=60)


def address_in(process: subprocess.Popen) -> tuple[str, str, str]:
    """Base, token, and all that was said until then."""
    said = ""
    while not (found := re.search(r"(http://\S+/)lab/tree/notebooks/README.ipynb\?token=(\w+)", said)):
        line = process.stdout.readline()
        assert line, f"ended without an address: {said}"
        said += line
    return found[1], found[2], said


def asked(address: tuple, path: str, body: dict | None = None, method: str = "GET") -> dict:
    base, token, _ = address
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"token {token}"}
    request = urllib.request.Request(base + path, data=data, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or b"{}")


def until(holds, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def files_in(folder: Path) -> dict[str, float]:
    return {str(path): path.stat().st_mtime for path in folder.rglob("*")}


@pytest.mark.skipif(sys.platform == "win32", reason="a console's Ctrl-C cannot be sent to one process")
def test_from_the_command_to_ctrl_c(running, tmp_path, capsys):
    """One server for all that only a server can show: it takes seconds to start."""
    before = files_in(tmp_path / "somebody")
    address = address_in(running)
    assert "The course in " in address[2] and "new" in address[2]

    settings = "lab/api/settings/@jupyterlab/{}"
    news = json.loads(asked(address, settings.format("apputils-extension:notification"))["raw"] or "{}")
    theme = asked(address, settings.format("apputils-extension:themes"))["schema"]["properties"]
    lines = asked(address, settings.format("notebook-extension:tracker"))["schema"]["properties"]
    assert news == {} and theme["adaptive-theme"]["default"] is True
    assert lines["codeCellConfig"]["default"]["lineNumbers"] is True

    kernel = asked(address, "api/kernels", {"name": "python3"}, "POST")["id"]
    assert computed_by(kernel, "6 * 7") == "42"

    saved_as_a_figure(address, tmp_path / "mine" / "notebooks" / "drawn.ipynb")

    assert start.main(parsed(start, "mine", "--no-browser")) == 0
    assert f"is open already:\n  {address[0]}" in capsys.readouterr().out

    running.send_signal(signal.SIGINT)
    said = running.communicate(timeout=60)[0]
    assert running.returncode == 0 and "Closed. Your notebooks are in " in said and "prefcourse start mine" in said
    assert not any(word in said for word in ("Traceback", "WARNING", "[C ")), said
    assert files_in(tmp_path / "somebody") == before
    assert start.server_of(tmp_path / "mine") is None


def computed_by(kernel: str, code: str) -> str:
    client = BlockingKernelClient(connection_file=str(places.runtime() / f"kernel-{kernel}.json"))
    client.load_connection_file()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    answer = client.execute(code, user_expressions={"it": code}, reply=True, timeout=60)
    client.stop_channels()
    return answer["content"]["user_expressions"]["it"]["data"]["text/plain"]


def saved_as_a_figure(address: tuple, path: Path) -> None:
    """A live widget with a still copy, as JupyterLab sends it to be saved."""
    view = "application/vnd.jupyter.widget-view+json"
    data = {view: {"model_id": "gone tomorrow"}, "image/png": "iVBORw0KGgo=", "text/plain": "a slider"}
    cell = nbformat.v4.new_code_cell("slider", outputs=[nbformat.v4.new_output("display_data", data=data)])
    book = nbformat.v4.new_notebook(cells=[cell], metadata={"widgets": {"application/x": {}}})
    del book.metadata["widgets"]["application/x"]
    model = {"type": "notebook", "format": "json", "content": book}
    asked(address, "api/contents/notebooks/drawn.ipynb", model, "PUT")
    written = nbformat.read(path, as_version=4)
    assert "image/png" in written.cells[0].outputs[0].data and view not in json.dumps(written)
    assert "widgets" not in written.metadata


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_closed_terminal_leaves_no_server(running, tmp_path):
    address = address_in(running)
    asked(address, "api/kernels", {"name": "python3"}, "POST")
    running.send_signal(signal.SIGHUP)
    running.communicate(timeout=60)
    until(lambda: not start.server_of(tmp_path / "mine"))


def test_a_jupyterlab_that_does_not_start_is_said(edition, capfd):
    assert start.main(parsed(start, "mine", "--no-browser", "--lab=--ServerApp.ip=300.1.1.1")) == 1
    assert "JupyterLab did not start; its messages are above.\n  prefcourse doctor" in capfd.readouterr().err


def test_the_settings_last_as_long_as_the_block(tmp_path):
    before = dict(os.environ)
    with places.own_jupyter(tmp_path):
        assert os.environ["JUPYTER_CONFIG_PATH"] == str(places.SETTINGS)
        assert shutil.which("python", path=os.environ["PATH"].split(os.pathsep)[0])
    assert dict(os.environ) == before
    mine, other = places.variables(tmp_path), places.variables(ROOT)
    assert mine["JUPYTERLAB_WORKSPACES_DIR"] != other["JUPYTERLAB_WORKSPACES_DIR"]


# --- the map -----------------------------------------------------------------------------------------------


def learn(monkeypatch, *numbers: str) -> None:
    for number in numbers:
        progress.record_verdict(number, passed=True)
    for name in hooks.NOT_A_LEARNER:
        monkeypatch.delenv(name, raising=False)


def test_every_lesson_says_its_title_and_its_time():
    for chapter in overview.chapters(ROOT):
        first = overview.texts(ROOT / "notebooks" / chapter.file)[0]
        title, minutes = overview.title_and_time(first)
        assert title and minutes, f"{chapter.file} begins with `# 2 · Title` and has `**Time.** 45 minutes`"


def test_the_map_counts_what_the_package_asks():
    for chapter in overview.chapters(ROOT):
        asked = [overview.Question(e.number, e.function, e.difficulty, e.minutes) for e in exercises_of(chapter.number)]
        assert list(chapter.questions) == asked and chapter.solved_notebook == bool(asked)


def test_the_committed_map_is_of_today_and_its_links_lead_somewhere():
    book = nbformat.read(ROOT / "notebooks" / "README.ipynb", as_version=4)
    shown = next(cell for cell in book.cells if cell.id == overview.CELL).outputs[0].data["text/markdown"]
    assert shown == overview.map_of(ROOT)._repr_markdown_(), "prefcourse build README"
    assert "solved" not in shown.replace("solutions", "")
    for link in re.findall(r"\]\((.+?)\)", shown):
        assert (ROOT / "notebooks" / link).is_file()


def test_the_map_is_made_again_when_a_chapter_comes(edition):
    path = edition / "notebooks" / overview.FILE
    overview.refresh(edition)
    assert overview.is_of_today(path)
    shutil.copy(next((edition / "notebooks").glob("02_*")), edition / "notebooks" / "09_ppo_theory.ipynb")
    assert not overview.is_of_today(path)


def test_progress_is_on_the_map_of_a_learner_only(edition, monkeypatch):
    progress.record_verdict("2.1", passed=True)
    assert "1 solved" not in overview.map_of(edition)._repr_markdown_(), "a test run is no learner"
    learn(monkeypatch, "2.1", "2.3")
    made = overview.map_of(edition)
    assert "65 min, 2 solved" in made._repr_markdown_() and "2 solved" in repr(made)
    assert "**Next:** [2.2 unanimity](../exercises/02_" in made._repr_markdown_()
    learn(monkeypatch, "2.2", "2.4", "2.5")
    words = overview.map_of(edition)._repr_markdown_()
    assert "✓ all solved" in words and "**All exercises are solved.**" in words


def test_a_map_of_what_is_there(edition, tmp_path, monkeypatch):
    (edition / "solutions" / "02_preference_optimization_overview.ipynb").unlink()
    shutil.copy(next((edition / "notebooks").glob("02_*")), edition / "notebooks" / "02_x.new.ipynb")
    (edition / "notebooks" / "07_label_noise.ipynb").write_text("{")
    words = overview.map_of(edition)._repr_markdown_()
    assert "solutions" not in words and ".new." not in words and "| **7** label noise | [lesson](07_" in words
    assert repr(overview.map_of(tmp_path)) == "no chapters here"
    alone = overview.course_map()  # in Colab, say
    assert "Preference Optimization Overview" in repr(alone) and "](" not in alone._repr_markdown_()


def test_the_saved_map_shows_todays_progress_and_is_no_change(edition, tmp_path, monkeypatch):
    laid = tmp_path / "mine"
    lay.lay(edition, laid)
    learn(monkeypatch, "2.1")
    overview.refresh(laid)
    path = laid / "notebooks" / "README.ipynb"
    nbformat.validate(nbformat.read(path, as_version=4))
    assert "1 solved" in path.read_text()
    assert set(lay.lay(edition, laid).values()) == {"same"}
    path.write_text("my notes")
    overview.refresh(laid)
    assert path.read_text() == "my notes"


# --- the doctor --------------------------------------------------------------------------------------------


def test_the_doctor_says_what_is_here(capsys):
    assert doctor.main(parsed(doctor)) in (0, 1)
    told = capsys.readouterr().out
    for word in ("Python", "kernel", "anywidget widgets", "this folder", "memory", "port", "browser", "sandbox"):
        assert word in told


def test_the_doctor_fails_only_for_what_learners_need(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "ROOMS", {"a": lambda: [findings.wanted(False, "docker", "no", "start it")]})
    assert doctor.main(parsed(doctor)) == 0 and "-> start it" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "ROOMS", {"a": lambda: [findings.needed(False, "Python", "3.9", "install 3.11")]})
    assert doctor.main(parsed(doctor)) == 1 and "-> install 3.11" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_broken(tmp_path):
    (tmp_path / "file").touch()
    assert findings.writable("x", tmp_path / "file" / "below").sign == findings.Sign.NO
    assert findings.writable("x", tmp_path / "new" / "below").sign == findings.Sign.YES


def test_the_doctor_misses_a_package_and_its_part_in_jupyterlab(monkeypatch):
    assert doctor.version("no-such-package").sign == findings.Sign.NO
    monkeypatch.setitem(doctor.WIDGETS, "anywidget", "no-such-extension")
    found = doctor.labextension("anywidget")
    assert found.sign == findings.Sign.NO and "pip install --force-reinstall --no-deps anywidget" in found.mend


def test_a_taken_port_is_no_defect():
    with socket.create_server(("localhost", 0)) as taken:
        found = doctor.port(taken.getsockname()[1])
    assert found.sign == findings.Sign.YES and "picks another" in found.words


def test_what_does_not_work_when_tried_is_shown_with_its_last_words():
    assert doctor.tried("a", "pass", "mend it").sign == findings.Sign.YES
    found = doctor.tried("a", "raise OSError('libgomp.so is missing')", "mend it")
    assert (found.words, found.mend) == ("OSError: libgomp.so is missing", "mend it")


def test_learners_commands_begin_at_once():
    """Neither torch nor nbformat, whose import takes a second, nor Jupyter."""
    code = (
        "import sys; from prefcourse.learner import doctor, start, status; from prefcourse.learner.overview import *; "
    )
    code += "chapters(course.course_source()); "
    code += "print(*{'torch', 'nbformat', 'jupyter_client', 'jupyterlab', 'matplotlib'} & set(sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    assert subprocess.check_output([sys.executable, "-c", code], text=True, env=environment).strip() == ""
