"""Grades one submission: graft, run, judge, say. What comes out depends on its bytes, the reference and the settings.

A cell that ends the kernel, or a limit that was broken, costs the exercise in which it happened: the rest runs again
without it, as long as there is time. Which cell it was is looked at twice, the second time with patience: a kernel
that was told to exit, or files that were written, may show only when the next cell has begun.
"""

from __future__ import annotations

import builtins
import hashlib
import time
from dataclasses import dataclass, field, replace

from prefcourse.checks.run import agreeing, recognise, seed_name
from prefcourse.grading import engine
from prefcourse.grading.engine import Ran, Settings
from prefcourse.grading.graft import Grafted, InvalidSubmission, Skeleton, graft
from prefcourse.grading.nbval_plugin import bundles, same_bundle
from prefcourse.grading.package_use import package_use, road_to_package
from prefcourse.grading.reference import Question, Reference, package_for, versions
from prefcourse.grading.result import CheckResult, Result, State, Status

AGAIN = 12  # runs of one submission, at most
PATIENCE = 0.8  # seconds after each cell, once something went wrong; the watchdog looks three times as often
STARTS = 2  # a machine under load may be too slow to start a kernel


def grade_one(submission: bytes, reference: Reference, settings: Settings) -> Result:
    """Never raises for what a submission is or does."""
    start = time.monotonic()
    blank = Result(
        submission="",
        student="",
        digest=hashlib.sha256(submission).hexdigest(),
        chapter=reference.chapter,
        state=State.GRADED,
        sandbox=settings.sandbox,
        seed=seed_name(settings.seed),
        versions=versions(),
    )
    try:
        grafted = graft(reference.notebook, submission)
    except InvalidSubmission as reason:
        return replace(blank, state=State.INVALID, reason=str(reason))
    history = _run(grafted, reference, settings)
    judge = _Judge(grafted, reference, settings, history)
    checks = tuple(judge.checks())
    return replace(
        blank,
        state=history.state,
        reason=history.reason,
        checks=checks,
        notes=(*grafted.notes, *history.notes, *judge.said),
        seconds=round(time.monotonic() - start, 2),
    )


# --- running ------------------------------------------------------------------------------------------------


@dataclass
class _History:
    """What the runs of one submission showed, put together."""

    cells: dict[str, dict] = field(default_factory=dict)
    culprits: dict[str, str] = field(default_factory=dict)  # cell -> what was wrong
    state: State = State.GRADED
    reason: str = ""
    notes: list[str] = field(default_factory=list)


def _run(grafted: Grafted, reference: Reference, settings: Settings) -> _History:
    history, package, end = _History(), package_for(reference, settings), time.monotonic() + settings.seconds
    notebook, patience = grafted.notebook, 0.0
    for _ in range(AGAIN):
        left = max(1.0, end - time.monotonic())
        ran = _started(notebook, package, replace(settings, seconds=left), patience)
        culprit = _culprit(notebook, ran)
        if culprit and not patience and _doubtful(ran, culprit):
            patience = PATIENCE
            continue
        history.cells |= {name: cell for name, cell in ran.cells.items() if name not in history.culprits}
        if culprit is None:
            if not ran.cells:
                history.state, history.reason = State.GRADER_ERROR, f"nothing ran: {ran.stopped or ran.words[-300:]}"
            return history
        _blame(history, culprit, ran, settings)
        notebook, patience = _without(notebook, culprit), 0.0
        if notebook is None or ran.stopped.startswith("time"):
            return history
    return history


def _started(notebook: dict, package, settings: Settings, patience: float) -> Ran:
    for _ in range(STARTS):
        ran = engine.run(notebook, package, settings, patience)
        if ran.cells or ran.stopped:
            break
    return ran


def _culprit(notebook: dict, ran: Ran) -> str | None:
    """The last cell that began, if it is not the last there is, or did not end."""
    if not ran.cells:
        return None
    last = list(ran.cells)[-1]
    fine = last == notebook["cells"][-1]["id"] and ran.cells[last]["outcome"] in ("passed", "failed", "timeout")
    return None if fine and not ran.stopped else last


def _doubtful(ran: Ran, culprit: str) -> bool:
    """May it have been a cell before? Not where a cell took too long, or showed too much."""
    return ran.cells[culprit]["outcome"] in ("began", "died", "disk") and not ran.stopped.startswith(("time", "output"))


