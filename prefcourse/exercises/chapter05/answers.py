"""Answers to chapter 5: an oracle by another road than the solution's, wrong answers that people give, right ones
written differently, hints. Never lies where submissions run."""

from __future__ import annotations

import math
from itertools import combinations
from statistics import fmean, stdev

import numpy as np
import torch

from prefcourse import evaluate
from prefcourse.checks.exercise import Answers, Mutant

# --- 5.1 kl_estimate ----------------------------------------------------------------------------------------


def _estimate_by_pairs(logprobs, ref_logprobs, mask):
    """Row by row; the variance from the squared differences of all pairs of rows, without a mean."""
    rows = []
    for policy, reference, here in zip(logprobs.tolist(), ref_logprobs.tolist(), mask.tolist(), strict=True):
        rows.append(math.fsum(p - q for p, q, counts in zip(policy, reference, here, strict=True) if counts))
    count = len(rows)
    squares = math.fsum((a - b) ** 2 for a, b in combinations(rows, 2))
    error = math.sqrt(squares / (count * (count - 1)) / count) if count > 1 else math.nan
    return math.fsum(rows) / count, error


def _log_ratios(logprobs, ref_logprobs, mask):
    return (logprobs - ref_logprobs).masked_fill(~mask, 0.0).sum(1)


def _error(rows):
    return rows.std() / len(rows) ** 0.5


def _kl(logprobs, ref_logprobs, mask, *, rows=_log_ratios, mean=torch.mean, error=_error):
    """The usual way, with one step at a time to be got wrong."""
    of_rows = rows(logprobs, ref_logprobs, mask)
    return mean(of_rows), error(of_rows)


def _with_rows(rows):
    return lambda p, q, m: _kl(p, q, m, rows=rows)


def _with_error(error):
    return lambda p, q, m: _kl(p, q, m, error=error)


def _mask_multiplied(p, q, m):
    return ((p - q) * m).sum(1)


def _mean_per_token(p, q, m):
    return _log_ratios(p, q, m) / m.sum(1).clamp(min=1)


def _pooled_tokens(p, q, m):
    of_tokens = (p - q)[m]
    return of_tokens.mean(), of_tokens.std() / len(of_tokens) ** 0.5


def _error_by_tokens(p, q, m):
    rows = _log_ratios(p, q, m)
    return rows.mean(), rows.std() / m.sum() ** 0.5


def _k3(p, q, m):
    log_ratio = (q - p).masked_fill(~m, 0.0)
    return (log_ratio.exp() - 1 - log_ratio).sum(1)


def _weighed(p, q, m):
    return (p.exp() * (p - q)).masked_fill(~m, 0.0).sum(1)


def _without_empty(p, q, m):
    rows = _log_ratios(p, q, m)[m.any(1)]
    return rows.mean(), rows.std() / len(rows) ** 0.5


def _kl_in_numpy(logprobs, ref_logprobs, mask):
    rows = np.where(mask.numpy(), logprobs.numpy() - ref_logprobs.numpy(), 0.0).sum(axis=1)
    error = rows.std(ddof=1) / np.sqrt(len(rows)) if len(rows) > 1 else np.nan
    return float(rows.mean()), float(error)


def _kl_by_statistics(logprobs, ref_logprobs, mask):
    rows = [float((p[m] - q[m]).sum()) for p, q, m in zip(logprobs, ref_logprobs, mask, strict=True)]
    return [fmean(rows), stdev(rows) / math.sqrt(len(rows)) if len(rows) > 1 else math.nan]


def _kl_with_where(logprobs, ref_logprobs, mask):
    zero = torch.zeros_like(logprobs)
    rows = torch.where(mask, logprobs, zero).sum(-1) - torch.where(mask, ref_logprobs, zero).sum(-1)
    spread = ((rows - rows.mean()) ** 2).sum() / (len(rows) - 1)
    return torch.stack([rows.mean(), (spread / len(rows)).sqrt()])


