"""The clinic of chapter 10: PPO's loop with five parts that can be taken out, and eight wrong ones to put in.

With nothing replaced the loop is `train.ppo`, number for number; each bug of `BUGS` replaces exactly one part by a few
lines that run without an error. Knows no experiment, no log file and no figure.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from prefcourse import advantages, losses
from prefcourse.advantages import Mask, PerToken, gae, masked_mean, masked_whiten
from prefcourse.backbone import response_logprobs
from prefcourse.models import PolicyWithValue
from prefcourse.rollout import Rollout, sample
from prefcourse.train import online
from prefcourse.train.common import Optimiser, check_beta, floats
from prefcourse.train.online import GUARD, Experience, Prompter, average, check_apart

# --- the five parts, healthy ------------------------------------------------------------------------------------


def collect(model, reference, rollout: Rollout, score: Callable, unfinished_penalty: float) -> Experience:
    """Score the answers; who counts as a token of the answer is said by the response mask."""
    return online.experience(reference, rollout, score, unfinished_penalty)


def token_rewards(scores, logprobs, ref_logprobs, mask, *, beta: float) -> PerToken:
    """The price of the KL on every token, the score on the last."""
    return advantages.token_rewards(scores, logprobs, ref_logprobs, mask, beta=beta)


def read_values(values: PerToken) -> PerToken:
    """Column t: the critic's value of the state BEFORE token t, as the model gives it."""
    return values


def old_logprobs(round_: Experience) -> PerToken:
    """What the ratio divides by: the policy that drew these answers."""
    return round_.old_logprobs


def policy_loss(logprobs, old_logprobs, whitened, values, old_values, mask, *, clip_coef: float):
    """The clip. The critic's values are at hand, and not used: advantages are numbers, computed once per round."""
    return losses.ppo_clip_loss(logprobs, old_logprobs, whitened, mask, clip_coef=clip_coef)


@dataclass(frozen=True)
class Parts:
    collect: Callable = collect
    token_rewards: Callable = token_rewards
    read_values: Callable = read_values
    old_logprobs: Callable = old_logprobs
    policy_loss: Callable = policy_loss


# --- the loop ---------------------------------------------------------------------------------------------------


def ppo(
    policy, reference, tokenizer, prompts: list[str], score: Callable, *, parts: Parts, beta: float, iterations: int,
    seed: int, batch_size: int = 64, minibatch_size: int = 64, epochs: int = 4, learning_rate: float = 3e-4,
    max_new_tokens: int = 32, clip_coef: float = 0.2, vf_coef: float = 0.1, gamma: float = 1.0,
    gae_lambda: float = 0.95, unfinished_penalty: float = 1.0,
) -> Iterator[dict[str, float]]:  # fmt: skip
    """`train.ppo` with replaceable parts, and with more in its log."""
    check_beta(beta)
    model, optimiser, generator = prepared(policy, reference, learning_rate, seed)
    for rollout in rollouts(model, tokenizer, prompts, iterations, batch_size, max_new_tokens, generator):
        optimiser.refuse_unless_finite("log-probability of the samples", rollout.logprobs.sum())
        round_ = parts.collect(model, reference, rollout, score, unfinished_penalty)
        round_ = replace(round_, old_values=parts.read_values(round_.old_values))
        mask = round_.sequences.response_mask
        rewards = parts.token_rewards(round_.scores, round_.old_logprobs, round_.ref_logprobs, mask, beta=beta)
        raw, returns = gae(rewards, round_.old_values, mask, gamma=gamma, gae_lambda=gae_lambda)
        whitened, history = masked_whiten(raw, mask), []
        for rows in round_.minibatches(minibatch_size, epochs, generator):
            loss, metrics = ppo_loss(model, round_, whitened, returns, rows, parts, clip_coef, vf_coef)
            history.append(floats(metrics) | optimiser.step(loss, usual=round_.usual))
        first = {"approx_kl_first": history[0]["approx_kl"]}
        yield round_.metrics | credit(round_, rewards, returns) | average(history) | first


