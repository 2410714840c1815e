"""The figures of the course. Each takes numbers and an `ax` and returns it; nothing is computed or saved here.

    with plots.style():
        figure, ax = plt.subplots()
        plots.reward_kl_plane(ax, {"PPO": points}, frontier=frontier)
        plots.show(figure, alt="PPO and DPO below the optimum, PPO nearer to it")

Colours are Okabe and Ito's, which people with any colour vision tell apart; line styles and markers say the same
in black and white. Error bars and bands are 95 % intervals.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullFormatter, PercentFormatter, ScalarFormatter, StrMethodFormatter

from prefcourse.evaluate import CalibrationBin, Estimate, FrontierPoint, Share
from prefcourse.progress import silent
from prefcourse.widgets.saved import figure_html

POLICY, REFERENCE, CHOSEN, REJECTED = "#0072B2", "#767676", "#009E73", "#E69F00"
SCORE, GOLD = "#CC79A7", "#000000"  # what the reward model says; the truth
OTHERS = (POLICY, "#D55E00", "#CC79A7", "#56B4E9", CHOSEN, REJECTED)  # methods side by side, in order
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
MARKERS = "os^Dvp"
METHODS = ("ppo", "dpo", "online dpo", "grpo", "rloo")
LESS_TO_MORE = LinearSegmentedColormap.from_list("less to more", ["#D55E00", "#FFFFFF", POLICY])
LITTLE_TO_MUCH = LinearSegmentedColormap.from_list("little to much", ["#FFFFFF", "#E69F00", "#9C3D00"])
LIGHT_TO_DARK = LinearSegmentedColormap.from_list("light to dark", ["#F0C64A", "#D55E00", "#5B2A86", "#0B2545"])
ENOUGH = 10  # effective samples per prompt below which a frontier is drawn dotted

STYLE = {
    "figure.figsize": (6.4, 4.0), "figure.dpi": 100, "figure.facecolor": "white", "savefig.facecolor": "white",
    "figure.constrained_layout.use": True, "font.size": 10, "axes.titlesize": 11, "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.color": "#E6E6E6", "grid.linewidth": 0.8, "lines.linewidth": 1.8, "lines.markersize": 5.5,
    "legend.frameon": False, "legend.fontsize": 9, "errorbar.capsize": 2.5,
}  # fmt: skip


def style():
    """The look of all figures, for a `with` block."""
    return plt.rc_context(STYLE)


# --- showing them ------------------------------------------------------------------------------------------


def show(figure: Figure, alt: str) -> None:
    """Display a figure and close it; `alt` says in a sentence or two what it shows, for people who cannot see it.

    Line breaks in `alt` count as spaces.
    JupyterLab drops the alternative text of inline images; only HTML keeps it. But nbval compares HTML letter by
    letter and skips PNG. So where nobody looks the figure is a PNG that carries the text along, else it is HTML.
    """
    from IPython.display import display

    data, metadata = as_output(figure, alt, still=silent())
    display(data, metadata=metadata, raw=True)
    plt.close(figure)


def as_output(figure: Figure, alt: str, *, still: bool) -> tuple[dict, dict]:
    """The data and metadata of a notebook's output. `still`: a PNG, for files that are compared; else HTML."""
    alt = " ".join(alt.split())
    if not alt:
        raise ValueError('alt is empty; say what the figure shows: show(figure, alt="gold rises, then falls")')
    data, picture = {"text/plain": f"Figure: {alt}"}, png(figure)
    if not still:
        return data | {"text/html": as_html(picture, alt, pixels_wide(figure))}, {}
    picture = base64.b64encode(picture).decode()
    return data | {"image/png": picture}, {"image/png": {"alt": alt, "width": pixels_wide(figure)}}


