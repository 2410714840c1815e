"""What only a trusted process may know: the exercises of a chapter, what their oracles and their mutants give.

    python -I -m prefcourse.grading.trusted 2 < seed

A process of its own, so that the grader never imports what a chapter's exercises need, and so that the seed is in no
command line. Prints JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys

from prefcourse.checks import exercise as definitions
from prefcourse.checks.run import expected_bundles


def questions(chapter: int, seed: str) -> list[dict]:
    """Of each exercise what grading needs. ValueError with the other process's last line if it fails."""
    command = [sys.executable, "-I", "-m", __name__, str(chapter)]
    run = subprocess.run(command, input=seed, capture_output=True, text=True)
    if run.returncode:
        raise ValueError(f"the exercises of chapter {chapter} do not load: {(run.stderr.splitlines() or ['?'])[-1]}")
    return json.loads(run.stdout)


def _question(exercise: definitions.Exercise, seed: str) -> dict:
    bundles = expected_bundles(exercise.number, seed)
    return {
        "number": exercise.number,
        "function": exercise.function,
        "points": exercise.points,
        "package": exercise.package,
        "claims": {case.name: case.claim for case in exercise.cases},
        "sentences": {mutant.name: mutant.sentence for mutant in definitions.answers(exercise.number).mutants},
        "expected": bundles.pop("oracle"),
        "mutants": bundles,
    }


if __name__ == "__main__":
    secret = sys.stdin.read()
    print(json.dumps([_question(exercise, secret) for exercise in definitions.exercises_of(int(sys.argv[1]))]))
