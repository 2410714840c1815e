# Chapter 5. `prefcourse build 05` makes the three notebooks of this script; see prefcourse/build/script.py.

# %% [markdown] title
# # 5 · DPO Hyperparameters
#
# **Key insight.** $\beta$, learning rate and epochs are three handles on one thing: how far the policy goes from
# its reference, in nats of KL. That distance, more than the handle you pulled, decides what you get. With
# growing distance gold rises, always below the best that is possible, then peaks, and falls. So measure the
# distance and choose it. (Pulled too hard, a handle gives less for the same distance: a large learning rate does,
# and so does a large $\beta$.)
#
# **After this chapter you can**
# - measure a policy's KL from its reference, with its standard error, and say whose answers that needs;
# - draw the best reward possible at every KL without training anything;
# - say what each of the three settings does to the KL, and choose them by a small grid;
# - say which numbers of a DPO log cannot see that a policy has gone too far;
# - say what good settings have in common.
#
# **Time.** 45 minutes to read; all cells together take half a minute on one CPU core, a minute the first time.
#
# **Before.** Chapter 3 (the tilted optimum, $\log Z$, the implicit reward) and chapter 4 (sums of
# log-probabilities, the two curves of a DPO log).
#
# **How to read.** Most cells are preceded by a question in bold. Decide on an answer, run the cell, then read on.

# %% setup
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import torch

from prefcourse import evaluate, experiments, plots
from prefcourse.claims import claims
from prefcourse.evaluate import Estimate, FrontierPoint
from prefcourse.experiments.chapter05 import ASKED, pairs_of, rank_correlation, train_and_look
from prefcourse.lab import lab
from prefcourse.worlds import TableWorld

torch.set_num_threads(1)
plt.rcParams.update(plots.STYLE)
SEED = 0

# %% [markdown] run-text
# ## A run that looks better and better
#
# The reference and the pairs are those of chapter 4; the last hundred pairs are held out. We train with
# $\beta$ = 0.03 for eight epochs at a learning rate of 1e-3, twice as long as there and twice as fast. On the way we
# look at the policy eight times: at what a log shows, loss and accuracy on the *held-out* pairs, and at what no log
# shows, the gold of fresh answers.
#
# **Where would you stop? Guess the three curves: held-out loss, held-out accuracy, gold.**

# %% run
here = lab(SEED)
training, held_out = pairs_of(here)
looks = (0.5, 1, 1.5, 2, 3, 4, 6, 8)
run = list(train_and_look(here, training, held_out, beta=0.03, learning_rate=1e-3, looks=looks, seed=SEED))

# %% run-figure
figure, axes = plt.subplots(1, 3, figsize=(9.0, 2.9))
shown = {"held_out_loss": "held-out loss", "rewards/accuracies": "held-out accuracy", "gold": "gold reward"}
for ax, (name, words) in zip(axes, shown.items(), strict=True):
    plots.curves(ax, {words: (looks, [row[name] for row in run])}, xlabel="epochs", ylabel=words)
axes[0].set_title("The loss falls")
axes[1].set(title="The accuracy does not fall", ylim=(0.5, 0.85))
axes[2].set_title("Gold peaks early")
alt = """Three curves over eight epochs. The loss on held-out pairs falls nearly throughout. The accuracy on
    held-out pairs stays at about 0.62. Gold rises to above 1 within two epochs, then falls to about 0.8."""
plots.show(figure, alt=alt)

# %% run-claims
# NBVAL_IGNORE_OUTPUT
best, last = max(run, key=lambda row: row["gold"]), run[-1]
for row in (best, last):
    print(f"after {row['epochs']:g} epochs: gold {row['gold']:.2f}, KL {row['kl']:.1f} nats")
    print(*(f"   {here.prompts[n]} {text}" for n, text in zip(ASKED, row["texts"], strict=True)), sep="\n")
rose = {name: last[name] - best[name] for name in ("gold", "held_out_loss", "rewards/accuracies")}
claims({
    "gold is highest within the first three epochs": best["epochs"] <= 3,
    "it is then above 1, at a KL below 2 nats": best["gold"] > 1 and best["kl"] < 2,
    "and at least 0.3 lower at the end": rose["gold"] < -0.3,
    "since then the held-out loss has fallen by 0.02 and more": rose["held_out_loss"] < -0.02,
    "and the held-out accuracy has not (to 0.05: a hundred pairs)": rose["rewards/accuracies"] > -0.05,
    "the KL has become four times as large and more": last["kl"] > 4 * best["kl"],
})

# %% [markdown] run-after
# **Takeaway: no curve of the log says "stop", while the answers have been getting worse since the second epoch.**
# And this is not overfitting in the usual sense: loss and accuracy are those of held-out pairs.
#
# Why do they not see it? Because pairs consist of answers of the *reference*. The policy still tells those apart
# as well as before, and more confidently; it only no longer gives them. What it says instead ("a knife is a .") is in
# no pair. To judge a policy, look at its own answers.
#
# One number has shown all along that something was happening: the KL. It has become several times as large while
# gold fell.
#
# ## How far is it?
#
# The distance is $\mathrm{KL}(\pi, \pi_{\text{ref}})$ of chapter 3. A language model has too many answers to sum
# over. But the KL *is* a mean over answers of the policy:
#
# $$\mathrm{KL}(\pi, \pi_{\text{ref}}) = \sum_y \pi(y)\,\log\frac{\pi(y)}{\pi_{\text{ref}}(y)}
# = \mathbb{E}_{y \sim \pi}\left[\log\frac{\pi(y)}{\pi_{\text{ref}}(y)}\right]$$
#
# So draw $n$ answers from the policy, take their log-ratios (sums over the tokens, as in chapter 4), and
# average. The mean of $n$ independent draws misses the true mean by about their standard deviation over
# $\sqrt n$: that is its **standard error**. In 95 of 100 cases the truth lies within 1.96 of them.
#
# A table with fifty answers lets us test this: there the KL is known exactly. We draw 64 answers, two hundred
# times over. **How many of the two hundred intervals will miss? And what comes out if we draw from the
# reference instead?**


