"""Figures show the numbers they were given, in the course's colours, and nothing is cut off."""

from __future__ import annotations

from types import SimpleNamespace

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from matplotlib.colors import to_hex  # noqa: E402

from prefcourse import plots  # noqa: E402
from prefcourse.evaluate import CalibrationBin, Estimate, FrontierPoint, wilson  # noqa: E402

STEPS = np.arange(30)
KL = np.linspace(0, 36, 7)
RATIO = np.linspace(0.5, 1.5, 101)
GRID = np.linspace(-3, 3, 7) + np.zeros((7, 1))
FRONTIER = [FrontierPoint(1 / (i + 1), np.sqrt(i), i, 200 / (i + 1) ** 2) for i in range(10)]
METHODS = {
    "PPO": [(Estimate(0.4, 0.05), Estimate(0.5, 0.05)), (Estimate(1.3, 0.1), Estimate(1.1, 0.04))],
    "DPO": [(Estimate(2.6, 0.2), Estimate(1.11, 0.05)), (Estimate(8.5, 0.3), Estimate(0.6, 0.05))],
}


def pushed(bend):
    return SimpleNamespace(kl=KL, score=np.sqrt(KL), gold=np.sqrt(KL) - KL / bend, error=[0.1] * len(KL))


DRAW = {
    "plane": lambda ax: plots.reward_kl_plane(ax, METHODS, frontier=FRONTIER, reference=Estimate(-0.2, 0.04)),
    "over-optimisation": lambda ax: plots.over_optimisation(ax, KL, np.sqrt(KL), np.sqrt(KL) - KL / 4),
    "one run": lambda ax: plots.over_optimisation(ax, KL, np.sqrt(KL), np.sqrt(KL) - KL / 4, label="2000 pairs"),
    "run with errors": lambda ax: plots.over_optimisation(ax, KL, np.sqrt(KL), -KL / 4, error=[0.1] * len(KL)),
    "stages": lambda ax: plots.stage_gold(
        ax, {"base": Estimate(-1.8, 0.03), "SFT": Estimate(-0.2, 0.04), "PPO": Estimate(1.2, 0.03)}, best=2.7
    ),
    "histogram": lambda ax: plots.gold_histogram(ax, {"SFT": np.sin(STEPS), "PPO": np.sin(STEPS) + 1}),
    "displacement": lambda ax: plots.chosen_and_rejected(ax, STEPS, -0.1 * STEPS, -0.3 * STEPS),
    "learning curve": lambda ax: plots.learning_curve(
        ax, [250, 1000, 4000], [wilson(580, 1000), wilson(660, 1000), wilson(715, 1000)], ceiling=0.733
    ),
    "reliability": lambda ax: plots.reliability_diagram(
        ax, [CalibrationBin(0.55, 0.5, 300), CalibrationBin(0.7, 0.7, 100), CalibrationBin(0.95, 0.9, 10)]
    ),
    "agreement": lambda ax: plots.agreement_against_temperature(
        ax, [0.5, 1, 2], [wilson(80, 100), wilson(70, 100), wilson(60, 100)], published={"MT-Bench: 81 %": 0.81}
    ),
    "clip": lambda ax: plots.clip_diagram(
        ax, RATIO, np.minimum(RATIO, 1.2), unclipped=RATIO, silent=RATIO > 1.2, bounds=(0.8, 1.2)
    ),
    "intervals": lambda ax: plots.intervals(
        ax, [Estimate(1.0, 0.2), Estimate(1.5, 0.2), Estimate(1.3, 0.2)], truth=1.0, xlabel="draw", ylabel="KL"
    ),
    "landscape": lambda ax: plots.landscape(
        ax, (GRID, GRID.T, GRID**2 + GRID.T**2), way=[(2, 1), (1, 1), (0, 0)], truth=(0.5, 0), names=("u", "v")
    ),
    "inferred accuracy": lambda ax: plots.inferred_accuracy(
        ax,
        {"careful-1": 0.9, "careful-2": 0.88, "spammer": 0.5},
        {"careful-1": 0.91, "careful-2": 0.86, "spammer": 0.52},
    ),
    "several runs": lambda ax: plots.over_optimisations(ax, {"64 labels": pushed(4), "256 labels": pushed(9)}),
    "closed forms": lambda ax: plots.over_optimisations(ax, {"g.u = 0.4": pushed(4)}, marked=False),
    "runs by seed": lambda ax: plots.curves_by_seed(
        ax, {"PPO": [(KL, KL), (KL, KL + 1)], "DPO": [(KL, -KL)]}, xlabel="KL", ylabel="gold"
    ),
    "curves": lambda ax: plots.curves(ax, {"a": (STEPS, STEPS), "b": (STEPS, -STEPS)}, ylabel="loss"),
    "bands": lambda ax: plots.banded_curves(
        ax, {n: (STEPS, s - 1, s, s + 1) for n, s in (("a", STEPS), ("b", -STEPS))}, xlabel="KL", ylabel="gold"
    ),
}


