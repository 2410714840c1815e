"""The graft: what of a submission is taken, whatever was done to it; and who leans on the package. Nothing runs."""

from __future__ import annotations

import json

import pytest

from prefcourse.grading.graft import MAX_BYTES, InvalidSubmission, graft, read_cells
from prefcourse.grading.package_use import package_use, road_to_package
from prefcourse.grading.strip import without_bodies

SETUP, CHECK_1, CHECK_2 = "from prefcourse.checks import check", 'check("2.1", first)', 'check("2.2", second)'
FIRST, SECOND = (
    "# EXERCISE 2.1: first\ndef first(x):\n    return 1",
    "# EXERCISE 2.2: second\ndef second(x):\n    return 2",
)


def code(source, identifier=None, **ours):
    cell = {"cell_type": "code", "metadata": {"prefcourse": ours} if ours else {}, "source": source, "outputs": []}
    return cell | ({"id": identifier} if identifier else {})


def notebook(*cells, **more) -> dict:
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells)} | more


def check_cell(source, number):
    cell = code(source, f"check-{number.replace('.', '-')}", role="check", exercise=number)
    cell["metadata"]["tags"] = ["nbval-check-output"]
    return cell | {"outputs": [{"output_type": "display_data", "data": {"text/plain": f"right {number}"}}]}


REFERENCE = notebook(
    code(SETUP, "setup", role="given"),
    code(FIRST, "answer-2-1", role="answer", exercise="2.1"),
    check_cell(CHECK_1, "2.1"),
    code(SECOND, "answer-2-2", role="answer", exercise="2.2"),
    check_cell(CHECK_2, "2.2"),
)
MINE_1 = "# EXERCISE 2.1: first\ndef first(x):\n    return x"
MINE_2 = "# EXERCISE 2.2: second\ndef second(x):\n    return x"


def submitted(*cells, **more) -> bytes:
    return json.dumps(notebook(*cells, **more)).encode()


def grafted(*cells, **more):
    return graft(REFERENCE, submitted(*cells, **more))


def sources(found) -> list[str]:
    return [cell["source"] for cell in found.notebook["cells"]]


USUAL = (
    code(SETUP, "setup"),
    code(MINE_1, "answer-2-1"),
    code(CHECK_1, "check-2-1"),
    code(MINE_2, "answer-2-2"),
    code(CHECK_2, "check-2-2"),
)
EXPECTED = [SETUP, MINE_1, CHECK_1, MINE_2, CHECK_2]


def test_answers_are_the_learners_and_the_rest_is_ours():
    found = grafted(*USUAL, metadata={"kernelspec": {"name": "julia-1.9"}})
    assert sources(found) == EXPECTED
    assert found.notes == () and found.missing == ()
    assert found.notebook["metadata"]["kernelspec"]["name"] == "python3"
    checks = [cell for cell in found.notebook["cells"] if cell["id"].startswith("check")]
    assert [cell["outputs"][0]["data"]["text/plain"] for cell in checks] == ["right 2.1", "right 2.2"]


def colab(cell):
    return cell | {"id": None, "metadata": {"id": "aB3_x", "colab": {}}}


@pytest.mark.parametrize(
    "changed",
    [
        [{**cell, "id": f"random{place}"} for place, cell in enumerate(USUAL)],
        [{name: value for name, value in cell.items() if name != "id"} for cell in USUAL],
        [colab(cell) for cell in USUAL],
        [{**cell, "source": cell["source"].splitlines(keepends=True)} for cell in USUAL],
        [cell for cell in USUAL if "check-" not in cell["id"]],
        [{**cell, "cell_type": "markdown"} if "check-" in cell["id"] else cell for cell in USUAL],
        [{**cell, "source": 'check = print\ncheck("2.1", 3)'} if "check-" in cell["id"] else cell for cell in USUAL],
    ],
    ids=["new ids", "no ids", "Colab", "lines", "checks deleted", "checks turned to text", "checks edited"],
)
def test_answers_are_found_in_what_other_programs_and_people_make_of_a_notebook(changed):
    assert sources(grafted(*changed)) == EXPECTED


