"""Chapter 6's long runs: reward models on more and more pairs, of noisier and noisier people, and what else was tried.

Knows how a reward model is trained and judged here; draws nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import groupby

import numpy as np
import torch

from prefcourse import annotators, evaluate, models, train
from prefcourse.agreement import ceiling_from_annotators
from prefcourse.backbone import hidden_states, read_out, scatter
from prefcourse.data.pairs import gaps
from prefcourse.evaluate import CalibrationBin
from prefcourse.experiments import Experiment, record
from prefcourse.lab import REWARD_EPOCHS, REWARD_LEARNING_RATE, Lab, lab
from prefcourse.rollout import Answers

PAIRS = [64, 128, 256, 512, 1024, 2048, 4096]
TEMPERATURES = [0.5, 1, 2, 4]
SEEDS = (0, 1, 2)


def learning_curve(*, seed: int, temperature: float, pairs: Sequence[int]) -> dict:
    """Reward models on the first of these pairs, judged on some 2,000 others, labelled by the same people."""
    here, people = lab(seed), annotators.population(seed, scale=1.6 / temperature)
    labelled, held_out = (here.pairs(answers, people, seed=seed + n) for n, answers in enumerate(two_sets(seed)))
    features = annotators.pair_features(*gaps(here.world, *two_sets(seed)[1]))
    rows = [{"pairs": n} | judge(here, fit(here, labelled[:n], seed=seed), held_out) for n in pairs]
    gold = gold_gaps(here, held_out)
    people_right = float((gold > 0).sum() / (gold != 0).sum())
    return {"ceiling": round(ceiling_from_annotators(people, features).best, 4), "people": people_right, "rows": rows}


def variant(*, seed: int, epochs: float = REWARD_EPOCHS, reads: str = "last", pairs: int) -> dict:
    """One change to the usual reward model on as many pairs."""
    here, people = lab(seed), annotators.population(seed)
    labelled, held_out = (here.pairs(answers, people, seed=seed + n) for n, answers in enumerate(two_sets(seed)))
    return judge(here, fit(here, labelled[:pairs], seed=seed, epochs=epochs, reads=reads), held_out)


@lru_cache(maxsize=1)
def two_sets(seed: int) -> tuple[Answers, Answers]:
    """Pairs of answers to train on, and others to judge by: those that are in both are taken from the first."""
    here = lab(seed)
    first, second = here.answers(40, seed=seed + 1), here.answers(16, seed=seed + 2)
    known = {(prompt, frozenset(both)) for prompt, *both in second.texts}
    rows = zip(*first, strict=True)
    kept = [(texts, ends) for texts, ends in rows if (texts[0], frozenset(texts[1:])) not in known]
    return Answers(*map(list, zip(*kept, strict=True))), second


class EveryToken(models.RewardModel):
    """Reads the head at every response token; the score is the sum, or the mean."""

    takes_mean = False

    def forward(self, sequences):
        rows = sequences.left_aligned()
        hidden = hidden_states(self.backbone, rows.input_ids, rows.attention_mask, rows.response_mask)
        by_token = scatter(read_out(self.head, hidden), rows.response_mask)  # (B, T)
        return by_token.sum(1) / (rows.lengths if self.takes_mean else 1)


class MeanOfTokens(EveryToken):
    takes_mean = True


READERS = {"last": models.RewardModel, "sum": EveryToken, "mean": MeanOfTokens}


def fit(here: Lab, pairs: list[dict], *, seed: int, epochs: float = REWARD_EPOCHS, reads: str = "last"):
    """A reward model as `Lab.reward_model` makes it, before its scores are standardised."""
    made = READERS[reads].from_lm(here.sft)
    settings = {"epochs": epochs, "learning_rate": REWARD_LEARNING_RATE, "seed": seed}
    train.finish(train.reward_model(made, here.tokenizer, pairs, **settings))
    return made


def gold_gaps(here: Lab, pairs: list[dict]) -> np.ndarray:
    """Gold of what was chosen minus gold of what was rejected."""
    gold = here.world.gold
    return np.array([gold(p["prompt"], p["chosen"]) - gold(p["prompt"], p["rejected"]) for p in pairs])


def only_uses(here: Lab, pairs: list[dict]) -> np.ndarray:
    """Pairs whose answers differ in the uses that they name, and neither in filler nor in the kind."""
    return np.array([differ_in_uses_alone(here.world, p["prompt"], p["chosen"], p["rejected"]) for p in pairs])


def differ_in_uses_alone(world, prompt: str, *answers: str) -> bool:
    told = [[reason for _, reason in world.explain(prompt, answer)] for answer in answers]
    uses = [sorted(reason for reason in reasons if "use '" in reason) for reasons in told]
    rest = [sorted(reason for reason in reasons if "filler" in reason or "kind" in reason) for reasons in told]
    return uses[0] != uses[1] and rest[0] == rest[1]


def judge(here: Lab, model, held_out: list[dict]) -> dict:
    """Right on labels and on gold, on all pairs and on those that differ in uses alone; calibration; scale."""
    chosen, rejected = evaluate.read_pairs(model, here.tokenizer, held_out)
    report = evaluate.judge_scores(chosen, rejected)
    margin, gold, uses = (chosen - rejected).double().numpy(), gold_gaps(here, held_out), only_uses(here, held_out)
    decided = gold != 0
    found = {
        "accuracy": report.accuracy.rate,
        "of": len(held_out),
        "gold": np.mean((margin * gold > 0)[decided]),
        "uses": np.mean((margin * gold > 0)[decided & uses]),
        "people_on_uses": np.mean((gold > 0)[decided & uses]),
        "calibration_error": report.calibration_error,
        "slope": (margin @ gold) / (gold @ gold),  # logits per point of gold
        "trust": trust(margin),
    }
    bins = [[round(b.confidence, 4), round(b.accuracy, 4), b.count] for b in report.bins]
    return {name: round(float(value), 4) for name, value in found.items()} | {"bins": bins}


def trust(margin: np.ndarray, steps: int = 50) -> float:
    """The factor on all margins under which the labels are likeliest; below 1: overconfident."""
    margin, factor = torch.as_tensor(margin), torch.tensor(0.0, dtype=torch.float64)
    for _ in range(steps):
        wrong = torch.sigmoid(-factor * margin)
        factor = factor + (margin * wrong).sum() / (margin.square() * wrong * (1 - wrong)).sum()
    return factor.item()


# --- what came of it ----------------------------------------------------------------------------------------


def frames() -> dict[tuple[int, float], dict]:
    """By (pairs, temperature): what the seeds' reward models show together, and their ceiling."""
    stored = record("06_learning_curve")
    found = {}
    for part, result in zip(stored["parts"], stored["results"], strict=True):
        for row in result["rows"]:
            row = row | {"ceiling": result["ceiling"], "people": result["people"]}
            found.setdefault((row["pairs"], part["temperature"]), []).append(row)
    return {key: together(rows) for key, rows in found.items()}