# %% kl
def kl_and_error(log_ratios):
    """From the log-ratios of answers that the policy drew (the last axis)."""
    return log_ratios.mean(-1), log_ratios.std(-1) / log_ratios.shape[-1] ** 0.5


world = TableWorld.random(prompts=1, responses=50, seed=SEED)
policy, log_ratio = world.optimum(1.0), world.log_ratio(world.optimum(1.0))[0]
draw, exact = torch.Generator().manual_seed(SEED), world.kl(policy)
drawn = world.sample(policy, 200 * 64, generator=draw)[0].view(200, 64)
estimates, errors = kl_and_error(log_ratio[drawn])
misses = (estimates - exact).abs() > 1.96 * errors
from_reference, _ = kl_and_error(log_ratio[world.sample(world.ref_logits, 200 * 64, generator=draw)[0]])

# %% kl-figure
figure, ax = plt.subplots(figsize=(8.0, 2.6))
sixty = list(map(Estimate, estimates[:60].tolist(), errors[:60].tolist()))
plots.intervals(ax, sixty, truth=exact, xlabel="draw of 64 answers", ylabel="KL (nats)")
ax.set_title("Sixty of the intervals; the line is the exact KL")
plots.show(figure, alt="Sixty intervals around a line. Nearly all cross it; those that miss it are red.")
print(f"{misses.sum()} of 200 intervals miss the exact KL of {exact:.2f}")
print(f"the mean log-ratio of the reference's answers is {from_reference:.2f}")
claims({
    "the intervals hold the exact KL in 90 to 98 % of the draws": 0.02 <= misses.double().mean() <= 0.10,
    "over all draws the estimate is right to within 3 %": (estimates.mean() / exact - 1).abs() < 0.03,
    "from the reference's answers the mean log-ratio is below 0": from_reference < 0,
})

# %% [markdown] kl-after
# About one in twenty misses, as promised. Do not expect too much of a single estimate: a KL is never negative, but
# where it is small its estimate may be.
#
# From answers of the *reference* the same mean is negative: it is $-\mathrm{KL}(\pi_{\text{ref}}, \pi)$, another
# quantity. That is why a DPO log cannot contain the KL. Its log-ratios are those of chosen and rejected
# responses, which the policy did not draw. The KL costs samples. They need no labels and no judge.
#
# (In chapter 9 you meet estimators of the same number with smaller errors.)
#
# ## The best that is possible
#
# Is a gold of 1.2 at one nat much? It depends on what *any* policy could have at that KL. Chapter 3 knows the
# answer: the optimum $\pi^* = \pi_{\text{ref}}\,e^{r/\beta}/Z$ has the highest $\mathbb{E}[r] - \beta\,
# \mathrm{KL}$, so none with its KL has more reward. Each $\beta$ gives one such point. Neither of its coordinates
# needs a sample of $\pi^*$; samples of the reference, reweighted by the tilt, are enough. All points together are
# called the **frontier**; chapter 8 walks along it.
#
# $$\mathbb{E}_{\pi^*}[r] = \sum_y \pi_{\text{ref}}(y)\,\frac{e^{r(y)/\beta}}{Z}\,r(y)
# \;\approx\; \sum_{i=1}^n w_i\,r_i ,\qquad w_i = \frac{e^{r_i/\beta}}{\sum_j e^{r_j/\beta}}$$
#
# The log-ratio of the optimum is $r/\beta - \log Z$; its mean is the KL:
#
# $$\mathrm{KL}(\pi^*, \pi_{\text{ref}}) = \frac{\mathbb{E}_{\pi^*}[r]}{\beta} - \log Z ,\qquad
# Z \approx \frac1n \sum_i e^{r_i/\beta}$$
#
# If one weight takes all, the sample describes one lucky answer, not the optimum. The usual measure is the
# **effective sample size** $1/\sum_i w_i^2$: $n$ where all weights are equal, 1 where one has everything. First
# in the table, against the exact sums. **Below which $\beta$ are 256 answers no longer enough?**


# %% frontier
def optimum_from_samples(gold, beta):
    """Reward, KL, effective sample size, from the gold (P, n) of n answers of the reference per prompt."""
    weights = (gold / beta).softmax(-1)  # each prompt has its own Z
    reward = (weights * gold).sum(-1)
    log_z = (gold / beta).logsumexp(-1) - np.log(gold.shape[-1])
    columns = reward, reward / beta - log_z, 1 / weights.square().sum(-1)
    return FrontierPoint(beta, *(column.mean().item() for column in columns))


seen = world.reward[0][world.sample(world.ref_logits, 256, generator=draw)]  # (1, 256)
print("beta     KL (exact)    reward (exact)   effective sample size")
for beta in (5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05):
    _, reward, kl, size = optimum_from_samples(seen, beta)
    exact_kl, exact_reward = (column.item() for column in world.frontier([beta]))
    print(f"{beta:<5}  {kl:.2f} ({exact_kl:.2f})      {reward:.2f} ({exact_reward:.2f})  {size:17.0f}")

