"""Answers to chapter 6: an oracle by another road than the solution's, wrong answers that people give, right ones
written differently, hints. Never lies where submissions run."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from prefcourse import evaluate, losses
from prefcourse.checks.exercise import Answers, Mutant
from prefcourse.exercises.tensors import closed_form

# --- 6.1 bradley_terry_loss ---------------------------------------------------------------------------------


def _loss_by_hand(chosen_scores, rejected_scores):
    """log(1 + e^-m) pair by pair; its slope is minus the probability of the other label."""
    margins = [a - b for a, b in zip(chosen_scores.tolist(), rejected_scores.tolist(), strict=True)]
    far = [math.exp(-abs(m)) for m in margins]
    value = math.fsum(max(-m, 0.0) + math.log1p(x) for m, x in zip(margins, far, strict=True)) / len(margins)
    wrong = [(x if m > 0 else 1.0) / (1 + x) for m, x in zip(margins, far, strict=True)]
    slope = torch.tensor(wrong, dtype=torch.float64) / len(margins)
    return closed_form(value, chosen=(chosen_scores, -slope), rejected=(rejected_scores, slope))


def _loss(chosen, rejected, *, per_pair=lambda m: -F.logsigmoid(m), over_batch=torch.mean):
    return over_batch(per_pair(chosen - rejected))


def _per_pair(function, **more):
    return partial(_loss, per_pair=function, **more)


def _each_by_itself(chosen, rejected):
    return -(F.logsigmoid(chosen) + F.logsigmoid(-rejected)).mean()


def _each_by_itself_in_one_mean(chosen, rejected):
    return -F.logsigmoid(torch.cat([chosen, -rejected])).mean()


def _softmax_by_hand(chosen, rejected):
    return -torch.log(chosen.exp() / (chosen.exp() + rejected.exp())).mean()


def _softmax_of_the_batch(chosen, rejected):
    return (torch.cat([chosen, rejected]).logsumexp(0) - chosen).mean()


def _standardised(chosen, rejected):
    scores = torch.cat([chosen, rejected])
    return _loss(*((scores - scores.mean()) / (scores.std(correction=0) + 1e-8)).chunk(2))


def _with_metrics(chosen, rejected):
    return -F.logsigmoid(chosen - rejected).mean(), {}


def _as_classification(chosen, rejected):
    logits = torch.stack([chosen, rejected], dim=1)  # (B, 2): class 0 is right
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))


def _with_logaddexp(chosen, rejected):
    return (torch.logaddexp(chosen, rejected) - chosen).mean()


def _with_binary_cross_entropy(chosen, rejected):
    return F.binary_cross_entropy_with_logits(chosen - rejected, torch.ones_like(chosen)), None


def _pair_by_pair(chosen, rejected):
    loss = 0.0
    for a, b in zip(chosen, rejected, strict=True):
        loss = loss + F.softplus(b - a)
    return loss / len(chosen)


def _in_single_precision(chosen, rejected):
    return -F.logsigmoid(chosen.float() - rejected.float()).mean()


_BRADLEY_TERRY_LOSS = Answers(
    oracle=_loss_by_hand,
    mutants=(
        Mutant(
            "sign",
            "the difference is the wrong way round: this loss asks for the REJECTED response. It must fall as the "
            "chosen score rises.",
            _per_pair(lambda m: -F.logsigmoid(-m)),
        ),
        Mutant(
            "no-minus",
            "the minus is missing: you return the log-likelihood of the labels. A loss is its negative.",
            _per_pair(F.logsigmoid),
        ),
        Mutant(
            "no-log",
            "you take the sigmoid without its logarithm. The loss is -log sigmoid(difference).",
            _per_pair(lambda m: -torch.sigmoid(m)),
        ),
        Mutant(
            "other-probability",
            "you return the probability of the other label. The loss is minus the LOGARITHM of the probability of this "
            "one.",
            _per_pair(lambda m: torch.sigmoid(-m)),
        ),
        Mutant(
            "log-of-sigmoid",
            "you take the logarithm of a sigmoid. Far below 0 the sigmoid is 0 and its logarithm minus infinity; "
            "F.logsigmoid stays finite.",
            _per_pair(lambda m: -torch.log(torch.sigmoid(m))),
        ),
        Mutant(
            "little-added",
            "you add a small number before the logarithm. That hides the infinity, and stops the gradient where a pair "
            "is most wrong: use F.logsigmoid.",
            _per_pair(lambda m: -torch.log(torch.sigmoid(m) + 1e-8)),
        ),
        Mutant(
            "clamped",
            "you clamp the difference. Beyond the bound the gradient is 0, so the worst pairs teach nothing: use "
            "F.logsigmoid, which needs no bound.",
            _per_pair(lambda m: -F.logsigmoid(m.clamp(-20, 20))),
        ),
        Mutant(
            "softmax-by-hand",
            "you exponentiate the scores themselves, and e^10000 is infinite. Only their difference is needed: "
            "F.logsigmoid(chosen - rejected).",
            _softmax_by_hand,
        ),
        Mutant(
            "each-by-itself",
            "you judge each response by itself: chosen scores above 0, rejected ones below. Then a constant on both "
            "changes the loss. A label compares: only the difference of the two may count.",
            _each_by_itself,
        ),
        Mutant(
            "each-by-itself-in-one-mean",
            "you classify all responses as good or bad, in one mean. A label says nothing about one response alone: "
            "only the difference of the two may count.",
            _each_by_itself_in_one_mean,
        ),
        Mutant(
            "whole-batch",
            "you let each chosen response compete with all of the batch. A label compares it with ONE other, to the "
            "same prompt.",
            _softmax_of_the_batch,
        ),
        Mutant(
            "standardised",
            "you standardise the scores of the batch first. Their scale carries how sure the model is: leave it.",
            _standardised,
        ),
        Mutant(
            "hinge",
            "you take a hinge, max(0, 1 - difference). Bradley-Terry's loss is -log sigmoid(difference).",
            _per_pair(lambda m: torch.relu(1 - m)),
        ),
        Mutant(
            "chosen-detached",
            "no gradient reaches the chosen scores. Both sides of a pair are trained: nothing is a constant here.",
            lambda chosen, rejected: _loss(chosen.detach(), rejected),
        ),
        Mutant(
            "rejected-detached",
            "no gradient reaches the rejected scores. Both sides of a pair are trained: nothing is a constant here.",
            lambda chosen, rejected: _loss(chosen, rejected.detach()),
        ),
        Mutant(
            "detached",
            "the value is right, but no gradient reaches any score. Leave out .detach(), .item() and torch.no_grad().",
            lambda chosen, rejected: _loss(chosen.detach(), rejected.detach()),
        ),
        Mutant(
            "sum",
            "you add up the losses of the batch. Take the mean, so that the learning rate means the same for every "
            "batch size.",
            partial(_loss, over_batch=torch.sum),
        ),
        Mutant(
            "not-reduced",
            "you return one loss per pair. Take the mean over the batch: one number.",
            partial(_loss, over_batch=lambda per_pair: per_pair),
        ),
        Mutant(
            "loss-of-the-mean",
            "you average the differences first. Every pair has its own loss; the mean comes last.",
            lambda chosen, rejected: -F.logsigmoid((chosen - rejected).mean()),
        ),
        Mutant(
            "log-of-the-mean",
            "you average the probabilities and take one logarithm. Every label has its own: the mean comes last.",
            lambda chosen, rejected: -torch.sigmoid(chosen - rejected).mean().log(),
        ),
        Mutant(
            "no-sigmoid",
            "you return minus the mean difference. It has no bound: a pair that is right by far would pull as hard as "
            "a wrong one. The loss is -log sigmoid(difference).",
            _per_pair(lambda m: -m),
        ),
        Mutant(
            "halved",
            "you divide by the number of responses. The mean is one over pairs.",
            lambda chosen, rejected: _loss(chosen, rejected) / 2,
        ),
        Mutant(
            "scores-as-probabilities",
            "you take a sigmoid of each score before you subtract. Subtract the scores as they are; the sigmoid is of "
            "their difference.",
            lambda chosen, rejected: _loss(torch.sigmoid(chosen), torch.sigmoid(rejected)),
        ),
        Mutant(
            "difference-of-logarithms",
            "you subtract two log-sigmoids. There is one probability per pair: the sigmoid of the difference.",
            lambda chosen, rejected: -(F.logsigmoid(chosen) - F.logsigmoid(rejected)).mean(),
        ),
        Mutant(
            "probability-clamped",
            "you clamp the probability before the logarithm. That hides the infinity, and the worst pairs get no "
            "gradient: use F.logsigmoid.",
            _per_pair(lambda m: -torch.log(torch.sigmoid(m).clamp(min=1e-12))),
        ),
        Mutant(
            "cross-entropy-of-a-sigmoid",
            "you give a sigmoid to F.binary_cross_entropy, which cuts its logarithm off at -100. Give the difference "
            "itself to F.binary_cross_entropy_with_logits, or to F.logsigmoid.",
            _per_pair(lambda m: F.binary_cross_entropy(torch.sigmoid(m), torch.ones_like(m), reduction="none")),
        ),
    ),
    alternatives=(
        losses.bradley_terry_loss,
        _loss,
        _with_metrics,
        _as_classification,
        _with_logaddexp,
        _with_binary_cross_entropy,
        _pair_by_pair,
        _in_single_precision,
    ),
    hints=(
        "What is the probability of a single label, if the two scores are right? And what must not matter to it?",
        "P(chosen beats rejected) = sigmoid(chosen - rejected); the loss is the mean of minus its logarithm. "
        "torch.nn.functional.logsigmoid takes both steps at once and stays finite.",
        "In the chapter's part 'A reward model is a table that generalises' fit_reward_model has the line, in its "
        "loop. Afterwards, compare with prefcourse.losses.bradley_terry_loss.",
    ),
)


# --- 6.2 last_token_score -----------------------------------------------------------------------------------


def _score_by_hand(hidden, weight, attention_mask):
    """Row by row, from the right; d score / d hidden = weight at that token, d score / d weight = its hidden state."""
    values, slope, total = [], torch.zeros_like(hidden), torch.zeros_like(weight)
    for row, mask in enumerate(attention_mask.tolist()):
        last = next((t for t in reversed(range(len(mask))) if mask[t]), None)
        if last is None:
            values.append(math.nan)
            continue
        state = hidden[row, last].detach()
        values.append(math.fsum(a * b for a, b in zip(state.tolist(), weight.tolist(), strict=True)))
        slope[row, last], total = weight.detach(), total + state
    values = torch.tensor(values, dtype=torch.float64)
    if not hidden.requires_grad:
        return values
    first_only = torch.zeros_like(values)
    first_only[0] = 1.0  # the gradient is that of the sum of all scores: it may be laid on any of them
    moved = ((hidden - hidden.detach()) * slope).sum() + ((weight - weight.detach()) * total).sum()
    return values + first_only * moved


def _last(mask):
    """The last column where the mask is true."""
    return (torch.arange(mask.shape[1]) * mask).argmax(1)


def _read(hidden, weight, mask, *, place=_last, empty=math.nan):
    scores = hidden[torch.arange(len(hidden)), place(mask)] @ weight
    return scores.masked_fill(~mask.any(1), empty)


def _count(mask):
    return mask.sum(1).clamp(max=mask.shape[1] - 1)


def _one_empty_row_spoils_all(hidden, weight, mask):
    scores = hidden[torch.arange(len(hidden)), _last(mask)] @ weight
    return scores if mask.any(1).all() else scores * math.nan


def _last_column(mask):
    return torch.full((len(mask),), mask.shape[1] - 1)


def _count_minus_one(mask):
    return (mask.sum(1) - 1).clamp(min=0)


def _first(mask):
    return mask.int().argmax(1)


def _one_before(mask):
    return (_last(mask) - 1).clamp(min=0)


def _before_the_first_padding(mask):
    return (~mask).int().argmax(1) - 1  # of a row without padding: -1, the last column


def _same_for_all(mask):
    return _last(mask).max().expand(len(mask))


def _over_tokens(hidden, weight, mask, *, how):
    scores = (hidden @ weight).masked_fill(~mask, 0.0)  # (B, T)
    if how == "max":
        scores = scores.masked_fill(~mask, -math.inf).amax(1)
    else:
        scores = scores.sum(1) / (mask.sum(1) if how == "mean" else 1)
    return scores.masked_fill(~mask.any(1), math.nan)


def _every_token(hidden, weight, mask):
    return (hidden @ weight).masked_fill(~mask, 0.0)


def _times_mask(hidden, weight, mask):
    is_last = F.one_hot(_last(mask), mask.shape[1]) * mask
    return ((hidden @ weight) * is_last).sum(1).masked_fill(~mask.any(1), math.nan)


def _sum_of_the_state(hidden, weight, mask):
    return _read(hidden, torch.ones_like(weight), mask)


def _scores_first(hidden, weight, mask):
    by_token = (hidden * weight).sum(-1)  # (B, T)
    found = by_token.gather(1, _last(mask)[:, None])[:, 0]
    return torch.where(mask.any(1), found, torch.full_like(found, math.nan))


def _row_by_row(hidden, weight, mask):
    scores = []
    for states, tokens in zip(hidden, mask, strict=True):
        kept = states[tokens]
        scores.append(kept[-1].dot(weight) if len(kept) else hidden.new_tensor(math.nan))
    return scores


def _turned_round(hidden, weight, mask):
    turned = mask.flip(1)
    states = hidden.flip(1).masked_fill(~turned[..., None], 0.0)
    is_last = turned & (turned.cumsum(1) == 1)
    scores = torch.einsum("btd,bt,d->b", states, is_last.to(states), weight)
    scores = scores.clone()
    scores[~mask.any(1)] = math.nan
    return scores


def _in_fp32(hidden, weight, mask):
    return _read(hidden.float(), weight.float(), mask)


_LAST_TOKEN_SCORE = Answers(
    oracle=_score_by_hand,
    mutants=(
        Mutant(
            "last-column",
            "you read the last column. In a row that is padded on the right, that is padding.",
            partial(_read, place=_last_column),
        ),
        Mutant(
            "count-minus-one",
            "you count the real tokens and take that column. With padding on the left the row begins later, and so the "
            "column is too early.",
            partial(_read, place=_count_minus_one),
        ),
        Mutant(
            "before-the-first-padding",
            "you read the column before the first padding. Padding may stand on the left, too: look for the last True, "
            "not for the first False.",
            partial(_read, place=_before_the_first_padding),
        ),
        Mutant(
            "same-for-all",
            "you read all rows in one column. Each row has its own last token.",
            partial(_read, place=_same_for_all),
        ),
        Mutant(
            "first", "you read the first real token. It has seen none of the response.", partial(_read, place=_first)
        ),
        Mutant(
            "one-before",
            "you read the token before the last. The end token counts: only it has seen the whole row.",
            partial(_read, place=_one_before),
        ),
        Mutant(
            "mean",
            "you take the mean over all tokens. Return the score at the last one.",
            partial(_over_tokens, how="mean"),
        ),
        Mutant(
            "sum",
            "you add up the scores of all tokens. Return the score at the last one.",
            partial(_over_tokens, how="sum"),
        ),
        Mutant(
            "max",
            "you take the highest score of any token. Return the score at the last one.",
            partial(_over_tokens, how="max"),
        ),
        Mutant(
            "every-token",
            "you return a score for every token. Return one per row.",
            _every_token,
        ),
        Mutant(
            "no-weight",
            "you add up the hidden state. The score is its product with the weight: hidden @ weight.",
            _sum_of_the_state,
        ),
        Mutant(
            "times-mask",
            "you multiply by a mask, and nan times 0 is nan. Pick the column instead, by its number.",
            _times_mask,
        ),
        Mutant(
            "empty-is-0",
            "a row without tokens gets a score of 0, as if somebody had judged it. Nothing was said: nan.",
            partial(_read, empty=0.0),
        ),
        Mutant(
            "empty-is-read",
            "a row without tokens gets a score, read from padding. It has none: nan.",
            lambda hidden, weight, mask: hidden[torch.arange(len(hidden)), _last(mask)] @ weight,
        ),
        Mutant(
            "empty-is-left-out",
            "you leave out rows without tokens, and the others move up. Return one number per row: nan where there "
            "are no tokens.",
            lambda hidden, weight, mask: _read(hidden, weight, mask)[mask.any(1)],
        ),
        Mutant(
            "empty-spoils-all",
            "a row without tokens makes all scores nan. Only its own should be: masked_fill, or where, with "
            "mask.any(1).",
            _one_empty_row_spoils_all,
        ),
        Mutant(
            "count",
            "you take the column whose number is the count of tokens. Columns are counted from 0: that one comes "
            "after the last.",
            partial(_read, place=_count),
        ),
        Mutant(
            "count-and-beyond",
            "you take mask.sum(1) for the column. That is one too far, as columns count from 0, and a row without "
            "padding has no such column.",
            partial(_read, place=lambda mask: mask.sum(1)),
        ),
        Mutant(
            "probability",
            "you put the score through a sigmoid. A score is any number; only differences become probabilities.",
            lambda hidden, weight, mask: torch.sigmoid(_read(hidden, weight, mask)),
        ),
        Mutant(
            "detached",
            "the scores are right, but no gradient reaches hidden states and weight. Leave out .detach(), .item() and "
            "torch.no_grad(): a reward model is trained through this line.",
            lambda hidden, weight, mask: _read(hidden.detach(), weight.detach(), mask),
        ),
        Mutant(
            "weight-alone",
            "no gradient reaches the hidden states. A reward model trains its trunk, not only its head.",
            lambda hidden, weight, mask: _read(hidden.detach(), weight, mask),
        ),
    ),
    alternatives=(_read, _scores_first, _row_by_row, _turned_round, _in_fp32),
    hints=(
        "First one row, with padding on both sides: how do you find, from its mask alone, the index of the last "
        "column that is True?",
        "columns * mask, with columns = torch.arange(T), is largest at the last token: .argmax(1) finds it. Then "
        "hidden[torch.arange(B), last] picks one state per row, (B, D), and @ weight gives (B,).",
        "The chapter's part 'A reward model is a table that generalises' has scores_of, for rows that are padded on "
        "the right. Afterwards, compare with the method forward of prefcourse.models.RewardModel.",
    ),
)


# --- 6.3 expected_calibration_error -------------------------------------------------------------------------


def _error_from_sums(confidence, correct, *, bins=10):
    """A bin's count times its gap is |sum of (claim - truth)|: no mean is needed."""
    sums = {}
    for claim, truth in zip(confidence.tolist(), correct.tolist(), strict=True):
        if not 0 <= claim <= 1:
            raise ValueError(f"{claim} is not a probability")
        number = min(math.floor(claim * bins), bins - 1)
        sums[number] = sums.get(number, 0.0) + claim - truth
    return math.fsum(map(abs, sums.values())) / len(confidence)


