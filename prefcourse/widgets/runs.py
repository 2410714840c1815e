"""The laboratory without its panel: one experiment from annotators to policy, and the runs that were made.

    run = Run(Settings(method="DPO", beta=0.1), Materials(lab()))
    for point in run.points(): ...

Trains for real and measures on the way. Knows no widget and no figure; numbers go out as rows.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple

import torch

from prefcourse import annotators, evaluate, losses, models, train
from prefcourse.data.pairs import annotate, pairs_from_votes
from prefcourse.evaluate import Estimate, Evaluation, FrontierPoint
from prefcourse.lab import Lab
from prefcourse.models import PolicyWithValue

METHODS = {"SFT": 1e-3, "PPO": 3e-4, "DPO": 5e-4, "online DPO": 5e-4, "best-of-n": 0.0}  # and their learning rates
PEOPLE = {
    "the course's twenty": annotators.population,
    "careful": annotators.careful_population,
    "careful, but long is better": annotators.length_biased_population,
    "careful, but fond of flattery": annotators.flattery_loving_population,
}
MOST_PAIRS, PER_PROMPT = 2048, 20  # answers are drawn twenty times: a few are the same twice, and left out
LOOKS = 12  # of a run: how often it is measured
BETAS = [20 * 0.7**i for i in range(20)]  # of the optimum's line, from next to the reference outwards
FOLLOWED = (0, 12, 47, 85, 122)  # rows of the prompts whose answers are shown


class SettingError(ValueError):
    """A setting that no experiment can have; the message names it and the way out."""


@dataclass(frozen=True)
class Settings:
    method: str = "PPO"
    beta: float = 0.1
    learning_rate: float | None = None  # None: the method's usual one
    steps: int = 40
    n: int = 16  # of best-of-n
    pairs: int = 1024
    people: str = "the course's twenty"
    noise: float = 1.0  # annotators' temperature: 2 halves every slope
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in {"method": METHODS, "people": PEOPLE}.items():
            if getattr(self, name) not in known:
                raise SettingError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(known)}")
        low = {"pairs": 16, "steps": 1, "n": 1, "noise": 0.05, "beta": 0.0}
        for name, least in low.items():
            if not least <= getattr(self, name) < math.inf:
                raise SettingError(f"{name} is {getattr(self, name)}; it must be {least} or more")
        if self.pairs > MOST_PAIRS:
            raise SettingError(f"pairs is {self.pairs}; at most {MOST_PAIRS} are drawn")
        if self.beta == 0 and "DPO" in self.method:
            raise SettingError("beta is 0, and then DPO has no gradient; PPO can do without a pull to the reference")

    @property
    def rate(self) -> float:
        return METHODS[self.method] if self.learning_rate is None else self.learning_rate


class Point(NamedTuple):
    """One look at the policy, on fresh answers."""

    step: int
    beta: float
    score: Estimate
    gold: Estimate
    kl: Estimate
    length: float


class Materials:
    """What experiments share, each made once: answers, labels, reward models, the optimum's line."""

    def __init__(self, lab: Lab):
        self.lab, self._kept = lab, {}

    def _once(self, key: tuple, make):
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def pairs(self, settings: Settings) -> list[dict]:
        """The first `pairs` answers, judged by one of the people each."""
        answers = self._once(("answers", settings.seed), lambda: self.lab.answers(PER_PROMPT, seed=settings.seed))
        texts, ends = answers.texts[: settings.pairs], answers.finished[: settings.pairs]
        people = PEOPLE[settings.people](settings.seed, scale=1.6 / settings.noise)
        return pairs_from_votes(texts, annotate(self.lab.world, texts, people, seed=settings.seed, finished=ends))

    def frontier(self) -> list[FrontierPoint]:
        """The most gold that any policy could have at each KL, from many answers of the SFT model."""

        def make() -> list[FrontierPoint]:
            here = self.lab
            gold = evaluate.sample_gold(here.sft, here.tokenizer, here.world, here.prompts, samples=32, seed=here.seed)
            return evaluate.optimal_frontier(gold, BETAS)

        return self._once(("frontier",), make)

    def reward_model(self, settings: Settings) -> models.RewardModel:
        """Fitted to these labels; its scores have mean 0 and standard deviation 1 over the SFT model's answers."""
        key = ("reward model", settings.pairs, settings.people, settings.noise, settings.seed)
        return self._once(key, lambda: self._fit(settings))

    def _fit(self, settings: Settings) -> models.RewardModel:
        model, rows = models.RewardModel.from_lm(self.lab.sft), self.pairs(settings)
        epochs = max(2, 2048 / len(rows))  # few pairs are seen more often
        loop = train.reward_model(
            model, self.lab.tokenizer, rows, epochs=epochs, learning_rate=2e-3, seed=settings.seed
        )
        for _ in loop:
            pass
        drawn = evaluate.rollouts(self.lab.sft, self.lab.tokenizer, self.lab.prompts, samples=2, seed=settings.seed)
        evaluate.standardise(model, next(drawn).sequences.left_aligned())
        return models.frozen_copy(model)


