"""What a check in JupyterLab tells to progress. Knows when a verdict is a learner's own; silent in every case."""

from __future__ import annotations

import os

NOT_A_LEARNER = ("CI", "PYTEST_CURRENT_TEST", "PYTEST_VERSION", "PREFCOURSE_SEED")  # a build, a test, a grader


def verdict(number: str, passed: bool) -> None:
    """Count it. A disk that is full or read-only must not spoil a check."""
    if any(os.environ.get(name) for name in NOT_A_LEARNER):
        return
    try:
        from prefcourse.learner import progress

        progress.record_verdict(number, passed)
    except (OSError, ImportError):
        pass
