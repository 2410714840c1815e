"""Chapter 7: DPO, cDPO and rDPO on flipped labels; labels wrong by chance and labels wrong by a bias; whom to believe.

Knows whose labels are wrong and why, and how a policy is trained on them; draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from prefcourse import annotators, evaluate, losses, models, train
from prefcourse.annotators import Annotator
from prefcourse.data.pairs import gaps
from prefcourse.evaluate import Estimate
from prefcourse.experiments import Experiment, load
from prefcourse.lab import Lab, lab

SEEDS = (0, 1, 2)
LOSSES = {
    "cDPO": lambda flips: partial(losses.cdpo_loss, label_smoothing=flips),
    "DPO": lambda flips: losses.dpo_loss,
    "rDPO": lambda flips: partial(losses.rdpo_loss, flip_probability=flips),
}
ALIKE = 0.0  # without flips the three are one


def labelled(here: Lab, per_prompt: int, *, per_word: float = 0.0) -> list[dict]:
    """Pairs of the SFT model's answers, labelled by gold plus so much for each word. Ties in gold are left out."""
    answers = here.answers(per_prompt, seed=here.seed)
    gold, words, _ = map(np.array, gaps(here.world, *answers))
    first_is_chosen = gold + per_word * words > 0
    return [
        {"prompt": prompt, "chosen": first if yes else second, "rejected": second if yes else first}
        for (prompt, first, second), yes, gap in zip(answers.texts, first_is_chosen, gold, strict=True)
        if gap
    ]


def flipped(pairs: list[dict], flips: float, *, seed: int) -> list[dict]:
    """Each label is turned with probability `flips`; what is turned at 10 % is turned at 20 %, too."""
    draw = np.random.default_rng(seed).random(len(pairs))
    turned = [pair | {"chosen": pair["rejected"], "rejected": pair["chosen"]} for pair in pairs]
    return [other if u < flips else pair for pair, other, u in zip(pairs, turned, draw, strict=True)]


