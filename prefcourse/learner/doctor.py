"""`prefcourse doctor`: what this machine offers to learners and to instructors, and why not more. Changes nothing."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path

import prefcourse
from prefcourse import cache
from prefcourse.learner import course, places, progress
from prefcourse.learner.findings import Finding, Sign, needed, wanted, writable

PYTHON = (3, 11)
PACKAGES = ("torch", "transformers", "jupyterlab", "ipykernel", "ipywidgets", "anywidget", "matplotlib", "nbval")
WIDGETS = {"anywidget": "anywidget", "ipywidgets": "@jupyter-widgets/jupyterlab-manager"}
MEMORY, DISK = 1.5e9, 0.5e9  # bytes: a kernel with torch, JupyterLab and a browser; models and figures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__.splitlines()[0]
    parser.epilog = "exit codes: 0 learners can work here, 1 something they need is missing (✗)"
    parser.add_argument("--thorough", action="store_true", help="also import torch and run a kernel (10 seconds)")


def main(args: argparse.Namespace) -> int:
    rooms = {"Try it": thorough} if args.thorough else {}
    with places.own_jupyter(Path.cwd()):
        found = {title: list(look()) for title, look in (ROOMS | rooms).items()}
    width = max(len(finding.what) for findings in found.values() for finding in findings)
    for title, findings in found.items():
        print(f"{title}")
        for finding in findings:
            print(f"  {finding.sign.value} {finding.what:<{width}}  {finding.words}".rstrip())
            if finding.mend:
                print(f"    {'':<{width}}  -> {finding.mend}")
    broken = sum(finding.sign == Sign.NO for findings in found.values() for finding in findings)
    print(f"\n{broken} to fix (✗)" if broken else "\nEverything the course needs is here.")
    return int(broken > 0)


def installed() -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    floor = ".".join(map(str, PYTHON))
    new = f"install Python {floor} or newer, make a new environment"
    yield needed(sys.version_info >= PYTHON, "Python", f"{python}, {sys.executable}", new)
    yield course_files()
    for package in PACKAGES:
        yield version(package)
    yield kernel()
    yield from map(labextension, WIDGETS)


def version(package: str) -> Finding:
    """By what pip noted: to import torch takes seconds."""
    try:
        return needed(True, package, importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return needed(False, package, "not installed", pip(package))


def pip(package: str) -> str:
    return f"{sys.executable} -m pip install {package}"


def course_files() -> Finding:
    try:
        return needed(True, "prefcourse", f"{prefcourse.__version__}, its notebooks in {course.course_source()}")
    except course.CourseError as error:
        return needed(False, "prefcourse", f"{prefcourse.__version__}, without notebooks", str(error))


def kernel() -> Finding:
    """Jupyter starts what the kernelspec says, which may belong to another environment."""
    if importlib.util.find_spec("ipykernel") is None:
        return needed(False, "kernel", "ipykernel is not installed", pip("ipykernel"))
    mend = f"{sys.executable} -m ipykernel install --sys-prefix"
    program = kernel_program()
    at = shutil.which(program)
    same = at is not None and (program == "python" or Path(at).absolute() == Path(sys.executable).absolute())
    words = "python3, of this environment" if same else f"python3 is {program}, not this environment's Python"
    return needed(at is not None, "kernel", words, mend) if same or at is None else wanted(False, "kernel", words, mend)


def kernel_program() -> str:
    """By the rules of Jupyter, whose own way takes a second: the first kernelspec on the path, else ipykernel's own."""
    from jupyter_core.paths import jupyter_path

    for place in jupyter_path("kernels"):
        try:
            return json.loads((Path(place) / "python3" / "kernel.json").read_text(encoding="utf-8"))["argv"][0]
        except (OSError, ValueError, LookupError):
            continue
    return "python"


def labextension(package: str) -> Finding:
    """Widgets need a part in JupyterLab's environment, which may be another than the kernel's."""
    if importlib.util.find_spec("jupyter_core") is None:
        return needed(False, f"{package} widgets", "there is no Jupyter", pip("jupyterlab"))
    from jupyter_core.paths import jupyter_path

    there = any((Path(place) / WIDGETS[package]).is_dir() for place in jupyter_path("labextensions"))
    words = "in JupyterLab" if there else "JupyterLab does not have it: sliders and the annotator would stay empty"
    return needed(there, f"{package} widgets", words, pip(f"--force-reinstall --no-deps {package} jupyterlab_widgets"))


# --- the machine -------------------------------------------------------------------------------------------


def machine() -> Iterator[Finding]:
    yield writable("this folder", Path.cwd())
    yield writable("progress", progress.home(), "set PREFCOURSE_HOME to a folder of your own")
    yield writable("cache", cache.home(), "set PREFCOURSE_CACHE to a folder of your own")
    yield writable("temporary", Path(tempfile.gettempdir()), "set TMPDIR to a folder of your own")
    yield memory()
    free = shutil.disk_usage(Path.cwd()).free
    yield wanted(free >= DISK, "disk", f"{free / 1e9:.1f} GB free here", "prefcourse cache clear, or another disk")
    yield port()
    yield browser()


def memory() -> Finding:
    import psutil

    free = psutil.virtual_memory().available
    mend = "close other programs and kernels (File > Shut Down, or the square in JupyterLab's left bar)"
    return wanted(free >= MEMORY, "memory", f"{free / 1e9:.1f} GB free", mend)


def port(number: int = 8888) -> Finding:
    try:
        socket.create_server(("localhost", number)).close()
        return needed(True, "port", f"{number} is free")
    except OSError:
        return needed(True, "port", f"{number} is in use; `prefcourse start` picks another")


def browser() -> Finding:
    try:
        found = places.has_screen() and webbrowser.get() is not None
    except webbrowser.Error:
        found = False
    mend = "prefcourse start --no-browser, and open the address that it prints"
    return wanted(found, "browser", "here" if found else "none here, or no screen", mend)


# --- only if asked -----------------------------------------------------------------------------------------


def thorough() -> Iterator[Finding]:
    """In processes of their own: a broken torch can take its process with it."""
    yield tried("import torch", "import torch; print(torch.ones(2).sum().item())", pip("--force-reinstall torch"))
    run = "from jupyter_client.manager import run_kernel\nwith run_kernel() as kernel: "
    run += "kernel.execute('1', reply=True, timeout=60)"
    yield tried("run a kernel", run, pip("--force-reinstall ipykernel"))


def tried(what: str, code: str, mend: str) -> Finding:
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return needed(False, what, "no answer in two minutes", mend)
    last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
    return needed(done.returncode == 0, what, "works" if done.returncode == 0 else last[0], mend)


def grading() -> Iterator[Finding]:
    from prefcourse.grading.doctor import grading

    yield from grading()


ROOMS: dict[str, Callable[[], Iterator[Finding]]] = {
    "The course": installed,
    "This machine": machine,
    "For instructors: grading": grading,
}
