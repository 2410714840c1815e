"""Trained artefacts kept between runs, and folders that appear whole or not at all. Knows files, checksums and
renames; knows nothing of models. An entry is found by what made it: kind, settings and the code's own version.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from prefcourse.folders import cache as home

SEAL = "done.json"  # written last: a folder without it is unfinished
PARTIAL = ".partial"
HARMLESS = set(  # rooms that cannot change what is trained
    "agreement agreement_report bench build checks claims cli exercises experiments folders grading learner plots "
    "progress published report widgets".split()
)


@functools.cache
def code_version() -> str:
    """Changes with any source file that can change a number, and with the libraries that compute it."""
    root, digest = Path(__file__).parent, hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        name = file.relative_to(root)
        if name.parts[0].removesuffix(".py") not in HARMLESS:
            digest.update(f"{name.as_posix()}\0".encode() + file.read_bytes())
    digest.update(" ".join(version(package) for package in ("torch", "transformers", "numpy")).encode())
    return digest.hexdigest()[:16]


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to fill. At the end it gets its name in one step; after an error or Ctrl-C it was never there."""
    partial = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}{PARTIAL}")
    partial.mkdir(parents=True)
    try:
        yield partial
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def seal(folder: Path, record: dict) -> None:
    """Declare a folder finished: what made it, and a checksum of every file."""
    (folder / SEAL).write_text(json.dumps(record | {"files": _checksums(folder)}, indent=2))


def read_seal(folder: Path) -> dict | None:
    """What `seal` recorded; None where a file is missing, changed or cut off, or the folder was never finished."""
    try:
        record = json.loads((folder / SEAL).read_text())
        return record if record.pop("files") == _checksums(folder) else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _checksums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SEAL)
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def place(kind: str, settings: dict) -> tuple[Path, dict]:
    """The folder of an entry and the record that it must carry."""
    record = {"kind": kind, "settings": settings, "code": code_version()}
    key = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    return home() / f"{kind}-{key[:24]}", json.loads(json.dumps(record))


def load(kind: str, settings: dict, into: Path) -> bool:
    """Copy an entry's files into a folder; False where there is none. A broken entry is discarded, with a warning."""
    entry, record = place(kind, settings)
    if not entry.exists():
        return False
    if read_seal(entry) != record:
        warnings.warn(f"the cached {kind} in {entry} is damaged: discarded, it is made again", stacklevel=2)
        shutil.rmtree(entry, ignore_errors=True)
        return False
    shutil.copytree(entry, into, dirs_exist_ok=True, ignore=shutil.ignore_patterns(SEAL))
    return True


def store(kind: str, settings: dict, folder: Path) -> None:
    """Keep a copy of a folder's files. A full or read-only disk is reported and does no harm: this is only a cache."""
    entry, record = place(kind, settings)
    try:
        with new_folder(entry) as partial:
            shutil.copytree(folder, partial, dirs_exist_ok=True)
            seal(partial, record)
    except OSError as error:
        if not entry.exists():  # else somebody else stored the same meanwhile
            warnings.warn(f"could not keep the {kind} in the cache ({error}); the run goes on", stacklevel=2)


def entries() -> list[Path]:
    """Everything of ours in the cache folder, unfinished leftovers included, and nothing else."""
    inside = sorted(home().iterdir()) if home().is_dir() else []
    return [p for p in inside if p.is_dir() and ((p / SEAL).is_file() or p.name.endswith(PARTIAL))]


def clear() -> int:
    """Delete all entries; how many there were."""
    found = entries()
    for entry in found:
        shutil.rmtree(entry)
    return len(found)
