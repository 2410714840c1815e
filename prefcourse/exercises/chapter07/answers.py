"""Chapter 7's answers: oracles by another road, wrong answers with the sentence each deserves, hints."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from prefcourse import losses
from prefcourse.checks.exercise import Answers, Mutant
from prefcourse.exercises.tensors import closed_form

# --- 7.1 dawid_skene ----------------------------------------------------------------------------------------


def _check_comparable(votes):
    if len({item for item, _, _ in votes}) == len(votes):
        raise ValueError("nobody can be compared")


def _by_confusion_tables(votes, *, steps=30, start=None):
    """With a table of two worlds by two labels for each person, vote by vote, in logarithms."""
    _check_comparable(votes)
    labels = ("first", "second")
    said = {item: [label for other, _, label in votes if other == item] for item, _, _ in votes}
    shares = {item: list_.count("first") / len(list_) for item, list_ in said.items()}
    worlds = {i: (p, 1 - p) for i, p in (shares if start is None else {i: start[i] for i in shares}).items()}
    for _ in range(steps):
        counts = {who: {(w, label): 1.0 for w in (0, 1) for label in labels} for _, who, _ in votes}
        for item, who, label in votes:
            for w in (0, 1):
                counts[who][w, label] += worlds[item][w]
        table = {
            who: {(w, label): c[w, label] / (c[w, "first"] + c[w, "second"]) for w, label in c}
            for who, c in counts.items()
        }
        totals = [1 + sum(p[w] for p in worlds.values()) for w in (0, 1)]
        prior = [total / sum(totals) for total in totals]
        logs = {item: [math.log(p) for p in prior] for item in worlds}
        for item, who, label in votes:
            for w in (0, 1):
                logs[item][w] += math.log(table[who][w, label])
        worlds = {}
        for item, (a, b) in logs.items():
            first, second = math.exp(a - max(a, b)), math.exp(b - max(a, b))
            worlds[item] = first / (first + second), second / (first + second)
    right = {who: sum(prior[w] * t[w, label] for w, label in enumerate(labels)) for who, t in table.items()}
    truth = {item: p[0] for item, p in worlds.items()}
    same = sum(t * shares[i] + (1 - t) * (1 - shares[i]) for i, t in truth.items())
    other = sum((1 - t) * shares[i] + t * (1 - shares[i]) for i, t in truth.items())
    if other > same:
        truth, right = ({name: 1 - p for name, p in d.items()} for d in (truth, right))
    return truth, right


def _truth_from(log_odds):
    return 0.5 + 0.5 * np.tanh(log_odds / 2)


def _accuracy(hit, alarm, prior):
    return prior * hit + (1 - prior) * (1 - alarm)


def _by_logs(item, who, said, hit, alarm, prior):
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(said, np.log(hit / alarm)[who], np.log((1 - hit) / (1 - alarm))[who])
        return _truth_from(np.log(prior / (1 - prior)) + np.bincount(item, weight))


def _by_products(item, who, said, hit, alarm, prior):
    first, second = np.full(item.max() + 1, prior), np.full(item.max() + 1, 1 - prior)
    np.multiply.at(first, item, np.where(said, hit[who], 1 - hit[who]))
    np.multiply.at(second, item, np.where(said, alarm[who], 1 - alarm[who]))
    with np.errstate(invalid="ignore"):
        return first / (first + second)


def _no_prior(item, who, said, hit, alarm, prior):
    return _by_logs(item, who, said, hit, alarm, 0.5)


def _firsts_only(item, who, said, hit, alarm, prior):
    return _truth_from(np.log(prior / (1 - prior)) + np.bincount(item, np.where(said, np.log(hit / alarm)[who], 0.0)))


def _one_number(item, who, said, hit, alarm, prior):
    accuracy = _accuracy(hit, alarm, prior)
    return _by_logs(item, who, said, accuracy, 1 - accuracy, prior)


def _em(
    votes, *, steps=30, start=None, added=1.0, added_to_prior=1.0, evidence=_by_logs, guess=lambda truth: truth,
    accuracy=_accuracy, named=True, check=True, begin="given", stop=None, as_labels=False,
):  # fmt: skip
    """The solution's road, with a switch for each mistake."""
    if check:
        _check_comparable(votes)
    names = [list(dict.fromkeys(vote[part] for vote in votes)) for part in (0, 1)]
    item, who = (np.array([names[part].index(vote[part]) for vote in votes], dtype=int) for part in (0, 1))
    said = np.array([vote[2] == "first" for vote in votes], dtype=bool)
    if not votes:
        return {}, {}
    share = np.bincount(item, said) / np.bincount(item)
    truth = share if start is None or begin == "shares" else np.array([start[name] for name in names[0]], dtype=float)
    truth = np.full_like(share, 0.5) if begin == "half" else truth
    for _ in range(stop or steps):
        first = guess(truth)[item]
        with np.errstate(divide="ignore", invalid="ignore"):
            hit = (np.bincount(who, first * said) + added) / (np.bincount(who, first) + 2 * added)
            alarm = (np.bincount(who, (1 - first) * said) + added) / (np.bincount(who, 1 - first) + 2 * added)
        prior = (guess(truth).sum() + added_to_prior) / (len(truth) + 2 * added_to_prior)
        truth = evidence(item, who, said, hit, alarm, prior)
    right = accuracy(hit, alarm, prior)
    if named and ((2 * truth - 1) * (2 * share - 1)).sum() < 0:
        truth, right = 1 - truth, 1 - right
    truth = (truth > 0.5).astype(float) if as_labels else truth
    return dict(zip(names[0], truth.tolist(), strict=True)), dict(zip(names[1], right.tolist(), strict=True))


