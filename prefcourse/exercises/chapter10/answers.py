"""Answers to chapter 10: an oracle by another road than the solution's, wrong answers that people give, right ones
written differently, hints. Never lies where submissions run."""

from __future__ import annotations

import math
import statistics
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from prefcourse import advantages as package
from prefcourse import losses
from prefcourse.checks.exercise import Answers, Mutant
from prefcourse.exercises.tensors import closed_form
from prefcourse.experiments.chapter10 import SETTINGS, SHOWN, wards
from prefcourse.experiments.clinic import NAMES

# --- 10.1 token_rewards -------------------------------------------------------------------------------------


def _token_by_token(scores, logprobs, ref_logprobs, mask, *, beta):
    """Row by row with Python's numbers."""
    table = []
    for score, new, ref, here in zip(*(x.tolist() for x in (scores, logprobs, ref_logprobs, mask)), strict=True):
        row = [beta * (b - a) if there else 0.0 for a, b, there in zip(new, ref, here, strict=True)]
        places = [t for t, there in enumerate(here) if there]
        if places:
            row[places[-1]] += score
        table.append(row)
    return torch.tensor(table, dtype=torch.float64)


def _log_ratio(logprobs, ref_logprobs):
    return logprobs - ref_logprobs


def _last(mask):
    """Where the score goes: true on the last token of each row."""
    return mask & (mask.flip(-1).cumsum(-1).flip(-1) == 1)


def _on_every_token(kl, mask):
    return kl.masked_fill(~mask, 0.0)


@torch.no_grad()
def _rewards(
    scores, logprobs, ref_logprobs, mask, *, beta,
    kl=_log_ratio, price=_on_every_token, end=_last, sign=-1.0, score_factor=1.0,
):  # fmt: skip
    """The usual way, with one step at a time to be got wrong."""
    prices = sign * beta * price(kl(logprobs, ref_logprobs), mask)
    return prices + end(mask) * (score_factor * scores)[:, None]


def _wrong_rewards(**change):
    return torch.no_grad()(partial(_rewards, **change))


def _last_column(mask):
    ends = torch.zeros_like(mask)
    ends[:, -1] = True
    return ends


def _first(mask):
    return mask & (mask.cumsum(-1) == 1)


def _shared_in_row(kl, mask):
    """The row's sum, in equal parts."""
    return _on_every_token(kl, mask).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1) * mask


def _batch_constant(kl, mask):
    return _on_every_token(kl, mask).sum() / mask.sum().clamp(min=1) * mask


def _at_the_end(kl, mask):
    return _on_every_token(kl, mask).sum(-1, keepdim=True) * _last(mask)


def _k3(logprobs, ref_logprobs):
    back = ref_logprobs - logprobs
    return back.clamp(max=20).expm1() - back


def _probabilities(logprobs, ref_logprobs):
    return logprobs.exp() - ref_logprobs.exp()


def _by_count(scores, logprobs, ref_logprobs, mask, *, beta):
    """The score at column number-of-tokens minus 1: right only without padding on the left."""
    table = _on_every_token(-beta * (logprobs - ref_logprobs), mask).detach()
    ends = mask.sum(-1) - 1
    for row, end in enumerate(ends.tolist()):
        if end >= 0:
            table[row, end] += scores[row].detach()
    return table


def _minus_one(scores, logprobs, ref_logprobs, mask, *, beta):
    """An empty row puts its score at column -1."""
    table = _on_every_token(-beta * (logprobs - ref_logprobs), mask).detach()
    for row, here in enumerate(mask.tolist()):
        ends = [t for t, there in enumerate(here) if there] or [-1]
        table[row, ends[-1]] += scores[row].detach()
    return table


def _replaced(scores, logprobs, ref_logprobs, mask, *, beta):
    """The last token pays nothing."""
    prices = _on_every_token(-beta * (logprobs - ref_logprobs), mask)
    return torch.where(_last(mask), scores[:, None].expand_as(prices), prices).detach()


def _one_behind(mask):
    """The column after the last token; the last column where there is none behind it."""
    behind = _last(mask).roll(1, -1)
    behind[:, 0] = False
    behind[:, -1] |= mask[:, -1]
    return behind


def _first_column_if_empty(mask):
    """The largest column number under the mask: 0 also where there is none."""
    ends = torch.zeros_like(mask)
    ends[torch.arange(len(mask)), (mask * torch.arange(mask.shape[1])).amax(-1)] = True
    return ends


def _in_place(scores, logprobs, ref_logprobs, mask, *, beta):
    with torch.no_grad():
        logprobs -= ref_logprobs
        logprobs *= -beta
        logprobs[~mask] = 0.0
    return logprobs.detach() + (_last(mask) * scores[:, None]).detach()


def _mean_from_scores(scores, logprobs, ref_logprobs, mask, *, beta):
    kl = _on_every_token(logprobs - ref_logprobs, mask).sum(-1).mean()
    return _rewards(scores - beta * kl, logprobs, ref_logprobs, mask, beta=0.0)


def _by_indexing(scores, logprobs, ref_logprobs, mask, *, beta):
    rewards = (beta * (ref_logprobs.detach() - logprobs.detach())) * mask
    columns = torch.arange(mask.shape[1])
    last = torch.where(mask, columns, -1).amax(-1)
    rows = last >= 0
    rewards[rows, last[rows]] += scores.detach()[rows]
    return rewards


def _with_numpy(scores, logprobs, ref_logprobs, mask, *, beta):
    s, a, b, m = (x.detach().numpy() for x in (scores, logprobs, ref_logprobs, mask))
    out = np.where(m, beta * (b - a), 0.0)
    for row in range(len(s)):
        if m[row].any():
            out[row, np.flatnonzero(m[row])[-1]] += s[row]
    return torch.from_numpy(out)