# %% [markdown] frontier-after
# With some tens of effective samples the two agree; below ten, do not trust it. (The estimate cannot see answers that
# were not drawn: no KL above $\log n$, no reward above the best one drawn.)
#
# Now PocketWorld, where no sum is possible: the same function on 64 answers of the reference to each of the 128
# prompts. Nothing is trained. The best answer to any prompt has a gold of 2.7. **Our run got from a gold of 0.5 to
# more than 1, within two nats. What could it have had there?**

# %% pocket
# NBVAL_IGNORE_OUTPUT
drawn = evaluate.sample_gold(here.sft, here.tokenizer, here.world, here.prompts, samples=64, seed=SEED)
gold_of_reference = drawn.double()  # (128, 64)
tried = (20.0, 5.0, 2.0, 1.0, 0.7, 0.5, 0.4, 0.2)
frontier_here = [optimum_from_samples(gold_of_reference, beta) for beta in tried]
for point in frontier_here:
    print("beta {:>4}   gold {:.2f}   KL {:.2f}   effective sample size {:.0f}".format(*point))
possible = np.interp(best["kl"], [p.kl for p in frontier_here], [p.reward for p in frontier_here])
print(f"our run: gold {best['gold']:.2f} at KL {best['kl']:.2f}, where {possible:.2f} is possible")

# %% [markdown] grid-text
# Our run gained about half of what is possible at its KL. (Of the smallest $\beta$ only a few effective samples are
# left: do not trust that row.)
#
# ## The grid
#
# Now all three settings: five $\beta$, five learning rates, and looks after 1, 2, 4 and 8 epochs, for three seeds (each
# with its own reference, pairs and order). That takes eight minutes, so it was computed before, by
# `prefcourse build --figures 05_grid`; settings, seeds and the versions of libraries are kept beside the
# results. Is it to be believed? The run that you just made is one of the 75.
#
# One thing to know: the learning rate of a run falls to 0 over its eight epochs, as a cosine. "After 2 epochs" is
# a look on the way, and not a run planned for two epochs.

# %% grid
grid = experiments.record("05_grid")
settings, parts = grid["parts"][0], grid["results"]
betas, rates, epochs = settings["betas"], settings["learning_rates"], settings["looks"]
found = {(p["seed"], r["beta"], r["learning_rate"], r["epochs"]): r for p in parts for r in p["rows"]}


def cube(name):
    keys = product(range(3), betas, rates, epochs)
    return np.array([found[key][name] for key in keys]).reshape(3, len(betas), len(rates), len(epochs))


gold, kl = cube("gold"), cube("kl")  # (seed, beta, learning rate, epochs)
pairs_of_rows = [(row, found[SEED, 0.03, 1e-3, row["epochs"]]) for row in run if row["epochs"] in epochs]
differs = max(abs(live["gold"] - kept["gold"]) for live, kept in pairs_of_rows)
claims({"your run and the one in the grid differ by less than 0.2 of gold at each look": differs < 0.2})

# %% [markdown] heat-text
# First as tables. **Which learning rate will be best after one epoch, and which after eight? In the table of the
# KL: in which direction does it grow faster, along $\beta$ or along the learning rate?**

# %% heat-figure
figure, axes = plt.subplots(2, 2, figsize=(8.8, 6.6))
start = np.mean([p["reference"]["gold"] for p in parts])
gold_scale = {"limits": (-1.2, 1.3), "centre": start}
names = {"rows": ("beta", betas), "columns": ("learning rate", rates)}
for column, look, after in ((0, 0, "after 1 epoch"), (1, 3, "after 8 epochs")):
    gold_there, kl_there = (table.mean(0)[:, :, look] for table in (gold, kl))
    plots.heat_map(axes[0, column], gold_there, label=f"gold {after}", **gold_scale, **names)
    plots.heat_map(axes[1, column], kl_there, label=f"KL {after}", limits=(0.03, 30), log=True, **names)
alt = """Four tables, beta down and learning rate across. Gold after one epoch is highest at 1e-3 and 2e-3,
    after eight at 2.5e-4, and far below the reference at 4e-3 with a small beta. The KL grows from left to
    right, fifteen to eighty times, and from bottom to top, after eight epochs five to twenty-five times."""
plots.show(figure, alt=alt)

# %% heat-claims
mean_gold, mean_kl = gold.mean(0), kl.mean(0)  # (beta, learning rate, epochs)
best_rate = [rates[np.unravel_index(mean_gold[:, :, look].argmax(), (5, 5))[1]] for look in range(4)]
peak = [mean_gold[:, :, look].max() for look in range(4)]
print("best learning rate after", dict(zip(epochs, best_rate, strict=True)))
print("gold with it:", [f"{x:.2f}" for x in peak])
claims({
    "the more epochs, the smaller the best learning rate": best_rate == sorted(best_rate, reverse=True),
    "after eight it is at most a quarter of that after one": best_rate[3] <= best_rate[0] / 4,
    "but the gold to be had differs by less than 0.15": max(peak) - min(peak) < 0.15,
    "4e-3: gold is lower after two epochs than after one": (mean_gold[:, 4, 1] < mean_gold[:, 4, 0]).all(),
    "1e-3, to beta 0.3: lower after four than after two": (mean_gold[:3, 2, 2] < mean_gold[:3, 2, 1]).all(),
})

# %% [markdown] heat-after
# **Takeaway: there is no best learning rate and no best number of epochs; what counts is, roughly, their product.**
# Eight times the epochs want a fraction of the learning rate, and end with about the same gold; with a larger learning
# rate gold peaks earlier, and falls. The KL grows with both, and much faster with the learning rate than with a smaller
# $\beta$.
#
# The tables go together: wherever the KL is about half a nat to one nat, gold is high, whatever the row and column.
# So let us forget the settings and draw gold against KL.
#
# ## The grid in the plane
#
# A hundred settings, each a point, under what is possible. **Will they fill an area, or lie on a line?**

