"""`prefcourse status`: every chapter, what is solved in it, and what comes next. Knows records, runs nothing."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from prefcourse.checks.exercise import Exercise
from prefcourse.learner import course, overview, progress

LAYOUT = "  {:<50}{:>8}{:>10}{:>8}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "All chapters: exercises solved, points, hints read, and what comes next."
    course.add_course(parser)


def main(args: argparse.Namespace) -> int:
    try:
        home, records = course.find(args.course), progress.load()
    except (course.CourseError, OSError) as error:
        print(f"prefcourse status: {error}", file=sys.stderr)
        return 2
    print(LAYOUT.format("chapter", "solved", "points", "hints"))
    titles = {chapter.file: chapter.title for chapter in overview.chapters(home)}
    for path, asked in course.chapters(home).items():
        print(chapter_line(path, titles.get(path.name), asked, records))
    print(f"\n{next_words(home, records)}\nprogress is kept in {progress.path()}")
    return 0


def chapter_line(path: Path, title: str | None, asked: list[Exercise], records: dict[str, dict]) -> str:
    mine = {e.number: records.get(e.number, {}) for e in asked}
    done = [e for e in asked if "solved" in mine[e.number]]
    points = f"{sum(e.points for e in done)}/{sum(e.points for e in asked)}"
    name = f"{int(path.name[:2]):>2}  {title or path.stem[3:].replace('_', ' ')}"
    return LAYOUT.format(name, f"{len(done)}/{len(asked)}", points, sum(r.get("hints", 0) for r in mine.values()))


def next_words(home: Path, records: dict[str, dict]) -> str:
    """The first exercise that is not solved, and where it is."""
    for path, asked in course.chapters(home).items():
        for e in asked:
            if "solved" not in records.get(e.number, {}):
                about = f"{e.difficulty}, {e.minutes} minutes, points: {e.points}"
                where = f"  open   {course.shown(path)}\n  then   prefcourse check {e.number}"
                return f"next: {e.number} {e.function} ({about})\n{where}"
    return "All exercises are solved."
