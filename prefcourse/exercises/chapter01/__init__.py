"""Chapter 1, why alignment: three questions and the cases that test them. The answers lie apart."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from prefcourse.checks.exercise import Call, Case, Exercise, Tolerance, fixed
from prefcourse.exercises.rows import Row, batch
from prefcourse.exercises.tensors import of_tensors, tensors_of

NEAR = Tolerance(relative=1e-5, absolute=1e-5)  # fp32 inside the function is right
NEVER = -math.inf


# --- 1.1 sft_loss -------------------------------------------------------------------------------------------


def _loss_and_its_gradient(function: Callable, call: Call) -> dict:
    """What is returned and, where all logits are numbers, its gradient by the logits."""
    logits, input_ids, response_mask = tensors_of(call)
    is_finite = bool(logits.isfinite().all())
    returned = function(logits.requires_grad_(is_finite).clone(), input_ids, response_mask)  # may be changed in place
    loss = returned[0] if isinstance(returned, tuple | list) and returned else returned
    facts = {"loss": loss}
    if is_finite and response_mask.any():
        has_graph = isinstance(loss, Tensor) and loss.requires_grad
        gradient = torch.autograd.grad(loss.sum(), logits, allow_unused=True) if has_graph else [None]
        facts["gradient of logits"] = gradient[0]
    return facts


BY_HAND = fixed([[[0.0, 0.0], [math.log(3), 0.0], [0.0, 2.0]]], [[0, 1, 0]], [[False, True, True]])
A_ROW = [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]
TWO_AND_ONE = fixed([A_ROW], [[0, 1, 0]], [[False, False, True]])
LONG_AND_SHORT = fixed([A_ROW] * 2, [[0, 1, 0], [1, 0, 1]], [[False, True, True], [False, False, True]])
PADDED = fixed([A_ROW] * 2, [[0, 1, 0], [1, 1, 0]], [[False, True, True], [False, True, False]])
EXTREME = fixed(
    [[[0.0, 0.0, 0.0], [1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [0.0, 0.0, 0.0]]] * 2,
    [[2, 2, 0, 1], [2, 2, 2, 0]],
    [[False, False, True, True]] * 2,
)
RESPONSE, WORDS = "only the words of the response count", "every word of the batch weighs the same"
ANYWHERE = "padding adds nothing, wherever it stands"
SFT_LOSS = Exercise(
    number="1.1",
    function="sft_loss",
    points=3,
    minutes=25,
    difficulty="medium",
    apply=_loss_and_its_gradient,
    package=(
        *(f"prefcourse.logprobs:{n}" for n in ("sequence_logprobs", "token_logprobs", "_predictions", "_on_mask")),
        *(f"prefcourse.losses:{n}" for n in ("sft_loss", "aggregate")),
    ),
    cases=(
        Case("by-hand", "two words, by hand", BY_HAND, NEAR),
        Case("two-and-one", RESPONSE, TWO_AND_ONE, NEAR),
        Case("alone", RESPONSE, batch(Row(2, 3)), NEAR),
        Case("same-width", RESPONSE, batch(Row(2, 3), Row(2, 3), Row(2, 3)), NEAR),
        Case("long-and-short", WORDS, LONG_AND_SHORT, NEAR),
        Case("unequal", WORDS, batch(Row(1, 5), Row(4, 2), Row(5, 1)), NEAR),
        Case("padded", ANYWHERE, PADDED, NEAR),
        Case("right", ANYWHERE, batch(Row(2, 4), Row(2, 2, right=2), Row(1, 3, right=2)), NEAR),
        Case("left", ANYWHERE, batch(Row(2, 4), Row(2, 2, left=2), Row(1, 3, left=2)), NEAR),
        Case("both-sides", ANYWHERE, batch(Row(2, 3, left=1, right=2), Row(3, 2, left=2, right=1)), NEAR),
        Case("only-end", "the end of the response counts, too", batch(Row(3, 1), Row(2, 1, right=1)), NEAR),
        Case("empty", "a row without response adds nothing", batch(Row(3, 0, right=2), Row(2, 3)), NEAR),
        Case("none", "no response in the whole batch: 0", batch(Row(3, 0), Row(2, 0, right=1)), NEAR),
        Case("extreme", "finite at logits of 10,000", EXTREME, NEAR),
        Case(
            "nan",
            "logits of padding may hold anything, even nan",
            batch(Row(1, 2), Row(1, 1, right=1, padding=math.nan), Row(1, 1, left=1, padding=math.nan)),
            NEAR,
        ),
    ),
)


# --- 1.2 objective_gap --------------------------------------------------------------------------------------


def _shares(draw: random.Random, count: int, absent: Sequence[int] = ()) -> list[float]:
    """Probabilities in hundredths, 0 for the absent."""
    counts = [0 if i in absent else draw.randint(5, 40) for i in range(count)]
    return [round(n / sum(counts), 2) for n in counts]


def _exactly_one(shares: list[float]) -> list[float]:
    """The same, with the rest that rounding leaves on the largest."""
    most = shares.index(max(shares))
    return [round(x + 1 - sum(shares), 2) if i == most else x for i, x in enumerate(shares)]


def _golds(draw: random.Random, count: int, best: Sequence[int] = ()) -> list[float]:
    return [round(draw.uniform(3.1, 4) if i in best else draw.uniform(-3, 3), 1) for i in range(count)]


def _tables(
    prompts: int, answers: int, *, unsaid: Sequence[int] = (), never: Sequence[int] = ()
) -> Callable[[random.Random], Call]:
    """A policy, its authors, gold. No author gives the answers `unsaid`, the policy `never` gives the others; the best
    answer is one of these."""

    def call(draw: random.Random) -> Call:
        policy = [_exactly_one(_shares(draw, answers, never)) for _ in range(prompts)]
        authors = [_exactly_one(_shares(draw, answers, unsaid)) for _ in range(prompts)]
        logprobs = [[math.log(p) if p else NEVER for p in row] for row in policy]
        return Call((logprobs, authors, [_golds(draw, answers, [*unsaid, *never]) for _ in range(prompts)]))

    return call


def _imitator(draw: random.Random) -> Call:
    """The policy is its authors."""
    authors = [_exactly_one(_shares(draw, 4)) for _ in range(2)]
    return Call(([[math.log(p) for p in row] for row in authors], authors, [_golds(draw, 4) for _ in range(2)]))


EQUALLY_GOOD = fixed([[math.log(0.6), math.log(0.4)]], [[0.3, 0.7]], [[1.5, 1.5]])
BOTH = "the gap in likelihood, and the gap in gold"
OBJECTIVE_GAP = Exercise(
    number="1.2",
    function="objective_gap",
    points=3,
    minutes=20,
    difficulty="medium",
    apply=of_tensors,
    cases=(
        Case(
            "by-hand",
            "two answers, by hand",
            fixed([[math.log(3 / 4), math.log(1 / 4)]], [[0.5, 0.5]], [[1.0, 0.0]]),
            NEAR,
        ),
        Case("one-question", BOTH, _tables(1, 4), NEAR),
        Case("imitator", "the imitator has no gap in likelihood, and one in gold", _imitator, NEAR),
        Case("three-questions", "every question weighs the same and has its own best answer", _tables(3, 4), NEAR),
        Case("unsaid", "what no author says costs no likelihood", _tables(2, 4, unsaid=[1]), NEAR),
        Case("both-never", "what no author says costs no likelihood", _tables(2, 4, unsaid=[2], never=[2]), NEAR),
        Case("never", "what an author says and the policy never: inf", _tables(2, 3, never=[0]), NEAR),
        Case("never-alone", "what an author says and the policy never: inf", _tables(1, 3, never=[1]), NEAR),
        Case(
            "extreme",
            "exact at log-probabilities of -10,000",
            fixed([[0.0, -1e4], [-1e4, 0.0]], [[0.25, 0.75], [0.5, 0.5]], [[1.0, 2.0], [-4.0, 4.0]]),
            NEAR,
        ),
        Case("equal-gold", "all answers equally good: no gap in gold", EQUALLY_GOOD, NEAR),
    ),
)


# --- 1.3 gold_at_temperature --------------------------------------------------------------------------------


def _policy(temperature: float, prompts: int = 2, answers: int = 4) -> Callable[[random.Random], Call]:
    def call(draw: random.Random) -> Call:
        shares = [_exactly_one(_shares(draw, answers)) for _ in range(prompts)]
        logprobs = [[round(math.log(p), 4) for p in row] for row in shares]
        return Call((logprobs, [_golds(draw, answers) for _ in range(prompts)]), {"temperature": temperature})

    return call


def _tied(draw: random.Random) -> Call:
    """Two answers are likeliest, and one that is not is the best."""
    golds = [_golds(draw, 4) for _ in range(2)]
    return Call(([[-1.0, -3.0, -1.0, -2.0], [-2.5, -0.9, -0.9, -2.5]], golds), {"temperature": 0.0})


THREE_QUARTERS = [[math.log(3 / 4), math.log(1 / 4)]], [[0.0, 1.0]]
COLDER, COLDEST = "colder and warmer, each question by itself", "at 0 only the likeliest answers are left"
GOLD_AT_TEMPERATURE = Exercise(
    number="1.3",
    function="gold_at_temperature",
    points=2,
    minutes=15,
    difficulty="easy",
    apply=of_tensors,
    cases=(
        Case("by-hand", "two answers, by hand", fixed(*THREE_QUARTERS, temperature=0.5), NEAR),
        Case("one", "at temperature 1, the policy as it is", _policy(1.0), NEAR),
        *(Case(f"t-{T}", COLDER, _policy(T), NEAR) for T in (0.3, 0.7, 2.0)),
        Case("three-questions", "every question weighs the same", _policy(0.5, prompts=3, answers=3), NEAR),
        Case("coldest", COLDEST, _policy(0.0), NEAR),
        Case("close", COLDEST, fixed([[-1.001, -1.0, -1.4]], [[3.0, 1.0, -2.0]], temperature=0.0), NEAR),
        Case("tied", "at 0 equally likely answers share equally", _tied, NEAR),
        Case(
            "never",
            "what is never said stays unsaid",
            fixed([[NEVER, math.log(0.8), math.log(0.2)]], [[5.0, 1.0, 2.0]], temperature=2.0),
            NEAR,
        ),
        Case(
            "extreme",
            "exact at a temperature of 0.001 and log-probabilities of -10,000",
            fixed(
                [[-1e4, -9999.999, -9e4], [-0.7, -0.699, -4.0]], [[1.0, 2.0, 3.0], [4.0, -4.0, 0.0]], temperature=0.001
            ),
            NEAR,
        ),
        Case("negative", "a temperature below 0: ValueError", fixed(*THREE_QUARTERS, temperature=-1.0), NEAR),
    ),
)

EXERCISES = [SFT_LOSS, OBJECTIVE_GAP, GOLD_AT_TEMPERATURE]
