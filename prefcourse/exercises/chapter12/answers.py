"""Answers to chapter 12: an oracle by another road than the solution's, wrong answers that people give, right ones
written differently, hints. Never lies where submissions run."""

from __future__ import annotations

import math
import statistics
from fractions import Fraction
from functools import partial

import numpy as np
import torch

from prefcourse.checks.exercise import Answers, Mutant
from prefcourse.worlds import GaussWorld

# --- 12.1 gold_gain -----------------------------------------------------------------------------------------


def _by_sigma_points(u, g, C, d):
    """A quadratic's mean under N(m, I) is its mean over the points m +- sqrt(D) e_i. The peak from two "
    "such gains."""
    direction, D = u / u.norm(), len(u)
    steps = math.sqrt(D) * torch.cat([torch.eye(D), -torch.eye(D)]).double()

    def mean_gold(distance):
        points = distance * math.sqrt(2) * direction + steps
        return torch.stack([point @ g - point @ C @ point for point in points]).mean()

    gain = torch.stack([mean_gold(x) - mean_gold(0.0) for x in d.tolist()])
    one, two = (mean_gold(x) - mean_gold(0.0) for x in (1.0, 2.0))
    bend = (one - two / 2).item()
    rise = one.item() + bend
    rounding = 1e-9 * (1 + abs(rise))
    return gain, rise / (2 * bend) if bend > rounding and rise > rounding else None


ROOT_TWO = math.sqrt(2)


def _gained(
    u, g, C, d, *, length=torch.Tensor.norm, root=ROOT_TWO, bend=None, far=lambda d: d, returned=None,
    peak=None, checked=True,
):  # fmt: skip
    """The solution's road, with a switch for each mistake."""
    direction = u / length(u)
    alpha = root * (g @ direction).item()
    curve = (direction @ C @ direction).item()
    beta = bend(curve, C) if bend else root**2 * curve
    gain = far(d) * (alpha - beta * far(d))
    gain = returned(gain, d, C, alpha, beta) if returned else gain
    if checked and not (alpha > 1e-12 and beta > 1e-12):
        return gain, None
    return gain, (peak or (lambda a, b, d: a / (2 * b) if b else math.copysign(math.inf, a)))(alpha, beta, d)


def _gained_in_numpy(u, g, C, d):
    u, g, C, d = (x.numpy() for x in (u, g, C, d))
    m = math.sqrt(2) * u / np.linalg.norm(u)
    alpha, beta = m @ g, m @ C @ m
    top = alpha / (2 * beta) if alpha > 1e-12 and beta > 1e-12 else None
    return [float(alpha * x - beta * x * x) for x in d], top


def _gained_by_the_world(u, g, C, d):
    world = GaussWorld(u / u.norm(), g, (C + C.T) / 2)
    top = world.peak() if world.alpha > 1e-12 else None
    return world.gold_gain(d), top and top[0]


def _gained_by_means(u, g, C, d):
    """Gold at the new mean: the noise adds the same in both policies."""
    means = d[:, None] * math.sqrt(2) * u / torch.linalg.vector_norm(u)  # (N, D)
    slope, bend = (2**0.5 * (u @ g) / u.norm()).item(), (2 * (u @ C @ u) / (u @ u)).item()
    gain = means @ g - torch.einsum("ni,ij,nj->n", means, C, means)
    return gain, torch.tensor(slope / bend / 2) if min(slope, bend) > 1e-9 else None


def _gained_or_lost(u, g, C, d):
    gain, top = _gained(u, g, C, d, checked=False)
    return gain, top if 1e-12 < top < math.inf else None


