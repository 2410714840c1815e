# Chapter 12. `prefcourse build 12` makes the three notebooks of this script; see prefcourse/build/script.py.

# %% [markdown] title
# # 12 · Reward Hacking and Over-optimisation
#
# **Key insight.** A reward model is useful because its score is correlated with what we want. Push any proxy hard
# enough and the correlation that made it useful breaks. That happens at a place, it can be measured, and nothing
# in the training log shows it.
#
# **After this chapter you can**
# - say where gold turns, for any proxy: where its covariance with the score passes through zero;
# - compute the whole curve of rise and fall in a world of Gaussians, and say which golds never turn;
# - measure it on a language model, fit the two laws of Gao et al. to it, and judge the fit by its residuals;
# - read hacked answers, and say in words why gold fell;
# - stop a run in time without seeing gold, use an ensemble, and say what each cure costs and how much it moves.
#
# **Time.** 55 minutes to read; all cells together compute for half a minute on one CPU core, and for a minute the
# first time.
#
# **Before.** Chapter 6 (what a reward model sees and what it does not), chapter 8 (KL, the frontier, best-of-n).
# PPO is used as in chapter 8.
#
# **How to read.** Before most cells stands a question in bold. Decide on an answer, run the cell, then read on.

# %% setup
import math

import matplotlib.pyplot as plt
import numpy as np
import torch

from prefcourse import evaluate, experiments, models, plots, train
from prefcourse.claims import claims
from prefcourse.experiments.chapter12 import again, fit, labelled, look, means, over_seeds, peak
from prefcourse.lab import lab
from prefcourse.widgets.chapter12 import Curve, curve, push
from prefcourse.worlds import GaussWorld

torch.set_num_threads(1)
plt.rcParams.update(plots.STYLE)
SEED = 0

# %% [markdown] covariance-text
# ## Where gold turns
#
# In chapter 2 a score rose while gold fell. Chapter 8 drew the optimum for a score, and its gold went up to about
# one nat and then down. Now we ask why there is such a place, and where it lies.
#
# Let $s$ be the score and $g$ gold. The best policy for the score is the tilt
# $\pi_t \propto \pi_{\text{ref}}\,e^{ts}$ with $t = 1/\beta$, and we know how it moves (chapter 8):
# $d\pi_t/dt = \pi_t\,(s - \mathbb E[s])$. So mean gold moves by
#
# $$\frac{d}{dt}\,\mathbb E_{\pi_t}[g] = \sum_y \pi_t(y)\,\big(s(y) - \mathbb E[s]\big)\,g(y)
# = \mathrm{Cov}_{\pi_t}(s, g),$$
#
# and, with $s$ in place of $g$, the score by $\mathrm{Var}_{\pi_t}(s) \ge 0$. **The score can only rise. Gold rises
# as long as it is correlated with the score, among the answers that the policy gives now, and turns where that
# correlation is zero.** Labels tell us about the correlation among the answers of the *reference*. Further out it
# may be anything.
#
# ## A world in which one can compute it
#
# An answer is a vector $x$ of features, and the reference draws $x \sim N(0, I)$. The reward model sees one
# direction $u$ of it, $|u| = 1$: the score is $u\cdot x$. Gold is $g\cdot x - x^\top C x$: it has a slope, and it
# bends, as too much of a good thing is no longer good.
#
# **The tilt.** $e^{-|x|^2/2}\,e^{t\,u\cdot x} = e^{-|x - tu|^2/2}\cdot\text{const}$: the same Gaussian, moved by $t$ along
# $u$. Its KL is $t^2/2$. With $d = \sqrt{\mathrm{KL}}$ the mean lies at $\sqrt2\,d\,u$.
#
# **Its gold.** The noise around the mean is as before and adds to gold what it added before. So the gain is gold
# at the new mean:
#
# $$\text{gain}(d) = \sqrt2\,d\; g\cdot u - 2d^2\, u^\top C u = d\,(\alpha - \beta d),\qquad
# \alpha = \sqrt2\,g\cdot u,\quad \beta = 2\,u^\top C u .$$
#
# The score gains $\sqrt2\,d$, without end. Gold has its peak at $d = \alpha/2\beta$, and at twice that distance all is
# lost again. ($\beta$ is the name of Gao et al. for this number; it has nothing to do with the price of KL.)
#
# We take $|g| = 1$. Then $g\cdot u$ is the correlation of the score with the straight part of gold. With all of gold
# it is lower, as the bend adds what the score cannot see; but the same bend, and less $g\cdot u$, is less of it.
#
# **With a gold that is linear, $C = 0$, where is the peak? And in a world whose score has less correlation with
# gold, does the peak come earlier, or is it only lower?**

# %% gauss
d = torch.linspace(0, 3, 61, dtype=torch.float64)
worlds = {rho: GaussWorld.random(seed=SEED, correlation=rho, curvature=0.3) for rho in (0.4, 0.6, 0.8)}
linear = GaussWorld.random(seed=SEED, correlation=0.4, curvature=0.0)
figure, ax = plt.subplots()
for number, (rho, world) in enumerate(worlds.items()):
    ax.plot(d, world.gold_gain(d), color=plots.OTHERS[(0, 1, 3)[number]], label=f"gold, g.u = {rho}")
ax.plot(d, linear.gold_gain(d), ":", color=plots.OTHERS[0], label="a linear gold, g.u = 0.4")
ax.plot(d, math.sqrt(2) * d, "--", color=plots.SCORE, label="score, in all of them")
ax.set(xlabel="d, square root of KL", ylabel="gain over the reference", ylim=(-1.5, 2), title="GaussWorld")
ax.legend(loc="lower left")
plots.show(
    figure,
    alt="Gain against the square root of KL. The score is a rising straight line. Gold is a parabola that peaks "
    "earlier and lower the smaller the correlation; a linear gold rises for ever.",
)


# %% gauss-claims
def apart(world, distance, draw):  # closed form against samples, in standard errors
    x, start = (world.sample(5000, d=far, generator=draw) for far in (distance, 0.0))
    found = evaluate.estimate(world.gold(x) - world.gold(start))
    return abs(found.mean - world.gold_gain(distance)) / found.standard_error


draw, world = torch.Generator().manual_seed(SEED), worlds[0.6]
errors = [apart(one, distance, draw) for one in worlds.values() for distance in np.linspace(0.2, 3, 15)]
x = world.sample(200_000, d=world.peak()[0], generator=draw)
at_peak = torch.corrcoef(torch.stack([world.proxy(x), world.gold(x)]))[0, 1]
claims({
    "closed form and samples: at least 40 of 45 within two standard errors": sum(e < 2 for e in errors) >= 40,
    "less correlation: an earlier peak, and a lower one": np.less(worlds[0.4].peak(), worlds[0.8].peak()).all(),
    "at the peak score and gold are not correlated any more": abs(at_peak) < 0.01,
    "a linear gold has no peak": linear.peak() is None,
})

