"""A new edition of the course beside a learner's work. Knows files and what was laid before; overwrites no writing.

The folder's `.prefcourse.json` has the digest of every file as it was laid. A file that still has it is the course's
and is updated. Any other is the learner's: it stays, and the new one gets a name beside it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from prefcourse.build.cells import digest
from prefcourse.learner.files import names_beside, write_whole_bytes

MANIFEST = ".prefcourse.json"
ROOMS = ("notebooks", "exercises", "solutions")


def lay(course_source: Path, target: Path) -> dict[str, str]:
    """Copy the three rooms, without the notebooks' scripts. Running a notebook is no change; writing in it is.

    What became of each file: "new", "same", "updated", "yours" (it stays, and nothing is newer than what lies there),
    or the name of what was laid beside yours.
    """
    laid = read_manifest(target)
    told = {}
    for source in sorted(path for room in ROOMS for path in (course_source / room).rglob("*") if path.is_file()):
        name = source.relative_to(course_source)
        if not any(part == "source" or part.startswith(".") for part in name.parts):
            told[name.as_posix()] = lay_one(source, target, name.as_posix(), laid)
    write_whole_bytes(target / MANIFEST, json.dumps({"version": 1, "files": laid}, indent=2).encode())
    return told


def lay_one(source: Path, target: Path, name: str, laid: dict[str, str]) -> str:
    edition = fingerprint(source)
    for place in names_beside(target / name):
        key = place.relative_to(target).as_posix()
        found = fingerprint(place) if place.exists() else None
        if found is None or found in (edition, laid.get(key)):
            break
        if laid.get(key) == edition:
            return "yours"
    laid[key] = edition
    if found == edition:
        return "same" if key == name else "yours"
    write_whole_bytes(place, source.read_bytes())
    return place.name if key != name else "updated" if found else "new"


def fingerprint(path: Path) -> str:
    """Of a notebook what is written in it, without outputs; of any other file its bytes."""
    data = path.read_bytes()
    if path.suffix == ".ipynb":
        try:
            return digest(json.loads(data.decode("utf-8-sig"))["cells"])
        except (ValueError, LookupError, TypeError):  # not a notebook any more: its bytes say whether it changed
            pass
    return hashlib.sha256(data).hexdigest()[:16]


def read_manifest(target: Path) -> dict[str, str]:
    """Empty where there is none or it is damaged: then every file counts as the learner's."""
    try:
        return dict(json.loads((target / MANIFEST).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, LookupError, TypeError):
        return {}