@pytest.fixture
def ax():
    with plots.style():
        figure, ax = plt.subplots()
        yield ax
    plt.close(figure)


def lines(ax) -> dict:
    return {line.get_label(): line for line in ax.get_lines()}


@pytest.mark.parametrize("name", DRAW)
def test_every_figure_returns_its_axes_says_what_they_are_and_fits(ax, name):
    assert DRAW[name](ax) is ax
    assert ax.get_ylabel() and (ax.get_xlabel() or name == "stages")
    ax.figure.canvas.draw()
    drawn, page = ax.figure.get_tightbbox(), ax.figure.get_size_inches()
    assert drawn.x0 > -0.01 and drawn.y0 > -0.01 and drawn.x1 < page[0] + 0.01 and drawn.y1 < page[1] + 0.01


@pytest.mark.parametrize("name", DRAW)
def test_every_named_line_differs_in_more_than_colour(ax, name):
    DRAW[name](ax)
    looks = [(line.get_linestyle(), line.get_marker()) for line in ax.get_lines() if line.get_label()[0] != "_"]
    assert len(set(looks)) == len(looks)


def test_of_several_runs_gold_is_the_solid_line_that_has_the_name(ax):
    DRAW["several runs"](ax)
    assert np.allclose(lines(ax)["64 labels"].get_ydata(), pushed(4).gold)
    assert lines(ax)["64 labels"].get_linestyle() == "-"


def test_style_is_white_and_leaves_no_trace():
    before = dict(matplotlib.rcParams)
    with plots.style():
        assert matplotlib.rcParams["figure.facecolor"] == "white"
    assert dict(matplotlib.rcParams) == before


def test_colours_keep_their_meaning(ax):
    """Policy blue, reference grey, chosen green, rejected orange, of Okabe and Ito (2008)."""
    DRAW["displacement"](ax)
    assert to_hex(lines(ax)["chosen"].get_color()) == "#009e73"
    assert to_hex(lines(ax)["rejected"].get_color()) == "#e69f00"
    assert plots.look("PPO")["color"] == plots.POLICY == "#0072B2"
    assert plots.look("SFT", 3)["color"] == plots.look("reference")["color"] == plots.REFERENCE
    assert len({look["color"] for look in map(plots.look, plots.METHODS)}) == len(plots.METHODS)
    assert plots.look("DPO", 0) == plots.look("dpo", 5), "a method looks the same wherever it is listed"


def test_the_plane_shows_points_with_95_percent_intervals(ax):
    DRAW["plane"](ax)
    ppo = next(bars for bars in ax.containers if bars.get_label() == "PPO")
    line, _, (kl_bars, gold_bars) = ppo
    assert line.get_xydata().tolist() == [[0.4, 0.5], [1.3, 1.1]]
    assert kl_bars.get_segments()[0][:, 0] == pytest.approx([0.4 - 0.098, 0.4 + 0.098])
    assert gold_bars.get_segments()[1][:, 1] == pytest.approx([1.1 - 0.0784, 1.1 + 0.0784])


def test_the_frontier_is_dotted_where_few_samples_carry_it(ax):
    """200 / (i + 1)^2 effective samples: 200, 50, 22, 12.5, then 8."""
    DRAW["plane"](ax)
    assert lines(ax)["optimum"].get_xdata().tolist() == [0, 1, 2, 3]
    dotted = lines(ax)["optimum, few samples"]
    assert dotted.get_xdata().tolist() == list(range(3, 10)) and dotted.get_linestyle() == ":"


def test_an_exact_frontier_is_solid_throughout(ax):
    exact = [point._replace(effective_sample_size=float("inf")) for point in FRONTIER]
    plots.reward_kl_plane(ax, {}, frontier=reversed(exact))
    assert lines(ax)["optimum"].get_xdata().tolist() == list(range(10))
    assert "optimum, few samples" not in lines(ax)


def test_equal_steps_in_sqrt_kl_are_equal_on_paper(ax):
    DRAW["over-optimisation"](ax)
    zero, one, four, nine = (ax.transData.transform((kl, 0))[0] for kl in (0, 1, 4, 9))
    assert one - zero == pytest.approx(four - one) == pytest.approx(nine - four)
    assert lines(ax)["gold"].get_linestyle() == "-" and lines(ax)["score"].get_linestyle() == "--"


def test_what_a_fit_misses_stands_below_it():
    with plots.style():
        axes = plt.figure().subplots(2, 1)
    plots.fits(axes, {"a": ([1, 2], [3.0, 5.0], [0.5, -0.5])}, {"a": ([1, 2], [2.5, 5.5])}, xlabel="d", ylabel="gain")
    assert [line.get_label() for line in axes[0].lines][0] == "a"
    assert axes[1].lines[0].get_ydata().tolist() == [0.5, -0.5] and axes[1].get_ylabel() == "measured - fitted"
    plt.close("all")


