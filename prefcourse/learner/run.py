"""Runs the checks of a saved notebook in a fresh kernel. Knows cells and kernels; the words come from the checks."""

from __future__ import annotations

import re
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nbformat import NotebookNode, v4

from prefcourse.build.cells import check_call, role
from prefcourse.checks.exercise import Exercise
from prefcourse.progress import doing

WIDTH = 88


class Step(NamedTuple):
    """Code to run; `checks` is the number of the exercise if it is a check."""

    source: str
    name: str
    checks: str | None = None


class Outcome(NamedTuple):
    number: str
    passed: bool
    words: str


def steps(book: NotebookNode, asked: list[Exercise]) -> list[Step]:
    """All code up to the last check that was asked for, without the other checks.

    A check stands where the notebook has it, or, if it was deleted, at the end; it is always the course's own call.
    """
    calls = {e.number: Step(call(e), f"The check of {e.number}", e.number) for e in asked}
    plan, waiting = [], dict(calls)
    for position, cell in enumerate(book.cells, start=1):
        kind, number = role(cell)
        if kind == "check" and number in waiting:
            plan.append(waiting.pop(number))
        elif cell.cell_type == "code" and kind != "check":
            plan.append(Step(cell.source, f"The answer of {number}" if kind == "answer" else f"Cell {position}"))
    plan += waiting.values()
    last = max(place for place, step in enumerate(plan) if step.checks)
    return plan[: last + 1]


def call(asked: Exercise) -> str:
    """The check, and its verdict as a fact beside its words."""
    return f"""\
from IPython.display import display as _display
_report = {check_call(asked.number, asked.function)}
_display(_report, metadata={{"passed": bool(_report.passed)}})"""


def run_checks(book: NotebookNode, asked: list[Exercise], folder: Path, timeout: int) -> Iterator[Outcome]:
    """One outcome per exercise, each as soon as it is known; after a hang or a crash in a new kernel."""
    left = {e.number: e for e in asked}
    while left:
        for outcome in run_once(book, list(left.values()), folder, timeout):
            del left[outcome.number]
            yield outcome


def run_once(book: NotebookNode, asked: list[Exercise], folder: Path, timeout: int) -> Iterator[Outcome]:
    """Until all is done, or the kernel is lost. Where code above the checks lost it, no check can be made."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    plan, errors = steps(book, asked), []
    code = v4.new_notebook(cells=[v4.new_code_cell(step.source) for step in plan])
    place = {"metadata": {"path": str(folder)}}
    client = NotebookClient(code, timeout=timeout, allow_errors=True, kernel_name="python3", resources=place)
    with client.setup_kernel(stderr=subprocess.DEVNULL):  # else the kernel warns of its transport in the terminal
        for index, step in enumerate(plan):
            try:
                with doing(f"running {step.name[0].lower()}{step.name[1:]}"):
                    cell = client.execute_cell(code.cells[index], index)
            except (CellTimeoutError, DeadKernelError) as error:
                hangs = f"took longer than {timeout} s: does a loop never end? (--timeout allows more)"
                why = hangs if isinstance(error, CellTimeoutError) else "ended the kernel: out of memory, or os._exit"
                lost = [step.checks] if step.checks else [later.checks for later in plan[index:] if later.checks]
                yield from (
                    Outcome(number, False, wrapped(f"{number}: not checked. {step.name} {why}")) for number in lost
                )
                return
            if step.checks:
                yield outcome_of(step, cell, errors)
            errors += [f"{step.name}: {plain(problem)}" for problem in errors_of(cell) if not step.checks]


def errors_of(cell: NotebookNode) -> list[NotebookNode]:
    return [output for output in cell.outputs if output.output_type == "error"]


def plain(error: NotebookNode) -> str:
    """As in a traceback's last line, without colours and the number that IPython gives to a cell."""
    return re.sub(r"\x1b\[[0-9;]*m|(?<=\()\d+\.py, ", "", f"{error.ename}: {error.evalue}")


def outcome_of(step: Step, cell: NotebookNode, errors: list[str]) -> Outcome:
    """What a check displayed. Where it could not even be called, the errors of the cells above say why."""
    for output in cell.outputs:
        if "passed" in output.get("metadata", {}):
            return Outcome(step.checks, output.metadata.passed, output.data["text/plain"])
    problems = errors + [plain(error) for error in errors_of(cell)]
    return Outcome(step.checks, False, "\n".join([f"{step.checks}: could not be checked.", *map(indented, problems)]))


def wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent="  ", break_on_hyphens=False)


def indented(text: str) -> str:
    return wrapped(text, "  ")
