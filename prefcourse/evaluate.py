"""What a policy or a reward model is worth, and how sure we are: every estimate comes with its error.

Pure functions first (numbers in, numbers out), then what needs models and worlds. Measures; never trains,
never draws. All sampling is at temperature 1, so that what is measured is the policy itself.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from prefcourse.backbone import response_logprobs
from prefcourse.models import PolicyWithValue, RewardModel
from prefcourse.rollout import Rollout, sample
from prefcourse.sequences import Sequences, encode

PerRow = Float[Tensor, " N"]
AnyShape = Float[Tensor, "*shape"]
PerSample = Float[Tensor, "P n"]  # n answers to each of P prompts


class Estimate(NamedTuple):
    mean: float
    standard_error: float


class Share(NamedTuple):
    rate: float
    low: float  # of a 95 % interval
    high: float


def estimate(values: AnyShape) -> Estimate:
    """Mean of independent numbers and its standard error, sd / sqrt N; a single number has error nan."""
    values = values.detach().double().flatten()
    if len(values) == 0:
        raise ValueError("there is nothing to average: the list is empty")
    spread = values.std().item() if len(values) > 1 else math.nan
    return Estimate(values.mean().item(), spread / math.sqrt(len(values)))


def wilson(successes: float, trials: int, *, z: float = 1.96) -> Share:
    """Wilson's score interval (1927): unlike rate +- 2 SE it stays in [0, 1], with a width at 0 and at 1."""
    if trials < 1:
        raise ValueError("a rate of 0 trials is undefined; give at least one comparison")
    rate, shrink = successes / trials, 1 + z**2 / trials
    centre = (rate + z**2 / (2 * trials)) / shrink
    half = z / shrink * math.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    return Share(rate, max(0.0, centre - half), min(1.0, centre + half))


def win_rate(gold_a: AnyShape, gold_b: AnyShape) -> Share:
    """How often a beats b, row against row; a tie is half a win. Wilson interval, too wide with many ties."""
    if gold_a.shape != gold_b.shape:
        shapes = f"{tuple(gold_a.shape)} and {tuple(gold_b.shape)}"
        raise ValueError(f"shapes {shapes} differ: both must answer the same prompts, equally often")
    wins = (gold_a > gold_b).sum().item() + 0.5 * (gold_a == gold_b).sum().item()
    return wilson(wins, gold_a.numel())


def kl_estimate(
    logprobs: Float[Tensor, "B T"], ref_logprobs: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"]
) -> Estimate:
    """KL(policy, ref) per response, in nats: the mean over rows of the log-ratio SUMMED over tokens.

    Unbiased when the policy drew the rows; single rows may be negative. Rows count as independent draws.
    """
    return estimate((logprobs - ref_logprobs).masked_fill(~mask, 0.0).sum(dim=1))


def distinct_n(texts: Iterable[str], n: int) -> float:
    """Different n-grams over all n-grams (Li et al., 1510.03055); nan if no text is that long.

    It falls as texts are added: compare only equal numbers of them.
    """
    grams = [tuple(w[i : i + n]) for w in map(str.split, texts) for i in range(len(w) - n + 1)]
    return len(set(grams)) / len(grams) if grams else math.nan


def distinct_share(texts: list[str]) -> float:
    """Different texts over all texts: 1 / N when all say the same."""
    return len(set(texts)) / len(texts) if texts else math.nan


def effective_number(things: Iterable[Hashable]) -> float:
    """exp(entropy) of their shares: 4 if four kinds are equally common, nearer to 1 the more one of them prevails."""
    shares = torch.tensor(list(Counter(things).values()), dtype=torch.double)
    return torch.special.entr(shares / shares.sum()).sum().exp().item()


class CalibrationBin(NamedTuple):
    confidence: float  # mean of what was claimed
    accuracy: float  # share that was right
    count: int