_KL_ESTIMATE = Answers(
    oracle=_estimate_by_pairs,
    mutants=(
        Mutant(
            "reversed",
            "you subtract the policy from the reference: with samples of the policy, the mean of log policy - log "
            "reference is the KL. Yours is its negative.",
            lambda p, q, m: _kl(q, p, m),
        ),
        Mutant(
            "absolute",
            "you take the absolute value of each row's log-ratio. Negative rows belong in the mean: without them it "
            "is too high.",
            _with_rows(lambda p, q, m: _log_ratios(p, q, m).abs()),
        ),
        Mutant(
            "cut-at-0",
            "you cut negative rows off at 0. A KL is never negative, but a single row's log-ratio may be.",
            _with_rows(lambda p, q, m: _log_ratios(p, q, m).clamp(min=0)),
        ),
        Mutant(
            "mean-not-negative",
            "you cut the mean off at 0. The KL is never negative, its estimate may be: cut, it would be too high on "
            "average.",
            lambda p, q, m: _kl(p, q, m, mean=lambda rows: rows.mean().clamp(min=0)),
        ),
        Mutant(
            "mean-per-token",
            "you divide each row by its number of tokens. The log-probability of a response is the SUM over them.",
            _with_rows(_mean_per_token),
        ),
        Mutant(
            "pooled-tokens",
            "you average over all tokens. Sum the tokens of a row first, then average over rows: nats per response.",
            _pooled_tokens,
        ),
        Mutant(
            "padding-counted",
            "you count padding, too. Only where the mask is true is there a token of the response.",
            _with_rows(lambda p, q, m: (p - q).sum(1)),
        ),
        Mutant(
            "mask-multiplied",
            "you multiply by the mask, and nan times 0 is nan. Replace what is off the mask: masked_fill, or where.",
            _with_rows(_mask_multiplied),
        ),
        Mutant(
            "k3",
            "you use the estimator called k3 of each token. It is right on average, too, but here use the plain "
            "log-ratio.",
            _with_rows(_k3),
        ),
        Mutant(
            "weighed-again",
            "you weight by the probability once more. The policy drew these rows, so likely ones are there more often "
            "already.",
            _with_rows(_weighed),
        ),
        Mutant(
            "without-empty",
            "you leave empty responses out. They are answers of the policy like any other, with log-ratio 0.",
            _without_empty,
        ),
        Mutant(
            "deviation",
            "you return the standard deviation of the rows. The error of their MEAN is smaller, by the root of their "
            "number.",
            _with_error(torch.std),
        ),
        Mutant(
            "variance",
            "you forget the root of the variance.",
            _with_error(lambda rows: rows.var() / len(rows)),
        ),
        Mutant(
            "divided-by-n",
            "you divide the standard deviation by the number of rows. Divide by its root: four times as many rows "
            "halve the error.",
            _with_error(lambda rows: rows.std() / len(rows)),
        ),
        Mutant(
            "tokens-as-draws",
            "you count tokens as independent draws. The rows are what was drawn independently: divide by the root of "
            "THEIR number.",
            _error_by_tokens,
        ),
        Mutant(
            "divided-by-n-not-n-minus-1",
            "you divide the squares by the number of rows. Divide by one less: the mean was fitted to the same rows.",
            _with_error(lambda rows: rows.std(correction=0) / len(rows) ** 0.5),
        ),
        Mutant(
            "half-width",
            "you return the half-width of an interval, 1.96 errors. Return one error.",
            _with_error(lambda rows: 1.96 * _error(rows)),
        ),
        Mutant(
            "sure-of-one",
            "you say that a single row has error 0. From one draw nobody can tell how far apart draws lie: nan.",
            _with_error(lambda rows: _error(rows) if len(rows) > 1 else torch.tensor(0.0)),
        ),
        Mutant(
            "mean-absolute",
            "you take the absolute value of the mean. An estimate below 0 is as honest as one above: return it as it "
            "is.",
            lambda p, q, m: _kl(p, q, m, mean=lambda rows: rows.mean().abs()),
        ),
        Mutant(
            "not-averaged",
            "you add up the rows. Return the KL per response: their mean.",
            lambda p, q, m: _kl(p, q, m, mean=torch.sum),
        ),
        Mutant(
            "no-logarithm",
            "you exponentiate the log-ratios. The KL is the mean of the LOGARITHM of the ratio.",
            _with_rows(lambda p, q, m: _log_ratios(p, q, m).exp()),
        ),
        Mutant(
            "spread-of-tokens",
            "your error comes from how far apart tokens lie. The estimate is a mean of rows: take the deviation of "
            "rows, over the root of their number.",
            lambda p, q, m: (_log_ratios(p, q, m).mean(), _error((p - q)[m])),
        ),
        Mutant(
            "one-less-twice",
            "you subtract one twice. The deviation divides by n - 1 already; divide it by the root of n.",
            _with_error(lambda rows: rows.std() / (len(rows) - 1) ** 0.5),
        ),
        Mutant(
            "error-first",
            "you return the error first. The estimate comes first, then its error.",
            lambda p, q, m: _kl(p, q, m)[::-1],
        ),
    ),
    alternatives=(evaluate.kl_estimate, _kl, _kl_in_numpy, _kl_by_statistics, _kl_with_where),
    hints=(
        "Within a row the log-ratios of the tokens are added up. What you then have, one number per row, are "
        "independent draws. What do you know about the mean of independent draws?",
        "rows = sum over tokens of (logprobs - ref_logprobs), with 0 where the mask is false: masked_fill(~mask, 0.0). "
        "The estimate is their mean, its error their standard deviation (n - 1) over the root of their number.",
        "In the chapter, 'How far is it?' computes both for answers of a known policy and counts how often the "
        "interval holds the exact KL.",
    ),
)


