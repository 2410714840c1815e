"""Answers to chapter 3: an oracle by another road than the solution's, wrong answers that people give, right ones
written differently, hints. Never lies where submissions run."""

from __future__ import annotations

import math
from decimal import Context, Decimal
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from prefcourse.checks.exercise import Answers, Mutant

NEVER = -math.inf


# --- 3.1 optimal_policy -------------------------------------------------------------------------------------


def _require_positive(beta):
    if not beta > 0:
        raise ValueError(f"beta={beta}: expected a number above 0")


def _policy_by_its_conditions(ref_logprobs, rewards, beta):
    """Lagrange: log pi = log ref + (r - multiplier) / beta; the multiplier that makes a distribution, by bisection."""
    _require_positive(beta)
    rows = [_row_by_bisection(*row, beta) for row in zip(ref_logprobs.tolist(), rewards.tolist(), strict=True)]
    return torch.tensor(rows, dtype=torch.float64)


def _row_by_bisection(ref, rewards, beta):
    def logprobs(multiplier):
        return [log_ref + (reward - multiplier) / beta for log_ref, reward in zip(ref, rewards, strict=True)]

    low, high = min(rewards), max(rewards)  # the sum is at least 1 at the one, at most 1 at the other
    for _ in range(200):
        middle = (low + high) / 2
        too_much = sum(math.exp(min(x, 700)) for x in logprobs(middle)) > 1
        low, high = (middle, high) if too_much else (low, middle)
    return logprobs(high)


def _policy(ref_logprobs, rewards, beta, *, tilt=None, dim=-1, check=True):
    if check:
        _require_positive(beta)
    return (ref_logprobs + rewards / beta if tilt is None else tilt(ref_logprobs, rewards, beta)).log_softmax(dim)


def _tilted_by(tilt):
    return partial(_policy, tilt=tilt)


def _not_normalised(ref_logprobs, rewards, beta):
    _require_positive(beta)
    return ref_logprobs + rewards / beta


def _over_the_whole_table(ref_logprobs, rewards, beta):
    tilted = _not_normalised(ref_logprobs, rewards, beta)
    return tilted - tilted.flatten().logsumexp(0)


def _with_exp(ref_logprobs, rewards, beta):
    _require_positive(beta)
    weights = ref_logprobs.exp() * (rewards / beta).exp()
    return (weights / weights.sum(-1, keepdim=True)).log()


def _with_shifted_exp(ref_logprobs, rewards, beta):
    tilted = _not_normalised(ref_logprobs, rewards, beta)
    weights = (tilted - tilted.max(-1, keepdim=True).values).exp()
    return (weights / weights.sum(-1, keepdim=True)).log()


def _greedy(ref_logprobs, rewards, beta):
    _require_positive(beta)
    best = rewards == rewards.max(-1, keepdim=True).values
    return ref_logprobs.masked_fill(~best, NEVER).log_softmax(-1)


def _policy_in_numpy(ref_logprobs, rewards, beta):
    if beta <= 0:
        raise ValueError("beta must be positive")
    tilted = ref_logprobs.numpy() + rewards.numpy() / beta
    shifted = tilted - tilted.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def _policy_row_by_row(ref_logprobs, rewards, beta):
    if beta <= 0:
        raise ValueError(beta)
    rows = []
    for ref, reward in zip(ref_logprobs, rewards, strict=True):
        tilted = ref + (reward - reward.max()) / beta
        rows.append(tilted - torch.logsumexp(tilted, 0))
    return rows


def _policy_as_lists(ref_logprobs, rewards, beta):
    if not beta > 0:
        raise ValueError("there is no optimum")
    log_z = beta * torch.logsumexp(ref_logprobs + rewards / beta, dim=1)
    return [
        [log_ref + (reward - value) / beta for log_ref, reward in zip(refs, rewarded, strict=True)]
        for refs, rewarded, value in zip(ref_logprobs.tolist(), rewards.tolist(), log_z.tolist(), strict=True)
    ]


