"""Pictures of every notebook as a learner sees it, light and dark: `make shots` fills the ignored folder shots/.

Not a test: somebody looks at them. Each page is a window's height of a notebook that was run to its end.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from rooms import CHROMIUM, FLAGS, Room, run, sync_api

ROOT = Path(__file__).parent.parent.parent
WIDTH, HEIGHT, STEP = 1100, 1400, 1250


def pages(page, folder: Path) -> int:
    """One picture per window's height, from top to bottom."""
    panel, number, top = page.locator(".jp-WindowedPanel-outer").first, 0, 0
    while top < panel.evaluate("element => element.scrollHeight"):
        panel.evaluate(f"element => element.scrollTo(0, {top})")
        page.wait_for_timeout(400)
        page.screenshot(path=folder / f"{number:02}.png")
        number, top = number + 1, top + STEP
    return number


def shoot(browser, room: Room, notebook: str, scheme: str, out: Path) -> None:
    folder = out / scheme / notebook.removesuffix(".ipynb")
    folder.mkdir(parents=True, exist_ok=True)
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.goto(room.page_of(notebook))
    page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.context?.isReady")
    page.wait_for_timeout(3000)
    if scheme == "light":  # once is enough: what was run is saved, and the second visit shows what was kept
        run(page, "notebook:run-all-cells")
        page.wait_for_timeout(1000)
    print(f"{pages(page, folder):3} pages in {folder}", flush=True)
    run(page, "docmanager:save")
    context.close()


def main(names: list[str]) -> int:
    if not CHROMIUM:
        print("there is no Chromium here: install it (Debian: apt install chromium)", file=sys.stderr)
        return 1
    rooms = ("notebooks", "exercises")
    found = sorted(f"{room}/{path.name}" for room in rooms for path in (ROOT / room).glob("[!.]*.ipynb"))
    chosen = [notebook for notebook in found if not names or any(name in notebook for name in names)]
    with tempfile.TemporaryDirectory() as home, sync_api.sync_playwright() as playwright:
        room, browser = Room(Path(home)), playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        room.open()
        try:
            for scheme in ("light", "dark"):
                for notebook in chosen:
                    shoot(browser, room, notebook, scheme, ROOT / "shots")
        finally:
            browser.close()
            room.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
