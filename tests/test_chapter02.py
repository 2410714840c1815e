"""Chapter 2 says what is so: the claims of its lesson under other seeds than its own, and on real votes."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402

from prefcourse import plots  # noqa: E402
from prefcourse.build.script import PRACTICE, read  # noqa: E402

SCRIPT = Path(__file__).parent.parent / "notebooks" / "source" / "02_preference_optimization_overview.py"
WIDGETS = ("annotator",)  # no claim in it, and it would write into the learner's folder


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """Figures are made and not shown."""
    monkeypatch.setattr(plots, "show", lambda figure, alt: plt.close(figure))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2])  # nbval runs seed 0
def test_all_claims_of_the_lesson_hold_under_other_seeds(seed):
    """A claim that is false is an AssertionError that names it."""
    names = {}
    for cell in read(SCRIPT.read_text(encoding="utf-8").partition(PRACTICE)[0]):
        if cell.cell_type == "code" and cell.id not in WIDGETS:
            exec(compile(cell.source.replace("SEED = 0", f"SEED = {seed}"), cell.id, "exec"), names)
    assert names["SEED"] == seed