_GOLD_GAIN = Answers(
    oracle=_by_sigma_points,
    mutants=(
        Mutant(
            "root-of-d",
            "you take the square root of d. d is already the root of the KL.",
            partial(_gained, far=torch.sqrt),
        ),
        Mutant(
            "no-root-two",
            "your policy's mean lies at d. A shift of the mean by m costs |m|^2 / 2 nats: for a KL of d^2 it is "
            "sqrt(2) d.",
            partial(_gained, root=1.0),
        ),
        Mutant(
            "not-normalised",
            "you use u as it is. Only its direction counts: divide it by its length, or the KL is not d^2.",
            partial(_gained, length=torch.ones_like),
        ),
        Mutant(
            "two-d",
            "your policy's mean lies at 2 d. A shift of the mean by m costs |m|^2 / 2 nats: for a KL of d^2 it is "
            "sqrt(2) d.",
            partial(_gained, root=2.0),
        ),
        Mutant(
            "squared-length",
            "you divide u by its squared length. Its length makes it a direction: u / |u|.",
            partial(_gained, length=lambda u: u @ u),
        ),
        Mutant(
            "half-normalised",
            "you divide u'Cu by the length of u once. u occurs in it twice: divide by |u|^2.",
            lambda u, g, C, d: _gained(u, g, C * u.norm(), d),
        ),
        Mutant(
            "sum-of-sizes",
            "you divide u by the sum of its entries' sizes. Its length is the root of the sum of their squares.",
            partial(_gained, length=lambda u: u.abs().sum()),
        ),
        Mutant(
            "along-gold",
            "you move the policy along g. It cannot see g: the best policy for the proxy moves along u.",
            lambda u, g, C, d: _gained(g, g, C, d),
        ),
        Mutant(
            "diagonal",
            "you use the diagonal of C only. In u'Cu all its entries count.",
            lambda u, g, C, d: _gained(u, g, C.diag().diag(), d),
        ),
        Mutant(
            "curvature-once",
            "beta is u'Cu in your sum. The mean moves by sqrt(2) d, and the curvature sees its square: 2 u'Cu.",
            partial(_gained, bend=lambda curve, C: curve),
        ),
        Mutant(
            "curvature-doubled",
            "your curvature is twice too strong, as if gold were g.x - x'(C + C')x.",
            partial(_gained, bend=lambda curve, C: 4 * curve),
        ),
        Mutant(
            "all-curvature",
            "you use all of C (its trace). Gold bends along the proxy's direction only: u'Cu.",
            partial(_gained, bend=lambda curve, C: 2 * C.trace().item()),
        ),
        Mutant(
            "upward",
            "you add the curvature. Gold is g.x MINUS x'Cx.",
            partial(_gained, bend=lambda curve, C: -2 * curve),
        ),
        Mutant(
            "mean-gold",
            "you return mean gold. Return the gain: the reference has a mean gold, too (minus the trace of C).",
            partial(_gained, returned=lambda gain, d, C, alpha, beta: gain - C.trace()),
        ),
        Mutant(
            "upward-gain",
            "you add the curvature to the gain. Gold is g.x MINUS x'Cx.",
            partial(_gained, returned=lambda gain, d, C, alpha, beta: d * (alpha + beta * d)),
        ),
        Mutant(
            "gain-of-the-proxy",
            "you return how much the PROXY gains. Return how much gold gains.",
            partial(_gained, returned=lambda gain, d, C, alpha, beta: ROOT_TWO * d),
        ),
        Mutant(
            "logarithm",
            "you return d (alpha - beta log d), the law of RL. Gold at the new mean is d (alpha - beta d).",
            partial(_gained, returned=lambda gain, d, C, alpha, beta: alpha * d - beta * torch.special.xlogy(d, d)),
        ),
        Mutant(
            "straight",
            "your gain is a straight line: alpha d. Subtract beta d^2.",
            partial(_gained, returned=lambda gain, d, C, alpha, beta: alpha * d),
        ),
        Mutant(
            "per-d",
            "you return alpha - beta d. The gain is d times that.",
            partial(_gained, returned=lambda gain, d, C, alpha, beta: alpha - beta * d),
        ),
        Mutant(
            "where-all-is-lost",
            "your peak is where the gain is 0 again. The top of d (alpha - beta d) lies halfway.",
            partial(_gained, peak=lambda a, b, d: a / b),
        ),
        Mutant(
            "height",
            "you return how high the peak is. Return where it is: its d.",
            partial(_gained, peak=lambda a, b, d: a * a / (4 * b)),
        ),
        Mutant(
            "kl-of-the-peak",
            "you return the KL of the peak. Return its d, the root of that.",
            partial(_gained, peak=lambda a, b, d: (a / (2 * b)) ** 2),
        ),
        Mutant(
            "mean-at-the-peak",
            "you return how far the mean has moved at the peak. That is sqrt(2) d; return d.",
            partial(_gained, peak=lambda a, b, d: ROOT_TWO * a / (2 * b)),
        ),
        Mutant(
            "among-the-given",
            "your peak is the best of the distances that were given. It may lie between them, or beyond.",
            partial(_gained, peak=lambda a, b, d: d[(d * (a - b * d)).argmax()]),
        ),
        Mutant(
            "valley",
            "you look at the sign of alpha / beta alone. If both are negative, gold falls first and then rises: that "
            "is its LOWEST point.",
            _gained_or_lost,
        ),
        Mutant(
            "unchecked",
            "you divide by beta without looking at any sign. There is a peak only if gold first rises (alpha > 0) and "
            "bends down "
            "(beta > 0); else return None.",
            partial(_gained, checked=False),
        ),
        Mutant(
            "gain-alone",
            "you return the gain alone. Return a pair: (gain, peak).",
            lambda *arguments: _gained(*arguments)[0],
        ),
        Mutant(
            "swapped",
            "you return the peak first. Return (gain, peak).",
            lambda *arguments: _gained(*arguments)[::-1],
        ),
    ),
    alternatives=(_gained, _gained_in_numpy, _gained_by_the_world, _gained_by_means),
    hints=(
        "Both policies have the same noise around their means, so it adds the same to both mean golds, and drops out. "
        "What is left is gold at the new mean: g.m - m'Cm. Where is m?",
        "m = sqrt(2) d u / |u|. So the gain is d (alpha - beta d) with alpha = sqrt(2) g.u / |u| and beta = 2"
        " u'Cu / |u|^2. "
        "Its slope alpha - 2 beta d is 0 at the peak.",
        "The chapter's part 'A world in which one can compute it' has both for |u| = 1. For which alpha and beta does "
        "gold rise as far as alpha / (2 beta), and fall beyond it? In all other cases return None.",
    ),
)


