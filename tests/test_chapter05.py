"""Chapter 5 says what is so: its claims under other seeds than its own, the grid that it keeps, its figures and widget,
and its exercises against exact numbers."""

from __future__ import annotations

import functools
import itertools
import math

import lessons
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from prefcourse import evaluate, experiments, plots
from prefcourse.checks.exercise import answers, exercise
from prefcourse.evaluate import FrontierPoint
from prefcourse.exercises import chapter05 as definitions
from prefcourse.experiments import chapter05
from prefcourse.widgets.chapter05 import best_at, choose_a_point

quiet = lessons.quiet
lesson = functools.cache(functools.partial(lessons.lesson, 5))


@pytest.mark.parametrize("seed", [1, 2])  # nbval runs seed 0
def test_all_claims_of_the_lesson_hold_under_other_seeds(seed):
    assert lesson(seed)["SEED"] == seed


def test_the_frontier_of_the_lesson_is_the_packages():
    gold = lesson(1)["gold_of_reference"]
    ours = [lesson(1)["optimum_from_samples"](gold, beta) for beta in (2.0, 0.3)]
    for mine, theirs in zip(ours, evaluate.optimal_frontier(gold, [2.0, 0.3]), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6)


# --- the grid -----------------------------------------------------------------------------------------------


def test_the_grid_is_complete_and_was_made_with_these_settings():
    kept = experiments.record("05_grid")
    assert kept["parts"] == [{"seed": seed} | chapter05.GRID for seed in range(3)]
    assert kept["seconds"] < 600 and {"torch", "transformers", "numpy", "prefcourse"} <= kept["versions"].keys()
    wanted = set(itertools.product(*(chapter05.GRID[name] for name in ("betas", "learning_rates", "looks"))))
    for part in kept["results"]:
        rows = part["rows"]
        assert {(row["beta"], row["learning_rate"], row["epochs"]) for row in rows} == wanted
        assert len(rows) == len(wanted) and all(math.isfinite(row["gold"]) for row in rows)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_the_grid_keeps_of_rewards_and_logprobs_is_one_story(seed):
    """rewards = beta * (logps - the reference's logps): exercise 5.3 is asked about real logs."""
    part = experiments.load("05_grid")[seed]
    for row, side in itertools.product(part["rows"], ("chosen", "rejected")):
        moved = row[f"logps/{side}"] - part["reference"][f"logps/{side}"]
        assert row[f"rewards/{side}"] == pytest.approx(row["beta"] * moved, abs=2e-4 * (1 + row["beta"]))


def test_ranks_agree_by_hand():
    """1 - 6 * (0 + 1 + 1) / (3 * 8) = 1/2, whatever the distances; equals share their rank."""
    assert chapter05.rank_correlation(np.array([1, 5, 9]), np.array([[0], [8], [7]])) == pytest.approx(0.5)
    assert chapter05.rank_correlation(np.array([1.0, 2.0, 2.0]), np.array([3, 1, 1])) == pytest.approx(-1)


# --- figures and widget -------------------------------------------------------------------------------------

FRONTIER = [FrontierPoint(1 / (i + 1), 1.5 * math.sqrt(i), i, 200 / (i + 1) ** 2) for i in range(4)]


@pytest.fixture
def ax():
    with plots.style():
        figure, ax = plt.subplots(figsize=(7, 4))
        yield ax
    plt.close(figure)


def fits(figure) -> bool:
    figure.canvas.draw()
    drawn, page = figure.get_tightbbox(), figure.get_size_inches()
    return drawn.x0 > -0.01 and drawn.y0 > -0.01 and drawn.x1 < page[0] + 0.01 and drawn.y1 < page[1] + 0.01


def test_a_grid_in_the_plane_names_every_value_and_stands_on_a_square_root_axis(ax):
    settings = {"colour": ("learning rate", [1e-3, 1e-3, 2e-3]), "marker": ("beta", [0.1, 1.0, 0.1])}
    assert plots.grid_in_plane(ax, [0, 1, 4], [0, 1, 0.5], **settings, frontier=FRONTIER, reference=0.0) is ax
    said = [text.get_text() for text in ax.get_legend().get_texts()]
    assert said[-4:] == ["learning rate 0.001", "learning rate 0.002", "beta 0.1", "beta 1"] and "reference" in said
    zero, one, four = (ax.transData.transform((kl, 0))[0] for kl in (0, 1, 4))
    assert one - zero == pytest.approx(four - one)
    drawn = [line for line in ax.get_lines() if line.get_label().startswith("_")]
    assert len({to_hex(line.get_color()) for line in drawn}) == 2 and len({line.get_marker() for line in drawn}) == 2
    assert fits(ax.figure)