def _majority(votes, *, steps=30, start=None):
    """Vote shares, and agreement with the majority."""
    _check_comparable(votes)
    said = {item: [label == "first" for other, _, label in votes if other == item] for item, _, _ in votes}
    truth = {item: sum(firsts) / len(firsts) for item, firsts in said.items()}
    hits = {}
    for item, who, label in votes:
        hits.setdefault(who, []).append((label == "first") == (truth[item] > 0.5))
    return truth, {who: sum(right) / len(right) for who, right in hits.items()}


def _in_torch(votes, *, steps=30, start=None):
    """With a dense table of items by people, and worlds on the last axis."""
    _check_comparable(votes)
    items, people = sorted({v[0] for v in votes}, key=str), sorted({v[1] for v in votes}, key=str)
    counts = torch.zeros(len(items), len(people), 2, dtype=torch.float64)  # how often "first", how often "second"
    for item, who, label in votes:
        counts[items.index(item), people.index(who), int(label == "second")] += 1
    share = counts[..., 0].sum(1) / counts.sum((1, 2))
    first = share if start is None else torch.tensor([start[i] for i in items], dtype=torch.float64)
    worlds = torch.stack([first, 1 - first], -1)  # (I, 2)
    for _ in range(steps):
        table = torch.einsum("iw,ijl->jwl", worlds, counts) + 1
        table = table / table.sum(-1, keepdim=True)
        prior = (worlds.sum(0) + 1) / (len(items) + 2)
        worlds = (prior.log() + torch.einsum("ijl,jwl->iw", counts, table.log())).softmax(-1)
    accuracy = torch.einsum("w,jww->j", prior, table)
    truth = worlds[:, 0]
    if ((2 * truth - 1) * (2 * share - 1)).sum() < 0:
        truth, accuracy = 1 - truth, 1 - accuracy
    return dict(zip(items, truth, strict=True)), dict(zip(people, accuracy, strict=True))


