"""Chapter 8 says what is so: its claims under other seeds than its own, and on other tables than its five answers."""

from __future__ import annotations

import functools
import math

import lessons
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from prefcourse import evaluate, experiments
from prefcourse.checks import check
from prefcourse.experiments import chapter08
from prefcourse.widgets.chapter08 import Course, lately, sentence, steering
from prefcourse.worlds import TableWorld

quiet = lessons.quiet
fewer = {"lab(SEED), 256": "lab(SEED), 96"}  # answers
lesson = functools.partial(lessons.lesson, 8, changed=fewer)


@pytest.mark.parametrize("seed", [1, 2])  # nbval runs seed 0
def test_the_two_lines_need_no_training_under_any_seed(seed):
    """The claims of the lesson's cells up to `two-lines-claims`, with fewer answers."""
    assert lesson(seed, until="plane")["SEED"] == seed


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_frontier_of_any_table_is_concave_with_slope_beta_and_begins_like_a_root(seed):
    names, world = lesson(until="tangents"), TableWorld.random(prompts=1, responses=9, seed=seed)
    names["reference"], reward = world.ref_logits[0].softmax(-1), world.reward[0]
    betas = np.geomspace(30, 0.1, 120)
    path = torch.stack([names["optimum"](beta, reward) for beta in betas])
    kl, gained = names["kl"](path, names["reference"]), path @ reward
    slopes = (gained.diff() / kl.diff()).numpy()
    assert ((betas[1:] < slopes) & (slopes < betas[:-1])).all() and (np.diff(slopes) < 0).all()
    start = names["reference"] @ reward
    spread = (names["reference"] * (reward - start).square()).sum().sqrt()
    assert (gained[0] - start).item() == pytest.approx((spread * (2 * kl[0]).sqrt()).item(), rel=0.05)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_budget_early_stopping_and_best_of_n_on_any_table(seed):
    names, world = lesson(until="sampling-text"), TableWorld.random(prompts=1, responses=9, seed=seed)
    reference, reward = world.ref_logits[0].softmax(-1), world.reward[0]
    names |= {"reference": reference, "reward": reward}
    _, policy = names["within"](0.3, reward)
    assert names["kl"](policy, reference).item() == pytest.approx(0.3, abs=1e-6)
    assert torch.allclose(names["climb"](20, natural=True)[-1], names["optimum"](0.5, reward))
    names |= lesson(until="map")
    for n in (2, 5, 40):
        best = names["best_of"](n, reference, reward)
        assert best.sum().item() == pytest.approx(1) and best.min() >= 0
        assert names["kl"](best, reference) <= math.log(n) - (n - 1) / n + 1e-9
        drawn = world.sample(world.ref_logits, 4000 * n, generator=torch.Generator().manual_seed(seed)).view(4000, n)
        assert (best @ reward).item() == pytest.approx(reward[drawn].max(1).values.mean().item(), abs=0.05)


def test_the_lines_that_are_kept_are_those_of_the_package():
    """A tilt by gold itself is the optimum, and best of 1 the reference."""
    gold = torch.randn(3, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for point in evaluate.optimal_frontier(gold, [2.0, 0.5]):
        tilted = chapter08.tilt(gold, gold, point.beta)
        assert (tilted["kl"], tilted["gold"]) == pytest.approx((point.kl, point.reward))
        assert tilted["effective_sample_size"] == pytest.approx(point.effective_sample_size)
    assert chapter08.best_of_n(gold, gold, 1)["gold"] == pytest.approx(gold.mean().item())
    assert chapter08.best_of_n(gold, gold, 10_000)["gold"] == pytest.approx(gold.max(1).values.mean().item(), abs=1e-3)


def test_a_plane_is_the_mean_over_its_seeds():
    seeds = experiments.load("08_plane")
    plane = chapter08.averaged(seeds, looks=7)
    assert set(plane.methods) == {"PPO", "DPO", "SFT on chosen", "PPO, stopped early", "best of n"}
    golds = [run["end"]["gold"] for run in chapter08.runs_of(seeds, "DPO", 0.3)]
    assert len(golds) == 3 and plane.methods["DPO"][1][1].mean == pytest.approx(sum(golds) / 3, abs=1e-6)
    assert len(plane.methods["PPO, stopped early"]) == 7 and plane.optimum[0].beta == 20.0


def test_the_widget_tells_how_far_the_kl_shot_and_where_it_stayed():
    """KL 3 for a while, then 1: the last hundred rounds lie at 1."""

    def run(seed, target, gain, first_beta):
        return Course([3.0] * 50 + [1.0] * 110, [first_beta] * 160)

    panel = steering(run, start={"gain": 0.1}, target=[1.0, 2.0], gain=[0.1, 1.0], first_beta=[0.2])
    assert isinstance(panel.figure, Figure)
    assert "the largest KL is 3.0; in the last hundred rounds it lies between 1.00 and 1.00" in panel.news
    panel.run_live()
    assert {text.get_text() for text in panel.figure.axes[0].get_legend().get_texts()} == {"run", "run live", "target"}
    assert lately(Course([1.0] * 10 + [2.0] * 10, [1.0] * 20)) == (1.0, 2.0)
    assert "Target 2, gain 1, first beta 0.2" in sentence(
        {"target": 2, "gain": 1, "first_beta": 0.2}, run(0, 2, 1, 0.2)
    )


def test_a_large_gain_swings_and_a_small_one_arrives():
    """The widget's own run, under three seeds."""
    names = lesson(until="sweep")
    cells = {cell.id: cell.source for cell in lessons.cells(8)}
    exec(cells["controller"].partition("\n\n\n")[0], names)
    exec(cells["play"].partition("\nchoices")[0], names)
    for seed in (0, 1, 2):
        calm, wild = (lately(names["run"](seed, 1.0, gain, 0.2)) for gain in (0.1, 2.0))
        assert 0.7 < calm[0] and calm[1] < 1.4
        assert wild[1] - wild[0] > 1.5 * (calm[1] - calm[0])


def wrong_shapes():
    """Functions with a return of another shape than was asked for, and what the learner reads about it."""
    numbers, table = torch.ones(4), torch.ones(1, 4)
    yield "8.1", lambda ref, r, betas: numbers[: len(betas)], "what differs: KL"
    yield "8.1", lambda ref, r, betas: (r, r), "KL (yours is an array of shape 1 x 2; expected a list of 1 number)"
    yield "8.1", lambda ref, r, betas: 0.5, "KL (yours is a number; expected a list of 1 number), expected reward"
    yield "8.3", lambda ref, r, *, budget: ref[0], "probabilities (yours is a list of 2 numbers; expected an array of"
    yield (
        "8.3",
        lambda ref, r, *, budget: table,
        "probabilities (yours is an array of shape 1 x 4; expected an array of",
    )


@pytest.mark.parametrize(("number", "answer", "words"), wrong_shapes())
def test_what_is_said_of_another_shape_names_the_shape(number, answer, words):
    said = " ".join(str(check(number, answer)).split())
    assert words in said and "a dict" not in said


@pytest.mark.parametrize("number", ["8.1", "8.3"])
def test_a_missing_return_is_named(number):
    assert "is a `return` missing?" in " ".join(str(check(number, lambda *tensors, **settings: None)).split())


def test_the_exercise_notebook_runs_from_top_to_bottom_with_nothing_written(capsys):
    lessons.room(8, "exercises")
    assert capsys.readouterr().out.count("Here your function will") == 3
