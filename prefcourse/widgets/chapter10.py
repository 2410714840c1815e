"""Chapter 10's pictures and its widget: logs of sick runs beside one that is known to be good; is the guess right?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from prefcourse import plots
from prefcourse.widgets.explorer import Explorer, Frames, Key, explore

Log = Mapping[str, Sequence[float]]
PANELS = {
    "score": "score",
    "kl": "kl",
    "length": "length",
    "finished": "share finished",
    "entropy": "entropy",
    "approx_kl_first": "approx_kl at first",
    "value_last": "value, last token",
    "grad_norm": "gradient norm",
}
UNDECIDED = "no guess yet"
LOOK_AT = {  # what gives a run away
    "healthy": "every line follows the grey one",
    "flipped reward": "the score falls, and the reward is not score minus penalty",
    "prompt counted": "answers are longer than the limit of 20, by the length of the prompt, and the KL is hardly too "
    "large",
    "padding counted": "answers are longer than the limit of 20, all alike, and the KL runs away or is negative",
    "constant KL": "the score rises as it should, and the KL grows and grows",
    "stale log-probabilities": "approx_kl is not 0 at the first minibatch of a round; it hardly learns",
    "truncated unscored": "fewer answers end, and the reward is larger than score minus penalty",
    "values shifted": "the value before the last token is exactly 0, always",
    "advantages attached": "the critic's value sinks far below the return, and the gradient is many times too large",
}


def dashboard(axes, log: Log, known: Log, *, panels: Sequence[str] = tuple(PANELS), every: int = 2):
    """One panel for each quantity: this run in blue, the known one in grey."""
    for ax, key in zip(axes, panels, strict=True):
        rounds = range(1, every * len(known[key]) + 1, every)
        ax.plot(rounds, known[key], "--", color=plots.REFERENCE, linewidth=1.4, label="known to be good")
        ax.plot(rounds[: len(log[key])], log[key], color=plots.POLICY, linewidth=1.6, label="this run")
        ax.set_title(PANELS[key], fontsize=9)
        if key == "grad_norm":
            ax.set(yscale="log")
        if key == "approx_kl_first":  # 0 must be on the axis
            ax.set_yscale("symlog", linthresh=1e-3)
            ax.set(ylim=(-1e-3, 100), yticks=[0, 1e-2, 1, 100])
    return axes


def which_bug(figure, patients: Mapping[str, Log], known: Log, *, panels: Sequence[str]):
    """A row for each run, under its letter."""
    axes = figure.subplots(len(patients), len(panels), sharex=True, sharey="col")
    for row, (letter, log) in zip(axes, patients.items(), strict=True):
        dashboard(row, log, known, panels=panels)
        row[0].set_ylabel(letter, rotation=0, labelpad=12, fontsize=12, fontweight="bold")
        for ax in row:
            ax.set_title("")
            ax.tick_params(labelsize=7)
            ax.minorticks_off()
    for ax, key in zip(axes[0], panels, strict=True):
        ax.set_title(PANELS[key], fontsize=9)
    for ax in axes[-1]:
        ax.set_xlabel("round", fontsize=8)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return axes


def ward_round(run: Callable[..., dict], *, frames: Mapping[Key, dict], start: dict, **controls: Sequence) -> Explorer:
    """Pick a lab and a patient, look, and guess. A frame is {"log", "known", "name", "answers"}."""

    def draw(figure, frames: Frames, key: Key) -> str:
        settings, here = dict(zip(frames.controls, key, strict=True)), frames.computed[key]
        axes = figure.subplots(2, 4, sharex=True)
        dashboard(axes.flat, here["log"], here["known"])
        for again in frames.live.get(key, []):
            dashboard(axes.flat, again["log"], here["known"])
        for ax in axes[1]:
            ax.set_xlabel("round", fontsize=8)
        return sentence(settings["guess"], here)

    return explore(run, draw, frames=frames, title="The ward", start=start, size=(9.6, 4.4), **controls)


def sentence(guess: str, here: dict) -> str:
    """One of its answers; and whether the guess is right, with what gives it away."""
    (prompt, answer), *_ = here["answers"]
    says = f"Asked '{prompt}', it says '{answer}'."
    if guess == UNDECIDED:
        return f"{says} Make a guess."
    if guess == here["name"]:
        return f"{says} Right, {guess}: {LOOK_AT[guess]}."
    return f"{says} No, it is not {guess}. There one would see that {LOOK_AT[guess]}."