# %% plane-figure
points = [[FrontierPoint(**row) for row in p["frontier"]] for p in parts]
frontier = [FrontierPoint(*np.mean(same_beta, axis=0)) for same_beta in zip(*points, strict=True)]
keys = list(product(betas, rates, epochs))
handles, flat_kl, flat_gold = np.array(keys), mean_kl.ravel(), mean_gold.ravel()
figure, ax = plt.subplots(figsize=(8.6, 4.6))
looks = {"colour": ("learning rate", handles[:, 1]), "marker": ("beta", handles[:, 0])}
plots.grid_in_plane(ax, flat_kl, flat_gold, **looks, frontier=frontier, reference=start)
ax.set_title("A hundred settings, one line, and what falls below it")
alt = """Gold against KL, on a square-root axis. The exact optimum rises steeply to 2.5. The settings rise
    less steeply, to 1.2 between a third of a nat and one and a half, and then fall, to below the reference
    beyond twelve nats. Up to one nat most lie on one line, beta 3 below it; beyond, large learning rates
    lie lowest."""
plots.show(figure, alt=alt)

# %% [markdown] plane-text
# They rise below the optimum, turn away from it, and fall. Is it one line? Take two settings with different
# $\beta$ *and* different learning rates that happen to have nearly the same KL (to 10 %). **How much do their golds
# differ?** (The last line printed says how much of that comes from the sampling of answers alone.)


# %% plane-claims
def gold_apart(which):
    """Between settings with the same KL, but another beta and another learning rate."""
    i, j = np.triu_indices(len(keys), 1)
    same_kl = abs(np.log(flat_kl[i] / flat_kl[j])) < 0.1
    unlike = (handles[i, :2] != handles[j, :2]).all(1)
    return abs(flat_gold[i] - flat_gold[j])[same_kl & unlike & which[i] & which[j]]


moderate = (handles[:, 0] <= 0.3) & (handles[:, 1] <= 2e-3)
apart = {"moderate": gold_apart(moderate), "all": gold_apart(handles[:, 0] > 0)}
for name, gaps in apart.items():
    print(f"{name:>8} settings: median difference {np.median(gaps):.2f}, largest {gaps.max():.2f}")
error = np.sqrt((cube("gold_se") ** 2).sum(0)) / 3  # of the mean over seeds
print(f"the standard error of one gold, below 3 nats: {error[mean_kl < 3].max():.2f} at most")

# %% one-line
optimum = [p.kl for p in frontier], [p.reward for p in frontier]
possible, at_one_nat = np.interp(flat_kl, *optimum), np.interp(1, *optimum)
share = ((flat_gold - start) / (possible - start))[moderate & (flat_kl < 1)]
best_ten, (near, any_two) = flat_kl[flat_gold.argsort()[-10:]], apart.values()
claims({
    "moderate, same KL: median below 0.06, largest below 0.15": np.median(near) < 0.06 and near.max() < 0.15,
    "all, same KL: median above 0.1, largest above 0.4": np.median(any_two) > 0.1 and any_two.max() > 0.4,
    "the ten with most gold lie between 0.3 and 1.6 nats": 0.3 < best_ten.min() and best_ten.max() < 1.6,
    "at one nat 1.8 is possible, and no setting reaches 1.3": flat_gold.max() < 1.3 and at_one_nat > 1.8,
    "moderate, below 1 nat: 45 to 75 % of the possible gain": 0.45 < share.min() and share.max() < 0.75,
    "beyond 12 nats gold is lower than before training": (flat_gold[flat_kl > 12] < start).all(),
    "no setting lies above the optimum": (flat_gold < possible + 0.05).all(),
})

# %% [markdown] plane-after
# **Takeaway: with moderate settings the KL alone tells the gold, to about 0.1.** "Moderate" is a $\beta$
# up to 0.3 and a learning rate up to 2e-3. How the policy came to its place matters little.
#
# "One frontier" is nearly true, then, with three reservations.
#
# 1. It is not *the* frontier. Up to one nat moderate settings have about half to three quarters of the possible gain.
#    Then the optimum goes on rising, and they turn. The labels are few and noisy, and what the policy learns beyond that
#    point holds for the answers in the pairs only.
# 2. A **learning rate that is too large** pays more nats for less gold. At 4e-3 every setting lies below the line, as
#    far as there is one (beyond six nats the points scatter), and at 2e-3 they lie a little below those with smaller
#    steps and more epochs.
# 3. A **large $\beta$** does so as well, which may surprise you. It asks for small log-ratios, gets them, and then goes
#    on to fit single noisy labels. That is overfitting in the usual sense, and here the log does show it: at
#    $\beta = 3$ and a learning rate of 1e-3 the loss on held-out pairs rises from the first epoch on.


# %% below
def below_line(through, these):
    """How far some settings lie below the line through others, in gold."""
    order = flat_kl[through].argsort()
    line = np.interp(flat_kl, flat_kl[through][order], flat_gold[through][order])
    return (line - flat_gold)[these]


rate, held_out_loss = handles[:, 1], cube("held_out_loss").mean(0)[:, 2]  # (beta, epochs), at 1e-3
fast = below_line(moderate, (rate == 4e-3) & (flat_kl < 6))
medium = below_line(moderate & (rate <= 5e-4), moderate & (rate == 2e-3) & (flat_kl < 3))
claims({
    "4e-3, up to six nats: all 0.1 and more below the line": fast.min() > 0.1,
    "2e-3, on average: 0.03 to 0.15 below that of the smallest rates": 0.03 < medium.mean() < 0.15,
    "at beta 3 the held-out loss rises from the first epoch on": (np.diff(held_out_loss[4]) > 0).all(),
    "at beta 0.03 it falls to the end": (np.diff(held_out_loss[0]) < 0).all(),
})

