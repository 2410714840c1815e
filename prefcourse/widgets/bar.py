"""A bar with the time left for loops in a notebook, in HTML. Knows counts and clocks, nothing of what is counted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from html import escape
from typing import TypeVar

from prefcourse.progress import progress, silent

Item = TypeVar("Item")
EVERY = 0.5  # seconds between two looks


def in_notebook() -> bool:
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")


def watched(loop: Iterable[Item], label: str, total: int | None = None) -> Iterator[Item]:
    """The same items; in a notebook under a bar that goes when they are through, else as `progress` does it."""
    if silent() or not in_notebook():
        yield from progress(loop, label, total)
        return
    output, start, drawn = Output(), time.monotonic(), 0.0
    try:
        for done, item in enumerate(loop, 1):
            if time.monotonic() - drawn > EVERY:
                drawn = time.monotonic()
                output.put(progress_bar(label, done, total, drawn - start), label)
            yield item
    finally:
        output.clear()


class Output:
    """One output of a cell that changes in place."""

    def __init__(self):
        self.handle = None

    def put(self, html: str, text: str) -> None:
        from IPython.display import display

        data = {"text/html": html, "text/plain": text}
        if self.handle is None:
            self.handle = display(data, raw=True, display_id=True)
        else:
            self.handle.update(data, raw=True)

    def clear(self) -> None:
        if self.handle:
            self.handle.update({"text/html": "", "text/plain": ""}, raw=True)


def stopped(done: int, total: int | None) -> str:
    of = f" of {total}" if total else ""
    return f"Stopped after {done}{of} steps. The model keeps what it has learned so far."


def state_in_words(label: str, done: int, total: int | None, seconds: float, end: str) -> str:
    if end == "stopped":
        return f"{label}: {stopped(done, total)}"
    if end == "failed":
        return f"{label}: ended by an error after {done} steps; see below."
    if end:
        return f"{label}: done, {done} steps in {seconds:.0f} s."
    if total and seconds > 1:
        return f"{label}: step {done} of {total}, about {seconds / done * (total - done):.0f} s left"
    return f"{label}: step {done}{f' of {total}' if total else ''}"


def progress_bar(label: str, done: int, total: int | None, seconds: float, end: str = "") -> str:
    """A bar in the theme's colours, and the same in words. `end`: "done", "stopped", "failed" or not yet."""
    text = state_in_words(label, done, total, seconds, end)
    share = 100 if end == "done" else round(100 * done / total) if total else 0
    inner = f'<div style="width:{share}%;height:100%;background:var(--jp-brand-color1,#1976d2)"></div>'
    bar = (
        f'<div role="progressbar" aria-label="{escape(label)}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{share}" style="height:6px;border-radius:3px;overflow:hidden;'
        f'background:var(--jp-border-color2,#ccc)">{inner}</div>'
    )
    return f'{bar}<p style="margin:.3em 0 .6em;font-variant-numeric:tabular-nums">{escape(text)}</p>'