# --- 12.2 fit_gao -------------------------------------------------------------------------------------------


def _points(kl, gain, errors, law):
    """d, the law's second factor, gain, error of each point that says something."""
    if law not in ("best-of-n", "rl"):
        raise ValueError(f"law={law!r}: expected 'best-of-n' or 'rl'")
    rows = [(math.sqrt(k), y, e) for k, y, e in zip(kl.tolist(), gain.tolist(), errors.tolist(), strict=True) if k > 0]
    if len({d for d, _, _ in rows}) < 2:
        raise ValueError("two parameters need two different distances above 0")
    return [(d, d if law == "best-of-n" else math.log(d), y, e) for d, y, e in rows]


def _by_cramer(kl, gain, errors, *, law):
    """The 2 x 2 normal equations in fractions, by determinants."""
    aa = ab = bb = ay = by = Fraction(0)
    for row in _points(kl, gain, errors, law):
        d, f, y, e = map(Fraction, row)
        x1, x2, w = d, -d * f, 1 / e**2
        aa, ab, bb, ay, by = aa + w * x1 * x1, ab + w * x1 * x2, bb + w * x2 * x2, ay + w * x1 * y, by + w * x2 * y
    determinant = aa * bb - ab * ab
    return float((ay * bb - by * ab) / determinant), float((by * aa - ay * ab) / determinant)


def _fitted(
    kl, gain, errors, *, law, d_of=torch.sqrt, log=torch.log, weight=lambda e: 1 / e, intercept=False, exchange=False,
    floor=0.0, check_law=True, check_points=True, sign=-1.0, swap=False, factor=None,
    target=lambda gain, weight: gain * weight,
):  # fmt: skip
    """The solution's road, with a switch for each mistake."""
    if check_law and law not in ("best-of-n", "rl"):
        raise ValueError(law)
    if check_points and len(kl[kl > 0].unique()) < 2:
        raise ValueError("fewer than two distances")
    kl = kl.clamp(min=floor)
    kept = kl > 0
    d, y, e = d_of(kl[kept]), gain[kept], errors[kept]
    first = law == "best-of-n"
    second = d if first != exchange else log(d)
    columns = [d, sign * d * second] if factor is None else factor(d, second)
    columns = torch.stack(columns + [torch.ones_like(d)] * intercept, dim=1)
    w = weight(e)
    found = torch.linalg.lstsq(columns * w[:, None], target(y, w), driver="gelsd").solution
    alpha, beta = found[0].item(), found[1].item()
    return (beta, alpha) if swap else (alpha, beta)


def _fitted_in_numpy(kl, gain, errors, *, law):
    rows = np.array(_points(kl, gain, errors, law))
    d, f, y, e = rows.T
    A = np.stack([d, -d * f], axis=1)
    W = np.diag(1 / e**2)
    return np.linalg.solve(A.T @ W @ A, A.T @ W @ y)


def _fitted_by_a_line(kl, gain, errors, *, law):
    """Divided by d the law is a straight line, and a point's error is divided by d, too."""
    d, f, y, e = np.array(_points(kl, gain, errors, law)).T
    slope, height = np.polyfit(f, y / d, 1, w=d / e)
    return height, -slope


def _fitted_with_zero_rows(kl, gain, errors, *, law):
    """A point at d = 0 stays, with a row of zeros: it pulls at nothing."""
    _points(kl, gain, errors, law)
    d = kl.clamp(min=0).sqrt()
    second = d * d if law == "best-of-n" else torch.special.xlogy(d, d)
    columns = torch.stack([d, -second], 1) / errors[:, None]
    square = columns.T @ columns
    alpha, beta = torch.linalg.inv(square) @ columns.T @ (gain / errors)
    return alpha, beta


def _divided(kl, gain, errors, *, law):
    d, f, y, e = np.array(_points(kl, gain, errors, law)).T
    slope, height = np.polyfit(f, y / d, 1, w=1 / e)
    return height, -slope


