# Chapter 12. `prefcourse build 12` makes the three notebooks of this script; see prefcourse/build/script.py.

# %% [markdown] title
# # 12 · Reward Hacking and Over-optimisation
#
# **Key insight.** A reward model is useful because its score is correlated with what we want. Push any proxy hard
# enough and the correlation that made it useful breaks. That happens at a place, it can be measured, and nothing
# in the training log shows it.
#
# **After this chapter you can**
# - say where gold turns on the best path for a score: where its covariance with the score passes through zero;
# - compute the whole curve of rise and fall in a world of Gaussians, and say which golds never turn;
# - measure it on a language model, fit the two laws of Gao et al. to it, and judge the fit by its residuals;
# - read hacked answers, and say in words why gold fell;
# - stop a run in time without seeing gold, use an ensemble, and say what each cure costs and how much it moves.
#
# **Time.** 55 minutes to read; all cells together take half a minute on one CPU core, and a minute the first
# time.
#
# **Before.** Chapter 6 (what a reward model sees and what it does not), chapter 8 (KL, the frontier, best-of-n).
# PPO is used as in chapter 8.
#
# **How to read.** Most cells are preceded by a question in bold. Decide on an answer, run the cell, then read on.

# %% setup
import math

import matplotlib.pyplot as plt
import numpy as np
import torch

from prefcourse import evaluate, experiments, models, plots, train
from prefcourse.claims import claims
from prefcourse.experiments import chapter12
from prefcourse.experiments.chapter12 import Fit, fit, labelled, look, means, over_seeds, peak, root_kl
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
# Let $s$ be the score and $G$ gold. The best policy for the score is the tilt
# $\pi_t \propto \pi_{\text{ref}}\,e^{ts}$ with $t = 1/\beta$, and we know how it moves (chapter 8):
# $d\pi_t/dt = \pi_t\,(s - \mathbb E[s])$. So mean gold moves by
#
# $$\frac{d}{dt}\,\mathbb E_{\pi_t}[G] = \sum_y \pi_t(y)\,\big(s(y) - \mathbb E[s]\big)\,G(y)
# = \mathrm{Cov}_{\pi_t}(s, G),$$
#
# and, with $s$ in place of $G$, the score by $\mathrm{Var}_{\pi_t}(s) \ge 0$. **The score can only rise. Gold rises
# as long as it is correlated with the score, among the answers that the policy gives now, and turns where that
# correlation is zero.** Labels tell us about the correlation among the answers of the *reference*. Further out it
# may be anything.
#
# ## A world in which one can compute it
#
# An answer is a vector $x$ of features, and the reference draws $x \sim N(0, I)$. The reward model sees one
# direction $u$ of it, $|u| = 1$: the score is $u\cdot x$. Gold is $G = g\cdot x - x^\top C x$, with a vector $g$: it has a slope, and it
# bends, as too much of a good thing is no longer good.
#
# **The tilt.** $e^{-|x|^2/2}\,e^{t\,u\cdot x} = e^{-|x - tu|^2/2}\cdot\text{const}$: the same Gaussian, moved by $t$ along
# $u$. Its KL is $t^2/2$. With $d = \sqrt{\mathrm{KL}}$ (in chapter 7 $d$ was a difference) the mean lies at $\sqrt2\,d\,u$.
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
# the correlation is lower, because the bend adds variance that the score cannot see. But for a given bend, a smaller
# $g\cdot u$ still means a smaller correlation.
#
# **With a gold that is linear, $C = 0$, where is the peak? And in a world whose score has less correlation with gold,
# does the peak come earlier, or only lower?**

# %% gauss
d = torch.linspace(0, 3, 61, dtype=torch.float64)
worlds = {rho: GaussWorld.random(seed=SEED, correlation=rho, curvature=0.3) for rho in (0.4, 0.6, 0.8)}
linear = GaussWorld.random(seed=SEED, correlation=0.4, curvature=0.0)
figure, ax = plt.subplots()
for place, (rho, world) in zip((0, 1, 3), worlds.items(), strict=True):
    ax.plot(d, world.gold_gain(d), color=plots.OTHERS[place], label=f"gold, g.u = {rho}")
