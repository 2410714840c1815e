"""`prefcourse next`: the first exercise that is not solved, and where to open it."""

from __future__ import annotations

import argparse
import sys

from prefcourse.learner import course, progress
from prefcourse.learner.status import next_words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "The first exercise that is not solved yet, and where to open it."
    course.add_course(parser)


def main(args: argparse.Namespace) -> int:
    try:
        print(next_words(course.find(args.course), progress.load()))
    except (course.CourseError, OSError) as error:
        print(f"prefcourse next: {error}", file=sys.stderr)
        return 2
    return 0
