"""Chapter 10 says what is so: the clinic's loop is the package's, each bug is one part and has its signature in four
labs, the widget and the exercise notebook do what their texts promise."""

from __future__ import annotations

import dataclasses
import functools

import lessons
import pytest
import torch
from labs import lab
from matplotlib.figure import Figure

from prefcourse import evaluate, experiments, models, train
from prefcourse.experiments import chapter10 as stored
from prefcourse.experiments import clinic
from prefcourse.widgets import chapter10 as drawn

quiet = lessons.quiet
LABS = (0, 1, 2, 3)
SETTINGS = stored.SETTINGS | {"iterations": 2}


@functools.cache
def run(name: str | None, seed: int = 0, iterations: int = 2, **more) -> list[dict]:
    """A short run on gold; None is the package's loop."""
    here = lab(0)
    given = (models.trainable_copy(here.sft), here.sft, here.tokenizer, here.prompts, evaluate.gold_score(here.world))
    settings = SETTINGS | {"iterations": iterations, "seed": seed} | more
    if name is None:
        return list(train.ppo(*given, **settings))
    return list(clinic.ppo(*given, parts=clinic.parts_of(name), **settings))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_with_nothing_replaced_the_clinics_loop_is_the_packages(seed):
    for ours, package in zip(run(clinic.HEALTHY, seed), run(None, seed), strict=True):
        assert {key: ours[key] for key in package} == package


@pytest.mark.parametrize("name", clinic.BUGS)
def test_each_bug_replaces_one_part_and_changes_the_run(name):
    healthy, parts = clinic.Parts(), clinic.parts_of(name)
    assert sum(getattr(parts, f.name) is not getattr(healthy, f.name) for f in dataclasses.fields(parts)) == 1
    assert run(name)[-1] != run(clinic.HEALTHY)[-1]


def test_a_constant_kl_is_no_price_at_all():
    """Up to what whitening and the critic make of a common shift: the policy's first update is that of beta 0."""
    constant, free = run("constant KL", iterations=1)[0], run(clinic.HEALTHY, iterations=1, beta=0.0)[0]
    assert constant["approx_kl"] == pytest.approx(free["approx_kl"], rel=1e-3)


def test_attached_advantages_have_the_same_numbers_and_another_gradient():
    draw = torch.Generator().manual_seed(0)
    logprobs, whitened, values = torch.randn(3, 2, 5, generator=draw)
    mask, values = torch.ones(2, 5, dtype=torch.bool), values.requires_grad_()
    given = (logprobs, logprobs, whitened, values, values.detach(), mask)
    sick, _ = clinic.attached_advantages(*given, clip_coef=0.2)
    healthy, _ = clinic.policy_loss(*given, clip_coef=0.2)
    assert torch.isclose(sick, healthy) and not healthy.requires_grad
    assert torch.allclose(torch.autograd.grad(sick, values)[0], torch.full((2, 5), 1 / 10)), "lower every value"


def test_the_loop_with_a_loss_of_ones_own_is_the_packages_up_to_rounding():
    from prefcourse.exercises.chapter10.answers import _sick_or_not

    here = lab(0)
    given = (models.trainable_copy(here.sft), here.sft, here.tokenizer, here.prompts, evaluate.gold_score(here.world))
    about = {"beta": 0.1, "clip_coef": 0.2, "vf_coef": 0.1, "unfinished_penalty": 1.0, "max_new_tokens": 20}
    log = list(clinic.train_with(_sick_or_not, *given, iterations=2, seed=0, **about))
    for ours, package in zip(log, run(None, minibatch_size=64), strict=True):
        for key in ("score", "kl", "length", "loss"):
            assert ours[key] == pytest.approx(package[key], abs=2e-3), key


def test_the_mystery_is_drawn_by_seed_and_may_be_any():
    drawn_names = [clinic.mystery(seed) for seed in range(100)]
    assert drawn_names == [clinic.mystery(seed) for seed in range(100)]
    assert set(drawn_names) == set(clinic.BUGS)
    assert {stored.ninth(seed)[0]["name"] for seed in range(200)} == set(clinic.NAMES)