def png(figure: Figure, *, sharpness: float = 1.5) -> bytes:
    """The same bytes for the same figure; `sharpness` is in pixels of the file per pixel of the page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100 * sharpness, metadata={"Software": None})
    return buffer.getvalue()


def pixels_wide(figure: Figure) -> int:
    return round(100 * figure.get_figwidth())


def as_html(picture: bytes, alt: str, width: int) -> str:
    """A PNG within HTML, as wide as the page allows and never wider than `width`."""
    return figure_html(base64.b64encode(picture).decode(), alt, width)


def look(name: str, number: int = 0) -> dict:
    """Colour, line and marker of a method: the same in all figures for the METHODS, else by `number`."""
    if name.lower() in ("reference", "sft", "base"):
        return {"color": REFERENCE, "linestyle": "-", "marker": "X"}
    place = METHODS.index(name.lower()) if name.lower() in METHODS else number % len(OTHERS)
    return {"color": OTHERS[place], "linestyle": LINES[place], "marker": MARKERS[place]}


def _bars(estimates: Sequence[Estimate]) -> tuple[list[float], list[float]]:
    """Means, and half-widths of their 95 % intervals."""
    return [e.mean for e in estimates], [1.96 * e.standard_error for e in estimates]


def _level(ax: Axes, value: float, text: str, *, linestyle: str = "--", at: str = "left") -> None:
    """A grey horizontal line with its name above one end."""
    ax.axhline(value, color=REFERENCE, linestyle=linestyle, linewidth=1.2, zorder=1)
    ax.annotate(
        text, (0.01 if at == "left" else 0.99, value), (0, 2), xycoords=("axes fraction", "data"),
        textcoords="offset points", color=REFERENCE, fontsize=8.5, ha=at, va="bottom",
    )  # fmt: skip


def _legend_beside(ax: Axes) -> None:
    """To the right of the axes, where it can hide no point."""
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))


# --- policies ----------------------------------------------------------------------------------------------


def reward_kl_plane(
    ax: Axes, methods: Mapping[str, Sequence[tuple[Estimate, Estimate]]], *,
    frontier: Sequence[FrontierPoint] = (), reference: Estimate | None = None,
) -> Axes:  # fmt: skip
    """Gold against KL. `methods`: (kl, gold) of each point, points of one method joined in the order given."""
    if frontier:
        _frontier(ax, sorted(frontier, key=lambda point: point.kl))
    for number, (name, points) in enumerate(methods.items()):
        (kl, kl_error), (gold, gold_error) = (_bars(side) for side in zip(*points, strict=True))
        ax.errorbar(kl, gold, gold_error, kl_error, label=name, elinewidth=1, **look(name, number))
    if reference is not None:
        gold, error = _bars([reference])
        ax.errorbar([0], gold, error, color=REFERENCE, marker="*", markersize=10, linestyle="", label="reference")
    ax.set(xlabel="KL from the reference (nats per response)", ylabel="gold reward")
    _legend_beside(ax)
    return ax


def _frontier(ax: Axes, points: list[FrontierPoint]) -> None:
    """Solid where the sample carries it, dotted beyond."""
    kl, reward = [p.kl for p in points], [p.reward for p in points]
    solid = sum(p.effective_sample_size >= ENOUGH for p in points)
    rest = slice(max(0, solid - 1), None)
    ax.plot(kl[:solid], reward[:solid], color=GOLD, linewidth=1.4, label="optimum")
    if solid < len(points):
        ax.plot(kl[rest], reward[rest], color=GOLD, linewidth=1.4, linestyle=":", label="optimum, few samples")


def grid_in_plane(
    ax: Axes, kl: Sequence[float], gold: Sequence[float], *, colour: tuple[str, Sequence[float]] | None = None,
    marker: tuple[str, Sequence[float]] | None = None, frontier: Sequence[FrontierPoint] = (),
    reference: float | None = None,
) -> Axes:  # fmt: skip
    """Gold against KL (square-root axis) of runs over a grid of settings, one point each.

    `colour`, `marker`: the name of a setting and its value in each run, larger values darker; without them all are
    grey.
    """
    if frontier:
        _frontier(ax, sorted(frontier, key=lambda point: point.kl))
    if reference is not None:
        ax.plot(0, reference, "*", color=REFERENCE, markersize=11, label="reference", linestyle="", clip_on=False)
    shades, kinds = _shades(colour), _kinds(marker)
    handles = ax.get_legend_handles_labels()[0] + [_key(label, "o", shade) for label, shade in shades.values()]
    handles += [_key(label, kind, "#999999") for label, kind in kinds.values()]
    for n, (x, y) in enumerate(zip(kl, gold, strict=True)):
        shade = shades[colour[1][n]][1] if colour else "#BBBBBB"
        ax.plot(x, y, kinds[marker[1][n]][1] if marker else "o", color=shade, markersize=5, alpha=0.8, mew=0)
    _square_root(ax)
    ax.xaxis.set_major_locator(FixedLocator([0, 0.25, 1, 2, 4, 8, 12, 16, 24, 32]))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.set(xlabel="KL from the reference (nats per response, square-root axis)", ylabel="gold reward")
    ax.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def _shades(setting: tuple[str, Sequence[float]] | None) -> dict:
    name, values = setting or ("", ())
    known = sorted(set(values))
    shades = LIGHT_TO_DARK(np.linspace(0, 1, len(known)))
    return {value: (f"{name} {value:g}", shade) for value, shade in zip(known, shades, strict=True)}


def _kinds(setting: tuple[str, Sequence[float]] | None) -> dict:
    name, values = setting or ("", ())
    return {value: (f"{name} {value:g}", MARKERS[n]) for n, value in enumerate(sorted(set(values)))}


def _key(label: str, marker: str, colour) -> Line2D:
    return Line2D([], [], color=colour, marker=marker, linestyle="", label=label)


def _square_root(ax: Axes) -> None:
    ax.set_xscale("function", functions=(lambda x: np.sqrt(np.maximum(x, 0)), np.square))
    ax.set_xlim(left=0)


def heat_map(
    ax: Axes, table: Sequence[Sequence[float]], *, rows: tuple[str, Sequence], columns: tuple[str, Sequence],
    label: str, limits: tuple[float, float], centre: float | None = None, log: bool = False, digits: int = 1,
) -> Axes:  # fmt: skip
    """A number per cell, as a colour and in figures. `rows`, `columns`: a name, and a value for each.

    With a `centre` that is white, blue above and red below; without one from white to dark. `limits` end the scale.
    """
    norm = (LogNorm if log else Normalize)(*limits) if centre is None else TwoSlopeNorm(centre, *limits)
    colours = ScalarMappable(norm, LITTLE_TO_MUCH if centre is None else LESS_TO_MORE)
    for y, numbers in enumerate(table):
        for x, number in enumerate(numbers):
            fill = colours.to_rgba(number)
            ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=fill, edgecolor="white", linewidth=1.5))
            ax.text(x, y, f"{number:.{digits}f}", ha="center", va="center", fontsize=9, color=_ink(fill))
    ax.set_xticks(range(len(columns[1])), [f"{value:g}" for value in columns[1]])
    ax.set_yticks(range(len(rows[1])), [f"{value:g}" for value in rows[1]])
    ax.set(xlim=(-0.5, len(columns[1]) - 0.5), ylim=(len(rows[1]) - 0.5, -0.5), xlabel=columns[0], ylabel=rows[0])
    _without_frame(ax)
    ax.set_title(label)
    return ax


def _ink(fill: Sequence[float]) -> str:
    """Black or white, whichever is read better on that colour."""
    return "white" if 0.3 * fill[0] + 0.59 * fill[1] + 0.11 * fill[2] < 0.5 else "black"


def _without_frame(ax: Axes) -> None:
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(visible=False)


def curves(
    ax: Axes, lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, xlabel: str = "step", ylabel: str,
    beside: bool = False,
) -> Axes:  # fmt: skip
    """Any quantity against any other: `lines` maps a name to (x, y). `beside`: the legend stands outside."""
    for number, (name, (x, y)) in enumerate(lines.items()):
        ax.plot(x, y, label=name, **look(name, number) | {"marker": ""})
    ax.set(xlabel=xlabel, ylabel=ylabel)
    if beside:
        _legend_beside(ax)
    elif len(lines) > 1:
        ax.legend()
    return ax


def banded_curves(
    ax: Axes, lines: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]], *,
    xlabel: str, ylabel: str,
) -> Axes:  # fmt: skip
    """As `curves`, each line within its band: `lines` maps a name to (x, low, middle, high)."""
    for number, (name, (x, low, middle, high)) in enumerate(lines.items()):
        style = look(name, number) | {"marker": ""}
        ax.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
        ax.plot(x, middle, label=name, **style)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    return ax


def curves_by_seed(
    ax: Axes, lines: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]], *, xlabel: str = "",
    ylabel: str = "",
) -> Axes:  # fmt: skip
    """As `curves`, a thin line with its points for each seed: `lines` maps a name to (x, y) of every seed."""
    for number, (name, seeds) in enumerate(lines.items()):
        for again, (x, y) in enumerate(seeds):
            ax.plot(x, y, label=None if again else name, **look(name, number) | {"markersize": 4, "linewidth": 1})
    ax.set(xlabel=xlabel, ylabel=ylabel)
    return ax


def curves_with_bars(
    axes: Sequence[Axes], x: Sequence[float], rows: Mapping[str, Sequence[Mapping[str, Estimate]]], *, xlabel: str,
    log: bool = False, **ylabels: str,
) -> Sequence[Axes]:  # fmt: skip
    """A panel for each quantity in `ylabels`; `rows`: by line, what was measured at each x, quantity by quantity."""
    for ax, (what, ylabel) in zip(axes, ylabels.items(), strict=True):
        for number, (name, line) in enumerate(rows.items()):
            mean, error = _bars([row[what] for row in line])
            ax.errorbar(x, mean, error, label=name, elinewidth=1, **look(name, number))
        ax.set(xlabel=xlabel, ylabel=ylabel, xscale="log" if log else "linear")
        ax.set_xticks(x, [f"{value:g}" for value in x])
        ax.minorticks_off()
    axes[0].legend()
    return axes


def training_curves(axes: Sequence[Axes], score: Mapping, gold: Mapping) -> Sequence[Axes]:
    """What training sees, and what is true: two panels side by side, as their scales have nothing in common."""
    curves(axes[0], score, ylabel="score").set_title("What training sees: the score")
    curves(axes[1], gold, ylabel="gold reward").set_title("What is true: gold")
    return axes


def over_optimisation(
    ax: Axes, kl: Sequence[float], score: Sequence[float], gold: Sequence[float], *, label: str = "", number: int = 0,
    error: Sequence[float] = (),
) -> Axes:  # fmt: skip
    """Score (dashed) and gold (solid) against KL on a square-root axis, as Gao et al. (2210.10760, figure 1).

    Call it once per run; a run with a `label` has one colour for both. `error`: of gold, drawn as a 95 % band.
    """
    colour, marker = look(label, number)["color"], {"marker": MARKERS[number % 6], "markersize": 4, "clip_on": False}
    ax.plot(kl, score, "--", color=colour if label else SCORE, label=None if label else "score", **marker)
    ax.plot(kl, gold, "-", color=colour if label else GOLD, label=label or "gold", **marker)
    if len(error):
        low, high = np.asarray(gold) - 1.96 * np.asarray(error), np.asarray(gold) + 1.96 * np.asarray(error)
        ax.fill_between(kl, low, high, color=colour if label else GOLD, alpha=0.15, linewidth=0)
    _square_root(ax)
    ax.set(xlabel="KL from the reference (nats, square-root axis)", ylabel="gold (solid) and score (dashed)")
    _legend_beside(ax)
    return ax


def over_optimisations(ax: Axes, runs: Mapping[str, object], *, marked: bool = True) -> Axes:
    """`over_optimisation` of several runs: `runs` maps a name to what has a `kl`, a `score`, a `gold` and its `error`.

    Unmarked lines, closed forms, are cut where the axes end.
    """
    for number, (name, run) in enumerate(runs.items()):
        over_optimisation(ax, run.kl, run.score, run.gold, label=name, number=number, error=run.error)
    if not marked:
        plt.setp(ax.lines, marker="", clip_on=True)
    ax.set_xlim(0, 1.03 * max(max(run.kl) for run in runs.values()))
    ax.legend(loc="lower left", fontsize=8)
    return ax


def fits(
    axes: Sequence[Axes], points: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float]]],
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]], *, xlabel: str, ylabel: str,
) -> Sequence[Axes]:  # fmt: skip
    """Above, what was measured and the curve fitted to it; below, what the curve misses.

    `points`: (x, y, y minus curve) by name; `lines`: the curve, (x, y), of the same name.
    """
    for number, (name, (x, y, residual)) in enumerate(points.items()):
        shade = {"color": OTHERS[number % len(OTHERS)], "marker": MARKERS[number % 6], "markersize": 5}
        axes[0].plot(x, y, label=name, **shade | {"linestyle": ""})
        axes[0].plot(*lines[name], color=shade["color"], linewidth=1.2)
        axes[1].plot(x, residual, linewidth=0.8, **shade)
    axes[1].axhline(0, color=REFERENCE, linewidth=1)
    axes[0].set(ylabel=ylabel)
    axes[1].set(xlabel=xlabel, ylabel="measured - fitted")
    axes[0].legend(fontsize=8)
    return axes


def stage_gold(ax: Axes, gold: Mapping[str, Estimate], *, best: float | None = None) -> Axes:
    """The pipeline's gold at each stage; `best` is what a perfect answer earns."""
    mean, error = _bars(list(gold.values()))
    for x, (name, y, bar) in enumerate(zip(gold, mean, error, strict=True)):
        ax.errorbar(x, y, bar, markersize=8, **look(name, x))
        ax.annotate(f"{y:.2f}", (x, y), (9, 0), textcoords="offset points", va="center")
    if best is not None:
        _level(ax, best, "best answer")
    ax.set_xticks(range(len(gold)), list(gold))
    ax.set(ylabel="gold reward", xlim=(-0.5, len(gold) - 0.3))
    ax.grid(axis="x", visible=False)
    return ax


