"""Chapter 8: every method so far on the reward-KL plane, and PPO under fixed and adaptive betas. Three seeds each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from prefcourse import evaluate, models, train
from prefcourse.evaluate import Estimate, FrontierPoint
from prefcourse.experiments import Experiment
from prefcourse.lab import lab
from prefcourse.widgets.runs import Materials, Run, Settings

# --- the plane ----------------------------------------------------------------------------------------------


def plane(
    *, seed: int, samples: int, betas: Sequence[float], counts: Sequence[int], runs: Sequence[dict]
) -> dict:  # fmt: skip
    """The lines that need no training, from many answers of the reference; then the laboratory's runs."""
    materials = Materials(lab(seed))
    gold, scores = answers_of_the_reference(materials, Settings(seed=seed), samples)
    return {
        "seed": seed,
        "reference": gold.mean().item(),
        "gold_spread": gold.std(dim=1).mean().item(),
        "optimum": [point._asdict() for point in evaluate.optimal_frontier(gold, betas)],
        "optimum_of_the_score": [tilt(scores, gold, beta) for beta in betas],
        "best_of_n": [best_of_n(scores, gold, n) for n in counts],
        "runs": [finished(Run(Settings(seed=seed, **settings), materials)) for settings in runs],
    }


def answers_of_the_reference(materials: Materials, settings: Settings, samples: int) -> tuple[Tensor, Tensor]:
    """Gold and score, (prompts, samples) each."""
    here, judges = materials.lab, (evaluate.gold_score, evaluate.model_score)
    read = [judge(what) for judge, what in zip(judges, (here.world, materials.reward_model(settings)), strict=True)]
    drawn = evaluate.rollouts(here.sft, here.tokenizer, here.prompts, samples=samples, seed=2000 + settings.seed)
    columns = zip(*([look(rollout) for look in read] for rollout in drawn), strict=True)
    gold, scores = (torch.cat(column).double().view(-1, samples) for column in columns)
    return gold, scores


def tilt(scores: Tensor, gold: Tensor, beta: float) -> dict:
    """The optimum for the score, and its gold: what the best of all optimisers would find."""
    log_weights = (scores / beta).log_softmax(-1)
    weights = log_weights.exp()
    kl = math.log(scores.shape[1]) + (weights * log_weights).sum(-1).mean().item()
    means = {"gold": (weights * gold).sum(-1).mean().item(), "score": (weights * scores).sum(-1).mean().item()}
    size = (1 / weights.square().sum(-1)).mean().item()
    return {"beta": beta, "kl": kl, **means, "effective_sample_size": size}


def best_of_n(scores: Tensor, gold: Tensor, n: int) -> dict:
    """The best of n by score: the k-th of N sorted answers is it with probability (k/N)^n - ((k-1)/N)^n."""
    order, share = scores.argsort(-1), torch.arange(scores.shape[1] + 1, dtype=torch.float64) / scores.shape[1]
    weights = (share**n).diff()  # (N,), from the worst to the best
    means = {
        name: (what.gather(1, order) @ weights).mean().item() for name, what in (("gold", gold), ("score", scores))
    }
    return {"n": n, "kl": math.log(n) - (n - 1) / n, **means}


def finished(run: Run) -> dict:
    """Its path, and what it is worth in the end, on more answers."""
    for _ in run.points():
        pass
    score = evaluate.model_score(run.reward_model)
    end = run.materials.lab.evaluate(run.policy, score=score, samples=8).metrics()
    path = [{"step": p.step, "kl": p.kl.mean, "gold": p.gold.mean, "score": p.score.mean} for p in run.path]
    names = ("kl", "kl_se", "gold", "gold_se", "score", "length")
    s = run.settings
    return {"method": s.method, "beta": s.beta, "path": path, "end": {name: end[name] for name in names}}


class Plane(NamedTuple):
    """What a chapter draws: means over the seeds, with their errors; (kl, gold) of each point."""

    reference: Estimate
    methods: dict[str, list[tuple[Estimate, Estimate]]]
    optimum: list[FrontierPoint]
    for_the_score: list[tuple[float, float]]


