"""What a look at this machine found, and the one line that mends it. Knows words, looks at nothing but folders."""

from __future__ import annotations

import tempfile
from enum import Enum
from pathlib import Path
from typing import NamedTuple


class Sign(Enum):
    """Only NO means that something is broken."""

    YES = "✓"
    MISSING = "–"  # can be had, need not be
    NO = "✗"


class Finding(NamedTuple):
    sign: Sign
    what: str
    words: str
    mend: str = ""  # one line that mends it


def needed(good: bool, what: str, words: str, mend: str = "") -> Finding:
    return Finding(Sign.YES if good else Sign.NO, what, words, "" if good else mend)


def wanted(good: bool, what: str, words: str, mend: str = "") -> Finding:
    return Finding(Sign.YES if good else Sign.MISSING, what, words, "" if good else mend)


def writable(what: str, folder: Path, mend: str = "work in a folder of your own") -> Finding:
    """Tried, not guessed, in the folder or in the nearest one above that exists."""
    place = next(path for path in [folder, *folder.parents] if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            return needed(True, what, f"writable: {folder}")
    except OSError as error:
        return needed(False, what, f"{folder}: {error.strerror}", mend)
