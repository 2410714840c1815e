"""A Jupyter of the course's own: its settings, and a place for whatever Jupyter and IPython write. Starts nothing.

Only processes inside `own_jupyter` are told of it, through environment variables; the user's Jupyter is neither read
nor written, so nobody's old kernel, setting or extension can stand in the way.
"""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefcourse.learner import progress

SETTINGS = Path(__file__).parent / "jupyter"


def runtime() -> Path:
    """Where a running server leaves its address."""
    return progress.home() / "jupyter" / "runtime"


def variables(folder: Path) -> dict[str, str]:
    """For a course in this folder: what was open in it is remembered apart from other folders."""
    own = progress.home() / "jupyter"
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    places = {
        "JUPYTER_CONFIG_PATH": SETTINGS,
        "JUPYTER_CONFIG_DIR": own / "config",
        "JUPYTER_DATA_DIR": own / "data",
        "JUPYTER_RUNTIME_DIR": runtime(),
        "JUPYTERLAB_SETTINGS_DIR": own / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": own / "workspaces" / name,
        "IPYTHONDIR": own / "ipython",
    }
    # so that `prefcourse` is found in a terminal of JupyterLab, although the environment is not active
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    return {variable: str(place) for variable, place in places.items()} | {"PATH": path}


def has_screen() -> bool:
    """Without one, Python would take a browser that runs in the terminal, in which JupyterLab does not work."""
    return sys.platform != "linux" or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")))


@contextmanager
def own_jupyter(folder: Path) -> Iterator[None]:
    """What is asked of Jupyter, and what is started, inside this block is the course's."""
    before = dict(os.environ)
    os.environ.update(variables(folder))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
