"""Chapter 7: DPO, cDPO and rDPO on flipped labels; labels wrong by chance and labels wrong by a bias; whom to believe;
and what each cure costs.

Knows whose labels are wrong and why, and how a policy is trained on them; draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from prefcourse import agreement, annotators, evaluate, losses, models, train
from prefcourse.annotators import Annotator
from prefcourse.data.pairs import annotate, gaps
from prefcourse.evaluate import Estimate
from prefcourse.experiments import Experiment, load, timed
from prefcourse.lab import Lab, lab
from prefcourse.widgets.chapter07 import Inquiry

SEEDS = (0, 1, 2)
LOSSES = {
    "cDPO": lambda flips: partial(losses.cdpo_loss, label_smoothing=flips),
    "DPO": lambda flips: losses.dpo_loss,
    "rDPO": lambda flips: partial(losses.rdpo_loss, flip_probability=flips),
}
ALIKE = 0.0  # without flips the three are one


def compared(here: Lab, per_prompt: int) -> tuple[list[tuple[str, str, str]], np.ndarray, np.ndarray]:
    """Prompts with two answers of the SFT model; how much more gold, and how many more words, the first has. Ties in
    gold are left out."""
    answers = here.answers(per_prompt, seed=here.seed)
    gold, words, _ = map(np.array, gaps(here.world, *answers))
    kept = np.flatnonzero(gold)
    return [answers.texts[i] for i in kept], gold[kept], words[kept]


def chosen(texts: Sequence[tuple[str, str, str]], first: Sequence[bool]) -> list[dict]:
    """Pairs, by whether the first answer is to be the chosen one."""
    return [
        {"prompt": prompt, "chosen": one if yes else other, "rejected": other if yes else one}
        for (prompt, one, other), yes in zip(texts, first, strict=True)
    ]


def labelled(here: Lab, per_prompt: int, *, per_word: float = 0.0) -> list[dict]:
    """Pairs of the SFT model's answers, labelled by gold plus so much for each word."""
    texts, gold, words = compared(here, per_prompt)
    return chosen(texts, gold + per_word * words > 0)


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


def run(here: Lab, pairs: list[dict], **settings) -> dict:
    """What was measured of a policy that was trained on them, and the CPU seconds of its training."""
    policy, seconds = timed(lambda: trained(here, pairs, **settings))
    return measured(here, policy) | {"seconds": round(seconds, 2)}


def noise(*, seed: int, flips: Sequence[float], per_prompt: int, **settings) -> list[dict]:
    """A row for each share of flips and each loss, which knows that share."""
    here = lab(seed)
    pairs = labelled(here, per_prompt)
    rows = []
    for share in flips:
        for name in LOSSES if share != ALIKE else ("DPO",):
            found = run(here, flipped(pairs, share, seed=seed), loss=LOSSES[name](share), **settings)
            rows.append({"loss": name, "flips": share, "pairs": len(pairs)} | found)
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
            found = run(here, [pairs[i] for i in order[:size]], loss=losses.dpo_loss, **settings)
            rows.append({"labels": kind, "pairs": size, "wrong": round(share, 4)} | found)
    return rows


def voted(*, seed: int, per_prompt: int, pairs: int, votes: int, **settings) -> list[dict]:
    """DPO on labels of the twenty people: one vote on each of so many pairs; several votes on each, and their majority,
    or what Dawid and Skene infer from them; or as many votes in all, one on each of more pairs."""
    here, people = lab(seed), annotators.population(seed)
    texts, gold, _ = compared(here, per_prompt)
    order = np.random.default_rng(seed).permutation(len(texts))[: pairs * votes]
    texts, gold = [texts[i] for i in order], gold[order]
    several = annotate(here.world, texts[:pairs], people, seed=seed, per_item=votes)
    single = np.array([vote.label == "first" for vote in annotate(here.world, texts, people, seed=seed)])
    inferred, inferring = timed(lambda: agreement.dawid_skene(several).consensus())
    share = np.array([vote.label == "first" for vote in several]).reshape(pairs, votes).mean(1)
    by_em = np.array([inferred[item] == "first" for item in range(pairs)])
    ways = {"one vote": single[:pairs], "majority": share > 0.5, "Dawid-Skene": by_em, "more pairs": single}
    rows = []
    for way, first in ways.items():
        found = run(here, chosen(texts[: len(first)], first), loss=losses.dpo_loss, **settings)
        found["seconds"] = round(found["seconds"] + (inferring if way == "Dawid-Skene" else 0), 2)
        cast = pairs if way == "one vote" else pairs * votes
        wrong = round(float(np.mean(first != (gold[: len(first)] > 0))), 4)
        rows.append({"way": way, "pairs": len(first), "votes": cast, "wrong": wrong} | found)
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


def gained(
    start: Float[Tensor, "P A"], learnt: Float[Tensor, "P A"], want: Float[Tensor, "P A"], *, beta: float
) -> float:  # fmt: skip
    """Of what a crowd could gain over the start, were its own taste learnt, the share that it gains from the best
    policy for what was learnt."""

    def gain(taste):
        return (((start + taste / beta).softmax(-1) - start.softmax(-1)) * want).sum(-1).mean().item()

    return gain(learnt) / gain(want)


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


