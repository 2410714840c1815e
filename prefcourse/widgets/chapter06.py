"""Chapter 6's widget: how many pairs, how noisy the people; what a reward model then predicts, and how sure it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from prefcourse import plots
from prefcourse.widgets.explorer import Explorer, Frames, Key, explore

Frame = Mapping  # accuracy (Share), ceiling, gold, bins, calibration_error


def pairs_and_noise(
    run: Callable[..., Frame], frames: Mapping[Key, Frame], *, start: Mapping, pairs: Sequence[int],
    temperature: Sequence[float],
) -> Explorer:  # fmt: skip
    """Move the number of pairs and the people's noise. `run(seed=, pairs=, temperature=)` trains one more."""

    def draw(figure, frames: Frames, key: Key) -> str:
        again = frames.live.get(key, [])
        left, right = figure.subplots(1, 2, width_ratios=[6, 5])
        curve(left, {n: frames.computed[n, key[1]] for n in pairs}, key[0], again)
        plots.reliability_diagram(right, (again or [frames.computed[key]])[-1]["bins"])
        right.set_title("Run live" if again else "As often as it says?")
        return sentence(*key, frames.computed[key], again)

    return explore(
        run, draw, frames=frames, title="Pairs, noise, and a reward model", start=start, size=(9.0, 3.9),
        pairs=pairs, temperature=temperature,
    )  # fmt: skip


def curve(ax, by_pairs: Mapping[int, Frame], chosen: int, again: Sequence[Frame]):
    """The learning curve of these people, the number chosen, and what was run live."""
    accuracy = [frame["accuracy"] for frame in by_pairs.values()]
    plots.learning_curve(ax, list(by_pairs), accuracy, ceiling=by_pairs[chosen]["ceiling"])
    ax.plot([chosen], [by_pairs[chosen]["accuracy"].rate], "o", color=plots.POLICY, markersize=10)
    live = [frame["accuracy"].rate for frame in again]
    ax.plot([chosen] * len(live), live, "D", color="#D55E00", markersize=7)
    ax.set(ylim=(0.46, 0.92), title="Right on held-out labels")
    return ax


def sentence(pairs: int, temperature: float, here: Frame, again: Sequence[Frame]) -> str:
    rate, low, high = here["accuracy"]
    live = ", ".join(f"{frame['accuracy'].rate:.2f}" for frame in again)
    run = f" Run live: {live} (diamonds)." if again else ""
    return (
        f"On {pairs:,} pairs, labelled by people at temperature {temperature:g}, a reward model predicts {rate:.2f} of "
        f"held-out labels (95 % interval {low:.2f} to {high:.2f}); the best possible one {here['ceiling']:.2f}. It is "
        f"right about gold on {here['gold']:.2f} of the pairs, and its claims are off by "
        f"{here['calibration_error']:.2f} on average.{run}"
    )