# --- signatures, in four labs, with their margins ---------------------------------------------------------------


def patient(seed: int, name: str) -> dict:
    return next(run for run in stored.wards()[seed]["patients"] if run["name"] == name)


def gap(log: dict) -> float:
    lines = zip(log["reward"], log["score"], log["finished"], log["kl"], strict=True)
    return max(abs(r - (s - (1 - f) - 0.1 * k)) for r, s, f, k in lines)


def lately(log: dict, key: str) -> float:
    return sum(log[key][-3:]) / 3


SIGNATURES = {  # of a run beside the known one: a number, and the bugs for which it is above 1
    "books": (lambda log, known: gap(log) / 0.2, {"flipped reward", "truncated unscored"}),
    "score falls": (lambda log, known: (log["score"][0] - log["score"][-1]) / 1.0, {"flipped reward"}),
    "length": (lambda log, known: max(log["length"]) / 20.5, {"prompt counted", "padding counted"}),
    "first": (lambda log, known: max(log["approx_kl_first"]) / 0.01, {"stale log-probabilities"}),
    "sunk": (lambda log, known: (log["return"][-1] - log["value"][-1]) / 2, {"advantages attached"}),
    "mute": (lambda log, known: 0.0 if any(log["value_last"]) else 2.0, {"values shifted"}),
}


@pytest.mark.parametrize("seed", LABS)
@pytest.mark.parametrize("signature", SIGNATURES)
def test_each_bug_has_its_signature_in_every_lab_and_no_other_run_has_it(signature, seed):
    value, names = SIGNATURES[signature]
    known = stored.wards()[seed]["known"]["log"]
    above = {run["name"] for run in stored.wards()[seed]["patients"] if value(run["log"], known) > 1}
    if signature == "score falls":
        above -= {"advantages attached"}  # of whose policy nothing is left
    assert above == names


@pytest.mark.parametrize("seed", LABS)
def test_a_constant_kl_shows_in_kl_and_gold_and_not_in_the_score(seed):
    known, sick = stored.wards()[seed]["known"], patient(seed, "constant KL")
    assert lately(sick["log"], "kl") > 3 * lately(known["log"], "kl")
    assert lately(sick["log"], "score") > lately(known["log"], "score") - 0.3
    assert sick["end"]["gold"] < known["end"]["gold"] - 1
    healthy = patient(seed, clinic.HEALTHY)
    assert lately(healthy["log"], "kl") < 2 * lately(known["log"], "kl")


@pytest.mark.parametrize("seed", LABS)
def test_the_kl_tells_the_two_masks_apart(seed):
    known = lately(stored.wards()[seed]["known"]["log"], "kl")
    assert lately(patient(seed, "padding counted")["log"], "kl") > 3 * known
    assert lately(patient(seed, "prompt counted")["log"], "kl") < 2.5 * known


@pytest.mark.parametrize("seed", LABS)
def test_what_the_text_says_of_harm(seed):
    gold = {run["name"]: run["end"]["gold"] for run in stored.wards()[seed]["patients"]}
    known = stored.wards()[seed]["known"]["end"]["gold"]
    assert gold["prompt counted"] > known - 0.25 and gold["truncated unscored"] > known - 0.3
    assert known - 0.5 < gold["stale log-probabilities"] < known - 0.1
    assert gold["flipped reward"] < -1 and gold["advantages attached"] < -0.9
    assert gold["padding counted"] < known - 0.5 and gold["constant KL"] < known - 1.5
    assert abs(gold["healthy"] - known) < 0.15


def test_unscored_answers_stop_ending_in_three_labs_and_scores_above_0_save_the_fourth():
    ends = {seed: patient(seed, "truncated unscored")["log"] for seed in LABS}
    fewer = {seed for seed, log in ends.items() if log["finished"][-1] < log["finished"][0] - 0.15}
    above = {seed for seed, log in ends.items() if log["score"][-1] > 0}
    assert len(fewer) == 3 and above == set(LABS) - fewer