ax.plot(d, linear.gold_gain(d), ":", color=plots.OTHERS[0], label="a linear gold, g.u = 0.4")
ax.plot(d, math.sqrt(2) * d, "--", color=plots.SCORE, label="score, in all of them")
ax.set(xlabel="d, square root of KL", ylabel="gain over the reference", ylim=(-1.5, 2), title="GaussWorld")
ax.legend(loc="lower left")
alt = "The score rises straight, so does a linear gold. Else gold peaks, earlier and lower the smaller g.u."
plots.show(figure, alt=alt)


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
    "40 of 45 samples or more within two standard errors": sum(e < 2 for e in errors) >= 40,
    "less correlation: an earlier and lower peak": np.less(worlds[0.4].peak(), worlds[0.8].peak()).all(),
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
# "{{published:skalse-constant}}". So the question is not whether a proxy can be hacked, but how far one can go.

# %% [markdown] live-text
# ## The same, live
#
# Now TinyLM. The reward model learns from 1,024 labels of our twenty people on answers of the SFT model. PPO climbs
# its score (standardised: mean 0, standard deviation 1 over the SFT model's answers) with $\beta = 0$: no pull to the
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
path = chapter12.columns([one.row() for one in seen.values()])  # kl, gold, score, correlation, and errors
kl, gold, scores, tied = (path[name] for name in ("kl", "gold", "score", "correlation"))

# %% live-figure
# NBVAL_IGNORE_OUTPUT
figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.6), width_ratios=[3, 2])
plots.over_optimisation(axes[0], kl, scores, gold, error=path["gold_se"]).legend(loc="lower left")
axes[1].plot(np.sqrt(np.maximum(kl, 0)), tied, "o-", color=plots.GOLD)
axes[1].set(xlabel="square root of KL", ylabel="correlation of score and gold", ylim=(-0.1, 0.9))
plots.show(figure, alt="The score rises; gold rises, peaks, falls. Their correlation falls at once.")
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
# deep gold falls differs from seed to seed; this run loses all that it won. The correlation falls *from the first
# step*, long before gold turns. At the peak about half of it is left. It is not zero: the identity above holds for
# the tilt, where every answer moves on its own. In a network all answers share the weights, and a gain on one prompt
# can be paid for on another. (Near the end the curve may turn back on itself: nothing drives the KL, and it can
# shrink from one look to the next.)
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
# Some answers are worse than before, some are better; a few examples prove little. So we sum the points by their
# reasons over 512 answers at every look, for three seeds (from `12_cures`: made by
# `prefcourse build --figures 12_cures`, 1,024 labels, $\beta = 0$). The lines add up to gold, but for two that stay
# near 0 and are not drawn (closings, length). **Which line will carry the rise? Which the fall?**

# %% why
cures = experiments.load("12_cures")
hacking, parts = (over_seeds([seed["runs"]["one"][what] for seed in cures]) for what in ("path", "points"))
root, lines = root_kl(hacking), {reason: means(line) for reason, line in parts.items()}
moving = {reason: (root, line) for reason, line in lines.items() if np.ptp(line) > 0.05}
figure, ax = plt.subplots(figsize=(7.4, 3.8))
ax.plot(root, means(hacking["gold"]), color=plots.GOLD, linewidth=2.5, label="gold: the sum")
plots.curves(ax, moving, xlabel="square root of KL", ylabel="points per answer", beside=True)
plots.show(figure, alt="Filler and flattery vanish; right facts rise, then fall; wrong facts grow.")
change = {reason: np.diff(line[[0, 7, -1]]) for reason, line in lines.items()}  # by round 12; later
claims({
    "filler and flattery: the gain comes early": change["filler and flattery"][0] > 0.2,
    "wrong facts cost more and more, from the start": max(change["wrong facts"]) < -0.1,
    "later right facts go, and sentences break": max(change["right facts"][1], change["no sentence"][1]) < -0.1,
})