def prepared(policy, reference, learning_rate: float, seed: int) -> tuple[PolicyWithValue, Optimiser, torch.Generator]:
    model = policy if isinstance(policy, PolicyWithValue) else PolicyWithValue(policy)
    check_apart(model.lm, reference)
    return model, Optimiser(model, learning_rate, **GUARD), torch.Generator().manual_seed(seed)


def rollouts(model, tokenizer, prompts, iterations, batch_size, max_new_tokens, generator) -> Iterator[Rollout]:
    """The answers of each round, drawn when it is its turn: by the policy as it is then."""
    prompter = Prompter(prompts, generator)
    how = {"max_new_tokens": max_new_tokens, "generator": generator, "value_head": model.value_head}
    for _ in range(iterations):
        yield sample(model.lm, tokenizer, prompter.next(batch_size), **how)


def ppo_loss(
    model, round_: Experience, whitened: PerToken, returns: PerToken, rows: Tensor, parts: Parts, clip_coef, vf_coef
) -> tuple[Tensor, dict[str, Tensor]]:
    """`train.online.ppo_loss` with replaceable parts."""
    batch = round_.sequences.take(rows)
    mask, width = batch.response_mask, batch.input_ids.shape[1]
    logprobs, entropy, values = model(batch)
    values, old_values = parts.read_values(values), round_.old_values[rows, :width]
    old = parts.old_logprobs(round_)[rows, :width]
    loss, metrics = parts.policy_loss(
        logprobs, old, whitened[rows, :width], values, old_values, mask, clip_coef=clip_coef
    )
    critic_loss, about_critic = losses.value_loss(values, old_values, returns[rows, :width], mask)
    metrics |= about_critic | {"policy_loss": loss.detach(), "entropy": masked_mean(entropy, mask)}
    return loss + vf_coef * critic_loss, metrics


@torch.no_grad()
def credit(round_: Experience, rewards: PerToken, returns: PerToken) -> dict[str, float]:
    """Of the round, before the update: the sum of an answer's rewards, and what the critic says beside what came."""
    mask, values = round_.sequences.response_mask, round_.old_values
    last = mask & (mask.flip(1).cumsum(1).flip(1) == 1)
    return floats({
        "reward": rewards.sum(dim=1).mean(),
        "value": masked_mean(values, mask),
        "return": masked_mean(returns, mask),
        "value_last": masked_mean(values, last),
    })


# --- eight wrong parts ------------------------------------------------------------------------------------------


def flipped_rewards(scores, logprobs, ref_logprobs, mask, *, beta):
    return advantages.token_rewards(-scores, logprobs, ref_logprobs, mask, beta=beta)


def constant_kl(scores, logprobs, ref_logprobs, mask, *, beta):
    kl = (logprobs - ref_logprobs).sum(dim=1).mean()  # one number for the whole batch
    return advantages.token_rewards(scores - beta * kl, logprobs, ref_logprobs, mask, beta=0.0)


def prompt_counted(model, reference, rollout, score, unfinished_penalty):
    round_ = collect(model, reference, rollout, score, unfinished_penalty)
    mask = round_.sequences.attention_mask.clone()  # every token, the prompt's too
    mask[:, 0] = False  # before the first one there is no state
    return seen_through(mask, model, reference, round_)


def padding_counted(model, reference, rollout, score, unfinished_penalty):
    round_ = collect(model, reference, rollout, score, unfinished_penalty)
    mask = round_.sequences.response_mask.cummax(dim=1).values  # from the first response token to the end of the row
    return seen_through(mask, model, reference, round_)


def truncated_unscored(model, reference, rollout, score, unfinished_penalty):
    round_ = collect(model, reference, rollout, score, unfinished_penalty)
    return replace(round_, scores=round_.scores * rollout.finished)  # without EOS there is no place for the score


def values_after_the_token(values):
    return F.pad(values[:, 1:], (0, 1))  # column t: the state AFTER token t


