"""What an exercise must have before it is built. Counts, and knows what `new` laid; whether it is true, tests say."""

from __future__ import annotations

import re

from prefcourse.build.cells import slug
from prefcourse.build.command import SOURCES, course_root
from prefcourse.build.new import PLACEHOLDERS
from prefcourse.checks.exercise import Answers, Exercise

LEAST = {"mutants": 3, "alternatives": 2, "hints": 3}


def missing(exercise: Exercise, answers: Answers) -> str:
    """In words, for the author; empty when nothing is missing."""
    counts = {name: len(getattr(answers, name)) for name in LEAST}
    short = [f"{counts[name]} {name} of at least {least}" for name, least in LEAST.items() if counts[name] < least]
    if not exercise.cases:
        short.insert(0, "no cases")
    short += [f'its script still says "{sentence}"' for sentence in placeholders(exercise)]
    return f"exercise {exercise.number} is not finished: {', '.join(short)}" if short else ""


def placeholders(exercise: Exercise) -> list[str]:
    """The sentences of `prefcourse new` that still stand in its cells, or above the exercises."""
    cells = "|".join(["title", *(slug(kind, exercise.number) for kind in ("question", "answer"))])
    scripts = (course_root() / SOURCES).glob(f"{exercise.chapter:02}_*.py")
    pattern = re.compile(rf"^# %% (?:\[markdown\] )?(?:{cells})\b(?!-).*?(?=^# %% |\Z)", re.MULTILINE | re.DOTALL)
    texts = "".join(text for script in scripts for text in pattern.findall(script.read_text(encoding="utf-8")))
    return [said for sentence in PLACEHOLDERS if (said := sentence.format(function=exercise.function)) in texts]