# --- 5.2 pareto_front ---------------------------------------------------------------------------------------


def _front_by_sweep(kl, gold):
    """From the smallest KL outwards: on the front is what has more gold than all before, or repeats such a point."""
    places = [i for i in range(len(kl)) if not math.isnan(kl[i]) and not math.isnan(gold[i])]
    found, best, last = [False] * len(kl), -math.inf, None
    for i in sorted(places, key=lambda i: (kl[i], -gold[i])):
        if gold[i] > best or (kl[i], gold[i]) == last:
            found[i], best, last = True, gold[i], (kl[i], gold[i])
    return found


def _known(kl, gold):
    return [not math.isnan(x + y) for x, y in zip(kl, gold, strict=True)]


def _unbeaten(beats, *, nan=False, itself=False):
    """On the front is what no point beats; beats(kl, gold, other's kl, other's gold)."""

    def front(kl, gold):
        known, count = [True] * len(kl) if nan else _known(kl, gold), range(len(kl))
        others = [[j for j in count if known[j] and (itself or j != i)] for i in count]
        return [known[i] and not any(beats(kl[i], gold[i], kl[j], gold[j]) for j in others[i]) for i in count]

    return front


def _beats(kl, gold, other_kl, other_gold):
    return other_kl <= kl and other_gold >= gold and (other_kl < kl or other_gold > gold)


def _running_maximum(kl, gold):
    found, best = [], -math.inf
    for here, x in zip(_known(kl, gold), gold, strict=True):
        found.append(here and x > best)
        best = max(best, x) if here else best
    return found


def _in_order_of_kl(kl, gold):
    found = _front_by_sweep(kl, gold)
    return [found[i] for i in sorted(range(len(kl)), key=lambda i: (math.isnan(kl[i]), kl[i]))]


def _hull(kl, gold):
    """Corners of the upper hull, from the left to the highest point."""
    found = _front_by_sweep(kl, gold)
    points = sorted({(kl[i], gold[i]) for i in range(len(kl)) if found[i]})
    corners = []
    for x, y in points:
        while len(corners) > 1 and _below(corners[-2], corners[-1], (x, y)):
            corners.pop()
        corners.append((x, y))
    return [here and (kl[i], gold[i]) in corners for i, here in enumerate(found)]


