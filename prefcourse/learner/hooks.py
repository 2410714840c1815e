"""What a check tells to progress. Imported by the checks before their first verdict, so it must be quick and quiet."""

from __future__ import annotations

import os
from pathlib import Path

from prefcourse.checks import cell

NOT_A_LEARNER = ("CI", "PYTEST_CURRENT_TEST", "PYTEST_VERSION", "PREFCOURSE_SEED")  # a build, a test, a grader


def somebody_learns() -> bool:
    return not any(os.environ.get(name) for name in NOT_A_LEARNER)


def count(number: str, passed: bool, points: int) -> None:
    in_solutions = Path.cwd().name == "solutions"  # whoever runs the solved notebook solved nothing
    if somebody_learns() and not in_solutions:
        from prefcourse.learner import progress

        progress.record_verdict(number, passed)


cell.on_verdict.append(count)
