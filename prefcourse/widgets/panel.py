"""A panel of controls, buttons, one picture and some words, with a still copy. Knows nothing of what they mean."""

from __future__ import annotations

from collections.abc import Sequence

import traitlets

from prefcourse import plots
from prefcourse.widgets.twin import HERE, Twinned, still_figure


def choice(name: str, label: str, options: Sequence[str], **more) -> dict:
    """A list to choose from. `only`: the methods for which it is shown; `live`: may be moved while training."""
    return {"name": name, "label": label, "kind": "choice", "options": list(options), **more}


def slider(name: str, label: str, options: Sequence[float], words: Sequence[str] | None = None, **more) -> dict:
    """A slider over a list of values, evenly spaced whatever they are."""
    said = list(words or [f"{option:g}" if isinstance(option, int | float) else str(option) for option in options])
    return {"name": name, "label": label, "kind": "slider", "options": list(options), "words": said, **more}


def button(name: str, label: str, *, when: str = "idle", first: bool = False) -> dict:
    """`when`: it can be pressed "idle", "busy" or "always"."""
    return {"name": name, "label": label, "when": when, "first": first}


class Panel(Twinned):
    """The shell. Subclasses draw with `put`, and act in `pressed` and `moved`."""

    _esm = (HERE / "common.js").read_text(encoding="utf-8") + (HERE / "panel.js").read_text(encoding="utf-8")
    label = traitlets.Unicode("panel").tag(sync=True)
    controls = traitlets.List().tag(sync=True)
    buttons = traitlets.List().tag(sync=True)
    values = traitlets.Dict().tag(sync=True)
    picture = traitlets.Bytes(b"").tag(sync=True)
    alt = traitlets.Unicode("").tag(sync=True)
    width = traitlets.Int(720).tag(sync=True)
    words = traitlets.Unicode("").tag(sync=True)  # HTML, escaped by whoever writes it
    news = traitlets.Unicode("").tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)
    share = traitlets.Float(0.0).tag(sync=True)
    figure = None  # the last one put, for the still copy

    def __init__(self, **traits):
        super().__init__(**traits)
        self.on_msg(lambda _, message, buffers: self.pressed(message.get("do")))
        self.observe(lambda change: self.moved(), "values")

    def put(self, figure, alt: str) -> None:
        """Show a figure in the panel."""
        self.figure = figure
        with self.hold_sync():
            self.alt, self.width, self.picture = alt, plots.pixels_wide(figure), plots.png(figure)

    def pressed(self, name: str) -> None:
        """A button was pressed."""

    def moved(self) -> None:
        """`values` is new."""

    def set(self, **values) -> None:
        """What moving a control does. ValueError for a control that is not there or a value that it does not have."""
        known = {spec["name"]: spec["options"] for spec in self.controls}
        for name, value in values.items():
            if name not in known:
                raise ValueError(f"there is no control {name!r}; there are {', '.join(known)}")
            if value not in known[name]:
                raise ValueError(f"{name} has no value {value!r}; it has {', '.join(map(str, known[name]))}")
        self.values = {**self.values, **values}

    def twin(self) -> tuple[dict, dict]:
        return still_figure(self.figure, self.alt, self.news)