_DAWID_SKENE = Answers(
    oracle=_by_confusion_tables,
    mutants=(
        Mutant(
            "majority",
            "you return vote shares, and agreement with the majority. Alternate: people from truth, truth from people.",
            _majority,
        ),
        Mutant(
            "one-step",
            "you alternate only once, whatever `steps` says.",
            partial(_em, stop=1),
        ),
        Mutant(
            "hard-truth",
            "you round the truth to 0 or 1 before you count. Each vote counts with the probability of its item.",
            partial(_em, guess=lambda truth: (truth > 0.5).astype(float)),
        ),
        Mutant(
            "labels-returned",
            "you return 0 or 1 as the truth. Return its probability.",
            partial(_em, as_labels=True),
        ),
        Mutant(
            "no-prior",
            "you leave out the prior in the E step: the log-odds of every item begin with log(prior / (1 - prior)).",
            partial(_em, evidence=_no_prior),
        ),
        Mutant(
            "firsts-only",
            'you count only the votes for "first". A vote for "second" adds log((1 - hit) / (1 - alarm)).',
            partial(_em, evidence=_firsts_only),
        ),
        Mutant(
            "one-number",
            "you weight votes by one number per person. Each has two: hit, where the first is better, and false alarm.",
            partial(_em, evidence=_one_number),
        ),
        Mutant(
            "nothing-added",
            "you add nothing to the counts of the M step. Somebody never seen to err is then infallible: add 1.",
            partial(_em, added=0.0),
        ),
        Mutant(
            "prior-without-one",
            "you add 1 to the counts of people but not to those of the prior.",
            partial(_em, added_to_prior=0.0),
        ),
        Mutant(
            "half-added",
            "you add 1/2 to each count. Add 1: (count + 1) / (total + 2).",
            partial(_em, added=0.5, added_to_prior=0.5),
        ),
        Mutant(
            "products",
            "you multiply probabilities. A product of a thousand of them is 0: add up logarithms.",
            partial(_em, evidence=_by_products),
        ),
        Mutant(
            "mirror",
            "you leave the mirror image as it is. If truth and vote shares disagree on the whole, swap the names.",
            partial(_em, named=False),
        ),
        Mutant(
            "mean-of-two",
            "your accuracy is the plain mean of hit and 1 - alarm. Weight them by the prior: 1 - alarm by 1 - prior.",
            partial(_em, accuracy=lambda hit, alarm, prior: (hit + 1 - alarm) / 2),
        ),
        Mutant(
            "hit-only",
            "your accuracy is the hit alone. Where the second is better, the truth is said with probability 1 - alarm.",
            partial(_em, accuracy=lambda hit, alarm, prior: hit),
        ),
        Mutant(
            "start-ignored",
            "you start from the vote shares even when `start` is given.",
            partial(_em, begin="shares"),
        ),
        Mutant(
            "even-start",
            "you start from 1/2 for every item. Then hits and alarms are equal, and nothing ever moves.",
            partial(_em, begin="half"),
        ),
        Mutant(
            "incomparable",
            "you accept votes of which no two are on the same item. Nobody can be compared: raise ValueError.",
            partial(_em, check=False),
        ),
    ),
    alternatives=(_em, _by_confusion_tables, _in_torch),
    hints=(
        "Number the items and the people first, so that each vote is three numbers. The two steps are weighted counts: "
        "over the votes of a person, and over the votes on an item.",
        "np.bincount(who, weights) adds up weights by person, np.bincount(item, weights) by item. M: hit = (sum of "
        "truth over their votes 'first' + 1) / (sum of truth over their votes + 2). E: truth = sigmoid(log-odds).",
        "In the chapter's part 'Who is right?' the function em has both steps. What it lacks: names instead of "
        "numbers, `start`, the mirror, and the ValueError, which is due if len(votes) == number of items.",
    ),
)


# --- 7.2 rdpo_loss ------------------------------------------------------------------------------------------


def _sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _softplus(x):
    return math.log1p(math.exp(x)) if x < 30 else x


def _loss_by_hand(policy_chosen, policy_rejected, ref_chosen, ref_rejected, *, beta, flip_probability):
    """With log(1 + e^-m) - log(1 + e^m) = -m: the loss is log(1 + e^-m) - flips / (1 - 2 flips) * m."""
    if not 0 <= flip_probability < 0.5:
        raise ValueError("flip_probability")
    columns = (policy_chosen, policy_rejected, ref_chosen, ref_rejected)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    margins = [beta * ((a - c) - (b - d)) for a, b, c, d in rows]
    odds = flip_probability / (1 - 2 * flip_probability)
    losses_ = [_softplus(-m) - odds * m for m in margins]
    pull = [beta * (_sigmoid(m) - 1 - odds) / len(margins) for m in margins]
    chosen, rejected = (policy_chosen, pull), (policy_rejected, [-x for x in pull])
    return closed_form(math.fsum(losses_) / len(losses_), chosen=chosen, rejected=rejected)


def _margins(pc, pr, rc, rr, beta):
    return beta * ((pc - pr) - (rc - rr).detach())


def _robust(loss, m, p):
    return ((1 - p) * loss(m) - p * loss(-m)) / (1 - 2 * p)


