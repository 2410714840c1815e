"""A sitting: what is shown, what is remembered, and what the labels say about whoever gave them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from prefcourse.widgets import taste
from prefcourse.widgets.labels import NOT_A_LEARNER, Sitting, home, plan, read, usual_path
from prefcourse.worlds.pocket import PocketWorld

WORLD = PocketWorld()


def texts(count: int) -> list[tuple[str, str, str]]:
    generator, rows = np.random.default_rng(0), []
    while len(rows) < count:
        prompt = WORLD.prompts("train")[len(rows)]
        first, second = (WORLD.demonstration(prompt, generator) for _ in range(2))
        if first != second:
            rows.append((prompt, first, second))
    return rows


TEXTS = texts(40)
SHOWINGS = plan(TEXTS, count=36, repeats=6, seed=0)


def sitting(choose, showings=SHOWINGS, path=None) -> Sitting:
    made = Sitting(list(showings), path)
    for showing in showings:
        made.label(choose(showing))
    return made


def shorter(showing) -> str:
    left, right = len(showing.left.split()), len(showing.right.split())
    return "A" if left < right else "B" if right < left else "tie"


def value(summary: taste.Summary, name: str) -> taste.Measure:
    return next(m for m in summary.shares + summary.pulls if m.name == name)


def test_repeated_pairs_come_later_with_the_sides_turned():
    first = {}
    for place, showing in enumerate(SHOWINGS):
        if showing.repeated:
            earlier, before = first[showing.item]
            assert (showing.left, showing.right) == (before.right, before.left) and showing.swapped != before.swapped
            assert place - earlier > 5
        else:
            first[showing.item] = place, showing
    assert len(SHOWINGS) == 36 and sum(showing.repeated for showing in SHOWINGS) == 6


def test_sides_are_drawn_by_a_coin():
    turned = sum(showing.swapped for showing in plan(TEXTS, count=40, repeats=0, seed=1))
    assert 10 <= turned <= 30


@pytest.mark.parametrize(("count", "repeats"), [(0, 0), (60, 5), (10, 6), (10, -1)])
def test_an_impossible_plan_is_refused(count, repeats):
    with pytest.raises(ValueError, match="expected at least count - repeats pairs"):
        plan(TEXTS, count=count, repeats=repeats, seed=0)


def test_votes_are_canonical_wherever_the_answer_stood():
    """Who always prefers the item's first response votes "first" on every item."""
    made = sitting(lambda showing: "B" if showing.swapped else "A")
    assert {vote.label for vote in made.votes()} == {"first"}
    assert {vote.shown_first for vote in made.votes()} == {True, False}
    assert {(row["chosen"], row["rejected"]) for row in made.pairs()} == {text[1:] for text in TEXTS[:30]}


def test_every_label_is_on_the_disk_at_once_and_survives_a_restart(tmp_path):
    path = tmp_path / "deep" / "labels.jsonl"
    made = Sitting(list(SHOWINGS), path)
    for count, label in enumerate(["A", "2", "0", "tie"], 1):
        made.label(label, 1.5)
        assert len(path.read_text().splitlines()) == count
    made.undo()
    again = Sitting(list(SHOWINGS), path)
    assert [choice.label for choice in again.choices] == ["A", "B", "tie"] and again.current == SHOWINGS[3]
    assert json.loads(path.read_text().splitlines()[0])["prompt"] == SHOWINGS[0].prompt
    assert [file.name for file in path.parent.iterdir()] == ["labels.jsonl"], "nothing is left beside it"


@pytest.mark.parametrize("content", ["no json\n", "{}\n", "[]\n"])
def test_a_file_of_something_else_is_not_overwritten(tmp_path, content):
    path = tmp_path / "x.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match="Give another path="):
        Sitting(list(SHOWINGS), path)
    assert path.read_text() == content


def test_labels_of_other_pairs_are_not_taken_for_these(tmp_path):
    sitting(shorter, path=tmp_path / "x.jsonl")
    with pytest.raises(ValueError, match="labels for other pairs"):
        read(tmp_path / "x.jsonl", plan(TEXTS, count=36, repeats=6, seed=1))


