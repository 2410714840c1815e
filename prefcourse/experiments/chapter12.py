"""Chapter 12: gold and score far from the reference, for reward models of several data sizes, and what cures cost.

Knows how a policy is driven too far and looked at on the way; draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from prefcourse import annotators, evaluate, models, train
from prefcourse.backbone import response_logprobs
from prefcourse.data.pairs import annotate
from prefcourse.evaluate import Estimate, Score
from prefcourse.experiments import Experiment, load, timed
from prefcourse.experiments.chapter08 import best_of_n, rounded
from prefcourse.lab import REWARD_EPOCHS, Lab, lab
from prefcourse.rollout import Rollout

SEEN = 2048  # pairs that a reward model reads at least; where there are fewer, some again and again
REASONS = {  # the beginnings of the world's reasons, and what sort of point each is
    "right kind": "right facts", "use '": "right facts", "wrong": "wrong facts", "flattery": "filler and flattery",
    "filler": "filler and flattery", "rambling": "too long", "does not stop": "too long", "a friendly": "closing",
}  # fmt: skip
SORTS = (*dict.fromkeys(REASONS.values()), "said again", "no sentence")


def sort_of(reason: str) -> str:
    """What sort of reason the world gives for a point won or lost."""
    if reason.endswith("said again"):
        return "said again"
    return next((sort for start, sort in REASONS.items() if reason.startswith(start)), "no sentence")


# --- looking ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Look:
    """Answers of a policy, `samples` to each prompt, and what each is worth."""

    rollouts: list[Rollout]
    gold: Tensor  # (P, samples), as the next two
    score: Tensor
    log_ratio: Tensor

    @property
    def answers(self) -> list[tuple[str, str, bool]]:
        """Prompt, text, whether it ended."""
        return [row for r in self.rollouts for row in zip(r.prompts, r.texts, r.finished.tolist(), strict=True)]

    def row(self) -> dict[str, float]:
        """Means and their errors; KL is the mean log-ratio."""
        columns = {"kl": self.log_ratio, "gold": self.gold, "score": self.score}
        found = {name: evaluate.estimate(column) for name, column in columns.items()}
        errors = {f"{name}_se": e.standard_error for name, e in found.items()}
        return {n: e.mean for n, e in found.items()} | errors | {"correlation": correlation(self.gold, self.score)}


@torch.no_grad()
def look(here: Lab, policy, score: Score, *, samples: int, seed: int) -> Look:
    gold, rollouts, columns = evaluate.gold_score(here.world), [], []
    for rollout in evaluate.rollouts(policy, here.tokenizer, here.prompts, samples=samples, seed=seed):
        reference = response_logprobs(here.sft, rollout.sequences.left_aligned()).sum(1)
        rollouts.append(rollout)
        columns.append((gold(rollout), score(rollout), rollout.logprobs.sum(1) - reference))
    return Look(rollouts, *(torch.cat(column).double().view(-1, samples) for column in zip(*columns, strict=True)))


def correlation(gold: Tensor, score: Tensor) -> float:
    """Among answers to one prompt: each prompt's mean is taken away, as it is no answer's merit."""
    gold, score = (x - x.mean(1, keepdim=True) for x in (gold, score))
    return ((gold * score).mean() / (gold.square().mean() * score.square().mean()).sqrt()).item()


def points(here: Lab, seen: Look) -> dict[str, float]:
    """Gold per answer, split by the world's reasons; the parts add up to the mean gold."""
    total = dict.fromkeys(SORTS, 0.0)
    for prompt, text, ended in seen.answers:
        for value, reason in here.world.explain(prompt, text, finished=ended):
            total[sort_of(reason)] += value
    return {sort: value / seen.gold.numel() for sort, value in total.items()}


# --- driving ------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Drive:
    """PPO on a score, looked at after these rounds (0: the reference), with the same random numbers each time."""

    here: Lab
    score: Score
    looks: Sequence[int]
    samples: int
    beta: float = 0.0
    seconds: float = 0.0  # of training, without the looks
    policy: object = None

    def __iter__(self):
        here, rounds = self.here, self.looks[-1]
        self.policy = models.trainable_copy(here.sft)
        loop = train.ppo(
            self.policy, here.sft, here.tokenizer, here.prompts, self.score, beta=self.beta, iterations=rounds,
            seed=here.seed,
        )  # fmt: skip
        for done in range(rounds + 1):
            if done:
                self.seconds += timed(lambda: next(loop))[1]
            if done in self.looks:
                yield done, look(here, self.policy, self.score, samples=self.samples, seed=4000 + here.seed)


def columns(rows: Sequence[Mapping]) -> dict[str, list]:
    """A list per name."""
    return {name: [row[name] for row in rows] for name in rows[0]}


