"""What it costs to grade one submission: CPU against plain execution, and the grader's memory beside the kernel.

How it is measured: CPU seconds of this process and of all that it starts, one thread; the median over rounds. What a
batch needs once (references, the stripped package) is made before. The submission with torch is the solved chapter
with a cell that trains a small network; "plain" is nbclient running the same cells, as Jupyter would. Memory: the
most that all processes of the grading hold together, the kernel's and its sandbox's left out; looked at every 10 ms.
The loud submission has a cell that prints 200 MB.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from prefcourse.bench import table
from prefcourse.bench.table import Row
from prefcourse.grading import sandbox
from prefcourse.grading.command import solutions_of
from prefcourse.grading.engine import Settings
from prefcourse.grading.grade import grade_one
from prefcourse.grading.reference import Reference, make_reference

LOOK = 0.01  # seconds between looks
MB = 2**20
TRAINING = """
import torch

torch.manual_seed(0)
x = torch.randn(512, 64)
model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.Tanh(), torch.nn.Linear(256, 1))
optimiser = torch.optim.Adam(model.parameters())
for _ in range(STEPS):
    loss = (model(x).squeeze() - x[:, 0]).pow(2).mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
print(loss.item() < 0.1)
"""
LOUD = "for _ in range(200):\n    print('x' * 1_000_000)"


@dataclass(frozen=True)
class Batch:
    """A chapter's solution as a submission, with all that is made once."""

    solution: Path
    settings: Settings
    reference: Reference

    def grade(self, submission: bytes) -> None:
        result = grade_one(submission, self.reference, self.settings)
        if result.points < result.max_points:
            raise RuntimeError(f"a solved submission got {result.points:g} of {result.max_points:g}: {result.reason}")


def batch(solution: Path, level: str, folder: str) -> Batch:
    settings = Settings(sandbox=level, seed="bench", directory=folder)
    return Batch(solution, settings, make_reference(solution, settings))


def with_torch(solution: Path, steps: int) -> dict:
    """The solved notebook, and before its first exercise a cell that trains."""
    return with_cell(solution, TRAINING.replace("STEPS", str(steps)))


def with_cell(solution: Path, source: str) -> dict:
    """The solved notebook, and before its first exercise a helper cell."""
    notebook = json.loads(solution.read_text(encoding="utf-8"))
    cell = copy.deepcopy(next(cell for cell in notebook["cells"] if cell["cell_type"] == "code"))
    cell |= {"id": "helper", "metadata": {}, "source": source}
    notebook["cells"].insert(2, cell)
    return notebook


def execute_plainly(notebook: dict) -> None:
    import nbformat
    from nbclient import NotebookClient

    client = NotebookClient(nbformat.reads(json.dumps(notebook), as_version=4), timeout=600, kernel_name="python3")
    client.execute(stderr=subprocess.DEVNULL)  # a word about TCP


# --- clocks ------------------------------------------------------------------------------------------------


class Meter:
    """While it is entered: CPU seconds of this process and of all that it starts, and the most memory that they held.

    Looked at, not added up afterwards: a kernel that is killed tells nobody what it used.
    """

    def __enter__(self) -> Meter:
        self.used: dict[psutil.Process, float] = {}
        self.memory_mb, self.looking = 0.0, 0.0  # without the kernel's; what the looking itself costs
        self.done, self.begun = threading.Event(), time.process_time()
        self.watcher = threading.Thread(target=self._watch)
        self.watcher.start()
        return self

    def __exit__(self, *_) -> None:
        self.done.set()
        self.watcher.join()
        own = time.process_time() - self.begun - self.looking
        self.seconds = own + sum(self.used.values())

    def _watch(self) -> None:
        while not self.done.wait(LOOK):
            memory = psutil.Process().memory_info().rss + sum(
                map(self._seen, psutil.Process().children(recursive=True))
            )
            self.memory_mb = max(self.memory_mb, memory / MB)
            self.looking = time.thread_time()

    def _seen(self, process: psutil.Process) -> int:
        """Notes its CPU; its memory, if it is the grader's."""
        try:
            self.used[process] = sum(process.cpu_times()[:2])
            kernel = any("ipykernel" in word for word in process.cmdline())
            return 0 if kernel else process.memory_info().rss
        except psutil.Error:  # ended meanwhile
            return 0


def metered(action: Callable[[], object], rounds: int) -> tuple[list[float], float]:
    """CPU seconds of each round, and the most memory of any."""
    laps, memory = [], 0.0
    for _ in range(rounds):
        with Meter() as meter:
            action()
        laps.append(meter.seconds)
        memory = max(memory, meter.memory_mb)
    return laps, memory


# --- the command -------------------------------------------------------------------------------------------


def levels(quick: bool) -> list[str]:
    """What works here, the safest first."""
    offered = sandbox.offers()
    working = [level for level in ("bwrap", "landlock", "limits", "none") if offered[level][0]]
    return working[:1] if quick else working


def measure(solution: Path, *, quick: bool, rounds: int) -> Iterator[Row]:
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    torch_notebook = with_torch(solution, steps=300 if quick else 1500)
    plain, _ = metered(lambda: execute_plainly(torch_notebook), rounds)
    for level in levels(quick):
        with tempfile.TemporaryDirectory(prefix="pc-") as folder:
            yield from rows(batch(solution, level, folder), torch_notebook, plain, rounds)


def rows(made: Batch, torch_notebook: dict, plain: list[float], rounds: int) -> Iterator[Row]:
    level = made.settings.sandbox
    light, light_memory = metered(lambda: made.grade(made.solution.read_bytes()), rounds)
    heavy, heavy_memory = metered(lambda: made.grade(json.dumps(torch_notebook).encode()), rounds)
    seconds, ratio = statistics.median(light), statistics.median(heavy) / statistics.median(plain)
    memory, most = max(light_memory, heavy_memory), partial(Row, at_least=False)
    yield most(f"CPU of a submission without torch, {level}", 2.5, seconds, "s", seconds={"grade": light})
    laps = {"grade": heavy, "plain": plain}
    yield most(f"CPU of one with torch against running it, {level}", 1.5, ratio, seconds=laps)
    yield most(f"memory of the grader beside the kernel, {level}", 300, memory, "MB")
    loud = json.dumps(with_cell(made.solution, LOUD)).encode()
    yield most(f"the same, a loud submission, {level}", 300, metered(lambda: made.grade(loud), rounds)[1], "MB")


def without_torch(solutions: Iterable[Path]) -> Path:
    """The first of them in which no cell needs torch."""
    return next(path for path in solutions if "import torch" not in path.read_text(encoding="utf-8"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--quick", action="store_true", help="one round, one sandbox: does it run, not what it costs")
    parser.add_argument("--rounds", type=int, default=None, help="how often each is graded (default 5, quick 1)")
    parser.add_argument("--out", type=Path, default=Path("grading.json"), help="where the JSON goes")
    parser.add_argument("--course", metavar="DIR", help="the course's folder (default: here or above)")


def main(args: argparse.Namespace) -> int:
    """Measure, print the table, write the JSON. Returns 0: a missed target is a result, not an error."""
    solution = without_torch(solutions_of(args.course).values())
    start = time.monotonic()
    found = table.tell(measure(solution, quick=args.quick, rounds=args.rounds or (1 if args.quick else 5)))
    report = {"environment": table.environment(), "rows": found, "wall": round(time.monotonic() - start, 1)}
    args.out.write_text(json.dumps(report, indent=1))
    print(f"\nEvery measurement: {args.out}")
    return 0
