"""Runs too long for a chapter to wait for, made once by `prefcourse build --figures` and kept with what made them.

An experiment is a function in `chapterNN` that takes keyword settings and returns JSON: rows of numbers, no pictures.
A chapter reads `load("05_grid")` and draws; one live run beside it shows that the rows are no invention. Knows
experiments and their files; draws nothing.
"""

from __future__ import annotations

import importlib
import json
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from prefcourse.progress import progress

RESULTS = Path(__file__).parent / "results"
CHAPTERS = range(1, 25)


@dataclass(frozen=True)
class Experiment:
    """A function, and for each of its parts (a seed, a beta) the settings it is called with."""

    name: str  # "05_grid": chapter, then what it is
    run: Callable[..., object]
    parts: tuple[dict, ...]


def experiments() -> Iterator[Experiment]:
    """All there are, chapter by chapter."""
    for chapter in CHAPTERS:
        place = f"{__name__}.chapter{chapter:02}"
        try:
            yield from importlib.import_module(place).EXPERIMENTS
        except ModuleNotFoundError as error:
            if error.name != place:
                raise


def load(name: str) -> list:
    """What each part of an experiment returned, in order."""
    return record(name)["results"]


def record(name: str) -> dict:
    """Settings, seconds, versions and results; FileNotFoundError with the way out."""
    file = RESULTS / f"{name}.json"
    if not file.is_file():
        raise FileNotFoundError(f"experiment {name} has not been run yet: `prefcourse build --figures {name}`")
    return json.loads(file.read_text(encoding="utf-8"))


def is_stale(experiment: Experiment) -> bool:
    """Never run, or run with other settings."""
    try:
        return record(experiment.name)["parts"] != json.loads(json.dumps(experiment.parts))
    except FileNotFoundError:
        return True


def timed(make: Callable[[], object]) -> tuple[object, float]:
    """What is made, and the CPU seconds that it took."""
    begin = time.process_time()
    made = make()
    return made, time.process_time() - begin


def regenerate(experiment: Experiment) -> Path:
    """Run every part, on one thread, and write the file."""
    import torch

    torch.set_num_threads(1)
    parts = progress(experiment.parts, experiment.name, len(experiment.parts))
    results, seconds = timed(lambda: [experiment.run(**part) for part in parts])
    made = {
        "name": experiment.name,
        "parts": experiment.parts,
        "seconds": round(seconds),
        "versions": {package: version(package) for package in ("prefcourse", "torch", "transformers", "numpy")},
        "machine": platform.machine(),
        "results": results,
    }
    file = RESULTS / f"{experiment.name}.json"
    file.write_text(json.dumps(made, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return file