# --- reward models ------------------------------------------------------------------------------------------


def labelled(here: Lab, per_prompt: int, *, draw: int = 0) -> list[dict]:
    """Pairs of the reference's answers with one label each, in random order; another `draw`, other answers."""
    people, seed = annotators.population(here.seed), 12 + here.seed + 100 * draw
    pairs = here.pairs(here.answers(per_prompt, seed=seed), people, seed=seed)
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(here.seed))
    return [pairs[i] for i in order.tolist()]


def fit(here: Lab, pairs: list[dict]) -> models.RewardModel:
    return here.reward_model(pairs, epochs=max(REWARD_EPOCHS, SEEN / len(pairs)))


def resampled(pairs: list[dict], seed: int) -> list[dict]:
    """As many pairs, drawn with replacement: a bootstrap."""
    draw = torch.randint(len(pairs), (len(pairs),), generator=torch.Generator().manual_seed(seed))
    return [pairs[i] for i in draw.tolist()]


# --- the size of the data -----------------------------------------------------------------------------------


def sizes(*, seed: int, pairs: Sequence[int], looks: Sequence[int], samples: int, per_prompt: int, counts) -> dict:
    """For each number of pairs a reward model; PPO on its score, and best-of-n by it."""
    here = lab(seed)
    rows = labelled(here, 36)
    fits = {n: timed(lambda n=n: evaluate.model_score(fit(here, rows[:n]))) for n in pairs}
    gold, read = answers_of_the_reference(here, {n: score for n, (score, _) in fits.items()}, per_prompt)
    found = {}
    for n, (score, fitting) in fits.items():
        drive = Drive(here, score, looks, samples)
        path = [{"step": step} | seen.row() for step, seen in drive]
        best = [best_of_n(read[n], gold, count) for count in counts]
        found[str(n)] = {"ppo": columns(path), "best_of_n": columns(best), "reference": correlation(gold, read[n])}
        found[str(n)]["seconds"] = fitting + drive.seconds
    return rounded({"seed": seed, "sizes": found})


def answers_of_the_reference(here: Lab, scores: Mapping, samples: int) -> tuple[Tensor, dict]:
    """Gold, and every score, of the same answers: (prompts, samples) each."""
    judges = [evaluate.gold_score(here.world), *scores.values()]
    drawn = evaluate.rollouts(here.sft, here.tokenizer, here.prompts, samples=samples, seed=3000 + here.seed)
    read = zip(*([judge(rollout) for judge in judges] for rollout in drawn), strict=True)
    gold, *rest = (torch.cat(column).double().view(-1, samples) for column in read)
    return gold, dict(zip(scores, rest, strict=True))


# --- cures --------------------------------------------------------------------------------------------------

MEMBERS = 4  # of an ensemble


def members(seed: int, pairs: list[dict]) -> list[Score]:
    """Reward models of the same labels, each from another SFT model and with another bootstrap of the pairs."""
    return [evaluate.model_score(fit(lab(n), resampled(pairs, MEMBERS * seed + n))) for n in range(MEMBERS)]


def penalised(scores: Tensor, penalty: float = 4.0) -> Tensor:
    return scores.mean(0) - penalty * scores.var(0, correction=0)


COMBINE: dict[str, Callable[[Tensor], Tensor]] = {  # (members, ...) to (...)
    "mean": lambda scores: scores.mean(0), "worst": lambda scores: scores.amin(0), "penalised": penalised
}  # fmt: skip


def cures(
    *, seed: int, pairs: int, looks: Sequence[int], samples: int, per_prompt: int, counts: Sequence[int], beta: float
) -> dict:
    """One reward model, followed too far under several eyes; ensembles of the same labels; a price on KL."""
    here = lab(seed)
    rows = labelled(here, 36)
    single, fitting = timed(lambda: evaluate.model_score(fit(here, rows[:pairs])))
    several = members(seed, rows[:pairs])
    eyes = Eyes(here, several, evaluate.model_score(fit(here, rows[pairs : 2 * pairs])))
    found = {"one": driven(here, single, looks, samples, fitting, eyes=eyes)}
    for name, combine in COMBINE.items():
        found[name] = driven(here, ensemble(several, combine), looks, samples, MEMBERS * fitting)
    found["price"] = driven(here, single, looks, samples, fitting, beta=beta)
    gold, read = answers_of_the_reference(here, dict(enumerate([single, *several])), per_prompt)
    together = torch.stack([read[n] for n in range(1, MEMBERS + 1)])
    for name, score in {"one": read[0], **{name: combine(together) for name, combine in COMBINE.items()}}.items():
        found[name]["best_of_n"] = columns([best_of_n(score, gold, n) for n in counts])
    return rounded({"seed": seed, "runs": found})


