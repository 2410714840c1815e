"""The sandbox, from inside; the watchdog; and the internals of nbval that the plugin leans on."""

from __future__ import annotations

import inspect
import json
import os
import socket
import subprocess
import sys
import time

import psutil
import pytest
from nbval import kernel as nbval_kernel
from nbval import plugin as nbval_plugin

from prefcourse.grading import sandbox, watchdog
from prefcourse.grading.nbval_plugin import MIME, Clock, TooMuchOutput, forgiving, same_bundle
from prefcourse.grading.strip import PACKAGE, stripped_package

OFFERED = sandbox.offers()
SAFE = [level for level in ("landlock", "bwrap") if OFFERED[level][0]]


def needs(level: str):
    return pytest.param(level, marks=pytest.mark.skipif(not OFFERED[level][0], reason=f"{level}: {OFFERED[level][1]}"))


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return stripped_package(["prefcourse.agreement:percent_agreement"], 2, tmp_path_factory.mktemp("package"))


@pytest.fixture
def room(tmp_path, package):
    for name in ("sockets", "scratch"):
        (tmp_path / name).mkdir()

    def make(level, **more):
        return sandbox.Sandbox(level, str(tmp_path / "sockets"), str(tmp_path / "scratch"), str(package), "s", **more)

    return make


def inside(room: sandbox.Sandbox, source: str) -> str:
    """What Python prints in the room; the name of the error if it ends with one."""
    made = sandbox.launch(room, [sys.executable, "-c", source])
    run = subprocess.run(
        made.pop("cmd"),
        env=sandbox.kernel_environment(room),
        cwd=room.scratch,
        capture_output=True,
        text=True,
        timeout=60,
        **made,
    )
    return run.stdout.strip() or run.stderr.strip().splitlines()[-1].partition(":")[0]


LEVELS = [needs("limits"), needs("landlock"), needs("bwrap")]
BOXES = [needs("landlock"), needs("bwrap")]


@pytest.mark.parametrize("level", LEVELS)
def test_the_package_inside_has_no_answers(room, level):
    assert str(PACKAGE) not in inside(room(level), "import prefcourse; print(prefcourse.__file__)")
    for name in ("exercises.chapter02.answers", "exercises.chapter03", "grading", "learner", "build"):
        assert inside(room(level), f"import prefcourse.{name}") == "ModuleNotFoundError"
    call = "from prefcourse.agreement import percent_agreement; percent_agreement([])"
    assert inside(room(level), call) == "prefcourse.checks.exercise.NotAvailable"


@pytest.mark.parametrize("level", LEVELS)
def test_nothing_of_the_graders_environment_gets_in(room, level, monkeypatch):
    monkeypatch.setenv("SECRET", "1")
    found = inside(room(level), "import os; print(*sorted(os.environ))").split()
    assert "SECRET" not in found and "PREFCOURSE_SEED" in found and not [n for n in found if n.startswith("PYTEST")]


@pytest.mark.parametrize("level", BOXES)
@pytest.mark.parametrize("path", [__file__, str(PACKAGE / "checks" / "exercise.py"), "/etc/passwd", "/proc/1/environ"])
def test_files_outside_cannot_be_read(room, level, path):
    if (level, path) == ("bwrap", "/proc/1/environ"):
        pytest.skip("process 1 is its own")
    assert inside(room(level), f"print(open({path!r}).read(1))") in ("FileNotFoundError", "PermissionError")


@pytest.mark.parametrize("level", BOXES)
@pytest.mark.parametrize("where", ["/", "/dev", "/etc", "/usr", "/proc/sys/kernel", os.path.dirname(sys.executable)])
def test_nothing_outside_can_be_written(room, level, where):
    for path in (f"{where}/core_pattern", f"{where}/new"):
        assert inside(room(level), f"import os; os.open({path!r}, os.O_WRONLY | os.O_CREAT)") in (
            "FileNotFoundError",
            "OSError",
            "PermissionError",
        )
    assert inside(room(level), "open('own', 'w').write('x'); print(open('own').read())") == "x"


@pytest.mark.parametrize("level", BOXES)
def test_no_network_and_no_powers(room, level):
    connect = "import socket; socket.create_connection(('127.0.0.1', {}), 1)"
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = inside(room(level), connect.format(server.getsockname()[1]))
    assert found in ("ConnectionRefusedError", "PermissionError", "OSError")
    status = inside(room(level), "print(open('/proc/self/status').read())")
    assert "CapEff:\t0000000000000000" in status and "NoNewPrivs:\t1" in status


