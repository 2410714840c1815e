"""Where a submission's kernel runs: the levels, what each forbids, and which of them this machine really offers.

A jupyter_client kernel provisioner, so that nbval starts it like any other kernel. Knows operating systems; knows no
notebooks and no exercises. Levels, each with what the one before has:

none      a private folder and a clean environment, nothing else: for machines where every submission is trusted
limits    rlimits: file size, processes, memory of its own, no core files
landlock  files by allow-list, no TCP, no signals to others (Linux 5.13 or newer; the later parts need 6.7 and 6.12)
bwrap     bubblewrap: no network, own processes, read-only root with what Python needs, memory-backed capped folders
docker    a container of the image that the settings name
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jupyter_client.provisioning import LocalProvisioner
from traitlets import Dict

from prefcourse.grading import landlock, watchdog
from prefcourse.grading.strip import PACKAGE

LEVELS = ("none", "limits", "landlock", "bwrap", "docker")
KERNEL = "prefcourse-sandbox"
PROVISIONER = "prefcourse-sandbox"
MB = 2**20
NOBODY = "65534"


@dataclass(frozen=True)
class Sandbox:
    """One kernel's room. `sockets` is shared with the grader; everything else is the kernel's or read-only."""

    level: str
    sockets: str  # private folder: connection file and ipc sockets
    scratch: str  # private folder: where it works below bwrap
    package: str  # folder with the stripped package
    seed: str
    memory_mb: int = 2048
    disk_mb: int = 64
    processes: int = 256
    docker_image: str = ""


class SandboxProvisioner(LocalProvisioner):
    """Starts ipykernel in a sandbox; sockets are files, so that it needs no network."""

    sandbox = Dict(help="the fields of Sandbox").tag(config=True)

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        room = Sandbox(**self.sandbox)
        manager = self.parent
        manager.transport, manager.ip = "ipc", os.path.join(room.sockets, "k")
        manager.connection_file = os.path.join(room.sockets, "kernel.json")
        kwargs = await super().pre_launch(**kwargs)
        environment = kernel_environment(room)
        quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        cwd = room.scratch if room.level in ("none", "limits", "landlock") else "/"
        return kwargs | launch(room, kwargs["cmd"]) | quiet | {"env": environment, "cwd": cwd}


def write_kernelspec(folder: Path, room: Sandbox) -> None:
    """A kernelspec in this private folder; whoever is to find it has the folder in JUPYTER_PATH."""
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--HistoryManager.enabled=False"]
    specification = {
        "argv": command,
        "display_name": "prefcourse sandbox",
        "language": "python",
        "interrupt_mode": "message",  # signals do not reach into it
        "metadata": {"kernel_provisioner": {"provisioner_name": PROVISIONER, "config": {"sandbox": asdict(room)}}},
    }
    where = folder / "kernels" / KERNEL
    where.mkdir(parents=True)
    (where / "kernel.json").write_text(json.dumps(specification))


def kernel_environment(room: Sandbox) -> dict[str, str]:
    """All of it: nothing of the grader's environment gets in."""
    home = {"bwrap": "/tmp/desk", "docker": "/tmp"}.get(room.level, room.scratch)
    threads = ("OMP", "MKL", "OPENBLAS", "NUMEXPR")
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "TZ") if name in os.environ}
    return kept | {
        **{f"{name}_NUM_THREADS": "1" for name in threads},
        "PREFCOURSE_SEED": room.seed,
        "PYTHONPATH": room.package,
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), "/usr/bin", "/bin"]),
        "LC_ALL": "C.UTF-8",
        "HOME": home,
        "TMPDIR": home,
        "IPYTHONDIR": os.path.join(home, ".ipython"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "USER": "learner",
        "LOGNAME": "learner",
        "HF_HUB_OFFLINE": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def launch(room: Sandbox, command: list[str]) -> dict[str, Any]:
    """What Popen needs to start the command in the room."""
    if room.level == "none":
        return {"cmd": command}
    if room.level == "docker":
        return {"cmd": docker_command(room, command)}
    limits = partial(_set_limits, room, _tasks_of_this_user())
    if room.level == "landlock":
        rules = landlock.Rules(_readable(room), write=(room.sockets, room.scratch, "/dev/null"), names=_listable())
        return {"cmd": command, "preexec_fn": partial(_limited_and_locked, limits, rules)}
    return {"cmd": bwrap_command(room, command) if room.level == "bwrap" else command, "preexec_fn": limits}


# --- limits and landlock ------------------------------------------------------------------------------------


def _limited_and_locked(limits, rules: landlock.Rules) -> None:
    limits()
    landlock.restrict(rules)


def _set_limits(room: Sandbox, running: int) -> None:
    """In the child, before the kernel starts. Processes are counted per user, so those that run are added."""
    watchdog.die_with_parent()
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: room.disk_mb * MB,
        resource.RLIMIT_DATA: room.memory_mb * MB * 3 // 4,  # a MemoryError costs one check, the watchdog a whole run
        resource.RLIMIT_NOFILE: 1024,
        resource.RLIMIT_NPROC: running + room.processes,  # root is exempt; the watchdog is not
    }
    for name, value in wanted.items():
        hard = resource.getrlimit(name)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (value, value))