# %% [markdown] handles-text
# ## What each handle does
#
# In theory (chapter 3) $\beta$ alone decides how far the optimum is from the reference. Learning rate and epochs do
# not occur in it. **In the grid, by how much does the KL change if you double $\beta$? The learning rate? The
# epochs?** A straight line through the logarithms tells:
#
# $$\log \mathrm{KL} \approx c + a_1 \log\beta + a_2 \log(\text{learning rate}) + a_3 \log(\text{epochs})$$
#
# Then doubling a setting multiplies the KL by $2^a$.

# %% handles
design = np.column_stack([np.ones(len(keys)), np.log(handles)])
_, *exponents = np.linalg.lstsq(design, np.log(flat_kl), rcond=None)[0]
for name, exponent in zip(("beta", "learning rate", "epochs"), exponents, strict=True):
    print(f"doubling the {name:<13} multiplies the KL by {2**exponent:.1f}")
leash = mean_kl[0] / mean_kl[2]  # KL at beta 0.03 over KL at 0.3, (learning rate, epochs)
claims({
    "doubling the learning rate: 2.2 to 2.8 times the KL": 2.2 < 2 ** exponents[1] < 2.8,
    "doubling the epochs: 1.7 to 2.2 times": 1.7 < 2 ** exponents[2] < 2.2,
    "doubling beta: 0.7 to 0.9 times": 0.7 < 2 ** exponents[0] < 0.9,
    "after one epoch beta 0.03 and beta 0.3 are equally far, to 25 %": (abs(leash[:, 0] - 1) < 0.25).all(),
    "after eight, from a learning rate of 5e-4 on, they are not: more than twice": (leash[1:, 3] > 2).all(),
})

# %% [markdown] handles-after
# **Takeaway: learning rate times epochs is the road that the policy walks; $\beta$ is the leash, and on a short walk it
# hangs loose.** The table of the KL after one epoch has nearly equal rows. After eight epochs the leash is tight, the
# tighter the larger $\beta$.
#
# All these runs end long before the optimum of chapter 3; what stops most of them is that training stops. So whoever
# tries several $\beta$ with a small learning rate finds that it does not matter, and with a large one that it matters
# much. Both are right about their own runs.
#
# ## What a log does not say
#
# Here are five runs as a log shows them, one per $\beta$, with a learning rate of 1e-3, after eight epochs. The log's
# `rewards` are $\beta$ times log-ratios, on held-out pairs. To the right stand the log-ratios themselves, in nats.
# **By the log alone, which run went furthest?**

# %% log
logged = ("rewards/chosen", "rewards/rejected", "rewards/accuracies", "kl", "gold")
at_the_end = np.transpose([cube(name).mean(0)[:, 2, 3] for name in logged])  # (beta, 5), at 1e-3
print("           the log: margin  accuracy  |  in nats: chosen  rejected    KL  |  gold")
for beta, (chosen, rejected, accuracy, far, good) in zip(betas, at_the_end, strict=True):
    print(f"beta {beta:<4g} {chosen - rejected:15.2f} {accuracy:9.2f}  |", end=" ")
    print(f"{chosen / beta:15.1f} {rejected / beta:8.1f} {far:7.1f}  | {good:5.2f}")
chosen, rejected, _, far, _ = at_the_end.T
smallest = (chosen - rejected).argmin()
claims({
    "the smallest margin belongs to the largest KL": smallest == far.argmax(),
    "and to chosen responses e^10 times rarer": chosen[smallest] / betas[smallest] < -10,
})

# %% [markdown] log-question
# The run with the smallest margin is the one that ran away. Rewards are multiplied by $\beta$, and so is
# everything alarming in them. **Divide by $\beta$ before you compare two logs**, or read `logps/chosen`, which is in
# nats. (If nobody wrote $\beta$ down, the log still knows it. Exercise 5.3 reads it off.)
#
# Now all settings of each seed. Which number would have warned you? We compare rankings: a *rank correlation* is 1 if
# two numbers put the settings into the same order, -1 for the opposite order, 0 if one says nothing about the other.
# Up to one nat gold rises with the KL, and there is nothing to warn of. So take the settings beyond one nat, about half
# of them. **Which of four will be near 0 with gold: held-out accuracy, held-out loss, log-probability of the chosen
# responses, KL?**

# %% log-claims
with_gold = {}
for name in ("rewards/accuracies", "held_out_loss", "logps/chosen", "kl"):
    seeds = zip(cube(name), gold, kl > 1, strict=True)
    with_gold[name] = [rank_correlation(numbers[far], golds[far]) for numbers, golds, far in seeds]
    print(f"{name:>18} and gold, beyond one nat, three seeds:", *(f"{x:+.2f}" for x in with_gold[name]))
with_kl = [rank_correlation(*both) for both in zip(cube("logps/chosen"), kl, strict=True)]
print(f"{'logps/chosen':>18} and KL, all settings, three seeds:", *(f"{x:+.2f}" for x in with_kl))
blind = np.abs([with_gold["rewards/accuracies"], with_gold["held_out_loss"]])
claims({
    "accuracy and loss say little about gold (below 0.4)": blind.max() < 0.4,
    "the KL says nearly all: gold falls in its order (beyond -0.8)": max(with_gold["kl"]) < -0.8,
    "chosen responses say much of it (above 0.6)": min(with_gold["logps/chosen"]) > 0.6,
    "they fall in the KL's own order (beyond -0.9)": max(with_kl) < -0.9,
})

