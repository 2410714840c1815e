"""How fast the lab is: against TRL, against `generate`, against its own parts and against the core's peak.

How the race is kept fair:
- A B A B. A row's figure is the median over rounds of the ratio of neighbours, so that a load that comes and goes
  meets both sides. Clock: CPU seconds of this process, one thread; wall seconds only for the import and for `run`.
- Same weights' shapes, same rows, batch 64, same number of updates, one epoch (the reference reads each pair once
  on both sides). Rows are PocketWorld's demonstrations, or two of them on one question, as they come.
- TRL at its best: float32, no checkpointing, nothing logged or saved, and batches of like length too, which it does
  not do by default. Its clock starts at the first batch: set-up and tokenising are left out. Ours starts at the
  text: encoding and the reference's pass over all pairs are in.
- `generate` runs with its cache and without top-k; EOS is switched off on both sides, so both write 64 x 32 tokens;
  their greedy tokens are compared first. GRPO on both sides: same prompts, groups of 4, beta 0.05, the world's gold
  as score, a learning rate so small that answers keep their length.
- Useful work is counted, not work done: see `flops.forward_flops`. The peak is that of a large product after each
  update.
"""

from __future__ import annotations

import argparse
import copy
import functools
import gc
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from prefcourse import losses, models, rollout, train
from prefcourse.backbone import response_logprobs
from prefcourse.bench import flops, table, trl_side
from prefcourse.bench.table import Row, Seconds
from prefcourse.sequences import Sequences, encode
from prefcourse.train.common import Optimiser
from prefcourse.train.online import Prompter
from prefcourse.train.supervised import epochs_of
from prefcourse.worlds.pocket import PocketWorld

BATCH, NEW_TOKENS, STILL = 64, 32, 1e-9  # STILL: a learning rate that changes nothing


# -- clocks ---------------------------------------------------------------------------------------------------


def cpu_seconds(action: Callable[[], object]) -> float:
    gc.collect()
    start = time.process_time()
    action()
    return time.process_time() - start


def race(sides: dict[str, Callable[[], float]], rounds: int) -> Seconds:
    """Each side in turn, `rounds` times, after one lap that does not count. A side returns its own seconds."""
    for lap in sides.values():
        lap()
    laps = [{name: lap() for name, lap in sides.items()} for _ in range(rounds)]
    return {name: [lap[name] for lap in laps] for name in sides}


def median_ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def against(name: str, target: float, sides: dict[str, Callable[[], float]], rounds: int) -> Row:
    """How many times as fast the first side ("ours") is as the second."""
    seconds = race(sides, rounds)
    ours, theirs = seconds.values()
    return Row(name, target, median_ratio(theirs, ours), seconds=seconds)


def exhaust(loop: Iterator) -> None:
    for _ in loop:
        pass


# -- what is raced --------------------------------------------------------------------------------------------


class Lab:
    """The world, its data and a model that has learned to answer, of one size."""

    def __init__(self, size: str, updates: int, folder: str):
        self.size, self.updates, self.folder = size, updates, folder
        self.world = PocketWorld()
        self.tokenizer, self.prompts = self.world.tokenizer(), self.world.prompts("train")
        self.demonstrations = self.world.demonstrations(BATCH * updates, seed=0)
        self.pairs = self._pairs(BATCH * updates)

    def _pairs(self, count: int) -> list[dict]:
        generator, pairs = np.random.default_rng(0), []
        for prompt in itertools.cycle(self.prompts):
            chosen, rejected = (self.world.demonstration(prompt, generator) for _ in "ab")
            pairs += [{"prompt": prompt, "chosen": chosen, "rejected": rejected}] * (chosen != rejected)
            if len(pairs) == count:
                return pairs

    def fresh(self):
        return models.tiny_lm(self.tokenizer, self.size)

    @functools.cached_property
    def speaker(self):
        """A model that ends its answers, as those do that on-policy loops begin with."""
        model, rows = self.fresh(), self.world.demonstrations(BATCH * 16, seed=1)
        exhaust(train.sft(model, self.tokenizer, rows, steps=120, seed=0))
        return model

    def texts_for_trl(self, rows: list[dict]) -> list[dict]:
        """A space after each text, for TRL joins them as they are; lengths, by which it may sort."""
        names = {"prompt": "prompt", "response": "completion", "chosen": "chosen", "rejected": "rejected"}
        lengths = [max(len(text.split()) for name, text in row.items() if name != "prompt") for row in rows]
        return [
            {names[name]: text + " " for name, text in row.items()} | {"length": n + len(row["prompt"].split())}
            for row, n in zip(rows, lengths, strict=True)
        ]

    def trl_settings(self) -> dict:
        sorting = {"train_sampling_strategy": "group_by_length", "remove_unused_columns": False}
        common = {"output_dir": self.folder, "max_steps": self.updates, "per_device_train_batch_size": BATCH}
        return common | sorting


