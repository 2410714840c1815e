"""`prefcourse doctor`: what this machine offers to learners and to instructors, and why not more. Changes nothing."""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import prefcourse
from prefcourse import cache

PYTHON = (3, 11)


class Sign(Enum):
    """Only NO means that something is broken."""

    YES = "✓"
    MISSING = "–"  # can be had, need not be
    NO = "✗"


class Finding(NamedTuple):
    sign: Sign
    what: str
    words: str
    mend: str = ""  # one line that mends it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__.splitlines()[0]
    parser.epilog = "exit codes: 0 learners can work here, 1 something they need is missing (✗)"


def main(args: argparse.Namespace) -> int:
    found = {title: list(look()) for title, look in ROOMS.items()}
    width = max(len(finding.what) for findings in found.values() for finding in findings)
    for title, findings in found.items():
        print(f"{title}")
        for finding in findings:
            print(f"  {finding.sign.value} {finding.what:<{width}}  {finding.words}".rstrip())
            if finding.mend:
                print(f"    {'':<{width}}  -> {finding.mend}")
    broken = sum(finding.sign == Sign.NO for findings in found.values() for finding in findings)
    print(f"\n{broken} to mend (✗)" if broken else "\nAll that the course needs is here.")
    return int(broken > 0)


def needed(good: bool, what: str, words: str, mend: str = "") -> Finding:
    return Finding(Sign.YES if good else Sign.NO, what, words, "" if good else mend)


def wanted(good: bool, what: str, words: str, mend: str = "") -> Finding:
    return Finding(Sign.YES if good else Sign.MISSING, what, words, "" if good else mend)


# --- the course --------------------------------------------------------------------------------------------


def course() -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    floor = ".".join(map(str, PYTHON))
    yield needed(
        sys.version_info >= PYTHON, "Python", python, f"install Python {floor} or newer, make a new environment"
    )
    yield needed(True, "prefcourse", prefcourse.__version__)
    for package in ("torch", "jupyterlab", "nbval"):
        there = importlib.util.find_spec(package) is not None
        yield needed(there, package, "" if there else "not installed", "pip install -e . in the course's folder")
    yield kernel()
    for what, folder in (
        ("this folder", Path.cwd()),
        ("cache", cache.home()),
        ("temporary", Path(tempfile.gettempdir())),
    ):
        yield writable(what, folder)


def kernel() -> Finding:
    """Jupyter starts what the kernelspec says, which may belong to another environment."""
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except ImportError:
        return needed(False, "kernel", "jupyter_client is not installed", "pip install jupyterlab")
    mend = f"{Path(sys.executable).name} -m ipykernel install --sys-prefix"
    try:
        command = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return needed(False, "kernel", "Jupyter knows no kernel python3", mend)
    at = shutil.which(command)
    same = at is not None and (command == "python" or Path(at).absolute() == Path(sys.executable).absolute())
    words = "python3, of this environment" if same else f"python3 is {command}, not this environment's Python"
    return needed(at is not None, "kernel", words, mend) if same or at is None else wanted(False, "kernel", words, mend)


def writable(what: str, folder: Path) -> Finding:
    """Tried, not guessed, in the folder or in the nearest one above that exists."""
    place = next(path for path in [folder, *folder.parents] if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            return needed(True, what, f"can be written: {folder}")
    except OSError as error:
        return needed(False, what, f"{folder}: {error.strerror}", "work in a folder of your own")


# --- grading -----------------------------------------------------------------------------------------------


def grading() -> Iterator[Finding]:
    try:
        from prefcourse.grading import sandbox
    except ImportError as error:
        yield wanted(False, "sandbox", f"none here ({error})", "grade on Linux; on Windows in WSL")
        return
    offered = sandbox.offers()
    for level, (good, why) in offered.items():
        yield wanted(good, f"sandbox {level}", "works" if good else f"no: {why}", "" if good else MEND[level]())
    best = next((level for level in ("bwrap", "landlock") if offered[level][0]), None)
    words = f"`prefcourse grade` runs submissions in {best}" if best else "`prefcourse grade` asks for --sandbox none"
    yield wanted(best is not None, "so", words)
    there = importlib.util.find_spec("distributed") is not None
    yield wanted(
        there, "cluster", "distributed is here" if there else "no distributed", "pip install 'prefcourse[cluster]'"
    )


def mend_bwrap() -> str:
    if not shutil.which("bwrap"):
        return "apt install bubblewrap (or your system's package of that name)"
    return f"user namespaces are blocked: {'; '.join(blocked()) or 'inside a container, allow them when it starts'}"


def blocked(read: Callable[[Path], str] = Path.read_text) -> list[str]:
    """What the kernel says about user namespaces, and the lines that mend it. Ubuntu 24.04 blocks them."""
    switches = {
        "kernel/apparmor_restrict_unprivileged_userns": ("1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
        "kernel/unprivileged_userns_clone": ("0", "sysctl kernel.unprivileged_userns_clone=1"),
        "user/max_user_namespaces": ("0", "sysctl user.max_user_namespaces=10000"),
    }
    found = []
    for name, (bad, mend) in switches.items():
        try:
            value = read(Path("/proc/sys") / name).strip()
        except OSError:
            continue
        if value == bad:
            found.append(f"sudo {mend}")
    return found


def mend_landlock() -> str:
    kernel = os.uname().release if hasattr(os, "uname") else sys.platform
    return f"Landlock needs Linux 5.13 or newer with it switched on (lsm=landlock); this is {kernel}"


def mend_docker() -> str:
    if not shutil.which("docker"):
        return "install Docker, then build an image with the course's requirements"
    try:
        if subprocess.run(["docker", "version"], capture_output=True, timeout=20).returncode == 0:
            return "prefcourse grade --sandbox docker --docker-image NAME"
    except (OSError, subprocess.SubprocessError):
        pass
    return "start Docker's daemon"


MEND = {"none": str, "limits": str, "bwrap": mend_bwrap, "landlock": mend_landlock, "docker": mend_docker}
ROOMS = {"The course": course, "For instructors: grading": grading}
