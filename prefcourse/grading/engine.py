"""Runs one notebook under nbval, in a sandbox, under watch, and says what happened in each cell.

Everything it needs lies in a private folder that is gone afterwards. Knows cells; knows no exercises and no points.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prefcourse.grading import sandbox, watchdog

OUTPUT = 2_000_000  # characters that a cell may show


@dataclass(frozen=True)
class Settings:
    """How submissions run. `seed` is the secret of the batch, or "public"; plain data, so that it travels."""

    sandbox: str = "bwrap"
    seed: str = "public"
    cell_seconds: float = 60.0
    seconds: float = 300.0  # the whole submission
    memory_mb: int = 2048  # kernel and grader together
    grader_mb: int = 120  # the child that collects what the kernel shows: 65 for little, 85 for all that is kept
    disk_mb: int = 64
    processes: int = 256
    package: str = "deny"  # "allow": answers that use the package's own functions count
    docker_image: str = ""
    directory: str = ""  # where private folders are made; "" is the system's


@dataclass(frozen=True)
class Ran:
    """What happened. `cells` has an entry for each cell that began, in order."""

    cells: dict[str, dict]  # id -> outcome, seconds, bundle, raised
    stopped: str = ""  # the limit of the watchdog that was broken, in words
    words: str = ""  # the last words of pytest, for when nothing ran


@contextmanager
def private_folder(directory: str = "") -> Iterator[Path]:
    """Short, because the paths of sockets may not be long; nobody else's; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pc-", dir=directory or None))
    try:
        yield folder
    finally:
        watchdog.remove(folder)


def run(notebook: dict, package: Path, settings: Settings, patience: float = 0.0) -> Ran:
    """`package`: the folder with the stripped package. `patience`: seconds to wait after each cell for what it may
    have set off."""
    with private_folder(settings.directory) as folder:
        for name in ("sockets", "scratch", "graded"):
            (folder / name).mkdir()
        room = _room(folder, package, settings)
        sandbox.write_kernelspec(folder, room)
        (folder / "graded" / "notebook.ipynb").write_text(json.dumps(notebook))
        child = subprocess.Popen(
            [*_command(folder, settings), "--prefcourse-patience", str(patience)],
            env=_environment(folder),
            cwd=folder / "graded",
            stdin=subprocess.DEVNULL,
            stdout=(folder / "words").open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        limits = watchdog.Limits(
            settings.seconds, settings.memory_mb, settings.grader_mb, settings.processes, settings.disk_mb
        )
        try:
            stopped = watchdog.watch(child, limits, _written(folder))
        finally:
            sandbox.clear(room)
        return Ran(_facts(folder / "facts"), stopped or "", _last_words(folder / "words"))


def _written(folder: Path) -> tuple[Path, Path]:
    """Where the kernel may leave files that are not in memory."""
    return folder / "sockets", folder / "scratch"


def _room(folder: Path, package: Path, settings: Settings) -> sandbox.Sandbox:
    return sandbox.Sandbox(
        level=settings.sandbox,
        sockets=str(folder / "sockets"),
        scratch=str(folder / "scratch"),
        package=str(package),
        seed=settings.seed,
        memory_mb=settings.memory_mb,
        disk_mb=settings.disk_mb,
        processes=settings.processes,
        docker_image=settings.docker_image,
    )


def _command(folder: Path, settings: Settings) -> list[str]:
    return [
        *(sys.executable, "-I", "-m", "pytest", "-c", "/dev/null", "--rootdir", str(folder / "graded")),
        *(
            "--noconftest",
            "-p",
            "no:cacheprovider",
            "-p",
            "prefcourse.grading.light",
            "-p",
            "nbval.plugin",
            "-p",
            "prefcourse.grading.nbval_plugin",
        ),
        *("--nbval-lax", "--nbval-kernel-name", sandbox.KERNEL, "--nbval-cell-timeout", str(settings.cell_seconds)),
        *("--prefcourse-facts", str(folder / "facts"), "--prefcourse-output", str(OUTPUT)),
        *("--prefcourse-disk", str(settings.disk_mb), "--prefcourse-folders", *map(str, _written(folder))),
        *("--tb=line", "-q", "--color=no", "--show-capture=no", str(folder / "graded" / "notebook.ipynb")),
    ]


def _environment(folder: Path) -> dict[str, str]:
    """Of the grader's own child: enough to find Python and the kernelspec."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TZ") if name in os.environ}
    private = ("HOME", "TMPDIR", "JUPYTER_PATH", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR")
    return kept | dict.fromkeys(private, str(folder)) | {"LC_ALL": "C.UTF-8", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def _facts(file: Path) -> dict[str, dict]:
    cells: dict[str, dict] = {}
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else []:
        try:
            found = json.loads(line)
        except ValueError:  # cut when it was stopped
            continue
        began = {"outcome": "began", "seconds": 0.0, "bundle": None, "raised": None}
        cells[found["cell"]] = began if found["event"] == "start" else found
    return cells


def _last_words(file: Path) -> str:
    with file.open("rb") as words:
        words.seek(max(0, file.stat().st_size - 2_000))
        return words.read().decode(errors="replace").strip()
