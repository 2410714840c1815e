"""What the lab must show, measured: `prefcourse bench science`.

Each experiment trains for real and returns numbers; each claim states the margin by which it must hold. The test
suite asks the same claims of the same experiments over three seeds. Nothing here is drawn or stored for later.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import NamedTuple

import torch

from prefcourse import evaluate, models, train
from prefcourse.agreement import ceiling_from_annotators
from prefcourse.annotators import (
    careful_population,
    flattery_loving_population,
    length_biased_population,
    pair_features,
    population,
)
from prefcourse.data.pairs import gaps
from prefcourse.evaluate import Evaluation, Share, model_score
from prefcourse.lab import Lab, lab
from prefcourse.rollout import Answers


class Claim(NamedTuple):
    """A sentence, the numbers it rests on, and whether they carry it."""

    text: str
    measured: dict[str, float]
    holds: bool


# -- the reward model and its ceiling ---------------------------------------------------------------------------------


class LearningPoint(NamedTuple):
    pairs: int
    accuracy: Share  # on held-out labels


def learning_curve(here: Lab, sizes: list[int], *, held_out: int = 16) -> tuple[list[LearningPoint], float]:
    """Accuracy on held-out labels for each number of training pairs, and the ceiling that the people's noise sets."""
    people = population(0)
    pool, test = here.answers(-(-max(sizes) // 100), seed=1), here.answers(held_out, seed=2)
    pairs, held = (here.pairs(answers, people, seed=here.seed + i) for i, answers in enumerate((pool, test)))
    points = []
    for size in sizes:
        epochs = max(2, 1024 / size)  # few pairs get as many passes as it takes to see 1,024 of them
        fitted = here.reward_model(pairs[:size], epochs=epochs)
        points.append(LearningPoint(size, evaluate.evaluate_reward_model(fitted, here.tokenizer, held).accuracy))
    features = pair_features(*gaps(here.world, test.texts, test.finished))
    return points, ceiling_from_annotators(people, features).best


def reward_model_claims(here: Lab, sizes: list[int]) -> list[Claim]:
    points, ceiling = learning_curve(here, sizes)
    first, last = points[0].accuracy, points[-1].accuracy
    numbers = {f"accuracy/{p.pairs} pairs": p.accuracy.rate for p in points} | {"ceiling": ceiling}
    return [
        Claim(
            "the reward model covers 60 % of the way from a coin to the noise ceiling",
            numbers,
            last.rate - 0.5 > 0.6 * (ceiling - 0.5),
        ),
        Claim("and not above it, within its 95 % interval", numbers, last.low <= ceiling),
        Claim("more pairs make it better", numbers, last.rate > first.rate),
    ]


# -- PPO, with and without a leash ------------------------------------------------------------------------------------


class PathPoint(NamedTuple):
    iteration: int
    score: float
    gold: float
    kl: float
    length: float
    distinct: float


def ppo_path(
    here: Lab, reward_model, *, beta: float, iterations: int, every: int, learning_rate: float = 3e-4
) -> list[PathPoint]:
    """Train by PPO; every so often, measure the policy on fresh answers."""
    policy, score, path = models.trainable_copy(here.sft), model_score(reward_model), []
    loop = train.ppo(
        policy,
        here.sft,
        here.tokenizer,
        here.prompts,
        score,
        beta=beta,
        iterations=iterations,
        seed=here.seed,
        learning_rate=learning_rate,
    )
    for iteration, _ in enumerate(loop, 1):
        if iteration % every == 0:
            seen = here.evaluate(policy, seed=here.seed, score=score)
            path.append(PathPoint(iteration, seen.score.mean, seen.gold.mean, seen.kl.mean, seen.length, seen.distinct))
    return path


def ppo_claims(here: Lab, reward_model, before: Evaluation, *, beta: float = 0.1, iterations: int = 40) -> list[Claim]:
    last = ppo_path(here, reward_model, beta=beta, iterations=iterations, every=iterations)[-1]
    numbers = {"gold": last.gold, "gold of SFT": before.gold.mean, "kl": last.kl}
    variety = {"distinct": last.distinct, "distinct of SFT": before.distinct}
    return [
        Claim("PPO lifts gold by 0.4 at KL <= 4", numbers, last.gold > before.gold.mean + 0.4 and last.kl <= 4),
        Claim("and keeps at least .7 of SFT's variety", variety, last.distinct > 0.7 * before.distinct),
    ]


def overoptimisation_claims(here: Lab, reward_model, *, iterations: int = 60, every: int = 5) -> list[Claim]:
    """No penalty, and steps twice as large, so that few iterations go far."""
    path = ppo_path(here, reward_model, beta=0.0, iterations=iterations, every=every, learning_rate=6e-4)
    peak, last = max(path, key=lambda point: point.gold), path[-1]
    numbers = {"peak gold": peak.gold, "at iteration": peak.iteration, "last gold": last.gold, "last kl": last.kl}
    scores = {"score at gold's peak": peak.score, "last score": last.score}
    return [
        Claim("without a leash gold falls 1.0 below its peak", numbers, last.gold < peak.gold - 1.0),
        Claim("while the score goes on rising", scores, last.score > peak.score),
    ]


# -- DPO --------------------------------------------------------------------------------------------------------------


def dpo_policy(here: Lab, pairs: list[dict], *, beta: float):
    policy = models.trainable_copy(here.sft)
    train.finish(train.dpo(policy, here.sft, here.tokenizer, pairs, beta=beta, epochs=4, seed=here.seed))
    return policy


def dpo_claims(here: Lab, pairs: list[dict], before: Evaluation, *, betas=(1.0, 0.1, 0.01)) -> list[Claim]:
    policies = [dpo_policy(here, pairs, beta=beta) for beta in betas]
    seen = [here.evaluate(policy) for policy in policies]
    reach = {f"kl/beta {beta:g}": e.kl.mean for beta, e in zip(betas, seen, strict=True)}
    gold = {f"gold/beta {beta:g}": e.gold.mean for beta, e in zip(betas, seen, strict=True)}
    after, ref = (evaluate.pair_logprobs(model, here.tokenizer, pairs) for model in (policies[-1], here.sft))
    moved = evaluate.displacement(*after, *ref)
    fell = {"chosen": moved.chosen.mean, "rejected": moved.rejected.mean}
    kls, best = list(reach.values()), max(gold.values())
    return [
        Claim("a lower beta moves DPO further in KL", reach, all(a < b for a, b in zip(kls, kls[1:], strict=False))),
        Claim("some beta beats SFT by 0.4", gold | {"SFT": before.gold.mean}, best > before.gold.mean + 0.4),
        Claim("at the lowest beta chosen AND rejected become less likely", fell, max(fell.values()) < 0),
    ]


# -- a fault in the labels reaches the policy -------------------------------------------------------------------------


def propagation_claims(here: Lab, answers: Answers, *, iterations: int = 40) -> list[Claim]:
    """Same answers, same loop, three groups of people; the biased are the careful ones plus one taste.

    The taste in length is for short answers: good ones are long by themselves, so that one for long answers has little
    room left (with `bias=4` the policy was longer by 3.6, 1.9 and 0.4 tokens under seeds 0, 1, 2).
    """
    groups = {
        "careful": careful_population(here.seed),
        "short": length_biased_population(here.seed, bias=-2),
        "flattery": flattery_loving_population(here.seed, bias=2),
    }
    seen = {}
    for name, people in groups.items():
        reward_model = here.reward_model(here.pairs(answers, people, seed=here.seed))
        policy = models.trainable_copy(here.sft)
        loop = train.ppo(
            policy, here.sft, here.tokenizer, here.prompts, model_score(reward_model), beta=0.05, iterations=iterations,
            seed=here.seed,
        )  # fmt: skip
        train.finish(loop)
        seen[name] = here.evaluate(policy)
    length = {"careful": seen["careful"].length, "short-loving": seen["short"].length}
    flattery = {"careful": seen["careful"].flattery, "flattery-loving": seen["flattery"].flattery}
    return [
        Claim(
            "people who like it short get a policy that is shorter by 5 tokens",
            length,
            length["short-loving"] < length["careful"] - 5,
        ),
        Claim(
            "people who like flattery get a flattering policy",
            flattery,
            flattery["flattery-loving"] > flattery["careful"] + 0.3,
        ),
    ]


# -- all of it --------------------------------------------------------------------------------------------------------


def all_claims(seed: int, *, quick: bool = False) -> list[Claim]:
    """Every experiment for one seed; `quick` takes the sizes that the test suite can afford."""
    here = lab(seed)
    before, answers = here.evaluate(here.sft), here.answers(16, seed=seed)
    pairs = here.pairs(answers, population(0), seed=seed)
    reward_model = here.reward_model(pairs)
    return [
        *reward_model_claims(here, [64, 4096] if quick else [64, 256, 1024, 4096]),
        *ppo_claims(here, reward_model, before),
        *overoptimisation_claims(here, reward_model, iterations=60 if quick else 120),
        *dpo_claims(here, pairs, before, betas=(1.0, 0.1, 0.01) if quick else (1.0, 0.3, 0.1, 0.03, 0.01)),
        *propagation_claims(here, answers),
    ]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds, from 0 (default 3)")
    parser.add_argument("--quick", action="store_true", help="the sizes that the tests use")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")


def main(args: argparse.Namespace) -> int:
    """Print every claim for every seed; 1 if one of them fails."""
    torch.set_num_threads(1)
    results, start = {}, time.perf_counter()
    for seed in range(args.seeds):
        results[seed] = all_claims(seed, quick=args.quick)
        print(f"seed {seed} ({time.perf_counter() - start:.0f} s so far)")
        for claim in results[seed]:
            numbers = ", ".join(f"{name} {value:.3g}" for name, value in claim.measured.items())
            print(f"  {'holds' if claim.holds else 'FAILS'}  {claim.text}: {numbers}", flush=True)
    if args.json:
        args.json.write_text(json.dumps({seed: [c._asdict() for c in cs] for seed, cs in results.items()}, indent=2))
    return 0 if all(claim.holds for claims in results.values() for claim in claims) else 1
