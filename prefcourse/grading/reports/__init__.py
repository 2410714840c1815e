"""Reports of a batch, one small writer for each format. Knows results and layouts; grades nothing, judges nothing.

What goes to learners shows pass or fail and authored sentences: a `Result` holds neither sources nor expected values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from prefcourse.grading.reports import pages, platforms, tables
from prefcourse.grading.result import Result


class Format(NamedTuple):
    meaning: str
    write: Callable[[Sequence[Result], Path, dict], None]  # (results, folder, what the batch is)


FORMATS = {
    "csv": Format("results.csv: a row for each submission, for spreadsheets and gradebooks", tables.csv_table),
    "json": Format("results.json: everything; what `merge` reads (always written)", tables.json_results),
    "junit": Format("junit.xml: a test case for each exercise", tables.junit),
    "html": Format("feedback/: a page for each submission; overview.html: the class", pages.write),
    "gradescope": Format("gradescope/: results.json", platforms.gradescope),
    "github": Format("github/: result.json for Classroom's reporter, and summary.md", platforms.github),
    "prairielearn": Format("prairielearn/: results.json", platforms.prairielearn),
    "coursera": Format("coursera/: feedback.json", platforms.coursera),
}
DEFAULT = ("csv", "json", "junit", "html")


def write(results: Sequence[Result], folder: Path, batch: dict, formats: Iterable[str] = DEFAULT) -> None:
    for name in dict.fromkeys(["json", *formats]):
        FORMATS[name].write(results, folder, batch)


def announce(folder: Path, formats: Iterable[str]) -> None:
    """Before any work: what a platform is to show should grading never come to its end."""
    if "gradescope" in formats:
        platforms.gradescope_skeleton(folder)