# %% [markdown] why-after
# **Takeaway: first the policy gives up what the reward model rightly dislikes; then it spends what the reward model
# cannot see.** Filler and flattery go early, and sentences with facts take their place: more right ones, and more
# wrong ones, too. Later the right ones go. Chapter 6 found this model as good as people where answers differ in
# filler, and not much better than a coin where they differ in the uses they name. That blind spot did no harm as long
# as the answers came from the SFT model, which mostly names right uses anyway. PPO has no reason to keep them right,
# and loses them. ("No sentence" is what the world has no meaning for; a sentence about another thing is counted
# there, too.) Nobody lied, and no annotator is fond of wrong facts. What is not in the score is not protected.
#
# (A bias that annotators *share* is another matter: it is in the score, and PPO climbs it on purpose, as in
# chapter 2. More labels of the same people sharpen it.)

# %% [markdown] sizes-text
# ## The curve
#
# Would more labels help? Reward models on 64, 256, 1,024 and 4,096 labels, three seeds each (`12_sizes`). PPO with
# $\beta = 0$, forty rounds; and best-of-n by the same scores, from 256 answers of the SFT model to each prompt. For
# best-of-n the axis is $\log n - (n-1)/n$, an upper bound of its KL (chapter 8). GaussWorld's closed form is drawn
# beside them.
#
# **With sixty-four times the labels, how much further will the peak lie? Which of PPO and best-of-n will turn
# earlier?**

# %% sizes
runs_of = chapter12.by_size(experiments.load("12_sizes"))  # by way and number of labels, a run of each seed
ways = {way: {n: over_seeds(runs) for n, runs in sized.items()} for way, sized in runs_of.items()}
gauss = {f"g.u = {rho}": Curve(d**2, 0.5 + it.gold_gain(d), math.sqrt(2) * d) for rho, it in worlds.items()}
figure, axes = plt.subplots(1, 3, figsize=(11.4, 3.9), sharey=True)
for ax, (way, sized) in zip(axes, ways.items(), strict=False):
    plots.over_optimisations(ax, {n: curve(run) for n, run in sized.items()}).set_title(f"TinyLM, {way}")
plots.over_optimisations(axes[2], gauss, marked=False).set_title("GaussWorld, closed form")
plt.setp(axes, ylim=(-1.0, 1.6), xlabel="KL (nats, square-root axis)", ylabel="")
axes[0].set(ylabel="gold (solid) and score (dashed)")
plots.show(
    figure,
    alt="PPO: gold peaks near one nat for all data sizes, then falls, mostly far below its start. "
    "Best-of-n: higher peaks, gentler falls. GaussWorld: parabolas.",
)

# %% sizes-table
tops, gains, falls = {}, {}, {}
print(f"{'':>9} {'':>12} {'peak':>5}  {'KL':>4}   gold at the end minus at the start, each seed")
for way, sized in runs_of.items():
    for n, runs in sized.items():
        tops[way, n], where = (np.mean([peak(run)[what] for run in runs]) for what in ("gold", "kl"))
        gains[way, n] = [run["gold"][-1] - run["gold"][0] for run in runs]
        falls[way, n] = [peak(run)["gold"] - run["gold"][-1] for run in runs]
        each = " ".join(f"{gain:+.2f}" for gain in gains[way, n])
        print(f"{way:>9} {n:>12} {tops[way, n]:5.2f}  {where:4.2f}   {each}")

# %% sizes-claims
sizes = list(ways["PPO"])
steps = {way: np.diff([tops[way, n] for n in sizes]) for way in ways}  # of the peak, per fourfold
lost = [max(gains["PPO", n]) for n in sizes[:3]]
hardly = [min(falls["best-of-n", n]) for n in sizes[2:]]
claims({
    "PPO: to 1,024 labels gold ends below its start, every seed": max(lost) < 0,
    "with 4,096 in two seeds of three": sum(gain < 0 for gain in gains["PPO", sizes[3]]) == 2,
    "PPO: from 64 to 256 labels the peak rises by 0.1 or more": steps["PPO"][0] > 0.1,
    "from 256 to 4,096 by less": sum(steps["PPO"][1:]) < 0.1,
    "best-of-n: every fourfold raises the peak, by 0.05 or more": min(steps["best-of-n"]) > 0.05,
    "and its peak is higher than PPO's": all(tops["best-of-n", n] > tops["PPO", n] for n in sizes),
    "best-of-n turns with few labels, every seed": all(min(falls["best-of-n", n]) > 0.1 for n in sizes[:2]),
    "with 1,024 or 4,096 there is a seed where it hardly does": max(hardly) < 0.05,
})

