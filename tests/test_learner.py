"""The learner's commands, on a copy of chapter 2: nothing written is lost; the saved notebook is checked."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import nbformat
import pytest

from prefcourse.build.cells import role
from prefcourse.learner import check, course, hint, hooks, lay, progress, reset, status
from prefcourse.learner import next as next_exercise
from prefcourse.learner.files import keep_copy, write_whole
from prefcourse.progress import doing

ROOT = Path(__file__).parent.parent
NAME = "02_preference_optimization_overview.ipynb"
RIGHT = {
    cell.metadata.prefcourse.exercise: cell.source
    for cell in nbformat.read(ROOT / "solutions" / NAME, as_version=4).cells
    if role(cell)[0] == "answer"
}


def run(module, *words: str) -> int:
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    return module.main(parser.parse_args(words))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """Progress of its own."""
    monkeypatch.setenv("PREFCOURSE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def hide_pytest(monkeypatch) -> None:
    """To be called in the test itself: pytest sets its variable again when a test begins."""
    for name in hooks.NOT_A_LEARNER:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A course's folder, and a folder deep inside it to stand in."""
    for room in ("notebooks", "exercises", "solutions"):
        (tmp_path / "course" / room).mkdir(parents=True)
        shutil.copy(ROOT / room / NAME, tmp_path / "course" / room)
    (tmp_path / "course" / "exercises" / "notes").mkdir()
    monkeypatch.chdir(tmp_path / "course" / "exercises" / "notes")
    return tmp_path / "course"


def write_answers(folder: Path, **answers: str) -> Path:
    """As a learner does: answer_2_1="..." becomes the source of that cell."""
    path = folder / "exercises" / NAME
    book = nbformat.read(path, as_version=4)
    for cell in book.cells:
        cell.source = answers.get(cell.id.replace("-", "_"), cell.source)
    nbformat.write(book, path)
    return path


# --- check --------------------------------------------------------------------------------------------------


def test_a_right_answer_passes_and_counts(folder, monkeypatch, capsys):
    hide_pytest(monkeypatch)
    write_answers(folder, answer_2_1=RIGHT["2.1"])
    assert run(check, "2.1") == 0
    words = capsys.readouterr().out
    assert f"{NAME}, saved " in words and "(just now)" in words
    assert "2.1 agreement_rate: solved" in words and "1 of 1 solved" in words
    assert progress.load()["2.1"]["attempts"] == 1 and "solved" in progress.load()["2.1"]


def test_the_packages_own_function_is_said_to_give_no_points(folder, capsys):
    leaning = """from prefcourse.agreement import percent_agreement as rate
def agreement_rate(labels, drop_ties=False):
    return rate(labels, ties="drop" if drop_ties else "three-way")"""
    write_answers(folder, answer_2_1=leaning, answer_2_2=RIGHT["2.2"])
    run(check, "2")
    words = capsys.readouterr().out
    assert words.count("in a graded course that earns no points") == 1
    assert "prefcourse.agreement.percent_agreement\n\n2.2 unanimity: solved" in words
    assert max(map(len, words.splitlines()[1:])) <= 88


def test_each_kind_of_failure_is_told_apart_and_costs_only_itself(folder, capsys):
    write_answers(
        folder,
        answer_2_1="def agreement_rate(:",
        answer_2_3="import os\ndef cohen_kappa(a, b): os._exit(1)",
        answer_2_4="def fleiss_kappa(labels_by_item):\n    while True: pass",
        answer_2_5=RIGHT["2.5"],
    )
    assert run(check, "2", "--timeout", "4") == 1
    words = capsys.readouterr().out
    assert "2.1: could not be checked.\n  The answer of 2.1: SyntaxError: invalid syntax (line 1)\n" in words
    assert "2.2 unanimity: not written yet" in words
    assert max(map(len, words.splitlines()[1:])) <= 88
    assert "2.3: not checked. The check of 2.3 ended the kernel" in words
    assert "2.4: not checked. The check of 2.4 took longer than 4 s" in words
    assert "2.5 reward_model_ceiling: solved" in words
    assert "1 of 5 solved" in words