_TOKEN_REWARDS = Answers(
    oracle=_token_by_token,
    mutants=(
        Mutant(
            "last-column",
            "the score lies in the last column of the table. It belongs to the last token of each answer, before the "
            "padding.",
            _wrong_rewards(end=_last_column),
        ),
        Mutant(
            "first-token",
            "the score lies on the first token. It is known only when the answer has ended: it goes on the last one.",
            _wrong_rewards(end=_first),
        ),
        Mutant(
            "every-token",
            "you pay the score on every token, so long answers are paid more often. Pay once, on the last.",
            _wrong_rewards(end=lambda mask: mask),
        ),
        Mutant(
            "score-shared",
            "you pay the score in equal parts on all tokens. The sum is right, the place is not: it belongs to the "
            "last one.",
            _wrong_rewards(end=lambda mask: mask / mask.sum(-1, keepdim=True).clamp(min=1)),
        ),
        Mutant(
            "counted-from-the-left",
            "the score lies at column number-of-tokens - 1. With padding on the left that is too early.",
            _by_count,
        ),
        Mutant(
            "empty-paid",
            "an answer without tokens gets its score in the last column (index -1). It has no last token: zeros.",
            _minus_one,
        ),
        Mutant(
            "empty-paid-first",
            "an answer without tokens gets its score in the first column (index 0). It has no last token: zeros.",
            _wrong_rewards(end=_first_column_if_empty),
        ),
        Mutant(
            "one-behind",
            "the score lies one column after the last token, where padding begins.",
            _wrong_rewards(end=_one_behind),
        ),
        Mutant(
            "last-token-free",
            "on the last token the score takes the place of the price. It comes on top: add it.",
            _replaced,
        ),
        Mutant(
            "wrong-sign",
            "you pay for distance: the price has the wrong sign. Where the policy says a token more often than the "
            "reference, the reward is negative.",
            _wrong_rewards(sign=1.0),
        ),
        Mutant(
            "score-sign",
            "the score has the wrong sign. This is the bug of Ziegler et al.; the model will become as bad as it can "
            "be.",
            _wrong_rewards(score_factor=-1.0),
        ),
        Mutant(
            "kl-shared",
            "the answer's log-ratio is spread evenly over its tokens. The sum is right; but then no token learns that "
            "it was the one. Each pays for its own.",
            _wrong_rewards(price=_shared_in_row),
        ),
        Mutant(
            "kl-constant",
            "every token of the batch pays the same, the mean log-ratio. A constant teaches nothing: each pays "
            "for its "
            "own.",
            _wrong_rewards(price=_batch_constant),
        ),
        Mutant(
            "kl-at-the-end",
            "the whole price is paid with the last token. Each token pays for its own log-ratio.",
            _wrong_rewards(price=_at_the_end),
        ),
        Mutant(
            "kl-from-the-scores",
            "the mean log-ratio of the batch is subtracted from every score, and no token pays for itself: the "
            "clinic's constant KL.",
            _mean_from_scores,
        ),
        Mutant(
            "kl-over-length",
            "the price is divided by the number of tokens. Each pays for its whole log-ratio.",
            _wrong_rewards(price=lambda kl, mask: _on_every_token(kl, mask) / mask.sum(-1, keepdim=True).clamp(min=1)),
        ),
        Mutant(
            "no-price",
            "no token pays. There is a price as well as the score: minus beta times the log-ratio.",
            lambda *tables, beta: _rewards(*tables, beta=0.0),
        ),
        Mutant(
            "no-reference",
            "you pay for the log-probability alone. The log-ratio is log policy minus log reference.",
            _wrong_rewards(kl=lambda new, ref: new),
        ),
        Mutant(
            "ratio",
            "you pay for the ratio of the probabilities. The price is on its logarithm: leave out exp.",
            _wrong_rewards(kl=lambda new, ref: (new - ref).exp().clamp(max=1e9)),
        ),
        Mutant(
            "padding-pays",
            "padding pays, too. Set the price to 0 where mask is false.",
            _wrong_rewards(price=lambda kl, mask: kl),
        ),
        Mutant(
            "no-beta",
            "beta is missing: the price is beta times the log-ratio.",
            lambda *tables, beta: _rewards(*tables, beta=1.0),
        ),
        Mutant(
            "beta-on-the-score",
            "beta multiplies the score, too. It is the price of the log-ratio alone.",
            lambda scores, *tables, beta: _rewards(beta * scores, *tables, beta=beta),
        ),
        Mutant(
            "size",
            "you take the size of the log-ratio. A token that became rarer pays less than nothing: keep its sign.",
            _wrong_rewards(kl=lambda new, ref: (new - ref).abs()),
        ),
        Mutant(
            "k2",
            "you use k2, half the square. The rewards contain the log-ratio itself, k1.",
            _wrong_rewards(kl=lambda new, ref: (new - ref).square() / 2),
        ),
        Mutant(
            "k3",
            "you use k3. The rewards contain the log-ratio itself, k1: only its sum over an answer is log policy "
            "minus log reference.",
            _wrong_rewards(kl=_k3),
        ),
        Mutant(
            "probabilities",
            "you subtract probabilities. The price is on the difference of LOG-probabilities.",
            _wrong_rewards(kl=_probabilities),
        ),
        Mutant(
            "sums-only",
            "you return one number per answer. Return one per token.",
            lambda *tables, beta: _rewards(*tables, beta=beta).sum(-1),
        ),
        Mutant(
            "gradient-kept",
            "the numbers are right, but a gradient flows back to the log-probabilities. Rewards are constants: "
            "torch.no_grad() or detach().",
            _rewards.__wrapped__,
        ),
        Mutant(
            "in-place",
            "your rewards are written into the table of log-probabilities, which the round still needs. Make a new "
            "table: no -=, no assignment into the table you were given.",
            _in_place,
        ),
    ),
    alternatives=(_token_by_token, _by_indexing, _with_numpy, package.token_rewards),
    hints=(
        "Do the price first, as if there were no score: which columns have one, and which sign does it have where "
        "the "
        "policy says a token more often than the reference? Then: in which column does the answer end?",
        "prices = (-beta * (logprobs - ref_logprobs)).masked_fill(~mask, 0). A token is the last of its row where "
        "mask "
        "is true and the number of true columns from here on, mask.flip(-1).cumsum(-1).flip(-1), is 1.",
        "The chapter's part 'The rewards: a price on every token, the score on the last' does one answer without "
        "padding. Add the mask and a torch.no_grad() above the function.",
    ),
)


# --- 10.2 masked_whiten -------------------------------------------------------------------------------------


def _by_statistics(x, mask, *, center=True):
    """Python's mean and population variance of the numbers that count."""
    inside = x[mask].tolist()
    mean = statistics.fmean(inside) if inside else 0.0
    deviation = math.sqrt(statistics.pvariance(inside) + 1e-8) if inside else 1.0
    table = (x.detach() - mean) / deviation + (0.0 if center else mean)
    return torch.where(mask, table, 0.0)


def _mean_and_variance(x, mask):
    count = mask.sum().clamp(min=1)
    mean = (x * mask).sum() / count
    return mean, ((x - mean).square() * mask).sum() / count


