"""Chapter 9's pictures and its widget: the clip diagram of one token, and where gradient steps take its ratio."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from prefcourse import losses, plots
from prefcourse.widgets.explorer import Explorer, Frames, Key, explore

LIVE = plots.OTHERS[1]
STEPS, LEARNING_RATE, PUSH = 30, 0.05, 0.03


class Clip(NamedTuple):
    """The objective at many ratios; its value and slope at one of them, and the ratio's way from there."""

    diagram: dict
    value: float
    slope: float  # by the ratio
    way: list[float]  # the ratio after 0, 1, 2, ... steps


def objective_and_slope(ratio: torch.Tensor, advantage: float, **bounds: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Of single tokens, by the package's loss: minus it, and its gradient by the ratio."""
    ratio = ratio.double().detach().requires_grad_()
    token = ratio.log()[None], torch.zeros_like(ratio)[None], torch.full_like(ratio, advantage)[None]
    objective = -losses.ppo_token_losses(*token, **bounds)[0]
    (slope,) = torch.autograd.grad(objective.sum(), ratio)
    return objective.detach(), slope


def diagram(advantage: float, *, clip_low: float, clip_high: float) -> dict:
    """What `plots.clip_diagram` draws."""
    ratio = torch.linspace(0.01, 2, 400, dtype=torch.float64)
    objective, slope = objective_and_slope(ratio, advantage, clip_low=clip_low, clip_high=clip_high)
    about = {"silent": slope == 0, "bounds": (1 - clip_low, 1 + clip_high)}
    return about | {"ratio": ratio, "objective": objective, "unclipped": ratio * advantage}


def one_token(seed: int, ratio: float, clip_coef: float, advantage: str) -> Clip:
    """Gradient steps on the token's log-ratio. In each the rest of the batch pushes, too: a random number."""
    signed, bounds = 1.0 if advantage == "positive" else -1.0, {"clip_low": clip_coef, "clip_high": clip_coef}
    draw, way, seen = torch.Generator().manual_seed(seed), [ratio], []
    for _ in range(STEPS):
        here = torch.tensor([way[-1]], dtype=torch.float64)
        objective, slope = objective_and_slope(here, signed, **bounds)
        seen.append((objective.item(), slope.item()))
        by_log_ratio = slope.item() * way[-1]
        push = PUSH * torch.randn((), generator=draw, dtype=torch.float64).item()
        way.append(way[-1] * math.exp(LEARNING_RATE * by_log_ratio + push))
    return Clip(diagram(signed, **bounds), *seen[0], way)


def clip_explorer(run=one_token, *, start: dict, **controls: Sequence) -> Explorer:
    """Move ratio, clip_coef and the sign of the advantage."""

    def draw(figure, frames: Frames, key: Key) -> str:
        settings, here = dict(zip(frames.controls, key, strict=True)), frames.computed[key]
        left, right = figure.subplots(1, 2)
        plots.clip_diagram(left, **here.diagram)
        left.plot([settings["ratio"]], [here.value], "D", color=LIVE, markersize=8, label="here")
        left.legend(loc="best", fontsize=8)
        ratio_ways(right, here, frames.live.get(key, []))
        return sentence(settings, here)

    return explore(run, draw, title="The clip diagram", start=start, size=(8.4, 3.6), **controls)


def ratio_ways(ax, here: Clip, again: Sequence[Clip]):
    """The ratio step by step; each live run is another way from the same place."""
    for bound in here.diagram["bounds"]:
        ax.axhline(bound, color=plots.REFERENCE, linestyle=":", linewidth=1)
    for number, clip in enumerate(again):
        ax.plot(clip.way, "--", color=LIVE, linewidth=1, label=None if number else "run live")
    ax.plot(here.way, color=plots.POLICY, label="ratio")
    ax.plot([0], here.way[:1], "D", color=LIVE, markersize=8)
    ax.set(xlabel="gradient step", ylabel="ratio", ylim=(0, 2))
    if again:
        ax.legend(loc="best", fontsize=8)
    return ax


def sentence(settings: dict, here: Clip) -> str:
    """Names the zone by what the loss does there, read off its slope."""
    told = (
        f"Ratio {settings['ratio']:g}, clip_coef {settings['clip_coef']:g}, {settings['advantage']} advantage: "
        f"the slope is {here.slope:+z.1f}, "
    )
    low, high = here.diagram["bounds"]
    if here.slope == 0:
        return told + "the clip binds. This token pushes no further, and others may still push it."
    if low < settings["ratio"] < high:
        return told + "between the bounds, as without a clip."
    return told + "outside the bounds, and yet not clipped: the ratio has gone the wrong way and is pulled back."


# --- other pictures of the lesson ---------------------------------------------------------------------------


def two_histograms(ax, ends: Mapping[str, Sequence[float]], weight: Sequence[float], *, before: float):
    """Where P('right') ends, each end with its probability: the first in orange and hatched, the second in blue."""
    for (name, end), colour, hatch in zip(ends.items(), (LIVE, plots.POLICY), ("//", ""), strict=True):
        ax.hist(end, np.linspace(0, 1, 41), weights=weight, color=colour, alpha=0.7, hatch=hatch, label=name)
    ax.axvline(before, color=plots.REFERENCE, linestyle=":", label="before")
    ax.set(ylabel="probability")
    ax.legend(loc="upper left")
    return ax


def destination_and_step(axes, far: Mapping[str, torch.Tensor], step: Mapping[str, torch.Tensor], *, optimum: float):
    """KL from the reference (batches, runs), as median and every fourth run; the longest step of all runs."""
    for number, (name, kls) in enumerate(far.items()):
        look = plots.look(name, number) | {"marker": ""}
        axes[0].plot(kls[:, ::4], color=look["color"], alpha=0.15, linewidth=0.7)
        axes[0].plot(kls.median(1).values, label=name, **look)
        axes[1].plot(range(1, len(kls)), step[name].amax(1).clamp(min=1e-3), **look)
    axes[0].axhline(optimum, color=plots.GOLD, linewidth=0.8, label="optimum at beta 1")
    axes[0].set(
        title="Destination (median, and 25 runs)", xlabel="batch", ylabel="KL(policy, reference)", ylim=(0, 3.5)
    )
    axes[0].legend(loc="upper right", ncols=2, fontsize=8)
    axes[1].set(title="Step (the longest of 100 runs)", xlabel="batch", ylabel="KL(old, new), log axis", yscale="log")
    return axes
