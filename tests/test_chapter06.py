"""Chapter 6 says what is so: its claims under other seeds, its stored runs, its exercises and its widget."""

from __future__ import annotations

import functools
import math
from itertools import islice

import lessons
import pytest
import torch

from prefcourse import models, train
from prefcourse.checks.exercise import Call, answers, exercise
from prefcourse.evaluate import CalibrationBin, wilson
from prefcourse.experiments import chapter06 as stored
from prefcourse.widgets.chapter06 import pairs_and_noise, sentence

quiet = lessons.quiet
lesson = functools.cache(functools.partial(lessons.lesson, 6))


@pytest.mark.parametrize("seed", [1, 2])  # nbval runs seed 0
def test_all_claims_of_the_lesson_hold_under_other_seeds(seed):
    assert lesson(seed)["SEED"] == seed


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_fit_expects_as_many_wins_as_there_were(seed):
    """Of any votes in which nobody won or lost everything, from any start; and the mean stays."""
    fit = lesson(1)["fit"]
    draw = torch.Generator().manual_seed(seed)
    wins = torch.randint(1, 9, (6, 6), generator=draw).double().fill_diagonal_(0)
    start = torch.randn(6, generator=draw).double()
    scores = fit(wins, start)
    expected = ((wins + wins.T) * torch.sigmoid(scores[:, None] - scores)).sum(1)
    assert torch.allclose(expected, wins.sum(1), atol=1e-6)
    assert scores.mean() == pytest.approx(start.mean().item())


@pytest.mark.parametrize("slope", [0.2, 1.0, 3.0])
def test_the_likeliest_slope_finds_the_slope_that_made_the_labels(slope):
    """20,000 labels on gaps N(0, 2): within 5 % of the planted slope; turned labels have the slope below 0."""
    likeliest = lesson(1)["likeliest_slope"]
    draw = torch.Generator().manual_seed(0)
    gaps = 2 * torch.randn(20_000, generator=draw)
    chosen_first = torch.rand(20_000, generator=draw) < torch.sigmoid(slope * gaps)
    chosen_minus_rejected = torch.where(chosen_first, gaps, -gaps)
    assert likeliest(chosen_minus_rejected) == pytest.approx(slope, rel=0.05)
    assert stored.trust(chosen_minus_rejected.double().numpy()) == pytest.approx(slope, rel=0.05)
    assert likeliest(-chosen_minus_rejected) < 0


# --- stored runs --------------------------------------------------------------------------------------------


def test_all_seeds_are_in_every_frame():
    frames = stored.frames()
    assert set(frames) == {(n, t) for n in stored.PAIRS for t in stored.TEMPERATURES}
    held_out = {sum(b.count for b in frame["bins"]) for frame in frames.values()}
    assert len(held_out) == 1 and held_out.pop() > 5000


@pytest.mark.parametrize("temperature", stored.TEMPERATURES)
def test_no_stored_model_is_above_its_ceiling_and_more_pairs_are_better(temperature):
    frames = stored.frames()
    labels, gold = ([frames[n, temperature][key] for n in stored.PAIRS] for key in ("labels", "gold"))
    assert max(labels) < frames[64, temperature]["ceiling"] - 0.03
    assert labels[-1] > labels[0] + 0.005 and gold[-1] > gold[0] + 0.04


def test_ceilings_and_slopes_fall_with_noise():
    frames = [stored.frames()[4096, t] for t in stored.TEMPERATURES]
    for key in ("ceiling", "slope", "people"):
        values = [frame[key] for frame in frames]
        assert values == sorted(values, reverse=True)


def test_two_seeds_together_by_hand():
    """60 of 100 and 90 of 300 right: 150 of 400. Bins at .62 (100 claims) and .64 (300) are one, at .635."""
    rows = [
        {"of": 100.0, "accuracy": 0.6, "gold": 0.8, "bins": [[0.62, 0.6, 100]]},
        {"of": 300.0, "accuracy": 0.3, "gold": 0.9, "bins": [[0.64, 0.3, 300]]},
    ]
    found = stored.together(rows)
    assert found["accuracy"] == wilson(150, 400) and found["labels"] == 0.375
    assert found["gold"] == pytest.approx(0.85)
    assert found["bins"] == [pytest.approx(CalibrationBin(0.635, 0.375, 400))]
    assert found["calibration_error"] == pytest.approx(0.26)


