"""Chapter 11: four methods under one budget of labels, on three sources of pairs; and the search for their learning
rates, on a seed of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from prefcourse import annotators, evaluate, models, train
from prefcourse.data.pairs import annotate, pairs_from_votes
from prefcourse.evaluate import FrontierPoint
from prefcourse.experiments import Experiment, timed
from prefcourse.experiments.chapter08 import best_of_n, rounded, tilt
from prefcourse.lab import Lab, lab
from prefcourse.rollout import Answers, Rollout

LABELS = 1024  # the budget: what anybody may ask of the twenty people
EPOCHS, BATCH = 4, 64
WRITERS = {"own": None, "mediocre": "mediocre", "poor": "poor"}  # who wrote the answers in the pairs

# --- labels -------------------------------------------------------------------------------------------------


def population(seed: int) -> list:
    """The course's twenty people."""
    return annotators.population(seed, scale=1.6)


def answers_of(here: Lab, source: str) -> Answers:
    """As many pairs of answers as there are labels: by the SFT model itself, or by writers of one quality."""
    if WRITERS[source] is None:
        drawn = here.answers(10, seed=here.seed)
        return Answers(drawn.texts[:LABELS], drawn.finished[:LABELS])
    draw, rows = np.random.default_rng(here.seed), []
    for prompt in itertools.cycle(here.prompts):
        first, second = (here.world.demonstration(prompt, draw, WRITERS[source]) for _ in range(2))
        rows += [(prompt, first, second)] * (first != second)
        if len(rows) == LABELS:
            return Answers(rows, [(True, True)] * LABELS)


def judged_by_people(here: Lab, people: list, *, seed: int) -> Callable[[Rollout], torch.Tensor]:
    """A `score` for `train.online_dpo`: one label on each two answers in a row, 1 for the chosen and 0 for the other.
    Two equal answers, or an empty one, are not shown to anybody: both get 0."""
    rounds = itertools.count(1000 * seed)

    def score(rollout: Rollout) -> torch.Tensor:
        ends = rollout.finished.view(-1, 2).tolist()
        rows = list(zip(rollout.prompts[::2], rollout.texts[::2], rollout.texts[1::2], strict=True))
        shown = [row for row, (_, a, b) in enumerate(rows) if a and b and a != b]
        texts, finished = [rows[row] for row in shown], [tuple(ends[row]) for row in shown]
        votes = annotate(here.world, texts, people, seed=next(rounds), finished=finished)
        result = torch.zeros(len(rollout.prompts))
        for row, pair in zip(shown, pairs_from_votes(texts, votes), strict=True):
            result[2 * row + int(pair["chosen"] != rows[row][1])] = 0.0 if pair.get("tie") else 1.0
        return result

    return score


def seen_in(pairs: Sequence[dict]) -> dict[str, set[str]]:
    """The answers to each prompt that occur in some pair."""
    seen: dict[str, set[str]] = {}
    for pair in pairs:
        seen.setdefault(pair["prompt"], set()).update((pair["chosen"], pair["rejected"]))
    return seen


# --- methods ------------------------------------------------------------------------------------------------


