"""Chapter 3, the theory of DPO: three questions and the cases that test them. The answers lie apart."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import torch
from torch import Tensor

from prefcourse.checks.exercise import Call, Case, Exercise, Tolerance, fixed

NEAR = Tolerance(relative=1e-5, absolute=1e-5)  # fp32 inside the function is right
NEVER = -math.inf

Table = list[list[float]]  # a row per prompt, a column per answer


def _tensors(call: Call) -> list[Tensor]:
    return [torch.tensor(value, dtype=torch.float64) for value in call.args]


def _as_table(value, like: Tensor) -> Tensor | None:
    """The value in fp64, or None if it is no table of that shape."""
    try:
        rows = value if isinstance(value, Tensor) else [torch.as_tensor(row, dtype=torch.float64) for row in value]
        table = (rows if isinstance(rows, Tensor) else torch.stack(rows)).detach().double()
    except (TypeError, ValueError, RuntimeError):
        return None
    return table if table.shape == like.shape else None


# --- tables to draw -----------------------------------------------------------------------------------------


def _normal(draw: random.Random, prompts: int, answers: int, spread: float = 1.0) -> Table:
    return [[round(draw.gauss(0, spread), 1) for _ in range(answers)] for _ in range(prompts)]


def _eighths(draw: random.Random, prompts: int, answers: int) -> Table:
    """From -2 to 2 in steps of 1/8, which fp32 holds exactly."""
    return [[draw.randint(-16, 16) / 8 for _ in range(answers)] for _ in range(prompts)]


def _logprobs(logits: Table) -> Table:
    return torch.tensor(logits, dtype=torch.float64).log_softmax(-1).tolist()


def _with_bonus(rewards: Table, bonus: list[float]) -> Table:
    """r(x, y) + c(x)."""
    return [[reward + extra for reward in row] for row, extra in zip(rewards, bonus, strict=True)]


# --- 3.1 optimal_policy -------------------------------------------------------------------------------------


def _policy_and_its_conditions(function: Callable, call: Call) -> dict | Tensor:
    """The table, whether each row is a distribution, and how far r - beta log(pi / ref) is from being constant."""
    ref, rewards = _tensors(call)
    returned = function(ref.clone(), rewards.clone(), **call.settings)
    logprobs = _as_table(returned, ref)
    if logprobs is None:
        return returned
    residual = rewards - call.settings["beta"] * (logprobs - ref)
    possible = ref > NEVER
    spread = [float(row[there].max() - row[there].min()) for row, there in zip(residual, possible, strict=True)]
    sums = logprobs.exp().sum(-1)
    return {"log-probabilities": logprobs, "probabilities sum to": sums, "KKT residual": spread}


def _world(prompts: int, answers: int, beta: float, rewards: Callable = _normal, bonus: list[float] | None = None):
    """A drawn reference and drawn rewards."""

    def call(draw: random.Random) -> Call:
        ref = _logprobs(_normal(draw, prompts, answers))
        return Call((ref, _with_bonus(rewards(draw, prompts, answers), bonus or [0.0] * prompts)), {"beta": beta})

    return call


HALVES = [[math.log(0.5), math.log(0.5)]]
SEVERAL, TINY = "the optimum, for several betas", "stable at beta 0.001"
OPTIMAL_POLICY = Exercise(
    number="3.1",
    function="optimal_policy",
    points=3,
    minutes=15,
    difficulty="medium",
    apply=_policy_and_its_conditions,
    package=tuple(f"prefcourse.worlds.table:{name}" for name in ("optimal_policy", "_tilted", "TableWorld.optimum")),
    cases=(
        Case("coin", "two answers, by hand", fixed(HALVES, [[1.0, 0.0]], beta=1.0), NEAR),
        *(Case(f"beta-{beta}", SEVERAL, _world(3, 5, beta), NEAR) for beta in (0.3, 1.0, 4.0)),
        Case("small", SEVERAL, _world(1, 3, 2.0), NEAR),  # what fails above is shown on this, if it fails here, too
        Case(
            "equal-rewards",
            "equal rewards: the reference itself",
            lambda draw: Call((_logprobs(_normal(draw, 2, 4)), [[0.7] * 4, [-2.0] * 4]), {"beta": 0.5}),
            NEAR,
        ),
        Case(
            "bonus",
            "every prompt by itself: a bonus for all answers to a prompt changes nothing",
            _world(3, 4, 0.5, bonus=[0.0, 40.0, -40.0]),
            NEAR,
        ),
        Case("tiny-beta", TINY, _world(3, 5, 0.001, rewards=_eighths), NEAR),
        Case("tiny-beta-ties", TINY, fixed(_logprobs([[0.0, 1.0, 2.0]]), [[1.5, 1.5, 0.25]], beta=0.001), NEAR),
        Case("large-beta", "a large beta: next to the reference", _world(2, 4, 1e3), Tolerance(1e-4, 1e-3)),
        Case(
            "extreme",
            "finite at rewards of 10,000",
            fixed(_logprobs([[0.0, 0.5, -1.0], [1.0, 0.0, 0.0]]), [[1e4, -1e4, 0.0], [-1e4, -1e4, 1e4]], beta=0.5),
            NEAR,
        ),
        Case(
            "never",
            "what the reference never says stays at probability 0",
            fixed([[math.log(0.25), NEVER, math.log(0.75)]], [[0.0, 5.0, 1.0]], beta=1.0),
            NEAR,
        ),
        Case("single", "a single answer: probability 1", fixed([[0.0], [0.0]], [[3.0], [-7.0]], beta=0.1), NEAR),
        Case("beta-zero", "beta 0 or below: ValueError", fixed(HALVES, [[1.0, 0.0]], beta=0.0), NEAR),
        Case("beta-negative", "beta 0 or below: ValueError", fixed(HALVES, [[1.0, 0.0]], beta=-0.5), NEAR),
    ),
)


# --- 3.2 implicit_reward ------------------------------------------------------------------------------------


def _differences(function: Callable, call: Call) -> dict | Tensor:
    """Rewards over that of each prompt's first answer: nobody can know more of them."""
    policy, ref = _tensors(call)
    returned = function(policy.clone(), ref.clone(), **call.settings)
    rewards = _as_table(returned, ref)
    return returned if rewards is None else {"reward over that of the first answer": rewards - rewards[:, :1]}


