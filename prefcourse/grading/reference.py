"""The reference of a chapter, made once per batch: its solution, run under the batch's seed by the grading engine.

Nothing is graded with a reference that does not validate: a solution that fails its own checks, disagrees with the
oracle, or cannot be told from a registered mistake under this seed is a defect of the course.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import prefcourse
from prefcourse.checks.run import MIME, VERSION, agreeing, seed_name
from prefcourse.grading import engine
from prefcourse.grading.engine import Settings
from prefcourse.grading.graft import Skeleton, notebook_of, source_of
from prefcourse.grading.nbval_plugin import same_bundle
from prefcourse.grading.strip import stripped_package
from prefcourse.grading.trusted import questions


class CourseDefect(RuntimeError):
    """The course itself is wrong: nothing can be graded with it."""


@dataclass(frozen=True)
class Question:
    """An exercise as the grader knows it: plain data."""

    number: str
    function: str
    points: float
    package: tuple[str, ...]
    claims: dict[str, str]  # case -> the property in words
    sentences: dict[str, str]  # mutant -> what to tell
    expected: dict[str, Any]  # the oracle's bundle
    mutants: dict[str, dict[str, Any]]  # mutant -> bundle


@dataclass(frozen=True)
class Reference:
    """A notebook whose check cells hold what is right, and its questions. Plain data, so that it travels."""

    chapter: str  # the stem of the notebook
    notebook: dict
    questions: dict[str, Question]
    seed: str  # its public name

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def emptied(self) -> list[str]:
        return [name for question in self.questions.values() for name in question.package]


def versions() -> dict[str, str]:
    return {"prefcourse": prefcourse.__version__, "nbval": version("nbval"), "bundle": str(VERSION)}


def make_reference(solution: Path, settings: Settings) -> Reference:
    """CourseDefect, with the reason in words, if it does not validate."""
    try:
        notebook = json.loads(solution.read_text(encoding="utf-8"))
        skeleton = Skeleton(notebook)
        asked = [
            Question(**{**found, "package": tuple(found["package"])})
            for found in questions(chapter_of(solution.stem), settings.seed)
        ]
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise CourseDefect(f"{solution.name}: {error}") from error
    if (numbers := [question.number for question in asked]) != list(skeleton.checks) or not numbers:
        raise CourseDefect(f"{solution.name} checks {list(skeleton.checks)}; the chapter's exercises are {numbers}")
    blank = Reference(
        solution.stem, notebook_of(_emptied(skeleton)), {q.number: q for q in asked}, seed_name(settings.seed)
    )
    recorded = _bundles(blank, skeleton, settings)
    _agree(blank, recorded)
    reference = _with_outputs(blank, skeleton, recorded)
    _bundles(reference, skeleton, settings)
    return reference


def package_for(reference: Reference, settings: Settings) -> Path:
    """The stripped package that this reference's submissions see."""
    emptied = reference.emptied if settings.package == "deny" else []
    directory = Path(settings.directory) if settings.directory else None
    return stripped_package(emptied, chapter_of(reference.chapter), directory)


def chapter_of(stem: str) -> int:
    """02_preference_optimization_overview -> 2. ValueError for a name without a number."""
    return int(stem.partition("_")[0])


def _emptied(skeleton: Skeleton) -> list[dict]:
    """The code cells without outputs; an execution count, because nbval compares nothing without one."""
    return [{**cell, "source": source_of(cell), "outputs": [], "execution_count": 1} for cell in skeleton.cells]


def _bundles(reference: Reference, skeleton: Skeleton, settings: Settings) -> dict[str, dict]:
    """What the checks show when the reference runs. Without outputs nothing is compared, with them everything."""
    ran = engine.run(_compared(reference.notebook), package_for(reference, settings), settings)
    if ran.stopped or not ran.cells:
        raise CourseDefect(f"{reference.chapter}: the solution did not run. {ran.stopped or ran.words[-300:]}")
    wrong = [
        f"{name} {cell['outcome']} {cell['raised'] or ''}"
        for name, cell in ran.cells.items()
        if cell["outcome"] != "passed"
    ]
    if wrong:
        raise CourseDefect(f"{reference.chapter}: in the solution, {', '.join(wrong)}")
    found = {number: ran.cells[identifier]["bundle"] for number, identifier in skeleton.checks.items()}
    if None in found.values():
        raise CourseDefect(f"{reference.chapter}: a check of the solution shows no bundle")
    return found


def _compared(notebook: dict) -> dict:
    """Without the tag that asks for comparison where there is nothing to compare with."""
    cells = [
        cell if cell["outputs"] else {**cell, "metadata": {**cell["metadata"], "tags": []}}
        for cell in notebook["cells"]
    ]
    return {**notebook, "cells": cells}


def _agree(reference: Reference, recorded: dict[str, dict]) -> None:
    """The solution gives what the oracle gives, all of it can be compared, and no registered mistake gives the same."""
    for number, question in reference.questions.items():
        if not all(agreeing(question.expected, question.expected)):
            raise CourseDefect(f"{number}: a case gives a value that cannot be compared")
        if not same_bundle(recorded[number], question.expected):
            raise CourseDefect(f"{number}: the solution and the oracle disagree")
        alike = [name for name, bundle in question.mutants.items() if same_bundle(bundle, question.expected)]
        if alike:
            raise CourseDefect(f"{number}: under this seed {', '.join(alike)} cannot be told from the right answer")


def _with_outputs(reference: Reference, skeleton: Skeleton, recorded: dict[str, dict]) -> Reference:
    number_of = {identifier: number for number, identifier in skeleton.checks.items()}
    cells = []
    for cell in reference.notebook["cells"]:
        if cell["id"] in number_of:
            data = {MIME: recorded[number_of[cell["id"]]], "text/plain": ""}
            output = {"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": data}
            cell = {**cell, "outputs": [output], "metadata": {**cell["metadata"], "tags": ["nbval-check-output"]}}
        cells.append(cell)
    return Reference(reference.chapter, notebook_of(cells), reference.questions, reference.seed)
