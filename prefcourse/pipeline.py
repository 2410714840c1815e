"""The main job: SFT, preference pairs, a reward model, PPO and DPO, and what each is worth, in one folder.

    result = run(Settings(seed=1, out="out/mine"))

Knows folders: what is done, what is cached, what must not be overwritten. What is learned is the business of `stages`.
"""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from prefcourse import cache, evaluate, models, report, stages
from prefcourse.progress import quiet_transformers
from prefcourse.stages import POPULATIONS, Lab, Settings

PPO_POINTS = 8  # of PPO's path in the figure
QUICK = {  # a look at all stages in seconds; nothing is learned
    "demonstrations": 300, "sft_steps": 10, "pairs": 80, "reward_epochs": 1, "ppo_iterations": 2, "dpo_epochs": 1,
    "samples": 1, "frontier_samples": 2,
}  # fmt: skip


class RunError(ValueError):
    """Input that a run cannot use. The message names it and the way out."""


class Result(NamedTuple):
    folder: Path
    metrics: dict


def check(settings: Settings) -> None:
    """Raise RunError for a setting out of range, before any work."""
    choices = {"size": models.SIZES, "annotators": POPULATIONS}
    for name, known in choices.items():
        if getattr(settings, name) not in known:
            raise RunError(f"{name} is {getattr(settings, name)!r}; it must be one of {', '.join(known)}")
    counts = {name: value for name, value in asdict(settings).items() if isinstance(value, int | float)}
    for name in counts.keys() - {"seed", "resume", "use_cache", "ppo_beta"}:
        if not 0 < counts[name] < float("inf"):
            hint = ". --beta sets it too; at 0 DPO has no gradient (for PPO without a pull: --ppo-beta 0)"
            raise RunError(f"{name} is {counts[name]}; it must be above 0{hint * (name == 'dpo_beta')}")
    if not 0 <= settings.ppo_beta < float("inf"):
        raise RunError(f"ppo_beta is {settings.ppo_beta}; it must be 0 (no pull to the SFT model) or more")
    if settings.held_out >= 1 or settings.labels_per_pair > 20:
        raise RunError("held_out must be below 1, labels_per_pair at most 20: as many as there are annotators")


# --- running them ------------------------------------------------------------------------------------------


class Stage(NamedTuple):
    work: Callable[[Lab, Path], dict]
    cached: tuple[str, ...] = ()  # the settings on which its result depends, if it is kept between runs


_SFT = ("seed", "size", "threads", "demonstrations", "sft_steps", "sft_learning_rate")
_PAIRS = ("pairs_file", "annotators", "pairs", "labels_per_pair", "held_out")
STAGES = {
    "sft": Stage(stages.sft, _SFT),
    "pairs": Stage(stages.pairs),
    "reward_model": Stage(stages.reward_model, (*_SFT, *_PAIRS, "reward_epochs", "reward_learning_rate")),
    "ppo": Stage(stages.ppo),
    "dpo": Stage(stages.dpo),
    "evaluation": Stage(stages.evaluation),
}


def run(settings: Settings, *, say: Callable[[str], None] = print) -> Result:
    """The main job. Raises RunError or DataError for input that it cannot use, before any work is done."""
    check(settings)
    quiet_transformers()
    lab = Lab(settings)
    if settings.pairs_file:
        stages.own_pairs(lab)  # to complain now, and not after SFT
    record = {"settings": settings.identity(), "code": cache.code_version()}
    prepare(settings.folder, record, settings.resume)
    with torch_threads(settings.threads):
        for name in STAGES:
            seconds, source = perform(lab, name, record)
            say(f"{name:<13}{seconds:7.1f} s  {lab.result(name)['words']}{source}")
        return publish(lab, record)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def prepare(folder: Path, record: dict, resume: bool) -> None:
    """Nothing is overwritten: go on only in an empty folder, or on request in one with this very run."""
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file; choose another folder: --out")
    folder.mkdir(parents=True, exist_ok=True)
    left = [path for path in folder.iterdir() if path.name.endswith(cache.PARTIAL)]
    ours = [folder / name for name in STAGES if (folder / name).exists()]
    if not resume and any(folder.iterdir()):
        raise RunError(f"{folder} is not empty. To go on with the run in it: --resume. For a new one: --out FOLDER")
    if not (ours or left) and any(folder.iterdir()):
        raise RunError(f"{folder} holds no run to resume. Choose another folder: --out")
    for path in ours:
        if not (path / cache.SEAL).is_file():
            raise RunError(
                f"{path} is in the way: it is not part of a run ({cache.SEAL} is missing). Move it elsewhere"
            )
        found = cache.read_seal(path)  # None: a file was changed; the stage is done again
        if found and (changes := differences(found, record)):
            raise RunError(f"{folder} holds another run: {changes}. Use its settings, or another folder: --out")
    for path in left:
        shutil.rmtree(path)


