"""From the script of a chapter to its notebooks, not yet executed. Knows cells; what they compute it need not know.

A script is in jupytext's percent format: `# %% name` begins a code cell, `# %% [markdown] name` a text cell in
comments, and the name becomes the cell's id. `# %% [exercises]` ends the lesson. Behind it an author writes two cells
per exercise, `question-2-1` (text) and `answer-2-1` (the function); headings, hints and checks come from
prefcourse.exercises. Where the answer says no more than `from prefcourse.agreement import cohen_kappa`, the package is
the solution: its source is laid there, with the helpers that it needs of its module and no cell before has imported.
{{published:NAME}} becomes a number of published.toml, with its source, {{glossary}} the terms of glossary.toml.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import jupytext
from nbformat import NotebookNode, v4

from prefcourse.build.cells import (
    SourceError,
    bound,
    check_call,
    digest,
    in_package,
    marker,
    package_source,
    role,
    slug,
    stub,
)
from prefcourse.build.complete import missing
from prefcourse.checks import exercise as exercises
from prefcourse.glossary import with_terms
from prefcourse.published import with_numbers

PRACTICE = "\n# %% [exercises]\n"
NAME = re.compile(r"[a-z0-9-]+")
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
NOT_FOR_NOTEBOOKS = ("title", "lines_to_next_cell")


def notebooks(script: Path) -> dict[Path, NotebookNode]:
    """Every notebook that comes from a script, by its place in the course."""
    text = with_terms(script.read_text(encoding="utf-8"), lessons_beside(script))
    lesson, _, practice = text.partition(PRACTICE)
    name = f"{script.stem}.ipynb"
    try:
        made = {Path("notebooks", name): notebook([clean(cell) for cell in read(lesson)])}
        if practice:
            asked, solved = both_rooms(read(practice), int(script.stem[:2]))
            made[Path("exercises", name)] = notebook(asked, made=digest(asked))
            made[Path("solutions", name)] = notebook(solved, cases=cases_digest(int(script.stem[:2])))
    except (SourceError, SyntaxError, KeyError) as error:
        raise SourceError(f"{script.name}: {error.args[0] if error.args else error}") from error
    return made


def lessons_beside(script: Path) -> dict[int, str]:
    """Chapter -> its notebook, of all scripts in this one's folder."""
    return {int(path.stem[:2]): f"{path.stem}.ipynb" for path in sorted(script.parent.glob("[0-9][0-9]_*.py"))}


def read(script: str) -> list[NotebookNode]:
    """The named cells of a script; comments before the first are for the reader of the script only."""
    cells = jupytext.reads(with_numbers(script), fmt="py:percent").cells
    cells = cells[1:] if cells and "title" not in cells[0].metadata else cells
    for before, cell in zip([None, *cells], cells, strict=False):
        cell.id = cell.metadata.get("title", "")
        if not NAME.fullmatch(cell.id):
            place = f"the cell after `{before.id}`" if before else "the first cell"
            raise SourceError(f"{place} is named {cell.id!r}; expected a name such as `# %% two-answers`")
    return cells


def clean(cell: NotebookNode, **more) -> NotebookNode:
    kept = {key: value for key, value in cell.metadata.items() if key not in NOT_FOR_NOTEBOOKS} | more
    new = v4.new_code_cell if cell.cell_type == "code" else v4.new_markdown_cell
    return new(cell.source, id=cell.id, metadata=kept)


def notebook(cells: list[NotebookNode], **ours: str) -> NotebookNode:
    ids = [cell.id for cell in cells]  # before nbformat, which renames the second of two
    if twice := {name for name in ids if ids.count(name) > 1}:
        raise SourceError(f"two cells are named {' and two '.join(sorted(twice))}; a name is an id, to be used once")
    return v4.new_notebook(cells=cells, metadata=METADATA | ({"prefcourse": ours} if ours else {}))


def cases_digest(chapter: int) -> str:
    """Changes with the cases: then a check shows other values, and the solutions must run again."""
    cases = importlib.util.find_spec(f"prefcourse.exercises.chapter{chapter:02}")
    if cases is None:
        raise SourceError(f"there are no exercises of chapter {chapter}; see `prefcourse new exercise`")
    return hashlib.sha256(Path(cases.origin).read_bytes()).hexdigest()[:16]


# --- exercises ----------------------------------------------------------------------------------------------


def both_rooms(cells: list[NotebookNode], chapter: int) -> tuple[list[NotebookNode], list[NotebookNode]]:
    """The cells of the exercise notebook, and the same with answers."""
    named = {cell.id for cell in cells}
    for exercise in exercises.exercises_of(chapter):
        if unfinished := missing(exercise, exercises.answers(exercise.number)):
            raise SourceError(unfinished)
        for cell in (slug("question", exercise.number), slug("answer", exercise.number)):
            if cell not in named:
                raise SourceError(f"exercise {exercise.number} has no cell `{cell}`")
    solved = [made for place, cell in enumerate(cells) for made in with_company(cell, cells[:place])]
    return [asked(cell) for cell in deepcopy(solved)], solved


def names_given(cells: list[NotebookNode]) -> set[str]:
    """What these cells import and define, answers left out."""
    given = (cell.source for cell in cells if cell.cell_type == "code" and role(cell)[0] == "given")
    return {name for source in given for name in bound(source)}


def with_company(cell: NotebookNode, before: list[NotebookNode]) -> Iterator[NotebookNode]:
    """The cell, complete, and the hints or the check that follow it."""
    kind, number = role(cell)
    if kind in ("hints", "check"):
        raise SourceError(f"`{cell.id}` is made by the build; leave it out of the script")
    if kind == "given":
        yield clean(cell, **({"prefcourse": {"role": "given"}} if cell.cell_type == "code" else {}))
        return
    exercise = exercises.exercise(number)
    if kind == "question":
        yield v4.new_markdown_cell(f"{heading(exercise)}\n\n{cell.source}", id=cell.id)
        yield v4.new_markdown_cell(hints(number), id=slug("hints", number))
        return
    where = in_package(cell.source, exercise.function)
    solution = package_source(where, names_given(before)) if where else cell.source
    cell.source = marker(number, exercise.function) + solution
    yield clean(cell, prefcourse={"role": "answer", "exercise": number})
    metadata = {"prefcourse": {"role": "check", "exercise": number}, "tags": ["nbval-check-output"]}
    yield v4.new_code_cell(check_call(number, exercise.function), id=slug("check", number), metadata=metadata)


def heading(exercise: exercises.Exercise) -> str:
    points = f"{exercise.points} point{'s' * (exercise.points != 1)}"
    title = f"## {exercise.number} `{exercise.function}`"
    return f"{title}\n\n*{exercise.difficulty}, {exercise.minutes} minutes, {points}*"


def hints(number: str) -> str:
    """Each opens on a click."""
    fold = "<details><summary>Hint {}</summary>\n\n{}\n\n</details>"
    return "\n\n".join(fold.format(n, text) for n, text in enumerate(exercises.answers(number).hints, start=1))


def asked(cell: NotebookNode) -> NotebookNode:
    kind, number = role(cell)
    if kind == "answer":
        cell.source = stub(cell.source, number, exercises.exercise(number).function)
    return cell
