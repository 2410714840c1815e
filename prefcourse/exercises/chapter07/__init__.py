"""Chapter 7, noise and who is right: three questions and the cases that test them. The answers lie apart."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import torch

from prefcourse import annotators
from prefcourse.checks.exercise import Call, Case, Exercise, Tolerance, fixed
from prefcourse.exercises.tensors import with_gradients

NEAR = Tolerance(relative=1e-5, absolute=1e-5)  # fp32 inside the function is right
FINE = Tolerance(relative=1e-6, absolute=1e-6)


# --- 7.1 dawid_skene ----------------------------------------------------------------------------------------

Votes = list[tuple[str, str, str]]


def _inferred(function: Callable, call: Call):
    """Truth and accuracy by name, in the order of the names. `steps` may be several: then the last counts, and whether
    the likelihood has fallen on the way. `true`: the accuracies that the crowd really has."""
    settings, true = dict(call.settings), call.settings.get("true")
    settings.pop("true", None)
    steps = settings.get("steps")
    if isinstance(steps, list):
        looks = [function([*call.args[0]], **settings | {"steps": n}) for n in steps]
        returned = looks[-1]
    else:
        returned = function([*call.args[0]], **settings)
    named = _by_name(returned)
    if named is None:
        return returned
    facts = {"truth": named[0], "accuracy": named[1]}
    if isinstance(steps, list):
        objectives = [_objective(call.args[0], look) for look in looks]
        facts["the likelihood never falls"] = all(
            b >= a - 1e-7 for a, b in zip(objectives, objectives[1:], strict=False)
        )
    if true:
        pairs = [(true[name], found) for name, found in named[1].items() if name in true]
        facts["correlation with the true accuracies above 0.88"] = len(pairs) > 2 and _correlation(pairs) > 0.88
    return facts


def _by_name(returned) -> tuple[dict, dict] | None:
    """Both dicts as floats in the order of their names; None for anything else."""
    try:
        truth, accuracy = returned
        return tuple({name: float(d[name]) for name in sorted(d)} for d in (dict(truth), dict(accuracy)))
    except (TypeError, ValueError, KeyError):
        return None


def _correlation(pairs: Sequence[tuple[float, float]]) -> float:
    x, y = np.array(pairs).T
    return float(np.corrcoef(x, y)[0, 1]) if x.std() and y.std() else 0.0


def _objective(votes: Votes, returned) -> float:
    """Log-likelihood times prior of the people whom this truth would suggest: what EM climbs."""
    named = _by_name(returned)
    if named is None or not set(named[0]) >= {item for item, _, _ in votes}:
        return -math.inf
    truth, counts = named[0], {}
    for item, who, label in votes:
        person = counts.setdefault(who, [[1.0, 1.0], [1.0, 1.0]])
        for world, weight in ((0, truth[item]), (1, 1 - truth[item])):
            person[world][label == "second"] += weight
    prior = (sum(truth.values()) + 1) / (len(truth) + 2)
    logs = {who: [[math.log(c / sum(row)) for c in row] for row in table] for who, table in counts.items()}
    worlds = {item: [math.log(prior), math.log(1 - prior)] for item in truth}
    for item, who, label in votes:
        for world in (0, 1):
            worlds[item][world] += logs[who][world][label == "second"]
    regular = math.log(prior) + math.log(1 - prior) + sum(x for table in logs.values() for row in table for x in row)
    return float(sum(np.logaddexp(*pair) for pair in worlds.values())) + regular


def _crowd(sizes: Sequence[int], skills: Sequence[float], share: float = 0.6) -> Callable[[random.Random], Votes]:
    """Votes on items of these sizes, by people who are right with these probabilities."""

    def votes(draw: random.Random) -> Votes:
        cast = []
        for n, size in enumerate(sizes):
            truth = draw.random() < share
            for who in draw.sample(range(len(skills)), size):
                first = truth == (draw.random() < skills[who])
                cast.append((f"item {n}", f"person {who}", "first" if first else "second"))
        return cast

    return votes


def _asked(sizes: Sequence[int], skills: Sequence[float], share: float = 0.6, **settings) -> Callable:
    return lambda draw: Call((_crowd(sizes, skills, share)(draw),), settings)


def _begun(kind: str, **settings) -> Callable:
    """The same crowd, begun elsewhere: at random, or with everything the wrong way round."""

    def call(draw: random.Random) -> Call:
        votes = _crowd([4] * 12, [0.9, 0.85, 0.8, 0.7, 0.6])(draw)
        start = {}
        for item in dict.fromkeys(item for item, _, _ in votes):
            said = [label == "first" for other, _, label in votes if other == item]
            drawn = round(draw.uniform(0.2, 0.8), 2)
            start[item] = drawn if kind == "random" else 0.9 - 0.8 * sum(said) / len(said)
        return Call((votes,), settings | {"start": start})

    return call


def _population(draw: random.Random) -> Call:
    """The course's twenty people, five on each of 600 pairs."""
    seed = draw.randrange(1000)
    people, generator = annotators.population(seed), np.random.default_rng(seed)
    features = annotators.random_features(600, generator=generator)
    votes = [(f"{v.item:03}", v.annotator, v.label) for v in annotators.label_pairs(
        people, features, per_item=5, generator=generator
    )]  # fmt: skip
    better = np.arange(600), (features.gold < 0).astype(int)
    true = {p.name: float(annotators.label_probabilities(p, features)[better].mean()) for p in people}
    return Call((votes,), {"steps": 30, "true": true})


