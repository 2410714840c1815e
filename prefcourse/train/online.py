"""Loops that learn from the policy's own samples: PPO, RLOO, GRPO and online DPO.

One round of each is: sample, score, compare with the reference, update. `score` is any function from a `Rollout` to a
(B,) tensor: a reward model's, the world's gold, or your own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from prefcourse import losses
from prefcourse.advantages import (
    gae,
    grpo_advantages,
    kl_k3,
    masked_mean,
    masked_whiten,
    rloo_advantages,
    token_rewards,
)
from prefcourse.backbone import response_logprobs, scatter
from prefcourse.models import PolicyWithValue
from prefcourse.rollout import Rollout, sample
from prefcourse.sequences import Sequences, batches
from prefcourse.train.common import Optimiser, check_beta, floats, trainable
from prefcourse.train.supervised import sequence_sums

GUARD = {"far": 100.0, "advice": "a larger beta, or look for odd scores"}
Score = Callable[[Rollout], Float[Tensor, " B"]]


@dataclass(frozen=True)
class Experience:
    """One round of samples, rows beginning in column 0, with all that the update needs and must not change."""

    sequences: Sequences
    old_logprobs: Float[Tensor, "B T"]  # from the sampler, as are the values: no second forward pass
    ref_logprobs: Float[Tensor, "B T"]
    old_values: Float[Tensor, "B T"]  # 0 without a critic
    scores: Float[Tensor, " B"]
    metrics: dict[str, float]

    @property
    def usual(self) -> float:
        """A size that no healthy loss exceeds a hundredfold: critics square the scores."""
        return 1.0 + self.scores.square().mean().item()

    def minibatches(self, size: int, epochs: int, generator: torch.Generator) -> Iterator[Tensor]:
        for _ in range(epochs):
            yield from batches(self.sequences.lengths, size, generator, pool=1)


class Prompter:
    """Prompts in shuffled epochs, `count` at a time, each repeated `copies` times in a row."""

    def __init__(self, prompts: list[str], generator: torch.Generator):
        if not prompts:
            raise ValueError("prompts is empty; give at least one")
        self.prompts, self.generator, self.queue = list(prompts), generator, []

    def next(self, count: int, copies: int = 1) -> list[str]:
        while len(self.queue) < count:
            self.queue += torch.randperm(len(self.prompts), generator=self.generator).tolist()
        rows, self.queue = self.queue[:count], self.queue[count:]
        return [self.prompts[row] for row in rows for _ in range(copies)]


@torch.no_grad()
def experience(reference, rollout: Rollout, score: Score, unfinished_penalty: float) -> Experience:
    """Score a rollout and read the reference's log-probabilities of it."""
    scores = score(rollout).detach().float().to(rollout.logprobs.device)
    if scores.shape != (len(rollout.prompts),) or not torch.isfinite(scores).all():
        found = f"shape {tuple(scores.shape)}, finite: {bool(torch.isfinite(scores).all())}"
        raise ValueError(f"score must give {len(rollout.prompts)} finite numbers, one per response; it gave {found}")
    sequences = rollout.sequences.left_aligned()

    def aligned(sampled: Float[Tensor, "B T"] | None) -> Float[Tensor, "B T"]:
        flat = rollout.logprobs.new_zeros(()) if sampled is None else sampled[rollout.sequences.response_mask]
        return scatter(flat.expand(int(sequences.lengths.sum())), sequences.response_mask)

    old_logprobs = aligned(rollout.logprobs)
    ref_logprobs = response_logprobs(reference, sequences).to(old_logprobs.device)
    metrics = {
        "score": scores.mean(),
        "kl": (old_logprobs - ref_logprobs).sum(dim=1).mean(),
        "length": sequences.lengths.float().mean(),
        "finished": rollout.finished.float().mean(),
    }
    scores = scores - unfinished_penalty * (~rollout.finished)
    return Experience(sequences, old_logprobs, ref_logprobs, aligned(rollout.values), scores, floats(metrics))


def check_apart(policy, reference) -> None:
    """ValueError if the policy cannot move, or would take its reference along."""
    own = {id(parameter) for parameter in trainable(policy)}
    if any(id(parameter) in own for parameter in reference.parameters()):
        raise ValueError("reference and policy share their weights; give models.frozen_copy(policy) as reference")


def average(history: list[dict[str, float]]) -> dict[str, float]:
    return {key: sum(metrics[key] for metrics in history) / len(history) for key in history[0]}