def seconds_of(trainer) -> float:
    """CPU seconds from a trainer's first batch to its last update."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_train_begin(self, *_, **__):
            self.start = time.process_time()

        def on_train_end(self, *_, **__):
            self.seconds = time.process_time() - self.start

    clock = Clock()
    trainer.add_callback(clock)
    gc.collect()
    trainer.train()
    return clock.seconds


def sft_sides(lab: Lab) -> dict[str, Callable[[], float]]:
    rows = lab.texts_for_trl(lab.demonstrations)

    def ours():
        model = lab.fresh()
        loop = train.sft(model, lab.tokenizer, lab.demonstrations, steps=lab.updates, seed=0)
        return cpu_seconds(lambda: exhaust(loop))

    def theirs():
        return seconds_of(trl_side.sft_trainer(lab.fresh(), lab.tokenizer, rows, **lab.trl_settings()))

    return {"ours": ours, "TRL": theirs}


def reward_sides(lab: Lab) -> dict[str, Callable[[], float]]:
    from transformers import AutoModelForSequenceClassification

    rows = lab.texts_for_trl(lab.pairs)

    def ours():
        model = models.RewardModel.from_lm(lab.fresh())
        return cpu_seconds(lambda: exhaust(train.reward_model(model, lab.tokenizer, lab.pairs, seed=0)))

    def theirs():
        config = copy.deepcopy(lab.fresh().config)
        config.id2label = {0: "score"}
        model = AutoModelForSequenceClassification.from_config(config)
        return seconds_of(trl_side.reward_trainer(model, lab.tokenizer, rows, **lab.trl_settings()))

    return {"ours": ours, "TRL": theirs}


def dpo_sides(lab: Lab) -> dict[str, Callable[[], float]]:
    rows = lab.texts_for_trl(lab.pairs)

    def ours():
        policy = lab.fresh()
        loop = train.dpo(policy, models.frozen_copy(policy), lab.tokenizer, lab.pairs, beta=0.1, seed=0)
        return cpu_seconds(lambda: exhaust(loop))

    def theirs():
        return seconds_of(trl_side.dpo_trainer(lab.fresh(), lab.tokenizer, rows, **lab.trl_settings()))

    return {"ours": ours, "TRL": theirs}


def sampling_sides(lab: Lab) -> dict[str, Callable[[], float]]:
    model = lab.fresh().eval()
    encoded = lab.tokenizer(lab.prompts[:BATCH], return_tensors="pt", padding=True, padding_side="left")
    prompt, mask = encoded["input_ids"], encoded["attention_mask"]
    generator = torch.Generator().manual_seed(0)

    def ours(**how):
        return rollout.sample_ids(
            model, prompt, mask.bool(), eos_id=-1, pad_id=0, max_new_tokens=NEW_TOKENS, generator=generator, **how
        )

    model.generation_config.eos_token_id = None

    def theirs(**how):
        how = {"do_sample": True, "top_k": 0} | how
        return model.generate(prompt, attention_mask=mask, max_new_tokens=NEW_TOKENS, pad_token_id=0, **how)

    greedy = theirs(do_sample=False, top_k=None)[:, prompt.shape[1] :]
    if not torch.equal(ours(temperature=0)[0], greedy):
        raise AssertionError("greedy tokens differ from those of generate: the race would compare two things")
    return {"ours": lambda: cpu_seconds(ours), "generate": lambda: cpu_seconds(theirs)}


def grpo_sides(lab: Lab) -> dict[str, Callable[[], float]]:
    from transformers import AutoModelForCausalLM

    lab.speaker.save_pretrained(lab.folder)  # TRL reads its reference from disk
    rows = [{"prompt": prompt + " "} for prompt in lab.prompts]
    reference = models.frozen_copy(lab.speaker)
    common = {"beta": 0.05, "learning_rate": STILL}

    def score_for_trl(prompts, completions, **_):
        return [lab.world.gold(*texts) for texts in zip(prompts, completions, strict=True)]

    def ours():
        policy, tokenizer = models.trainable_copy(lab.speaker), lab.tokenizer
        loop = train.grpo(
            policy, reference, tokenizer, lab.prompts, gold(lab), iterations=lab.updates, seed=0, **common
        )
        return cpu_seconds(lambda: exhaust(loop))

    def theirs():
        policy = AutoModelForCausalLM.from_pretrained(lab.folder)
        settings = lab.trl_settings() | {"train_sampling_strategy": "random", "remove_unused_columns": True}
        settings |= {"num_generations": 4, "max_completion_length": NEW_TOKENS, "loss_type": "grpo"} | common
        return seconds_of(trl_side.grpo_trainer(policy, lab.tokenizer, rows, score_for_trl, **settings))

    return {"ours": ours, "TRL": theirs}


def gold(lab: Lab) -> Callable:
    return lambda sampled: torch.tensor([
        lab.world.gold(*texts) for texts in zip(sampled.prompts, sampled.texts, strict=True)
    ])


# -- PPO against its own parts, updates against the peak --------------------------------------------------------


class PPOParts:
    """One PPO iteration, and the same sampling, forward passes and updates with nothing around them."""

    def __init__(self, lab: Lab):
        self.lab, self.reference = lab, models.frozen_copy(lab.speaker)
        self.judge = models.frozen_copy(models.RewardModel.from_lm(lab.speaker))
        self.model = models.PolicyWithValue(models.trainable_copy(lab.speaker))
        self.sampled: rollout.Rollout

    def iteration(self) -> float:
        score = torch.no_grad()(lambda sampled: self.judge(sampled.sequences))
        loop = train.ppo(
            self.model, self.reference, self.lab.tokenizer, self.lab.prompts, score, beta=0.05,
            iterations=1, seed=0, learning_rate=STILL,
        )  # fmt: skip
        return cpu_seconds(lambda: exhaust(loop))

    def sample(self) -> None:
        generator = torch.Generator().manual_seed(0)  # the iteration's own seed: the very same answers
        prompts = Prompter(self.lab.prompts, generator).next(BATCH)
        self.sampled = rollout.sample(
            self.model.lm, self.lab.tokenizer, prompts, max_new_tokens=NEW_TOKENS, generator=generator,
            value_head=self.model.value_head,
        )  # fmt: skip

    @torch.no_grad()
    def reference_forward(self) -> None:
        response_logprobs(self.reference, self.sampled.sequences.left_aligned())

    @torch.no_grad()
    def score_forward(self) -> None:
        self.judge(self.sampled.sequences)

    def updates(self) -> None:
        rows, optimiser = self.sampled.sequences.left_aligned(), Optimiser(self.model, STILL)
        for _ in range(4):
            logprobs, _, values = self.model(rows)
            optimiser.step((logprobs + values).mean())

    def sides(self) -> dict[str, Callable[[], float]]:
        parts = (self.sample, self.reference_forward, self.score_forward, self.updates)
        alone = {part.__name__.replace("_", " "): functools.partial(cpu_seconds, part) for part in parts}
        return {"iteration": self.iteration} | alone


def ppo_row(lab: Lab, rounds: int) -> Row:
    seconds = race(PPOParts(lab).sides(), rounds)
    whole, *parts = seconds.values()
    together = [sum(part) for part in zip(*parts, strict=True)]
    name = f"PPO iteration, 4 epochs, against its parts, {millions(lab)}"
    return Row(name, 1.15, median_ratio(whole, together), at_least=False, seconds=seconds)


def peak_row(lab: Lab, rounds: int) -> Row:
    """Useful floating-point operations per second of SFT updates, as a share of a large product's between them."""
    data = encode(lab.tokenizer, *([row[key] for row in lab.demonstrations] for key in ("prompt", "response")))
    model, needed = lab.fresh(), 0
    optimiser, seconds = Optimiser(model, 1e-3), {"updates": [], "peak": []}
    for rows in epochs_of(data.attention_mask.sum(dim=1), BATCH, rounds * lab.updates, seed=0):
        start = time.process_time()
        batch = data.take(rows)
        optimiser.step(losses.sft_loss(response_logprobs(model, batch), batch.response_mask)[0])
        seconds["updates"].append(time.process_time() - start)
        seconds["peak"].append(1 / flops.matmul_rate())
        needed += flops.update_flops(model.config, batch)
    share = needed / sum(seconds["updates"]) * statistics.median(seconds["peak"])
    return Row(f"share of matmul peak in SFT updates, {millions(lab)}", 0.5, share, unit="", seconds=seconds)


