"""Votes (item, annotator, label) from real files and sets, in one orientation, with the traps met on the way.

The same comparison is listed as (A, B) and as (B, A): unless both become one item, agreement comes out wrong.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from prefcourse.annotators import LABELS, Vote
from prefcourse.data import schema, sources
from prefcourse.data.schema import DataError, is_empty

USUAL = {  # names under which a column is looked for when none is given
    "item": "item item_id pair_id comparison_id instance_index question_id example_id prompt_id idx id",
    "annotator": "annotator annotator_id judge worker worker_id rater rater_id evaluator annotator_index",
    "label": "label winner preference choice vote value",
}
NOUNS = "model response completion output answer assistant option system text summary".split()
PAIRS = [(f"{noun}{a}", f"{noun}{b}") for noun in NOUNS for a, b in (("_a", "_b"), ("_1", "_2"), ("1", "2"))]
TIES = ("tie", "equal", "same", "similar", "draw", "both")
CROWD = 200  # more people than that on an item: most likely the wrong column was taken for the item
_SIDE = re.compile(rf"(?:(?:{'|'.join(NOUNS)})[ _-]?)?([ab])(?:-is-(?:slightly-|clearly-)?better)?")


class VoteSet(NamedTuple):
    """Votes in canonical orientation, repeats included, and how many rows were left out for which reason."""

    votes: list[Vote]
    dropped: dict[str, int] = {}

    @property
    def traps(self) -> dict[str, int]:
        """What makes agreement come out wrong when it is overlooked, counted. Zero counts are left out."""
        said, orders, people = defaultdict(list), defaultdict(set), defaultdict(set)
        for vote in self.votes:
            said[vote.item, vote.annotator].append(vote.label)
            orders[vote.item].add(vote.shown_first)
            people[vote.item].add(vote.annotator)
        counts = {
            "items listed in both orientations": sum(len(seen) > 1 for seen in orders.values()),
            "votes turned to the item's orientation": sum(vote.shown_first is False for vote in self.votes),
            "double votes (same person, same item)": len(self.votes) - len(said),
            "double votes that contradict each other": sum(len(set(labels)) > 1 for labels in said.values()),
            "ties": sum(vote.label == "tie" for vote in self.votes),
            "items with one annotator only": sum(len(who) == 1 for who in people.values()),
            f"items with over {CROWD} people (wrong column?)": sum(len(w) > CROWD for w in people.values()),
        }
        return {name: count for name, count in counts.items() if count}


# --- any table with item, annotator and label columns -----------------------------------------------------


def pick_columns(where: object, found: list[str], **given: str | None) -> dict[str, list[str]]:
    """Columns of item (one, or several: "a,b"), annotator, label: those given, else those of usual name."""
    named = {role: name.split(",") for role, name in given.items() if name}
    schema.need_columns(where, found, [name for names in named.values() for name in names])
    guessed = {role: [name for name in usual.split() if name in found][:1] for role, usual in USUAL.items()}
    picked = {**guessed, **named}
    missing = [role for role, names in picked.items() if not names]
    if missing:
        facts = f"no column for {', '.join(missing)}. Found: {', '.join(map(str, found))}"
        options = " ".join(f"--{role} COLUMN" for role in missing)
        once = "A set with one unsigned label per pair, such as HH-RLHF, cannot say how far people agree"
        raise DataError(f"{where}: {facts}. Name it with {options}. {once}.")
    return picked


def side_of(label: object, pair: tuple | None = None) -> object:
    """The side that a label means, however written: model_a, A, a-is-better, the model's own name."""
    word = str(label).strip().lower()
    if pair and label in pair:
        return LABELS[pair.index(label)]
    if side := _SIDE.fullmatch(word):
        return "first" if side[1] == "a" else "second"
    return "tie" if word in TIES else word if word in LABELS else label


def table_votes(rows: Sequence[dict], columns: dict[str, list[str]]) -> Iterator[tuple[int, dict]]:
    """Where columns name the pair (model_a, model_b), a label points into it; elsewhere it is a category."""
    items, (annotator, *_), (label, *_) = columns["item"], columns["annotator"], columns["label"]
    free = set(schema.columns_of(rows)) - set(items)
    pair_names = next((names for names in PAIRS if free.issuperset(names)), None)
    sides = {str(row.get(label)): side_of(row.get(label)) for row in rows if not is_empty(row.get(label))}
    sided = set(map(str, sides.values())) <= set(LABELS)
    for number, row in enumerate(rows, 1):
        said, parts = row.get(label), [row.get(name) for name in items]
        pair = tuple(map(row.get, pair_names)) if pair_names else None
        side = side_of(said, pair) if pair else sides.get(str(said))
        meant = side if pair or sided or side == "tie" else said
        whole = None if any(map(is_empty, parts)) else " | ".join(map(str, parts))
        item = whole if len(parts) > 1 else parts[0]
        yield number, sources.vote(meant, item, row.get(annotator), pair=pair)


