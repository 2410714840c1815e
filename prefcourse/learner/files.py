"""Files that appear whole or not at all, and copies that never overwrite. Knows paths, not what is in the files."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    write_whole_bytes(path, text.encode())


def write_whole_bytes(path: Path, data: bytes) -> None:
    """Written aside and renamed: a reader, a crash or Ctrl-C finds the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with open(handle, "wb") as file:
            file.write(data)
        os.chmod(name, path.stat().st_mode if path.exists() else 0o644)  # mkstemp's own mode is private
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def names_beside(path: Path) -> Iterator[Path]:
    """The path itself, then x.new.ipynb, x.new-2.ipynb ...: places for an edition, if somebody wrote in the first."""
    yield path
    for number in itertools.count(1):
        yield path.with_name(f"{path.stem}.new{f'-{number}' * (number > 1)}{path.suffix}")


def keep_copy(path: Path, why: str) -> Path:
    """A dated copy beside a file; an earlier copy is never overwritten."""
    stamp, number = datetime.now().strftime("%Y-%m-%d-%H%M%S"), 1
    while True:
        copy = path.with_name(f"{path.stem}.{why}-{stamp}{f'-{number}' * (number > 1)}{path.suffix}")
        try:
            with open(copy, "xb") as file:
                file.write(path.read_bytes())
            return copy
        except FileExistsError:
            number += 1