def _below(a, b, c):
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])


def _sweep(kl, gold, order):
    """The highest gold so far, strictly; runs in this order."""
    found, best = [False] * len(kl), -math.inf
    for i in sorted((i for i, here in enumerate(_known(kl, gold)) if here), key=order):
        if gold[i] > best:
            found[i], best = True, gold[i]
    return found


def _better_than_the_one_before(kl, gold):
    found, best = [False] * len(kl), -math.inf
    for i in sorted((i for i, here in enumerate(_known(kl, gold)) if here), key=lambda i: (kl[i], -gold[i])):
        found[i], best = gold[i] > best, gold[i]
    return found


def _known_by(column):
    """nan is looked for in one column only: 0 is KL, 1 is gold."""

    def front(kl, gold):
        runs = list(zip(kl, gold, strict=True))
        return [not math.isnan(run[column]) and not any(_beats(*run, *other) for other in runs) for run in runs]

    return front


def _highest(kl, gold):
    best = max((y for y, here in zip(gold, _known(kl, gold), strict=True) if here), default=None)
    return [here and y == best for y, here in zip(gold, _known(kl, gold), strict=True)]


def _front_in_numpy(kl, gold):
    kl, gold = np.array(kl, dtype=float), np.array(gold, dtype=float)
    fine = ~(np.isnan(kl) | np.isnan(gold))
    no_worse = (kl[None] <= kl[:, None]) & (gold[None] >= gold[:, None])  # [i, j]: j is no worse than i
    better = (kl[None] < kl[:, None]) | (gold[None] > gold[:, None])
    return fine & ~(no_worse & better & fine[None]).any(axis=1)


def _front_by_best_so_far(kl, gold):
    found = []
    for x, y in zip(kl, gold, strict=True):
        within = [b for a, b in zip(kl, gold, strict=True) if a <= x and not math.isnan(b)]
        cheaper = [b for a, b in zip(kl, gold, strict=True) if a < x and not math.isnan(b)]
        found.append(bool(within) and y == max(within) and all(b < y for b in cheaper))
    return tuple(found)