@torch.no_grad()
def _whiten(
    x, mask, *, center=True, moments=_mean_and_variance, root=torch.sqrt, eps=1e-8, back=lambda y, mean: y + mean,
    off=lambda y, mask: y.masked_fill(~mask, 0.0),
):  # fmt: skip
    """The usual way, with one step at a time to be got wrong."""
    mean, variance = moments(x, mask)
    whitened = (x - mean) / root(variance + eps)
    return off(whitened if center else back(whitened, mean), mask)


def _wrong_whiten(**change):
    return torch.no_grad()(partial(_whiten, **change))


def _of_everything(x, mask):
    return x.mean(), x.var(correction=0)


def _zeros_counted(x, mask):
    kept = x * mask
    return kept.mean(), kept.var(correction=0)


def _count_of_everything(x, mask):
    mean = (x * mask).sum() / mask.numel()
    return mean, ((x - mean).square() * mask).sum() / mask.numel()


def _unbiased(x, mask):
    mean, variance = _mean_and_variance(x, mask)
    count = mask.sum()
    return mean, variance * count / (count - 1).clamp(min=1)


def _of_rows(x, mask):
    count = mask.sum(-1, keepdim=True).clamp(min=1)
    mean = (x * mask).sum(-1, keepdim=True) / count
    return mean, ((x - mean).square() * mask).sum(-1, keepdim=True) / count


def _second_moment(x, mask):
    mean, variance = _mean_and_variance(x, mask)
    return mean, variance + mean.square()


@torch.no_grad()
def _mean_divided(x, mask, *, center=True):
    mean, variance = _mean_and_variance(x, mask)
    shift = 0.0 if center else mean / (variance + 1e-8).sqrt()
    return (_whiten(x, mask) + shift).masked_fill(~mask, 0.0)


def _outside_the_root(x, mask, *, center=True):
    mean, variance = _mean_and_variance(x.detach(), mask)
    whitened = (x.detach() - mean) / (variance.sqrt() + 1e-8)
    return (whitened if center else whitened + mean).masked_fill(~mask, 0.0)


def _by_root_mean_square(x, mask, *, center=True):
    if center:
        return _whiten(x, mask)
    mean, variance = _mean_and_variance(x.detach(), mask)
    return (x.detach() / (variance + mean.square() + 1e-8).sqrt()).masked_fill(~mask, 0.0)


def _mean_at_padding(x, mask, *, center=True):
    mean, _ = _mean_and_variance(x.detach(), mask)
    return _whiten(x, mask) + (0.0 if center else mean)


def _padding_becomes_zero_in_place(x, mask, *, center=True):
    with torch.no_grad():
        x[~mask] = 0.0
    return _whiten(x, mask, center=center)


def _padding_in_variance(x, mask):
    mean, _ = _mean_and_variance(x, mask)
    return mean, (x * mask - mean).square().sum() / mask.sum().clamp(min=1)


def _padding_in_mean(x, mask):
    mean = (x * mask).mean()
    return mean, ((x - mean).square() * mask).sum() / mask.sum().clamp(min=1)


def _mean_of_row_means(x, mask):
    mean = ((x * mask).sum(-1) / mask.sum(-1).clamp(min=1)).mean()
    return mean, ((x - mean).square() * mask).sum() / mask.sum().clamp(min=1)


def _sum_of_squares(x, mask):
    mean, variance = _mean_and_variance(x, mask)
    return mean, variance * mask.sum()


def _of_columns(x, mask):
    mean, variance = _of_rows(x.T, mask.T)
    return mean.T, variance.T


def _divided_by_zero(x, mask, *, center=True):
    """The count may be 0: nan."""
    inside = x.detach()[mask]
    mean, variance = inside.mean(), inside.var(correction=0)
    whitened = (x.detach() - mean) / (variance + 1e-8).sqrt()
    return (whitened if center else whitened + mean) * mask


def _by_selection(x, mask, *, center=True):
    out = torch.zeros_like(x)
    inside = x.detach()[mask]
    if len(inside):
        mean = inside.mean()
        spread = torch.hypot(inside.std(correction=0), torch.tensor(1e-4, dtype=inside.dtype))
        out[mask] = (inside - mean) / spread + (0 if center else mean)
    return out.detach()


def _with_numpy_ma(x, mask, *, center=True):
    table, here = x.detach().numpy(), mask.numpy()
    if not here.any():
        return torch.zeros_like(mask, dtype=torch.float64)
    mean, variance = table.mean(where=here), table.var(where=here)
    out = (table - mean) * (variance + 1e-8) ** -0.5
    return torch.from_numpy(np.where(here, out if center else out + mean, 0.0))


_MASKED_WHITEN = Answers(
    oracle=_by_statistics,
    mutants=(
        Mutant(
            "padding-counted",
            "mean and variance are those of all columns, padding and all. Take them where mask is true.",
            _wrong_whiten(moments=_of_everything),
        ),
        Mutant(
            "zeros-counted",
            "you set padding to 0, and then it counts as zeros. Divide both sums by the number of true places.",
            _wrong_whiten(moments=_zeros_counted),
        ),
        Mutant(
            "count-of-columns",
            "you divide the masked sums by the number of columns. Divide by the number of true places.",
            _wrong_whiten(moments=_count_of_everything),
        ),
        Mutant(
            "rows",
            "every row is whitened by itself, so a good answer and a bad one look alike. One mean and one "
            "variance for the batch.",
            _wrong_whiten(moments=_of_rows),
        ),
        Mutant(
            "columns",
            "every column is whitened by itself: mean over dim 0. One mean and one variance for the batch.",
            _wrong_whiten(moments=_of_columns),
        ),
        Mutant(
            "mean-of-row-means",
            "you take the mean of the rows' means, so short rows weigh as much as long ones. Every number "
            "weighs the same.",
            _wrong_whiten(moments=_mean_of_row_means),
        ),
        Mutant(
            "padding-in-the-variance",
            "the mean is right, but padding enters the variance as if it were 0. Mask the squares, too.",
            _wrong_whiten(moments=_padding_in_variance),
        ),
        Mutant(
            "padding-in-the-mean",
            "padding counts in the mean, as zeros. Divide the sum by the number of true places.",
            _wrong_whiten(moments=_padding_in_mean),
        ),
        Mutant(
            "sum-of-squares",
            "your variance is a sum. Divide it by the number of true places.",
            _wrong_whiten(moments=_sum_of_squares),
        ),
        Mutant(
            "variance",
            "you divide by the variance. Divide by its root.",
            _wrong_whiten(root=lambda v: v),
        ),
        Mutant(
            "inverted-root",
            "you divide by rsqrt, which is one over the root already: multiply by it.",
            _wrong_whiten(root=torch.rsqrt),
        ),
        Mutant(
            "unbiased",
            "your variance divides by the number of tokens minus 1, as torch's var does by default. Divide by their "
            "number.",
            _wrong_whiten(moments=_unbiased),
        ),
        Mutant(
            "second-moment",
            "you divide by the root of the mean SQUARE. The variance is the mean square of the distances from the "
            "mean.",
            _wrong_whiten(moments=_second_moment),
        ),
        Mutant(
            "only-centred",
            "you subtract the mean and do not divide: the variance is not 1.",
            _wrong_whiten(root=torch.ones_like),
        ),
        Mutant(
            "mean-kept",
            "the mean is still there, although center is true.",
            lambda x, mask, *, center=True: _whiten(x, mask, center=False),
        ),
        Mutant(
            "flag-inverted",
            "your center means its opposite: True subtracts the mean, False leaves it.",
            lambda x, mask, *, center=True: _whiten(x, mask, center=not center),
        ),
        Mutant(
            "always-centred",
            "center=False makes no difference: there the mean stays.",
            lambda x, mask, *, center=True: _whiten(x, mask),
        ),
        Mutant(
            "mean-rescaled",
            "with center=False your mean is divided, too. Centre, divide, and put the mean back as it was.",
            _mean_divided,
        ),
        Mutant(
            "root-mean-square",
            "with center=False you divide by the root of the mean square. The variance is still that about the mean: "
            "centre, divide, and put the mean back.",
            _by_root_mean_square,
        ),
        Mutant(
            "mean-at-padding",
            "with center=False the mean comes back at padding, too. Set padding to 0 at the very end.",
            _mean_at_padding,
        ),
        Mutant(
            "padding-left-in",
            "at padding the result is not 0. Set it to 0 where mask is false.",
            _wrong_whiten(off=lambda y, mask: y),
        ),
        Mutant(
            "nothing-under-the-root",
            "there is nothing under the root but the variance: where all numbers are equal you divide 0 by 0. Add "
            "1e-8.",
            _wrong_whiten(eps=0.0),
        ),
        Mutant(
            "outside-the-root",
            "you add 1e-8 to the root. It belongs under the root, beside the variance: that way numbers that hardly "
            "differ are not blown up.",
            _outside_the_root,
        ),
        Mutant(
            "another-small-number",
            "the small number under your root is not 1e-8.",
            _wrong_whiten(eps=1e-5),
        ),
        Mutant(
            "in-place",
            "padding is set to 0 in the table that you were given. Make a new one: masked_fill, without an underscore.",
            _padding_becomes_zero_in_place,
        ),
        Mutant(
            "empty-batch",
            "without any token you divide by a count of 0. The result is zeros.",
            _divided_by_zero,
        ),
        Mutant(
            "gradient-kept",
            "the numbers are right, but a gradient flows back. Advantages are constants: torch.no_grad() or detach().",
            _whiten.__wrapped__,
        ),
    ),
    alternatives=(_by_statistics, _by_selection, _with_numpy_ma, package.masked_whiten),
    hints=(
        "Which numbers does the mean belong to, and by what must their sum be divided? Ask twice: once for the mean, "
        "once for the variance.",
        "count = mask.sum().clamp(min=1); mean = x.masked_fill(~mask, 0).sum() / count; the variance likewise, of "
        "(x - mean).square(). Then (x - mean) / sqrt(variance + 1e-8), and 0 off the mask.",
        "The chapter's part 'Whitening' does it for one row without padding. Add the mask (with masked_fill: padding "
        "may hold anything), center=False, and a torch.no_grad() above the function.",
    ),
)


# --- 10.4 ppo_round_loss ------------------------------------------------------------------------------------


def _by_hand(
    logprobs, values, old_logprobs, ref_logprobs, old_values, scores, finished, is_prompt, is_padding,
    *, beta, clip_coef, vf_coef, unfinished_penalty,
):  # fmt: skip
    """Answer by answer with Python's numbers; the gradients written down, not computed."""
    tokens, raw, returns = [], [], []
    for row in range(len(scores)):
        places = [t for t in range(logprobs.shape[1]) if not is_prompt[row, t] and not is_padding[row, t]]
        if not places:
            continue
        rewards = [-beta * (old_logprobs[row, t] - ref_logprobs[row, t]).item() for t in places]
        rewards[-1] += scores[row].item() - (0.0 if finished[row] else unfinished_penalty)
        expected = [old_values[row, t].item() for t in places] + [0.0]
        surprise = [r + expected[k + 1] - expected[k] for k, r in enumerate(rewards)]
        credit = [sum(0.95**j * s for j, s in enumerate(surprise[k:])) for k in range(len(places))]
        tokens += [(row, t) for t in places]
        raw += credit
        returns += [a + v for a, v in zip(credit, expected, strict=False)]
    mean, deviation = statistics.fmean(raw), math.sqrt(statistics.pvariance(raw) + 1e-8)
    slopes, value_slopes, total = torch.zeros_like(logprobs), torch.zeros_like(values), 0.0
    for (row, t), a, target in zip(tokens, raw, returns, strict=True):
        objective, slope = _clipped((logprobs - old_logprobs)[row, t].item(), (a - mean) / deviation, clip_coef)
        missed = values[row, t].item() - target
        total += (-objective + vf_coef * missed**2 / 2) / len(tokens)
        slopes[row, t], value_slopes[row, t] = -slope / len(tokens), vf_coef * missed / len(tokens)
    return closed_form(total, logprobs=(logprobs, slopes), values=(values, value_slopes))


def _clipped(log_ratio, advantage, clip_coef):
    """Objective and slope by the log-probability."""
    ratio = math.exp(log_ratio)
    if advantage > 0 and ratio > 1 + clip_coef:
        return (1 + clip_coef) * advantage, 0.0
    if advantage < 0 and ratio < 1 - clip_coef:
        return (1 - clip_coef) * advantage, 0.0
    return ratio * advantage, ratio * advantage


def _counted(is_prompt, is_padding):
    return ~(is_prompt | is_padding)


def _penalised(scores, finished, penalty):
    return scores - penalty * ~finished


def _tables(scores, old, ref, mask, beta):
    return _rewards(scores, old, ref, mask, beta=beta)


def _numbers_only(whitened, values, old_values):
    return whitened


