"""No comparison is empty: whatever is changed in a stored output of a check, the comparison fails.

Every single value of every solution's bundles is changed in turn, and compared by the function that the grader uses;
then, one change per notebook, by pytest as continuous integration runs it, and by nbval alone.
"""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefcourse.checks.exercise import Tolerance, exercise
from prefcourse.checks.run import MIME
from prefcourse.checks.values import ROUNDING, equal
from prefcourse.grading.nbval_plugin import forgiving, same_bundle

SOLUTIONS = sorted((Path(__file__).parents[1] / "solutions").glob("*.ipynb"))
STOCK = ("-p", "nbval.plugin")
OURS = (*STOCK, "-p", "prefcourse.grading.nbval_plugin")


def checks(notebook: Path) -> dict[str, dict]:
    """Exercise -> the stored output of its check."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", []) if MIME in output.get("data", {})]
    return {output["data"][MIME]["exercise"]: output for output in outputs}


BUNDLES = {number: output["data"][MIME] for path in SOLUTIONS for number, output in checks(path).items()}


# --- every change that there is -----------------------------------------------------------------------------


def changes(bundle: dict) -> Iterator[tuple[str, dict]]:
    """What is changed, and the bundle with that one change."""
    for key in ("version", "exercise", "seed"):
        yield key, bundle | {key: "another"}
        yield f"no {key}", {name: value for name, value in bundle.items() if name != key}
    yield "a state", bundle | {"state": "not written"}
    yield "no cases", bundle | {"cases": []}
    yield "a case more", bundle | {"cases": [*bundle["cases"], bundle["cases"][0]]}
    yield "the order of the cases", bundle | {"cases": bundle["cases"][::-1]}
    for place, case in enumerate(bundle["cases"]):
        without = bundle["cases"][:place] + bundle["cases"][place + 1 :]
        yield f"{case['name']} is missing", bundle | {"cases": without}
        for what, changed in changed_cases(case):
            cases = copy.deepcopy(bundle["cases"])
            cases[place] = changed
            yield f"{case['name']}: {what}", bundle | {"cases": cases}


def changed_cases(case: dict) -> Iterator[tuple[str, dict]]:
    yield "its name", case | {"name": "another"}
    bare = {key: value for key, value in case.items() if key not in ("value", "error")}
    yield "nothing recorded", bare
    yield "None", bare | {"value": {"nothing": True}}
    yield "a text", bare | {"value": {"text": "0.5"}}
    if "error" in case:
        yield "another error", case | {"error": ["TypeError", "Exception"]}
        yield "an error's parents only", case | {"error": case["error"][1:]}
        yield "no error", bare | {"value": {"number": 0.5}}
    else:
        yield "an error", bare | {"error": ["ValueError", "Exception"]}
        for what, value in changed_values(case["value"], *case["tolerance"]):
            yield what, case | {"value": value}


def changed_values(value: dict, relative: float, absolute: float) -> Iterator[tuple[str, dict]]:
    """Numbers just beyond the tolerance on both sides, nan and infinities, other shapes; the same in every part."""
    if "number" in value:
        for number in others(value["number"], relative, absolute):
            yield f"{value['number']} -> {number}", value | {"number": number}
        yield "a list of it", {"array": [value["number"]], "shape": [1], "dtype": "list"}
    elif "array" in value:
        numbers, shape = value["array"], value["shape"]
        for place, number in enumerate(numbers):
            for other in others(number, relative, absolute):
                changed = [*numbers[:place], other, *numbers[place + 1 :]]
                yield f"{number} at {place} -> {other}", value | {"array": changed}
        yield "another shape", value | {"shape": [1, *shape]}
        yield "one number less", value | {"array": numbers[1:], "shape": [len(numbers) - 1]}
        yield "one number more", value | {"array": [*numbers, 0.5], "shape": [len(numbers) + 1]}
        turned = value | {"array": numbers[::-1]}
        if not equal(turned, value, Tolerance(2 * relative, 2 * absolute)):  # else it is no change
            yield "the order", turned
    elif "items" in value or "entries" in value:
        yield from changed_parts(value, relative, absolute)
    elif "text" in value:
        yield "another text", {"text": value["text"] + "."}
    elif "truth" in value:
        yield "the opposite", {"truth": not value["truth"]}


def changed_parts(value: dict, relative: float, absolute: float) -> Iterator[tuple[str, dict]]:
    key = "items" if "items" in value else "entries"
    inside = value[key]
    for place, part in enumerate(inside) if key == "items" else inside.items():
        for what, other in changed_values(part, relative, absolute):
            changed = copy.copy(inside)
            changed[place] = other
            yield f"{place}: {what}", {key: changed}
    fewer = inside[1:] if key == "items" else dict(list(inside.items())[1:])
    yield "a part less", {key: fewer}


def others(number: float | str, relative: float, absolute: float) -> list[float | str]:
    if isinstance(number, str):
        return [other for other in ("nan", "inf", "-inf", 0.0, 0.5, 1.0) if other != number]
    step = 1.01 * (absolute + max(relative, ROUNDING) * abs(number)) + 1e-12
    return [number + step, number - step, -number - step, number + max(1, step), "nan", "inf", float("nan")]


@pytest.mark.parametrize("number", BUNDLES)
def test_every_change_of_a_stored_output_is_noticed(number):
    bundle = BUNDLES[number]
    assert same_bundle(copy.deepcopy(bundle), bundle)
    tried = list(changes(bundle))
    assert len(tried) > 10 * len(bundle["cases"])
    assert [what for what, changed in tried if same_bundle(changed, bundle)] == []


@pytest.mark.parametrize("number", BUNDLES)
def test_nothing_that_may_differ_is_held_against_anybody(number):
    """Types, and numbers within the tolerance on both sides."""
    for sign in (1, -1):
        nudged = copy.deepcopy(BUNDLES[number])
        for case in nudged["cases"]:
            if "value" in case:
                case["value"] = within(case["value"], sign, *case["tolerance"])
        assert same_bundle(nudged, BUNDLES[number])


def within(value: dict, sign: int, relative: float, absolute: float) -> dict:
    def nudge(number):
        size = 0.9 * (absolute + max(relative, ROUNDING) * abs(number)) if not isinstance(number, str) else 0
        return number + sign * size if size else number

    if "number" in value:
        return value | {"number": nudge(value["number"]), "type": "float32"}
    if "array" in value:
        return value | {"array": [nudge(number) for number in value["array"]], "dtype": "float32"}
    if "items" in value:
        return {"items": [within(item, sign, relative, absolute) for item in value["items"]]}
    if "entries" in value:
        return {"entries": {key: within(part, sign, relative, absolute) for key, part in value["entries"].items()}}
    return value


@pytest.mark.parametrize("notebook", SOLUTIONS, ids=lambda path: path.stem)
def test_words_around_the_bundle_neither_help_nor_harm(notebook):
    for output in checks(notebook).values():
        said = {"output_type": "stream", "name": "stdout", "text": "debugging"}
        assert forgiving([said, output], [output]) == [output]
        assert forgiving([output, output], [output]) != [output]  # two bundles: nobody chooses
        assert forgiving([said], [output]) == [said]


# --- the comparison as it is run ----------------------------------------------------------------------------


def nbval(folder: Path, plugins: tuple[str, ...], notebook: dict) -> subprocess.CompletedProcess:
    file = folder / "notebook.ipynb"
    file.write_text(json.dumps(notebook), encoding="utf-8")
    quiet = ("-c", "/dev/null", "--noconftest", "-p", "no:cacheprovider", "-q", "--tb=no", "--color=no")
    environment = {key: value for key, value in os.environ.items() if key != "PREFCOURSE_SEED"}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-m", "pytest", *quiet, *plugins, "--nbval-lax", "--nbval-current-env", str(file)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)


def solution(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def doubled(path: Path, *, inside: float, outside: float) -> tuple[dict, set[int]]:
    """Setup, answers, and each check twice, its first number changed by so many tolerances; which cells must fail.

    What else a solution has is not compared, and computes for long.
    """
    notebook, kept, failing = solution(path), [], set()
    for cell in notebook["cells"]:
        kind = cell["metadata"].get("prefcourse", {}).get("role")
        if cell["id"] == "setup" or kind == "answer":
            kept.append(cell)
        elif kind == "check":
            kept.append(changed(cell, by=inside))
            failing.add(len(kept))
            kept.append(changed(cell, by=outside) | {"id": f"{cell['id']}-outside"})
    return notebook | {"cells": kept}, failing


def changed(check: dict, *, by: float) -> dict:
    cell = copy.deepcopy(check)
    (bundle,) = (output["data"][MIME] for output in cell["outputs"] if MIME in output.get("data", {}))
    case = next((case for case in bundle["cases"] if _first_number(case)), None)
    if case is None:  # names only: they have no tolerance
        (name, *_) = bundle["cases"][0]["value"]["items"]
        name["text"] += "." if by > 1 else ""
        return cell
    where, key = _first_number(case)
    relative, absolute = case["tolerance"]
    where[key] += by * (absolute + max(relative, ROUNDING) * abs(where[key]))
    return cell


def _first_number(case: dict):
    return next(_numbers(case.get("value", {})), None)


def _numbers(value: dict) -> Iterator[tuple[dict | list, str | int]]:
    """Where the numbers of a value stand, in all its parts."""
    where = [(value, "number")] if "number" in value else [(value["array"], 0)] if value.get("array") else []
    yield from ((place, key) for place, key in where if isinstance(place[key], int | float))
    for part in (*value.get("items", ()), *value.get("entries", {}).values()):
        yield from _numbers(part)


def failed(run: subprocess.CompletedProcess) -> set[int]:
    """The numbers of the code cells that differ."""
    return {int(number) for number in re.findall(r"^FAILED .*::Cell (\d+)", run.stdout, re.MULTILINE)}


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_run_by_nbval_with_our_plugin(tmp_path, path):
    """Just inside the tolerance all pass, just outside exactly the changed checks fail."""
    notebook, outside = doubled(path, inside=0.9, outside=1.1)
    run = nbval(tmp_path, OURS, notebook)
    assert len(outside) == len(checks(path))
    assert failed(run) == outside, run.stdout


def needs_tolerance(path: Path) -> bool:
    """Numbers of such an exercise depend on the machine: only our plugin can compare them."""
    modules = {sys.modules[exercise(number).apply.__module__] for number in checks(path)}
    return any(hasattr(module, "tensors_of") or hasattr(module, "with_gradients") for module in modules)


EXACT = [path for path in SOLUTIONS if not needs_tolerance(path)]


@pytest.mark.parametrize("path", EXACT, ids=lambda path: path.stem)
def test_run_by_nbval_alone(tmp_path, path):
    """Where no tolerance is needed, nbval as it comes agrees, and notices what changed."""
    notebook, outside = doubled(path, inside=0, outside=1.1)
    run = nbval(tmp_path, STOCK, notebook)
    assert failed(run) == outside, run.stdout


def test_a_check_without_stored_output_is_no_check():
    """nbval compares nothing where nothing is stored: no solution may have such a check."""
    for path in SOLUTIONS:
        cells = [c for c in solution(path)["cells"] if c["metadata"].get("prefcourse", {}).get("role") == "check"]
        assert cells
        for cell in cells:
            assert cell["execution_count"] and "nbval-check-output" in cell["metadata"]["tags"]
            assert sum(MIME in output.get("data", {}) for output in cell["outputs"]) == 1
