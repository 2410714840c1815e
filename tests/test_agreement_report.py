"""`prefcourse agreement`: the published figures, what is printed, and clear errors for odd files."""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import pytest

from prefcourse.agreement_report import add_arguments, agreement_report, as_text, main
from prefcourse.annotators import Vote
from prefcourse.data import DataError, VoteSet

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the real sets are not here")


def command(*words: object) -> int:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return main(parser.parse_args([str(word) for word in words]))


def votes(*labels_of_items: str) -> VoteSet:
    """One word per item, one letter per annotator: "fst" is first, second, tie of annotators 0, 1, 2."""
    names = {"f": "first", "s": "second", "t": "tie"}
    return VoteSet([
        Vote(item, who, names[x]) for item, word in enumerate(labels_of_items) for who, x in enumerate(word)
    ])


def test_a_report_by_hand():
    """ff agrees, fs and ft do not: 1 of 3; without the tie 1 of 2; half credit 1.5 of 3; s is alone."""
    report = agreement_report(votes("ff", "fs", "ft", "s"))
    rates = {rule: (row["agreeing"], row["pairs"]) for rule, row in report["agreement"].items()}
    assert rates == {"three-way": (1, 3), "drop": (1, 2), "half": (1.5, 3)}
    assert (report["items"], report["shared_items"], report["annotators"], report["labels"]) == (4, 3, 2, 7)
    assert report["unanimity"] == {"unanimous": pytest.approx(1 / 3), "mixed": pytest.approx(2 / 3)}
    assert report["traps"] == {"ties": 1, "items with one annotator only": 1}
    assert report["cohen"] == []  # three items in common are too few


def test_only_the_first_of_a_persons_votes_on_an_item_counts():
    found = VoteSet([*votes("ff", "fs").votes, Vote(0, 0, "second")])
    report = agreement_report(found)
    assert report["agreement"]["three-way"]["agreeing"] == 1 and report["labels"] == 4
    assert report["traps"]["double votes that contradict each other"] == 1


def test_without_ties_there_is_one_rule_and_it_is_so_called():
    report = agreement_report(votes("ff", "fs"))
    assert list(report["agreement"]) == ["three-way"]
    assert "all labels" in as_text(report) and "tie" not in as_text(report).replace("ties", "")


def test_position_is_read_from_what_was_shown_first():
    """Person 0 always takes the one shown first, person 1 the other."""
    shown = [True, False, True, False]
    rows = [
        Vote(n, who, "first" if first == (who == 0) else "second", first)
        for n, first in enumerate(shown)
        for who in (0, 1)
    ]
    people = {row["annotator"]: row for row in agreement_report(VoteSet(rows))["per_annotator"]}
    assert people["0"]["shown_first"] == 1 and people["1"]["shown_first"] == 0
    assert people["0"]["with_majority"] == 0 and people["0"]["compared"] == 4


def test_one_label_per_item_is_not_defined():
    for found in (votes("f", "s"), VoteSet([Vote(0, "a", "first"), Vote(0, "a", "first")])):
        with pytest.raises(DataError, match="agreement is not defined"):
            agreement_report(found)


def test_everybody_says_the_same_undefined_kappas_are_no_zeros(tmp_path, capsys):
    path = tmp_path / "same.csv"
    path.write_text("item,annotator,label\n1,a,good\n1,b,good\n2,a,good\n2,b,good\n")
    assert command(path) == 0 and "undefined nominal" in capsys.readouterr().out
    assert command(path, "--json") == 0
    report = json.loads(capsys.readouterr().out)["sections"]["all votes"]
    assert report["alpha"]["nominal"] is None and report["agreement"]["three-way"]["estimate"] == 1


def test_where_and_columns_reach_the_report(tmp_path, capsys):
    path = tmp_path / "v.csv"
    path.write_text("q,who,said,round\n1,a,x,1\n1,b,x,1\n1,c,y,2\n")
    assert command(path, "--item", "q", "--annotator", "who", "--label", "said", "--where", "round=1") == 0
    text = capsys.readouterr().out
    assert "round=1" in text and "1 of 1" in text and "2 annotators" in text