def calibration_bins(confidence: PerRow, correct: PerRow, *, bins: int = 10) -> list[CalibrationBin]:
    """Claimed probability and share that was right, in equal bins of [0, 1]; empty ones left out."""
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise ValueError("confidence must lie in [0, 1]; are these scores? sigmoid(margin) is a probability")
    index = (confidence * bins).long().clamp(max=bins - 1)  # exactly 1 joins the last bin
    members = [(confidence[index == i].double(), correct[index == i].double()) for i in index.unique()]
    return [CalibrationBin(claim.mean().item(), truth.mean().item(), len(claim)) for claim, truth in members]


def expected_calibration_error(confidence: PerRow, correct: PerRow, *, bins: int = 10) -> float:
    """Mean gap between claim and truth, bins weighted by their count (Guo et al., 1706.04599, eq. 3)."""
    parts = calibration_bins(confidence, correct, bins=bins)
    return sum(part.count * abs(part.confidence - part.accuracy) for part in parts) / len(confidence)


class RewardModelReport(NamedTuple):
    accuracy: Share  # of the labels; equal scores are half right
    calibration_error: float
    bins: list[CalibrationBin]


def judge_scores(chosen: PerRow, rejected: PerRow) -> RewardModelReport:
    """Does the higher score win, and as often as sigmoid(|margin|) claims? Pairs count as independent."""
    confidence = torch.sigmoid((chosen - rejected).abs())  # in the likelier winner: .5 to 1
    correct = (chosen > rejected).double() + 0.5 * (chosen == rejected)
    error = expected_calibration_error(confidence, correct, bins=20)
    bins = calibration_bins(confidence, correct, bins=20)
    return RewardModelReport(win_rate(chosen, rejected), error, bins)


class Displacement(NamedTuple):
    chosen: Estimate
    rejected: Estimate


def displacement(chosen: PerRow, rejected: PerRow, ref_chosen: PerRow, ref_rejected: PerRow) -> Displacement:
    """Mean change of summed log-probabilities since the reference: both may fall (2410.08847)."""
    return Displacement(estimate(chosen - ref_chosen), estimate(rejected - ref_rejected))


class FrontierPoint(NamedTuple):
    beta: float
    reward: float
    kl: float
    effective_sample_size: float  # per prompt; near 1 the point tells of the sample, not of the optimum


def optimal_frontier(gold: PerSample, betas: Iterable[float]) -> list[FrontierPoint]:
    """Reward and KL of pi* = pi_ref exp(r / beta) / Z, from n samples of the reference for each of P prompts.

    A prompt's samples are reweighted by exp(r / beta) among themselves, as each prompt has its own Z; then
    prompts are averaged. KL = E[r] / beta - log Z is computed as log n minus the entropy of the weights: the
    same number, without the difference of two large ones. No estimate can exceed log n.
    """
    if gold.ndim != 2:
        raise ValueError(f"gold has shape {tuple(gold.shape)}; expected (prompts, samples of each)")
    points = []
    for beta in map(float, betas):
        if not beta > 0:
            raise ValueError(f"beta must be above 0, not {beta}: with no pull to the reference, no tilt")
        log_weights = torch.log_softmax(gold.double() / beta, dim=1)
        weights = log_weights.exp()
        kl = math.log(gold.shape[1]) + (weights * log_weights).sum(dim=1)  # (P, n) -> (P,), as the next two
        reward, size = (weights * gold).sum(dim=1), 1 / weights.square().sum(dim=1)
        points.append(FrontierPoint(beta, reward.mean().item(), kl.mean().item(), size.mean().item()))
    return points


# --- from here on: models and worlds -----------------------------------------------------------------------

Score = Callable[[Rollout], Float[Tensor, " B"]]


def _gold(world, rollout: Rollout) -> list[float]:
    rows = zip(rollout.prompts, rollout.texts, rollout.finished.tolist(), strict=True)
    return [world.gold(prompt, text, finished=finished) for prompt, text, finished in rows]


