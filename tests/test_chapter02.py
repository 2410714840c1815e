"""Chapter 2 says what is so: the claims of its lesson under other seeds than its own, and on real votes."""

from __future__ import annotations

import lessons
import pytest

quiet = lessons.quiet
WIDGETS = ("annotator",)  # no claim in it, and it would write into the learner's folder


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2])  # nbval runs seed 0
def test_all_claims_of_the_lesson_hold_under_other_seeds(seed):
    """A claim that is false is an AssertionError that names it."""
    assert lessons.lesson(2, seed, without=WIDGETS)["SEED"] == seed
