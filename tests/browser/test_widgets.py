"""Our widgets in a real JupyterLab in a real Chromium: keys, sliders, light and dark, and what axe-core says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from rooms import errors, sync_api
from rooms import run as command

axe = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
AXE = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
BEGIN = "import torch; torch.set_num_threads(1)\nfrom prefcourse.lab import lab\nfrom prefcourse.widgets import *\n"
COUNT_FRAMES = """() => {
  window.frames_ = { all: 0, blank: 0 };
  const look = () => {
    const image = document.querySelector(".pc-live img");
    if (image || frames_.all) frames_.all++;
    if (frames_.all && !(image?.complete && image.naturalWidth && image.offsetHeight)) frames_.blank++;
    requestAnimationFrame(look);
  };
  look();
}"""
NOTEBOOKS = {
    "desk": [BEGIN + "w = Annotator(lab(0), count=12, repeats=2)\nw"],
    "laboratory": [BEGIN + "room = Laboratory(lab(0))\nroom", "agreement_against_noise()"],
    "live": [
        BEGIN + "from prefcourse import evaluate, models, train\nhere = lab(0)",
        "policy, score = models.trainable_copy(here.sft), evaluate.gold_score(here.world)",
        "loop = train.ppo(policy, here.sft, here.tokenizer, here.prompts, score, beta=0.1,\n"
        "                 iterations=5000, seed=0)\n"
        "log = live(loop, answers=samples(policy, here.tokenizer, here.prompts[:2], here.world))\n"
        "print(len(log) < 5000)",
    ],
}


@pytest.fixture(scope="module")
def lay(room) -> None:
    """Our notebooks beside the course's own."""
    for name, cells in NOTEBOOKS.items():
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(book, room.folder / f"{name}.ipynb")


@pytest.fixture
def open_(lay, visit):
    """Open one of them, in a theme and a width, and run it."""

    def opened(name: str, *, theme: str = "light", width: int = 1100, run: bool = True):
        page = visit(f"{name}.ipynb", color_scheme=theme, viewport={"width": width, "height": 1600})
        if run:
            command(page, "notebook:run-all-cells")
            assert errors(page) == 0
        return page

    return opened


def violations(page, selector: str) -> list:
    page.evaluate(AXE)
    found = page.evaluate("selector => axe.run(selector, {resultTypes: ['violations']})", selector)["violations"]
    return [(v["id"], node["html"][:120]) for v in found for node in v["nodes"]]


def saved(page, folder: Path, name: str) -> dict:
    command(page, "docmanager:save")
    return json.loads((folder / f"{name}.ipynb").read_text())


def root_fits(page) -> bool:
    """Nothing of the widget is wider than the page."""
    return page.locator(".pc").first.evaluate("root => root.scrollWidth <= root.clientWidth")


def test_label_with_the_keyboard_train_save_and_find_it_again(open_, room):
    page = open_("desk")
    expect, root = sync_api.expect, page.locator(".pc-annotator")
    count = root.locator(".pc-count")
    assert violations(page, ".pc-annotator") == []
    root.focus()
    for key, labelled in {"1": 1, "2": 2, "0": 3, "u": 2, "x": 2, "d": 2, "b": 2}.items():
        page.keyboard.press(key)
        expect(count).to_contain_text(f"{labelled} of 12 labelled")
    assert page.locator(".jp-Notebook .jp-Cell").count() == 1, "no key reached JupyterLab's shortcuts"
    root.locator(".pc-card").first.click()
    expect(count).to_contain_text("3 of 12")
    for done in range(4, 13):
        page.keyboard.press("2")
        expect(count).to_contain_text(f"{done} of 12")
    expect(root).to_contain_text("What your labels say")
    root.get_by_role("button", name="Train on my labels").click()
    expect(root.locator(".pc-report")).to_contain_text("A model in your taste", timeout=120_000)
    assert violations(page, ".pc-annotator") == [] and page.locator(".pc-twin:visible").count() == 0
    book = saved(page, room.folder, "desk")
    assert "widget-view" not in json.dumps(book["cells"][0]["outputs"]) and book["metadata"].get("widgets") is None
    next_day = open_("desk", theme="dark", width=560, run=False)
    expect(next_day.locator(".pc-twin")).to_contain_text("A model in your taste")
    assert violations(next_day, ".jp-Notebook .jp-OutputArea") == []
    again = open_("desk", theme="dark", width=560)
    expect(again.locator(".pc-annotator")).to_contain_text("12 of 12 labelled")
    assert again.locator(".pc-twin:visible").count() == 0 and violations(again, ".pc-annotator") == []
    assert root_fits(again)


def test_train_in_the_laboratory_move_beta_stop_and_move_a_slider(open_, room):
    page = open_("laboratory")
    expect, (laboratory, sliders) = sync_api.expect, page.locator(".pc-panel").all()
    assert violations(page, ".pc-panel") == []
    laboratory.get_by_label("Steps").press("End")
    laboratory.get_by_role("button", name="Train", exact=True).click()
    expect(laboratory.locator(".pc-news")).to_contain_text("gold", timeout=90_000)
    beta = laboratory.get_by_label("beta")
    beta.press("ArrowRight")
    expect(beta).to_have_attribute("aria-valuetext", "0.2")
    expect(laboratory.locator("caption")).to_contain_text("(moved)", timeout=60_000)
    laboratory.get_by_role("button", name="Stop").click()
    expect(laboratory.locator(".pc-news")).to_contain_text("Stopped after", timeout=60_000)
    expect(laboratory.locator("img")).to_have_attribute("alt", re.compile(r"Run 1: PPO, beta 0.1 \(moved\)"))
    sliders.get_by_label("Temperature").press("End")
    expect(sliders.locator(".pc-news")).to_contain_text("At temperature 8")
    sliders.get_by_role("button", name="Run it live").click()
    expect(sliders.locator(".pc-news")).to_contain_text("Run live")
    assert violations(page, ".pc-panel") == []
    saved(page, room.folder, "laboratory")
    next_day = open_("laboratory", theme="dark", width=560, run=False)
    expect(next_day.locator(".pc-twin img").first).to_be_visible()
    assert next_day.locator(".pc-twin img").count() == 2
    assert violations(next_day, ".jp-Notebook .jp-OutputArea") == []
    command(next_day, "notebook:run-all-cells")
    expect(next_day.locator(".pc-panel").nth(1)).to_be_visible()
    assert violations(next_day, ".pc-panel") == []


def test_training_is_seen_without_flicker_and_stop_keeps_it(open_):
    page = open_("live", run=False)
    page.evaluate(COUNT_FRAMES)
    page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")
    live = page.locator(".pc-live")
    sync_api.expect(live).to_contain_text("s left", timeout=90_000)
    page.wait_for_timeout(3000)
    frames = page.evaluate("() => frames_")
    assert frames["all"] > 20 and frames["blank"] == 0
    page.evaluate("() => jupyterapp.commands.execute('kernelmenu:interrupt')")
    sync_api.expect(live).to_contain_text("of 5000 steps. The model keeps what it has learned so far.")
    sync_api.expect(page.locator(".jp-OutputArea").last).to_contain_text("True")
    assert violations(page, ".jp-Notebook .jp-OutputArea") == []