def gold_score(world) -> Score:
    """The world's true reward as a `score` for training: what no real project has."""
    return lambda rollout: torch.tensor(_gold(world, rollout))


def model_score(reward_model: RewardModel) -> Score:
    """A reward model as a `score` for training, without gradient."""
    return torch.no_grad()(lambda rollout: reward_model(rollout.sequences.left_aligned()))


@torch.no_grad()
def read_rows(function: Callable, sequences: Sequences, *, batch_size: int = 256) -> PerRow:
    """`function(Sequences) -> (B,)` of many rows, without gradient, rows of like length together."""
    result = torch.zeros(len(sequences))
    for rows in sequences.attention_mask.sum(dim=1).argsort().split(batch_size):
        result[rows] = function(sequences.take(rows)).float().to(result.device)
    return result


def read_pairs(function: Callable, tokenizer, pairs) -> tuple[PerRow, PerRow]:
    """`function(Sequences) -> (B,)` of every chosen and every rejected response. A tie has neither."""
    rows = [(row["prompt"], row["chosen"], row["rejected"]) for row in pairs if not row.get("tie")]
    if not rows:
        raise ValueError("there are no decided pairs to read; were all of them ties?")
    prompts, *sides = zip(*rows, strict=True)
    chosen, rejected = (read_rows(function, encode(tokenizer, prompts, side)) for side in sides)
    return chosen, rejected


def evaluate_reward_model(reward_model: RewardModel, tokenizer, pairs) -> RewardModelReport:
    """Accuracy and calibration on labels that it has not seen."""
    return judge_scores(*read_pairs(reward_model, tokenizer, pairs))


def pair_logprobs(model, tokenizer, pairs) -> tuple[PerRow, PerRow]:
    """log p(response | prompt), summed over tokens, of each chosen and each rejected response."""
    return read_pairs(lambda rows: response_logprobs(model, rows).sum(dim=1), tokenizer, pairs)


@torch.no_grad()
def standardise(reward_model: RewardModel, sequences: Sequences) -> tuple[float, float]:
    """Rescale the head in place so that scores of these rows have mean 0 and standard deviation 1.

    Bradley-Terry settles neither: an offset cancels in every pair, and the scale is only that of the
    annotators' noise. No ranking changes, and beta then means the same for every reward model. Calibration is
    lost, so measure it before. Returns mean and standard deviation as they were.
    """
    scores = read_rows(reward_model, sequences)
    mean, spread = scores.mean().item(), scores.std(correction=0).item()
    if not spread > 1e-8:
        raise ValueError("all scores are equal: train the reward model first, and give it unlike responses")
    reward_model.head.weight.div_(spread)
    reward_model.head.bias.sub_(mean).div_(spread)
    return mean, spread


def rollouts(
    policy, tokenizer, prompts: list[str], *, samples: int, seed: int, max_new_tokens: int = 32,
    batch_size: int = 256,
) -> Iterator[Rollout]:  # fmt: skip
    """`samples` answers to each prompt, those to one prompt in a row, `batch_size` rows at a time."""
    lm = policy.lm if isinstance(policy, PolicyWithValue) else policy
    generator = torch.Generator(lm.device).manual_seed(seed)
    asked = [prompt for prompt in prompts for _ in range(samples)]
    if not asked:
        raise ValueError(f"nothing to sample: {len(prompts)} prompts, {samples} samples of each")
    for start in range(0, len(asked), batch_size):
        rows = asked[start : start + batch_size]
        yield sample(lm, tokenizer, rows, max_new_tokens=max_new_tokens, generator=generator)


def sample_gold(policy, tokenizer, world, prompts: list[str], *, samples: int, seed: int) -> PerSample:
    """Gold of many answers to each prompt. Of the reference, it is what `optimal_frontier` asks for."""
    drawn = rollouts(policy, tokenizer, prompts, samples=samples, seed=seed)
    return torch.tensor([gold for rollout in drawn for gold in _gold(world, rollout)]).view(-1, samples)