_PARETO_FRONT = Answers(
    oracle=_front_by_sweep,
    mutants=(
        Mutant(
            "more-kl",
            "you count more KL as better. KL is the price: less of it is better.",
            _unbeaten(lambda kl, gold, other_kl, other_gold: _beats(-kl, gold, -other_kl, other_gold)),
        ),
        Mutant(
            "less-gold",
            "you count less gold as better. Gold is what we want more of.",
            _unbeaten(lambda kl, gold, other_kl, other_gold: _beats(kl, -gold, other_kl, -other_gold)),
        ),
        Mutant(
            "better-in-both",
            "you ask a point to be better in both before it beats another. As good in one and better in the other is "
            "enough.",
            _unbeaten(lambda kl, gold, other_kl, other_gold: other_kl < kl and other_gold > gold),
        ),
        Mutant(
            "equal-gold-stays",
            "you keep a point that pays more KL for the same gold.",
            _unbeaten(lambda kl, gold, other_kl, other_gold: other_kl <= kl and other_gold > gold),
        ),
        Mutant(
            "equal-kl-stays",
            "you keep a point that has less gold at the same KL.",
            _unbeaten(lambda kl, gold, other_kl, other_gold: other_kl < kl and other_gold >= gold),
        ),
        Mutant(
            "better-in-one",
            "you let a point be beaten by one that is better in KL or in gold. It must be no worse in both.",
            _unbeaten(lambda kl, gold, other_kl, other_gold: other_kl < kl or other_gold > gold),
        ),
        Mutant(
            "twins",
            "you let two equal points beat each other. To beat, a point must be better in something.",
            _unbeaten(lambda kl, gold, other_kl, other_gold: other_kl <= kl and other_gold >= gold),
        ),
        Mutant(
            "itself",
            "you compare each point with itself, too, and let an equal one beat it: nothing is left.",
            _unbeaten(lambda kl, gold, other_kl, other_gold: other_kl <= kl and other_gold >= gold, itself=True),
        ),
        Mutant(
            "nan-stays",
            "you keep runs that were lost: nan is neither above nor below anything, so nothing beats it. Test for nan.",
            _unbeaten(_beats, nan=True),
        ),
        Mutant(
            "in-given-order",
            "you keep the best so far in the order given. Points come in any order: sort them by KL first, and take "
            "nan out first, because a sort cannot put nan in order.",
            _running_maximum,
        ),
        Mutant(
            "order-of-kl",
            "you return the answers in the order of KL. They belong to the points in the order given.",
            _in_order_of_kl,
        ),
        Mutant(
            "hull",
            "you keep only the corners of the hull. A point in a dent is beaten by no point, only by a mixture of two.",
            _hull,
        ),
        Mutant(
            "within-a-hundredth",
            "you treat numbers that differ by a hundredth as equal. Compare them as they are: any difference counts.",
            _unbeaten(lambda *numbers: _beats(*(round(x, 2) for x in numbers))),
        ),
        Mutant(
            "highest",
            "you keep only the highest gold. With less KL, less gold may still be the best there is.",
            _highest,
        ),
        Mutant(
            "whom-it-beats",
            "you keep the runs that beat nobody. On the front are those that nobody beats: swap the two.",
            _unbeaten(lambda kl, gold, other_kl, other_gold: _beats(other_kl, other_gold, kl, gold)),
        ),
        Mutant(
            "the-one-before",
            "you compare each run with its neighbour in KL alone. One with far less KL may have more gold: keep the "
            "best so far.",
            _better_than_the_one_before,
        ),
        Mutant(
            "sorted-by-kl-alone",
            "you sort by KL alone. Of runs that share their KL the first then stays, even if the next has more gold.",
            lambda kl, gold: _sweep(kl, gold, lambda i: kl[i]),
        ),
        Mutant(
            "one-of-twins",
            "of two equal runs you keep one. Neither beats the other, so both are on the front.",
            lambda kl, gold: _sweep(kl, gold, lambda i: (kl[i], -gold[i])),
        ),
        Mutant(
            "nan-as-gold-stays",
            "you look for nan in the KL alone. A run whose gold is nan was lost, too.",
            _known_by(0),
        ),
        Mutant(
            "nan-as-kl-stays",
            "you look for nan in the gold alone. A run whose KL is nan was lost, too.",
            _known_by(1),
        ),
    ),
    alternatives=(_unbeaten(_beats), _front_in_numpy, _front_by_best_so_far),
    hints=(
        "Take one point and look at all the others. Which of them would make you give it up, whatever you think of KL "
        "and gold?",
        "A point is beaten if some other has KL <= and gold >= its own, with at least one of the two strictly. It is "
        "on the front if it is not nan and no point beats it.",
        "In the chapter, 'The grid in the plane' draws such points under the exact frontier. Two loops are enough; for "
        "nan use math.isnan.",
    ),
)


# --- 5.3 which_beta -----------------------------------------------------------------------------------------

SIDES = ("chosen", "rejected")


def _columns(log, side):
    return np.array([row[f"logps/{side}"] for row in log]), np.array([row[f"rewards/{side}"] for row in log])


def _beta_by_equations(log):
    """Rewards = beta * logps - (beta * reference's logps): three unknowns, two equations per row, least squares."""
    sides = [_columns(log, side) for side in SIDES]
    if not any(np.ptp(logps) > 0 for logps, _ in sides if len(logps)):
        return math.nan
    centre = [logps.mean() for logps, _ in sides]  # of no effect but on the condition
    rows = [[x - centre[n], n == 0, n == 1] for n, (logps, _) in enumerate(sides) for x in logps]
    rewards = np.concatenate([rewards for _, rewards in sides])
    return float(np.linalg.lstsq(np.array(rows, dtype=float), rewards, rcond=None)[0][0])


