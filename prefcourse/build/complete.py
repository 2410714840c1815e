"""What an exercise must have before it is built. Counts; whether it is true, the tests say."""

from __future__ import annotations

from prefcourse.checks.exercise import Answers, Exercise

LEAST = {"mutants": 3, "alternatives": 2, "hints": 3}


def missing(exercise: Exercise, answers: Answers) -> str:
    """In words, for the author; empty when nothing is missing."""
    counts = {name: len(getattr(answers, name)) for name in LEAST}
    short = [f"{counts[name]} {name} of at least {least}" for name, least in LEAST.items() if counts[name] < least]
    if not exercise.cases:
        short.insert(0, "no cases")
    return f"exercise {exercise.number} is not finished: {', '.join(short)}" if short else ""