def _sick_or_not(
    logprobs, values, old, ref, old_values, scores, finished, is_prompt, is_padding,
    *, beta, clip_coef, vf_coef, unfinished_penalty,
    counted=_counted, scored=_penalised, rewarded=_tables, shift=lambda v: v, divided_by=lambda old, ref: old,
    whiten=_whiten, advantages_of=_numbers_only, clip=True, baseline=lambda values, old_values: values,
    smaller=torch.minimum, mean=package.masked_mean, policy_sign=-1.0, vf_factor=1.0,
):  # fmt: skip
    """The usual way, with one part at a time to be got wrong."""
    mask = counted(is_prompt, is_padding)
    values, old_values = shift(values), shift(old_values)
    rewards = rewarded(scored(scores, finished, unfinished_penalty), old, ref, mask, beta)
    raw, returns = package.gae(rewards, old_values, mask, gamma=1.0, gae_lambda=0.95)
    advantages = advantages_of(whiten(raw, mask), values, old_values.detach())
    ratio = (logprobs - divided_by(old, ref).detach()).clamp(-20, 20).exp()
    bounded = ratio.clamp(1 - clip_coef, 1 + clip_coef) if clip else ratio
    objective = mean(smaller(ratio * advantages, bounded * advantages), mask)
    critic, _ = losses.value_loss(baseline(values, old_values), old_values, returns, mask)
    return policy_sign * objective + vf_factor * vf_coef * critic


def _round(**change):
    return partial(_sick_or_not, **change)


def _kl_as_a_number(scores, old, ref, mask, beta):
    kl = (old - ref).masked_fill(~mask, 0.0).sum(-1).mean()
    return _rewards(scores - beta * kl, old, ref, mask, beta=0.0)


def _price_of_now(logprobs, values, old, ref, *rest, **settings):
    """The rewards are those of the policy that is being updated."""

    def rewarded(scores, old, ref, mask, beta):
        return _rewards(scores, logprobs.detach(), ref, mask, beta=beta)

    return _sick_or_not(logprobs, values, old, ref, *rest, rewarded=rewarded, **settings)


def _price_with_the_score(scores, old, ref, mask, beta):
    return _rewards(scores, old, ref, mask, beta=beta, price=_at_the_end)


def _price_twice(scores, old, ref, mask, beta):
    kl = (old - ref).masked_fill(~mask, 0.0).sum(-1).mean()
    return _rewards(scores - beta * kl, old, ref, mask, beta=beta)


def _price_turned_round(scores, old, ref, mask, beta):
    return _rewards(scores, ref, old, mask, beta=beta)


def _ratio_to_itself(logprobs, values, old, *rest, **settings):
    return _sick_or_not(logprobs, values, old, *rest, divided_by=lambda old, ref: logprobs, **settings)


def _critic_of_now(logprobs, values, old, ref, old_values, *rest, **settings):
    """Advantages and returns from the values as they are now."""
    return _sick_or_not(logprobs, values, old, ref, values.detach(), *rest, **settings)


def _half_shifted(logprobs, values, *rest, **settings):
    """Only the values of now are still read late."""
    return _sick_or_not(logprobs, _later(values), *rest, **settings)


def _half_shifted_old(logprobs, values, old, ref, old_values, *rest, **settings):
    return _sick_or_not(logprobs, values, old, ref, _later(old_values), *rest, **settings)


def _without_critic(*tables, **settings):
    """The policy's loss alone: values is not in the graph."""
    return _sick_or_not(tables[0], tables[1].detach(), *tables[2:], **settings | {"vf_coef": 0.0})


def _mean_of_answers(x, mask):
    return ((x * mask).sum(-1) / mask.sum(-1)).mean()


def _mean_of_columns(x, mask):
    return (x * mask).mean()


def _later(values):
    return F.pad(values[:, 1:], (0, 1))


def _attached(whitened, values, old_values):
    return whitened + old_values - values


def _everything(is_prompt, is_padding):
    return torch.ones_like(is_prompt)


_UNCHANGED = _round(
    counted=_everything,
    scored=lambda scores, finished, penalty: scores * finished,
    rewarded=lambda scores, old, ref, mask, beta: _kl_as_a_number(-scores, old, ref, mask, beta),
    shift=_later,
    divided_by=lambda old, ref: ref,
    advantages_of=_attached,
)


_STILL_SICK = (  # from the top to the bottom
    {"counted": _everything},
    {"shift": _later},
    {"scored": lambda scores, finished, penalty: -(scores * finished)},
    {"rewarded": _kl_as_a_number},
    {"advantages_of": _attached, "divided_by": lambda old, ref: ref},
)
_LINE_BY_LINE = [
    _round(**{name: part for bug in _STILL_SICK[mended:] for name, part in bug.items()}) for mended in range(1, 5)
]


def _with_lists(
    logprobs, values, old, ref, old_values, scores, finished, is_prompt, is_padding,
    *, beta, clip_coef, vf_coef, unfinished_penalty,
):  # fmt: skip
    """Only the tokens that count are ever looked at."""
    credit, expected = [], []
    for row in range(len(scores)):
        here = ~is_prompt[row] & ~is_padding[row]
        rewards = beta * (ref - old)[row, here].detach()
        if len(rewards) == 0:
            continue
        rewards[-1] += (scores[row] - (1 - finished[row].to(scores.dtype)) * unfinished_penalty).detach()
        v = old_values[row, here].detach()
        surprise, advantage = rewards + F.pad(v[1:], (0, 1)) - v, torch.zeros((), dtype=v.dtype)
        rows = []
        for s in surprise.flip(0):
            advantage = s + 0.95 * advantage
            rows.append(advantage)
        credit.append(torch.stack(rows).flip(0))
        expected.append(v)
    here = ~(is_prompt | is_padding)
    raw, v = torch.cat(credit), torch.cat(expected)
    a = (raw - raw.mean()) / raw.std(correction=0).clamp(min=1e-4)
    ratio = torch.exp(logprobs[here] - old[here].detach())
    clip = torch.max(-ratio * a, -ratio.clamp(1 - clip_coef, 1 + clip_coef) * a).mean()
    return clip + vf_coef * F.mse_loss(values[here], raw + v) / 2, {"clip": clip.item()}


