"""Chapter 11, PPO against DPO: three questions and the cases that test them. The answers lie apart."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prefcourse.checks.exercise import Call, Case, Exercise, Tolerance, fixed

NEAR = Tolerance(relative=1e-5, absolute=1e-5)  # fp32 inside the function is right
Draw = Callable[[random.Random], Call]


# --- 11.1 unseen_mass ---------------------------------------------------------------------------------------


def _mass(function: Callable, call: Call):
    logprobs, *pairs = call.args
    return function(torch.tensor(logprobs).double(), *(torch.tensor(column, dtype=torch.long) for column in pairs))


def _policy(draw: random.Random, prompts: int, answers: int, never: int = 0) -> list[list[float]]:
    """Log-probabilities; `never` answers of each prompt are never given."""
    rows = []
    for _ in range(prompts):
        weights = [draw.randint(1, 40) for _ in range(answers)]
        for column in draw.sample(range(answers), never):
            weights[column] = 0
        rows.append([math.log(w / sum(weights)) if w else -math.inf for w in weights])
    return rows


def _shown(prompts: Sequence[int], answers: int, pairs: int, *, unlike: int = 4, never: int = 0) -> Draw:
    """`pairs` pairs to each of these prompts, of `unlike` different answers; two more prompts than the largest."""

    def call(draw: random.Random) -> Call:
        rows = []
        for prompt in prompts:
            pool = draw.sample(range(answers), unlike)
            rows += [(prompt, *draw.sample(pool, 2)) for _ in range(pairs)]
        draw.shuffle(rows)
        return Call((_policy(draw, max(prompts) + 1, answers, never), *map(list, zip(*rows, strict=True))))

    return call


THREE = [[math.log(x) for x in (0.5, 0.3, 0.2)]]
COUNTS, ONCE = "chosen and rejected answers are both seen", "an answer that occurs in many pairs counts once"
PROMPTS, NONE = "what is seen for one prompt is not seen for another", "a prompt without a pair: all of it is unseen"
UNSEEN_MASS = Exercise(
    number="11.1",
    function="unseen_mass",
    points=2,
    minutes=15,
    difficulty="easy",
    apply=_mass,
    cases=(
        Case("by-hand", "one prompt, one pair, by hand", fixed(THREE, [0], [0], [2])),
        Case("one-pair", COUNTS, _shown([0], 5, 1)),
        Case("pair-each", COUNTS, _shown([0, 1, 2], 6, 1)),
        Case("many", ONCE, _shown([0], 7, 6)),
        Case("unequal", PROMPTS, _shown([0, 0, 0, 1], 9, 2)),
        Case("again", ONCE, fixed(THREE, [0, 0, 0], [1, 1, 2], [2, 2, 1])),
        Case("several", PROMPTS, _shown([0, 1, 2], 8, 3)),
        Case("crossed", PROMPTS, fixed([*THREE, *THREE], [0, 1], [0, 1], [1, 2])),
        Case("left-out", NONE, _shown([0, 3], 6, 2)),
        Case("nothing", "no pair at all: 1", fixed(THREE, [], [], [])),
        Case("never", "an answer that is never given has no mass", _shown([0, 1], 8, 2, never=3)),
        Case("all", "every answer occurs: 0", fixed(THREE, [0, 0], [0, 2], [1, 1])),
    ),
)


# --- 11.2 online_dpo_step -----------------------------------------------------------------------------------

PAD, EOS, VOCABULARY, LONGEST = 0, 1, 6, 4


@dataclass(eq=False)
class Bigram:
    """A language model that looks at one token: its logits are a row of a table."""

    table: Tensor  # (V, V)

    def __call__(self, input_ids: Tensor) -> Tensor:
        return self.table[input_ids]


class Sampler:
    """Answers of the model that it is given, two to each prompt, in a row. Every call draws anew."""

    def __init__(self, seed: int):
        self.draw = random.Random(seed)

    @torch.no_grad()
    def __call__(self, model, prompts) -> tuple[Tensor, Tensor]:
        rows = [(list(prompt), self.answer(model, prompt)) for prompt in prompts for _ in range(2)]
        width = max(len(prompt) + len(answer) for prompt, answer in rows)
        ids, mask = [], []
        for prompt, answer in rows:
            padding = width - len(prompt) - len(answer)
            ids.append([*prompt, *answer, *[PAD] * padding])
            mask.append([False] * len(prompt) + [True] * len(answer) + [False] * padding)
        return torch.tensor(ids), torch.tensor(mask)

    def answer(self, model, prompt: Sequence[int]) -> list[int]:
        words = list(prompt)
        while words[-1] != EOS and len(words) - len(prompt) < LONGEST:
            weights = model(torch.tensor([words]))[0, -1].softmax(-1).tolist()
            weights[PAD] = 0.0
            words += self.draw.choices(range(VOCABULARY), weights)
        return words[len(prompt) :]


def _one_or_two_steps(function: Callable, call: Call) -> dict | None:
    return (_by_hand if len(call.args) == 2 else _two_steps)(function, call)


def _by_hand(function: Callable, call: Call) -> dict | None:
    """Answers of one word each, of which log-ratios and scores are given, two to each prompt. The prompt is word 0, and
    answer number n is word n + 1."""
    log_ratios, scores = leaves = [torch.tensor(column).double().requires_grad_() for column in call.args]
    rare = torch.full_like(scores, 0.01).requires_grad_()  # under the reference; what is left goes to word 0
    rows = [_alike(rare * ratio.exp()) for ratio in (log_ratios, torch.zeros_like(log_ratios))]
    policy, reference = (Bigram(row.expand(len(row), -1)) for row in rows)
    answers = itertools.cycle(range(1, len(scores) + 1))

    def sample(model, prompts):
        ids = torch.tensor([[0, next(answers)] for _ in prompts for _ in "ab"])
        return ids, torch.tensor([False, True]).repeat(len(ids), 1)

    def judge(input_ids: Tensor, response_mask: Tensor) -> Tensor:
        return scores[input_ids[:, 1] - 1]

    loss = _loss_of(function(policy, reference, [(0,)] * (len(scores) // 2), sample, judge, **call.settings))
    if loss is None:
        return None
    own, of_judge = _gradients(loss, leaves)
    return {"loss": loss, "gradient of the log-ratios": own, "the judge receives a gradient": bool(of_judge.any())}


def _alike(rare: Tensor) -> Tensor:
    """Logits with these probabilities of words 1, 2, ...; no log-probabilities yet, as 3 is added."""
    return torch.cat([1 - rare.sum()[None], rare]).log() + 3


def _two_steps(function: Callable, call: Call) -> dict | None:
    """Loss and gradients of a step, and the loss of the next one, after the policy has changed."""
    policy, reference, words, given = call.args
    prompts = [tuple(prompt) for prompt in given]
    settings = dict(call.settings)
    sample = Sampler(settings.pop("seed"))
    tables = [torch.tensor(table).double().requires_grad_() for table in (policy, reference, words)]
    models = [Bigram(table) for table in tables[:2]]

    def judge(input_ids: Tensor, response_mask: Tensor) -> Tensor:
        return (tables[2][input_ids] * response_mask).sum(1)

    first = _loss_of(function(*models, list(prompts), sample, judge, **settings))
    if first is None:  # a missing `return` has a note of its own
        return None
    own, *others = _gradients(first, tables)
    with torch.no_grad():
        tables[0].copy_(-tables[0])
    second = _loss_of(function(*models, list(prompts), sample, judge, **settings))
    named = zip(("the reference", "the judge"), others, strict=True)
    return (
        {"loss": first, "gradient of the policy": own}
        | {f"{name} receives a gradient": bool(g.any()) for name, g in named}
        | {"loss of the next step": second}
    )


def _gradients(loss, leaves: list[Tensor]) -> list[Tensor]:
    """Zeros for a leaf that the loss does not depend on."""
    found = [None] * len(leaves)
    if isinstance(loss, Tensor) and loss.requires_grad:
        found = torch.autograd.grad(loss.sum(), leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, leaves, strict=True)]


def _loss_of(returned):
    return returned[0] if isinstance(returned, tuple | list) and returned else returned


def _tables(draw: random.Random, *, spread: float = 1.0) -> list[list[list[float]]]:
    return [[[round(draw.gauss(0, spread), 2) for _ in range(VOCABULARY)] for _ in range(VOCABULARY)] for _ in "pr"]


def _step(
    beta: float, prompts: int = 4, *, spread: float = 1.0, words: Sequence[float] | None = None, far: float = 0.0
) -> Draw:
    """`words`: what the judge gives for each word; None draws such that two unlike answers hardly ever tie."""

    def call(draw: random.Random) -> Call:
        policy, reference = _tables(draw, spread=spread)
        if far:
            reference = [[x - far * (column > 2) for column, x in enumerate(row)] for row in reference]
        points = words or [0.0, *(round(draw.uniform(-2, 2), 3) for _ in range(VOCABULARY - 1))]
        asked = [[draw.randint(2, VOCABULARY - 1) for _ in range(draw.randint(1, 3))] for _ in range(prompts)]
        return Call((policy, reference, points, asked), {"beta": beta, "seed": draw.randrange(10_000)})

    return call


NEVER_BORED = [0.0, 0.5, 0.5, 0.5, 0.5, 0.5]  # half a point per word: answers of equal length tie
WORDLESS = [0.0] * VOCABULARY
TWO = "several prompts by hand: the mean over pairs"
LOSS, TIED = "loss and gradient for several beta", "equal scores say nothing: left out, of the mean, too"
ONLINE_DPO_STEP = Exercise(
    number="11.2",
    function="online_dpo_step",
    points=4,
    minutes=30,
    difficulty="hard",
    apply=_one_or_two_steps,
    package=("prefcourse.train.online:online_dpo",),
    cases=(
        Case(
            "by-hand",
            "one prompt, by hand: log-ratios and scores are given",
            fixed([0.5, -1.5], [2.0, 3.0], beta=0.5),
            NEAR,
        ),
        Case("two-prompts", TWO, fixed([0.5, -1.5, 2.0, 1.0], [2.0, 3.0, 1.5, -1.0], beta=0.5), NEAR),
        Case(
            "three-prompts", TWO, fixed([-1.0, 0.0, 2.0, 0.5, 0.5, 1.5], [0.0, 4.0, 1.0, 2.0, 3.0, 2.5], beta=2.0), NEAR
        ),
        Case("tie-by-hand", TIED, fixed([0.5, -1.5, 2.0, 1.0], [2.0, 3.0, 1.0, 1.0], beta=0.5), NEAR),
        *(Case(f"beta-{beta}", LOSS, _step(beta), NEAR) for beta in (0.1, 0.5, 2.0)),
        Case("eight", LOSS, _step(0.3, 8), NEAR),
        Case("near", LOSS, _step(0.2, 5, spread=0.3), NEAR),
        *(Case(f"ties-{n}", TIED, _step(0.5, n, words=NEVER_BORED), NEAR) for n in (5, 6, 9)),
        Case("all-tied", "nothing decided: the loss is 0", _step(0.5, words=WORDLESS), NEAR),
        Case("extreme", "finite at log-ratios of 10,000", _step(1.0, 6, far=1e4), Tolerance(0.002, 0.002)),
    ),
)


# --- 11.3 paired_bootstrap ----------------------------------------------------------------------------------


def _interval(function: Callable, call: Call) -> dict | None:
    """The interval in units of the standard error, what it does on another call, or how often it covers the truth."""
    gold_a, gold_b = (torch.tensor(table).double() for table in call.args)
    settings = dict(call.settings)
    if settings.pop("sets", False):
        return _coverage(function, gold_a, gold_b, **settings)
    difference = gold_a.mean(1) - gold_b.mean(1)
    again = settings.pop("again", False)
    ends = _two(function(gold_a.clone(), gold_b.clone(), **settings))  # may be changed in place
    if ends is None:
        return None
    if again:
        others = [
            _two(function(gold_a.clone(), gold_b.clone(), **settings | {"seed": n})) for n in (call.settings["seed"], 9)
        ]
        return {
            f"{seed} seed gives the same": ends == other
            for seed, other in zip(("the same", "another"), others, strict=True)
        }
    if settings["draws"] == 1:
        return {"both ends are the same": ends[0] == ends[1]}
    error = difference.std(correction=0).item() / len(difference) ** 0.5
    names = ("lower end", "upper end")
    if error < 1e-9 or len(difference) == 2:
        return dict(zip(names, ends, strict=True))
    return {f"{name}, in standard errors": end / error for name, end in zip(names, ends, strict=True)}


def _two(returned) -> tuple[float, float] | None:
    if returned is None:  # a missing `return` has a note of its own
        return None
    is_row = isinstance(returned, tuple | list) or getattr(returned, "ndim", 0) == 1
    if not is_row or len(returned) != 2:
        what = f"{len(returned)} of them" if is_row else f"one {type(returned).__name__}"
        raise ValueError(f"two numbers are asked for, (low, high); this function returns {what}")
    return float(returned[0]), float(returned[1])


def _coverage(function: Callable, gold_a: Tensor, gold_b: Tensor, **settings) -> dict | None:
    """One data set per slice of the first axis, all with a true difference of 0.5."""
    held = 0
    for a, b in zip(gold_a, gold_b, strict=True):
        ends = _two(function(a, b, **settings))
        if ends is None:
            return None
        held += ends[0] <= 0.5 <= ends[1]
    return {"share of the intervals that hold the true difference": held / len(gold_a)}


def _golds(
    draw: random.Random, prompts: int, n: int, m: int, *, own: float, common: float, noise: float
) -> tuple[list, list]:
    """Gold of n and m answers to each prompt: what is common to both policies, what a policy has of its own on a
    prompt, and chance."""
    a, b = [], []
    for _ in range(prompts):
        shared, mine, yours = (draw.gauss(0, s) for s in (common, own, own))
        a.append([round(shared + mine + 0.5 + draw.gauss(0, noise), 3) for _ in range(n)])
        b.append([round(shared + yours + draw.gauss(0, noise), 3) for _ in range(m)])
    return a, b


def _policies(prompts: int, n: int, m: int, *, own: float = 0.5, common: float = 1.0, noise: float = 0.3) -> Draw:
    return lambda draw: Call(
        _golds(draw, prompts, n, m, own=own, common=common, noise=noise), {"draws": DRAWS, "seed": draw.randrange(1000)}
    )


def _skewed(draw: random.Random) -> Call:
    """Two prompts of sixteen on which a is far better."""
    a = [[round(draw.gauss(0, 0.3) + (6.0 if row < 2 else 0.0), 3)] for row in range(16)]
    return Call((a, [[0.0]] * 16), {"draws": DRAWS, "seed": draw.randrange(1000)})


def _many_sets(draw: random.Random) -> Call:
    sets = [_golds(draw, 40, 2, 2, own=0.5, common=1.0, noise=0.3) for _ in range(100)]
    return Call(tuple(list(column) for column in zip(*sets, strict=True)), {"draws": 300, "seed": 0, "sets": True})


def _again(draw: random.Random) -> Call:
    golds = _golds(draw, 12, 2, 2, own=0.5, common=1.0, noise=0.3)
    return Call(golds, {"draws": 100, "seed": 10 + draw.randrange(1000), "again": True})


def _one_draw(draw: random.Random) -> Call:
    return Call(_golds(draw, 5, 1, 1, own=0.5, common=1.0, noise=0.3), {"draws": 1, "seed": draw.randrange(1000)})


def _shifted(draw: random.Random) -> Call:
    b = [[draw.randint(-8, 8) / 4] for _ in range(9)]
    return Call(([[x + 0.75] for (x,) in b], b), {"draws": 200, "seed": 1})


DRAWS = 8000
INTERVAL = "a 95 % interval for a's mean minus b's"
ENDS, COVERED = Tolerance(absolute=0.2), Tolerance(absolute=0.05)
PAIRED_BOOTSTRAP = Exercise(
    number="11.3",
    function="paired_bootstrap",
    points=3,
    minutes=25,
    difficulty="medium",
    apply=_interval,
    package=("prefcourse.agreement:bootstrap",),
    cases=(
        Case("by-hand", "one question only: the interval is a point", fixed([[3.0, 1.0]], [[0.5]], draws=100, seed=0)),
        Case(
            "two",
            "two questions, by hand: 0 to 1",
            fixed([[1.0, 1.0], [3.0, 1.0]], [[1.0], [1.0]], draws=DRAWS, seed=0),
            Tolerance(absolute=0.1),
        ),
        Case("forty", INTERVAL, _policies(40, 4, 4), ENDS),
        Case("twenty", INTERVAL, _policies(20, 2, 2), ENDS),
        Case("one-answer", "one answer to each question is enough", _policies(30, 1, 1), ENDS),
        Case("more-of-one", "a may have more answers to each question than b", _policies(40, 6, 2), ENDS),
        Case("prompts", "questions are drawn, not answers", _policies(40, 8, 8, own=1.0, noise=0.1), ENDS),
        Case("skewed", "percentiles of the drawn differences, also where the draws are skewed", _skewed, ENDS),
        Case("shifted", "the same difference on every question: the interval is a point", _shifted),
        Case("itself", "a policy against itself: 0 and 0", fixed([[1.0], [2.0]], [[1.0], [2.0]], draws=50, seed=3)),
        Case("one-draw", "`draws` draws: after a single one both ends are its mean", _one_draw),
        Case("seed", "the same seed gives the same interval, another seed another", _again),
        Case("coverage", "of 100 data sets, about 94 of the intervals hold the truth", _many_sets, COVERED),
    ),
)

EXERCISES = (UNSEEN_MASS, ONLINE_DPO_STEP, PAIRED_BOOTSTRAP)