# %% [markdown] log-after
# **Takeaway: beyond one nat gold falls nearly in the order of the KL, and accuracy and loss do not see it. How far the
# chosen responses have fallen tells the KL, and it is in every log.**
#
# This is the likelihood displacement of chapter 4. There the chosen responses had fallen by about one nat, and the
# effect was good. At $\beta$ = 0.03 they fall by ten and more here, and it no longer is: the probability goes to
# answers that nobody compared, such as "a knife is a .". A fall by a nat or two is usual; a fall by ten is the mark of
# a run that has left the region where its labels say anything.
#
# ## Choose
#
# Suppose one seed is all you have. You measure a hundred settings, and one has the highest gold. But golds have
# errors, and that of a difference is the root of the sum of both errors' squares. **How many of the hundred cannot be
# told from the best, that is, lie within two errors of it? And what do they have in common?**


# %% choose
def as_good_as_the_best(gold, errors):
    best = gold.argmax()
    return gold > gold[best] - 2 * np.hypot(errors, errors[best])  # (100,): the error of each difference


for seed in range(3):
    golds, errors, far = (numbers[seed].ravel() for numbers in (gold, cube("gold_se"), kl))
    good = as_good_as_the_best(golds, errors)
    print("seed {}: best at beta {:g}, learning rate {:g}, {} epochs.".format(seed, *keys[golds.argmax()]))
    print(f"   {good.sum()} are as good. Their KL: {far[good].min():.1f} to {far[good].max():.1f}")
    claims({
        "ten or more settings are as good as the best": good.sum() >= 10,
        "among them at least three values of each handle": min(len(set(h)) for h in handles[good].T) >= 3,
        "and a beta of 0.03": 0.03 in handles[good, 0],
        "their KL is between 0.25 and 2.5 nats": 0.25 < far[good].min() and far[good].max() < 2.5,
    })

# %% [markdown] choose-after
# **Takeaway: good settings have in common neither $\beta$ nor learning rate nor epochs, but their KL.** "We tuned the
# hyperparameters, and $\beta$ = 0.3 is best" means little when $\beta$ = 0.03 is among the best as well, with
# smaller steps.
#
# What to do, then, without a program that computes gold:
#
# 1. Take a moderate $\beta$ (0.1) and a small learning rate, and train for longer than seems necessary. Keep policies
#    on the way.
# 2. Draw a few hundred answers of each and estimate the KL, with its error. That needs no judge.
# 3. Let people (or a judge that you trust) compare the answers of three or four policies at KLs that double each
#    time. Their answers decide where on the road to stop; the pairs of the training set cannot.
# 4. Of policies that cannot be told apart take the one with the smallest KL: it has forgotten least (chapter 2's fourth
#    failure).
# 5. Report the KL with every result, and more than one seed.

# %% [markdown] play-text
# ## Play
#
# All runs of seed 0. Move a handle and watch where the point goes, and what the policy says there. **Find three
# settings with a KL near one nat that share no handle's value. Then find what a learning rate of 4e-3 does to the
# answers.** The button trains the run once more, with another seed, for a few seconds: how far apart do two seeds
# lie?

# %% play
from prefcourse.widgets.chapter05 import choose_a_point


def again(seed, beta, learning_rate, epochs):
    chosen = {"beta": beta, "learning_rate": learning_rate, "looks": settings["looks"], "seed": SEED + seed}
    rows = train_and_look(here, training, held_out, **chosen)
    return next(row for row in rows if row["epochs"] == epochs)


frames = {key: found[0, *key] for key in keys}
start_at = {"beta": 0.03, "learning_rate": 1e-3, "epochs": 2}
asked = [here.prompts[n] for n in ASKED]
controls = {"beta": betas, "learning_rate": rates, "epochs": epochs}
choose_a_point(again, frames, frontier=points[0], prompts=asked, start=start_at, **controls)

# %% [markdown] summary
# ## In five lines
#
# 1. $\mathrm{KL}(\pi, \pi_{\text{ref}})$ is the mean log-ratio of the *policy's own* answers; give it with its standard
#    error.
# 2. The best reward at each KL needs no training: reweight answers of the reference by $e^{r/\beta}$, and look at the
#    effective sample size.
# 3. With moderate settings the KL alone decides the gold: it rises below the optimum, peaks near one nat here, and
#    falls.
# 4. Learning rate times epochs is the road, $\beta$ the leash; in short runs the leash hangs loose.
# 5. Held-out loss and accuracy are about the reference's answers, and do not see a policy that has left them. The KL
#    does, and so do the log-probabilities of chosen responses, in nats.

# %% [markdown] questions
# ## Three questions
#
# **1.** A colleague halves the learning rate, doubles the epochs, and reports that $\beta$ = 0.1 is now better than
# 0.3. What would you ask first?
#
# <details><summary>Answer</summary>
#
# For the KL of all four runs, with errors, and for other seeds. The product of learning rate and epochs is the same, so
# the KL should be about the same. Then 0.1 against 0.3 may be no more than noise between two settings which
# arrive at the same place.
# </details>
#
# **2.** You may not sample from the policy (it is large, and the machine is booked). What in the log tells you most
# about whether it went too far?
#
# <details><summary>Answer</summary>
#
# `logps/chosen` (or `rewards/chosen` over $\beta$) on held-out pairs, against its value before training. A fall by a
# nat or two is usual; one by ten says that the policy has left the answers about which the labels speak. Neither loss
# nor accuracy tells, and rewards do only after division by $\beta$.
# </details>
#
# **3.** At one nat a gold of more than 1.8 is possible, and no setting reaches 1.3. Where is the difference lost? Name
# two places, and an experiment for each.
#
# <details><summary>Answer</summary>
#
# In the labels: twenty people with noise and biases, some 900 pairs. Train on labels without noise, or on four
# times as many pairs. And in the method: the pairs, drawn once and before training, speak of the reference's
# answers only. Draw new pairs from the policy on the way (online DPO, chapter 11). A larger model would be a third.
# </details>

