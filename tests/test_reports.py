"""Reports say what the results say, in formats that other programs read; a learner's words are never code in them."""

from __future__ import annotations

import base64
import csv
import json
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from prefcourse.grading import reports
from prefcourse.grading.reports import pages, tables, words
from prefcourse.grading.result import CheckResult, Result, State, Status

BATCH = {"shard": "1/1", "total": 3, "seed": "public", "sandbox": "bwrap", "course": {}}
MEAN = "You average the items' own rates. Count pairs over all items, then divide once."
HOSTILE = [
    "=cmd()|'/C calc'!A0", "<script>alert(1)</script>", "\x1b[31m\x00red", "../../etc/x", "@SUM(A1)", "+1", "-1",
    "\tx", "\rx", '"><img src=x onerror=alert(1)>', "]]>", "a|b\n| c | d |", "\ud800", "[x](javascript:1)", "＝1+1",
]  # fmt: skip


def check(number: str = "2.1", status: Status = Status.PASSED, **facts) -> CheckResult:
    known = {"function": "agreement_rate", "points": 2.0 * (status == Status.PASSED), "max_points": 2.0}
    return CheckResult(number, status=status, **known | facts)


def result(student: str = "Jane", *checks: CheckResult, **facts) -> Result:
    known = {"submission": f"{student}.ipynb", "digest": f"d{student}", "chapter": "02_overview", "state": State.GRADED}
    return Result(student=student, checks=checks, **known | facts)


def sample() -> list[Result]:
    wrong = check("2.1", Status.FAILED, sentence=MEAN, mutant="mean-over-items")
    return [
        result("Jane", check(), check("2.2"), check("2.10", Status.NOT_WRITTEN)),
        result("Kim", wrong, check("2.2"), check("2.10", Status.NOT_RUN)),
        result("Lee", wrong, check("2.2", Status.PACKAGE), check("2.10"), notes=("answer 2.2 found twice: the last",)),
        result("Mia", state=State.INVALID, reason="too large (200.0 MB)"),
        result("Noa", state=State.GRADER_ERROR, reason="KeyError: 'x' (graft.py, line 7)"),
    ]


def written(folder, results, *formats):
    reports.write(results, folder, BATCH, formats)
    return folder