def test_old_formats_and_a_byte_order_mark():
    old = [{"cell_type": "code", "input": c["source"], "language": "python", "outputs": []} for c in USUAL]
    third = {"nbformat": 3, "nbformat_minor": 0, "metadata": {}, "worksheets": [{"cells": old}]}
    for content in (
        json.dumps(third).encode(),
        b"\xef\xbb\xbf" + submitted(*USUAL),
        submitted(*USUAL, nbformat_minor=4),
    ):
        assert sources(graft(REFERENCE, content)) == EXPECTED


def test_an_answer_without_id_and_marker_is_known_by_what_it_defines():
    found = grafted(code("def first(x):\n    return 5"), *USUAL[3:])
    assert sources(found)[1] == "def first(x):\n    return 5" and found.missing == ()
    assert "the cell that defines first counts" in found.notes[0]


def test_helpers_keep_their_place():
    before, between = code("import math"), code("half = .5")
    found = grafted(USUAL[0], before, USUAL[1], between, *USUAL[2:])
    assert sources(found) == [SETUP, "import math", MINE_1, "half = .5", CHECK_1, MINE_2, CHECK_2]
    assert found.helpers == ("import math", "half = .5")


def test_an_answer_split_over_two_cells_is_an_answer_and_a_helper():
    rest = code("# EXERCISE 2.1: first\nextra = 1", "answer-2-1")
    assert sources(grafted(USUAL[0], USUAL[1], rest, *USUAL[2:]))[1:3] == [MINE_1, "# EXERCISE 2.1: first\nextra = 1"]


def test_of_several_answers_the_last_counts():
    later = code(MINE_1.replace("return x", "return 7"), "copy")
    found = grafted(*USUAL[:3], later, *USUAL[3:])
    assert sources(found) == [SETUP, later["source"], CHECK_1, MINE_2, CHECK_2]
    assert found.notes == ("2.1: 2 cells answer it; the last one counts",)


def test_the_order_is_ours():
    found = grafted(USUAL[0], *USUAL[3:], *USUAL[1:3])
    assert sources(found) == EXPECTED and "a different order" in found.notes[0]


def test_a_missing_answer_is_never_the_references():
    found = grafted(USUAL[0], *USUAL[2:])
    assert found.missing == ("2.1",) and "return 1" not in str(found.notebook)


def test_a_setup_cell_with_an_import_more_still_imports():
    found = grafted(code(SETUP + "\nimport math", "setup"), *USUAL[1:])
    assert sources(found)[:2] == [SETUP + "\nimport math", SETUP]


