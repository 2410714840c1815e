"""Chapter 8's widget: a controller steers the KL of a training run to its target, or swings around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib.ticker import NullFormatter

from prefcourse import plots
from prefcourse.widgets.explorer import Explorer, Frames, Key, explore


class Course(NamedTuple):
    """One run, round by round."""

    kl: Sequence[float]
    beta: Sequence[float]


def steering(run: Callable[..., Course], *, start: dict, **controls: Sequence) -> Explorer:
    """Move target, gain and first beta. `run(seed=, target=, gain=, first_beta=)` gives the course of one run."""

    def draw(figure, frames: Frames, key: Key) -> str:
        settings = dict(zip(frames.controls, key, strict=True))
        courses(figure.subplots(2, 1, sharex=True), frames.computed[key], frames.live.get(key, []), settings["target"])
        return sentence(settings, frames.computed[key])

    return explore(run, draw, title="A controller steers the KL", start=start, size=(6.4, 4.2), **controls)


def courses(axes, here: Course, again: Sequence[Course], target: float):
    """KL above, beta below on a log axis; runs made live in another colour."""
    for number, course in enumerate([here, *again]):
        live = {"color": "#D55E00", "linestyle": "--", "linewidth": 1} if number else {"color": plots.POLICY}
        label = {0: "run", 1: "run live"}.get(number)
        for ax, values in zip(axes, course, strict=True):
            ax.plot(range(1, len(values) + 1), values, label=label, **live)
    axes[0].axhline(target, color=plots.REFERENCE, linestyle=":", label="target")
    axes[0].set(ylabel="KL (nats)", ylim=(0, None))
    axes[1].set(ylabel="beta (log axis)", xlabel="round", yscale="log")
    axes[1].yaxis.set_major_formatter("{x:g}")
    axes[1].yaxis.set_minor_formatter(NullFormatter())
    axes[0].legend(loc="upper right")
    return axes


def lately(course: Course, *, rounds: int = 100, mean_of: int = 10) -> tuple[float, float]:
    """Smallest and largest KL of the last rounds; each a mean of ten, as one round's estimate is noisy."""
    last = course.kl[-rounds:]
    means = [sum(last[i : i + mean_of]) / mean_of for i in range(len(last) - mean_of + 1)]
    return min(means), max(means)


def sentence(settings: dict, course: Course) -> str:
    low, high = lately(course)
    given = f"Target {settings['target']:g}, gain {settings['gain']:g}, first beta {settings['first_beta']:g}"
    return (
        f"{given}: the largest KL is {max(course.kl):.1f}; in the last hundred rounds it lies between {low:.2f} and "
        f"{high:.2f}. beta ends at {course.beta[-1]:.2g}."
    )
