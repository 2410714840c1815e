"""Chapter 7 says what is so: its claims under other seeds, its stored runs, its tables and people, its exercises."""

from __future__ import annotations

import functools
import math

import lessons
import numpy as np
import pytest
import torch

from prefcourse import agreement, annotators, losses
from prefcourse.checks.exercise import answers, exercise
from prefcourse.experiments import chapter07 as stored
from prefcourse.widgets.chapter07 import Inquiry, sentence, who_is_right

quiet = lessons.quiet
lesson = functools.partial(lessons.lesson, 7, without=("runs",))  # all that trains nothing


@pytest.mark.parametrize("seed", [1, 2, 3])  # nbval runs seed 0
def test_all_claims_of_the_lesson_hold_under_other_seeds(seed):
    assert lesson(seed)["SEED"] == seed


# --- stored runs --------------------------------------------------------------------------------------------


def gold_by_seed(name: str, *columns: str) -> list[dict]:
    return [{key: row["gold"] for key, row in seed.items()} for seed in stored.by_seed(name, *columns)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_loss_gives_back_what_flips_took(seed):
    gold = gold_by_seed("07_noise", "loss", "flips")[seed]
    for name in stored.LOSSES:
        assert gold[name, 0.4] < gold[name, 0.2] - 0.3 and gold[name, 0.2] < gold["DPO", 0.0] - 0.04
    for share in stored.NOISE["flips"][1:]:
        assert abs(gold["rDPO", share] - gold["DPO", share]) < 0.1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_only_what_is_wrong_by_chance_is_mended_by_more_labels(seed):
    gold = gold_by_seed("07_wrong", "labels", "pairs")[seed]
    assert gold["noise", 256] + 0.1 < gold["noise", 1024] < gold["noise", 4096] - 0.05
    by_chance, by_taste = (gold["right", 4096] - gold[kind, 4096] for kind in ("noise", "bias"))
    assert 0 < 1.3 * by_chance < by_taste
    words = {(row["labels"], row["pairs"]): row["length"] for row in stored.load("07_wrong")[seed]}
    assert all(words["bias", n] > words["noise", n] + 3 for n in stored.WRONG["sizes"])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_five_votes_make_labels_right_and_new_pairs_make_the_policy_better(seed):
    found = stored.by_seed("07_votes", "way")[seed]
    one, majority, em, more = (found[(way,)] for way in ("one vote", "majority", "Dawid-Skene", "more pairs"))
    assert em["wrong"] < majority["wrong"] < one["wrong"] / 2 and abs(more["wrong"] - one["wrong"]) < 0.03
    assert more["gold"] > max(one["gold"], majority["gold"], em["gold"])
    assert more["kl"] < one["kl"] < min(majority["kl"], em["kl"])


def test_a_price_by_hand():
    """From 2 to 3 seconds, 10 pairs with a vote each to 10 pairs with five."""
    plain = {"gold": 1.0, "kl": 0.5, "seconds": 2.0, "pairs": 10, "votes": 10, "wrong": 0.2}
    cure = {"gold": 1.25, "kl": 0.25, "seconds": 3.0, "pairs": 10, "votes": 50, "wrong": 0.1}
    assert stored.price(cure, plain) == [0.25, -0.25, 1.5, 5.0, 0.5]
    assert stored.price(plain | {"flips": 0.2}, plain)[3:] == [1, 1]


def test_every_cure_is_priced_under_every_seed():
    prices = stored.prices()
    assert list(prices) == list(stored.CURES)
    assert all(part.shape == (3,) and np.isfinite(part).all() for price in prices.values() for part in price)


def test_the_lines_of_a_figure_share_the_run_without_flips():
    shares, rows = stored.lines("07_noise", line="loss", along="flips")
    assert shares == stored.NOISE["flips"] and list(rows) == list(stored.LOSSES)
    assert rows["cDPO"][0] == rows["DPO"][0] == rows["rDPO"][0] and rows["cDPO"][4] != rows["DPO"][4]
    assert stored.means(rows, "gold")["DPO"][2] == pytest.approx(
        np.mean([seed["DPO", 0.2] for seed in gold_by_seed("07_noise", "loss", "flips")]), abs=1e-6
    )


def test_what_a_crowd_gained_of_what_it_could():
    """All of it from its own taste, nothing from the reference itself, and less than nothing from the contrary."""
    start, want = torch.zeros(1, 3).double(), torch.tensor([[1.0, 0.0, -1.0]]).double()
    shares = [stored.gained(start, learnt, want, beta=0.5) for learnt in (want, 0 * want, -want)]
    assert shares == pytest.approx([1, 0, -1])


def test_as_many_labels_are_wrong_by_chance_as_by_taste():
    wrong = [{row["wrong"] for row in part} for part in stored.load("07_wrong")]
    assert all(len(shares) == 1 and 0.2 < shares.pop() < 0.3 for shares in wrong)


@pytest.mark.parametrize("flips", [0.1, 0.4])
def test_flips_are_as_many_as_asked_for_and_nested(flips):
    pairs = [{"prompt": str(n), "chosen": "a", "rejected": "b"} for n in range(4000)]
    turned = {row["prompt"] for row in stored.flipped(pairs, flips, seed=0) if row["chosen"] == "b"}
    more = {row["prompt"] for row in stored.flipped(pairs, flips + 0.05, seed=0) if row["chosen"] == "b"}
    assert len(turned) / 4000 == pytest.approx(flips, abs=0.025)
    assert turned < more


# --- tables and people --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_fit_expects_as_many_wins_as_there_were_and_has_bordas_order(seed):
    """Of any shares of votes, also of such as no Bradley-Terry crowd would cast."""
    draw = torch.Generator().manual_seed(seed)
    upper = torch.rand(3, 7, 7, generator=draw).double().triu(1) * 0.96 + 0.02
    wins = upper.triu(1) + (1 - upper.mT).tril(-1) + torch.eye(7) / 2
    scores = stored.fit(wins)
    assert torch.allclose(torch.sigmoid(stored.gap(scores)).mean(-1), wins.mean(-1), atol=1e-6)
    assert (scores.argsort() == wins.sum(-1).argsort()).all()


def test_votes_are_half_a_vote_short_of_unanimous():
    """One vote on each pair: 3/4 or 1/4; mirrored; a half with itself."""
    share = stored.few_votes(torch.full((1, 4, 4), 0.5).double(), 1, generator=torch.Generator().manual_seed(0))[0]
    assert torch.allclose(share + share.mT, torch.ones(4, 4).double())
    assert sorted(set(share.flatten().tolist())) == [0.25, 0.5, 0.75]


def test_wrong_way_round_and_explained_by_hand():
    gold, other = torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    assert stored.wrong_way_round(torch.tensor([[2.0, 3.0, 1.0]]), stored.gap(gold)) == pytest.approx(1 / 3)
    assert stored.explained(5 + 2 * gold - 3 * other, gold, other) == pytest.approx([2.0, -3.0], abs=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_dawid_skene_finds_accuracy_in_the_default_population(seed):
    """The lesson's em, the oracle of exercise 7.1 and the package agree; r > .88."""
    em = lesson(0, ("setup", "em"))["em"]
    _, accuracy, (item, who, said) = stored.ask(annotators.population(seed), 5, seed=seed)
    truth, found = em(item, who, said, np.bincount(item, said) / np.bincount(item), steps=20)
    names = list(accuracy)
    votes = [(int(i), names[w], "first" if s else "second") for i, w, s in zip(item, who, said, strict=True)]
    package = agreement.dawid_skene(votes, steps=20, tolerance=-math.inf)
    assert [package.accuracy()[name] for name in names] == pytest.approx(found.tolist(), abs=1e-9)
    by_oracle = answers("7.1").oracle(votes[:500], steps=4)
    by_package = agreement.dawid_skene(votes[:500], steps=4, tolerance=-math.inf)
    assert by_oracle[1] == pytest.approx(by_package.accuracy(), abs=1e-9)
    assert np.corrcoef(list(accuracy.values()), found)[0, 1] > 0.88
    assert np.mean(truth > 0.5) == pytest.approx(0.5, abs=0.1)


def test_whom_the_crowds_are_made_of():
    people = stored.crowd(3, "spammers", seed=0)
    assert len(people) == len({p.name for p in people}) == 20
    assert [p.slope for p in people[:3]] == [0, 0, 0]
    lovers = stored.crowd(3, "lovers of length", seed=0)
    assert all(p.length > 1 for p in lovers[:3]) and not any(p.length for p in lovers[3:])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_em_gives_spammers_away_and_follows_lovers_of_length(seed):
    """What the text says beside the widget: five votes on each pair."""
    names = lesson(0, ("setup", "em", "play"))

    def right(votes, others, how_many):
        return names["run"](seed, votes, others, how_many).right

    spammed, loved = right(5, "spammers", 16), right(5, "lovers of length", 12)
    assert spammed["EM"] > spammed["majority"] + 0.05
    assert loved["EM"] < loved["majority"] - 0.02 and loved["majority"] < 0.87
    nine, few, none = right(9, "lovers of length", 12), right(5, "lovers of length", 4), right(5, "lovers of length", 0)
    assert nine["EM"] < loved["EM"] and few["EM"] > none["EM"] - 0.03


def test_with_three_votes_the_crowd_of_the_lesson_ends_on_the_side_of_the_mirror():
    names = lesson(0, ("setup", "em", "play"))
    by_seed = [names["run"](seed, 3, "spammers", 16).right["EM"] for seed in (0, 1, 2)]
    assert by_seed[0] < 0.5 < min(by_seed[1:])


# --- the widget ---------------------------------------------------------------------------------------------


def test_the_widget_asks_anew():
    def run(seed, votes, others, how_many):
        right = {"one vote": 0.8, "majority": 0.9, "EM": 0.91 + seed / 100}
        return Inquiry({"careful-1": 0.9, "spammer-1": 0.5}, {"careful-1": 0.88, "spammer-1": 0.52}, right)

    panel = who_is_right(run, start={"votes": 5}, votes=[2, 5], others=["spammers"], how_many=[0, 4])
    assert panel.news.startswith(
        "5 votes on each pair, 0 of 20 people are spammers: one vote is right about gold on 80%"
    )
    panel.set(how_many=4)
    panel.run_live()
    assert panel.news == sentence(
        {"votes": 5, "how_many": 4, "others": "spammers"}, run(1, 5, "spammers", 4)
    ) and panel.news.endswith("EM on 92%.")


# --- exercises ----------------------------------------------------------------------------------------------


def test_one_item_by_hand():
    """Odds 32 to 9; accuracy 2/3 2/3 + 1/3 1/2 = 11/18."""
    truth, accuracy = answers("7.1").oracle(*exercise("7.1").calls()[0].args, steps=1)
    assert truth == pytest.approx({"x": 32 / 41}) and accuracy == pytest.approx({"a": 11 / 18, "b": 11 / 18})


@pytest.mark.parametrize("flips", [0.1, 0.2, 0.45])
def test_the_mean_of_rdpo_over_flips_is_the_clean_loss_and_that_of_cdpo_is_not(flips):
    sums = torch.tensor([[-11.0], [-14.0], [-12.0], [-12.5]]).double()
    turned = sums[[1, 0, 3, 2]]
    clean = losses.dpo_loss(*sums, beta=0.7)[0]
    rdpo = [losses.rdpo_loss(*rows, beta=0.7, flip_probability=flips)[0] for rows in (sums, turned)]
    cdpo = [losses.cdpo_loss(*rows, beta=0.7, label_smoothing=flips)[0] for rows in (sums, turned)]
    assert (1 - flips) * rdpo[0] + flips * rdpo[1] == pytest.approx(clean.item())
    assert (1 - flips) * cdpo[0] + flips * cdpo[1] > clean + 0.3


def test_nine_of_ten_and_one_of_two_by_hand():
    """A: (9/10 + 1/2) / 2 = 7/10, where all wins over all votes are 10/12."""
    call = exercise("7.3").calls()[0]
    shares = answers("7.3").oracle(torch.tensor(call.args[0]))
    assert shares.tolist() == pytest.approx([(0.9 + 0.5) / 2, (0.1 + 0.75) / 2, (0.5 + 0.25) / 2])


def test_the_exercise_notebook_runs_from_top_to_bottom_with_nothing_written(capsys):
    lessons.room(7, "exercises")
    said = capsys.readouterr().out
    assert said.count("Here your") == 3