def averaged(seeds: list[dict], *, looks: int) -> Plane:
    """PPO without a price counts as early stopping, at its first `looks`."""

    def along(name: str) -> list[list[dict]]:
        return [list(rows) for rows in zip(*(seed[name] for seed in seeds), strict=True)]

    priced = {"PPO": (1.0, 0.3, 0.1, 0.03), "DPO": (1.0, 0.3, 0.1, 0.03), "SFT": (Settings.beta,)}
    methods = {
        name: [_point([run["end"] for run in runs_of(seeds, name, beta)]) for beta in betas]
        for name, betas in priced.items()
    }
    methods["SFT on chosen"] = methods.pop("SFT")
    free = (run["path"][:looks] for run in runs_of(seeds, "PPO", 0.0))
    methods["PPO, stopped early"] = [_point(rows) for rows in zip(*free, strict=True)]
    methods["best of n"] = [_point(rows) for rows in along("best_of_n")]
    optimum = [
        FrontierPoint(*(_mean([p[name] for p in rows]) for name in FrontierPoint._fields)) for rows in along("optimum")
    ]
    score = [tuple(_mean([p[name] for p in rows]) for name in ("kl", "gold")) for rows in along("optimum_of_the_score")]
    return Plane(_over_seeds([seed["reference"] for seed in seeds]), methods, optimum, score)


def runs_of(seeds: list[dict], method: str, beta: float) -> list[dict]:
    """One run per seed."""
    return [run for seed in seeds for run in seed["runs"] if (run["method"], run["beta"]) == (method, beta)]


def at(kl, line: Sequence[tuple[float, float]]):
    """The height of a line, given as points (kl, height) from left to right, at this KL."""
    return np.interp(kl, *zip(*line, strict=True))


def _point(rows: Sequence[dict]) -> tuple[Estimate, Estimate]:
    kl, gold = (_over_seeds([row[name] for row in rows]) for name in ("kl", "gold"))
    return kl, gold


def _over_seeds(numbers: list[float]) -> Estimate:
    return evaluate.estimate(torch.tensor(numbers))


def _mean(numbers: list[float]) -> float:
    return sum(numbers) / len(numbers)


# --- controllers --------------------------------------------------------------------------------------------


def controllers(*, seed: int, target: float, gain: float, limit: float, first_betas: Sequence[float], rounds: int):
    """PPO with a beta that stays, and with one that steers the KL to its target; a row per run."""
    materials = Materials(lab(seed))
    gains = {"fixed": 0.0, "adaptive": gain}
    return [
        {"kind": kind, "first": first} | steered(materials, seed, first, target, gains[kind], limit, rounds)
        for kind in gains
        for first in first_betas
    ]


def steered(materials, seed: int, first: float, target: float, gain: float, limit: float, rounds: int) -> dict:
    """One run: KL and beta of every round, and the policy's worth in the end."""
    here, beta = materials.lab, torch.tensor(first)  # a tensor, so that it can be moved while the loop runs
    policy, score = models.trainable_copy(here.sft), evaluate.model_score(materials.reward_model(Settings(seed=seed)))
    kl, betas = [], []
    for metrics in train.ppo(
        policy, here.sft, here.tokenizer, here.prompts, score, beta=beta, iterations=rounds, seed=seed
    ):
        kl.append(metrics["kl"])
        betas.append(beta.item())
        error = max(-limit, min(limit, metrics["kl"] / target - 1))
        beta.mul_(1 + gain * error)
    end = here.evaluate(policy, score=score, samples=8).metrics()
    return {"kl": kl, "beta": betas, "end": {name: end[name] for name in ("kl", "gold", "score")}}


# --- what is run --------------------------------------------------------------------------------------------


def rounded(value):
    """Four digits after the point, everywhere."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return round(value, 4) if isinstance(value, float) else value


def rounded_plane(**settings) -> dict:
    return rounded(plane(**settings))


def rounded_controllers(**settings) -> list[dict]:
    return rounded(controllers(**settings))


PLANE = {
    "samples": 256,
    "betas": [20.0, 10.0, 7.0, 5.0, 3.5, 2.5, 1.8, 1.3, 0.9, 0.65, 0.45, 0.32, 0.23, 0.16, 0.11, 0.08, 0.055],
    "counts": [1, 2, 4, 8, 16, 32, 64],
    "runs": [
        {"method": "SFT", "steps": 64},
        *({"method": "DPO", "beta": beta, "steps": 64} for beta in (1.0, 0.3, 0.1, 0.03)),
        *({"method": "PPO", "beta": beta, "steps": 40} for beta in (1.0, 0.3, 0.1, 0.03, 0.0)),
    ],
}
CONTROLLERS = {"target": 1.0, "gain": 0.5, "limit": 0.2, "first_betas": [0.5, 0.05], "rounds": 50}
EXPERIMENTS = [
    Experiment("08_plane", rounded_plane, tuple({"seed": seed} | PLANE for seed in range(3))),
    Experiment("08_controllers", rounded_controllers, tuple({"seed": seed} | CONTROLLERS for seed in range(3))),
]