@dataclass(eq=False)
class Run:
    """One experiment. `beta` may be changed while it runs; a loop over `points` may be left at any time."""

    settings: Settings
    materials: Materials
    path: list[Point] = field(default_factory=list)
    answers: list[tuple[str, str, str]] = field(default_factory=list)  # prompt, before, now
    state: str = "new"  # then running, and in the end done, stopped or diverged
    step: int = 0
    beta: float = 0.0
    note: str = ""
    policy: object = None

    def __post_init__(self) -> None:
        self.beta = self.settings.beta

    @property
    def name(self) -> str:
        s = self.settings
        what = {"SFT": "", "best-of-n": f", n {s.n}"}.get(s.method, f", beta {s.beta:g}")
        moved = any(point.beta != s.beta for point in self.path)
        return f"{s.method}{what}{' (moved)' if moved else ''}"

    def points(self) -> Iterator[Point | None]:
        """After every step None, or a Point where the policy was measured."""
        self.state = "running"
        self.reward_model = self.materials.reward_model(self.settings)
        yield None
        try:
            yield from self._best_of_n() if self.settings.method == "best-of-n" else self._training()
            self.state = "done"
        except train.Diverged as error:
            self.state, self.note = "diverged", str(error)
        finally:
            if self.state == "running":  # whoever looped has left
                self.state = "stopped"

    def _training(self) -> Iterator[Point | None]:
        s, lab = self.settings, self.materials.lab
        self.policy = models.trainable_copy(lab.sft)
        self.look(lab.sft)
        yield self.path[-1]
        every = max(1, round(s.steps / LOOKS))
        for step, _ in enumerate(LOOPS[s.method](self), 1):
            self.step = step
            if self.step % every and self.step < s.steps:
                yield None
            else:
                self.look(self.policy)
                yield self.path[-1]

    def look(self, policy) -> Evaluation:
        """Measure a policy on fresh answers, with the same random numbers each time."""
        seen = self.materials.lab.evaluate(policy, score=evaluate.model_score(self.reward_model), samples=2)
        self.path.append(Point(self.step, self.beta, seen.score, seen.gold, seen.kl, seen.length))
        self.remember([seen.texts[row][0] for row in FOLLOWED])
        return seen

    def remember(self, texts: list[str]) -> None:
        """The first texts are those from before training."""
        prompts = [self.materials.lab.prompts[row] for row in FOLLOWED]
        before = [old for _, old, _ in self.answers] or texts
        self.answers = list(zip(prompts, before, texts, strict=True))

    def _best_of_n(self) -> Iterator[Point]:
        """No training: draw n answers, give the one with the highest score. The KL is the usual formula,
        log n - (n - 1) / n, an upper bound for answers that may repeat (2401.01879)."""
        lab, score = self.materials.lab, evaluate.model_score(self.reward_model)
        counts = sorted({min(2**power, self.settings.n) for power in range(11)})
        drawn = evaluate.rollouts(
            lab.sft, lab.tokenizer, lab.prompts, samples=self.settings.n, seed=2000 + self.settings.seed
        )
        rounds = [(rollout, score(rollout)) for rollout in drawn]
        scores = torch.cat([part for _, part in rounds]).view(-1, self.settings.n)
        gold = torch.cat([evaluate.gold_score(lab.world)(rollout) for rollout, _ in rounds]).view_as(scores)
        length = torch.cat([rollout.sequences.lengths for rollout, _ in rounds]).view_as(scores).float()
        texts = [text for rollout, _ in rounds for text in rollout.texts]
        for n in counts:
            best = scores[:, :n].argmax(dim=1, keepdim=True)
            picked = (evaluate.estimate(column.gather(1, best)) for column in (scores, gold))
            kl = Estimate(math.log(n) - (n - 1) / n, 0.0)
            self.step = n
            self.path.append(Point(n, self.beta, *picked, kl, length.gather(1, best).mean().item()))
            self.remember([texts[row * self.settings.n + best[row].item()] for row in FOLLOWED])
            yield self.path[-1]