def _planted(prompts: int, answers: int, beta: float, bonus: list[float] | None = None):
    """A policy that is optimal under drawn rewards."""

    def call(draw: random.Random) -> Call:
        ref = torch.tensor(_logprobs(_normal(draw, prompts, answers)), dtype=torch.float64)
        rewards = _with_bonus(_normal(draw, prompts, answers), bonus or [0.0] * prompts)
        policy = (ref + torch.tensor(rewards, dtype=torch.float64) / beta).log_softmax(-1)
        return Call((policy.tolist(), ref.tolist()), {"beta": beta})

    return call


def _unrelated(prompts: int, answers: int, beta: float):
    return lambda draw: Call(tuple(_logprobs(_normal(draw, prompts, answers)) for _ in range(2)), {"beta": beta})


PLANTED = "the reward under which the policy is optimal, for several betas"
NOT_SAID = "an answer that the policy never gives: -inf; one that neither gives: nan"
IMPLICIT_REWARD = Exercise(
    number="3.2",
    function="implicit_reward",
    points=2,
    minutes=10,
    difficulty="easy",
    apply=_differences,
    package=tuple(f"prefcourse.worlds.table:{name}" for name in ("implicit_reward", "TableWorld.implicit_reward")),
    cases=(
        Case(
            "by-hand",
            "two answers, by hand",
            fixed([[math.log(0.8), math.log(0.2)]], [[math.log(0.5), math.log(0.5)]], beta=0.5),
            NEAR,
        ),
        *(Case(f"beta-{beta}", PLANTED, _planted(3, 5, beta), NEAR) for beta in (0.1, 0.7, 3.0)),
        Case("small", PLANTED, _planted(1, 3, 2.0), NEAR),
        Case("bonus", "r and r + c(x) give the same", _planted(3, 4, 0.5, bonus=[0.0, 9.0, -9.0]), NEAR),
        Case("any-policy", "for any policy, optimal or not", _unrelated(3, 4, 0.3), NEAR),
        Case(
            "itself",
            "a policy equal to its reference: all rewards equal",
            lambda draw: Call(tuple([_logprobs(_normal(draw, 2, 4))] * 2), {"beta": 2.0}),
            NEAR,
        ),
        Case(
            "rare",
            "what counts is not what is likely but what became likelier",
            fixed([[math.log(0.9), math.log(0.1)]], [[math.log(0.99), math.log(0.01)]], beta=1.0),
            NEAR,
        ),
        Case(
            "extreme",
            "finite at log-probabilities of -10,000",
            fixed([[-1e4, -9e3, -1.0]], [[-9e3, -1e4, -2.0]], beta=0.1),
            NEAR,
        ),
        Case(
            "never",
            NOT_SAID,
            fixed([[0.0, NEVER, NEVER]], [[math.log(0.5), math.log(0.5), NEVER]], beta=1.0),
            NEAR,
        ),
    ),
)