class Bench:
    """One seed, one source: its pairs, and the reward model that was fitted to them."""

    def __init__(self, here: Lab, source: str):
        self.here, self.people = here, population(here.seed)
        self.pairs = here.pairs(answers_of(here, source), self.people, seed=here.seed)
        self.reward_model, self.fitting = timed(lambda: here.reward_model(self.pairs, epochs=2))
        self.seen = seen_in(self.pairs)
        self.score = evaluate.model_score(self.reward_model)

    def loop(self, method: str, policy, beta: float, learning_rate: float) -> Iterator[dict]:
        here = self.here
        given = {"beta": beta, "learning_rate": learning_rate, "seed": here.seed}
        if method == "DPO":
            return train.dpo(policy, here.sft, here.tokenizer, self.pairs, epochs=EPOCHS, batch_size=BATCH, **given)
        online = train.ppo if method == "PPO" else train.online_dpo
        score, rounds = self.score, 40
        if method == "DPO, fresh labels":
            score, rounds = judged_by_people(here, self.people, seed=1 + here.seed), LABELS // BATCH
        return online(
            policy, here.sft, here.tokenizer, here.prompts, score, iterations=rounds, batch_size=BATCH, **given
        )

    def run(self, method: str, beta: float, learning_rate: float) -> dict:
        """Train, measure on eight answers to each prompt; seconds are those of training alone."""
        policy = models.trainable_copy(self.here.sft)
        _, seconds = timed(lambda: train.finish(self.loop(method, policy, beta, learning_rate)))
        return {"method": method, "beta": beta} | self.measured(policy) | {"seconds": round(seconds, 1)}

    def measured(self, policy) -> dict:
        """What a policy is worth; the share of its answers that no pair shows, and their gold."""
        seen = self.here.evaluate(policy, score=self.score, samples=8)
        row = {name: value for name, value in seen.metrics().items() if name in MEASURED}
        new = torch.tensor([
            [text not in self.seen.get(prompt, ()) for text in texts]
            for prompt, texts in zip(seen.prompts, seen.texts, strict=True)
        ])
        return row | {"unseen": new.double().mean().item(), "unseen_gold": seen.sample_gold[new].mean().item()}


MEASURED = ("kl", "gold", "score")