_FIT_GAO = Answers(
    oracle=_by_cramer,
    mutants=(
        Mutant(
            "in-kl",
            "you fit in the KL. Both laws are in its square root, d.",
            partial(_fitted, d_of=lambda kl: kl),
        ),
        Mutant(
            "log10",
            "your logarithm is that to base 10. The law has the natural one.",
            partial(_fitted, log=torch.log10),
        ),
        Mutant(
            "log2",
            "your logarithm is that to base 2. The law has the natural one.",
            partial(_fitted, log=torch.log2),
        ),
        Mutant(
            "log-of-kl",
            "you take the logarithm of the KL. The law has log d, and that is half of it.",
            partial(_fitted, log=lambda d: 2 * d.log()),
        ),
        Mutant(
            "wrong-law",
            "you have swapped the laws: best-of-n has d (alpha - beta d), RL has d (alpha - beta log d).",
            partial(_fitted, exchange=True),
        ),
        Mutant(
            "always-best-of-n",
            "you fit best-of-n's law whatever is asked. With law='rl' it is d (alpha - beta log d).",
            lambda kl, gain, errors, *, law: _fitted(kl, gain, errors, law="best-of-n" if law == "rl" else law),
        ),
        Mutant(
            "always-rl",
            "you fit RL's law whatever is asked. With law='best-of-n' it is d (alpha - beta d).",
            lambda kl, gain, errors, *, law: _fitted(kl, gain, errors, law="rl" if law == "best-of-n" else law),
        ),
        Mutant(
            "intercept",
            "you fit a constant, too. At d = 0 there is no gain: the laws have two parameters, not three.",
            partial(_fitted, intercept=True),
        ),
        Mutant(
            "unweighted",
            "you forget the errors. Divide a point's row and its gain by its error before you solve.",
            partial(_fitted, weight=torch.ones_like),
        ),
        Mutant(
            "rows-alone",
            "you divide the rows by the errors, but not the gains. Both sides of a point's equation are divided.",
            partial(_fitted, target=lambda gain, weight: gain),
        ),
        Mutant(
            "root-of-the-weight",
            "a point is weighted by one over its error, not by one over its error SQUARED. Divide row and gain by "
            "the "
            "error itself, not by its root.",
            partial(_fitted, weight=lambda e: e**-0.5),
        ),
        Mutant(
            "weight-twice",
            "you weight twice: least squares squares each row already. Divide row and gain by the error, not by "
            "its square.",
            partial(_fitted, weight=lambda e: e**-2.0),
        ),
        Mutant(
            "inverted-weight",
            "you multiply by the errors, so the worst points count most. Divide.",
            partial(_fitted, weight=lambda e: e),
        ),
        Mutant(
            "divided-by-d",
            "you divide the gains by d and fit a line, with the old errors. The error of gain / d is error / d.",
            _divided,
        ),
        Mutant(
            "plus",
            "your beta has the wrong sign: the laws subtract it.",
            partial(_fitted, sign=1.0),
        ),
        Mutant(
            "no-outer-d",
            "you fit alpha - beta d (or log d). Both laws have d times that.",
            partial(_fitted, factor=lambda d, second: [torch.ones_like(d), -second]),
        ),
        Mutant(
            "no-inner-d",
            "your second column lacks a factor d: it is d times d, or d times log d.",
            partial(_fitted, factor=lambda d, second: [d, -second]),
        ),
        Mutant(
            "never-below-zero",
            "you cut beta off at 0. A gain that bends upwards has a beta below 0: return what fits best.",
            lambda *points, law: tuple(np.maximum(_fitted(*points, law=law), [-math.inf, 0.0])),
        ),
        Mutant(
            "from-the-first",
            "you subtract the first gain from all. They are gains over the reference already, and in any order.",
            lambda kl, gain, errors, *, law: _fitted(kl, gain - gain[0], errors, law=law),
        ),
        Mutant(
            "first-dropped",
            "you drop the first point, as if it were always the reference. Drop those whose KL is 0 or below, "
            "wherever they are.",
            lambda *points, law: _fitted(*(x[1:] for x in points), law=law, check_points=False),
        ),
        Mutant(
            "zero-moved-1e-12",
            "you move a KL of 0 up to 1e-12, and its point then pulls with all its weight. Drop such points.",
            partial(_fitted, floor=1e-12),
        ),
        Mutant(
            "zero-moved-1e-8",
            "you move a KL of 0 up to 1e-8, and its point then pulls with all its weight. Drop such points.",
            partial(_fitted, floor=1e-8),
        ),
        Mutant(
            "mirrored",
            "you drop the sign of a KL below 0. It counts as 0, and such a point is dropped.",
            lambda kl, gain, errors, *, law: _fitted(kl.abs(), gain, errors, law=law),
        ),
        Mutant(
            "swapped",
            "you return (beta, alpha). Return (alpha, beta).",
            partial(_fitted, swap=True),
        ),
        Mutant(
            "any-points",
            "you fit whatever points there are. With fewer than two different distances above 0 raise ValueError.",
            partial(_fitted, check_points=False),
        ),
        Mutant(
            "any-law",
            "you accept any word as a law. Neither 'best-of-n' nor 'rl': raise ValueError.",
            partial(_fitted, check_law=False),
        ),
    ),
    alternatives=(_fitted, _fitted_in_numpy, _fitted_by_a_line, _fitted_with_zero_rows),
    hints=(
        "Both laws are straight in what you look for: gain = alpha * (one column) - beta * (another column). "
        "That is least "
        "squares, and no search.",
        "Columns d and -d * d (best-of-n), or d and -d * log d (rl), with d = sqrt(kl). Divide each row, and "
        "its gain, by the "
        "point's error; then torch.linalg.lstsq(rows, gains[:, None]).solution.",
        "The chapter's part 'Two laws' fits this way, without errors. First of all, drop the points whose KL is 0 or "
        "below, and count the different distances that are left.",
    ),
)


