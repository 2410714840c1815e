"""Chapter 1's widget: what a crowd's answers are worth, and what those of its imitator, warm or cold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import PercentFormatter

from prefcourse import plots
from prefcourse.widgets.explorer import Explorer, Frames, Key, explore

EDGES = np.arange(-3.25, 3.3, 0.5)  # gold comes in tenths; the bars stand at halves


class Imitation(NamedTuple):
    """Gold of single answers."""

    crowd: Sequence[float]  # the demonstrations
    model: Sequence[float]  # after SFT on them


def imitation(
    run: Callable[..., Imitation], frames: Mapping[Key, Imitation], *, helpful: Sequence, temperature: Sequence
) -> Explorer:
    """Move the share of helpful authors and the temperature. `run(seed=, helpful=, temperature=)` trains anew."""

    def draw(figure, frames: Frames, key: Key) -> str:
        bars(figure.subplots(), frames.computed[key], frames.live.get(key, []))
        return sentence(*key, frames.computed[key])

    start = {"helpful": helpful[len(helpful) // 2]}
    return explore(
        run, draw, frames=frames, title="A crowd and its imitator", start=start, helpful=helpful,
        temperature=temperature,
    )  # fmt: skip


def bars(ax, here: Imitation, again: Sequence[Imitation]):
    """Shares of answers by gold, with both means; a dotted line for each model trained live."""
    middle = (EDGES[:-1] + EDGES[1:]) / 2
    looks = {"crowd": (-0.1, plots.REJECTED, "", "--"), "SFT model": (0.1, plots.POLICY, "//", "-")}
    for (name, (shift, colour, hatch, line)), golds in zip(looks.items(), here, strict=True):
        share = np.histogram(np.clip(golds, EDGES[0], EDGES[-1]), EDGES)[0] / len(golds)
        ax.bar(middle + shift, share, 0.2, color=colour, hatch=hatch, edgecolor="white", linewidth=0, label=name)
        ax.axvline(fmean(golds), color=colour, linestyle=line, label=f"mean of the {name}")
    for number, other in enumerate(again):
        label = None if number else "mean, run live"
        ax.axvline(fmean(other.model), color="#D55E00", linestyle=":", label=label)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set(xlabel="gold of an answer", ylabel="share of answers", xlim=(-3.3, 3.3), ylim=(0, 1))
    ax.legend(loc="upper left")
    return ax


def sentence(helpful: float, temperature: float, here: Imitation) -> str:
    crowd, model = map(fmean, here)
    verdict = "above" if model > crowd else "below"
    return (
        f"With {helpful:.0%} helpful authors the crowd's answers are worth {crowd:+.2f} on average, the model's, at "
        f"temperature {temperature:g}, {model:+.2f}: {abs(model - crowd):.2f} {verdict} its authors."
    )
