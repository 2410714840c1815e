"""The laboratory: choose people, pairs and a method, train, and compare runs on the reward-KL plane.

    room = Laboratory()                      # or Laboratory(Lab(sft_model, seed, world))
    room.set(method="DPO", beta=0.1)         # what moving a control does
    room.run()                               # what Train does, without a browser

The shell of `experiments`: it draws and listens. beta can be moved while it trains; Stop keeps what was measured.
"""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path

from matplotlib.figure import Figure

from prefcourse import plots
from prefcourse.evaluate import Estimate
from prefcourse.lab import Lab
from prefcourse.lab import lab as standard_lab
from prefcourse.widgets.bar import watched
from prefcourse.widgets.pages import table
from prefcourse.widgets.panel import Panel, button, choice, slider
from prefcourse.widgets.runs import METHODS, PEOPLE, Materials, Run, Settings, as_csv, describe

EVERY = 0.5  # seconds between two pictures, at least
TRAINED = [method for method in METHODS if method != "best-of-n"]
RATES = [0.0, 1e-4, 2e-4, 3e-4, 5e-4, 1e-3, 2e-3, 3e-3, 5e-3]
CONTROLS = [
    choice("method", "Method", list(METHODS)),
    slider("beta", "beta", [0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0], live=True,
           only=["PPO", "DPO", "online DPO"]),
    slider("learning_rate", "Learning rate", RATES, ["the usual", *(f"{rate:g}" for rate in RATES[1:])], only=TRAINED),
    slider("steps", "Steps", [10, 20, 40, 60, 100, 150, 200], only=TRAINED),
    slider("n", "Answers to choose from", [2, 4, 8, 16, 32, 64], only=["best-of-n"]),
    choice("people", "Annotators", list(PEOPLE)),
    slider("noise", "Their noise", [0.25, 0.5, 1.0, 2.0, 4.0, 8.0]),
    slider("pairs", "Preference pairs", [32, 64, 128, 256, 512, 1024, 2048]),
]  # fmt: skip
BUTTONS = [
    button("train", "Train", first=True),
    button("stop", "Stop", when="busy"),
    button("forget", "Forget the last run"),
    button("png", "Save figure (PNG)"),
    button("csv", "Save numbers (CSV)"),
]


class Laboratory(Panel):
    """A panel of experiments on PocketWorld. `runs` has everything that was measured."""

    def __init__(self, lab: Lab | None = None, *, seed: int = 0):
        usual = Settings(seed=seed)
        values = {spec["name"]: getattr(usual, spec["name"]) for spec in CONTROLS} | {"learning_rate": 0.0}
        super().__init__(label="The laboratory", controls=CONTROLS, buttons=BUTTONS, values=values)
        self.materials, self.seed = Materials(lab or standard_lab()), seed
        self.runs: list[Run] = []
        self.task, self.next_picture = None, 0.0
        self.news = "Choose, then Train. Every run stays on the plane for comparison."
        self.draw()

    # -- what a learner or a test may call ----------------------------------------------------------------

    def settings(self) -> Settings:
        values = dict(self.values)
        return Settings(**values | {"learning_rate": values["learning_rate"] or None, "seed": self.seed})

    def run(self) -> Run:
        """Train with the present settings, to the end or to Jupyter's Stop; the run is also kept in `runs`."""
        run = self._begin()
        try:
            for _ in watched(run.points(), run.name, run.settings.steps):
                pass
        except KeyboardInterrupt:
            run.state = "stopped"
        self._end(run)
        return run

    async def run_async(self) -> Run:
        """The same while controls stay alive: after every step whoever moved or pressed something is heard."""
        run = self._begin()
        try:
            for point in run.points():
                if point and time.monotonic() >= self.next_picture:
                    self.draw()
                self.share = min(1.0, run.step / run.settings.steps)
                await asyncio.sleep(0.001)
                if not self.busy:
                    run.state = "stopped"
                    break
        except Exception as error:  # nobody else would see it: the task has no cell
            run.state, run.note = "failed", f"{type(error).__name__}: {error}"
        self._end(run)
        return run

    def save_png(self, path: str | Path = "laboratory.png") -> Path:
        return write_new(Path(path), plots.png(self.figure, sharpness=2))

    def save_csv(self, path: str | Path = "laboratory.csv") -> Path:
        return write_new(Path(path), as_csv(self.runs).encode())

    # -- the panel ----------------------------------------------------------------------------------------

    def plain(self) -> str:
        return "The laboratory. Run this cell to experiment."

    def pressed(self, name: str) -> None:
        if name == "train" and not self.busy:
            self.busy = True  # at once: a second click must not start a second run
            self.task = asyncio.get_running_loop().create_task(self.run_async())
        elif name == "stop":
            self.busy = False
        elif name == "forget" and self.runs and not self.busy:
            self.news = f"{self.runs.pop().name}: forgotten."
            self.draw()
            self.renew_twin()
        elif name in ("png", "csv"):
            self._save(name)

    def moved(self) -> None:
        """beta goes to the run that is on; everything else waits for the next."""
        if self.busy and self.runs and self.runs[-1].settings.method != "best-of-n":
            self.runs[-1].beta = self.values["beta"]

    def _save(self, kind: str) -> None:
        try:
            path = self.save_png() if kind == "png" else self.save_csv()
            self.news = f"Saved as {path.name}, beside this notebook."
        except OSError as error:
            self.news = f"Could not save: {error.strerror}. Is this folder writable?"

    def _begin(self) -> Run:
        run = Run(self.settings(), self.materials)
        self.runs.append(run)
        self.busy, self.share, self.news = True, 0.0, f"{run.name}: labels and reward model first ..."
        return run

    def _end(self, run: Run) -> None:
        self.busy = False
        words = {"stopped": f"Stopped after {run.step} steps; what was measured stays. "}.get(run.state, "")
        self.news = f"{words}{describe(run)} {run.note}".strip()
        self.draw()
        self.renew_twin()

    def draw(self) -> None:
        begin = time.monotonic()
        runs = [run for run in self.runs if run.path]
        self.put(figure_of(runs, self.materials.frontier()), alt_of(runs))
        if runs:
            rows = [(prompt, before, now) for prompt, before, now in runs[-1].answers]
            self.words = table(("question", "before", "now"), rows, f"Five answers, {runs[-1].name}")
            if self.busy:
                self.news = describe(runs[-1])
        else:
            self.words = ""
        cost = time.monotonic() - begin
        self.next_picture = time.monotonic() + max(EVERY, 4 * cost)


