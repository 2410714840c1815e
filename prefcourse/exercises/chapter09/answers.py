"""Answers to chapter 9: an oracle by another road than the solution's, wrong answers that people give, right ones
written differently, hints. Never lies where submissions run."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from prefcourse import advantages as package_advantages
from prefcourse import losses as package_losses
from prefcourse.checks.exercise import Answers, Mutant
from prefcourse.exercises.tensors import closed_form

# --- 9.1 ppo_clip_loss --------------------------------------------------------------------------------------


def _loss_by_cases(logprobs, old_logprobs, advantages, mask, *, clip_low, clip_high):
    """Token by token, zone by zone; the slope by log p is ratio * A where the clip does not bind, else 0."""
    values, slope = [], torch.zeros_like(logprobs)
    rows, columns = logprobs.shape
    for row in range(rows):
        for t in (t for t in range(columns) if mask[row, t]):
            advantage = advantages[row, t if advantages.shape[1] > 1 else 0].item()
            log_ratio = (logprobs[row, t] - old_logprobs[row, t]).item()
            value, slope[row, t] = _one_token(log_ratio, advantage, clip_low, clip_high)
            values.append(value)
    count = max(1, len(values))
    return closed_form(-math.fsum(values) / count, logprobs=(logprobs, -slope / count))


def _one_token(log_ratio, advantage, low, high):
    """Objective and slope."""
    if advantage > 0 and log_ratio > math.log(1 + high):
        return (1 + high) * advantage, 0.0
    if advantage < 0 and log_ratio < math.log(1 - low):
        return (1 - low) * advantage, 0.0
    return math.exp(log_ratio) * advantage, math.exp(log_ratio) * advantage


def _ratio(new, old):
    return (new - old.detach()).clamp(-20, 20).exp()


def _objective(ratio, advantages, low, high):
    return torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)


def _mean(values, mask):
    return values.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


def _ppo(
    logprobs, old_logprobs, advantages, mask, *, clip_low, clip_high,
    ratio=_ratio, objective=_objective, constant=torch.detach, over=_mean,
):  # fmt: skip
    """The usual way, with one step at a time to be got wrong."""
    of_tokens = objective(ratio(logprobs, old_logprobs), constant(advantages), clip_low, clip_high)
    return -over(of_tokens, mask)


def _wrong(**change):
    return partial(_ppo, **change)


def _of_rows(values, mask):
    return (values.masked_fill(~mask, 0.0).sum(-1) / mask.sum(-1).clamp(min=1)).mean()


def _by_responses(values, mask):
    return values.masked_fill(~mask, 0.0).sum() / len(mask)


def _log_space(ratio, advantages, low, high):
    bounded = ratio.log().clamp(-low, high).exp()
    return torch.minimum(ratio * advantages, bounded * advantages)


def _one_sided(ratio, advantages, low, high):
    return torch.minimum(ratio * advantages, ratio.clamp(max=1 + high) * advantages)


def _smaller_ratio(ratio, advantages, low, high):
    return torch.minimum(ratio, ratio.clamp(1 - low, 1 + high)) * advantages


def _bounds_themselves(ratio, advantages, low, high):
    return torch.minimum(ratio * advantages, ratio.clamp(low, high) * advantages)


def _rescaled(advantages):
    return ((advantages - advantages.mean()) / (advantages.std() + 1e-8)).detach()


def _as_cleanrl(logprobs, old_logprobs, advantages, mask, *, clip_low, clip_high):
    ratio = torch.exp((logprobs - old_logprobs.detach()).clamp(max=15))
    advantages = advantages.detach()
    losses = torch.max(-advantages * ratio, -advantages * torch.clamp(ratio, 1 - clip_low, 1 + clip_high))
    return losses[mask].sum() / max(1, int(mask.sum())), {"clipfrac": 0.0}


def _with_where(logprobs, old_logprobs, advantages, mask, *, clip_low, clip_high):
    log_ratio, advantages = logprobs - old_logprobs.detach(), advantages.detach().expand_as(logprobs)
    silent = ((advantages > 0) & (log_ratio > math.log1p(clip_high))) | (
        (advantages < 0) & (log_ratio < math.log1p(-clip_low))
    )
    bound = torch.where(advantages > 0, 1 + clip_high, 1 - clip_low)
    free = torch.where(silent, torch.zeros_like(log_ratio), log_ratio)
    value = torch.where(silent, bound, free.exp()) * advantages
    return -torch.where(mask, value, 0.0).sum() / mask.sum().clamp(min=1)


def _in_fp32(logprobs, old_logprobs, advantages, mask, **bounds):
    return _ppo(logprobs.float(), old_logprobs.float(), advantages.float(), mask, **bounds)


_PPO_CLIP_LOSS = Answers(
    oracle=_loss_by_cases,
    mutants=(
        Mutant(
            "sign",
            "you return the objective. It is to be made large, a loss small: put a minus before it.",
            lambda *tensors, **bounds: -_ppo(*tensors, **bounds),
        ),
        Mutant(
            "no-minimum",
            "you leave out the minimum: then a good token that became rarer, or a bad one that became likelier, is "
            "silent, too, and nothing pulls it back.",
            _wrong(objective=lambda ratio, a, low, high: ratio.clamp(1 - low, 1 + high) * a),
        ),
        Mutant(
            "smaller-ratio",
            "you take the smaller of the two ratios, and then multiply. Multiply first and take the smaller product: "
            "where the advantage is negative, that is the one with the larger ratio.",
            _wrong(objective=_smaller_ratio),
        ),
        Mutant(
            "maximum",
            "you take the better of both sides. PPO is cautious: it takes the worse, the minimum of the objectives.",
            _wrong(objective=lambda ratio, a, low, high: torch.maximum(ratio * a, ratio.clamp(1 - low, 1 + high) * a)),
        ),
        Mutant(
            "no-clip",
            "you do not clip at all. Beyond its bound a token must have no gradient.",
            _wrong(objective=lambda ratio, a, low, high: ratio * a),
        ),
        Mutant(
            "no-exp",
            "you take the difference of log-probabilities as the ratio. The ratio is its exponential.",
            _wrong(ratio=lambda new, old: new - old.detach()),
        ),
        Mutant(
            "upside-down",
            "your ratio is upside down. It is policy over old policy: exp(logprobs - old_logprobs).",
            _wrong(ratio=lambda new, old: _ratio(-new, -old)),
        ),
        Mutant(
            "one-bound",
            "you use clip_low for both bounds. The upper one is 1 + clip_high.",
            _wrong(objective=lambda ratio, a, low, high: _objective(ratio, a, low, low)),
        ),
        Mutant(
            "swapped-bounds",
            "your bounds are swapped: the lower one is 1 - clip_low, the upper one 1 + clip_high.",
            _wrong(objective=lambda ratio, a, low, high: _objective(ratio, a, high, low)),
        ),
        Mutant(
            "bounds-themselves",
            "you clip the ratio to between clip_low and clip_high. These are distances from 1: the bounds are "
            "1 - clip_low and 1 + clip_high.",
            _wrong(objective=_bounds_themselves),
        ),
        Mutant(
            "one-sided",
            "you bound the ratio from above only. A bad token that became much rarer must be silent, too.",
            _wrong(objective=_one_sided),
        ),
        Mutant(
            "log-space",
            "you clip the log-ratio to -clip_low and clip_high. The bounds are of the ratio: 1 - clip_low, 1 + "
            "clip_high.",
            _wrong(objective=_log_space),
        ),
        Mutant(
            "clipped-product",
            "you clip ratio times advantage. Only the ratio is clipped; then it is multiplied by the advantage.",
            _wrong(
                objective=lambda ratio, a, low, high: torch.minimum(ratio * a, (ratio * a).clamp(1 - low, 1 + high))
            ),
        ),
        Mutant(
            "rescaled",
            "you rescale the advantages. They come as they are to be used; chapter 10 rescales them, outside the loss.",
            _wrong(constant=_rescaled),
        ),
        Mutant(
            "sum",
            "you add up the tokens. The loss is their mean: divide by how many there are.",
            _wrong(over=lambda values, mask: values.masked_fill(~mask, 0.0).sum()),
        ),
        Mutant(
            "over-width",
            "you take padding out of the sum, and then divide by all columns. Divide by mask.sum().",
            _wrong(over=lambda values, mask: values.masked_fill(~mask, 0.0).mean()),
        ),
        Mutant(
            "padding",
            "you average over all columns, padding included. Only tokens where mask is true count.",
            _wrong(over=lambda values, mask: values.mean()),
        ),
        Mutant(
            "mean-of-means",
            "you average within each response first. Every token of the batch has one vote, in long responses, too.",
            _wrong(over=_of_rows),
        ),
        Mutant(
            "per-response",
            "you divide by the number of responses. Divide by the number of tokens where mask is true.",
            _wrong(over=_by_responses),
        ),
        Mutant(
            "nothing-is-nan",
            "without a single token you divide 0 by 0. The loss is then 0: divide by at least 1.",
            _wrong(over=lambda values, mask: values.masked_fill(~mask, 0.0).sum() / mask.sum()),
        ),
        Mutant(
            "old-not-detached",
            "a gradient reaches old_logprobs. They are numbers written down while sampling: detach them.",
            _wrong(ratio=lambda new, old: (new - old).clamp(-20, 20).exp()),
        ),
        Mutant(
            "advantages-not-detached",
            "a gradient reaches the advantages. They are a constant of the update: detach them.",
            _wrong(constant=lambda advantages: advantages),
        ),
        Mutant(
            "no-gradient",
            "the loss is right, but no gradient flows back to logprobs: nothing could be trained. Look for one detach "
            "too many.",
            _wrong(ratio=lambda new, old: _ratio(new, old).detach().requires_grad_()),
        ),
        Mutant(
            "overflow",
            "you compute exp(10000), which is inf, and its gradient, inf times 0, is nan. Clamp the log-ratio to, "
            "say, -20 and 20 before the exp.",
            _wrong(ratio=lambda new, old: (new - old.detach()).exp()),
        ),
    ),
    alternatives=(_ppo, _as_cleanrl, _with_where, _in_fp32, package_losses.ppo_clip_loss),
    hints=(
        "Write down the six cases: ratio low, between, high, for a good and for a bad token. In which two should the "
        "token be silent? Then see which does that: the min or the max of the two products.",
        "ratio = exp(logprobs - old_logprobs). Objective: the minimum of ratio * A and clamp(ratio, 1 - clip_low, 1 + "
        "clip_high) * A. Loss: minus its sum over the mask, divided by mask.sum(). Old log-probabilities and "
        "advantages "
        "are detached; the log-ratio is clamped, to -20 and 20 for example, before the exp.",
        "The chapter's part 'The clip' has the objective in two lines, without mask, and prints its slope in all six "
        "zones. For the mask, see how exercise 1.1 takes a mean over words: masked_fill, sum, divide.",
    ),
)


# --- 9.2 gae ------------------------------------------------------------------------------------------------


def _mixture(rewards, values, mask, *, gamma, gae_lambda):
    """The definition: a mixture of k-step estimates, each from the rewards seen and one value believed."""
    found, returns = torch.zeros_like(rewards), torch.zeros_like(rewards)
    values = values.detach()
    for row in range(len(rewards)):
        there = mask[row].nonzero()[:, 0].tolist()
        r, v = rewards[row, there].tolist(), [*values[row, there].tolist(), 0.0]
        for i, t in enumerate(there):
            left = len(there) - i
            seen = [sum(gamma**j * r[i + j] for j in range(k)) + gamma**k * v[i + k] - v[i] for k in range(1, left + 1)]
            weights = [(1 - gae_lambda) * gae_lambda**k for k in range(left - 1)] + [gae_lambda ** (left - 1)]
            found[row, t] = math.fsum(w * x for w, x in zip(weights, seen, strict=True))
            returns[row, t] = found[row, t] + v[i]
    return found, returns


def _walk(
    rewards, values, mask, *, gamma, gae_lambda, after_end=None, carry=None, td=None, skip=True, keep=False,
):  # fmt: skip
    """The walk from the end, with one step at a time to be got wrong."""
    values = values if keep else values.detach()
    columns, next_value = [], torch.zeros_like(rewards[:, 0]) if after_end is None else after_end(values)
    after = torch.zeros_like(next_value)
    for t in reversed(range(rewards.shape[1])):
        error = td(rewards[:, t], next_value, values[:, t], gamma) if td else (
            rewards[:, t] + gamma * next_value - values[:, t]
        )  # fmt: skip
        here = error + (carry(gamma, gae_lambda) if carry else gamma * gae_lambda) * after
        columns.append(here)
        counts = mask[:, t] if skip else torch.ones_like(mask[:, t])
        after, next_value = torch.where(counts, here, after), torch.where(counts, values[:, t], next_value)
    found = torch.stack(columns[::-1], dim=1)
    return found.masked_fill(~mask, 0.0), (found + values).masked_fill(~mask, 0.0)


def _slip(**change):
    return partial(_walk, **change)


def _values_of_padding(rewards, values, mask, *, gamma, gae_lambda):
    values = values.detach()
    following = F.pad(values[:, 1:], (0, 1))
    errors, after, columns = rewards + gamma * following - values, torch.zeros_like(rewards[:, 0]), []
    for t in reversed(range(rewards.shape[1])):
        here = errors[:, t] + gamma * gae_lambda * after
        columns.append(here)
        after = torch.where(mask[:, t], here, after)
    found = torch.stack(columns[::-1], dim=1)
    return found.masked_fill(~mask, 0.0), (found + values).masked_fill(~mask, 0.0)


def _last_value(values):
    return values[:, -1]


def _forwards(rewards, values, mask, *, gamma, gae_lambda):
    flipped = (x.flip(1) for x in (rewards, values, mask))
    found, returns = _walk(*flipped, gamma=gamma, gae_lambda=gae_lambda)
    return found.flip(1), returns.flip(1)


def _gap_ends_it(rewards, values, mask, *, gamma, gae_lambda):
    values = values.detach()
    after, next_value, columns = torch.zeros_like(rewards[:, 0]), torch.zeros_like(rewards[:, 0]), []
    for t in reversed(range(rewards.shape[1])):
        here = (rewards[:, t] + gamma * next_value - values[:, t] + gamma * gae_lambda * after) * mask[:, t]
        columns.append(here)
        after, next_value = here, values[:, t] * mask[:, t]
    found = torch.stack(columns[::-1], dim=1)
    return found, (found + values) * mask


def _at_gaps(rewards, values, mask, *, gamma, gae_lambda, handed_on=1.0, left=None):
    """The walk with a slip in the columns that are no tokens: how much of the advantage is handed on, what is left."""
    values = values.detach()
    after, next_value, columns, carried = torch.zeros_like(rewards[:, 0]), torch.zeros_like(rewards[:, 0]), [], []
    for t in reversed(range(rewards.shape[1])):
        here = rewards[:, t] + gamma * next_value - values[:, t] + gamma * gae_lambda * after
        share = gamma * gae_lambda if handed_on == "discounted" else handed_on
        after = torch.where(mask[:, t], here, share * after)
        next_value = torch.where(mask[:, t], values[:, t], next_value)
        columns.append(here)
        carried.append(after)
    if left:
        found = torch.stack((columns if left == "computed" else carried)[::-1], dim=1)
        return found, found + values
    found = torch.stack(columns[::-1], dim=1).masked_fill(~mask, 0.0)
    return found, (found + values).masked_fill(~mask, 0.0)


def _mask_unread(rewards, values, mask, **settings):
    return _walk(rewards, values, torch.ones_like(mask), **settings)


def _errors_from_the_left(rewards, values, mask, *, gamma, gae_lambda):
    values = values.detach()
    errors = rewards + gamma * F.pad(values[:, 1:], (0, 1)) - values
    before, columns = torch.zeros_like(rewards[:, 0]), []
    for t in range(rewards.shape[1]):
        before = errors[:, t] + gamma * gae_lambda * before
        columns.append(before)
    found = torch.stack(columns, dim=1)
    return found.masked_fill(~mask, 0.0), (found + values).masked_fill(~mask, 0.0)


def _other_returns(of):
    def gae(rewards, values, mask, **settings):
        found, _ = _walk(rewards, values, mask, **settings)
        return found, of(found, values.detach(), rewards).masked_fill(~mask, 0.0)

    return gae


def _rewards_to_go(rewards, values, mask, *, gamma, gae_lambda):
    found, _ = _walk(rewards, values, mask, gamma=gamma, gae_lambda=gae_lambda)
    _, returns = _walk(rewards, values, mask, gamma=gamma, gae_lambda=1.0)
    return found, returns


def _swapped(*tables, **settings):
    return _walk(*tables, **settings)[::-1]


def _junk_left(rewards, values, mask, **settings):
    found, returns = _walk(rewards, values, mask, **settings)
    return found, torch.where(mask, returns, values.detach())


def _whitened(rewards, values, mask, **settings):
    found, returns = _walk(rewards, values, mask, **settings)
    return package_advantages.masked_whiten(found, mask), returns


def _only_advantages(*tables, **settings):
    return _walk(*tables, **settings)[0]


def _with_powers(rewards, values, mask, *, gamma, gae_lambda):
    tables = []
    for r, v, there in zip(rewards.numpy(), values.detach().numpy(), mask.numpy(), strict=True):
        found, back = np.zeros_like(r), np.zeros_like(r)
        errors = r[there] + gamma * np.append(v[there][1:], 0.0)[: there.sum()] - v[there]
        steps = np.arange(len(errors))
        ahead = steps[None, :] - steps[:, None]
        found[there] = np.where(ahead >= 0, (gamma * gae_lambda) ** np.maximum(ahead, 0), 0.0) @ errors
        back[there] = found[there] + v[there]
        tables.append((found, back))
    return tuple(np.stack(side) for side in zip(*tables, strict=True))


def _as_lists(rewards, values, mask, *, gamma, gae_lambda):
    all_found, all_returns = [], []
    for r, v, m in zip(rewards.tolist(), values.tolist(), mask.tolist(), strict=True):
        found, returns, after, value = [0.0] * len(r), [0.0] * len(r), 0.0, 0.0
        for t in range(len(r) - 1, -1, -1):
            if m[t]:
                after = r[t] + gamma * value - v[t] + gamma * gae_lambda * after
                value = v[t]
                found[t], returns[t] = after, after + value
        all_found.append(found)
        all_returns.append(returns)
    return [all_found, all_returns]


_GAE = Answers(
    oracle=_mixture,
    mutants=(
        Mutant(
            "no-lambda",
            "you leave lambda out: your advantages are Monte Carlo's, whatever gae_lambda is.",
            _slip(carry=lambda gamma, gae_lambda: gamma),
        ),
        Mutant(
            "only-td",
            "you stop after one step: that is lambda 0. The advantage of the next token comes in, times gamma * "
            "lambda.",
            _slip(carry=lambda gamma, gae_lambda: 0.0),
        ),
        Mutant(
            "carry-without-gamma",
            "the next advantage comes in times gamma * gae_lambda; you forget gamma there.",
            _slip(carry=lambda gamma, gae_lambda: gae_lambda),
        ),
        Mutant(
            "td-without-gamma",
            "in the TD error the next value is discounted: r + gamma * V(next) - V.",
            _slip(td=lambda reward, following, value, gamma: reward + following - value),
        ),
        Mutant(
            "gamma-ignored",
            "you ignore gamma. It multiplies the next value and, together with lambda, the next advantage.",
            lambda *tables, gamma, gae_lambda: _walk(*tables, gamma=1.0, gae_lambda=gae_lambda),
        ),
        Mutant(
            "weights",
            "you multiply by 1 - lambda on the way. The weights of step 3 are summed up already: A = delta + gamma * "
            "lambda * A(next).",
            _slip(carry=lambda gamma, gae_lambda: gamma * (1 - gae_lambda)),
        ),
        Mutant(
            "no-baseline",
            "you do not subtract V(s_t): an advantage is how much better it went than expected.",
            _slip(td=lambda reward, following, value, gamma: reward + gamma * following),
        ),
        Mutant(
            "values-exchanged",
            "your TD error has the two values the wrong way round: the next one is added, this one is subtracted.",
            _slip(td=lambda reward, following, value, gamma: reward + value - gamma * following),
        ),
        Mutant(
            "no-next-value",
            "you leave the next value out of the TD error. What comes after a token is worth something, too.",
            _slip(td=lambda reward, following, value, gamma: reward - value),
        ),
        Mutant(
            "padding-walked",
            "you walk through padding as if it were tokens, and its numbers get into the advantages. Where mask is "
            "false, hand the future on unchanged.",
            _slip(skip=False),
        ),
        Mutant(
            "value-of-padding",
            "you take the value in the next column even where it is padding. After the last token the value is 0, and "
            "before a gap it is that of the next token.",
            _values_of_padding,
        ),
        Mutant(
            "value-after-the-end",
            "you believe the last column's value for what comes after the end. Nothing comes: that value is 0.",
            _slip(after_end=_last_value),
        ),
        Mutant(
            "forwards",
            "you walk from the first token to the last. The future comes in from the right: begin at the end.",
            _forwards,
        ),
        Mutant(
            "errors-from-the-left",
            "your TD errors are right, but you add them up from the left. A token is credited with what comes AFTER: "
            "begin with the last.",
            _errors_from_the_left,
        ),
        Mutant(
            "advantage-lost",
            "at a gap you hand on the value of the token behind it, but not its advantage. Hand on both.",
            partial(_at_gaps, handed_on=0.0),
        ),
        Mutant(
            "gap-discounts",
            "you discount once for every column of a gap. The token behind it is one step away, however wide it is.",
            partial(_at_gaps, handed_on="discounted"),
        ),
        Mutant(
            "mask-unread",
            "you do not look at the mask at all. Step over the columns where it is false, and put 0 there in both "
            "tables.",
            _mask_unread,
        ),
        Mutant(
            "carried-left",
            "where there is no token you leave the advantage that is being handed on. There both tables are 0.",
            partial(_at_gaps, left="carried"),
        ),
        Mutant(
            "computed-left",
            "where there is no token you leave what the formula gives. Both tables must be 0 in such columns.",
            partial(_at_gaps, left="computed"),
        ),
        Mutant(
            "gap-ends-it",
            "you let a gap end the response. Tokens that are not the policy's are stepped over: the next one counts.",
            _gap_ends_it,
        ),
        Mutant(
            "rewards-to-go",
            "your returns are the discounted rewards to the end. Return advantages + values.",
            _rewards_to_go,
        ),
        Mutant("swapped", "the order is swapped: first the advantages, then the returns.", _swapped),
        Mutant(
            "only-advantages",
            "you return the advantages only. Return a pair: advantages and returns.",
            _only_advantages,
        ),
        Mutant(
            "returns-minus",
            "your returns are advantages MINUS values. Add them: what was expected, and how much better it went.",
            _other_returns(lambda found, values, rewards: found - values),
        ),
        Mutant(
            "returns-with-rewards",
            "your returns are advantages plus rewards. The advantages already contain the rewards: add the values.",
            _other_returns(lambda found, values, rewards: found + rewards),
        ),
        Mutant(
            "one-tensor",
            "you return one tensor that holds both tables. Return them as a pair: return advantages, returns.",
            lambda *tables, **settings: torch.stack(_walk(*tables, **settings)),
        ),
        Mutant(
            "junk-left",
            "your returns are not 0 at padding: the values that stand there are left in. Set both to 0 where mask is "
            "false.",
            _junk_left,
        ),
        Mutant(
            "whitened",
            "you rescale the advantages to mean 0 and variance 1. That comes later, in chapter 10; here they keep "
            "their unit.",
            _whitened,
        ),
        Mutant(
            "gradient-kept",
            "a gradient flows back to the values. Advantages and returns are numbers to train on: use "
            "torch.no_grad() or "
            "detach().",
            _slip(keep=True),
        ),
    ),
    alternatives=(_walk, _with_powers, _as_lists, package_advantages.gae),
    hints=(
        "Do one row by hand, from its last token to its first, and keep two numbers in mind: the advantage and "
        "the "
        "value of the token after this one. What are both before you begin? What do you do with them at padding?",
        "td_error = reward + gamma * next_value - value; advantage = td_error + gamma * gae_lambda * next_advantage. "
        "Begin with 0 and 0. torch.where(mask[:, t], new, old) updates both numbers only where there is a token.",
        "The chapter's part 'Which word deserves the score?' has gae_of for rows without padding. Add two things: the "
        "mask, and the returns, advantages + values. No gradient: torch.no_grad() above the function.",
    ),
)


# --- 9.3 kl_estimators --------------------------------------------------------------------------------------


def _by_hand(logprobs, ref_logprobs):
    """Values with Python's floats; slopes 1, k1 and 1 - ref / policy."""
    k1 = [a - b for a, b in zip(logprobs.tolist(), ref_logprobs.tolist(), strict=True)]
    reference_over_policy = [math.exp(-k) if k > -700 else math.inf for k in k1]
    k3 = [u - 1 + k for u, k in zip(reference_over_policy, k1, strict=True)]
    values = (k1, [k * k / 2 for k in k1], k3)
    slopes = ([1.0] * len(k1), k1, [1 - u for u in reference_over_policy])
    moved = logprobs - logprobs.detach()
    return tuple(
        torch.tensor(v).double() + moved * torch.tensor(s).double() for v, s in zip(values, slopes, strict=True)
    )


