"""Submissions that end the kernel, or never end: they cost themselves, in bounded time, and nothing outside changes."""

from __future__ import annotations

import pytest
from corpus import hostile
from corpus.arena import arena, best_level, must_come_out


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    with arena(tmp_path_factory.mktemp("w"), best_level()) as found:
        yield found


@pytest.mark.parametrize("case", hostile.CASES, ids=lambda case: case.name)
def test_it_costs_only_itself(batch, case):
    must_come_out(case, batch.grade(case))
