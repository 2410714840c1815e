"""Results for machines and spreadsheets: CSV, JSON, JUnit. Knows the three formats and what is dangerous in them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from prefcourse.grading.batch import RESULTS, SCHEMA, write_whole
from prefcourse.grading.reports import words
from prefcourse.grading.result import CheckResult, Result, State, Status


def csv_table(results: Sequence[Result], folder: Path, batch: dict) -> None:
    """A row for each submission. Nothing graded: cells left empty, since 0 would be a mark."""
    numbers = words.exercises(results)
    rows = [["student", "submission", "chapter", *numbers, "total", "max", "state", "notes"]]
    for result in results:
        points = {check.exercise: words.number(check.points) for check in result.checks}
        totals = [words.number(result.points), words.number(result.max_points)] if result.checks else ["", ""]
        notes = "; ".join(filter(None, [result.reason, *words.notes(result)]))
        named = [result.student, result.submission, result.chapter]
        rows.append([*named, *(points.get(n, "") for n in numbers), *totals, result.state.value, notes])
    text = io.StringIO(newline="")
    csv.writer(text).writerows([harmless(cell) for cell in row] for row in rows)
    write_whole(folder / "results.csv", text.getvalue(), "utf-8-sig")  # the mark tells Excel that it is UTF-8


def harmless(cell: str) -> str:
    """A spreadsheet takes a cell that begins so for a formula and runs it."""
    cell = words.clean(cell)
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")) else cell


def json_results(results: Sequence[Result], folder: Path, batch: dict) -> None:
    found = {"schema": SCHEMA, "batch": batch, "results": [result.as_dict() for result in results]}
    write_whole(folder / RESULTS, json.dumps(found, indent=1))


def junit(results: Sequence[Result], folder: Path, batch: dict) -> None:
    """A suite for each submission and a test case for each exercise, "2.1". Says to learners no more than the pages."""
    root = ElementTree.Element("testsuites", name="prefcourse")
    for result in results:
        cases = [_case(result, check) for check in result.checks]
        cases += [_stopped(result)] if result.state != State.GRADED else []
        counts = {f"{kind}s": sum(c.find(kind) is not None for c in cases) for kind in ("failure", "error")}
        counts["skipped"] = sum(c.find("skipped") is not None for c in cases)
        name = words.clean(f"{result.student}: {result.submission}")
        facts = {"tests": len(cases), **counts, "time": f"{result.seconds:.3f}"}
        suite = ElementTree.SubElement(root, "testsuite", {"name": name} | {k: str(v) for k, v in facts.items()})
        _properties(suite, state=result.state.value, sandbox=result.sandbox, seed=result.seed)
        suite.extend(cases)
    ElementTree.indent(root)
    write_whole(
        folder / "junit.xml", f"<?xml version='1.0' encoding='utf-8'?>\n{ElementTree.tostring(root, 'unicode')}\n"
    )


def _case(result: Result, check: CheckResult) -> ElementTree.Element:
    named = {"classname": words.clean(result.chapter), "name": check.exercise, "time": f"{check.seconds:.3f}"}
    case = ElementTree.Element("testcase", named)
    worth = {"points": words.number(check.points), "max_points": words.number(check.max_points)}
    _properties(case, **worth, status=check.status.value)
    if check.status == Status.NOT_RUN:
        ElementTree.SubElement(case, "skipped", message=words.sentence(check))
    elif check.status != Status.PASSED:
        ElementTree.SubElement(case, "failure", message=words.sentence(check), type=check.status.value)
    return case


def _stopped(result: Result) -> ElementTree.Element:
    case = ElementTree.Element("testcase", classname=words.clean(result.chapter), name="submission")
    ElementTree.SubElement(case, "error", message=words.reason(result), type=result.state.value)
    return case


def _properties(parent: ElementTree.Element, **facts: str) -> None:
    properties = ElementTree.SubElement(parent, "properties")
    for name, value in facts.items():
        ElementTree.SubElement(properties, "property", name=name, value=words.clean(value))
