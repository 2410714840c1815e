"""Chapter 3's widget: beta slides the optimum from the reference to the best answer; DPO follows as labels allow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from prefcourse import plots
from prefcourse.widgets.explorer import Explorer, Frames, Key, explore


class Slide(NamedTuple):
    """Three policies: a probability per answer each."""

    reference: Sequence[float]
    optimum: Sequence[float]
    trained: Sequence[float]  # by DPO, on the labels of one seed

    @classmethod
    def of_logits(cls, *logits) -> Slide:
        """The same three as tables of logits with one row, (1, V) each."""
        return cls(*(table.softmax(-1)[0].tolist() for table in logits))


def kl(policy: Sequence[float], other: Sequence[float]) -> float:
    """In nats; what the policy never gives costs nothing."""
    policy, other = np.asarray(policy), np.asarray(other)
    there = policy > 0
    return float((policy[there] * np.log(policy[there] / other[there])).sum())


def beta_slide(run: Callable[..., Slide], names: Sequence[str], *, start: dict, **controls: Sequence) -> Explorer:
    """Move beta and the number of labels. `run(seed=, beta=, labels=)` gives the policies, `names` the answers."""

    def draw(figure, frames: Frames, key: Key) -> str:
        bars(figure.subplots(), names, frames.computed[key], frames.live.get(key, []))
        return sentence(names, dict(zip(frames.controls, key, strict=True)), frames.computed[key])

    return explore(run, draw, title="Beta slides the reference to the optimum", start=start, **controls)


def bars(ax, names: Sequence[str], here: Slide, again: Sequence[Slide]):
    """Three bars per answer, and a diamond for each policy trained live."""
    looks = {"reference": plots.REFERENCE, "optimum": plots.GOLD, "DPO": plots.POLICY}
    places = np.arange(len(names))
    for shift, (label, colour), policy in zip((-0.27, 0, 0.27), looks.items(), here, strict=True):
        hatch = {"reference": "", "optimum": "", "DPO": "//"}[label]
        ax.bar(places + shift, policy, 0.25, color=colour, label=label, hatch=hatch, edgecolor="white", linewidth=0)
    for number, slide in enumerate(again):
        label = None if number else "DPO, run live"
        ax.plot(places + 0.27, slide.trained, "D", color="#D55E00", markersize=6, label=label)
    ax.set_xticks(places, names)
    ax.set(ylim=(0, 1.02), ylabel="probability of the answer")
    ax.grid(axis="x", visible=False)
    ax.legend(loc="upper right")
    return ax


def sentence(names: Sequence[str], settings: dict, here: Slide) -> str:
    best = int(np.argmax(np.divide(here.optimum, here.reference)))  # what gains most has the highest reward
    away, untrained = kl(here.trained, here.optimum), kl(here.reference, here.optimum)
    verdict = "nearer than" if away < untrained else "further away than"
    return (
        f"At beta {settings['beta']:g} the optimum says '{names[best]}' with probability {here.optimum[best]:.2f}, DPO "
        f"on {settings['labels']:,} labels with {here.trained[best]:.2f}. DPO's KL to the optimum is {away:.3f}: "
        f"{verdict} the untrained reference ({untrained:.3f})."
    )
