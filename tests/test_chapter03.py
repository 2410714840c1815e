"""Chapter 3 says what is so: its claims under other seeds than its own, and in other worlds than its five answers."""

from __future__ import annotations

import functools

import lessons
import pytest
import torch
from matplotlib.figure import Figure

from prefcourse.widgets.chapter03 import Slide, beta_slide, kl, sentence
from prefcourse.worlds import TableWorld

quiet = lessons.quiet
lesson = functools.partial(lessons.lesson, 3)


@pytest.mark.parametrize("seed", [1, 2])  # nbval runs seed 0
def test_all_claims_of_the_lesson_hold_under_other_seeds(seed):
    assert lesson(seed)["SEED"] == seed


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("beta", [0.3, 1.0, 3.0])
def test_dpo_reaches_the_optimum_of_any_table(seed, beta):
    names, world = lesson(until="balance"), TableWorld.random(prompts=1, responses=8, seed=seed)
    names["reference"] = world.ref_logits[0].softmax(-1)
    trained = names["train"](world.labelled_pairs()[0], beta, steps=2000)[-1].exp()
    optimum = world.optimum(beta)[0].exp()
    assert kl(names["reference"], optimum) > 0.01
    assert kl(trained, optimum) < 1e-3


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("labels", "low", "high"), [(10, 0.4, 0.65), (100, 0.05, 0.17), (1000, 0.0, 0.01)])
def test_with_a_small_beta_dpo_bets_on_a_wrong_answer_the_more_often_the_fewer_labels_it_has(seed, labels, low, high):
    names = lesson(until="balance")
    draw = torch.Generator().manual_seed(seed)
    pairs = names["world"].labelled_pairs()[0].flatten().expand(200, -1)
    cells = pairs.multinomial(labels, replacement=True, generator=draw)
    counts = torch.nn.functional.one_hot(cells, 25).sum(1).view(200, 5, 5)
    policies = names["train"](counts / labels, 0.1)[-1].exp()
    assert policies.max(-1).values.median() > 0.95
    assert low <= (policies.argmax(-1) != 0).double().mean() <= high


def test_the_widget_tells_of_three_policies_and_runs_live():
    def run(seed, beta, labels):
        return Slide([0.5, 0.5], [0.75, 0.25], [0.8, 0.2] if seed == 0 else [0.7, 0.3])

    panel = beta_slide(run, ["a", "b"], start={"beta": 1.0}, beta=[10.0, 1.0], labels=[10, 30])
    assert isinstance(panel.figure, Figure)
    assert "At beta 1 the optimum says 'a' with probability 0.75, DPO on 10 labels with 0.80" in panel.news
    panel.run_live()
    assert [live.trained for live in panel.frames.live[1.0, 10]] == [[0.7, 0.3]]
    drawn = panel.figure.axes[0]
    assert [line.get_ydata().tolist() for line in drawn.get_lines()] == [[0.7, 0.3]]
    assert {text.get_text() for text in drawn.get_legend().get_texts()} == {
        "reference",
        "optimum",
        "DPO",
        "DPO, run live",
    }


def test_the_sentence_of_the_widget_compares_with_the_untrained_reference():
    """Reference (1/2, 1/2), optimum (3/4, 1/4): KL .5 log(2/3) + .5 log 2 = .144."""
    half, optimum = [0.5, 0.5], [0.75, 0.25]
    assert kl(half, optimum) == pytest.approx(0.1438, abs=1e-4)
    assert kl([1.0, 0.0], half) == pytest.approx(0.6931, abs=1e-4)
    settings = {"beta": 0.5, "labels": 1000}
    assert "is 0.000: nearer than the untrained reference (0.144)" in sentence(
        "ab", settings, Slide(half, optimum, optimum)
    )
    worse = Slide(half, optimum, [0.1, 0.9])
    assert "1,000 labels with 0.10" in sentence("ab", settings, worse)
    assert "further away than the untrained" in sentence("ab", settings, worse)


def test_the_exercise_notebook_runs_from_top_to_bottom_with_nothing_written(capsys):
    lessons.room(3, "exercises")
    said = capsys.readouterr().out
    assert [
        f"{name} is not written yet" in said for name in ("optimal_policy", "implicit_reward", "dpo_gradient_weight")
    ] == [True] * 3