def ensemble(scores: Sequence[Score], combine: Callable[[Tensor], Tensor]) -> Score:
    return lambda rollout: combine(torch.stack([score(rollout) for score in scores]))


@dataclass(frozen=True, eq=False)
class Eyes:
    """What can be seen on the way without gold: how far members disagree, a second opinion, people's votes."""

    here: Lab
    members: Sequence[Score]
    other: Score  # a reward model of labels that training never saw

    def __call__(self, seen: Look, before: Look) -> dict:
        by_member = torch.stack([torch.cat([score(r) for r in seen.rollouts]) for score in self.members])
        return {
            "disagreement": by_member.std(0, correction=0).mean().item(),
            "second": torch.cat([self.other(rollout) for rollout in seen.rollouts]).mean().item(),
            "votes": self.votes(seen, before),
        }

    def asking(self, policy) -> float:
        """CPU seconds to draw what the votes of a look need: one answer to each prompt."""
        here = self.here
        drawn = evaluate.rollouts(policy, here.tokenizer, here.prompts, samples=1, seed=4000 + here.seed)
        return timed(lambda: list(drawn))[1]

    def votes(self, seen: Look, before: Look) -> float:
        """The first answer to each prompt against the reference's: the share of people who prefer the policy's."""
        sides = [one.answers[:: one.gold.shape[1]] for one in (before, seen)]
        texts = [(prompt, old, new) for (prompt, old, _), (_, new, _) in zip(*sides, strict=True)]
        ends = [(old, new) for (_, _, old), (_, _, new) in zip(*sides, strict=True)]
        people, seed = annotators.population(self.here.seed), 700 + self.here.seed
        cast = annotate(self.here.world, texts, people, seed=seed, finished=ends)
        return sum(vote.label == "second" for vote in cast) / len(cast)


def driven(here: Lab, score: Score, looks, samples: int, fitting: float, *, beta: float = 0.0, eyes=None) -> dict:
    """The path, a few answers; CPU seconds of fitting, of training up to each look, of both. Under `eyes` also points
    by reason, and seconds of asking at each look."""
    drive, path, before = Drive(here, score, looks, samples, beta), [], None
    trained, watched = [], []
    for step, seen in drive:
        before = before or seen
        path.append({"step": step} | seen.row() | (eyes(seen, before) if eyes else {}))
        trained.append(drive.seconds)
        if eyes:
            watched.append(points(here, seen) | {"asking": eyes.asking(drive.policy)})
    answers = [seen.answers[place * samples] for place in (2, 45, 90)]
    found = {"path": columns(path), "answers": answers, "seconds": fitting + drive.seconds}
    found |= {"fitting": fitting, "trained": trained}
    if eyes:
        parts = columns(watched)
        found |= {"asking": parts.pop("asking"), "points": parts}
    return found


# --- what a chapter draws -----------------------------------------------------------------------------------


def by_size(seeds: Sequence[dict]) -> dict[str, dict[str, list[dict]]]:
    """Of `sizes`: by way to push, then by number of labels, the run of each seed."""
    return {
        way: {f"{int(n):,} labels": [seed["sizes"][n][name] for seed in seeds] for n in seeds[0]["sizes"]}
        for way, name in {"PPO": "ppo", "best-of-n": "best_of_n"}.items()
    }


def reference_correlations() -> dict[str, float]:
    """How score and gold correlate among the reference's answers, by number of labels; means of the seeds."""
    sized = [seed["sizes"] for seed in load("12_sizes")]
    return {f"{int(n):,} labels": float(np.mean([one[n]["reference"] for one in sized])) for n in sized[0]}


def over_seeds(runs: Sequence[Mapping[str, list]]) -> dict[str, list[Estimate]]:
    """Mean over the seeds, and its error, of each column, look by look."""
    return {
        name: [evaluate.estimate(torch.tensor(values, dtype=torch.float64)) for values in zip(*lists, strict=True)]
        for name in runs[0]
        for lists in [[run[name] for run in runs]]
    }


def means(estimates: Sequence[Estimate]) -> np.ndarray:
    return np.array([estimate.mean for estimate in estimates])


def root_kl(run: Mapping[str, Sequence[Estimate]]) -> np.ndarray:
    """d, the square root of the mean KL; an estimate below 0 counts as 0."""
    return np.sqrt(np.maximum(means(run["kl"]), 0))


