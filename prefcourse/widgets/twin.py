"""Widgets with a still copy. Live, the copy is hidden; without a kernel it is all that is left to see.

Knows how a notebook displays things; knows nothing of what a widget is about.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import anywidget

from prefcourse import plots
from prefcourse.progress import silent
from prefcourse.widgets.saved import MARK, VIEW

HERE = Path(__file__).parent


def still(html: str) -> dict:
    """A still copy as the data of an output."""
    return {"text/html": f'<div class="{MARK}">{html}</div>'}


def still_figure(figure, alt: str, words: str = "") -> tuple[dict, dict]:
    """A figure as still copy, in the form that fits the reader: see `plots.show`."""
    data, metadata = plots.as_output(figure, alt, still=silent())
    if "text/html" in data:
        data |= still(f"{f'<p>{escape(words)}</p>' if words else ''}{data['text/html']}")
    return data, metadata


class Twinned(anywidget.AnyWidget):
    """A widget that is displayed in two outputs: itself, and its still copy, which `renew_twin` keeps up to date."""

    _css = HERE / "style.css"
    _handle = None

    def plain(self) -> str:
        """One line of words, the same in every run."""
        raise NotImplementedError

    def twin(self) -> tuple[dict, dict]:
        """Data and metadata of the still copy."""
        raise NotImplementedError

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        """Both in one output, for who asks for data and not for a display."""
        view, marks = self.view()
        data, metadata = self.twin()
        return data | view, metadata | marks

    def _ipython_display_(self) -> None:
        from IPython.display import display

        view, marks = self.view()
        display(view, metadata=marks, raw=True)
        data, metadata = self.twin()
        self._handle = display(data, metadata=metadata, raw=True, display_id=True)

    def view(self) -> tuple[dict, dict]:
        """Data and metadata of the living widget, with what Colab needs to find its script."""
        data, metadata = super()._repr_mimebundle_()
        return {"text/plain": self.plain(), VIEW: data[VIEW]}, metadata

    def renew_twin(self) -> None:
        if self._handle:
            data, metadata = self.twin()
            self._handle.update(data, metadata=metadata, raw=True)