def millions(lab: Lab) -> str:
    return f"{models.parameters(lab.fresh()) / 1e6:.2f} M"


# -- in processes of their own ----------------------------------------------------------------------------------


def import_row(rounds: int) -> Row:
    code = "import time; t = time.perf_counter(); import prefcourse; print(time.perf_counter() - t)"
    seconds = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(rounds + 1)]
    return Row("import prefcourse", 0.3, statistics.median(seconds), "s", at_least=False, seconds={"import": seconds})


def run_rows() -> list[Row]:
    """`prefcourse run` with an empty cache: wall seconds, and the most memory its process ever held."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PREFCOURSE_CACHE": f"{folder}/cache", "XDG_CACHE_HOME": f"{folder}/xdg"}
        command = [sys.executable, "-m", "prefcourse.cli", "run", "--out", f"{folder}/out"]
        start = time.perf_counter()
        child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
    if status:
        raise RuntimeError(f"`prefcourse run` ended with status {os.waitstatus_to_exitcode(status)}; run it by hand")
    memory = usage.ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)  # bytes there, KiB elsewhere
    cpu = {"wall": [seconds], "cpu": [usage.ru_utime + usage.ru_stime]}
    return [
        Row("prefcourse run, cold cache", 120, seconds, "s", at_least=False, seconds=cpu),
        Row("peak memory of prefcourse run", 1.2, memory, "GB", at_least=False),
    ]


# -- how cost grows ---------------------------------------------------------------------------------------------


def random_rows(count: int, length: int) -> Sequences:
    """Rows without padding: a prompt of 6 words, the rest response."""
    input_ids = torch.randint(3, 137, (count, length), generator=torch.Generator().manual_seed(0))
    everywhere = torch.ones_like(input_ids, dtype=torch.bool)
    return Sequences(input_ids, everywhere, everywhere & (torch.arange(length) >= 6))


def update_cost(model, rows: Sequences) -> Callable[[], float]:
    optimiser = Optimiser(model, STILL)
    return lambda: cpu_seconds(
        lambda: optimiser.step(losses.sft_loss(response_logprobs(model, rows), rows.response_mask)[0])
    )


def of_width(lab: Lab, width: int):
    config = copy.deepcopy(lab.fresh().config)
    config.hidden_size, config.intermediate_size, config.head_dim = width, 11 * width // 4, width // 4
    return type(lab.fresh())(config)


def dpo_cost(lab: Lab, count: int) -> Callable[[], float]:
    pairs = lab._pairs(count)

    def lap() -> float:
        policy = lab.fresh()
        return cpu_seconds(
            lambda: exhaust(train.dpo(policy, models.frozen_copy(policy), lab.tokenizer, pairs, beta=0.1, seed=0))
        )

    return lap


def sampling_cost(lab: Lab, new_tokens: int) -> Callable[[], float]:
    model, prompt = lab.fresh(), random_rows(BATCH, 6)
    return lambda: cpu_seconds(
        lambda: rollout.sample_ids(
            model, prompt.input_ids, prompt.attention_mask, eos_id=-1, pad_id=0, max_new_tokens=new_tokens
        )
    )


def growth(lab: Lab, rounds: int, points: int) -> dict[str, dict[int, float]]:
    """Median CPU seconds as one thing is doubled and the rest stays."""
    model = lab.fresh()
    doubled = {
        "batch (SFT update)": (32, lambda n: update_cost(model, random_rows(n, 20))),
        "length (SFT update)": (16, lambda n: update_cost(model, random_rows(BATCH, n))),
        "width (SFT update)": (64, lambda n: update_cost(of_width(lab, n), random_rows(BATCH, 20))),
        "pairs (DPO, one epoch)": (2 * BATCH, lambda n: dpo_cost(lab, n)),
        "new tokens (sampling 64)": (8, lambda n: sampling_cost(lab, n)),
    }
    table = {}
    for what, (first, cost) in doubled.items():
        laps = race({first * 2**k: cost(first * 2**k) for k in range(points)}, rounds)
        table[what] = {n: statistics.median(seconds) for n, seconds in laps.items()}
    return table


# -- the command --------------------------------------------------------------------------------------------------


def measure(folder: str, *, quick: bool, full: bool, rounds: int) -> Iterator[Row]:
    """Row after row, as they are measured."""
    updates = 2 if quick else 8
    small, large = Lab("xs", updates, f"{folder}/xs"), Lab("l", updates, f"{folder}/l")
    for lab, target in ((small, 1.6), (large, 1.3)):
        for name, sides in (("SFT", sft_sides), ("reward model", reward_sides), ("DPO", dpo_sides)):
            yield against(f"{name} updates against TRL, {millions(lab)}", target, sides(lab), rounds)
    name = f"sampling {BATCH} x {NEW_TOKENS} tokens against generate, {millions(small)}"
    yield against(name, 2.0, sampling_sides(small), 2 * rounds)
    for lab in (small,) if quick else (small, large):
        yield against(f"GRPO iteration against TRL, {millions(lab)}", 1.5, grpo_sides(lab), rounds)
        yield ppo_row(lab, 2 * rounds)
    yield peak_row(Lab("l", 2 * updates, ""), rounds)
    yield import_row(rounds)
    if full:
        yield from run_rows()


def print_growth(table: dict[str, dict[int, float]]) -> None:
    print("\nHow cost grows (CPU seconds; in brackets, times the one before)")
    for what, seconds in table.items():
        costs = list(seconds.values())
        factors = ["", *(f" ({after / before:.1f})" for before, after in itertools.pairwise(costs))]
        print(f"{what:26}" + "   ".join(f"{n}: {s:.3f}{f}" for (n, s), f in zip(seconds.items(), factors, strict=True)))


def _silence() -> None:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    warnings.simplefilter("ignore", FutureWarning)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="few updates and rounds: does it run, not how fast")
    parser.add_argument("--full", action="store_true", help="also `prefcourse run` from a cold cache: time and memory")
    parser.add_argument("--rounds", type=int, default=None, help="how often each side runs (default 5, quick 1)")
    parser.add_argument("--out", type=Path, default=Path("speed.json"), help="where the JSON goes")


def main(args: argparse.Namespace) -> int:
    """Measure, print the table, write the JSON. Returns 0: a missed target is a result, not an error."""
    _silence()
    torch.set_num_threads(1)
    rounds = args.rounds or (1 if args.quick else 5)
    with tempfile.TemporaryDirectory() as folder:
        rows = table.tell(measure(folder, quick=args.quick, full=args.full, rounds=rounds))
    grown = growth(Lab("xs", 1, ""), rounds, points=2 if args.quick else 3)
    print_growth(grown)
    versions = {"torch": torch.__version__, "threads": torch.get_num_threads()}
    report = {"environment": table.environment() | versions, "rows": rows, "growth": grown}
    args.out.write_text(json.dumps(report, indent=1))
    print(f"\nEvery measurement: {args.out}")
    return 0
