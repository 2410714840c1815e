"""Runs the checks of a saved notebook in a fresh kernel. Knows cells and kernels; the words come from the checks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nbformat import NotebookNode, v4

from prefcourse.build.cells import check_call, role
from prefcourse.checks.exercise import Exercise


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
    calls = {e.number: Step(call(e), f"the check of {e.number}", e.number) for e in asked}
    plan, waiting = [], dict(calls)
    for position, cell in enumerate(book.cells, start=1):
        kind, number = role(cell)
        if kind == "check" and number in waiting:
            plan.append(waiting.pop(number))
        elif cell.cell_type == "code" and kind != "check":
            plan.append(Step(cell.source, f"the answer of {number}" if kind == "answer" else f"cell {position}"))
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
    """One outcome per exercise, each as soon as it is known. A kernel that hangs or dies ends the run."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    plan = steps(book, asked)
    code = v4.new_notebook(cells=[v4.new_code_cell(step.source) for step in plan])
    client = NotebookClient(
        code, timeout=timeout, allow_errors=True, kernel_name="python3", record_timing=False, coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )  # fmt: skip
    errors, left = [], [step.checks for step in plan if step.checks]
    with client.setup_kernel():
        for index, step in enumerate(plan):
            try:
                cell = client.execute_cell(code.cells[index], index)
            except CellTimeoutError:
                errors.append(
                    f"{step.name} ran longer than {timeout} s: does a loop never end? (--timeout changes this)"
                )
                break
            except DeadKernelError:
                errors.append(f"the kernel died in {step.name}: out of memory, or the code ended it")
                break
            if step.checks:
                left.remove(step.checks)
                yield outcome(step, cell, errors)
            else:
                errors += [f"{step.name}: {output.ename}: {output.evalue}" for output in errors_of(cell)]
    for number in left:
        yield Outcome(number, False, f"{number}: not checked.\n  {errors[-1]}")


def errors_of(cell: NotebookNode) -> list[NotebookNode]:
    return [output for output in cell.outputs if output.output_type == "error"]


def outcome(step: Step, cell: NotebookNode, errors: list[str]) -> Outcome:
    """What a check displayed. Where it could not even be called, the errors of the cells above say why."""
    for output in cell.outputs:
        if "passed" in output.get("metadata", {}):
            return Outcome(step.checks, output.metadata.passed, output.data["text/plain"])
    problems = errors + [f"{error.ename}: {error.evalue}" for error in errors_of(cell)]
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", problem) for problem in problems]
    return Outcome(step.checks, False, "\n  ".join([f"{step.checks}: could not be checked.", *plain]))
