"""`prefcourse new exercise 2.6 my_function`: lays what an exercise consists of. Knows places, no content.

It runs, but build and tests refuse it until cases, oracle, mutants, alternatives and hints are there.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from pathlib import Path

import prefcourse.exercises
from prefcourse.build.cells import slug
from prefcourse.build.command import SOURCES, course_root
from prefcourse.checks.exercise import exercises_of
from prefcourse.learner.course import shown
from prefcourse.learner.files import write_whole

PRACTICE = """\
# %% [exercises]
# %% [markdown] title
# # {chapter} · Exercises
#
# What they are about, and what a learner can do afterwards.

# %% setup
from prefcourse.checks import NotWritten, check

"""
CELLS = '''\
# %% [markdown] {question}
# **What is the quantity that `{function}` returns?**
#
# - The degenerate case, and what to return for it.
#
# By hand first: an example small enough for paper.


# %% {answer}
def {function}(numbers: list[float]) -> float:
    """The question in one sentence, with its degenerate case."""
    raise NotImplementedError("{number}: the solution is not written yet")


'''
PLACEHOLDERS = (  # of the two texts above; the build refuses them
    "What they are about, and what a learner can do afterwards.",
    "What is the quantity that `{function}` returns?",
    "The degenerate case, and what to return for it.",
    "By hand first: an example small enough for paper.",
    "The question in one sentence, with its degenerate case.",
)
EXERCISE = """

EXERCISES.append(
    Exercise(
        number="{number}",
        function="{function}",
        points=2,
        minutes=10,
        difficulty="medium",
        cases=(),  # Case("a-slug", "the property in words", fixed([1.0, 2.0])), ...
    )
)
"""
ANSWER = '''

def {oracle}(numbers: list[float]) -> float:
    """By another road than the solution's: a closed form, or enumeration."""
    raise NotImplementedError("{number}: the oracle is not written yet")


ANSWERS["{number}"] = Answers(
    oracle={oracle},
    mutants=(),  # Mutant("a-slug", "the sentence for whoever made this mistake", a_wrong_function), ...
    alternatives=(),  # right functions, written differently
    hints=(),  # a nudge; the formula or shape; where in the chapter
)
'''
DEFINITIONS = """\
\"\"\"The exercises of chapter {chapter}: what is asked, on which cases. Knows no answers.\"\"\"

from __future__ import annotations

from prefcourse.checks.exercise import Exercise

EXERCISES: list[Exercise] = []
"""
ANSWERS = """\
\"\"\"Answers of chapter {chapter}: oracles, wrong answers with their sentences, other right answers, hints.\"\"\"

from __future__ import annotations

from prefcourse.checks.exercise import Answers

ANSWERS: dict[str, Answers] = {{}}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Write the cells and the definition of a new exercise; CONTRIBUTING.md says what comes next."
    parser.add_argument("what", choices=["exercise"])
    parser.add_argument("number", metavar="2.6", help="chapter and place in it")
    parser.add_argument("function", metavar="FUNCTION", help="the name of the function asked for")


def main(args: argparse.Namespace) -> int:
    try:
        changed = lay_exercise(course_root(), args.number, args.function)
    except (ValueError, OSError) as error:
        print(f"prefcourse new: {error}", file=sys.stderr)
        return 2
    print("written; fill in, in this order:", *map(shown, changed), sep="\n  ")
    print(f"then: prefcourse build {args.number.partition('.')[0].zfill(2)}")
    return 0


def lay_exercise(root: Path, number: str, function: str) -> list[Path]:
    """All three texts are made before one is written."""
    chapter = chapter_of(number, function)
    found = sorted((root / SOURCES).glob(f"{chapter:02}_*.py"))
    if not found:
        raise ValueError(f"no lesson {SOURCES}/{chapter:02}_*.py; an exercise needs one")
    names = {"number": number, "function": function, "chapter": chapter, "oracle": f"oracle_{number.replace('.', '_')}"}
    names |= {kind: slug(kind, number) for kind in ("question", "answer")}
    package = Path(prefcourse.exercises.__path__[-1]) / f"chapter{chapter:02}"
    texts = {
        found[0]: with_cells(found[0].read_text(encoding="utf-8"), names),
        package / "__init__.py": extended(package / "__init__.py", DEFINITIONS, EXERCISE, "Exercise", names),
        package / "answers.py": extended(package / "answers.py", ANSWERS, ANSWER, "Answers", names),
    }
    for path, text in texts.items():
        write_whole(path, text)
    return list(texts)


def chapter_of(number: str, function: str) -> int:
    if not re.fullmatch(r"\d+\.\d+", number) or not function.isidentifier():
        raise ValueError(f"found {number} {function}; expected a number and a name such as 2.6 my_function")
    chapter = int(number.partition(".")[0])
    for there in exercises_of(chapter):
        if number == there.number or function == there.function:
            raise ValueError(f"{there.number} {there.function} exists")
    return chapter


def with_cells(script: str, names: dict) -> str:
    """Behind the last answer, so that exercises stay together; at the end of a script without any."""
    if "\n# %% [exercises]\n" not in script:
        script = script.rstrip("\n") + "\n\n" + PRACTICE.format_map(names)
    answers = list(re.finditer(r"^# %% answer-.*?(?=^# %% |\Z)", script, re.MULTILINE | re.DOTALL))
    place = answers[-1].end() if answers else len(script)
    before, after = script[:place].rstrip("\n"), script[place:]
    gap = "\n\n\n" if answers else "\n\n"  # two empty lines behind a function, as ruff lays them out
    return before + gap + CELLS.format_map(names).rstrip("\n") + "\n" + (f"\n\n{after}" if after else "")


def extended(path: Path, beginning: str, addition: str, needs: str, names: dict) -> str:
    text = path.read_text(encoding="utf-8") if path.exists() else beginning.format_map(names)
    imports = [node for node in ast.parse(text).body if isinstance(node, ast.ImportFrom | ast.Import)]
    known = {alias.asname or alias.name for node in imports for alias in node.names}
    lines = text.splitlines()
    if needs not in known:
        lines.insert(imports[-1].end_lineno if imports else 1, f"from prefcourse.checks.exercise import {needs}")
    return "\n".join(lines) + "\n" + addition.format_map(names)
