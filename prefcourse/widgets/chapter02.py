"""Chapter 2's widget: how far do two people agree as they grow noisier? Every number is from labels really given."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from prefcourse import agreement, annotators, plots
from prefcourse.agreement import Interval
from prefcourse.published import published
from prefcourse.widgets.explorer import Explorer, Frames, Key, explore

TEMPERATURES = [0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8]
CROWDS = {"the course's twenty": annotators.population, "careful people only": annotators.careful_population}
PAIRS = 600
LEVELS = {"TL;DR, researchers": "tldr-researchers", "MT-Bench, no ties": "mtbench-without-ties"}


class Frame(NamedTuple):
    agreement: Interval
    ceiling: float  # what the best possible reward model reaches on single labels


def measure(*, seed: int, people: str, temperature: float, pairs: int = PAIRS) -> Frame:
    """600 pairs, five labels each, from people whose slopes are divided by the temperature."""
    crowd = CROWDS[people](0, scale=1.6 / temperature)
    features = annotators.random_features(pairs, generator=np.random.default_rng(seed))
    votes = annotators.label_pairs(crowd, features, per_item=5, generator=np.random.default_rng(seed + 1))
    table = agreement.count_labels(agreement.group_by_item(votes))
    found = agreement.bootstrap(agreement.percent_agreement, table, draws=100, seed=seed)
    return Frame(found, agreement.ceiling_from_annotators(crowd, features).best)


def draw(figure, frames: Frames, key: Key) -> str:
    """The curve of the people chosen, the temperature chosen, and what was run live."""
    people, temperature = key
    curve = [frames.computed[people, t] for t in TEMPERATURES]
    ax = figure.subplots()
    levels = {name: published(source).number for name, source in LEVELS.items()}
    plots.agreement_against_temperature(ax, TEMPERATURES, [frame.agreement for frame in curve], published=levels)
    ax.plot(TEMPERATURES, [frame.ceiling for frame in curve], "--", color=plots.CHOSEN)
    ax.annotate("best possible reward model", (1.06, 0.915), color=plots.CHOSEN, fontsize=9)
    here = frames.computed[key]
    ax.axvline(temperature, color=plots.REFERENCE, linestyle=":", linewidth=1.2)
    ax.plot([temperature], [here.agreement.estimate], "o", color=plots.POLICY, markersize=10)
    again = [frame.agreement.estimate for frame in frames.live.get(key, [])]
    ax.plot([temperature] * len(again), again, "D", color="#D55E00", markersize=7, label="run live")
    ax.set_xscale("log")
    ax.minorticks_off()
    ax.set_xticks(TEMPERATURES, [f"{t:g}" for t in TEMPERATURES])
    ax.set(ylim=(0.48, 1.0), xlabel="annotators' temperature (log axis)")
    ax.set_title(f"Noise lowers agreement: {people}")
    return sentence(temperature, here, again)


def sentence(temperature: float, here: Frame, again: list[float]) -> str:
    rate, low, high = here.agreement
    run = f" Run live: {', '.join(f'{value:.2f}' for value in again)} (diamonds)." if again else ""
    return (
        f"At temperature {temperature:g} two people agree on {rate:.2f} of the pairs (95 % interval {low:.2f} to "
        f"{high:.2f}); the best possible reward model predicts {here.ceiling:.2f} of single labels.{run}"
    )


def agreement_against_noise() -> Explorer:
    """Move the annotators' noise and see how far they agree."""
    return explore(
        measure, draw, title="Agreement against the annotators' noise", people=list(CROWDS), temperature=TEMPERATURES,
        start={"temperature": 1},
    )  # fmt: skip