def rows_of(folder) -> list[dict]:
    with open(folder / "results.csv", encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


class Page(HTMLParser):
    """Tags, attributes and visible words of a page."""

    def __init__(self, source: str):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        if self.tags[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


# --- tables ------------------------------------------------------------------------------------------------


def test_csv_has_a_row_each_and_exercises_in_their_order(tmp_path):
    rows = rows_of(written(tmp_path, sample(), "csv"))
    assert list(rows[0])[3:] == ["2.1", "2.2", "2.10", "total", "max", "state", "notes"]
    assert [row["student"] for row in rows] == ["Jane", "Kim", "Lee", "Mia", "Noa"]
    assert [rows[0][name] for name in ("2.1", "2.2", "2.10", "total", "max", "state")] == "2 2 0 4 6 graded".split()


def test_an_answer_that_is_the_packages_is_flagged(tmp_path):
    leaning = result("Lee", check("2.2", Status.PACKAGE))
    folder = written(tmp_path, [result("Jane", check()), leaning], "csv", "html")
    noted = "2.2 agreement_rate: the package's own answer"
    assert [row["notes"] for row in rows_of(folder)] == ["", noted]
    overview = Page((folder / "overview.html").read_text(encoding="utf-8")).text
    assert "Worth a look (1)" in overview and noted in overview


def test_points_are_floats_throughout():
    found = result("Jane").as_dict() | result("Kim", check("2.1", Status.FAILED)).as_dict()
    assert type(result("Jane").points) is type(found["points"]) is float


def test_what_was_not_graded_has_no_mark(tmp_path):
    invalid = rows_of(written(tmp_path, sample(), "csv"))[3]
    assert invalid["total"] == invalid["max"] == invalid["2.1"] == "" and invalid["notes"] == "too large (200.0 MB)"


@pytest.mark.parametrize("text", HOSTILE)
def test_no_cell_is_a_formula(tmp_path, text):
    (row,) = rows_of(written(tmp_path, [result(text, check(sentence=text), notes=(text,))], "csv"))
    assert not any(cell[:1] in tuple("=+-@\t\r＝＋－＠") and cell for cell in row.values())
    assert row["student"].removeprefix("'") == words.clean(text)


def test_json_gives_the_results_back(tmp_path):
    found = json.loads((written(tmp_path, sample()) / "results.json").read_text())
    assert found["schema"] == 1 and found["batch"] == BATCH
    assert [Result.from_dict(row) for row in found["results"]] == sample()


def test_junit_names_the_exercises(tmp_path):
    root = ElementTree.parse(written(tmp_path, sample(), "junit") / "junit.xml").getroot()
    cases = {(suite.get("name"), case.get("name")): case for suite in root for case in suite.iter("testcase")}
    assert [name for _, name in cases][:3] == ["2.1", "2.2", "2.10"]
    wrong = cases["Kim: Kim.ipynb", "2.1"]
    assert wrong.find("failure").get("message") == MEAN
    facts = {p.get("name"): p.get("value") for p in wrong.iter("property")}
    assert facts == {"points": "0", "max_points": "2", "status": "failed"}
    assert cases["Kim: Kim.ipynb", "2.10"].find("skipped") is not None
    assert "200.0 MB" in cases["Mia: Mia.ipynb", "submission"].find("error").get("message")
    for suite in root:
        counted = [sum(case.find(kind) is not None for case in suite.iter("testcase")) for kind in ("failure", "error")]
        assert [int(suite.get("failures")), int(suite.get("errors"))] == counted


# --- pages -------------------------------------------------------------------------------------------------


def test_feedback_says_sign_word_points_and_sentence():
    page = Page(pages.feedback(sample()[1]))
    for said in ("2.1", "agreement_rate", "✗ not right yet", "✓ passed", MEAN, "2 of 6 points", "– not run"):
        assert said in page.text


def test_our_own_error_is_told_as_ours_and_without_details():
    page = Page(pages.feedback(sample()[4]))
    assert "fault is ours" in page.text and "graft.py" not in page.text and "KeyError" not in page.text


def test_learners_read_sentences_and_nothing_of_the_graders_inside(tmp_path):
    """Seed, digests and the place of an error are the instructor's."""
    folder = written(tmp_path, [replace(r, digest="a1b2c3" * 8) for r in sample()], *reports.FORMATS)
    theirs = [p for p in folder.rglob("*") if p.is_file() and p.name not in ("results.csv", "overview.html")]
    for file in theirs:
        if file != folder / "results.json":
            told = file.read_text(encoding="utf-8")
            assert not any(word in told for word in ("KeyError", "graft.py", "a1b2c3")), file


def test_pages_load_nothing_and_run_nothing(tmp_path):
    folder = written(tmp_path, sample(), "html")
    for file in [folder / "overview.html", *(folder / "feedback").iterdir()]:
        page = Page(file.read_text(encoding="utf-8"))
        assert not {"script", "img", "iframe", "link", "object"} & set(page.tags)
        assert not any(name.startswith("on") or name == "src" for name, _ in page.attributes)
        assert all(value.startswith("feedback/") for name, value in page.attributes if name == "href")


@pytest.mark.parametrize("text", HOSTILE)
def test_a_learners_words_are_shown_as_they_are(tmp_path, text):
    hostile = result(text, check(sentence=text), notes=(text,), submission=text, reason=text, state=State.TIMEOUT)
    folder = written(tmp_path, [hostile, result()], *reports.FORMATS)
    for file in (folder / "overview.html", folder / "feedback" / f"{words.file_name(hostile)}.html"):
        page = Page(file.read_text(encoding="utf-8"))
        assert not {"script", "img"} & set(page.tags)
        assert " ".join(words.clean(text).split()) in page.text
    ElementTree.parse(folder / "junit.xml")
    summary = (folder / "github" / "summary.md").read_text(encoding="utf-8")
    assert "<" not in summary and "](" not in summary
    assert [line.count("|") for line in summary.splitlines() if "timeout" in line] == [6]


def test_the_class_is_shown_hardest_first_with_its_misconceptions():
    page = Page(pages.overview(sample(), BATCH))
    assert f"2 × {MEAN}" in page.text
    order = [standing.exercise for standing in pages.standings(sample())]
    assert order == ["2.1", "2.10", "2.2"] and [round(s.passed, 2) for s in pages.standings(sample())] == [
        0.33,
        0.33,
        0.67,
    ]
    assert "KeyError: 'x' (graft.py, line 7)" in page.text  # the instructor does see it
    assert "answer 2.2 found twice" in page.text


def test_the_mean_leaves_out_what_was_not_graded():
    assert "44 % mean" in Page(pages.overview(sample(), BATCH)).text  # of 4/6, 2/6 and 2/6


def test_an_empty_class_has_a_page():
    assert "No exercise was graded" in Page(pages.overview([], BATCH)).text


def test_file_names_are_safe_and_differ():
    names = [words.file_name(result(text)) for text in [*HOSTILE, "Zoë", "CON", "x" * 300, "", "李"]]
    assert len(set(names)) == len(names)
    assert all(name.isascii() and name.replace("-", "").isalnum() and len(name) < 80 for name in names)


def test_a_link_leads_to_each_learners_page(tmp_path):
    folder = written(tmp_path, sample(), "html")
    page = Page((folder / "overview.html").read_text(encoding="utf-8"))
    links = {value for name, value in page.attributes if name == "href"}
    assert links == {f"feedback/{file.name}" for file in (folder / "feedback").iterdir()}


# --- platforms ---------------------------------------------------------------------------------------------


def single(folder, found: Result, name: str) -> dict:
    (file,) = [path for path in (written(folder, [found], name) / name).iterdir() if path.suffix == ".json"]
    return json.loads(file.read_text(encoding="utf-8"))


def test_gradescope(tmp_path):
    reports.announce(tmp_path, ["gradescope"])
    skeleton = json.loads((tmp_path / "gradescope" / "results.json").read_text())
    assert skeleton["score"] == 0 and "not your fault" in skeleton["output"]
    found = single(tmp_path, sample()[1], "gradescope")
    assert found["score"] == 2 and found["stdout_visibility"] == "hidden"
    assert [(test["number"], test["status"], test["score"], test["max_score"]) for test in found["tests"]] == [
        ("2.1", "failed", 0, 2), ("2.2", "passed", 2, 2), ("2.10", "failed", 0, 2)]  # fmt: skip
    assert all(test["visibility"] == "visible" for test in found["tests"])


def test_of_several_each_has_its_folder_and_the_skeleton_is_gone(tmp_path):
    reports.announce(tmp_path, ["gradescope"])
    written(tmp_path, sample(), "gradescope")
    inside = sorted(path.name for path in (tmp_path / "gradescope").iterdir())
    assert inside == sorted(map(words.file_name, sample()))


def test_github_classroom_and_actions(tmp_path, monkeypatch):
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        monkeypatch.setenv(name, str(tmp_path / name))
    found = single(tmp_path, sample()[0], "github")
    assert (found["version"], found["status"], found["max_score"]) == (1, "fail", 6)
    assert [(test["status"], test["score"]) for test in found["tests"]] == [("pass", 2), ("pass", 2), ("fail", 0)]
    output = (tmp_path / "GITHUB_OUTPUT").read_text()
    assert output.startswith("result=") and json.loads(base64.b64decode(output[7:])) == found
    assert "4 of 6" in (tmp_path / "GITHUB_STEP_SUMMARY").read_text()


def test_prairielearn(tmp_path):
    found = single(tmp_path, sample()[1], "prairielearn")
    assert found["gradable"] is True and found["score"] == pytest.approx(1 / 3, abs=1e-5)
    assert [test["points"] for test in found["tests"]] == [0, 2, 0]
    invalid = single(tmp_path, sample()[3], "prairielearn")
    assert invalid["gradable"] is False and "200.0 MB" in invalid["format_errors"][0]


def test_coursera(tmp_path):
    found = single(tmp_path, sample()[1], "coursera")
    assert set(found) == {"fractionalScore", "feedback"} and 0 <= found["fractionalScore"] <= 1
    assert MEAN in found["feedback"]


def test_timeout_keeps_its_points_and_is_gradable(tmp_path):
    stopped = replace(sample()[1], state=State.TIMEOUT, reason="60 s passed")
    assert single(tmp_path, stopped, "prairielearn")["gradable"] is True


def test_every_format_is_written_for_every_state(tmp_path):
    for number, found in enumerate([[], sample(), sample()[3:4]]):
        folder = tmp_path / str(number)
        folder.mkdir()
        written(folder, found, *reports.FORMATS)


def test_every_status_and_state_has_its_words():
    assert set(words.SIGNS) == set(words.SENTENCES) == set(Status) and set(words.STATES) == set(State)
    assert tables.harmless("Jane") == "Jane"
