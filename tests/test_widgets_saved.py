"""What is left of widgets and figures in a saved notebook, and that the server can do it without heavy imports."""

from __future__ import annotations

import base64
import copy
import subprocess
import sys

from prefcourse.widgets.saved import STATE, VIEW, give_alt_texts, keep_twins, pre_save_hook

DOT = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000004000000020802000000f0ca4ea50000000e49444154789c63f8ff9f8101190000"
    )
).decode()


def output(data: dict, metadata: dict | None = None) -> dict:
    return {"output_type": "display_data", "data": data, "metadata": metadata or {}}


def book(*outputs: dict) -> dict:
    return {"nbformat": 4, "metadata": {"widgets": {STATE: {"state": {}}}}, "cells": [
        {"cell_type": "markdown", "source": "x", "metadata": {}},
        {"cell_type": "code", "source": "w", "metadata": {}, "outputs": list(outputs)},
    ]}  # fmt: skip


LIVE = output({VIEW: {"model_id": "1"}, "text/plain": "Be the annotator"})
TWIN = output({"text/html": ['<div class="pc-twin">', "40 labels</div>"]})


def test_a_widget_goes_where_its_still_copy_stays():
    saved = keep_twins(book(copy.deepcopy(LIVE), copy.deepcopy(TWIN)))
    assert saved["cells"][1]["outputs"] == [output({"text/plain": "Be the annotator"}), TWIN]
    assert saved["metadata"] == {}, "the states of widgets are nothing without a kernel"


def test_a_picture_is_a_still_copy_too():
    saved = keep_twins(book(output({VIEW: {}, "image/png": DOT})))
    assert list(saved["cells"][1]["outputs"][0]["data"]) == ["image/png"]


def test_a_widget_without_copy_is_left_alone():
    stranger = output({VIEW: {"model_id": "2"}, "text/plain": "FloatSlider()"}), output({"text/html": "<p>hi</p>"})
    saved = keep_twins(book(*copy.deepcopy(stranger)))
    assert saved["cells"][1]["outputs"] == list(stranger)


def test_streams_and_errors_do_no_harm():
    stream = {"output_type": "stream", "name": "stdout", "text": "hi"}
    assert keep_twins(book(stream, copy.deepcopy(TWIN)))["cells"][1]["outputs"][0] == stream


def test_the_hook_touches_only_notebooks_that_are_being_saved():
    model = {"type": "notebook", "content": book(copy.deepcopy(LIVE), copy.deepcopy(TWIN))}
    pre_save_hook(model, path="x.ipynb", contents_manager=None)
    assert VIEW not in model["content"]["cells"][1]["outputs"][0]["data"]
    for other in ({"type": "file", "content": "x"}, {"type": "directory", "content": None}, {"type": "notebook"}):
        pre_save_hook(other, path="x")


def test_pictures_get_their_alternative_text_as_html():
    about = {"image/png": {"alt": 'gold < "score"', "width": 100}}
    html = give_alt_texts(book(output({"image/png": DOT}, about)))["cells"][1]["outputs"][0]["data"]["text/html"]
    assert 'alt="gold &lt; &quot;score&quot;"' in html and 'width="100" height="50"' in html
    plain = give_alt_texts(book(output({"image/png": DOT})))
    assert "text/html" not in plain["cells"][1]["outputs"][0]["data"]


def test_the_server_needs_only_the_standard_library():
    code = (
        "import sys, prefcourse.widgets.saved; print(*{'torch', 'numpy', 'matplotlib', 'anywidget'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == ""
