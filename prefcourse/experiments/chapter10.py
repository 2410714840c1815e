"""Chapter 10: in four labs a run that is known to be good, a second good one and eight with a bug; and what the zero of
the scores has to do with it where truncated answers get none.

The log of a run is what a log has. What it does not have, gold, is measured at the end.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator

from torch import Tensor

from prefcourse import annotators, evaluate, models, train
from prefcourse.experiments import Experiment, clinic, load
from prefcourse.experiments.clinic import HEALTHY, NAMES, parts_of
from prefcourse.lab import Lab, lab
from prefcourse.rollout import Rollout

SHOWN, UNSEEN = (2, 3), (0, 1)  # labs: in the lesson, with the mildest cases; in the check of 10.3
SETTINGS = {"beta": 0.1, "iterations": 40, "minibatch_size": 32, "max_new_tokens": 20}
OFFSET = -1.0  # a reward model's scores have no zero (chapter 6); nobody has set it here
EVERY = 2  # rounds from line to line of a kept log
FOLLOWED = (0, 12, 47)  # rows of the prompts whose answers are kept
LOGGED = (
    "score reward kl length finished entropy value return value_last value_error approx_kl approx_kl_first clipfrac "
    "grad_norm"
).split()
Log = dict[str, list[float]]


def pairs_of(here: Lab) -> list[dict]:
    """Two thousand labels of the course's twenty people."""
    return here.pairs(here.answers(16, seed=here.seed), annotators.population(here.seed), seed=here.seed)


def shifted(score: Callable, offset: float) -> Callable[[Rollout], Tensor]:
    """The same preferences from a reward model with another zero."""
    return lambda rollout: score(rollout) + offset


@functools.cache
def judged(seed: int, offset: float) -> tuple[Lab, Callable]:
    """A lab and its reward model's score."""
    here = lab(seed)
    return here, shifted(evaluate.model_score(here.reward_model(pairs_of(here))), offset)


def logs(here: Lab, score: Callable, policy, name: str, *, seed: int, **settings) -> Iterator[dict[str, float]]:
    """A run of the clinic, round by round."""
    return clinic.ppo(
        policy, here.sft, here.tokenizer, here.prompts, score, parts=parts_of(name), seed=seed, **settings
    )


def as_log(history: list[dict[str, float]], *, every: int = EVERY) -> Log:
    """Rounds to columns, 4 digits; of every second round."""
    return {key: [_short(metrics[key]) for metrics in history[::every]] for key in LOGGED}


def _short(number: float) -> float:
    """Three digits, and 0 for what is rounding."""
    return float(f"{number:.3g}") if abs(number) > 1e-6 else 0.0


def one(here: Lab, score: Callable, name: str, *, seed: int, **settings) -> dict:
    """Run, log, three answers, and what it is worth on four answers to every prompt."""
    policy, note = models.trainable_copy(here.sft), ""
    history = []
    try:
        for metrics in logs(here, score, policy, name, seed=seed, **settings):
            history.append(metrics)
    except train.Diverged as error:
        note = str(error)
    end = here.evaluate(policy, score=score)
    numbers = {key: _short(value) for key, value in end.metrics().items() if key in ("gold", "gold_se", "kl", "length")}
    answers = [[here.prompts[row], end.texts[row][0]] for row in FOLLOWED]
    log = {key: " ".join(map(str, column)) for key, column in as_log(history).items()}
    return {"name": name, "seed": seed, "log": log, "end": numbers, "answers": answers, "note": note}


def ward(*, seed: int, offset: float, **settings) -> dict:
    """One lab: the run that is known to be good, and its nine patients. Each patient has a seed of its own."""
    here, score = judged(seed, offset)
    known = one(here, score, HEALTHY, seed=seed, **settings)
    patients = [one(here, score, name, seed=100 * (seed + 1) + n, **settings) for n, name in enumerate(NAMES)]
    return {"seed": seed, "known": known, "patients": patients}


