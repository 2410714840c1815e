"""Chapter 5's widget: three settings choose a point in the reward-KL plane; answers show what was bought there."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from prefcourse import plots
from prefcourse.evaluate import FrontierPoint
from prefcourse.widgets.explorer import Explorer, Frames, Key, explore

Row = Mapping  # gold, kl, their errors, and "texts": an answer to each prompt


def choose_a_point(
    run: Callable[..., Row], frames: Mapping[Key, Row], *, frontier: Sequence[FrontierPoint], prompts: Sequence[str],
    start: dict, beta: Sequence[float], learning_rate: Sequence[float], epochs: Sequence[int],
) -> Explorer:  # fmt: skip
    """Move the settings over runs that were made. `run(seed=, beta=, learning_rate=, epochs=)` makes one more."""

    def draw(figure, frames: Frames, key: Key) -> str:
        here, again = frames.computed[key], frames.live.get(key, [])
        left, right = figure.subplots(1, 2, width_ratios=[3, 2])
        plane(left, frontier, [frames.computed[other] for other in frames.computed], here, again)
        answers(right, prompts, (again or [here])[-1]["texts"])
        return sentence(dict(zip(frames.controls, key, strict=True)), here, best_at(frontier, here["kl"]))

    controls = {"beta": beta, "learning_rate": learning_rate, "epochs": epochs}
    return explore(
        run, draw, frames=frames, title="Three settings, one point", start=start, size=(9.2, 3.8), **controls
    )


def plane(ax, frontier: Sequence[FrontierPoint], everything: Sequence[Row], here: Row, again: Sequence[Row]):
    """All runs in grey, the chosen one with its 95 % intervals, and what was run live."""
    plots.grid_in_plane(ax, [r["kl"] for r in everything], [r["gold"] for r in everything], frontier=frontier)
    looks = [(here, "o", plots.POLICY, "this run")] + [(row, "D", "#D55E00", "run live") for row in again]
    for number, (row, marker, colour, label) in enumerate(looks):
        bars = {"xerr": 1.96 * row["kl_se"], "yerr": 1.96 * row["gold_se"]}
        ax.errorbar(
            row["kl"], row["gold"], **bars, fmt=marker, color=colour, markersize=9, label=label if number < 2 else None
        )
    ax.legend(loc="lower left")
    return ax


def answers(ax, prompts: Sequence[str], texts: Sequence[str]):
    """What the policy said, wrapped."""
    ax.set_axis_off()
    lines = []
    for prompt, text in zip(prompts, texts, strict=True):
        lines += [prompt, *textwrap.wrap(text or "(nothing)", 36, initial_indent="   ", subsequent_indent="   "), ""]
    ax.text(0, 1, "\n".join(lines), va="top", fontsize=10.5, linespacing=1.35, transform=ax.transAxes)
    return ax


def best_at(frontier: Sequence[FrontierPoint], kl: float) -> float | None:
    """The most gold at that KL; None beyond what the frontier's sample can tell."""
    points = sorted((p.kl, p.reward) for p in frontier)
    return float(np.interp(kl, *zip(*points, strict=True))) if kl <= points[-1][0] else None


def sentence(settings: dict, here: Row, best: float | None) -> str:
    made = f"beta {settings['beta']:g}, learning rate {settings['learning_rate']:g}, after {settings['epochs']} epochs"
    limit = "" if best is None else f" The best possible at that KL is {best:.2f}."
    return f"With {made}: gold {here['gold']:.2f} at a KL of {here['kl']:.1f} nats.{limit}"