# %% [markdown] classical
# ## The classical results beside ours
#
# | | published | here | why they differ |
# |---|---|---|---|
# | direct alignment over-optimises (chapter 12), with no reward model to be hacked | gold falls at larger KL, {{published:daa-early}} | gold falls beyond a KL of one or two nats: in the second epoch at a learning rate of 4e-3, after the second at 1e-3 | epochs count only together with the learning rate; ours have fifteen steps |
# | the smaller $\beta$, the larger the KL | 2406.02900; 2305.18290 draws its frontier by $\beta$ | so it is, but learning rate and epochs move the KL more | we stop long before the optimum of chapter 3; whoever trains at one learning rate sees $\beta$ alone |
# | likelihood displacement | {{published:dpo-displaced-refusals}} of refusals: probability went to the opposite | chosen responses became rarer by ten nats and more; probability went to answers that no pair contains | theirs is a matter of which answers resemble each other, ours of going too far |
# | DPO's usual settings | {{published:dpo-settings}} | many combinations near one nat are as good as the best | a model of a hundred thousand parameters tolerates a thousand times the learning rate |

# %% [markdown] further
# ## Further reading
#
# - Over-optimisation in direct alignment: arXiv 2406.02900. The one to read.
# - Likelihood displacement: arXiv 2410.08847
# - The same curve for reward models: arXiv 2210.10760 (chapter 12)
# - DPO: arXiv 2305.18290, section 6 for its reward-KL frontier
# - A loss that bounds how far DPO goes: IPO, arXiv 2310.12036
#
# **Next:** exercises 5.1 to 5.3, in `exercises/05_dpo_hyperparameters.ipynb`. Then chapter 6: the reward model that
# DPO does without.
# %% [exercises]
# %% [markdown] title
# # 5 · Exercises: the distance, the front, and a log without its beta
#
# Three functions, about an hour. Write each body, run the cell, then run its check. After each check the function
# is put to use: on answers of a policy that trains before your eyes, and on the chapter's grid.
#
# A check prints tensors as lists; to try such a case yourself, wrap each list in `torch.tensor(...)`. Letters in
# the signatures are sizes: B rows, T columns (tokens).
#
# Stuck? Open the hints one at a time. The solved notebook is in `solutions/`, under the same name. In a
# terminal `prefcourse check 5` checks what you saved, and `prefcourse reset 5.1` gives you an exercise afresh.

# %% setup
import math

import matplotlib.pyplot as plt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from prefcourse import evaluate, experiments, models, plots, train
from prefcourse.backbone import response_logprobs
from prefcourse.checks import NotWritten, check
from prefcourse.evaluate import Estimate, FrontierPoint
from prefcourse.experiments.chapter05 import pairs_of
from prefcourse.lab import lab
from prefcourse.train.supervised import steps_in

torch.set_num_threads(1)
plt.rcParams.update(plots.STYLE)

# %% [markdown] question-5-1
# **How far is a policy from its reference, and how sure is that?** B answers were drawn from the policy. Given are
# the log-probabilities of their tokens under policy and reference, and a mask that is true on the tokens of the
# answers. Return two numbers: the estimate of $\mathrm{KL}(\pi, \pi_{\text{ref}})$ in nats per response, and its
# standard error. (A tuple will do; `Estimate(mean, standard_error)` is one with names.)
#
# - A row's log-ratio is the *sum* over its tokens. Rows are independent draws; tokens of one row are not.
# - The standard error is that of the mean of the rows; in the variance, divide the squares by n - 1. For a single row
#   it is `nan`. (`torch.std` does both by itself; on a single row it also warns, which does not matter.)
# - Padding may stand on both sides and hold anything, even `nan` or `-inf`. None of it may count.
# - An empty response has log-ratio 0 and counts as a row.
# - A single estimate may be negative. Log-ratios go up to 10,000.
#
# The last two cases are of another kind: they call your function on 200 draws of 60 answers each, from a policy
# whose exact KL is known, and count how often *estimate ± 1.96 errors* holds it. (Shown are the probabilities of
# three words under policy and reference; the third ends the answer.)
#
# By hand first: two rows, with log-ratios 0.5 and 0.5 in the first, and 3 in the second. What are estimate and
# error?


# %% answer-5-1
from prefcourse.evaluate import kl_estimate

# %% [markdown] use-5-1-text
# **Measure a run.** DPO trains TinyLM for four epochs, with a learning rate too large for so many, and after each epoch
# your function measures how far it has come. **How much more do 512 answers tell you than 32?** (An error is an estimate, too: among 32 answers there may be none of the rare ones that lie far off. The first
# time, this cell also trains the reference, for half a minute.)


# %% distance
def distance(policy, prompts):
    (drawn,) = evaluate.rollouts(policy, here.tokenizer, prompts, samples=1, seed=0, batch_size=1000)
    rows = drawn.sequences.left_aligned()
    with torch.no_grad():
        now, before = (response_logprobs(model, rows) for model in (policy, here.sft))
    mean, error = kl_estimate(now, before, rows.response_mask)
    return float(mean), 1.96 * float(error)