# %% [markdown] sizes-after
# **Takeaway: more labels raise the curve; they do not straighten it.** With PPO 256 labels are better than 64, and
# beyond that we cannot tell the peaks apart: all lie near one nat. What grows is how well it can end: with 4,096
# labels one seed of three stays above its start. With best-of-n every fourfold raises the peak; with 1,024 labels or
# more there are seeds in which 64 draws are not enough to see it turn. (The two axes are not the same: PPO's KL is
# measured, that of best-of-n is a bound from above. Heights may be compared, places only roughly.)
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
# $R$ is the gain over the reference. The first is GaussWorld's form. The second was found by fitting. Both are linear
# in $\alpha$ and $\beta$, so least squares will do, with the columns $d$ and $-d^2$, or $d$ and $-d\log d$. **Where
# will the laws miss our curves: at the start, at the peak, or at the end?**


# %% laws
def law(d, alpha, beta, way):
    return d * (alpha - beta * (d if way == "best-of-n" else np.log(d)))


def fitted(run, way):
    d, gain = root_kl(run)[1:], means(run["gold"])[1:] - run["gold"][0].mean  # not the reference
    columns = np.stack([law(d, 1, 0, way), law(d, 0, 1, way)], axis=1)
    parameters = np.linalg.lstsq(columns, gain, rcond=None)[0]
    return Fit(d, gain, parameters, gain - law(d, *parameters, way))


laws = {way: {n: fitted(run, way) for n, run in sized.items()} for way, sized in ways.items()}
for n in sizes:
    numbers = ("{} alpha {:.2f}, beta {:.2f}".format(way, *laws[way][n].parameters) for way in ways)
    print(f"{n:>12}: {'; '.join(numbers)}")

# %% laws-figure
figure, axes = plt.subplots(2, 2, figsize=(9.6, 5.4), sharex="col", height_ratios=[2, 1])
for column, (way, fits) in zip(axes.T, laws.items(), strict=True):
    points, lines = {}, {}
    for n, (x, gain, parameters, residual) in fits.items():
        smooth = np.linspace(0.01, x.max(), 100)
        points[n], lines[n] = (x, gain, residual), (smooth, law(smooth, *parameters, way))
    plots.fits(column, points, lines, xlabel="d, square root of KL", ylabel="gain in gold")
    column[0].set_title(f"{way}, and its law")
alt = "Best-of-n lies on its law. PPO's residuals: negative at first, positive at the peak, negative again."
plots.show(figure, alt=alt)

# %% laws-claims
own = {way: [one.typical for one in fits.values()] for way, fits in laws.items()}  # residual, for each size
swap = {"PPO": "best-of-n", "best-of-n": "PPO"}
other = {way: [fitted(run, swap[way]).typical for run in sized.values()] for way, sized in ways.items()}
for way in ways:
    told = (" ".join(f"{x:.2f}" for x in found[way]) for found in (own, other))
    print("{:>9}: typical residual {}; with the other's law {}".format(way, *told))
rho, spread = chapter12.reference_correlations(), seen[0].gold.var(dim=1).mean().sqrt()  # of gold
alpha = [laws["best-of-n"][n].parameters[0] / (math.sqrt(2) * rho[n] * spread) for n in sizes]
claims({
    "best-of-n: off by under 0.03, RL's law by more": max(own["best-of-n"]) < min(0.03, *other["best-of-n"]),
    "PPO: its law is off by more, at each size": np.greater(own["PPO"], own["best-of-n"]).all(),
    "at PPO's peak its law is too low": min(one.residual[5:8].mean() for one in laws["PPO"].values()) > 0.02,
    "best-of-n: alpha is sqrt 2 x correlation x spread, within 10 %": np.allclose(alpha, 1, atol=0.1),
})

