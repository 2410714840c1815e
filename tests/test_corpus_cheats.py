"""People who want points for nothing: no point is given that nobody earned.

The same attacks do succeed under the seed that everybody knows, so it is the secret that they fail on, nothing else.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from corpus import COURSE, NUMBERS, STEM, cheats
from corpus.arena import arena, best_level, must_come_out

from prefcourse.grading.grade import grade_one
from prefcourse.grading.reference import make_reference
from prefcourse.grading.result import Status

WORK_WITHOUT_A_SECRET = (
    cheats.bundle_displayed_by_hand,
    cheats.own_check,
    cheats.patches_the_package,
    cheats.display_and_print_patched,
    cheats.source_of_the_check_replaced,
    cheats.table_of_public_values,
)


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    with arena(tmp_path_factory.mktemp("c"), best_level()) as found:
        yield found


@pytest.mark.parametrize("case", cheats.CASES, ids=lambda case: case.name)
def test_only_what_is_right_counts(batch, case):
    must_come_out(case, batch.grade(case))


@pytest.fixture(scope="module")
def without_a_secret(batch):
    settings = replace(batch.settings, seed="public")
    return settings, make_reference(COURSE / "solutions" / f"{STEM}.ipynb", settings)


@pytest.mark.parametrize("make", WORK_WITHOUT_A_SECRET, ids=lambda make: make.__name__)
def test_the_attacks_are_real(without_a_secret, make):
    settings, reference = without_a_secret
    result = grade_one(make().bytes(), reference, settings)
    passed = [check.exercise for check in result.checks if check.status == Status.PASSED]
    assert passed == list(NUMBERS)
