"""Agreement between annotators: how often, how far beyond chance, and what it lets a reward model reach.

Knows items, labels and annotators; knows nothing of prompts, models or files.

`labels_by_item` is one list of labels per item, of any length, in any order; None is a missing label.
`votes` are (item, annotator, label), for the statistics that must know who said what.
One rule for the undefined: **nan**. Agreement takes two labels: an item with one is left out; when no item
has two, the answer is nan. So is a kappa or an alpha when all labels are the same: chance explains it all.
"""

from __future__ import annotations

from collections import Counter, defaultdict, namedtuple
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import NamedTuple

import numpy as np

from prefcourse.annotators import Annotator, PairFeatures, Vote, label_probabilities

TIE = "tie"
ORDER = ("first", "tie", "second")  # a scale from end to end: reading it backwards swaps the two responses

PairCounts = namedtuple("PairCounts", "agreeing pairs")
Unanimity = namedtuple("Unanimity", "unanimous mixed")
AnnotatorAccuracy = namedtuple("AnnotatorAccuracy", "accuracy labels")
PairKappa = namedtuple("PairKappa", "kappa items")
Ceiling = namedtuple("Ceiling", "gold best")
CeilingEstimate = namedtuple("CeilingEstimate", "bradley_terry constant_noise")
Interval = namedtuple("Interval", "estimate low high")


class LabelCounts(NamedTuple):
    """How often each item (row) got each label (column). Statistics that need not know who voted accept this
    in place of `labels_by_item`: it is counted once and quick to resample."""

    counts: np.ndarray
    labels: tuple


def count_labels(labels_by_item) -> LabelCounts:
    """Count each item's labels. Raises ValueError when an item is not a list of labels."""
    if isinstance(labels_by_item, LabelCounts):
        return labels_by_item
    items = [_labels_of(number, item) for number, item in enumerate(labels_by_item)]
    labels = sorted({label for item in items for label in item}, key=str)
    column = {label: number for number, label in enumerate(labels)}
    counts = np.zeros((len(items), len(labels)), dtype=int)
    rows = np.repeat(np.arange(len(items)), [len(item) for item in items])
    np.add.at(counts, (rows, np.array([column[label] for item in items for label in item], dtype=int)), 1)
    return LabelCounts(counts, tuple(labels))


def _labels_of(number: int, item) -> list:
    if isinstance(item, (str, Vote)) or not isinstance(item, Iterable):
        slip = "From votes take group_by_item(votes), from a dict its values(); one label cannot agree"
        raise ValueError(f"item {number} is {item!r}; expected a list like ['first', 'tie']. {slip}")
    return [label for label in item if label is not None and label == label]  # nan is missing, too


def without_repeats(votes: Iterable[Vote]) -> list[Vote]:
    """The first vote of each annotator on each item, missing labels apart."""
    first: dict = {}
    for vote in votes:
        if vote[2] is not None:
            first.setdefault((vote[0], vote[1]), vote)
    return list(first.values())


def group_by_item(votes: Iterable[Vote], *, repeats: str = "keep") -> list[list[Hashable]]:
    """Labels of each item, items in order of appearance. Orientation must be canonical: (A, B) and (B, A) are
    one item. `repeats`: does a person's second vote on an item count? Yes ("keep", as in the
    MT-Bench paper) or no ("first")."""
    _check("repeats", repeats, "keep", "first")
    groups = defaultdict(list)
    for item, _, label, *_ in without_repeats(votes) if repeats == "first" else votes:
        groups[item].append(label)
    return list(groups.values())


def _check(name: str, value: str, *choices: str) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r}; expected {' or '.join(map(repr, choices))}")


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def without_ties(labels_by_item) -> LabelCounts:
    """As if nobody had said "tie": for the statistics that have no rule of their own for ties."""
    counts, labels = count_labels(labels_by_item)
    stays = [column for column, label in enumerate(labels) if label != TIE]
    return LabelCounts(counts[:, stays], tuple(labels[column] for column in stays))


def _comparable(labels_by_item, ties: str, *more_rules: str) -> LabelCounts:
    """The items with two labels or more, once the ties are treated."""
    _check("ties", ties, "three-way", "drop", *more_rules)
    counts, labels = without_ties(labels_by_item) if ties == "drop" else count_labels(labels_by_item)
    return LabelCounts(counts[counts.sum(axis=1) >= 2], labels)


def _pairs_per_item(labels_by_item, ties: str) -> tuple[np.ndarray, np.ndarray]:
    counts, labels = _comparable(labels_by_item, ties, "half")
    credit = np.eye(len(labels))  # what a pair of labels earns
    if ties == "half":
        is_tie = np.array([label == TIE for label in labels], dtype=bool)
        credit[is_tie[:, None] != is_tie] = 0.5
    sizes = counts.sum(axis=1)
    same = (counts @ credit * counts).sum(axis=1)  # each pair twice, and each label with itself
    return (same - sizes) / 2, sizes * (sizes - 1) // 2


def count_pairs(labels_by_item, *, ties: str = "three-way") -> PairCounts:
    """How many pairs of labels on one item agree, of how many; tie rules as in `percent_agreement`."""
    agreeing, pairs = _pairs_per_item(labels_by_item, ties)
    return PairCounts(float(agreeing.sum()), int(pairs.sum()))


def percent_agreement(labels_by_item, *, ties: str = "three-way", average: str = "pairs") -> float:
    """How often do two labels on the same item agree?

    `ties`: "three-way", a tie is a label like any other; "drop", ties are removed before labels are paired;
    "half", a tie against a decision earns one half (LIMA's tie-discounted accuracy, arXiv:2305.11206).
    `average`: "pairs" pools all label pairs, so m labels weigh m(m-1)/2; "items" is the mean over items.
    """
    _check("average", average, "pairs", "items")
    agreeing, pairs = _pairs_per_item(labels_by_item, ties)
    if average == "items":
        return _ratio((agreeing / pairs).sum(), len(pairs))
    return _ratio(agreeing.sum(), pairs.sum())


def unanimity(labels_by_item) -> Unanimity:
    """On what share of the items with two labels or more do all agree, and on what share do they not?
    The more labels, the rarer is unanimity: compare only items with equal numbers."""
    counts = count_labels(labels_by_item).counts  # (items, labels)
    judged = counts[counts.sum(axis=1) >= 2]
    unanimous = _ratio(((judged > 0).sum(axis=1) == 1).sum(), len(judged))
    return Unanimity(unanimous, 1 - unanimous)


def leave_one_out(labels_by_item, *, ties: str = "three-way") -> float:
    """How often does a label equal the majority of the OTHER labels on its item? If these put several labels
    level on top, each of those earns its share of the credit: 1/2, 1/3. Every label weighs the same."""
    counts = _comparable(labels_by_item, ties).counts
    hits = 0.0
    for column, one_label in enumerate(np.eye(counts.shape[1], dtype=int)):
        others = counts - one_label
        top = others == others.max(axis=1, keepdims=True)
        hits += (counts[:, column] * top[:, column] / top.sum(axis=1)).sum()
    return _ratio(hits, counts.sum())


def annotator_accuracy(votes: Iterable[Vote], *, ties="three-way") -> dict[Hashable, AnnotatorAccuracy]:
    """How often does each person agree with the majority of the OTHER people on the item, and over how many
    labels? Credit as in `leave_one_out`; nan over 0 labels. With fewer than some 50 nobody can be judged."""
    _check("ties", ties, "three-way", "drop")
    by_item, credits = defaultdict(list), defaultdict(list)
    for item, annotator, label, *_ in votes:
        credits[annotator] += []  # everybody appears in the answer
        if label is not None and (ties == "three-way" or label != TIE):
            by_item[item].append((annotator, label))
    for labelled in by_item.values():
        for annotator, label in labelled:
            others = Counter(said for who, said in labelled if who != annotator)
            if others:
                top = [said for said, count in others.items() if count == max(others.values())]
                credits[annotator].append((label in top) / len(top))
    return {who: AnnotatorAccuracy(_ratio(sum(c), len(c)), len(c)) for who, c in credits.items()}


def cohen_kappa(a: Sequence[Hashable], b: Sequence[Hashable]) -> float:
    """Two people on the same items (Cohen 1960): (agreement - chance) / (1 - chance), where chance is what
    they reach by accident, each with THEIR OWN shares of the labels."""
    a, b = list(a), list(b)
    if len(a) != len(b) or None in a + b:
        found = f"found {len(a)} and {len(b)} labels, {(a + b).count(None)} of them None"
        raise ValueError(f"{found}; expected one label of each person for every item that both labelled")
    observed = _ratio(sum(x == y for x, y in zip(a, b, strict=True)), len(a))
    shares_a, shares_b = Counter(a), Counter(b)
    chance = _ratio(sum(shares_a[label] * shares_b[label] for label in shares_a), len(a) ** 2)
    return _ratio(observed - chance, 1 - chance)


def pairwise_cohen(votes: Iterable[Vote]) -> dict[tuple, PairKappa]:
    """Cohen's kappa, and on how many items, for every two annotators who share items (first vote each)."""
    by_item, shared = defaultdict(list), defaultdict(list)
    for item, annotator, label, *_ in without_repeats(votes):
        by_item[item].append((annotator, label))
    for labelled in by_item.values():
        for (who_a, a), (who_b, b) in combinations(sorted(labelled, key=lambda x: str(x[0])), 2):
            shared[who_a, who_b].append((a, b))
    return {who: PairKappa(cohen_kappa(*zip(*said, strict=True)), len(said)) for who, said in shared.items()}


def fleiss_kappa(labels_by_item) -> float:
    """Many people, m labels on every item (Fleiss 1971); chance from the shares of all labels pooled. For
    m = 2 it is Scott's pi, not Cohen's kappa. Raises ValueError when the numbers of labels differ."""
    counts = count_labels(labels_by_item).counts  # (items, labels)
    sizes = counts.sum(axis=1)
    if len(set(sizes.tolist())) > 1:
        found = f"found {sizes.min()} to {sizes.max()} labels per item; expected the same number on each"
        raise ValueError(f"{found}. Use krippendorff_alpha, or keep only the items that have one number")
    agreement = _ratio((counts * (counts - 1)).sum(), (sizes * (sizes - 1)).sum())
    chance = ((counts.sum(axis=0) / max(sizes.sum(), 1)) ** 2).sum()
    return _ratio(agreement - chance, 1 - chance)


def _on_scale(labels_by_item, order: Sequence[Hashable]) -> LabelCounts:
    table = count_labels(labels_by_item)
    strangers = [label for label in table.labels if label not in order]
    if strangers:
        raise ValueError(f"found labels {strangers}, not in order={tuple(order)}; name all, from end to end")
    column = dict(zip(table.labels, table.counts.T, strict=True))
    unused = np.zeros(len(table.counts), dtype=int)
    return LabelCounts(np.stack([column.get(label, unused) for label in order], axis=1), tuple(order))


def krippendorff_alpha(labels_by_item, level: str = "nominal", *, order: Sequence[Hashable] = ORDER) -> float:
    """1 - observed / expected disagreement (Krippendorff 2004), for any number of people and missing labels.

    `level`: "nominal", any two labels differ alike; "ordinal", by the squared distance of their mean ranks on
    the scale `order`. An item with m labels weighs m here, and m(m-1)/2 in `percent_agreement`.
    """
    _check("level", level, "nominal", "ordinal")
    counts = (_on_scale(labels_by_item, order) if level == "ordinal" else count_labels(labels_by_item)).counts
    counts = counts[counts.sum(axis=1) >= 2]
    weighted = counts / (counts.sum(axis=1, keepdims=True) - 1)
    coincidences = weighted.T @ counts - np.diag(weighted.sum(axis=0))  # (K, K) ordered pairs of labels
    totals = coincidences.sum(axis=0)
    ranks = totals.cumsum() - totals / 2
    distance = (ranks[:, None] - ranks) ** 2 if level == "ordinal" else 1 - np.eye(len(totals))
    return 1 - _ratio((coincidences * distance).sum(), totals @ distance @ totals / (totals.sum() - 1))


def symmetrised_agreement(labels_by_item, coefficient=krippendorff_alpha, *, order=ORDER) -> float:
    """The coefficient when each item is entered in both orientations.

    Which response is called first is arbitrary. Agreement does not depend on it; kappa and alpha do, through
    the shares of the labels. Entered both ways the shares are level: with two labels, about 2 agreement - 1.
    """
    table = _on_scale(labels_by_item, order)
    return coefficient(LabelCounts(np.vstack([table.counts, table.counts[:, ::-1]]), table.labels))


@dataclass(frozen=True)
class DawidSkene:
    """What EM inferred about true labels and about people."""

    items: tuple
    annotators: tuple
    labels: tuple
    posterior: np.ndarray  # (items, true label)
    confusion: np.ndarray  # (annotators, true label, said label)
    prior: np.ndarray  # (true label,)
    objective: list[float]  # log-likelihood + smoothing * sum of log-parameters, step by step; never falls

    def accuracy(self) -> dict[Hashable, float]:
        """P(said the true label) per annotator."""
        right = np.einsum("jkk,k->j", self.confusion, self.prior)
        return dict(zip(self.annotators, right.tolist(), strict=True))

    def consensus(self) -> dict[Hashable, Hashable]:
        """The likeliest true label per item."""
        best = self.posterior.argmax(axis=1)
        return {item: self.labels[k] for item, k in zip(self.items, best, strict=True)}


def dawid_skene(votes: Iterable[Vote], *, smoothing=1.0, steps=200, tolerance=1e-6, start=None) -> DawidSkene:
    """Who is right, when no answer is known? Dawid & Skene (1979): EM on true labels and confusion matrices.

    `smoothing` is added to every count, which makes EM climb likelihood x a Dirichlet prior (the objective).
    `start`: first posterior (items, labels); default, each item's vote shares. The likelihood cannot tell
    which class is called "first": of all namings (up to 7 labels), the one nearest to the votes is returned.
    """
    items, who, said, names = _index_votes(votes)
    if smoothing <= 0:
        raise ValueError(f"smoothing={smoothing}; expected > 0: what was never seen is not impossible")
    people, kinds = len(names[1]), len(names[2])
    shares = np.zeros((len(names[0]), kinds))
    np.add.at(shares, (items, said), 1 / np.bincount(items)[items])
    posterior, objective = shares if start is None else np.asarray(start, dtype=float), []
    while len(objective) < 2 or (len(objective) < steps and objective[-1] - objective[-2] > tolerance):
        # M step: how does each person label, if the posterior is true?
        counts = np.full((people, kinds, kinds), float(smoothing))  # (person, said, true)
        np.add.at(counts, (who, said), posterior[items])
        confusion = (counts / counts.sum(axis=1, keepdims=True)).swapaxes(1, 2)  # (person, true, said)
        prior = posterior.sum(axis=0) + smoothing
        prior /= prior.sum()
        # E step: which label is true, if people label like that?
        evidence = np.tile(np.log(prior), (len(shares), 1))  # (item, true)
        np.add.at(evidence, items, np.log(confusion)[who, :, said])
        total = np.logaddexp.reduce(evidence, axis=1, keepdims=True)
        posterior = np.exp(evidence - total)
        objective.append(float(total.sum() + smoothing * (np.log(confusion).sum() + np.log(prior).sum())))
    overlap, namings = posterior.T @ shares, permutations(range(kinds)) if kinds <= 7 else [range(kinds)]
    naming = list(max(namings, key=lambda order: overlap[list(order), range(kinds)].sum()))
    return DawidSkene(*names, posterior[:, naming], confusion[:, naming], prior[naming], objective)


def _index_votes(votes: Iterable[Vote]) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[tuple]]:
    """Item, annotator and label of each vote as numbers, and the names that the numbers stand for."""
    votes = [tuple(vote[:3]) for vote in votes if vote[2] is not None]
    names = [tuple(dict.fromkeys(vote[part] for vote in votes)) for part in range(3)]
    if len({vote[:2] for vote in votes}) == len(names[0]):
        raise ValueError(f"found one annotator on each of {len(names[0])} items: nobody can be compared")
    names[2] = tuple(sorted(names[2], key=str))
    codes = [{name: number for number, name in enumerate(known)} for known in names]
    return *(np.array([codes[part][vote[part]] for vote in votes]) for part in range(3)), names


def ceiling_from_annotators(annotators: Sequence[Annotator], pairs: PairFeatures) -> Ceiling:
    """What share of single held-out labels (ties apart) can a reward model predict, if the people are known?

    `gold`: a model that knows the true reward. `best`: the most that a model can reach that sees the pair but
    not the person or the screen; above `gold` where people share a bias, which the reward model then learns.
    """
    first, second, _ = np.mean([label_probabilities(person, pairs) for person in annotators], axis=0).T
    gold = np.where(pairs.gold == 0, (first + second) / 2, np.where(pairs.gold > 0, first, second))
    decided = (first + second).sum()
    return Ceiling(_ratio(gold.sum(), decided), _ratio(np.maximum(first, second).sum(), decided))


def ceiling_from_agreement(agreement: float) -> CeilingEstimate:
    """What ceiling does agreement A allow (two labels, no ties, people all alike)? A alone does not say.

    `constant_noise`: every label is right with one probability q, A = q^2 + (1-q)^2; no account gives more.
    `bradley_terry`: P(right) = sigmoid(slope |d|) with d ~ N(0, 1), easy pairs and hard ones. The least is A
    itself: some pairs clear to all, the rest coin flips. To tell these apart takes 4 labels on a pair.
    """
    if not 0.5 <= agreement <= 1:
        raise ValueError(f"agreement={agreement}; expected .5 to 1. Were ties counted? Take ties='drop'")
    gap = (np.arange(2000) + 0.5) / 250  # |d| up to 8
    weight = np.exp(-(gap**2) / 2) / np.exp(-(gap**2) / 2).sum()
    slopes = np.append(0, np.geomspace(0.01, 1e4, 500))
    right = 0.5 + 0.5 * np.tanh(np.outer(slopes, gap) / 2)  # (slope, gap)
    bradley_terry = np.interp(agreement, (right**2 + (1 - right) ** 2) @ weight, right @ weight)
    return CeilingEstimate(float(bradley_terry), (1 + (2 * agreement - 1) ** 0.5) / 2)


def bootstrap(statistic: Callable, labels_by_item, *, draws=1000, level=0.95, seed: int = 0) -> Interval:
    """Percentile interval over ITEMS drawn anew with replacement: labels on one item are not independent.
    Draws where the statistic is nan are left out. On count_labels(labels_by_item) it runs much faster."""
    counted, generator, values = isinstance(labels_by_item, LabelCounts), np.random.default_rng(seed), []
    items = labels_by_item.counts if counted else list(labels_by_item)
    for _ in range(draws if len(items) else 0):
        rows = generator.integers(len(items), size=len(items))
        drawn = LabelCounts(items[rows], labels_by_item.labels) if counted else [items[row] for row in rows]
        values.append(statistic(drawn))
    defined = [value for value in values if value == value] or [float("nan")]
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(labels_by_item if counted else items)), float(low), float(high))
