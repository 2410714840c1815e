"""Self-checks tell a stub, a right answer and each known mistake apart, and say so in words."""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from prefcourse import agreement, selfcheck

NAN = float("nan")


def rate_by_pairs(labels_by_item, drop_ties=False):
    agreeing = pairs = 0
    for labels in labels_by_item:
        labels = [x for x in labels if x != "tie"] if drop_ties else labels
        for a, b in combinations(labels, 2):
            agreeing, pairs = agreeing + (a == b), pairs + 1
    return agreeing / pairs if pairs else NAN


def rate_by_counts(labels_by_item, drop_ties=False):
    """Counting, and a NumPy number as the answer; it prints, as learners' functions do."""
    agreeing = pairs = 0
    for labels in labels_by_item:
        counts = Counter(labels)
        if drop_ties:
            counts.pop("tie", None)
        print(counts)
        agreeing += sum(math.comb(n, 2) for n in counts.values())
        pairs += math.comb(sum(counts.values()), 2)
    return np.float64(agreeing) / pairs if pairs else np.nan


def library_rate(labels_by_item, drop_ties=False):
    return agreement.percent_agreement(labels_by_item, ties="drop" if drop_ties else "three-way")


def unanimity_by_sets(labels_by_item):
    verdicts = [len(set(labels)) == 1 for labels in labels_by_item if len(labels) > 1]
    return (sum(verdicts) / len(verdicts), verdicts.count(False) / len(verdicts)) if verdicts else (NAN, NAN)


def unanimity_as_list(labels_by_item):
    same = np.array([labels.count(labels[0]) == len(labels) for labels in labels_by_item if len(labels) > 1])
    return [same.mean(), 1 - same.mean()] if len(same) else [np.nan] * 2


RIGHT = {
    "2.1": [rate_by_pairs, rate_by_counts, library_rate],
    "2.2": [unanimity_by_sets, unanimity_as_list, agreement.unanimity],
}
MISTAKES = [(n, sentence) for n, exercise in selfcheck.EXERCISES.items() for sentence in exercise.mistakes]


def named(function):
    def answer(*args, **settings):
        return function(*args, **settings)

    return answer


@pytest.mark.parametrize(("number", "answer"), [(n, f) for n, found in RIGHT.items() for f in found])
def test_right_answers_pass_and_show_the_same_values(number, answer):
    report = selfcheck.check(number, answer)
    assert report.passed, report
    reference = str(selfcheck.check(number, named(selfcheck.EXERCISES[number].right)))
    assert str(report).splitlines()[1:] == reference.splitlines()[1:]


@pytest.mark.parametrize(("number", "sentence"), MISTAKES)
def test_each_mistake_fails_and_gets_its_own_sentence(number, sentence):
    report = selfcheck.check(number, named(selfcheck.EXERCISES[number].mistakes[sentence]))
    assert not report.passed
    assert str(report).splitlines()[-1] == f"Likeliest mistake: {sentence}"
    assert "First case that fails: answer([[" in str(report)


def test_two_mistakes_at_once_get_the_sentence_of_one():
    def lazy(labels_by_item, drop_ties=False):  # neighbours only, and 0 for nothing
        return selfcheck.EXERCISES["2.1"].mistakes[
            "you pair neighbours only. Of labels a, b, c also a and c are a pair."
        ](labels_by_item, drop_ties, none=0.0)

    assert "neighbours" in str(selfcheck.check("2.1", lazy))


@pytest.mark.parametrize("number", selfcheck.EXERCISES)
def test_a_stub_is_told_that_it_is_not_written(number):
    def stub(labels_by_item, drop_ties=False):
        raise selfcheck.NotWritten("stub")

    with pytest.raises(selfcheck.NotWritten, match="stub is not written yet. Write its body") as caught:
        selfcheck.check(number, stub)
    assert caught.value._render_traceback_() == [f"NotWritten: {caught.value}"]


@pytest.mark.parametrize("number", selfcheck.EXERCISES)
def test_crashes_and_nonsense_are_shown_not_raised(number):
    crash = str(selfcheck.check(number, named(lambda labels_by_item, drop_ties=False: 1 / 0)))
    assert "ZeroDivisionError (division by zero)" in crash and "none that is known here" in crash
    assert "TypeError" in str(selfcheck.check(number, named(lambda labels_by_item, drop_ties=False: None)))


def test_the_learners_function_cannot_spoil_the_cases():
    def greedy(labels_by_item, drop_ties=False):
        value = rate_by_pairs(labels_by_item, drop_ties)
        labels_by_item.clear()
        return value

    assert selfcheck.check("2.1", greedy).passed
