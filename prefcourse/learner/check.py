"""`prefcourse check [2 | 2.1 | NOTEBOOK] [--watch]`: the checks of a saved notebook. Knows what to print and when."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from prefcourse.checks.exercise import Exercise
from prefcourse.grading.package_use import package_use
from prefcourse.learner import course
from prefcourse.learner.run import run_checks

if TYPE_CHECKING:
    from nbformat import NotebookNode

NO_POINTS = "It uses the package's own function; in a graded course that earns no points:\n  "


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run the checks of exercise notebooks as they were last saved, in a fresh kernel, offline."
    parser.epilog = "Exit codes: 0 all passed, 1 some did not, 2 there is no such exercise or notebook."
    parser.add_argument(
        "what", nargs="?", metavar="2 | 2.1 | NOTEBOOK", help="a chapter, an exercise, a file; default all"
    )
    parser.add_argument(
        "--watch", action="store_true", help="check again whenever the notebook is saved; Ctrl-C ends it"
    )
    parser.add_argument("--timeout", type=int, default=120, metavar="S", help="seconds a cell may take (default 120)")
    course.add_course(parser)


def main(args: argparse.Namespace) -> int:
    try:
        jobs = find_jobs(args)
        code = check_all(jobs, args.timeout)
        return watch(jobs, args.timeout) if args.watch else code
    except course.CourseError as error:
        print(f"prefcourse check: {error}", file=sys.stderr)
        return 2


def find_jobs(args: argparse.Namespace) -> dict[Path, list[Exercise]]:
    """Notebooks and what to check in each."""
    if not args.what:
        return course.chapters(course.find(args.course))
    path, asked = course.wanted(args.what)
    return {path or course.notebook_of(course.find(args.course), asked[0].chapter): asked}


def check_all(jobs: dict[Path, list[Exercise]], timeout: int) -> int:
    verdicts = [outcome for path, asked in jobs.items() for outcome in check_one(path, asked, timeout)]
    return int(not all(verdicts))


def check_one(path: Path, asked: list[Exercise], timeout: int) -> list[bool]:
    book = course.read(path)
    print(f"{course.shown(path)}, saved {when_saved(path)}\n", flush=True)
    verdicts, used = [], package_functions(book, asked)
    for outcome in run_checks(book, asked, path.parent, timeout):
        pointless = outcome.passed and outcome.number in used
        print(outcome.words + (f"\n{NO_POINTS}{used[outcome.number]}" if pointless else "") + "\n", flush=True)
        verdicts.append(outcome.passed)
    print(f"{sum(verdicts)} of {len(verdicts)} solved", flush=True)
    return verdicts


def package_functions(book: NotebookNode, asked: list[Exercise]) -> dict[str, str]:
    """Exercise -> the package's own function that its answer uses."""
    answers = {e.number: "\n".join(cell.source for cell in course.answer_cells(book, e.number)) for e in asked}
    others = [cell.source for cell in book.cells if cell.cell_type == "code"]
    functions, package = {e.number: e.function for e in asked}, {e.number: e.package for e in asked}
    return package_use(answers, others, functions, package)


def when_saved(path: Path) -> str:
    """A learner who forgot to save should notice."""
    saved = datetime.fromtimestamp(path.stat().st_mtime)
    minutes = int((datetime.now() - saved).total_seconds() // 60)
    if minutes >= 24 * 60:
        return f"{saved:%Y-%m-%d %H:%M}"
    ago = f"{minutes // 60} h {minutes % 60} min ago" if minutes >= 60 else f"{minutes} min ago"
    return f"{saved:%H:%M:%S} ({ago if minutes else 'just now'})"


def watch(jobs: dict[Path, list[Exercise]], timeout: int, pause: float = 0.5) -> int:
    """Until Ctrl-C, which is no failure."""
    seen = {path: saved_at(path) for path in jobs}
    print("\nwatching: save the notebook to check again, Ctrl-C ends", flush=True)
    try:
        while True:
            time.sleep(pause)
            changed = {path: asked for path, asked in jobs.items() if saved_at(path) not in (seen[path], None)}
            if changed:
                seen |= {path: saved_at(path) for path in changed}
                print()
                with_words(changed, timeout)
    except KeyboardInterrupt:
        print("\nstopped watching")
        return 0


def with_words(jobs: dict[Path, list[Exercise]], timeout: int) -> None:
    """A notebook that cannot be read is said, and is no reason to stop watching."""
    try:
        check_all(jobs, timeout)
    except course.CourseError as error:
        print(error, flush=True)


def saved_at(path: Path) -> int | None:
    """None while an editor replaces the file."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