def figure_of(runs: list[Run], frontier) -> Figure:
    """The last run step by step above, all runs on the plane below; places are fixed, which is quick to draw."""
    with plots.style():
        figure = Figure(figsize=(6.8, 5.4), layout="none")
        top = figure.add_gridspec(1, 3, left=0.085, right=0.985, top=0.95, bottom=0.66, wspace=0.33)
        if runs:
            curves_of(runs[-1], [figure.add_subplot(top[0, column]) for column in range(3)])
        below = figure.add_gridspec(1, 1, left=0.105, right=0.655, top=0.54 if runs else 0.95, bottom=0.09)
        plane(figure.add_subplot(below[0]), runs, frontier)
    return figure


def curves_of(run: Run, axes) -> None:
    steps, dot = [point.step for point in run.path], "o" if len(run.path) == 1 else ""
    looks = {"score": (plots.SCORE, "--"), "gold": (plots.GOLD, "-")}
    for name, (colour, line) in looks.items():
        values = [getattr(p, name).mean for p in run.path]
        axes[0].plot(steps, values, line, color=colour, label=name, marker=dot)
    axes[0].legend()
    axes[1].plot(steps, [p.kl.mean for p in run.path], color=plots.POLICY, marker=dot)
    axes[2].plot(steps, [p.length for p in run.path], color=plots.POLICY, marker=dot)
    for ax, title in zip(axes, ("score and gold", "KL from SFT (nats)", "length (tokens)"), strict=True):
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("n" if run.settings.method == "best-of-n" else "step", fontsize=9)
        ax.tick_params(labelsize=8.5)


def plane(ax, runs: list[Run], frontier) -> None:
    reach = max([1.0, *(point.kl.mean for run in runs for point in run.path)])
    shown = [point for point in frontier if point.kl <= 1.3 * reach]
    paths = {f"{number}. {run.name}": path_of(run) for number, run in enumerate(runs, 1)}
    plots.reward_kl_plane(ax, paths, frontier=shown)
    ax.set_title("All runs: gold gained for the KL spent", fontsize=10)
    ax.set_xlabel("KL from SFT (nats per response)", fontsize=9)
    ax.set_ylabel("gold reward", fontsize=9)
    ax.tick_params(labelsize=8.5)


def path_of(run: Run) -> list[tuple[Estimate, Estimate]]:
    """KL and gold of each point; only the last keeps its interval, or nobody could see the others."""
    bare = [tuple(Estimate(value.mean, math.nan) for value in (p.kl, p.gold)) for p in run.path[:-1]]
    return [*bare, (run.path[-1].kl, run.path[-1].gold)]


def alt_of(runs: list[Run]) -> str:
    if not runs:
        return "The reward-KL plane with the optimum's line and no run yet."
    return "The reward-KL plane. " + " ".join(f"Run {number}: {describe(run)}" for number, run in enumerate(runs, 1))


def write_new(path: Path, data: bytes) -> Path:
    """Write a file that is not there yet: x.png, else x-2.png, x-3.png ..."""
    number, place = 1, path
    while True:
        try:
            with open(place, "xb") as file:
                file.write(data)
            return place
        except FileExistsError:
            number += 1
            place = path.with_name(f"{path.stem}-{number}{path.suffix}")
