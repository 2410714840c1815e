"""The learner's folder: where it is, its notebooks, and the cells of an exercise in them. Runs nothing."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from pathlib import Path
from typing import TYPE_CHECKING

import prefcourse
from prefcourse.build.cells import role
from prefcourse.checks.exercise import Exercise, all_exercises, exercise, exercises_of

if TYPE_CHECKING:
    from nbformat import NotebookNode

OURS = re.compile(r"(\d\d)_[a-z0-9_]+\.ipynb")  # not 02_x.new.ipynb, not 02_x-Copy1.ipynb


class CourseError(Exception):
    """What the learner asked for is not there."""


def course_source() -> Path:
    """The course as it came: inside an installed package, beside the package in a checkout."""
    package = Path(prefcourse.__file__).parent
    for place in (package / "_course", package.parent):
        if (place / "notebooks" / "README.ipynb").is_file():
            return place
    again = "pip install --force-reinstall --no-deps prefcourse"
    raise CourseError(f"this prefcourse came without its notebooks. Install it again: {again}")


def is_checkout(folder: Path) -> bool:
    return (folder / "notebooks" / "source").is_dir() and (folder / "prefcourse").is_dir()


def add_course(parser: ArgumentParser) -> None:
    parser.add_argument("--course", metavar="DIR", help="the course's folder; default: this one or the nearest above")


def find(given: str | None) -> Path:
    """The folder that holds exercises/."""
    here = Path.cwd()
    for folder in [Path(given)] if given else [here, *here.parents]:
        if any((folder / "exercises").glob("*.ipynb")):
            return folder
    where = given or f"{here} or above it"
    raise CourseError(
        f"no folder exercises/ with notebooks in {where}. Go to the course's folder, or give --course DIR"
    )


def shown(path: Path) -> str:
    """As short as it can be typed from here."""
    here = Path.cwd()
    return str(path.resolve().relative_to(here) if path.resolve().is_relative_to(here) else path)


def notebook_of(course: Path, chapter: int, room: str = "exercises") -> Path:
    found = [path for path in sorted((course / room).glob(f"{chapter:02}_*.ipynb")) if OURS.fullmatch(path.name)]
    if not found:
        raise CourseError(f"no notebook of chapter {chapter} in {course / room}")
    return found[0]


def one_exercise(number: str) -> Exercise:
    try:
        return exercise(number)
    except KeyError as error:
        raise CourseError(error.args[0]) from None


def chapters(course: Path) -> dict[Path, list[Exercise]]:
    """The exercise notebooks of a folder. It may be older than the package: what it lacks is left out."""
    books = {int(path.name[:2]): path for path in sorted((course / "exercises").iterdir()) if OURS.fullmatch(path.name)}
    return {path: exercises_of(chapter) for chapter, path in books.items() if exercises_of(chapter)}


def wanted(what: str) -> tuple[Path | None, list[Exercise]]:
    """What "2", "2.1" or the path of a notebook means: a notebook (None: the course's own) and its exercises."""
    if re.fullmatch(r"\d+\.\d+", what):
        return None, [one_exercise(what)]
    if re.fullmatch(r"\d+", what):
        asked = exercises_of(int(what))
        if not asked:
            known = dict.fromkeys(str(e.chapter) for e in all_exercises())
            raise CourseError(f"chapter {what} has no exercises; there are {', '.join(known)}")
        return None, asked
    path = Path(what)
    if not path.is_file():
        raise CourseError(f"{what} is neither a chapter (2), nor an exercise (2.1), nor a notebook that is there")
    numbers = {role(cell)[1] for cell in read(path).cells if role(cell)[0] in ("answer", "check")}
    known = [e for e in all_exercises() if e.number in numbers]
    if not known:
        raise CourseError(f"{what} has no exercises of this course")
    return path, known


def read(path: Path) -> NotebookNode:
    """A notebook as it was last saved."""
    import nbformat  # takes a second

    try:
        return nbformat.reads(path.read_text(encoding="utf-8-sig"), as_version=4)
    except OSError as error:
        raise CourseError(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:  # nbformat has many ways to say that this is no notebook
        raise CourseError(f"{path} is not a notebook that can be read ({type(error).__name__})") from None


def answer_cells(book: NotebookNode, number: str) -> list[NotebookNode]:
    return [cell for cell in book.cells if role(cell) == ("answer", number)]


def reference_cell(course: Path, asked: Exercise) -> NotebookNode:
    """The course's own answer."""
    cells = answer_cells(read(notebook_of(course, asked.chapter, "solutions")), asked.number)
    if not cells:
        raise CourseError(f"the solution of {asked.number} is not in {course / 'solutions'}")
    return cells[0]