_OPTIMAL_POLICY = Answers(
    oracle=_policy_by_its_conditions,
    mutants=(
        Mutant(
            "no-reference",
            "you forget the reference: softmax(r / beta) is the optimum only if the reference gives all answers "
            "equally often.",
            _tilted_by(lambda ref, r, beta: r / beta),
        ),
        Mutant(
            "beta-multiplied",
            "you multiply the reward by beta. Divide: the smaller beta is, the further from the reference.",
            _tilted_by(lambda ref, r, beta: ref + r * beta),
        ),
        Mutant(
            "beta-ignored",
            "you tilt by exp(r) whatever beta is. The exponent is r / beta.",
            _tilted_by(lambda ref, r, beta: ref + r),
        ),
        Mutant(
            "reference-divided",
            "you divide the reference's log-probability by beta, too. Only the reward is divided.",
            _tilted_by(lambda ref, r, beta: (ref + r) / beta),
        ),
        Mutant(
            "sign",
            "you tilt away from the reward. A higher reward makes an answer likelier: + r / beta.",
            _tilted_by(lambda ref, r, beta: ref - r / beta),
        ),
        Mutant(
            "probability-as-logit",
            "you add the reference's probability to r / beta. In logs a product is a sum: add its LOG-probability.",
            _tilted_by(lambda ref, r, beta: ref.exp() + r / beta),
        ),
        Mutant(
            "not-normalised",
            "you do not divide by Z: the probabilities of a prompt must add up to 1. In logs, subtract log Z.",
            _not_normalised,
        ),
        Mutant(
            "whole-table",
            "you use one Z for the whole table. Each prompt (row) is a distribution of its own.",
            _over_the_whole_table,
        ),
        Mutant(
            "over-prompts",
            "you normalise over the prompts. Normalise over the answers to a prompt: the last axis.",
            partial(_policy, dim=0),
        ),
        Mutant(
            "probabilities",
            "you return probabilities. Return log-probabilities: at a tiny beta probabilities are rounded to 0.",
            lambda ref, r, beta: _policy(ref, r, beta).exp(),
        ),
        Mutant(
            "overflow",
            "you compute exp(r / beta), which is infinite as soon as r / beta is above 709. Stay in logs.",
            _with_exp,
        ),
        Mutant(
            "underflow",
            "you leave the logs and come back: e^-3000 is rounded to 0, and its log is -inf. Subtract log Z instead.",
            _with_shifted_exp,
        ),
        Mutant(
            "clipped",
            "you clip the exponent, so that all good answers look alike. Stay in logs, where nothing overflows.",
            _tilted_by(lambda ref, r, beta: ref + (r / beta).clamp(-50, 50)),
        ),
        Mutant(
            "greedy",
            "you give everything to the answers of the highest reward. That is only the limit as beta goes to 0.",
            _greedy,
        ),
        Mutant(
            "any-beta",
            "you accept beta 0 and below. Without a pull to the reference there is no such optimum: raise ValueError.",
            partial(_policy, check=False),
        ),
    ),
    alternatives=(_policy, _policy_in_numpy, _policy_row_by_row, _policy_as_lists),
    hints=(
        "The optimum is pi_ref * exp(r / beta) / Z. With r = 2 and beta = 0.001 the exponent is 2000, and exp(2000) "
        "is infinite on a computer. Its logarithm, 2000, is not. What does the product become if you take logs first?",
        "log pi = log pi_ref + r / beta - log Z, where log Z is the logsumexp of the first two over the answers of a "
        "prompt, so that every row adds up to 1. torch.logsumexp(..., dim=-1, keepdim=True), or log_softmax(-1).",
        "In the chapter's part 'The best policy, in five steps', step 3 computes Z and the optimum in the plain way; "
        "'When beta is small' shows where that breaks. Test beta first: if not beta > 0: raise ValueError(...).",
    ),
)


# --- 3.2 implicit_reward ------------------------------------------------------------------------------------

_EXACT = Context(prec=60, Emin=-999_999, Emax=999_999)


def _reward_from_preferences(policy_logprobs, ref_logprobs, beta):
    """How often is the answer preferred to the prompt's first, for this policy to be optimal? From probabilities, with
    sixty digits; the logit of that is the difference of the rewards."""
    rows = [_row_from_odds(*row, beta) for row in zip(policy_logprobs.tolist(), ref_logprobs.tolist(), strict=True)]
    return torch.tensor(rows, dtype=torch.float64)