# %% [markdown] gauss-after
# **Takeaway: gold turns because it bends, and the poorer the proxy, the earlier.** The last two claims are worth a
# thought. In this world the covariance along the way is $(\alpha - 2\beta d)/\sqrt2$: positive at first, zero at the
# peak, negative beyond. And a linear gold *never* turns, however poor the proxy: with a correlation of 0.4 it just
# rises slowly. A poor correlation explains a slow rise. For a fall, something must be different out there.
#
# Is there no proxy that is safe? Skalse et al. call a proxy *hackable* if some change of the policy raises it and
# lowers the true reward. They leave equivalent rewards aside and prove, over all stochastic policies:
# {{published:skalse-constant}}. So the question is never whether, but how far.

# %% [markdown] live-text
# ## The same, live
#
# Now TinyLM. The reward model learns from 1,024 labels of our twenty people on answers of the SFT model. PPO
# climbs its score (standardised: mean 0, deviation 1 over the SFT model's answers) with $\beta = 0$: no pull to the
# reference. On the way we look at 512 answers: their score, their gold, their KL, and the correlation of score and
# gold among the answers *to one prompt*. (Between prompts a score has an offset that says nothing, chapter 6.)
#
# **Where will gold turn, in nats? What will the correlation be there?**

# %% live
here = lab(SEED)
rows = labelled(here, per_prompt=9)[:1024]
score = evaluate.model_score(fit(here, rows))
policy, seen = models.trainable_copy(here.sft), {0: look(here, here.sft, score, samples=4, seed=4000)}
loop = train.ppo(policy, here.sft, here.tokenizer, here.prompts, score, beta=0.0, iterations=56, seed=SEED)
for step, _ in enumerate(loop, 1):
    if step in (2, 4, 8, 12, 16, 24, 32, 44, 56):
        seen[step] = look(here, policy, score, samples=4, seed=4000)
path = [one.row() for one in seen.values()]  # kl, gold, score, correlation, and errors

# %% live-figure
# NBVAL_IGNORE_OUTPUT
kl, gold, scores, error, tied = ([p[k] for p in path] for k in ("kl", "gold", "score", "gold_se", "correlation"))
figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.6), width_ratios=[3, 2])
plots.over_optimisation(axes[0], kl, scores, gold, error=error).legend(loc="lower left")
axes[1].plot(np.sqrt(np.maximum(kl, 0)), tied, "o-", color=plots.GOLD)
axes[1].set(xlabel="square root of KL", ylabel="correlation of score and gold", ylim=(-0.1, 0.9))
alt = "The score rises and levels off; gold rises, peaks and falls. Their correlation falls from the first look on."
plots.show(figure, alt=alt)
top = int(np.argmax(gold))
print(f"gold {gold[0]:.2f}, highest {gold[top]:.2f} at {kl[top]:.1f} nats, at the end {gold[-1]:.2f}")
claims({
    "the score ends higher than it was where gold was highest": scores[-1] > scores[top],
    "gold is highest between 0.4 and 3 nats": 0.4 < kl[top] < 3,
    "it rose by more than 0.25, and falls by more than 0.2": gold[0] + 0.25 < gold[top] > gold[-1] + 0.2,
    "the correlation was above 0.6, and ends below 0.35": tied[0] > 0.6 and tied[-1] < 0.35,
})

# %% [markdown] live-after
# **Takeaway: the reward model was right about the reference's answers, and is of little use on the policy's.** How
# deep gold falls differs: this run loses all that it won; with two other seeds (and so other labels) only a part of
# it was lost by now. The correlation falls in all of them, *from the first step*, long before gold turns. At the
# peak about half of it is left. It is not zero: the identity above is one of the tilt, where every answer moves by
# itself; in a network the answers share their weights, and what is won on one prompt is paid on another. (Near the
# end the curve may turn back on itself: nothing drives the KL, and it can shrink from one look to the next.)
#
# ## What the hacked answers look like
#
# The world can say why an answer has the gold it has. Three questions; the SFT model's answer, then the hacked one.
# **Read the answers before you read the reasons. What did the policy find?**


# %% hacked
# NBVAL_IGNORE_OUTPUT
def told(answer, gold, score):
    prompt, text, ended = answer
    why = (f"{points:+.1f} {reason}" for points, reason in here.world.explain(prompt, text, finished=ended))
    return f"gold {gold:+.1f}, score {score:+.1f}: {text}\n{'':10}({'; '.join(why)})"


for place in (8, 180, 360):
    print(seen[0].answers[place][0])
    for name, one in (("SFT", seen[0]), ("hacked", seen[56])):
        print(f"{name:>8}: {told(one.answers[place], one.gold.flatten()[place], one.score.flatten()[place])}")

# %% [markdown] why-text
# Some answers are worse than before, some are better; a few tell little. So we sum the points by their reasons over
# 512 answers at every look, for three seeds (from `12_cures`: made by `prefcourse build --figures 12_cures`, 1,024
# labels, $\beta = 0$). The lines add up to gold, but for two that stay near 0 and are not drawn (closings, length).
# **Which line will carry the rise? Which the fall?**

# %% why
cures = experiments.load("12_cures")
hacking, parts = (over_seeds([seed["runs"]["one"][what] for seed in cures]) for what in ("path", "points"))
root = np.sqrt(np.maximum(means(hacking["kl"]), 0))
figure, ax = plt.subplots(figsize=(7.4, 3.8))
lines = {reason: (root, means(line)) for reason, line in parts.items()}
moving = {reason: line for reason, line in lines.items() if np.ptp(line[1]) > 0.05}
plots.curves(ax, moving, xlabel="square root of KL", ylabel="points per answer")
ax.plot(root, means(hacking["gold"]), color=plots.GOLD, linewidth=2.5, label="gold: their sum")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plots.show(figure, alt="Filler and flattery vanish; right facts rise, then fall; wrong facts and no sentences grow.")
change = {reason: np.diff(np.array(line)[[0, 7, -1]]) for reason, (_, line) in lines.items()}
for reason, (early, late) in change.items():
    print(f"{reason:>20}: {early:+z.2f} in the first 12 rounds, {late:+z.2f} in the next 28")
