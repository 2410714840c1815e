"""Chapter 12, over-optimisation: four questions and the cases that test them. The answers lie apart."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import torch

from prefcourse.checks.exercise import Call, Case, Exercise, Tolerance, fixed
from prefcourse.exercises.tensors import tensors_of

NEAR = Tolerance(relative=1e-5, absolute=1e-5)  # fp32 inside the function is right
FITTED = Tolerance(relative=1e-4, absolute=1e-5)


def _pair(*names: str) -> Callable[[Callable, Call], object]:
    """The `apply` of a function of tensors that returns a pair."""
    return lambda function, call: _named(function(*tensors_of(call), **call.settings), names)


def _named(returned: object, names: tuple[str, ...]) -> object:
    """A name for each of the two, be they a tuple, a tensor or an array; what is no pair is judged as it is."""
    pair = isinstance(returned, tuple | list | torch.Tensor) or type(returned).__name__ == "ndarray"
    if not pair or isinstance(returned, torch.Tensor) and not returned.ndim or len(returned) != 2:
        return returned
    return dict(zip(names, returned, strict=True))


# --- 12.1 gold_gain -----------------------------------------------------------------------------------------

ALONG = "a proxy of any length: only its direction counts"


def _gain_and_peak(function: Callable, call: Call):
    facts = _pair("gain", "peak")(function, call)
    if isinstance(facts, dict) and facts["peak"] is not None:
        facts["peak"] = torch.as_tensor(facts["peak"], dtype=torch.float64)
    return facts


def _world(dim: int, *, along: float, bend: float, length: float, distances: list[float]) -> Callable:
    """A proxy of that length, a gold with that slope and that curvature along it, and something across."""

    def call(draw: random.Random) -> Call:
        u, across = _orthogonal(draw, dim)
        g = [along * a + draw.uniform(0.5, 2) * b for a, b in zip(u, across, strict=True)]
        C = [[round(draw.gauss(0, 0.5), 2) for _ in u] for _ in u]
        now = sum(a * c * b for a, row in zip(u, C, strict=True) for c, b in zip(row, u, strict=True))
        C = [[c + (bend - now) * a * b for c, b in zip(row, u, strict=True)] for a, row in zip(u, C, strict=True)]
        return Call(([length * a for a in u], g, C, distances))

    return call


def _orthogonal(draw: random.Random, dim: int) -> tuple[list[float], list[float]]:
    u, v = ([draw.gauss(0, 1) for _ in range(dim)] for _ in range(2))
    norm = math.hypot(*u)
    u = [a / norm for a in u]
    inner = sum(a * b for a, b in zip(u, v, strict=True))
    v = [b - inner * a for a, b in zip(u, v, strict=True)]
    return u, [b / math.hypot(*v) for b in v]


LINEAR = [[0.0, 0.0], [0.0, 0.0]]
GOLD_GAIN = Exercise(
    number="12.1",
    function="gold_gain",
    points=3,
    minutes=20,
    difficulty="medium",
    apply=_gain_and_peak,
    package=("prefcourse.worlds.gauss:GaussWorld.gold_gain", "prefcourse.worlds.gauss:GaussWorld.peak"),
    cases=(
        Case("by-hand", "by hand", fixed([1.0, 0.0], [3.0, 1.0], [[0.5, 0.0], [0.0, 9.0]], [0.0, 1.0, 2.0]), NEAR),
        Case(
            "drawn",
            "gain and peak of drawn worlds",
            _world(4, along=0.8, bend=0.15, length=1.0, distances=[0.3, 1.7, 4.0]),
            NEAR,
        ),
        Case(
            "steep", "gain and peak of drawn worlds", _world(3, along=2.5, bend=1.2, length=1.0, distances=[0.6]), NEAR
        ),
        Case("long", ALONG, _world(3, along=0.9, bend=0.4, length=3.0, distances=[0.5, 2.0]), NEAR),
        Case("short", ALONG, _world(3, along=1.4, bend=0.3, length=0.2, distances=[0.5, 1.5]), NEAR),
        Case(
            "linear",
            "a linear gold has no peak",
            fixed([1.0, 0.0], [0.5, 2.0], LINEAR, [0.0, 1.0, 100.0]),
            NEAR,
        ),
        Case(
            "blind-to-the-bend",
            "a gold that bends, but not along the proxy, has no peak",
            fixed([0.0, 2.0], [1.0, 1.5], [[3.0, 0.0], [0.0, 0.0]], [1.0, 2.0]),
            NEAR,
        ),
        Case(
            "upwards",
            "a gold that bends upwards has no peak",
            _world(3, along=0.7, bend=-0.3, length=1.0, distances=[0.5, 3.0]),
            NEAR,
        ),
        Case(
            "from-the-start",
            "a gold that falls from the start has no peak",
            _world(3, along=-0.6, bend=0.5, length=1.5, distances=[0.5, 3.0]),
            NEAR,
        ),
        Case(
            "valley",
            "a gold that falls first and then rises has no peak",
            _world(3, along=-0.8, bend=-0.3, length=0.5, distances=[0.5, 3.0]),
            NEAR,
        ),
        Case(
            "across",
            "a proxy that sees nothing of gold's slope: no peak",
            fixed([0.0, 1.0], [2.0, 0.0], [[0.5, 0.0], [0.0, 0.25]], [0.5, 2.0]),
            NEAR,
        ),
        Case(
            "slight",
            "a slope and a bend may be small",
            fixed([2.0, 0.0], [1e-3, 1.0], [[2e-4, 0.0], [0.0, 1.0]], [1.0, 100.0]),
            NEAR,
        ),
        Case(
            "lopsided",
            "C need not be symmetric",
            fixed([0.6, 0.8], [2.0, 1.0], [[0.5, 1.5], [-0.5, 1.0]], [0.5, 1.0]),
            NEAR,
        ),
        Case(
            "extreme",
            "far away and large",
            fixed([1e3, 0.0], [1e4, 0.0], [[50.0, 0.0], [0.0, 1.0]], [0.0, 30.0]),
            NEAR,
        ),
    ),
)


# --- 12.2 fit_gao -------------------------------------------------------------------------------------------

LAWS = {"best-of-n": lambda d: d, "rl": lambda d: math.log(d)}
RECOVERED = {law: f"the parameters of a planted law: {law}" for law in LAWS}
WEIGHED = "a point is weighted by one over its error squared"
ZERO = "a KL of 0 or below says nothing"


def _planted(law: str, alpha: float, beta: float, kls: list[float], *, noise: float = 0.0, errors: bool = False):
    """Points on a law, or beside it; alpha and beta a little different under every seed."""

    def call(draw: random.Random) -> Call:
        a, b = alpha * draw.uniform(0.8, 1.25), beta * draw.uniform(0.8, 1.25)
        order = draw.sample(kls, len(kls))
        roots = [math.sqrt(max(kl, 0.0)) for kl in order]
        bars = [round(draw.uniform(0.02, 0.3), 3) if errors else 0.1 for _ in order]
        said = [d * (a - b * LAWS[law](d)) if d else 0.0 for d in roots]
        gain = [y + draw.gauss(0, noise) if noise else y for y in said]
        return Call((order, gain, bars), {"law": law})

    return call


WIDE = [0.02, 0.1, 0.4, 0.9, 1.6, 3.0, 6.0, 12.0]
FIT_GAO = Exercise(
    number="12.2",
    function="fit_gao",
    points=4,
    minutes=25,
    difficulty="medium",
    apply=_pair("alpha", "beta"),
    cases=(
        Case("by-hand", "two points, by hand", fixed([1.0, 4.0], [1.0, 1.0], [0.1, 0.1], law="best-of-n"), FITTED),
        Case("by-hand-rl", "two points, by hand", fixed([1.0, 4.0], [0.5, 0.3], [0.1, 0.1], law="rl"), FITTED),
        Case("planted-best-of-n", RECOVERED["best-of-n"], _planted("best-of-n", 1.1, 0.3, WIDE), FITTED),
        Case("planted-rl", RECOVERED["rl"], _planted("rl", 0.6, 0.4, WIDE), FITTED),
        Case("near", RECOVERED["rl"], _planted("rl", 0.9, 0.25, [0.05, 0.2, 0.3, 0.7]), FITTED),
        Case("rising", RECOVERED["best-of-n"], _planted("best-of-n", 0.7, -0.05, WIDE[2:]), FITTED),
        Case("noise-best-of-n", "points beside the law", _planted("best-of-n", 1.0, 0.35, WIDE, noise=0.1), FITTED),
        Case("noise-rl", "points beside the law", _planted("rl", 0.5, 0.5, WIDE, noise=0.1), FITTED),
        Case("weights-best-of-n", WEIGHED, _planted("best-of-n", 0.9, 0.3, WIDE, noise=0.2, errors=True), FITTED),
        Case("weights-rl", WEIGHED, _planted("rl", 0.7, 0.3, WIDE, noise=0.2, errors=True), FITTED),
        Case("zero-best-of-n", ZERO, _planted("best-of-n", 1.0, 0.2, [0.0, 0.3, 1.2, 5.0], noise=0.05), FITTED),
        Case("zero-rl", ZERO, _planted("rl", 1.0, 0.2, [0.0, 0.3, 1.2, 5.0], noise=0.05), FITTED),
        Case("below-zero", ZERO, _planted("rl", 0.8, 0.3, [-0.01, 0.4, 2.0, 4.0], noise=0.05), FITTED),
        Case(
            "far-zero",
            ZERO,
            fixed([0.0, 1.0, 4.0], [5.0, 1.0, 1.0], [0.001, 0.1, 0.1], law="best-of-n"),
            FITTED,
        ),
        Case(
            "extreme",
            "gains of any size",
            fixed([0.25, 1.0, 9.0, 100.0], [4e3, 1e4, 2.2e4, -1e4], [1e2, 1e2, 2e2, 5e2], law="best-of-n"),
            FITTED,
        ),
        Case(
            "one-distance",
            "fewer than two different distances above 0: ValueError",
            fixed([0.0, 2.0, 2.0], [0.0, 1.0, 1.1], [0.1, 0.1, 0.1], law="rl"),
        ),
        Case("no-law", "a law of another name: ValueError", fixed([1.0, 4.0], [1.0, 1.0], [0.1, 0.1], law="dpo")),
    ),
)


# --- 12.3 conservative_reward -------------------------------------------------------------------------------


def _scores(members: int, answers: int, scale: float = 1.0) -> Callable[[random.Random], list]:
    return lambda draw: [[round(draw.gauss(0, scale), 2) for _ in range(answers)] for _ in range(members)]


def _ensemble(members: int, answers: int, scale: float = 1.0, **settings) -> Callable[[random.Random], Call]:
    return lambda draw: Call((_scores(members, answers, scale)(draw),), settings)


def _combined(function: Callable, call: Call):
    return function(*tensors_of(call), **call.settings)


AGREED = [[1.5, -2.0], [1.5, -2.0], [1.5, -2.0]]
OUTLIER = [[0.5, 1.0], [0.25, 1e4], [0.75, -1e4]]
CONSERVATIVE_REWARD = Exercise(
    number="12.3",
    function="conservative_reward",
    points=3,
    minutes=15,
    difficulty="easy",
    apply=_combined,
    package=("prefcourse.experiments.chapter12:penalised",),
    cases=(
        Case("by-hand", "by hand", fixed([[1.0, 0.0], [3.0, 0.5]], how="penalised", penalty=0.5), NEAR),
        Case("mean", "the mean", _ensemble(4, 3, how="mean"), NEAR),
        Case("worst", "the worst case", _ensemble(4, 3, how="worst"), NEAR),
        *(
            Case(
                f"penalty-{penalty}",
                "mean minus penalty times variance",
                _ensemble(*size, how="penalised", penalty=penalty),
                NEAR,
            )
            for penalty, size in ((0.3, (3, 5)), (1.0, (5, 2)), (4.0, (2, 4)))
        ),
        *(
            Case(f"square-{how}", "as many members as answers", _ensemble(3, 3, how=how, penalty=0.7), NEAR)
            for how in ("mean", "worst", "penalised")
        ),
        Case("not-given", "a penalty of 1 unless another is given", _ensemble(4, 3, how="penalised"), NEAR),
        Case("free", "penalty 0: the mean", _ensemble(3, 2, how="penalised", penalty=0.0), NEAR),
        *(
            Case(f"one-{how}", "a single member: its own scores", _ensemble(1, 3, how=how, penalty=2.0), NEAR)
            for how in ("mean", "worst", "penalised")
        ),
        Case("agreed", "members that agree: their score", fixed(AGREED, how="penalised", penalty=10.0), NEAR),
        Case("outlier", "extreme scores", fixed(OUTLIER, how="penalised", penalty=0.01), NEAR),
        Case("outlier-worst", "extreme scores", fixed(OUTLIER, how="worst"), NEAR),
        Case("no-answers", "no answers: nothing", fixed([[], []], how="mean")),
        Case("unknown", "any other word for how: ValueError", fixed([[1.0], [2.0]], how="best")),
    ),
)


# --- 12.4 early_stop ----------------------------------------------------------------------------------------


def _kept_and_stopped(function: Callable, call: Call):
    return _named(function(list(call.args[0]), **call.settings), ("kept", "stopped"))


def _rise_and_fall(looks: int, top: int, *, patience: int, margin: float = 0.0, noise: float = 0.03):
    def call(draw: random.Random) -> Call:
        height = [0.5 + 0.03 * min(t, top) - 0.05 * max(0, t - top) for t in range(looks)]
        return Call(([round(h + draw.gauss(0, noise), 3) for h in height],), {"patience": patience, "margin": margin})

    return call


NAN = math.nan
HOLE = "a look that was not measured (nan) is no better"
IMPATIENT = "a patience below 1: ValueError"
EARLY_STOP = Exercise(
    number="12.4",
    function="early_stop",
    points=4,
    minutes=20,
    difficulty="medium",
    apply=_kept_and_stopped,
    cases=(
        Case("by-hand", "by hand", fixed([0.5, 0.57, 0.55, 0.6, 0.58, 0.59, 0.7], patience=2)),
        *(
            Case(f"peak-{patience}", "a rise and a fall, several patiences", _rise_and_fall(14, 6, patience=patience))
            for patience in (1, 2, 4)
        ),
        Case("noisy", "a rise and a fall, several patiences", _rise_and_fall(20, 9, patience=3, noise=0.08)),
        Case("future", "what comes later is not known", fixed([0.5, 0.6, 0.4, 0.4, 0.9, 1.0], patience=2)),
        Case("falls-at-once", "the reference is the best", fixed([0.5, 0.4, 0.3, 0.2, 0.1], patience=3)),
        Case(
            "never", "patience that never runs out: the last look", fixed([0.1, 0.2, 0.3, 0.25, 0.4, 0.38], patience=3)
        ),
        Case(
            "in-a-row",
            "a better look restarts the count",
            fixed([0.5, 0.4, 0.6, 0.5, 0.7, 0.6, 0.5, 0.4], patience=3),
        ),
        Case(
            "than-the-best",
            "compared with the best, not with the look before",
            fixed([0.5, 0.9, 0.3, 0.4, 0.5, 0.6], patience=3),
        ),
        Case("tie", "an equal look is no better", fixed([0.5, 0.6, 0.6, 0.6, 0.6], patience=2)),
        Case(
            "margin",
            "better by no more than the margin is no better",
            fixed([0.5, 0.75, 0.875, 1.0, 1.0625, 1.0], patience=3, margin=0.25),
        ),
        Case(
            "exactly",
            "better by no more than the margin is no better",
            fixed([0.5, 0.75, 0.5, 0.25, 1.5], patience=3, margin=0.25),
        ),
        Case(
            "creeping",
            "small steps add up, measured from the look that is kept",
            fixed([0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.5], patience=4, margin=0.25),
        ),
        Case("large-margin", "large numbers, large margin", _rise_and_fall(10, 5, patience=2, margin=0.05)),
        Case(
            "extreme",
            "large numbers, large margin",
            fixed([-1e4, 0.0, 5e3, 1e4, 9e3, 9.5e3, 2e4], patience=2, margin=6e3),
        ),
        Case("negative", "estimates below 0", fixed([-0.5, -0.4, -0.45, -0.6, -0.3], patience=2)),
        Case("hole-below-zero", HOLE, fixed([-0.5, NAN, -0.4, NAN, NAN, -0.6], patience=2)),
        Case("hole", HOLE, fixed([0.5, NAN, 0.6, NAN, NAN, 0.9], patience=2)),
        Case("alone", "the reference alone", fixed([0.3], patience=2)),
        Case("nothing", "no look at all: ValueError", fixed([], patience=2)),
        Case("impatient", IMPATIENT, fixed([0.1, 0.2], patience=0)),
        Case("negative-patience", IMPATIENT, fixed([0.1, 0.2], patience=-1)),
    ),
)

EXERCISES = [GOLD_GAIN, FIT_GAO, CONSERVATIVE_REWARD, EARLY_STOP]