def _row_from_odds(policy, ref, beta):
    tilts = [_tilt(*both) for both in zip(policy, ref, strict=True)]
    return [_log_odds(tilt, tilts[0], beta) for tilt in tilts]


def _tilt(policy, ref):
    """pi / pi_ref; None where both are 0."""
    policy, ref = (_EXACT.exp(Decimal(x)) if x > NEVER else Decimal(0) for x in (policy, ref))
    return _EXACT.divide(policy, ref) if ref else None


def _log_odds(tilt, first, beta):
    if tilt is None:
        return math.nan
    return beta * float(_EXACT.ln(_EXACT.divide(tilt, first))) if tilt else NEVER


def _reward(policy_logprobs, ref_logprobs, beta):
    return beta * (policy_logprobs - ref_logprobs)


def _reward_in_numpy(policy_logprobs, ref_logprobs, beta):
    policy, ref = policy_logprobs.numpy(), ref_logprobs.numpy()
    with np.errstate(invalid="ignore"):
        rewards = beta * policy - beta * ref
    return rewards - rewards[:, :1] + 3.0  # any constant per prompt is right


def _reward_with_log_z(policy_logprobs, ref_logprobs, beta):
    bonus = torch.linspace(-5, 5, len(policy_logprobs), dtype=torch.float64)[:, None]
    return (policy_logprobs - ref_logprobs) * beta + bonus


def _reward_as_lists(policy_logprobs, ref_logprobs, beta):
    pairs = zip(policy_logprobs.tolist(), ref_logprobs.tolist(), strict=True)
    return [[beta * (p - q) for p, q in zip(policy, ref, strict=True)] for policy, ref in pairs]


def _standardised(policy_logprobs, ref_logprobs, beta):
    rewards = _reward(policy_logprobs, ref_logprobs, beta)
    return (rewards - rewards.mean(-1, keepdim=True)) / rewards.std(-1, keepdim=True)


def _centred(policy_logprobs, ref_logprobs, beta):
    rewards = _reward(policy_logprobs, ref_logprobs, beta)
    return rewards - rewards.mean(-1, keepdim=True)


def _nothing_for_nan(policy_logprobs, ref_logprobs, beta):
    return _reward(policy_logprobs, ref_logprobs, beta).nan_to_num(nan=0.0, neginf=NEVER)


def _finite_everywhere(policy_logprobs, ref_logprobs, beta):
    return _reward(policy_logprobs, ref_logprobs, beta).nan_to_num()


def _with_a_little_added(policy_logprobs, ref_logprobs, beta):
    return beta * ((policy_logprobs.exp() + 1e-8) / (ref_logprobs.exp() + 1e-8)).log()


def _clipped_reward(policy_logprobs, ref_logprobs, beta):
    lowest = -1e5
    return beta * (policy_logprobs.clamp(min=lowest) - ref_logprobs.clamp(min=lowest))