def second_skill_accuracy(policy, tokenizer, world, *, samples: int = 2, seed: int) -> Share:
    """Right answers to `world.prompts("counting")`, which no preference touches: forgetting, measured."""
    right = sample_gold(policy, tokenizer, world, world.prompts("counting"), samples=samples, seed=seed) > 0
    return wilson(right.sum().item(), right.numel())


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One policy on some prompts. Errors are those of new answers to the same prompts (a little too wide)."""

    prompts: list[str]
    texts: list[list[str]]  # the answers to each prompt
    sample_gold: PerSample
    gold: Estimate
    score: Estimate | None  # what the reward model says of the same answers
    kl: Estimate  # KL(policy, reference), nats per response
    length: float  # tokens, EOS included
    finished: float  # share that ended with EOS
    entropy: float  # nats per token: mean of -log p over the policy's own tokens
    distinct: float  # different answers among the samples of a prompt, mean over prompts
    distinct_bigrams: float  # of all answers together
    flattery: float  # flattering sentences per answer
    win_rate: Share | None  # of gold, against the baseline's

    def metrics(self) -> dict[str, float]:
        """One flat row, for a table or JSON."""
        estimates = {name: getattr(self, name) for name in ("gold", "score", "kl")}
        row = {name: value.mean for name, value in estimates.items() if value}
        row |= {f"{name}_se": value.standard_error for name, value in estimates.items() if value}
        names = ("length", "finished", "entropy", "distinct", "distinct_bigrams", "flattery")
        row |= {name: getattr(self, name) for name in names}
        return row | dict(zip(("win_rate", "win_low", "win_high"), self.win_rate or (), strict=False))


def evaluate_policy(
    policy, tokenizer, world, prompts: list[str], *, reference, seed: int, samples: int = 8,
    score: Score | None = None, baseline: PerSample | None = None, max_new_tokens: int = 32,
) -> Evaluation:  # fmt: skip
    """Sample, read, count. `baseline`: gold to win against, (P, samples), or (P, 1): one answer per prompt."""
    drawn = rollouts(policy, tokenizer, prompts, samples=samples, seed=seed, max_new_tokens=max_new_tokens)
    parts = [(rollout.texts, _measure(rollout, reference, world, score)) for rollout in drawn]
    answers = [text for texts, _ in parts for text in texts]
    column = {name: torch.cat([measured[name] for _, measured in parts]) for name in parts[0][1]}
    texts = [answers[start : start + samples] for start in range(0, len(answers), samples)]
    gold, length = column["gold"].view(-1, samples), column["length"]
    if baseline is not None and baseline.shape == (len(prompts), 1):
        baseline = baseline.expand_as(gold)
    return Evaluation(
        list(prompts), texts, gold, estimate(gold), estimate(column["score"]) if score else None,
        kl=estimate(column["log_ratio"]), length=length.mean().item(),
        finished=column["finished"].mean().item(), entropy=(-column["logprob"].sum() / length.sum()).item(),
        distinct=sum(map(distinct_share, texts)) / len(texts), distinct_bigrams=distinct_n(answers, 2),
        flattery=sum(map(world.flattery, answers)) / len(answers),
        win_rate=None if baseline is None else win_rate(gold, baseline),
    )  # fmt: skip


@torch.no_grad()
def _measure(rollout: Rollout, reference, world, score: Score | None) -> dict[str, Float[Tensor, " B"]]:
    """One number per response for each thing measured."""
    logprob = rollout.logprobs.sum(dim=1)
    ref_logprob = response_logprobs(reference, rollout.sequences.left_aligned()).sum(dim=1)
    columns = {"logprob": logprob, "log_ratio": logprob - ref_logprob, "gold": gold_score(world)(rollout)}
    columns |= {"length": rollout.sequences.lengths.float(), "finished": rollout.finished.float()}
    return columns | ({"score": score(rollout).detach().float()} if score else {})