claims({
    "filler and flattery: the gain comes early": change["filler and flattery"][0] > 0.2,
    "wrong facts cost more and more, from the start": max(change["wrong facts"]) < -0.1,
    "later right facts go, and sentences break": max(change[r][1] for r in ("right facts", "no sentence")) < -0.1,
})

# %% [markdown] why-after
# **Takeaway: first the policy gives up what the reward model rightly dislikes; then it spends what the reward model
# cannot see.** Filler and flattery go early, and sentences with facts take their place: more right ones, and more
# wrong ones, too. Later the right ones go. Chapter 6 found this model as good as people where answers differ in filler, and hardly better than
# a coin where they differ in the uses they name. That blind spot lay still as long as the answers came from the
# SFT model, which names mostly right uses of its own accord. PPO has no reason to keep them right, and loses them.
# ("No sentence" is what the world has no meaning for; a sentence about another thing is counted there, too.)
# Nobody lied, and no annotator is fond of wrong facts. What is not in the score is not protected.
#
# (A bias that annotators *share* is another matter: it is in the score, and PPO climbs it on purpose, as in
# chapter 2. More labels of the same people sharpen it.)

# %% [markdown] sizes-text
# ## The curve
#
# Would more labels help? Reward models on 64, 256, 1,024 and 4,096 labels, three seeds each (`12_sizes`). PPO with
# $\beta = 0$, forty rounds; and best-of-n by the same scores, from 256 answers of the SFT model to each prompt. For
# best-of-n the axis is $\log n - (n-1)/n$, an upper bound of its KL (chapter 8). GaussWorld's closed form stands
# beside them.
#
# **With sixty-four times the labels, how much further will the peak lie? Which of PPO and best-of-n will turn
# earlier?**

# %% sizes
seeds = experiments.load("12_sizes")
sizes = list(seeds[0]["sizes"])
ppo, best = ({n: over_seeds([seed["sizes"][n][way] for seed in seeds]) for n in sizes} for way in ("ppo", "best_of_n"))


def draw(axes):  # two panels of TinyLM, one of GaussWorld
    for ax, pushed in zip(axes, (ppo, best), strict=False):
        for number, (n, run) in enumerate(pushed.items()):
            kl, gold, scores = (means(run[name]) for name in ("kl", "gold", "score"))
            bars = {"error": [e.standard_error for e in run["gold"]], "number": number}
            plots.over_optimisation(ax, kl, scores, gold, label=f"{int(n):,} labels", **bars)
    for number, (rho, world) in enumerate(worlds.items()):
        gain = world.gold_gain(d), math.sqrt(2) * d
        plots.over_optimisation(axes[2], d**2, gain[1], 0.5 + gain[0], label=f"g.u = {rho}", number=number)


# %% sizes-figure
figure, axes = plt.subplots(1, 3, figsize=(11.4, 3.9), sharey=True)
draw(axes)
for ax, title in zip(axes, ("TinyLM, PPO", "TinyLM, best-of-n", "GaussWorld, closed form"), strict=True):
    ax.set(title=title, ylim=(-1.0, 1.6), ylabel="", xlabel="KL (nats, square-root axis)")
    ax.legend(loc="lower left", fontsize=8)
axes[0].set(ylabel="gold (solid) and score (dashed)")
[line.set(marker="", clip_on=True) for line in axes[2].lines]
plots.show(
    figure,
    alt="Gold (solid) and score (dashed) against KL on a square-root axis. Left, PPO: gold peaks near one nat for all "
    "four data sizes and then falls, in most far below its start. Middle, best-of-n: higher peaks, gentler falls. "
    "Right: GaussWorld's parabolas.",
)

# %% sizes-table
tops, gains, falls = {}, {}, {}
print(f"{'':>9} {'labels':>7} {'peak':>6}  {'KL':>4}   gold at the end minus at the start, each seed")
for way, name in (("PPO", "ppo"), ("best-of-n", "best_of_n")):
    for n in sizes:
        found = [seed["sizes"][n][name] for seed in seeds]
        height, where = (np.mean([peak(run)[what] for run in found]) for what in ("gold", "kl"))
        tops[way, n] = height
        gains[way, n] = [run["gold"][-1] - run["gold"][0] for run in found]
        falls[way, n] = [peak(run)["gold"] - run["gold"][-1] for run in found]
        print(f"{way:>9} {int(n):>7,} {height:6.2f}  {where:4.2f}   {' '.join(f'{x:+.2f}' for x in gains[way, n])}")

# %% sizes-claims
few, many = sizes[:2], sizes[2:]
steps = {way: np.diff([tops[way, n] for n in sizes]) for way in ("PPO", "best-of-n")}  # of the peak, per fourfold
claims({
    "PPO: to 1,024 labels gold ends below its start, every seed": all(max(gains["PPO", n]) < 0 for n in sizes[:3]),
    "with 4,096 in two seeds of three": sum(gain < 0 for gain in gains["PPO", "4096"]) == 2,
    "PPO: from 64 to 256 labels the peak rises by 0.1 or more": steps["PPO"][0] > 0.1,
    "from 256 to 4,096 by less": sum(steps["PPO"][1:]) < 0.1,
    "best-of-n: every fourfold raises the peak, by 0.05 or more": min(steps["best-of-n"]) > 0.05,
    "and its peak is higher than PPO's": all(tops["best-of-n", n] > tops["PPO", n] for n in sizes),
    "best-of-n turns with few labels, every seed": all(min(falls["best-of-n", n]) > 0.1 for n in few),
    "with 1,024 and with 4,096 in one seed hardly": all(min(falls["best-of-n", n]) < 0.05 for n in many),
})

# %% [markdown] sizes-after
# **Takeaway: more labels raise the curve; they do not straighten it.** With PPO 256 labels are better than 64, and
# beyond that we cannot tell the peaks apart: all lie near one nat. What grows is how well it can end: with 4,096
# labels one seed of three stays above its start. With best-of-n every fourfold raises the peak; with 1,024 labels or
# more there are seeds in which 64 draws are not enough to see it turn.
#
# All these labels are about answers of the SFT model. They make the score better where it was asked about. Best-of-n
# stays there, as it only chooses among such answers. PPO leaves, and finds places of which no label speaks.

# %% [markdown] laws-text
# ## Two laws
#
# Gao et al. (2210.10760) pushed reward models of many sizes, with a larger one as gold, and fitted, with
# $d = \sqrt{\mathrm{KL}}$:
#
# $$R_{\text{best-of-n}}(d) = d\,(\alpha - \beta\,d),\qquad R_{\text{RL}}(d) = d\,(\alpha - \beta\,\log d).$$
#
# $R$ is the gain over the reference. The first is GaussWorld's form. The second was found by fitting. Both are
# straight in $\alpha$ and $\beta$: least squares, with the columns $d$ and $-d\cdot d$, or $-d\log d$. **Where will the
# laws miss our curves: at the start, at the peak, or at the end?**