def test_other_pairs_have_another_file_in_the_learners_data(monkeypatch, tmp_path):
    monkeypatch.setenv("PREFCOURSE_HOME", str(tmp_path))
    assert usual_path(SHOWINGS) is None, "not in a test"
    for name in NOT_A_LEARNER:
        monkeypatch.delenv(name, raising=False)
    paths = {usual_path(plan(TEXTS, count=36, repeats=6, seed=seed)) for seed in (0, 1)}
    assert len(paths) == 2 and {path.parent.parent for path in paths} == {home()} == {tmp_path}


def test_wrong_labels_say_what_is_expected():
    made = Sitting(list(SHOWINGS))
    with pytest.raises(ValueError, match='"A" .the left answer., "B" .the right one. or "tie"'):
        made.label("left")
    done = sitting(shorter)
    with pytest.raises(ValueError, match=r"undo\(\) takes the last one back"):
        done.label("A")


def test_ties_choose_nothing():
    assert sitting(lambda showing: "tie").pairs() == []


# --- what the labels say ------------------------------------------------------------------------------------


def test_who_likes_it_short_is_told_so():
    summary = taste.summarise(sitting(shorter), WORLD, TEXTS)
    assert value(summary, "chose the longer answer").high < 0.2
    assert value(summary, "length").high < 0 and value(summary, "agreed with yourself").value == 1
    assert value(summary, "standing on the left").low < 0 < value(summary, "standing on the left").high


def test_who_always_takes_the_left_contradicts_themselves():
    """On a pair shown twice with the sides turned, the left is another answer the second time."""
    summary = taste.summarise(sitting(lambda showing: "A"), WORLD, TEXTS)
    assert value(summary, "agreed with yourself").value == 0 and value(summary, "chose the left answer").value == 1
    assert value(summary, "standing on the left").low > 0


def test_who_knows_gold_agrees_with_gold_and_with_the_careful():
    def by_gold(showing):
        left, right = (WORLD.gold(showing.prompt, text) for text in (showing.left, showing.right))
        return "A" if left > right else "B" if right > left else "tie"

    summary = taste.summarise(sitting(by_gold), WORLD, TEXTS)
    assert value(summary, "chose the better answer by gold").value == 1
    assert value(summary, "agreed with the five most careful").value > 0.8 and value(summary, "quality").low > 0


@pytest.mark.parametrize("choose", [lambda showing: "tie", None])
def test_without_decided_labels_nothing_is_claimed(choose):
    made = sitting(choose) if choose else Sitting(list(SHOWINGS))
    summary = taste.summarise(made, WORLD, TEXTS)
    unknown = [m for m in summary.shares + summary.pulls if m.name != "agreed with yourself"]
    assert all(np.isnan(m.value) and "no label tells yet" in m.says for m in unknown)


def test_the_five_most_careful_are_careful_people():
    assert all(person.name.startswith("careful") for person in taste.most_careful())


def test_the_logistic_mode_has_no_gradient_and_its_intervals_cover_the_truth():
    """At the mode the gradient of log-likelihood plus log-prior is 0; 95 % intervals cover in about 95 % of draws."""
    generator, truth, covered = np.random.default_rng(0), np.array([1.5, 0.0, -1.0]), []
    for _ in range(100):
        inputs = generator.standard_normal((80, 3))
        sign = np.where(generator.random(80) < 1 / (1 + np.exp(-inputs @ truth)), 1, -1)
        found = taste.logistic(inputs, sign)
        mode = np.array([interval.estimate for interval in found])
        gradient = inputs.T @ (sign / (1 + np.exp(sign * (inputs @ mode)))) - mode / taste.SPREAD**2
        assert np.abs(gradient).max() < 1e-6
        covered += [interval.low <= true <= interval.high for interval, true in zip(found, truth, strict=True)]
    assert 0.88 <= np.mean(covered) <= 1


def test_perfectly_separated_labels_give_finite_numbers():
    found = taste.logistic(np.array([[1.0], [2.0], [-1.0]]), np.array([1, 1, -1]))
    assert np.isfinite(found).all() and found[0].estimate > 0
