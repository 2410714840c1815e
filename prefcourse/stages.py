"""The stages of the main job: each fills a folder from the folders of earlier ones, and says what it found.

A stage takes its randomness from the run's seed and the name of what it is for. So one that was cut off and is done
again tomorrow gives the same numbers as one done today. Knows nothing of resuming, caching or reports.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from prefcourse import annotators, evaluate, models, train
from prefcourse.agreement import ceiling_from_annotators
from prefcourse.data.own import read_own_pairs
from prefcourse.data.pairs import annotate, gaps, pairs_from_votes
from prefcourse.data.schema import DataError, in_words
from prefcourse.progress import progress
from prefcourse.rollout import answer_twice, sample
from prefcourse.train.supervised import steps_in
from prefcourse.worlds.pocket import MAX_RESPONSE_TOKENS, PocketWorld

POPULATIONS = {
    "default": annotators.population,
    "careful": annotators.careful_population,
    "length-biased": annotators.length_biased_population,
    "flattery-loving": annotators.flattery_loving_population,
}
BATCH = 64  # rows per update, in every stage
FEWEST_PAIRS = 20


@dataclass(frozen=True)
class Settings:
    """What a run is. All but the last three decide its numbers."""

    seed: int = 0
    size: str = "xs"
    pairs_file: str | None = None  # own preference pairs; None: the SFT model answers, annotators choose
    annotators: str = "default"
    ppo_beta: float = 0.1
    dpo_beta: float = 0.1
    demonstrations: int = 6000
    sft_steps: int = 600
    sft_learning_rate: float = 1e-2
    pairs: int = 2500
    labels_per_pair: int = 1
    held_out: float = 0.2  # share of the pairs on which the reward model is tested
    reward_epochs: float = 4
    reward_learning_rate: float = 2e-3
    ppo_iterations: int = 40
    ppo_learning_rate: float = 3e-4
    dpo_epochs: float = 2
    dpo_learning_rate: float = 5e-4
    samples: int = 4  # answers to each of the 128 prompts when a policy is measured
    frontier_samples: int = 64  # the same, to find the optimum
    threads: int = 1  # sums in another order round otherwise
    out: str | Path | None = None
    resume: bool = False
    use_cache: bool = True

    @property
    def folder(self) -> Path:
        return Path(self.out) if self.out else Path("out") / f"run-{self.seed}-{self.size}"

    def identity(self) -> dict:
        """What decides the numbers; own pairs count by content, wherever the file lies."""
        known = {name: value for name, value in asdict(self).items() if name not in ("out", "resume", "use_cache")}
        if self.pairs_file:
            digest = hashlib.sha256(Path(self.pairs_file).read_bytes()).hexdigest()
            known["pairs_file"] = f"{Path(self.pairs_file).name} (sha256 {digest[:16]})"
        return known


# --- what all stages share ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lab:
    """A run's settings and the folder in which its stages find each other's work."""

    settings: Settings
    world: PocketWorld = field(default_factory=PocketWorld)

    @cached_property
    def tokenizer(self):
        return self.world.tokenizer()

    @cached_property
    def prompts(self) -> list[str]:
        return self.world.prompts("train")

    def seed(self, purpose: str) -> int:
        """The same for the same run and purpose, on every machine; unrelated to any other."""
        return int(hashlib.sha256(f"{self.settings.seed}/{purpose}".encode()).hexdigest()[:8], 16)

    def generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed(purpose))

    def base(self):
        return models.tiny_lm(self.tokenizer, self.settings.size, seed=self.seed("base"))

    def lm(self, stage: str):
        """The language model that a stage saved, frozen."""
        return models.load_lm(self.settings.folder / stage).eval().requires_grad_(False)

    def reward_model(self):
        return models.RewardModel.from_pretrained(self.settings.folder / "reward_model").eval().requires_grad_(False)

    def pairs(self, name: str) -> list[dict]:
        return read_lines(self.settings.folder / "pairs" / f"{name}.jsonl")

    def result(self, stage: str) -> dict:
        return json.loads((self.settings.folder / stage / "result.json").read_text())


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_lines(path: Path, rows: Iterable[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def follow(loop: Iterator[dict], label: str, steps: int, folder: Path) -> list[dict]:
    """Run a training loop to its end under a progress bar; its metrics, which are kept beside the model."""
    history = list(progress(loop, label, steps))
    write_lines(folder / "history.jsonl", history)
    return history


# --- the stages: each fills a folder and returns what it found, with a line of words --------------------------


def sft(lab: Lab, folder: Path) -> dict:
    s, model = lab.settings, lab.base()
    rows = lab.world.demonstrations(s.demonstrations, lab.seed("demonstrations"))
    loop = train.sft(
        model, lab.tokenizer, rows, steps=s.sft_steps, batch_size=BATCH, learning_rate=s.sft_learning_rate,
        seed=lab.seed("sft"),
    )  # fmt: skip
    loss = follow(loop, "SFT", s.sft_steps, folder)[-1]["loss"]
    model.save_pretrained(folder)
    lab.tokenizer.save_pretrained(folder)
    return {"loss": loss, "words": f"{len(rows)} demonstrations, loss {loss:.2f} nats per token"}


def pairs(lab: Lab, folder: Path) -> dict:
    s = lab.settings
    found = own_pairs(lab) if s.pairs_file else simulated_pairs(lab)
    training, held_out = split(found.rows, s.held_out, lab.seed("split"))
    write_lines(folder / "pairs.jsonl", training)
    write_lines(folder / "held_out.jsonl", held_out)
    gold = [[lab.world.gold(row["prompt"], row[side]) for row in held_out] for side in ("chosen", "rejected")]
    right = evaluate.win_rate(*map(torch.tensor, gold))
    words = f"{len(training)} to learn from, {len(held_out)} held out; left out: {in_words(found.dropped)}"
    counts = {"training": len(training), "held_out": len(held_out), "dropped": found.dropped}
    return counts | {"gold_agrees": right._asdict(), "ceiling": found.ceiling, "words": words}


class Found(NamedTuple):
    rows: list[dict]
    dropped: dict[str, int]
    ceiling: float | None = None  # on the accuracy of any reward model, where the annotators are known


def simulated_pairs(lab: Lab) -> Found:
    """Two answers of the SFT model to each prompt; somebody of the population says which is better."""
    s, model, generator = lab.settings, lab.lm("sft"), lab.generator("pairs")
    asked = list(itertools.islice(itertools.cycle(lab.prompts), s.pairs))
    texts, cut_off = [], 0
    for start in progress(range(0, len(asked), 512), "pairs"):
        rows = asked[start : start + 512]
        drawn = answer_twice(model, lab.tokenizer, rows, max_new_tokens=MAX_RESPONSE_TOKENS, generator=generator)
        whole = drawn.both_finished()
        texts, cut_off = texts + whole.texts, cut_off + len(drawn.texts) - len(whole.texts)
    people = POPULATIONS[s.annotators]()
    votes = annotate(lab.world, texts, people, seed=lab.seed("annotators"), per_item=s.labels_per_pair)
    ceiling = ceiling_from_annotators(people, annotators.pair_features(*gaps(lab.world, texts))).best
    rows = [row for row in pairs_from_votes(texts, votes) if not row["tie"]]
    alike = len(asked) - len(texts) - cut_off
    dropped = {"same answer twice, or an empty one": alike, "cut off": cut_off, "tie": len(votes) - len(rows)}
    return Found(rows, {reason: count for reason, count in dropped.items() if count}, ceiling)


def own_pairs(lab: Lab) -> Found:
    limits = {"max_words": MAX_RESPONSE_TOKENS, "fewest": FEWEST_PAIRS}
    return Found(*read_own_pairs(lab.settings.pairs_file, lab.tokenizer, **limits))


def split(rows: list[dict], share: float, seed: int) -> tuple[list[dict], list[dict]]:
    """Rows to train on and rows to test on; all labels on one pair stay together, so that none is known before."""
    pair_of = [(row["prompt"], *sorted((row["chosen"], row["rejected"]))) for row in rows]
    different = list(dict.fromkeys(pair_of))
    order = np.random.default_rng(seed).permutation(len(different))
    held = {different[i] for i in order[: max(1, round(share * len(different)))]}
    sides = [[row for row, pair in zip(rows, pair_of, strict=True) if (pair in held) == wanted] for wanted in (0, 1)]
    if not all(sides):
        raise DataError(f"only {len(different)} different pairs: too few to hold out {share:g} of them")
    return sides[0], sides[1]


def reward_model(lab: Lab, folder: Path) -> dict:
    s, reference, rows = lab.settings, lab.lm("sft"), lab.pairs("pairs")
    model = models.RewardModel.from_lm(reference)
    loop = train.reward_model(
        model, lab.tokenizer, rows, epochs=s.reward_epochs, batch_size=BATCH, learning_rate=s.reward_learning_rate,
        seed=lab.seed("reward_model"),
    )  # fmt: skip
    follow(loop, "reward model", steps_in(s.reward_epochs, len(rows), BATCH), folder)
    judged = evaluate.evaluate_reward_model(model, lab.tokenizer, lab.pairs("held_out"))
    fresh = sample(
        reference, lab.tokenizer, lab.prompts * 4, max_new_tokens=MAX_RESPONSE_TOKENS,
        generator=lab.generator("standardise"),
    )  # fmt: skip
    evaluate.standardise(model, fresh.sequences.left_aligned())  # after judging: it changes what scores claim
    model.save_pretrained(folder)
    words = f"agrees with {100 * judged.accuracy.rate:.0f} % of the held-out labels"
    return {"accuracy": judged.accuracy._asdict(), "calibration_error": judged.calibration_error, "words": words}


def ppo(lab: Lab, folder: Path) -> dict:
    s, reference, golds = lab.settings, lab.lm("sft"), []
    policy, score = models.trainable_copy(reference), evaluate.model_score(lab.reward_model())
    truth = evaluate.gold_score(lab.world)

    def watched(rollout):
        golds.append(truth(rollout).mean().item())  # for the figure; PPO learns from the score alone
        return score(rollout)

    loop = train.ppo(
        policy, reference, lab.tokenizer, lab.prompts, watched, beta=s.ppo_beta, iterations=s.ppo_iterations,
        batch_size=BATCH, learning_rate=s.ppo_learning_rate, max_new_tokens=MAX_RESPONSE_TOKENS, seed=lab.seed("ppo"),
    )  # fmt: skip
    seen = (metrics | {"gold": golds[-1]} for metrics in loop)
    last = follow(seen, "PPO", s.ppo_iterations, folder)[-1]
    policy.save_pretrained(folder)
    return {"words": "last round: score {score:.2f}, gold {gold:.2f}, KL {kl:.2f}".format(**last)}


def dpo(lab: Lab, folder: Path) -> dict:
    s, reference, rows = lab.settings, lab.lm("sft"), lab.pairs("pairs")
    policy = models.trainable_copy(reference)
    loop = train.dpo(
        policy, reference, lab.tokenizer, rows, beta=s.dpo_beta, epochs=s.dpo_epochs, batch_size=BATCH,
        learning_rate=s.dpo_learning_rate, seed=lab.seed("dpo"),
    )  # fmt: skip
    follow(loop, "DPO", steps_in(s.dpo_epochs, len(rows), BATCH), folder)
    policy.save_pretrained(folder)
    after, before = (evaluate.pair_logprobs(lm, lab.tokenizer, rows) for lm in (policy, reference))
    moved = {side: change.mean for side, change in evaluate.displacement(*after, *before)._asdict().items()}
    words = "log-probability of chosen {chosen:+.1f}, of rejected {rejected:+.1f} nats".format(**moved)
    return {"displacement": moved, "words": words}


def evaluation(lab: Lab, folder: Path) -> dict:
    s, reference = lab.settings, lab.lm("sft")
    policies = {"SFT": reference, "base": lab.base(), "PPO": lab.lm("ppo"), "DPO": lab.lm("dpo")}
    score, rows, baseline = evaluate.model_score(lab.reward_model()), {}, None
    for name, policy in progress(policies.items(), "evaluation", len(policies)):
        seen = evaluate.evaluate_policy(
            policy, lab.tokenizer, lab.world, lab.prompts, reference=reference, samples=s.samples, score=score,
            baseline=baseline, seed=lab.seed(f"evaluation of {name}"),
        )  # fmt: skip
        baseline = seen.sample_gold if name == "SFT" else baseline
        rows[name] = seen.metrics() | elsewhere(lab, policy)
    asked = {"samples": s.frontier_samples, "seed": lab.seed("frontier")}
    gold = evaluate.sample_gold(reference, lab.tokenizer, lab.world, lab.prompts, **asked)
    frontier = evaluate.optimal_frontier(gold, np.geomspace(10, 0.02, 24))
    best = max(("PPO", "DPO"), key=lambda name: rows[name]["gold"])
    words = f"gold {rows['SFT']['gold']:.2f} after SFT, {rows[best]['gold']:.2f} after {best}"
    return {
        "policies": {name: rows[name] for name in ("base", "SFT", "PPO", "DPO")},
        "frontier": [point._asdict() for point in frontier],
        "samples": side_by_side(lab, policies),
        "words": words,
    }


def elsewhere(lab: Lab, policy) -> dict[str, float]:
    """What the preferences never asked about: other things, and a second skill (forgetting)."""
    asked = {"samples": 2, "seed": lab.seed("elsewhere")}
    new = evaluate.sample_gold(policy, lab.tokenizer, lab.world, lab.world.prompts("held_out_things"), **asked)
    skill = evaluate.second_skill_accuracy(policy, lab.tokenizer, lab.world, **asked)
    return {"gold_on_new_things": new.mean().item(), "second_skill": skill.rate}


def side_by_side(lab: Lab, policies: dict) -> list[dict]:
    """One answer of each policy to the same questions, and what the world says of it."""
    prompts = [*lab.prompts[:2], *lab.prompts[6::25], *lab.world.prompts("held_out_things")[:1]]

    def answers(name: str) -> Iterator[dict]:
        options = {"max_new_tokens": MAX_RESPONSE_TOKENS, "generator": lab.generator("samples")}
        drawn = sample(policies[name], lab.tokenizer, prompts, **options)
        for prompt, text, finished in zip(prompts, drawn.texts, drawn.finished.tolist(), strict=True):
            why = lab.world.explain(prompt, text, finished=finished)
            gold = lab.world.gold(prompt, text, finished=finished)
            yield {"text": text, "gold": gold, "why": [f"{points:+.1f} {reason}" for points, reason in why]}

    columns = {name: list(answers(name)) for name in ("base", "SFT", "PPO", "DPO")}
    return [
        {"prompt": prompt, "answers": {name: column[row] for name, column in columns.items()}}
        for row, prompt in enumerate(prompts)
    ]
