"""Chapter 7's widget: how many votes, and whose; what EM then knows of people and truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from prefcourse import plots
from prefcourse.widgets.explorer import Explorer, Frames, Key, explore


class Inquiry(NamedTuple):
    """True and inferred accuracy of each person, by name; shares of pairs on which somebody is right about gold."""

    true: dict[str, float]
    found: dict[str, float]
    right: dict[str, float]  # "one vote", "majority", "EM"


def who_is_right(run: Callable[..., Inquiry], *, start: dict, **controls: Sequence) -> Explorer:
    """Move votes per pair and the make-up of the crowd. `run(seed=, votes=, others=, how_many=)` asks anew."""

    def draw(figure, frames: Frames, key: Key) -> str:
        live = frames.live.get(key, [])
        here = (live or [frames.computed[key]])[-1]
        left, right = figure.subplots(1, 2, width_ratios=[5, 4])
        plots.inferred_accuracy(left, here.true, here.found)
        left.set_title("Run live" if live else "What EM knows about twenty people")
        shares(right, here.right)
        return sentence(dict(zip(frames.controls, key, strict=True)), here)

    return explore(run, draw, title="Votes, and whose", start=start, size=(8.6, 3.8), **controls)


def shares(ax, right: dict[str, float]):
    """On which share of the pairs is each of them right about gold?"""
    for number, share in enumerate(right.values()):
        ax.plot([0.5, share], [number, number], color=plots.REFERENCE, linewidth=1.5)
        ax.plot([share], [number], "o", color=plots.POLICY, markersize=9)
        ax.annotate(f"{share:.0%}", (share, number), (0, 9), textcoords="offset points", ha="center")
    ax.set_yticks(range(len(right)), list(right))
    ax.set(xlim=(0.5, 1.02), ylim=(len(right) - 0.5, -0.6), xlabel="right about gold", title="And about the truth")
    ax.grid(axis="y", visible=False)
    return ax


def sentence(settings: dict, here: Inquiry) -> str:
    single, majority, inferred = (f"{share:.0%}" for share in here.right.values())
    return (
        f"{settings['votes']} votes on each pair, {settings['how_many']} of 20 people are {settings['others']}: one "
        f"vote is right about gold on {single} of the pairs, the majority on {majority}, EM on {inferred}."
    )
