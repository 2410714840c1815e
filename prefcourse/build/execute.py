"""Runs a notebook with nbval and keeps what its cells showed. Knows no chapter.

The reference of a cell is what nbval itself collected: Jupyter's own run would differ, for one in what is written to
file descriptors (ipykernel does not capture that under pytest), and a right solution would then fail in CI.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from prefcourse.build import recorder
from prefcourse.build.cells import SourceError, code_cells, role
from prefcourse.widgets.saved import keep_twins

NBVAL = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=900"]
QUIET = "-q --no-header --color=no --noconftest -p no:cacheprovider -p prefcourse.build.recorder".split()
STEADY = {  # as in `make test`: more threads round differently, and nothing may need a network
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTEST_ADDOPTS": "",
}


def execute(book: NotebookNode, folder: Path) -> None:
    """Fill in the outputs, with `folder` as the working directory; SourceError where a cell fails."""
    for cell in code_cells(book):
        cell.outputs, cell.execution_count = [], None
    if not code_cells(book):
        return
    outputs = run_by_nbval(book, folder)
    for number, (cell, shown) in enumerate(zip(code_cells(book), outputs, strict=True), start=1):
        cell.execution_count = number
        cell.outputs = [nbformat.from_dict(output) for output in shown]
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = number  # nbval runs without counting
    keep_twins(book)
    if failing := [cell.id for cell in code_cells(book) if role(cell)[0] == "check" and not is_solved(cell)]:
        raise SourceError(f"the solution does not pass: {', '.join(failing)}")


def is_solved(check: NotebookNode) -> bool:
    return any(": solved" in output.get("data", {}).get("text/plain", "") for output in check.outputs)


def run_by_nbval(book: NotebookNode, folder: Path) -> list[list[dict]]:
    # nbval starts the kernel where the notebook lies
    with tempfile.NamedTemporaryFile(prefix=".building-", suffix=".ipynb", dir=folder, delete=False) as file:
        path = Path(file.name)
    record = path.with_suffix(".json")
    try:
        nbformat.write(book, path)
        pytest = [sys.executable, "-m", "pytest", *QUIET, "-c", os.devnull, "--rootdir", str(folder)]
        command = [*pytest, *NBVAL, str(path)]
        environment = os.environ | STEADY | {recorder.PLACE: str(record)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, encoding="utf-8")
        if done.returncode:
            raise SourceError(f"a cell failed:\n{done.stdout[-4000:]}{done.stderr[-1000:]}")
        return json.loads(record.read_text(encoding="utf-8"))
    finally:
        path.unlink()
        record.unlink(missing_ok=True)
