"""Wall clock, memory, processes and disk of a child and of all that it starts; kills the whole tree.

Knows processes; knows no notebooks. Looks every 50 ms (less often where looking is dear), so that what grows within
that time is stopped a moment late.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

MB = 2**20
INTERVAL, LONGEST = 0.05, 0.25  # seconds between looks at everything
GLANCE = 0.005  # seconds between looks at the child's own memory: output arrives at gigabytes per second
SHARE = 0.1  # of a core, at most, for looking
BLOCK, DEPTH = 4096, 100  # bytes of an entry, folders in folders
LEVELS = 20_000  # a submission nests no deeper before it is stopped


@dataclass(frozen=True)
class Limits:
    seconds: float
    memory_mb: int  # the whole tree
    grader_mb: int  # the child itself, which collects what the kernel prints
    processes: int
    disk_mb: int


def watch(child: subprocess.Popen, limits: Limits, folders: tuple[Path, ...] = ()) -> str | None:
    """Waits for the child's end. The limit it broke, in words, or None; either way nothing of it is left."""
    start = time.monotonic()
    try:
        while child.poll() is None:
            looked = time.monotonic()
            if reason := exceeded(child.pid, limits, folders, looked - start):
                return reason
            now = time.monotonic()
            pause = min(max(INTERVAL, (now - looked) / SHARE), LONGEST)
            while time.monotonic() < now + pause and child.poll() is None:
                if reason := holds_too_much(child.pid, limits.grader_mb):
                    return reason
                time.sleep(GLANCE)
        return None
    finally:
        kill_tree(child)


def exceeded(pid: int, limits: Limits, folders: tuple[Path, ...], seconds: float) -> str | None:
    if seconds > limits.seconds:
        return f"time: it took longer than {limits.seconds:g} seconds in all"
    memory = _memory_of_tree(pid)
    if sum(memory.values()) > limits.memory_mb * MB:
        return f"memory: more than {limits.memory_mb:,} MB"
    if len(memory) > limits.processes:
        return f"processes: more than {limits.processes}"
    return too_much_on_disk(folders, limits.disk_mb)


def holds_too_much(pid: int, grader_mb: int) -> str | None:
    with suppress(psutil.Error):  # it ended
        if psutil.Process(pid).memory_info().rss > grader_mb * MB:
            return f"output: it showed more than the grader can hold in {grader_mb:,} MB"
    return None


def too_much_on_disk(folders: Sequence[Path], disk_mb: int) -> str | None:
    if sum(_bytes_in(folder, disk_mb * MB) for folder in folders) > disk_mb * MB:
        return f"disk: more than {disk_mb:,} MB written, or folders that nobody can look through"
    return None


def _memory_of_tree(pid: int) -> dict[int, int]:
    """Resident bytes by process, the child and all that descend from it."""
    found = {}
    for process in (psutil.Process(pid), *_descendants(pid)):
        try:
            found[process.pid] = process.memory_info().rss
        except psutil.Error:  # ended while looked at
            pass
    return found


def _bytes_in(folder: Path, most: int) -> float:
    """On the disk, looked for until there are too many. An entry is a block at least; a folder that is shut, or
    deeper than paths reach, is too much."""
    found, waiting = 0, [(str(folder), 0)]
    while waiting and found <= most:
        where, depth = waiting.pop()
        try:
            entries = list(os.scandir(where))
        except FileNotFoundError:  # gone meanwhile
            continue
        except OSError:
            return float("inf")
        if depth > DEPTH:
            return float("inf")
        for entry in entries:
            with suppress(FileNotFoundError):
                found += max(BLOCK, entry.stat(follow_symlinks=False).st_blocks * 512)
                waiting += [(entry.path, depth + 1)] if entry.is_dir(follow_symlinks=False) else []
    return found


def remove(folder: Path) -> None:
    """All of it, also what is shut, and what is nested deeper than paths and Python's stack reach: level by level,
    what is inside is lifted to the top."""
    prefix = secrets.token_hex(8)
    names = (folder / f"{prefix}-{number}" for number in itertools.count())
    for _ in range(LEVELS):
        with suppress(OSError):
            for entry in list(os.scandir(folder)):
                with suppress(OSError):
                    _lift(entry, names)
            folder.rmdir()  # refused as long as something was lifted
        if not folder.exists():
            break


def _lift(entry: os.DirEntry, names: Iterator[Path]) -> None:
    if not entry.is_dir(follow_symlinks=False):
        os.unlink(entry.path)
        return
    os.chmod(entry.path, 0o700)
    for inner in list(os.scandir(entry.path)):
        if inner.is_dir(follow_symlinks=False):
            os.chmod(inner.path, 0o700)
        os.rename(inner.path, next(names))
    os.rmdir(entry.path)


def kill_tree(child: subprocess.Popen) -> None:
    """Parents first: the end of a sandbox's first process is the end of all in it. Until nobody is left."""
    kill_descendants(child.pid)
    if child.poll() is None:
        child.kill()
    child.wait()


def kill_descendants(pid: int) -> None:
    for _ in range(100):
        if not any([_killed(process) for process in _descendants(pid)]):
            break
        time.sleep(0.01)


def die_with_parent() -> None:
    """From now on the end of the process that started this one ends this one too: a killed grader leaves nothing."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


def adopt_orphans() -> None:
    """From now on processes below this one that lose their parent become its children: nobody detaches himself."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _killed(process: psutil.Process) -> bool:
    """Was there something to kill? A process that ended stays a zombie until its parent looks."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        process.kill()
    except psutil.Error:  # another user's, or gone
        return False
    return True


def kill_those_at(folder: Path) -> None:
    """Processes that detached themselves, recognised by the private folder in their environment."""
    for process in psutil.process_iter():
        try:
            ours = str(folder) in process.environ().values()
        except psutil.Error:  # another user's, or gone
            continue
        if ours:
            _killed(process)
