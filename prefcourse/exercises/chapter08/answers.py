"""Answers to chapter 8: an oracle by another road than the solution's, wrong answers that people give, right ones
written differently, hints. Never lies where submissions run."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import partial

import numpy as np
import torch

from prefcourse.checks.exercise import Answers, Mutant
from prefcourse.worlds import TableWorld

NEVER = -math.inf


# --- 8.1 frontier -------------------------------------------------------------------------------------------


def _check_betas(betas):
    if any(not beta > 0 for beta in betas):
        raise ValueError(f"betas={betas}: expected numbers above 0")


def _frontier_by_legendre(ref_logprobs, rewards, betas):
    """With sixty digits, from log Z alone: the reward is its slope by t = 1/beta, the KL is t times that - log Z."""
    _check_betas(betas)
    points = [_legendre(ref_logprobs.tolist(), rewards.tolist(), beta) for beta in betas]
    kl, reward = zip(*points, strict=True)
    return torch.tensor(kl, dtype=torch.float64), torch.tensor(reward, dtype=torch.float64)


def _legendre(ref, rewards, beta):
    with localcontext(prec=60, Emin=-999_999_999, Emax=999_999_999):
        t = Decimal(0) if beta == math.inf else 1 / Decimal(beta)
        step = Decimal("1e-25") * (1 + t)
        sums = [Decimal(0), Decimal(0)]
        for log_ref, reward in zip(ref, rewards, strict=True):
            below, here, above = (_log_z(log_ref, reward, t + shift) for shift in (-step, Decimal(0), step))
            slope = (above - below) / (2 * step)
            sums = [sums[0] + t * slope - here, sums[1] + slope]
        return [float(total / len(ref)) for total in sums]


def _log_z(ref, rewards, t):
    """Of one prompt; a logarithm of 0 has no Decimal, and no share in the sum."""
    exponents = [Decimal(p) + Decimal(r) * t for p, r in zip(ref, rewards, strict=True) if p > NEVER]
    top = max(exponents)
    return top + sum((x - top).exp() for x in exponents).ln()


def _optimum(ref_logprobs, rewards, beta):
    return (ref_logprobs + rewards / beta).log_softmax(-1)


def _kl(policy, ref):
    """Per prompt; an answer with probability 0 costs nothing."""
    return (policy.exp() * (policy - ref).masked_fill(policy == NEVER, 0.0)).sum(-1)


def _swept(
    ref_logprobs, rewards, betas, *, optimum=_optimum, kl=_kl, reward=None, check=True, swap=False, over=torch.mean
):
    if check:
        _check_betas(betas)
    earned = reward or (lambda policy, beta: (policy.exp() * rewards).sum(-1))
    policies = [optimum(ref_logprobs, rewards, beta) for beta in betas]
    kls = torch.stack([over(kl(policy, ref_logprobs)) for policy in policies])
    means = torch.stack([over(earned(policy, beta)) for policy, beta in zip(policies, betas, strict=True)])
    return (means, kls) if swap else (kls, means)


def _frontier_in_numpy(ref_logprobs, rewards, betas):
    if min(betas) <= 0:
        raise ValueError("beta must be positive")
    ref, r = ref_logprobs.numpy(), rewards.numpy()
    kls, means = [], []
    for beta in betas:
        tilted = ref + r / beta
        top = tilted.max(1, keepdims=True)
        log_z = top + np.log(np.exp(tilted - top).sum(1, keepdims=True))
        policy = np.exp(tilted - log_z)
        means.append((policy * r).sum(1).mean())
        kls.append(((policy * r).sum(1) / beta - log_z[:, 0]).mean())  # E[r] / beta - log Z
    return np.array(kls), np.array(means)


def _frontier_of_the_world(ref_logprobs, rewards, betas):
    for beta in betas:
        if beta <= 0:
            raise ValueError(beta)
    world, points = TableWorld(rewards, ref_logprobs), []
    for beta in betas:
        policy = world.optimum(beta)
        points.append((world.kl(policy).item(), world.expected_reward(policy).item()))
    return [kl for kl, _ in points], [reward for _, reward in points]


def _frontier_all_at_once(ref_logprobs, rewards, betas):
    _check_betas(betas)
    every = torch.tensor(betas, dtype=torch.float64)[:, None, None]
    policy = torch.log_softmax(ref_logprobs + rewards / every, dim=-1)  # (N, P, V)
    p = policy.exp()
    kl = torch.special.xlogy(p, p).sum(-1) - torch.where(p > 0, p * ref_logprobs, 0.0).sum(-1)
    return torch.stack([kl.mean(-1), (p * rewards).sum((-2, -1)) / len(rewards)])


def _objective_instead(ref_logprobs, rewards, betas):
    kls, means = _swept(ref_logprobs, rewards, betas)
    return kls, means - torch.tensor([0.0 if beta == math.inf else beta for beta in betas]) * kls


def _without_log_z(ref_logprobs, rewards, betas):
    _, means = _swept(ref_logprobs, rewards, betas)
    return means / torch.tensor(betas, dtype=torch.float64), means


def _sorted_first(ref_logprobs, rewards, betas):
    return _swept(ref_logprobs, rewards, sorted(betas))


def _over_the_whole_table(ref_logprobs, rewards, beta):
    tilted = ref_logprobs + rewards / beta
    return tilted - tilted.flatten().logsumexp(0) + math.log(len(rewards))


def _with_exp(ref_logprobs, rewards, beta):
    weights = ref_logprobs.exp() * (rewards / beta).exp()
    return (weights / weights.sum(-1, keepdim=True)).log()


def _weighed_by_the_reference(policy, ref):
    return (ref.exp() * (policy - ref).masked_fill(ref == NEVER, 0.0)).sum(-1)


def _beyond_the_reference(ref_logprobs, rewards, betas, share):
    """Another height: the policy's reward times share[0] plus the reference's times share[1]."""
    kls, means = _swept(ref_logprobs, rewards, betas)
    start = (ref_logprobs.exp() * rewards).sum(-1).mean()
    return kls, share[0] * means + share[1] * start


def _kl_where_given(policy, ref):
    p = policy.exp()
    return torch.where(p > 0, p * (policy - ref), 0.0).sum(-1)


def _zero_times_infinity(policy, ref):
    return (policy.exp() * (policy - ref)).sum(-1)


_FRONTIER = Answers(
    oracle=_frontier_by_legendre,
    mutants=(
        Mutant(
            "kl-reversed",
            "you take KL(reference, policy). The axis is KL(policy, reference): weight the log-ratio by the policy.",
            partial(_swept, kl=lambda policy, ref: _kl(ref, policy)),
        ),
        Mutant(
            "kl-sign",
            "your KL has the wrong sign. The log-ratio is log policy MINUS log reference.",
            partial(_swept, kl=lambda policy, ref: -_kl(policy, ref)),
        ),
        Mutant(
            "kl-weighed-by-reference",
            "you weight the log-ratio by the reference's probabilities. Weight it by the policy's.",
            partial(_swept, kl=_weighed_by_the_reference),
        ),
        Mutant(
            "entropy",
            "your KL is the mean of log policy alone. Subtract the log-probabilities of the reference.",
            partial(_swept, kl=lambda policy, ref: torch.special.xlogy(policy.exp(), policy.exp()).sum(-1)),
        ),
        Mutant(
            "no-reference",
            "you forget the reference in the optimum: it is ref * exp(r / beta) / Z, not softmax(r / beta).",
            partial(_swept, optimum=lambda ref, r, beta: (r / beta).log_softmax(-1)),
        ),
        Mutant(
            "beta-multiplied",
            "you multiply the reward by beta. Divide: a small beta goes far, a large one stays at the reference.",
            partial(_swept, optimum=lambda ref, r, beta: (ref + r * beta).log_softmax(-1)),
        ),
        Mutant(
            "no-beta",
            "beta does not occur in your optimum. It is ref * exp(r / beta) / Z: a different policy for each beta.",
            partial(_swept, optimum=lambda ref, r, beta: (ref + r).log_softmax(-1)),
        ),
        Mutant(
            "not-normalised",
            "the probabilities of your policy do not add up to 1. Divide by Z; log_softmax(-1) does it.",
            partial(_swept, optimum=lambda ref, r, beta: ref + r / beta),
        ),
        Mutant(
            "over-prompts",
            "you normalise down the columns. Each ROW is a distribution: log_softmax(-1).",
            partial(_swept, optimum=lambda ref, r, beta: (ref + r / beta).log_softmax(0)),
        ),
        Mutant(
            "objective",
            "you return reward - beta KL as the reward. The frontier's height is the expected reward alone.",
            _objective_instead,
        ),
        Mutant(
            "reward-of-the-reference",
            "your reward is the reference's, at every beta. Weight the rewards by the policy's probabilities.",
            partial(_beyond_the_reference, share=(0.0, 1.0)),
        ),
        Mutant(
            "gain",
            "you return by how much the reward has grown. Return the expected reward itself.",
            partial(_beyond_the_reference, share=(1.0, -1.0)),
        ),
        Mutant(
            "without-log-z",
            "your KL is E[r] / beta: subtract log Z. (KL = E[r] / beta - log Z.)",
            _without_log_z,
        ),
        Mutant(
            "pairs",
            "you return one pair for each beta. Return two tensors: all KLs, then all rewards.",
            lambda *arguments: list(zip(*_swept(*arguments), strict=True)),
        ),
        Mutant(
            "swapped",
            "you return (reward, KL). Return (KL, reward): first the axis, then the height.",
            partial(_swept, swap=True),
        ),
        Mutant(
            "summed-over-prompts",
            "you add up the prompts. Both numbers are means over the prompts.",
            partial(_swept, over=torch.sum),
        ),
        Mutant(
            "mean-over-answers",
            "your KL is a mean over the answers. Answers are weighted by the policy already: add them up.",
            partial(_swept, kl=lambda policy, ref: _kl(policy, ref) / policy.shape[-1]),
        ),
        Mutant(
            "whole-table",
            "you use one Z for the whole table. Each prompt is a distribution of its own, with its own Z.",
            partial(_swept, optimum=_over_the_whole_table),
        ),
        Mutant(
            "bits",
            "your KL is in bits. Use the natural logarithm: nats are what beta is the price of.",
            partial(_swept, kl=lambda policy, ref: _kl(policy, ref) / math.log(2)),
        ),
        Mutant(
            "reward-of-the-best",
            "you return the reward of the likeliest answer. Return the mean over the answers, weighted by the policy.",
            lambda ref, r, betas: (
                _swept(ref, r, betas)[0],
                torch.stack([r.gather(-1, _optimum(ref, r, b).argmax(-1, keepdim=True)).mean() for b in _good(betas)]),
            ),
        ),
        Mutant(
            "sorted",
            "you sort the betas. Return the points in the order in which the betas are given.",
            _sorted_first,
        ),
        Mutant(
            "overflow",
            "you compute exp(r / beta), which is infinite as soon as r / beta is above 709. Stay in logs: log_softmax.",
            partial(_swept, optimum=_with_exp),
        ),
        Mutant(
            "overflow-hidden",
            "exp(r / beta) is inf as soon as r / beta is above 709, and inf / inf is nan. Stay with logarithms: "
            "log_softmax(-1).",
            partial(_swept, optimum=_with_exp, kl=_kl_where_given),
        ),
        Mutant(
            "zero-times-infinity",
            "an answer of probability 0 makes your KL nan: 0 times infinity. It costs nothing; count it as 0.",
            partial(_swept, kl=_zero_times_infinity),
        ),
        Mutant(
            "any-beta",
            "you accept a beta of 0 or below. Without a price on KL there is no such optimum: raise ValueError.",
            partial(_swept, check=False),
        ),
    ),
    alternatives=(_swept, _frontier_in_numpy, _frontier_of_the_world, _frontier_all_at_once),
    hints=(
        "Each beta gives one point. First the optimum at that beta, as in exercise 3.1; then two sums over its "
        "answers, weighted by its own probabilities: of the log-ratios, and of the rewards. Then means over prompts.",
        "policy = (ref_logprobs + rewards / beta).log_softmax(-1); p = policy.exp(); KL = sum of p * (policy - "
        "ref_logprobs), but 0 where p is 0; reward = sum of p * rewards. Sums over dim -1, means over prompts.",
        "The chapter's part 'Every beta is a point' does this for one prompt. What the reference never says has "
        "policy - ref = -inf - -inf = nan: masked_fill(p == 0, 0.0), or torch.where, takes it out.",
    ),
)


def _good(betas):
    _check_betas(betas)
    return betas


# --- 8.2 adaptive_kl ----------------------------------------------------------------------------------------


def _exactly(beta, log_ratios, response_mask, *, target, gain=0.1):
    """In fractions, a response at a time."""
    if target <= 0:
        raise ValueError(f"target={target}: expected a number above 0")
    rows = zip(log_ratios.tolist(), response_mask.tolist(), strict=True)
    sums = [sum(Fraction(x) for x, counts in zip(*row, strict=True) if counts) for row in rows]
    error = Fraction(sum(sums), len(sums)) / Fraction(target) - 1
    limited = min(max(error, Fraction(-1, 5)), Fraction(1, 5))
    return float(Fraction(beta) * (1 + Fraction(gain) * limited))


def _require_target(target):
    if not target > 0:
        raise ValueError(f"target={target}: expected a number above 0")


def _mean_of_sums(log_ratios, mask):
    return log_ratios.masked_fill(~mask, 0.0).sum(1).mean().item()


def _controller(
    beta, log_ratios, response_mask, *, target, gain=0.1, kl=_mean_of_sums, error=None, limit=(-0.2, 0.2), step=None,
    check=True,
):  # fmt: skip
    if check:
        _require_target(target)
    found = kl(log_ratios, response_mask)
    e = error(found, target) if error else (found / target - 1 if target else math.copysign(math.inf, found))
    e = min(max(e, limit[0]), limit[1])
    return step(beta, gain, e) if step else beta * (1 + gain * e)


def _controller_in_numpy(beta, log_ratios, response_mask, *, target, gain=0.1):
    if target <= 0:
        raise ValueError("the target must be positive")
    kl = np.where(response_mask.numpy(), log_ratios.numpy(), 0).sum() / len(log_ratios)
    return beta + beta * gain * float(np.clip((kl - target) / target, -0.2, 0.2))


def _controller_in_torch(beta, log_ratios, response_mask, *, target, gain=0.1):
    if not target > 0:
        raise ValueError(target)
    kl = torch.stack([row[mask].sum() for row, mask in zip(log_ratios, response_mask, strict=True)]).mean()
    return beta * (1 + gain * ((kl - target) / target).clamp(-0.2, 0.2))


def _controller_by_cases(beta, log_ratios, response_mask, *, target, gain=0.1):
    _require_target(target)
    kl = torch.where(response_mask, log_ratios, torch.zeros(())).sum(-1).mean()
    if kl > 1.2 * target:
        return beta * (1 + 0.2 * gain)
    if kl < 0.8 * target:
        return beta * (1 - 0.2 * gain)
    return float(beta * (1 + gain * (kl / target - 1)))


def _by_token(log_ratios, mask):
    return log_ratios[mask].mean().item() if mask.any() else 0.0


def _summed_over_all(log_ratios, mask):
    return log_ratios[mask].sum().item()


def _over_width(log_ratios, mask):
    return log_ratios.masked_fill(~mask, 0.0).mean().item()


def _padding_too(log_ratios, mask):
    return log_ratios.sum(1).mean().item()


def _times_mask(log_ratios, mask):
    return (log_ratios * mask).sum(1).mean().item()


def _padding_only(log_ratios, mask):
    return log_ratios.masked_fill(mask, 0.0).sum(1).mean().item()


def _down_the_columns(log_ratios, mask):
    return log_ratios.masked_fill(~mask, 0.0).sum(0).mean().item()


def _sizes(log_ratios, mask):
    return log_ratios.masked_fill(~mask, 0.0).abs().sum(1).mean().item()


def _means_of_rows(log_ratios, mask):
    return (log_ratios.masked_fill(~mask, 0.0).sum(1) / mask.sum(1).clamp(min=1)).mean().item()


def _without_empty(log_ratios, mask):
    there = mask.any(1)
    return log_ratios.masked_fill(~mask, 0.0)[there].sum(1).mean().item()


def _double_or_half(beta, log_ratios, response_mask, *, target, gain=0.1):
    _require_target(target)
    kl = _mean_of_sums(log_ratios, response_mask)
    return beta * 2 if kl > 1.5 * target else beta / 2 if kl < target / 1.5 else beta


_ADAPTIVE_KL = Answers(
    oracle=_exactly,
    mutants=(
        Mutant(
            "sign",
            "your beta moves the wrong way. Too far from the reference, KL must cost MORE, so beta grows.",
            partial(_controller, step=lambda beta, gain, e: beta * (1 - gain * e)),
        ),
        Mutant(
            "not-clipped",
            "you do not clip the error to +-0.2. One odd batch, and beta is far off.",
            partial(_controller, limit=(-math.inf, math.inf)),
        ),
        Mutant(
            "clipped-above-only",
            "you clip the error above only. It is clipped on both sides: between -0.2 and 0.2.",
            partial(_controller, limit=(-math.inf, 0.2)),
        ),
        Mutant(
            "clipped-step",
            "you clip gain times error. Clip the error; the gain comes after.",
            partial(
                _controller,
                limit=(-math.inf, math.inf),
                step=lambda beta, gain, e: beta * (1 + min(max(gain * e, -0.2), 0.2)),
            ),
        ),  # fmt: skip
        Mutant(
            "per-token",
            "your KL is per token, the target is per response. Sum over the tokens of a response before you average.",
            partial(_controller, kl=_by_token),
        ),
        Mutant(
            "mean-of-rows",
            "you average over the tokens of each response. Sum over tokens; average over responses only.",
            partial(_controller, kl=_means_of_rows),
        ),
        Mutant(
            "summed",
            "you sum over the whole batch. The target is the KL of ONE response: divide by their number.",
            partial(_controller, kl=_summed_over_all),
        ),
        Mutant(
            "over-width",
            "you average over the width of the table. Sum over the tokens of a response.",
            partial(_controller, kl=_over_width),
        ),
        Mutant(
            "padding",
            "you count padding. Only where the mask is true is there a token.",
            partial(_controller, kl=_padding_too),
        ),
        Mutant(
            "padding-only",
            "you take out the tokens and keep the padding. masked_fill fills where its mask is TRUE: give it "
            "~response_mask.",
            partial(_controller, kl=_padding_only),
        ),
        Mutant(
            "down-the-columns",
            "you sum down the columns. A response is a ROW: sum over dim 1.",
            partial(_controller, kl=_down_the_columns),
        ),
        Mutant(
            "times-mask",
            "you multiply by the mask, and nan times 0 is nan. Take padding out: masked_fill, or torch.where.",
            partial(_controller, kl=_times_mask),
        ),
        Mutant(
            "sizes",
            "you take the sizes of the log-ratios. They have signs, and only with them is their mean the KL.",
            partial(_controller, kl=_sizes),
        ),
        Mutant(
            "size-of-the-estimate",
            "you take the size of the estimate. One below 0 says that the policy is near, not far: keep its sign.",
            partial(_controller, kl=lambda log_ratios, mask: abs(_mean_of_sums(log_ratios, mask))),
        ),
        Mutant(
            "empty-left-out",
            "you leave out responses without tokens. Their KL is 0, and it counts in the mean.",
            partial(_controller, kl=_without_empty),
        ),
        Mutant(
            "absolute-error",
            "your error is KL - target. Divide by the target: the error is relative.",
            partial(_controller, error=lambda kl, target: kl - target),
        ),
        Mutant(
            "relative-to-kl",
            "you divide the error by the KL found. Divide by the target.",
            partial(_controller, error=lambda kl, target: (kl - target) / kl),
        ),
        Mutant(
            "added",
            "you add gain times error to beta. Multiply: then the step is the same share of any beta, and 0 stays 0.",
            partial(_controller, step=lambda beta, gain, e: beta + gain * e),
        ),
        Mutant(
            "exponential",
            "you multiply by exp(gain * error). That is nearly the same for a small gain; use 1 + gain * error.",
            partial(_controller, step=lambda beta, gain, e: beta * math.exp(gain * e)),
        ),
        Mutant(
            "divided",
            "you divide beta by 1 + gain * error. Multiply: too far, and beta grows.",
            partial(_controller, step=lambda beta, gain, e: beta / (1 + gain * e)),
        ),
        Mutant(
            "gain-ignored",
            "you use a gain of 0.1 whatever is given.",
            partial(_controller, step=lambda beta, gain, e: beta * (1 + 0.1 * e)),
        ),
        Mutant(
            "double-or-half",
            "you double or halve beta: the rule of the first PPO paper, for a different KL. Here it is 1 + gain * "
            "error.",
            _double_or_half,
        ),
        Mutant(
            "factor-only",
            "you return the factor 1 + gain * error. Return the next beta.",
            partial(_controller, step=lambda beta, gain, e: 1 + gain * e),
        ),
        Mutant(
            "any-target",
            "you accept a target of 0 or below, to which no error can be relative: raise ValueError.",
            partial(_controller, check=False),
        ),
    ),
    alternatives=(_controller, _controller_in_numpy, _controller_in_torch, _controller_by_cases),
    hints=(
        "Two questions, one after the other. How far is the policy, in nats per response? And is that more or less "
        "than the target, and by what share of it?",
        "kl = log_ratios.masked_fill(~response_mask, 0.0).sum(1).mean(); error = kl / target - 1, clipped to "
        "[-0.2, 0.2]; the next beta is beta * (1 + gain * error).",
        "The chapter's part 'Steering' has the same equation (`adapt`), with a KL that is computed already. Test the "
        "target first: if not target > 0: raise ValueError(...).",
    ),
)


# --- 8.3 project_to_kl --------------------------------------------------------------------------------------


def _best_by_duality(ref_logprobs, rewards, budget):
    """max E[r] with KL <= budget is min over beta of beta * budget + beta log Z: sought in log beta, in thirds."""
    if budget < 0:
        raise ValueError(f"budget={budget}: expected 0 or more")
    ref, r = ref_logprobs.tolist(), rewards.tolist()
    greedy = [_among_the_best(*row) for row in zip(ref, r, strict=True)]
    price = sum(
        sum(p * (math.log(p) - q) for p, q in zip(*row, strict=True) if p) for row in zip(greedy, ref, strict=True)
    )
    if price / len(ref) <= budget:
        return torch.tensor(greedy, dtype=torch.float64).log()
    return _tilt_in_decimals(ref, r, _dual_beta(ref, r, budget)) if budget else ref_logprobs


def _among_the_best(ref, rewards):
    best = max(reward for log_ref, reward in zip(ref, rewards, strict=True) if log_ref > NEVER)
    kept = [math.exp(p) if reward == best else 0.0 for p, reward in zip(ref, rewards, strict=True)]
    return [p / math.fsum(kept) for p in kept]


def _dual_beta(ref, rewards, budget):
    with localcontext(prec=50):
        top = [max(x for p, x in zip(*row, strict=True) if p > NEVER) for row in zip(ref, rewards, strict=True)]
        spread = Decimal(max(t - min(row) for t, row in zip(top, rewards, strict=True)))

        def dual(log_beta):
            beta = log_beta.exp()
            z = [_log_z(p, [x - t for x in row], 1 / beta) for p, row, t in zip(ref, rewards, top, strict=True)]
            return beta * (Decimal(budget) + sum(z) / len(z))

        low, high = (spread * Decimal("1e-5")).ln(), (spread * 10_000).ln()
        for _ in range(120):
            third = (high - low) / 3
            low, high = (low, high - third) if dual(low + third) < dual(high - third) else (low + third, high)
        return ((low + high) / 2).exp()


def _tilt_in_decimals(ref, rewards, beta):
    with localcontext(prec=50):
        rows = []
        for p, row in zip(ref, rewards, strict=True):
            log_z = _log_z(p, row, 1 / beta)
            rows.append([
                float(Decimal(q) + Decimal(x) / beta - log_z) if q > NEVER else NEVER
                for q, x in zip(p, row, strict=True)
            ])
    return torch.tensor(rows, dtype=torch.float64)


def _greedy(ref_logprobs, rewards):
    possible = rewards.masked_fill(ref_logprobs == NEVER, NEVER)
    return ref_logprobs.masked_fill(possible < possible.max(-1, keepdim=True).values, NEVER).log_softmax(-1)


def _check_budget(budget):
    if budget < 0:
        raise ValueError(f"budget={budget}: expected 0 or more")


def _bisected(
    ref_logprobs, rewards, budget, *, kl=_kl, over=torch.mean, steps=200, low=1e-7, high=1e7, scaled=True, upward=True,
    greedy=_greedy, check=True, ends=True, returned=_optimum,
):  # fmt: skip
    """The solution's road, with a switch for each mistake."""
    if check:
        _check_budget(budget)
    if ends and budget <= 0:
        return ref_logprobs
    if ends and over(kl(most := greedy(ref_logprobs, rewards), ref_logprobs)) <= budget:
        return most
    spread = (rewards.max() - rewards.min()).item() if scaled else 1.0
    low, high = low * spread, high * spread
    for _ in range(steps):
        middle = math.sqrt(low * high)
        too_far = bool(over(kl(_optimum(ref_logprobs, rewards, middle), ref_logprobs)) > budget)
        low, high = (middle, high) if too_far == upward else (low, middle)
    return returned(ref_logprobs, rewards, high)