def _many_votes(draw: random.Random) -> Call:
    """Forty people vote forty times on each of three items: a product of all their probabilities is 0."""
    votes = [
        (f"item {n}", f"person {who}", "first" if draw.random() < (0.55, 0.5, 0.4)[n] else "second")
        for n in range(3)
        for who in range(40)
        for _ in range(40)
    ]
    return Call((votes,), {"steps": 3})


A_ROUND, ROUNDS, NOBODY = "one step", "several steps", "no item has two votes: ValueError"
SAME = [(f"item {n}", f"person {who}", "first") for n in range(3) for who in range(2)]
DAWID_SKENE = Exercise(
    number="7.1",
    function="dawid_skene",
    points=4,
    minutes=30,
    difficulty="hard",
    apply=_inferred,
    package=tuple(f"prefcourse.agreement:{name}" for name in ("dawid_skene", "DawidSkene", "_index_votes")),
    cases=(
        Case("by-hand", "one item, by hand", fixed([("x", "a", "first"), ("x", "b", "first")], steps=1), NEAR),
        Case("one-step", A_ROUND, _asked([3] * 6, [0.9, 0.8, 0.6, 0.5], steps=1), NEAR),
        Case("two-steps", ROUNDS, _asked([3] * 8, [0.9, 0.8, 0.6, 0.5], steps=2), NEAR),
        Case("few-firsts", ROUNDS, _asked([4] * 10, [0.9, 0.8, 0.7, 0.6, 0.5], share=0.15, steps=4), NEAR),
        Case(
            "unequal",
            "unequal numbers of votes",
            _asked([1, 2, 5, 3, 1, 4, 2], [0.9, 0.8, 0.7, 0.6, 0.5], steps=5),
            NEAR,
        ),
        Case(
            "adversary",
            "somebody who is mostly wrong helps",
            _asked([4] * 15, [0.9, 0.85, 0.85, 0.05, 0.1], steps=10),
            NEAR,
        ),
        Case("begun", "begun elsewhere", _begun("random", steps=1), NEAR),
        Case("mirror", "started in the mirror: the votes still decide the names", _begun("mirrored", steps=8), NEAR),
        Case("all-the-same", "all labels the same", fixed(SAME, steps=3), NEAR),
        Case("many-votes", "hundreds of votes on an item", _many_votes, NEAR, teach=False),
        Case(
            "never-falls",
            "the likelihood never falls",
            _asked([3] * 20, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], steps=[1, 2, 3, 5, 8, 13]),
            NEAR,
        ),
        Case("population", "finds who is right among the course's twenty people", _population, NEAR, teach=False),
        Case("alone", NOBODY, fixed([("x", "a", "first"), ("y", "b", "second")], steps=2)),
        Case("no-votes", NOBODY, fixed([], steps=2)),
    ),
)


# --- 7.2 rdpo_loss ------------------------------------------------------------------------------------------

SUMS = ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected")


def _pairs(count: int, beta: float, flips: float) -> Callable[[random.Random], Call]:
    """Sums as of answers of some ten words."""
    return lambda draw: Call(
        tuple([round(draw.gauss(-20, 5), 1) for _ in range(count)] for _ in SUMS),
        {"beta": beta, "flip_probability": flips},
    )


def _flipped_in_proportion(right: int, wrong: int) -> Callable[[random.Random], Call]:
    """The same pair many times, so many of its labels right and so many flipped."""

    def call(draw: random.Random) -> Call:
        chosen, rejected, ref_chosen, ref_rejected = (round(draw.gauss(-20, 4), 1) for _ in SUMS)
        columns = zip(*[(chosen, rejected, ref_chosen, ref_rejected)] * right,
                      *[(rejected, chosen, ref_rejected, ref_chosen)] * wrong, strict=True)  # fmt: skip
        return Call(tuple(map(list, columns)), {"beta": 0.3, "flip_probability": wrong / (right + wrong)})

    return call