def variants() -> dict[str, dict]:
    """By name ("epochs 16"): what the seeds' reward models show together."""
    stored, found = record("06_variants"), {}
    for part, row in zip(stored["parts"], stored["results"], strict=True):
        change = [f"{name} {value}" for name, value in part.items() if name not in ("seed", "pairs")]
        found.setdefault("".join(change) or "as usual", []).append(row)
    return {name: together(rows) for name, rows in found.items()}


def together(rows: Sequence[Mapping]) -> dict:
    """Counts of several held-out sets added up; what is no count is averaged."""
    bins, of = pooled([CalibrationBin(*b) for row in rows for b in row["bins"]]), sum(row["of"] for row in rows)
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0] if name not in ("bins", "of")}
    accuracy = evaluate.wilson(sum(row["accuracy"] * row["of"] for row in rows), round(of))
    return means | {
        "accuracy": accuracy,
        "labels": accuracy.rate,
        "bins": bins,
        "calibration_error": sum(b.count * abs(b.confidence - b.accuracy) for b in bins) / of,
    }


def pooled(bins: Sequence[CalibrationBin], number: int = 20) -> list[CalibrationBin]:
    """Bins of several sets, those of the same place together."""

    def place(b: CalibrationBin) -> int:
        return min(int(b.confidence * number), number - 1)

    return [joined(list(same)) for _, same in groupby(sorted(bins, key=place), place)]


def joined(bins: Sequence[CalibrationBin]) -> CalibrationBin:
    count = sum(b.count for b in bins)
    claim, truth = (sum(b.count * b[side] for b in bins) / count for side in (0, 1))
    return CalibrationBin(claim, truth, count)


def once_more(*, seed: int, pairs: int, temperature: float) -> dict:
    """The same with other pairs and labels, on the SFT model of seed 0: for whoever wants to see it run."""
    here, people = lab(0), annotators.population(0, scale=1.6 / temperature)
    labelled = here.pairs(here.answers(-(-pairs // 110), seed=100 + seed), people, seed=100 + seed)[:pairs]
    answers = here.answers(8, seed=200 + seed)
    ceiling = ceiling_from_annotators(people, annotators.pair_features(*gaps(here.world, *answers))).best
    judged = judge(here, fit(here, labelled, seed=seed), here.pairs(answers, people, seed=200 + seed))
    return together([judged | {"ceiling": ceiling}])


LEARNING = [{"seed": s, "temperature": t, "pairs": PAIRS} for s in SEEDS for t in TEMPERATURES]
CHANGES = [{}, {"epochs": 1}, {"epochs": 16}, {"reads": "sum"}, {"reads": "mean"}]
EXPERIMENTS = (
    Experiment("06_learning_curve", learning_curve, tuple(LEARNING)),
    Experiment("06_variants", variant, tuple({"seed": s, "pairs": 2048} | change for s in SEEDS for change in CHANGES)),
)