@pytest.mark.parametrize("level", [needs("bwrap")])
def test_it_is_alone_and_nobody(room, level):
    found = inside(room(level), "import os; print(os.getuid(), [p for p in os.listdir('/proc') if p.isdigit()])")
    assert found == "65534 ['1', '2']"
    nested = "import subprocess as s; print(s.run(['unshare', '-U', 'true'], capture_output=True).returncode)"
    assert inside(room(level), nested) != "0"
    assert inside(room(level), "import os; print(*os.listdir('/tmp/desk'), os.getcwd())") == "/tmp/desk"


@pytest.mark.parametrize("level", LEVELS)
def test_memory_and_files_have_an_end(room, level):
    small = room(level, memory_mb=400, disk_mb=2)
    assert inside(small, "x = bytearray(10**9)") == "MemoryError"
    write = "open('f', 'wb').write(b'x' * 3 * 2**20)"
    assert inside(small, f"import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); {write}") == "OSError"


def test_the_command_for_docker_gives_nothing_away(room, package):
    command = sandbox.docker_command(
        room("docker", docker_image="course:1"), [sys.executable, "-m", "ipykernel_launcher"]
    )
    text = " ".join(command)
    for part in (
        "--network none",
        "--read-only",
        "--cap-drop ALL",
        "no-new-privileges",
        "--pids-limit 256",
        "--memory",
    ):
        assert part in text
    assert text.endswith("course:1 python -m ipykernel_launcher") and f"{package}:{package}:ro" in text
    assert command.count("--volume") == 2


def test_offers_say_why_not():
    assert set(OFFERED) == set(sandbox.LEVELS)
    assert all(good or why for good, why in OFFERED.values())


# --- the watchdog -------------------------------------------------------------------------------------------

ROOMY = watchdog.Limits(seconds=30, memory_mb=2_000, grader_mb=2_000, processes=50, disk_mb=10)


def python(source: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", source], start_new_session=True)


@pytest.mark.parametrize(
    ("limits", "source", "reason"),
    [
        ({"seconds": 0.5}, "import time; time.sleep(60)", "time"),
        ({"memory_mb": 100}, "x = b'x' * 300_000_000; import time; time.sleep(60)", "memory"),
        ({"grader_mb": 100}, "x = b'x' * 300_000_000; import time; time.sleep(60)", "output"),
        ({"processes": 3}, "import os, time; [os.fork() for _ in range(3)]; time.sleep(60)", "processes"),
    ],
)
def test_each_limit_has_its_name(limits, source, reason):
    begun = time.monotonic()
    child = python(source)
    assert watchdog.watch(child, watchdog.Limits(**ROOMY.__dict__ | limits)).startswith(reason)
    assert time.monotonic() - begun < 10 and child.poll() is not None


def test_disk_is_watched(tmp_path):
    child = python(f"open({str(tmp_path / 'f')!r}, 'wb').write(b'x' * 2**25); import time; time.sleep(60)")
    assert watchdog.watch(child, ROOMY, (tmp_path,)).startswith("disk")


def ended(pid: int) -> bool:
    """Gone, or waiting for whoever adopted it to look."""
    for _ in range(50):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.1)
    return False


START_A_SLEEPER = "import subprocess as s; p = s.Popen(['sleep', '60'], start_new_session=True, stdout=-3, stderr=-3)"


def test_what_was_started_ends_too(tmp_path):
    note = tmp_path / "pid"
    child = python(f"{START_A_SLEEPER}; open({str(note)!r}, 'w').write(str(p.pid)); import time; time.sleep(60)")
    watchdog.watch(child, watchdog.Limits(**ROOMY.__dict__ | {"seconds": 1}))
    assert ended(int(note.read_text()))


def test_processes_that_detached_are_found_by_their_folder(tmp_path):
    command = [sys.executable, "-c", f"{START_A_SLEEPER}; print(p.pid)"]
    pid = int(subprocess.run(command, env={"HOME": str(tmp_path)}, capture_output=True, text=True).stdout)
    assert not psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    watchdog.kill_those_at(tmp_path)
    assert ended(pid)


# --- the plugin ---------------------------------------------------------------------------------------------


def bundle(*numbers, tolerance=(0.0, 1e-6), **more):
    cases = [
        {"name": f"c{i}", "value": {"number": x, "type": "float"}, "tolerance": tolerance}
        for i, x in enumerate(numbers)
    ]
    return {"version": 1, "exercise": "2.1", "seed": "public", "cases": cases} | more