# --- rows -> votes ----------------------------------------------------------------------------------------


def vote_fault(row: dict, oriented: bool) -> str | None:
    """Why a row is not a vote. `oriented`: a label must say which side, so that any other label is unknown."""
    for name in ("item", "annotator", "label"):
        if is_empty(row[name]):
            return f"missing {name}"
        if isinstance(row[name], list | dict):
            return f"{name} is not a single value"
    if oriented and row["label"] not in LABELS:
        return f"unknown label {str(row['label'])[:40]!r} (expected a side such as model_a, or tie)"
    return None


def canonical(row: dict) -> Vote:
    """The vote on the pair in the item's order, as `sources.vote` has turned it."""
    shown_first = None if row["swapped"] is None else not row["swapped"]
    return Vote(str(row["item"]), str(row["annotator"]), str(row["label"]), shown_first)  # 1 and "1" are one item


def known_set(rows: Iterable[dict]) -> str | None:
    """Which set with votes these rows come from, told by their columns."""
    found = set(schema.columns_of(rows))
    sets = ((name, source) for name, source in sources.SOURCES.items() if source.votes)
    return next((name for name, source in sets if found.issuperset(source.columns.split())), None)


def votes_from_rows(rows: Sequence[dict], *, where: object = "rows", strict=False, **columns) -> VoteSet:
    """Votes of a known set, or of any table; `item`, `annotator`, `label` name its columns.

    A row that is not a vote is counted by its reason; `strict=True` raises DataError naming the row, from 1.
    """
    known = None if any(columns.values()) else known_set(rows)
    if known:
        numbered = sources.converted_rows(rows, sources.SOURCES[known])
    else:
        numbered = table_votes(rows, pick_columns(where, schema.columns_of(rows), **columns))
    votes, dropped = [], Counter()
    for number, row in numbered:
        fault = row if isinstance(row, str) else vote_fault(row, bool(known) or row["swapped"] is not None)
        if fault and strict:
            raise DataError(f"{where}: row {number}: {fault}")
        if fault:
            dropped[fault] += 1
        else:
            votes.append(canonical(row))
    if not votes:
        raise DataError(f"{where}: no usable vote. Left out: {schema.in_words(dropped)}")
    return VoteSet(votes, dict(dropped))


# --- files, hub, filters ----------------------------------------------------------------------------------


def vote_rows(name: str | Path, split: str | None = None) -> list[dict]:
    """Rows of a file, of a folder that holds a known set, or of a set on the hub (by name or id)."""
    path = Path(name)
    if not path.exists() and not schema.data_format(path):
        source = sources.find_source(str(name))
        if source in sources.SOURCES.values() and not source.votes:
            signed = ", ".join(known for known, other in sources.SOURCES.items() if other.votes)
            raise DataError(
                f"{name}: its pairs do not each have several labels by named people; these sets do: {signed}"
            )
        return list(sources.source_rows(source, split=split))
    if not path.is_dir():
        return schema.read_rows(path)
    for known, source in sources.SOURCES.items():
        files = sources.local_files(path, source, split or source.splits.split()[0]) if source.votes else []
        rows = [row for file in files for row in schema.read_rows(file)]
        if known_set(rows) == known:
            return rows
    files = [str(file.relative_to(path)) for file in sorted(path.rglob("*")) if schema.data_format(file)]
    some = ", ".join(files[:8]) or "it has none"
    raise DataError(f"{path}: not a folder of a known set. Give one file of it: {some}")


def where_rows(rows: Sequence[dict], conditions: Iterable[str], where: object = "rows") -> list[dict]:
    """Rows that meet all conditions: "turn=1", "judge!=author_0", "judge^=expert" (begins with)."""
    for condition in conditions:
        parts = re.fullmatch(r"([^=!^]+)(\^=|!=|=)(.*)", condition)
        if parts is None:
            raise DataError(f"condition {condition!r}; expected COLUMN=VALUE, COLUMN!=VALUE or COLUMN^=START")
        column, operator, value = parts.groups()
        schema.need_columns(where, schema.columns_of(rows), [column])
        meets = {"=": str.__eq__, "!=": str.__ne__, "^=": str.startswith}[operator]
        seen = list(dict.fromkeys(str(row.get(column)) for row in rows))
        rows = [row for row in rows if meets(str(row.get(column)), value)]
        if not rows:
            seen = seen[:6] + ["..."] * (len(seen) > 6)
            raise DataError(f"{where}: no row has {condition}; {column} is {', '.join(seen)}")
    return list(rows)


def read_votes(name: str | Path, *, where: Iterable[str] = (), split: str | None = None, **settings) -> VoteSet:
    """Votes of a file, folder or hub set: the rows that meet `where`; settings as in votes_from_rows."""
    return votes_from_rows(where_rows(vote_rows(name, split), where, name), where=name, **settings)
