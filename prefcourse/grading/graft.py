"""From a submitted notebook to the one that is graded: the answers are the learner's, everything else is ours.

Pure: bytes in, a notebook out. Runs nothing, opens nothing, and takes from a submission only sources of code cells.

The rules. A cell is an answer by its id, else by its metadata, else by its marker comment `# EXERCISE 2.1: name`, else
because it defines the function asked for. Of several answers to one exercise the last that defines the function
counts. Other cells of the learner keep their place: before the known cell that followed them. Setup cells that were
changed run as the learner's, then as ours; check cells are always ours. The order is the reference's.
"""

from __future__ import annotations

import ast
import itertools
import json
import re
from dataclasses import dataclass, field
from typing import Any

MAX_BYTES = 5_000_000
MAX_CELLS = 1_000
MARKER = re.compile(r"^[ \t]*#+[ \t]*EXERCISE[ \t]+(\d+\.\d+)\b(?:[ \t]*:[ \t]*(\w+))?", re.MULTILINE)
NBVAL_MARKERS = {  # nbval obeys a line that is nothing but one of these, even inside a string
    "PYTEST_VALIDATE_IGNORE_OUTPUT",
    "NBVAL_IGNORE_OUTPUT",
    "NBVAL_CHECK_OUTPUT",
    "NBVAL_RAISES_EXCEPTION",
    "NBVAL_SKIP",
}


class InvalidSubmission(ValueError):
    """There is no notebook in these bytes; the message says why."""


@dataclass(frozen=True)
class Cell:
    """A code cell of a submission, as far as it is read."""

    id: str | None
    role: str | None
    exercise: str | None
    source: str


@dataclass(frozen=True)
class Grafted:
    notebook: dict  # nbformat 4.5, code cells only, ready to run
    answers: dict[str, str]  # exercise -> the source that counts
    helpers: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()  # exercises without an answer
    notes: tuple[str, ...] = ()


# --- reading ------------------------------------------------------------------------------------------------


def read_cells(submitted: bytes) -> list[Cell]:
    """The code cells of a notebook, nbformat 3 or 4, from bytes that nobody has looked at."""
    found = _parsed(submitted)
    version = found.get("nbformat")
    if version == 4:
        cells = found.get("cells")
    elif version == 3:
        sheets = _a(list, found.get("worksheets"), "worksheets")
        cells = [cell for sheet in sheets for cell in _a(list, _a(dict, sheet, "a worksheet").get("cells"), "cells")]
    else:
        raise InvalidSubmission(f"a notebook has nbformat 3 or 4, not {_short(version)}")
    code = [_cell(cell, place) for place, cell in enumerate(_a(list, cells, "the notebook's cells"), start=1)]
    code = [cell for cell in code if cell and cell.source.strip()]
    if len(code) > MAX_CELLS:
        raise InvalidSubmission(f"it has {len(code):,} code cells; up to {MAX_CELLS:,} are read")
    return code


def _parsed(submitted: bytes) -> dict:
    if len(submitted) > MAX_BYTES:
        raise InvalidSubmission(f"it has {len(submitted):,} bytes; up to {MAX_BYTES:,} are read. Clear its outputs")
    if not submitted.strip():
        raise InvalidSubmission("the file is empty")
    try:
        found = json.loads(submitted.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise InvalidSubmission("the file is not text in UTF-8, as notebooks are") from None
    except RecursionError:
        raise InvalidSubmission("its JSON is nested too deeply") from None
    except ValueError as error:
        raise InvalidSubmission(f"the file is not JSON, as notebooks are: {str(error)[:80]}") from None
    return _a(dict, found, "the notebook")


def _a(kind: type, value: Any, name: str) -> Any:
    if not isinstance(value, kind):
        raise InvalidSubmission(f"{name} should be a {kind.__name__}, found {_short(value)}")
    return value


def _short(value: Any) -> str:
    return (
        "nothing"
        if value is None
        else f"a {type(value).__name__}"
        if isinstance(value, dict | list)
        else repr(value)[:40]
    )


def _cell(cell: Any, place: int) -> Cell | None:
    cell = _a(dict, cell, f"cell {place}")
    if cell.get("cell_type") != "code":
        return None
    source = cell.get("source", cell.get("input", ""))
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    source = _a(str, source, f"the source of cell {place}").encode("utf-8", "replace").decode()
    metadata = cell.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    ours = metadata.get("prefcourse")
    ours = ours if isinstance(ours, dict) else {}
    return Cell(*(_text(value) for value in (cell.get("id"), ours.get("role"), ours.get("exercise"))), source)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


# --- the reference ------------------------------------------------------------------------------------------


def source_of(cell: dict) -> str:
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])