# %% [markdown] laws-after
# **Takeaway: best-of-n is on its law; PPO is not on any.** With PPO the residuals are not noise. Gold rises more
# slowly at the start than the law says, stays longer at its peak, and then drops all at once. And best-of-n's law,
# fitted to PPO, does hardly better or worse than RL's. Forty rounds of a tiny model are no reason to doubt a law that
# was fitted to large ones; but a law with two parameters and a peak will fit many curves that have one.
#
# Best-of-n's $\alpha$ can be *known beforehand*. Next to the reference the score gains $\sigma_s\sqrt2\,d$ (chapter 8), and
# gold moves with it by $\mathrm{Cov}(s, G)/\mathrm{Var}(s)$. So the slope at the start is
# $\alpha = \sqrt2\,\rho\,\sigma_G$, with $\rho$ the correlation among the reference's answers and $\sigma_G$ the spread of
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
alt = "The second model's score rises and levels off; disagreement stays; votes rise and fall as gold does."
plots.show(figure, alt=alt)


# %% stop
def stop(signal, patience=2):
    for now in range(len(signal)):
        kept = int(np.argmax(signal[: now + 1]))  # the first of the highest so far
        if now - kept == patience:
            break
    return kept


paths = [seed["runs"]["one"]["path"] for seed in cures]
kept = {name: [stop(path[name]) for path in paths] for name in ("second", "votes")}
kept["agreement"] = [stop(-np.array(path["disagreement"])) for path in paths]
kept["one nat"] = [np.argmax(np.array(path["kl"]) > 1) - 1 for path in paths]  # last look within it
kept["best look"] = [np.argmax(path["gold"]) for path in paths]
for name, looks in kept.items():
    golds, kls = (" ".join(f"{paths[s][k][t]:z.2f}" for s, t in enumerate(looks)) for k in ("gold", "kl"))
    print(f"{name:>10}: gold {golds}, KL {kls}")

# %% [markdown] stop-after
# **Takeaway: people's votes turn where gold turns; the models' signs do not.** Stopped by votes, each of the three
# runs keeps a gold near that of its best look. The second reward model never saw training's labels, and rises with
# the first: it levels off, and does not fall, because it has the same blind spot. Stopped by it, one run has lost
# nearly all of its gold. The disagreement of four moves little, by a tenth or two of its size. It is smallest about
# where gold is highest, but not in every run, and at the end of the line, with more than a point of gold lost, it is
# hardly larger than at the start. They agree, and are wrong together.
#
# Votes are noisy, 128 a look: at the first look both answers come from the SFT model, and even then the share of
# votes is not always one half. By the time a run stops, it has used about as many votes as the reward model had
# labels. The budget of one nat costs nothing and does as well here. But it came from chapter 8, that is, from having
# seen gold in this world. In a new world nobody will tell you that number.

# %% [markdown] ensemble-text
# ## Cure 2: ask several
#
# A mistake that one reward model makes, another may not make. So train four on the same 1,024 labels, each from
# another SFT model (another seed) and on another bootstrap of the pairs. Such an ensemble can give
#
# - the **mean** of its members;
# - the **worst** of the four, answer by answer (2310.02743);
# - the mean minus four times the **variance**, a price on disagreement. Rewards like the last two are called
#   *conservative*: a conservative reward believes less where its members disagree.
#
# Beside them stands the cure of chapter 8, a **price on KL**: one model, $\beta = 0.1$. **Which will raise the peak?
# Which will only delay the fall?**

# %% ensembles
several = {"mean": "mean of four", "worst": "worst of four", "penalised": "mean - 4 variance"}
names = {"one": "one model"} | several | {"price": "one model, beta 0.1"}
runs = {name: over_seeds([seed["runs"][name]["path"] for seed in cures]) for name in names}
bands = {label: chapter12.gold_band(runs[name]) for name, label in names.items()}
figure, ax = plt.subplots(figsize=(7.6, 4))
plots.banded_curves(ax, bands, xlabel="square root of KL", ylabel="gold").legend(loc="lower left")
ax.set_title("PPO for forty rounds; bands are one standard error")
plots.show(
    figure,
    alt="One model and all three ensembles peak together near one nat and fall, the mean of four least. "
    "One model with beta 0.1 rises higher and stays there, at little more than one nat.",
)


# %% [markdown] costs-text
# ## The bill
#
# A cure moves something and takes something. Here are all of this chapter, each against the same seed's one model
# that was driven through forty rounds: differences in gold and KL, with their standard errors over three seeds;
# seconds and judgements of people as multiples. Seconds are those of fitting and of training. A run that is stopped
# saves its last rounds; the votes are asked until two looks after the one that is kept, and to draw the answers that
# people are shown takes seconds, too. (A KL stands in PPO's own log anyway, so that looking at it is counted as
# free.)
#
# **Which cures save seconds? Which one has to be paid by people?**