def _tasks_of_this_user() -> int:
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            count += len(os.listdir(process / "task")) if process.stat().st_uid == os.getuid() else 0
        except OSError:  # gone meanwhile
            pass
    return count


def _interpreter() -> list[str]:
    """The folders that this Python consists of."""
    real = os.path.dirname(os.path.dirname(os.path.realpath(sys.executable)))
    return list(dict.fromkeys(path for path in (sys.base_prefix, real, sys.prefix) if path != "/"))


SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")
SETTINGS = (
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
    "/etc/fonts",
)


def _readable(room: Sandbox) -> tuple[str, ...]:
    own = ("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/dev/urandom", "/dev/random", "/dev/zero")
    folders = [
        part for folder in (*_interpreter(), *SYSTEM) for part in _without_package(Path(os.path.realpath(folder)))
    ]
    return tuple(path for path in (*folders, *SETTINGS, *own, room.package) if os.path.exists(path))


def _without_package(folder: Path) -> list[str]:
    """The folder, or, if the real package is in it, everything else in it."""
    if folder == PACKAGE:
        return []
    if not PACKAGE.is_relative_to(folder):
        return [str(folder)]
    inside = [inner for inner in folder.iterdir() if not inner.is_symlink()]  # lib64 is another name of lib
    return [part for inner in inside for part in _without_package(inner)]


def _listable() -> tuple[str, ...]:
    """Folders around the package, whose names Python must see to import what else is in them."""
    return tuple(str(folder) for folder in PACKAGE.parents if _inside(folder, _interpreter()))


# --- bubblewrap ---------------------------------------------------------------------------------------------


def bwrap_command(room: Sandbox, command: list[str]) -> list[str]:
    """The allow-list: what is not named here does not exist inside."""
    size = str(room.disk_mb * MB)
    folders = [flag for path in _interpreter() for flag in ("--ro-bind", path, path)]
    stripped = os.path.join(room.package, "prefcourse")
    over = ["--ro-bind", stripped, str(PACKAGE)] if _inside(PACKAGE, _interpreter()) else []
    return [
        *("bwrap", "--unshare-all", "--unshare-user", "--disable-userns", "--uid", NOBODY, "--gid", NOBODY),
        *("--cap-drop", "ALL", "--die-with-parent", "--new-session", "--hostname", "sandbox"),
        *("--unsetenv", "JPY_PARENT_PID"),  # ipykernel would look for that process, see process 1, and end itself
        *(flag for path in SYSTEM for flag in _as_it_is(path)),
        *(flag for path in SETTINGS for flag in ("--ro-bind-try", path, path)),
        *("--proc", "/proc", "--dev", "/dev", "--size", size, "--tmpfs", "/dev/shm"),
        *("--size", size, "--tmpfs", "/tmp", "--dir", "/tmp/desk", *folders, *over),
        *("--ro-bind", room.package, room.package, "--bind", room.sockets, room.sockets),
        *("--remount-ro", "/proc"),  # started by root, it is root to /proc/sys: a write there would reach the machine
        *("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp/desk", "--", *command),
    ]