# %% laws
def law(d, alpha, beta, which):
    return d * (alpha - beta * (d if which == "best-of-n" else np.log(d)))


def fitted(run, which):
    kl, gold = (np.array(means(run[name])) for name in ("kl", "gold"))
    d, gain = np.sqrt(kl[1:]), gold[1:] - gold[0]  # the reference has d = 0, and tells nothing
    columns = np.stack([law(d, 1, 0, which), law(d, 0, 1, which)], axis=1)
    parameters = np.linalg.lstsq(columns, gain, rcond=None)[0]
    return d, gain, parameters, gain - law(d, *parameters, which)


ways = {"PPO": (ppo, "rl"), "best-of-n": (best, "best-of-n")}
laws = {(way, n): fitted(pushed[n], which) for way, (pushed, which) in ways.items() for n in sizes}
for n in sizes:
    numbers = [f"{way} alpha {laws[way, n][2][0]:.2f}, beta {laws[way, n][2][1]:.2f}" for way in ways]
    print(f"{int(n):>5,} labels: {'; '.join(numbers)}")

# %% laws-figure
figure, axes = plt.subplots(2, 2, figsize=(9.6, 5.4), sharex="col", height_ratios=[2, 1])
for column, (way, (_, which)) in zip(axes.T, ways.items(), strict=True):
    points_, lines = {}, {}
    for n in sizes:
        x, gain, parameters, residual = laws[way, n]
        smooth = np.linspace(0.01, x.max(), 100)
        points_[f"{int(n):,} labels"] = x, gain, residual
        lines[f"{int(n):,} labels"] = smooth, law(smooth, *parameters, which)
    plots.fits(column, points_, lines, xlabel="d, square root of KL", ylabel="gain in gold")
    column[0].set_title(f"{way}, and its law")
plots.show(
    figure,
    alt="Measured gains, fitted laws, and below their residuals. Best-of-n lies on its law, nearly. "
    "PPO's residuals are larger and not random: negative at first, positive at the peak, then negative again.",
)


# %% laws-claims
def typical(pushed, which):  # residual: root mean square
    return [np.sqrt(np.mean(fitted(pushed[n], which)[3] ** 2)) for n in sizes]


swap = {"PPO": (ppo, "best-of-n"), "best-of-n": (best, "rl")}
own, other = ({way: typical(*pair) for way, pair in pairing.items()} for pairing in (ways, swap))
for way in ways:
    own_, other_ = (" ".join(f"{x:.2f}" for x in found[way]) for found in (own, other))
    print(f"{way:>9}: typical residual {own_}; with the other way's law {other_}")
rho = {n: np.mean([seed["sizes"][n]["reference"] for seed in seeds]) for n in sizes}
spread = seen[0].gold.var(dim=1).mean().sqrt().item()  # of gold, among the reference's answers to a prompt
alpha = [laws["best-of-n", n][2][0] / (math.sqrt(2) * rho[n] * spread) for n in sizes]
claims({
    "best-of-n: typically off by under 0.03, RL's law by more": max(own["best-of-n"]) < min(0.03, *other["best-of-n"]),
    "PPO: its law is off by more, at each size": np.greater(own["PPO"], own["best-of-n"]).all(),
    "at PPO's peak its law is too low": min(laws["PPO", n][3][5:8].mean() for n in sizes) > 0.02,
    "best-of-n: alpha is sqrt 2 x correlation x spread, within 10 %": np.allclose(alpha, 1, atol=0.1),
})

# %% [markdown] laws-after
# **Takeaway: best-of-n is on its law; PPO is not on any.** With PPO the residuals are not noise. Gold rises more
# slowly at the start than the law has it, stays longer at its peak, and then drops all at once. And best-of-n's law,
# fitted to PPO, does hardly better or worse than RL's. Forty rounds of a tiny model are no reason to doubt a law that
# was fitted to large ones; but a law with two parameters and a peak will fit many curves that have one.
#
# Best-of-n's $\alpha$ can be *known beforehand*. Next to the reference the score gains $\sigma_s\sqrt2\,d$ (chapter 8), and
# gold moves with it by $\mathrm{Cov}(s, g)/\mathrm{Var}(s)$. So the slope at the start is
# $\alpha = \sqrt2\,\rho\,\sigma_g$, with $\rho$ the correlation among the reference's answers and $\sigma_g$ the spread of
# gold. The last claim compares this with what was fitted. **What labels buy is $\rho$, and with it
# $\alpha$.** From 256 to 4,096 labels, $\beta$ hardly moves.

# %% [markdown] stop-text
# ## Cure 1: stop in time
#
# The peak is where one wants to stop, and gold is what one cannot see. What can one see? While PPO climbed the
# score of one model (1,024 labels), we wrote down four things at every look:
#
# - the **KL**;
# - a **second reward model**, of 1,024 other labels, that training never used;
# - how far four reward models **disagree**, made from the same labels (below);
# - **votes**: the policy's answer to each of the 128 prompts against the SFT model's, one person each.
#
# **Which of them turns where gold turns?**

# %% eyes
signs = {"second": "second model's score", "disagreement": "disagreement of four", "votes": "share of votes"}
figure, axes = plt.subplots(1, 3, figsize=(10.4, 3.3))
for ax, (name, label) in zip(axes, signs.items(), strict=True):
    ax.plot(root, means(hacking[name]), "o-", color=plots.POLICY)
    twin = ax.twinx()
    twin.plot(root, means(hacking["gold"]), color=plots.GOLD, linewidth=1, alpha=0.6)
    twin.set(yticks=[])
    twin.grid(visible=False)
    ax.set(xlabel="square root of KL", title=label, ylim=(0, 1.1 * max(means(hacking[name]))))
plots.show(
    figure,
    alt="Three signs against the square root of KL, gold as a thin line behind. The second model's score rises and "
    "levels off; the disagreement stays where it was; the share of votes rises and falls as gold does.",
)


# %% stop
def stop(signal, patience=2):
    kept = 0
    for t, value in enumerate(signal):
        kept = t if value > signal[kept] else kept
        if t - kept == patience:
            break
    return kept


