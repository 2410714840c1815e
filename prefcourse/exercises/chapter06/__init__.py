"""Chapter 6, reward models: three questions and the cases that test them. The answers lie apart."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from prefcourse.checks.exercise import Call, Case, Exercise, Tolerance, fixed
from prefcourse.exercises.tensors import with_gradients

NEAR = Tolerance(relative=1e-5, absolute=1e-5)  # fp32 inside the function is right

# --- 6.1 bradley_terry_loss ---------------------------------------------------------------------------------


def _scores(count: int, *, spread: float = 2.0, wrong: bool = False) -> Callable[[random.Random], Call]:
    """Scores in quarters; `wrong`: every rejected response has the higher one."""

    def call(draw: random.Random) -> Call:
        chosen, rejected = ([round(draw.gauss(0, 4 * spread)) / 4 for _ in range(count)] for _ in range(2))
        if wrong:
            pairs = list(zip(chosen, rejected, strict=True))
            chosen, rejected = [min(pair) for pair in pairs], [max(pair) + 0.5 for pair in pairs]
        return Call((chosen, rejected))

    return call


def _shifted(draw: random.Random) -> Call:
    """The same two pairs twice; the second time both scores of each are higher, or lower, by a constant of its own."""
    first = _scores(2)(draw).args
    constants = [draw.randint(5, 60) * draw.choice((-1, 1)) + 0.5 for _ in range(2)]
    return Call(tuple(side + [x + c for x, c in zip(side, constants, strict=True)] for side in first))


VALUE = "value and gradient"
BRADLEY_TERRY_LOSS = Exercise(
    number="6.1",
    function="bradley_terry_loss",
    points=2,
    minutes=10,
    difficulty="easy",
    apply=with_gradients("chosen_scores", "rejected_scores"),
    package=tuple(f"prefcourse.losses:{name}" for name in ("bradley_terry_loss", "dpo_loss", "cdpo_loss", "rdpo_loss")),
    cases=(
        Case("by-hand", "one pair, by hand", fixed([math.log(3)], [0.0]), NEAR),
        Case("two", VALUE, _scores(2), NEAR),
        Case("five", VALUE, _scores(5), NEAR),
        Case("equal", "equal scores: log 2", fixed([0.75, -2.0, 5.0], [0.75, -2.0, 5.0]), NEAR),
        Case("wrong", "pairs in the wrong order pull harder", _scores(3, wrong=True), NEAR),
        Case("shifted", "a constant on both scores of a pair changes nothing", _shifted, NEAR),
        Case("mean", "the mean over the batch, whatever its size", _scores(8), NEAR),
        Case("extreme", "finite at scores of 10,000", fixed([1e4, -1e4, 1e4], [-1e4, 1e4, 1e4]), NEAR),
    ),
)


# --- 6.2 last_token_score -----------------------------------------------------------------------------------

WIDTH = 3  # of the drawn hidden states


class Row(NamedTuple):
    """How many columns of each sort; `padding` is what the hidden states hold there, None draws it."""

    tokens: int
    left: int = 0
    right: int = 0
    padding: float | None = None


def _scores_and_their_gradient(function: Callable, call: Call) -> dict:
    """What is returned and, where all is a number, the gradient of its sum by hidden states and weight."""
    hidden, weight = (torch.tensor(value).double() for value in call.args[:2])
    mask = torch.tensor(call.args[2])
    trained = bool(hidden.isfinite().all() and mask.any(1).all())
    leaves = [tensor.requires_grad_(trained) for tensor in (hidden, weight)]
    returned = function(*(leaf.clone() for leaf in leaves), mask)  # may be changed in place
    if isinstance(returned, list | tuple) and returned and all(isinstance(x, Tensor) for x in returned):
        returned = torch.stack(list(returned))
    if returned is None or not trained:
        return None if returned is None else {"scores": returned}
    has_graph = isinstance(returned, Tensor) and returned.requires_grad
    gradients = torch.autograd.grad(returned.sum(), leaves, allow_unused=True) if has_graph else [None] * 2
    names = ("gradient of hidden", "gradient of weight")
    return {"scores": returned} | dict(zip(names, gradients, strict=True))


def _rows(*rows: Row) -> Callable[[random.Random], Call]:
    """Hidden states and a weight, in quarters, in rows of equal width."""

    def call(draw: random.Random) -> Call:
        made = [_drawn(draw, row) for row in rows]
        hidden, mask = (list(column) for column in zip(*made, strict=True))
        return Call((hidden, _vector(draw), mask))

    return call


def _vector(draw: random.Random) -> list[float]:
    return [draw.randint(-12, 12) / 4 or 0.25 for _ in range(WIDTH)]


def _drawn(draw: random.Random, row: Row) -> tuple[list[list[float]], list[bool]]:
    mask = [False] * row.left + [True] * row.tokens + [False] * row.right
    padding = None if row.padding is None else [row.padding] * WIDTH
    return [_vector(draw) if token or padding is None else padding for token in mask], mask


BY_HAND = fixed(
    [[[1.0, 0.0], [2.0, 1.0], [9.0, 9.0]], [[9.0, 9.0], [5.0, 0.0], [0.0, 4.0]]],
    [1.0, 0.5],
    [[True, True, False], [False, True, True]],
)
ANYWHERE = "the last real token, wherever padding stands"
LAST_TOKEN_SCORE = Exercise(
    number="6.2",
    function="last_token_score",
    points=3,
    minutes=20,
    difficulty="medium",
    apply=_scores_and_their_gradient,
    package=("prefcourse.models:RewardModel.forward",),
    cases=(
        Case("by-hand", "two rows, by hand", BY_HAND, NEAR),
        Case("full", "rows of equal length: the last column", _rows(Row(4), Row(4)), NEAR),
        Case("right", ANYWHERE, _rows(Row(4), Row(2, right=2), Row(3, right=1)), NEAR),
        Case("left", ANYWHERE, _rows(Row(4), Row(2, left=2), Row(3, left=1)), NEAR),
        Case("both-sides", ANYWHERE, _rows(Row(3, left=1, right=2), Row(2, left=3, right=1), Row(6)), NEAR),
        Case("one-token", "a row of one token", _rows(Row(1, right=2), Row(1, left=2), Row(3)), NEAR),
        Case("all-padded", "padding in every row", _rows(Row(2, right=3), Row(3, left=1, right=1)), NEAR),
        Case("empty", "a row without tokens has no score: nan", _rows(Row(2, right=1), Row(0, right=3)), NEAR),
        Case(
            "nan",
            "hidden states of padding may hold anything, even nan",
            _rows(Row(3), Row(2, left=1, padding=math.nan), Row(1, right=2, padding=math.nan)),
            NEAR,
        ),
    ),
)


# --- 6.3 expected_calibration_error -------------------------------------------------------------------------


def _of_tensors(function: Callable, call: Call):
    return function(*(torch.tensor(numbers).double() for numbers in call.args), **call.settings)


def _claims(count: int, *, low: int = 0, honest: bool = False, **settings) -> Callable[[random.Random], Call]:
    """Claims between low % and 100 %, none of them on the edge of a bin; `honest` ones come true as often."""

    def call(draw: random.Random) -> Call:
        claimed = [(10 * draw.randrange(low, 100) + draw.choice((3, 7))) / 1000 for _ in range(count)]
        came_true = [float(draw.random() < (claim if honest else 0.6)) for claim in claimed]
        return Call((claimed, came_true), settings)

    return call


def _one_bin(draw: random.Random) -> Call:
    claimed = [(700 + 10 * draw.randrange(10) + 3) / 1000 for _ in range(6)]
    return Call((claimed, [1.0, 0.0, 1.0, 1.0, float(draw.random() < 0.5), 0.0]))


def _with_certainties(draw: random.Random) -> Call:
    """Claims of exactly 1, which cannot be too low, and others in the last bin, which all came true."""
    claimed, _ = _claims(4, low=92)(draw).args
    return Call((claimed + [1.0, 1.0, 1.0], [1.0] * 4 + [1.0, 0.0, 1.0]))


WEIGHED, MANY = "each bin is weighted by the number of its claims", "any number of bins"
EXPECTED_CALIBRATION_ERROR = Exercise(
    number="6.3",
    function="expected_calibration_error",
    points=3,
    minutes=20,
    difficulty="medium",
    apply=_of_tensors,
    package=tuple(
        f"prefcourse.evaluate:{name}" for name in ("expected_calibration_error", "calibration_bins", "judge_scores")
    ),
    cases=(
        Case("by-hand", "two bins, by hand", fixed([0.92, 0.92, 0.62, 0.62], [1.0, 0.0, 1.0, 1.0]), NEAR),
        Case("one-bin", "one bin: claim against truth", _one_bin, NEAR),
        Case("drawn", WEIGHED, _claims(30), NEAR),
        Case("honest", WEIGHED, _claims(40, low=50, honest=True), NEAR),
        Case("five", MANY, _claims(20, bins=5), NEAR),
        Case("twenty", MANY, _claims(25, low=50, bins=20), NEAR),
        Case("single", MANY, _claims(12, bins=1), NEAR),
        Case(
            "edges",
            "an edge belongs to the bin above it",
            fixed([0.0, 0.2, 0.25, 0.45, 0.5, 0.7, 0.75, 0.8], [0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0], bins=4),
            NEAR,
        ),
        Case("certain", "a claim of exactly 1 belongs to the last bin", _with_certainties, NEAR),
        Case("half-right", "a tie is half right", fixed([0.52, 0.53, 0.88], [0.5, 1.0, 0.5]), NEAR),
        Case("alone", "a single claim", fixed([0.85], [0.0]), NEAR),
        Case("scores", "scores are not probabilities: ValueError", fixed([0.7, 2.5], [1.0, 1.0]), NEAR),
        Case("negative", "scores are not probabilities: ValueError", fixed([0.7, -0.5], [1.0, 0.0]), NEAR),
    ),
)

EXERCISES = [BRADLEY_TERRY_LOSS, LAST_TOKEN_SCORE, EXPECTED_CALIBRATION_ERROR]
