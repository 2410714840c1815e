"""The laboratory's experiments, without its panel: every method trains, beta can be moved, Stop keeps what is there."""

from __future__ import annotations

import csv
import functools
import io
import math

import pytest

from prefcourse.widgets.runs import METHODS, Materials, Run, SettingError, Settings, as_csv, describe
from tests import labs


@functools.cache
def materials() -> Materials:
    return Materials(labs.lab(0))


def finished(**settings) -> Run:
    run = Run(Settings(**{"pairs": 512, "steps": 12} | settings), materials())
    for _ in run.points():
        pass
    return run


@pytest.mark.parametrize("method", METHODS)
def test_every_method_leaves_the_reference_and_all_that_know_the_score_raise_it(method):
    run = finished(method=method)
    first, last = run.path[0], run.path[-1]
    assert run.state == "done" and abs(first.kl.mean) < 1e-3 < last.kl.mean
    # SFT imitates the chosen answers and knows no score: it may stay where it was
    assert method == "SFT" or last.score.mean > first.score.mean + 0.1
    assert len(run.answers) == 5 and [point.step for point in run.path] == sorted({p.step for p in run.path})


def test_best_of_one_is_the_reference_and_its_kl_is_the_formula():
    """KL = log n - (n - 1) / n: 0 at n = 1, log 2 - 1/2 at n = 2."""
    run = finished(method="best-of-n", n=8)
    assert [point.step for point in run.path] == [1, 2, 4, 8]
    assert [point.kl.mean for point in run.path[:2]] == pytest.approx([0, math.log(2) - 0.5])
    scores = [point.score.mean for point in run.path]
    assert scores == sorted(scores)


@pytest.mark.parametrize("method", ["PPO", "DPO", "online DPO"])
def test_beta_can_be_moved_while_it_trains(method):
    """From the same start, a beta moved far up ends nearer to the reference."""
    ends = {}
    for moved in (None, 20.0):
        run = Run(Settings(method=method, beta=0.02, steps=24, pairs=512), materials())
        for count, _ in enumerate(run.points()):
            if moved and count == 8:
                run.beta = moved
        ends[moved] = run
    assert ends[20.0].path[-1].kl.mean < ends[None].path[-1].kl.mean - 0.1
    assert ends[20.0].path[-1].beta == 20 and "(moved)" in ends[20.0].name and "(moved)" not in ends[None].name


def test_whoever_leaves_the_loop_keeps_what_was_measured():
    run = Run(Settings(method="PPO", steps=40, pairs=512), materials())
    for point in run.points():
        if point and point.step >= 3:
            break
    assert run.state == "stopped" and run.path[-1].step == 3 and "PPO" in describe(run)


def test_a_run_that_diverges_says_so_and_keeps_its_path():
    run = finished(method="SFT", learning_rate=1e6)
    assert run.state in ("diverged", "done")
    assert run.path and (run.state == "done" or "learning rate" in run.note)


def test_csv_has_one_row_per_point_and_every_setting():
    run = finished(method="SFT")
    rows = list(csv.DictReader(io.StringIO(as_csv([run, run]))))
    assert len(rows) == 2 * len(run.path) and rows[0]["method"] == "SFT" and {row["run"] for row in rows} == {"1", "2"}
    assert float(rows[-1]["gold"]) == run.path[-1].gold.mean and rows[0]["learning_rate"] == "0.001"
    assert as_csv([]) == "run\n"


def test_the_same_settings_give_the_same_run():
    assert finished(method="PPO").path == finished(method="PPO").path


def test_noisier_people_disagree_more_with_gold():
    right = {}
    for noise in (0.25, 8.0):
        rows = materials().pairs(Settings(noise=noise, pairs=512))
        gold = [[labs.lab(0).world.gold(row["prompt"], row[side]) for row in rows] for side in ("chosen", "rejected")]
        right[noise] = sum(a > b for a, b in zip(*gold, strict=True)) / len(rows)
    assert right[0.25] > right[8.0] + 0.15


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"method": "TRPO"}, "must be one of SFT, PPO"), ({"pairs": 9000}, "at most 2048"), ({"noise": 0}, "0.05 or more"),
     ({"method": "DPO", "beta": 0}, "no gradient"), ({"people": "me"}, "careful"),
     ({"beta": float("nan")}, "beta is nan")],
)  # fmt: skip
def test_settings_that_cannot_be_say_the_way_out(settings, words):
    with pytest.raises(SettingError, match=words):
        Settings(**settings)
