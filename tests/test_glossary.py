"""Each term of the glossary is in the chapter that is said to introduce it, and in no earlier one unexplained."""

from __future__ import annotations

import functools
import importlib
import operator
import re

import lessons
import pytest

from prefcourse import glossary
from prefcourse.build.script import notebooks

TERMS = glossary.everything()
CHAPTERS = sorted(int(path.stem[:2]) for path in lessons.SOURCES.glob("[0-9][0-9]_*.py"))
PRESENT = [name for name, term in TERMS.items() if term.chapter in CHAPTERS]
SENTENCE = re.compile(r"\n\s*\n|\n(?=- |\d\. |\|)|(?<=[.?!:)*])\s+(?=[A-Z*`\"(])")
POINTER = re.compile(r"\bchapters? (\d+)(?:(?:, | and )(\d+))*|\(chapters? [^)]*\)")
PAPER = re.compile(r"\b\d{4}\.\d{5}\b")
LIST_OF_PAPERS = ("further",)


@functools.cache
def sentences(chapter: int, *, practice: bool = False) -> list[str]:
    """Of the text, formulas included, code left out."""
    some = [cell for cell in lessons.cells(chapter, practice=practice) if cell.cell_type == "markdown"]
    texts = [cell.source for cell in some if cell.id not in LIST_OF_PAPERS]
    return [" ".join(sentence.split()) for text in texts for sentence in SENTENCE.split(text)]


def points_ahead(sentence: str, chapter: int) -> bool:
    """Says in which later chapter the matter is taken up."""
    numbers = [int(n) for found in POINTER.finditer(sentence) for n in re.findall(r"\d+", found[0])]
    return any(number > chapter for number in numbers)


def says_where(sentence: str, chapter: int, term: glossary.Term) -> bool:
    """A later chapter; or, while the chapter that introduces the term is not written, a paper."""
    return points_ahead(sentence, chapter) or (term.chapter not in CHAPTERS and bool(PAPER.search(sentence)))


TEXTS = {chapter: sentences(chapter) for chapter in CHAPTERS}


def too_early(term: glossary.Term) -> dict[int, str]:
    """Chapter -> the first sentence there that uses a term which is introduced later, and does not say where."""
    found = {}
    for chapter in (number for number in CHAPTERS if number < term.chapter):
        using = (s for s in TEXTS[chapter] if term.pattern.search(s) and not says_where(s, chapter, term))
        if first := next(using, ""):
            found[chapter] = first
    return found


@pytest.mark.parametrize("name", PRESENT)
def test_a_term_is_in_the_chapter_that_introduces_it(name):
    chapter = TERMS[name].chapter
    assert any(TERMS[name].pattern.search(s) for s in TEXTS[chapter] + sentences(chapter, practice=True))


@pytest.mark.parametrize("name", TERMS)
def test_no_earlier_lesson_uses_it_without_saying_where_it_is_explained(name):
    assert not too_early(TERMS[name])


@pytest.mark.parametrize("name", TERMS)
def test_an_entry_is_short_and_what_it_names_is_there(name):
    term = TERMS[name]
    assert 1 <= term.chapter <= 24 and term.meaning.endswith((".", ")"))
    assert len(term.meaning) < 420 and term.meaning.count("$") % 2 == 0
    if term.package:
        module, _, path = term.package.partition(":")
        assert operator.attrgetter(path)(importlib.import_module(module)).__doc__


def test_the_page_has_every_term_of_these_chapters_in_order():
    (book,) = notebooks(lessons.SOURCES / "glossary.py").values()
    text = "\n".join(cell.source for cell in book.cells)
    assert re.findall(r"^### (.+)$", text, re.MULTILINE) == PRESENT
    assert glossary.PLACE.strip("# \n") not in text
    for chapter in CHAPTERS:
        assert f"[Chapter {chapter}]({lessons.script(chapter).stem}.ipynb)" in text


def test_terms_of_chapters_that_are_not_there_are_left_out():
    text = glossary.with_terms(f"before\n{glossary.PLACE}after", {9: "09_ppo_theory.ipynb"})
    assert "# ### clip\n" in text and "# ### gold\n" not in text and text.startswith("before\n# %% [markdown] letter-")