def gold_band(run: Mapping[str, Sequence[Estimate]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """d, and mean gold with one standard error to each side: (d, low, mean, high)."""
    mean, error = means(run["gold"]), np.array([estimate.standard_error for estimate in run["gold"]])
    return root_kl(run), mean - error, mean, mean + error


def peak(run: Mapping[str, list]) -> dict[str, float]:
    """Where gold is highest among the looks, and how high; a maximum of noisy numbers is a little too high."""
    top = max(range(len(run["gold"])), key=run["gold"].__getitem__)
    return {"kl": run["kl"][top], "gold": run["gold"][top]}


class Fit(NamedTuple):
    """A law with two parameters, held against measured gains."""

    d: np.ndarray
    gain: np.ndarray
    parameters: np.ndarray  # alpha, beta
    residual: np.ndarray  # measured minus fitted

    @property
    def typical(self) -> float:
        """Root mean square of the residuals."""
        return float(np.sqrt(np.mean(self.residual**2)))


# --- what a cure costs --------------------------------------------------------------------------------------

VOTES = 128  # at each look, one on each prompt


def treated(cures: Sequence[dict], sizes: Sequence[dict], more: int) -> dict[str, list[dict]]:
    """The run of each seed, by cure: its path, its seconds, and `asked`, the judgements of people. "one" is without a
    cure, the last one has `more` labels; runs that are `stopped` are not among these."""
    found = {name: [seed["runs"][name] | {"asked": CURES["pairs"]} for seed in cures] for name in cures[0]["runs"]}
    larger = [seed["sizes"][str(more)] for seed in sizes]
    return found | {
        f"{more:,} labels": [{"path": run["ppo"], "seconds": run["seconds"], "asked": more} for run in larger]
    }


def stopped(run: dict, kept: int, *, patience: int, votes: bool = False) -> dict:
    """The same run, had it ended `patience` looks after the one that is kept: its path up to there, and the seconds of
    the fit and of training as far as it went. With `votes` people were asked at every look, and somebody drew the
    answers that they saw."""
    looks = min(kept + patience + 1, len(run["trained"]))
    found = {"path": {name: column[: kept + 1] for name, column in run["path"].items()}, "asked": run["asked"]}
    found["seconds"] = run["fitting"] + run["trained"][looks - 1]
    if votes:
        found["seconds"] += sum(run["asking"][:looks])
        found["asked"] += VOTES * looks
    return found


class Cost(NamedTuple):
    """A cure against no cure, seed by seed: what it moves, and what it takes."""

    peak: np.ndarray  # of gold
    peak_kl: np.ndarray
    end: np.ndarray  # gold of the policy that one gets in the end
    end_kl: np.ndarray
    seconds: np.ndarray  # as a multiple, as the next
    asked: np.ndarray  # of people


def cost(runs: Sequence[dict], others: Sequence[dict]) -> Cost:
    """`others`: the same seeds without the cure."""
    rows = []
    for run, other in zip(runs, others, strict=True):
        (path, top), (without, its_top) = ((one["path"], peak(one["path"])) for one in (run, other))
        moved = [top["gold"] - its_top["gold"], top["kl"] - its_top["kl"]]
        moved += [path[name][-1] - without[name][-1] for name in ("gold", "kl")]
        rows.append([*moved, run["seconds"] / other["seconds"], run["asked"] / other["asked"]])
    return Cost(*np.array(rows).T)


def again(*, seed: int, pairs: int, combine: str, way: str) -> dict[str, list]:
    """One push with labels of its own, for whoever presses a button: fewer looks, fewer answers.

    `combine`: a way to combine an ensemble; anything else is one model. `way`: "PPO" or "best-of-n".
    """
    here = lab(0)
    rows = labelled(here, 1 + pairs // 100, draw=seed)[:pairs]
    several = combine in COMBINE
    score = ensemble(members(seed, rows), COMBINE[combine]) if several else evaluate.model_score(fit(here, rows))
    if way == "PPO":
        return columns([
            seen.row() for _, seen in Drive(here, score, looks=[0, 2, 4, 8, 12, 16, 20, 26, 32], samples=2)
        ])
    gold, read = answers_of_the_reference(here, {"it": score}, 64)
    return columns([best_of_n(read["it"], gold, n) for n in (1, 2, 4, 8, 16)])


LOOKS = [0, 1, 2, 4, 6, 8, 10, 12, 16, 20, 24, 32, 40]
DRIVEN = {"looks": LOOKS, "samples": 4}
SIZES = {"pairs": [64, 256, 1024, 4096], "per_prompt": 256, "counts": [1, 2, 4, 8, 16, 32, 64]} | DRIVEN
CURES = {"pairs": 1024, "per_prompt": 128, "counts": [1, 2, 4, 8, 16, 32], "beta": 0.1} | DRIVEN
SEEDS = range(3)
EXPERIMENTS = [
    Experiment("12_sizes", sizes, tuple({"seed": seed} | SIZES for seed in SEEDS)),
    Experiment("12_cures", cures, tuple({"seed": seed} | CURES for seed in SEEDS)),
]