@pytest.mark.parametrize("place", ["    # {}\n", "##{}\n", '"""\n# {}\n"""\n', "\x0c# {}\n", "x = 1\u2028# {}\n"])
@pytest.mark.parametrize("marker", ["NBVAL_SKIP", "NBVAL_IGNORE_OUTPUT", "NBVAL_RAISES_EXCEPTION"])
def test_commands_to_nbval_are_only_comments(place, marker):
    from nbval.plugin import find_comment_markers

    source = place.format(marker) + MINE_1
    assert list(find_comment_markers(source))
    found = grafted(USUAL[0], code(source, "answer-2-1", tags=["nbval-skip"]), code(source), *USUAL[2:])
    assert not [mark for text in sources(found) for mark in find_comment_markers(text)]
    assert f"{marker} has no effect here" in found.notes
    assert all("tags" not in c["metadata"] for c in found.notebook["cells"] if not c["id"].startswith("check"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b"[]", "should be a dict"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff\xfe", "UTF-8"),
        (b'{"nbformat": 6, "cells": []}', "nbformat"),
        (b'{"nbformat": 4, "cells": null}', "cells"),
        (b'{"nbformat": 4, "cells": [null]}', "cell 1"),
        (b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": 5}]}', "source of cell 1"),
        (b'{"nbformat": 3, "worksheets": {}}', "worksheets"),
        (b'{"nbformat": ' + b"9" * 5_000 + b"}", "not JSON"),
        (b" " * (MAX_BYTES + 1), "bytes"),
        (submitted(*[code("1")] * 1_001), "code cells"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_notebook_is_refused_in_words(content, reason):
    with pytest.raises(InvalidSubmission, match=reason):
        read_cells(content)


# --- the package's own functions ----------------------------------------------------------------------------

PACKAGE = {"2.1": ("prefcourse.agreement:percent", "prefcourse.agreement:_pairs")}
OWN = "def first(x):\n    return "


@pytest.mark.parametrize(
    "answer",
    [
        "from prefcourse.agreement import percent as first",
        "from prefcourse.agreement import *\nfirst = percent",
        "from prefcourse.agreement import percent\nother = percent\n" + OWN + "other(x)",
        "import prefcourse.agreement as a\n" + OWN + "a.percent(x)",
        "import prefcourse\n" + OWN + "prefcourse.agreement._pairs(x)",
        "from prefcourse import agreement\n" + OWN + "getattr(agreement, 'percent')(x)",
        "import importlib\n" + OWN + "importlib.import_module('prefcourse.agreement').percent(x)",
        OWN + "__import__('prefcourse.agreement').percent(x)",
        "import sys\nm = sys.modules['prefcourse.agreement']\n" + OWN + "m.percent(x)",
        "import inspect, prefcourse.agreement as a\nexec(inspect.getsource(a.percent))\nfirst = percent",
    ],
)
def test_leaning_on_the_package_is_seen(answer):
    assert package_use({"2.1": answer}, [], {"2.1": "first"}, PACKAGE)


@pytest.mark.parametrize(
    ("answer", "helper"),
    [
        ("from prefcourse.agreement import group_by_item\n" + OWN + "group_by_item(x)", ""),
        ("from statsmodels import percent\n" + OWN + "percent(x)", ""),
        (OWN + "1  # prefcourse.agreement.percent", "from prefcourse.agreement import percent\nprint(percent([]))"),
        ("def first(:", "%load_ext x\n!ls"),
    ],
)
def test_what_does_not_lean_on_it_is_left_alone(answer, helper):
    assert package_use({"2.1": answer}, [helper], {"2.1": "first"}, PACKAGE) == {}


def test_the_road_to_the_package_goes_over_other_answers():
    functions = {"1": "a", "2": "b", "3": "c", "4": "d"}
    answers = {"1": "from p import x as a", "2": "def b(): return a() + c()", "3": "def c(): return b()", "4": "b = 1"}
    assert road_to_package("2", answers, [], functions, {"1"}) == ["2", "1"]
    assert road_to_package("3", answers, [], functions, {"1"}) == ["3", "2", "1"]
    assert road_to_package("1", answers, [], functions, {"1"}) == road_to_package("3", answers, [], functions, {}) == []


@pytest.mark.parametrize(
    "helper",
    [
        "def lend(x):\n    return a(x)",
        "inner = lambda x: a(x)\nlend = inner",
        "class lend:\n    def __call__(self): a()",
    ],
)
def test_the_road_to_the_package_goes_over_helper_cells(helper):
    functions, answers = {"1": "a", "2": "b"}, {"1": "from p import x as a", "2": "def b(x): return lend(x)"}
    assert road_to_package("2", answers, ["print(1)", helper], functions, {"1"}) == ["2", "1"]
    assert road_to_package("2", answers, ["def lend(x):\n    return x"], functions, {"1"}) == []


def test_an_emptied_function_keeps_its_docstring_and_nothing_else():
    source = (
        'def a(x):\n    """What?"""\n    y = x\n    return y\n\n\ndef b(x): return a(x)\n\n\ndef c():\n    return 3\n'
    )
    space: dict = {}
    exec(without_bodies(source, {"a", "b"}), space)
    assert space["a"].__doc__ == "What?" and space["c"]() == 3
    for function in (space["a"], space["b"]):
        with pytest.raises(RuntimeError, match="not available while yours is graded"):
            function(1)
    with pytest.raises(ValueError, match="no function d"):
        without_bodies(source, {"d"})


def test_methods_are_emptied_too():
    source = "class World:\n    def best(self):\n        return 1\n\n    def other(self):\n        return 2\n"
    space: dict = {}
    exec(without_bodies(source, {"World.best"}), space)
    assert space["World"]().other() == 2
    with pytest.raises(RuntimeError, match="the package's own best is not available"):
        space["World"]().best()
