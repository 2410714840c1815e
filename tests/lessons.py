"""What the tests of the chapters share: cells of a script run without a kernel. Not a test itself.

lesson = functools.cache(functools.partial(lessons.lesson, 4)); quiet = lessons.quiet
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import matplotlib
import pytest
import torch

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

from prefcourse import plots  # noqa: E402
from prefcourse.build.script import PRACTICE, notebooks, read  # noqa: E402

SOURCES = Path(__file__).parent.parent / "notebooks" / "source"


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """Figures are made and not shown; a notebook's default of double precision ends with the test."""
    monkeypatch.setattr(plots, "show", lambda figure, alt: plt.close(figure))
    yield
    plt.close("all")
    torch.set_default_dtype(torch.float32)


def script(chapter: int) -> Path:
    (found,) = SOURCES.glob(f"{chapter:02}_*.py")
    return found


def cells(chapter: int, *, practice: bool = False) -> list:
    """Of the lesson, or of what follows it: questions, answers and what is given."""
    lesson, _, rest = script(chapter).read_text(encoding="utf-8").partition(PRACTICE)
    return read(rest if practice else lesson)


def run(some: Iterable, *, changed: Mapping[str, str] | None = None) -> dict:
    """What the code among these cells defines."""
    names = {}
    for cell in some:
        if cell.cell_type == "code":
            source = cell.source
            for old, new in (changed or {}).items():
                source = source.replace(old, new)
            exec(compile(source, cell.id, "exec"), names)
    return names


def lesson(
    chapter: int,
    seed: int = 0,
    only: Collection[str] = (),
    *,
    until: str = "",
    without: Collection[str] = (),
    changed: Mapping[str, str] | None = None,
) -> dict:
    """What a lesson's cells define (all, or some), before that one. A claim that is false is an AssertionError."""
    every = cells(chapter)
    ids = [cell.id for cell in every]
    if strange := {*only, *without, *filter(None, [until])} - set(ids):
        raise LookupError(f"the lesson of chapter {chapter} has no cell {', '.join(sorted(strange))}")
    every = every[: ids.index(until)] if until else every
    wanted = [cell for cell in every if cell.id not in without and (not only or cell.id in only)]
    return run(wanted, changed={"SEED = 0": f"SEED = {seed}", **(changed or {})})


def practice(chapter: int, *only: str) -> dict:
    """What some cells behind the lesson define, answers as in the script."""
    return run(cell for cell in cells(chapter, practice=True) if cell.id in only)


def room(chapter: int, name: str) -> dict:
    """What a whole notebook defines, run from top to bottom: of "exercises" with nothing written, or "solutions"."""
    path = script(chapter)
    return run(notebooks(path)[Path(name, f"{path.stem}.ipynb")].cells)
