"""Votes: one orientation, nothing lost without a reason, and the traps counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prefcourse.agreement import count_pairs, group_by_item
from prefcourse.data import DataError, VoteSet, read_votes, votes_from_rows
from prefcourse.data.votes import side_of

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the real sets are not here")


def judged(winner: str, judge: str, a: str = "alpaca", b: str = "gpt", **more) -> dict:
    row = {"question_id": 1, "turn": 1, "model_a": a, "model_b": b, "winner": winner, "judge": judge}
    return row | more


def test_both_orientations_become_one_item_and_the_label_turns_with_it():
    """Three judges prefer gpt: two saw it second, one saw it first. They agree."""
    rows = [judged("model_b", "x"), judged("model_b", "y"), judged("model_a", "z", a="gpt", b="alpaca")]
    votes = votes_from_rows(rows).votes
    assert len({vote.item for vote in votes}) == 1
    assert [vote.label for vote in votes] == ["second"] * 3
    assert [vote.shown_first for vote in votes] == [True, True, False]


def test_swapping_every_listing_changes_no_vote():
    rows = [judged(winner, f"j{n}") for n, winner in enumerate(("model_a", "model_b", "tie", "tie (inconsistent)"))]
    other = {"model_a": "model_b", "model_b": "model_a"}
    swapped = [judged(other.get(r["winner"], r["winner"]), r["judge"], a="gpt", b="alpaca") for r in rows]
    plain, turned = votes_from_rows(rows).votes, votes_from_rows(swapped).votes
    assert [vote[:3] for vote in plain] == [vote[:3] for vote in turned]


def test_other_models_and_other_turns_are_other_items():
    rows = [judged("tie", "x"), judged("tie", "x", turn=2), judged("tie", "x", b="llama")]
    assert len({vote.item for vote in votes_from_rows(rows).votes}) == 3


def test_traps_are_counted():
    rows = [judged("model_a", "x"), judged("model_b", "x"), judged("tie", "y", a="gpt", b="alpaca")]
    assert votes_from_rows([*rows, judged("model_a", "z", turn=2)]).traps == {
        "items listed in both orientations": 1,
        "votes turned to the item's orientation": 1,
        "double votes (same person, same item)": 1,
        "double votes that contradict each other": 1,
        "ties": 1,
        "items with one annotator only": 1,
    }
    assert VoteSet([]).traps == {}


def test_the_wrong_item_column_shows_as_a_crowd():
    rows = [{"item": "turn 1", "annotator": f"w{n}", "label": "x"} for n in range(201)]
    assert votes_from_rows(rows).traps == {"items with over 200 people (wrong column?)": 1}


def test_rows_that_are_no_votes_are_counted_and_strict_names_the_row():
    rows = [
        judged("model_a", "x"),
        judged("modle_a", "x"),
        judged("model_a", None),
        judged("model_a", "x", a=None),
        judged(["model_a"], "x"),
        {"question_id": 1},
    ]
    votes, dropped = votes_from_rows(rows)
    assert len(votes) == 1 and sum(dropped.values()) == 5
    unknown = "unknown label 'modle_a' (expected a side such as model_a, or tie)"
    assert dropped[unknown] == dropped["missing annotator"] == dropped["missing item"] == 1
    with pytest.raises(DataError, match="here.csv: row 2: unknown label"):
        votes_from_rows(rows, where="here.csv", strict=True)


@pytest.mark.parametrize("label", ["model_a", "A", "a", "response a", "a-is-slightly-better", "first", "Alpaca-7b"])
def test_many_ways_to_write_first(label):
    assert side_of(label, ("Alpaca-7b", "gpt")) == "first"


@pytest.mark.parametrize(("label", "side"), [("B-is-clearly-better", "second"), ("Equal", "tie"), (1, 1), ("a1", "a1")])
def test_what_is_and_what_is_not_a_side(label, side):
    assert side_of(label) == side


def test_numbers_are_not_taken_for_sides():
    """Is 0 the first response or a tie? A file that does not say cannot be guessed at."""
    rows = [{"item": 1, "annotator": who, "label": 0, "model_a": "x", "model_b": "y"} for who in "ab"]
    with pytest.raises(DataError, match="no usable vote. Left out: 2 x unknown label '0'"):
        votes_from_rows(rows)


def test_without_a_pair_labels_are_categories_but_a_tie_is_a_tie():
    rows = [
        {"pair_id": 1, "worker": who, "value": label} for who, label in zip("abc", ("a1", "a2", "equal"), strict=True)
    ]
    assert [vote.label for vote in votes_from_rows(rows).votes] == ["a1", "a2", "tie"]
    sides = [{"item": 1, "annotator": who, "label": label} for who, label in (("a", "A"), ("b", "model_b"))]
    assert [vote.label for vote in votes_from_rows(sides).votes] == ["first", "second"]


def test_columns_can_be_named_and_an_item_can_be_several():
    rows = [
        {"topic": 1, "pair": 2, "who": "x", "said": "good"},
        {"topic": 1, "pair": 3, "who": "x", "said": "bad"},
    ]
    votes = votes_from_rows(rows, item="topic,pair", annotator="who", label="said").votes
    assert [tuple(vote[:3]) for vote in votes] == [("1 | 2", "x", "good"), ("1 | 3", "x", "bad")]
    with pytest.raises(DataError, match="Is 'said' meant for 'sad'"):
        votes_from_rows(rows, item="topic", annotator="who", label="sad")
    with pytest.raises(DataError, match="no column for item, annotator, label.*--item COLUMN"):
        votes_from_rows(rows)


@pytest.mark.parametrize("blank", ["", "  ", None, float("nan")])
@pytest.mark.parametrize("role", ["item", "model_a"])
def test_a_blank_cell_is_no_item_on_which_unrelated_votes_could_meet(role, blank):
    row = {"item": "q1", "annotator": "x", "label": "model_a", "model_a": "alpaca", "model_b": "gpt"}
    rows = [row, row | {role: blank}, row | {role: blank, "annotator": "y"}]
    votes, dropped = votes_from_rows(rows)
    assert [vote.item for vote in votes] == ["q1 | alpaca | gpt"] and dropped == {"missing item": 2}
    with pytest.raises(DataError, match="row 2: missing item"):
        votes_from_rows(rows, strict=True)


@pytest.mark.parametrize("blank", ["", None])
def test_mt_bench_without_a_question_is_no_item(blank):
    rows = [judged("model_a", "x"), judged("model_b", "x", question_id=blank)]
    assert votes_from_rows(rows).dropped == {"missing item": 1}
    with pytest.raises(DataError, match="row 2: missing item"):
        votes_from_rows(rows, strict=True)


def test_item_1_and_item_one_as_text_are_the_same():
    votes = votes_from_rows([{"item": 1, "annotator": "a", "label": 3}, {"item": "1", "annotator": "b", "label": "3"}])
    assert count_pairs(group_by_item(votes.votes)) == (1, 1)


def test_known_sets_give_their_votes(tmp_path):
    pandalm = dict.fromkeys(("instruction", "input", "response1", "response2"), "text")
    pandalm |= {"idx": 0, "annotator1": 1, "annotator2": 0, "annotator3": 9}
    (tmp_path / "testset-v1.json").write_text(json.dumps([pandalm]))
    found = read_votes(tmp_path)
    assert [tuple(vote[:3]) for vote in found.votes] == [
        ("0", "annotator1", "first"),
        ("0", "annotator2", "tie"),
    ]
    assert sum(found.dropped.values()) == 1

    worker = [{"evaluator": "w", "overall_pref": "A-is-clearly-better"}]
    expert = [
        {"evaluator": "e", "overall_pref": "B-is-slightly-better"},
        {"evaluator": "f", "overall_pref": None},
    ]
    multipref = {"comparison_id": 7, "normal_worker_annotations": worker, "expert_worker_annotations": expert}
    votes, dropped = votes_from_rows([multipref])  # one empty answer does not cost the other people's
    assert [vote[1:3] for vote in votes] == [("w", "first"), ("e", "second")] and sum(dropped.values()) == 1

    texts = [{"text": "zebra"}, {"text": "ant"}]
    tldr = {"info": {"id": "t"}, "summaries": texts, "choice": 0, "worker": "x"}
    turned = {**tldr, "summaries": texts[::-1], "choice": 1, "worker": "y"}
    votes = votes_from_rows([tldr, turned]).votes
    assert [vote.label for vote in votes] == ["second"] * 2 and len({vote.item for vote in votes}) == 1


def test_conditions(tmp_path):
    path = tmp_path / "human.jsonl"
    rows = [judged("tie", "expert_1"), judged("tie", "author_1"), judged("tie", "expert_2", turn=2)]
    path.write_text("\n".join(map(json.dumps, rows)))

    def judges(*where: str) -> list[str]:
        return [vote.annotator for vote in read_votes(path, where=where).votes]

    assert judges("judge^=expert") == ["expert_1", "expert_2"]
    assert judges("turn=1", "judge!=author_1") == ["expert_1"]
    for condition, problem in (
        ("turn=3", "no row has turn=3; turn is 1, 2"),
        ("turns=1", "Is 'turn' meant"),
        ("turn", "expected COLUMN=VALUE"),
    ):
        with pytest.raises(DataError, match=problem):
            judges(condition)


def test_a_folder_of_nothing_known_lists_its_files(tmp_path):
    (tmp_path / "labels.csv").write_text("item,annotator,label\n1,a,x\n")
    with pytest.raises(DataError, match="Give one file of it: labels.csv"):
        read_votes(tmp_path)


def test_a_set_without_several_signed_labels_is_refused_before_it_is_fetched():
    with pytest.raises(DataError, match="mt-bench, pandalm, tldr, multipref"):
        read_votes("Anthropic/hh-rlhf")
    with pytest.raises(DataError, match="no such file"):
        read_votes("folder/votes.csv")


@real
@pytest.mark.parametrize("name", ["mt_bench_human", "mt_bench_human/human.jsonl"])
def test_real_mt_bench_gives_the_published_expert_figures(name):
    """arXiv:2306.05685, Table 5: 63 % of 721, 81 % of 479; in turn 2 67 % of 707, 82 % of 474."""
    for turn, with_ties, without in ((1, (454, 721), (388, 479)), (2, (471, 707), (388, 474))):
        found = read_votes(REAL / name, where=[f"turn={turn}", "judge^=expert"])
        by_item = group_by_item(found.votes)
        assert count_pairs(by_item) == with_ties and count_pairs(by_item, ties="drop") == without
        assert not found.dropped


@real
def test_real_mt_bench_traps():
    """2,396 raw keys are 1,814 comparisons; author_0 voted twice on question 128."""
    found = read_votes(REAL / "mt_bench_human")
    assert len(found.votes) == 3355 and len({vote.item for vote in found.votes}) == 1814
    assert found.traps["items listed in both orientations"] == 2396 - 1814
    assert found.traps["double votes (same person, same item)"] == 1
    assert found.traps["items with one annotator only"] == 1814 - 960


@real
def test_real_files_of_other_layouts():
    tulu = read_votes(REAL / "tulu1_human_eval" / "labels.csv")
    assert len({(vote.item, vote.annotator) for vote in tulu.votes}) == 1141 and not tulu.dropped
    convarg = read_votes(REAL / "ukpconvarg1" / "annotations.csv.gz", item="topic,pair_id")
    assert len(convarg.votes) == 84445 and len({vote.item for vote in convarg.votes}) == 16927
