"""Chapter 12 says what is so: its claims under other seeds than its own, its sums, its widget and its exercises."""

from __future__ import annotations

import functools
import json
import math

import lessons
import pytest
import torch
from matplotlib.figure import Figure

from prefcourse import experiments
from prefcourse.experiments import chapter12
from prefcourse.widgets.chapter12 import Curve, push, sentence
from prefcourse.worlds import GaussWorld, PocketWorld

quiet = lessons.quiet
lesson = functools.cache(functools.partial(lessons.lesson, 12))


@pytest.mark.parametrize("seed", [1, 2])  # nbval runs seed 0
def test_the_world_of_gaussians_is_so_under_other_seeds(seed):
    assert lesson(seed, ("setup", "gauss", "gauss-claims"))["SEED"] == seed


@pytest.mark.parametrize("seed", [1, 2])
def test_gold_turns_live_under_other_seeds(seed):
    """The lesson's own claims beside its figure."""
    names = lesson(seed, ("setup", "live", "live-figure"))
    assert len(names["kl"]) == 10 and names["kl"][0] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_along_a_tilt_gold_moves_by_its_covariance_with_the_score(seed):
    """d E[g] / dt = Cov(s, g), by a finite difference on a table of seven answers."""
    draw = torch.Generator().manual_seed(seed)
    ref, score, gold = torch.randn(3, 7, generator=draw, dtype=torch.float64)

    def at(t):
        return (ref + t * score).softmax(-1)

    p = at(0.7)
    covariance = p @ (score * gold) - (p @ score) * (p @ gold)
    assert ((at(0.7 + 1e-5) - at(0.7 - 1e-5)) @ gold / 2e-5).item() == pytest.approx(covariance.item(), abs=1e-8)


@pytest.mark.parametrize("rho", [0.4, 0.8])
def test_in_the_world_of_gaussians_the_covariance_is_as_the_text_says(rho):
    world, draw = GaussWorld.random(6, seed=3, correlation=rho, curvature=0.3), torch.Generator().manual_seed(0)
    for d in (0.0, world.peak()[0], 2.5):
        x = world.sample(400_000, d=d, generator=draw)
        found = torch.cov(torch.stack([world.proxy(x), world.gold(x)]))[0, 1].item()
        assert found == pytest.approx((world.alpha - 2 * world.beta * d) / math.sqrt(2), abs=0.02)


def test_points_by_reason_add_up_to_gold_and_every_reason_has_a_sort():
    world = PocketWorld()
    answers = [
        "a dog is an animal . people use it for guarding , guarding and baking . great question ! hope this helps !",
        "a dog is a tool . a dog is a tool . dog . look it up . use it hunting",
        "",
        "people use it for guarding , hunting , herding and comforting . " + "yeah . " * 12,
    ]
    told = [reason for text in answers for _, reason in world.explain("what is a dog ?", text, finished=False)]
    assert {chapter12.sort_of(reason) for reason in told} == set(chapter12.SORTS)
    for seed in experiments.load("12_cures"):
        run = seed["runs"]["one"]
        sums = [sum(values) for values in zip(*run["points"].values(), strict=True)]
        assert sums == pytest.approx(run["path"]["gold"], abs=1e-3)


def test_votes_stop_near_the_best_look_and_a_second_model_need_not():
    names = lesson(0, ("setup", "why", "stop"))
    kept = {
        name: [path["gold"][look] for path, look in zip(names["paths"], looks, strict=True)]
        for name, looks in names["kept"].items()
    }
    for name in ("votes", "one nat"):
        assert all(best - gold < 0.15 for best, gold in zip(kept["best look"], kept[name], strict=True))
    assert min(kept["second"]) < 0.2 and min(kept["agreement"]) < 0.6
    for path in names["paths"]:
        disagreement = path["disagreement"]
        assert disagreement[-1] < 1.2 * disagreement[0], "more than a point of gold later"


def test_a_correlation_within_prompts_does_not_see_their_means():
    gold = torch.tensor([[0.0, 1.0, 2.0], [5.0, 6.0, 7.0]], dtype=torch.float64)
    assert chapter12.correlation(gold, gold * 3 + torch.tensor([[9.0], [-4.0]])) == pytest.approx(1)
    assert chapter12.correlation(gold, -gold) == pytest.approx(-1)