def ppo(
    policy, reference, tokenizer, prompts: list[str], score: Score, *, beta: float, iterations: int, seed: int,
    batch_size: int = 64, minibatch_size: int = 64, epochs: int = 4, learning_rate: float = 3e-4,
    max_new_tokens: int = 32, clip_coef: float = 0.2, vf_coef: float = 0.1, gamma: float = 1.0,
    gae_lambda: float = 0.95, unfinished_penalty: float = 1.0,
) -> Iterator[dict[str, float]]:  # fmt: skip
    """Proximal policy optimisation with a KL penalty per token (Ziegler et al. 2019; InstructGPT, 2203.02155, eq. 2).

    Trains `policy` (a language model, or a `PolicyWithValue` whose critic is to be kept) in place; critic and policy
    share the trunk. Yields after each round of sampling and `epochs` passes over its samples. `beta` may be a tensor of
    one number that the caller changes between rounds, to steer the KL: each round reads it afresh.
    """
    check_beta(beta)
    model = policy if isinstance(policy, PolicyWithValue) else PolicyWithValue(policy)
    check_apart(model.lm, reference)
    generator = torch.Generator().manual_seed(seed)
    prompter, optimiser = Prompter(prompts, generator), Optimiser(model, learning_rate, **GUARD)
    for _ in range(iterations):
        rollout = sample(
            model.lm, tokenizer, prompter.next(batch_size), max_new_tokens=max_new_tokens, generator=generator,
            value_head=model.value_head,
        )  # fmt: skip
        optimiser.refuse_unless_finite("log-probability of the samples", rollout.logprobs.sum())
        round_ = experience(reference, rollout, score, unfinished_penalty)
        mask = round_.sequences.response_mask
        rewards = token_rewards(round_.scores, round_.old_logprobs, round_.ref_logprobs, mask, beta=beta)
        advantages, returns = gae(rewards, round_.old_values, mask, gamma=gamma, gae_lambda=gae_lambda)
        advantages, history = masked_whiten(advantages, mask), []
        for rows in round_.minibatches(minibatch_size, epochs, generator):
            loss, metrics = ppo_loss(model, round_, advantages, returns, rows, clip_coef=clip_coef, vf_coef=vf_coef)
            history.append(floats(metrics) | optimiser.step(loss, usual=round_.usual))
        yield round_.metrics | average(history)


