"""A model in somebody's taste, from some thirty labels: it answers as they like, in time, or says why it cannot."""

from __future__ import annotations

import time

import pytest

from prefcourse.widgets import learn
from prefcourse.widgets.annotator import KeepingResult
from prefcourse.widgets.labels import Sitting, plan
from tests import labs


def labels(seed: int, like) -> list[dict]:
    """Thirty decided labels of somebody who takes the answer that `like` gives more points."""
    sitting = Sitting(plan(labs.lab(seed).answers(1, seed=seed).texts, count=40, repeats=6, seed=seed))
    for showing in sitting.showings:
        left, right = like(showing.left), like(showing.right)
        sitting.label("A" if left > right else "B" if right > left else "tie")
    return sitting.pairs()[:30]


def learned(seed: int, rows: list[dict]) -> learn.Learned:
    steps = KeepingResult(learn.learn(labs.lab(seed), rows, seed=seed))
    shares = [step.share for step in steps]
    assert shares == sorted(shares) and 0 < shares[0] and shares[-1] < 1
    return steps.result


@pytest.mark.parametrize("seed", labs.SEEDS)
def test_who_likes_it_short_gets_short_answers(seed):
    rows = labels(seed, lambda text: -len(text.split()))
    start = time.process_time()
    found = learned(seed, rows)
    assert time.process_time() - start < 30
    before, dpo, ppo = (seen.length for seen in found.seen.values())
    assert ppo < 0.6 * before and dpo < before - 1
    assert found.predicted.rate > 0.65
    assert "predicts" in learn.verdict(found) and "chance" not in learn.verdict(found)


def test_who_likes_it_long_gets_long_answers():
    before, dpo, ppo = (seen.length for seen in learned(0, labels(0, lambda text: len(text.split()))).seen.values())
    assert ppo > before + 3 and dpo > before + 2


def test_the_model_of_before_is_not_moved():
    before = [p.clone() for p in labs.lab(0).sft.parameters()]
    learned(0, labels(0, lambda text: -len(text.split()))[:8])
    assert all((a == b).all() for a, b in zip(before, labs.lab(0).sft.parameters(), strict=True))


@pytest.mark.parametrize("count", [0, 1, 7])
def test_too_few_labels_end_in_a_sentence(count):
    rows = labels(0, lambda text: -len(text.split()))[:count]
    with pytest.raises(learn.TooLittle, match=f"There are {count} decided labels so far"):
        next(learn.learn(labs.lab(0), rows))


def test_labels_that_contradict_one_another_give_no_nan():
    """Every pair labelled both ways: no reward model can be right on more than half."""
    rows = labels(0, lambda text: -len(text.split()))[:10]
    turned = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    try:
        found = learned(0, rows + turned)
    except learn.TooLittle as error:
        assert "label some more" in str(error) or "Add some labels" in str(error)
    else:
        assert found.predicted.low <= 0.5 and "a coin might do, too" in learn.verdict(found)
        assert all(seen.gold.mean == seen.gold.mean for seen in found.seen.values())


def test_a_reward_model_without_opinion_ends_in_a_sentence():
    from prefcourse.models import RewardModel

    with pytest.raises(learn.TooLittle, match="contradict one another"):
        learn.settle(labs.lab(0), RewardModel.from_lm(labs.lab(0).sft), seed=0)