def _bin_by_bin(confidence, correct, bins=10, *, numbers=None, claim=None, over=None, tests=True):
    """The usual way: (claim, truth, count) of each bin, and then a mean."""
    if tests and bool(((confidence < 0) | (confidence > 1)).any()):
        raise ValueError("not a probability")
    index = (numbers or _usual_bin)(confidence, bins)
    parts = []
    for number in range(bins + 1):
        inside = index == number
        if inside.any():
            said = (claim or (lambda inside, number: confidence[inside].mean()))(inside, number)
            parts.append((float(said), float(correct[inside].mean()), int(inside.sum())))
    return (over or _weighted)(parts, len(confidence), bins)


def _usual_bin(confidence, bins):
    return (confidence * bins).long().clamp(max=bins - 1)


def _weighted(parts, count, bins):
    return sum(size * abs(claim - truth) for claim, truth, size in parts) / count


def _with_middles(confidence, correct, *, bins=10):
    return _bin_by_bin(confidence, correct, bins, claim=lambda inside, number: (number + 0.5) / bins)


def _equal_counts(confidence, correct, *, bins=10):
    def numbers(confidence, bins):
        return (confidence.argsort().argsort() * bins) // len(confidence)

    return _bin_by_bin(confidence, correct, bins, numbers=numbers)