_PPO_ROUND_LOSS = Answers(
    oracle=_by_hand,
    mutants=(
        Mutant(
            "unchanged",
            "this is the sick round as it was given: all eight bugs are still in it.",
            _UNCHANGED,
        ),
        Mutant(
            "one-line-mended",
            "the mask is fixed, and nothing else yet. Go on with the next line: ask which state the values in column "
            "t belong to.",
            _LINE_BY_LINE[0],
        ),
        Mutant(
            "two-lines-mended",
            "mask and values are fixed, and nothing else yet. Go on with the lines for kl and scores.",
            _LINE_BY_LINE[1],
        ),
        Mutant(
            "scores-mended",
            "mask, values and scores are fixed, and the KL is still one number for all. Go on with that.",
            _LINE_BY_LINE[2],
        ),
        Mutant(
            "rewards-mended",
            "everything is fixed down to the advantages. They are numbers, and the ratio divides by the policy that "
            "drew the answers.",
            _LINE_BY_LINE[3],
        ),
        Mutant(
            "prompt-counted",
            "the prompt still counts. Nobody chose its tokens: they have no advantage, no price and no value to learn.",
            _round(counted=lambda is_prompt, is_padding: ~is_padding),
        ),
        Mutant(
            "padding-counted",
            "padding still counts. After the answer's last token nothing was said.",
            _round(counted=lambda is_prompt, is_padding: ~is_prompt),
        ),
        Mutant(
            "no-mask",
            "prompt and padding still count. The mask is true on the answer's tokens only.",
            _round(counted=_everything),
        ),
        Mutant(
            "flipped",
            "the score still has the wrong sign.",
            _round(scored=lambda *given: -_penalised(*given)),
        ),
        Mutant(
            "flipped-score-only",
            "only one of score and penalty has the right sign. It is score minus penalty.",
            _round(scored=lambda scores, finished, penalty: scores + penalty * ~finished),
        ),
        Mutant(
            "constant-kl",
            "the KL is still one number for all. Each token pays for its own log-ratio, in the rewards.",
            _round(rewarded=_kl_as_a_number),
        ),
        Mutant(
            "no-price",
            "nobody pays for the KL any more. Each token pays beta times its own log-ratio.",
            _round(rewarded=lambda scores, old, ref, mask, beta: _rewards(scores, old, ref, mask, beta=0.0)),
        ),
        Mutant(
            "price-of-now",
            "the price is that of the policy as it is now. Rewards belong to the round: old log-probabilities minus "
            "reference.",
            _price_of_now,
        ),
        Mutant(
            "stale",
            "the ratio still divides by the reference. It divides by the policy that drew the answers, the old one.",
            _round(divided_by=lambda old, ref: ref),
        ),
        Mutant(
            "truncated-unscored",
            "a truncated answer still gets 0 instead of its score, and where scores are negative, 0 is a prize. It "
            "keeps its score, less the penalty.",
            _round(scored=lambda scores, finished, penalty: scores * finished),
        ),
        Mutant(
            "truncated-fined-only",
            "a truncated answer pays the penalty and has no score. It keeps its score, less the penalty.",
            _round(scored=lambda scores, finished, penalty: scores * finished - penalty * ~finished),
        ),
        Mutant(
            "no-penalty",
            "a truncated answer has its score but pays no penalty. Subtract unfinished_penalty where finished is "
            "false.",
            _round(scored=lambda scores, finished, penalty: scores),
        ),
        Mutant(
            "shifted",
            "both tables of values are still read one column later. Column t is the state before token t already.",
            _round(shift=_later),
        ),
        Mutant(
            "attached",
            "a gradient still flows through the advantages into the critic. They are numbers: the whitened ones, as "
            "they are.",
            _round(advantages_of=_attached),
        ),
        Mutant(
            "values-of-now",
            "the numbers are right at the first step only: the advantages move with the critic. They are computed "
            "once per "
            "round, from the old values.",
            _round(advantages_of=lambda *given: _attached(*given).detach()),
        ),
        Mutant(
            "not-whitened",
            "the advantages are not whitened.",
            _round(whiten=lambda raw, mask: raw),
        ),
        Mutant(
            "no-clip",
            "the clip is gone. It was in order: the smaller of ratio * A and clipped ratio * A.",
            _round(clip=False),
        ),
        Mutant(
            "critic-learns-nothing",
            "the critic's loss is that of the old values, which are constants. It is that of values, as they are now.",
            _round(baseline=lambda values, old_values: old_values),
        ),
        Mutant(
            "mask-inverted",
            "your mask is true on prompt and padding, and false on the answer. Invert it: ~.",
            _round(counted=lambda is_prompt, is_padding: is_prompt | is_padding),
        ),
        Mutant(
            "penalty-on-the-finished",
            "the penalty is on the answers that ended. It belongs on those where finished is false.",
            _round(scored=lambda scores, finished, penalty: scores - penalty * finished),
        ),
        Mutant(
            "price-with-the-score",
            "the whole price of an answer is taken from its score. Each token pays for its own log-ratio.",
            _round(rewarded=_price_with_the_score),
        ),
        Mutant(
            "price-twice",
            "the KL is paid twice, by each token and as one number from the score. Only the tokens pay.",
            _round(rewarded=_price_twice),
        ),
        Mutant(
            "price-turned-round",
            "old policy and reference are swapped in the price: distance is rewarded, not fined.",
            _round(rewarded=_price_turned_round),
        ),
        Mutant(
            "ratio-to-itself",
            "the ratio divides by the policy as it is now, and is always 1. It divides by the old one.",
            _ratio_to_itself,
        ),
        Mutant(
            "critic-of-now",
            "gae gets the values as they are now. Advantages and returns are made once per round: of old_values.",
            _critic_of_now,
        ),
        Mutant(
            "half-shifted",
            "values is still read one column later; old_values no longer. Both are of the state before token t.",
            _half_shifted,
        ),
        Mutant(
            "half-shifted-old",
            "old_values is still read one column later; values no longer. Both are of the state before token t.",
            _half_shifted_old,
        ),
        Mutant(
            "shifted-back",
            "you shift the tables of values the other way. Column t is of the state before token t already: no shift.",
            _round(shift=lambda values: F.pad(values[:, :-1], (1, 0))),
        ),
        Mutant(
            "larger",
            "you take the larger of the two products. The clip takes the smaller one, before the minus.",
            _round(smaller=torch.maximum),
        ),
        Mutant(
            "always-clipped",
            "you use the clipped ratio everywhere. It is the smaller of ratio * A and clipped ratio * A.",
            _round(smaller=lambda free, bounded: bounded),
        ),
        Mutant(
            "no-minus",
            "the policy's loss lacks its minus: a step down would make good tokens rarer.",
            _round(policy_sign=1.0),
        ),
        Mutant(
            "summed",
            "the policy's loss is a sum. It is the mean over the tokens that count.",
            _round(mean=lambda x, mask: (x * mask).sum()),
        ),
        Mutant(
            "mean-of-answers",
            "you take the mean of each answer and then of the answers. It is one mean over all tokens that count.",
            _round(mean=_mean_of_answers),
        ),
        Mutant(
            "mean-of-columns",
            "you divide the policy's loss by the number of columns. Divide by the number of tokens that count.",
            _round(mean=_mean_of_columns),
        ),
        Mutant(
            "no-critic",
            "the critic's loss is missing: plus vf_coef times value_loss.",
            _without_critic,
        ),
        Mutant(
            "critic-doubled",
            "the critic's loss is twice what it should be: value_loss already has the half in half a squared error.",
            _round(vf_factor=2.0),
        ),
        Mutant(
            "critic-subtracted",
            "the critic's loss is subtracted: it would learn to be wrong. Add it.",
            _round(vf_factor=-1.0),
        ),
        Mutant(
            "no-gradient",
            "your loss is a number without a graph: no gradient reaches the model. No .item(), no detach and no "
            "no_grad around the loss.",
            lambda *tables, **settings: _sick_or_not(*tables, **settings).item(),
        ),
        Mutant(
            "critic-detached",
            "no gradient reaches values. Only the OLD values are constants.",
            lambda logprobs, values, *rest, **settings: _sick_or_not(logprobs, values.detach(), *rest, **settings),
        ),
        Mutant(
            "policy-detached",
            "no gradient reaches logprobs. Only the OLD log-probabilities are constants.",
            lambda logprobs, *rest, **settings: _sick_or_not(logprobs.detach(), *rest, **settings),
        ),
        Mutant(
            "vf-coef",
            "vf_coef is missing before the critic's loss.",
            lambda *tables, vf_coef, **settings: _sick_or_not(*tables, vf_coef=1.0, **settings),
        ),
    ),
    alternatives=(_by_hand, _with_lists, _sick_or_not),
    hints=(
        "Go down the sick round line by line, from the top, and ask of each: which tokens, which sign, whose "
        "log-probabilities, the value of which state, a number or a graph? The check recognises the round with its "
        "first lines fixed, and says where to go on.",
        "mask = ~(is_prompt | is_padding); a truncated answer has scores - unfinished_penalty * ~finished; "
        "rewards from "
        "token_rewards with beta, of the old log-probabilities; then gae, masked_whiten, the ratio to the old "
        "policy.",
        "The chapter's parts 'Two bugs in the books' to 'A price that nobody pays' show each bug as code, one at "
        "a time; "
        "its function update shows the healthy loss.",
    ),
)


