"""Fixtures of a real learner's machine; skipped where there is no Chromium."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rooms import CHROMIUM, FLAGS, Room, sync_api


def pytest_collection_modifyitems(items) -> None:
    if not CHROMIUM:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="there is no Chromium here"))


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Iterator[Room]:
    place = Room(tmp_path_factory.mktemp("learner"))
    place.open()
    yield place
    place.close()


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(room, chromium) -> Iterator[Callable]:
    """Open a notebook. In the end no page may have had a JavaScript error or asked anybody but the server."""
    contexts, wrong = [], []

    def open_(notebook: str, **options):
        context = chromium.new_context(**{"viewport": {"width": 1100, "height": 1500}} | options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(90_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda sent: sent.url.startswith((room.address, "data:", "blob:")) or wrong.append(sent.url))
        page.goto(room.page_of(notebook))
        page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.context?.isReady")
        kernel = "jupyterapp.shell.currentWidget.context.sessionContext.session?.kernel"
        page.wait_for_function(f"() => {kernel}?.status === 'idle'")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []
