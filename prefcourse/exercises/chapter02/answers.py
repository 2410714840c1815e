"""Answers to chapter 2: an oracle by another road than the solution's, wrong answers that people give, right ones
written differently, hints. Never lies where submissions run."""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from itertools import combinations, pairwise, product

import numpy as np

from prefcourse.checks.exercise import Answers, Mutant

NAN = math.nan


def _without_ties(labels_by_item):
    return [[said for said in labels if said != "tie"] for labels in labels_by_item]


def _ratio(part, whole):
    return part / whole if whole else NAN


# --- 2.1 agreement_rate -------------------------------------------------------------------------------------


def _rate_by_counts(labels_by_item, drop_ties=False):
    """Ordered pairs from the counts alone: n (n - 1) that agree, of m (m - 1)."""
    counts = [Counter(labels) for labels in (_without_ties(labels_by_item) if drop_ties else labels_by_item)]
    agreeing = sum(n * (n - 1) for count in counts for n in count.values())
    return _ratio(agreeing, sum(count.total() * (count.total() - 1) for count in counts))


def _rate(labels_by_item, drop_ties=False, *, pairs=lambda x: combinations(x, 2), same=str.__eq__, none=NAN):
    kept = _without_ties(labels_by_item) if drop_ties else labels_by_item
    verdicts = [same(a, b) for labels in kept for a, b in pairs(labels)]
    return sum(verdicts) / len(verdicts) if verdicts else none


def _mean_over_items(labels_by_item, drop_ties=False):
    rates = [rate for labels in labels_by_item if not math.isnan(rate := _rate([labels], drop_ties))]
    return _ratio(sum(rates), len(rates))


def _majority_share(labels_by_item, drop_ties=False):
    kept = [x for x in (_without_ties(labels_by_item) if drop_ties else labels_by_item) if len(x) > 1]
    return _ratio(sum(max(Counter(labels).values()) for labels in kept), sum(map(len, kept)))


def _without_items_with_ties(labels_by_item, drop_ties=False):
    return _rate([labels for labels in labels_by_item if not (drop_ties and "tie" in labels)])


def _rate_with_matrices(labels_by_item, drop_ties=False):
    agreeing = pairs = 0
    for labels in labels_by_item:
        said = np.array([label for label in labels if not (drop_ties and label == "tie")], dtype=object)
        same = said[:, None] == said[None, :]
        agreeing += np.triu(same, k=1).sum()
        pairs += len(said) * (len(said) - 1) // 2
    return np.float64(agreeing) / pairs if pairs else np.nan


def _rate_with_loops(labels_by_item, drop_ties=False):
    equal = total = 0
    for labels in labels_by_item:
        if drop_ties:
            labels = list(filter("tie".__ne__, labels))
        for i in range(len(labels)):
            for j in range(i + 1, len(labels)):
                total += 1
                equal += labels[i] == labels[j]
    try:
        return equal / total
    except ZeroDivisionError:
        return float("nan")


_AGREEMENT_RATE = Answers(
    oracle=_rate_by_counts,
    mutants=(
        Mutant(
            "mean-over-items",
            "you average the items' own rates. Count pairs over all items, then divide once.",
            _mean_over_items,
        ),
        Mutant(
            "with-itself",
            "you also pair each label with itself. Take every two DIFFERENT positions.",
            partial(_rate, pairs=lambda labels: product(labels, labels)),
        ),
        Mutant(
            "neighbours",
            "you pair neighbours only. Of labels a, b, c, a and c are a pair, too.",
            partial(_rate, pairs=pairwise),
        ),
        Mutant(
            "majority",
            "you count the labels that equal the majority. Agreement is a property of PAIRS of labels.",
            _majority_share,
        ),
        Mutant(
            "disagreement",
            "you count the pairs that differ. Return the share of pairs that are equal.",
            partial(_rate, same=str.__ne__),
        ),
        Mutant(
            "nothing-is-0",
            "with nothing to compare you answer 0, as if all disagreed. Undefined is nan.",
            partial(_rate, none=0.0),
        ),
        Mutant(
            "nothing-is-1",
            "with nothing to compare you answer 1, as if all agreed. Undefined is nan.",
            partial(_rate, none=1.0),
        ),
        Mutant("ties-kept", "you ignore drop_ties.", lambda labels_by_item, drop_ties=False: _rate(labels_by_item)),
        Mutant(
            "ties-dropped",
            "you always drop ties; do it only when drop_ties=True.",
            lambda labels_by_item, drop_ties=False: _rate(labels_by_item, True),
        ),
        Mutant(
            "item-dropped",
            "with drop_ties=True you drop a whole item as soon as one label is a tie. Drop the label; the others stay.",
            _without_items_with_ties,
        ),
        Mutant(
            "ties-agree",
            "you let a tie agree with everything. A tie agrees with a tie, and with nothing else.",
            partial(_rate, same=lambda a, b: a == b or "tie" in (a, b)),
        ),
    ),
    alternatives=(_rate, _rate_with_matrices, _rate_with_loops),
    hints=(
        "Write down all pairs of the question's example, item by item. If every PAIR weighs the same, do its two items "
        "weigh the same? And what does an item with a single label add?",
        "Put the verdicts (equal or not) of all pairs of all items in ONE list; itertools.combinations(labels, 2) "
        "gives the pairs of an item. Then sum(verdicts) / len(verdicts), and before it the case of an empty list.",
        "Read traps 3 and 4 in the chapter's part 'Five traps': the tie rule, and averaging over pairs against "
        "averaging over items. Afterwards, compare with prefcourse.agreement.percent_agreement, which can do both.",
    ),
)


# --- 2.2 unanimity ------------------------------------------------------------------------------------------


def _unanimity_by_pairs(labels_by_item):
    """By enumeration: unanimous is an item none of whose pairs differs."""
    pairs = [list(combinations(labels, 2)) for labels in labels_by_item]
    mixed = sum(any(a != b for a, b in found) for found in pairs if found)
    judged = sum(map(bool, pairs))
    return _ratio(judged - mixed, judged), _ratio(mixed, judged)


def _unanimity(labels_by_item, *, least=2, share=1.0, none=NAN, everything=False):
    kept = [labels for labels in labels_by_item if len(labels) >= least]
    agreed = sum(max(Counter(labels).values()) >= share * len(labels) for labels in kept)
    items = len(labels_by_item) if everything else len(kept)
    return (agreed / items, (len(kept) - agreed) / items) if kept else (none, none)


def _unanimity_as_list(labels_by_item):
    same = np.array([labels.count(labels[0]) == len(labels) for labels in labels_by_item if len(labels) > 1])
    return [same.mean(), 1 - same.mean()] if len(same) else [np.nan] * 2


def _unanimity_as_array(labels_by_item):
    sizes = Counter(min(len(set(labels)), 2) for labels in labels_by_item if len(labels) > 1)
    return np.array([sizes[1], sizes[2]]) / sizes.total() if sizes else np.full(2, np.nan)


_UNANIMITY = Answers(
    oracle=_unanimity_by_pairs,
    mutants=(
        Mutant(
            "one-voice",
            "you count an item with one label as unanimous. One voice cannot agree with itself.",
            partial(_unanimity, least=1),
        ),
        Mutant(
            "majority",
            "you ask for a majority. Unanimous means that ALL labels are the same.",
            partial(_unanimity, share=0.51),
        ),
        Mutant(
            "all-items",
            "you divide by all items, also those with fewer than two labels.",
            partial(_unanimity, everything=True),
        ),
        Mutant(
            "swapped",
            "the order is swapped. Return unanimous first, then mixed.",
            lambda labels_by_item: _unanimity(labels_by_item)[::-1],
        ),
        Mutant("nothing-is-0", "with no items to judge you answer 0. Undefined is nan.", partial(_unanimity, none=0.0)),
        Mutant(
            "ties-dropped",
            "you drop ties. Here a tie is a label: two ties are unanimous.",
            lambda labels_by_item: _unanimity(_without_ties(labels_by_item)),
        ),
        Mutant(
            "counts",
            "you return the number of items of each kind. Divide by the number of items that were judged.",
            lambda labels_by_item: tuple(
                share * sum(len(labels) > 1 for labels in labels_by_item) for share in _unanimity(labels_by_item)
            ),
        ),
    ),
    alternatives=(_unanimity, _unanimity_as_list, _unanimity_as_array),
    hints=(
        "How can you tell that all labels of an item are the same? Try your test on an item with a single label: "
        "should that item count?",
        "Keep the items with len(labels) >= 2. Unanimous are those with len(set(labels)) == 1. Both shares divide by "
        "the number of items kept, so they add up to 1: return unanimous, mixed.",
        "Trap 4 in the chapter's part 'Five traps' shows that unanimity falls with the number of labels on an item "
        "while agreement does not. Afterwards, compare with prefcourse.agreement.unanimity.",
    ),
)


# --- 2.3 cohen_kappa ----------------------------------------------------------------------------------------


def _kappa_by_enumeration(a, b):
    """1 - observed / expected disagreement, the expected over all n x n pairs of a label of a's with one of b's."""
    observed = [x != y for x, y in zip(a, b, strict=True)]
    expected = [x != y for x, y in product(a, b)]
    return 1 - _ratio(_ratio(sum(observed), len(observed)), _ratio(sum(expected), len(expected)))


def _agreement_and_chance(a, b, shares_a=None, shares_b=None):
    observed = _ratio(sum(x == y for x, y in zip(a, b, strict=True)), len(a))
    shares_a, shares_b = shares_a or Counter(a), shares_b or Counter(b)
    of = shares_a.total() * shares_b.total()
    return observed, _ratio(sum(count * shares_b[label] for label, count in shares_a.items()), of)


def _kappa(a, b, *, chance=None, undefined=NAN, divide=True):
    observed, by_shares = _agreement_and_chance(a, b)
    by_chance = by_shares if chance is None else chance(a, b)
    if by_chance == 1:
        return undefined
    return (observed - by_chance) / (1 - by_chance if divide else 1)


def _pooled_chance(a, b):
    return _agreement_and_chance(a, b, Counter([*a, *b]), Counter([*a, *b]))[1]


def _uniform_chance(a, b):
    return 1 / len({*a, *b}) if a else NAN


def _largest_share_chance(a, b):
    return max(Counter([*a, *b]).values()) / len([*a, *b]) if a else NAN


def _chance_of_one_alone(a, b):
    return _agreement_and_chance(a, b, Counter(a), Counter(a))[1]


def _counts_divided_once(a, b):
    return _agreement_and_chance(a, b)[1] * len(a)


def _divided_by_chance(a, b):
    observed, by_chance = _agreement_and_chance(a, b)
    return NAN if by_chance in (0, 1) else (observed - by_chance) / by_chance


def _cut_to_the_shorter(a, b):
    shorter = min(len(a), len(b))
    return _kappa(a[:shorter], b[:shorter])


def _kappa_with_table(a, b):
    labels = sorted({*a, *b})
    table = np.zeros((len(labels), len(labels)))
    for x, y in zip(a, b, strict=True):
        table[labels.index(x), labels.index(y)] += 1
    if table.sum() == 0 or len(labels) == 1:
        return np.nan
    table /= table.sum()
    chance = table.sum(axis=0) @ table.sum(axis=1)
    return (np.trace(table) - chance) / (1 - chance)


def _kappa_with_arrays(a, b):
    if len(a) != len(b):
        raise ValueError("a and b must be of the same length")
    a, b = np.array(a), np.array(b)
    with np.errstate(all="ignore"):
        observed = np.float32(np.sum(a == b)) / np.float64(len(a))
        chance = np.sum([np.sum(a == label) * np.sum(b == label) for label in np.unique(a)]) / np.float64(len(a)) ** 2
        return (observed - chance) / (1 - chance)


_COHEN_KAPPA = Answers(
    oracle=_kappa_by_enumeration,
    mutants=(
        Mutant(
            "agreement",
            "you return the share of equal labels. Kappa subtracts what chance gives: (agreement - chance) / "
            "(1 - chance).",
            lambda a, b: _agreement_and_chance(a, b)[0],
        ),
        Mutant(
            "not-divided",
            "you stop at agreement - chance. Divide by 1 - chance, so that perfect agreement gives 1.",
            partial(_kappa, divide=False),
        ),
        Mutant(
            "pooled",
            "you take chance from the labels of both people pooled (Scott's pi). Cohen's kappa multiplies each "
            "person's OWN share of a label.",
            partial(_kappa, chance=_pooled_chance),
        ),
        Mutant(
            "uniform",
            "you take chance as 1 / number of labels, as if both used all labels equally often. Use their shares.",
            partial(_kappa, chance=_uniform_chance),
        ),
        Mutant(
            "one-person",
            "you square the shares of one person. Chance multiplies a's share of each label by b's.",
            partial(_kappa, chance=_chance_of_one_alone),
        ),
        Mutant(
            "divided-once",
            "you multiply two counts and divide by the number of items once. Each share is a count divided by it.",
            partial(_kappa, chance=_counts_divided_once),
        ),
        Mutant(
            "over-chance",
            "you divide by chance. Divide by 1 - chance, which is the most one could gain beyond chance.",
            _divided_by_chance,
        ),
        Mutant(
            "largest-share",
            "you take the share of the most common label as chance. Sum share x share over ALL labels.",
            partial(_kappa, chance=_largest_share_chance),
        ),
        Mutant(
            "chance-1-is-1",
            "where both always say one label you answer 1. Chance explains all of it: undefined, nan.",
            partial(_kappa, undefined=1.0),
        ),
        Mutant(
            "chance-1-is-0",
            "where both always say one label you answer 0. Chance explains all of it: undefined, nan.",
            partial(_kappa, undefined=0.0),
        ),
        Mutant(
            "cut",
            "when the two lists differ in length you silently ignore the surplus. Such input is a mistake: raise "
            "ValueError (or write zip(a, b, strict=True), which does).",
            _cut_to_the_shorter,
        ),
    ),
    alternatives=(_kappa, _kappa_with_table, _kappa_with_arrays),
    hints=(
        "Two people who both say 'good' 95 times in 100 agree on 90 items in 100 even when they do not look. Kappa "
        "asks how far beyond that they get, as a share of the most that is possible.",
        "(agreement - chance) / (1 - chance), where chance is the sum over the labels of (share of it among a's "
        "labels) x (its share among b's). collections.Counter gives the shares. What if chance is 1?",
        "Trap 5 in the chapter's part 'Five traps' computes kappa for the 95/5 raters. Afterwards, compare with "
        "prefcourse.agreement.cohen_kappa.",
    ),
)


# --- 2.4 fleiss_kappa ---------------------------------------------------------------------------------------


def _require_equal(labels_by_item):
    if len(set(map(len, labels_by_item))) > 1:
        raise ValueError("expected the same number of labels on each item")


def _fleiss_by_enumeration(labels_by_item):
    """1 - observed / expected disagreement: of pairs on one item, and of any two labels drawn with replacement."""
    _require_equal(labels_by_item)
    pooled = [label for labels in labels_by_item for label in labels]
    observed = [a != b for labels in labels_by_item for a, b in combinations(labels, 2)]
    expected = [a != b for a, b in product(pooled, pooled)]
    return 1 - _ratio(_ratio(sum(observed), len(observed)), _ratio(sum(expected), len(expected)))


def _pooled_squares(labels_by_item):
    counts = Counter(label for labels in labels_by_item for label in labels)
    return _ratio(sum(n * n for n in counts.values()), counts.total() ** 2)


def _fleiss(labels_by_item, *, chance=_pooled_squares, undefined=NAN, check=True, rate=_rate, divide=True):
    if check:
        _require_equal(labels_by_item)
    observed, by_chance = rate(labels_by_item), chance(labels_by_item)
    if by_chance == 1:
        return undefined
    return (observed - by_chance) / (1 - by_chance if divide else 1)


def _chance_without_replacement(labels_by_item):
    return _rate([[label for labels in labels_by_item for label in labels]])


def _chance_per_item(labels_by_item):
    chances = [_pooled_squares([labels]) for labels in labels_by_item]
    return _ratio(sum(chances), len(chances))


def _chance_uniform(labels_by_item):
    kinds = {label for labels in labels_by_item for label in labels}
    return _ratio(1, len(kinds))


def _unanimous_share(labels_by_item):
    return _unanimity(labels_by_item)[0]


def _rate_with_itself(labels_by_item):
    return _rate(labels_by_item, pairs=lambda labels: product(labels, labels))


def _fleiss_with_matrix(labels_by_item):
    names = sorted({label for labels in labels_by_item for label in labels})
    counts = np.array([[labels.count(name) for name in names] for labels in labels_by_item], dtype=float)
    sizes = {len(labels) for labels in labels_by_item}
    if len(sizes) > 1:
        raise ValueError(f"found {min(sizes)} to {max(sizes)} labels per item")
    if len(names) < 2 or max(sizes) < 2:
        return np.nan
    m = sizes.pop()
    agreement = ((counts**2).sum(axis=1) - m) / (m * (m - 1))
    shares = counts.sum(axis=0) / counts.sum()
    return (agreement.mean() - shares @ shares) / (1 - shares @ shares)


def _fleiss_by_hand(labels_by_item):
    if any(len(labels) != len(labels_by_item[0]) for labels in labels_by_item):
        raise ValueError("unequal")
    everything = sum(labels_by_item, [])
    chance = sum((everything.count(name) / len(everything)) ** 2 for name in set(everything))
    agreeing = pairs = 0
    for labels in labels_by_item:
        for place, label in enumerate(labels):
            agreeing += labels[:place].count(label)
            pairs += place
    if not pairs or len(set(everything)) == 1:
        return float("nan")
    return 1 - (1 - agreeing / pairs) / (1 - chance)


def _rate_of_the_commonest(labels_by_item):
    shares = [max(Counter(labels).values()) / len(labels) for labels in labels_by_item if len(labels) > 1]
    return _ratio(sum(shares), len(shares))


def _rate_of_neighbours(labels_by_item):
    return _rate(labels_by_item, pairs=pairwise)


def _rate_alone(labels_by_item):
    _require_equal(labels_by_item)
    return _rate(labels_by_item)


_FLEISS_KAPPA = Answers(
    oracle=_fleiss_by_enumeration,
    mutants=(
        Mutant(
            "agreement",
            "you return the share of equal pairs. Kappa subtracts what chance gives: (agreement - chance) / "
            "(1 - chance).",
            _rate_alone,
        ),
        Mutant(
            "commonest",
            "you take the share of the most common label on an item as the agreement. Count equal PAIRS of labels.",
            partial(_fleiss, rate=_rate_of_the_commonest),
        ),
        Mutant(
            "neighbours",
            "you compare each label with the next one only. Of m labels on an item, m (m - 1) / 2 pairs count.",
            partial(_fleiss, rate=_rate_of_neighbours),
        ),
        Mutant(
            "with-itself",
            "you also pair each label with itself. Of m labels on an item, m (m - 1) / 2 pairs count.",
            partial(_fleiss, rate=_rate_with_itself),
        ),
        Mutant(
            "unanimous",
            "you take the share of unanimous items as the agreement. Count equal PAIRS: of 3 labels, 2 equal ones "
            "make 1 pair of 3.",
            partial(_fleiss, rate=_unanimous_share),
        ),
        Mutant(
            "not-divided",
            "you stop at agreement - chance. Divide by 1 - chance, so that perfect agreement gives 1.",
            partial(_fleiss, divide=False),
        ),
        Mutant(
            "without-replacement",
            "you draw the pairs for chance without replacement from the pool (that is Krippendorff's alpha). Fleiss' "
            "chance is the sum of squared shares.",
            partial(_fleiss, chance=_chance_without_replacement),
        ),
        Mutant(
            "chance-per-item",
            "you take the shares of the labels item by item. Chance comes from all labels of all items pooled.",
            partial(_fleiss, chance=_chance_per_item),
        ),
        Mutant(
            "uniform",
            "you take chance as 1 / number of labels, as if all labels were equally frequent. Use their shares.",
            partial(_fleiss, chance=_chance_uniform),
        ),
        Mutant(
            "chance-1-is-1",
            "where all labels are the same you answer 1. Chance explains all of it: undefined, nan.",
            partial(_fleiss, undefined=1.0),
        ),
        Mutant(
            "unequal-allowed",
            "you accept unequal numbers of labels. Fleiss' kappa is not defined there: raise ValueError.",
            partial(_fleiss, check=False),
        ),
    ),
    alternatives=(_fleiss, _fleiss_with_matrix, _fleiss_by_hand),
    hints=(
        "The same form as Cohen's kappa, (agreement - chance) / (1 - chance). But here nobody knows who said what: "
        "there are only the labels on each item.",
        "Agreement: the share of equal pairs of labels on one item, as in 2.1. Chance: the sum over the labels of "
        "(share among ALL labels of all items) squared. Look at the numbers of labels first.",
        "See trap 5 in the chapter's part 'Five traps'. For two labels per item it is Scott's pi, not Cohen's kappa. "
        "Afterwards, compare with prefcourse.agreement.fleiss_kappa.",
    ),
)


# --- 2.5 reward_model_ceiling -------------------------------------------------------------------------


def _ceiling_by_enumeration(probability_first, first_is_better):
    """Every reward model that gives one answer per pair is tried; the best of all 2^N is the ceiling."""
    pairs, people = len(first_is_better), len(probability_first)
    if not pairs:
        return NAN, NAN

    def hits(answers):
        right = (row[i] if first else 1 - row[i] for row in probability_first for i, first in enumerate(answers))
        return math.fsum(right) / (people * pairs)

    return hits(first_is_better), max(map(hits, product((True, False), repeat=pairs)))


def _mean_people(probability_first):
    return [sum(column) / len(column) for column in zip(*probability_first, strict=True)]


def _mean(values):
    values = list(values)
    return _ratio(sum(values), len(values))


def _ceiling(probability_first, first_is_better, *, gold=None, best=None):
    crowd = _mean_people(probability_first)
    gold = gold or (lambda crowd: _mean(p if b else 1 - p for p, b in zip(crowd, first_is_better, strict=True)))
    best = best or (lambda crowd: _mean(max(p, 1 - p) for p in crowd))
    return gold(crowd), best(crowd)


def _best_per_person(probability_first, first_is_better):
    best = _mean(max(p, 1 - p) for row in probability_first for p in row)
    return _ceiling(probability_first, first_is_better, best=lambda crowd: best)


def _agreement_of_two(crowd):
    return _mean(p * p + (1 - p) * (1 - p) for p in crowd)


def _one_answer_for_all(crowd):
    return max(_mean(crowd), 1 - _mean(crowd)) if crowd else NAN


def _majority_is_right(probability_first, first_is_better):
    """Certain labels: each pair's likelier label is what everybody says."""
    sure = [[float(p > 0.5) if p != 0.5 else 0.5 for p in _mean_people(probability_first)]]
    return _ceiling(sure, first_is_better)


def _gold_always_first(crowd):
    return _mean(crowd)


def _ceiling_with_arrays(probability_first, first_is_better):
    crowd = np.asarray(probability_first, dtype=float).mean(axis=0)
    if not crowd.size:
        return np.array([np.nan, np.nan])
    gold = np.where(np.array(first_is_better), crowd, 1 - crowd)
    return np.array([gold.mean(), np.maximum(crowd, 1 - crowd).mean()])


def _ceiling_with_margins(probability_first, first_is_better):
    """0.5 + the mean distance from a coin flip."""
    if len(first_is_better) == 0:
        return [float("nan")] * 2
    margins = [sum(p - 0.5 for p in said) / len(said) for said in zip(*probability_first, strict=True)]
    signed = [margin if better else -margin for margin, better in zip(margins, first_is_better, strict=True)]
    return [0.5 + sum(signed) / len(signed), 0.5 + sum(map(abs, signed)) / len(signed)]


_REWARD_MODEL_CEILING = Answers(
    oracle=_ceiling_by_enumeration,
    mutants=(
        Mutant(
            "knows-the-person",
            "your best model knows who will be asked: you take the likelier label of each person. Average over the "
            "people first, then take the likelier label of the pair.",
            _best_per_person,
        ),
        Mutant(
            "agreement",
            "for best you compute how often two people agree, p^2 + (1 - p)^2. A model errs less: it always says the "
            "likelier label, max(p, 1 - p).",
            partial(_ceiling, best=_agreement_of_two),
        ),
        Mutant(
            "one-answer",
            "your best model gives the same answer on all pairs. It sees the pair: take the likelier label of each.",
            partial(_ceiling, best=_one_answer_for_all),
        ),
        Mutant(
            "majority",
            "you score against the majority's label. The ceiling is for SINGLE labels, and single people err.",
            _majority_is_right,
        ),
        Mutant(
            "swapped",
            "the order is swapped. Return gold first, then best.",
            lambda probability_first, first_is_better: _ceiling(probability_first, first_is_better)[::-1],
        ),
        Mutant(
            "always-first",
            "your gold model always says 'first'. Where the second response is better it says 'second': 1 - p.",
            partial(_ceiling, gold=_gold_always_first),
        ),
        Mutant(
            "best-for-gold",
            "for gold you take the likelier label. A model that knows the true reward says what IS better, even where "
            "most people do not see it.",
            partial(_ceiling, gold=lambda crowd: _mean(max(p, 1 - p) for p in crowd)),
        ),
        Mutant(
            "nothing-is-0",
            "without pairs you answer 0. Undefined is nan.",
            lambda probability_first, first_is_better: (
                _ceiling(probability_first, first_is_better) if first_is_better else (0.0, 0.0)
            ),
        ),
    ),
    alternatives=(_ceiling, _ceiling_with_arrays, _ceiling_with_margins),
    hints=(
        "A held-out label comes from a person drawn at random. So all that matters about the crowd is, for each pair, "
        "the mean over the people of the probability of 'first'.",
        "Call that mean p. A model that says 'first' is right with probability p, one that says 'second' with 1 - p. "
        "gold says what is better, best says what is likelier; average each over the pairs.",
        "The chapter's figure of agreement against temperature draws this ceiling in green. Afterwards, compare with "
        "prefcourse.agreement.ceiling_from_annotators, which computes it from simulated people.",
    ),
)

ANSWERS = {
    "2.1": _AGREEMENT_RATE,
    "2.2": _UNANIMITY,
    "2.3": _COHEN_KAPPA,
    "2.4": _FLEISS_KAPPA,
    "2.5": _REWARD_MODEL_CEILING,
}