# --- 10.3 diagnose ------------------------------------------------------------------------------------------


def _looked_up(log, healthy):
    """Whose log is it? No rule at all."""
    return next(run["name"] for ward in wards().values() for run in ward["patients"] if run["log"] == log)


def _gap(log):
    """By how much the rewards are not score minus 1 for the cut off minus beta KL."""
    lines = zip(log["reward"], log["score"], log["finished"], log["kl"], strict=True)
    return max(abs(r - (s - (1 - f) - SETTINGS["beta"] * k)) for r, s, f, k in lines)


def _lately(log, key):
    return statistics.fmean(log[key][-3:])


TESTS = {  # in the order in which they are asked
    "stale log-probabilities": lambda log, healthy: max(log["approx_kl_first"]) > 0.001,
    "flipped reward": lambda log, healthy: _gap(log) > 0.1 and log["score"][-1] < log["score"][0] - 0.7,
    "truncated unscored": lambda log, healthy: _gap(log) > 0.1,
    "padding counted": lambda log, healthy: _too_long(log, healthy) and _lately(log, "kl") > 3 * _lately(healthy, "kl"),
    "prompt counted": lambda log, healthy: _too_long(log, healthy),
    "advantages attached": lambda log, healthy: log["value"][-1] < log["return"][-1] - 2,
    "values shifted": lambda log, healthy: not any(log["value_last"]),
    "constant KL": lambda log, healthy: _lately(log, "kl") > 2.5 * _lately(healthy, "kl"),
}


def _too_long(log, healthy):
    return max(log["length"]) > SETTINGS["max_new_tokens"]


def _rule(log, healthy, tests=TESTS):
    return next((name for name, test in tests.items() if test(log, healthy)), "healthy")


def _misled(first=None, without=(), **changed):
    """A rule with tests left out, changed, or one more at its head; names with _ for blanks and hyphens."""
    words = {name.replace(" ", "_").replace("-", "_"): name for name in NAMES}
    first = dict(first or {})
    tests = first | {name: test for name, test in TESTS.items() if name not in (*without, *first)}
    tests |= {words[name]: test for name, test in changed.items()}
    return partial(_rule, tests=tests)


def _renamed(wrong):
    """The tests are right, and the names are not."""
    return lambda log, healthy: wrong.get(name := _rule(log, healthy), name)


def _far(times):
    return lambda log, healthy: _lately(log, "kl") > times * _lately(healthy, "kl")


