"""Chapter 9's widget: the clip diagram of one token, and where gradient steps take its ratio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from prefcourse import plots
from prefcourse.widgets.explorer import Explorer, Frames, Key, explore


class Clip(NamedTuple):
    """The objective over many ratios; at one of them its value and slope, and the ratio's way from there."""

    ratio: Sequence[float]
    objective: Sequence[float]
    unclipped: Sequence[float]
    silent: Sequence[bool]
    bounds: tuple[float, float]
    value: float
    slope: float
    way: Sequence[float]  # the ratio after 0, 1, 2, ... steps


def clip_explorer(run: Callable[..., Clip], *, start: dict, **controls: Sequence) -> Explorer:
    """Move ratio, clip_coef and the sign of the advantage. `run(seed=, **controls)` computes it with the real loss."""

    def draw(figure, frames: Frames, key: Key) -> str:
        settings, here = dict(zip(frames.controls, key, strict=True)), frames.computed[key]
        diagram, ways = figure.subplots(1, 2)
        shown = {"unclipped": here.unclipped, "silent": here.silent, "bounds": here.bounds}
        plots.clip_diagram(diagram, here.ratio, here.objective, **shown)
        diagram.plot([settings["ratio"]], [here.value], "D", color="#D55E00", markersize=8, label="here")
        diagram.legend(loc="best", fontsize=8)
        ratio_ways(ways, here, frames.live.get(key, []))
        return sentence(settings, here)

    return explore(run, draw, title="The clip diagram", start=start, size=(8.4, 3.6), **controls)


def ratio_ways(ax, here: Clip, again: Sequence[Clip]):
    """The ratio step by step; each live run is another way from the same place."""
    for bound in here.bounds:
        ax.axhline(bound, color=plots.REFERENCE, linestyle=":", linewidth=1)
    for number, clip in enumerate(again):
        ax.plot(clip.way, "--", color="#D55E00", linewidth=1, label=None if number else "run live")
    ax.plot(here.way, color=plots.POLICY, label="ratio")
    ax.plot([0], here.way[:1], "D", color="#D55E00", markersize=8)
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
    low, high = here.bounds
    if here.slope == 0:
        return told + "the clip binds. This token pushes no further, and others may still push it."
    if low < settings["ratio"] < high:
        return told + "between the bounds, as without a clip."
    return told + "outside the bounds, and yet not clipped: the ratio has gone the wrong way and is pulled back."
