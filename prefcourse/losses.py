"""Objectives: from log-probabilities, scores and advantages to one number. Knows no models and no data.

Every loss returns (loss, metrics); metrics are detached scalars under TRL's names. References, old policies,
advantages and KL estimates are constants of the update: no gradient reaches them. A loss over pairs is the
mean over the batch; a pair counts as accurate only if the chosen side wins strictly.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

Scalar = Float[Tensor, ""]
Scores = Float[Tensor, " B"]
Sums = Float[Tensor, " B"]  # log-probability of each response: the SUM over its tokens
Means = Float[Tensor, " B"]  # the MEAN over its tokens, for the losses without a reference
PerToken = Float[Tensor, "B T"]  # 0 outside the mask
Advantages = Float[Tensor, " B #T"]  # (B, 1) where a whole response shares one
Mask = Bool[Tensor, "B T"]  # true on response tokens, EOS included
Aggregation = Literal["sequence", "token", "constant"]
LossAndMetrics = tuple[Scalar, dict[str, Tensor]]
_LARGEST_LOG_RATIO = 20.0  # exp(20) is 5e8: nothing useful lies beyond, and exp(89) overflows


def aggregate(token_losses: PerToken, mask: Mask, *, how: Aggregation, constant: float | None = None) -> Scalar:
    """One number from a table of token losses; 0 if no response has a token.

    "sequence": mean of the means, so a token of a long response weighs less (GRPO, 2402.03300, eq. 3).
    "token": mean over all response tokens of the batch (DAPO, 2503.14476, eq. 8).
    "constant": sum / (B * constant), blind to length (Dr. GRPO, 2503.20783); constant=1: mean of the sums.
    An empty response adds 0 and counts as one of the B. ValueError for "constant" without a number.
    """
    on_mask = token_losses.masked_fill(~mask, 0.0)  # a product with the mask would let nan through
    if how == "sequence":
        return (on_mask.sum(-1) / mask.sum(-1).clamp(min=1)).mean()
    if how == "token":
        return on_mask.sum() / mask.sum().clamp(min=1)
    if how == "constant" and constant is not None:
        return on_mask.sum() / (len(mask) * constant)
    expected = "expected 'sequence', 'token', or 'constant' with a number such as constant=max_new_tokens"
    raise ValueError(f"how={how!r}, constant={constant!r}: {expected}")


def sft_loss(logprobs: PerToken, mask: Mask) -> LossAndMetrics:
    """Negative log-likelihood: mean over the response tokens of the batch, not of row means; 0 if none."""
    loss = aggregate(-logprobs, mask, how="token")
    return loss, {"nll_loss": loss.detach()}


def bradley_terry_loss(chosen_scores: Scores, rejected_scores: Scores) -> LossAndMetrics:
    """-log P(chosen beats rejected) under Bradley-Terry (DPO, 2305.18290, eq. 2): only differences enter."""
    chosen, rejected = chosen_scores.detach(), rejected_scores.detach()
    metrics = {"accuracy": (chosen > rejected).float().mean(), "margin": (chosen - rejected).mean()}
    metrics["mean_reward"] = torch.cat([chosen, rejected]).mean()
    return -F.logsigmoid(chosen_scores - rejected_scores).mean(), metrics


def pair_metrics(chosen_rewards, rejected_rewards, chosen_logprobs, rejected_logprobs):
    """What TRL logs for a batch. `logps/*` show displacement: both may fall while the margin grows."""
    chosen, rejected = chosen_rewards.detach(), rejected_rewards.detach()
    return {
        "rewards/chosen": chosen.mean(),
        "rewards/rejected": rejected.mean(),
        "rewards/margins": (chosen - rejected).mean(),
        "rewards/accuracies": (chosen > rejected).float().mean(),
        "logps/chosen": chosen_logprobs.detach().mean(),
        "logps/rejected": rejected_logprobs.detach().mean(),
    }


def _implicit_margins(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta):
    """Difference of the implicit rewards beta * (log policy - log ref): DPO's eq. 5, whose log Z cancels."""
    chosen_rewards = beta * (policy_chosen - ref_chosen.detach())
    rejected_rewards = beta * (policy_rejected - ref_rejected.detach())
    metrics = pair_metrics(chosen_rewards, rejected_rewards, policy_chosen, policy_rejected)
    return chosen_rewards - rejected_rewards, metrics


def dpo_loss(
    policy_chosen: Sums, policy_rejected: Sums, ref_chosen: Sums, ref_rejected: Sums, *, beta: float
) -> LossAndMetrics:
    """-log sigmoid(margin) (DPO, 2305.18290, eq. 7). The larger beta, the nearer to the reference."""
    margins, metrics = _implicit_margins(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta)
    return -F.logsigmoid(margins).mean(), metrics