def _moves(log, sides=SIDES):
    """(movement of logps, movement of rewards) since the first row, of every later row and side."""
    return [
        (row[f"logps/{s}"] - log[0][f"logps/{s}"], row[f"rewards/{s}"] - log[0][f"rewards/{s}"])
        for s in sides
        for row in log[1:]
    ]


def _slope(pairs):
    """Least squares through 0; nan if nothing moved."""
    below = math.fsum(x * x for x, _ in pairs)
    return math.fsum(x * y for x, y in pairs) / below if below else math.nan


def _beta_by_slope(log):
    return _slope(_moves(log))


def _beta_by_largest_move(log):
    x, y = max(_moves(log), default=(0.0, 0.0), key=lambda move: abs(move[0]))
    return y / x if x else math.nan


def _beta_by_sizes(log):
    moves = _moves(log)
    below = sum(abs(x) for x, _ in moves)
    return sum(abs(y) for _, y in moves) / below if below > 0 else float("nan")


def _beta_by_fits(log):
    """A line for each side; that of the side which moved more."""
    best = max(SIDES, key=lambda side: np.ptp(_columns(log, side)[0]) if log else 0.0)
    logps, rewards = _columns(log, best)
    if len(log) < 2 or np.ptp(logps) == 0:
        return np.nan
    return float(np.polyfit(logps - logps.mean(), rewards, 1)[0])


def _mean_of_ratios(log):
    ratios = [y / x for x, y in _moves(log) if x]
    return fmean(ratios) if ratios else math.nan


def _beta_from_row_to_row(log):
    return _slope([move for pair in zip(log, log[1:], strict=False) for move in _moves(pair)])


def _of_margins(log):
    return _slope([(a - b, c - d) for (a, c), (b, d) in zip(*(_moves(log, [s]) for s in SIDES), strict=True)])


def _last_row(log, *, margin=False):
    if len(log) < 2:
        return math.nan
    last = log[-1]
    rewards, logps = (last[f"{n}/chosen"] - margin * last[f"{n}/rejected"] for n in ("rewards", "logps"))
    return rewards / logps if logps else math.nan


def _rewards_over_moves(log):
    """As if the first row were the reference."""
    return _slope([
        (x, row[f"rewards/{s}"]) for s in SIDES for row, (x, _) in zip(log[1:], _moves(log, [s]), strict=True)
    ])


def _without_reference(log):
    return _slope([(row[f"logps/{s}"], row[f"rewards/{s}"]) for s in SIDES for row in log])


def _one_line_for_both(log):
    logps, rewards = (np.concatenate(columns) for columns in zip(*(_columns(log, s) for s in SIDES), strict=True))
    if len(log) < 2 or all(np.ptp(_columns(log, side)[0]) == 0 for side in SIDES):
        return math.nan
    return float(np.polyfit(logps - logps.mean(), rewards, 1)[0])


def _signed_sums(log):
    moves = _moves(log)
    below = math.fsum(x for x, _ in moves)
    return math.fsum(y for _, y in moves) / below if below else math.nan


def _inverted(log):
    return _slope([(y, x) for x, y in _moves(log)])


def _from_the_loss(log):
    """The margin that one pair with the mean loss would have, over the difference of the movements."""
    if len(log) < 2:
        return math.nan
    (chosen, _), (rejected, _) = (_moves(log[:1] + log[-1:], [side])[0] for side in SIDES)
    margin = -math.log(math.expm1(log[-1]["loss"]))
    return margin / (chosen - rejected) if chosen != rejected else math.nan