def test_where_code_above_ends_the_kernel_it_is_named(folder, capsys):
    write_answers(folder, setup="import os\nos._exit(1)")
    assert run(check, "2.1") == 1
    assert "2.1: not checked. Cell 2 ended the kernel" in capsys.readouterr().out


def test_a_check_is_the_courses_own_even_if_edited_or_deleted(folder, capsys):
    path = write_answers(folder, answer_2_1="def agreement_rate(*_, **__): return 0.5", check_2_1="print('solved')")
    assert run(check, str(path)) == 1
    assert "2.1 agreement_rate: not solved" in capsys.readouterr().out
    book = nbformat.read(path, as_version=4)
    book.cells = [cell for cell in book.cells if role(cell)[0] != "check"]
    for cell in book.cells:
        cell.id = f"other-{cell.id}"  # as tools that drop ids
    nbformat.write(book, path)
    assert run(check, "2.1") == 1
    assert "2.1 agreement_rate: not solved" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("24", "chapter 24 has no exercises; there are 1, 2"),
        ("2.99", "there is no exercise '2.99'; there are 2.1"),
        ("nothing.ipynb", "neither a chapter (2), nor an exercise (2.1), nor a notebook"),
        ("broken.ipynb", "broken.ipynb is not a notebook that can be read"),
        ("foreign.ipynb", "foreign.ipynb has no exercises of this course"),
    ],
)
def test_what_is_not_there_is_usage(folder, capsys, what, words):
    Path("broken.ipynb").write_text('{"cells": 3')
    nbformat.write(nbformat.v4.new_notebook(), "foreign.ipynb")
    assert run(check, what) == 2
    assert words in capsys.readouterr().err


def test_outside_a_course_one_is_told_the_way(tmp_path, monkeypatch, capsys, folder):
    monkeypatch.chdir(tmp_path)
    for module in (check, status, next_exercise):
        assert run(module) == 2
        assert "Go to the course's folder, or give --course DIR" in capsys.readouterr().err
    assert run(status, "--course", str(folder)) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="a console's Ctrl-C cannot be sent to one process")
def test_watch_checks_again_on_save_and_ends_with_ctrl_c(folder, home):
    code = "import argparse, sys; from prefcourse.learner import check; p = argparse.ArgumentParser()\n"
    code += "check.add_arguments(p); sys.exit(check.main(p.parse_args(['2.1', '--watch'])))"
    watcher = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    read_until(watcher, "watching")
    (folder / "exercises" / NAME).write_text("{")
    read_until(watcher, "is not a notebook that can be read")
    shutil.copy(ROOT / "exercises" / NAME, folder / "exercises")
    write_answers(folder, answer_2_1=RIGHT["2.1"])
    assert "2.1 agreement_rate: solved" in read_until(watcher, "1 of 1 solved")
    watcher.send_signal(signal.SIGINT)
    assert "stopped watching" in watcher.communicate(timeout=30)[0]
    assert watcher.returncode == 0


def read_until(process: subprocess.Popen, words: str) -> str:
    read = ""
    while words not in read:
        line = process.stdout.readline()
        assert line, f"ended without {words!r}: {read}"
        read += line
    return read


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_leaves_no_kernel(folder, tmp_path):
    note = tmp_path / "pid"
    write_answers(
        folder,
        setup=f"import os, pathlib, time\npathlib.Path({str(note)!r}).write_text(str(os.getpid()))\ntime.sleep(99)",
    )
    code = "import argparse; from prefcourse.learner import check; p = argparse.ArgumentParser()\n"
    code += "check.add_arguments(p); check.main(p.parse_args(['2.1']))"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    until(lambda: note.exists() and note.read_text())
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)
    until(lambda: not alive(int(note.read_text())))


