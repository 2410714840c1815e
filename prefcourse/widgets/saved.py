"""What becomes of widgets and figures when a notebook is saved. Knows nbformat's JSON, and only the standard library.

A live widget is a reference to a running kernel. Saved, it would be "model not found" the next day. Ours show a still
copy beneath, so here the reference goes and the copy stays.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from html import escape

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
PICTURES = ("image/png", "image/jpeg", "image/svg+xml")
MARK = "pc-twin"  # the class of a still copy in HTML


def pre_save_hook(model: dict, **_) -> None:
    """For `FileContentsManager.pre_save_hook`: what is open in the browser stays live, the file gets the still copy."""
    if model.get("type") == "notebook" and (model.get("content") or {}).get("nbformat") == 4:
        keep_twins(model["content"])


def keep_twins(notebook: dict) -> dict:
    """Drop the reference to each widget that has a still copy in its cell, and the states of widgets. In place."""
    for cell in notebook["cells"]:
        outputs = cell.get("outputs") or []
        if any(is_twin(output) for output in outputs):
            for output in outputs:
                output.get("data", {}).pop(VIEW, None)
    widgets = notebook["metadata"].get("widgets", {})
    widgets.pop(STATE, None)
    if not widgets:
        notebook["metadata"].pop("widgets", None)
    return notebook


def is_twin(output: dict) -> bool:
    """A picture, or HTML with our mark. The HTML of anybody's widget need not be a copy of it."""
    data = output.get("data", {})
    return any(kind in data for kind in PICTURES) or MARK in text_of(data.get("text/html", ""))


def give_alt_texts(notebook: dict) -> dict:
    """Beside each PNG that carries its alternative text, the same as HTML: only there does JupyterLab show it.
    In place; for notebooks that will be read, not compared."""
    for output, alt in pictures_with_text(notebook):
        picture = "".join(text_of(output["data"]["image/png"]).split())
        width = output["metadata"]["image/png"].get("width", 640)
        output["data"].setdefault("text/html", figure_html(picture, alt, width))
    return notebook


def figure_html(picture: str, alt: str, width: int) -> str:
    """A PNG (base64) within HTML, as wide as the page allows and never wider than `width`."""
    across, down = struct.unpack(">II", base64.b64decode(picture[:32])[16:24])  # of the PNG's header
    size = f'width="{width}" height="{round(width * down / across)}"'  # known before it is decoded: nothing jumps
    image = f'<img alt="{escape(alt)}" {size} style="max-width:100%;height:auto" src="data:image/png;base64,{picture}">'
    return f'<figure class="pc-figure" style="margin:0">{image}</figure>'


def pictures_with_text(notebook: dict) -> Iterator[tuple[dict, str]]:
    for cell in notebook["cells"]:
        for output in cell.get("outputs") or []:
            about = output.get("metadata", {}).get("image/png", {})
            if "image/png" in output.get("data", {}) and isinstance(about, dict) and about.get("alt"):
                yield output, about["alt"]


def text_of(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)