# --- 12.3 conservative_reward -------------------------------------------------------------------------------

WAYS = ("mean", "worst", "penalised")


def _by_fractions(scores, *, how, penalty=1.0):
    """Answer by answer, in fractions; the variance is the mean square minus the squared mean."""
    if how not in WAYS:
        raise ValueError(f"how={how!r}: expected mean, worst or penalised")
    columns = [list(map(Fraction, column)) for column in zip(*scores.tolist(), strict=True)]
    if how == "worst":
        return torch.tensor([float(min(column)) for column in columns], dtype=torch.float64)
    means = [sum(column) / len(column) for column in columns]
    squares = [sum(x * x for x in column) / len(column) for column in columns]
    price = Fraction(penalty if how == "penalised" else 0)
    combined = [float(m - price * (s - m * m)) for m, s in zip(means, squares, strict=True)]
    return torch.tensor(combined, dtype=torch.float64)


def _combined(
    scores, *, how, penalty=1.0, axis=0, mean=torch.mean, worst=torch.amin, spread=None, sign=-1.0, price=lambda p: p
):  # fmt: skip
    if how not in WAYS:
        raise ValueError(how)
    if how == "worst":
        return worst(scores, axis)
    spread = spread or (lambda scores, axis: scores.var(axis, correction=0))
    middle = mean(scores, axis)
    return middle if how == "mean" else middle + sign * price(penalty) * spread(scores, axis)


def _combined_in_numpy(scores, *, how, penalty=1.0):
    scores = scores.numpy()
    ways = {"mean": lambda: scores.mean(0), "worst": lambda: scores.min(0)}
    ways["penalised"] = lambda: scores.mean(0) - penalty * np.var(scores, axis=0)
    if how not in ways:
        raise ValueError("how")
    return ways[how]()


def _combined_by_statistics(scores, *, how, penalty=1.0):
    if how not in WAYS:
        raise ValueError(how)
    columns = scores.T.tolist()
    if how == "worst":
        return list(map(min, columns))
    return [statistics.fmean(c) - (penalty * statistics.pvariance(c) if how == "penalised" else 0.0) for c in columns]


def _combined_by_pairs(scores, *, how, penalty=1.0):
    """The variance is half the mean squared difference of two members."""
    if how == "worst":
        return -(-scores).max(dim=0).values
    if how not in WAYS:
        raise ValueError(how)
    between = (scores[:, None] - scores[None]).square().mean((0, 1)) / 2
    return scores.mean(0) - (how == "penalised") * penalty * between


def _unknown_is_mean(scores, *, how, penalty=1.0):
    return _combined(scores, how=how if how in WAYS else "mean", penalty=penalty)


def _penalised_worst(scores, *, how, penalty=1.0):
    if how != "penalised":
        return _combined(scores, how=how, penalty=penalty)
    return scores.amin(0) - penalty * scores.var(0, correction=0)


def _penalised_worst_too(scores, *, how, penalty=1.0):
    combined = _combined(scores, how=how, penalty=penalty)
    return combined - penalty * scores.var(0, correction=0) if how == "worst" else combined