def test_two_panels_for_score_and_gold():
    figure, axes = plt.subplots(1, 2)
    plots.training_curves(axes, {"beta 0": (STEPS, STEPS)}, {"beta 0": (STEPS[::5], -STEPS[::5])})
    assert [ax.get_ylabel() for ax in axes] == ["score", "gold reward"]
    assert lines(axes[1])["beta 0"].get_ydata().tolist() == (-STEPS[::5]).tolist()
    assert len(figure.axes) == 2, "no twin axes"
    plt.close(figure)


def test_curves_with_bars_have_a_panel_for_each_quantity_and_95_percent_intervals():
    rows = {
        name: [{"gold": Estimate(level + i, 0.1), "kl": Estimate(i, 0.2)} for i in range(3)]
        for level, name in enumerate(("DPO", "PPO"))
    }
    with plots.style():
        figure, axes = plt.subplots(1, 2)
    assert plots.curves_with_bars(axes, [1, 2, 4], rows, xlabel="labels", gold="gold", kl="KL", log=True) is axes
    gold, kl = (ax.containers[0] for ax in axes)
    assert [(ax.get_xlabel(), ax.get_ylabel()) for ax in axes] == [("labels", "gold"), ("labels", "KL")]
    assert gold.lines[0].get_ydata().tolist() == kl.lines[0].get_ydata().tolist() == [0, 1, 2]
    low, high = gold.lines[2][0].get_segments()[1][:, 1]
    assert (low, high) == pytest.approx((1 - 0.196, 1 + 0.196))
    plt.close(figure)


def test_a_person_is_a_point_and_people_of_one_sort_share_a_name(ax):
    names = {"careful-1": 0.9, "careful-2": 0.8, "spammer": 0.5}
    plots.inferred_accuracy(ax, names, names | {"spammer": 0.52})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["careful (2)", "spammer"]
    assert [line.get_xdata().tolist() for line in ax.get_lines()[1:]] == [[0.9, 0.8], [0.5]]
    assert ax.get_lines()[2].get_ydata().tolist() == [0.52]


def test_histograms_are_shares_over_common_bins(ax):
    """A policy with ten times the samples is not ten times as tall."""
    plots.gold_histogram(ax, {"SFT": [0.0] * 10, "PPO": [1.0] * 100}, bins=[-0.5, 0.5, 1.5])
    tops = {tuple(np.round(patch.get_path().vertices[:, 1].max(), 6) for patch in ax.patches)}
    assert tops == {(1.0, 1.0, 1.0, 1.0)}


def test_the_ceiling_and_the_names_of_levels_are_in_sight(ax):
    DRAW["learning curve"](ax)
    assert {text.get_text() for text in ax.texts} == {"ceiling", "coin flip"}
    low, high = ax.get_ylim()
    assert low < 0.5 and high > 0.733


def test_the_clip_is_shaded_where_it_is_silent(ax):
    DRAW["clip"](ax)
    shaded = ax.collections[0].get_paths()[0].get_extents()
    assert (shaded.x0, shaded.x1) == pytest.approx((1.21, 1.5), abs=0.011)
    assert lines(ax)["clipped objective"].get_ydata().max() == pytest.approx(1.2)


def test_an_interval_that_misses_the_truth_is_a_cross(ax):
    """1.5 +- 1.96 * 0.2 begins at 1.108, above 1; 1.3 +- 0.392 begins below."""
    DRAW["intervals"](ax)
    assert [bars.lines[0].get_marker() for bars in ax.containers] == ["o", "X", "o"]
    assert ax.containers[1].lines[2][0].get_segments()[0][0][1] == pytest.approx(1.5 - 1.96 * 0.2)


# --- showing them -------------------------------------------------------------------------------------------


def test_a_figure_carries_its_alternative_text_in_both_forms(ax):
    ax.plot([0, 1], [0, 1])
    still, about = plots.as_output(ax.figure, 'a "line"', still=True)
    assert set(still) == {"text/plain", "image/png"} and about["image/png"] == {"alt": 'a "line"', "width": 640}
    live, _ = plots.as_output(ax.figure, 'a "line"', still=False)
    assert (
        set(live) == {"text/plain", "text/html"}
        and 'alt="a &quot;line&quot;" width="640" height="400"' in live["text/html"]
    )
    assert still["text/plain"] == live["text/plain"] == 'Figure: a "line"'


def test_a_text_over_several_lines_is_one_line(ax):
    still, about = plots.as_output(ax.figure, "gold rises,\n    then falls\n", still=True)
    assert about["image/png"]["alt"] == "gold rises, then falls" and still["text/plain"].endswith("rises, then falls")


def test_a_figure_without_words_is_refused(ax):
    with pytest.raises(ValueError, match="say what the figure shows"):
        plots.as_output(ax.figure, "  ", still=True)


def test_the_same_figure_gives_the_same_bytes(ax):
    ax.plot([0, 1], [0, 1])
    assert plots.png(ax.figure) == plots.png(ax.figure)


def test_a_shown_figure_is_closed(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda data, **more: shown.append((data, more)))
    figure = plt.figure()
    plots.show(figure, alt="nothing")
    assert not plt.fignum_exists(figure.number) and "image/png" in shown[0][0] and shown[0][1]["raw"]
