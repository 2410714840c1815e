"""Chapter 11's widget: which answers the pairs show, and where the mass goes that DPO takes from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from prefcourse import plots
from prefcourse.widgets.chapter03 import Slide, bars
from prefcourse.widgets.explorer import Explorer, Frames, Key, explore


def coverage(
    run: Callable[..., Slide], names: Sequence[str], shown: Mapping[str, Sequence[int]], gold: Sequence[float], *,
    start: dict, **controls: Sequence,
) -> Explorer:  # fmt: skip
    """Choose what the pairs show, and beta. `run(seed=, covered=, beta=)` gives the policies; `shown` the places of
    the answers that each choice covers."""

    def draw(figure, frames: Frames, key: Key) -> str:
        settings, here = dict(zip(frames.controls, key, strict=True)), frames.computed[key]
        ax = figure.subplots()
        hidden = [place for place in range(len(names)) if place not in shown[settings["covered"]]]
        for place in hidden:
            ax.axvspan(place - 0.5, place + 0.5, color=plots.REFERENCE, alpha=0.12, linewidth=0)
        bars(ax, names, here, frames.live.get(key, []))
        return sentence(settings, here, hidden, gold)

    return explore(run, draw, title="What the pairs do not show", start=start, size=(6.8, 3.6), **controls)


def sentence(settings: dict, here: Slide, hidden: Sequence[int], gold: Sequence[float]) -> str:
    before, best, after = (sum(p * g for p, g in zip(policy, gold, strict=True)) for policy in here)
    mass = [sum(policy[place] for place in hidden) for policy in (here.reference, here.trained)]
    verdict = "worse than" if after < before else "better than"
    left = f"Unseen answers (grey) had {mass[0]:.2f} of the mass and now have {mass[1]:.2f}. " if hidden else ""
    return (
        f"Pairs show {settings['covered']}, beta {settings['beta']:g}. {left}DPO's gold is {after:+.2f}, {verdict} the "
        f"reference ({before:+.2f}); the optimum has {best:+.2f}."
    )