def cdpo_loss(
    policy_chosen: Sums,
    policy_rejected: Sums,
    ref_chosen: Sums,
    ref_rejected: Sums,
    *,
    beta: float,
    label_smoothing: float,
) -> LossAndMetrics:
    """Conservative DPO: cross-entropy against the target 1 - label_smoothing (Mitchell's note, 2023, eq. 3)."""
    margins, metrics = _implicit_margins(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta)
    losses = -(1 - label_smoothing) * F.logsigmoid(margins) - label_smoothing * F.logsigmoid(-margins)
    return losses.mean(), metrics


def rdpo_loss(
    policy_chosen: Sums,
    policy_rejected: Sums,
    ref_chosen: Sums,
    ref_rejected: Sums,
    *,
    beta: float,
    flip_probability: float,
) -> LossAndMetrics:
    """Robust DPO (2403.00409): its mean over labels flipped with `flip_probability` is the clean DPO loss.

    Unbiased, as cDPO is not, at the price of variance and of no lower bound. ValueError from 0.5 on.
    """
    if not 0 <= flip_probability < 0.5:
        raise ValueError(
            f"flip_probability={flip_probability}: expected 0 <= p < 0.5. At 0.5 labels are coin tosses and "
            "nothing can be recovered; above it, swap chosen and rejected and use 1 - p"
        )
    margins, metrics = _implicit_margins(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta)
    losses = -(1 - flip_probability) * F.logsigmoid(margins) + flip_probability * F.logsigmoid(-margins)
    return losses.mean() / (1 - 2 * flip_probability), metrics


def ipo_loss(
    policy_chosen: Sums, policy_rejected: Sums, ref_chosen: Sums, ref_rejected: Sums, *, beta: float
) -> LossAndMetrics:
    """(difference of log-ratios - 1 / (2 beta)) squared: a margin to hit (IPO, 2310.12036, eq. 17, tau).

    Log-ratios are sums, as in the paper. TRL divides each by its length first: give means for its number.
    """
    margins, metrics = _implicit_margins(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta)
    return (margins / beta - 1 / (2 * beta)).square().mean(), metrics


def hinge_loss(
    policy_chosen: Sums, policy_rejected: Sums, ref_chosen: Sums, ref_rejected: Sums, *, beta: float
) -> LossAndMetrics:
    """max(0, 1 - margin): the support-vector form of DPO (RSO's hinge-norm, 2309.06657, after SLiC)."""
    margins, metrics = _implicit_margins(policy_chosen, policy_rejected, ref_chosen, ref_rejected, beta)
    return torch.relu(1 - margins).mean(), metrics