rules = {name: lambda path, name=name: stop(path[name]) for name in ("second", "votes")}
rules["agreement"] = lambda path: stop([-x for x in path["disagreement"]])
rules["one nat"] = lambda path: np.flatnonzero(np.array(path["kl"]) <= 1)[-1]  # the last look within the budget
rules["best look"] = lambda path: np.argmax(path["gold"])
for name, rule in rules.items():
    kept = [(path, rule(path)) for path in (seed["runs"]["one"]["path"] for seed in cures)]
    golds, kls = (" ".join(f"{path[k][t]:z.2f}" for path, t in kept) for k in ("gold", "kl"))
    print(f"{name:>10}: gold {golds}, KL {kls}")

# %% [markdown] stop-after
# **Takeaway: people's votes turn where gold turns; models hardly know.** Stopped by votes, each of the three runs
# keeps a gold near that of its best look. The second reward model never saw training's labels, and rises with the
# first: it levels off, and does not fall, for it has the same blind spot. Stopped by it, one run has lost nearly all
# of its gold. The disagreement of four moves little, by a tenth or two of its size. It is smallest about where gold
# is highest, but not in every run, and at the end of the line, with more than a point of gold lost, it is hardly
# larger than at the start. They agree, and are wrong together.
#
# Votes are noisy, 128 a look: at the first look both answers are the SFT model's, and still they do not say one half
# in every run. By the time the runs are stopped they are about as many as the labels that the
# reward model was trained on. The budget of one nat costs nothing and does as well here. But it came from chapter 8,
# that is, from having seen gold in this world. In a new one nobody hands out that number.

# %% [markdown] ensemble-text
# ## Cure 2: ask several
#
# A mistake that one reward model makes, another may not make. So train four on the same 1,024 labels, each from
# another SFT model (another seed) and on another bootstrap of the pairs. An ensemble like this may be asked for
#
# - the **mean** of its members;
# - the **worst** of the four, answer by answer (2310.02743);
# - the mean minus four times the **variance**, a price on disagreement. Rewards like the last two are called
#   *conservative*: a conservative reward believes less where its members disagree.
#
# Beside them stands the cure of chapter 8, a **price on KL**: one model, $\beta = 0.1$. **Which will raise the peak?
# Which will only delay the fall?**

# %% ensembles
names = {"one": "one model", "mean": "mean of four", "worst": "worst of four", "penalised": "mean - 4 variance"}
names |= {"price": "one model, beta 0.1"}
runs = {name: over_seeds([seed["runs"][name]["path"] for seed in cures]) for name in names}
figure, ax = plt.subplots(figsize=(7.6, 4))
for number, (name, label) in enumerate(names.items()):
    x, gold = np.sqrt(np.maximum(means(runs[name]["kl"]), 0)), np.array(means(runs[name]["gold"]))
    error, colour = np.array([e.standard_error for e in runs[name]["gold"]]), plots.OTHERS[number]
    ax.plot(x, gold, label=label, color=colour, marker=plots.MARKERS[number], markersize=4)
    ax.fill_between(x, gold - error, gold + error, color=colour, alpha=0.12, linewidth=0)
ax.set(xlabel="square root of KL", ylabel="gold", title="PPO for forty rounds; bands are one standard error")
ax.legend(loc="lower left")
plots.show(
    figure,
    alt="Gold against the square root of KL. One model and all three ensembles peak together near one nat and fall, "
    "the mean of four least. One model with beta 0.1 rises higher and stays there, at little more than one nat.",
)


# %% costs
def against_one(name):  # the same seed's single model: peak of gold, KL there, gold at the end, seconds
    found = []
    for seed in cures:
        run, one = seed["runs"][name], seed["runs"]["one"]
        tops = [peak(it["path"]) for it in (run, one)]
        moved = [tops[0][what] - tops[1][what] for what in ("gold", "kl")]
        late = run["path"]["gold"][-1] - one["path"]["gold"][-1]
        found.append([*moved, late, run["seconds"] / one["seconds"]])
    return [evaluate.estimate(torch.tensor(column)) for column in zip(*found, strict=True)]


fours = ("mean", "worst", "penalised")
print(f"{'against one model':>19}: peak of gold    KL of the peak   gold at round 40   seconds")
cost = {name: against_one(name) for name in names if name != "one"}
for name, (*moved, seconds) in cost.items():
    numbers = "   ".join(f"{e.mean:+.2f} ± {e.standard_error:.2f}" for e in moved)
    print(f"{names[name]:>19}:  {numbers}     x {seconds.mean:.0f}")

# %% costs-claims
of_n = {name: over_seeds([seed["runs"][name]["best_of_n"] for seed in cures]) for name in names if name != "price"}
for name, run in of_n.items():
    golds = means(run["gold"])
    print(f"{names[name]:>19}: gold of the best of 32 {golds[-1]:.2f}, of the best n {max(golds):.2f}")
mean, worst, penalised = (of_n[name]["gold"][-1].mean - of_n["one"]["gold"][-1].mean for name in fours)
ensembles, late = [cost[name] for name in fours], [cost[name][2] for name in fours]
claims({
    "no ensemble moves the peak of gold by more than 0.1": max(abs(moved[0].mean) for moved in ensembles) < 0.1,
    "each ends forty rounds with more gold than one model": min(e.mean for e in late) > 0.1,
    "but none by two standard errors": all(e.mean < 2 * e.standard_error for e in late),
    "and all below where they began": all(means(runs[n]["gold"])[-1] < means(runs[n]["gold"])[0] for n in fours),
    "each costs about twice the seconds": all(1.5 < moved[3].mean < 2.5 for moved in ensembles),
    "best of 32: the mean of four is 0.1 above one model, the others 0.05": mean > 0.1 > max(worst, penalised)
    and min(worst, penalised) > 0.05,
    "the price on KL: a peak 0.1 higher": cost["price"][0].mean > 0.1,
    "and an end one point higher": cost["price"][2].mean > 1,
    "for no more seconds": cost["price"][3].mean < 1.2,
})

# %% [markdown] costs-after
# **Takeaway: ensembles soften the fall, if anything; they did not raise the peak.** On average each ends with more
# gold than one model, but the seeds differ by more than that: three of them cannot settle it. Ensembles take away the mistakes in which members
# differ, and best-of-n, which stays among the reference's answers, makes mostly such mistakes: with the mean of four
# its turn is nearly gone. PPO finds the mistakes that members share. Four models from four SFT models are still four
# readers of the same labels. Eisenstein et al. saw the same at full size:
# {{published:ensembles-do-not-eliminate}}.
#
# The price on KL is the cure that worked best here, and the cheapest. It is more than early stopping: at one nat the
# priced run has more gold than the free one ever had, as in chapter 8. It does not repair the score either. It keeps
# the policy where the score was measured.
#
# | cure | gold | KL of the peak | price |
# |---|---|---|---|
# | more labels | raises the peak, to 256 labels; best-of-n's further | hardly moves | labels |
# | stop by votes | near the peak's | about one nat | 128 votes a look |
# | stop at one nat | near the peak's | one nat | to know the number |
# | ensemble | same peak, perhaps a softer fall | hardly moves | twice the seconds |
# | price on KL | higher peak, no fall | about one nat | to choose $\beta$ |