def test_which_pairs_differ_in_uses_alone():
    world = lesson(1)["here"].world
    plain = "python is a language . people use it for scripting ."
    judge = functools.partial(stored.differ_in_uses_alone, world, "what is python ?", plain)
    assert judge("python is a language . people use it for milking .")
    assert judge("great question ! python is a language .")
    assert not judge(plain + " hope this helps !")  # no use differs
    assert not judge("python is a tool . people use it for milking .")
    assert not judge("python is a language . yeah .")


# --- the widget ---------------------------------------------------------------------------------------------


def frame(rate: float) -> dict:
    bins = [CalibrationBin(0.6, 0.5, 50), CalibrationBin(0.9, 0.8, 50)]
    more = {"ceiling": 0.81, "gold": 0.83, "calibration_error": 0.1}
    return {"accuracy": wilson(100 * rate, 100), "bins": bins} | more


def test_the_widget_moves_over_stored_runs_and_runs_live():
    frames = {(n, t): frame(0.6 + n / 1000) for n in (64, 128) for t in (1, 2)}
    panel = pairs_and_noise(
        lambda seed, pairs, temperature: frame(0.7), frames, start={"pairs": 128}, pairs=[64, 128], temperature=[1, 2]
    )
    assert (
        "On 128 pairs, labelled by people at temperature 1, a reward model predicts 0.73 of held-out labels"
        in panel.news
    )
    panel.set(temperature=2)
    panel.run_live()
    assert panel.news == sentence(128, 2, frames[128, 2], [frame(0.7)])
    assert panel.news.endswith("Run live: 0.70 (diamonds).")
    assert panel.figure.axes[1].get_title(loc="left") == "Run live"
    drawn = [line.get_ydata().tolist() for line in panel.figure.axes[0].get_lines() if line.get_marker() == "D"]
    assert drawn == [[0.7]]


# --- exercises ----------------------------------------------------------------------------------------------


def test_the_loss_of_log_3_against_0_by_hand():
    """The label has probability 3/4; the gradients are minus and plus 1/4."""
    facts = exercise("6.1").apply(answers("6.1").oracle, exercise("6.1").calls()[0])
    assert facts["loss"].item() == pytest.approx(math.log(4 / 3))
    assert facts["gradient of chosen_scores"].tolist() == pytest.approx([-0.25])
    assert facts["gradient of rejected_scores"].tolist() == pytest.approx([0.25])


def test_two_scores_by_hand():
    """(2, 1) . (1, 1/2) = 2.5 in the first row, (0, 4) . (1, 1/2) = 2 in the second."""
    facts = exercise("6.2").apply(answers("6.2").oracle, exercise("6.2").calls()[0])
    assert facts["scores"].tolist() == pytest.approx([2.5, 2.0])
    assert facts["gradient of weight"].tolist() == pytest.approx([2.0, 5.0])
    assert facts["gradient of hidden"][0].tolist() == [[0, 0], [1, 0.5], [0, 0]]


def test_a_mean_claim_that_is_right_hides_two_bins_that_are_not():
    """.92 twice, right once: .42 too high. .62 twice, right twice: .38 too low. The mean of both is .40."""
    call = exercise("6.3").calls()[0]
    assert answers("6.3").oracle(*map(torch.tensor, call.args)) == pytest.approx(0.40)
    assert sum(call.args[0]) / 4 == pytest.approx(0.77) and sum(call.args[1]) / 4 == 0.75


@pytest.mark.parametrize("useless", [None, 3.0, (), "text", [1.0, 2.0]])
def test_what_is_no_tensor_breaks_nothing(useless):
    call = Call(([[[1.0]]], [1.0], [[True]]))
    facts = exercise("6.2").apply(lambda *tensors: useless, call)
    assert facts is None if useless is None else facts["gradient of hidden"] is None


def test_ten_steps_of_the_learners_own_reward_model_are_ten_steps_of_the_packages():
    """The loop of the exercise notebook, with the loss of its solution."""
    names = lessons.practice(6, "setup", "answer-6-1", "your-loop")
    here, pairs = lesson(1)["here"], lesson(1)["train_pairs"]
    made = [models.RewardModel.from_lm(here.sft) for _ in range(2)]
    settings = {"epochs": 4, "learning_rate": 2e-3, "seed": 3}
    ours = [m["loss"] for m in islice(names["your_reward_model"](made[0], here.tokenizer, pairs, **settings), 10)]
    theirs = [m["loss"] for m in islice(train.reward_model(made[1], here.tokenizer, pairs, **settings), 10)]
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_the_exercise_notebook_runs_from_top_to_bottom_with_nothing_written(capsys):
    lessons.room(6, "exercises")
    said = capsys.readouterr().out
    assert said.count("Here your") == 3 and said.count("is solved") + said.count("are solved") == 3
