"""The course's standard experiment: a world, a model that has seen its demonstrations, labels, a reward model.

    here = lab(seed=0)                     # the SFT model is trained once, then comes from the cache
    pairs = here.pairs(here.answers(16, seed=1), annotators.population(), seed=1)
    reward_model = here.reward_model(pairs)

Knows the settings with which the lab's claims were measured. Draws nothing and judges nothing.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from prefcourse import cache, evaluate, models, train
from prefcourse.data.pairs import annotate, pairs_from_votes
from prefcourse.evaluate import Evaluation
from prefcourse.progress import progress, quiet_transformers
from prefcourse.rollout import Answers, answer_twice, sample
from prefcourse.worlds.pocket import MAX_RESPONSE_TOKENS, PocketWorld

SFT_STEPS, DEMONSTRATIONS, SFT_LEARNING_RATE = 600, 6000, 1e-2
REWARD_EPOCHS, REWARD_LEARNING_RATE = 4, 2e-3


@dataclass(frozen=True)
class Lab:
    """A world, its tokenizer and a frozen SFT model: where every comparison begins."""

    sft: torch.nn.Module
    seed: int
    world: PocketWorld = field(default_factory=PocketWorld)

    @cached_property
    def tokenizer(self):
        return self.world.tokenizer()

    @property
    def prompts(self) -> list[str]:
        return self.world.prompts("train")

    def evaluate(self, policy, *, samples: int = 4, seed: int | None = None, score=None) -> Evaluation:
        """The policy on the training prompts, KL from the SFT model."""
        return evaluate.evaluate_policy(
            policy, self.tokenizer, self.world, self.prompts, reference=self.sft, samples=samples, score=score,
            seed=1000 + self.seed if seed is None else seed,
        )  # fmt: skip

    def answers(self, per_prompt: int, *, seed: int) -> Answers:
        """Two whole answers of the SFT model to every prompt, `per_prompt` times over."""
        generator = torch.Generator().manual_seed(seed)
        asked = self.prompts * per_prompt
        drawn = answer_twice(self.sft, self.tokenizer, asked, max_new_tokens=MAX_RESPONSE_TOKENS, generator=generator)
        return drawn.both_finished()

    def pairs(self, answers: Answers, people, *, seed: int) -> list[dict]:
        """One label on each pair of answers, by people drawn at random."""
        votes = annotate(self.world, answers.texts, people, seed=seed, finished=answers.finished)
        return pairs_from_votes(answers.texts, votes)

    def reward_model(self, pairs: list[dict], *, epochs: float = REWARD_EPOCHS) -> models.RewardModel:
        """A frozen reward model on these labels; its scores have mean 0 and deviation 1 on answers of the SFT model."""
        made = models.RewardModel.from_lm(self.sft)
        loop = train.reward_model(
            made, self.tokenizer, pairs, epochs=epochs, learning_rate=REWARD_LEARNING_RATE, seed=self.seed
        )
        train.finish(loop)
        fresh = sample(
            self.sft, self.tokenizer, self.prompts * 4, max_new_tokens=MAX_RESPONSE_TOKENS,
            generator=torch.Generator().manual_seed(self.seed),
        )  # fmt: skip
        evaluate.standardise(made, fresh.sequences.left_aligned())
        return models.frozen_copy(made)


def lab(seed: int = 0, *, size: str = "xs", steps: int = SFT_STEPS, demonstrations: int = DEMONSTRATIONS) -> Lab:
    """The lab of that seed. Its SFT model is trained (seconds to a minute) or comes from the user's cache."""
    quiet_transformers()
    settings = {"seed": seed, "size": size, "steps": steps, "demonstrations": demonstrations}
    settings |= {"learning_rate": SFT_LEARNING_RATE, "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not cache.load("lab-sft", settings, folder):
            world = PocketWorld()
            model = models.tiny_lm(world.tokenizer(), size, seed=seed)
            loop = train.sft(
                model, world.tokenizer(), world.demonstrations(demonstrations, seed), steps=steps,
                learning_rate=SFT_LEARNING_RATE, seed=seed,
            )  # fmt: skip
            train.finish(progress(loop, "SFT model of the lab", steps))
            model.save_pretrained(folder)
            cache.store("lab-sft", settings, folder)
        return Lab(models.frozen_copy(models.load_lm(folder)), seed)