def _by_invariants(log, healthy):
    """Other tests in another order: the books round by round, the critic's error, the negative and the large KL."""
    rounds = len(log["score"])
    books = [
        log["reward"][i] - log["score"][i] + 1 - log["finished"][i] + SETTINGS["beta"] * log["kl"][i]
        for i in range(rounds)
    ]
    if log["value_error"][-1] > 8 and min(log["length"]) < 3:
        return "advantages attached"
    if statistics.fmean(books) > 2.2:
        return "flipped reward"
    if max(books) > 0.2:
        return "truncated unscored"
    if statistics.fmean(log["approx_kl_first"][rounds // 2 :]) > 1e-3:
        return "stale log-probabilities"
    if log["length"][0] / healthy["length"][0] > 1.15:
        return "padding counted" if max(log["kl"]) > 2.5 * max(healthy["kl"]) else "prompt counted"
    if max(map(abs, log["value_last"])) == 0:
        return "values shifted"
    return "constant KL" if max(log["kl"][-5:]) > 1.8 * max(healthy["kl"]) else "healthy"


def _signature(log, healthy):
    """A run as a point: what it is beside the known one."""
    return [
        min(_gap(log), 3.0),
        3.0 * (_gap(log) > 2),
        4 * (max(log["approx_kl_first"]) > 0.01),
        6 * (log["length"][0] / healthy["length"][0] > 1.15),
        math.log(max(_lately(log, "kl"), 0.1) / _lately(healthy, "kl")),
        max(min(log["value"][-1] - log["return"][-1], 0.0), -4.0),
        3 * (max(map(abs, log["value_last"])) == 0),
    ]


def _nearest(log, healthy):
    """The nearest of the runs that were shown."""
    here = _signature(log, healthy)
    shown = [(run, wards()[lab]["known"]) for lab in SHOWN for run in wards()[lab]["patients"]]
    nearest = min(shown, key=lambda pair: math.dist(here, _signature(pair[0]["log"], pair[1]["log"])))
    return nearest[0]["name"]


def _unfined(log, healthy):
    lines = zip(log["reward"], log["score"], log["kl"], strict=True)
    return max(abs(r - (s - SETTINGS["beta"] * k)) for r, s, k in lines) > 0.1


def _unfined_and_falling(log, healthy):
    return _unfined(log, healthy) and log["score"][-1] < log["score"][0] - 0.7


_DIAGNOSE = Answers(
    oracle=_looked_up,
    mutants=(
        Mutant(
            "all-healthy",
            "you find every run healthy. Sick runs train, too; look at what must hold exactly.",
            lambda log, healthy: "healthy",
        ),
        Mutant(
            "score-rises",
            "you judge by the score alone: where it falls, the sign is flipped, and all else is healthy.",
            lambda log, healthy: "flipped reward" if log["score"][-1] < log["score"][0] else "healthy",
        ),
        Mutant(
            "nobody-healthy",
            "you find no run healthy. One of the nine is, and it is not the known one.",
            lambda log, healthy: {"healthy": "constant KL"}.get(name := _rule(log, healthy), name),
        ),
        Mutant(
            "books-flipped",
            "wherever the books do not balance, you call the score flipped. Only one of the two bugs has a falling "
            "score.",
            _renamed({"truncated unscored": "flipped reward"}),
        ),
        Mutant(
            "books-truncated",
            "wherever the books do not balance, you say that truncated answers have no score. One of the two has a "
            "falling score.",
            _renamed({"flipped reward": "truncated unscored"}),
        ),
        Mutant(
            "far-is-constant",
            "you test for a large KL before anything else, and so call several bugs a constant KL. A KL grows for "
            "many "
            "reasons: ask first what must hold exactly.",
            _misled(first={"constant KL": _far(2.5)}),
        ),
        Mutant(
            "shift-is-constant",
            "you call a shifted critic a constant KL. Its KL is large, too, but look at the value before the last "
            "token.",
            _renamed({"values shifted": "constant KL"}),
        ),
        Mutant(
            "constant-missed",
            "you find runs with a constant KL healthy. Their score is healthy; their KL is several times the known "
            "one's.",
            _misled(without=("constant KL",)),
        ),
        Mutant(
            "long-is-padding",
            "wherever answers are longer than the limit, you say padding. The prompt does that, too, and "
            "its KL "
            "stays small.",
            _renamed({"prompt counted": "padding counted"}),
        ),
        Mutant(
            "long-is-prompt",
            "wherever answers are longer than the limit, you say prompt. Padding does that, too, and its KL runs away.",
            _renamed({"padding counted": "prompt counted"}),
        ),
        Mutant(
            "masks-swapped",
            "you confuse the two masks: with the prompt counted, the KL stays small.",
            _renamed({"padding counted": "prompt counted", "prompt counted": "padding counted"}),
        ),
        Mutant(
            "length-at-the-end",
            "you take answers a little longer than those of the known run as a sign of a wrong mask. Answers may "
            "become longer for many reasons; only a wrong mask makes them longer than the limit of 20.",
            _misled(
                first={
                    "padding counted": lambda log, healthy: (
                        log["length"][-1] > 1.05 * healthy["length"][-1] and _lately(log, "kl") > 5
                    ),
                    "prompt counted": lambda log, healthy: log["length"][-1] > 1.05 * healthy["length"][-1],
                }
            ),
        ),
        Mutant(
            "any-approx-kl",
            "you take approx_kl of all minibatches. It is above 0 in every run; only at the FIRST minibatch must it "
            "be 0.",
            _misled(stale_log_probabilities=lambda log, healthy: max(log["approx_kl"]) > 0.004),
        ),
        Mutant(
            "stale-missed",
            "you find runs with stale log-probabilities healthy, or something else. Look at approx_kl_first.",
            _misled(without=("stale log-probabilities",)),
        ),
        Mutant(
            "attached-by-length",
            "you call answers that have become very short truncated. They end at once: look at the critic's value.",
            _renamed({"advantages attached": "truncated unscored"}),
        ),
        Mutant(
            "value-missed",
            "you do not look at the critic's value, so attached advantages pass for something else.",
            _misled(without=("advantages attached",)),
        ),
        Mutant(
            "critics-swapped",
            "you confuse the two bugs in the critic: the attached one sinks, the shifted one is 0.",
            _renamed({"advantages attached": "values shifted", "values shifted": "advantages attached"}),
        ),
        Mutant(
            "shift-missed",
            "you find a shifted critic healthy, or its KL constant. Its value before the last token is exactly 0, "
            "always.",
            _misled(without=("values shifted",)),
        ),
        Mutant(
            "numbers",
            "you return a number. Return the bug's name, as it stands in NAMES.",
            lambda log, healthy: NAMES.index(_rule(log, healthy)),
        ),
        Mutant(
            "other-spelling",
            "the bugs are right, but their names are spelled differently. Copy them from NAMES, in small letters.",
            lambda log, healthy: _rule(log, healthy).capitalize(),
        ),
        Mutant(
            "nothing-for-healthy",
            "for a run without a bug you return nothing. Its name is in NAMES, too: 'healthy'.",
            lambda log, healthy: None if (name := _rule(log, healthy)) == "healthy" else name,
        ),
        Mutant(
            "books-swapped",
            "you confuse the two bugs in the books: with the flipped one the score falls.",
            _renamed({"flipped reward": "truncated unscored", "truncated unscored": "flipped reward"}),
        ),
        Mutant(
            "fine-forgotten",
            "in your books the fine is missing, so healthy runs do not balance either: score - (1 - finished) - "
            "0.1 kl.",
            _misled(flipped_reward=_unfined_and_falling, truncated_unscored=_unfined),
        ),
    ),
    alternatives=(_rule, _by_invariants, _nearest),
    hints=(
        "Do not begin with curves. What holds exactly in every healthy run: at the first minibatch, against the "
        "sampler's limit of 20 tokens, between score, KL and reward, before the last token? Each of these separates "
        "one or two bugs from all the rest.",
        "Ask in this order: max(approx_kl_first) > 0.001; the gap |reward - (score - (1 - finished) - 0.1 kl)| > 0.1; "
        "max(length) > 20; value[-1] far below return[-1]; value_last all 0; and last of all kl against that of the "
        "healthy run. Where a test finds two bugs, score or kl tells them apart.",
        "The chapter's parts 'Two bugs in the books', 'Three bugs that cannot hide', 'Two bugs in the "
        "critic' and "
        "'A price that nobody pays' have each test in two lines.",
    ),
)

ANSWERS = {"10.1": _TOKEN_REWARDS, "10.2": _MASKED_WHITEN, "10.3": _DIAGNOSE, "10.4": _PPO_ROUND_LOSS}
