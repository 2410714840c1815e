"""Chapter 10, PPO in practice: four questions and the cases that test them. The answers lie apart."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from prefcourse.checks.exercise import Call, Case, Exercise, Tolerance, fixed
from prefcourse.exercises.tensors import tensors_of, with_gradients
from prefcourse.experiments import clinic
from prefcourse.experiments.chapter10 import UNSEEN, wards
from prefcourse.experiments.clinic import NAMES

NEAR = Tolerance(relative=1e-5, absolute=1e-5)  # fp32 inside the function is right
Draw = Callable[[random.Random], Call]
Table = list[list[float]]


def _mask(lengths: Sequence[int], left: Sequence[int] = ()) -> list[list[bool]]:
    """True on the tokens of each row, after `left` columns of padding."""
    left = left or [0] * len(lengths)
    width = max(start + length for start, length in zip(left, lengths, strict=True))
    return [[start <= t < start + n for t in range(width)] for start, n in zip(left, lengths, strict=True)]


def _numbers(draw: random.Random, mask: list[list[bool]], low: int, high: int) -> Table:
    """Eighths, never 0; padding holds some, too."""
    return [[draw.choice([x for x in range(low, high + 1) if x]) / 8 for _ in row] for row in mask]


def _constants(function: Callable, call: Call) -> dict | None:
    """What is returned, whether a gradient would flow back, and, where it is so, that the given tables were changed."""
    leaves = [x.requires_grad_() if x.is_floating_point() else x for x in tensors_of(call)]
    returned = function(*leaves, **call.settings)
    if returned is None:  # a missing `return` has a note of its own
        return None
    flows = isinstance(returned, Tensor) and returned.requires_grad
    found = {"returned": returned.detach() if flows else returned, "a gradient flows back": flows}
    changed = any(not torch.equal(*pair) for pair in zip(leaves, tensors_of(call), strict=True))
    return found | ({"the tables that you were given": "changed"} if changed else {})


# --- 10.1 token_rewards -------------------------------------------------------------------------------------


def _answers(lengths: Sequence[int], beta: float, left: Sequence[int] = ()) -> Draw:
    def call(draw: random.Random) -> Call:
        mask = _mask(lengths, left)
        scores = [draw.choice([-1, 1]) * draw.randint(4, 24) / 8 for _ in lengths]
        ref = _numbers(draw, mask, -40, -1)
        ratios = _numbers(draw, mask, -12, 12)
        logprobs = [[a + b for a, b in zip(*rows, strict=True)] for rows in zip(ref, ratios, strict=True)]
        return Call((scores, logprobs, ref, mask), {"beta": beta})

    return call


def _sums(function: Callable, call: Call) -> dict | None:
    found = _constants(function, call)
    return found and found | {"sum of each row": _row_sums(found["returned"])}


def _row_sums(table) -> Tensor | None:
    try:
        table = torch.as_tensor(table)
    except (RuntimeError, TypeError, ValueError):
        return None
    return table.sum(-1) if table.ndim == 2 else None


PRICE = "a price on every token, the score on the last; other columns are 0"
TOKEN_REWARDS = Exercise(
    number="10.1",
    function="token_rewards",
    points=3,
    minutes=15,
    difficulty="easy",
    apply=_sums,
    package=("prefcourse.advantages:token_rewards",),
    cases=(
        Case(
            "by-hand",
            "one answer of two tokens, by hand",
            fixed([1.0], [[-1.0, -2.0]], [[-1.5, -1.0]], [[True, True]], beta=0.5),
            NEAR,
        ),
        *(Case(f"beta-{beta}", "several beta", _answers((3, 3), beta), NEAR) for beta in (0.05, 0.5, 2.0)),
        Case("no-price", "beta 0: the score alone", _answers((3,), 0.0), NEAR),
        Case("right", PRICE, _answers((4, 2), 0.5), NEAR),
        Case("left", PRICE, _answers((2, 4), 0.25, left=(2, 0)), NEAR),
        Case("both", PRICE, _answers((2, 3, 1), 0.5, left=(1, 2, 1)), NEAR),
        Case("one-token", "an answer of one token: both in one place", _answers((1, 1), 0.5), NEAR),
        Case("empty", "an answer without tokens: zeros", _answers((3, 0), 0.5), NEAR),
        Case(
            "extreme",
            "finite at scores and log-ratios of 10,000",
            fixed([1e4, -1e4], [[0.0, -1e4], [-1.0, -2.0]], [[-1e4, 0.0], [-1.5, -1.0]], [[True, True]] * 2, beta=0.5),
            NEAR,
        ),
    ),
)


# --- 10.2 masked_whiten -------------------------------------------------------------------------------------


def _batch(lengths: Sequence[int], left: Sequence[int] = (), *, center: bool = True) -> Draw:
    """Numbers whose mean is far from 0; padding holds larger ones."""

    def call(draw: random.Random) -> Call:
        mask = _mask(lengths, left)
        x = [[draw.randint(4, 40) / 8 if here else draw.randint(-99, 99) / 4 for here in row] for row in mask]
        return Call((x, mask), {} if center else {"center": False})

    return call


PADDING, KEEP = "padding: nothing of it gets in, and it is 0 afterwards", "center=False: variance 1, the mean stays"
MASKED_WHITEN = Exercise(
    number="10.2",
    function="masked_whiten",
    points=2,
    minutes=15,
    difficulty="easy",
    apply=_constants,
    package=("prefcourse.advantages:masked_whiten",),
    cases=(
        Case("by-hand", "one row of two numbers, by hand", fixed([[1.0, 5.0]], [[True, True]]), NEAR),
        Case("two-rows", "one mean and one variance for the whole batch", _batch((3, 3)), NEAR),
        Case("three-rows", "one mean and one variance for the whole batch", _batch((4, 4, 4)), NEAR),
        Case("right", PADDING, _batch((4, 2)), NEAR),
        Case("left", PADDING, _batch((2, 5), left=(3, 0)), NEAR),
        Case("empty-row", PADDING, _batch((3, 0)), NEAR),
        Case("keep", KEEP, _batch((3, 3), center=False), NEAR),
        Case("keep-padded", KEEP, _batch((4, 2), center=False), NEAR),
        Case("close", "1e-8 under the root: 0 and 0.0002", fixed([[0.0, 2e-4]], [[True, True]]), NEAR),
        Case("equal", "all numbers equal: 0, and not nan", fixed([[2.5, 2.5, 2.5]], [[True] * 3]), NEAR),
        Case("one", "all numbers equal: 0, and not nan", fixed([[-3.0, 8.0]], [[True, False]]), NEAR),
        Case("nothing", "no token at all: zeros", fixed([[1.0, 2.0]], [[False, False]]), NEAR),
        Case("extreme", "finite at 10,000", fixed([[1e4, -1e4, 0.0]], [[True] * 3]), NEAR),
    ),
)


# --- 10.3 diagnose ------------------------------------------------------------------------------------------


def _diagnoses(function: Callable, call: Call) -> list:
    logs, healthy = call.args
    return [function(log, known) for log, known in zip(logs, healthy, strict=True)]


def _called(runs: list[dict], labs: Sequence[int]) -> Call:
    return Call(([run["log"] for run in runs], [wards()[lab]["known"]["log"] for lab in labs]))


def _patients(name: str) -> Draw:
    """The runs with this bug, one from each unseen lab."""

    def call(draw: random.Random) -> Call:
        labs = draw.sample(UNSEEN, len(UNSEEN))
        return _called([wards()[lab]["patients"][NAMES.index(name)] for lab in labs], labs)

    return call


def _ward(draw: random.Random) -> Call:
    """All nine of one unseen lab, in any order."""
    lab = draw.choice(UNSEEN)
    return _called(draw.sample(wards()[lab]["patients"], len(NAMES)), [lab] * len(NAMES))


DIAGNOSE = Exercise(
    number="10.3",
    function="diagnose",
    points=4,
    minutes=40,
    difficulty="hard",
    apply=_diagnoses,
    cases=(
        *(
            Case(name.replace(" ", "-"), f"{name}: named in two labs not seen before", _patients(name))
            for name in NAMES
        ),
        *(Case(f"ward-{n}", "nine runs of such a lab, in any order", _ward) for n in range(3)),
    ),
)


# --- 10.4 ppo_round_loss ------------------------------------------------------------------------------------

ZONES = (-0.6, -0.1, 0.05, 0.15, 0.5)  # of log-ratios to the old policy: inside the clip's bounds, and far outside
USUAL = {"beta": 0.5, "clip_coef": 0.2, "vf_coef": 0.1, "unfinished_penalty": 1.0}


def _round(
    rows: Sequence[tuple[int, int]], *, cut: Sequence[int] = (), far: bool = True, moved: bool = True, **settings
) -> Draw:  # fmt: skip
    """Rows of (prompt, response) tokens, padded on the right; `cut`: rows that were truncated. `far`: the old policy
    has left the reference; `moved`: the policy has left the old one."""

    def call(draw: random.Random) -> Call:
        width = max(map(sum, rows))
        everywhere = [[True] * width for _ in rows]
        ref = _numbers(draw, everywhere, -40, -8)
        old = [[x + (draw.choice([-6, -3, 2, 5]) / 8 if far else 0) for x in row] for row in ref]
        new = [[round(x + (draw.choice(ZONES) if moved else 0), 3) for x in row] for row in old]
        values, old_values = (_numbers(draw, everywhere, -16, 16) for _ in "vo")
        scores = [sign * draw.randint(8, 24) / 8 for sign in draw.sample([-1, 1] * len(rows), len(rows))]
        finished = [n not in cut for n in range(len(rows))]
        prompt = [[t < p for t in range(width)] for p, _ in rows]
        padding = [[t >= p + r for t in range(width)] for p, r in rows]
        return Call((new, values, old, ref, old_values, scores, finished, prompt, padding), USUAL | settings)

    return call


def _by_hand(draw: random.Random) -> Call:
    """Two answers of one token, scores 1 and -1, nothing moved, a critic that says 0."""
    same, zeros = [[-1.0, -2.0]] * 2, [[0.0, 0.0]] * 2
    masks = ([True, True], [[True, False]] * 2, [[False, False]] * 2)
    return Call((same, zeros, same, same, zeros, [1.0, -1.0], *masks), USUAL)


def _loss_or_run(function: Callable, call: Call) -> dict | None:
    if "run" in call.settings:
        return short_run(function, seed=call.settings["run"])
    written_down = tensors_of(call)[2:]  # when the answers were drawn: numbers, without a graph

    def of_the_model(logprobs: Tensor, values: Tensor):
        return function(logprobs, values, *written_down, **call.settings)

    return with_gradients("logprobs", "values")(of_the_model, Call(call.args[:2]))


@functools.cache
def _tiny():
    """A small model with random weights, its reference, and two questions."""
    from prefcourse import models
    from prefcourse.progress import quiet_transformers
    from prefcourse.worlds.pocket import PocketWorld

    quiet_transformers()
    world = PocketWorld()
    model = models.tiny_lm(world.tokenizer(), seed=1)
    return models.frozen_copy(model), world.tokenizer(), world.prompts("train")[:16]


def short_run(loss_of: Callable, *, seed: int) -> dict:
    """Two rounds of real training with this loss: score, KL and loss of each. Small: every known mistake runs, too."""
    from prefcourse import models

    reference, tokenizer, prompts = _tiny()

    def score(rollout):
        ids, mask = rollout.sequences.input_ids, rollout.sequences.response_mask
        return ((ids % 7) * mask).sum(1) / mask.sum(1) - 3.0

    loop = clinic.train_with(
        loss_of, models.trainable_copy(reference), reference, tokenizer, prompts, score, iterations=2, seed=seed,
        batch_size=8, epochs=2, learning_rate=3e-3, max_new_tokens=6, **USUAL,
    )  # fmt: skip
    log = list(loop)
    return {key: [metrics[key] for metrics in log] for key in ("score", "kl", "loss")}


def _run(draw: random.Random) -> Call:
    return Call((), {"run": draw.randrange(1000)})


TOGETHER = "whole rounds: loss, and gradients by log-probabilities and values"
PPO_ROUND_LOSS = Exercise(
    number="10.4",
    function="ppo_round_loss",
    points=4,
    minutes=30,
    difficulty="medium",
    apply=_loss_or_run,
    cases=(
        Case("by-hand", "two answers of one token, by hand", _by_hand, NEAR),
        Case("plain", "the sign: what scores high becomes likelier", _round([(1, 3), (1, 3)], beta=0.0), NEAR),
        Case("prompt", "the prompt's tokens do not count", _round([(1, 3), (3, 1)], beta=0.0), NEAR),
        Case("padding", "padding does not count", _round([(1, 4), (1, 2)], beta=0.0), NEAR),
        Case("truncated", "a truncated answer keeps its score, less the penalty", _round([(1, 2)] * 3, cut=[1]), NEAR),
        Case("price", "every token pays for its own log-ratio", _round([(1, 3), (1, 3)], beta=1.0), NEAR),
        Case("first", "before the first step: all ratios are 1", _round([(2, 3), (2, 3)], moved=False), NEAR),
        *(
            Case(f"round-{n}", TOGETHER, _round([(2, 3), (1, 5), (3, 1)], cut=[n % 3], beta=beta), NEAR)
            for n, beta in enumerate((0.05, 0.5, 1.0))
        ),
        Case("run", "a short real run: the log of a healthy one", _run, Tolerance(absolute=2e-3), teach=False),
    ),
)

EXERCISES = [TOKEN_REWARDS, MASKED_WHITEN, DIAGNOSE, PPO_ROUND_LOSS]
