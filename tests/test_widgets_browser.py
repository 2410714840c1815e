"""Our widgets in a real JupyterLab in a real Chromium: keys, sliders, light and dark, and what axe-core says."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

from prefcourse import cache

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium here")]
AXE = (Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --force-color-profile=srgb"
).split()
SETTINGS = {
    "@jupyterlab/apputils-extension:themes": {"adaptive-theme": True},
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false"},
}
HOOK = "from prefcourse.widgets.saved import pre_save_hook\nc.FileContentsManager.pre_save_hook = pre_save_hook\n"
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
def server(tmp_path_factory):
    """A JupyterLab of its own: nobody's settings, nobody's notebooks. Gives its address and its folder."""
    home, folder = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("course")
    (home / "config" / "labconfig").mkdir(parents=True)
    (home / "config" / "labconfig" / "default_setting_overrides.json").write_text(json.dumps(SETTINGS))
    (home / "config" / "jupyter_server_config.py").write_text(HOOK)
    for name, cells in NOTEBOOKS.items():
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(book, folder / f"{name}.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    process = subprocess.Popen(command(port, token, folder), env=environment(home), start_new_session=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    wait_for(f"http://127.0.0.1:{port}/api/status?token={token}", process)
    yield f"http://127.0.0.1:{port}/doc/tree/{{}}.ipynb?token={token}&reset", folder
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(30)


def command(port: int, token: str, folder: Path) -> list[str]:
    options = {"ServerApp.ip": "127.0.0.1", "ServerApp.port": port, "ServerApp.port_retries": 0,
               "IdentityProvider.token": token, "ServerApp.root_dir": folder, "LabApp.expose_app_in_browser": True,
               "LabApp.news_url": None}  # fmt: skip
    lab = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    return lab + [f"--{name}={value}" for name, value in options.items()]


def environment(home: Path) -> dict[str, str]:
    """As a learner's, and not as a test's: widgets must be lively."""
    quiet = ("CI", "PREFCOURSE_QUIET", "PYTEST_CURRENT_TEST", "PYTEST_VERSION")
    places = ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "JUPYTERLAB_SETTINGS_DIR")
    own = {name: str(home / name.lower()) for name in (*places, "JUPYTERLAB_WORKSPACES_DIR")}
    own |= {"HOME": str(home), "JUPYTER_CONFIG_DIR": str(home / "config"), "JUPYTER_CONFIG_PATH": str(home / "config")}
    own |= {"PREFCOURSE_CACHE": str(cache.home()), "PREFCOURSE_HOME": str(home / "data"), "OMP_NUM_THREADS": "1"}
    return {name: value for name, value in os.environ.items() if name not in quiet} | own


def wait_for(address: str, process: subprocess.Popen) -> None:
    for _ in range(600):
        if process.poll() is not None:
            pytest.fail("JupyterLab did not start")
        try:
            urllib.request.urlopen(address)
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail("JupyterLab did not answer for a minute")


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(server, chromium):
    """Open a notebook, in a theme and a width; in the end there must have been no JavaScript error and no request
    to anywhere but the server."""
    pages, wrong = [], []

    def open_(name: str, *, theme: str = "light", width: int = 1100, run: bool = True):
        context = chromium.new_context(viewport={"width": width, "height": 1600}, color_scheme=theme)
        page = context.new_page()
        page.set_default_timeout(60_000)
        pages.append(context)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        ours = server[0][: server[0].index("/doc")]
        page.on("request", lambda sent: sent.url.startswith((ours, "data:", "blob:")) or wrong.append(sent.url))
        page.goto(server[0].format(name))
        page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.context?.isReady")
        idle = "jupyterapp.shell.currentWidget.context.sessionContext.session?.kernel?.status === 'idle'"
        page.wait_for_function(f"() => {idle}")
        if run:
            page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
            assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
        return page

    yield open_
    for context in pages:
        context.close()
    assert wrong == []


def violations(page, selector: str) -> list:
    page.evaluate(AXE)
    found = page.evaluate("selector => axe.run(selector, {resultTypes: ['violations']})", selector)["violations"]
    return [(v["id"], node["html"][:120]) for v in found for node in v["nodes"]]


def saved(page, folder: Path, name: str) -> dict:
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    return json.loads((folder / f"{name}.ipynb").read_text())


def root_fits(page) -> bool:
    """Nothing of the widget is wider than the page."""
    return page.locator(".pc").first.evaluate("root => root.scrollWidth <= root.clientWidth")


def test_label_with_the_keyboard_train_save_and_find_it_again(visit, server):
    page = visit("desk")
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
    book = saved(page, server[1], "desk")
    assert "widget-view" not in json.dumps(book["cells"][0]["outputs"]) and book["metadata"].get("widgets") is None
    next_day = visit("desk", theme="dark", width=560, run=False)
    expect(next_day.locator(".pc-twin")).to_contain_text("A model in your taste")
    assert violations(next_day, ".jp-Notebook .jp-OutputArea") == []
    again = visit("desk", theme="dark", width=560)
    expect(again.locator(".pc-annotator")).to_contain_text("12 of 12 labelled")
    assert again.locator(".pc-twin:visible").count() == 0 and violations(again, ".pc-annotator") == []
    assert root_fits(again)


def test_train_in_the_laboratory_move_beta_stop_and_move_a_slider(visit, server):
    page = visit("laboratory")
    expect, (room, sliders) = sync_api.expect, page.locator(".pc-panel").all()
    assert violations(page, ".pc-panel") == []
    room.get_by_label("Steps").press("End")
    room.get_by_role("button", name="Train", exact=True).click()
    expect(room.locator(".pc-news")).to_contain_text("gold", timeout=90_000)
    beta = room.get_by_label("beta")
    beta.press("ArrowRight")
    expect(beta).to_have_attribute("aria-valuetext", "0.2")
    expect(room.locator("caption")).to_contain_text("(moved)", timeout=60_000)
    room.get_by_role("button", name="Stop").click()
    expect(room.locator(".pc-news")).to_contain_text("Stopped after", timeout=60_000)
    expect(room.locator("img")).to_have_attribute("alt", re.compile(r"Run 1: PPO, beta 0.1 \(moved\)"))
    sliders.get_by_label("Temperature").press("End")
    expect(sliders.locator(".pc-news")).to_contain_text("At temperature 8")
    sliders.get_by_role("button", name="Run it live").click()
    expect(sliders.locator(".pc-news")).to_contain_text("Run live")
    assert violations(page, ".pc-panel") == []
    saved(page, server[1], "laboratory")
    next_day = visit("laboratory", theme="dark", width=560, run=False)
    expect(next_day.locator(".pc-twin img").first).to_be_visible()
    assert next_day.locator(".pc-twin img").count() == 2
    assert violations(next_day, ".jp-Notebook .jp-OutputArea") == []
    next_day.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
    expect(next_day.locator(".pc-panel").nth(1)).to_be_visible()
    assert violations(next_day, ".pc-panel") == []


def test_training_is_seen_without_flicker_and_stop_keeps_it(visit):
    page = visit("live", run=False)
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
