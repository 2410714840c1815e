"""TableWorld: a policy is a table of logits, P prompts by V responses, so every expectation is a short sum.

The oracle of the course: what an estimator estimates or an optimiser seeks is exact here. Prompts are equally
likely; a method that returns one number has averaged over them. A policy is given by any logits (and
log-probabilities are logits), -inf meaning never; everything is differentiable in them. Knows nothing of
tokens or of training.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def optimal_policy(
    ref_logprobs: Float[Tensor, "P V"], rewards: Float[Tensor, "P V"], beta: float
) -> Float[Tensor, "P V"]:
    """Which policy maximises E[reward] - beta KL(policy, reference)? Log-probabilities, one row per prompt (DPO,
    2305.18290, eq. 4). ValueError if beta is not above 0."""
    return _tilted(ref_logprobs, rewards, beta).log_softmax(-1)


def _tilted(ref_logprobs, rewards, beta):
    """The logits pi_ref exp(reward / beta); their logsumexp is log Z."""
    if not beta > 0:
        raise ValueError(f"beta must be above 0, not {beta}: with no pull to the reference, no tilt")
    return ref_logprobs + rewards / beta


def implicit_reward(
    policy_logprobs: Float[Tensor, "P V"], ref_logprobs: Float[Tensor, "P V"], beta: float
) -> Float[Tensor, "P V"]:
    """For which reward is this policy the optimum? Up to a constant per prompt (DPO, 2305.18290, eq. 5)."""
    return beta * (policy_logprobs - ref_logprobs)


@dataclass(frozen=True)
class TableWorld:
    """The reward of each response to each prompt, and the logits of the reference policy."""

    reward: Float[Tensor, "P V"]
    ref_logits: Float[Tensor, "P V"]

    def __post_init__(self):
        if self.reward.ndim != 2 or self.reward.shape != self.ref_logits.shape:
            raise ValueError(
                f"reward {tuple(self.reward.shape)} and ref_logits {tuple(self.ref_logits.shape)} must both "
                "be (prompts, responses); with a single prompt write reward[None]"
            )

    @classmethod
    def random(cls, prompts=4, responses=6, *, seed: int, reward_scale=1.0, ref_scale=1.0) -> TableWorld:
        """Normal rewards and reference logits with these standard deviations, in float64."""
        generator = torch.Generator().manual_seed(seed)
        reward, ref_logits = torch.randn(2, prompts, responses, generator=generator, dtype=torch.float64)
        return cls(reward * reward_scale, ref_logits * ref_scale)

    # What a policy is worth

    def log_ratio(self, logits: Float[Tensor, "P V"]) -> Float[Tensor, "P V"]:
        """log policy - log reference; 0 where the policy never goes."""
        policy = logits.log_softmax(-1)
        # masked after the subtraction: -inf - -inf is nan, yet a response of probability 0 costs no KL
        return (policy - self.ref_logits.log_softmax(-1)).masked_fill(policy == -torch.inf, 0.0)

    def kl(self, logits: Float[Tensor, "P V"]) -> Float[Tensor, ""]:
        """KL(policy, reference) in nats."""
        return _expectation(logits, self.log_ratio(logits))

    def entropy(self, logits: Float[Tensor, "P V"]) -> Float[Tensor, ""]:
        """In nats: 0 for a policy with one answer per prompt, log V for the uniform one."""
        policy = logits.log_softmax(-1)
        return -_expectation(logits, policy.masked_fill(policy == -torch.inf, 0.0))

    def expected_reward(self, logits: Float[Tensor, "P V"]) -> Float[Tensor, ""]:
        return _expectation(logits, self.reward)

    def objective(self, logits: Float[Tensor, "P V"], *, beta: float) -> Float[Tensor, ""]:
        """E[reward] - beta KL(policy, reference): what RLHF maximises."""
        return self.expected_reward(logits) - beta * self.kl(logits)

    def objective_gradient(self, logits: Float[Tensor, "P V"], *, beta: float) -> Float[Tensor, "P V"]:
        """The exact policy gradient: pi (A - E[A]) with A = reward - beta log ratio."""
        policy = logits.softmax(-1)
        advantage = self.reward - beta * self.log_ratio(logits)
        return policy * (advantage - (policy * advantage).sum(-1, keepdim=True)) / len(policy)

    # The best one can do

    def optimum(self, beta: float) -> Float[Tensor, "P V"]:
        """Log-probabilities of the policy that maximises `objective`."""
        return optimal_policy(self.ref_logits.log_softmax(-1), self.reward, beta)

    def optimal_value(self, beta: float) -> Float[Tensor, ""]:
        """The objective at its optimum, beta log Z: no policy does better."""
        return beta * _tilted(self.ref_logits.log_softmax(-1), self.reward, beta).logsumexp(-1).mean()

    def frontier(self, betas) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
        """(KL, reward) of the optimum at each beta: concave, of slope beta; no policy lies above it."""
        optima = [self.optimum(float(beta)) for beta in betas]
        points = torch.stack([torch.stack([self.kl(o), self.expected_reward(o)]) for o in optima])  # (N, 2)
        return points[:, 0], points[:, 1]

    def implicit_reward(self, logits: Float[Tensor, "P V"], *, beta: float) -> Float[Tensor, "P V"]:
        """`implicit_reward` of this policy, in this world: -inf for what it never says, though the reference does."""
        return implicit_reward(logits.log_softmax(-1), self.ref_logits.log_softmax(-1), beta)

    # Preferences

    def preference_probabilities(self) -> Float[Tensor, "P V V"]:
        """[x, i, j]: how often a Bradley-Terry annotator prefers response i to response j."""
        return torch.sigmoid(self.reward[:, :, None] - self.reward[:, None, :])

    def pair_weights(self, data_logits: Float[Tensor, "P V"] | None = None) -> Float[Tensor, "P V V"]:
        """[x, i, j]: how often two unlike draws from the data policy (default: the reference) are i and j."""
        data = (self.ref_logits if data_logits is None else data_logits).softmax(-1)
        itself = torch.eye(data.shape[1], dtype=torch.bool)  # comparing a response with itself says nothing
        weights = (data[:, :, None] * data[:, None, :]).masked_fill(itself, 0.0)
        return weights / weights.sum((1, 2), keepdim=True)

    def labelled_pairs(self, data_logits: Float[Tensor, "P V"] | None = None) -> Float[Tensor, "P V V"]:
        """[x, i, j]: how often a labelled pair has i chosen and j rejected; sums to 1 for each prompt."""
        # (i, j) and (j, i) are drawn equally often and are the same question, hence the 2
        return 2 * self.pair_weights(data_logits) * self.preference_probabilities()

    def dpo_population_loss(
        self, logits: Float[Tensor, "P V"], *, beta: float, data_logits: Float[Tensor, "P V"] | None = None
    ) -> Float[Tensor, ""]:
        """The DPO loss on infinitely many pairs; `optimum(beta)` minimises it if they show all responses."""
        rewards = beta * self.log_ratio(logits)  # finite also for what the policy never says
        margins = rewards[:, :, None] - rewards[:, None, :]
        return -(self.labelled_pairs(data_logits) * F.logsigmoid(margins)).sum((1, 2)).mean()

    # Samples

    def sample(self, logits: Float[Tensor, "P V"], count: int, *, generator: torch.Generator) -> Int[Tensor, "P N"]:
        """`count` responses to every prompt, as column numbers."""
        return logits.detach().softmax(-1).multinomial(count, replacement=True, generator=generator)

    def sample_pairs(
        self, count: int, *, generator: torch.Generator, data_logits: Float[Tensor, "P V"] | None = None
    ) -> tuple[Int[Tensor, " N"], Int[Tensor, " N"], Int[Tensor, " N"]]:
        """(prompt, chosen, rejected) of `count` labelled pairs: a table is read at [prompt, chosen]."""
        joint = self.labelled_pairs(data_logits)
        cell = joint.flatten().multinomial(count, replacement=True, generator=generator)
        return torch.unravel_index(cell, joint.shape)


def _expectation(logits: Float[Tensor, "P V"], quantity: Float[Tensor, "P V"]) -> Float[Tensor, ""]:
    return (logits.softmax(-1) * quantity).sum(-1).mean()
