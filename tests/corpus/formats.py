"""Files: what can be read as a notebook is graded, what cannot is invalid with a reason, at once."""

from __future__ import annotations

import json

from corpus import NUMBERS, Case, collector, solved
from prefcourse.grading.result import State

CASES: list[Case] = []
case = collector(CASES)
INVALID = {"state": State.INVALID, "seconds": 10.0}


@case(NUMBERS)
def stripped_ids():
    notebook = solved()
    for cell in notebook.cells:
        del cell["id"]
    return notebook


@case(NUMBERS)
def stripped_ids_and_metadata():
    """What is left are the marker comments."""
    notebook = solved()
    for cell in notebook.cells:
        del cell["id"]
        cell["metadata"] = {}
    return notebook


@case(NUMBERS, says="the cell that defines agreement_rate counts")
def stripped_of_everything():
    """No ids, no metadata, no marker comments: only the names of the functions are left."""
    notebook = solved()
    for number in NUMBERS:
        notebook.answer(number)["source"] = notebook.source(number).partition("\n")[2]
    for cell in notebook.cells:
        del cell["id"]
        cell["metadata"] = {}
    return notebook


@case(NUMBERS)
def other_ids():
    """As a service that gives every cell a new id."""
    notebook = solved()
    for count, cell in enumerate(notebook.cells):
        cell |= {"id": f"{count:08x}", "metadata": {}}
    return notebook


@case(NUMBERS)
def all_ids_alike():
    notebook = solved()
    for cell in notebook.cells:
        cell |= {"id": "answer-2-1", "metadata": {}}
    return notebook


@case(NUMBERS)
def nbformat_4_4():
    notebook = solved()
    notebook.content["nbformat_minor"] = 4
    for cell in notebook.cells:
        del cell["id"]
    return notebook


@case(NUMBERS)
def nbformat_3():
    notebook = solved()
    cells = [{"cell_type": "markdown", "metadata": {}, "source": "# title"}]
    for cell in notebook.code:
        old = {"cell_type": "code", "language": "python", "metadata": {}, "outputs": [], "prompt_number": 1}
        cells.append(old | {"input": cell["source"], "collapsed": False})
    sheet = {"metadata": {}, "cells": cells}
    return json.dumps({"metadata": {"name": ""}, "nbformat": 3, "nbformat_minor": 0, "worksheets": [sheet]}).encode()


@case(NUMBERS)
def colab():
    """As Google's Colab saves: nbformat 4.0, ids in the metadata, a kernelspec of its own."""
    notebook = solved()
    for count, cell in enumerate(notebook.cells):
        del cell["id"]
        cell["metadata"] = {"id": f"c0LaB{count}", "colab": {"base_uri": "https://localhost:8080/"}, "outputId": "x"}
    notebook.content["metadata"] = {
        "colab": {"provenance": []},
        "kernelspec": {"name": "python3"},
        "accelerator": "GPU",
    }
    notebook.content |= {"nbformat_minor": 0}
    return notebook


@case(NUMBERS)
def byte_order_mark():
    return b"\xef\xbb\xbf" + solved().bytes()


@case(NUMBERS)
def unknown_kernelspec():
    notebook = solved()
    notebook.content["metadata"]["kernelspec"] = {
        "name": "../../julia-1.9",
        "display_name": "Julia",
        "language": "julia",
    }
    return notebook


@case(NUMBERS)
def no_metadata():
    notebook = solved()
    notebook.content["metadata"] = {}
    for cell in notebook.code:
        cell["metadata"] = None
        del cell["outputs"]
    return notebook


@case(NUMBERS)
def null_execution_count():
    notebook = solved()
    for cell in notebook.code:
        cell |= {"execution_count": None, "outputs": []}
    return notebook


@case(NUMBERS)
def hostile_tags():
    notebook = solved()
    for cell in notebook.code:
        cell["metadata"]["tags"] = ["nbval-skip", "nbval-ignore-output", "raises-exception"]
    return notebook


@case(NUMBERS)
def four_megabytes_of_outputs():
    notebook = solved()
    stream = {"output_type": "stream", "name": "stdout", "text": "x" * 4_000_000}
    notebook.answer("2.1")["outputs"] = [stream]
    return notebook


@case(**INVALID, says="not JSON")
def bad_json():
    return solved().bytes()[:-100]


@case(**INVALID, says="empty")
def empty():
    return b""


@case(**INVALID, says="should be a dict")
def no_notebook():
    return b"[1, 2]"


@case(**INVALID, says="nbformat 3 or 4")
def nbformat_6():
    notebook = solved()
    notebook.content["nbformat"] = 6
    return notebook


@case(**INVALID, says="not text in UTF-8")
def latin_1():
    return solved().bytes().replace(b"Exercises", "Übungen".encode("latin-1"))


@case(**INVALID, says="cells should be a list, found nothing")
def null_cells():
    notebook = solved()
    notebook.content["cells"] = None
    return notebook


@case(**INVALID, says="cell 1 should be a dict, found nothing")
def null_as_cell():
    notebook = solved()
    notebook.content["cells"] = [None]
    return notebook


@case(**INVALID, says="the source of cell")
def number_as_source():
    notebook = solved()
    notebook.answer("2.1")["source"] = 7
    return notebook


@case(**INVALID, says="nested too deeply")
def nested_100_000_times():
    return b"[" * 100_000 + b"]" * 100_000


@case(**INVALID, says="cells; up to")
def a_million_cells():
    cell = b'{"cell_type":"code","source":"1"},'
    return b'{"nbformat":4,"metadata":{},"cells":[' + cell * 100_000 + cell[:-1] + b"]}"


@case(**INVALID, says="not JSON|digits")
def a_number_of_100_000_digits():
    return b'{"nbformat": ' + b"4" * 100_000 + b"}"


@case(**INVALID, says="up to 5,000,000 are read")
def five_megabytes():
    return b" " * 5_000_001
