"""Self-checks for the exercises: cases, what a function gives on them, and words about what that means.

Knows exercises and their usual mistakes. Judges in words and never by `assert`; knows no models, no notebooks.
"""

from __future__ import annotations

import contextlib
import io
import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations, pairwise, product
from typing import NamedTuple


class NotWritten(NotImplementedError):
    """The function is still the stub that came with the exercise."""

    def __init__(self, name: str):
        super().__init__(f"{name} is not written yet. Write its body, run its cell, then run this cell again.")

    def _render_traceback_(self) -> list[str]:  # what Jupyter shows: the sentence, not the way to it
        return [f"NotWritten: {self}"]


class Case(NamedTuple):
    """One call, and the property that it tests."""

    claim: str
    labels_by_item: list[list[str]]
    settings: dict = {}


class Exercise(NamedTuple):
    right: Callable
    cases: Callable[[random.Random], list[Case]]
    mistakes: dict[str, Callable]  # what to say to somebody whose function behaves like this one


class Report(str):
    """What the cell shows."""

    passed = False
    __repr__ = str.__str__


def check(number: str, function: Callable) -> Report:
    """Call `function` on the cases of an exercise and tell which properties hold, each with the values given.

    The first case that fails is shown in full, with the likeliest mistake: the known one that gives the same values.
    """
    exercise = EXERCISES[number]
    cases = exercise.cases(random.Random(number))
    given, expected = ([_call(f, case) for case in cases] for f in (function, exercise.right))
    wrong = [case for case, a, b in zip(cases, given, expected, strict=True) if a != b]
    claims, failed = dict.fromkeys(case.claim for case in cases), {case.claim for case in wrong}
    kept = f"{len(claims) - len(failed)} of {len(claims)} properties hold"
    lines = [f"{number} {function.__name__}: {kept}{'' if failed else '. Solved'}."]
    for claim in claims:
        values = [value for case, value in zip(cases, given, strict=True) if case.claim == claim]
        lines.append(f"  {'NO ' if claim in failed else 'yes'}  {claim}: {'; '.join(values)}")
    if wrong:
        lines += _explain(function.__name__, exercise, cases, given, cases.index(wrong[0]))
    report = Report("\n".join(lines))
    report.passed = not wrong
    return report