def against_diagonal(
    ax: Axes, x: Sequence[float], y: Sequence[Estimate], *, xlabel: str, ylabel: str, labels: Sequence[str] = (),
    level: float | None = None, level_name: str = "",
) -> Axes:  # fmt: skip
    """A quantity against the one that it should equal, on one scale, each point with its label beside it."""
    mean, error = _bars(y)
    low, high = min(*x, *mean), max(*x, *mean)
    ends = [low - 0.1 * (high - low), high + 0.1 * (high - low)]
    ax.plot(ends, ends, color=REFERENCE, linestyle="--", linewidth=1.2, label="equal")
    ax.errorbar(x, mean, error, color=POLICY, marker="o", elinewidth=1)
    for label, at in zip(labels, zip(x, mean, strict=True), strict=bool(labels)):
        ax.annotate(label, at, (7, -4), textcoords="offset points", va="top", fontsize=9)
    if level is not None:
        _level(ax, level, level_name)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(loc="lower right")
    return ax


def gold_histogram(ax: Axes, samples: Mapping[str, Sequence[float]], *, bins: Sequence[float] | int = 24) -> Axes:
    """Shares of answers by gold reward, one outline per policy over common bins."""
    edges = np.histogram_bin_edges(np.concatenate([np.ravel(values) for values in samples.values()]), bins)
    for number, (name, values) in enumerate(samples.items()):
        colour, line, _ = look(name, number).values()
        share = {"x": np.ravel(values), "bins": edges, "weights": np.full(np.size(values), 1 / np.size(values))}
        ax.hist(**share, color=colour, histtype="stepfilled", alpha=0.15)
        ax.hist(**share, color=colour, histtype="step", linestyle=line, linewidth=1.8, label=name)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set(xlabel="gold reward of an answer", ylabel="share of answers")
    ax.legend(loc="upper left")
    return ax