def test_a_heat_map_shows_every_number_white_at_its_centre(ax):
    names = {"rows": ("beta", [0.1, 1.0]), "columns": ("learning rate", [1e-3, 2e-3])}
    assert plots.heat_map(ax, [[0.2, 1.2], [-1.0, 5.0]], label="gold", limits=(-1, 1.2), centre=0.2, **names) is ax
    assert [text.get_text() for text in ax.texts] == ["0.2", "1.2", "-1.0", "5.0"]
    fills = [to_hex(box.get_facecolor()).upper() for box in ax.patches]
    assert fills[0] in ("#FFFFFF", "#FEFEFF") and fills[1:] == [plots.POLICY, "#D55E00", plots.POLICY]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("learning rate", "beta")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0.1", "1"]
    assert fits(ax.figure)


def test_the_widget_chooses_among_runs_and_runs_live():
    def row(kl):
        texts = ["a drill is a tool .", ""]
        return {"kl": kl, "gold": math.sqrt(kl), "kl_se": 0.1, "gold_se": 0.05, "texts": texts}

    controls = {"beta": [0.1, 1.0], "learning_rate": [1e-3], "epochs": [1, 2]}
    frames = dict(zip(itertools.product(*controls.values()), map(row, (1.0, 2.0, 0.5, 9.0)), strict=True))
    asked = {"frontier": FRONTIER, "prompts": ["what is a drill ?", "what is a dog ?"], "start": {"epochs": 2}}
    panel = choose_a_point(lambda seed, **chosen: row(4.0 + seed), frames, **asked, **controls)
    assert isinstance(panel.figure, Figure)
    assert "beta 0.1, learning rate 0.001, after 2 epochs: gold 1.41 at a KL of 2.0 nats" in panel.news
    assert f"The best possible at that KL is {1.5 * math.sqrt(2):.2f}" in panel.news
    assert "a drill is a tool ." in panel.figure.axes[1].texts[0].get_text()
    assert "(nothing)" in panel.figure.axes[1].texts[0].get_text()
    panel.run_live()
    assert {text.get_text() for text in panel.figure.axes[0].get_legend().get_texts()} >= {"this run", "run live"}
    panel.set(beta=1.0)
    assert "best possible" not in panel.news and best_at(FRONTIER, 9.0) is None


# --- exercises ----------------------------------------------------------------------------------------------


def test_two_rows_by_hand():
    call = exercise("5.1").calls()[0]
    assert answers("5.1").oracle(*map(torch.tensor, call.args)) == pytest.approx((2.0, 1.0))


def test_the_exact_kl_of_the_drawn_answers_is_the_sum_over_all_of_them(monkeypatch):
    """Words until the last one, or three: log-ratio times probability, summed over every answer."""
    monkeypatch.setattr(definitions, "LONGEST", 3)
    policy, reference = [0.5, 0.2, 0.3], [0.3, 0.3, 0.4]
    every = [words for n in (1, 2, 3) for words in itertools.product(range(3), repeat=n)]
    every = [words for words in every if 2 not in words[:-1] and (words[-1] == 2 or len(words) == 3)]
    chance = [math.prod(policy[word] for word in words) for words in every]
    exact = sum(
        p * sum(math.log(policy[w] / reference[w]) for w in words) for p, words in zip(chance, every, strict=True)
    )
    assert sum(chance) == pytest.approx(1)

    def knows(offset):
        share = definitions._coverage(
            lambda *tables: (exact + offset, 1e-9), policy, reference, rows=5, draws=3, seed=0
        )
        return list(share.values())

    assert knows(0.0) == [1.0] and knows(1e-6) == [0.0]


def test_intervals_of_a_right_estimate_hold_the_truth_in_about_95_of_100_draws():
    shares = []
    for call in exercise("5.1").calls()[-2:]:
        for seed in range(10):
            share = definitions._coverage(answers("5.1").oracle, *call.args, rows=60, draws=200, seed=seed)
            shares.append(*share.values())
    assert 0.93 < np.mean(shares) < 0.96


def test_the_front_of_the_grid_ends_between_half_a_nat_and_two():
    for part in experiments.load("05_grid"):
        rows = part["rows"]
        found = answers("5.2").oracle([row["kl"] for row in rows], [row["gold"] for row in rows])
        front = [row for row, on in zip(rows, found, strict=True) if on]
        assert 0.5 < max(row["kl"] for row in front) < 2
        assert all(row["learning_rate"] < 4e-3 for row in front)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_log_of_the_grid_tells_its_beta(seed):
    rows = experiments.load("05_grid")[seed]["rows"]
    for (beta, _), log in itertools.groupby(rows, key=lambda row: (row["beta"], row["learning_rate"])):
        assert answers("5.3").oracle(list(log)) == pytest.approx(beta, rel=0.05)


def test_the_exercise_notebook_runs_from_top_to_bottom_with_nothing_written(capsys):
    lessons.room(5, "exercises")
    said = capsys.readouterr().out
    assert "once 5.1 is solved" in said
    assert all(f"{name} is not written yet" in said for name in ("pareto_front", "which_beta"))