def _in_inverse_betas(ref_logprobs, rewards, budget):
    """Bisection in t = 1/beta, doubling t until it is too far; numpy."""
    if budget < 0:
        raise ValueError("negative")
    ref, r = ref_logprobs.numpy(), rewards.numpy()
    usable = np.where(np.isfinite(ref), r, -np.inf)
    best = usable.max(1, keepdims=True)

    def policy(t):
        logits = np.where(np.isfinite(ref), ref + t * (r - best), -np.inf)
        return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

    def distance(p):
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(p > 0, p * (np.log(p) - ref), 0.0).sum(1).mean()

    limit = np.where(usable == best, np.exp(ref), 0.0)
    limit = limit / limit.sum(1, keepdims=True)
    low, high = 0.0, 1.0 / max(float(np.ptp(r)), 1e-12)
    while distance(policy(high)) < budget and high < 1e12:
        high *= 2
    if distance(limit) <= budget:
        high, low = math.inf, math.inf
    for _ in range(100 if high < math.inf else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if distance(policy(middle)) < budget else (low, middle)
    with np.errstate(divide="ignore"):
        return np.log(limit if high == math.inf else policy(low))


def _with_newton(ref_logprobs, rewards, budget):
    """Newton in t = 1/beta, where dKL/dt = t Var(r), kept within brackets."""
    _check_budget(budget)
    most = _greedy(ref_logprobs, rewards)
    if _kl(most, ref_logprobs).mean() <= budget:
        return most
    scale = (rewards.max() - rewards.min()).item()
    low, high, t = 0.0, 1e7 / scale, 1 / scale
    for _ in range(300):
        policy = (ref_logprobs + rewards * t).log_softmax(-1)
        p, kl = policy.exp(), _kl(policy, ref_logprobs).mean().item()
        low, high = (t, high) if kl < budget else (low, t)
        spread = ((p * rewards.square()).sum(-1) - (p * rewards).sum(-1).square()).mean().item()
        step = t + (budget - kl) / max(t * spread, 1e-300)
        t = step if low < step < high else (low + high) / 2
    return (ref_logprobs + rewards * t).log_softmax(-1)


def _row_by_row(ref_logprobs, rewards, budget):
    """Each prompt has the budget for itself."""
    _check_budget(budget)
    rows = [_bisected(ref[None], row[None], budget) for ref, row in zip(ref_logprobs, rewards, strict=True)]
    return torch.cat(rows)


def _mixture(ref_logprobs, rewards, budget):
    """The right KL, and less reward: some of the time the best answer, else the reference."""
    _check_budget(budget)
    ref, best = ref_logprobs.exp(), _greedy(ref_logprobs, rewards).exp()
    low, high = 0.0, 1.0
    for _ in range(100):
        middle = (low + high) / 2
        far = _kl((ref + middle * (best - ref)).log(), ref_logprobs).mean() > budget
        low, high = (low, middle) if far else (middle, high)
    return (ref + high * (best - ref)).log()


def _one_best(ref_logprobs, rewards):
    possible = rewards.masked_fill(ref_logprobs == NEVER, NEVER)
    only = torch.full_like(rewards, NEVER)
    return only.scatter(-1, possible.argmax(-1, keepdim=True), 0.0)


def _equal_shares(ref_logprobs, rewards):
    possible = rewards.masked_fill(ref_logprobs == NEVER, NEVER)
    best = possible == possible.max(-1, keepdim=True).values
    return torch.zeros_like(rewards).masked_fill(~best, NEVER).log_softmax(-1)


def _also_what_is_never_said(ref_logprobs, rewards):
    return ref_logprobs.masked_fill(rewards < rewards.max(-1, keepdim=True).values, NEVER).log_softmax(-1)


def _not_normalised(ref_logprobs, rewards):
    possible = rewards.masked_fill(ref_logprobs == NEVER, NEVER)
    return ref_logprobs.masked_fill(possible < possible.max(-1, keepdim=True).values, NEVER)


def _refuses(ref_logprobs, rewards, budget):
    _check_budget(budget)
    if _kl(_greedy(ref_logprobs, rewards), ref_logprobs).mean() <= budget:
        raise ValueError("the budget cannot be spent")
    return _bisected(ref_logprobs, rewards, budget)


_PROJECT_TO_KL = Answers(
    oracle=_best_by_duality,
    mutants=(
        Mutant(
            "wrong-half",
            "your bisection keeps the wrong half. Too far means: beta is too SMALL, raise it.",
            partial(_bisected, upward=False),
        ),
        Mutant(
            "wrong-half-from-1",
            "your bisection goes the wrong way. Where KL is above the budget, the beta you tried is the new LOW end.",
            partial(_bisected, upward=False, scaled=False),
        ),
        Mutant(
            "mixture",
            "you mix the reference with the best answer. The KL is right, but a tilt earns more for the same KL.",
            _mixture,
        ),
        Mutant(
            "kl-reversed",
            "you measure KL(reference, policy). The budget is of KL(policy, reference).",
            partial(_bisected, kl=lambda policy, ref: _kl(ref, policy)),
        ),
        Mutant(
            "budget-each",
            "you give every prompt the budget. It is for their MEAN: one beta for all, and a prompt that gains more "
            "spends more.",
            _row_by_row,
        ),
        Mutant(
            "summed-over-prompts",
            "you add up the KL of the prompts. The budget is for their mean.",
            partial(_bisected, over=torch.sum),
        ),
        Mutant(
            "few-steps",
            "you stop the bisection early. Go on until the KL is within a millionth of the budget: some 60 halvings.",
            partial(_bisected, steps=12),
        ),
        Mutant(
            "narrow-bracket",
            "you look for beta between 0.01 and 100. Rewards may be in the thousands: scale the bracket with them.",
            partial(_bisected, low=0.01, high=100.0, scaled=False),
        ),
        Mutant(
            "chapters-bracket",
            "you look for beta between 0.001 and 1000, as the chapter does. Here rewards may be "
            "in the thousands: scale the bracket with them.",
            partial(_bisected, low=1e-3, high=1e3, scaled=False),
        ),
        Mutant(
            "bits",
            "you measure KL in bits. The budget is in nats: natural logarithms.",
            partial(_bisected, kl=lambda policy, ref: _kl(policy, ref) / math.log(2)),
        ),
        Mutant(
            "one-best",
            "of equally good best answers you keep one. All stay, in the reference's proportions.",
            partial(_bisected, greedy=_one_best),
        ),
        Mutant(
            "equal-shares",
            "you share equally among the best answers. They keep the reference's proportions.",
            partial(_bisected, greedy=_equal_shares),
        ),
        Mutant(
            "best-of-what-is-never-said",
            "you count an answer as best that the reference never gives. Look for the best among the others.",
            partial(_bisected, kl=_kl_where_given, greedy=_also_what_is_never_said),
        ),
        Mutant(
            "limit-not-normalised",
            "you keep the best answers, but their probabilities do not add up to 1, so their KL looks like 0: "
            "log_softmax(-1).",
            partial(_bisected, greedy=_not_normalised),
        ),
        Mutant(
            "zero-times-infinity",
            "an answer that the reference never gives makes your KL nan (-inf minus -inf), and nan is above no budget: "
            "count it as 0.",
            partial(_bisected, kl=_zero_times_infinity),
        ),
        Mutant(
            "refuses",
            "you refuse a budget that cannot be spent. It is a limit, not a debt: return the best answers only.",
            _refuses,
        ),
        Mutant(
            "always-the-best",
            "you return the best answers whatever the budget.",
            lambda ref, r, budget: (_check_budget(budget), _greedy(ref, r))[1],
        ),
        Mutant(
            "never-leaves",
            "you return the reference. The budget is there to be spent.",
            lambda ref, r, budget: (_check_budget(budget), ref)[1],
        ),
        Mutant(
            "beta-is-budget",
            "you use the budget as beta. beta is a price; find the one at which the KL is the budget.",
            lambda ref, r, budget: (
                _check_budget(budget),
                ref if budget == 0 else _greedy(ref, r) if budget == math.inf else _optimum(ref, r, budget),
            )[1],
        ),
        Mutant(
            "probabilities",
            "you return probabilities. Return log-probabilities.",
            lambda ref, r, budget: _bisected(ref, r, budget).exp(),
        ),
        Mutant(
            "without-z",
            "you return ref + r / beta, whose probabilities do not add up to 1. Subtract log Z: log_softmax(-1).",
            partial(_bisected, returned=lambda ref, r, beta: ref + r / beta),
        ),
        Mutant(
            "any-budget",
            "you accept a negative budget. No policy has a negative KL: raise ValueError.",
            partial(_bisected, check=False),
        ),
    ),
    alternatives=(_bisected, _in_inverse_betas, _with_newton),
    hints=(
        "The best policies differ only in beta, and a smaller beta has a larger KL. So you look for one "
        "number, and know after each try on which side it lies. Which two policies lie at the two ends?",
        "Bisection: keep a beta that is too far (low) and one that is too near (high), try sqrt(low * high), replace "
        "one of them; 200 times. The ends: budget 0 is the reference; the most that can be spent is the KL of ref, "
        "restricted to the best answers of each row and normalised. Scale the first low and high by the rewards.",
        "The chapter's part 'Second way: a budget' does this for one prompt (`within`). Here the KL is the mean over "
        "prompts, and the first low and high depend on the rewards. For the far end: ref_logprobs.masked_fill(rewards "
        "< best, -inf).log_softmax(-1), where best is the best reward among what the reference says.",
    ),
)

ANSWERS = {"8.1": _FRONTIER, "8.2": _ADAPTIVE_KL, "8.3": _PROJECT_TO_KL}
