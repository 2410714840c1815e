"""Submissions that want more than is theirs: they cost themselves, in bounded time, and nothing outside changes."""

from __future__ import annotations

import pytest
from corpus import greedy
from corpus.arena import arena, best_level, must_come_out


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    with arena(tmp_path_factory.mktemp("g"), best_level()) as found:
        yield found


@pytest.mark.parametrize("case", greedy.CASES, ids=lambda case: case.name)
def test_it_costs_only_itself(batch, case):
    must_come_out(case, batch.grade(case))
