"""A newcomer's path in a real browser: from `prefcourse start` in an empty folder to a solved exercise the next day."""

from __future__ import annotations

import re

import pytest
from rooms import cell, errors, run, sync_api

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
CHAPTER = "02_preference_optimization_overview.ipynb"
LESSON, EXERCISE = f"notebooks/{CHAPTER}", f"exercises/{CHAPTER}"
WRONG = '''# EXERCISE 2.1: agreement_rate
def agreement_rate(labels_by_item, drop_ties=False):
    """Every item weighs the same, which is not what was asked."""
    rates = []
    for labels in labels_by_item:
        kept = [said for said in labels if not (drop_ties and said == "tie")]
        same = [a == b for i, a in enumerate(kept) for b in kept[:i]]
        rates += [sum(same) / len(same)] if same else []
    return sum(rates) / len(rates) if rates else float("nan")'''
RIGHT = '''# EXERCISE 2.1: agreement_rate
def agreement_rate(labels_by_item, drop_ties=False):
    """All pairs of labels in one pool."""
    same = []
    for labels in labels_by_item:
        kept = [said for said in labels if not (drop_ties and said == "tie")]
        same += [a == b for i, a in enumerate(kept) for b in kept[:i]]
    return sum(same) / len(same) if same else float("nan")'''


def write(page, cell_id: str, source: str) -> None:
    found = cell(page, cell_id)
    page.evaluate(
        "source => jupyterapp.shell.currentWidget.content.activeCell.model.sharedModel.setSource(source)", source
    )
    sync_api.expect(found).to_contain_text("agreement_rate")


def check(page, number: str):
    """Run the answer's cell and its check; what the check shows."""
    for kind in ("answer", "check"):
        found = cell(page, f"{kind}-{number}")
        run(page, "notebook:run-cell")
    return found.locator(".jp-OutputArea-output").last


def test_the_lesson_runs_and_its_widgets_work(visit):
    expect, page = sync_api.expect, visit(LESSON)
    run(page, "notebook:run-all-cells")
    assert errors(page) == 0
    assert page.locator(".jp-OutputArea figure img[alt]").count() >= 3

    noise = cell(page, "agreement-and-noise").locator(".pc-panel")
    noise.get_by_label("Temperature").press("End")
    expect(noise.locator(".pc-news")).to_contain_text("At temperature 8")

    desk = cell(page, "annotator").locator(".pc-annotator")
    desk.locator(".pc-count, [class*=count]").first.click()
    for done in range(1, 25):
        desk.press("1" if done % 3 else "2")
        expect(desk).to_contain_text(re.compile(rf"\b{done} of 24\b"))
    desk.get_by_role("button", name="Train on my labels").click()
    expect(desk.locator(".pc-report")).to_contain_text("A model in your taste", timeout=120_000)
    run(page, "docmanager:save")


def test_the_exercise_from_a_wrong_answer_to_the_next_day(visit, room):
    expect, page = sync_api.expect, visit(EXERCISE)
    run(page, "notebook:run-all-cells")
    assert errors(page) == 0, "an unwritten exercise is no error"
    expect(cell(page, "check-2-1")).to_contain_text("not written yet")

    write(page, "answer-2-1", WRONG)
    expect(check(page, "2-1")).to_contain_text("Likeliest mistake")
    hint = cell(page, "hints-2-1").locator("summary").first
    hint.click()
    expect(cell(page, "hints-2-1").locator("details[open]")).to_have_count(1)

    write(page, "answer-2-1", RIGHT)
    expect(check(page, "2-1")).to_contain_text("solved")
    run(page, "docmanager:save")

    room.close()
    room.open()
    again = visit(EXERCISE)
    expect(cell(again, "answer-2-1")).to_contain_text("All pairs of labels in one pool.")
    expect(cell(again, "check-2-1")).to_contain_text("solved")
    lesson = visit(LESSON)
    expect(cell(lesson, "annotator")).to_contain_text("A model in your taste")
    assert lesson.get_by_text("Error displaying widget").count() == 0
