"""A learner's machine: `prefcourse start` in a folder of its own, and what a test does in its pages."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from prefcourse import cache

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --force-color-profile=srgb"
).split()
NOT_A_LEARNER = ("CI", "PREFCOURSE_QUIET", "PYTEST_CURRENT_TEST", "PYTEST_VERSION")


def free_port() -> str:
    """Two servers that begin in the same second would both take Jupyter's first choice."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return str(free.getsockname()[1])


class Room:
    """`prefcourse start` on a folder, from the command to Ctrl-C."""

    def __init__(self, home: Path):
        self.home, self.folder, self.log = home, home / "course", home / "jupyter.log"
        self.port, self.process, self.address = free_port(), None, ""  # the next day's address is the same

    def open(self) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in NOT_A_LEARNER}
        environment |= {"HOME": str(self.home), "PREFCOURSE_HOME": str(self.home / "data"), "OMP_NUM_THREADS": "1"}
        environment |= {"PREFCOURSE_CACHE": str(cache.home()), "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "prefcourse", "start", str(self.folder), "--no-browser", "--port", self.port,
             "--lab=--LabApp.expose_app_in_browser=True"],
            env=environment, stdout=subprocess.PIPE, stderr=self.log.open("w"), text=True, start_new_session=True,
        )  # fmt: skip
        found = (re.search(r"(http://\S+?)/lab/tree/\S*\?token=(\w+)", line) for line in self.process.stdout)
        match = next(filter(None, found), None)
        assert match, f"prefcourse start printed no address\n{self.log.read_text()[-2000:]}"
        self.address, self.token = match[1], match[2]

    def page_of(self, notebook: str) -> str:
        return f"{self.address}/doc/tree/{notebook}?token={self.token}&reset"

    def close(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)


def run(page, command: str) -> None:
    """A command of JupyterLab, to its end: its promise tells, the kernel's status does not."""
    page.evaluate(f"async () => await jupyterapp.commands.execute('{command}')")


def cell(page, cell_id: str):
    """The cell of that id, brought into view and made the active one."""
    number = page.evaluate(
        f"() => jupyterapp.shell.currentWidget.content.widgets.findIndex(w => w.model.id === '{cell_id}')"
    )
    assert number >= 0, f"no cell {cell_id}"
    page.evaluate(f"() => {{ jupyterapp.shell.currentWidget.content.activeCellIndex = {number}; }}")
    found = page.locator(".jp-Notebook .jp-Cell").nth(number)
    found.scroll_into_view_if_needed()
    return found


def errors(page) -> int:
    return page.locator("[data-mime-type='application/vnd.jupyter.error']").count()
