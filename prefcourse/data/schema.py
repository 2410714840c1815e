"""Preference pairs in one shape: prompt, chosen, rejected (+ item, annotator, label, tie where known).

Knows files, columns and chat messages. Refuses to guess: a row that is not a pair is counted by its reason.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from prefcourse.annotators import LABELS

if TYPE_CHECKING:
    from datasets import Dataset

REQUIRED = ("prompt", "chosen", "rejected")
OPTIONAL = ("item", "annotator", "label", "tie")
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
TIE = "tie (no preference to learn from)"


class DataError(ValueError):
    """Data that cannot be used. The message names the file or row, the problem and the way out."""


class Pairs(NamedTuple):
    """The usable pairs, and how many rows were left out for which reason."""

    pairs: Dataset
    dropped: dict[str, int]


def in_words(dropped: dict[str, int]) -> str:
    return "; ".join(f"{count} x {reason}" for reason, count in dropped.items()) or "nothing"


# --- files -> rows ----------------------------------------------------------------------------------------


def data_format(path: Path) -> str | None:
    """The suffix, that of x.csv for x.csv.gz; None for a file that cannot be read here."""
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    return suffix if suffix in SUFFIXES else None


def read_rows(path: str | Path) -> list[dict]:
    """All rows of a JSONL, JSON, CSV, TSV or parquet file (.gz too), as dictionaries. Raises DataError."""
    path, kind = Path(path), data_format(Path(path))
    if not path.is_file():
        raise DataError(f"{path}: {'a folder; give a file in it' if path.is_dir() else 'no such file'}")
    if kind is None:
        raise DataError(f"{path}: unknown suffix {path.suffix!r}; expected {', '.join(SUFFIXES)} (or .gz)")
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        rows = _parquet_rows(raw) if kind == ".parquet" else _text_rows(_utf8(raw), kind)
    except (ValueError, OSError, EOFError, zlib.error, csv.Error) as error:  # Arrow's errors are ValueErrors
        raise DataError(f"{path}: {error}") from error
    if not rows:
        raise DataError(f"{path}: the file holds no rows; is the download or export complete?")
    return rows


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")  # spreadsheets put a byte order mark in front
    except UnicodeDecodeError as error:
        found = f"byte {error.start} ({raw[error.start]:#04x}) is not UTF-8; perhaps it is latin-1 or UTF-16"
        raise ValueError(f"{found}. Save as UTF-8, e.g. `iconv -f latin1 -t utf-8 OLD > NEW`") from error


def _parquet_rows(raw: bytes) -> list[dict]:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(io.BytesIO(raw)).to_pylist()


def _text_rows(text: str, kind: str) -> list[dict]:
    if kind in (".csv", ".tsv"):
        return _csv_rows(text)
    whole_list = text.lstrip().startswith("[")
    rows = json.loads(text) if whole_list else [line for line in text.split("\n") if line.strip()]
    return [_json_row(number, row) for number, row in enumerate(rows, 1)]


def _json_row(number: int, row: object) -> dict:
    try:
        row = json.loads(row) if isinstance(row, str) else row
    except json.JSONDecodeError as error:
        raise ValueError(f"row {number} is not JSON ({error.msg}); is the file cut off?") from error
    if not isinstance(row, dict):
        raise ValueError(f"row {number} is a {type(row).__name__}; expected an object {{column: value}}")
    return row


def _csv_rows(text: str) -> list[dict]:
    header = text.partition("\n")[0]
    csv.field_size_limit(2**31 - 1)  # the default, 128 KiB, is shorter than some responses
    rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count)))
    for number, row in enumerate(rows, 1):
        if None in row:
            raise ValueError(f"row {number} has more fields than the header; put text with commas in quotes")
    return rows


def columns_of(rows: Iterable[dict]) -> list[str]:
    """Every column that occurs, in order of appearance."""
    named = getattr(rows, "column_names", None)  # a Dataset knows them
    return named or list(dict.fromkeys(name for row in rows for name in row))


def need_columns(where: object, found: list[str], needed: Iterable[str], hint: str = "") -> None:
    """Raise DataError unless all needed columns are there; name the nearest match of each that is not."""
    missing = [name for name in needed if name not in found]
    near = ((name, difflib.get_close_matches(name, found, 1)) for name in missing)
    guesses = [f"Is {match[0]!r} meant for {name!r}?" for name, match in near if match]
    if missing:
        facts = f"missing columns: {', '.join(missing)}. Found: {', '.join(map(str, found)) or 'none'}."
        raise DataError(" ".join([f"{where}: {facts}", *guesses, hint]).strip())


def is_empty(value: object) -> bool:
    """An empty cell, however the file writes it: nothing, blanks, not-a-number."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


# --- chat messages -> text --------------------------------------------------------------------------------


def is_chat(value: object) -> bool:
    """A non-empty list of {"role": ..., "content": text}."""
    parts = value if isinstance(value, list) else []
    return bool(parts) and all(isinstance(m, dict) and isinstance(m.get("content"), str) for m in parts)