def ppo_loss(
    model: PolicyWithValue,
    round_: Experience,
    advantages: Tensor,
    returns: Tensor,
    rows: Tensor,
    *,
    clip_coef,
    vf_coef,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Clipped policy loss plus vf_coef times the critic's, on some rows of a round."""
    batch = round_.sequences.take(rows)
    mask, width = batch.response_mask, batch.input_ids.shape[1]
    logprobs, entropy, values = model(batch)
    old_logprobs, old_values = round_.old_logprobs[rows, :width], round_.old_values[rows, :width]
    loss, metrics = losses.ppo_clip_loss(logprobs, old_logprobs, advantages[rows, :width], mask, clip_coef=clip_coef)
    critic_loss, critic_metrics = losses.value_loss(values, old_values, returns[rows, :width], mask)
    metrics |= critic_metrics | {"policy_loss": loss.detach(), "entropy": masked_mean(entropy, mask)}
    return loss + vf_coef * critic_loss, metrics


def grouped(
    policy, reference, tokenizer, prompts, score, *, advantages_of: Callable, update: Callable, iterations: int,
    seed: int, batch_size: int, group_size: int, epochs: int, learning_rate: float, max_new_tokens: int,
    unfinished_penalty: float,
) -> Iterator[dict[str, float]]:  # fmt: skip
    """The common shape of RLOO and GRPO: `group_size` responses to each prompt, compared with one another."""
    if batch_size % group_size:
        raise ValueError(f"batch_size {batch_size} is not a multiple of group_size {group_size}")
    check_apart(policy, reference)
    generator = torch.Generator().manual_seed(seed)
    prompter, optimiser = Prompter(prompts, generator), Optimiser(policy, learning_rate, **GUARD)
    for _ in range(iterations):
        asked = prompter.next(batch_size // group_size, copies=group_size)
        rollout = sample(policy, tokenizer, asked, max_new_tokens=max_new_tokens, generator=generator)
        optimiser.refuse_unless_finite("log-probability of the samples", rollout.logprobs.sum())
        round_ = experience(reference, rollout, score, unfinished_penalty)
        advantages = advantages_of(round_)
        history = []
        for rows in round_.minibatches(batch_size, epochs, generator):
            batch = round_.sequences.take(rows)
            width = batch.input_ids.shape[1]
            logprobs = response_logprobs(policy, batch)
            old, ref = round_.old_logprobs[rows, :width], round_.ref_logprobs[rows, :width]
            loss, metrics = update(logprobs, old, ref, advantages[rows], batch.response_mask)
            history.append(floats(metrics) | optimiser.step(loss, usual=round_.usual))
        yield round_.metrics | average(history)


def grpo(
    policy, reference, tokenizer, prompts: list[str], score: Score, *, beta: float, iterations: int, seed: int,
    batch_size: int = 64, group_size: int = 4, epochs: int = 1, learning_rate: float = 1e-3, max_new_tokens: int = 32,
    clip_low: float = 0.2, clip_high: float = 0.2, scale: bool = True, how: str = "sequence",
    unfinished_penalty: float = 1.0,
) -> Iterator[dict[str, float]]:  # fmt: skip
    """Group-relative policy optimisation (DeepSeekMath, 2402.03300, eq. 3): PPO's clip, no critic, k3 in the loss.

    `scale=False, how="constant"` is Dr. GRPO (2503.20783); `how="token"` with `clip_high` above `clip_low` is the
    heart of DAPO (2503.14476).
    """

    check_beta(beta)

    def advantages_of(round_: Experience) -> Float[Tensor, " B"]:
        return grpo_advantages(round_.scores.view(-1, group_size), scale=scale).flatten()

    def update(logprobs, old_logprobs, ref_logprobs, advantages, mask):
        per_token = advantages[:, None]
        token_losses = losses.ppo_token_losses(
            logprobs, old_logprobs, per_token, clip_low=clip_low, clip_high=clip_high
        ) + beta * kl_k3(logprobs, ref_logprobs)
        constant = max_new_tokens if how == "constant" else None
        return losses.aggregate(token_losses, mask, how=how, constant=constant), {}

    return grouped(
        policy, reference, tokenizer, prompts, score, advantages_of=advantages_of, update=update, iterations=iterations,
        seed=seed, batch_size=batch_size, group_size=group_size, epochs=epochs, learning_rate=learning_rate,
        max_new_tokens=max_new_tokens, unfinished_penalty=unfinished_penalty,
    )  # fmt: skip


def rloo(
    policy, reference, tokenizer, prompts: list[str], score: Score, *, beta: float, iterations: int, seed: int,
    batch_size: int = 64, group_size: int = 4, learning_rate: float = 1e-3, max_new_tokens: int = 32,
    unfinished_penalty: float = 1.0,
) -> Iterator[dict[str, float]]:  # fmt: skip
    """REINFORCE with a leave-one-out baseline (2402.14740): the KL penalty is part of each response's reward."""

    check_beta(beta)

    def advantages_of(round_: Experience) -> Float[Tensor, " B"]:
        log_ratio = (round_.old_logprobs - round_.ref_logprobs).sum(dim=1)
        return rloo_advantages((round_.scores - beta * log_ratio).view(-1, group_size)).flatten()

    def update(logprobs, old_logprobs, ref_logprobs, advantages, mask):
        return losses.policy_gradient_loss(logprobs, advantages[:, None], mask)

    return grouped(
        policy, reference, tokenizer, prompts, score, advantages_of=advantages_of, update=update, iterations=iterations,
        seed=seed, batch_size=batch_size, group_size=group_size, epochs=1, learning_rate=learning_rate,
        max_new_tokens=max_new_tokens, unfinished_penalty=unfinished_penalty,
    )  # fmt: skip


def online_dpo(
    policy, reference, tokenizer, prompts: list[str], score: Score, *, beta: float, iterations: int, seed: int,
    batch_size: int = 64, learning_rate: float = 5e-4, max_new_tokens: int = 32, loss: Callable = losses.dpo_loss,
) -> Iterator[dict[str, float]]:  # fmt: skip
    """DPO on fresh pairs (OAIF, 2402.04792): two samples per prompt, the better score is chosen, one update.

    No gradient flows through the sampling. A pair with equal scores says nothing and is left out.
    """
    check_beta(beta)
    check_apart(policy, reference)
    generator = torch.Generator().manual_seed(seed)
    prompter, optimiser = Prompter(prompts, generator), Optimiser(policy, learning_rate, advice=GUARD["advice"])
    for _ in range(iterations):
        asked = prompter.next(batch_size, copies=2)
        rollout = sample(policy, tokenizer, asked, max_new_tokens=max_new_tokens, generator=generator)
        optimiser.refuse_unless_finite("log-probability of the samples", rollout.logprobs.sum())
        round_ = experience(reference, rollout, score, unfinished_penalty=0.0)
        pairs = round_.scores.view(-1, 2)
        decided = (pairs[:, 0] != pairs[:, 1]).nonzero().squeeze(1)
        if len(decided) == 0:  # nothing to learn from this round
            yield round_.metrics | {"decided": 0.0}
            continue
        better = 2 * decided + pairs[decided].argmax(dim=1)
        worse = 2 * decided + pairs[decided].argmin(dim=1)
        rows = torch.cat([better, worse])
        ref_sums = round_.ref_logprobs.sum(dim=1)
        policy_sums = sequence_sums(policy, round_.sequences.take(rows))
        value, metrics = loss(*policy_sums.chunk(2), ref_sums[better], ref_sums[worse], beta=beta)
        yield (round_.metrics | floats(metrics) | optimiser.step(value) | {"decided": len(decided) / len(pairs)})
