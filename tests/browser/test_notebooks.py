"""Every other notebook in a real browser: no error, its figures there, each with its words.

Exercises and one lesson run to their end. The other lessons run as far as their first figure, and show what they were
saved with below it: nbval runs all of them, and what a widget does live is seen in chapters 2 and 3.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from rooms import cell, errors, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parent.parent.parent
NEWCOMERS = "02_preference_optimization_overview"  # test_newcomer.py goes through it
WHOLE = ("notebooks/03_dpo_theory.ipynb", "notebooks/laboratory.ipynb", "notebooks/README.ipynb")
NOTEBOOKS = sorted(
    f"{path.parent.name}/{path.name}"
    for room in ("notebooks", "exercises")
    for path in (ROOT / room).glob("*.ipynb")
    if path.stem != NEWCOMERS and not path.name.startswith(".")
)


def figures(notebook: str) -> list[str]:
    """The cells of its figures, as it was saved."""
    cells = nbformat.read(ROOT / notebook, as_version=4).cells
    return [cell.id for cell in cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_runs_without_errors_and_shows_its_figures(notebook, visit):
    page, shown = visit(notebook), figures(notebook)
    if notebook in WHOLE or not shown:
        run(page, "notebook:run-all-cells")
        drawn = shown
    else:
        drawn = shown[:1]
        cell(page, drawn[0])
        run(page, "notebook:run-all-above")
        cell(page, drawn[0])
        run(page, "notebook:run-cell")
    assert errors(page) == 0
    for cell_id in shown:  # of a figure that was not drawn just now JupyterLab drops the words
        images = cell(page, cell_id).locator(".jp-OutputArea img")
        images.first.wait_for()
        assert cell_id not in drawn or images.evaluate_all("found => found.every(image => image.alt)"), cell_id
