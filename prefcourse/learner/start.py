"""`prefcourse start [DIR]`: lay the course in a folder and open it in JupyterLab, until Ctrl-C.

Knows folders, addresses and one process. What JupyterLab looks like is in jupyter/; where it writes, in places.py.
"""

from __future__ import annotations

import argparse
import getpass
import importlib.util
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import urllib.request
import webbrowser
from pathlib import Path
from urllib.parse import urlsplit

from prefcourse.learner import course, overview, places
from prefcourse.learner.doctor import kernel
from prefcourse.learner.findings import Finding, Sign, needed, writable
from prefcourse.learner.lay import MANIFEST, lay

FOLDER = "prefcourse-course"
PAGE = "lab/tree/notebooks/README.ipynb"


class StartError(Exception):
    """Why the course cannot be opened, and the way out."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Put the course in a folder and open it in JupyterLab. Nothing that you wrote is overwritten."
    parser.epilog = "Your own Jupyter, its settings and kernels, stay as they are. Exit codes: 0 ended, 1 not started."
    parser.add_argument(
        "folder", nargs="?", metavar="DIR", help=f"default: the course that you are in, or else ./{FOLDER}"
    )
    parser.add_argument("--no-browser", action="store_true", help="only print the address (on a remote machine)")
    parser.add_argument("--port", type=int, metavar="N", help="default: 8888, or one near it that is free")
    parser.add_argument("--ip", default="localhost", metavar="ADDRESS", help="where to listen (default localhost)")
    more = "an option for JupyterLab itself, such as --lab=--ServerApp.base_url=/course; may be given several times"
    parser.add_argument("--lab", action="append", default=[], metavar="OPTION", help=more)


def main(args: argparse.Namespace) -> int:
    folder = where(args.folder)
    with places.own_jupyter(folder):
        try:
            if opened := address_of(folder):
                return show_again(opened, folder, args)
            prepare(folder, args)
            return serve(folder, args)
        except (StartError, course.CourseError) as problem:
            print(f"prefcourse start: {problem}", file=sys.stderr)
            return 1


def where(asked: str | None) -> Path:
    here = Path.cwd()
    around = (f for f in (here, *here.parents) if course.is_checkout(f) or (f / MANIFEST).is_file())
    return Path(asked).expanduser().resolve() if asked else next(around, here / FOLDER)


# --- before JupyterLab ------------------------------------------------------------------------------------


def prepare(folder: Path, args: argparse.Namespace) -> None:
    elsewhere = f"choose another folder: prefcourse start ~/{FOLDER}"
    for finding in (
        jupyterlab(),
        kernel(),
        port(args.ip, args.port),
        writable("the course's folder", folder, elsewhere),
        writable("the folder for progress", places.runtime(), "set PREFCOURSE_HOME to a folder of your own"),
    ):
        if finding.sign == Sign.NO:
            raise StartError(f"{finding.what}: {finding.words}\n  {finding.mend}")
    places.runtime().mkdir(parents=True, exist_ok=True)
    if course.is_checkout(folder):
        print(f"The course is opened as it is in {folder}")
        return
    try:
        print(told(lay(course.course_source(), folder), folder))
        overview.refresh(folder)
    except OSError as error:
        raise StartError(f"{error.filename or folder}: {error.strerror}\n  {elsewhere}") from None


def told(laid: dict[str, str], folder: Path) -> str:
    """What became of the files, in as few words as a learner needs."""
    counts = {word: list(laid.values()).count(word) for word in ("new", "updated", "yours")}
    words = {"new": "new", "updated": "brought up to date", "yours": "with your changes, kept"}
    found = [f"{count} {words[word]}" for word, count in counts.items() if count]
    lines = [f"The course in {folder}: {', '.join(found) or 'all as it was'}"]
    for name, word in laid.items():
        if word not in ("same", *counts):
            lines.append(f"  {name} has a newer edition. You changed yours, so it stays; the new one is {word}")
    return "\n".join(lines)


def jupyterlab() -> Finding:
    there = importlib.util.find_spec("jupyterlab") is not None
    return needed(there, "JupyterLab", "" if there else "not installed", f"{sys.executable} -m pip install jupyterlab")


def port(ip: str, asked: int | None) -> Finding:
    """JupyterLab finds a free one unless somebody asked for this one."""
    if asked is not None and not 0 < asked < 65536:
        return needed(False, f"port {asked}", "there is no such port", "a port is a number from 1 to 65535")
    try:
        family, _, _, _, address = socket.getaddrinfo(ip, asked or 0, type=socket.SOCK_STREAM)[0]
        socket.create_server(address[:2], family=family).close()
    except OSError as error:
        way_out = "leave --port out and a free one is found, or name another" if asked else "leave --ip out"
        return needed(False, f"port {asked or ''} of {ip}", getattr(error, "strerror", None) or str(error), way_out)
    return needed(True, "port", str(asked or "a free one"))


# --- JupyterLab -------------------------------------------------------------------------------------------


def serve(folder: Path, args: argparse.Namespace) -> int:
    """Until it ends: by Ctrl-C here, by File > Shut Down there. It has a session of its own, so that Ctrl-C is ours."""
    os.environ.setdefault("JUPYTER_TOKEN", secrets.token_hex(24))  # not on a command line, where others could read it
    posix = os.name == "posix"
    server = subprocess.Popen(command(folder, args), cwd=folder, start_new_session=posix)
    for name in ("SIGTERM", "SIGHUP"):  # a closed terminal must leave no server behind
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: server.terminate())
    address = None
    while server.poll() is None:
        try:
            server.wait(timeout=None if address else 0.1)
        except subprocess.TimeoutExpired:
            if address := address_of(folder):
                print(welcome(address, folder, args), flush=True)
        except KeyboardInterrupt:
            print("\nclosing ...", flush=True)
            if posix:  # on Windows it got the same Ctrl-C
                server.terminate()
    if not address and server.returncode:
        raise StartError(
            "JupyterLab did not start; its messages are above.\n  prefcourse doctor   says what is missing"
        )
    print(f"Closed. Your notebooks are in {folder}\nTo go on: {again(folder)}")
    return 0


def command(folder: Path, args: argparse.Namespace) -> list[str]:
    """-P: a learner's own random.py must not take the place of Python's."""
    options = [f"--ServerApp.root_dir={folder}", f"--LabApp.default_url=/{PAGE}", f"--ServerApp.ip={args.ip}"]
    if args.port:
        options += [f"--ServerApp.port={args.port}", "--ServerApp.port_retries=0"]
    if not opens_browser(args):
        options.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # in a container everybody is root
        options.append("--allow-root")
    return [sys.executable, "-P", "-m", "jupyterlab", *options, *args.lab]


def opens_browser(args: argparse.Namespace) -> bool:
    return places.has_screen() and not args.no_browser


def server_of(folder: Path) -> tuple[Path, dict] | None:
    """The file and the facts of a server that this command started on the folder, if it answers."""
    ask = urllib.request.build_opener(urllib.request.ProxyHandler({})).open  # never through a proxy
    for path in places.runtime().glob("jpserver-*.json"):
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            if Path(facts["root_dir"]).resolve() == folder.resolve():
                ask(f"{facts['url']}api/status?token={facts['token']}", timeout=3).close()
                return path, facts
        except (OSError, ValueError, LookupError):
            continue  # it ended without tidying up, or begins just now
    return None


def address_of(folder: Path) -> str | None:
    found = server_of(folder)
    return f"{found[1]['url']}{PAGE}?token={found[1]['token']}" if found else None


def welcome(address: str, folder: Path, args: argparse.Namespace) -> str:
    lines = ["Open in your browser:" if not opens_browser(args) else "If no browser opens, open this yourself:"]
    lines.append(f"  {address}")
    if "SSH_CONNECTION" in os.environ:
        number = urlsplit(address).port
        there = f"{getpass.getuser()}@{socket.gethostname()}"
        lines += ["This machine is remote. First, on your own computer, in a terminal that stays open:"]
        lines += [f"  ssh -N -L {number}:localhost:{number} {there}"]
    return "\n".join([*lines, "Ctrl-C here closes the course."])


def show_again(address: str, folder: Path, args: argparse.Namespace) -> int:
    print(f"The course in {folder} is open already:\n  {address}")
    if opens_browser(args) and (found := server_of(folder)):
        # Jupyter's own file for this, so that the token is on no command line
        webbrowser.open(found[0].with_name(f"{found[0].stem}-open.html").as_uri())
    return 0


def again(folder: Path) -> str:
    return f"prefcourse start {course.shown(folder)}".removesuffix(f" {FOLDER}")
