"""What grading platforms read: Gradescope, GitHub Classroom, PrairieLearn, Coursera. Knows their files, nothing more.

They grade one submission at a time: its file then lies at platform/NAME; of several, at platform/SUBMISSION/NAME.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from prefcourse.grading.batch import write_whole
from prefcourse.grading.reports import words
from prefcourse.grading.result import CheckResult, Result, State, Status

STOPPED = "The autograder stopped before it had finished. This is not your fault: tell your instructor."


def _each(results: Sequence[Result], folder: Path, name: str, facts_of: Callable[[Result], dict]) -> None:
    (folder / name).unlink(missing_ok=True)  # the skeleton, or the file of an earlier single submission
    for result in results:
        place = folder if len(results) == 1 else folder / words.file_name(result)
        place.mkdir(parents=True, exist_ok=True)
        write_whole(place / name, json.dumps(facts_of(result), indent=1))


def _lines(result: Result) -> list[str]:
    """For a learner, in plain text: the reason, each exercise, the notes."""
    checks = [
        f"{words.SIGNS[c.status][0]} {c.exercise} {c.function}: {words.number(c.points)} of "
        f"{words.number(c.max_points)} points. {words.sentence(c)}"
        for c in result.checks
    ]
    return [*filter(None, [words.reason(result)]), *checks, *map(words.clean, result.notes)]


# --- Gradescope: gradescope-autograders.readthedocs.io, "Output format" --------------------------------------


def gradescope(results: Sequence[Result], folder: Path, batch: dict) -> None:
    _each(results, folder / "gradescope", "results.json", _gradescope)


def gradescope_skeleton(folder: Path) -> None:
    """Gradescope shows a learner nothing useful if there is no file: so there always is one."""
    (folder / "gradescope").mkdir(parents=True, exist_ok=True)
    facts = {"score": 0, "output": STOPPED, "visibility": "visible", "stdout_visibility": "hidden", "tests": []}
    write_whole(folder / "gradescope" / "results.json", json.dumps(facts, indent=1))


def _gradescope(result: Result) -> dict:
    def test(check: CheckResult) -> dict:
        return {
            "number": check.exercise,
            "name": check.function,
            "score": check.points,
            "max_score": check.max_points,
            "status": "passed" if check.status == Status.PASSED else "failed",
            "output": words.sentence(check),
            "output_format": "text",
            "visibility": "visible",
        }

    return {
        "score": result.points,
        "execution_time": round(result.seconds, 3),
        "output": "\n".join(filter(None, [words.reason(result), *map(words.clean, result.notes)])),
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",  # what the grader prints is for instructors
        "tests": [test(check) for check in result.checks],
        "extra_data": {"state": result.state.value, "sandbox": result.sandbox, "seed": result.seed},
    }


# --- GitHub: the reporter of GitHub Classroom takes base64 of this; Actions show the summary ------------------


def github(results: Sequence[Result], folder: Path, batch: dict) -> None:
    """Inside Actions, also the step's output `result` and its summary, where Actions look for them."""
    _each(results, folder / "github", "result.json", _classroom)
    (folder / "github").mkdir(parents=True, exist_ok=True)
    summary = _summary(results)
    write_whole(folder / "github" / "summary.md", summary)
    _append("GITHUB_STEP_SUMMARY", summary)
    if len(results) == 1:
        _append("GITHUB_OUTPUT", f"result={base64.b64encode(json.dumps(_classroom(results[0])).encode()).decode()}\n")


def _append(variable: str, text: str) -> None:
    if place := os.environ.get(variable):
        with open(place, "a", encoding="utf-8") as file:
            file.write(text)


def _classroom(result: Result) -> dict:
    def test(check: CheckResult) -> dict:
        status = "pass" if check.status == Status.PASSED else "fail"
        facts = {"name": f"{check.exercise} {check.function}", "status": status, "score": check.points}
        return facts | {"message": words.sentence(check), "filename": "", "line_no": 0, "test_code": ""}

    stopped = {"name": "submission", "status": "error", "score": 0, "message": words.reason(result), "test_code": ""}
    passed = result.state == State.GRADED and all(check.status == Status.PASSED for check in result.checks)
    status = "pass" if passed else "error" if result.state in words.UNGRADED else "fail"
    tests = [*map(test, result.checks), *([stopped] if result.state != State.GRADED else [])]
    return {"version": 1, "status": status, "max_score": result.max_points, "tests": tests}


def _summary(results: Sequence[Result]) -> str:
    """Markdown; a learner's words could be links, pictures or cells of the table: they are shown as they are."""
    rows = [
        f"| {_plain(r.student)} | {_plain(r.chapter)} | {words.points(r) if r.checks else ''} | {r.state.value} "
        f"| {_plain(' '.join([words.reason(r), *words.notes(r)]))} |"
        for r in results
    ]
    table = ["| student | chapter | points | state | notes |", "|---|---|---|---|---|", *rows]
    checks = results[0].checks if len(results) == 1 else ()
    own = [
        f"| {words.SIGNS[c.status][0]} {words.SIGNS[c.status][1]} | {c.exercise} {_plain(c.function)} "
        f"| {words.number(c.points)} of {words.number(c.max_points)} | {_plain(words.sentence(c))} |"
        for c in checks
    ]
    head = ["", "| | exercise | points | |", "|---|---|---|---|"] if own else []
    return "\n".join(["### prefcourse grade", "", *table, *head, *own, ""])


def _plain(text: str) -> str:
    """Every character that Markdown or HTML could take for its own becomes an entity."""
    line = " ".join(words.clean(text).split())
    return "".join(c if c.isalnum() or c in " .,:;-" or ord(c) > 127 else f"&#{ord(c)};" for c in line)


# --- PrairieLearn: docs.prairielearn.com, "External grading", "Grading results" -------------------------------


def prairielearn(results: Sequence[Result], folder: Path, batch: dict) -> None:
    _each(results, folder / "prairielearn", "results.json", _prairielearn)


def _prairielearn(result: Result) -> dict:
    """Ungradable costs the learner no attempt there, so what only says "unreadable" or "our fault" is ungradable."""
    gradable = result.state not in words.UNGRADED
    tests = [
        {
            "name": f"{check.exercise} {check.function}",
            "points": check.points,
            "max_points": check.max_points,
            "message": words.sentence(check),
        }
        for check in result.checks
    ]
    message = "\n".join(filter(None, [words.reason(result), *map(words.clean, result.notes)]))
    facts = {"gradable": gradable, "score": round(words.share(result), 6), "message": message, "tests": tests}
    return facts if gradable else facts | {"format_errors": [words.reason(result)]}


# --- Coursera: feedback.json of a custom grader ---------------------------------------------------------------


def coursera(results: Sequence[Result], folder: Path, batch: dict) -> None:
    _each(results, folder / "coursera", "feedback.json", _coursera)


def _coursera(result: Result) -> dict:
    return {"fractionalScore": round(words.share(result), 6), "feedback": "\n".join(_lines(result))}
