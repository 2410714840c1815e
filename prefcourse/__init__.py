"""Preference optimisation of language models, small enough to watch and measured to the end.

Submodules load on first use, so that `import prefcourse` costs milliseconds and not torch's seconds.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"
_ROOMS = (
    "advantages agreement annotators backbone bench build cache checks claims data evaluate exercises "
    "experiments grading lab learner logprobs losses models pipeline plots progress published rollout sequences train "
    "widgets worlds"
).split()
__all__ = ["__version__", *_ROOMS]


def __getattr__(name: str):
    if name in _ROOMS:
        return importlib.import_module(f"prefcourse.{name}")
    raise AttributeError(f"module 'prefcourse' has no attribute {name!r}; it has {', '.join(_ROOMS)}")


def __dir__() -> list[str]:
    return __all__