def chosen_and_rejected(ax: Axes, steps: Sequence[float], chosen: Sequence[float], rejected: Sequence[float]) -> Axes:
    """Mean change of log p(response | prompt) since the reference: a margin can grow while both fall."""
    ax.axhline(0, color=REFERENCE, linestyle=":", linewidth=1.2)
    ax.plot(steps, chosen, color=CHOSEN, linestyle="-", label="chosen")
    ax.plot(steps, rejected, color=REJECTED, linestyle="--", label="rejected")
    ax.fill_between(steps, chosen, rejected, color=CHOSEN, alpha=0.08, linewidth=0)
    ax.set(xlabel="step", ylabel="change of log-probability (nats)")
    ax.legend(loc="lower left")
    return ax


def intervals(ax: Axes, estimates: Sequence[Estimate], *, truth: float, xlabel: str, ylabel: str) -> Axes:
    """Estimates of one number, in the order given, with their 95 % intervals; crosses where these miss the truth."""
    ax.axhline(truth, color=GOLD, linewidth=1.2)
    for x, (mean, bar) in enumerate(zip(*_bars(estimates), strict=True)):
        mark = {"color": OTHERS[1], "marker": "X"} if abs(mean - truth) > bar else {"color": POLICY, "marker": "o"}
        ax.errorbar(x, mean, bar, markersize=4, elinewidth=1, **mark)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    return ax