def until(holds, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# --- hints --------------------------------------------------------------------------------------------------


def test_one_more_hint_each_time_and_then_the_way_to_the_solution(folder, capsys):
    for times in (1, 2, 3):
        assert run(hint, "2.1") == 0
        words = capsys.readouterr().out
        assert [f"hint {n} of 3" in words for n in (1, 2, 3)] == [n <= times for n in (1, 2, 3)]
        assert "--reveal" not in words
    assert run(hint, "2.1") == 0
    assert "Those are all the hints. `prefcourse hint 2.1 --reveal`" in capsys.readouterr().out
    assert progress.load()["2.1"] == {"hints": 3}


def test_the_solution_comes_after_a_warning_and_is_noted(folder, capsys):
    assert run(hint, "2.2", "--reveal") == 0
    warning, _, solution = capsys.readouterr().out.partition("\n\n")
    assert warning == hint.WARNING and solution.strip() == RIGHT["2.2"]
    assert list(progress.load()["2.2"]) == ["revealed"]


def test_after_a_pass_the_reference_is_shown_for_comparison(folder, capsys):
    progress.record_verdict("2.2", passed=True)
    assert run(hint, "2.2") == 0
    words = capsys.readouterr().out
    assert "For comparison" in words and RIGHT["2.2"] in words and hint.WARNING not in words
    assert "revealed" not in progress.load()["2.2"]


def test_without_solutions_that_is_said(folder, capsys):
    shutil.rmtree(folder / "solutions")
    assert run(hint, "2.2", "--reveal") == 2
    assert "no notebook of chapter 2 in" in capsys.readouterr().err
    assert progress.load() == {}, "nothing was revealed"


# --- status and next ----------------------------------------------------------------------------------------


def test_status_counts_and_names_what_comes_next(folder, capsys):
    progress.record_verdict("2.1", passed=True)
    progress.record_verdict("2.2", passed=False)
    assert run(status) == 0
    words = capsys.readouterr().out
    assert "2  Preference Optimization Overview" in words and "1/5" in words and "2/10" in words
    assert "next: 2.2 unanimity" in words and str(progress.path()) in words


def test_a_folder_older_or_newer_than_the_package_still_has_a_status(folder, capsys):
    for name in ("01_not_known_yet.ipynb", "02_a.new.ipynb"):
        shutil.copy(folder / "exercises" / NAME, folder / "exercises" / name)
    assert run(status) == 0
    assert "0/5" in capsys.readouterr().out
    for path in (folder / "exercises").glob("02_*"):
        path.unlink()
    assert run(status) == 0 and run(next_exercise) == 0


def test_next_until_all_is_solved(folder, capsys):
    for number in RIGHT:
        assert run(next_exercise) == 0
        words = capsys.readouterr().out
        assert words.startswith(f"next: {number} ") and NAME in words and f"prefcourse check {number}" in words
        progress.record_verdict(number, passed=True)
    assert run(next_exercise) == 0
    assert capsys.readouterr().out == "All exercises are solved.\n"


# --- progress -----------------------------------------------------------------------------------------------


def test_only_a_learners_own_checks_count(folder, monkeypatch):
    hide_pytest(monkeypatch)
    with monkeypatch.context() as patch:
        patch.chdir(folder / "solutions")
        hooks.count("2.1", True, 2)
    for name in hooks.NOT_A_LEARNER:
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            hooks.count("2.1", True, 2)
    assert progress.load() == {}
    hooks.count("2.1", True, 2)
    assert progress.load()["2.1"]["attempts"] == 1


def test_the_first_pass_keeps_its_date(home):
    progress.update("2.1", lambda record: record.update(solved="2020-01-01T00:00:00"))
    progress.record_verdict("2.1", passed=True)
    progress.record_verdict("2.1", passed=False)
    assert progress.load()["2.1"] == {"solved": "2020-01-01T00:00:00", "attempts": 2}


def test_what_this_version_does_not_know_is_kept(home):
    later = {"version": 7, "streak": 3, "exercises": {"2.1": {"mood": "good"}, "99.1": {"solved": "2031-01-01"}}}
    write_whole(progress.path(), json.dumps(later))
    progress.record_verdict("2.1", passed=False)
    later["exercises"]["2.1"]["attempts"] = 1
    assert json.loads(progress.path().read_text()) == later


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"exercises": 3}', '{"exercises": {"2.1": 3}}', "\x00"])
def test_a_damaged_file_is_set_aside_and_said(home, damage):
    write_whole(progress.path(), damage)
    with pytest.warns(UserWarning, match="is damaged; it is kept as progress.damaged-"):
        assert progress.load() == {}
    assert [path.read_text() for path in home.glob("progress.damaged-*.json")] == [damage]
    progress.record_verdict("2.1", passed=True)
    assert "solved" in progress.load()["2.1"]