def _inside(path: Path, folders: list[str]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _as_it_is(path: str) -> list[str]:
    if os.path.islink(path):
        return ["--symlink", os.readlink(path), path]
    return ["--ro-bind", path, path] if os.path.exists(path) else []


# --- docker -------------------------------------------------------------------------------------------------


def docker_name(room: Sandbox) -> str:
    return f"prefcourse-{Path(room.sockets).parent.name}"


def docker_command(room: Sandbox, command: list[str]) -> list[str]:
    """The image brings Python and the course's requirements; the stripped package is bound in."""
    size = f"rw,nosuid,nodev,size={room.disk_mb}m"
    environment = kernel_environment(room) | {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    user = f"{os.getuid()}:{os.getgid()}" if os.getuid() else f"{NOBODY}:{NOBODY}"
    return [
        *(
            "docker",
            "run",
            "--name",
            docker_name(room),
            "--rm",
            "--init",
            "--network",
            "none",
            "--read-only",
            "--user",
            user,
        ),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--pids-limit", str(room.processes)),
        *("--memory", f"{room.memory_mb}m", "--memory-swap", f"{room.memory_mb}m", "--tmpfs", f"/tmp:{size}"),
        *("--volume", f"{room.package}:{room.package}:ro", "--volume", f"{room.sockets}:{room.sockets}"),
        *(flag for name, value in environment.items() for flag in ("--env", f"{name}={value}")),
        *("--workdir", "/tmp", room.docker_image, "python", *command[1:]),
    ]


def clear(room: Sandbox) -> None:
    """What may have outlived the kernel: a container, processes that detached themselves."""
    if room.level == "docker":
        subprocess.run(["docker", "kill", docker_name(room)], capture_output=True, timeout=30)
    elif room.level != "bwrap":  # there they ended with their first process
        watchdog.kill_those_at(Path(room.scratch))


# --- what this machine offers -------------------------------------------------------------------------------


def offers(docker_image: str = "") -> dict[str, tuple[bool, str]]:
    """Level -> (does it work here, else why not). Each is tried, not guessed."""
    return {level: _tried(level, docker_image) for level in LEVELS}


def _tried(level: str, docker_image: str) -> tuple[bool, str]:
    if level == "none":
        return True, ""
    if not sys.platform.startswith("linux") and level != "docker":
        return False, f"needs Linux, this is {sys.platform}; use docker"
    if level == "bwrap" and not shutil.which("bwrap"):
        return False, "bubblewrap is not installed; on Debian and Ubuntu: apt install bubblewrap"
    if level == "docker":
        return _docker_answers(docker_image)
    with tempfile.TemporaryDirectory(prefix="prefcourse-") as folder:
        (Path(folder) / "prefcourse").mkdir()
        return _proven(Sandbox(level, folder, folder, folder, seed="public"))


PROBE = """
import os, socket, sys
assert os.environ["PREFCOURSE_SEED"] == "public"
if sys.argv[1] != "limits":
    try: open(sys.argv[2])
    except OSError: pass
    else: sys.exit("files outside are visible")
print("it works")
"""


def _proven(room: Sandbox) -> tuple[bool, str]:
    """Starts Python in it, which must not see this file."""
    made = launch(room, [sys.executable, "-c", PROBE, room.level, __file__])
    try:
        run = subprocess.run(
            made.pop("cmd"), env=kernel_environment(room), capture_output=True, text=True, timeout=20, cwd="/", **made
        )
    except (OSError, subprocess.SubprocessError) as error:
        return False, f"{type(error).__name__}: {error}"
    words = (run.stderr or run.stdout).strip().splitlines()
    return run.stdout.strip() == "it works", "" if run.returncode == 0 else words[-1] if words else "it ended at once"


def _docker_answers(image: str) -> tuple[bool, str]:
    if not shutil.which("docker"):
        return False, "docker is not installed"
    command = ["docker", "image", "inspect", image] if image else ["docker", "version"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError) as error:
        return False, f"{type(error).__name__}: {error}"
    if run.returncode:
        return False, (run.stderr.strip().splitlines() or ["docker gave no reason"])[-1]
    return (True, "") if image else (False, "docker works; name an image that has the course's requirements")