def stale_logprobs(round_):
    return round_.ref_logprobs  # of the weights at the start: the sampler's copy was never renewed


def attached_advantages(logprobs, old_logprobs, whitened, values, old_values, mask, *, clip_coef):
    advantages = whitened + old_values - values  # renewed with the critic as it is now, and not detached
    ratio = (logprobs - old_logprobs).exp()
    objective = torch.minimum(ratio * advantages, ratio.clamp(1 - clip_coef, 1 + clip_coef) * advantages)
    _, metrics = policy_loss(logprobs, old_logprobs, whitened, values, old_values, mask, clip_coef=clip_coef)
    return -masked_mean(objective, mask), metrics


@torch.no_grad()
def seen_through(mask: Mask, model, reference, round_: Experience) -> Experience:
    """The same samples under another mask: log-probabilities and values wherever it is true."""
    sequences = round_.sequences
    sequences = replace(sequences, response_mask=mask, attention_mask=sequences.attention_mask | mask)
    logprobs, _, values = model(sequences)
    ref_logprobs = response_logprobs(reference, sequences)
    seen = {"kl": (logprobs - ref_logprobs).sum(dim=1).mean().item(), "length": mask.sum(dim=1).float().mean().item()}
    return Experience(sequences, logprobs, ref_logprobs, values, round_.scores, round_.metrics | seen)


BUGS = {
    "flipped reward": {"token_rewards": flipped_rewards},
    "prompt counted": {"collect": prompt_counted},
    "padding counted": {"collect": padding_counted},
    "constant KL": {"token_rewards": constant_kl},
    "stale log-probabilities": {"old_logprobs": stale_logprobs},
    "truncated unscored": {"collect": truncated_unscored},
    "values shifted": {"read_values": values_after_the_token},
    "advantages attached": {"policy_loss": attached_advantages},
}
HEALTHY = "healthy"
NAMES = (HEALTHY, *BUGS)


def parts_of(name: str) -> Parts:
    """The loop's parts under a bug, or as they should be."""
    return Parts(**BUGS.get(name, {}))


def mystery(seed: int) -> str:
    """Which of the eight it is."""
    return random.Random(f"clinic/{seed}").choice(list(BUGS))


# --- the loop with somebody else's loss --------------------------------------------------------------------------


def train_with(
    loss_of: Callable, policy, reference, tokenizer, prompts: list[str], score: Callable, *, iterations: int, seed: int,
    batch_size: int = 64, epochs: int = 4, learning_rate: float = 3e-4, max_new_tokens: int = 32, **settings,
) -> Iterator[dict[str, float]]:  # fmt: skip
    """PPO, one batch per round. `loss_of` gets the tables of a round as they are, prompt and padding in them, and the
    settings; with a healthy one this is `train.ppo` up to rounding."""
    model, optimiser, generator = prepared(policy, reference, learning_rate, seed)
    for rollout in rollouts(model, tokenizer, prompts, iterations, batch_size, max_new_tokens, generator):
        healthy = collect(model, reference, rollout, score, unfinished_penalty=0.0)
        answer = healthy.sequences.response_mask
        everything = torch.ones_like(answer)
        everything[:, 0] = False  # before the first token there is no state
        round_ = seen_through(everything, model, reference, healthy)
        is_padding = answer.cummax(dim=1).values & ~answer
        is_prompt = ~answer & ~is_padding
        history = []
        for rows in round_.minibatches(batch_size, epochs, generator):
            logprobs, _, values = model(round_.sequences.take(rows))
            tables = (round_.old_logprobs, round_.ref_logprobs, round_.old_values, round_.scores)
            masks = (rollout.finished, is_prompt, is_padding)
            loss = loss_of(logprobs, values, *(table[rows] for table in (*tables, *masks)), **settings)
            loss = loss[0] if isinstance(loss, tuple) else loss
            history.append(optimiser.step(loss, usual=round_.usual))
        yield healthy.metrics | average(history)
