"""A sitting of one annotator: which pairs are shown, on which side, what was said, and the file that remembers it.

Knows texts and labels; knows nothing of models, widgets or what the answers are worth. "A" is the answer on the left.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from prefcourse.annotators import Vote
from prefcourse.folders import data as home

LABELS = ("A", "B", "tie")
APART = 5  # other pairs between a pair and its repetition, where there are as many
ME = "you"
NOT_A_LEARNER = ("CI", "PYTEST_CURRENT_TEST", "PYTEST_VERSION", "PREFCOURSE_SEED")  # a build, a test, a grader


class Showing(NamedTuple):
    """One pair on the screen. `item` is its row among the texts; `swapped`: its first response stands on the right."""

    item: int
    prompt: str
    left: str
    right: str
    swapped: bool
    repeated: bool = False


class Choice(NamedTuple):
    label: str  # "A", "B" or "tie"
    seconds: float | None = None


def plan(texts: Sequence[tuple[str, str, str]], *, count: int, repeats: int, seed: int) -> list[Showing]:
    """`count` showings of the first pairs, `repeats` of them a second time with the sides turned."""
    fresh = count - repeats
    if not 1 <= fresh <= len(texts) or not 0 <= repeats <= fresh:
        found = f"count={count}, repeats={repeats} and {len(texts)} pairs"
        raise ValueError(f"found {found}; expected at least count - repeats pairs, and no more repeats than those")
    generator = np.random.default_rng(seed)
    swapped = generator.random(fresh) < 0.5
    order = list(range(fresh))
    for item in sorted(generator.permutation(max(repeats, fresh - APART))[:repeats].tolist()):
        earliest = order.index(item) + 1 + APART  # in order of the items, so none is moved nearer by a later one
        order.insert(int(generator.integers(min(earliest, len(order)), len(order) + 1)), item)
    seen: set[int] = set()
    showings = []
    for item in order:
        turned = bool(swapped[item]) != (item in seen)
        prompt, first, second = texts[item]
        left, right = (second, first) if turned else (first, second)
        showings.append(Showing(item, prompt, left, right, turned, item in seen))
        seen.add(item)
    return showings


@dataclass
class Sitting:
    """The showings of one sitting and what was said so far. Every label is on the disk before the next pair."""

    showings: list[Showing]
    path: Path | None = None
    choices: list[Choice] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.path and self.path.exists():
            self.choices = read(self.path, self.showings)

    @property
    def done(self) -> bool:
        return len(self.choices) == len(self.showings)

    @property
    def current(self) -> Showing | None:
        return None if self.done else self.showings[len(self.choices)]

    def label(self, label: str, seconds: float | None = None) -> None:
        label = {"a": "A", "b": "B", "1": "A", "2": "B", "0": "tie"}.get(str(label).lower(), label)
        if label not in LABELS:
            raise ValueError(f'found {label!r}; expected "A" (the left answer), "B" (the right one) or "tie"')
        if self.done:
            raise ValueError(f"all {len(self.showings)} pairs have their label; undo() takes the last one back")
        self.choices.append(Choice(label, seconds))
        self.save()

    def undo(self) -> None:
        if self.choices:
            self.choices.pop()
            self.save()

    def save(self) -> None:
        if self.path:
            shown = zip(self.showings, self.choices, strict=False)
            write(self.path, [showing._asdict() | choice._asdict() for showing, choice in shown])

    def median_seconds(self) -> float | None:
        known = [choice.seconds for choice in self.choices if choice.seconds is not None]
        return statistics.median(known) if known else None

    def said(self) -> list[tuple[Showing, str]]:
        return [(showing, choice.label) for showing, choice in zip(self.showings, self.choices, strict=False)]

    def votes(self) -> list[Vote]:
        """Every label in the canonical orientation: "first" is the item's first response, wherever it stood."""
        return [Vote(s.item, ME, canonical(label, s.swapped), not s.swapped) for s, label in self.said()]

    def pairs(self) -> list[dict]:
        """Rows to train on: prompt, chosen, rejected. Ties choose nothing and are left out."""
        rows = []
        for showing, label in self.said():
            sides = (showing.left, showing.right) if label == "A" else (showing.right, showing.left)
            if label != "tie":
                rows.append(dict(zip(("prompt", "chosen", "rejected"), (showing.prompt, *sides), strict=True)))
        return rows


def canonical(label: str, swapped: bool) -> str:
    if label == "tie":
        return "tie"
    return "first" if (label == "A") != swapped else "second"


# --- the file -----------------------------------------------------------------------------------------------


def usual_path(showings: Sequence[Showing]) -> Path | None:
    """A file for exactly these showings: other pairs are another sitting. None in a build or a test, which must not
    depend on what was labelled before, nor write among a learner's labels."""
    if any(os.environ.get(name) for name in NOT_A_LEARNER):
        return None
    digest = hashlib.sha256(json.dumps(showings).encode()).hexdigest()[:8]
    return home() / "labels" / f"{len(showings)}-pairs-{digest}.jsonl"


def read(path: Path, showings: Sequence[Showing]) -> list[Choice]:
    """The labels of an earlier sitting with the same showings. ValueError for a file that is of something else."""
    way = f"Give another path=, or move {path} away to begin again"
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        pairs = [Showing(*(row[name] for name in Showing._fields)) for row in rows]
        choices = [Choice(row["label"], row["seconds"]) for row in rows]
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{path.name} is not a file of labels ({type(error).__name__}). {way}") from None
    if pairs != list(showings[: len(pairs)]) or any(choice.label not in LABELS for choice in choices):
        raise ValueError(f"{path.name} holds labels for other pairs than these. {way}")
    return choices


def write(path: Path, rows: Sequence[dict]) -> None:
    """One JSON line per label; written aside and renamed, so that a crash finds the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