Votes = tuple[np.ndarray, np.ndarray, np.ndarray]  # of each vote: number of the pair, of the person, "first" or not


def share_of_first(votes: Votes) -> np.ndarray:
    """On each pair."""
    item, _, said_first = votes
    return np.bincount(item, said_first) / np.bincount(item)


def right(first_is_better: np.ndarray, votes: Votes, truth: np.ndarray) -> dict[str, float]:
    """On which share of the pairs is a single vote right, the majority, and what EM inferred?"""
    item, _, said_first = votes
    said = {"one vote": said_first == first_is_better[item]}
    said |= {"majority": (share_of_first(votes) > 0.5) == first_is_better, "EM": (truth > 0.5) == first_is_better}
    return {name: float(hits.mean()) for name, hits in said.items()}


def inquire(people: Sequence[Annotator], votes: int, *, seed: int, infer: Callable) -> Inquiry:
    """Ask them, infer truth and people from the votes alone, begun with their shares; and compare with what is so."""
    first_is_better, accuracy, cast = ask(people, votes, seed=seed)
    truth, found = infer(*cast, share_of_first(cast))
    return Inquiry(accuracy, dict(zip(accuracy, found.tolist(), strict=True)), right(first_is_better, cast, truth))


# --- what came of it ----------------------------------------------------------------------------------------


def by_seed(experiment: str, *names: str) -> list[dict[tuple, dict]]:
    """For each seed its rows, by the values of these columns."""
    return [{tuple(row[name] for name in names): row for row in part} for part in load(experiment)]


def over_seeds(experiment: str, *names: str) -> dict[tuple, dict[str, Estimate]]:
    """By the values of these columns: gold, kl and length, as a mean over the seeds with its error."""
    seeds = by_seed(experiment, *names)
    return {
        key: {what: evaluate.estimate(torch.tensor([s[key][what] for s in seeds])) for what in ("gold", "kl", "length")}
        for key in seeds[0]
    }


def lines(experiment: str, *, line: str, along: str) -> tuple[list, dict[str, list[dict[str, Estimate]]]]:
    """What a figure draws: the values of one column, and by those of another the means over the seeds at each of them.
    A value with a single run is every line's: without flips the three losses are one."""
    found = over_seeds(experiment, line, along)
    places = list(dict.fromkeys(place for _, place in found))
    single = {place: row for (_, place), row in found.items()}
    names = [name for name, place in found if place == places[-1]]
    return places, {name: [found.get((name, place), single[place]) for place in places] for name in names}


def means(rows: Mapping[str, Sequence[Mapping[str, Estimate]]], what: str) -> dict[str, np.ndarray]:
    """Of such lines one quantity, without its error."""
    return {name: np.array([row[what].mean for row in line]) for name, line in rows.items()}


CURES = {  # what was run: the cure, and the plain DPO that it is compared with
    "flips: cDPO": ("07_noise", ("loss", "flips"), ("cDPO", 0.2), ("DPO", 0.2)),
    "flips: rDPO": ("07_noise", ("loss", "flips"), ("rDPO", 0.2), ("DPO", 0.2)),
    "people: majority of 5": ("07_votes", ("way",), ("majority",), ("one vote",)),
    "people: EM on 5": ("07_votes", ("way",), ("Dawid-Skene",), ("one vote",)),
    "people: 5 times the pairs": ("07_votes", ("way",), ("more pairs",), ("one vote",)),
    "flips: 4 times the pairs": ("07_wrong", ("labels", "pairs"), ("noise", 4096), ("noise", 1024)),
}


class Price(NamedTuple):
    """What a cure brought and cost against plain DPO, seed by seed."""

    gold: np.ndarray  # more of it
    kl: np.ndarray
    seconds: np.ndarray  # how many times as many, as the next two
    labels: np.ndarray
    wrong: np.ndarray  # share of the pairs


def prices() -> dict[str, Price]:
    """By cure."""
    found = {}
    for name, (experiment, columns, cure, plain) in CURES.items():
        seeds = [price(seed[cure], seed[plain]) for seed in by_seed(experiment, *columns)]
        found[name] = Price(*np.transpose(seeds))
    return found


def price(cure: dict, plain: dict) -> list[float]:
    labels = [row.get("votes", row["pairs"]) for row in (cure, plain)]
    wrong = [row.get("wrong", row.get("flips")) for row in (cure, plain)]
    more = [cure[what] - plain[what] for what in ("gold", "kl")]
    return more + [a / b for a, b in ((cure["seconds"], plain["seconds"]), labels, wrong)]


TRAINING = {"beta": 0.3, "steps": 56, "learning_rate": 1e-3}
NOISE = {"flips": [0.0, 0.1, 0.2, 0.3, 0.4], "per_prompt": 8} | TRAINING
WRONG = {"sizes": [256, 1024, 4096], "per_prompt": 40, "per_word": 0.5} | TRAINING
VOTES = {"per_prompt": 40, "pairs": 900, "votes": 5} | TRAINING
EXPERIMENTS = [
    Experiment("07_noise", noise, tuple({"seed": seed} | NOISE for seed in SEEDS)),
    Experiment("07_wrong", wrong, tuple({"seed": seed} | WRONG for seed in SEEDS)),
    Experiment("07_votes", voted, tuple({"seed": seed} | VOTES for seed in SEEDS)),
]