_CONSERVATIVE_REWARD = Answers(
    oracle=_by_fractions,
    mutants=(
        Mutant(
            "axis",
            "you combine over the answers. Each COLUMN is an answer: combine over the members, dim 0.",
            partial(_combined, axis=1),
        ),
        Mutant(
            "ddof",
            "your variance divides by K - 1. Here it divides by K (correction=0), and a single member has variance 0.",
            partial(_combined, spread=lambda scores, axis: scores.var(axis)),
        ),
        Mutant(
            "deviation",
            "you subtract the standard deviation. Subtract the variance.",
            partial(_combined, spread=lambda scores, axis: scores.std(axis, correction=0)),
        ),
        Mutant(
            "deviation-ddof",
            "you subtract a standard deviation, and one that divides by K - 1. Subtract the variance that divides by "
            "K.",
            partial(_combined, spread=lambda scores, axis: scores.std(axis)),
        ),
        Mutant(
            "mean-distance",
            "you subtract the mean distance from the mean. The variance is the mean of the SQUARED distance.",
            partial(_combined, spread=lambda scores, axis: (scores - scores.mean(axis)).abs().mean(axis)),
        ),
        Mutant(
            "sum-of-squares",
            "you add up the squared distances. The variance is their mean: divide by K.",
            partial(_combined, spread=lambda scores, axis: scores.var(axis, correction=0) * len(scores)),
        ),
        Mutant(
            "range",
            "you subtract the distance between the highest and the lowest score. Subtract the variance.",
            partial(_combined, spread=lambda scores, axis: scores.amax(axis) - scores.amin(axis)),
        ),
        Mutant(
            "reward-for-doubt",
            "you ADD the variance, a bonus for answers that nobody understands. Subtract it.",
            partial(_combined, sign=1.0),
        ),
        Mutant(
            "best",
            "your worst case is the best: you take the largest score.",
            partial(_combined, worst=torch.amax),
        ),
        Mutant(
            "worst-of-all",
            "you take the worst score of the whole batch. Take the worst of each answer.",
            partial(_combined, worst=lambda scores, axis: scores.min().expand(scores.shape[1])),
        ),
        Mutant(
            "worst-member",
            "you take the scores of the member that is lowest on average. Take the lowest score of each answer, "
            "whichever member gives it.",
            partial(_combined, worst=lambda scores, axis: scores[scores.mean(1).argmin()]),
        ),
        Mutant(
            "who-is-worst",
            "you return WHICH member is the lowest. Return its score.",
            partial(_combined, worst=torch.argmin),
        ),
        Mutant(
            "worst-and-penalty",
            "you subtract the penalty from the worst score, too. It counts only with how='penalised'.",
            _penalised_worst_too,
        ),
        Mutant(
            "sum",
            "you add the members up. Take their mean.",
            partial(_combined, mean=torch.sum),
        ),
        Mutant(
            "median",
            "you take the median. Take the mean.",
            partial(_combined, mean=lambda scores, axis: scores.quantile(0.5, dim=axis)),
        ),
        Mutant(
            "squares",
            "you subtract the mean square. The variance is the mean square of the distance FROM THE MEAN.",
            partial(_combined, spread=lambda scores, axis: scores.square().mean(axis)),
        ),
        Mutant(
            "one-variance",
            "you use one variance for the whole batch. Each answer has its own.",
            partial(_combined, spread=lambda scores, axis: scores.var(correction=0)),
        ),
        Mutant(
            "variance-of-the-means",
            "you take the variance of the answers' means. Take how far apart the members' scores of ONE answer lie.",
            partial(_combined, spread=lambda scores, axis: scores.mean(0).var(correction=0)),
        ),
        Mutant(
            "penalty-ignored",
            "you use a penalty of 1 whatever is given.",
            partial(_combined, price=lambda penalty: 1.0),
        ),
        Mutant(
            "penalised-worst",
            "you subtract the penalty from the worst score. Subtract it from the mean.",
            _penalised_worst,
        ),
        Mutant(
            "unknown-is-mean",
            "you return the mean for a word that you do not know. A typing error would never be noticed: raise "
            "ValueError.",
            _unknown_is_mean,
        ),
    ),
    alternatives=(_combined, _combined_in_numpy, _combined_by_statistics, _combined_by_pairs),
    hints=(
        "You have a table with a row per member and a column per answer; return one number per answer. Which "
        "dimension has to go?",
        "mean(0); amin(0); mean(0) - penalty * var(0, correction=0). `min(0)` would return values AND places.",
        "The chapter's part 'Cure 2: ask several' compares the three. Torch's var divides by K - 1 unless it is told "
        "correction=0.",
    ),
)


# --- 12.4 early_stop ----------------------------------------------------------------------------------------


def _check(estimates, patience):
    if not estimates:
        raise ValueError("no look at all")
    if patience < 1:
        raise ValueError(f"patience={patience}: expected 1 or more")


def _by_the_word(estimates, *, patience, margin=0.0):
    """The definition, look by look: what is kept after t looks, and whether the last `patience` of them "
    "were worse."""
    _check(estimates, patience)
    kept = [0]
    for t in range(1, len(estimates)):
        kept.append(t if estimates[t] > estimates[kept[-1]] + margin else kept[-1])
    for t in range(patience, len(estimates)):
        if all(kept[s] == kept[t - patience] for s in range(t - patience, t + 1)):
            return kept[t], t
    return kept[-1], len(estimates) - 1


