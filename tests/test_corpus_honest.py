"""People who mean well, and files as they come: no deserved point is lost."""

from __future__ import annotations

import pytest
from corpus import formats, honest
from corpus.arena import arena, best_level, must_come_out


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    with arena(tmp_path_factory.mktemp("h"), best_level(), once=True) as found:
        yield found


@pytest.mark.parametrize("case", [*honest.CASES, *formats.CASES], ids=lambda case: case.name)
def test_what_is_right_counts(batch, case):
    must_come_out(case, batch.grade(case))
