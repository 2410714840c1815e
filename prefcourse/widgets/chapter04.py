"""Chapter 4's widget: token by token, how a policy leaves its reference as training goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from prefcourse import plots
from prefcourse.widgets.explorer import Explorer, Frames, Key, explore

Map = Mapping[str, tuple[Sequence[str], Sequence[float]]]  # "chosen" and "rejected": tokens, and their log-ratios


def token_credit(
    run: Callable[..., Map], frames: Mapping[Key, Map], *, step: Sequence[int], pair: Sequence[str]
) -> Explorer:
    """Move through training, pair by pair. `run(seed=, step=, pair=)` trains anew up to that step."""

    def draw(figure, frames: Frames, key: Key) -> str:
        rows = dict(frames.computed[key])
        if again := frames.live.get(key):
            rows |= {f"{name},\nrun live": row for name, row in again[-1].items()}
        figure.set_size_inches(8.8, 0.4 + 1.2 * len(rows))
        plots.token_heat_map(figure.subplots(), rows, limit=1, label="log-ratio (nats)")
        return sentence(key[0], frames.computed[key])

    last = {"step": step[-1]}
    return explore(run, draw, frames=frames, title="Blame and praise, token by token", start=last, step=step, pair=pair)


def sentence(step: int, rows: Map) -> str:
    sums = " and ".join(f"{sum(numbers):+z.1f} for the {name} response" for name, (_, numbers) in rows.items())
    told = f"After {step} steps the log-ratio is {sums}."
    moved = {(name, token): x for name, row in rows.items() for token, x in zip(*row, strict=True)}
    most = max(moved, key=lambda place: abs(moved[place]))
    if abs(moved[most]) < 0.05:
        return f"{told} No token has moved yet."
    name, token = most
    return f"{told} Most of all moved '{token}' in the {name} response, by {moved[most]:+.1f}."
