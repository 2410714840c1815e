"""The terms of the course, each with its meaning and its chapter, read from one file. Knows words; computes nothing."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("glossary.toml")
PLACE = "# {{glossary}}\n"  # in a script, where the terms belong


class Term(NamedTuple):
    name: str
    meaning: str
    chapter: int
    also: str = ""
    package: str = ""
    found: tuple[str, ...] = ()

    @property
    def pattern(self) -> re.Pattern:
        """How a text is searched for it. Where no pattern is given: the term, and its plural."""
        return re.compile("|".join(self.found or [rf"\b{re.escape(self.name)}s?\b"]), re.IGNORECASE)

    @property
    def letter(self) -> str:
        return self.name[0].upper()


@cache
def everything() -> dict[str, Term]:
    rows = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return {name: Term(name, **row) for name, row in sorted(rows.items(), key=lambda item: item[0].lower())}


def with_terms(script: str, lessons: Mapping[int, str]) -> str:
    """The script, with a cell for every letter in the place that it keeps for them."""
    return script.replace(PLACE, as_cells(lessons)) if PLACE in script else script


def as_cells(lessons: Mapping[int, str]) -> str:
    """Text cells of a script: all terms of those chapters, which are given with the names of their notebooks."""
    known = [term for term in everything().values() if term.chapter in lessons]
    cells = []
    for letter, terms in groupby(known, key=lambda term: term.letter):
        text = "\n\n".join([f"## {letter}", *(entry(term, lessons[term.chapter]) for term in terms)])
        commented = "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())
        cells.append(f"# %% [markdown] letter-{letter.lower()}\n{commented}")
    return "\n".join(cells)


def entry(term: Term, notebook: str) -> str:
    about = [f"[Chapter {term.chapter}]({notebook})"]
    about += [f"elsewhere: {term.also}"] if term.also else []
    about += [f"here: `{term.package.replace(':', '.')}`"] if term.package else []
    return f"### {term.name}\n\n{term.meaning}\n\n{'; '.join(about)}."