_WHICH_BETA = Answers(
    oracle=_beta_by_equations,
    mutants=(
        Mutant(
            "first-row-is-the-reference",
            "you take the first row to be the reference. A log may begin later: compare how far rewards AND logps "
            "moved.",
            _rewards_over_moves,
        ),
        Mutant(
            "without-reference",
            "you divide rewards by log-probabilities. A reward is beta times their difference from the reference's.",
            _without_reference,
        ),
        Mutant(
            "inverted",
            "you divide the wrong way round. Rewards are beta times log-ratios, so beta is rewards over log-ratios.",
            _inverted,
        ),
        Mutant(
            "negative",
            "your beta has the wrong sign: a falling log-probability and a falling reward have a positive ratio.",
            lambda log: -_beta_by_slope(log),
        ),
        Mutant(
            "chosen-only",
            "you look at the chosen response alone. It may stand still while the rejected one moves: use both.",
            lambda log: _slope(_moves(log, ["chosen"])),
        ),
        Mutant(
            "rejected-only",
            "you look at the rejected response alone. It may stand still while the chosen one moves: use both.",
            lambda log: _slope(_moves(log, ["rejected"])),
        ),
        Mutant(
            "signed-sums",
            "you add up movements of both responses, and where one rises while the other falls they cancel.",
            _signed_sums,
        ),
        Mutant(
            "mean-of-ratios",
            "you average ratios. Where little moved a ratio is mostly rounding: let rows that moved more count more.",
            _mean_of_ratios,
        ),
        Mutant(
            "margins",
            "you compare margins. They stand still where both responses fall alike, while rewards and logps do not: "
            "use each response by itself.",
            _of_margins,
        ),
        Mutant(
            "last-margin-and-first",
            "you compare the last margin with the first. Where both responses fall alike they are the same: use each "
            "response by itself, in all rows.",
            lambda log: _of_margins(log[:1] + log[-1:]),
        ),
        Mutant(
            "last-reward-over-moves",
            "you divide the last reward by how far logps moved. The first row may have rewards of its own: subtract "
            "them as well.",
            lambda log: _rewards_over_moves(log[:1] + log[-1:]),
        ),
        Mutant(
            "first-and-last-row",
            "you compare the last row with the first. A run may come back to where it began: use all rows.",
            lambda log: _slope(_moves(log[:1] + log[-1:])),
        ),
        Mutant(
            "last-row-alone",
            "you divide the last reward by the last log-probability. The reference is missing in it: subtract two "
            "rows, and it drops out.",
            _last_row,
        ),
        Mutant(
            "last-margin-alone",
            "you divide the last margin by the last difference of log-probabilities. Both references are missing in "
            "it: subtract two rows, and they drop out.",
            lambda log: _last_row(log, margin=True),
        ),
        Mutant(
            "first-two-rows",
            "you compare only the first two rows. Little has moved there, or nothing: use all rows.",
            lambda log: _slope(_moves(log[:2])),
        ),
        Mutant(
            "one-line-for-both",
            "you fit one line to both responses. They have references of their own: measure each from its own start.",
            _one_line_for_both,
        ),
        Mutant(
            "from-the-loss",
            "you read the margin off the loss. The mean of losses is not the loss of the mean margin: use the rewards.",
            _from_the_loss,
        ),
        Mutant(
            "zero",
            "you answer 0 where nothing moved. Any beta would give that log: nan.",
            lambda log: 0.0 if math.isnan(_beta_by_slope(log)) else _beta_by_slope(log),
        ),
    ),
    alternatives=(_beta_by_slope, _beta_from_row_to_row, _beta_by_largest_move, _beta_by_sizes, _beta_by_fits),
    hints=(
        "The log does not show the reference's log-probabilities. But the reference never changes. What becomes of it "
        "if you subtract one row from another?",
        "From the first row to any later one, rewards/chosen changes by beta times what logps/chosen changes by; the "
        "same for rejected. One way to use all of it: the sum, over later rows and both sides, of (change of reward "
        "times change of logps), divided by the sum of squared changes of logps.",
        "The chapter's part 'What a log does not say' divides rewards by beta to get nats. If all changes of logps are "
        "0 (or there is at most one row), return math.nan.",
    ),
)

ANSWERS = {"5.1": _KL_ESTIMATE, "5.2": _PARETO_FRONT, "5.3": _WHICH_BETA}