def shown(bundle, text="words"):
    return {"output_type": "execute_result", "data": {MIME: bundle, "text/plain": text}, "metadata": {}}


PRINTED = {"output_type": "stream", "name": "stdout", "text": "noise"}


def test_the_references_tolerance_decides():
    expected = bundle(0.5, 1.0)
    assert same_bundle(bundle(0.5 + 9e-7, 1.0), expected)
    assert not same_bundle(bundle(0.5 + 2e-6, 1.0), expected)
    assert not same_bundle(bundle(0.6, 1.0, tolerance=(1.0, 1.0)), expected)


@pytest.mark.parametrize(
    "given",
    [
        None,
        [],
        {},
        "text",
        bundle(0.5),
        bundle(0.5, 1.0, 2.0),
        bundle(0.5, 1.0, seed="other"),
        bundle(0.5, 1.0, exercise="2.2"),
        bundle(0.5, 1.0, state="not written"),
        bundle(0.5, 1.0, cases=None),
        bundle(0.5, 1.0, cases=[None, 1]),
        bundle("nan", 1.0),
        bundle(True, [1.0]),
    ],
)
def test_what_is_not_the_same_is_not_the_same(given):
    assert not same_bundle(given, bundle(0.5, 1.0))


def test_words_and_noise_around_an_equal_bundle_do_not_matter_and_never_help():
    reference = [shown(bundle(0.5))]
    assert forgiving([PRINTED, shown(bundle(0.5 + 1e-9), "other")], reference) == reference
    wrong = [shown(bundle(0.7))]
    assert forgiving(wrong, reference) == wrong
    twice = [shown(bundle(0.5)), shown(bundle(0.5))]
    assert forgiving(twice, reference) == twice
    assert forgiving([PRINTED], []) == [PRINTED]


def test_a_cell_gets_no_more_output_than_it_may_and_no_more_time_for_chatter():
    clock = Clock()
    clock.start(seconds=10, budget=1_000)
    with pytest.raises(TooMuchOutput):
        for _ in range(100):
            clock.spend({"content": {"text": "x"}})
    assert clock.until("shell", 60) <= time.monotonic() + 10
    assert clock.until("iopub", 5) <= time.monotonic() + 5


def test_nbval_is_what_the_plugin_takes_it_for():
    """Six internals; a new nbval that changes one of them must not be graded with before somebody has looked."""
    cell, kernel = nbval_plugin.IPyNbCell, nbval_kernel.RunningKernel
    assert list(inspect.signature(cell.compare_outputs).parameters) == ["self", "test", "ref", "skip_compare"]
    assert list(inspect.signature(cell.format_output_compare).parameters) == ["self", "key", "left", "right"]
    assert list(inspect.signature(kernel.get_message).parameters) == ["self", "stream", "timeout"]
    assert callable(kernel.is_alive)
    run = inspect.getsource(cell.runtest)
    for part in ("self.test_outputs = outs", "self.compare_outputs(outs", "self.options['check']", "kernel.is_alive()"):
        assert part in run
    assert "kernel.get_message" in inspect.getsource(nbval_plugin.IPyNbFile.get_kernel_message)
    assert "KernelManager(kernel_name=kernel_name" in inspect.getsource(nbval_kernel.start_new_kernel)


def test_the_plugin_needs_no_settings(tmp_path):
    """As CI runs solutions: a number that differs by less than the tolerance passes, one that differs by more fails."""
    cells = []
    for value in (0.5 + 5e-7, 0.6):
        source = f"from IPython.display import display; display({shown(bundle(value))['data']!r}, raw=True)"
        output = shown(bundle(0.5)) | {"output_type": "display_data"}
        cell = {
            "cell_type": "code",
            "id": f"c{len(cells)}",
            "source": source,
            "execution_count": 1,
            "outputs": [output],
        }
        cells.append(cell | {"metadata": {"tags": ["nbval-check-output"]}})
    file = tmp_path / "n.ipynb"
    file.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "nbval.plugin", "-p"]
    options = ["prefcourse.grading.nbval_plugin", "-c", "/dev/null", "--nbval-lax", "--nbval-current-env", str(file)]
    alone = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    run = subprocess.run(command + options, capture_output=True, text=True, cwd=tmp_path, env=alone)
    assert "1 failed, 1 passed" in run.stdout and "mismatch" in run.stdout, run.stdout
