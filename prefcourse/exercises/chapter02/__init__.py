"""Chapter 2, how far do people agree: five questions and the cases that test them. The answers lie apart."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from prefcourse.checks.exercise import Call, Case, Exercise, Tolerance, fixed

TWO, THREE = ("first", "second"), ("first", "second", "tie")
FINE = Tolerance(relative=1e-6, absolute=1e-5)  # float32 is right, too; where 1 - chance is small, 7 digits are 5


def _labels(draw: random.Random, sizes: Sequence[int], labels: Sequence[str] = TWO) -> list[list[str]]:
    return [[draw.choice(labels) for _ in range(size)] for size in sizes]


def _items(*sizes: int, labels: Sequence[str] = TWO, begin: Sequence = (), **settings) -> Callable:
    """Draws one list of labels per size, after the items of `begin`."""
    return lambda draw: Call(([*map(list, begin), *_labels(draw, sizes, labels)],), settings)


def _two_people(count: int, labels: Sequence[str], copied: float) -> Callable:
    """Two people on `count` items: the second repeats the first with probability `copied`, else draws anew."""

    def calls(draw: random.Random) -> Call:
        a = [draw.choice(labels) for _ in range(count)]
        return Call((a, [said if draw.random() < copied else draw.choice(labels) for said in a]))

    return calls


def _crowd(people: int, pairs: int) -> Callable:
    """Probabilities of saying "first" in twentieths, a row per person; and which response is better."""

    def call(draw: random.Random) -> Call:
        table = [[draw.randrange(1, 20) / 20 for _ in range(pairs)] for _ in range(people)]
        return Call((table, [draw.random() < 0.5 for _ in range(pairs)]))

    return call


EVERY_PAIR, A_TIE = "every pair of labels weighs the same", "a tie is a label like any other"
DROPPED, ONE_LABEL = "drop_ties=True drops ties first", "one label makes no pair"
AGREEMENT_RATE = Exercise(
    number="2.1",
    function="agreement_rate",
    points=2,
    minutes=10,
    difficulty="easy",
    package=tuple(f"prefcourse.agreement:{name}" for name in ("percent_agreement", "count_pairs", "_pairs_per_item")),
    cases=(
        Case("two-labels", "two labels on each item", fixed([["first", "first"], ["first", "second"]]), FINE),
        Case("two-labels-drawn", "two labels on each item", _items(2, 2, 2, 2, 2, 2), FINE),
        Case("unequal", EVERY_PAIR, fixed([["first"] * 2, ["first", "second", "first", "second"]]), FINE),
        Case("unequal-drawn", EVERY_PAIR, _items(2, 3, 5, 7), FINE),
        Case("one-label", ONE_LABEL, _items(3, 1, 2, begin=[["second"]]), FINE),
        Case("no-pair", "no pair at all: undefined, nan", fixed([["first"], []]), FINE),
        Case("no-item", "no pair at all: undefined, nan", fixed([]), FINE),
        Case("ties", A_TIE, fixed([["tie", "tie"], ["tie", "first"]]), FINE),
        Case("ties-drawn", A_TIE, _items(3, 4, 5, labels=THREE), FINE),
        Case("dropped", DROPPED, fixed([["tie", "tie"], ["tie", "first", "first"]], drop_ties=True), FINE),
        Case("dropped-drawn", DROPPED, _items(3, 4, 5, labels=THREE, drop_ties=True), FINE),
        Case("only-ties", "nothing but ties, dropped: nan", fixed([["tie", "tie", "tie"]], drop_ties=True), FINE),
    ),
)

LEFT_OUT, NONE_JUDGED = "an item with one label or none is left out", "no items to judge: nan and nan"
UNANIMITY = Exercise(
    number="2.2",
    function="unanimity",
    points=1,
    minutes=10,
    difficulty="easy",
    package=("prefcourse.agreement:unanimity",),
    cases=(
        Case(
            "three",
            "unanimous means that all say the same",
            fixed([["first"] * 3, ["first", "first", "second"], ["second"] * 3, ["second"] * 3]),
            FINE,
        ),
        Case("three-drawn", "unanimous means that all say the same", _items(3, 3, 3, 3, 3), FINE),
        Case("left-out", LEFT_OUT, fixed([["first"], ["second", "second"], ["first", "second"], []]), FINE),
        Case("left-out-drawn", LEFT_OUT, _items(2, 1, 2, 4, begin=[["second"]]), FINE),
        Case("ties", A_TIE, fixed([["tie", "tie"], ["first", "tie"], ["first"] * 2, ["second"] * 2]), FINE),
        Case("ties-drawn", A_TIE, _items(2, 2, 2, 3, labels=THREE), FINE),
        Case("no-item", NONE_JUDGED, fixed([["first"], ["second"]]), FINE),
    ),
)

BEYOND, OWN_SHARES = "agreement beyond chance", "chance from each person's own shares of the labels"
COHEN_KAPPA = Exercise(
    number="2.3",
    function="cohen_kappa",
    points=2,
    minutes=15,
    difficulty="medium",
    package=("prefcourse.agreement:cohen_kappa", "prefcourse.agreement:pairwise_cohen"),
    cases=(
        Case("half", BEYOND, fixed(list("aabb"), list("aaba")), FINE),
        Case("half-drawn", BEYOND, _two_people(20, "ab", 0.6), FINE),
        Case(
            "ninety-five",
            "the 95/5 raters: they agree on 90 %, and no better than chance",
            fixed(["good"] * 95 + ["bad"] * 5, ["bad"] * 5 + ["good"] * 95),
            FINE,
        ),
        Case("own-shares", OWN_SHARES, fixed(list("aaab"), list("abbb")), FINE),
        Case("own-shares-drawn", OWN_SHARES, _two_people(15, "aaab", 0.3), FINE),
        Case("three-labels-drawn", "any number of labels", _two_people(24, THREE, 0.5), FINE),
        Case("strangers", "labels that only one of them uses", fixed(list("aab"), list("aac")), FINE),
        Case("always-opposed", "below chance kappa is negative", fixed(list("abab"), list("baba")), FINE),
        Case("one-label", "both always say the same label: chance is 1, nan", fixed(["a"] * 3, ["a"] * 3), FINE),
        Case("nothing", "no item: nan", fixed([], []), FINE),
        Case("unequal", "unequal numbers of labels: ValueError", fixed(list("aab"), list("ab")), FINE),
    ),
)

POOLED, MANY = "chance from the shares of all labels pooled", "any number of labels on each item, the same on all"
FLEISS_KAPPA = Exercise(
    number="2.4",
    function="fleiss_kappa",
    points=2,
    minutes=15,
    difficulty="medium",
    package=("prefcourse.agreement:fleiss_kappa", "prefcourse.agreement:krippendorff_alpha"),
    cases=(
        Case("three", MANY, fixed([["first"] * 3, ["first", "first", "second"], ["second"] * 3]), FINE),
        Case("three-drawn", MANY, _items(3, 3, 3, 3, 3, begin=[["first", "second", "first"]]), FINE),
        Case("five-drawn", MANY, _items(5, 5, 5, 5, begin=[["first"] * 4 + ["second"]]), FINE),
        Case("three-labels-drawn", "any number of different labels", _items(4, 4, 4, 4, 4, labels=THREE), FINE),
        Case("two", POOLED, fixed([["first", "second"], ["first", "second"], ["first", "first"]]), FINE),
        Case("rare", POOLED, fixed([["good"] * 4] * 9 + [["good", "good", "good", "bad"]]), FINE),
        Case("one-voice", "all labels the same: chance is 1, nan", fixed([["first"] * 3, ["first"] * 3]), FINE),
        Case("single", "one label on each item, nothing to compare: nan", fixed([["first"], ["second"]]), FINE),
        Case("nothing", "no item: nan", fixed([]), FINE),
        Case("unequal", "unequal numbers of labels: ValueError", fixed([["first"] * 2, ["first"] * 3]), FINE),
    ),
)

GOLD, BEST = "gold follows what is better, even where the people do not", "best does not know who will be asked"
REWARD_MODEL_CEILING = Exercise(
    number="2.5",
    function="reward_model_ceiling",
    points=3,
    minutes=15,
    difficulty="medium",
    package=("prefcourse.agreement:ceiling_from_annotators",),
    cases=(
        Case("alike", "identical people", fixed([[0.8, 0.3, 0.9]] * 2, [True, False, True]), FINE),
        Case("one-person-drawn", "one person", _crowd(1, 5), FINE),
        Case("opposed", BEST, fixed([[0.9, 0.2], [0.1, 0.6]], [True, False]), FINE),
        Case("crowd-drawn", BEST, _crowd(4, 6), FINE),
        Case("biased", GOLD, fixed([[0.9, 0.8, 0.7], [0.7, 0.6, 0.9]], [True, False, False]), FINE),
        Case("biased-drawn", GOLD, _crowd(3, 7), FINE),
        Case("coins", "coin flips: nobody gets beyond one half", fixed([[0.5] * 3] * 2, [True, False, True]), FINE),
        Case("certain", "people without noise who agree: 1", fixed([[1.0, 0.0]] * 3, [True, False]), FINE),
        Case("nothing", "no pair: nan and nan", fixed([[], []], []), FINE),
    ),
)

EXERCISES = [AGREEMENT_RATE, UNANIMITY, COHEN_KAPPA, FLEISS_KAPPA, REWARD_MODEL_CEILING]
