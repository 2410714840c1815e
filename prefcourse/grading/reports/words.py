"""How results are worded in every report: signs, words, numbers, names of files. Knows no format."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from hashlib import sha256

from prefcourse.grading.result import CheckResult, Result, State, Status
from prefcourse.grading.submissions import natural

SIGNS = {  # a sign and a word: colour alone tells nothing to many
    Status.PASSED: ("✓", "passed"),
    Status.FAILED: ("✗", "not right yet"),
    Status.NOT_WRITTEN: ("○", "not written"),
    Status.ERROR: ("✗", "raised an error"),
    Status.TIMEOUT: ("✗", "took too long"),
    Status.MISSING: ("○", "answer missing"),
    Status.PACKAGE: ("✗", "the package's own answer"),
    Status.NOT_RUN: ("–", "not run"),
}
SENTENCES = {  # where the check has none of its own
    Status.PASSED: "All its checks hold.",
    Status.FAILED: "At least one value is not right. The check in the notebook shows the first case that fails.",
    Status.NOT_WRITTEN: "Still the stub that came with the exercise.",
    Status.ERROR: "It raised an error before there was a value to look at.",
    Status.TIMEOUT: "It ran longer than a check may.",
    Status.MISSING: "No cell with this answer was found. Keep the line that marks it.",
    Status.PACKAGE: "This is the package's own function; the exercise is to write it.",
    Status.NOT_RUN: "Everything was stopped before its turn came.",
}
STATES = {  # for a learner
    State.GRADED: "",
    State.INVALID: "It could not be read as a notebook, so nothing was graded and nothing is lost. Hand it in again.",
    State.TIMEOUT: "It was stopped: it ran longer than a submission may. Look for a loop that never ends.",
    State.RESOURCE: "It was stopped: it took more memory, output or processes than a submission may.",
    State.CRASHED: "Its kernel died while it ran. Restart yours and run all cells: does it die there too?",
    State.GRADER_ERROR: "Grading failed. The fault is ours, not yours: your instructor sees it and grades it again.",
}
UNGRADED = (State.INVALID, State.GRADER_ERROR)  # these say nothing about the learner's work


def clean(text: str) -> str:
    """Without what XML and terminals do not bear: control characters and surrogates become a question mark."""
    return re.sub(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "�", text)


def number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def points(result: Result) -> str:
    return f"{number(result.points)} of {number(result.max_points)}"


def share(result: Result) -> float:
    """Points as a part of what there was, 0 to 1."""
    return result.points / result.max_points if result.max_points else 0.0


def sentence(check: CheckResult) -> str:
    """What a learner reads about one exercise."""
    return clean(check.sentence) or SENTENCES[check.status]


def notes(result: Result) -> list[str]:
    """What a person should look at: what the grader noted, and answers that are the package's own."""
    own = [check for check in result.checks if check.status == Status.PACKAGE]
    return [*result.notes, *(f"{c.exercise} {c.function}: {SIGNS[c.status][1]}" for c in own)]


def reason(result: Result) -> str:
    """Why it is not graded, for the learner: of our own errors, that they are ours."""
    if result.state == State.GRADED:
        return ""
    told = clean(result.reason).rstrip(".") if result.state != State.GRADER_ERROR else ""
    return " ".join(filter(None, [told and f"{told[0].upper()}{told[1:]}.", STATES[result.state]]))


def file_name(result: Result) -> str:
    """Safe on every file system, readable, and different for different submissions."""
    plain = unicodedata.normalize("NFKD", f"{result.student}-{result.chapter}")
    slug = re.sub(r"[^A-Za-z0-9]+", "-", plain)[:60].strip("-") or "submission"
    return f"{slug}-{sha256(clean(f'{result.submission} {result.digest}').encode()).hexdigest()[:8]}"


def exercises(results: Iterable[Result]) -> list[str]:
    """The numbers of all exercises, in their order."""
    return sorted({check.exercise for result in results for check in result.checks}, key=natural)


def title(chapter: str) -> str:
    """02_preference_optimization -> Chapter 2: preference optimization."""
    first, _, rest = chapter.partition("_")
    return f"Chapter {int(first)}: {rest.replace('_', ' ')}" if first.isdecimal() else clean(chapter) or "No chapter"