# --- the five methods: loops over the run's own policy ----------------------------------------------------------


def sft_loop(run: Run) -> Iterator[dict]:
    """Imitate the preferred answers; the others are not used."""
    s, lab = run.settings, run.materials.lab
    rows = [{"prompt": row["prompt"], "response": row["chosen"]} for row in run.materials.pairs(s)]
    return train.sft(run.policy, lab.tokenizer, rows, steps=s.steps, learning_rate=s.rate, seed=s.seed)


def steered_dpo_loss(run: Run):
    """DPO's loss with the run's beta as it is now."""
    return lambda *sums, beta: losses.dpo_loss(*sums, beta=run.beta)


def dpo_loop(run: Run) -> Iterator[dict]:
    s, lab, rows = run.settings, run.materials.lab, run.materials.pairs(run.settings)
    epochs = s.steps / -(-len(rows) // 64)
    return train.dpo(
        run.policy, lab.sft, lab.tokenizer, rows, beta=run.beta, epochs=epochs, learning_rate=s.rate,
        loss=steered_dpo_loss(run), seed=s.seed,
    )  # fmt: skip


def online_dpo_loop(run: Run) -> Iterator[dict]:
    s, lab = run.settings, run.materials.lab
    return train.online_dpo(
        run.policy, lab.sft, lab.tokenizer, lab.prompts, evaluate.model_score(run.reward_model), beta=run.beta,
        iterations=s.steps, learning_rate=s.rate, loss=steered_dpo_loss(run), seed=s.seed,
    )  # fmt: skip


def ppo_loop(run: Run) -> Iterator[dict]:
    """PPO; when beta is moved, a new loop goes on from the policy and the critic as they are (Adam begins anew)."""
    s, lab, done = run.settings, run.materials.lab, 0
    actor, score = PolicyWithValue(run.policy), evaluate.model_score(run.reward_model)
    while done < s.steps:
        beta = run.beta
        loop = train.ppo(
            actor, lab.sft, lab.tokenizer, lab.prompts, score, beta=beta, iterations=s.steps - done,
            learning_rate=s.rate, seed=s.seed + done,
        )  # fmt: skip
        for metrics in loop:
            done += 1
            yield metrics
            if run.beta != beta:
                break


LOOPS = {"SFT": sft_loop, "PPO": ppo_loop, "DPO": dpo_loop, "online DPO": online_dpo_loop}


# --- what goes out ------------------------------------------------------------------------------------------


def rows_of(runs: Sequence[Run]) -> list[dict]:
    """One flat row per point of every run."""
    return [
        {"run": number, "name": run.name, "state": run.state}
        | asdict(replace(s, learning_rate=s.rate))
        | {"step": p.step, "beta": p.beta, "score": p.score.mean, "gold": p.gold.mean, "gold_se": p.gold.standard_error}
        | {"kl": p.kl.mean, "kl_se": p.kl.standard_error, "length": p.length}
        for number, run in enumerate(runs, 1)
        for s in [run.settings]
        for p in run.path
    ]


def as_csv(runs: Sequence[Run]) -> str:
    rows, text = rows_of(runs), io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["run"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def describe(run: Run) -> str:
    """The last point in words."""
    if not run.path:
        return f"{run.name}: not measured yet."
    last, first = run.path[-1], run.path[0]
    return (
        f"{run.name}: gold {first.gold.mean:.2f} to {last.gold.mean:.2f}, score {first.score.mean:.2f} to "
        f"{last.score.mean:.2f}, KL {last.kl.mean:.1f} nats, length {first.length:.1f} to {last.length:.1f} tokens."
    )