# --- 3.3 dpo_gradient_weight --------------------------------------------------------------------------------


def _of_tensors(function: Callable, call: Call):
    return function(*_tensors(call), **call.settings)


def _pairs(count: int, beta: float, spread: float = 3.0):
    """Log-probabilities as of short answers: policy chosen, policy rejected, reference chosen, reference rejected."""
    return lambda draw: Call(
        tuple([round(draw.gauss(-20, spread), 1) for _ in range(count)] for _ in range(4)), {"beta": beta}
    )


FOUR = "one weight per pair, for several betas"
DPO_GRADIENT_WEIGHT = Exercise(
    number="3.3",
    function="dpo_gradient_weight",
    points=2,
    minutes=10,
    difficulty="medium",
    apply=_of_tensors,
    cases=(
        Case("by-hand", "one pair, by hand", fixed([-2.0], [-4.0], [-3.0], [-3.0], beta=0.5), NEAR),
        *(Case(f"beta-{beta}", FOUR, _pairs(4, beta), NEAR) for beta in (0.05, 0.3, 2.0)),
        Case("start", "policy equal to reference: one half each", fixed(*[[-3.0, -8.0], [-7.0, -1.0]] * 2, beta=0.1)),
        Case(
            "wrong-order",
            "a pair in the wrong order weighs nearly 1, one in the right order nearly 0",
            fixed([-30.0, -5.0], [-5.0, -30.0], [-15.0, -15.0], [-15.0, -15.0], beta=0.4),
            NEAR,
        ),
        Case(
            "reference",
            "what counts is the order of the implicit rewards, not which answer is likelier",
            fixed([-4.0, -9.0], [-6.0, -5.0], [-1.0, -30.0], [-9.0, -6.0], beta=1.0),
            NEAR,
        ),
        Case(
            "both-fall",
            "both log-probabilities lower by the same: the same weight",
            lambda draw: Call(
                ([-12.0, -12.0 - (low := draw.randint(5, 50))], [-14.0, -14.0 - low], [-13.0] * 2, [-13.5] * 2),
                {"beta": 0.7},
            ),
            NEAR,
        ),
        Case(
            "extreme",
            "finite at log-ratios of 10,000",
            fixed([1e4, -1e4, -1e4], [-1e4, 1e4, -1e4], [0.0] * 3, [0.0] * 3, beta=0.5),
            NEAR,
        ),
    ),
)

EXERCISES = [OPTIMAL_POLICY, IMPLICIT_REWARD, DPO_GRADIENT_WEIGHT]
