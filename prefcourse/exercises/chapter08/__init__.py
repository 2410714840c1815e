"""Chapter 8, KL control: three questions and the cases that test them. The answers lie apart."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import torch
from torch import Tensor

from prefcourse.checks.exercise import Call, Case, Exercise, Tolerance, fixed

NEAR = Tolerance(relative=1e-5, absolute=1e-5)  # fp32 inside the function is right
BISECTED = Tolerance(relative=1e-4, absolute=1e-4)
NEVER, INFINITE = -math.inf, math.inf

Table = list[list[float]]  # a row per prompt, a column per answer


def _tensor(rows: Table) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def _as_tensor(value, shape: torch.Size) -> Tensor | None:
    """The value in fp64, or None if it is nothing of that shape."""
    try:
        parts = value if isinstance(value, Tensor) else [torch.as_tensor(part, dtype=torch.float64) for part in value]
        tensor = (parts if isinstance(parts, Tensor) else torch.stack(parts)).detach().double()
    except (TypeError, ValueError, RuntimeError):
        return None
    return tensor if tensor.shape == shape else None


def _normal(draw: random.Random, prompts: int, answers: int, scale: float = 1.0) -> Table:
    return [[round(draw.gauss(0, scale), 2) for _ in range(answers)] for _ in range(prompts)]


def _reference(draw: random.Random, prompts: int, answers: int) -> Table:
    return _tensor(_normal(draw, prompts, answers)).log_softmax(-1).tolist()


HALVES = [[math.log(0.5), math.log(0.5)]]


# --- 8.1 frontier -------------------------------------------------------------------------------------------

MANY = 8  # betas from which on chords are looked at, too


def _points(function: Callable, call: Call):
    """KL and reward at each beta; with many betas also the slopes from one point to the next."""
    ref, rewards, betas = call.args
    returned = function(_tensor(ref), _tensor(rewards), list(betas))
    points = _as_tensor(returned, torch.Size([2, len(betas)]))
    if points is None:
        return _of_another_shape(returned)
    facts = {"KL": points[0], "expected reward": points[1]}
    if len(betas) >= MANY:
        facts["slope from point to point"] = points[1].diff() / points[0].diff()
    return facts


def _of_another_shape(returned) -> dict | None:
    """By name, so that a message can say which part has which shape. What is no pair is taken for the KLs alone."""
    if returned is None:  # a missing `return` has a note of its own
        return None
    try:
        kl, reward = returned
    except (TypeError, ValueError):
        kl, reward = returned, None
    return {"KL": kl, "expected reward": reward}


def _sweep(prompts: int, answers: int, betas: list[float]):
    return lambda draw: Call((_reference(draw, prompts, answers), _normal(draw, prompts, answers), betas))


DENSE = [round(1.1**-i, 4) for i in range(-6, 10)]
FAR = "small betas and large rewards: the best answers, and finite"
FRONTIER = Exercise(
    number="8.1",
    function="frontier",
    points=3,
    minutes=15,
    difficulty="medium",
    apply=_points,
    package=("prefcourse.worlds.table:TableWorld.frontier",),
    cases=(
        Case("coin", "two answers, by hand", fixed(HALVES, [[math.log(3), 0.0]], [1.0]), NEAR),
        Case("one-prompt", "KL and reward at several betas", _sweep(1, 4, [4.0, 1.0, 0.3]), NEAR),
        Case("several", "several prompts: the mean over them", _sweep(3, 5, [2.0, 0.7, 0.2]), NEAR),
        Case("unsorted", "in the order in which the betas are given", _sweep(2, 3, [0.5, 3.0, 0.1, 3.0]), NEAR),
        Case(
            "dense",
            "concave, with slope beta",
            lambda draw: Call((
                _reference(draw, 2, 4),
                [[2.0, -1.0, 0.5, 0.0], [float(draw.randint(1, 3)), 0.0, -0.5, 1.5]],
                DENSE,
            )),
            Tolerance(1e-3, 1e-4),
        ),
        Case(
            "equal-rewards",
            "equal rewards: no KL is spent",
            lambda draw: Call((_reference(draw, 2, 3), [[0.5] * 3, [-2.0] * 3], [1.0, 0.1])),
            NEAR,
        ),
        Case("infinite-beta", "an infinite beta: the reference", _sweep(2, 3, [INFINITE, 1.0]), NEAR),
        Case(
            "never",
            "what the reference never says costs nothing and earns nothing",
            fixed([[math.log(0.25), NEVER, math.log(0.75)]], [[1.0, 5.0, 0.0]], [1.0, 0.1]),
            NEAR,
        ),
        Case(
            "tiny-beta",
            FAR,
            fixed([[math.log(0.2), math.log(0.5), math.log(0.3)]], [[2.0, 1.0, -1.0]], [0.001, 0.01]),
            NEAR,
        ),
        Case(
            "extreme",
            FAR,
            fixed([[math.log(0.125), math.log(0.875)], [math.log(0.5)] * 2], [[1e4, -1e4], [-1e4, 1e4]], [0.5]),
            NEAR,
        ),
        Case("single", "a single answer: KL 0", fixed([[0.0]], [[3.0]], [2.0, 0.5]), NEAR),
        Case("beta-zero", "a beta of 0 or below: ValueError", fixed(HALVES, [[1.0, 0.0]], [1.0, 0.0])),
        Case("beta-negative", "a beta of 0 or below: ValueError", fixed(HALVES, [[1.0, 0.0]], [-0.5])),
    ),
)


# --- 8.2 adaptive_kl ----------------------------------------------------------------------------------------


def _next_beta(function: Callable, call: Call):
    beta, log_ratios, mask = call.args
    return function(beta, _tensor(log_ratios), torch.tensor(mask), **call.settings)


def _batch(draw: random.Random, lengths: list[int], width: int, kl: float, left: bool = False) -> tuple[Table, list]:
    """Log-ratios whose sums have about that mean; padding holds other numbers, and must not matter."""
    rows, mask = [], []
    for length in lengths:
        real = [round(draw.gauss(kl / max(length, 1), 0.25), 2) for _ in range(length)]
        padding = [round(draw.gauss(3, 1), 2) for _ in range(width - length)]
        rows.append(padding + real if left else real + padding)
        true, false = [True] * length, [False] * (width - length)
        mask.append(false + true if left else true + false)
    return rows, mask


def _round(beta: float, lengths: list[int], width: int, kl: float, target: float, gain: float, left: bool = False):
    def call(draw: random.Random) -> Call:
        return Call((beta, *_batch(draw, lengths, width, kl, left)), {"target": target, "gain": gain})

    return call


def _exactly(beta: float, sums: list[float], target: float, gain: float):
    """Two tokens a row, no padding."""
    rows = [[round(total / 4, 4), round(total - round(total / 4, 4), 4)] for total in sums]
    return fixed(beta, rows, [[True, True]] * len(rows), target=target, gain=gain)


BEYOND = "an error beyond 0.2, on either side: clipped"
ONE_TRUE = [[True, True, False], [True, False, False]]
ADAPTIVE_KL = Exercise(
    number="8.2",
    function="adaptive_kl",
    points=3,
    minutes=15,
    difficulty="medium",
    apply=_next_beta,
    cases=(
        Case("by-hand", "three responses, by hand", _exactly(0.1, [5.0, 6.0, 7.6], 6.0, 0.1), NEAR),
        Case("below", "below the target: beta falls", _exactly(0.05, [2.0, 1.4], 2.0, 0.5), NEAR),
        Case("above", "above the target: beta grows", _exactly(2.0, [1.2, 1.0, 0.98], 1.0, 1.0), NEAR),
        Case("on-target", "on the target: beta stays the same", _exactly(0.3, [1.0, 3.0], 2.0, 0.1), NEAR),
        Case("far-above", BEYOND, _exactly(0.1, [9.0, 30.0], 3.0, 0.1), NEAR),
        Case("far-below", BEYOND, _exactly(0.1, [0.5, 1.0], 3.0, 0.5), NEAR),
        Case(
            "negative",
            "an estimate below 0 lies below the target: beta falls",
            _exactly(0.2, [-2.6, 0.4], 1.0, 0.1),
            NEAR,
        ),
        Case(
            "unequal",
            "one KL per response: the sum over its tokens, then the mean over responses",
            fixed(0.1, [[0.9, 1.2, 0.0], [2.2, 0.0, 0.0]], ONE_TRUE, target=2.0, gain=0.5),
            NEAR,
        ),
        Case(
            "signs",
            "log-ratios keep their signs",
            fixed(0.1, [[1.5, -0.4], [0.9, -0.1]], [[True, True]] * 2, target=1.0, gain=0.5),
            NEAR,
        ),
        *(
            Case(
                f"padded-{side}",
                "padding on either side does not count",
                _round(0.2, [4, 1, 3], 6, 4.0, 4.0, 0.3, left),
            )
            for side, left in (("left", True), ("right", False))
        ),
        Case(
            "nan-padding",
            "padding may hold nan and infinities",
            fixed(
                0.1,
                [[0.5, math.nan, math.inf], [0.25, 0.25, -math.inf]],
                [ONE_TRUE[1], ONE_TRUE[0]],
                target=0.45,
                gain=0.2,
            ),
            NEAR,
        ),
        Case(
            "empty-response",
            "a response without tokens has KL 0, and counts",
            fixed(0.1, [[2.1, 0.0], [0.0, 0.0]], [[True, False], [False, False]], target=1.0, gain=0.1),
            NEAR,
        ),
        Case("beta-zero", "a beta of 0 stays 0", _exactly(0.0, [5.0, 5.0], 1.0, 0.1), NEAR),
        Case("large-gain", "any gain", _exactly(1.0, [1.05, 1.15], 1.0, 4.0), NEAR),
        Case("target-zero", "a target of 0 or below: ValueError", _exactly(0.1, [1.0], 0.0, 0.1)),
        Case("target-negative", "a target of 0 or below: ValueError", _exactly(0.1, [1.0], -1.0, 0.1)),
    ),
)


# --- 8.3 project_to_kl --------------------------------------------------------------------------------------


def _policy_and_its_place(function: Callable, call: Call):
    """The probabilities, and where they stand in the plane."""
    ref, rewards = _tensor(call.args[0]), _tensor(call.args[1])
    returned = function(ref.clone(), rewards.clone(), **call.settings)
    logprobs = _as_tensor(returned, ref.shape)
    if logprobs is None:
        return None if returned is None else {"probabilities": returned}  # the message names its shape
    policy = logprobs.exp()
    log_ratio = (logprobs - ref).masked_fill(policy == 0, 0.0)
    return {
        "probabilities": policy,
        "KL": float((policy * log_ratio).sum(-1).mean()),
        "expected reward": float((policy * rewards).sum(-1).mean()),
        "probabilities sum to": policy.sum(-1),
    }


def _budget(prompts: int, answers: int, budget: float, scale: float = 1.0):
    def call(draw: random.Random) -> Call:
        ref, rewards = _reference(draw, prompts, answers), _normal(draw, prompts, answers, scale)
        best = [row.index(max(row)) for row in rewards]
        price = sum(-row[column] for row, column in zip(ref, best, strict=True)) / prompts  # of the best answers alone
        return Call((ref, rewards), {"budget": round(budget * price, 6)})

    return call


SHARE = "the best policy with that KL, for several budgets"
TOO_MUCH = "a budget that cannot be spent: the reference among the best answers only"
THIRDS = [[math.log(0.5), math.log(0.3), math.log(0.2)]]
PROJECT_TO_KL = Exercise(
    number="8.3",
    function="project_to_kl",
    points=4,
    minutes=25,
    difficulty="hard",
    apply=_policy_and_its_place,
    cases=(
        Case("coin", "two answers, by hand", fixed(HALVES, [[5.0, 2.0]], budget=0.130812), BISECTED),
        *(Case(f"budget-{share}", SHARE, _budget(1, 4, share), BISECTED) for share in (0.05, 0.4, 0.9)),
        Case(
            "prompts",
            "several prompts: the MEAN KL is the budget, and one beta serves all",
            _budget(3, 4, 0.4),
            BISECTED,
        ),
        Case(
            "unlike-prompts",
            "several prompts: the MEAN KL is the budget, and one beta serves all",
            fixed([[math.log(0.5)] * 2, [math.log(0.5)] * 2], [[0.1, 0.0], [4.0, 0.0]], budget=0.2),
            BISECTED,
        ),
        Case("scale-large", "rewards of any scale: the same policy", _budget(2, 3, 0.05, scale=5000.0), BISECTED),
        Case("scale-small", "rewards of any scale: the same policy", _budget(2, 3, 0.5, scale=0.1), BISECTED),
        Case("zero", "budget 0: the reference", _budget(2, 4, 0.0), BISECTED),
        Case("too-much", TOO_MUCH, fixed(THIRDS, [[0.0, 1.0, -1.0]], budget=3.0), BISECTED),
        Case("ties", TOO_MUCH, fixed(THIRDS, [[1.0, 0.0, 1.0]], budget=2.0), BISECTED),
        Case("infinite", TOO_MUCH, fixed(THIRDS, [[0.0, 1.0, 2.0]], budget=INFINITE), BISECTED),
        Case(
            "equal-rewards",
            "equal rewards: the reference, whatever the budget",
            fixed(THIRDS, [[2.0] * 3], budget=1.0),
            BISECTED,
        ),
        Case(
            "never",
            "what the reference never says stays at probability 0",
            fixed([[math.log(0.25), NEVER, math.log(0.75)]], [[1.0, 5.0, 0.0]], budget=0.5),
            BISECTED,
        ),
        Case(
            "never-too-much",
            "what the reference never says stays at probability 0",
            fixed([[math.log(0.25), NEVER, math.log(0.75)]], [[1.0, 5.0, 0.0]], budget=9.0),
            BISECTED,
        ),
        Case("negative", "a negative budget: ValueError", fixed(HALVES, [[1.0, 0.0]], budget=-0.1)),
    ),
)

EXERCISES = [FRONTIER, ADAPTIVE_KL, PROJECT_TO_KL]