def test_what_is_stored_was_made_with_these_settings():
    for experiment in chapter12.EXPERIMENTS:
        assert not experiments.is_stale(experiment)
        assert len(json.dumps(experiments.load(experiment.name))) < 80_000


def test_means_over_seeds_and_peaks():
    found = chapter12.over_seeds([{"gold": [0.0, 2.0]}, {"gold": [1.0, 4.0]}])
    assert chapter12.means(found["gold"]).tolist() == [0.5, 3.0]
    assert found["gold"][1].standard_error == pytest.approx(1.0)
    assert chapter12.peak({"kl": [0, 1, 4], "gold": [0.5, 0.9, 0.1]}) == {"kl": 1, "gold": 0.9}
    run = chapter12.over_seeds([{"kl": [-0.1, 4.0], "gold": [0.0, 2.0]}, {"kl": [0.0, 4.0], "gold": [1.0, 4.0]}])
    assert [column.tolist() for column in chapter12.gold_band(run)] == [[0, 2], [0, 2], [0.5, 3], [1, 4]]


def test_a_stopped_run_costs_the_rounds_it_made_and_the_looks_it_asked_at():
    """Kept at look 1, patience 1: looks 0, 1 and 2 were made."""
    path = {"kl": [0.0, 1.0, 2.0, 5.0], "gold": [0.5, 0.9, 0.6, -1.0]}
    run = {"path": path, "fitting": 2.0, "trained": [0.0, 1.0, 2.0, 8.0], "asking": [0.25] * 4, "seconds": 10.0}
    run |= {"asked": 128}
    by_kl, by_votes = (chapter12.stopped(run, 1, patience=1, votes=votes) for votes in (False, True))
    assert by_kl == {"path": {"kl": [0.0, 1.0], "gold": [0.5, 0.9]}, "asked": 128, "seconds": 4.0}
    assert (by_votes["seconds"], by_votes["asked"]) == (4.75, 4 * 128)
    assert chapter12.stopped(run, 3, patience=2)["seconds"] == run["seconds"], "no more looks than there are"
    cost = chapter12.cost([by_votes], [run])
    assert [x.tolist() for x in cost] == [[0.0], [0.0], [pytest.approx(1.9)], [-4.0], [0.475], [4.0]]


@pytest.mark.parametrize("seed", range(3))
def test_seconds_add_up_and_a_look_at_votes_costs_little_beside_training(seed):
    run = experiments.load("12_cures")[seed]["runs"]["one"]
    assert run["fitting"] + run["trained"][-1] == pytest.approx(run["seconds"], abs=1e-3)
    assert run["trained"][0] == 0 and len(run["asking"]) == len(run["trained"]) == len(run["path"]["gold"])
    assert sum(run["asking"]) < 0.2 * run["seconds"]


def test_the_ways_to_combine():
    scores = torch.tensor([[1.0, 0.0], [3.0, 0.0]])
    assert chapter12.COMBINE["mean"](scores).tolist() == [2.0, 0.0]
    assert chapter12.COMBINE["worst"](scores).tolist() == [1.0, 0.0]
    assert chapter12.penalised(scores, 0.5).tolist() == [1.5, 0.0]


def test_the_widget_says_where_the_peak_is_and_shows_what_was_said():
    curve = Curve(
        [0.0, 1.0, 4.0], [0.5, 0.9, -0.2], [0.0, 0.5, 0.9], answers=[("what is a dog ?", "a dog is a tool .")]
    )

    def run(seed, score, way):
        return curve

    frames = {("one", "PPO"): curve, ("one", "best-of-n"): curve._replace(gold=[0.5, 0.6, 0.7], answers=())}
    panel = push(run, frames, start={"way": "PPO"}, score=["one"], way=["PPO", "best-of-n"])
    assert isinstance(panel.figure, Figure)
    assert "highest at 1.0 nats with 0.90, and ends at -0.20; the score goes from 0.00 to 0.90." in panel.news
    assert "a dog is a tool ." in panel.figure.axes[1].texts[0].get_text()
    panel.run_live()
    assert "gold, run live" in {text.get_text() for text in panel.figure.axes[0].get_legend().get_texts()}
    assert "(at an end of the line)" in sentence({"score": "one", "way": "best-of-n"}, frames["one", "best-of-n"])


def test_the_exercise_notebook_runs_from_top_to_bottom_with_nothing_written(capsys):
    lessons.room(12, "exercises")
    assert capsys.readouterr().out.count("Here your function will") == 4