def kto_loss(
    policy_chosen: Float[Tensor, " C"],
    policy_rejected: Float[Tensor, " R"],
    ref_chosen: Float[Tensor, " C"],
    ref_rejected: Float[Tensor, " R"],
    kl: Scalar | float,
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> LossAndMetrics:
    """KTO (2402.01306): log-ratios of desirable responses should exceed `kl`, those of undesirable ones not.

    Mean over all C + R responses, which need not be pairs; one side may be empty (its metrics are then nan).
    `kl` estimates KL(policy, ref): the mean log-ratio of mismatched prompts and responses, clamped at 0.
    """
    kl = torch.as_tensor(kl).detach().clamp(min=0)
    chosen, rejected = policy_chosen - ref_chosen.detach(), policy_rejected - ref_rejected.detach()
    chosen_losses = desirable_weight * torch.sigmoid(beta * (kl - chosen))
    rejected_losses = undesirable_weight * torch.sigmoid(beta * (rejected - kl))
    metrics = {"rewards/chosen": beta * chosen.detach().mean(), "kl": kl}
    metrics["rewards/rejected"] = beta * rejected.detach().mean()
    metrics["rewards/margins"] = metrics["rewards/chosen"] - metrics["rewards/rejected"]
    return torch.cat([chosen_losses, rejected_losses]).mean(), metrics


def _log_odds(mean: Means) -> Means:
    """log(p / (1 - p)) for p = exp(mean); p = 1 (an empty response) counts as a hair below 1."""
    mean = mean.clamp(max=-torch.finfo(mean.dtype).eps)
    return mean - torch.log(-torch.expm1(mean))


def orpo_loss(chosen_mean: Means, rejected_mean: Means, *, beta: float) -> LossAndMetrics:
    """SFT on the chosen plus beta * -log sigmoid(log odds ratio) (ORPO, 2403.07691, eq. 6, 7; lambda: beta).

    The SFT term is minus the mean of `chosen_mean`; TRL's is a mean over all tokens, even of the prompt.
    """
    log_odds_ratio = _log_odds(chosen_mean) - _log_odds(rejected_mean)
    nll_loss, ratio_loss = -chosen_mean.mean(), -F.logsigmoid(log_odds_ratio).mean()
    metrics = pair_metrics(beta * chosen_mean, beta * rejected_mean, chosen_mean, rejected_mean)
    metrics |= {"nll_loss": nll_loss.detach(), "log_odds_chosen": log_odds_ratio.detach().mean()}
    return nll_loss + beta * ratio_loss, metrics


def simpo_loss(chosen_mean: Means, rejected_mean: Means, *, beta: float, gamma: float) -> LossAndMetrics:
    """-log sigmoid(beta * (chosen - rejected) - gamma): win, and by a margin (SimPO, 2405.14734, eq. 6)."""
    metrics = pair_metrics(beta * chosen_mean, beta * rejected_mean, chosen_mean, rejected_mean)
    return -F.logsigmoid(beta * (chosen_mean - rejected_mean) - gamma).mean(), metrics


def policy_gradient_loss(logprobs: PerToken, advantages: Advantages, mask: Mask) -> LossAndMetrics:
    """REINFORCE: minus advantage times log-probability, SUMMED over a response, mean over the B responses.

    On samples of the policy, minus its gradient is unbiased for that of the expected score; its value means nothing.
    """
    return aggregate(-advantages.detach() * logprobs, mask, how="constant", constant=1.0), {}


def ppo_token_losses(
    logprobs: PerToken, old_logprobs: PerToken, advantages: Advantages, *, clip_low: float, clip_high: float
) -> PerToken:
    """-min(ratio * A, clip(ratio, 1 - clip_low, 1 + clip_high) * A) (PPO, 1707.06347, eq. 7).

    The gradient is exactly 0 where clipping binds: ratio high and A > 0, or ratio low and A < 0. GRPO adds
    beta * kl_k3; clip_high > clip_low is DAPO's clip-higher. Log-ratios stop at +-20: finite, no gradient.
    """
    ratio = (logprobs - old_logprobs.detach()).clamp(-_LARGEST_LOG_RATIO, _LARGEST_LOG_RATIO).exp()
    advantages = advantages.detach()
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages)


def ppo_clip_loss(
    logprobs: PerToken,
    old_logprobs: PerToken,
    advantages: Advantages,
    mask: Mask,
    *,
    clip_coef: float = 0.2,
    clip_low: float | None = None,
    clip_high: float | None = None,
) -> LossAndMetrics:
    """Mean of `ppo_token_losses` over the response tokens of the batch; clip_coef is any bound not given.

    `clipfrac`: share of tokens whose ratio left the interval, whatever the sign of A. `approx_kl`: mean k3,
    an estimate of KL(old policy, policy), because the tokens came from the old one.
    """
    clip_low = clip_coef if clip_low is None else clip_low
    clip_high = clip_coef if clip_high is None else clip_high
    losses = ppo_token_losses(logprobs, old_logprobs, advantages, clip_low=clip_low, clip_high=clip_high)
    log_ratio = (logprobs - old_logprobs).detach().clamp(max=_LARGEST_LOG_RATIO)
    is_outside = (log_ratio.exp() < 1 - clip_low) | (log_ratio.exp() > 1 + clip_high)
    metrics = {"clipfrac": aggregate(is_outside.float(), mask, how="token")}
    metrics["approx_kl"] = aggregate(log_ratio.expm1() - log_ratio, mask, how="token")
    return aggregate(losses, mask, how="token"), metrics


def value_loss(
    values: PerToken, old_values: PerToken, returns: PerToken, mask: Mask, *, clip_range: float | None = None
) -> LossAndMetrics:
    """Half the squared error of the values, mean over the response tokens of the batch.

    With `clip_range`, the worse of two errors: the value's, and that of the value held within clip_range of
    the old one, so that leaving the range earns nothing (a habit of PPO2; 2006.05990 found that it hurts).
    """
    returns, old_values = returns.detach(), old_values.detach()
    errors = (values - returns).square()
    metrics = {"value_error": aggregate(errors.detach(), mask, how="token")}
    if clip_range is not None:
        held = old_values + (values - old_values).clamp(-clip_range, clip_range)
        errors = torch.maximum(errors, (held - returns).square())
        is_outside = (values - old_values).detach().abs() > clip_range
        metrics["value_clipfrac"] = aggregate(is_outside.float(), mask, how="token")
    return 0.5 * aggregate(errors, mask, how="token"), metrics
