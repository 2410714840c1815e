"""The walls again where only Landlock stands: nothing outside is read, changed or kept alive, and no point is given."""

from __future__ import annotations

import pytest
from corpus import cheats, greedy, honest, hostile
from corpus.arena import arena, must_come_out

NAMES = (
    *("correct", "untouched", "torch_answers", "processes_of_its_own"),
    *("answers_looked_for", "bundle_displayed_by_hand", "package_of_its_own", "package_reloaded_from_elsewhere"),
    *("kills_its_parent", "os_exit", "memory_bomb_of_many", "fork_bomb", "fills_the_disk", "deep_folders"),
    *("leaves_a_process", "reads_what_is_not_its_own", "writes_what_is_not_its_own", "goes_online"),
)
KNOWN = {case.name: case for module in (honest, cheats, hostile, greedy) for case in module.CASES}


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    with arena(tmp_path_factory.mktemp("l"), "landlock") as found:
        yield found


@pytest.mark.parametrize("name", NAMES)
def test_the_walls_hold(batch, name):
    must_come_out(KNOWN[name], batch.grade(KNOWN[name]))
