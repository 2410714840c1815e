"""`prefcourse hint 2.1 [--reveal]`: one more hint each time, the solution on request. Knows what was read already."""

from __future__ import annotations

import argparse
import sys
import textwrap

from prefcourse.checks.exercise import Exercise, answers
from prefcourse.learner import course, progress

WIDTH = 88
WARNING = "This is the solution. Read on only if you are done trying: what you find yourself, you keep."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "One more hint each time; once the exercise is solved, the course's solution for comparison."
    parser.add_argument("number", metavar="2.1", help="the exercise")
    parser.add_argument("--reveal", action="store_true", help="show the solution")
    course.add_course(parser)


def main(args: argparse.Namespace) -> int:
    try:
        asked = course.one_exercise(args.number)
        solved = "solved" in progress.load().get(asked.number, {})
        show = for_comparison if solved else reveal if args.reveal else one_more
        show(asked, args.course)
        return 0
    except (course.CourseError, OSError) as error:
        print(f"prefcourse hint: {error}", file=sys.stderr)
        return 2


def for_comparison(asked: Exercise, given_course: str | None) -> None:
    source = course.reference_cell(course.find(given_course), asked).source
    print(f"{asked.number} is solved. For comparison, the course's own solution:\n\n{source}")


def reveal(asked: Exercise, given_course: str | None) -> None:
    source = course.reference_cell(course.find(given_course), asked).source
    progress.update(asked.number, lambda record: record.setdefault("revealed", progress.now()))
    print(f"{WARNING}\n\n{source}")


def one_more(asked: Exercise, _: str | None) -> None:
    """Those read before, and the next one."""
    ladder = answers(asked.number).hints

    def change(record: dict) -> None:
        record["hints"] = min(record.get("hints", 0) + 1, len(ladder))

    read_before = progress.load().get(asked.number, {}).get("hints", 0)
    read = progress.update(asked.number, change)["hints"]
    print(f"{asked.number} {asked.function}")
    for step, text in enumerate(ladder[:read], start=1):
        print(f"\nhint {step} of {len(ladder)}")
        print(textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False))
    if read_before >= len(ladder):
        print(f"\nThose are all the hints. `prefcourse hint {asked.number} --reveal` shows the solution.")
