"""From the course's folder to the pages of the book, as files for Sphinx. Knows notebooks, cells and links."""

from __future__ import annotations

import base64
import os
import re
import shutil
from pathlib import Path, PurePosixPath

import nbformat
from nbformat import NotebookNode

from prefcourse.build.book import reference, syllabus
from prefcourse.build.cells import SourceError, code_cells, role, stub
from prefcourse.checks.exercise import exercise
from prefcourse.learner.course import OURS
from prefcourse.widgets.saved import VIEW, give_alt_texts, keep_twins

MAP = "notebooks/README.ipynb"  # becomes the first page
TOOLS = ("notebooks/glossary.ipynb", "notebooks/laboratory.ipynb")  # no chapters: they teach nothing of their own
LINK = re.compile(r"(?<!`)(?P<image>!?)\[(?P<words>[^\]\n]*)\]\((?P<path>[^)\s:]*\.\w+)(?P<place>#[^)\s]*)?\)")
REFERENCE = "reference/index.md"
FIGURES = "notebooks/figures"
TITLE = re.compile(r"""set_title\(\s*["']([^"']+)""")
MARKS = re.compile(r"^\s*# NBVAL_\w+\n|\s*# fmt: skip$", re.MULTILINE)  # for tools, not for readers
READING = (
    "*You are reading a copy whose cells have been run. Nothing runs here; `prefcourse start` opens the course itself. "
    "The [syllabus](syllabus.md) says what each chapter is about, the [reference](reference/index.md) what each "
    "function of the package does.*"
)
PLAIN = "Interactive: it moves in the notebook, and has no still copy to show here."


def anchor(heading: str) -> str:
    """The address of a heading within its page, as JupyterLab makes it."""
    return heading.strip().replace(" ", "-")


def write(course: Path, source: Path, *, exercises: bool = True) -> None:
    """All pages, and the figures that they show."""
    rooms = ["notebooks", *(["exercises"] if exercises else [])]
    books = {f"{room}/{path.name}": read(path) for room in rooms for path in of_room(course, room)}
    texts = {"syllabus.md": syllabus.text(books), **reference.texts()}
    books |= {name: read(course / name) for name in TOOLS if (course / name).exists()}
    cells = {name: lesson(book) if name.startswith("notebooks") else questions(book) for name, book in books.items()}
    first = lesson(read(course / MAP) if (course / MAP).exists() else nbformat.v4.new_notebook())
    for name, book in {MAP: first, **cells}.items():
        relink(book, name, {MAP, *cells, *texts})
    cells["index.ipynb"] = opening(first, list(books))
    texts |= {name: nbformat.writes(book) for name, book in cells.items()}
    for name, text in texts.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text, encoding="utf-8")
    if (course / FIGURES).is_dir():
        shutil.copytree(course / FIGURES, source / FIGURES)


def of_room(course: Path, room: str) -> list[Path]:
    return [path for path in sorted((course / room).glob("*.ipynb")) if OURS.fullmatch(path.name)]


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def opening(book: NotebookNode, names: list[str]) -> NotebookNode:
    """The map, with how to read, and the table of contents that the side of each page shows."""
    if not book.cells:
        book.cells = [nbformat.v4.new_markdown_cell("# prefcourse")]
    for cell in code_cells(book):
        cell.metadata["tags"] = ["remove-input"]  # what it draws is the map; how it is drawn is of no interest here
    book.cells.insert(1, nbformat.v4.new_markdown_cell(READING))
    tools = [name for name in names if name in TOOLS]
    practice = [name for name in names if name.startswith("exercises")]
    lessons = [name for name in names if name not in (*tools, *practice)]
    parts = {"The course": ["syllabus.md", *tools], "Chapters": lessons, "Exercises": practice, "Package": [REFERENCE]}
    trees = [contents(title, pages) for title, pages in parts.items() if pages]
    book.cells.append(nbformat.v4.new_markdown_cell("\n\n".join(trees)))
    return book


def contents(title: str, names: list[str]) -> str:
    return "\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *names, "```"])


def lesson(book: NotebookNode) -> NotebookNode:
    """A notebook as it was run. A live widget gives way to its still copy, and a figure has an alternative text."""
    keep_twins(book)
    for cell in code_cells(book):
        cell.outputs = [still(output, cell.source) for output in joined(cell.outputs)]
        cell.source = MARKS.sub("", cell.source)
    return give_alt_texts(book)


def joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """What a cell printed, in one piece where it was recorded in several."""
    whole = []
    for output in outputs:
        before = whole[-1] if whole else NotebookNode()
        if output.output_type == "stream" and before.get("name") == output.name:
            before.text += output.text
        else:
            whole.append(output)
    return whole


def still(output: NotebookNode, code: str) -> NotebookNode:
    """An output that needs no kernel and can be heard as well as seen."""
    data = output.get("data", {})
    if data.pop(VIEW, None) and not data.keys() - {"text/plain"}:
        data["text/html"] = f'<p class="pc-plain">{PLAIN}</p>'
    if "image/png" in data:
        about = output.metadata.setdefault("image/png", NotebookNode())
        about.setdefault("alt", ", ".join(["Figure drawn by the code above", *TITLE.findall(code)]))
        about.setdefault("width", int.from_bytes(base64.b64decode(data["image/png"][:64])[16:20]))  # PNG's header
    return output


def questions(book: NotebookNode) -> NotebookNode:
    """An exercise notebook without what a learner, or a solution, wrote into it: text, hints, signatures."""
    kept = []
    for cell in book.cells:
        kind, number = role(cell)
        if cell.cell_type == "markdown":
            kept.append(cell)
        elif kind == "answer" and (empty := empty_answer(cell.source, number)):
            kept.append(nbformat.v4.new_code_cell(empty))
    book.cells = kept
    return book


def empty_answer(source: str, number: str) -> str:
    try:
        return stub(source, number, exercise(number).function)
    except (KeyError, SourceError, SyntaxError):  # not an exercise of ours, or not written to the end
        return ""


def relink(book: NotebookNode, page: str, known: set[str]) -> None:
    """Links to other pages, for where the map is in the book; of a link that leaves the book the words stay."""

    def link(found: re.Match) -> str:
        target = normal(PurePosixPath(page).parent / found["path"])
        if target not in known and not target.startswith(FIGURES):
            return found[0] if found["image"] else found["words"]  # Sphinx will miss the image, and say so
        place = relative(in_book(target), in_book(page)) + (found["place"] or "")
        return f"{found['image']}[{found['words']}]({place})"

    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = LINK.sub(link, cell.source)
        for output in cell.get("outputs", []):
            if "text/markdown" in output.get("data", {}):
                output.data["text/markdown"] = LINK.sub(link, output.data["text/markdown"])


def in_book(page: str) -> str:
    return "index.ipynb" if page == MAP else page


def normal(path: PurePosixPath) -> str:
    return os.path.normpath(path).replace(os.sep, "/")


def relative(target: str, page: str) -> str:
    return os.path.relpath(target, PurePosixPath(page).parent).replace(os.sep, "/")
