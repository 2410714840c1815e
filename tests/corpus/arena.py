"""Where submissions of the corpus are graded, and what is looked at afterwards: nothing outside may have changed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from corpus import CELL_SECONDS, COURSE, NUMBERS, STEM, Case
from prefcourse.grading import engine, grade, sandbox
from prefcourse.grading.engine import Settings
from prefcourse.grading.grade import grade_one
from prefcourse.grading.reference import Reference, make_reference
from prefcourse.grading.result import Result, Status

SECRET = "a secret that no submission knows"
LEFT = 3.0  # seconds in which processes that were killed may go


@dataclass
class Arena:
    """A batch of one chapter under a secret seed, in rooms of its own, with a canary beside it."""

    folder: Path
    settings: Settings
    reference: Reference
    ear: socket.socket  # hears whoever tries to connect

    @property
    def words(self) -> dict[str, str]:
        port = str(self.ear.getsockname()[1])
        canary, home = str(self.folder / "canary"), str(self.folder / "home")
        return {"THE_CANARY": canary, "THE_HOME": home, "THE_COURSE": str(COURSE), "THE_PORT": port, "THE_STEM": STEM}

    def grade(self, case: Case) -> Result:
        """The result, once it is sure that all else is as it was."""
        before = self.outside()
        start = time.monotonic()
        result = grade_one(case.submission(**self.words), self.reference, replace(self.settings, **case.settings))
        seconds = time.monotonic() - start
        assert not [found for found in self.traces(case.mark) if found]
        assert self.outside() == before
        assert seconds <= case.seconds, f"{case.name} took {seconds:.1f} seconds"
        return result

    def outside(self) -> dict[str, object]:
        """What a submission could have changed: the canary, a home, the folder of private folders."""
        files = [path for room in ("canary", "home") for path in sorted((self.folder / room).rglob("*"))]
        return {
            "files": [(str(path), path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in files],
            "rooms": sorted(os.listdir(self.folder / "rooms")),
            "knocks": self.knocks(),
        }

    def knocks(self) -> int:
        with contextlib.suppress(BlockingIOError):
            self.ear.accept()
            return 1
        return 0

    def traces(self, mark: str) -> list:
        """Processes, files in shared places, and changes of the course that bear the mark of a submission."""
        end = time.monotonic() + LEFT
        while (alive := processes_with(mark)) and time.monotonic() < end:
            time.sleep(0.1)
        places = (
            "/tmp",
            "/var/tmp",
            "/dev/shm",
            Path.home(),
            COURSE,
            Path(os.__file__).parent,
            Path(pytest.__file__).parents[1],
        )
        names = [
            Path(place, name) for place in places if os.path.isdir(place) for name in os.listdir(place) if mark in name
        ]
        return [alive, names, _changed(mark)]


def processes_with(mark: str) -> list[str]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(mark in word for word in process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {process.cmdline()}"[:200])
    return found


def _changed(mark: str) -> list[str]:
    """Files of the course that git does not know so and that hold the mark; the corpus itself does not spell it."""
    if not (COURSE / ".git").exists():
        return []
    command = ["git", "-C", str(COURSE), "ls-files", "--others", "--modified", "--exclude-standard", "-z"]
    files = subprocess.run(command, capture_output=True, text=True).stdout.split("\0")
    paths = (COURSE / name for name in files if name)
    return [str(path) for path in paths if path.is_file() and mark.encode() in path.read_bytes()]


@contextlib.contextmanager
def arena(folder: Path, level: str, *, once: bool = False):
    """Skips, with the reason, where this machine does not offer the level. `once`: see run_once."""
    works, why = sandbox.offers()[level]
    if not works:
        pytest.skip(f"no sandbox {level} here: {why}")
    for room in ("canary", "home", "rooms"):
        (folder / room).mkdir()
    for room in ("canary", "home"):
        (folder / room / "file").write_text("untouched")
    settings = Settings(
        sandbox=level, seed=SECRET, cell_seconds=CELL_SECONDS, seconds=60.0, directory=str(folder / "rooms")
    )
    with socket.create_server(("127.0.0.1", 0)) as ear, pytest.MonkeyPatch.context() as patch:
        ear.setblocking(False)
        patch.setenv("HOME", str(folder / "home"))
        if once:
            patch.setattr(grade, "engine", SimpleNamespace(run=run_once({})))
        reference = make_reference(COURSE / "solutions" / f"{STEM}.ipynb", replace(settings, cell_seconds=60.0))
        yield Arena(folder, settings, reference, ear)


def run_once(ran: dict):
    """The engine, for submissions that do no harm: many files differ in their wrapping only, and what comes out of the
    graft the same need not run again."""

    def run(notebook, package, settings, patience=0.0):
        known = json.dumps(notebook), package, replace(settings, seconds=0.0), patience
        return ran[known] if known in ran else ran.setdefault(known, engine.run(notebook, package, settings, patience))

    return run


def best_level() -> str:
    """The level that a corpus is graded at: the better one of those that `prefcourse grade` takes by itself."""
    offered = sandbox.offers()
    return next((level for level in ("bwrap", "landlock") if offered[level][0]), "bwrap")


def must_come_out(case: Case, result: Result) -> None:
    """State, points, statuses, words; and that nothing of a learner's, or of the hidden cases, is in the words."""
    told = json.dumps(result.as_dict())
    if not result.checks:
        assert not case.right
    right = tuple(check.exercise for check in result.checks if check.status == Status.PASSED)
    each = [(check.exercise, check.status.value, check.sentence) for check in result.checks]
    summary = f"{result.state} {result.reason} {each} {result.notes}"
    assert set(right) - set(case.right) == set(), f"points that nobody earned: {summary}"
    assert set(case.right) - set(right) == set(), f"points lost: {summary}"
    assert result.state == case.state, summary
    assert result.points == sum(check.max_points for check in result.checks if check.exercise in case.right)
    assert not result.checks or tuple(check.exercise for check in result.checks) == NUMBERS
    found = {check.exercise: check.status for check in result.checks}
    assert {number: found[number] for number in case.statuses} == case.statuses, summary
    assert re.search(case.says, told), summary
    for word in ("LEAKED", SECRET, case.mark):
        assert word not in told
    assert len(told) < 20_000
