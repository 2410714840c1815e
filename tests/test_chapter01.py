"""Chapter 1 says what is so: its claims under other seeds than its own, what its text says and does not compute, its
figure, its widget, and its exercises against the package."""

from __future__ import annotations

import functools
import math
from itertools import islice

import lessons
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from prefcourse import losses, models, plots
from prefcourse.backbone import response_logprobs
from prefcourse.checks.exercise import answers, exercise
from prefcourse.evaluate import Estimate
from prefcourse.widgets.chapter01 import Imitation, imitation, sentence

quiet = lessons.quiet
lesson = functools.cache(functools.partial(lessons.lesson, 1, until="play"))


@pytest.mark.parametrize("seed", [1, 2])  # nbval runs seed 0
def test_all_claims_of_the_lesson_hold_under_other_seeds(seed):
    """Among them the figure: each better crowd makes a better model, none is better than its crowd."""
    assert lesson(seed)["SEED"] == seed


@pytest.mark.parametrize("seed", [1, 2])
def test_the_tilt_of_the_lesson_is_the_optimum_of_the_package(seed):
    names = lesson(seed)
    betas = [2.0, 1.0, 0.5, 0.25]
    package = names["evaluate"].optimal_frontier(names["many"], betas)
    assert [point.reward for point in package] == pytest.approx([names["tilted"][beta] for beta in betas], abs=1e-4)


def test_whoever_averages_per_answer_becomes_curt():
    """Half of the authors write 5 words, half 15. The loss is lowest where three quarters of the answers are short."""
    p, words, logits = torch.tensor([0.5, 0.5]), torch.tensor([5.0, 15.0]), torch.zeros(2, requires_grad=True)
    for _ in range(2000):
        loss = -(p / words * logits.log_softmax(-1)).sum()
        (gradient,) = torch.autograd.grad(loss, logits)
        logits = (logits - 10 * gradient).detach().requires_grad_()
    assert logits.softmax(-1).tolist() == pytest.approx([0.75, 0.25], abs=1e-3)


def test_the_loss_of_the_lesson_is_that_of_the_package():
    names = lesson(0, until="pretraining")
    rows = names["encoded"](names["crowd"](0.5, 8))
    logprobs = response_logprobs(names["untrained"], rows)
    ours = -logprobs[rows.response_mask].mean()
    assert ours.item() == pytest.approx(losses.sft_loss(logprobs, rows.response_mask)[0].item())


# --- figure and widget --------------------------------------------------------------------------------------


def test_points_stand_against_the_diagonal_with_their_names_and_fit():
    with plots.style():
        figure, ax = plt.subplots()
        points = [Estimate(0.0, 0.1), Estimate(0.5, 0.1)]
        names = {"xlabel": "x", "ylabel": "y", "level_name": "best"}
        assert plots.against_diagonal(ax, [0.0, 1.0], points, labels=["a", "b"], level=2.0, **names) is ax
        figure.canvas.draw()
    diagonal = ax.get_lines()[0]
    assert diagonal.get_xdata().tolist() == diagonal.get_ydata().tolist() == [-0.1, 1.1]
    assert [text.get_text() for text in ax.texts] == ["a", "b", "best"]
    drawn, page = figure.get_tightbbox(), figure.get_size_inches()
    assert drawn.x0 > -0.01 and drawn.y0 > -0.01 and drawn.x1 < page[0] + 0.01 and drawn.y1 < page[1] + 0.01
    plt.close(figure)


def test_the_widget_compares_a_crowd_with_its_imitator_and_runs_live():
    frames = {(h, T): Imitation([-0.6, 2.0], [2.0 * h, 2.0 * h]) for h in (0.0, 0.5, 1.0) for T in (1.0, 0.0)}
    panel = imitation(
        lambda seed, helpful, temperature: Imitation([0.0, 1.0], [0.5 * seed, 0.5 * seed]),
        frames,
        helpful=[0.0, 0.5, 1.0],
        temperature=[1.0, 0.0],
    )
    assert isinstance(panel.figure, Figure)
    assert "With 50% helpful authors the crowd's answers are worth +0.70" in panel.news
    assert "at temperature 1, +1.00: 0.30 above its authors" in panel.news
    panel.run_live()
    ax = panel.figure.axes[0]
    assert "mean, run live" in {text.get_text() for text in ax.get_legend().get_texts()}
    heights = [bar.get_height() for bar in ax.patches if hasattr(bar, "get_height")]
    assert sum(heights) == pytest.approx(2)  # all answers of the crowd, all of the model
    panel.set(helpful=0.0, temperature=0.0)
    assert panel.news == sentence(0.0, 0.0, frames[0.0, 0.0])
    assert "0.70 below its authors" in panel.news


# --- exercises ----------------------------------------------------------------------------------------------


def test_the_loss_of_two_words_by_hand():
    """1/2 for b, then 3/4 for a: the mean of log 2 and log 4/3. Slopes: p minus one at the word that came, halved."""
    case, call = exercise("1.1").cases[0], exercise("1.1").calls()[0]
    assert case.name == "by-hand"
    facts = exercise("1.1").apply(answers("1.1").oracle, call)
    assert facts["loss"].item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    assert facts["gradient of logits"].flatten().tolist() == pytest.approx([0.25, -0.25, -0.125, 0.125, 0, 0])


def test_the_two_gaps_by_hand():
    """1/2 log(2/3) + 1/2 log 2, and a quarter. The imitator would close the first and open the second to one half."""
    call = exercise("1.2").calls()[0]
    assert exercise("1.2").apply(answers("1.2").oracle, call) == pytest.approx((0.14384, 0.25), abs=1e-5)


@pytest.mark.parametrize(("temperature", "gold"), [(1.0, 0.25), (0.5, 0.1), (0.0, 0.0)])
def test_the_gold_of_three_temperatures_by_hand(temperature, gold):
    """3 to 1, 9 to 1, and nothing but the likelier one."""
    logprobs, golds = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.0, 1.0]])
    assert answers("1.3").oracle(logprobs, golds, temperature) == pytest.approx(gold)


@pytest.mark.parametrize("useless", [None, 3.0, (), "text", [1.0, 2.0]])
def test_what_is_no_tensor_breaks_nothing(useless):
    facts = exercise("1.1").apply(lambda *tensors: useless, exercise("1.1").calls()[0])
    assert facts["gradient of logits"] is None


def test_the_learners_own_loss_trains_as_the_packages_does():
    """Five steps of the loop in the exercise notebook, with its solution, and with the package's functions."""
    names = lessons.practice(1, "setup", "answer-1-1", "your-sft")
    world = names["PocketWorld"]()
    rows = world.demonstrations(300, seed=0, quality="good", counting=0)
    seen = {}
    for name, loss in {"own": names["sft_loss"], "package": answers("1.1").alternatives[-1]}.items():
        names["sft_loss"] = loss
        model = models.tiny_lm(world.tokenizer(), "xs", seed=1)
        seen[name] = [m["loss"] for m in islice(names["your_sft"](model, world.tokenizer(), rows), 5)]
    assert seen["own"] == pytest.approx(seen["package"], abs=1e-5)
    assert np.isclose(seen["own"][0], math.log(137), atol=0.3)