def _blame(history: _History, culprit: str, ran: Ran, settings: Settings) -> None:
    """The first trouble is the submission's state; each costs the exercise in which it happened."""
    state, words = _trouble(ran, ran.cells[culprit]["outcome"], settings)
    history.culprits[culprit] = words
    history.notes.append(f"cell {culprit}: {words}")
    if history.state == State.GRADED != state:
        history.state, history.reason = state, history.notes[-1]


def _trouble(ran: Ran, outcome: str, settings: Settings) -> tuple[State, str]:
    if ran.stopped.startswith("time"):
        return State.TIMEOUT, f"the notebook took longer than {settings.seconds:g} seconds in all"
    if ran.stopped:
        return State.RESOURCE, ran.stopped
    if outcome == "output":
        return State.RESOURCE, "output: it showed more than is kept"
    if outcome == "disk":
        return State.RESOURCE, f"disk: it left more than {settings.disk_mb:,} MB, or folders that nobody can enter"
    if outcome == "timeout":
        return State.GRADED, f"it took longer than {settings.cell_seconds:g} seconds and could not be interrupted"
    return State.CRASHED, "the kernel's process ended"


def _without(notebook: dict, culprit: str) -> dict | None:
    """Without the helper, or without all of the exercise; None if it was one of our own cells."""
    ours = {cell["id"]: cell["metadata"].get("prefcourse", {}) for cell in notebook["cells"]}
    number, helper = ours[culprit].get("exercise"), ours[culprit].get("role") == "helper"
    if not number and not helper:
        return None
    cells = [c for c in notebook["cells"] if c["id"] != culprit and (helper or ours[c["id"]].get("exercise") != number)]
    return {**notebook, "cells": cells} if any(ours[c["id"]].get("role") == "check" for c in cells) else None


# --- judging ------------------------------------------------------------------------------------------------


