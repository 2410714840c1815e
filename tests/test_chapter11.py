"""Chapter 11 says what is so: its claims on other tables, seeds and labels than its own; its bench, its widget, its
exercises."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import replace

import lessons
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from prefcourse import experiments
from prefcourse.checks import exercise as definitions
from prefcourse.checks.run import agreeing, run_cases
from prefcourse.experiments import chapter11
from prefcourse.lab import Lab
from prefcourse.rollout import Rollout
from prefcourse.widgets.chapter03 import Slide
from prefcourse.widgets.chapter11 import coverage, sentence
from prefcourse.worlds import PocketWorld, TableWorld
from prefcourse.worlds.table import optimal_policy

lesson = functools.cache(functools.partial(lessons.lesson, 11))
quiet = lessons.quiet
SEEDS = (0, 1, 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_on_any_table_unseen_logits_stay_and_the_others_keep_their_sum(seed):
    """Offline DPO in closed form, and PPO on a table reward model of the same pairs: the same policy."""
    descend = lesson(until="offline")["descend"]
    world, beta = TableWorld.random(prompts=2, responses=6, seed=seed), 0.7
    shown = torch.zeros_like(world.ref_logits).masked_fill(torch.arange(6) > 2, -math.inf)
    offline = descend(
        lambda z: world.dpo_population_loss(z, beta=beta, data_logits=shown), world.ref_logits, 4 / beta**2, 2000
    )[-1]
    rewards = world.reward[:, :3] - world.reward[:, :3].mean(-1, keepdim=True)
    expected = world.ref_logits + torch.nn.functional.pad(rewards, (0, 3)) / beta
    assert torch.allclose(offline, expected, atol=1e-4)
    ppo = optimal_policy(world.ref_logits, torch.nn.functional.pad(rewards, (0, 3)), beta)
    assert torch.allclose(ppo.exp(), offline.softmax(-1), atol=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_with_fresh_labels_any_table_arrives_at_its_optimum(seed):
    descend = lesson(until="offline")["descend"]
    world, beta = TableWorld.random(prompts=1, responses=6, seed=seed), 0.7
    end = descend(
        lambda z: world.dpo_population_loss(z, beta=beta, data_logits=z.detach()), world.ref_logits, 2 / beta**2, 2000
    )[-1]
    assert world.expected_reward(end).item() == pytest.approx(
        world.expected_reward(world.optimum(beta)).item(), abs=0.02
    )


def test_what_is_said_beside_the_widget():
    names = lesson(until="live")
    run, gold = names["run"], names["world"].reward[0].tolist()

    def of(covered, beta, seed=0):
        return np.dot(run(seed, covered, beta).trained, gold)

    before = np.dot(run(0, "all six", 1.0).reference, gold)
    assert of("usual, good, excellent", 0.5) < before < of("usual, good", 0.5)
    assert of("usual, good, excellent", 0.1) > 1.9
    assert of("usual, excellent, wrong", 0.5) > of("usual, good, excellent", 0.5) + 0.3
    assert of("all but nonsense", 0.5) > 0.5
    live = [of("usual, good, excellent", 0.5, seed) for seed in (1, 2, 3)]
    assert max(live) < 0.2, "also with 300 labels"


def test_the_widget_says_where_the_mass_went():
    def run(seed, covered, beta):
        return Slide([0.9, 0.1], [1.0, 0.0], [0.4, 0.6])

    panel = coverage(run, ("a", "b"), {"a": [0]}, [1.0, -1.0], start={"beta": 1.0}, covered=["a"], beta=[1.0, 2.0])
    assert isinstance(panel.figure, Figure)
    assert "had 0.10 of the mass and now have 0.60. DPO's gold is -0.20, worse than the reference (+0.80)" in panel.news
    all_seen = sentence({"covered": "a, b", "beta": 1.0}, run(0, "a", 1.0), [], [1.0, -1.0])
    assert "Unseen" not in all_seen and "the optimum has +1.00" in all_seen


class Rows:
    """What `judged_by_people` reads of a rollout."""

    def __init__(self, prompts, texts, finished):
        self.prompts, self.texts, self.finished = prompts, texts, torch.tensor(finished)


def test_people_judge_two_answers_in_a_row_and_are_not_asked_about_equal_or_empty_ones():
    world = PocketWorld()
    prompt = world.prompts()[0]
    good, bad = world.best_answer(prompt), "yeah . look it up ."
    here, people = Lab(None, 0, world), chapter11.population(0)
    texts = [good, bad] * 40 + [good, good, "", bad]
    score = chapter11.judged_by_people(here, people, seed=0)
    rows: Rollout = Rows([prompt] * len(texts), texts, [True] * len(texts))
    first, second = score(rows).view(-1, 2), score(rows).view(-1, 2)
    assert first[-2:].abs().sum() == 0, "equal, and empty"
    assert set(first[:40].sum(1).tolist()) <= {0.0, 1.0}
    assert first[:40, 0].mean() > 0.8, "most people see which is better"
    assert not torch.equal(first, second), "every round asks other people"


@pytest.mark.parametrize("source", chapter11.WRITERS)
def test_every_source_spends_the_same_budget(source, monkeypatch):
    """1,024 pairs of two different answers; those by writers of one quality are theirs."""
    world = PocketWorld()
    here = Lab(None, 0, world)
    if chapter11.WRITERS[source] is None:
        return  # needs the SFT model: the lesson runs it
    answers = chapter11.answers_of(here, source)
    assert len(answers.texts) == chapter11.LABELS and all(a != b for _, a, b in answers.texts)
    if source == "poor":
        assert all("people use it" not in text for _, *pair in answers.texts for text in pair)


def test_between_runs_a_method_goes_straight_and_the_band_holds_every_seed():
    def seed(gold):
        runs = [{"method": "DPO", "kl": 2.0, "gold": gold}, {"method": "DPO", "kl": 1.0, "gold": 1.0}]
        own = {"reference": {"kl": 0.0, "gold": 0.0}, "runs": runs, "best_of_n": []}
        return {"own": own, "for_the_score": []}

    seeds = [seed(3.0), seed(2.0)]
    assert chapter11.at_kl(seeds, "own", "DPO", "gold", 1.5).tolist() == [2.0, 1.5]
    kl, low, middle, high = chapter11.band(seeds, "own", "DPO", "gold")
    assert kl[-1] == 2.0 and (low[-1], middle[-1], high[-1]) == (2.0, 2.5, 3.0)


def test_the_results_are_those_of_the_settings_in_the_code():
    for experiment in chapter11.EXPERIMENTS:
        assert experiments.record(experiment.name)["parts"] == json.loads(json.dumps(experiment.parts))


def test_the_exercise_notebook_runs_from_top_to_bottom_with_nothing_written(capsys):
    lessons.room(11, "exercises")
    assert capsys.readouterr().out.count("Here your") == 3


def test_the_interval_without_drawing_is_the_limit_of_many_draws():
    draw = np.random.default_rng(0)
    a, b = torch.tensor(draw.exponential(size=(12, 3))), torch.tensor(draw.normal(size=(12, 1)))
    difference = (a.mean(1) - b.mean(1)).numpy()
    means = difference[draw.integers(12, size=(200_000, 12))].mean(1)
    ends = definitions.answers("11.3").oracle(a, b, draws=10_000)
    assert ends == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.02 * means.std())


def test_a_right_interval_passes_whatever_its_generator():
    """8,000 draws move an end by some 0.03 standard errors; a fifth is allowed."""
    exercise, answers = definitions.exercise("11.3"), definitions.answers("11.3")
    right = run_cases(exercise, answers.oracle).bundle
    for stream in range(5):

        def other(a, b, *, draws=1000, seed=0, stream=stream):
            return answers.alternatives[0](a, b, draws=draws, seed=1000 * stream + seed)

        assert all(agreeing(run_cases(exercise, other).bundle, right))


def test_one_step_of_online_dpo_by_hand():
    """Margin 0.5 * (-1.5 - 0.5) = -1, loss log(1 + e); its slope is beta / (1 + 1/e), up and down."""
    exercise = definitions.exercise("11.2")
    first = replace(exercise, cases=exercise.cases[:1])
    (case,) = run_cases(first, definitions.answers("11.2").oracle).bundle["cases"]
    facts = case["value"]["entries"]
    assert facts["loss"]["number"] == pytest.approx(math.log(1 + math.e), abs=1e-6)
    slope = 0.5 / (1 + 1 / math.e)
    assert facts["gradient of the log-ratios"]["array"] == pytest.approx([slope, -slope], abs=1e-6)


def test_on_mediocre_pairs_mass_leaks_to_unseen_answers_that_became_worse():
    """Share and gold of DPO's unseen answers at beta 0.1, beside those of the SFT model and of PPO."""
    for seed in experiments.load("11_methods"):
        found = seed["mediocre"]
        runs = {run["method"]: run for run in found["runs"] if run["beta"] == 0.1}
        assert runs["DPO"]["unseen"] > found["reference"]["unseen"] > runs["PPO"]["unseen"] + 0.05
        assert runs["DPO"]["unseen_gold"] < found["reference"]["unseen_gold"]
        (asked,) = (run for run in found["runs"] if run["method"] == "online DPO")
        assert 0.3 < asked["gold"] - found["reference"]["gold"] < 0.5