# %% [markdown] play-text
# ## Play
#
# Seven scores, two ways to push them. The curves are the runs of this chapter (means of three seeds); in grey, all
# that were pushed the same way. The button does it again, live, with new labels: some twenty seconds for one model, a
# minute for four. **Which score can be pushed furthest by best-of-n? Is it the same for PPO? Read the answers, too.**

# %% play
pushes = ["PPO", "best-of-n"]
several = {names[name]: name for name in fours}
pushed = {f"{int(n):,} labels": (ppo[n], best[n]) for n in sizes}
for label, name in several.items():
    pushed[label] = runs[name], over_seeds([seed["runs"][name]["best_of_n"] for seed in cures])
frames = {(label, way): curve(both[place]) for label, both in pushed.items() for place, way in enumerate(pushes)}
for label, name in {"1,024 labels": "one", **several}.items():
    said = [answer[:2] for answer in cures[0]["runs"][name]["answers"]]
    frames[label, "PPO"] = frames[label, "PPO"]._replace(answers=said)


def anew(seed, score, way):
    count = 1024 if score in several else int(score.removesuffix(" labels").replace(",", ""))
    run = again(seed=seed, pairs=count, combine=several.get(score, ""), way=way)
    return Curve(run["kl"], run["gold"], run["score"])


push(anew, frames, start={"score": "1,024 labels"}, score=list(pushed), way=pushes)

# %% [markdown] summary
# ## In five lines
#
# 1. Along the best path for a score, gold moves by its covariance with the score, among the answers given *now*. It
#    turns where that is zero, and the score does not show it.
# 2. A poor correlation makes gold rise slowly; only a gold that bends, somewhere the labels did not reach, makes it
#    fall. GaussWorld has the whole curve: $d\,(\alpha - \beta d)$.
# 3. On TinyLM gold rises while the policy gives up filler for facts, and falls as it spends the facts that the reward model
#    cannot see. Its correlation with the score, above 0.6 at first, ends below 0.35.
# 4. Best-of-n follows $d\,(\alpha - \beta d)$ closely, and its $\alpha$ is known beforehand; PPO follows no law closely. More
#    labels raise the curve and leave its shape.
# 5. Votes turn where gold does; a second model and the members of an ensemble do not. Ensembles soften the fall at
#    best, a price on KL prevents it. None of them repairs the score.

# %% [markdown] questions
# ## Three questions
#
# **1.** Your reward model has an accuracy of 78 % on held-out labels, as good as people. A colleague concludes that
# it may be optimised as far as it will go. What is missing?
#
# <details><summary>Answer</summary>
#
# The held-out labels are of the reference's answers. Accuracy there tells of the correlation at $d = 0$, that is, of
# the slope of the first step. How it is further out can only be seen on answers from there: label some of the policy's.
# </details>
#
# **2.** You run best-of-64 with a reward model and find that gold, judged by people, is lower than with best-of-8.
# Somebody proposes to draw the answers at a higher temperature. What will that do?
#
# <details><summary>Answer</summary>
#
# The answers become more various, and so do their scores: the best of 64 then lies further out, where the score is
# less to be trusted. Unless better answers were missing from the sample, it is a stronger push of the same proxy. A
# smaller n, or a better score, is the cure.
# </details>
#
# **3.** Four reward models agree on an answer within a hair. Is the answer good?
#
# <details><summary>Answer</summary>
#
# They agree. If they were trained on the same labels, they share what these labels do not say, and can be wrong
# together. Disagreement is a reason for doubt; agreement is no proof.
# </details>

# %% [markdown] classical
# ## The classical results beside ours
#
# | | published | here | why they differ |
# |---|---|---|---|
# | gold against $\sqrt{\mathrm{KL}}$ | 2210.10760: rises, peaks, falls, for both ways | so, too, for every number of labels | their gold is a larger reward model, ours a program with facts |
# | best-of-n: $d(\alpha - \beta d)$ | 2210.10760 | typically off by less than 0.03, for every number of labels | the same law; ours ends at $n = 64$ |
# | RL: $d(\alpha - \beta\log d)$ | 2210.10760 | typically off by up to 0.1, with a pattern | forty rounds of a tiny model, and it says other things when it falls |
# | labels needed before it helps | {{published:gao-fewest-pairs}} | 256 labels beat 64; beyond that little changes for PPO | five kinds of things and forty facts; their text has more |
# | conservative ensembles, best-of-n | better {{published:coste-best-of-n}} | best of 32: 0.05 or more above one model; but the plain mean is above both | our members share their blind spot |
# | ensembles, in the end | {{published:ensembles-do-not-eliminate}} | so it is here | the same |
# | is there a safe proxy? | {{published:skalse-constant}} | GaussWorld's linear gold never falls *along the tilt* | their theorem speaks of all changes of the policy, not of the best path |

# %% [markdown] further
# ## Further reading
#
# - The curve, the laws, the setting with a gold reward model: arXiv 2210.10760
# - Ensembles, worst case and variance penalty: arXiv 2310.02743. What they do not cure: arXiv 2312.09244
# - What hacking is, defined, and when a proxy is safe: arXiv 2209.13085
# - The first picture of the kind, on summaries: arXiv 2009.01325, figure 5
# - Direct alignment over-optimises, too, without a reward model: arXiv 2406.02900
#
# **Next:** exercises 12.1 to 12.4, in `exercises/12_reward_hacking.ipynb`.
#
# ## Half way
#
# Here the first half of the course ends: the pipeline, from labels to a policy. Imitation copies the average author
# (1). Preferences say what is better (2), and there are two ways to climb them: without a reward model (3 to 5), or
# with one (6), which is only as good as its labels (7). How far one goes is counted in nats (8), PPO goes there step
# by step (9, 10), and what separates it from DPO is which answers it gets to see (11). This chapter said what it all
# rests on: a proxy, and how far it carries. Each failure that follows is one more thing which the proxy does not say.
# %% [exercises]
# %% [markdown] title
# # 12 · Exercises: over-optimisation
#
# Four functions, about an hour and twenty minutes: the curve in closed form, the laws that are fitted to it, and two
# cures. Write each body, run the cell, then run its check. After each check the function is put to use.
#
# Numbers come as tensors in double precision, or as plain lists where the signature says so. A check prints tensors
# as lists; to try such a case yourself, wrap each list in `torch.tensor(...)`.
#
# Stuck? Open the hints one at a time. The solved notebook is in `solutions/`, under the same name. In a terminal
# `prefcourse check 12` checks what you saved, and `prefcourse reset 12.1` gives you an exercise afresh.