# %% costs
tried = chapter12.treated(cures, experiments.load("12_sizes"), more=4096)
one = tried.pop("one")
for name, how in {"votes": {"patience": 2, "votes": True}, "one nat": {"patience": 1}}.items():
    ends = zip(one, kept[name], strict=True)
    tried[f"stopped: {name}"] = [chapter12.stopped(run, look, **how) for run, look in ends]
cost = {name: chapter12.cost(runs, one) for name, runs in tried.items()}
heads = ("peak of gold", "KL there", "gold, end", "KL there")
print(f"{'':>19}", *(f"{head:>14}" for head in heads), "  seconds  judgements")
for name, it in cost.items():
    moved = "  ".join("{:+6.2f} ± {:.2f}".format(*evaluate.estimate(torch.tensor(x))) for x in it[:4])
    print(f"{names.get(name, name):>19}  {moved}    x {it.seconds.mean():.1f}       x {it.asked.mean():.1f}")

# %% costs-claims
votes, nat = cost["stopped: votes"], cost["stopped: one nat"]
price, fours = cost["price"], [cost[name] for name in several]
claims({
    "stopped: in the end half a point more gold, every seed": min(*votes.end, *nat.end) > 0.5,
    "by votes: less than 0.8 of the seconds, looks and all, every seed": max(votes.seconds) < 0.8,
    "and about twice the judgements": 1.8 < votes.asked.mean() < 2.5,
    "at one nat: less than 0.6 of the seconds, every seed": max(nat.seconds) < 0.6,
    "stopped or priced, it ends 4 nats nearer": max(*votes.end_kl, *nat.end_kl, *price.end_kl) < -4,
    "4,096 labels: over 1.5 times the seconds, every seed": min(cost["4,096 labels"].seconds) > 1.5,
    "each ensemble: about twice, every seed": all(1.7 < x < 2.3 for it in fours for x in it.seconds),
    "the price on KL: a peak 0.1 higher": price.peak.mean() > 0.1,
    "and an end one point higher": price.end.mean() > 1,
    "for the same seconds, within a tenth, every seed": max(abs(price.seconds - 1)) < 0.1,
})

# %% best-of-n
best_of = {n: over_seeds([seed["runs"][n]["best_of_n"] for seed in cures]) for n in ("one", *several)}
for name, run in best_of.items():
    gold = means(run["gold"])
    print(f"{names[name]:>19}: gold of the best of 32 {gold[-1]:.2f}, of the best n {max(gold):.2f}")
mean, worst, penalised = (best_of[n]["gold"][-1].mean - best_of["one"]["gold"][-1].mean for n in several)
late = [evaluate.estimate(torch.tensor(it.end)) for it in fours]
claims({
    "no ensemble moves the peak of gold by more than 0.1": max(abs(it.peak.mean()) for it in fours) < 0.1,
    "each ends forty rounds with more gold than one model": min(e.mean for e in late) > 0.1,
    "but none by two standard errors": all(e.mean < 2 * e.standard_error for e in late),
    "and below where they began": all(g[-1] < g[0] for g in (means(runs[n]["gold"]) for n in several)),
    "best of 32: the mean of four is 0.1 above one model": mean > 0.1,
    "the others 0.05, and less than 0.1": 0.05 < min(worst, penalised) < max(worst, penalised) < 0.1,
})

