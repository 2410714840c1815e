"""What an annotator's labels say about the annotator: steadiness, company, biases. Every number has an interval.

Knows labels, gold and lengths; trains nothing and draws nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from prefcourse.agreement import Interval
from prefcourse.annotators import Annotator, Vote, population
from prefcourse.data.pairs import annotate, gaps
from prefcourse.evaluate import wilson
from prefcourse.widgets.labels import Sitting

SPREAD = 2.5  # of the prior on slope and biases, in logits: weak, but it keeps few labels from claiming infinity


class Measure(NamedTuple):
    """One number about somebody, in words: the share `successes` of `trials`, or an estimate that is no share."""

    name: str
    value: float
    low: float
    high: float
    trials: int
    says: str


class Summary(NamedTuple):
    labels: int
    ties: int
    seconds: float | None  # per choice, the median
    shares: list[Measure]
    pulls: list[Measure]  # slope and biases, in logits, as in `annotators.Annotator`


def summarise(sitting: Sitting, world, texts: Sequence[tuple[str, str, str]], finished=None) -> Summary:
    """Everything that the labels so far can tell."""
    votes, gap = sitting.votes(), np.array(gaps(world, texts, finished))[:2]  # gold, words: first minus second
    shares = [
        with_yourself(votes),
        with_the_careful(votes, world, texts, finished),
        share("chose the better answer by gold", [side(v) * gap[0, v.item] > 0 for v in decided(votes, gap[0])]),
        share("chose the left answer", [(v.label == "first") == v.shown_first for v in decided(votes)], coin="side"),
        share("chose the longer answer", [side(v) * gap[1, v.item] > 0 for v in decided(votes, gap[1])], coin="length"),
    ]
    ties = sum(vote.label == "tie" for vote in votes)
    return Summary(len(votes), ties, sitting.median_seconds(), shares, pulls(votes, *gap))


def side(vote: Vote) -> int:
    return 1 if vote.label == "first" else -1


def decided(votes: Sequence[Vote], gap: np.ndarray | None = None) -> list[Vote]:
    """Without ties, and without the pairs on which `gap` is 0."""
    return [vote for vote in votes if vote.label != "tie" and (gap is None or gap[vote.item] != 0)]


def share(name: str, hits: Sequence[bool], *, coin: str = "") -> Measure:
    """A share with Wilson's interval. `coin`: what would be a habit if the share were not one half."""
    if not hits:
        return Measure(name, np.nan, np.nan, np.nan, 0, "no label tells yet")
    rate, low, high = wilson(sum(hits), len(hits))
    says = f"{sum(hits)} of {len(hits)}"
    if coin and low > 0.5 or coin and high < 0.5:
        says += f": not by chance; {coin} led you, or went along with what did"
    elif coin:
        says += ": no habit, as far as so few labels can show"
    return Measure(name, rate, low, high, len(hits), says)


def with_yourself(votes: Sequence[Vote]) -> Measure:
    """On the pairs shown twice, sides turned: the same answer both times?"""
    by_item = defaultdict(list)
    for vote in votes:
        by_item[vote.item].append(vote.label)
    return share("agreed with yourself", [both[0] == both[1] for both in by_item.values() if len(both) == 2])


def most_careful(count: int = 5) -> list[Annotator]:
    """Of the course's twenty people those whose choices depend most on quality."""
    return sorted(population(0), key=lambda person: (person.lapse > 0.05, -person.slope))[:count]


def with_the_careful(votes: Sequence[Vote], world, texts, finished=None, *, draws: int = 500) -> Measure:
    """Mean share of the five that say the same, over your decided first labels; pairs drawn anew for the interval."""
    name = "agreed with the five most careful"
    mine = {vote.item: vote.label for vote in reversed(decided(votes))}
    if not mine:
        return share(name, [])
    five = annotate(world, texts, most_careful(), seed=0, per_item=5, finished=finished)
    same = defaultdict(list)
    for vote in five:
        if vote.item in mine:
            same[vote.item].append(vote.label == mine[vote.item])
    each = np.array([np.mean(row) for row in same.values()])
    again = each[np.random.default_rng(0).integers(len(each), size=(draws, len(each)))].mean(axis=1)
    return Measure(name, each.mean(), *np.quantile(again, [0.025, 0.975]), len(each), f"on {len(each)} pairs")


# --- who you would be among the simulated people ------------------------------------------------------------


def pulls(votes: Sequence[Vote], gold: np.ndarray, words: np.ndarray) -> list[Measure]:
    """The slope, position and length bias under which these labels are likeliest, as in `annotators.Annotator`:
    a logistic regression with a weak prior N(0, 2.5 squared). They share the credit: a taste for length is what
    quality does not explain."""
    unit = [gap / (np.sqrt((gap**2).mean()) or 1) for gap in (gold, words)]
    rows = [(unit[0][v.item], 1.0 if v.shown_first else -1.0, unit[1][v.item]) for v in decided(votes)]
    names = ("quality", "standing on the left", "length")
    if not rows:
        return [Measure(name, np.nan, np.nan, np.nan, 0, "no label tells yet") for name in names]
    found = logistic(np.array(rows), np.array([side(vote) for vote in decided(votes)]))
    return [
        Measure(name, *interval, len(rows), pull_in_words(interval))
        for name, interval in zip(names, found, strict=True)
    ]


def logistic(inputs: np.ndarray, sign: np.ndarray, *, spread: float = SPREAD) -> list[Interval]:
    """Weights w with P(sign) = sigmoid(sign w.x) and prior N(0, spread squared): the mode, by Newton's method, and
    +- 1.96 standard deviations of the normal approximation there (Laplace)."""
    weights = np.zeros(inputs.shape[1])
    precision = np.eye(inputs.shape[1]) / spread**2
    for _ in range(50):
        wrong = 1 / (1 + np.exp(np.clip(sign * (inputs @ weights), -500, 500)))
        curvature = inputs.T @ (inputs * (wrong * (1 - wrong))[:, None]) + precision
        step = np.linalg.solve(curvature, inputs.T @ (sign * wrong) - precision @ weights)
        weights = weights + step * min(1, 3 / max(np.abs(step).max(), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    half = 1.96 * np.sqrt(np.diag(np.linalg.inv(curvature)))
    return [Interval(float(w), float(w - h), float(w + h)) for w, h in zip(weights, half, strict=True)]


def pull_in_words(interval: Interval) -> str:
    if interval.low > 0:
        return "pulls you towards it"
    return "pushes you away from it" if interval.high < 0 else "no pull, as far as so few labels can show"