class _Judge:
    """From what happened to a status and a sentence per check. Words of the kernel's go into none of them."""

    def __init__(self, grafted: Grafted, reference: Reference, settings: Settings, history: _History):
        self.grafted, self.reference, self.settings, self.history = grafted, reference, settings, history
        self.skeleton = Skeleton(reference.notebook)
        packages = {number: question.package for number, question in reference.questions.items()}
        self.said: list[str] = []  # what a person should know about the package's functions
        self.package = package_use(grafted.answers, grafted.helpers, self.skeleton.functions, packages)
        self.package |= self._by_code(packages)

    def checks(self):
        for number, question in self.reference.questions.items():
            check = self.history.cells.get(self.skeleton.checks[number])
            mutant = self._mutant(question, check)
            status = self._status(question, check)
            if status == Status.PASSED and number in self.package and self.settings.package == "allow":
                self.said.append(f"{number} uses the package's own functions, which is allowed here")
            yield CheckResult(
                exercise=number,
                function=question.function,
                status=status,
                points=float(question.points if status == Status.PASSED else 0),
                max_points=float(question.points),
                seconds=check["seconds"] if check else 0.0,
                sentence=self._sentence(question, check, status, mutant),
                mutant=mutant if status == Status.FAILED else None,
            )

    def _status(self, question: Question, check: dict | None) -> Status:
        number, bundle = question.number, (check or {}).get("bundle")
        answer = self.history.cells.get(self.skeleton.answers[number]) or {}
        culprit = self._culprit(number)
        if check and check["outcome"] == "passed" and same_bundle(bundle, self._expected(number)):
            return Status.PASSED
        if culprit or "timeout" in ((check or {}).get("outcome"), answer.get("outcome")):
            return Status.TIMEOUT if not culprit or "seconds" in culprit else Status.ERROR
        if number in self.grafted.missing:
            return Status.MISSING
        if check is None or check["outcome"] == "began":
            return Status.NOT_RUN
        if _not_available(bundle) or (number in self.package and self.settings.package == "deny"):
            return Status.ERROR if number not in self.package and self._road(number) else Status.PACKAGE
        if bundle is None:
            return Status.ERROR
        return Status.NOT_WRITTEN if bundle.get("state") == "not written" else Status.FAILED

    def _by_code(self, packages: dict[str, tuple[str, ...]]) -> dict[str, str]:
        """Exercise -> the package's function that its function leads to, as its own kernel says: to its cost only."""
        shown = {n: (self.history.cells.get(check) or {}).get("bundle") for n, check in self.skeleton.checks.items()}
        said = {number: bundle.get("package") for number, bundle in shown.items() if isinstance(bundle, dict)}
        return {number: name for number, name in said.items() if name in packages[number]}

    def _expected(self, number: str) -> dict:
        place = self.skeleton.place[self.skeleton.checks[number]]
        return bundles(self.skeleton.cells[place]["outputs"])[0]

    def _culprit(self, number: str) -> str | None:
        found = (self.history.culprits.get(part[number]) for part in (self.skeleton.answers, self.skeleton.checks))
        return next((words for words in found if words), None)

    def _mutant(self, question: Question, check: dict | None) -> str | None:
        bundle = (check or {}).get("bundle")
        return recognise(bundle, question.mutants) if isinstance(bundle, dict) else None

    def _sentence(self, question: Question, check: dict | None, status: Status, mutant: str | None) -> str:
        if status == Status.FAILED:
            return _capital(question.sentences[mutant]) if mutant else _claim(question, check["bundle"])
        if status == Status.ERROR:
            return self._error(question, check)
        if status == Status.TIMEOUT:
            return f"It took longer than {self.settings.cell_seconds:g} seconds."
        return {
            Status.PASSED: "Solved.",
            Status.NOT_WRITTEN: f"{question.function} is not written yet.",
            Status.MISSING: "There is no answer to this exercise in the notebook.",
            Status.PACKAGE: self._leans(question),
            Status.NOT_RUN: "It was not run: the notebook was stopped before it.",
        }[status]

    def _leans(self, question: Question) -> str:
        if question.number in self.package:
            return f"It uses the package's own functions; write {question.function} yourself."
        return "It calls a function of the package that an exercise asks for; write that one yourself."

    def _road(self, number: str) -> str:
        """Which function of another exercise, the package's own, this answer calls; "" if none."""
        answers, helpers = self.grafted.answers, self.grafted.helpers
        road = road_to_package(number, answers, helpers, self.skeleton.functions, self.package)
        named = [f"{self.skeleton.functions[other]} ({other})" for other in road[1:]]
        return f"calls {', which calls '.join(named)}, which is the package's own" if named else ""

    def _error(self, question: Question, check: dict | None) -> str:
        if culprit := self._culprit(question.number):
            return f"The notebook was stopped here: {culprit}."
        if _not_available((check or {}).get("bundle")):
            self.said.append(f"{question.number} {self._road(question.number)}")
            return (
                f"It {self._road(question.number)}. An answer that calls another exercise's function stands or "
                "falls with it."
            )
        answer = _error_name(self.history.cells.get(self.skeleton.answers[question.number]))
        if answer:
            return f"The cell of your answer stopped with {answer}."
        return f"The check could not call {question.function}: it stopped with {_error_name(check) or 'an error'}."


def _not_available(bundle: object) -> bool:
    cases = bundle.get("cases") if isinstance(bundle, dict) else None
    return any("NotAvailable" in str(c.get("error"))[:200] for c in cases or [] if isinstance(c, dict))


def _claim(question: Question, bundle: dict) -> str:
    """The first property that does not hold, in the words of the course."""
    same = dict(zip(question.claims, agreeing(bundle, question.expected), strict=True))
    name = next((name for name, holds in same.items() if not holds), None)
    if name is None:
        return "The check did not run as it should."
    case = next((c for c in bundle["cases"] if isinstance(c, dict) and c.get("name") == name), {})
    if isinstance(kinds := case.get("error"), list):
        kind = next(filter(None, map(_python_error, kinds)), "an error")
        return f"{question.function} raised {kind} in this case: “{question.claims[name]}”."
    return f"What does not hold: “{question.claims[name]}”."


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _python_error(name: object) -> str | None:
    """Python's own name of an error; None for one that somebody made up, which is not repeated."""
    found = getattr(builtins, name, None) if isinstance(name, str) else None
    return name if isinstance(found, type) and issubclass(found, BaseException) else None


def _error_name(cell: dict | None) -> str | None:
    name = (cell or {}).get("raised")
    return (_python_error(name) or "an error") if name else None