def _three(logprobs, ref_logprobs):
    k1 = logprobs - ref_logprobs.detach()
    return k1, k1.square() / 2, torch.exp(-k1) - 1 + k1


def _changed(**change):
    """One of the three is another function of the log-ratio."""
    places = {"k1": 0, "k2": 1, "k3": 2}

    def estimators(logprobs, ref_logprobs):
        three = list(_three(logprobs, ref_logprobs))
        for name, function in change.items():
            three[places[name]] = function(three[0])
        return tuple(three)

    return estimators


def _reversed(logprobs, ref_logprobs):
    k1 = ref_logprobs.detach() - logprobs
    return k1, k1.square() / 2, torch.exp(-k1) - 1 + k1


def _of_probabilities(logprobs, ref_logprobs):
    k1 = logprobs.exp() - ref_logprobs.detach().exp()
    return k1, k1.square() / 2, torch.exp(-k1) - 1 + k1


def _weighted(logprobs, ref_logprobs):
    return tuple(logprobs.detach().exp() * k for k in _three(logprobs, ref_logprobs))


def _through_probabilities(logprobs, ref_logprobs):
    policy, ref = logprobs.exp(), ref_logprobs.detach().exp()
    k1 = (policy / ref).log()
    return k1, k1.square() / 2, ref / policy - 1 + k1