def _rdpo(
    pc, pr, rc, rr, *, beta, flip_probability, margins=_margins, loss=lambda m: -F.logsigmoid(m), mix=_robust,
    over_batch=torch.mean, check=True,
):  # fmt: skip
    if check and not 0 <= flip_probability < 0.5:
        raise ValueError("expected 0 <= flip_probability < 0.5")
    margin = margins(pc, pr, rc, rr, beta)
    return over_batch(mix(loss, margin, flip_probability))


def _with_metrics(pc, pr, rc, rr, *, beta, flip_probability):
    loss = _rdpo(pc, pr, rc, rr, beta=beta, flip_probability=flip_probability)
    return loss, {"loss": loss.detach()}


def _softplus_and_a_line(pc, pr, rc, rr, *, beta, flip_probability):
    if flip_probability < 0 or flip_probability >= 0.5:
        raise ValueError("no share")
    margins = _margins(pc, pr, rc, rr, beta)
    return (F.softplus(-margins) - flip_probability / (1 - 2 * flip_probability) * margins).mean()


def _half_and_half(pc, pr, rc, rr, *, beta, flip_probability):
    """(l(m) + l(-m)) / 2 is untouched by flips; half the difference is stretched."""
    assert_share = 0 <= flip_probability < 0.5
    if not assert_share:
        raise ValueError(flip_probability)
    margins = beta * (pc - rc.detach()) - beta * (pr - rr.detach())
    both = torch.stack([F.softplus(-margins), F.softplus(margins)])
    return (both.mean(0) - margins / (2 * (1 - 2 * flip_probability))).mean()


def _in_fp32(pc, pr, rc, rr, *, beta, flip_probability):
    return _rdpo(*(x.float() for x in (pc, pr, rc, rr)), beta=beta, flip_probability=flip_probability)


def _variant(**change):
    return partial(_rdpo, **change)