class Skeleton:
    """The code cells of the reference, found by role."""

    def __init__(self, reference: dict):
        self.cells = [cell for cell in reference["cells"] if cell["cell_type"] == "code"]
        self.place = {cell["id"]: place for place, cell in enumerate(self.cells)}
        self.answers = {self._exercise(cell): cell["id"] for cell in self._with_role("answer")}
        self.checks = {self._exercise(cell): cell["id"] for cell in self._with_role("check")}
        self.functions = {number: self._function(number) for number in self.answers}
        self.by_source = {source_of(c).strip(): c["id"] for c in self.cells if c["id"] not in self.answers.values()}

    def source(self, identifier: str) -> str:
        return source_of(self.cells[self.place[identifier]])

    def _with_role(self, role: str) -> list[dict]:
        return [cell for cell in self.cells if cell["metadata"].get("prefcourse", {}).get("role") == role]

    @staticmethod
    def _exercise(cell: dict) -> str:
        return cell["metadata"]["prefcourse"]["exercise"]

    def _function(self, number: str) -> str:
        marker = MARKER.search(self.source(self.answers[number]))
        if not marker or marker[1] != number or not marker[2]:
            raise ValueError(f"the answer cell of {number} must begin with `# EXERCISE {number}: function_name`")
        return marker[2]

    def known_as(self, cell: Cell) -> str | None:
        """The id of the reference's cell that this one is, by id, metadata, marker, source, or as a check."""
        if cell.id in self.place:
            return cell.id
        if cell.role in ("answer", "check") and cell.exercise in self.answers:
            return (self.answers if cell.role == "answer" else self.checks).get(cell.exercise)
        marker = MARKER.search(cell.source)
        if marker and marker[1] in self.answers:
            return self.answers[marker[1]]
        return self.by_source.get(cell.source.strip()) or self.checks.get(_checked(cell.source))


def _checked(source: str) -> str | None:
    """The exercise, if the cell is a check and nothing else."""
    try:
        (line,) = ast.parse(source).body
        call = line.value
        return call.args[0].value if call.func.id == "check" else None
    except (AttributeError, IndexError, MemoryError, RecursionError, SyntaxError, ValueError):
        return None


# --- the graft ----------------------------------------------------------------------------------------------


@dataclass
class _Sorted:
    """The learner's cells, each with its place: the answers to an exercise, or a helper before a known cell."""

    cells: list[Cell]
    known: list[str | None]
    notes: list[str] = field(default_factory=list)


def graft(reference: dict, submitted: bytes) -> Grafted:
    """The notebook to run, and what had to be decided on the way. InvalidSubmission if there is none."""
    skeleton, cells = Skeleton(reference), read_cells(submitted)
    found = _Sorted(cells, [skeleton.known_as(cell) for cell in cells])
    chosen = {number: _choose(skeleton, number, found) for number in skeleton.answers}
    missing = tuple(
        number for number, place in chosen.items() if place is None and not _defined(skeleton, number, found)
    )
    found.notes += [f"{number}: no answer found" for number in missing]
    _note_order(skeleton, chosen, found)
    _drop_known(skeleton, found)
    answers = {number: _harmless(cells[place].source, found) for number, place in chosen.items() if place is not None}
    helpers = _helpers(skeleton, chosen, found)
    notebook = _merged(skeleton, answers, helpers)
    kept = tuple(source for sources in helpers.values() for source in sources)
    return Grafted(notebook, answers, kept, missing, tuple(dict.fromkeys(found.notes)))


def _defines(source: str, name: str) -> bool:
    """Does it bind the name? By its text, so that cells that Python cannot parse count as well."""
    name = re.escape(name)
    ways = (
        rf"(?:async\s+)?(?:def|class)\s+{name}\b",
        rf"{name}\s*(?::[^=\n]+)?=[^=]",
        rf"(?:from\b.*)?\bimport\b.*\b{name}\b",
    )
    return any(re.search(rf"^\s*{way}", source, re.MULTILINE) for way in ways)


def _defined(skeleton: Skeleton, number: str, found: _Sorted) -> bool:
    return any(_defines(cell.source, skeleton.functions[number]) for cell in found.cells)


