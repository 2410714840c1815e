"""Training while it happens: one picture that changes in place, the time left, and answers that change with it.

    log = live(train.ppo(policy, reference, tokenizer, prompts, score, beta=0.1, iterations=40, seed=0),
               answers=samples(policy, tokenizer, prompts[:3], world))

Knows loops that yield metrics; changes nothing in them. Where nobody looks (tests, nbval, nbconvert) only the last
picture is drawn, without clocks: it depends on the metrics alone.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import NamedTuple

import torch
from matplotlib.figure import Figure

from prefcourse import plots, rollout
from prefcourse.progress import progress, silent
from prefcourse.widgets.bar import EVERY, Output, in_notebook, progress_bar, stopped

SHARE = 0.2  # of the time, what drawing may take
SHOWN = {  # what is drawn if nobody says what: the first three of these that the loop yields, in words
    "score": "score",
    "gold": "gold reward",
    "kl": "KL from the reference (nats)",
    "length": "length (tokens)",
    "rewards/margins": "margin",
    "rewards/accuracies": "share of pairs in the right order",
    "accuracy": "share of pairs in the right order",
    "loss": "loss",
    "grad_norm": "norm of the gradient",
}


NAMES = {name: name.upper() for name in ("sft", "dpo", "ppo", "grpo", "rloo")} | {"online_dpo": "online DPO"}


class Row(NamedTuple):
    prompt: str
    text: str
    gold: float | None = None


Draw = Callable[[Figure, list[dict]], object]


def live(
    loop: Iterable[dict], figure: Sequence[str] | Draw | None = None, *, answers: Callable[[], list[Row]] | None = None,
    total: int | None = None, label: str = "",
) -> list[dict]:  # fmt: skip
    """Run a training loop to its end and show it meanwhile; all its metrics. Jupyter's Stop keeps what is there.

    `figure`: names of metrics, one panel each, or a function `draw(figure, history)`. `answers`: see `samples`.
    `total` is read from the loop if it knows its `iterations` or `steps`; `label` is the loop's name if not given.
    """
    name = getattr(loop, "__name__", "training")
    screen = Screen(label or NAMES.get(name, name.replace("_", " ")), figure, answers)
    if not screen.visible and not silent():
        loop = progress(loop, screen.label, total or total_of(loop))  # a terminal
    history, end = [], "stopped"
    try:
        for metrics in loop:
            history.append(metrics)
            total = total or total_of(loop)
            if screen.due():
                screen.draw(history, total)
        end = "done"
    except KeyboardInterrupt:
        pass  # whoever stops a loop wants to look at what it has learned so far
    except Exception:
        end = "failed"
        raise
    finally:
        screen.finish(history, total, end)
    return history


def total_of(loop) -> int | None:
    """How many times a generator will yield, if a local variable of it says so."""
    if not inspect.isgenerator(loop) or loop.gi_frame is None:
        return None
    known = inspect.getgeneratorlocals(loop)
    return known.get("iterations") or known.get("steps")


def samples(policy, tokenizer, prompts: Sequence[str], world=None, *, seed: int = 0) -> Callable[[], list[Row]]:
    """For `live(answers=...)`: the policy's answer to each prompt as it is now, with its gold if a world is given.
    The random numbers are the same each time, so an answer changes only if the policy does."""

    def now() -> list[Row]:
        generator = torch.Generator().manual_seed(seed)
        drawn = rollout.sample(policy, tokenizer, list(prompts), max_new_tokens=32, generator=generator)
        rows = zip(drawn.prompts, drawn.texts, drawn.finished.tolist(), strict=True)
        return [Row(p, text, world and world.gold(p, text, finished=finished)) for p, text, finished in rows]

    return now


class Screen:
    """One output of a notebook that is drawn again and again."""

    def __init__(self, label: str, figure: Sequence[str] | Draw | None, answers: Callable[[], list[Row]] | None):
        self.label, self.figure, self.answers = label, figure, answers
        self.visible, self.output = in_notebook() and not silent(), Output()
        self.before = answers() if answers and self.visible else []
        self.start, self.next = time.monotonic(), 0.0

    def due(self) -> bool:
        return self.visible and time.monotonic() >= self.next

    def draw(self, history: list[dict], total: int | None, end: str = "") -> None:
        begin = time.monotonic()
        bar = progress_bar(self.label, len(history), total, begin - self.start, end)
        drawn, alt = picture(self.figure, history, self.label)
        image = plots.as_html(plots.png(drawn, sharpness=1.5), alt, plots.pixels_wide(drawn))
        rows = answer_table(self.before, self.answers()) if self.answers else ""
        self.output.put(f'<div class="pc-live" style="max-width:760px">{bar}{image}{rows}</div>', f"{self.label}, live")
        cost = time.monotonic() - begin
        self.next = time.monotonic() + max(EVERY - cost, cost / SHARE)

    def finish(self, history: list[dict], total: int | None, end: str) -> None:
        """The last picture; under tests the only one."""
        if history and self.visible:
            self.draw(history, total, end)
        elif history and in_notebook():
            plots.show(*picture(self.figure, history, self.label))
        if end == "stopped" and not self.visible:
            print(stopped(len(history), total))


# --- the picture --------------------------------------------------------------------------------------------


def picture(figure: Sequence[str] | Draw | None, history: list[dict], label: str) -> tuple[Figure, str]:
    """The figure of a history, and its alternative text."""
    with plots.style():
        if callable(figure):
            drawn = Figure(figsize=(7.2, 3.2), layout="constrained")
            figure(drawn, history)
            return drawn, f"{label} as it trains."
        names = figure or [name for name in SHOWN if name in history[0]][:3]
        drawn = panels(history, [names] if isinstance(names, str) else list(names))
    first, last = history[0], history[-1]
    ends = ", ".join(f"{words(name)} from {first[name]:.2f} to {last.get(name, math.nan):.2f}" for name in names)
    return drawn, f"{label}, step 1 to {len(history)}: {ends}."


def words(name: str) -> str:
    return SHOWN.get(name, name.replace("_", " "))


def panels(history: list[dict], names: list[str]) -> Figure:
    """One panel per metric, side by side, placed by hand: laying out anew takes longer than drawing."""
    missing = [name for name in names if name not in history[0]]
    if missing:
        raise ValueError(f"the loop yields no {', '.join(missing)}; it yields {', '.join(history[0])}")
    drawn = Figure(figsize=(7.2, 2.5), layout="none")
    drawn.subplots_adjust(left=0.065, right=0.985, bottom=0.19, top=0.87, wspace=0.26)
    steps = range(1, len(history) + 1)
    for ax, name in zip(drawn.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        colour = {"score": plots.SCORE, "gold": plots.GOLD}.get(name, plots.POLICY)
        values = [row.get(name, math.nan) for row in history]
        ax.plot(steps, values, color=colour, marker="." if len(history) < 3 else "")
        ax.set_title(words(name), fontsize=10)
        ax.set_xlabel("step", fontsize=9)
        ax.tick_params(labelsize=8.5)
        ax.set_xlim(1, max(2, len(history)))
    return drawn


# --- the words around it ------------------------------------------------------------------------------------


def answer_table(before: list[Row], now: list[Row]) -> str:
    """What the policy answered before training, and what it answers now."""
    rows = "".join(
        f'<tr><th scope="row" {_CELL}>{escape(old.prompt)}</th><td {_CELL}>{_answer(old)}</td>'
        f"<td {_CELL}>{_answer(new)}</td></tr>"
        for old, new in zip(before, now, strict=True)
    )
    head = "".join(f'<th scope="col" {_CELL}>{name}</th>' for name in ("question", "before", "now"))
    return f'<table style="width:100%;table-layout:fixed;margin:.4em 0"><tr>{head}</tr>{rows}</table>'


_CELL = 'style="text-align:left;vertical-align:top;white-space:normal;padding:.3em .5em"'


def _answer(row: Row) -> str:
    return escape(row.text) + (f" <em>(gold {row.gold:+.1f})</em>" if row.gold is not None else "")
