"""The whole command on a folder and on a zip with hostile names; its reports are read by parsers that others use."""

from __future__ import annotations

import csv
import json
import os
import xml.etree.ElementTree as ET
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
from corpus import COURSE, cheats, formats, honest, hostile
from corpus.arena import best_level

from prefcourse.cli import main
from prefcourse.grading import sandbox

SCRIPT, FORMULA, CLIMBS = "<script>alert(1)<", "=cmd()|'calc'!A1", "a..\\..\\%2e%2e%2fx"


@pytest.fixture(scope="module")
def secret(tmp_path_factory) -> Path:
    level = best_level()
    works, why = sandbox.offers()[level]
    if not works:
        pytest.skip(f"no sandbox here: {why}")
    file = tmp_path_factory.mktemp("s") / "secret"
    file.write_text("a secret that nobody hands in")
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory, secret) -> tuple[Path, int, Path]:
    """Everything that names and files can be, graded once: (out, exit code, canary)."""
    root = tmp_path_factory.mktemp("f")
    handed_in, canary = root / "in", root / "canary"
    canary.write_bytes(honest.correct().bytes())
    submissions = {
        f"{SCRIPT}.ipynb": honest.correct().bytes(),
        f"{FORMULA}.ipynb": honest.two_of_five().bytes(),
        f"{CLIMBS}.ipynb": honest.untouched().bytes(),
        "ann/first.ipynb": honest.correct().bytes(),
        "ann/second.ipynb": honest.wrong().bytes(),
        "doejohn_12345_1_work.ipynb": honest.untouched().bytes(),
        "doejohn_LATE_12345_2_work-1.ipynb": honest.correct().bytes(),
        "crash.ipynb": hostile.os_exit().bytes().replace(b"MARK", b"x"),
        "forger.ipynb": cheats.bundle_displayed_by_hand().bytes(),
        "broken.ipynb": formats.bad_json() + b"# EXERCISE 2.1",
        "deep.ipynb": formats.nested_100_000_times(),
    }
    for name, content in submissions.items():
        (handed_in / name).parent.mkdir(parents=True, exist_ok=True)
        (handed_in / name).write_bytes(content)
    (handed_in / "link.ipynb").symlink_to(canary)
    with (handed_in / "huge.ipynb").open("wb") as file:
        file.truncate(200_000_000)
    out = root / "out"
    command = ["grade", str(handed_in), "-o", str(out), "--seed-file", str(secret), "--course", str(COURSE)]
    code = main([*command, "--jobs", "2", "--format", "all"])
    assert canary.read_bytes() == honest.correct().bytes()
    assert sorted(os.listdir(root)) == ["canary", "in", "out"]
    return out, code, canary


def results(out: Path) -> dict[str, dict]:
    return {found["submission"]: found for found in json.loads((out / "results.json").read_text())["results"]}


def test_each_gets_what_it_deserves(folder):
    out, code, _ = folder
    assert code == 5  # some could not be graded
    found = {name: (result["state"], result["points"]) for name, result in results(out).items()}
    assert found[f"{SCRIPT}.ipynb"] == ("graded", 10) and found[f"{FORMULA}.ipynb"] == ("graded", 4)
    assert found[f"{CLIMBS}.ipynb"] == ("graded", 0)
    assert found["ann/first.ipynb"] == ("graded", 10) and found["ann/second.ipynb"] == ("graded", 0)
    assert found["doejohn_LATE_12345_2_work-1.ipynb"] == ("graded", 10)  # the latest upload, and the only one
    assert "doejohn_12345_1_work.ipynb" not in found
    assert found["crash.ipynb"] == ("crashed", 8) and found["forger.ipynb"] == ("graded", 0)
    for name in ("broken.ipynb", "deep.ipynb", "link.ipynb", "huge.ipynb"):
        assert found[name] == ("invalid", 0)


def test_two_submissions_of_one_learner_say_so(folder):
    notes = [" ".join(results(folder[0])[f"ann/{which}.ipynb"]["notes"]) for which in ("first", "second")]
    assert all("one of 2 submissions by this learner" in note for note in notes)


def test_the_csv_holds_no_formula(folder):
    with (folder[0] / "results.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(results(folder[0]))
    cells = [cell for row in rows for cell in row.values() if cell]
    assert not [cell for cell in cells if cell[0] in "=+@\t\r" or (cell[0] == "-" and not _is_number(cell))]
    assert any("=cmd()" in cell for cell in cells)


def _is_number(cell: str) -> bool:
    return cell.lstrip("-").replace(".", "", 1).isdigit()


def test_the_junit_file_is_xml_with_a_case_per_check(folder):
    cases = list(ET.parse(folder[0] / "junit.xml").iter("testcase"))
    graded = [result for result in results(folder[0]).values() if result["checks"]]
    assert sum("2.4" in case.get("name") for case in cases) >= len(graded)
    assert not [case for case in cases if "Cell" in case.get("name")]


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.scripts, self.sources, self.text = 0, [], ""

    def handle_starttag(self, tag, attrs):
        self.scripts += tag in ("script", "iframe", "object", "embed") or any(
            name.startswith("on") for name, _ in attrs
        )
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_the_html_runs_nothing_and_stays_where_it_is(folder):
    pages = list(folder[0].rglob("*.html"))
    assert len(pages) > len(results(folder[0]))
    text = ""
    for page in pages:
        tags = Tags()
        tags.feed(page.read_text(encoding="utf-8"))
        assert not tags.scripts
        assert not [s for s in tags.sources if s.startswith(("http:", "javascript:", "/")) or ".." in s]
        text += tags.text
    assert SCRIPT in text and FORMULA in text


def test_no_report_holds_the_secret_or_what_is_hidden(folder, secret):
    for file in (path for path in folder[0].rglob("*") if path.is_file()):
        text = file.read_text(encoding="utf-8")
        assert secret.read_text() not in text and '"array"' not in text


def test_a_zip_with_names_that_climb_out(tmp_path, secret):
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("John Doe_12345_assignsubmission_file_/02.ipynb", honest.correct().bytes())
        file.writestr("../../escaped.ipynb", honest.correct().bytes())
        file.writestr("/tmp/escaped_too.ipynb", honest.correct().bytes())
    out = tmp_path / "out"
    command = ["grade", str(archive), "-o", str(out), "--seed-file", str(secret), "--course", str(COURSE)]
    assert main([*command, "--jobs", "1"]) == 5
    found = [(result["state"], result["points"]) for result in results(out).values()]
    assert sorted(found) == [("graded", 10), ("invalid", 0), ("invalid", 0)]
    assert sorted(os.listdir(tmp_path)) == ["all.zip", "out"] and not list(Path("/tmp").glob("escaped*"))
