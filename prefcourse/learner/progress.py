"""What a learner has solved, in one readable JSON file of their own. Knows dates and counts; judges nothing.

The file outlives upgrades: fields that this version does not know are kept as they are.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from filelock import FileLock

from prefcourse.folders import data as home
from prefcourse.learner.files import keep_copy, write_whole

VERSION = 1


def path() -> Path:
    return home() / "progress.json"


def load() -> dict[str, dict]:
    """By exercise: "attempts", "hints" (how many were read), and the dates "solved", "revealed" where it happened;
    "solved before" where a reset put the answer back."""
    return _read()["exercises"]


def update(number: str, change: Callable[[dict], None]) -> dict:
    """Change one exercise's record and give it back. Kernels that do so at the same time lose nothing."""
    home().mkdir(parents=True, exist_ok=True)
    with FileLock(home() / "progress.lock", timeout=10):
        everything = _read()
        record = everything["exercises"].setdefault(number, {})
        change(record)
        write_whole(path(), json.dumps(everything, indent=2, ensure_ascii=False) + "\n")
    return record


def record_verdict(number: str, passed: bool) -> None:
    def change(record: dict) -> None:
        record["attempts"] = record.get("attempts", 0) + 1
        if passed:
            record.setdefault("solved", now())

    update(number, change)


def unsolve(number: str) -> bool:
    """After a reset: the date is kept under another name. False if it was not solved."""
    if "solved" not in load().get(number, {}):
        return False
    update(number, lambda record: record.update({"solved before": record.pop("solved", now())}))
    return True


def now() -> str:
    return datetime.now().isoformat(timespec="seconds")


def _read() -> dict:
    empty = {"version": VERSION, "exercises": {}}
    try:
        found = json.loads(path().read_text(encoding="utf-8"))
        records = found["exercises"].values()
        if not all(isinstance(record, dict) for record in records):
            raise TypeError("a record that is not a mapping")
    except FileNotFoundError:
        return empty
    except (ValueError, LookupError, TypeError, AttributeError):
        copy = keep_copy(path(), "damaged")
        path().unlink()
        warnings.warn(f"{path()} is damaged; it is kept as {copy.name}, and progress starts again", stacklevel=3)
        return empty
    return found
