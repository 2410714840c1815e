"""Rows of a batch, drawn: logits, tokens and a mask, with prompts, responses and padding where a case wants them.

Knows how a language model's rows look; knows no chapter.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from prefcourse.checks.exercise import Call

PAD, EOS, WORDS = 0, 1, 4  # of the drawn vocabulary


class Row(NamedTuple):
    """How many tokens of each sort; `response` counts EOS."""

    prompt: int
    response: int
    left: int = 0
    right: int = 0
    second: int = 0  # tokens of a second response, after two of somebody else's
    padding: float | None = None  # the logits there; None draws them


def batch(*rows: Row) -> Callable[[random.Random], Call]:
    """Random logits (B, T, V) and words (B, T) in rows of equal width, and a mask that is true on responses."""

    def call(draw: random.Random) -> Call:
        made = [_drawn(draw, row) for row in rows]
        return Call(tuple(list(column) for column in zip(*made, strict=True)))

    return call


def _drawn(draw: random.Random, row: Row) -> tuple[list[list[float]], list[int], list[bool]]:
    between = 2 if row.second else 0
    sorts = "l" * row.left + "p" * row.prompt + "r" * row.response
    sorts += "p" * between + "r" * row.second + "x" * row.right
    logits = [[round(draw.gauss(0, 2), 2) for _ in range(WORDS)] for _ in sorts]
    if row.padding is not None:
        logits = [[row.padding] * WORDS if sort in "lx" else x for sort, x in zip(sorts, logits, strict=True)]
    ids = [PAD if sort in "lx" else draw.randrange(2, WORDS) for sort in sorts]
    mask = [sort == "r" for sort in sorts]
    ends = [t for t, here in enumerate(mask) if here and not any(mask[t + 1 : t + 2])]
    return logits, [EOS if t in ends else word for t, word in enumerate(ids)], mask
