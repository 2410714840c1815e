"""What moves in a notebook: training seen live, the annotator's desk, the laboratory, sliders over real runs.

    from prefcourse.widgets import live
    log = live(train.ppo(policy, reference, tokenizer, prompts, score, beta=0.1, iterations=40, seed=0))

Names load on first use: `prefcourse.widgets.saved` serves Jupyter's server, which needs neither torch nor matplotlib.
"""

from __future__ import annotations

import importlib

_HOMES = {
    "live": "screen",
    "samples": "screen",
    "Annotator": "annotator",
    "Laboratory": "laboratory",
    "explore": "explorer",
    "agreement_against_noise": "chapter02",
}
__all__ = ["Annotator", "Laboratory", "agreement_against_noise", "explore", "live", "samples"]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'prefcourse.widgets' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"prefcourse.widgets.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
