"""`prefcourse reset 2.1`: the stub again, in the learner's notebook. Knows cells; a dated copy is kept first."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode, v4

from prefcourse.build.cells import check_call, role, slug, stub
from prefcourse.checks.exercise import Exercise
from prefcourse.learner import course, progress
from prefcourse.learner.files import keep_copy, write_whole


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Make an exercise's answer an empty stub again. A dated copy of the notebook is kept."
    parser.add_argument("number", metavar="2.1", help="the exercise")
    course.add_course(parser)


def main(args: argparse.Namespace) -> int:
    try:
        asked = course.one_exercise(args.number)
        home = course.find(args.course)
        path = course.notebook_of(home, asked.chapter)
        copy = reset(path, asked, course.reference_cell(home, asked).source)
        was_solved = progress.unsolve(asked.number)
    except (course.CourseError, OSError) as error:
        print(f"prefcourse reset: {error}", file=sys.stderr)
        return 2
    print(f"{asked.number} {asked.function} is a stub again in {course.shown(path)}\nwhat you had is in {copy.name}")
    if was_solved:
        print("It counts as unsolved until its check passes again.")
    print("If it is open in JupyterLab: File > Reload Notebook from Disk, before you save it there.")
    return 0


def reset(path: Path, asked: Exercise, solution: str) -> Path:
    """Every cell that answers the exercise is put back, and its check loses its outputs. Where the copy is."""
    book = course.read(path)
    copy = keep_copy(path, "before-reset")
    if not course.answer_cells(book, asked.number):
        book.cells += new_cells(book, asked)
    for cell in book.cells:
        if role(cell) == ("answer", asked.number):
            cell.source = stub(solution, asked.number, asked.function)
        if role(cell)[1] == asked.number and cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    write_whole(path, nbformat.writes(book) + "\n")
    return copy


def new_cells(book: NotebookNode, asked: Exercise) -> list[NotebookNode]:
    """For a notebook whose answer cell was deleted: one at the end, and a check behind it unless there is one."""
    answer = v4.new_code_cell(id=slug("answer", asked.number))
    check = v4.new_code_cell(check_call(asked.number, asked.function), id=slug("check", asked.number))
    answer.metadata.prefcourse = {"role": "answer", "exercise": asked.number}
    check.metadata.prefcourse = {"role": "check", "exercise": asked.number}
    has_check = any(role(cell) == ("check", asked.number) for cell in book.cells)
    return [answer] if has_check else [answer, check]
