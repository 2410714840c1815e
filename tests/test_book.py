"""The book: every page needs no network, every link leads somewhere, nothing a learner wrote is in it."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import shutil
from argparse import ArgumentParser
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from prefcourse.build.book import command, pages, reference, syllabus

ROOT = Path(__file__).parent.parent
needs_sphinx = pytest.mark.skipif(
    any(importlib.util.find_spec(module) is None for module in command.NEEDED), reason="prefcourse[book] is missing"
)
pytestmark = pytest.mark.filterwarnings("ignore")  # of Sphinx's own dependencies
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PNG = base64.b64encode(
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (321).to_bytes(4) + (100).to_bytes(4) + b"\x08\x02" * 8
).decode()
VIEW = {"application/vnd.jupyter.widget-view+json": {"model_id": "0"}}


class Page(HTMLParser):
    """What a page loads, links to and can be linked to at."""

    def __init__(self, path: Path):
        super().__init__()
        self.loads, self.links, self.ids, self.images = [], [], set(), []
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.ids.add(given.get("id"))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in ("script", "img", "iframe", "source") and "src" in given:
            self.loads.append(given["src"])
        elif tag == "link" and given.get("rel") != "canonical":
            self.loads.append(given["href"])
        if tag == "img":
            self.images.append(given)


def run(*words: str) -> int:
    parser = ArgumentParser()
    command.add_arguments(parser)
    return command.main(parser.parse_args(words))


def run_without_reference(*words: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "texts", lambda: {"reference/index.md": "# Reference"})
        return run(*words)


def write(path: Path, *cells) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=list(cells), metadata={"language_info": {"name": "python"}}), path)


def code(source: str, *outputs) -> nbformat.NotebookNode:
    return new_code_cell(source, outputs=list(outputs), execution_count=1)


def shown(data: dict, **metadata) -> nbformat.NotebookNode:
    return new_output("display_data", data=data, metadata=metadata)


def tiny_course(folder: Path) -> Path:
    title = "# 2 · Tiny\n\n**Key insight.** Small is quick.\n\n**Time.** A minute.\n\n**How to read.** Fast."
    links = "[do](../exercises/02_tiny.ipynb) [up](README.ipynb#When-you-are-stuck) [away](../solutions/02_tiny.ipynb)"
    write(
        folder / "notebooks/02_tiny.ipynb",
        new_markdown_cell(title),
        new_markdown_cell(
            f"## A part of it\n\n{links} [here](#A-part-of-it)\n\n$.95 \\dots \\text{{all}} - 1$ and\n\n$$x$$"
        ),
        code(
            "# NBVAL_IGNORE_OUTPUT\nprint()", *(new_output("stream", name="stdout", text=t) for t in ("one", " line"))
        ),
        code("slider", shown({"text/plain": "Slider()"} | VIEW)),
        code("figure", shown({"text/plain": "Figure", "image/png": PNG}, **{"image/png": {"alt": 'a "rising" line'}})),
        code('ax.set_title("Gold")', shown({"text/plain": "Figure", "image/png": PNG})),
        code("twin", shown(VIEW), shown({"text/html": '<div class="pc-twin">the still copy</div>'})),
    )
    table = "| a | b |\n|---|---|\n| [lesson](02_tiny.ipynb) | [solved](../solutions/02_tiny.ipynb) |"
    about = new_markdown_cell("# The map\n\n[first](02_tiny.ipynb)\n\n## When you are stuck\n\nAsk.")
    write(folder / "notebooks/README.ipynb", about, code("course_map()", shown({"text/markdown": table})))
    answer = (
        '# EXERCISE 2.1: agreement_rate\ndef agreement_rate(labels):\n    """The question?"""\n    return MY_SECRET'
    )
    write(
        folder / "exercises/02_tiny.ipynb",
        new_markdown_cell("# 2 · Practice\n\n[lesson](../notebooks/02_tiny.ipynb)"),
        new_code_cell(answer, id="answer-2-1"),
        code("check(...)", new_output("stream", name="stdout", text="MY_SECRET too")),
    )
    write(folder / "exercises/02_tiny.new.ipynb", new_markdown_cell("# Beside it"))
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    assert run_without_reference("--course", str(tiny_course(folder / "course")), "-o", str(folder / "site")) == 0
    return folder / "site"


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Path:
    """The course itself. A warning of Sphinx would be exit code 1."""
    out = tmp_path_factory.mktemp("real") / "site"
    assert run("--course", str(ROOT), "-o", str(out)) == 0
    return out


@pytest.fixture(params=["tiny", "real"])
def site(request) -> Path:
    return request.getfixturevalue(request.param)


@needs_sphinx
def test_nothing_is_loaded_from_elsewhere(site):
    for path in site.rglob("*.html"):
        assert [
            address for address in Page(path).loads if not address.startswith("data:") and urlsplit(address).netloc
        ] == []
    assert not [
        css.name for css in site.rglob("*.css") if re.search(r"(@import|url\()\s*['\"]?https?:", css.read_text())
    ]


@needs_sphinx
def test_every_notebook_of_the_course_has_a_page_and_the_laboratory_is_no_chapter(real):
    courses = {path.stem for path in (ROOT / "notebooks/source").glob("*.py")} - {"README"}
    assert courses <= {path.stem for path in (real / "notebooks").glob("*.html")}
    assert "The laboratory</a></h2>" not in Page(real / "syllabus.html").text


@needs_sphinx
def test_every_link_leads_somewhere(site):
    found = {path: Page(path) for path in site.rglob("*.html")}
    for path, page in found.items():
        for address in map(urlsplit, page.links + page.loads):
            if address.scheme:
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            assert target.is_file(), f"{path.name}: {address.geturl()}"
            if address.fragment and target.suffix == ".html" and path.name != "search.html":
                assert unquote(address.fragment) in found[target].ids, f"{path.name}: {address.geturl()}"


@needs_sphinx
def test_every_image_has_words(site):
    images = [image for path in site.rglob("*.html") for image in Page(path).images]
    assert images and all(image.get("alt", "").strip() for image in images)


@needs_sphinx
def test_the_search_knows_the_chapter(real):
    index = (real / "searchindex.js").read_text()
    words = json.loads(re.search(r'"terms":(\{.*?\}),"titles"', index)[1])
    headings = json.loads(re.search(r'"titleterms":(\{.*?\})', index)[1])  # a word of a heading stands only there
    names = json.loads(re.search(r'"docnames":(\[.*?\])', index)[1])
    chapter = names.index("notebooks/02_preference_optimization_overview")
    for stem in ("flatteri", "annot", "kappa", "orient"):  # the search stems words
        found = [words.get(stem, []), headings.get(stem, [])]
        assert any(chapter in (place if isinstance(place, list) else [place]) for place in found)


@needs_sphinx
def test_formulas_are_drawn_without_a_network(real):
    """Each of them, without a command that MathJax does not know (it would be red) and without an error on the page."""
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM:
        pytest.skip("no chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page, asked, errors = browser.new_page(), [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        for path in [*real.glob("notebooks/*.html"), *real.glob("exercises/*.html")]:
            page.goto(path.as_uri())
            formulas = page.locator(".math").count()
            if formulas:
                page.evaluate("MathJax.startup.promise")
            assert page.locator("mjx-container").count() == formulas
            assert page.locator("[data-mml-node=merror], [data-mjx-error], mjx-container [fill=red]").count() == 0
    assert errors == [] and {urlsplit(address).scheme for address in asked} <= {"file", "data"}


@needs_sphinx
def test_a_chapter_as_it_is_read(tiny):
    page = Page(tiny / "notebooks/02_tiny.html")
    assert "one line" in page.text and "NBVAL" not in page.text
    assert pages.PLAIN in page.text and "Slider()" not in page.text
    assert "the still copy" in page.text and "model_id" not in page.text
    assert [image["alt"] for image in page.images] == ['a "rising" line', "Figure drawn by the code above, Gold"]
    assert page.images[0]["width"] == "321"
    assert "away" in page.text and "solutions" not in page.text
    assert page.text.count('class="math ') == 2 and r"\(.95 \dots \text{all} - 1\)" in page.text


@needs_sphinx
def test_nobodys_answers_are_in_the_book(tiny):
    assert "MY_SECRET" not in "".join(path.read_text() for path in [*tiny.rglob("*.html"), tiny / "searchindex.js"])
    page = Page(tiny / "exercises/02_tiny.html").text
    assert "The question?" in page and "NotWritten" in page
    assert not (tiny / "exercises/02_tiny.new.html").exists()


@needs_sphinx
def test_the_map_is_the_first_page(tiny):
    page = Page(tiny / "index.html")
    assert "notebooks/02_tiny.html" in page.links and "course_map()" not in page.text
    assert "<table" in page.text and "solved" in page.text and "solutions" not in page.text


@needs_sphinx
def test_a_warning_stops_the_book(tmp_path, capsys):
    write(tmp_path / "notebooks/02_bad.ipynb", new_markdown_cell("# 2 · Bad\n\n![lost](figures/lost.png)"))
    write(tmp_path / "exercises/02_bad.ipynb", new_markdown_cell("# 2 · Bad"))
    out = tmp_path / "site"
    (out / "_static").mkdir(parents=True)
    (out / "_static/book.css").write_text("an earlier book")
    assert run_without_reference("--course", str(tmp_path), "-o", str(out)) == 1
    said = capsys.readouterr().err
    assert "lost.png" in said and "notebooks/02_bad.ipynb" in said and str(tmp_path) not in said
    assert (out / "_static/book.css").read_text() == "an earlier book"


@needs_sphinx
def test_a_folder_that_is_no_book_stays(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert run("--course", str(ROOT), "-o", str(tmp_path)) == 2
    assert run("--course", str(ROOT), "-o", str(tmp_path / "thesis.tex")) == 2
    assert "another place" in capsys.readouterr().err and (tmp_path / "thesis.tex").read_text() == "years of work"
    assert run("--course", str(tmp_path)) == 2


def test_what_is_missing_is_said_with_the_line_that_mends_it(monkeypatch, capsys):
    monkeypatch.setattr(command, "NEEDED", {"no_such_module": "furo"})
    assert run() == 1
    assert "furo" in capsys.readouterr().err.partition("pip install")[0]


def test_the_syllabus_is_what_the_chapters_say(tmp_path):
    course = tiny_course(tmp_path)
    books = {
        f"{room}/02_tiny.ipynb": pages.read(course / room / "02_tiny.ipynb") for room in ("notebooks", "exercises")
    }
    text = syllabus.text(books)
    assert "## [2 · Tiny](notebooks/02_tiny.ipynb)\n\n**Key insight.** Small is quick." in text
    assert "| 2.1 | `agreement_rate` | easy | 10 min | 2 |" in text and "How to read" not in text
    assert "exercise" not in syllabus.text({"notebooks/02_tiny.ipynb": books["notebooks/02_tiny.ipynb"]})


def test_the_reference_keeps_shapes_and_hides_answers():
    text = reference.texts()
    assert 'PerToken = Float[Tensor, "B T"]  # 0 outside the mask' in text["reference/losses.md"]
    assert "{py:function} dpo_loss(policy_chosen: Sums, policy_rejected: Sums" in text["reference/losses.md"]
    assert "This answers exercise 2.3" in text["reference/agreement.md"]
    assert "def cohen_kappa" not in text["reference/agreement.md"]
    assert {"reference/train.md", "reference/worlds.md"} <= set(text) and "reference/cli.md" not in text
