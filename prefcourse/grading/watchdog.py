"""Wall clock, memory, processes and disk of a child and of all that it starts; kills the whole tree.

Knows processes; knows no notebooks. Looks every 50 ms (less often where looking is dear), so that what grows within
that time is stopped a moment late.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

MB = 2**20
INTERVAL = 0.05
SHARE = 0.1  # of a core, at most, for looking


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
            try:
                child.wait(max(INTERVAL, (time.monotonic() - looked) / SHARE))
            except subprocess.TimeoutExpired:
                pass
        return None
    finally:
        kill_tree(child)


def exceeded(pid: int, limits: Limits, folders: tuple[Path, ...], seconds: float) -> str | None:
    if seconds > limits.seconds:
        return f"time: it took longer than {limits.seconds:g} seconds in all"
    memory = _memory_of_tree(pid)
    if sum(memory.values()) > limits.memory_mb * MB:
        return f"memory: more than {limits.memory_mb:,} MB"
    if memory.get(pid, 0) > limits.grader_mb * MB:
        return f"output: it showed more than the grader can hold in {limits.grader_mb:,} MB"
    if len(memory) > limits.processes:
        return f"processes: more than {limits.processes}"
    if sum(map(_bytes_in, folders)) > limits.disk_mb * MB:
        return f"disk: more than {limits.disk_mb:,} MB written"
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


def _bytes_in(folder: Path) -> int:
    found = 0
    for where, _, files in os.walk(folder):
        for name in files:
            try:
                found += os.lstat(os.path.join(where, name)).st_blocks * 512
            except OSError:  # gone meanwhile
                pass
    return found


def kill_tree(child: subprocess.Popen) -> None:
    """Parents first: the end of a sandbox's first process is the end of all in it. Until nobody is left."""
    for _ in range(100):
        if not any([_killed(process) for process in _descendants(child.pid)]):
            break
        time.sleep(0.01)
    if child.poll() is None:
        child.kill()
    child.wait()


def die_with_parent() -> None:
    """From now on the end of the process that started this one ends this one too: a killed grader leaves nothing."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


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
