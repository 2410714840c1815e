"""What every measurement prints: a row says what was promised, what was measured and whether that reaches it.

Knows no torch, so that what is measured beside it stays small.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from prefcourse import __version__

Seconds = dict[str, list[float]]


@dataclass(frozen=True)
class Row:
    """One line of the table: what was promised, what was measured, and every single measurement."""

    name: str
    target: float
    measured: float
    unit: str = "x"
    at_least: bool = True
    seconds: Seconds = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        return self.measured >= self.target if self.at_least else self.measured <= self.target


def line(row: Row) -> str:
    target = f"{'>=' if row.at_least else '<='} {row.target:g} {row.unit}"
    return f"{row.name:62} {target:>10} {row.measured:8.2f} {row.unit:2}  {'yes' if row.reached else 'NO'}"


def tell(rows: Iterable[Row]) -> list[dict]:
    """Print the rows as they are measured; all of them as plain data."""
    print(f"{'':62} {'target':>10} {'measured':>8}     reached")
    told = []
    for row in rows:
        print(line(row), flush=True)
        told.append(asdict(row) | {"reached": row.reached})
    return told


def environment() -> dict[str, str | int]:
    return {
        "prefcourse": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count() or 0,
    }
