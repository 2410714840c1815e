"""The pattern of every chapter's widget: sliders over real runs, and a button that really runs one.

    explore(run, draw, temperature=[0.5, 1, 2], people=["all", "careful"])

`run(seed=0, temperature=..., people=...)` computes one frame; `draw(figure, frames, chosen)` shows it and returns the
sentence that says what is seen. Nothing between two computed values is ever guessed.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence

from matplotlib.figure import Figure

from prefcourse import plots
from prefcourse.widgets.panel import Panel, button, choice, slider

Key = tuple  # one value per control, in the order of the controls


class Frames:
    """What was computed: by key, and what was run live since. Pure, without a widget."""

    def __init__(self, run: Callable, controls: Mapping[str, Sequence], frames: Mapping[Key, object] | None = None):
        if not controls or not all(controls.values()):
            raise ValueError("give at least one control with at least one value: explore(run, draw, beta=[0.1, 1])")
        self.run, self.controls = run, {name: list(values) for name, values in controls.items()}
        keys = list(itertools.product(*self.controls.values()))
        self.computed = {key: self.compute(key, seed=0) for key in keys} if frames is None else dict(frames)
        if missing := [key for key in keys if key not in self.computed]:
            raise ValueError(f"frames lacks {missing[0]} and {len(missing) - 1} more; or give none and all are run")
        self.live: dict[Key, list] = {}

    def compute(self, key: Key, seed: int):
        return self.run(seed=seed, **dict(zip(self.controls, key, strict=True)))

    def run_live(self, key: Key):
        """The same experiment with a seed that was not used before."""
        seed = 1 + sum(map(len, self.live.values()))
        self.live.setdefault(key, []).append(self.compute(key, seed=seed))
        return self.live[key][-1]


class Explorer(Panel):
    """The panel over `Frames`. `set(beta=0.1)` moves a control, `run_live()` presses the button."""

    def __init__(self, frames: Frames, draw: Callable, *, title: str, size: tuple[float, float]):
        specs = [control(name, values) for name, values in frames.controls.items()]
        first = {name: values[0] for name, values in frames.controls.items()}
        run = button("run", "Run it live, with a new seed", first=True)
        super().__init__(label=title, controls=specs, buttons=[run], values=first)
        self.frames, self.draw_frame, self.size = frames, draw, size
        self.moved()

    @property
    def key(self) -> Key:
        return tuple(self.values[name] for name in self.frames.controls)

    def moved(self) -> None:
        if not hasattr(self, "frames"):
            return  # still being made
        with plots.style():
            figure = Figure(figsize=self.size, layout="constrained")
            self.news = self.draw_frame(figure, self.frames, self.key)
        self.put(figure, f"{self.label}. {self.news}")
        self.renew_twin()

    def run_live(self) -> object:
        self.busy = True
        try:
            begin = time.monotonic()
            frame = self.frames.run_live(self.key)
            self.moved()
            took = time.monotonic() - begin
        finally:
            self.busy = False
        self.words = f"<p>Run just now, in {took:.1f} s.</p>"
        return frame

    def pressed(self, name: str) -> None:
        if name == "run" and not self.busy:
            self.run_live()

    def plain(self) -> str:
        return f"{self.label}. Run this cell to move the sliders."


def control(name: str, values: list) -> dict:
    """Numbers make a slider, words a list."""
    label = name.replace("_", " ").capitalize()
    return choice(name, label, values) if isinstance(values[0], str) else slider(name, label, values)


def explore(
    run: Callable, draw: Callable, *, frames: Mapping[Key, object] | None = None, title: str = "Explore",
    start: Mapping | None = None, size: tuple[float, float] = (6.4, 3.6), **controls: Sequence,
) -> Explorer:  # fmt: skip
    """Sliders over what `run` computes. `frames`: results of earlier runs by key, where one takes too long to wait
    for; without them everything is run now. `start`: where the controls stand at first."""
    explorer = Explorer(Frames(run, controls, frames), draw, title=title, size=size)
    if start:
        explorer.set(**start)
    return explorer