def landscape(
    ax: Axes, surface: tuple, *, way: Sequence[Sequence[float]], truth: Sequence[float], names: tuple[str, str]
) -> Axes:
    """A loss over two parameters, `surface` = (x, y, loss) on a grid; the path that training took, and the truth."""
    x, y, loss = map(np.asarray, surface)
    ax.contour(x, y, loss, levels=24, colors=REFERENCE, linewidths=0.6)
    ax.plot(*np.asarray(way).T, "o-", color=POLICY, markersize=3, label="training")
    ax.plot(*truth, "*", color=CHOSEN, markersize=14, label="truth")
    ax.set(xlabel=names[0], ylabel=names[1], xlim=(x.min(), x.max()), ylim=(y.min(), y.max()))
    ax.label_outer()
    ax.legend(frameon=True, loc="upper right")
    return ax


# --- tokens ------------------------------------------------------------------------------------------------


def shift_diagram(ax: Axes, tokens: Sequence[str], counted: Sequence[bool]) -> Axes:
    """A row of tokens twice: as read, and as predicted from the column before. Counted predictions are green."""
    for column, (token, counts) in enumerate(zip(tokens, counted, strict=True)):
        _token_box(ax, column, 1, token, "white", REFERENCE)
        if column:  # nothing stands before the first
            edge = CHOSEN if counts else "#BBBBBB"
            _token_box(ax, column, 0, token, CHOSEN if counts else "white", edge)
            arrow = {"arrowstyle": "->", "color": edge, "linewidth": 1.4 if counts else 0.9}
            ax.annotate("", (column - 0.05, 0.27), (column - 0.95, 0.73), arrowprops=arrow)
    ax.set(xlim=(-0.6, len(tokens) - 0.4), ylim=(-0.35, 1.35), xticks=range(len(tokens)), xlabel="column")
    ax.set_yticks([1, 0], ["token read", "token predicted\nfrom the column before"])
    _without_frame(ax)
    return ax


