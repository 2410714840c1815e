"""A reward model and two policies from one person's few labels, and what these policies answer. Draws nothing.

A generator, so that whoever drives it can show how far it is, or stop. Too few or too contradictory labels end in a
sentence (`TooLittle`), never in a number that means nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from prefcourse import evaluate, models, train
from prefcourse.evaluate import Evaluation, Share
from prefcourse.lab import Lab
from prefcourse.rollout import sample
from prefcourse.train.supervised import steps_in

FEWEST, ASKED, FOLDS = 8, 5, 5  # labels; questions shown; parts for cross-validation
BATCH, EPOCHS, DPO_EPOCHS, REACH = 16, 12, 20, 2.5
PPO_ROUNDS = 20


class TooLittle(ValueError):
    """The labels do not say enough to learn from. The message is for the person who gave them."""


class Step(NamedTuple):
    share: float  # of all work, 0 to 1
    words: str


@dataclass(frozen=True, eq=False)
class Learned:
    """What came out. `policies` and `seen` have "before", "DPO", "PPO" in this order."""

    labels: int
    predicted: Share  # of each fold's labels by a reward model that has not seen them
    reward_model: models.RewardModel
    policies: dict[str, object]
    seen: dict[str, Evaluation]
    asked: list[int]  # rows of the prompts whose answers are shown

    def answers(self) -> list[tuple[str, dict[str, str]]]:
        """Some questions, and each policy's first answer to them."""
        any_ = next(iter(self.seen.values()))
        return [(any_.prompts[row], {name: e.texts[row][0] for name, e in self.seen.items()}) for row in self.asked]


def learn(lab: Lab, rows: Sequence[dict], *, seed: int = 0) -> Iterator[Step]:
    """Yields how far it is and returns a `Learned`: `result = yield from learn(...)`."""
    rows = list(rows)
    if len(rows) < FEWEST:
        raise TooLittle(
            f"There are {len(rows)} decided labels so far (ties do not count). From {FEWEST} on a model can try to "
            "learn from them; from about 30 on it usually succeeds. Label some more and train again."
        )
    try:
        return (yield from _learn(lab, rows, seed))
    except train.Diverged:
        raise TooLittle(
            "Training did not settle on these labels: they ask for something that is hardly ever in the answers, or "
            "contradict one another. Add some labels, or pick one habit that you can see in many answers."
        ) from None


def _learn(lab: Lab, rows: list[dict], seed: int) -> Iterator[Step]:
    yield Step(0.02, "reading your labels")
    hits = yield from predicted_unseen(lab, rows, seed)
    yield Step(0.2, "a reward model learns from all your labels")
    reward_model = fit(lab, rows, seed)
    settle(lab, reward_model, seed)
    policies = {"before": lab.sft, "DPO": models.trainable_copy(lab.sft), "PPO": models.trainable_copy(lab.sft)}
    score = evaluate.model_score(models.frozen_copy(reward_model))
    total = steps_in(DPO_EPOCHS, len(rows), BATCH)
    loop = within_reach(lab, policies["DPO"], dpo(lab, policies["DPO"], rows, seed))
    yield from _follow(loop, 0.25, 0.4, "DPO learns from the same labels", total)
    ppo = train.ppo(
        policies["PPO"], lab.sft, lab.tokenizer, lab.prompts, score, beta=0.1, iterations=PPO_ROUNDS,
        learning_rate=1e-3, seed=seed,
    )  # fmt: skip
    yield from _follow(ppo, 0.4, 0.95, "PPO asks the reward model, round by round", PPO_ROUNDS)
    yield Step(0.95, "asking all three for answers")
    seen = {name: lab.evaluate(policy, score=score, samples=2) for name, policy in policies.items()}
    asked = np.random.default_rng(seed).choice(len(lab.prompts), ASKED, replace=False).tolist()
    return Learned(len(rows), hits, reward_model, policies, seen, asked)


def _follow(loop: Iterator[dict], start: float, end: float, words: str, total: int) -> Iterator[Step]:
    for done, _ in enumerate(loop, 1):
        yield Step(start + (end - start) * done / total, words)


def fit(lab: Lab, rows: Sequence[dict], seed: int) -> models.RewardModel:
    model = models.RewardModel.from_lm(lab.sft)
    loop = train.reward_model(
        model, lab.tokenizer, rows, epochs=EPOCHS, batch_size=BATCH, learning_rate=2e-3, seed=seed
    )
    for _ in loop:  # not finish(): Stop must stop everything
        pass
    return model


def settle(lab: Lab, reward_model: models.RewardModel, seed: int) -> None:
    """Scores of the SFT model's answers get mean 0 and standard deviation 1, if they differ at all."""
    generator = torch.Generator().manual_seed(seed)
    fresh = sample(lab.sft, lab.tokenizer, lab.prompts * 2, max_new_tokens=32, generator=generator)
    try:
        evaluate.standardise(reward_model, fresh.sequences.left_aligned())
    except ValueError:
        raise TooLittle(
            "The reward model gives every answer the same score: your labels contradict one another too evenly. "
            "Decide on one thing you like, label some more with it in mind, and train again."
        ) from None


def dpo(lab: Lab, policy, rows: Sequence[dict], seed: int) -> Iterator[dict]:
    return train.dpo(
        policy, lab.sft, lab.tokenizer, rows, beta=0.1, epochs=DPO_EPOCHS, batch_size=BATCH, learning_rate=5e-4,
        seed=seed,
    )  # fmt: skip


def within_reach(lab: Lab, policy, loop: Iterator[dict]) -> Iterator[dict]:
    """DPO on some thirty pairs, until it is REACH nats away: further out it forgets how to speak."""
    for step, metrics in enumerate(loop, 1):
        yield metrics
        if step % 2 == 0 and lab.evaluate(policy, samples=1).kl.mean > REACH:
            return


def predicted_unseen(lab: Lab, rows: list[dict], seed: int) -> Iterator[Step]:
    """Share of the labels that a reward model predicts which has not seen them: five folds, and all labels on one
    pair in the same fold."""
    pair = [(row["prompt"], *sorted((row["chosen"], row["rejected"]))) for row in rows]
    different = list(dict.fromkeys(pair))
    order = np.random.default_rng(seed).permutation(len(different))
    fold_of = {different[place]: number % FOLDS for number, place in enumerate(order.tolist())}
    right = 0.0
    for fold in range(min(FOLDS, len(different))):
        yield Step(0.03 + 0.17 * fold / FOLDS, "how well can your labels be predicted?")
        inside = [row for row, name in zip(rows, pair, strict=True) if fold_of[name] != fold]
        outside = [row for row, name in zip(rows, pair, strict=True) if fold_of[name] == fold]
        chosen, rejected = evaluate.read_pairs(fit(lab, inside, seed), lab.tokenizer, outside)
        right += (chosen > rejected).sum().item() + 0.5 * (chosen == rejected).sum().item()
    return evaluate.wilson(right, len(rows))


def verdict(learned: Learned) -> str:
    """What one may conclude, in two sentences or three."""
    before, dpo_, ppo = learned.seen.values()
    rate, low, _ = learned.predicted
    found = f"A reward model predicts {rate:.0%} of your labels without having seen them"
    if low <= 0.5:
        found += ", which a coin might do, too: what follows may be chance rather than taste"
    return (
        f"{found}. Mean length went from {before.length:.1f} tokens to {dpo_.length:.1f} (DPO) and {ppo.length:.1f} "
        f"(PPO), gold from {before.gold.mean:.2f} to {dpo_.gold.mean:.2f} and {ppo.gold.mean:.2f}."
    )
