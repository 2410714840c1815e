"""Numbers quoted from papers, each with its source, read from one file. Knows words; computes nothing."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("published.toml")
QUOTE = re.compile(r"\{\{published:([a-z0-9-]+)\}\}")


class Published(NamedTuple):
    value: str
    arxiv: str  # "" for what is not there
    place: str
    quoted: str
    checked: str
    paper: str = ""
    number: float | None = None  # for figures

    def __str__(self) -> str:
        return f"{self.value} ({self.arxiv or self.paper})"


@cache
def everything() -> dict[str, Published]:
    return {name: Published(**row) for name, row in tomllib.loads(FILE.read_text(encoding="utf-8")).items()}


def published(name: str) -> Published:
    """A number and where it stands; KeyError that names the file to put it in."""
    if name not in everything():
        raise KeyError(f"no published number {name!r}; add it, with its source, to {FILE.name}")
    return everything()[name]


def with_numbers(text: str) -> str:
    """The text, its {{published:NAME}} replaced by value and source."""
    return QUOTE.sub(lambda found: str(published(found[1])), text)
