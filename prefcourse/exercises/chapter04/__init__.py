"""Chapter 4, DPO implemented: three questions and the cases that test them. The answers lie apart."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from prefcourse.checks.exercise import Call, Case, Exercise, Tolerance, fixed
from prefcourse.exercises.rows import Row, batch
from prefcourse.exercises.tensors import of_tensors, tensors_of, with_gradients

NEAR = Tolerance(relative=1e-5, absolute=1e-5)  # fp32 inside the function is right


# --- 4.1 sequence_logprobs ----------------------------------------------------------------------------------


def _sums_and_their_gradient(function: Callable, call: Call) -> dict | None:
    """What is returned and, where all logits are numbers, the gradient of its sum by the logits."""
    logits, input_ids, response_mask = tensors_of(call)
    is_finite = bool(logits.isfinite().all())
    returned = function(logits.requires_grad_(is_finite).clone(), input_ids, response_mask)  # may be changed in place
    if returned is None:
        return None
    if isinstance(returned, list | tuple) and returned and all(isinstance(x, Tensor) for x in returned):
        returned = torch.stack(list(returned))
    facts = {"sums": returned}
    if is_finite:
        has_graph = isinstance(returned, Tensor) and returned.requires_grad
        gradient = torch.autograd.grad(returned.sum(), logits, allow_unused=True) if has_graph else [None]
        facts["gradient of logits"] = gradient[0]
    return facts


BY_HAND = fixed(
    [[[1.0, 0.0], [0.0, 0.0], [math.log(3), 0.0], [0.0, 2.0]]], [[1, 0, 1, 0]], [[False, False, True, True]]
)
EXTREME = fixed(
    [[[0.0, 0.0, 0.0], [1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [0.0, 0.0, 0.0]]] * 2,
    [[2, 2, 0, 1], [2, 2, 2, 0]],
    [[False, False, True, True]] * 2,
)
RIGHT, ANYWHERE = "the sum over the response, prompt left out", "padding adds nothing, wherever it stands"
SEQUENCE_LOGPROBS = Exercise(
    number="4.1",
    function="sequence_logprobs",
    points=3,
    minutes=25,
    difficulty="medium",
    apply=_sums_and_their_gradient,
    package=tuple(
        f"prefcourse.logprobs:{name}" for name in ("sequence_logprobs", "token_logprobs", "_predictions", "_on_mask")
    ),
    cases=(
        Case("by-hand", "two words, by hand", BY_HAND, NEAR),
        Case("alone", RIGHT, batch(Row(2, 3)), NEAR),
        Case("same-width", RIGHT, batch(Row(2, 4), Row(3, 3), Row(4, 2)), NEAR),
        Case("right", ANYWHERE, batch(Row(2, 4), Row(2, 2, right=2), Row(1, 3, right=2)), NEAR),
        Case("left", ANYWHERE, batch(Row(2, 4), Row(2, 2, left=2), Row(1, 3, left=2)), NEAR),
        Case("both-sides", ANYWHERE, batch(Row(2, 3, left=1, right=2), Row(3, 2, left=2, right=1)), NEAR),
        Case("only-end", "the end of the response counts, too", batch(Row(3, 1), Row(2, 1, right=1)), NEAR),
        Case("two-turns", "a mask with a gap (two turns)", batch(Row(2, 2, second=2), Row(1, 3, second=2)), NEAR),
        Case("empty", "an empty response: 0", batch(Row(3, 0, right=2), Row(2, 3)), NEAR),
        Case("extreme", "finite at logits of 10,000", EXTREME, NEAR),
        Case(
            "nan",
            "logits of padding may hold anything, even nan",
            batch(Row(1, 2), Row(1, 1, right=1, padding=math.nan), Row(1, 1, left=1, padding=math.nan)),
            NEAR,
        ),
    ),
)


# --- 4.2 dpo_loss -------------------------------------------------------------------------------------------

SUMS = ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected")


def _pairs(count: int, beta: float, spread: float = 5.0) -> Callable[[random.Random], Call]:
    """Sums as of answers of some ten words."""
    return lambda draw: Call(
        tuple([round(draw.gauss(-20, spread), 1) for _ in range(count)] for _ in SUMS), {"beta": beta}
    )


def _both_lower(draw: random.Random) -> Call:
    """The second pair is the first, with both responses rarer by the same under the policy."""
    low = draw.randint(5, 50)
    return Call(([-12.0, -12.0 - low], [-14.0, -14.0 - low], [-13.0] * 2, [-13.5] * 2), {"beta": 0.7})


VALUE = "value and gradient, for several betas"
DPO_LOSS = Exercise(
    number="4.2",
    function="dpo_loss",
    points=3,
    minutes=15,
    difficulty="medium",
    apply=with_gradients(*SUMS, constant=SUMS[2:]),
    package=tuple(
        f"prefcourse.losses:{name}"
        for name in ("dpo_loss", "cdpo_loss", "rdpo_loss", "bradley_terry_loss", "_implicit_margins")
    ),
    cases=(
        Case("by-hand", "one pair, by hand", fixed([-2.0], [-4.0], [-3.0], [-3.0], beta=0.5), NEAR),
        *(Case(f"beta-{beta}", VALUE, _pairs(4, beta), NEAR) for beta in (0.05, 0.3, 2.0)),
        Case("equal", "policy equal to reference: log 2", fixed(*[[-3.0, -8.0], [-7.0, -1.0]] * 2, beta=0.1), NEAR),
        Case(
            "order",
            "what counts is the order of the implicit rewards, not which response is likelier",
            fixed([-4.0, -9.0], [-6.0, -5.0], [-1.0, -30.0], [-9.0, -6.0], beta=1.0),
            NEAR,
        ),
        Case("both-lower", "both responses rarer by the same factor: the same loss", _both_lower, NEAR),
        Case("mean", "the mean over the batch, whatever its size", _pairs(7, 0.2), NEAR),
        Case(
            "extreme",
            "finite at log-ratios of 10,000",
            fixed([1e4, -1e4], [-1e4, 1e4], [0.0, 0.0], [0.0, 0.0], beta=0.5),
            NEAR,
        ),
    ),
)


# --- 4.3 prompt_masking_cancels -----------------------------------------------------------------------------


def _one_pair(
    prompts: Sequence[int], responses: Sequence[int], *, beta: float, left: Sequence[int] = (0, 0)
) -> Callable[[random.Random], Call]:
    """Log-probabilities of two rows, chosen and rejected. The shorter prompt is the longer one without its beginning;
    padding holds numbers that mean nothing. Rounded, as they would be printed."""

    def call(draw: random.Random) -> Call:
        width = max(sum(sizes) for sizes in zip(left, prompts, responses, strict=True))
        tables = []
        for _ in ("policy", "reference"):
            prompt = [_logprob(draw) for _ in range(max(prompts))]
            tables.append([_row(draw, prompt, *sizes, width) for sizes in zip(left, prompts, responses, strict=True)])
        spans = [(start, start + p, start + p + r) for start, p, r in zip(left, prompts, responses, strict=True)]
        prompt_mask = [[start <= t < middle for t in range(width)] for start, middle, _ in spans]
        response_mask = [[middle <= t < end for t in range(width)] for _, middle, end in spans]
        return Call((*tables, prompt_mask, response_mask), {"beta": beta})

    return call


def _logprob(draw: random.Random) -> float:
    return -round(draw.uniform(0.1, 4), 2)


def _row(draw: random.Random, prompt: list[float], left: int, size: int, response: int, width: int) -> list[float]:
    padding = [-round(draw.uniform(5, 9), 2) for _ in range(width)]
    kept = prompt[len(prompt) - size :] + [_logprob(draw) for _ in range(response)]
    return (padding[:left] + kept + padding)[:width]


SAME, CUT = (
    "the same prompt: DPO's margin stays the same, SimPO's changes",
    "prompts cut differently: DPO's margin changes, too",
)
TWO_AND_ONE = fixed(
    [[-1.0, -2.0, -3.0], [-1.0, -5.0, 0.0]],
    [[-1.5, -4.0, -2.5], [-1.5, -3.0, 0.0]],
    [[True, False, False], [True, False, False]],
    [[False, True, True], [False, True, False]],
    beta=0.5,
)
PROMPT_MASKING_CANCELS = Exercise(
    number="4.3",
    function="prompt_masking_cancels",
    points=3,
    minutes=25,
    difficulty="medium",
    apply=of_tensors,
    cases=(
        Case("by-hand", "one prompt token, two and one in the responses, by hand", TWO_AND_ONE, NEAR),
        *(Case(f"same-{beta}", SAME, _one_pair((3, 3), (4, 2), beta=beta), NEAR) for beta in (0.1, 2.0)),
        Case("equal-lengths", "equal lengths: SimPO's margin still changes", _one_pair((4, 4), (3, 3), beta=1.0), NEAR),
        Case("cut", CUT, _one_pair((2, 4), (5, 3), beta=0.5), NEAR),
        Case("cut-away", CUT, _one_pair((0, 3), (4, 2), beta=0.3), NEAR),
        Case(
            "padding",
            "what stands at padding does not count",
            _one_pair((2, 2), (2, 3), beta=0.5, left=(2, 0)),
            NEAR,
        ),
        Case("no-prompt", "no prompt: nothing to mask, 0 and 0", _one_pair((0, 0), (3, 2), beta=0.5), NEAR),
    ),
)

EXERCISES = [SEQUENCE_LOGPROBS, DPO_LOSS, PROMPT_MASKING_CANCELS]
