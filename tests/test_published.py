"""Numbers from papers have a source, and nobody quotes one that is not in the file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from prefcourse import experiments
from prefcourse.claims import claims
from prefcourse.published import QUOTE, everything, published, with_numbers

SOURCES = sorted((Path(__file__).parent.parent / "notebooks" / "source").glob("*.py"))


@pytest.mark.parametrize("name", everything())
def test_every_number_says_where_it_stands(name):
    row = published(name)
    assert re.fullmatch(r"\d{4}\.\d{4,5}", row.arxiv) or (row.arxiv == "" and row.paper)
    assert row.value and row.place and row.quoted
    assert row.checked in ("paper", "recomputed", "secondary")


def test_every_number_is_used():
    used = {found for source in SOURCES for found in QUOTE.findall(source.read_text())}
    code = " ".join(source.read_text() for source in SOURCES)
    assert {name for name in everything() if name not in used and f'published("{name}")' not in code} == set()


def test_a_quotation_becomes_value_and_source():
    assert with_numbers("agree on {{published:tldr-researchers}}.") == "agree on 73 ± 4 % (2009.01325)."


def test_an_unknown_number_names_the_file():
    with pytest.raises(KeyError, match=r"no published number 'nobody'.*published\.toml"):
        with_numbers("{{published:nobody}}")


def test_claims_print_what_holds_and_stop_at_what_does_not(capsys):
    claims({"one is one": True})
    assert capsys.readouterr().out == "✓ one is one\n"
    with pytest.raises(AssertionError, match="one is two"):
        claims({"one is one": True, "one is two": False})


@pytest.mark.parametrize("experiment", experiments.experiments(), ids=lambda experiment: experiment.name)
def test_kept_results_were_made_with_todays_settings(experiment):
    assert not experiments.is_stale(experiment), f"prefcourse build --figures {experiment.name}"
    assert len(experiments.load(experiment.name)) == len(experiment.parts)


def test_no_results_without_an_experiment():
    names = {experiment.name for experiment in experiments.experiments()}
    assert {file.stem for file in experiments.RESULTS.glob("*.json")} <= names