def answers_under(here: Lab, score: Callable, samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Gold and score of many answers of the SFT model, (prompts, samples) each."""
    drawn = list(evaluate.rollouts(here.sft, here.tokenizer, here.prompts, samples=samples, seed=2000 + here.seed))
    read = (evaluate.gold_score(here.world), score)
    gold, scores = (torch.cat([judge(rollout) for rollout in drawn]).double().view(-1, samples) for judge in read)
    return gold, scores


def compare(*, seed: int, samples: int, frontier: Sequence[float], counts: Sequence[int], rates: dict, sources: dict):
    """All methods on the pairs of each source, and the lines that need no training, from answers of the reference."""
    here, found = lab(seed), {}
    for source, dials in sources.items():
        bench = Bench(here, source)
        gold, scores = answers_under(here, bench.score, samples if source == "own" else samples // 4)
        found[source] = {
            "reference": bench.measured(here.sft),
            "fitting": round(bench.fitting, 1),
            "best_of_n": [best_of_n(scores, gold, n) for n in counts],
            "runs": [bench.run(method, beta, rates[method]) for method, betas in dials.items() for beta in betas],
        }
        if source == "own":
            found["optimum"] = [point._asdict() for point in evaluate.optimal_frontier(gold, frontier)]
            found["for_the_score"] = [tilt(scores, gold, beta) for beta in frontier]
    return rounded({"seed": seed} | found)


def tune(*, seed: int, rates: Sequence[float], dials: dict) -> list[dict]:
    """Gold under each learning rate, at one setting of the method's own dial."""
    bench = Bench(lab(seed), "own")
    return [
        {"learning_rate": rate} | rounded(bench.run(method, beta, rate))
        for method, beta in dials.items()
        for rate in rates
    ]


# --- what a chapter draws -----------------------------------------------------------------------------------

Band = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # x, lowest seed, mean of the seeds, highest seed


def way(seed: dict, source: str, method: str) -> list[dict]:
    """Points of one method under one seed, from the reference outwards."""
    found = seed[source]
    points = {"best of n": found["best_of_n"], "optimum for the score": seed["for_the_score"]}.get(method)
    points = points or [run for run in found["runs"] if run["method"] == method]
    return [found["reference"], *sorted(points, key=lambda point: point["kl"])]


def ways(seeds: Sequence[dict], source: str, method: str, what: str) -> list[tuple[list[float], list[float]]]:
    """KL and `what` along the way of a method, for each seed."""
    return [tuple([p[name] for p in way(seed, source, method)] for name in ("kl", what)) for seed in seeds]


def at_kl(seeds: Sequence[dict], source: str, method: str, what: str, kl) -> np.ndarray:
    """`what` of a method at this KL, (seeds, ...), between its runs on a straight line."""
    return np.array([np.interp(kl, *line) for line in ways(seeds, source, method, what)])


def gap(first: str, second: str, what: str, *, seeds: Sequence[dict], source: str, kl: float) -> np.ndarray:
    """By how much `what` of the first method is ahead of the second's at this KL; one number per seed."""
    return at_kl(seeds, source, first, what, kl) - at_kl(seeds, source, second, what, kl)


def most_gold(seeds: Sequence[dict], source: str, method: str) -> np.ndarray:
    """The best point on a method's way, one number per seed."""
    return np.array([max(point["gold"] for point in way(seed, source, method)) for seed in seeds])


def at_beta(beta: float, what: str, *, seeds: Sequence[dict], source: str, method: str) -> np.ndarray:
    """`what` after the method's run at this beta, one number per seed."""
    runs = [run for seed in seeds for run in seed[source]["runs"]]
    return np.array([run[what] for run in runs if (run["method"], run["beta"]) == (method, beta)])


def reference_gold(seeds: Sequence[dict]) -> np.ndarray:
    """The SFT model's, one number per seed."""
    return np.array([seed["own"]["reference"]["gold"] for seed in seeds])


def band(seeds: Sequence[dict], source: str, method: str, what: str) -> Band:
    """As far as every seed came."""
    reach = min(way(seed, source, method)[-1]["kl"] for seed in seeds)
    kl = np.linspace(0, reach, 60)
    values = at_kl(seeds, source, method, what, kl)
    return kl, values.min(0), values.mean(0), values.max(0)


def seconds(seeds: Sequence[dict], source: str) -> dict[str, float]:
    """What training takes by each method, without the reward model: mean over its runs."""
    runs = [run for seed in seeds for run in seed[source]["runs"]]
    return {name: float(np.mean([run["seconds"] for run in runs if run["method"] == name])) for name in RATES}


def roof(seeds: Sequence[dict]) -> list[FrontierPoint]:
    """The optimum for gold, mean over the seeds."""
    return [
        FrontierPoint(*(float(np.mean([point[name] for point in points])) for name in FrontierPoint._fields))
        for points in zip(*(seed["optimum"] for seed in seeds), strict=True)
    ]


# --- what is run --------------------------------------------------------------------------------------------

TUNING = {
    "seed": 3,
    "rates": [2.5e-4, 5e-4, 1e-3, 2e-3],
    "dials": {"PPO": 0.1, "DPO": 0.1, "online DPO": 3.0, "DPO, fresh labels": 0.1},
}
RATES = {"PPO": 2.5e-4, "DPO": 5e-4, "online DPO": 1e-3, "DPO, fresh labels": 2e-3}  # each had the most gold there
COMPARISON = {
    "samples": 128,
    "frontier": [20.0, 10.0, 7.0, 5.0, 3.5, 2.5, 1.8, 1.3, 0.9, 0.65, 0.45, 0.32, 0.23, 0.16, 0.11, 0.08, 0.055],
    "counts": [1, 2, 4, 8, 16, 32],
    "rates": RATES,
    "sources": {
        "own": {
            "PPO": [1.0, 0.3, 0.1, 0.03],
            "DPO": [1.0, 0.3, 0.1, 0.03],
            "online DPO": [10.0, 3.0, 1.0],
            "DPO, fresh labels": [1.0, 0.3, 0.1],
        },
        "mediocre": {"PPO": [1.0, 0.3, 0.1], "DPO": [1.0, 0.3, 0.1], "online DPO": [3.0]},
        "poor": {"PPO": [1.0, 0.1], "DPO": [1.0, 0.1]},
    },
}
EXPERIMENTS = [
    Experiment("11_methods", compare, tuple({"seed": seed} | COMPARISON for seed in range(3))),
    Experiment("11_tuning", tune, (TUNING,)),
]