_IMPLICIT_REWARD = Answers(
    oracle=_reward_from_preferences,
    mutants=(
        Mutant(
            "no-reference",
            "you forget the reference: what is likely anyway would pass as good. Subtract log pi_ref.",
            lambda policy, ref, beta: beta * policy,
        ),
        Mutant(
            "beta-ignored",
            "you leave beta out. The same log-ratio means a larger reward where beta is larger.",
            lambda policy, ref, beta: policy - ref,
        ),
        Mutant(
            "beta-divided",
            "you divide by beta. Solving pi = pi_ref exp(r / beta) / Z for r MULTIPLIES by beta.",
            lambda policy, ref, beta: (policy - ref) / beta,
        ),
        Mutant(
            "sign",
            "you subtract the policy from the reference. What became likelier has the higher reward.",
            lambda policy, ref, beta: beta * (ref - policy),
        ),
        Mutant(
            "beta-on-one",
            "you multiply only the policy's part by beta. beta multiplies the whole difference.",
            lambda policy, ref, beta: beta * policy - ref,
        ),
        Mutant(
            "probabilities",
            "you take the difference of probabilities. It is the difference of LOG-probabilities.",
            lambda policy, ref, beta: beta * (policy.exp() - ref.exp()),
        ),
        Mutant(
            "ratio-of-logs",
            "you divide the log-probabilities. The logarithm of a ratio is a DIFFERENCE: log pi - log pi_ref.",
            lambda policy, ref, beta: beta * policy / ref,
        ),
        Mutant(
            "ratio",
            "you forget the logarithm of the ratio pi / pi_ref.",
            lambda policy, ref, beta: beta * (policy - ref).exp(),
        ),
        Mutant(
            "underflow",
            "you go through probabilities: e^-10000 is rounded to 0. Subtract the log-probabilities that you have.",
            lambda policy, ref, beta: beta * (policy.exp() / ref.exp()).log(),
        ),
        Mutant(
            "little-added",
            "you go through probabilities and add a small number to them: rare answers get a wrong reward. Subtract "
            "the log-probabilities that you have.",
            _with_a_little_added,
        ),
        Mutant(
            "centred",
            "you subtract something computed from the whole row (its mean, its largest, its log-sum): one -inf or nan "
            "then spoils the row. Any constant is right, and none is needed.",
            _centred,
        ),
        Mutant(
            "nan-is-0",
            "you replace nan by a number. Nobody can know the reward of an answer that neither gives: nan.",
            _nothing_for_nan,
        ),
        Mutant(
            "finite",
            "you replace -inf and nan by numbers (nan_to_num). Here they are the right answers.",
            _finite_everywhere,
        ),
        Mutant(
            "standardised",
            "you stretch the rewards. Only a constant per prompt is free; their scale, which beta sets, is not.",
            _standardised,
        ),
        Mutant(
            "clipped",
            "you clip log-probabilities of -inf. An answer that the policy never gives has the reward -inf.",
            _clipped_reward,
        ),
    ),
    alternatives=(_reward, _reward_in_numpy, _reward_with_log_z, _reward_as_lists),
    hints=(
        "Take pi = pi_ref exp(r / beta) / Z and solve it for r. What is left over is the same for all answers to a "
        "prompt, and can be dropped.",
        "beta * log(pi / pi_ref). You are given logarithms already, and the logarithm of a ratio is a difference.",
        "The chapter's part 'Turn it around: the reward inside a policy' does this for our five answers and shows why "
        "the constant cannot be known.",
    ),
)


# --- 3.3 dpo_gradient_weight --------------------------------------------------------------------------------


def _weight_by_finite_differences(policy_chosen, policy_rejected, ref_chosen, ref_rejected, *, beta):
    """Move the log-probability of each chosen answer a little up and a little down, and see what the loss does."""
    step = 1e-5
    rows = zip(*(x.tolist() for x in (policy_chosen, policy_rejected, ref_chosen, ref_rejected)), strict=True)

    def loss(a, b, c, d):
        margin = beta * ((a - b) - (c - d))
        return math.log1p(math.exp(-abs(margin))) + max(0.0, -margin)

    slopes = [(loss(a + step, b, c, d) - loss(a - step, b, c, d)) / (2 * step) for a, b, c, d in rows]
    return [-slope / beta for slope in slopes]


def _margins(pc, pr, rc, rr, beta):
    return beta * ((pc - pr) - (rc - rr))


def _of_margins(function):
    return lambda pc, pr, rc, rr, *, beta: function(_margins(pc, pr, rc, rr, beta))


def _unstable(margins):
    return (-margins).exp() / (1 + (-margins).exp())


def _weight_by_autograd(policy_chosen, policy_rejected, ref_chosen, ref_rejected, *, beta):
    chosen = policy_chosen.clone().requires_grad_()
    loss = -F.logsigmoid(_margins(chosen, policy_rejected, ref_chosen, ref_rejected, beta)).sum()
    (gradient,) = torch.autograd.grad(loss, chosen)
    return -gradient / beta


def _weight_by_softmax(policy_chosen, policy_rejected, ref_chosen, ref_rejected, *, beta):
    both = torch.stack([beta * (policy_chosen - ref_chosen), beta * (policy_rejected - ref_rejected)])
    return both.softmax(0)[1]


