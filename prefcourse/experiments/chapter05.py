"""Chapter 5: DPO over a grid of beta, learning rate and epochs, from three SFT models, each policy measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from prefcourse import annotators, evaluate, losses, models, train
from prefcourse.experiments import Experiment
from prefcourse.lab import Lab, lab
from prefcourse.train.supervised import steps_in

HELD_OUT, BATCH = 100, 64
ASKED = (14, 48, 85)  # rows of the prompts whose answers are kept
LOGGED = ("rewards/chosen", "rewards/rejected", "rewards/accuracies", "logps/chosen", "logps/rejected")


def pairs_of(here: Lab, per_prompt: int = 8) -> tuple[list[dict], list[dict]]:
    """Pairs to train on and the last hundred, held out: those of chapter 4, under any seed."""
    pairs = here.pairs(here.answers(per_prompt, seed=here.seed), annotators.population(), seed=here.seed)
    return pairs[:-HELD_OUT], pairs[-HELD_OUT:]


def train_and_look(
    here: Lab, pairs: list[dict], held_out: list[dict], *, beta: float, learning_rate: float, looks: Sequence[float],
    seed: int, samples: int = 4,
) -> Iterator[dict]:  # fmt: skip
    """One DPO run, planned for as many epochs as the last look; a row for each look, in epochs.

    The learning rate falls over the whole plan, as a cosine: a look after 2 of 8 epochs is no run of 2 epochs.
    """
    policy = models.trainable_copy(here.sft)
    at = {steps_in(look, len(pairs), BATCH): look for look in looks}
    loop = train.dpo(
        policy, here.sft, here.tokenizer, pairs, beta=beta, epochs=looks[-1], learning_rate=learning_rate,
        batch_size=BATCH, seed=seed,
    )  # fmt: skip
    seen = []
    for step, metrics in enumerate(loop, 1):
        seen.append(metrics["loss"])
        if step in at:
            yield {"epochs": at[step], "loss": sum(seen) / len(seen)} | look(here, policy, held_out, beta, samples)
            seen = []


def look(here: Lab, policy, held_out: list[dict], beta: float, samples: int) -> dict:
    """What is measured of a policy: on its own fresh answers, and on pairs that it has not seen."""
    measured = here.evaluate(policy, samples=samples)
    now, before = (evaluate.pair_logprobs(model, here.tokenizer, held_out) for model in (policy, here.sft))
    loss, metrics = losses.dpo_loss(*now, *before, beta=beta)
    rewards = {name: float(metrics[name]) for name in LOGGED}
    names = ("gold", "gold_se", "kl", "kl_se", "length", "finished", "distinct")
    texts = [measured.texts[row][0] for row in ASKED]
    return (
        {name: measured.metrics()[name] for name in names} | {"held_out_loss": float(loss)} | rewards | {"texts": texts}
    )


def grid(
    *, seed: int, betas: list[float], learning_rates: list[float], looks: list[int], per_prompt: int,
    frontier_betas: list[float], frontier_samples: int,
) -> dict:  # fmt: skip
    """A row per setting and look; the reference; and the exact frontier, from many answers of the reference."""
    here = lab(seed)
    training, held_out = pairs_of(here, per_prompt)
    rows = []
    for learning_rate in learning_rates:
        for beta in betas:
            settings = {"beta": beta, "learning_rate": learning_rate}
            try:
                for found in train_and_look(here, training, held_out, looks=looks, seed=seed, **settings):
                    rows.append(settings | rounded(found))
            except train.Diverged:
                continue  # what was seen before it diverged stays
    gold = evaluate.sample_gold(
        here.sft, here.tokenizer, here.world, here.prompts, samples=frontier_samples, seed=2000 + seed
    )
    points = [rounded(point._asdict()) for point in evaluate.optimal_frontier(gold, frontier_betas)]
    start = rounded(look(here, here.sft, held_out, 1.0, 4))
    return {
        "seed": seed,
        "pairs": len(training),
        "reference": start,
        "frontier": points,
        "rows": without_texts(rows, seed),
    }


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's: 1 if both put the settings into the same order, -1 into the opposite one; equals share a rank."""
    ranks = [(x[:, None] > x).sum(1) + 0.5 * (x[:, None] == x).sum(1) for x in (a.ravel(), b.ravel())]
    return float(np.corrcoef(*ranks)[0, 1])


def rounded(row: dict) -> dict:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}


def without_texts(rows: list[dict], seed: int) -> list[dict]:
    """Answers are kept of one seed: they are to be read."""
    return rows if seed == 0 else [{name: value for name, value in row.items() if name != "texts"} for row in rows]


GRID = {
    "betas": [0.03, 0.1, 0.3, 1.0, 3.0],
    "learning_rates": [2.5e-4, 5e-4, 1e-3, 2e-3, 4e-3],
    "looks": [1, 2, 4, 8],
    "per_prompt": 8,
    "frontier_betas": [20.0, 10.0, 5.0, 3.0, 2.0, 1.5, 1.0, 0.7, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05],
    "frontier_samples": 256,
}
EXPERIMENTS = [Experiment("05_grid", grid, tuple({"seed": seed} | GRID for seed in range(3)))]
