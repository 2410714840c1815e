"""Submissions made by code: each says how it differs from a solved or an untouched notebook, and what must come out.

    from corpus import honest        # importing a module fills honest.CASES

`right` names the exercises whose answer is right, and nothing else gives points. Code in a submission may use the
word MARK: it stands for a text that no other submission has, so that what it leaves behind can be found.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from prefcourse.grading.result import State, Status

COURSE = Path(__file__).parents[2]
STEM = "02_preference_optimization_overview"
NUMBERS = ("2.1", "2.2", "2.3", "2.4", "2.5")
OTHERS = NUMBERS[1:]  # for those that do something wild in 2.1: the rest is right, and counts
CELL_SECONDS = 5.0


@dataclass(frozen=True)
class Case:
    """One submission."""

    make: Callable[[], Notebook | bytes]
    right: tuple[str, ...]
    state: State = State.GRADED
    statuses: dict[str, Status] = field(default_factory=dict)  # of the exercises that are not right, where it matters
    says: str = ""  # a pattern in the notes, the reason or the sentences
    seconds: float = 40.0  # at most, on a machine that is busy with other things too; 2 or 3 are usual
    settings: dict = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.make.__name__

    @property
    def mark(self) -> str:
        return f"mark_of_{self.name}"

    def submission(self, **words: str) -> bytes:
        """Its bytes, with these words, and MARK, replaced by what they stand for here."""
        made = self.make()
        found = made if isinstance(made, bytes) else made.bytes()
        for word, meaning in (words | {"MARK": self.mark}).items():
            found = found.replace(word.encode(), meaning.encode())
        return found


def collector(cases: list[Case]):
    """A decorator that appends the decorated maker as a case."""

    def case(right: tuple[str, ...] = (), **more):
        return lambda make: cases.append(Case(make, right, **more)) or make

    return case


class Notebook:
    """A submission in the making. Cells are dicts as in the file."""

    def __init__(self, room: str):
        self.content = json.loads((COURSE / room / f"{STEM}.ipynb").read_text(encoding="utf-8"))

    @property
    def cells(self) -> list[dict]:
        return self.content["cells"]

    @property
    def code(self) -> list[dict]:
        return [cell for cell in self.cells if cell["cell_type"] == "code"]

    def cell(self, identifier: str) -> dict:
        return next(cell for cell in self.cells if cell.get("id") == identifier)

    def answer(self, number: str) -> dict:
        return self.cell(f"answer-{number.replace('.', '-')}")

    def check(self, number: str) -> dict:
        return self.cell(f"check-{number.replace('.', '-')}")

    def source(self, number: str) -> str:
        return "".join(self.answer(number)["source"])

    def write(self, number: str, body: str) -> Notebook:
        """The answer's cell, its first line kept."""
        self.answer(number)["source"] = self.source(number).splitlines()[0] + "\n" + body
        return self

    def replace(self, number: str, old: str, new: str) -> Notebook:
        assert old in self.source(number), f"{old!r} is not in the solution of {number}"
        self.answer(number)["source"] = self.source(number).replace(old, new)
        return self

    def before(self, identifier: str, source: str, **more) -> Notebook:
        place = self.cells.index(self.cell(identifier))
        self.cells.insert(place, code_cell(source, **more))
        return self

    def first(self, source: str) -> Notebook:
        """A cell that runs after the setup and before everything else."""
        return self.before("question-2-1", source)

    def last(self, source: str) -> Notebook:
        """A cell that runs before the last check."""
        return self.before("check-2-5", source)

    def drop(self, identifier: str) -> Notebook:
        self.cells.remove(self.cell(identifier))
        return self

    def move(self, identifier: str, before: str) -> Notebook:
        cell = self.cell(identifier)
        self.cells.remove(cell)
        self.cells.insert(self.cells.index(self.cell(before)), cell)
        return self

    def bytes(self) -> bytes:
        return json.dumps(self.content).encode()


def code_cell(source: str, **more) -> dict:
    blank = {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
    return blank | more


def solved() -> Notebook:
    return Notebook("solutions")


def stub() -> Notebook:
    return Notebook("exercises")


def wild(body: str) -> Notebook:
    """Solved, but the answer to 2.1 does something else."""
    return solved().write("2.1", body)


def calling(body: str) -> Notebook:
    """Solved, but the function of 2.1 does something else when it is called."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return wild(f"def agreement_rate(labels_by_item, drop_ties=False):\n{lines}")


def duplicate(notebook: Notebook, number: str) -> dict:
    """A copy of the answer's cell after it, as Jupyter pastes cells: with an id of its own."""
    cell = notebook.answer(number)
    twin = copy.deepcopy(cell) | {"id": f"twin-{len(notebook.cells)}"}
    notebook.cells.insert(notebook.cells.index(cell) + 1, twin)
    return twin