# %% setup
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from prefcourse import evaluate, experiments, plots
from prefcourse.checks import NotWritten, check
from prefcourse.experiments.chapter12 import Drive, fit, labelled, means, over_seeds, peak, resampled
from prefcourse.lab import lab
from prefcourse.worlds.gauss import GaussWorld

torch.set_num_threads(1)
plt.rcParams.update(plots.STYLE)

# %% [markdown] question-12-1
# **How much gold does the best policy for a proxy gain, at each distance, and where is its peak?** The reference
# draws $x \sim N(0, I)$ in D dimensions. The proxy is $u\cdot x$, gold is $g\cdot x - x^\top C x$. At a KL of $d^2$
# the best policy for the proxy is the reference, moved along $u$. Return a pair `(gain, peak)`:
#
# - `gain`: N numbers, mean gold at each `d` minus mean gold of the reference.
# - `peak`: the distance d at which gold is highest, one number. Gold has a peak only if it first rises and then
#   falls. Otherwise `peak` is `None`: a linear gold (`C` all 0) has none, nor has a gold that bends only across
#   `u`, one that bends upwards, one that falls from the start, or one that does not rise at all. Count what is
#   below 1e-12 as 0.
# - `u` may have any length above 0. Only its direction counts: the same answers are liked best.
# - `C` need not be symmetric.
#
# By hand first: u = (1, 0), g = (3, 1), C = ((0.5, 0), (0, 9)). At d = 1 the mean lies at $(\sqrt2, 0)$, and the gain
# is $3\sqrt2 - 0.5\cdot 2 = 3.24$. What is it at d = 2, and where is the peak? (4.49, and $d = 3/\sqrt2 = 2.12$.)


# %% answer-12-1
def gold_gain(
    u: Float[Tensor, " D"], g: Float[Tensor, " D"], C: Float[Tensor, "D D"], d: Float[Tensor, " N"]
) -> tuple[Float[Tensor, " N"], float | None]:
    """How much gold does the best policy for the proxy u.x gain at each distance d = sqrt(KL),
    and at which d is gold highest? (gain, peak); the peak is None where there is none."""
    direction = u / u.norm()
    alpha = math.sqrt(2) * (g @ direction).item()
    beta = 2 * (direction @ C @ direction).item()
    gain = d * (alpha - beta * d)
    return gain, alpha / (2 * beta) if alpha > 1e-12 and beta > 1e-12 else None


# %% [markdown] use-12-1-text
# **Held against samples.** Your lines, and dots from 20,000 samples each with two standard errors, in three worlds
# of 16 dimensions. The third is linear.

# %% use-12-1
if check("12.1", gold_gain).passed:
    draw, far = torch.Generator().manual_seed(0), torch.linspace(0, 3, 61, dtype=torch.float64)
    figure, ax = plt.subplots()
    for number, (rho, bend) in enumerate([(0.8, 0.3), (0.4, 0.3), (0.4, 0.0)]):
        world = GaussWorld.random(seed=0, correlation=rho, curvature=bend)
        gain, top = gold_gain(world.u, world.g, world.C, far)
        ax.plot(far, gain, color=plots.OTHERS[number], label=f"g.u = {rho}, curvature {bend}")
        for distance in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0):
            gold = [world.gold(world.sample(20_000, d=x, generator=draw)) for x in (distance, 0.0)]
            mean, error = evaluate.estimate(gold[0] - gold[1])
            ax.errorbar(distance, mean, 2 * error, fmt="o", color=plots.OTHERS[number], markersize=3)
        print(f"g.u = {rho}, curvature {bend}: peak", "none" if top is None else f"at d = {float(top):.2f}")
    ax.set(xlabel="d, square root of KL", ylabel="gain in gold", title="Your closed form, and samples")
    ax.legend(loc="lower left")
    plots.show(figure, alt="Two parabolas and a straight line, with dots from samples on them.")
else:
    print("Here your function will be held against samples, once 12.1 is solved.")

# %% [markdown] question-12-2
# **Which $\alpha$ and $\beta$ describe these runs?** Given are N points: the KL of a policy, its gain in gold over the
# reference, and the standard error of that gain. With $d = \sqrt{\mathrm{KL}}$ the laws of Gao et al. are
#
# $$\texttt{law="best-of-n"}:\;\; d\,(\alpha - \beta\,d)\qquad\qquad \texttt{law="rl"}:\;\; d\,(\alpha - \beta\,\log d)$$
#
# Return `(alpha, beta)`, the two numbers with the smallest sum of
# $\big((\text{gain} - \text{law})/\text{error}\big)^2$.
#
# - There is no constant: at $d = 0$ both laws say 0. Such a point says nothing of $\alpha$ and $\beta$, whatever gain was
#   measured there. An estimated KL may also be a little below 0: count it as 0.
# - With fewer than two different distances above 0 nothing is determined: raise `ValueError`. Also if `law` is
#   neither of the two.
# - Errors are above 0.
#
# By hand first: KL 1 and 4, gains 1 and 1, equal errors, best-of-n. Then $\alpha - \beta = 1$ and $2\,(\alpha - 2\beta) = 1$:
# $\alpha = 1.5$, $\beta = 0.5$.


# %% answer-12-2
def fit_gao(
    kl: Float[Tensor, " N"], gain: Float[Tensor, " N"], errors: Float[Tensor, " N"], *, law: str
) -> tuple[float, float]:
    """Which alpha and beta fit gains in gold best, each weighed with one over its squared error?
    law: "best-of-n" or "rl" (2210.10760). Raises ValueError for another law, or if fewer than
    two different distances are above 0."""
    if law not in ("best-of-n", "rl"):
        raise ValueError(f"law={law!r}: expected 'best-of-n' or 'rl'")
    tells = kl > 0
    d = kl[tells].sqrt()
    if len(d.unique()) < 2:
        raise ValueError("two parameters need two different distances above 0")
    columns = torch.stack([d, -d * (d if law == "best-of-n" else d.log())], dim=1)
    weighed = columns / errors[tells, None]
    solution = torch.linalg.lstsq(weighed, (gain / errors)[tells, None]).solution
    alpha, beta = solution.flatten().tolist()
    return alpha, beta