def _weight_one_by_one(policy_chosen, policy_rejected, ref_chosen, ref_rejected, *, beta):
    weights = []
    for a, b, c, d in zip(policy_chosen, policy_rejected, ref_chosen, ref_rejected, strict=True):
        margin = float(beta * (a - c) - beta * (b - d))
        weights.append(math.exp(-margin) / (1 + math.exp(-margin)) if margin > 0 else 1 / (1 + math.exp(margin)))
    return weights


_DPO_GRADIENT_WEIGHT = Answers(
    oracle=_weight_by_finite_differences,
    mutants=(
        Mutant(
            "right-pairs",
            "you weight a pair by how surely it is in the RIGHT order. Where the margin is large, little is left to "
            "do: sigmoid(-margin).",
            _of_margins(torch.sigmoid),
        ),
        Mutant(
            "no-reference",
            "you forget the reference. The margin is a difference of implicit rewards, not of log-probabilities.",
            lambda pc, pr, rc, rr, *, beta: torch.sigmoid(-beta * (pc - pr)),
        ),
        Mutant(
            "reference-added",
            "the reference has the wrong sign: subtract its log-probabilities from the policy's.",
            lambda pc, pr, rc, rr, *, beta: torch.sigmoid(-beta * ((pc - pr) + (rc - rr))),
        ),
        Mutant(
            "beta-ignored",
            "you leave beta out of the margin.",
            lambda pc, pr, rc, rr, *, beta: torch.sigmoid(-_margins(pc, pr, rc, rr, 1.0)),
        ),
        Mutant(
            "times-beta",
            "you return beta times the weight: the slope with respect to the log-probability. The weight is without "
            "beta.",
            lambda pc, pr, rc, rr, *, beta: beta * torch.sigmoid(-_margins(pc, pr, rc, rr, beta)),
        ),
        Mutant(
            "negative",
            "you return the slope of the loss, which is negative. The weight is its size.",
            _of_margins(lambda margins: -torch.sigmoid(-margins)),
        ),
        Mutant(
            "slope-of-sigmoid",
            "you differentiate sigmoid(margin) and forget the logarithm before it: d/dm log sigmoid(m) = sigmoid(-m).",
            _of_margins(lambda margins: torch.sigmoid(margins) * torch.sigmoid(-margins)),
        ),
        Mutant(
            "loss",
            "you return the loss of each pair. The weight is how steep the loss is.",
            _of_margins(lambda margins: -F.logsigmoid(margins)),
        ),
        Mutant(
            "mean",
            "you return the mean over the batch. Every pair has a weight of its own.",
            _of_margins(lambda margins: torch.sigmoid(-margins).mean()),
        ),
        Mutant(
            "shares",
            "you make the weights add up to 1. They need not: a batch of settled pairs has hardly any weight at all.",
            _of_margins(lambda margins: torch.sigmoid(-margins) / torch.sigmoid(-margins).sum()),
        ),
        Mutant(
            "all-or-nothing",
            "you give 1 to pairs in the wrong order and 0 to the others. The weight changes smoothly.",
            _of_margins(lambda margins: (margins < 0).double()),
        ),
        Mutant(
            "overflow",
            "you compute exp(-margin) / (1 + exp(-margin)), which is inf / inf for a large negative margin. "
            "torch.sigmoid does it safely.",
            _of_margins(_unstable),
        ),
    ),
    alternatives=(
        _of_margins(lambda margins: torch.sigmoid(-margins)),
        _weight_by_autograd,
        _weight_by_softmax,
        _weight_one_by_one,
    ),
    hints=(
        "Which pair should move the policy most: one that it orders as the annotator did, or one that it orders the "
        "other way round? And how is 'order' measured?",
        "First the margin, as in the DPO loss: beta times ((policy chosen - policy rejected) - (ref chosen - ref "
        "rejected)). The loss is -log sigmoid(margin); its slope with respect to the margin is sigmoid(margin) - 1.",
        "The chapter's part 'Which pairs move the policy?' compares the formula with autograd. For safety at 10,000 "
        "use torch.sigmoid.",
    ),
)

ANSWERS = {"3.1": _OPTIMAL_POLICY, "3.2": _IMPLICIT_REWARD, "3.3": _DPO_GRADIENT_WEIGHT}
