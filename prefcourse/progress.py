"""A bar with the time left, for long work. Draws on the terminal's error stream, and only where somebody looks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
SHOWN = ("loss", "score", "gold", "kl")  # the metrics that fit on one line


def silent() -> bool:
    """True in CI, under tests, with PREFCOURSE_QUIET, and where nobody looks: no terminal and no open notebook."""
    asked = (os.environ.get(name, "").lower() for name in ("CI", "PREFCOURSE_QUIET", "PYTEST_CURRENT_TEST"))
    if any(value not in ("", "0", "false") for value in asked):
        return True
    return not (sys.stderr.isatty() or in_live_notebook())


def in_live_notebook() -> bool:
    """In JupyterLab, Colab or VS Code, each known by a mark of its own. nbval and nbconvert leave none."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    in_vscode = "__vsc_ipynb_file__" in getattr(shell, "user_ns", {})
    return "JPY_SESSION_NAME" in os.environ or "google.colab" in sys.modules or in_vscode


def progress(steps: Iterable[Item], label: str = "", total: int | None = None) -> Iterator[Item]:
    """The same items, one after the other; where they are metrics of training, the newest stand beside the bar.

    for metrics in progress(train.dpo(...), "DPO", total=120): ...
    """
    if silent():
        yield from steps
        return
    from tqdm import tqdm

    # what it leaves behind in a notebook is an empty block, and one of stderr is red
    file = sys.stdout if in_live_notebook() else sys.stderr
    with tqdm(steps, desc=label, total=total, leave=False, dynamic_ncols=True, mininterval=0.2, file=file) as bar:
        for item in bar:
            if isinstance(item, dict):
                shown = {name: f"{item[name]:.2f}" for name in SHOWN if name in item}
                bar.set_postfix(shown, refresh=False)
            yield item


@contextmanager
def doing(what: str) -> Iterator[None]:
    """A line that says what one waits for, and that is gone when it is done."""
    if silent():
        yield
        return
    line = f"{what} ..."
    print(line, end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print("\r" + " " * len(line) + "\r", end="", file=sys.stderr, flush=True)


def quiet_transformers() -> None:
    """No bars of transformers' own for models that load and save in a blink."""
    from transformers.utils import logging

    logging.disable_progress_bar()