def trained(here: Lab, pairs: list[dict], *, beta: float, steps: int, learning_rate: float, loss: Callable):
    """A policy after `steps` batches of 64, whatever the number of pairs."""
    policy = models.trainable_copy(here.sft)
    epochs = steps / -(-len(pairs) // 64)
    settings = {"beta": beta, "epochs": epochs, "learning_rate": learning_rate, "loss": loss, "seed": here.seed}
    train.finish(train.dpo(policy, here.sft, here.tokenizer, pairs, **settings))
    return policy


def measured(here: Lab, policy) -> dict:
    found = here.evaluate(policy, samples=8).metrics()
    return {name: round(found[name], 4) for name in ("gold", "gold_se", "kl", "kl_se", "length")}


def noise(*, seed: int, flips: Sequence[float], per_prompt: int, **settings) -> list[dict]:
    """A row for each share of flips and each loss, which knows that share."""
    here = lab(seed)
    pairs = labelled(here, per_prompt)
    rows = []
    for share in flips:
        for name in LOSSES if share != ALIKE else ("DPO",):
            policy = trained(here, flipped(pairs, share, seed=seed), loss=LOSSES[name](share), **settings)
            rows.append({"loss": name, "flips": share, "pairs": len(pairs)} | measured(here, policy))
    return rows


def wrong(*, seed: int, sizes: Sequence[int], per_prompt: int, per_word: float, **settings) -> list[dict]:
    """DPO on few and many labels: all right; by somebody who likes long answers; as many wrong ones, by chance."""
    here = lab(seed)
    right, biased = labelled(here, per_prompt), labelled(here, per_prompt, per_word=per_word)
    share = sum(a["chosen"] != b["chosen"] for a, b in zip(right, biased, strict=True)) / len(right)
    order = np.random.default_rng(seed).permutation(len(right))
    kinds = {"right": right, "noise": flipped(right, share, seed=seed), "bias": biased}
    rows = []
    for size in sizes:
        for kind, pairs in kinds.items():
            policy = trained(here, [pairs[i] for i in order[:size]], loss=losses.dpo_loss, **settings)
            rows.append({"labels": kind, "pairs": size, "wrong": round(share, 4)} | measured(here, policy))
    return rows


# --- tables and people: quick enough for a lesson --------------------------------------------------------------


def gap(values: Float[Tensor, "*P A"]) -> Float[Tensor, "*P A A"]:
    """Of each answer against each."""
    return values[..., :, None] - values[..., None, :]


def fit(wins: Float[Tensor, "*P A A"], steps: int = 1000) -> Float[Tensor, "*P A"]:
    """Chapter 6's Bradley-Terry scores for shares of votes: a score rises while its answer wins more than expected."""
    scores = torch.zeros_like(wins[..., 0])
    for _ in range(steps):
        scores = scores + 4 * (wins - torch.sigmoid(gap(scores))).mean(-1)
    return scores


def few_votes(
    wins: Float[Tensor, "*P A A"], votes: int, *, generator: torch.Generator
) -> Float[Tensor, "*P A A"]:  # fmt: skip
    """Shares after so many votes on each pair, half a vote added to either side: no pair is unanimous."""
    first = torch.binomial(torch.full_like(wins, votes), wins, generator=generator)
    share = ((first + 0.5) / (votes + 1)).triu(1)  # of i against j with i < j; the rest is their mirror image
    return share + (1 - share.mT).tril(-1) + torch.eye(wins.shape[-1]) / 2


def explained(scores: Float[Tensor, "P A"], *causes: Float[Tensor, "P A"]) -> list[float]:
    """Least squares: how much of each cause is in the scores, apart from an offset for each prompt?"""
    columns = [(q - q.mean(-1, keepdim=True)).flatten() for q in (scores, *causes)]
    return torch.linalg.lstsq(torch.stack(columns[1:], -1), columns[0][:, None]).solution.flatten().tolist()


def wrong_way_round(scores: Float[Tensor, "P A"], truth: Float[Tensor, "P A A"]) -> float:
    """Share of the pairs of answers whose scores stand in the other order than the truth."""
    pairs = scores.shape[-1] * (scores.shape[-1] - 1) * len(scores)
    return (gap(scores) * truth < 0).sum().item() / pairs


def gain(start: Float[Tensor, "P A"], tilt: Float[Tensor, "P A"], want: Float[Tensor, "P A"]) -> float:
    """How much more of what one wants does the tilted policy give than the one that it started from?"""
    change = (start + tilt).softmax(-1) - start.softmax(-1)
    return (change * want).sum(-1).mean().item()


def crowd(how_many: int, others: str, *, seed: int) -> list[Annotator]:
    """Twenty people: first the others ("spammers" or "lovers of length"), and the rest are careful."""
    careful = annotators.careful_population(seed)[how_many:]
    if others == "spammers":
        return [Annotator(f"spammer-{n}", 0.0, lapse=1.0) for n in range(1, how_many + 1)] + careful
    lovers = annotators.length_biased_population(seed)[:how_many]
    return [replace(person, name=f"lover-{n}") for n, person in enumerate(lovers, 1)] + careful


def ask(people: Sequence[Annotator], votes: int, *, seed: int, pairs: int = 600):
    """Which response of each pair is better; how often each person says so in the long run, by name; and the votes:
    number of the pair, number of the person, and whether "first" was said."""
    draw = np.random.default_rng(seed)
    features, number = annotators.random_features(pairs, generator=draw), {p.name: n for n, p in enumerate(people)}
    cast = annotators.label_pairs(people, features, per_item=votes, generator=draw)
    better = (np.arange(pairs), (features.gold < 0).astype(int))
    accuracy = {p.name: float(annotators.label_probabilities(p, features)[better].mean()) for p in people}
    columns = (
        [vote.item for vote in cast],
        [number[vote.annotator] for vote in cast],
        [v.label == "first" for v in cast],
    )
    return features.gold > 0, accuracy, tuple(map(np.array, columns))


# --- what came of it ----------------------------------------------------------------------------------------


def over_seeds(experiment: str, *names: str) -> dict[tuple, dict[str, Estimate]]:
    """By the values of these columns: gold, kl and length, as a mean over the seeds with its error."""
    rows = [row for part in load(experiment) for row in part]
    keys = dict.fromkeys(tuple(row[name] for name in names) for row in rows)
    some = {key: [row for row in rows if tuple(row[name] for name in names) == key] for key in keys}
    return {
        key: {what: evaluate.estimate(torch.tensor([r[what] for r in found])) for what in ("gold", "kl", "length")}
        for key, found in some.items()
    }


TRAINING = {"beta": 0.3, "steps": 56, "learning_rate": 1e-3}
NOISE = {"flips": [0.0, 0.1, 0.2, 0.3, 0.4], "per_prompt": 8} | TRAINING
WRONG = {"sizes": [256, 1024, 4096], "per_prompt": 40, "per_word": 0.5} | TRAINING
EXPERIMENTS = [
    Experiment("07_noise", noise, tuple({"seed": seed} | NOISE for seed in SEEDS)),
    Experiment("07_wrong", wrong, tuple({"seed": seed} | WRONG for seed in SEEDS)),
]