# %% use-5-1
# NBVAL_IGNORE_OUTPUT
if check("5.1", kl_estimate).passed:
    here = lab(seed=0)
    policy, (training, _) = models.trainable_copy(here.sft), pairs_of(here)
    loop = train.dpo(policy, here.sft, here.tokenizer, training, beta=0.1, epochs=4, learning_rate=2e-3, seed=0)
    an_epoch = steps_in(1, len(training), 64)
    for step, _ in enumerate(loop, 1):
        if step % an_epoch == 0:
            few, many = (distance(policy, prompts) for prompts in (here.prompts[::4], here.prompts * 4))
            words = "epoch {}: KL {:.1f} ± {:.1f} from 32 answers, {:.1f} ± {:.1f} from 512"
            print(words.format(step // an_epoch, *few, *many))
else:
    print("Here your function will measure a run, once 5.1 is solved.")

# %% [markdown] question-5-2
# **Which runs are worth considering?** Each has a KL (less is better) and a gold (more is better). One run *beats*
# another if it is no worse in both and better in at least one. Return for each run, in the order given, whether it is
# on the **Pareto front**: whether no other run beats it.
#
# - Runs come in any order, and may share their KL or their gold. Of two equal runs neither beats the other.
# - A run that was lost has `nan` as KL or gold. It is not on the front, and beats nobody.
# - No runs: an empty list.
#
# By hand first: KL 1, 2, 3, 4 and gold 0.5, 1.0, 0.8, 1.2. Which one is not on the front?


# %% answer-5-2
def pareto_front(kl: list[float], gold: list[float]) -> list[bool]:
    """Which runs does no other beat: with no more KL and no less gold, and better in one of them?
    A run with nan is not on the front and beats nobody."""
    runs = list(zip(kl, gold, strict=True))

    def beats(a, b):
        return a[0] <= b[0] and a[1] >= b[1] and a != b  # false if one of them is nan

    return [not math.isnan(sum(run)) and not any(beats(other, run) for other in runs) for run in runs]


# %% [markdown] use-5-2-text
# **The front of the grid.** The hundred settings of the chapter, seed 0, and your front. **At which KL will it end?
# Which $\beta$ and which learning rates will be on it?**

# %% use-5-2
kept = experiments.load("05_grid")[0]
rows, frontier = kept["rows"], [FrontierPoint(**row) for row in kept["frontier"]]
try:
    on_front = pareto_front([row["kl"] for row in rows], [row["gold"] for row in rows])
    front = sorted((row for row, on in zip(rows, on_front, strict=True) if on), key=lambda row: row["kl"])
    figure, ax = plt.subplots(figsize=(7.6, 3.8))
    plots.grid_in_plane(ax, [r["kl"] for r in rows], [r["gold"] for r in rows], frontier=frontier)
    ax.plot([r["kl"] for r in front], [r["gold"] for r in front], "o-", color=plots.POLICY, label="your front")
    ax.legend()
    plots.show(figure, alt="The settings in grey under the exact optimum; your front joins those that none beats.")
    print(f"{len(front)} of {len(rows)} settings, from a KL of {front[0]['kl']:.2f} to one of {front[-1]['kl']:.2f}")
    for name in ("beta", "learning_rate", "epochs"):
        print(f"{name:>13} on it:", *(f"{value:g}" for value in sorted({row[name] for row in front})))
except NotWritten as missing:
    print(missing)

# %% [markdown] question-5-3
# **With which beta was this run trained?** Nobody wrote it down, but there is a log: a list of dicts, one per look,
# with TRL's names, all measured on the same held-out pairs.
#
# `{"step": 0, "loss": ..., "rewards/chosen": ..., "rewards/rejected": ..., "rewards/accuracies": ...,
# "logps/chosen": ..., "logps/rejected": ...}`
#
# `logps` are log-probabilities of whole responses under the policy, and `rewards` are `beta` * (log policy - log
# reference); each is a mean over the pairs. The reference's log-probabilities are not in the log.
#
# - The first row need not be from before training, and the last may be back where the first was.
# - One of the two responses may not have moved at all; one may have risen while the other fell, or both have fallen
#   by the same amount.
# - Logs are rounded. In one case all numbers have two digits after the point, and your `beta` must be right within
#   5 %: rows that moved far tell more than rows that hardly moved.
# - Where nothing moved, in a log with one row or none, nobody can know: `nan`.
#
# By hand first: in the first row `logps/chosen` is -9 and `rewards/chosen` 0; in the second they are -11 and -0.2.


# %% answer-5-3
def which_beta(log: list[dict[str, float]]) -> float:
    """With which beta was the run of this log trained? nan if nothing moved."""
    above = below = 0.0
    for side in ("chosen", "rejected"):
        for row in log[1:]:
            moved = row[f"logps/{side}"] - log[0][f"logps/{side}"]  # the reference cancels
            above += moved * (row[f"rewards/{side}"] - log[0][f"rewards/{side}"])
            below += moved**2
    return above / below if below else math.nan


# %% [markdown] use-5-3-text
# **Five logs without a beta.** They are runs of the grid, with a learning rate of 1e-3, shuffled. **Whose margin will
# be largest at the end: that of the run which went furthest, or another's?**

# %% use-5-3
logs = {}
for name, beta in zip("ABCDE", (0.3, 3.0, 0.03, 1.0, 0.1), strict=True):
    logs[name] = [row for row in rows if row["beta"] == beta and row["learning_rate"] == 1e-3]
try:
    for name, log in logs.items():
        beta, last = which_beta(log), log[-1]
        margin = last["rewards/chosen"] - last["rewards/rejected"]
        print(f"{name}: margin {margin:.2f}, beta {beta:.2g}: chosen moved by {last['rewards/chosen'] / beta:.1f} nats")
except NotWritten as missing:
    print(missing)