def transcript(messages: list[dict]) -> str:
    """Messages as HH-RLHF writes them: "\\n\\nHuman: ...\\n\\nAssistant: ..."."""
    speakers = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"\n\n{speakers.get(m.get('role'), m.get('role'))}: {m['content']}" for m in messages)


def prompt_text(messages: list[dict]) -> str:
    """A single message is its own text; a longer talk is a transcript that waits for the assistant."""
    return messages[0]["content"] if len(messages) == 1 else transcript(messages) + "\n\nAssistant:"


def shared_start(chosen: list, rejected: list) -> int:
    """How many leading parts are the same in both, leaving at least one part to each."""
    shared, most = 0, min(len(chosen), len(rejected)) - 1
    while shared < most and chosen[shared] == rejected[shared]:
        shared += 1
    return shared


def flatten_chat(row: dict) -> dict:
    """Chat messages become text: what both responses share is the prompt, the rest is the response."""
    row = {**row, "prompt": prompt_text(row["prompt"])} if is_chat(row.get("prompt")) else row
    chosen, rejected = row.get("chosen"), row.get("rejected")
    if not (is_chat(chosen) and is_chat(rejected)):
        return row
    shared = shared_start(chosen, rejected)
    if row.get("prompt") is None and shared:
        row = {**row, "prompt": prompt_text(chosen[:shared])}
    chosen, rejected = (t[shared]["content"] + transcript(t[shared + 1 :]) for t in (chosen, rejected))
    return {**row, "chosen": chosen, "rejected": rejected}


# --- rows -> pairs ----------------------------------------------------------------------------------------


def pair_fault(row: dict) -> str | None:
    """Why a row is not a preference pair, or None when it is one."""
    for name in REQUIRED:
        if row.get(name) is None:
            return f"missing {name}"
        if not isinstance(row[name], str):
            return f"{name} is not text"
        if not row[name].strip():
            return f"empty {name}"
    if row["chosen"].strip() == row["rejected"].strip():
        return "identical responses"
    return None if row.get("label") in (None, "", *LABELS) else f"wrong label (known: {', '.join(LABELS)})"


def pairs_from_rows(rows: Iterable[dict], *, strict: bool = False, ties: str = "drop") -> Pairs:
    """Check rows (or a Dataset) with prompt, chosen, rejected, as text or chat messages.

    Only the schema's columns are kept. `strict=True` raises DataError at the first bad row, counted from 1.
    A tie is no fault: it is left out and counted, or kept and marked with `ties="keep"`.
    """
    return collect_pairs("rows", enumerate(rows, 1), strict=strict, ties=ties)


def collect_pairs(where: object, numbered: Iterable[tuple[int, dict | str]], *, strict: bool, ties: str) -> Pairs:
    """Pairs from (row number, row or the reason why it has none)."""
    if ties not in ("drop", "keep"):
        raise ValueError(f"ties={ties!r}; expected 'drop' or 'keep'")
    kept, dropped = [], Counter()
    for number, row in numbered:
        row = row if isinstance(row, str) else flatten_chat(row)
        fault = row if isinstance(row, str) else pair_fault(row)
        if fault and strict:
            raise DataError(f"{where}: row {number}: {fault}")
        tie = not fault and (row.get("label") == "tie" or str(row.get("tie")).lower() in ("true", "1"))
        if fault or (tie and ties == "drop"):
            dropped[fault or TIE] += 1
        else:
            kept.append({**row, "tie": tie})
    return Pairs(_dataset(kept), dict(dropped))


def _dataset(rows: list[dict]) -> Dataset:
    from datasets import Dataset, Features, Value

    known = [name for name in OPTIONAL if any(row.get(name) not in (None, "", False) for row in rows)]
    kinds = {name: Value("bool" if name == "tie" else "string") for name in (*REQUIRED, *known)}
    cells = {name: [row.get(name) for row in rows] for name in kinds}
    text = {name: [str(cell) if cell not in (None, "") else None for cell in cells[name]] for name in cells}
    return Dataset.from_dict({**text, "tie": cells["tie"]} if "tie" in kinds else text, Features(kinds))


def read_pairs(path: str | Path, *, strict: bool = False, ties: str = "drop") -> Pairs:
    """Preference pairs from a JSONL, JSON, CSV, TSV or parquet file (.gz too)."""
    rows = read_rows(path)
    needed = REQUIRED[1:] if any(is_chat(row.get("chosen")) for row in rows) else REQUIRED
    hint = "For HH-RLHF's transcripts use load_pairs('hh-rlhf', path=...)."
    need_columns(path, columns_of(rows), needed, hint)
    return some_pairs(path, enumerate(rows, 1), strict=strict, ties=ties)


def some_pairs(where: object, numbered: Iterable[tuple[int, dict | str]], *, strict: bool, ties: str) -> Pairs:
    """As collect_pairs, but a source without a single pair is an error."""
    result = collect_pairs(where, numbered, strict=strict, ties=ties)
    if len(result.pairs) == 0:
        raise DataError(f"{where}: no usable pair. Left out: {in_words(result.dropped)}")
    return result