VALUE, MEAN_OVER_FLIPS = "value and gradient, for several betas and shares", "the mean over flips is the clean loss"
OUTSIDE = "flip_probability outside [0, 1/2): ValueError"
ONE_PAIR = [[-2.0], [-4.0], [-3.0], [-3.0]]
RDPO_LOSS = Exercise(
    number="7.2",
    function="rdpo_loss",
    points=3,
    minutes=15,
    difficulty="medium",
    apply=with_gradients(*SUMS, constant=SUMS[2:]),
    package=tuple(
        f"prefcourse.losses:{name}"
        for name in ("rdpo_loss", "cdpo_loss", "dpo_loss", "bradley_terry_loss", "_implicit_margins")
    ),
    cases=(
        Case("by-hand", "one pair, by hand", fixed(*ONE_PAIR, beta=0.5, flip_probability=0.2), NEAR),
        *(
            Case(f"beta-{beta}-flips-{flips}", VALUE, _pairs(4, beta, flips), NEAR)
            for beta, flips in ((0.05, 0.1), (0.3, 0.25), (2.0, 0.4))
        ),
        Case("no-flips", "without flips: DPO's loss", _pairs(3, 0.3, 0.0), NEAR),
        Case("four-to-one", MEAN_OVER_FLIPS, _flipped_in_proportion(4, 1), NEAR),
        Case("seven-to-three", MEAN_OVER_FLIPS, _flipped_in_proportion(7, 3), NEAR),
        Case(
            "equal",
            "policy equal to reference: log 2",
            fixed(*[[-3.0, -8.0], [-7.0, -1.0]] * 2, beta=0.1, flip_probability=0.3),
            NEAR,
        ),
        Case("mean", "the mean over the batch, whatever its size", _pairs(7, 0.2, 0.15), NEAR),
        Case(
            "extreme",
            "finite at log-ratios of 10,000, and below 0 where it must be",
            fixed([1e4, -1e4, 1e4], [-1e4, 1e4, -1e4], [0.0] * 3, [0.0] * 3, beta=0.5, flip_probability=0.2),
            NEAR,
        ),
        Case("coin-tosses", OUTSIDE, fixed(*ONE_PAIR, beta=0.5, flip_probability=0.5)),
        Case("lies", OUTSIDE, fixed(*ONE_PAIR, beta=0.5, flip_probability=0.8)),
        Case("negative", OUTSIDE, fixed(*ONE_PAIR, beta=0.5, flip_probability=-0.1)),
    ),
)


# --- 7.3 borda ----------------------------------------------------------------------------------------------


def _of_a_table(function: Callable, call: Call):
    return function(torch.tensor(call.args[0], dtype=torch.float64).reshape(len(call.args[0]), -1))


def _tournament(answers: int, most: int, *, halves: bool = False, unmet: float = 0.0, own: bool = False) -> Callable:
    """Between 1 and `most` votes on each pair; some pairs never met; numbers on the diagonal that mean nothing."""

    def call(draw: random.Random) -> Call:
        wins = [[0.0] * answers for _ in range(answers)]
        for i in range(answers):
            wins[i][i] = float(draw.randint(1, 9)) if own else 0.0
            for j in range(i):
                votes = 0 if draw.random() < unmet else draw.randint(1, most)
                for_i = draw.randint(0, 2 * votes) / 2 if halves else float(draw.randint(0, votes))
                wins[i][j], wins[j][i] = for_i, votes - for_i
        return Call((wins,))

    return call


def _two_tastes(draw: random.Random) -> Call:
    """A thousand votes on each pair of five answers, by two crowds of opposite taste."""
    gold, taste = ([draw.gauss(0, 1) for _ in range(5)] for _ in range(2))
    wins = [[0.0] * 5 for _ in range(5)]
    for i in range(5):
        for j in range(5):
            gaps = [gold[i] - gold[j] + sign * 2 * (taste[i] - taste[j]) for sign in (1, -1)]
            share = sum(w / (1 + math.exp(-3 * gap)) for w, gap in zip((0.6, 0.4), gaps, strict=True))
            wins[i][j] = 0.0 if i == j else round(1000 * share, 1)
    return Call((wins,))


UNMET = "never compared, never met"
BORDA = Exercise(
    number="7.3",
    function="borda",
    points=2,
    minutes=10,
    difficulty="easy",
    apply=_of_a_table,
    cases=(
        Case("by-hand", "nine of ten and one of two, by hand", fixed([[0.0, 9, 1], [1, 0, 3], [1, 1, 0]]), FINE),
        Case("equal-votes", "every opponent weighs the same", fixed([[0.0, 6, 6], [4, 0, 10], [4, 0, 0]]), FINE),
        Case("unequal", "every opponent weighs the same", _tournament(5, 12), FINE),
        Case("halves", "half votes", _tournament(4, 6, halves=True), FINE),
        Case("diagonal", "the diagonal means nothing", _tournament(4, 6, own=True), FINE),
        Case("unmet", UNMET, fixed([[0.0, 3, 0], [1, 0, 2], [0, 2, 0]]), FINE),
        Case("unmet-drawn", UNMET, _tournament(6, 5, unmet=0.4), FINE),
        Case("nobody", "an answer that has met nobody: nan", fixed([[0.0, 3, 0], [1, 0, 0], [0, 0, 5.0]]), FINE),
        Case("single", "an answer that has met nobody: nan", fixed([[0.0]]), FINE),
        Case("two-tastes", "two crowds with opposite tastes, pooled", _two_tastes, FINE),
        Case("many", "large counts", fixed([[0.0, 1e9, 1e3], [1e3, 0, 1e12], [1e9, 1.0, 0]]), FINE),
    ),
)

EXERCISES = [DAWID_SKENE, RDPO_LOSS, BORDA]
