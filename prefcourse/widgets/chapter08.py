"""Chapter 8's pictures and its widget: a controller steers the KL of a training run to its target, or swings around
it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import LogLocator

from prefcourse import plots
from prefcourse.evaluate import Estimate
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
    axes[1].set(ylabel="beta (log axis)", xlabel="round")
    beta_axis(axes[1])
    axes[0].legend(loc="upper right")
    return axes


def beta_axis(ax):
    """Logarithmic, and with numbers, also where it spans less than a factor of ten."""
    ax.set(yscale="log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()


def side_by_side(axes, runs: Mapping[str, Course], *, target: float):
    """KL left, beta right on a log axis, of several runs."""
    for ax, which, ylabel in zip(axes, (0, 1), ("KL of the round's answers (nats)", "beta (log axis)"), strict=True):
        lines = {name: (range(1, len(run[which]) + 1), run[which]) for name, run in runs.items()}
        plots.curves(ax, lines, xlabel="round", ylabel=ylabel)
    axes[0].axhline(target, color=plots.REFERENCE, linewidth=1)
    axes[0].get_legend().remove()
    beta_axis(axes[1])
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


# --- other pictures of the lesson ---------------------------------------------------------------------------


def frontier_twice(axes, frontier: tuple, others: tuple, *, tangent: Sequence[float], root: Sequence[float]):
    """Reward against KL: the frontier above other policies, with its tangent at beta 1; and on a square-root axis, with
    the straight line as which it begins. `tangent` and `root` are heights at the frontier's KLs."""
    for ax, axis in zip(axes, (np.asarray, np.sqrt), strict=True):
        ax.plot(axis(others[0]), others[1], ".", color=plots.REFERENCE, markersize=2, alpha=0.4)
        ax.plot(axis(frontier[0]), frontier[1], color=plots.GOLD, label="frontier")
    axes[0].plot(frontier[0], tangent, "--", color=plots.POLICY, label="tangent of slope 1, at beta 1")
    axes[1].plot(np.sqrt(frontier[0]), root, "--", color=plots.CHOSEN, label="sigma sqrt(2 KL)")
    axes[0].set(xlabel="KL from the reference (nats)", ylabel="expected reward", xlim=(0, 2.6), ylim=(-1.3, 2.3))
    axes[1].set(xlabel="square root of KL", xlim=(0, 1.6))
    for ax in axes:
        ax.legend(loc="lower right", frameon=True)
    return axes


def ways(ax, frontier: tuple, policies: Mapping[str, tuple]):
    """Exact (KL, reward) of single policies, by the way that led there, and the frontier."""
    ax.plot(*frontier, color=plots.GOLD, label="frontier")
    for number, (name, points) in enumerate(policies.items()):
        ax.plot(*points, plots.MARKERS[number], color=plots.OTHERS[number], label=name)
    ax.set(xlabel="KL from the reference (nats)", ylabel="expected reward", xlim=(-0.05, 2.5))
    return ax


BESIDE = {"PPO": [(6, -12)] * 4, "DPO": [(-4, 9), (-18, 9), (-12, 10), (6, 9)]}  # where no other point lies, in points


def name_betas(ax, methods: Mapping[str, Sequence[tuple[Estimate, Estimate]]], betas: Sequence[float]):
    """The beta beside each point of PPO and of DPO."""
    for name, shifts in BESIDE.items():
        for beta, (kl, gold), shift in zip(betas, methods[name], shifts, strict=True):
            ax.annotate(f"{beta:g}", (kl.mean, gold.mean), shift, textcoords="offset points", fontsize=8)
    return ax
