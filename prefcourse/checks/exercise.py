"""What an exercise is: the cases of its question, and, kept apart, its answers. Knows no notebooks and no models.

An `Exercise` is all that a place needs where submissions run: it draws inputs and says how to call the function.
`Answers` (oracle, mutants, alternatives) never lie where submissions run.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

PUBLIC = "public"  # the seed of whoever has no secret one


class NotWritten(NotImplementedError):
    """The function is still the stub that came with the exercise."""

    def __init__(self, name: str):
        super().__init__(f"{name} is not written yet. Write its body, run its cell, then check again.")

    def _render_traceback_(self) -> list[str]:  # what Jupyter shows: the sentence, not the way to it
        return [f"NotWritten: {self}"]


class NotAvailable(RuntimeError):
    """A function of the package that answers an exercise, called where that exercise is graded."""


class Call(NamedTuple):
    """What a function is called with."""

    args: tuple
    settings: dict = {}


class Tolerance(NamedTuple):
    """Two numbers are equal if |a - b| <= absolute + relative * |b|; nan equals nan, inf equals inf.

    Values are recorded with 8 digits, so `relative` below 2e-7 counts as 2e-7.
    """

    relative: float = 0.0
    absolute: float = 1e-6


@dataclass(frozen=True)
class Case:
    """One call of the learner's function, and the property that it tests."""

    name: str  # a slug, unique in the exercise; part of the seed
    claim: str  # the property in words; cases that share it are judged together
    draw: Callable[[random.Random], Call]
    tolerance: Tolerance = Tolerance()
    teach: bool = True  # show what was expected when it fails


def fixed(*args, **settings) -> Callable[[random.Random], Call]:
    """The draw of a case that is the same under every seed."""
    return lambda draw: Call(args, settings)


def directly(function: Callable, call: Call) -> Any:
    return function(*call.args, **call.settings)


def and_inputs(function: Callable, call: Call) -> dict:
    """The `apply` of an exercise that asks to leave the inputs alone: what they are afterwards counts, too."""
    return {"returned": directly(function, call), "inputs afterwards": call.args}


@dataclass(frozen=True)
class Exercise:
    """A question: which function, worth what, tested on which cases."""

    number: str  # "2.1"
    function: str  # the name of the function asked for
    points: int
    minutes: int
    difficulty: str  # "easy", "medium", "hard"
    cases: tuple[Case, ...]
    apply: Callable[[Callable, Call], Any] = directly  # losses add gradients to what is returned: see tensors.py
    package: tuple[str, ...] = ()  # "prefcourse.agreement:fleiss_kappa": what answers it, blanked while grading

    @property
    def chapter(self) -> int:
        return int(self.number.partition(".")[0])

    def calls(self, seed: str = PUBLIC) -> list[Call]:
        """The inputs of every case, from a generator of its own (seed, exercise, case)."""
        return [case.draw(random.Random(f"{seed}/{self.number}/{case.name}")) for case in self.cases]


class Mutant(NamedTuple):
    """A plausible wrong answer, as code, and the sentence for somebody whose function behaves like it."""

    name: str  # a slug, unique in the exercise
    sentence: str
    function: Callable


@dataclass(frozen=True)
class Answers:
    """What must not lie where submissions run."""

    oracle: Callable  # the expected values, from another road than the solution's
    mutants: tuple[Mutant, ...]
    alternatives: tuple[Callable, ...]  # right answers written differently; all must pass
    hints: tuple[str, ...]  # nudge, formula or shape, pointer into the chapter


def _chapter_module(chapter: int, part: str = ""):
    return importlib.import_module(f"prefcourse.exercises.chapter{chapter:02}{part}")


def exercises_of(chapter: int) -> list[Exercise]:
    """In the order of their numbers; an empty list for a chapter without exercises."""
    try:
        return list(_chapter_module(chapter).EXERCISES)
    except ModuleNotFoundError as error:
        if error.name != f"prefcourse.exercises.chapter{chapter:02}":
            raise
        return []


def exercise(number: str) -> Exercise:
    """The exercise of that number; KeyError with the numbers there are. Loads only its chapter: not all need torch."""
    chapter = number.partition(".")[0]
    here = exercises_of(int(chapter)) if chapter.isdecimal() else []
    found = next((exercise for exercise in here if exercise.number == number), None)
    if found is None:
        known = ", ".join(exercise.number for exercise in here or all_exercises())
        raise KeyError(f"there is no exercise {number[:40]!r}; there are {known}")
    return found


def all_exercises() -> list[Exercise]:
    return [e for chapter in range(1, 25) for e in exercises_of(chapter)]


def answers(number: str) -> Answers:
    """Oracle, mutants and hints. ModuleNotFoundError where submissions run: there they do not exist."""
    return _chapter_module(exercise(number).chapter, ".answers").ANSWERS[number]