ODD = {
    "gone.csv": (None, "no such file"),
    "empty.csv": (b"", "no rows"),
    "one.csv": (
        b"text\nhello\n",
        "no column for item, annotator, label. Found: text. Name it with --item COLUMN",
    ),
    "latin.csv": ("item,annotator,label\n1,Jos\u00e9,x\n".encode("latin-1"), "not UTF-8"),
    "bare.csv": (b"item,annotator,label\n1,a,\n1,b,\n", "no usable vote. Left out: 2 x missing label"),
    "alone.csv": (b"item,annotator,label\n1,a,x\n2,a,y\n", "no item with labels by two people"),
    "hh.jsonl": (b'{"chosen": "x", "rejected": "y"}', "HH-RLHF"),
    "cut.jsonl": (b'{"item": 1, "annot', "row 1 is not JSON"),
    "sheet.xlsx": (b"PK", "unknown suffix"),
    "nested.jsonl": (b'{"item": [1], "annotator": "a", "label": "x"}', "item is not a single value"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_gives_its_name_and_problem_once_and_no_traceback(tmp_path, capsys, name):
    content, problem = ODD[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert command(tmp_path / name) == 2
    error = capsys.readouterr().err
    assert problem in error and error.count(name) == 1 and error.count("\n") == 1


def test_a_byte_order_mark_is_no_problem(tmp_path, capsys):
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbfitem,annotator,label\n1,a,x\n1,b,x\n")
    assert command(tmp_path / "bom.csv") == 0 and "1 of 1" in capsys.readouterr().out


def test_strict_stops_at_the_row(tmp_path, capsys):
    path = tmp_path / "v.csv"
    path.write_text("item,annotator,label\n1,a,x\n1,,x\n1,b,x\n")
    assert command(path) == 0 and "Left out: 1 x missing annotator" in capsys.readouterr().out
    assert command(path, "--strict") == 2 and "row 2: missing annotator" in capsys.readouterr().err


@pytest.mark.parametrize("column", ["item", "half"])
def test_a_hundred_thousand_votes_take_seconds_even_by_the_wrong_column(tmp_path, column):
    draw = random.Random(0)
    rows = [f"{n // 4},{n % 2},w{draw.randrange(30_000)},{draw.choice('xy')}" for n in range(100_000)]
    path = tmp_path / "big.csv"
    path.write_text("item,half,annotator,label\n" + "\n".join(rows))
    start = time.process_time()
    assert command(path, "--item", column) == 0
    assert time.process_time() - start < 30


@real
def test_real_mt_bench_prints_the_published_figures_by_default(capsys):
    assert command(REAL / "mt_bench_human") == 0
    first, second = capsys.readouterr().out.split("turn 2, experts")
    assert "turn 1, experts" in first and "454 of 721" in first and "63.0 %" in first
    assert "388 of 479" in first and "81.0 %" in first
    assert "471 of 707" in second and "388 of 474" in second


@real
def test_real_mt_bench_other_judges(capsys):
    assert command(REAL / "mt_bench_human" / "human.jsonl", "--where", "judge^=author", "--json") == 0
    [report] = json.loads(capsys.readouterr().out)["sections"].values()
    assert report["annotators"] == 7 and report["traps"]["double votes (same person, same item)"] == 1
    assert command(REAL / "mt_bench_human" / "gpt4_pair.jsonl") == 2
    assert "no item with labels by two people" in capsys.readouterr().err


@real
def test_real_pandalm_gives_the_published_kappas(capsys):
    """Wang et al. (arXiv:2306.05087): .85, .88, .86."""
    assert command(REAL / "pandalm_testset", "--json") == 0
    report = json.loads(capsys.readouterr().out)["sections"]["all votes"]
    kappas = {tuple(row["annotators"]): round(row["kappa"], 2) for row in report["cohen"]}
    pairs = [("annotator1", "annotator2"), ("annotator1", "annotator3"), ("annotator2", "annotator3")]
    assert [kappas[pair] for pair in pairs] == [0.85, 0.88, 0.86]
    assert report["fleiss"]["kappa"] == pytest.approx(0.864175, abs=1e-6)
    assert report["alpha"]["nominal"] == pytest.approx(0.864221, abs=1e-6)


@real
def test_real_rankgen_kappa_depends_on_the_coding_and_agreement_does_not(capsys):
    path = REAL / "rankgen_human_eval" / "labels.csv"
    found = {}
    for label in ("winner", "chosen_position"):
        assert command(path, "--label", label, "--json") == 0
        found[label] = json.loads(capsys.readouterr().out)["sections"]["all votes"]
    rates = {label: report["agreement"]["three-way"]["estimate"] for label, report in found.items()}
    assert rates["winner"] == pytest.approx(0.6693, abs=1e-4) == rates["chosen_position"]
    assert found["chosen_position"]["alpha"]["nominal"] > found["winner"]["alpha"]["nominal"] + 0.1