def zero(*, seed: int, offsets: list[float], **settings) -> dict:
    """Healthy, and truncated answers unscored, with the zero of the scores in several places."""
    here = lab(seed)
    score, names = evaluate.model_score(here.reward_model(pairs_of(here))), (HEALTHY, "truncated unscored")
    rows = []
    for offset in offsets:
        for name in names:
            run = one(here, shifted(score, offset), name, seed=seed, **settings)
            finished = float(run["log"]["finished"].split()[-1])
            rows.append({"offset": offset, "name": name, "finished": finished, **run["end"]})
    return {"seed": seed, "rows": rows}


# --- what a chapter and its exercises read ------------------------------------------------------------------


@functools.cache
def wards() -> dict[int, dict]:
    """By lab, with logs as columns of numbers."""
    kept = sorted([*load("10_shown"), *load("10_unseen")], key=lambda part: part["seed"])
    return {
        part["seed"]: {"known": _read(part["known"]), "patients": list(map(_read, part["patients"]))} for part in kept
    }


def _read(run: dict) -> dict:
    return run | {"log": {key: [float(x) for x in column.split()] for key, column in run["log"].items()}}


def every_run() -> list[dict]:
    """Known runs and patients, of all labs."""
    return [run for ward in wards().values() for run in (ward["known"], *ward["patients"])]


def found_by(test: Callable[[Log], bool]) -> list[str]:
    """What they have, the runs of all labs whose log is suspect by this test; sorted."""
    return sorted(run["name"] for run in every_run() if test(run["log"]))


def beside_known(name: str) -> list[tuple[dict, dict]]:
    """The run with this bug and the run that is known to be good, lab by lab."""
    return [(ward["patients"][NAMES.index(name)], ward["known"]) for ward in wards().values()]


def far(name: str) -> list[float]:
    """The KL of the last three kept rounds, as a multiple of that of the known run, lab by lab."""
    return [sum(run["log"]["kl"][-3:]) / sum(known["log"]["kl"][-3:]) for run, known in beside_known(name)]


def lost(name: str) -> list[float]:
    """Gold of the known run minus gold of the one with this bug, lab by lab."""
    return [known["end"]["gold"] - run["end"]["gold"] for run, known in beside_known(name)]


def means_of_labs() -> dict[tuple[float, str], dict[str, float]]:
    """Of `zero`: by offset and name, means over the labs."""
    rows = [row for part in load("10_zero") for row in part["rows"]]
    settings = sorted({(row["offset"], row["name"]) for row in rows}, key=lambda one: (-one[0], one[1]))
    chosen = {one: [row for row in rows if (row["offset"], row["name"]) == one] for one in settings}
    what = ("finished", "gold", "kl", "length")
    return {one: {key: sum(row[key] for row in some) / len(some) for key in what} for one, some in chosen.items()}


def admitted(lab: int) -> dict[str, dict]:
    """The eight sick runs of a lab, under letters that say nothing."""
    sick = [run for run in wards()[lab]["patients"] if run["name"] != HEALTHY]
    random.Random(f"letters/{lab}").shuffle(sick)
    return dict(zip("ABCDEFGH", sick, strict=True))


def ninth(seed: int) -> tuple[dict, dict]:
    """A patient of some lab, drawn by seed, and the run that is known to be good there. It may be healthy."""
    draw = random.Random(f"ninth/{seed}")
    ward = wards()[draw.choice((*SHOWN, *UNSEEN))]
    return draw.choice(ward["patients"]), ward["known"]


def again(*, seed: int, lab: int, patient: str, **_) -> dict:
    """The widget's live run: a patient's bug, once more, with another seed."""
    here, score = judged(lab, OFFSET)
    run = _read(one(here, score, admitted(lab)[patient]["name"], seed=1000 + seed, **SETTINGS))
    return run | {"known": wards()[lab]["known"]["log"]}


EXPERIMENTS = [
    Experiment("10_shown", ward, tuple({"seed": seed, "offset": OFFSET, **SETTINGS} for seed in SHOWN)),
    Experiment("10_unseen", ward, tuple({"seed": seed, "offset": OFFSET, **SETTINGS} for seed in UNSEEN)),
    Experiment("10_zero", zero, tuple({"seed": seed, "offsets": [0.0, -2.0], **SETTINGS} for seed in (0, 1, 2))),
]