_RDPO_LOSS = Answers(
    oracle=_loss_by_hand,
    mutants=(
        Mutant(
            "cdpo",
            "this is cDPO: you ADD flips times the loss of the other label. That flips once more, and its mean over "
            "flips is not the clean loss. Subtract it, and divide by 1 - 2 flips.",
            _variant(mix=lambda loss, m, p: (1 - p) * loss(m) + p * loss(-m)),
        ),
        Mutant(
            "plus",
            "the sign between the two losses is a minus. With a plus nothing is undone.",
            _variant(mix=lambda loss, m, p: ((1 - p) * loss(m) + p * loss(-m)) / (1 - 2 * p)),
        ),
        Mutant(
            "plain-dpo",
            "you ignore flip_probability: this is DPO's loss.",
            _variant(mix=lambda loss, m, p: loss(m)),
        ),
        Mutant(
            "not-divided",
            "you do not divide by 1 - 2 flips. The mean over flips is then 1 - 2 flips times the clean loss.",
            _variant(mix=lambda loss, m, p: (1 - p) * loss(m) - p * loss(-m)),
        ),
        Mutant(
            "divided-by-one-minus",
            "you divide by 1 - flips. It is 1 - 2 flips: the two coefficients must add up to 1.",
            _variant(mix=lambda loss, m, p: ((1 - p) * loss(m) - p * loss(-m)) / (1 - p)),
        ),
        Mutant(
            "multiplied",
            "you multiply by 1 - 2 flips. Divide: flipped labels say less than they mean.",
            _variant(mix=lambda loss, m, p: ((1 - p) * loss(m) - p * loss(-m)) * (1 - 2 * p)),
        ),
        Mutant(
            "shares-exchanged",
            "flips and 1 - flips are swapped. The label as it is has the weight 1 - flips.",
            _variant(mix=lambda loss, m, p: ((1 - p) * loss(-m) - p * loss(m)) / (1 - 2 * p)),
        ),
        Mutant(
            "larger-margin",
            "you divide the margin by 1 - 2 flips. That corrects the slope at 0 only; mix the two losses.",
            _variant(mix=lambda loss, m, p: loss(m / (1 - 2 * p))),
        ),
        Mutant(
            "clamped",
            "you do not let the loss of a pair fall below 0. It must, or its mean over flips is not the clean loss.",
            _variant(mix=lambda loss, m, p: _robust(loss, m, p).clamp(min=0)),
        ),
        Mutant(
            "no-reference",
            "you forget the reference. A reward is beta * (log policy - log ref).",
            _variant(margins=lambda pc, pr, rc, rr, beta: beta * (pc - pr)),
        ),
        Mutant(
            "reference-not-detached",
            "the value is right, but a gradient reaches the reference. It is a constant: .detach() its tensors.",
            _variant(margins=lambda pc, pr, rc, rr, beta: beta * ((pc - pr) - (rc - rr))),
        ),
        Mutant(
            "policy-detached",
            "the value is right, but no gradient reaches the policy. Detach the reference's tensors, not the policy's.",
            lambda *sums, beta, flip_probability: _rdpo(
                *(x.detach() for x in sums), beta=beta, flip_probability=flip_probability
            ),
        ),
        Mutant(
            "beta-ignored",
            "you ignore beta. Each reward is beta times a log-ratio.",
            _variant(margins=lambda pc, pr, rc, rr, beta: _margins(pc, pr, rc, rr, 1.0)),
        ),
        Mutant(
            "log-of-sigmoid",
            "you take the logarithm of a sigmoid. Far below 0 the sigmoid is 0 and its logarithm minus infinity; "
            "F.logsigmoid stays finite.",
            _variant(loss=lambda m: -torch.log(torch.sigmoid(m))),
        ),
        Mutant(
            "sum",
            "you add up the losses of the batch. Take their mean.",
            _variant(over_batch=torch.sum),
        ),
        Mutant(
            "not-reduced",
            "you return one loss per pair. Take the mean over the batch: one number.",
            _variant(over_batch=lambda losses_: losses_),
        ),
        Mutant(
            "any-share",
            "you accept any flip_probability. From 1/2 on nothing can be recovered, and no share is below 0: "
            "ValueError.",
            _variant(
                check=False,
                mix=lambda loss, m, p: _robust(loss, m, p) if p != 0.5 else math.inf * loss(m),
            ),
        ),
        Mutant(
            "half-accepted",
            "you accept 1/2, and divide by 0. There labels are coin tosses: raise ValueError.",
            lambda *sums, beta, flip_probability: (
                _rdpo(*sums, beta=beta, flip_probability=flip_probability)
                if flip_probability != 0.5
                else math.inf * _margins(*sums, beta).mean()
            ),
        ),
    ),
    alternatives=(_rdpo, losses.rdpo_loss, _with_metrics, _softplus_and_a_line, _half_and_half, _in_fp32),
    hints=(
        "Compute the margin as for DPO. Then two losses for each pair: that of the label as it is, and that of the "
        "reversed label. The first has too little to say, the second is what leaked in.",
        "per pair: ((1 - flips) * -logsigmoid(m) - flips * -logsigmoid(-m)) / (1 - 2 * flips); then the mean. Test the "
        "share first: if not 0 <= flip_probability < 0.5: raise ValueError(...).",
        "The chapter's part 'A loss that allows for flips' has rdpo(margin, flips), on margins. Exercise 4.2 has the "
        "margin. Afterwards, compare with prefcourse.losses.rdpo_loss.",
    ),
)


# --- 7.3 borda ----------------------------------------------------------------------------------------------


def _in_fractions(wins):
    rows = [[Fraction(x) for x in row] for row in wins.tolist()]
    answers = range(len(rows))
    shares = []
    for i in answers:
        met = [rows[i][j] / (rows[i][j] + rows[j][i]) for j in answers if j != i and rows[i][j] + rows[j][i]]
        shares.append(float(sum(met) / len(met)) if met else math.nan)
    return torch.tensor(shares, dtype=torch.float64)


def _borda(wins, *, met=lambda votes, other: (votes > 0) & other, share=lambda wins, votes: wins / votes):
    votes = wins + wins.T
    some = met(votes, ~torch.eye(len(wins), dtype=torch.bool))
    return torch.where(some, share(wins, votes.clamp(min=1e-300)), 0.0).sum(1) / some.sum(1)


def _in_numpy(wins):
    table = wins.numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = table / (table + table.T)
    np.fill_diagonal(shares, np.nan)
    met = np.isfinite(shares).sum(1)
    return np.where(met > 0, np.nansum(shares, axis=1), np.nan) / np.maximum(met, 1)