# %% [markdown] costs-after
# **Takeaway: stopping saves seconds, and asking people costs judgements; ensembles cost seconds, soften the fall, if
# anything, and did not raise the peak.** On average each ensemble ends with more gold than one model, but the seeds
# differ by more than that: three seeds cannot settle it. Ensembles take away the mistakes in which members differ,
# and best-of-n, which stays among the reference's answers, makes mostly such mistakes: with the mean of four, gold
# hardly turns down. PPO finds the mistakes that members share. Four models from four SFT models are still four
# readers of the same labels. Eisenstein et al. saw the same at full size: {{published:ensembles-do-not-eliminate}}.
#
# Four times the labels buy a better score and no higher peak; how the run ends differs from seed to seed. Their extra
# seconds go to fitting the reward model. The price on KL is the cure that worked best here. It is more than early
# stopping, as in chapter 8. It does not repair the score either: it keeps the policy where the score was measured.
#
# | cure | gold | KL in the end | seconds | people |
# |---|---|---|---|---|
# | more labels | PPO's peak rises to 256 labels, best-of-n's further | differs from seed to seed | over 1.5 times | four times the labels |
# | stop by votes | near the peak's, half a point above the free end or more | about one nat | less than 0.8 | as many votes as there were labels |
# | stop at one nat | the same | one nat | less than 0.6 | none, but somebody must know the number |
# | ensemble | the same peak, perhaps a softer fall | differs from seed to seed | twice | none |
# | price on KL | a peak 0.1 higher, no fall | about one nat | the same | none, but $\beta$ must be chosen |

# %% [markdown] play-text
# ## Play
#
# Seven scores, two ways to push them. The curves are the runs of this chapter (means of three seeds); in grey, all
# that were pushed the same way. The button does it again, live, with new labels: some twenty seconds for one model, a
# minute for four. **Which score can be pushed furthest by best-of-n? Is it the same for PPO? Read the answers, too.**

# %% play
pushed = {n: (ways["PPO"][n], ways["best-of-n"][n]) for n in sizes}
pushed |= {label: (runs[name], best_of[name]) for name, label in several.items()}
frames = {(label, "PPO"): curve(ppo) for label, (ppo, _) in pushed.items()}
frames |= {(label, "best-of-n"): curve(best) for label, (_, best) in pushed.items()}
combine = {label: name for name, label in several.items()}
for label in ("1,024 labels", *combine):
    answers = cures[0]["runs"][combine.get(label, "one")]["answers"]
    frames[label, "PPO"] = frames[label, "PPO"]._replace(answers=[answer[:2] for answer in answers])


def anew(seed, score, way):
    count = 1024 if score in combine else int(score.removesuffix(" labels").replace(",", ""))
    run = chapter12.again(seed=seed, pairs=count, combine=combine.get(score, ""), way=way)
    return Curve(run["kl"], run["gold"], run["score"])


push(anew, frames, start={"score": "1,024 labels"}, score=list(pushed), way=list(ways))

# %% [markdown] summary
# ## In five lines
#
# 1. Along the best path for a score, gold moves by its covariance with the score, among the answers given *now*. It
#    turns where that is zero, and the score does not show it.
# 2. A poor correlation makes gold rise slowly; only a gold that bends, somewhere the labels did not reach, makes it
#    fall. GaussWorld has the whole curve: $d\,(\alpha - \beta d)$.
# 3. On TinyLM gold rises while the policy gives up filler for facts, and falls as it spends the facts that the reward model
#    cannot see. Its correlation with the score, above 0.6 at first, ends below 0.35.
# 4. Best-of-n follows $d\,(\alpha - \beta d)$ closely, and its $\alpha$ is known beforehand; PPO follows no law
#    closely. More labels raise the curve and keep its shape.
# 5. Votes turn where gold does; a second model and the members of an ensemble do not. Ensembles soften the fall at
#    best, for twice the seconds; a price on KL prevents it, for none. None of these repairs the score.

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
# **3.** Four reward models agree on an answer almost exactly. Is the answer good?
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
# ## Where we are
#
# Here the pipeline part of the course ends, from labels to a policy. Imitation copies the average author (1).
# Preferences say what is better (2), and there are two ways to train on them: without a reward model (3 to 5), or
# with one (6), which is only as good as its labels (7). How far one goes is counted in nats (8), PPO goes there step
# by step (9, 10), and what separates it from DPO is which answers it gets to see (11). This chapter said what it all
# rests on: a proxy, and how far it carries. The failures that chapter 2 only showed in miniature, mode collapse,
# reward collapse and forgetting, are each one more thing that the proxy does not say; their chapters are still to
# come.
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
# **Held against samples.** Your lines, and dots from 20,000 samples each, with bars of two standard errors, in three
# worlds of 16 dimensions. The third is linear.

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
# `penalty` is 1 unless it is given, and counts only with `how="penalised"`. For a batch without answers return an
# empty tensor.
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
