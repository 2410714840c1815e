"""`prefcourse build [CHAPTER ...] [--check]`: notebooks, exercises and solutions from one script per chapter.

Knows files: which notebooks are stale, which must run, and which a learner has worked in.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from prefcourse.build.cells import SourceError, code_cells, digest
from prefcourse.learner import overview
from prefcourse.learner.files import names_beside, write_whole

SOURCES = Path("notebooks/source")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER", help="number, as 02; default all")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a notebook is stale")
    again = "run the notebooks of a room again, though their code is the same, because what it imports has changed"
    figures = "run the long experiments again (those named, or all that are stale), not the notebooks"
    parser.add_argument("--figures", nargs="*", metavar="NAME", help=figures)
    parser.add_argument("--execute", choices=["notebooks", "solutions"], help=again)


def main(args: argparse.Namespace) -> int:
    """0 done, 1 stale (with --check) or a cell failed, 2 no such chapter."""
    try:
        root = course_root()
        if args.figures is not None:
            return figures(args.figures)
        return build(root, scripts(root, args.chapters), only_check=args.check, again=args.execute)
    except SourceError as error:
        print(f"prefcourse build: {error}", file=sys.stderr)
        return 1
    except FileNotFoundError as error:
        print(f"prefcourse build: {error}", file=sys.stderr)
        return 2


def figures(names: list[str]) -> int:
    """Run the experiments of those names, or all that were never run with today's settings."""
    from prefcourse import experiments

    known = {experiment.name: experiment for experiment in experiments.experiments()}
    if unknown := [name for name in names if name not in known]:
        raise FileNotFoundError(f"no experiment {', '.join(unknown)}; there are {', '.join(known)}")
    for name in names or [name for name, experiment in known.items() if experiments.is_stale(experiment)]:
        print(experiments.regenerate(known[name]))
    return 0


def course_root() -> Path:
    """The nearest folder from here upwards that has sources."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / SOURCES).is_dir():
            return folder
    raise FileNotFoundError(f"no {SOURCES} in {here} or above it: build works in a checkout of the course")


def scripts(root: Path, chapters: list[str]) -> list[Path]:
    every = sorted((root / SOURCES).glob("*.py"))
    chosen = [script for script in every if script.stem.startswith(tuple(chapters) or "")]
    if not chosen:
        raise FileNotFoundError(f"no script begins with {' or '.join(chapters)}; there are {[s.stem for s in every]}")
    return chosen


def build(root: Path, chosen: list[Path], *, only_check: bool = False, again: str | None = None) -> int:
    from prefcourse.build.script import notebooks  # jupytext is needed here only

    made = {root / path: book for script in chosen for path, book in notebooks(script).items()}
    stale = 0
    for path, book in made.items():  # the map comes last, when the chapters that it shows are made
        if is_room(path, again) or is_stale(path, book):
            stale += 1
            print(f"stale: {path.relative_to(root)}" if only_check else f"making {path.relative_to(root)}", flush=True)
            if not only_check:
                make(path, book, again=is_room(path, again) or path.name == overview.FILE)
    if not stale:
        print("all notebooks are up to date")
    return int(only_check and bool(stale))


def is_room(path: Path, room: str | None) -> bool:
    return path.parent.name == room


def is_stale(path: Path, book: NotebookNode) -> bool:
    """The committed notebook is not what its script gives, or was not run to its end."""
    committed = read(path)
    if committed is None:
        return True
    if is_room(path, "exercises"):
        return as_text(committed) != as_text(book)
    if path.name == overview.FILE and not overview.is_of_today(path):
        return True
    not_run = any(not cell.execution_count for cell in code_cells(committed))
    return not_run or as_text(without_outputs(committed)) != as_text(book)


def make(path: Path, book: NotebookNode, *, again: bool) -> None:
    from prefcourse.build.execute import execute

    path.parent.mkdir(exist_ok=True)
    if is_room(path, "exercises"):
        path = free_place(path)
    elif again or not keep_outputs(book, read(path)):
        execute(book, path.parent)
    write_whole(path, as_text(book))


def free_place(path: Path) -> Path:
    """Where an exercise notebook may be written: never over one that somebody has written in."""
    for place in names_beside(path):
        there = read(place)
        if there is None or there.metadata.get("prefcourse", {}).get("made") == digest(there.cells):
            if place != path:
                print(f"  {path.name} holds somebody's work and stays; the new one is {place.name}")
            return place


def keep_outputs(book: NotebookNode, committed: NotebookNode | None) -> bool:
    """Where only text changed, the outputs of the last run are those of the next. True if they could be kept."""
    if committed is None:
        return False
    ran, code = code_cells(committed), code_cells(book)
    same_code = [(cell.id, cell.source) for cell in ran] == [(cell.id, cell.source) for cell in code]
    if not same_code or not all(cell.execution_count for cell in ran) or cases(committed) != cases(book):
        return False
    for cell, old in zip(code, ran, strict=True):
        cell.outputs, cell.execution_count = old.outputs, old.execution_count
    return True


def cases(book: NotebookNode) -> str | None:
    return book.metadata.get("prefcourse", {}).get("cases")


def read(path: Path) -> NotebookNode | None:
    try:
        return nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
    except FileNotFoundError:
        return None


def as_text(book: NotebookNode) -> str:
    return nbformat.writes(book) + "\n"


def without_outputs(book: NotebookNode) -> NotebookNode:
    bare = nbformat.from_dict(book)
    for cell in code_cells(bare):
        cell.outputs, cell.execution_count = [], None
    return bare