def _call(function: Callable, case: Case) -> str:
    """The value in words, to three decimals. What the function prints is not shown: it is no part of the answer."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            value = function([list(labels) for labels in case.labels_by_item], **case.settings)
        numbers = value if isinstance(value, Sequence) else [value]
        return " and ".join(f"{float(number):.3f}" for number in numbers)
    except NotWritten:
        raise
    except Exception as error:  # any mistake of the learner's is a value to show
        return f"{type(error).__name__} ({error})"


def _explain(name: str, exercise: Exercise, cases: list[Case], given: list[str], first: int) -> list[str]:
    case = cases[first]
    settings = "".join(f", {key}={value}" for key, value in case.settings.items())
    answers = {sentence: [_call(f, c) for c in cases] for sentence, f in exercise.mistakes.items()}
    alike = {s: sum(map(str.__eq__, a, given)) for s, a in answers.items() if a[first] == given[first]}
    likeliest = max(alike, key=alike.get) if alike else "none that is known here; do this case by hand."
    return [
        f"First case that fails: {name}({case.labels_by_item}{settings})",
        f"  yours gives {given[first]}; right is {_call(exercise.right, case)}.",
        f"Likeliest mistake: {likeliest}",
    ]


# --- the exercises of chapter 2 -----------------------------------------------------------------------------

TWO, THREE = ("first", "second"), ("first", "second", "tie")


def _items(draw: random.Random, sizes: Sequence[int], labels: Sequence[str]) -> list[list[str]]:
    return [[draw.choice(labels) for _ in range(size)] for size in sizes]


def _without(labels_by_item, label: str = "tie") -> list[list[str]]:
    return [[said for said in labels if said != label] for labels in labels_by_item]


def _agreement(labels_by_item, drop_ties=False, *, pairs=lambda x: combinations(x, 2), same=str.__eq__, none=math.nan):
    kept = _without(labels_by_item) if drop_ties else labels_by_item
    verdicts = [same(a, b) for labels in kept for a, b in pairs(labels)]
    return sum(verdicts) / len(verdicts) if verdicts else none


def _mean_over_items(labels_by_item, drop_ties=False):
    rates = [_agreement([labels], drop_ties) for labels in labels_by_item]
    defined = [rate for rate in rates if rate == rate]
    return sum(defined) / len(defined) if defined else math.nan


def _majority_share(labels_by_item, drop_ties=False):
    kept = [x for x in (_without(labels_by_item) if drop_ties else labels_by_item) if len(x) > 1]
    return sum(max(Counter(x).values()) for x in kept) / sum(map(len, kept)) if kept else math.nan


def _agreement_cases(draw: random.Random) -> list[Case]:
    two, unequal, one = "two labels on each item", "every pair of labels weighs the same", "one label makes no pair"
    tie, drop, mixed = "a tie is a label", "drop_ties=True takes ties away first", _items(draw, (3, 4, 5), THREE)
    return [
        Case(two, [["first", "first"], ["first", "second"]]),
        Case(two, _items(draw, (2,) * 6, TWO)),
        Case(unequal, [["first"] * 2, ["first", "second", "first", "second"]]),
        Case(unequal, _items(draw, (2, 3, 5), TWO)),
        Case(one, [["second"], *_items(draw, (3, 1, 2), TWO)]),
        Case("no pair at all: undefined, nan", [["first"], []]),
        Case(tie, [["tie", "tie"], ["tie", "first"]]),
        Case(tie, mixed),
        Case(drop, [["tie", "tie"], ["tie", "first", "first"]], {"drop_ties": True}),
        Case(drop, mixed, {"drop_ties": True}),
    ]


def _unanimity(labels_by_item, *, least=2, share=1.0, none=math.nan, everything=False):
    kept = [labels for labels in labels_by_item if len(labels) >= least]
    agreed = sum(max(Counter(labels).values()) >= share * len(labels) for labels in kept)
    items = len(labels_by_item) if everything else len(kept)
    mixed = len(kept) - agreed
    return (agreed / items, mixed / items) if kept else (none, none)


def _unanimity_cases(draw: random.Random) -> list[Case]:
    three, one = "three labels on each item", "an item with one label or none is left out"
    return [
        Case(three, [["first"] * 3, ["first", "first", "second"], ["second"] * 3, ["second"] * 3]),
        Case(three, _items(draw, (3,) * 5, TWO)),
        Case(one, [["first"], ["second", "second"], ["first", "second"], []]),
        Case(one, [["second"], *_items(draw, (2, 1, 2, 4), TWO)]),
        Case("a tie is a label", [["tie", "tie"], ["first", "tie"], ["first", "first"], ["second", "second"]]),
        Case("no item with two labels: undefined, nan and nan", [["first"], ["second"]]),
    ]


EXERCISES = {
    "2.1": Exercise(_agreement, _agreement_cases, {
        "you average the items' own rates. Count pairs over all items, then divide once.": _mean_over_items,
        "you also pair each label with itself. Take every two DIFFERENT positions.":
            partial(_agreement, pairs=lambda x: product(x, x)),
        "you pair neighbours only. Of labels a, b, c also a and c are a pair.": partial(_agreement, pairs=pairwise),
        "you count the labels that equal the majority. Agreement is a property of PAIRS of labels.": _majority_share,
        "with nothing to compare you answer 0, as if all disagreed. Undefined is nan.": partial(_agreement, none=0.0),
        "with nothing to compare you answer 1, as if all agreed. Undefined is nan.": partial(_agreement, none=1.0),
        "you ignore drop_ties.": lambda items, drop_ties=False: _agreement(items),
        "you always drop ties; do it only when drop_ties=True.": lambda items, drop_ties=False: _agreement(items, True),
        "you let a tie agree with everything. A tie agrees with a tie, and with nothing else.":
            partial(_agreement, same=lambda a, b: a == b or "tie" in (a, b)),
    }),
    "2.2": Exercise(_unanimity, _unanimity_cases, {
        "you count an item with one label as unanimous. One voice cannot agree with itself.":
            partial(_unanimity, least=1),
        "you ask for a majority. Unanimous means that ALL labels are the same.": partial(_unanimity, share=0.51),
        "you divide by all items, also those with fewer than two labels.": partial(_unanimity, everything=True),
        "the order is swapped: unanimous first, then mixed.": lambda items: _unanimity(items)[::-1],
        "with no item to judge you answer 0. Undefined is nan.": partial(_unanimity, none=0.0),
        "you drop ties. Here a tie is a label: two ties are unanimous.": lambda items: _unanimity(_without(items)),
    }),
}  # fmt: skip