def _choose(skeleton: Skeleton, number: str, found: _Sorted) -> int | None:
    """The cell that counts as the answer. Pieces of a split answer become helpers, superseded answers are dropped."""
    identifier, name = skeleton.answers[number], skeleton.functions[number]
    candidates = [place for place, known in enumerate(found.known) if known == identifier]
    defining = [place for place in candidates if _defines(found.cells[place].source, name)]
    if not defining:
        defining = [p for p, k in enumerate(found.known) if k is None and _defines(found.cells[p].source, name)][-1:]
        if defining and not candidates:
            found.notes.append(f"{number}: the answer cell was not found; the cell that defines {name} counts")
    chosen = (defining or candidates)[-1:]
    if len(defining) > 1:
        found.notes.append(f"{number}: {len(defining)} cells answer it; the last one counts")
    for place in {*candidates, *chosen}:
        found.known[place] = "" if place in defining[:-1] else identifier if place in chosen else None
    return chosen[0] if chosen else None


def _note_order(skeleton: Skeleton, chosen: dict[str, int | None], found: _Sorted) -> None:
    order = [place for place in chosen.values() if place is not None]
    if order != sorted(order):
        found.notes.append("the answers were in a different order; they ran in the order of the exercises")


def _drop_known(skeleton: Skeleton, found: _Sorted) -> None:
    """Check cells are ours. A changed setup cell stays, as a helper before ours: an import added there is needed."""
    for place, known in enumerate(found.known):
        if known and known not in skeleton.answers.values() and not _same(skeleton.source(known), found.cells[place]):
            if known in skeleton.checks.values():
                found.notes.append(f"cell {known} was changed; ours ran instead")
            else:
                found.notes.append(f"cell {known} was changed; it ran as it is, then as we wrote it")
    absent = [number for number, known in skeleton.checks.items() if known not in found.known]
    found.notes += [f"{number}: its check cell was missing; ours ran" for number in absent]


def _same(source: str, cell: Cell) -> bool:
    return source.split() == cell.source.split()


def _helpers(skeleton: Skeleton, chosen: dict, found: _Sorted) -> dict[str, list[str]]:
    """The learner's other cells, by the known cell that they run before. What follows the last one is not run."""
    before: dict[str, list[str]] = {}
    waiting: list[str] = []
    for cell, known in zip(found.cells, found.known, strict=True):
        given = known and known not in skeleton.answers.values() and known not in skeleton.checks.values()
        if known is None or (given and not _same(skeleton.source(known), cell)):
            waiting.append(_harmless(cell.source, found))
        if known:
            before.setdefault(known, []).extend(waiting)
            waiting = []
    if waiting:
        found.notes.append("cells after the last exercise were not run")
    return before


def _harmless(source: str, found: _Sorted) -> str:
    """Without commands to nbval: a word more, and the comment is only a comment."""
    lines = source.splitlines(keepends=True)
    for place, line in enumerate(lines):
        text = line.strip()
        if text.startswith("#") and text.lstrip("#").strip() in NBVAL_MARKERS:
            lines[place] = line.replace(text, f"{text} (no effect here)", 1)
            found.notes.append(f"{text.lstrip('#').strip()} has no effect here")
    return "".join(lines)


def _merged(skeleton: Skeleton, answers: dict[str, str], helpers: dict[str, list[str]]) -> dict:
    """Code cells only; the reference's, with answers replaced, and helpers before the cells that they stood before."""
    number_of = {identifier: number for number, identifier in skeleton.answers.items()}
    cells: list[dict] = []
    names = (f"helper-{count}" for count in itertools.count(1))
    for cell in skeleton.cells:
        identifier = cell["id"]
        cells += [code_cell(next(names), source, {"role": "helper"}) for source in helpers.get(identifier, [])]
        if identifier in number_of:
            number = number_of[identifier]
            source = answers.get(number, f"# no answer to {number}")
            cells.append(code_cell(identifier, source, {"role": "answer", "exercise": number}))
        else:
            cells.append({**cell, "source": source_of(cell)})
    return notebook_of(cells)


def code_cell(identifier: str, source: str, ours: dict) -> dict:
    """A cell without outputs, and without tags that would say something to nbval."""
    cell = {"cell_type": "code", "id": identifier, "metadata": {"prefcourse": ours}, "source": source}
    return cell | {"outputs": [], "execution_count": 1}


def notebook_of(cells: list[dict]) -> dict:
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": cells}