# %% [markdown] use-12-2-text
# **On the runs of the chapter.** Four numbers of labels, PPO and best-of-n, means of three seeds. Where there is a
# peak, the fitted law says at which KL: $(\alpha/2\beta)^2$ for best-of-n, and $e^{2(\alpha/\beta - 1)}$ for RL. (Set the
# slope to 0 to see why.)

# %% use-12-2
if check("12.2", fit_gao).passed:
    seeds = experiments.load("12_sizes")
    for way, law in (("ppo", "rl"), ("best_of_n", "best-of-n")):
        for n in seeds[0]["sizes"]:
            run = over_seeds([seed["sizes"][n][way] for seed in seeds])
            kl, gold = (torch.tensor(means(run[name]), dtype=torch.float64) for name in ("kl", "gold"))
            errors = torch.tensor([e.standard_error for e in run["gold"]], dtype=torch.float64)
            alpha, beta = map(float, fit_gao(kl, gold - gold[0], errors.clamp(min=0.01), law=law))
            top = (alpha / (2 * beta)) ** 2 if law == "best-of-n" else math.exp(2 * (alpha / beta - 1))
            print(f"{law:>9}, {int(n):>5,} labels: alpha {alpha:.2f}, beta {beta:.2f}, peak at a KL of {top:.1f}")
else:
    print("Here your function will be fitted to the chapter's runs, once 12.2 is solved.")

# %% [markdown] question-12-3
# **What does a careful ensemble say of each answer?** K reward models have scored B answers; a row is a member, a
# column an answer. Return B numbers:
#
# - `how="mean"`: the mean of the members.
# - `how="worst"`: the lowest score that any member gives to this answer.
# - `how="penalised"`: mean minus `penalty` times the *variance* of the members, where the variance is the mean
#   squared distance from their mean (it divides by K, so that a single member has variance 0).
# - For any other word raise `ValueError`.
#
# `penalty` is 1 unless it is given, and counts only with `how="penalised"`. A batch without answers gives nothing back: no numbers.
#
# By hand first: two members say 1 and 3 of the first answer, 0 and 0.5 of the second; penalty 0.5. Means 2 and 0.25,
# variances 1 and 0.0625: 1.5 and 0.21875.


# %% answer-12-3
def conservative_reward(scores: Float[Tensor, "K B"], *, how: str, penalty: float = 1.0) -> Float[Tensor, " B"]:
    """What does an ensemble say of each answer: the mean of its members, the worst of them, or the
    mean minus penalty times their variance (2310.02743)? Raises ValueError for another `how`."""
    if how == "mean":
        return scores.mean(dim=0)
    if how == "worst":
        return scores.amin(dim=0)
    if how == "penalised":
        return scores.mean(dim=0) - penalty * scores.var(dim=0, correction=0)
    raise ValueError(f"how={how!r}: expected 'mean', 'worst' or 'penalised'")


# %% [markdown] use-12-3-text
# **Train on it.** Four reward models from 256 labels, each with another bootstrap of them; PPO for twenty rounds with
# $\beta = 0$ on one of the models, and on your worst case of the four. Some twenty seconds. **Which of the two ends
# with more gold?** Change `how` and run it again.

# %% use-12-3
# NBVAL_IGNORE_OUTPUT
if check("12.3", conservative_reward).passed:
    here, how = lab(seed=0), "worst"
    rows = labelled(here, per_prompt=3)[:256]
    several = [evaluate.model_score(fit(here, resampled(rows, n))) for n in range(4)]

    def ours(rollout):
        scores = conservative_reward(torch.stack([score(rollout) for score in several]), how=how)
        return torch.as_tensor(scores, dtype=torch.float32)

    for name, score in (("one model", several[0]), (f"{how} of four", ours)):
        for step, seen in Drive(here, score, looks=[0, 5, 10, 20], samples=2):
            row = seen.row()
            kl, score_, gold = (row[key] for key in ("kl", "score", "gold"))
            print(f"{name:>13}, round {step:>2}: KL {kl:.1f}, score {score_:+.2f}, gold {gold:+.2f}")
else:
    print("Here your function will train TinyLM, once 12.3 is solved.")

# %% [markdown] question-12-4
# **When does training stop, and which look is kept?** `estimates` are measured look by look, say by votes; look 0 is
# the reference, before training. Higher is better. Return `(kept, stopped)`, two whole numbers.
#
# - Look 0 is kept at first. A later look is *better* if its estimate is above that of the kept one by more than
#   `margin`; then it is kept instead.
# - Training stops at the first look at which `patience` looks in a row were no better. Nothing after it is ever
#   measured, so it may not count. If that never happens, it stops at the last look.
# - An estimate may be below 0. It may also be `nan`: nobody measured there. Such a look is no better, and counts for
#   the patience. (Look 0 is never `nan`.)
# - No look at all, or a patience below 1: raise `ValueError`.
#
# By hand first: 0.50, 0.57, 0.55, 0.60, 0.58, 0.59, 0.70 with patience 2 and margin 0. Looks 1 and 3 are better than
# what was kept; 4 and 5 are not, and training stops: (3, 5). That 0.70 would have come, nobody knows.


# %% answer-12-4
def early_stop(estimates: list[float], *, patience: int, margin: float = 0.0) -> tuple[int, int]:
    """Which look is kept, and at which look does training stop? It stops after `patience` looks in a
    row that are not better than the kept one by more than margin. Raises ValueError if there are no
    estimates, or if patience is below 1."""
    if not estimates or patience < 1:
        raise ValueError(f"{len(estimates)} estimates, patience {patience}: expected 1 or more of both")
    kept = 0
    for now, estimate in enumerate(estimates):
        if estimate > estimates[kept] + margin:
            kept = now
        if now - kept == patience:
            return kept, now
    return kept, len(estimates) - 1


# %% [markdown] use-12-4-text
# **What do patience and margin buy?** Your rule on the votes of the chapter's three runs, 128 votes a look. Below is
# the gold of the look it keeps, which the rule never saw, and the votes that it spent. **Is more patience better?**

# %% use-12-4
if check("12.4", early_stop).passed:
    runs = [seed["runs"]["one"]["path"] for seed in experiments.load("12_cures")]
    for patience, margin in ((1, 0.0), (2, 0.0), (4, 0.0), (2, 0.05)):
        found = [(run, *early_stop(list(run["votes"]), patience=patience, margin=margin)) for run in runs]
        golds = " ".join(f"{run['gold'][kept]:.2f}" for run, kept, _ in found)
        print(f"patience {patience}, margin {margin}: gold {golds}; votes", *(128 * end for *_, end in found))
    print("the best looks of all:    gold", *(f"{peak(run)['gold']:.2f}" for run in runs))
else:
    print("Here your function will stop three runs, once 12.4 is solved.")
