"""What a check cell shows: `check("2.1", agreement_rate)`.

In learner's mode a verdict in words, at once. Under the environment variable PREFCOURSE_SEED only what was
recorded: there, answers do not exist, and a grader outside judges. Knows no answers but by their interface.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from prefcourse.checks import exercise as definitions
from prefcourse.checks.exercise import PUBLIC, Exercise
from prefcourse.checks.origin import leads_to
from prefcourse.checks.run import MIME, Run, agreeing, empty_bundle, expected_bundles, run_cases
from prefcourse.checks.values import encode, kind_in_words
from prefcourse.checks.verdict import Verdict, Words, as_html, as_text, judge, mistake, words

HOOKS = "prefcourse.learner.hooks"  # imported, if it is there, before the first verdict; may fill what follows
NOT_CALLED = re.compile(r"TypeError: [^ ]+\(\) (got an unexpected|got multiple|got some|missing \d|takes )")
on_verdict: list[Callable[[str, bool, int], None]] = []  # called with number, passed, points


class Report:
    """What the cell shows. `passed` and `verdict` are None in graded mode: nothing was judged."""

    def __init__(self, run: Run, text: str, html: str | None = None, verdict: Verdict | None = None):
        self.run, self.text, self.html, self.verdict = run, text, html, verdict
        self.passed = verdict and verdict.passed

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        data = {"text/plain": self.text, MIME: self.run.bundle}
        said = {name: words for name, words in self.run.said.items() if words}
        return data | ({"text/html": self.html} if self.html else {}), {MIME: {"said": said}} if said else {}


def check(number: str, function: Callable) -> Report:
    """Call your function on the cases of an exercise and show which properties hold.

    Of the first case that fails you see the inputs, what your function gave and what is right.
    """
    secret = os.environ.get("PREFCOURSE_SEED")
    seed = secret or PUBLIC
    exercise, slip = _asked(number, function)
    if slip:
        return _misused(number, exercise, slip, seed)
    run = run_cases(exercise, function, seed)
    if secret:
        if found := leads_to(function, exercise.package):
            run.bundle["package"] = found
        return Report(run, f"{number} {exercise.function}: {len(run.bundle['cases'])} cases recorded")
    return _judged(exercise, function, run)


def _judged(exercise: Exercise, function: Callable, run: Run) -> Report:
    bundles, answers = expected_bundles(exercise.number, mutants=False), definitions.answers(exercise.number)
    if "state" not in run.bundle and not all(agreeing(run.bundle, bundles["oracle"])):
        bundles = expected_bundles(exercise.number)  # only a mistake is compared with the known ones: they take time
    verdict = judge(exercise, run.bundle, bundles)
    call = None if verdict.first is None else exercise.calls()[verdict.first]
    guess = _other_function(exercise, function) or _other_parameters(verdict, run, answers.oracle)
    guess = guess or mistake(verdict, answers)
    told = words(verdict, run.bundle, bundles["oracle"], call, run.said, guess)
    _tell(exercise.number, verdict.passed, exercise.points)
    reference = reference_source(exercise.number) if verdict.passed else None
    return Report(run, as_text(told), as_html(told, reference or ""), verdict)


# --- calls that cannot be meant -----------------------------------------------------------------------------


def _asked(number: str, function: Callable) -> tuple[Exercise | None, str]:
    """The exercise, and what is wrong with the call, if anything is."""
    if callable(number) and isinstance(function, str):
        return None, f'the number comes first: check("{function}", {getattr(number, "__name__", "your_function")})'
    if not isinstance(number, str):
        return None, f'the number is of type {type(number).__name__}, not a string. Write check("2.1", agreement_rate)'
    try:
        exercise = definitions.exercise(number)
    except KeyError as error:
        return None, f'{error.args[0]}. Write check("2.1", agreement_rate)'
    if not callable(function):
        way = f'Pass the function itself, without brackets: check("{number}", {exercise.function})'
        return exercise, f"expected a function, found {kind_in_words(encode(function)).partition(':')[0]}. {way}"
    return exercise, ""


def _misused(number: object, exercise: Exercise | None, slip: str, seed: str) -> Report:
    name = f"{exercise.number} {exercise.function}" if exercise else "check"
    run = Run(empty_bundle(str(number)[:20] if isinstance(number, str) else "", seed, "not a function"), {})
    told = Words(f"{name}: {slip}", False)
    return Report(run, as_text(told), as_html(told), Verdict(exercise, "not a function") if exercise else None)


def _other_function(exercise: Exercise, function: Callable) -> str:
    """A sentence, if the function bears the name of another exercise's."""
    name = getattr(function, "__name__", None)
    for other in definitions.exercises_of(exercise.chapter):
        if name == other.function != exercise.function:
            return f"This is {name}, the function of {other.number}; {exercise.number} asks for {exercise.function}."
    return ""


def _other_parameters(verdict: Verdict, run: Run, oracle: Callable) -> str:
    """A sentence, if the function could not even be called; the oracle has the stub's parameters."""
    message = "" if verdict.first is None else run.said["messages"].get(verdict.exercise.cases[verdict.first].name, "")
    if not NOT_CALLED.match(message) or "(line " in message:  # with a line: a call inside the function
        return ""
    names = f"{verdict.exercise.function}{inspect.signature(oracle)}"
    return f"The check could not call it. Keep the parameters' names and order as in the stub: {names}"


# --- what may be there beside the checks --------------------------------------------------------------------


def reference_source(number: str) -> str | None:
    """The source of the answer cell in solutions/, here or beside this folder; None in solutions/ itself, where
    the answer stands in view."""
    here, chapter = Path.cwd(), number.partition(".")[0].zfill(2)
    if here.name == "solutions":
        return None
    with suppress(Exception):  # a solution that cannot be read is no reason for a check to fail
        found = (path for folder in (here, here.parent) for path in folder.glob(f"solutions/{chapter}_*.ipynb"))
        for notebook in found:
            for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
                if {"role": "answer", "exercise": number}.items() <= cell["metadata"].get("prefcourse", {}).items():
                    return "".join(cell["source"])
    return None


def _tell(number: str, passed: bool, points: int) -> None:
    """Whoever keeps progress may listen; none of that may make a check fail."""
    with suppress(Exception):
        importlib.import_module(HOOKS)
    for listener in on_verdict:
        with suppress(Exception):
            listener(number, passed, points)