def _token_box(ax: Axes, x: float, y: float, token: str, fill: str, edge: str) -> None:
    ax.add_patch(Rectangle((x - 0.46, y - 0.25), 0.92, 0.5, facecolor=fill, edgecolor=edge, linewidth=1.2))
    ax.text(x, y, token, ha="center", va="center", fontsize=9, color="white" if fill == CHOSEN else "#444444")


def token_heat_map(
    ax: Axes, rows: Mapping[str, tuple[Sequence[str], Sequence[float]]], *, limit: float, label: str = "log-ratio"
) -> Axes:
    """One number per token of each row, as a colour and in figures: blue above 0, red below, white at 0.

    `rows` maps a name to (tokens, numbers); the colour is full at +-`limit` and beyond.
    """
    colours = ScalarMappable(Normalize(-limit, limit), LESS_TO_MORE)
    for y, (tokens, numbers) in enumerate(rows.values()):
        for x, (token, number) in enumerate(zip(tokens, numbers, strict=True)):
            fill = colours.to_rgba(number)
            ink = _ink(fill)
            ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=fill, edgecolor="white", linewidth=1.5))
            ax.text(x, y - 0.12, token, rotation=90, ha="center", va="center", fontsize=9, color=ink)
            ax.text(x, y + 0.38, f"{number:+z.1f}", ha="center", va="center", fontsize=7.5, color=ink)
    longest = max(len(tokens) for tokens, _ in rows.values())
    ax.set(xlim=(-0.5, longest - 0.5), ylim=(len(rows) - 0.5, -0.5), xticks=[])
    ax.set_yticks(range(len(rows)), list(rows))
    _without_frame(ax)
    ax.figure.colorbar(colours, ax=ax, label=label, aspect=12, pad=0.02)
    return ax


# --- losses ------------------------------------------------------------------------------------------------