def _reference_learns(logprobs, ref_logprobs):
    k1 = logprobs - ref_logprobs
    return k1, k1.square() / 2, torch.exp(-k1) - 1 + k1


def _with_expm1(logprobs, ref_logprobs):
    log_ratio = ref_logprobs.detach() - logprobs
    return [-log_ratio, 0.5 * log_ratio**2, torch.expm1(log_ratio) - log_ratio]


def _answer_by_answer(logprobs, ref_logprobs):
    columns = [], [], []
    for a, b in zip(logprobs, ref_logprobs.tolist(), strict=True):
        u = torch.exp(b - a)
        for column, k in zip(columns, (a - b, (a - b) * (a - b) / 2, (u - 1) - (b - a)), strict=True):
            column.append(k)
    return tuple(torch.stack(column) for column in columns)


def _of_the_package(logprobs, ref_logprobs):
    return tuple(
        k(logprobs[None], ref_logprobs[None])[0]
        for k in (package_advantages.kl_k1, package_advantages.kl_k2, package_advantages.kl_k3)
    )


_KL_ESTIMATORS = Answers(
    oracle=_by_hand,
    mutants=(
        Mutant(
            "reversed",
            "all three have their direction reversed. For samples of the policy it is log policy minus log reference.",
            _reversed,
        ),
        Mutant(
            "k1-reversed",
            "your k1 alone has the wrong sign. It is log policy minus log reference.",
            _changed(k1=torch.neg),
        ),
        Mutant(
            "k1-size",
            "you take the absolute value of k1. Single ones may be negative; without their sign the mean is too large.",
            _changed(k1=torch.abs),
        ),
        Mutant("k2-no-half", "k2 has a half: k1 squared, divided by 2.", _changed(k2=torch.square)),
        Mutant(
            "k1-cut-off",
            "you cut k1 off at 0. Single ones may be negative, and only with them is the mean the KL.",
            _changed(k1=lambda k1: k1.clamp(min=0)),
        ),
        Mutant(
            "k2-of-the-ratio",
            "you square ratio - 1. k2 is half the square of the LOG-ratio.",
            _changed(k2=lambda k1: (torch.exp(-k1) - 1).square() / 2),
        ),
        Mutant(
            "k3-upside-down",
            "the ratio in your k3 is upside down: it is reference over policy, exp(-k1). Only that one has mean 1 "
            "under "
            "the policy.",
            _changed(k3=lambda k1: torch.exp(k1) - 1 - k1),
        ),
        Mutant(
            "k3-half-turned",
            "in your k3 the ratio is policy over reference, and so its mean under the policy is not 1. It is exp(-k1).",
            _changed(k3=lambda k1: torch.exp(k1) - 1 + k1),
        ),
        Mutant(
            "k3-no-one",
            "your k3 lacks the - 1: where policy and reference agree it must be 0.",
            _changed(k3=lambda k1: torch.exp(-k1) + k1),
        ),
        Mutant(
            "k3-sign",
            "the log-ratio has the wrong sign in your k3, which then is not the KL on average: exp(-k1) - 1 + k1.",
            _changed(k3=lambda k1: torch.exp(-k1) - 1 - k1),
        ),
        Mutant(
            "k3-correction-only",
            "your k3 is the correction alone, whose mean is 0. Add it to k1.",
            _changed(k3=lambda k1: torch.exp(-k1) - 1),
        ),
        Mutant(
            "probabilities",
            "you subtract probabilities. k1 is the difference of LOG-probabilities.",
            _of_probabilities,
        ),
        Mutant(
            "through-probabilities",
            "you go through probabilities: e^-10000 is rounded to 0. Subtract the log-probabilities that you have.",
            _through_probabilities,
        ),
        Mutant(
            "weighted",
            "you weight by the policy's probabilities. Samples already come as often as they are likely: that is "
            "their weight.",
            _weighted,
        ),
        Mutant(
            "held",
            "you clamp the log-ratio to 20, as in 9.1. Here its size is the answer, and exp(-k1) is harmless when "
            "k1 is large.",
            lambda new, old: _three((new - old.detach()).clamp(-20, 20), torch.zeros_like(old)),
        ),
        Mutant(
            "means",
            "you return means. Return one estimate per sample.",
            lambda *both: tuple(k.mean() for k in _three(*both)),
        ),
        Mutant(
            "backwards",
            "you return them backwards: k1 comes first, k3 last.",
            lambda *both: _three(*both)[::-1],
        ),
        Mutant(
            "one-tensor",
            "you return one tensor that holds all three. Return them as a tuple: return k1, k2, k3.",
            lambda *both: torch.stack(_three(*both)),
        ),
        Mutant("only-k3", "you return k3 alone. Return all three: k1, k2, k3.", lambda *both: _three(*both)[2]),
        Mutant("order", "the order is k1, k2, k3.", lambda *both: tuple(_three(*both)[n] for n in (0, 2, 1))),
        Mutant(
            "reference-not-detached",
            "a gradient reaches the reference. It is frozen: detach it.",
            _reference_learns,
        ),
        Mutant(
            "no-gradient",
            "the values are right, but no gradient flows back to logprobs. As losses they could train nothing.",
            lambda *both: tuple(k.detach() for k in _three(*both)),
        ),
    ),
    alternatives=(_three, _with_expm1, _answer_by_answer, _of_the_package),
    hints=(
        "All three are functions of one number per sample, the log-ratio. Which sign must it have so that its mean "
        "under "
        "the policy is KL(policy, reference)? Check with two answers on paper.",
        "k1 = log policy - log reference; k2 = k1 squared / 2; k3 = exp(-k1) - 1 + k1. The reference is detached.",
        "The chapter's part 'Estimating a KL from samples' has the three in three lines and says why exp(-k1) - 1 has "
        "mean 0; the part after it says what becomes of their gradients.",
    ),
)

ANSWERS = {"9.1": _PPO_CLIP_LOSS, "9.2": _GAE, "9.3": _KL_ESTIMATORS}