def _of_all_votes(wins):
    others = wins.masked_fill(torch.eye(len(wins), dtype=torch.bool), 0.0)
    return others.sum(1) / (others + others.T).sum(1)


def _bradley_terry(wins):
    """Fitted to the shares of votes, and brought to between 0 and 1."""
    votes = wins + wins.T
    other = (votes > 0) & ~torch.eye(len(wins), dtype=torch.bool)
    share = torch.where(other, wins / votes.clamp(min=1e-300), 0.0)
    scores = torch.zeros(len(wins), dtype=wins.dtype)
    for _ in range(300):
        expected = torch.sigmoid(scores[:, None] - scores) * other
        scores = scores + 2 * (share - expected).sum(1) / other.sum(1).clamp(min=1)
    return torch.sigmoid(scores - scores.mean())


def _nan_to_zero(wins):
    return _borda(wins).nan_to_num(0.0)


def _unmet_as(value):
    def function(wins):
        votes = wins + wins.T
        other = ~torch.eye(len(wins), dtype=torch.bool)
        share = torch.where(votes > 0, wins / votes.clamp(min=1e-300), value)
        return torch.where(other, share, 0.0).sum(1) / other.sum(1)

    return function


_BORDA = Answers(
    oracle=_in_fractions,
    mutants=(
        Mutant(
            "of-all-votes",
            "you divide all wins by all votes. An opponent with many votes then counts more; all should count equally.",
            _of_all_votes,
        ),
        Mutant(
            "transposed",
            "you count defeats: wins[i, j] are the votes FOR i against j. Go along the row.",
            lambda wins: _borda(wins.T),
        ),
        Mutant(
            "own-opponent",
            "you count an answer as its own opponent. The diagonal means nothing.",
            lambda wins: _borda(wins, met=lambda votes, other: votes > 0),
        ),
        Mutant(
            "divided-by-all",
            "you divide by the number of answers. An answer has one opponent fewer than that.",
            lambda wins: torch.where(
                _borda(wins).isnan(), math.nan, _borda(wins).nan_to_num() * _met(wins) / len(wins)
            ),
        ),
        Mutant(
            "unmet-lost",
            "you count opponents whom an answer never met as defeats. Leave them out.",
            _unmet_as(0.0),
        ),
        Mutant(
            "unmet-draw",
            "you count opponents whom an answer never met as draws. Nobody was asked: leave them out.",
            _unmet_as(0.5),
        ),
        Mutant(
            "duels-won",
            "you count the opponents beaten by a majority (Copeland's rule). Take the SHARE of votes against each.",
            lambda wins: _borda(
                wins, share=lambda w, votes: (w > votes / 2).double() + 0.5 * (w == votes / 2).double()
            ),
        ),
        Mutant(
            "wins-minus-defeats",
            "you take wins minus defeats. Return the share of wins, between 0 and 1.",
            lambda wins: 2 * _borda(wins) - 1,
        ),
        Mutant(
            "sum-of-shares",
            "you add up the shares of wins. Take their mean over the opponents met.",
            lambda wins: _borda(wins) * _met(wins),
        ),
        Mutant(
            "nan-to-zero",
            "an answer that has met nobody has no share of wins: nan, not 0.",
            _nan_to_zero,
        ),
        Mutant(
            "bradley-terry",
            "you return (a function of) Bradley-Terry scores. Their order is Borda's; return the count itself.",
            _bradley_terry,
        ),
    ),
    alternatives=(_borda, _in_numpy, lambda wins: [float(x) for x in _in_fractions(wins)]),
    hints=(
        "First a table of shares: of the votes on i and j, how many went to i? Then the mean of each row, over whom?",
        "votes = wins + wins.T; shares = wins / votes where votes > 0 and not on the diagonal, else 0; the sum of each "
        "row divided by the number of opponents met. 0 / 0 of two tensors is nan.",
        "The chapter's part 'Two crowds of opposite taste' does it for shares of votes on all pairs. Here votes are "
        "counts, and some pairs have none.",
    ),
)


def _met(wins):
    return ((wins + wins.T > 0) & ~torch.eye(len(wins), dtype=torch.bool)).sum(1)


ANSWERS = {"7.1": _DAWID_SKENE, "7.2": _RDPO_LOSS, "7.3": _BORDA}
