"""What this machine offers to instructors: sandboxes and clusters, and why not more. `prefcourse doctor` shows it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from prefcourse.learner.findings import Finding, wanted


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
        there,
        "cluster",
        "distributed is installed" if there else "distributed is not installed",
        "pip install 'prefcourse[cluster]'",
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