def differences(found: dict, wanted: dict) -> str:
    if found.get("code") != wanted["code"]:
        return "it was made by another version of the code or of torch"
    old, new = found["settings"], wanted["settings"]
    changed = [name for name in new if old.get(name) != new[name]]
    return ", ".join(f"{name} was {old.get(name)!r}, now {new[name]!r}" for name in changed)


def perform(lab: Lab, name: str, record: dict) -> tuple[float, str]:
    """Do a stage, unless its folder holds it done. Seconds, and where the result came from if not from work now."""
    folder, stage = lab.settings.folder / name, STAGES[name]
    if folder.exists():
        if found := cache.read_seal(folder):
            return found["seconds"], " (done before)"
        aside = next(place for n in itertools.count(1) if not (place := folder.with_name(f"{name}.old{n}")).exists())
        folder.rename(aside)
        warnings.warn(
            f"a file in {folder} was changed: set aside as {aside.name}, the stage is done again", stacklevel=2
        )
    start, source = time.perf_counter(), ""
    with cache.new_folder(folder) as partial:
        key = {setting: record["settings"][setting] for setting in stage.cached}
        keep = stage.cached and lab.settings.use_cache
        if keep and cache.load(name, key, partial):
            source = " (from the cache)"
        else:
            (partial / "result.json").write_text(json.dumps(stage.work(lab, partial), indent=2))
            if keep:
                cache.store(name, key, partial)
        seconds = time.perf_counter() - start
        cache.seal(partial, record | {"seconds": seconds, "cached": bool(source)})
    return seconds, source


# --- what comes out ----------------------------------------------------------------------------------------


def publish(lab: Lab, record: dict) -> Result:
    """metrics.json, reward_kl.png and report.html from the stages' results. Numbers depend on settings and code alone,
    save those under "cost"."""
    folder = lab.settings.folder
    done = {name: json.loads((folder / name / cache.SEAL).read_text()) for name in STAGES}
    found = {name: lab.result(name) for name in STAGES}
    cost = {
        "seconds": {name: round(seal["seconds"], 2) for name, seal in done.items()},
        "from_cache": [name for name, seal in done.items() if seal["cached"]],
        "memory_mb": peak_memory(),
    }
    path = ppo_path(stages.read_lines(folder / "ppo" / "history.jsonl"))
    parts = {name: found[name] for name in ("sft", "pairs", "reward_model", "dpo")} | {"ppo": {"path": path}}
    metrics = record | found["evaluation"] | parts | {"cost": cost}
    metrics = json.loads(json.dumps(metrics), parse_constant=lambda nan: None)  # an undefined number becomes null
    picture = figure(metrics)
    write_whole(folder / "reward_kl.png", picture)
    write_whole(folder / "report.html", report.as_html(metrics, picture).encode())
    write_whole(folder / "metrics.json", json.dumps(metrics, indent=2).encode())
    return Result(folder, metrics)


def write_whole(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}{cache.PARTIAL}")
    partial.write_bytes(content)
    os.replace(partial, path)


def ppo_path(history: list[dict]) -> list[dict]:
    """KL and gold of PPO on its way: means of neighbouring rounds."""
    blocks = [block for block in np.array_split(np.arange(len(history)), PPO_POINTS) if len(block)]
    return [{name: float(np.mean([history[i][name] for i in block])) for name in ("kl", "gold")} for block in blocks]


def figure(metrics: dict) -> bytes:
    """The reward-KL plane as PNG: PPO's path, DPO, where both began, and the best that can be had at each KL."""
    from matplotlib.figure import Figure

    from prefcourse import plots

    def point(row: dict) -> tuple:
        return tuple(evaluate.Estimate(row[name], row.get(f"{name}_se") or 0.0) for name in ("kl", "gold"))

    rows, buffer = metrics["policies"], io.BytesIO()
    start = point({"kl": 0.0, "gold": rows["SFT"]["gold"]})
    methods = {"PPO": [start, *map(point, metrics["ppo"]["path"]), point(rows["PPO"])], "DPO": [point(rows["DPO"])]}
    frontier = [evaluate.FrontierPoint(**row) for row in metrics["frontier"]]
    with plots.style():
        drawn = Figure(figsize=(7.2, 4.2))
        plots.reward_kl_plane(drawn.subplots(), methods, frontier=frontier, reference=point(rows["SFT"])[1])
        drawn.savefig(buffer, format="png", dpi=150)
    return buffer.getvalue()


def peak_memory() -> float | None:
    """Megabytes of this process at its largest; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
