"""Tests run offline, quiet and on one thread; the shapes in the signatures of the pure maths are checked."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("PREFCOURSE_CACHE", str(Path(__file__).parent.parent / ".pytest_cache" / "prefcourse"))
os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
import torch  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

torch.set_num_threads(1)
# before the first import of these modules; the "tower" lets an int stand for a float, as Python does
install_import_hook(
    ["prefcourse.losses", "prefcourse.advantages", "prefcourse.logprobs"],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

LONG_FIRST = (  # files of minutes: begun last they would run alone
    "browser/test_newcomer.py", "browser/test_notebooks.py", "test_science.py", "test_science_ppo.py",
    "browser/test_widgets.py", "test_corpus_hostile.py", "test_corpus_greedy.py", "test_chapter02.py",
    "test_chapter04.py", "test_grade.py", "test_widgets_learn.py", "test_corpus_cheats.py", "test_widgets_runs.py",
    "test_corpus_honest.py", "test_sandbox.py", "test_corpus_landlock.py", "test_vacuity.py", "test_trl_parity.py",
    "test_train.py", "test_exercises.py",
)  # fmt: skip


def pytest_collection_modifyitems(items) -> None:
    """Then the chapters, each of which runs its lesson twice, then the rest."""
    place = {name: number for number, name in enumerate(LONG_FIRST)}
    here = Path(__file__).parent

    def turn(item) -> int:
        name = os.path.relpath(item.path, here).replace(os.sep, "/")
        return place.get(name, len(place) + (not name.startswith("test_chapter")))

    items.sort(key=turn)