def _one_is_dropped(confidence, correct, *, bins=10):
    def without_the_end(parts, count, bins):
        return _weighted([part for part in parts if part[0] < 1], count, bins)

    return _bin_by_bin(confidence, correct, bins, numbers=lambda c, n: (c * n).long(), over=without_the_end)


def _between(low, high):
    """Bins that divide what lies between `low` and `high` of the claims."""

    def numbers(confidence, bins):
        start, end = low(confidence), high(confidence)
        return ((confidence - start) / (end - start + 1e-12) * bins).floor().long().clamp(0, bins - 1)

    return numbers


def _nearest_bin(confidence, bins):
    return (confidence * bins).long().clamp(0, bins - 1)


def _tested(wrong):
    """ValueError only for some of what is outside of [0, 1]."""

    def error(confidence, correct, *, bins=10):
        if bool(wrong(confidence).any()):
            raise ValueError("not a probability")
        return _bin_by_bin(confidence, correct, bins, tests=False, numbers=_nearest_bin)

    return error


def _ties(change):
    return lambda confidence, correct, *, bins=10: _bin_by_bin(confidence, change(correct), bins)


def _without_ties(confidence, correct, *, bins=10):
    kept = correct != 0.5
    return _bin_by_bin(confidence[kept], correct[kept], bins)


def _empty_bins_are_nan(parts, count, bins):
    return _weighted(parts, count, bins) if len(parts) == bins else math.nan


def _checked(confidence):
    if bool(((confidence < 0) | (confidence > 1)).any()):
        raise ValueError("not a probability")


def _of_all_together(confidence, correct, *, bins=10):
    _checked(confidence)
    return (confidence.mean() - correct.mean()).abs()


def _brier(confidence, correct, *, bins=10):
    _checked(confidence)
    return (confidence - correct).square().mean()


def _one_by_one(confidence, correct, *, bins=10):
    _checked(confidence)
    return (confidence - correct).abs().mean()


def _by(**change):
    return lambda confidence, correct, *, bins=10: _bin_by_bin(confidence, correct, bins, **change)


def _with_numpy(confidence, correct, *, bins=10):
    claims, truths = confidence.numpy(), correct.numpy()
    if claims.min() < 0 or claims.max() > 1:
        raise ValueError("not a probability")
    edges = np.linspace(0, 1, bins + 1)
    number = np.digitize(claims, edges[1:-1])
    counts = np.bincount(number, minlength=bins)
    gaps = np.bincount(number, claims, bins) - np.bincount(number, truths, bins)
    there = counts > 0
    return np.float64((counts[there] / len(claims) * np.abs(gaps[there] / counts[there])).sum())


def _with_edges(confidence, correct, *, bins=10):
    if not all(0 <= c <= 1 for c in confidence.tolist()):
        raise ValueError
    error = torch.tensor(0.0, dtype=torch.float64)
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = (confidence >= low) & ((confidence < high) | (number == bins - 1))
        if inside.sum() > 0:
            error += inside.double().mean() * (confidence[inside].mean() - correct[inside].mean()).abs()
    return error


_EXPECTED_CALIBRATION_ERROR = Answers(
    oracle=_error_from_sums,
    mutants=(
        Mutant(
            "all-together",
            "you compare the mean claim with the mean truth, over everything. Too sure here and too timid there would "
            "cancel: take the gap in each bin.",
            _of_all_together,
        ),
        Mutant(
            "signed",
            "you forget the absolute value: a bin that claims too much and one that claims too little cancel.",
            _by(over=lambda parts, count, bins: sum(n * (claim - truth) for claim, truth, n in parts) / count),
        ),
        Mutant(
            "bins-weigh-the-same",
            "every bin weighs the same in your mean. Weight each by the number of claims that it holds.",
            _by(over=lambda parts, count, bins: sum(abs(c - t) for c, t, _ in parts) / len(parts)),
        ),
        Mutant(
            "empty-bins-counted",
            "you divide by the number of bins, empty ones included. Weight each bin by its share of the claims.",
            _by(over=lambda parts, count, bins: sum(abs(c - t) for c, t, _ in parts) / bins),
        ),
        Mutant(
            "largest-gap",
            "you return the largest gap of any bin. Return the mean, each bin weighted by its count.",
            _by(over=lambda parts, count, bins: max(abs(c - t) for c, t, _ in parts)),
        ),
        Mutant(
            "squared",
            "you square the gaps. Take their absolute values.",
            _by(over=lambda parts, count, bins: sum(n * (c - t) ** 2 for c, t, n in parts) / count),
        ),
        Mutant(
            "not-divided",
            "you weight each bin by its count, and do not divide by the number of all claims.",
            _by(over=lambda parts, count, bins: sum(n * abs(c - t) for c, t, n in parts)),
        ),
        Mutant(
            "one-by-one",
            "you compare each claim with its own truth, which is 0 or 1. A claim of 0.7 can only be judged over "
            "many: compare means within a bin.",
            _one_by_one,
        ),
        Mutant(
            "brier",
            "you return the mean squared error (Brier's score). It also punishes honest doubt; take the gap within "
            "each bin.",
            _brier,
        ),
        Mutant(
            "middles",
            "you take the middle of each bin as what was claimed. Take the mean of the claims in it.",
            _with_middles,
        ),
        Mutant(
            "edge-below",
            "you put an edge into the bin below it. Here it belongs to the bin above: the number of the bin is "
            "floor(claim * bins).",
            _by(numbers=lambda c, bins: ((c * bins).ceil().long() - 1).clamp(min=0)),
        ),
        Mutant(
            "rounded",
            "you round to the nearest bin. The number of the bin is floor(claim * bins).",
            _by(numbers=lambda c, bins: (c * bins).round().long().clamp(max=bins - 1)),
        ),
        Mutant(
            "one-by-itself",
            "claims of exactly 1 get a bin of their own. They belong to the last one.",
            _by(numbers=lambda c, bins: (c * bins).long()),
        ),
        Mutant("one-dropped", "claims of exactly 1 are lost. They belong to the last bin.", _one_is_dropped),
        Mutant(
            "equal-counts",
            "your bins hold equally many claims. Here they are equally WIDE.",
            _equal_counts,
        ),
        Mutant(
            "bins-ignored",
            "you ignore `bins` and always take ten.",
            lambda confidence, correct, *, bins=10: _bin_by_bin(confidence, correct, 10),
        ),
        Mutant(
            "scores-accepted",
            "you accept numbers that are not probabilities. Raise ValueError for a claim outside of [0, 1].",
            _tested(lambda claims: claims.isnan()),
        ),
        Mutant(
            "only-above-1-tested",
            "you raise ValueError above 1 alone. A claim below 0 is not a probability either.",
            _tested(lambda claims: claims > 1),
        ),
        Mutant(
            "only-below-0-tested",
            "you raise ValueError below 0 alone. A claim above 1 is not a probability either.",
            _tested(lambda claims: claims < 0),
        ),
        Mutant(
            "root-of-squares",
            "you take the root of the mean square of the gaps. Take the mean of their absolute values.",
            _by(over=lambda parts, count, bins: (sum(n * (c - t) ** 2 for c, t, n in parts) / count) ** 0.5),
        ),
        Mutant(
            "empty-bins-are-nan",
            "a bin without claims makes your sum nan: the mean of nothing. Leave empty bins out.",
            _by(over=_empty_bins_are_nan),
        ),
        Mutant(
            "upper-half",
            "your bins divide what lies between 1/2 and 1. They divide all of [0, 1].",
            _by(numbers=_between(lambda c: 0.5, lambda c: 1.0)),
        ),
        Mutant(
            "from-least-to-most",
            "your bins reach from the smallest claim to the largest. They divide [0, 1], wherever the claims lie.",
            _by(numbers=_between(torch.min, torch.max)),
        ),
        Mutant(
            "tie-is-right",
            "you count a tie as right. It came true by half: average what is in `correct` as it is.",
            _ties(lambda correct: (correct > 0).double()),
        ),
        Mutant(
            "tie-is-wrong",
            "you count a tie as wrong. It came true by half: average what is in `correct` as it is.",
            _ties(lambda correct: (correct == 1).double()),
        ),
        Mutant(
            "ties-left-out",
            "you leave ties out. They are claims like the others, and came true by half.",
            _without_ties,
        ),
    ),
    alternatives=(evaluate.expected_calibration_error, _bin_by_bin, _with_numpy, _with_edges),
    hints=(
        "Take the question's example, and draw it: claims on one axis, the shares that were right on the other, one "
        "point per bin. How far is each point from the diagonal, and how many claims stand behind it?",
        "The number of a claim's bin is floor(claim * bins), but at most bins - 1. The error is the sum over bins of "
        "(count / all) * |mean claim - mean truth|; empty bins add nothing.",
        "The chapter's part 'As often as it says' draws the points of the sum, with evaluate.calibration_bins. "
        "Afterwards, compare with prefcourse.evaluate.expected_calibration_error.",
    ),
)


ANSWERS = {"6.1": _BRADLEY_TERRY_LOSS, "6.2": _LAST_TOKEN_SCORE, "6.3": _EXPECTED_CALIBRATION_ERROR}