def _attempts(times: int) -> None:
    for _ in range(times):
        progress.record_verdict("2.1", passed=False)


def test_kernels_at_the_same_time_lose_nothing():
    context = get_context("spawn")
    processes = [context.Process(target=_attempts, args=(10,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert progress.load()["2.1"]["attempts"] == 30


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_DATA_HOME", "prefcourse"),
        ("win32", "LOCALAPPDATA", "prefcourse/Data"),
        ("darwin", "HOME", "Library/Application Support/prefcourse"),
    ],
)
def test_progress_is_where_the_platform_keeps_data(tmp_path, monkeypatch, platform, variable, expected):
    monkeypatch.delenv("PREFCOURSE_HOME")
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert progress.home() == tmp_path / expected


# --- reset --------------------------------------------------------------------------------------------------


def test_reset_gives_the_stub_again_and_keeps_what_was_there(folder, capsys):
    fresh = (folder / "exercises" / NAME).read_text()
    path = write_answers(folder, answer_2_1="mine", title="my notes", answer_2_2=RIGHT["2.2"])
    mine = path.read_text()
    assert run(reset, "2.1") == 0
    copies = list((folder / "exercises").glob("*.before-reset-*.ipynb"))
    assert [copy.read_text() for copy in copies] == [mine]
    assert copies[0].name in capsys.readouterr().out
    after, stubs = nbformat.read(path, as_version=4), nbformat.reads(fresh, as_version=4)
    for cell, stub in zip(after.cells, stubs.cells, strict=True):
        kept = {"title": "my notes", "answer-2-2": RIGHT["2.2"]}
        assert cell.source == kept.get(cell.id, stub.source)


def test_what_was_reset_is_no_longer_solved(folder, capsys):
    progress.record_verdict("2.1", passed=True)
    assert run(reset, "2.1") == 0 and "unsolved until its check passes again" in capsys.readouterr().out
    assert run(status) == 0 and "0/5" in capsys.readouterr().out
    assert "solved before" in progress.load()["2.1"]
    progress.record_verdict("2.1", passed=True)
    assert run(reset, "2.2") == 0 and "counts as" not in capsys.readouterr().out
    assert run(status) == 0 and "1/5" in capsys.readouterr().out


def test_reset_brings_a_deleted_answer_back(folder):
    path = folder / "exercises" / NAME
    book = nbformat.read(path, as_version=4)
    book.cells = [cell for cell in book.cells if role(cell)[1] != "2.3"]
    nbformat.write(book, path)
    assert run(reset, "2.3") == 0
    roles = [role(cell) for cell in nbformat.read(path, as_version=4).cells]
    assert roles[-2:] == [("answer", "2.3"), ("check", "2.3")]


def test_copies_never_overwrite_each_other(tmp_path):
    path = tmp_path / "a.ipynb"
    for text in "one", "two", "three":
        path.write_text(text)
        keep_copy(path, "copy")
    assert sorted(copy.read_text() for copy in tmp_path.glob("a.copy-*.ipynb")) == ["one", "three", "two"]


def test_copies_and_new_editions_are_not_taken_for_the_notebook(folder):
    for other in ("02_a.before-reset-2026-01-01-120000.ipynb", "02_a.new.ipynb", "02_a-Copy1.ipynb"):
        shutil.copy(folder / "exercises" / NAME, folder / "exercises" / other)
    assert course.notebook_of(folder, 2).name == NAME


# --- a new edition beside a learner's work ------------------------------------------------------------------


@pytest.fixture
def edition(tmp_path) -> Path:
    """A course to lay: one exercise, one figure."""
    source = tmp_path / "source"
    write_notebook(source / "exercises" / "02_a.ipynb", "stub")
    write_whole(source / "notebooks" / "figures" / "a.svg", "figure")
    write_whole(source / "notebooks" / "source" / "02_a.py", "not for learners")
    return source


def write_notebook(path: Path, text: str, outputs: tuple = ()) -> None:
    cell = nbformat.v4.new_code_cell(text, id="answer", outputs=list(outputs))
    write_whole(path, nbformat.writes(nbformat.v4.new_notebook(cells=[cell])))


def text_of(path: Path) -> str:
    return nbformat.read(path, as_version=4).cells[0].source


def test_laid_twice_the_second_time_all_is_the_same(edition, tmp_path):
    target = tmp_path / "mine"
    assert lay.lay(edition, target) == {"exercises/02_a.ipynb": "new", "notebooks/figures/a.svg": "new"}
    assert set(lay.lay(edition, target).values()) == {"same"}


def test_an_untouched_file_is_updated_also_if_it_was_run(edition, tmp_path):
    target = tmp_path / "mine"
    lay.lay(edition, target)
    output = nbformat.v4.new_output("stream", text="seen")
    write_notebook(target / "exercises" / "02_a.ipynb", "stub", (output,))
    write_notebook(edition / "exercises" / "02_a.ipynb", "better stub")
    assert lay.lay(edition, target)["exercises/02_a.ipynb"] == "updated"
    assert text_of(target / "exercises" / "02_a.ipynb") == "better stub"


def test_an_edited_file_stays_and_each_new_edition_is_laid_beside(edition, tmp_path):
    target = tmp_path / "mine"
    room, name = target / "exercises", "exercises/02_a.ipynb"
    lay.lay(edition, target)
    write_notebook(room / "02_a.ipynb", "my answer")
    assert lay.lay(edition, target)[name] == "yours", "the same edition is not laid beside"
    write_notebook(edition / name, "second edition")
    assert lay.lay(edition, target)[name] == "02_a.new.ipynb"
    assert lay.lay(edition, target)[name] == "yours"
    write_notebook(edition / name, "third edition")
    assert lay.lay(edition, target)[name] == "02_a.new.ipynb", "an untouched one is updated"
    write_notebook(room / "02_a.new.ipynb", "my other answer")
    write_notebook(edition / name, "fourth edition")
    assert lay.lay(edition, target)[name] == "02_a.new-2.ipynb"
    texts = [text_of(room / f"02_a{part}.ipynb") for part in ("", ".new", ".new-2")]
    assert texts == ["my answer", "my other answer", "fourth edition"]


@pytest.mark.parametrize("manifest", [None, "{", '{"files": 3}'])
def test_without_a_manifest_every_file_is_the_learners(edition, tmp_path, manifest):
    target = tmp_path / "mine"
    write_whole(target / "notebooks" / "figures" / "a.svg", "my figure")
    if manifest:
        write_whole(target / lay.MANIFEST, manifest)
    lay.lay(edition, target)
    assert (target / "notebooks" / "figures" / "a.svg").read_text() == "my figure"
    assert (target / "notebooks" / "figures" / "a.new.svg").read_text() == "figure"


def test_a_notebook_that_cannot_be_read_is_the_learners(edition, tmp_path):
    lay.lay(edition, tmp_path / "mine")
    path = tmp_path / "mine" / "exercises" / "02_a.ipynb"
    path.write_text("<<<<<<< conflict")
    write_notebook(edition / "exercises" / "02_a.ipynb", "second edition")
    assert lay.lay(edition, tmp_path / "mine")["exercises/02_a.ipynb"] == "02_a.new.ipynb"
    assert path.read_text() == "<<<<<<< conflict"


def test_a_terminal_hears_what_one_waits_for(monkeypatch, capsys):
    monkeypatch.setattr("prefcourse.progress.silent", lambda: False)
    with doing("running cell 3"):
        assert capsys.readouterr().err == "running cell 3 ..."
    assert set(capsys.readouterr().err) == {"\r", " "}
    monkeypatch.setattr("prefcourse.progress.silent", lambda: True)
    with doing("running cell 3"):
        assert capsys.readouterr().err == ""