def clip_diagram(
    ax: Axes, ratio: Sequence[float], objective: Sequence[float], *, unclipped: Sequence[float],
    silent: Sequence[bool], bounds: tuple[float, float],
) -> Axes:  # fmt: skip
    """PPO's objective for one token against its ratio (1707.06347, figure 1). Grey: no gradient, where `silent`."""
    ax.fill_between(
        ratio, 0, 1, where=silent, transform=ax.get_xaxis_transform(), color=REFERENCE, alpha=0.18, linewidth=0,
        label="no gradient",
    )  # fmt: skip
    ax.plot(ratio, unclipped, color=REFERENCE, linestyle="--", linewidth=1.2, label="ratio x advantage")
    ax.plot(ratio, objective, color=POLICY, linewidth=2.4, label="clipped objective")
    for bound in bounds:
        ax.axvline(bound, color=REFERENCE, linestyle=":", linewidth=1)
    ax.plot([1], [np.interp(1, ratio, objective)], "o", color=GOLD, label="old policy")
    ax.set(xlabel="ratio, policy / old policy", ylabel="objective of one token")
    return ax


# --- reward models and annotators --------------------------------------------------------------------------


def learning_curve(
    ax: Axes, pairs: Sequence[int], accuracy: Sequence[Share], *, ceiling: float, ceiling_name: str = "ceiling"
) -> Axes:
    """A reward model's accuracy against the number of pairs, under what the annotators' noise allows."""
    rate, low, high = np.array(accuracy).T
    ax.errorbar(pairs, rate, (rate - low, high - rate), color=POLICY, marker="o", elinewidth=1, label="held-out labels")
    _level(ax, ceiling, ceiling_name)
    _level(ax, 0.5, "coin flip", linestyle=":")
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(list(pairs)))
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set(xlabel="preference pairs (log axis)", ylabel="accuracy")
    return ax


def reliability_diagram(ax: Axes, bins: Sequence[CalibrationBin]) -> Axes:
    """Share that was right against what was claimed; the area of a point is its number of pairs."""
    claimed, right, count = zip(*bins, strict=True)
    ax.plot([0, 1], [0, 1], color=REFERENCE, linestyle="--", linewidth=1.2, label="calibrated")
    ax.plot(claimed, right, color=POLICY, linewidth=1)
    ax.scatter(claimed, right, s=[20 + 280 * c / max(count) for c in count], color=POLICY, alpha=0.8,
               edgecolor="white", label="reward model", zorder=3)  # fmt: skip
    limits = min(0.5, *claimed, *right) - 0.04, 1.04
    ax.set(xlabel="claimed probability", ylabel="share that was right", xlim=limits, ylim=limits, aspect="equal")
    ax.legend(loc="lower right")
    return ax


def inferred_accuracy(ax: Axes, true: Mapping[str, float], found: Mapping[str, float]) -> Axes:
    """Inferred against true accuracy, a point per person; a name without its number is the person's sort."""
    ax.plot([0.35, 1], [0.35, 1], "--", color=REFERENCE, linewidth=1.2)
    sort_of = {name: name.rstrip("0123456789").rstrip("-") for name in true}
    for number, sort in enumerate(dict.fromkeys(sort_of.values())):
        some = [name for name in true if sort_of[name] == sort]
        look = {"marker": MARKERS[number % 6], "color": OTHERS[number % len(OTHERS)]}
        label = sort if len(some) == 1 else f"{sort} ({len(some)})"
        ax.plot([true[n] for n in some], [found[n] for n in some], linestyle="", label=label, **look)
    ax.set(xlabel="true accuracy", ylabel="inferred accuracy", xlim=(0.35, 1.01), ylim=(0.35, 1.01))
    ax.legend(loc="upper left", fontsize=8)
    return ax


def agreement_against_temperature(
    ax: Axes, temperature: Sequence[float], agreement: Sequence[Share], *, published: Mapping[str, float] | None = None
) -> Axes:
    """Agreement of two annotators as their noise grows, with published figures as levels."""
    rate, low, high = np.array(agreement).T
    ax.plot(temperature, rate, color=POLICY, marker="o", markersize=4)
    ax.fill_between(temperature, low, high, color=POLICY, alpha=0.15)
    for name, level in (published or {}).items():
        _level(ax, level, name, at="right")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set(xlabel="annotator temperature", ylabel="agreement of two annotators")
    return ax