def _stopped(
    estimates, *, patience, margin=0.0, better=lambda now, best, margin: now > best + margin, slack=0, reset=True,
    creep=False, previous=False, check=True, begin=None, skip=False,
    returned=lambda kept, stop, estimates, patience: (kept, stop),
):  # fmt: skip
    """The solution's road, with a switch for each mistake."""
    if check:
        _check(estimates, patience)
    best = (estimates[0] if estimates else 0.0) if begin is None else begin
    kept, waited, stop = 0, 0, len(estimates) - 1
    for t, now in enumerate(estimates[1:], 1):
        if skip and math.isnan(now):
            continue
        if better(now, best, margin):
            kept, best, waited = t, now, 0 if reset else waited
        else:
            waited += 1
            best = max(best, now) if creep else now if previous else best
        if waited >= patience + slack:
            stop = t
            break
    return returned(kept, stop, estimates, patience)


def _stopped_while(estimates, *, patience, margin=0.0):
    _check(estimates, patience)
    kept, t = 0, 0
    while t < len(estimates) - 1 and t - kept < patience:
        t += 1
        if not (math.isnan(estimates[t]) or estimates[t] - margin <= estimates[kept]):
            kept = t
    return kept, t


def _stopped_by_recursion(estimates, *, patience, margin=0.0):
    _check(estimates, patience)

    def after(kept, t):
        if t == len(estimates) - 1 or t == kept + patience:
            return [kept, t]
        return after(t + 1 if estimates[t + 1] > estimates[kept] + margin else kept, t + 1)

    return after(0, 0)


def _stopped_by_windows(estimates, *, patience, margin=0.0):
    """From each look that is kept, the next better one among the `patience` looks after it."""
    if len(estimates) == 0 or patience <= 0:
        raise ValueError("nothing to do")
    values, kept = np.array(estimates), 0
    while True:
        ahead = values[kept + 1 : kept + 1 + patience] > values[kept] + margin
        if not ahead.any():
            return np.int64(kept), min(kept + patience, len(values) - 1)
        kept += 1 + int(ahead.argmax())


def _of_all(estimates, *, patience, margin=0.0):
    """Stops in time, and then keeps the best of all, the later ones included."""
    _, stop = _stopped(estimates, patience=patience, margin=margin)
    return max(range(len(estimates)), key=lambda t: -math.inf if math.isnan(estimates[t]) else estimates[t]), stop


def _best_so_far(estimates, *, patience, margin=0.0):
    """Keeps the highest estimate up to the stop, margin or not."""
    _, stop = _stopped(estimates, patience=patience, margin=margin)
    seen = [-math.inf if math.isnan(x) else x for x in estimates[: stop + 1]]
    return seen.index(max(seen)), stop


def _asked_too_early(estimates, *, patience, margin=0.0):
    _check(estimates, patience)
    kept = 0
    for t, now in enumerate(estimates):
        if t - kept == patience:
            return kept, t
        kept = t if now > estimates[kept] + margin else kept
    return kept, len(estimates) - 1


def _margin_for_the_count(estimates, *, patience, margin=0.0):
    _check(estimates, patience)
    kept, waited = 0, 0
    for t, now in enumerate(estimates[1:], 1):
        waited = 0 if now > estimates[kept] + margin else waited + 1
        kept = t if now > estimates[kept] else kept
        if waited == patience:
            return kept, t
    return kept, len(estimates) - 1


def _past_the_end(kept, stop, estimates, patience):
    return kept, stop + (stop == len(estimates) - 1 and stop - kept < patience)


