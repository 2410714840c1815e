"""Chapter 5, choosing DPO's settings: three questions and the cases that test them. The answers lie apart."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor

from prefcourse.checks.exercise import Call, Case, Exercise, Tolerance, fixed

NEAR = Tolerance(relative=1e-5, absolute=1e-5)  # fp32 inside the function is right


# --- 5.1 kl_estimate ----------------------------------------------------------------------------------------

Table = list[list[float]]
LONGEST = 8  # words of a drawn answer at most


def _estimate(function: Callable, call: Call):
    """Mean and error as returned; or, where a case has `draws`, how often the interval covers the truth."""
    if "draws" in call.settings:
        return _coverage(function, *call.args, **call.settings)
    return function(*[torch.tensor(value, dtype=_dtype(value)) for value in call.args])


def _dtype(table: list) -> torch.dtype:
    return torch.bool if isinstance(table[0][0], bool) else torch.float64


def _coverage(function: Callable, policy: list[float], reference: list[float], *, rows: int, draws: int, seed: int):
    """Of `draws` batches of answers of a policy whose KL is known: the share whose mean +- 1.96 errors holds it.

    Both draw each word anew, whatever came before, and the last word ends the answer. So the KL is that of one word
    times the mean number of words.
    """
    of_one_word = sum(p * math.log(p / q) for p, q in zip(policy, reference, strict=True))
    logprobs = [torch.tensor(p, dtype=torch.float64).log() for p in (policy, reference)]
    exact = of_one_word * sum((1 - policy[-1]) ** step for step in range(LONGEST))
    covered = 0
    for words in _words(tuple(policy), rows, draws, seed):
        ended = words == len(policy) - 1
        mask = ended.cumsum(1) - ended.int() == 0  # up to the last word, or the width
        mean, error = (float(x) for x in function(*(of_word[words] for of_word in logprobs), mask))
        covered += abs(mean - exact) <= 1.96 * error
    return {"share of the intervals that hold the exact KL": covered / draws}


@lru_cache(maxsize=8)  # drawing takes longer than most answers do
def _words(policy: tuple[float, ...], rows: int, draws: int, seed: int) -> Tensor:
    """(draws, rows, LONGEST) words of the policy, also those after the end."""
    drawn = random.Random(seed).choices(range(len(policy)), policy, k=draws * rows * LONGEST)
    return torch.tensor(drawn).view(draws, rows, LONGEST)


def _batch(
    *lengths: int, left: Sequence[int] = (), padding: float | None = None, spread: float = 1.0
) -> Callable[[random.Random], Call]:
    """Rows of these many tokens each, after `left` columns of padding; there the numbers are drawn, or `padding`."""

    def call(draw: random.Random) -> Call:
        starts = left or (0,) * len(lengths)
        width = max(start + length for start, length in zip(starts, lengths, strict=True))
        mask = [[start <= t < start + n for t in range(width)] for start, n in zip(starts, lengths, strict=True)]
        policy = [[_logprob(draw, here, padding) for here in row] for row in mask]
        reference = [[_logprob(draw, here, padding, spread) for here in row] for row in mask]
        return Call((policy, reference, mask))

    return call


def _logprob(draw: random.Random, here: bool, padding: float | None, spread: float = 1.0) -> float:
    return -round(draw.uniform(0.1, 3) * spread, 2) if here or padding is None else padding


COIN = [[True, True], [True, False]]
BY_HAND = fixed([[-1.0, -2.0], [-1.0, 0.0]], [[-1.5, -2.5], [-4.0, 0.0]], COIN)
NEGATIVE = fixed([[-2.0, -1.0], [-3.0, -0.5]], [[-1.0, -1.0], [-2.5, -0.5]], COIN)
EXTREME = fixed(
    [[-1.0, -2.0], [-2e4, -5.0], [-3.0, -1.0]], [[-1e4, -3.0], [-1e4, -1.0], [-2.0, -1e4]], [[True] * 2] * 3
)
SAME = [[-1.5, -0.5, -2.0], [-1.0, -3.0, -0.25]]
SEVERAL, ANYWHERE = "mean and standard error over rows of unequal length", "padding adds nothing, whatever stands there"
COVERS = "of 200 draws, about 95 % of the intervals (mean ± 1.96 errors) hold the exact KL"
KL_ESTIMATE = Exercise(
    number="5.1",
    function="kl_estimate",
    points=3,
    minutes=20,
    difficulty="medium",
    apply=_estimate,
    package=("prefcourse.evaluate:kl_estimate",),
    cases=(
        Case("by-hand", "two rows, by hand", BY_HAND, NEAR),
        Case("three", SEVERAL, _batch(3, 1, 2), NEAR),
        Case("six", SEVERAL, _batch(2, 4, 1, 3, 4, 2), NEAR),
        Case("negative", "an estimate may be negative: nothing is cut off at 0", NEGATIVE, NEAR),
        Case("left", ANYWHERE, _batch(2, 3, 1, left=(1, 0, 2)), NEAR),
        Case("both-sides", ANYWHERE, _batch(2, 3, 2, left=(1, 0, 2)), NEAR),
        Case("nan", ANYWHERE, _batch(2, 1, 3, left=(1, 0, 0), padding=math.nan), NEAR),
        Case("minus-inf", ANYWHERE, _batch(2, 3, 1, left=(1, 0, 1), padding=-math.inf), NEAR),
        Case("empty", "an empty response adds 0 and counts as a row", _batch(2, 0, 3), NEAR),
        Case("equal", "policy equal to reference: 0 and 0", fixed(SAME, SAME, [[True] * 3] * 2), NEAR),
        Case("extreme", "exact at log-ratios of 10,000", EXTREME, NEAR),
        Case("one-row", "a single row: its error is unknown, nan", _batch(3), NEAR),
        *(
            Case(
                f"coverage-{number}",
                COVERS,
                lambda draw, tables=tables: Call(tables, {"rows": 60, "draws": 200, "seed": draw.randrange(10_000)}),
                Tolerance(absolute=0.0051),
            )
            for number, tables in enumerate((([0.5, 0.2, 0.3], [0.3, 0.3, 0.4]), ([0.1, 0.6, 0.3], [0.2, 0.4, 0.4])), 1)
        ),
    ),
)


# --- 5.2 pareto_front ---------------------------------------------------------------------------------------


def _plane(count: int, kinds: int = 5) -> Callable[[random.Random], Call]:
    """Points on a coarse lattice, so that many share their KL or their gold."""
    return lambda draw: Call(tuple([draw.randrange(kinds) / 2 for _ in range(count)] for _ in ("kl", "gold")))


def _hill(count: int) -> Callable[[random.Random], Call]:
    """Gold that rises and falls with KL, and noise: as of a grid of runs."""

    def call(draw: random.Random) -> Call:
        kl = [round(draw.uniform(0, 4) ** 2, 1) for _ in range(count)]
        return Call((kl, [round(math.sqrt(x) - x / 4 + draw.gauss(0, 0.2), 1) for x in kl]))

    return call


def _with_a_lost_run(draw: random.Random) -> Call:
    kl, gold = ([draw.randrange(5) / 2 for _ in range(6)] for _ in ("kl", "gold"))
    kl[draw.randrange(3)], gold[3 + draw.randrange(3)] = math.nan, math.nan
    return Call((kl, gold))


FRONT, TIES = "a point is on the front if no other point beats it", "equal KL, or equal gold: the better of the two"
LOST = "a run that was lost (nan) is on no front, and beats nobody"
PARETO_FRONT = Exercise(
    number="5.2",
    function="pareto_front",
    points=2,
    minutes=20,
    difficulty="medium",
    cases=(
        Case("by-hand", "four points, by hand", fixed([1.0, 2.0, 3.0, 4.0], [0.5, 1.0, 0.8, 1.2])),
        Case("drawn", FRONT, _hill(8)),
        Case("many", FRONT, _hill(20)),
        Case("dent", "a point in a dent of the front is on it", fixed([0.0, 1.0, 2.0, 3.0], [0.0, 0.1, 1.0, 1.1])),
        Case("equal-kl", TIES, fixed([1.0, 1.0, 2.0], [0.2, 0.6, 0.4])),
        Case("equal-gold", TIES, fixed([3.0, 1.0, 2.0], [0.7, 0.7, 0.9])),
        Case("near", TIES, fixed([1.0, 1.001, 1.002, 1.003], [0.5, 0.501, 0.501, 0.5])),
        Case("lattice", TIES, _plane(9)),
        Case("twice", "the same point twice: both are on the front", fixed([1.0, 2.0, 1.0], [0.8, 0.3, 0.8])),
        Case("lattice-of-many", "the same point twice: both are on the front", _plane(20, kinds=4)),
        Case("lost", LOST, fixed([2.0, math.nan, 0.5, 1.0], [0.6, 0.9, 0.3, math.nan])),
        Case("lost-drawn", LOST, _with_a_lost_run),
        Case("falling", "more KL for less gold: only the first stays", fixed([0.1, 1.0, 9.0], [0.4, 0.2, -1.0])),
        Case("single", "a single point is the front", fixed([3.0], [-2.0])),
        Case("nothing", "no points: an empty list", fixed([], [])),
    ),
)


# --- 5.3 which_beta -----------------------------------------------------------------------------------------

SIDES = ("chosen", "rejected")


def _row(step: int, beta: float, policy: dict[str, list[float]], reference: dict[str, list[float]]) -> dict:
    """What a log says of some pairs, as TRL names it."""
    log_ratios = {s: [a - b for a, b in zip(policy[s], reference[s], strict=True)] for s in SIDES}
    margins = [beta * (a - b) for a, b in zip(*log_ratios.values(), strict=True)]
    return {
        "step": step,
        "loss": _mean([max(0.0, -m) + math.log1p(math.exp(-abs(m))) for m in margins]),
        **{f"rewards/{s}": beta * _mean(log_ratios[s]) for s in SIDES},
        "rewards/accuracies": _mean([float(m > 0) for m in margins]),
        **{f"logps/{s}": _mean(policy[s]) for s in SIDES},
    }


def _mean(numbers: list[float]) -> float:
    return math.fsum(numbers) / len(numbers)


def _log(
    about: float, moved: tuple[float, float], *, steps: Sequence[float] = (0, 0.2, 0.6, 1), digits: int | None = None
) -> Callable[[random.Random], Call]:
    """A run whose beta lies around `about`, and which moves both responses by about these many nats; `steps` says how
    far it has come at each look."""

    def call(draw: random.Random) -> Call:
        beta = about * draw.randint(60, 160) / 100
        reference = {s: [round(draw.gauss(-20, 4), 1) for _ in range(5)] for s in SIDES}
        goal = {s: [round(x * draw.uniform(0.5, 1.5), 1) for _ in range(5)] for s, x in zip(SIDES, moved, strict=True)}
        rows = []
        for number, done in enumerate(steps):
            now = {s: [x + done * y for x, y in zip(reference[s], goal[s], strict=True)] for s in SIDES}
            rows.append(_row(10 * number, beta, now, reference))
        return Call(([{name: _cut(x, digits) for name, x in row.items()} for row in rows],))

    return call


def _cut(number: float, digits: int | None) -> float:
    return number if digits is None or isinstance(number, int) else round(number, digits)


def _as_far(chosen: int) -> Callable[[random.Random], Call]:
    """Rejected falls, and chosen moves as far: 1 is up, -1 down."""

    def call(draw: random.Random) -> Call:
        beta, by = draw.randint(5, 50) / 100, [0, *accumulate(draw.randint(1, 8) / 4 for _ in range(3))]
        at = [{"chosen": [chosen * x - 9], "rejected": [-x - 11]} for x in by]
        return Call(([_row(5 * n, beta, policy, REFERENCE) for n, policy in enumerate(at)],))

    return call


REFERENCE = {"chosen": [-9.0], "rejected": [-11.0]}
TWO_ROWS = [
    _row(0, 0.1, REFERENCE, REFERENCE),
    _row(10, 0.1, {"chosen": [-11.0], "rejected": [-16.0]}, REFERENCE),
]
STILL = [_row(step, 0.3, REFERENCE, REFERENCE) for step in (0, 10, 20)]
LATE, STOOD = "a log that begins later than training", "one of the responses did not move"
UNKNOWN, PERCENT = "nothing moved: nan", Tolerance(relative=0.05)
WHICH_BETA = Exercise(
    number="5.3",
    function="which_beta",
    points=3,
    minutes=20,
    difficulty="medium",
    cases=(
        Case("by-hand", "two rows, by hand", fixed(TWO_ROWS), NEAR),
        *(Case(f"beta-{b}", "any beta", _log(b, (-4.0, -9.0)), NEAR) for b in (0.01, 0.1, 1.0)),
        Case("rising", "a chosen response that rises", _log(0.3, (2.0, -3.0)), NEAR),
        Case("late", LATE, _log(0.1, (-5.0, -9.0), steps=(0.3, 0.5, 0.8, 1)), NEAR),
        Case("late-two", LATE, _log(0.5, (1.0, -4.0), steps=(0.7, 1)), NEAR),
        Case("chosen-still", STOOD, _log(0.2, (0.0, -6.0)), NEAR),
        Case("rejected-still", STOOD, _log(0.2, (3.0, 0.0)), NEAR),
        Case("opposite", "chosen rises by as much as rejected falls", _as_far(1), NEAR),
        Case("alike", "both fall alike, so the margin stands still", _as_far(-1), NEAR),
        Case("back", "a run that comes back to where it began", _log(0.2, (-3.0, -6.0), steps=(0, 0.4, 1, 0)), NEAR),
        Case("pause", "rows between which nothing moved", _log(0.2, (-3.0, -5.0), steps=(0, 0.5, 0.5, 1)), NEAR),
        Case("rounded", "numbers with two decimals: within 5 %",
             _log(0.03, (-12.0, -20.0), steps=(0, 0.001, 0.002, 0.003, 0.5, 1), digits=2), PERCENT),
        Case("still", UNKNOWN, fixed(STILL), NEAR),
        Case("one-row", UNKNOWN, fixed(TWO_ROWS[1:]), NEAR),
        Case("nothing", UNKNOWN, fixed([]), NEAR),
    ),
)  # fmt: skip

EXERCISES = [KL_ESTIMATE, PARETO_FRONT, WHICH_BETA]