@pytest.mark.parametrize("seed", LABS)
def test_a_negative_kl_is_padding_counted(seed):
    assert min(patient(seed, "padding counted")["log"]["kl"]) < -0.1
    assert all(min(run["log"]["kl"]) > -0.01 for run in stored.wards()[seed]["patients"] if run["name"][:3] != "pad")


def test_the_shift_does_anything_from_no_harm_to_ruin():
    gold = [patient(seed, "values shifted")["end"]["gold"] for seed in LABS]
    assert max(gold) > 1 and min(gold) < -5


@pytest.mark.parametrize("seed", LABS)
def test_what_holds_exactly_holds_with_room_in_every_healthy_run(seed):
    for log in (stored.wards()[seed]["known"]["log"], patient(seed, clinic.HEALTHY)["log"]):
        assert gap(log) < 0.02 and max(log["approx_kl_first"]) == 0 and max(log["length"]) < 19
        assert abs(log["value"][-1] - log["return"][-1]) < 0.3 and abs(log["value_last"][-1]) > 0.1
        assert log["score"][-1] > log["score"][0] + 0.7


def test_the_zero_of_the_scores_decides_what_an_unscored_end_does():
    rows = [row for part in experiments.load("10_zero") for row in part["rows"]]
    for row in rows:
        if row["name"] == "truncated unscored":
            assert row["finished"] < 0.1 if row["offset"] < -1 else row["finished"] > 0.85


# --- the widget -------------------------------------------------------------------------------------------------


def test_the_widget_says_whether_a_guess_is_right():
    frames, names = {}, [drawn.UNDECIDED, *clinic.BUGS]
    for letter, sick in stored.admitted(0).items():
        frames |= {(0, letter, guess): sick | {"known": stored.wards()[0]["known"]["log"]} for guess in names}
    panel = drawn.ward_round(
        lambda **settings: sick | {"known": stored.wards()[0]["known"]["log"]},
        frames=frames, start={"patient": "B"}, lab=[0], patient=list("ABCDEFGH"), guess=names,
    )  # fmt: skip
    assert isinstance(panel.figure, Figure) and panel.news.endswith("Make a guess.")
    name = stored.admitted(0)["B"]["name"]
    panel.set(guess=name)
    assert f"Right, {name}" in panel.news and drawn.LOOK_AT[name] in panel.news
    other = next(n for n in clinic.BUGS if n != name)
    panel.set(guess=other)
    assert f"No, it is not {other}" in panel.news and name not in panel.news
    panel.run_live()
    assert panel.frames.live[0, "B", other]


def test_the_letters_say_nothing_and_all_eight_are_there():
    for seed in (0, 1):
        names = [run["name"] for run in stored.admitted(seed).values()]
        assert sorted(names) == sorted(clinic.BUGS) and names != list(clinic.BUGS)


# --- the exercise notebook --------------------------------------------------------------------------------------


def test_the_exercise_notebook_runs_from_top_to_bottom_with_nothing_written(capsys):
    lessons.room(10, "exercises")
    said = capsys.readouterr().out
    assert "once 10.3 is solved" in said and "once 10.4 is solved" in said


def test_the_sick_round_unlearns_and_a_mended_one_learns():
    """What the text beside 10.4 promises, on gold and with fewer rounds."""
    answers = [cell for cell in lessons.cells(10, practice=True) if cell.id.startswith(("setup", "answer", "sick"))]
    names, here = lessons.run(answers), lab(0)
    about = {"beta": 0.1, "clip_coef": 0.2, "vf_coef": 0.1, "unfinished_penalty": 1.0, "max_new_tokens": 20}
    logs = {}
    for which in ("ppo_round_loss", "sick_round"):
        given = (names[which], models.trainable_copy(here.sft), here.sft, here.tokenizer, here.prompts)
        loop = clinic.train_with(*given, evaluate.gold_score(here.world), iterations=12, seed=0, **about)
        logs[which] = list(loop)
    gain = {which: log[-1]["score"] - log[0]["score"] for which, log in logs.items()}
    assert gain["ppo_round_loss"] > 0.4 and gain["sick_round"] < 0