_EARLY_STOP = Answers(
    oracle=_by_the_word,
    mutants=(
        Mutant(
            "one-late",
            "you wait for one look too many. With patience 2 the second look in a row that is no better ends it.",
            partial(_stopped, slack=1),
        ),
        Mutant(
            "one-early",
            "you stop one look too early. With patience 2 the second look in a row that is no better ends it.",
            partial(_stopped, slack=-1),
        ),
        Mutant(
            "look-after",
            "you return the look after the stop. Training stops AT the look that makes the row full: it is the "
            "last one measured.",
            partial(
                _stopped, returned=lambda kept, stop, estimates, patience: (kept, min(stop + 1, len(estimates) - 1))
            ),
        ),
        Mutant(
            "asked-too-early",
            "you ask whether to stop before you ask whether the new look is better.",
            _asked_too_early,
        ),
        Mutant(
            "future",
            "you keep the best of ALL looks. Those after the stop were never made.",
            _of_all,
        ),
        Mutant(
            "best-so-far",
            "you keep the highest estimate. Keep the last look that was better by more than the margin.",
            _best_so_far,
        ),
        Mutant(
            "margin-for-the-count",
            "you keep every look that is higher, and use the margin only for the count. A look must be better by "
            "MORE than the margin to be kept.",
            _margin_for_the_count,
        ),
        Mutant(
            "keeps-the-last",
            "you keep the look at which training stopped. Keep the last one that was better.",
            partial(_stopped, returned=lambda kept, stop, estimates, patience: (stop, stop)),
        ),
        Mutant(
            "patience-back",
            "you count back from the stop by the patience. If the looks end before the patience does, that is wrong.",
            partial(_stopped, returned=lambda kept, stop, estimates, patience: (max(0, stop - patience), stop)),
        ),
        Mutant(
            "not-in-a-row",
            "you count all looks that were no better. They must come in a row: a better look restarts the count.",
            partial(_stopped, reset=False),
        ),
        Mutant(
            "than-the-last",
            "you compare with the look before. Compare with the one that is kept.",
            partial(_stopped, previous=True),
        ),
        Mutant(
            "ties",
            "an equal look counts as better in your rule. Better is more than the best plus the margin.",
            partial(_stopped, better=lambda now, best, margin: now >= best + margin),
        ),
        Mutant(
            "margin-ignored",
            "you ignore the margin.",
            partial(_stopped, better=lambda now, best, margin: now > best),
        ),
        Mutant(
            "margin-subtracted",
            "you subtract the margin from the best, so even a lower look is better. Add it.",
            partial(_stopped, better=lambda now, best, margin: now > best - margin),
        ),
        Mutant(
            "margin-as-share",
            "your margin is a share of the best. Add it.",
            partial(_stopped, better=lambda now, best, margin: now > best * (1 + margin)),
        ),
        Mutant(
            "creeping",
            "you compare with the highest estimate so far. Compare with the look that is KEPT: small steps then "
            "add up.",
            partial(_stopped, creep=True),
        ),
        Mutant(
            "downwards",
            "you look for the lowest estimate. Gold is better when it is higher.",
            partial(_stopped, better=lambda now, best, margin: now < best - margin),
        ),
        Mutant(
            "hole-is-better",
            "a look that is nan counts as better in your rule, and then nothing is ever better than it. Ask "
            "whether a look IS "
            "better, not whether it is worse.",
            partial(_stopped, better=lambda now, best, margin: not now <= best + margin),
        ),
        Mutant(
            "hole-skipped",
            "you skip a look that is nan. It is a look that was no better, and it counts towards the patience.",
            partial(_stopped, skip=True),
        ),
        Mutant(
            "hole-is-zero",
            "you put 0 for an estimate that is nan. Nobody measured there: such a look is no better, whatever the "
            "others are.",
            lambda estimates, **settings: _stopped([0.0 if math.isnan(x) else x for x in estimates], **settings),
        ),
        Mutant(
            "begins-at-zero",
            "you start from a best of 0. Look 0 is kept at first: start from its estimate.",
            partial(_stopped, begin=0.0),
        ),
        Mutant(
            "past-the-end",
            "the last look has the number len(estimates) - 1: they are counted from 0.",
            partial(_stopped, returned=_past_the_end),
        ),
        Mutant(
            "never-stops",
            "you never stop. After `patience` looks in a row that were no better, training ends.",
            partial(_stopped, slack=10**6),
        ),
        Mutant(
            "counted-from-one",
            "you count looks from 1. The reference is look 0.",
            partial(_stopped, returned=lambda kept, stop, estimates, patience: (kept + 1, stop + 1)),
        ),
        Mutant(
            "estimate-returned",
            "you return the estimate that was kept. Return which look it is: its number.",
            partial(_stopped, returned=lambda kept, stop, estimates, patience: (estimates[kept], stop)),
        ),
        Mutant(
            "swapped",
            "you return (stopped, kept). Return (kept, stopped).",
            partial(_stopped, returned=lambda kept, stop, estimates, patience: (stop, kept)),
        ),
        Mutant(
            "unchecked",
            "you accept no looks at all, or a patience of 0. Both are mistakes: raise ValueError.",
            partial(_stopped, check=False),
        ),
    ),
    alternatives=(_stopped, _stopped_while, _stopped_by_recursion, _stopped_by_windows),
    hints=(
        "Walk through the looks as if you did not know the next one. What must you remember from look to look?",
        "kept = 0; at look t: if estimates[t] > estimates[kept] + margin, then kept = t. As soon as t - kept "
        "equals the "
        "patience, stop and return (kept, t).",
        "The chapter's part 'Cure 1: stop in time' has the idea with a patience of 2 and no margin. At the end of the"
        " list return "
        "(kept, len(estimates) - 1); nan > anything is False, so a missing look is never better.",
    ),
)

ANSWERS = {"12.1": _GOLD_GAIN, "12.2": _FIT_GAO, "12.3": _CONSERVATIVE_REWARD, "12.4": _EARLY_STOP}
