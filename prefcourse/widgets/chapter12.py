"""Chapter 12's widget: whose score is pushed, and how; what gold and score do, where the peak lies, what was said."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from prefcourse import plots
from prefcourse.evaluate import Estimate
from prefcourse.widgets.explorer import Explorer, Frames, Key, explore


class Curve(NamedTuple):
    """One push: look by look, or n by n."""

    kl: Sequence[float]
    gold: Sequence[float]
    score: Sequence[float]
    error: Sequence[float] = ()  # of gold
    answers: Sequence[tuple[str, str]] = ()  # prompt and answer at the end, where they were kept


def curve(run: Mapping[str, Sequence[Estimate]], answers: Sequence[tuple[str, str]] = ()) -> Curve:
    """Of columns that were averaged over seeds."""
    kl, gold, score = ([estimate.mean for estimate in run[name]] for name in ("kl", "gold", "score"))
    return Curve(kl, gold, score, [estimate.standard_error for estimate in run["gold"]], answers)


def push(run: Callable[..., Curve], frames: Mapping[Key, Curve], *, start: dict, **controls: Sequence) -> Explorer:
    """Choose a score and a way to push it. `run(seed=, score=, way=)` does it anew."""

    def draw(figure, frames: Frames, key: Key) -> str:
        everything = [frames.computed[other] for other in frames.computed if other[-1] == key[-1]]
        here, again = frames.computed[key], frames.live.get(key, [])
        left, right = figure.subplots(1, 2, width_ratios=[3, 2])
        curves(left, everything, here, again)
        answers(right, (again or [here])[-1].answers)
        return sentence(dict(zip(frames.controls, key, strict=True)), here)

    return explore(run, draw, frames=frames, title="Push a score", start=start, size=(9.2, 3.8), **controls)


def curves(ax, everything: Sequence[Curve], here: Curve, again: Sequence[Curve]):
    """Gold of all that was pushed in the same way in grey; the chosen one with its score; what was run live."""
    for other in everything:
        ax.plot(other.kl, other.gold, color="#CCCCCC", linewidth=1, zorder=1)
    plots.over_optimisation(ax, here.kl, here.score, here.gold, error=here.error)
    for number, curve in enumerate(again):
        ax.plot(curve.kl, curve.gold, color="#D55E00", label="gold, run live" if number == 0 else None)
        ax.plot(curve.kl, curve.score, "--", color="#D55E00", linewidth=1)
    top = max(range(len(here.gold)), key=here.gold.__getitem__)
    ax.plot(here.kl[top], here.gold[top], "*", color=plots.CHOSEN, markersize=14, label="peak of gold", zorder=4)
    ax.set(ylim=(-1.2, 1.5))
    ax.legend(loc="lower left")
    return ax


def answers(ax, said: Sequence[tuple[str, str]]):
    """What the policy says in the end, wrapped."""
    ax.set_axis_off()
    lines = ["At the end of the line it says:", ""] if said else ["(No answers of these were kept.)"]
    for prompt, text in said:
        lines += [prompt, *textwrap.wrap(text or "(nothing)", 36, initial_indent="   ", subsequent_indent="   "), ""]
    ax.text(0, 1, "\n".join(lines), va="top", fontsize=10, linespacing=1.3, transform=ax.transAxes)
    return ax


def sentence(settings: Mapping, here: Curve) -> str:
    top = max(range(len(here.gold)), key=here.gold.__getitem__)
    where = "" if 0 < top < len(here.gold) - 1 else " (at an end of the line)"
    return (
        f"{settings['way']}, {settings['score']}: gold begins at {here.gold[0]:.2f}, is highest at {here.kl[top]:.1f} "
        f"nats with {here.gold[top]:.2f}{where}, and ends at {here.gold[-1]:.2f}; the score goes from "
        f"{here.score[0]:z.2f} to {here.score[-1]:z.2f}."
    )
