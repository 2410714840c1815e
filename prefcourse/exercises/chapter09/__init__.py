"""Chapter 9, the theory of PPO: three questions and the cases that test them. The answers lie apart."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from prefcourse.checks.exercise import Call, Case, Exercise, Tolerance, fixed
from prefcourse.exercises.tensors import tensors_of, with_gradients

NEAR = Tolerance(relative=1e-5, absolute=1e-5)  # fp32 inside the function is right
Table = list[list[float]]
Draw = Callable[[random.Random], Call]


def _mask(lengths: Sequence[int], left: Sequence[int]) -> list[list[bool]]:
    """True on the tokens of each row, after `left` columns of padding."""
    width = max(start + length for start, length in zip(left, lengths, strict=True))
    return [[start <= t < start + n for t in range(width)] for start, n in zip(left, lengths, strict=True)]


# --- 9.1 ppo_clip_loss --------------------------------------------------------------------------------------

LOW, INSIDE, HIGH = (-1.2, -0.8), (-0.06, -0.04, 0.04, 0.06), (0.8, 1.2)  # log-ratios: far from any bound used here


def _tokens(lengths: Sequence[int], low: float, high: float, *, left: Sequence[int] = (), shared: bool = False) -> Draw:
    """Tokens of all six kinds, as far as there are enough of them; padding holds numbers that mean nothing."""

    def call(draw: random.Random) -> Call:
        mask = _mask(lengths, left or [0] * len(lengths))
        kinds = [(zone, sign) for zone in (LOW, INSIDE, HIGH) for sign in (1, -1)]
        draw.shuffle(kinds)
        old, new, advantages = [], [], []
        for row in mask:
            old.append([-draw.randint(10, 40) / 8 if here else -draw.randint(40, 70) / 8 for here in row])
            drawn = [kinds[(len(new) * len(row) + t) % 6] for t in range(len(row))]
            new.append([o + draw.choice(zone) for o, (zone, _) in zip(old[-1], drawn, strict=True)])
            advantages.append([sign * draw.randint(2, 24) / 8 for _, sign in drawn])
        advantages = [row[:1] for row in advantages] if shared else advantages
        return Call((_rounded(new), old, advantages, mask), {"clip_low": low, "clip_high": high})

    return call


def _rounded(table: Table) -> Table:
    return [[round(x, 3) for x in row] for row in table]


def _unmoved(draw: random.Random) -> Call:
    """The first step after sampling: all ratios are 1."""
    logprobs = [[-draw.randint(1, 30) / 8 for _ in range(3)] for _ in range(2)]
    advantages = [[draw.randint(-16, 16) / 8 for _ in range(3)] for _ in range(2)]
    return Call(
        (logprobs, logprobs, advantages, [[True] * 3, [True, True, False]]), {"clip_low": 0.2, "clip_high": 0.2}
    )


def _one_token(logprob: float, old: float, advantage: float) -> Draw:
    return fixed([[logprob]], [[old]], [[advantage]], [[True]], clip_low=0.2, clip_high=0.2)


def _nothing(draw: random.Random) -> Call:
    return fixed([[-1.0, -2.0]], [[-3.0, -0.5]], [[1.0, 1.0]], [[False, False]], clip_low=0.2, clip_high=0.2)(draw)


ZONES, UNEQUAL = "six zones: value, and a gradient of exactly 0 in two of them", "bounds that are not equal"
SHARED, MEAN = "one advantage for a whole response", "the mean over the tokens of the batch; padding does not count"
PPO_CLIP_LOSS = Exercise(
    number="9.1",
    function="ppo_clip_loss",
    points=3,
    minutes=20,
    difficulty="medium",
    apply=with_gradients("logprobs", "old_logprobs", "advantages", "mask", constant=("old_logprobs", "advantages")),
    package=("prefcourse.losses:ppo_clip_loss", "prefcourse.losses:ppo_token_losses"),
    cases=(
        Case("by-hand", "one token, by hand", _one_token(-1.0 + math.log(1.5), -1.0, 2.0), NEAR),
        *(
            Case(f"{name}-{sign:+d}", ZONES, _one_token(-2.0 + zone, -2.0, 1.5 * sign), NEAR)
            for name, zone in (("low", -0.8), ("inside", 0.05), ("high", 0.8))
            for sign in (1, -1)
        ),
        Case("zones", ZONES, _tokens((6,), 0.2, 0.2), NEAR),
        Case("lower", UNEQUAL, _tokens((6,), 0.1, 0.4), NEAR),
        Case("higher", UNEQUAL, _tokens((3, 3), 0.5, 0.1), NEAR),
        Case("shared", SHARED, _tokens((3, 3), 0.2, 0.2, shared=True), NEAR),
        Case("shared-lengths", SHARED, _tokens((4, 1, 2), 0.2, 0.3, shared=True), NEAR),
        Case("unmoved", "policy equal to old policy: minus the mean advantage", _unmoved, NEAR),
        Case("lengths", MEAN, _tokens((4, 1), 0.2, 0.2), NEAR),
        Case("left", MEAN, _tokens((2, 4), 0.2, 0.2, left=(2, 0)), NEAR),
        Case("empty", "a response without tokens counts nothing; no token at all: 0", _tokens((3, 0), 0.2, 0.2), NEAR),
        Case("nothing", "a response without tokens counts nothing; no token at all: 0", _nothing, NEAR),
        Case(
            "extreme",
            "finite at log-ratios of 10,000, where the clip binds",
            fixed([[0.0, -1e4]], [[-1e4, 0.0]], [[1.0, -1.0]], [[True, True]], clip_low=0.2, clip_high=0.2),
            NEAR,
        ),
    ),
)


# --- 9.2 gae ------------------------------------------------------------------------------------------------


def _advantages_and_returns(function: Callable, call: Call) -> dict:
    """Both tables, and whether a gradient would flow back to the values."""
    rewards, values, mask = tensors_of(call)
    returned = function(rewards, values.requires_grad_(), mask, **call.settings)
    if not isinstance(returned, tuple | list) or len(returned) != 2:
        return {"what should be two tables": returned}
    flows = any(isinstance(x, Tensor) and x.requires_grad for x in returned)
    tables = [x.detach() if isinstance(x, Tensor) else x for x in returned]
    return {"advantages": tables[0], "returns": tables[1], "a gradient flows back": flows}


def _responses(
    lengths: Sequence[int], gamma: float, gae_lambda: float, *, left: Sequence[int] = (), holes: Sequence[tuple] = (),
    last_only: bool = False,
) -> Draw:  # fmt: skip
    """Rewards and values in eighths. Padding and holes hold numbers, too: they mean nothing."""

    def call(draw: random.Random) -> Call:
        mask = _mask(lengths, left or [0] * len(lengths))
        for row, t in holes:
            mask[row][t] = False
        rewards, values = ([[draw.randint(-16, 16) / 8 for _ in row] for row in mask] for _ in "rv")
        if last_only:
            ends = [max((t for t, here in enumerate(row) if here), default=-1) for row in mask]
            rewards = [
                [x if t == end else 0.0 for t, x in enumerate(row)] for row, end in zip(rewards, ends, strict=True)
            ]
        return Call((rewards, values, mask), {"gamma": gamma, "gae_lambda": gae_lambda})

    return call


SEVERAL = "advantages and returns, for several gamma and lambda"
PADDED = "padding is 0 in both, and nothing of it gets in"
GAE = Exercise(
    number="9.2",
    function="gae",
    points=3,
    minutes=25,
    difficulty="medium",
    apply=_advantages_and_returns,
    package=("prefcourse.advantages:gae",),
    cases=(
        Case(
            "by-hand",
            "two tokens, by hand",
            fixed([[0.0, 1.0]], [[0.5, 0.75]], [[True, True]], gamma=1.0, gae_lambda=0.5),
            NEAR,
        ),
        *(
            Case(f"{gamma}-{gae_lambda}", SEVERAL, _responses((4, 4), gamma, gae_lambda), NEAR)
            for gamma, gae_lambda in ((1.0, 0.95), (0.5, 0.75), (0.9, 0.5))
        ),
        Case("td", "lambda 0: the TD error", _responses((3,), 0.9, 0.0), NEAR),
        Case("monte-carlo", "lambda 1: what came minus what was expected", _responses((3,), 0.75, 1.0), NEAR),
        Case("last-only", "a score on the last token only", _responses((5,), 1.0, 0.5, last_only=True), NEAR),
        Case("one-token", "a response of one token: reward minus value", _responses((1, 1), 0.9, 0.9), NEAR),
        Case("right", PADDED, _responses((4, 2), 0.9, 0.75), NEAR),
        Case("left", PADDED, _responses((2, 4), 0.9, 0.75, left=(2, 0)), NEAR),
        Case("empty", "a response without tokens: zeros", _responses((2, 0), 1.0, 0.5), NEAR),
        Case(
            "hole",
            "tokens in between that are not the policy's are stepped over",
            _responses((4,), 0.9, 0.75, holes=[(0, 1)]),
            NEAR,
        ),
        Case(
            "holes",
            "tokens in between that are not the policy's are stepped over",
            _responses((5, 6), 1.0, 0.5, holes=[(0, 2), (1, 1), (1, 2)]),
            NEAR,
        ),
        Case(
            "extreme",
            "finite at scores of 10,000",
            fixed([[0.0, 1e4], [0.0, -1e4]], [[1e4, -1e4], [0.0, 0.0]], [[True, True]] * 2, gamma=1.0, gae_lambda=0.95),
            NEAR,
        ),
    ),
)


# --- 9.3 kl_estimators --------------------------------------------------------------------------------------


def _estimators_and_gradients(function: Callable, call: Call) -> dict:
    """Each estimate, its gradient, and, where all answers are given, its mean under the policy."""
    logprobs, ref_logprobs = (tensor.requires_grad_() for tensor in tensors_of(call))
    returned = function(logprobs, ref_logprobs)
    if not isinstance(returned, tuple | list) or len(returned) != 3:
        return {"what should be three estimates": returned}
    facts, policy, leaks = {}, logprobs.detach().exp(), False
    for name, k in zip(("k1", "k2", "k3"), returned, strict=True):
        facts[name] = k
        usable = isinstance(k, Tensor) and k.shape == logprobs.shape
        if usable and abs(policy.sum().item() - 1) < 1e-6:
            facts[f"mean of {name} under the policy"] = (policy * k.detach()).sum()
        found = [None, None]
        if isinstance(k, Tensor) and k.requires_grad:
            found = torch.autograd.grad(k.sum(), (logprobs, ref_logprobs), retain_graph=True, allow_unused=True)
        facts[f"gradient of logprobs through {name}"] = found[0]
        leaks |= found[1] is not None and bool(found[1].any())
    return facts | {"ref_logprobs receives a gradient": leaks}


def _every_answer(count: int, spread: float) -> Draw:
    """Policy and reference with log-probabilities of ALL answers."""

    def call(draw: random.Random) -> Call:
        logits = torch.tensor([[draw.gauss(0, spread) for _ in range(count)] for _ in range(2)], dtype=torch.float64)
        return Call(tuple(logits.log_softmax(-1).tolist()))

    return call


def _samples(draw: random.Random) -> Call:
    """Of a language model: some answers of the many that there are."""
    ref = [-draw.randint(40, 160) / 8 for _ in range(5)]
    return Call(([x + draw.choice([-2.0, -1.0, -0.5, 0.25, 1.0, 3.0]) for x in ref], ref))


HALVES = [math.log(0.5)] * 2
DIRECTION = "k1 and k3: their mean under the policy is KL(policy, reference)"
KL_ESTIMATORS = Exercise(
    number="9.3",
    function="kl_estimators",
    points=3,
    minutes=20,
    difficulty="medium",
    apply=_estimators_and_gradients,
    package=tuple(f"prefcourse.advantages:kl_k{n}" for n in (1, 2, 3)),
    cases=(
        Case("by-hand", "two answers, by hand", fixed([math.log(0.25), math.log(0.75)], HALVES), NEAR),
        Case("near", DIRECTION, _every_answer(3, 0.3), NEAR),
        Case("far", DIRECTION, _every_answer(4, 1.5), NEAR),
        Case("samples", "one of each per sample, of answers with any log-probability", _samples, NEAR),
        Case(
            "equal", "policy equal to reference: 0, and only k1 has a gradient", fixed([-1.0, -2.5], [-1.0, -2.5]), NEAR
        ),
        Case("rarer", "an answer that became rarer: k1 below 0, k2 and k3 above", fixed([-4.0], [-1.0]), NEAR),
        Case("likelier", "an answer that became likelier: all three above 0", fixed([-1.0], [-4.0]), NEAR),
        Case("extreme", "finite at log-ratios of 10,000", fixed([-1.0, -2.0], [-10_001.0, -2.5]), NEAR),
    ),
)

EXERCISES = [PPO_CLIP_LOSS, GAE, KL_ESTIMATORS]
