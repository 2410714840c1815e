"""Every other notebook in a real browser: run all, no error, its figures there."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from rooms import errors, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parent.parent.parent
NEWCOMERS = "02_preference_optimization_overview"  # test_newcomer.py goes through it
NOTEBOOKS = sorted(
    f"{path.parent.name}/{path.name}"
    for room in ("notebooks", "exercises")
    for path in (ROOT / room).glob("*.ipynb")
    if path.stem != NEWCOMERS and not path.name.startswith(".")
)


def figures(notebook: str) -> int:
    cells = nbformat.read(ROOT / notebook, as_version=4).cells
    return sum("image/png" in output.get("data", {}) for cell in cells for output in cell.get("outputs", []))


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_runs_without_errors_and_shows_its_figures(notebook, visit):
    page = visit(notebook)
    run(page, "notebook:run-all-cells")
    assert errors(page) == 0
    assert page.locator(".jp-OutputArea img[alt]").count() >= figures(notebook)
    assert page.locator(".jp-OutputArea img:not([alt])").count() == 0
