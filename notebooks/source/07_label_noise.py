# Chapter 7. `prefcourse build 07` makes the three notebooks of this script; see prefcourse/build/script.py.

# %% [markdown] title
# # 7 · Label Noise and Who Is Right
#
# **Key insight.** Labels go wrong in two ways. **Noise lowers the slope, bias moves the target; only the first
# averages out.** A crowd that errs by chance teaches the right reward, only fainter, and more labels bring it out. A
# crowd that errs in one direction teaches another reward, and more labels make it certain.
#
# **After this chapter you can**
# - say what flipped labels do to the reward that is learnt from them, and what a shared taste does;
# - derive the robust loss of rDPO, tell it from cDPO, and name its price;
# - find out which annotators are right, without knowing a single right answer, and say when that must fail;
# - say what each cure for noise costs: gold, KL, seconds, labels;
# - say what is learnt from two crowds of opposite taste: whose favourite wins, and why that is a voting rule.
#
# **Time.** 55 minutes to read; all cells together take half a minute on one CPU core, a minute the first time.
#
# **Before.** Chapters 2 (annotators, agreement), 3 (the optimum is a tilt) and 4 (DPO's loss). From chapter 6: the
# Bradley-Terry fit of a table of votes.
#
# **How to read.** Most cells are preceded by a question in bold. Decide on an answer, run the cell, then read on.

# %% setup
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

from prefcourse import agreement, annotators, plots
from prefcourse.claims import claims
from prefcourse.experiments import chapter07 as stored
from prefcourse.experiments.chapter07 import explained, few_votes, fit, gap, wrong_way_round
from prefcourse.lab import lab
from prefcourse.widgets.chapter07 import who_is_right
from prefcourse.worlds import TableWorld

torch.set_num_threads(1)
plt.rcParams.update(plots.STYLE)
SEED = 0

# %% [markdown] flip-text
# ## One label in five is wrong
#
# Somebody compares two answers whose gold differs by $d$, and prefers the better one with probability
# $p = \sigma(d)$: Bradley-Terry. On the way to us a share $\varepsilon$ of the labels is flipped: a wrong click, a
# mix-up, an invention. What we see prefers the first answer with probability
#
# $$\tilde p = (1-\varepsilon)\,p + \varepsilon\,(1-p) = \varepsilon + (1 - 2\varepsilon)\,p .$$
#
# Whoever fits Bradley-Terry to such labels, and sees very many of them, believes in the difference
# $\tilde d = \log\frac{\tilde p}{1 - \tilde p}$. How does it depend on $d$? The derivative of $\log\frac{p}{1-p}$ is
# $\frac{1}{p(1-p)}$, that of $\sigma(d)$ is $p(1-p)$. So
#
# $$\tilde d\,'(d) = \frac{(1-2\varepsilon)\,p(1-p)}{\tilde p(1-\tilde p)}
# \qquad\text{and at } d = 0\text{, where both are } \tfrac12:\qquad 1 - 2\varepsilon .$$
#
# Where the two answers are close, all differences are multiplied by $1-2\varepsilon$. And for a large $d$, $\tilde p$
# stays below $1-\varepsilon$: $\tilde d$ never exceeds $\log\frac{1-\varepsilon}{\varepsilon}$. **With 20 % of flips:
# which slope, and which ceiling? Can the two answers change places?**


# %% flip
def believed(d, flips):
    seen = flips + (1 - 2 * flips) * torch.sigmoid(d)  # how often the first is preferred
    return torch.logit(seen)


d = torch.linspace(0, 5, 6, dtype=torch.float64)
small = torch.tensor(1e-4, dtype=torch.float64)
for flips in (0.0, 0.1, 0.2, 0.4):
    row = " ".join(f"{x:.2f}" for x in believed(d, flips))
    slope, top = believed(small, flips) / small, math.log((1 - flips) / flips) if flips else math.inf
    print(f"flips {flips:.0%}: slope at 0 {slope:.2f}, ceiling {top:.2f}, d = 0, 1, ... 5: {row}")

# %% [markdown] crowds-text
# Slope 0.6, ceiling 1.39, and no: as long as $\varepsilon < \frac12$ the curve rises, and the order stays. Flips are
# not the only noise. People who look less carefully prefer with probability $\sigma(k\,d)$, $k < 1$: a lower slope,
# by definition.
#
# Bias is something else. Somebody likes long answers, and with a gap $l$ in length prefers the first with probability
# $\sigma(d + l)$. That is a Bradley-Terry labeller without any fault, *of another reward*: gold plus length.
#
# Now whole tables. Twenty questions, twelve answers to each; gold and length are drawn at random, and independently.
# Four crowds vote on all pairs, infinitely often. `fit` is chapter 6's: a score rises while its answer wins more often
# than expected. The scores found are then explained by gold and by length: two coefficients. **Which will they be?**

# %% crowds
world = TableWorld.random(prompts=20, responses=12, seed=SEED)
length = torch.randn(20, 12, generator=torch.Generator().manual_seed(SEED + 1), dtype=torch.float64)
truth, taste = gap(world.reward), gap(length)  # (20, 12, 12): of each answer against each
crowds = {"careful": torch.sigmoid(truth), "hurried": torch.sigmoid(truth / 2)}
crowds |= {"20 % flips": 0.2 + 0.6 * torch.sigmoid(truth), "likes length": torch.sigmoid(truth + taste)}
learnt = {name: fit(wins) for name, wins in crowds.items()}
slopes = {name: explained(scores, world.reward, length) for name, scores in learnt.items()}
turned = {name: wrong_way_round(scores, truth) for name, scores in learnt.items()}
for name in crowds:
    print("{:>12}: {:.2f} gold {:+z.2f} length".format(name, *slopes[name]), end=", ")
    print(f"pairs the wrong way round: {turned[name]:.0%}")


# %% [markdown] tilt-text
# The hurried crowd and the flips: about half the gold, and every pair the right way round. The crowd that likes length:
# all of gold, all of length, and every fourth pair the wrong way round.
#
# What becomes of a policy? The best policy for a learnt reward $s$ is the tilt $\pi_{\text{ref}}\,e^{s/\beta}$
# (chapter 3). If $s = k\,r$, then
#
# $$\pi_{\text{ref}}\,e^{k r/\beta} = \pi_{\text{ref}}\,e^{r/(\beta/k)} :$$
#
# **a lower slope is a larger beta.** The policy is one of the optima for gold, only nearer to the reference; a
# smaller $\beta$ takes it the rest of the way. With another reward there is no such $\beta$. **Picture it first:
# gold against KL, as beta falls, for each crowd.**

# %% tilt
betas = np.geomspace(20, 0.05, 60)
half = np.abs(betas - 0.5).argmin()  # where beta is 0.5
lines = {}
for name, scores in learnt.items():
    tilts = [world.ref_logits.log_softmax(-1) + scores / beta for beta in betas]
    points = [(world.kl(tilt).item(), world.expected_reward(tilt).item()) for tilt in tilts]
    lines[name] = np.transpose(points)  # (2, 60): KL, gold
figure, ax = plt.subplots()
plots.curves(ax, lines, xlabel="KL (nats)", ylabel="gold")
ax.scatter(*np.transpose([line[:, half] for line in lines.values()]), c=plots.OTHERS[:4], s=80, zorder=3)
ax.set(xlim=(-0.05, 2.5), title="The best policy for what each crowd teaches (dots: beta 0.5)")
alt = """The careful, the hurried and the flipped crowd have one line; the dots of the latter two are
nearer to its start. The line of the crowd that likes length lies far below."""
plots.show(figure, alt)

# %% tilt-claims
roof, kl_at_half = lines["careful"], {name: line[0, half] for name, line in lines.items()}
below = {name: np.interp(kl, *roof) - gold for name, (kl, gold) in lines.items()}
hurried, flipped = slopes["hurried"], slopes["20 % flips"]
claims({
    "a hurried crowd teaches half of gold, and nothing else": np.allclose(hurried, [0.5, 0], atol=1e-3),
    "20 % flips: 0.4 to 0.6 of gold, and no length": 0.4 < flipped[0] < 0.6 and abs(flipped[1]) < 0.02,
    "noise turns no pair": turned["20 % flips"] == turned["hurried"] == 0,
    "bias more than 15 % of them": turned["likes length"] > 0.15,
    "noise: at beta 0.5 less than half of the KL": kl_at_half["20 % flips"] < 0.5 * kl_at_half["careful"],
    "but never more than 0.04 below the frontier": max(*below["20 % flips"], *below["hurried"]) < 0.04,
    "bias: at beta 0.5 more than 0.2 below it": below["likes length"][half] > 0.2,
})

# %% [markdown] average-text
# **Takeaway: noise moves along the frontier, bias leaves it.** That is the easy half of the insight: it took
# infinitely many votes. With few, noise does turn pairs. **The same crowds, 1 to 10,000 votes on each pair: which
# columns go to 0?** (A half vote is added to either side, so that a unanimous pair has a finite score.)

# %% average
draw, wrong = torch.Generator().manual_seed(SEED), []
print("votes per pair", *(f"{name:>13}" for name in crowds))
for votes in (1, 10, 100, 1000, 10_000):
    scores = [fit(few_votes(wins, votes, generator=draw)) for wins in crowds.values()]
    wrong.append([wrong_way_round(found, truth) for found in scores])
    print(f"{votes:>14}", *(f"{share:13.1%}" for share in wrong[-1]))
_, _, by_flips, by_taste = np.transpose(wrong)
claims({
    "with one vote flips and taste turn as many, within 6 points": abs(by_flips[0] - by_taste[0]) < 0.06,
    "with ten thousand flips turn less than 1 %": by_flips[-1] < 0.01,
    "and taste what it turned at first, within 5 points": abs(by_taste[-1] - by_taste[0]) < 0.05,
})

# %% [markdown] average-after
# With one vote per pair nobody could tell the two columns on the right apart. That is the practical trouble: a number
# of wrong labels does not say of which kind they are. More votes do.
#
# ## A loss that allows for flips
#
# In DPO the labels go straight into a loss: $\ell(m) = -\log\sigma(m)$ for a pair with margin $m$ (chapter 4), and
# $\ell(-m)$ if it was labelled the other way round. Suppose we know $\varepsilon$. Can the loss be corrected, so that
# on flipped labels it is *on average* what DPO's would have been on clean ones? We look for a mixture
# $a\,\ell(m) + b\,\ell(-m)$. The label is right with probability $1-\varepsilon$, else the two trade places:
#
# $$(1-\varepsilon)\big[a\,\ell(m) + b\,\ell(-m)\big] + \varepsilon\big[a\,\ell(-m) + b\,\ell(m)\big] = \ell(m)$$
#
# The coefficients of $\ell(m)$ must add up to 1, those of $\ell(-m)$ to 0:
#
# $$(1-\varepsilon)\,a + \varepsilon\,b = 1,\qquad \varepsilon\,a + (1-\varepsilon)\,b = 0
# \qquad\Rightarrow\qquad a = \frac{1-\varepsilon}{1-2\varepsilon},\quad b = \frac{-\varepsilon}{1-2\varepsilon} .$$
#
# This is **rDPO** (2403.00409). Its older cousin **cDPO** (Mitchell, 2023) mixes with $+\varepsilon$ instead:
# $(1-\varepsilon)\,\ell(m) + \varepsilon\,\ell(-m)$, *label smoothing*. One sign (and a factor) apart. **But what is
# the mean of DPO's loss over flips? Which of the two is it?**


# %% losses
def dpo(margin, flips):
    return -F.logsigmoid(margin)


def cdpo(margin, flips):
    return (1 - flips) * dpo(margin, 0) + flips * dpo(-margin, 0)


def rdpo(margin, flips):
    return ((1 - flips) * dpo(margin, 0) - flips * dpo(-margin, 0)) / (1 - 2 * flips)


three, flips = {"cDPO": cdpo, "DPO": dpo, "rDPO": rdpo}, 0.2
margin = torch.linspace(-6, 6, 2401, dtype=torch.float64)
for name, loss in three.items():
    over_flips = (1 - flips) * loss(margin, flips) + flips * loss(-margin, flips)
    off = (over_flips - dpo(margin, 0)).abs().max()
    print(f"{name:>4}: differs from the clean loss by up to {off:.2f}")

# %% [markdown] target-text
# DPO on flipped labels *is*, on average, cDPO on clean ones. So cDPO does not undo flips: it adds a second helping.
# It says "one label in five is a lie, so never be surer than 80 %", and that is sensible advice against
# overconfidence. rDPO says "one label in five is a lie, so they mean more than they say".
#
# What each of them aims at is the margin at which its mean is least. If the true preference is $\sigma(d)$, and the
# labels are flipped, DPO is content at $\tilde d$ from above. **Which of the three comes nearest to $d$?**

# %% target
d = torch.linspace(-4, 4, 41, dtype=torch.float64)
seen = flips + (1 - 2 * flips) * torch.sigmoid(d)[:, None]  # (41, 1): how often the first is preferred
by_margin, aims = {}, {}
for name, loss in three.items():
    mean = seen * loss(margin, flips) + (1 - seen) * loss(-margin, flips)  # (41, 2401)
    by_margin[name], aims[name] = (margin, loss(margin, flips)), (d, margin[mean.argmin(1)])
figure, axes = plt.subplots(1, 2, figsize=(8.8, 3.6))
plots.curves(axes[0], by_margin, xlabel="margin", ylabel="loss of a label, 20 % of flips")
plots.curves(axes[1], aims, xlabel="true difference d", ylabel="margin aimed at")
alt = """Left: DPO's loss falls to 0; cDPO's is lowest at a margin of 1.4 and rises again; rDPO's falls
below 0 and goes on falling. Right: rDPO aims at the diagonal, DPO bends below it, cDPO even more."""
plots.show(figure, alt)

# %% target-claims
some, ends = torch.tensor([0.5, 2.0, 5.0]), torch.tensor([30.0, 60.0])
stretched = (rdpo(-some, flips) - rdpo(some, flips)) / (dpo(-some, 0) - dpo(some, 0))
bottom = rdpo(ends, flips).diff().item()
aim = {name: aimed for name, (_, aimed) in aims.items()}
seen_as, seen_twice = believed(d, flips), believed(believed(d, flips), flips)
claims({
    "rDPO aims at the truth": torch.allclose(aim["rDPO"], d, atol=0.01),
    "DPO aims at what the flipped labels say": torch.allclose(aim["DPO"], seen_as, atol=0.01),
    "cDPO at that, flipped once more": torch.allclose(aim["cDPO"], seen_twice, atol=0.01),
    "the price: a wrong label costs rDPO 1 / (1 - 2 flips) times as much": np.allclose(stretched, 1 / 0.6),
    "and there is no bottom: 30 more of margin lower the loss by 10": abs(bottom + 10) < 1e-3,
})

# %% [markdown] runs-text
# The last two lines are the price. Right on average is not right on each label: on a wrong one rDPO errs
# $\frac{1}{1-2\varepsilon}$ times as far as DPO, which is the factor of its theory: the gap to the best policy is of
# order {{published:rdpo-rate}}, with $n$ labels (their $d$ is the number of parameters). And a label seen again and
# again, on which the margin can be made as large as one likes, pulls without end: a gain of
# $\frac{\varepsilon}{1-2\varepsilon}$ for each unit of margin. Infinitely many labels would stop it; a few hundred do
# not.
#
# ## Flips for a language model
#
# So to TinyLM. Its SFT model answers twice; *gold* says which answer is better, so that without flips every label is
# right. Then we flip 20 % of some 940 labels and train three policies on them, 56 steps each. cDPO and rDPO know the
# 20 %. **Who will have most gold? Who will be furthest from the reference?**

# %% runs
# NBVAL_IGNORE_OUTPUT
here = lab(SEED)
pairs = stored.flipped(stored.labelled(here, per_prompt=8), 0.2, seed=SEED)
live = {"SFT": stored.measured(here, here.sft)}
for name, loss in stored.LOSSES.items():
    live[name] = stored.measured(here, stored.trained(here, pairs, loss=loss(0.2), **stored.TRAINING))
for name, row in live.items():
    print("{:>5}: gold {gold:.2f}, KL {kl:.2f}, {length:.0f} words".format(name, **row))

# %% [markdown] noise-text
# One run each. `prefcourse build --figures 07_noise` made 39 of them: three seeds, 0 to 40 % of flips. Without flips
# the three losses are one. **Left, gold: which line falls fastest? Right, KL: a lower slope is a larger beta, we said.
# Does noise shorten the way?**

# %% noise
shares, rows = stored.lines("07_noise", line="loss", along="flips")
gold, kl = stored.means(rows, "gold"), stored.means(rows, "kl")
figure, axes = plt.subplots(1, 2, figsize=(9, 3.8))
panels = {"gold": "gold", "kl": "KL from the reference (nats)"}
plots.curves_with_bars(axes, shares, rows, xlabel="share of flipped labels", **panels)
axes[0].set(title="Gold against noise: three seeds", ylim=(0, None))
axes[1].set(title="And how far they went", ylim=(0, None))
alt = """Left: the gold of all three losses falls from 1.3 without flips to between 0.6 and 0.7 at 40 %;
cDPO is a little lower from 30 % on. Right: at 40 % the KL of cDPO is 0.1, that of DPO 0.9, that of rDPO
1.9."""
plots.show(figure, alt)

# %% noise-claims
seeds = stored.by_seed("07_noise", "loss", "flips")
ahead = [[seed["rDPO", x]["gold"] - seed["DPO", x]["gold"] for seed in seeds] for x in shares[1:]]
less = (gold["DPO"] - gold["cDPO"])[3:]
for share, values in zip(shares[1:], ahead, strict=True):
    print(f"flips {share:.0%}: gold of rDPO minus gold of DPO, by seed", *(f"{x:+z.2f}" for x in values))
claims({
    "every further 10 % of flips cost every loss gold": (np.diff([*gold.values()]) < 0).all(),
    "rDPO has DPO's gold, to 0.1, at all shares and seeds": np.abs(ahead).max() < 0.1,
    "at 30 and 40 % cDPO has 0.03 to 0.15 less": 0.03 < less.min() < less.max() < 0.15,
    "cDPO goes least far, DPO further, rDPO furthest": (np.diff([*kl.values()], axis=0)[:, 1:] > 0).all(),
    "at 40 % cDPO has hardly left the reference: less than 0.3 nats": kl["cDPO"][-1] < 0.3,
    "DPO's way is shorter by less than a fifth at 20 %": 0.8 * kl["DPO"][0] < kl["DPO"][2],
    "and by less than half at 40 %, where the slope is a fifth": 0.5 * kl["DPO"][0] < kl["DPO"][4],
})

# %% [markdown] noise-after
# **Takeaway: no loss gave back what the flips took; what the losses choose is how far to go.** In its paper's
# experiments rDPO is more robust than DPO. Here the two have the same gold, at every share of flips, sometimes one a
# little ahead and sometimes the other. Look at both panels: rDPO does what it promises, it stretches the slope, and
# goes far, at 40 % twice as far as DPO. But slope is not what these few labels lack. They lack *knowledge*, and a loss
# has none to give.
#
# The right panel also corrects the theory. Infinitely many flipped labels would have shortened DPO's way much more: at
# 40 % the slope is a fifth. With few, the network memorises some of the wrong ones, and that is distance, too,
# spent on nothing. cDPO refuses: past a margin of $\log\frac{1-\varepsilon}{\varepsilon}$ a label pushes back.
#
# So with few labels rDPO's longer way buys nothing, and cDPO's modesty costs a little gold and saves KL: a third at
# 20 %, most of it at 40 %. Both losses are in part a choice of $\beta$ in disguise; compare them at equal KL (chapter
# 8).
#
# ## Wrong by chance, wrong by taste
#
# Now the other half of the insight, trained. One person always chooses by gold (*right* in the figure). One would give
# half a point of gold for every further word: about a quarter of these labels are wrong (*bias*). A third chooses by
# gold, and then a coin flips *just as many* labels (*noise*). DPO on 256, 1,024 and 4,096 labels of each, always 56
# steps; `07_wrong`, three seeds. **Whom do more labels help?**

# %% wrong
sizes, rows = stored.lines("07_wrong", line="labels", along="pairs")
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
plots.curves_with_bars(axes, sizes, rows, xlabel="labels (log axis)", log=True, gold="gold", length="words")
plots.show(figure, alt="What noise took fades with more labels; bias lies lower, four words longer.")
gold, words = (stored.means(rows, what) for what in ("gold", "length"))
chance, taste = (gold["right"] - gold[kind] for kind in ("noise", "bias"))  # what was lost
print("gold lost by chance:", chance.round(2), "by taste:", taste.round(2))
claims({
    "chance: the more labels, the less is lost": (np.diff(chance) < 0).all(),
    "with 4,096 less than half of what 256 lost": chance[2] < chance[0] / 2,
    "taste: beyond 1,024 labels as much is lost, to 0.1": abs(taste[2] - taste[1]) < 0.1,
    "and then twice as much as by chance": (taste[1:] > 2 * chance[1:]).all(),
    "taste: answers four words longer, however many": (words["bias"] > words["noise"] + 4).all(),
})

# %% [markdown] em-text
# **Takeaway: the same number of wrong labels, and more labels cure only one kind.** What chance did fades: with 4,096
# labels two thirds of what was lost is regained. What taste did stays: beyond 1,024 labels the policy is as far behind
# as before (in the mean; the bars are long, but under every seed it is further behind), and the answers are as long as
# that person wants them.
#
# ## Who is right?
#
# So one would like to know *whose* labels to trust, without gold. Twenty people, five of whom vote on each of 600
# pairs. If we knew the truth, we could count how often each of them says it. If we knew how reliable each of them is,
# we could weigh their votes and infer the truth. We know neither. Dawid and Skene (1979) go back and forth between
# the two.
#
# **Given people, infer the truth (E step).** Person $j$ says "first" with probability $h_j$ where the first answer is
# better (a hit), and with $f_j$ where the second is (a false alarm). With a share $\text{prior}$ of firsts, Bayes'
# rule gives the log-odds that the first is better, a sum over the votes on the pair:
#
# $$\log\frac{P(\text{first}\mid\text{votes})}{P(\text{second}\mid\text{votes})} = \log\frac{\text{prior}}{1-\text{prior}}
# + \sum_{\text{said first}}\log\frac{h_j}{f_j} + \sum_{\text{said second}}\log\frac{1-h_j}{1-f_j}$$
#
# A spammer has $h_j = f_j$ and adds 0. Whoever is mostly wrong adds with the other sign, and helps!
#
# **Given the truth, infer people (M step).** $h_j$ is the share of "first" among the votes of $j$ on pairs whose first
# answer is better. That is known with a probability only; so each vote counts with this probability. We add 1 to every
# count, so that nobody is taken to be infallible after three votes.
#
# Why does this settle? For any guess $q$ of the truth, by Jensen, $\log\sum_t P(t, \text{votes}) \ge
# \sum_t q(t)\log\frac{P(t, \text{votes})}{q(t)}$. The E step takes the $q$ for which both sides are equal, the M
# step raises the right side: the likelihood cannot fall. (With the added 1, it is likelihood times a prior.)
# *Expectation, maximisation*: hence the name **EM**.
#
# `stored.ask` lets five people vote on each pair; it also returns what EM must not see: which answer is better, and how
# often each person says so in the long run. We begin with the shares of votes. **Will the spammer be found? Will
# anybody be overrated?** And then once more, with every pair *the wrong way round*. **Where will that end?**


# %% em
def em(item, who, said_first, truth, steps=30):
    for _ in range(steps):
        first, second = truth[item], 1 - truth[item]  # (N,): of each vote, P(its pair's first is better)
        hit = (np.bincount(who, first * said_first) + 1) / (np.bincount(who, first) + 2)  # (J,)
        alarm = (np.bincount(who, second * said_first) + 1) / (np.bincount(who, second) + 2)
        prior = (truth.sum() + 1) / (len(truth) + 2)
        weight = np.where(said_first, np.log(hit / alarm)[who], np.log((1 - hit) / (1 - alarm))[who])
        truth = 1 / (1 + np.exp(-np.log(prior / (1 - prior)) - np.bincount(item, weight)))  # (I,)
    return truth, prior * hit + (1 - prior) * (1 - alarm)  # P(first is better); P(says the truth)


first_is_better, accuracy, votes = stored.ask(annotators.population(SEED), 5, seed=SEED)
share = stored.share_of_first(votes)
inferred_truth, inferred = em(*votes, share)
turned_back = 1 - np.hstack(em(*votes, 1 - share))  # begun with every pair the wrong way round

# %% [markdown] who-text
# What EM found, beside what only the simulation knows. A point is a person.

# %% who
figure, ax = plt.subplots(figsize=(5.6, 4.4))
plots.inferred_accuracy(ax, accuracy, dict(zip(accuracy, inferred, strict=True)))
ax.set_title("Found without knowing a single right answer")
plots.show(figure, alt="Inferred against true accuracy: near the diagonal; the spammer lowest, near 0.5.")
climb = np.diff(agreement.dawid_skene(zip(*votes, strict=True)).objective)  # the package's: any labels
one, majority, by_em = stored.right(first_is_better, votes, inferred_truth).values()
print(f"right on: one vote {one:.0%} of the pairs, majority {majority:.0%}, EM {by_em:.0%}")
claims({
    "inferred and true accuracy: r > 0.88": np.corrcoef(list(accuracy.values()), inferred)[0, 1] > 0.88,
    "the spammer is found: nobody's accuracy is lower": list(accuracy)[inferred.argmin()] == "spammer",
    "EM: 5 points above one vote, and not behind the majority": by_em > max(one + 0.05, majority - 0.01),
    "at no step the likelihood falls": climb.min() > -1e-9,
    "the second run ends in the mirror": np.allclose([*inferred_truth, *inferred], turned_back, atol=1e-3),
})

# %% [markdown] most-text
# **Takeaway: agreement tells accuracy, up to a mirror.** In the mirror everybody's $h$ and $f$ have changed places,
# the careful are nearly always wrong, and the votes are exactly as likely. No data can choose between the two worlds;
# we do, by the assumption that the crowd as a whole is more right than wrong. This is *label switching*; with a start
# from vote shares it hardly ever happens, and exercise 7.1 handles it for any start. On these pairs the majority is as
# good as EM; what EM adds is *who* to trust. Some are overrated by a few points, others underrated: chance, with some
# 150 votes of each.
#
# The same assumption carries everything else. What EM calls the truth is *what explains the agreement*. **Let 14 of
# 20 careful people share a taste for length. Who will look accurate?**

# %% most
figure, axes = plt.subplots(1, 2, figsize=(8.8, 3.9), sharey=True)
ahead, wrong = {}, {}
for ax, lovers in zip(axes, (5, 14), strict=True):
    people = stored.crowd(lovers, "lovers of length", seed=SEED)  # the lovers come first
    asked = stored.inquire(people, 5, seed=SEED, infer=em)
    plots.inferred_accuracy(ax, asked.true, asked.found)
    guess = list(asked.found.values())
    ahead[lovers] = np.mean(guess[:lovers]) - np.mean(guess[lovers:])
    wrong[lovers] = 1 - asked.right["EM"]
plots.show(figure, alt="Five lovers of length lie below the careful, fourteen above them, and too high.")
claims({
    "five lovers look less accurate than the careful, fourteen more": ahead[5] < -0.05 < 0.05 < ahead[14],
    "and the inferred truth is wrong on 1.7 times as many pairs": wrong[14] > 1.7 * wrong[5],
})

# %% [markdown] price-text
# **Takeaway: EM finds who errs alone. Who errs together is called right.** No statistic of the votes can correct
# that; it takes pairs whose answer is known in another way, or other people.
#
# ## What a cure costs
#
# We have seen three sorts of cure: another loss, more votes on each pair, more pairs. What does each bring in gold, and
# what does it cost in KL, seconds and labels? Always 56 steps, always against plain DPO on labels of the same sort,
# three seeds. *Flips*: 20 % for the two losses, and a quarter of the labels, as above, for four times the pairs.
# *People* (`07_votes`): the twenty people label answers of the SFT model; one vote on each of 900 pairs, against five
# votes on each, counted or weighed by EM, and against as many votes on five times the pairs. **You can pay for 4,500
# votes. Do you ask five people about each of 900 pairs, or one about each of 4,500?**

# %% price
cost = stored.prices()  # against plain DPO, by seed; how many times the seconds, labels, wrong labels
for cure, price in cost.items():
    gold, kl = (" ".join(f"{x:+z.2f}" for x in what) for what in (price.gold, price.kl))
    times = [f"{what} x {getattr(price, what).mean():.1f}" for what in ("seconds", "labels", "wrong")]
    print(f"{cure:>25}: gold {gold}, KL {kl},", ", ".join(times))
gold, kl, seconds, _, wrong = np.stack([*cost.values()], axis=1)  # (6, 3) each; more pairs come last
claims({
    "neither a loss nor more votes on a pair moved gold by 0.1": abs(gold[:4]).max() < 0.1,
    "cDPO saved over 0.3 nats, rDPO and more votes spent some": kl[0].max() < -0.3 < 0 < kl[1:4].min(),
    "five votes: less than half of the wrong labels are left": wrong[2:4].max() < 0.5,
    "more pairs brought more gold, and a shorter way": (gold[4:] > 0).all() and (kl[4:] < 0).all(),
    "for 1.3 to 1.8 times the seconds": 1.3 < seconds[4:].min() < seconds[4:].max() < 1.8,
    "the other cures took as many as DPO, to a fifth": abs(seconds[:4] - 1).max() < 0.2,
})

# %% [markdown] borda-text
# **Takeaway: no cure comes free, and the best one was new pairs.** A loss costs neither labels nor seconds; it only
# chooses how far to go. Five votes on each pair leave few labels wrong, and the policy was no better for it, only
# further away. As many votes on new pairs bring more gold (under one seed hardly any), with less KL, though about
# every sixth label is wrong; where a quarter of the labels is flipped, new pairs bring more. The seconds they cost
# are the reference's, which reads every pair once.
#
# ## Two crowds of opposite taste
#
# And if nobody is wrong? Let some like what others dislike, and let no label say whose it is. That is *hidden context*
# (2312.08358), and Bradley-Terry is fitted to the pooled votes all the same. What comes out? Chapter 6 has the
# condition: each answer is expected to win as often as it did. On shares of votes $p_{ij}$, every pair equally often,
#
# $$\sum_{j\ne i} \sigma(s_i - s_j) = \sum_{j\ne i} p_{ij}\qquad\text{for every answer } i .$$
#
# The right side, divided by the number of opponents, is the share of wins against a random opponent: the **Borda
# count** $b_i$, known from a theory of voting of 1781. The left side is $g(s_i)$ with one function
# $g(s) = \sum_j \sigma(s - s_j)$, up to the constant $\sigma(0)$ of the answer with itself, and $g$ only rises. So
# $s_i > s_j$ exactly if $b_i > b_j$: **the order that Bradley-Terry learns is Borda's**, whether or not the votes
# came from anything like
# Bradley-Terry.
#
# A voting rule has its whims. Sixty of a hundred people dislike flattery, forty want it at any price, and all are
# sure:
#
# | | the sixty | the forty |
# |---|---|---|
# | first | A: "python is a language ." | B |
# | second | B: "great question ! python is a language ." | C |
# | last | C: "great question ! look it up ." | A |
#
# **Who wins: A or B? And if nobody had ever been shown C?**


# %% borda
def borda(wins):
    rivals = 1 - torch.eye(wins.shape[-1], dtype=wins.dtype)
    return (wins * rivals).sum(-1) / rivals.sum(-1)


shares_of_votes = torch.tensor([[0.5, 0.6, 0.6], [0.4, 0.5, 1.0], [0.4, 0.0, 0.5]], dtype=torch.float64)
for shown in ("ABC", "AB"):
    table = shares_of_votes[: len(shown), : len(shown)]
    for answer, count, score in zip(shown, borda(table), fit(table), strict=True):
        print(f"shown {shown:>3}: {answer} has Borda {count:.2f}, Bradley-Terry {score:+.2f}")

# %% [markdown] tastes-text
# Sixty of a hundred prefer A to B, and the reward model prefers B: C, which nobody puts first, loses to B and so
# lifts it. So what is learnt from people who disagree depends on *which answers they were shown*. It also ignores
# how *much* somebody cares: a sure vote counts 1, however much or little hangs on it.
#
# Back to the tables. One crowd wants gold plus 1.5 times length, the other gold minus 1.5 times length. The share
# of the first grows from one half to all. **At one half: what will the coefficient of length be? And that of
# gold?** In the last columns: how much of what a crowd could gain over the reference (at beta 0.5, if its own taste
# were learnt) it gains from the pooled policy.

# %% tastes
wants, table = [world.reward + 1.5 * length, world.reward - 1.5 * length], {}
for share in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
    wins = share * torch.sigmoid(gap(wants[0])) + (1 - share) * torch.sigmoid(gap(wants[1]))
    scores = fit(wins)
    parts = [stored.gained(world.ref_logits, scores, want, beta=0.5) for want in wants]
    turned = wrong_way_round(scores, gap(borda(wins)))
    table[share] = *explained(scores, world.reward, length), *parts, turned
    print("first {:4.0%}: {:.2f} gold {:+z.2f} length; gained {:.0%}, {:.0%}".format(share, *table[share]))
claims({
    "in all tables and at all shares: Borda's order": all(row[-1] == 0 for row in table.values()),
    "at one half: no length, less than 0.75 of gold": abs(table[0.5][1]) < 0.05 and table[0.5][0] < 0.75,
    "and each crowd gains hardly half of what it could, or less": max(table[0.5][2:4]) < 0.52,
    "at 90 % the minority gains nothing to speak of, or loses": table[0.9][3] < 0.05,
})

# %% [markdown] play-text
# **Takeaway: to Bradley-Terry, balanced disagreement looks like noise.** At one half, length is gone and gold has a
# lower slope, as with a hurried crowd. But a hurried crowd is served by more labels; here nobody is. And out of balance
# it looks like bias, with the majority as the one who is right.
#
# The remedies ask for more than labels: who voted (then fit groups apart; Dawid-Skene above used nothing else), a
# distribution of rewards instead of one number (2312.08358), or a decision, by somebody who answers for it, whose
# taste is to count.
#
# ## Play
#
# Six hundred pairs, twenty people. Some are spammers, or lovers of length. **How many spammers among twenty can EM
# bear with 3 votes a pair? With 9? And how many lovers?** (The button asks other people about other pairs.)


# %% play
def run(seed, votes, others, how_many):
    people = stored.crowd(how_many, others, seed=seed)
    return stored.inquire(people, votes, seed=seed, infer=em)


choices = {"votes": [2, 3, 5, 9], "others": ["spammers", "lovers of length"], "how_many": [0, 4, 8, 12, 16]}
who_is_right(run, start={"votes": 5, "others": "spammers", "how_many": 8}, **choices)

# %% [markdown] play-after
# Spammers are noise. With five votes on each pair EM tells even sixteen of them from the four who look, and is far
# ahead of the majority. With three it depends on the draw: here fewer than half of the pairs come out right, with other
# people more (press the button). Lovers of length are a bias: four do little harm, twelve are the truth. Then EM is
# further from gold than the majority, as it trusts them more, and nine votes are no better than five.

# %% [markdown] summary
# ## In five lines
#
# 1. Flips flatten a difference $d$, by $1-2\varepsilon$ near 0 and by more beyond; careless people by $k$. The order
#    stays, the policy stays on the frontier or next to it, and more labels undo what chance did.
# 2. A shared taste adds to the target. The policy leaves the frontier, and more labels make it surer.
# 3. rDPO's mean over flips is the clean loss; cDPO's is not, it flips once more. rDPO pays with variance, and has no
#    bottom. On some nine hundred labels it went further than DPO, and had no more gold to show for it.
# 4. Dawid and Skene find who is right from votes alone, up to a mirror, as long as errors are made one by one. The same
#    votes on new pairs did more for the policy than on old ones.
# 5. From people who disagree, Bradley-Terry learns Borda's order: it depends on what was shown, ignores strength, and
#    balanced disagreement is fitted as noise.

# %% [markdown] questions
# ## Three questions
#
# **1.** Two labs have labels of which 25 % are wrong. The first doubles the number of labels, and its policy improves.
# The second does the same, and nothing happens. What do you suspect, and how would you test it?
#
# <details><summary>Answer</summary>
#
# The first has noise, the second a bias (or enough labels: test that first, with a learning curve). Relabel a hundred
# pairs with great care, and look at the wrong ones: do they share a direction, such as the longer answer? With noise
# they have none.
# </details>
#
# **2.** You use rDPO with a flip probability of 0.3; in truth it is 0.1. What does the loss aim at?
#
# <details><summary>Answer</summary>
#
# At $\tilde p = (p' - 0.3)/0.4$ with $p' = 0.1 + 0.8\,p$ the share that you see. For $p$ above 0.75 that is more
# than 1: there is no margin large enough, and the loss falls without end. Too large a guess is worse than too small
# a one. If in doubt, guess low.
# </details>
#
# **3.** Six in ten people prefer a curt answer to a careful one, a little. For the other four the curt answer is
# useless. Everybody is sure of their vote. What does the reward model prefer, and what would you?
#
# <details><summary>Answer</summary>
#
# The curt one: it wins six of ten votes, and a vote has no strength. The sum of what people lose is smaller with
# the careful one. To know that, one must ask how much, or let people say "about equal"; a tie is the only mild vote
# there is.
# </details>

# %% [markdown] classical
# ## The classical results beside ours
#
# | | published | here | why they differ |
# |---|---|---|---|
# | rDPO's price | gap of order {{published:rdpo-rate}} | a wrong label costs 1 / (1 - 2ε) times as much | the same factor; ours for one label, theirs for a policy |
# | rDPO against DPO under noise | 2403.00409: more robust than DPO and cDPO | the same gold as DPO, to 0.1, at 10 to 40 %; cDPO a little less from 30 % on | 940 labels seen nearly four times, a network that memorises them; equal steps, not equal KL |
# | who is right | Dawid and Skene: {{published:dawid-skene-data}} | 20 people, 600 pairs, five votes each | they had no truth to check; our r is above 0.88 |
# | pooled preferences | 2312.08358: {{published:hidden-context-borda}} | Borda's order in all twenty tables | none: it is a theorem |

# %% [markdown] further
# ## Further reading
#
# - Robust DPO: arXiv 2403.00409. Label smoothing for DPO: E. Mitchell, "A note on DPO with noisy preferences" (2023)
# - A. P. Dawid and A. M. Skene, "Maximum Likelihood Estimation of Observer Error-Rates Using the EM Algorithm",
#   Applied Statistics 28 (1979)
# - Hidden context, Borda, and learning a distribution of rewards: arXiv 2312.08358
# - Noise that a reward model finds by itself: arXiv 2401.06080, section 2
#
# **Next:** exercises 7.1 to 7.3, in `exercises/07_label_noise.ipynb`. Then chapter 8: how far a policy has gone, and
# what it could have earned there.
# %% [exercises]
# %% [markdown] title
# # 7 · Exercises: who is right, a loss for flips, a voting rule
#
# Three functions, about an hour. Write each body, run the cell, then run its check. After each check the function is
# put to use: on the course's twenty people, in a training run on flipped labels, and on two crowds of opposite taste.
#
# Log-probabilities and tables come as tensors in double precision. A check prints them as lists; to try such a case
# yourself, wrap each list in `torch.tensor(...)`.
#
# Stuck? Open the hints one at a time. The solved notebook is in `solutions/`, under the same name. In a terminal
# `prefcourse check 7` checks what you saved, and `prefcourse reset 7.1` gives you an exercise afresh.

# %% setup
import math
from collections.abc import Hashable

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from prefcourse import annotators, losses, plots
from prefcourse.checks import NotWritten, check
from prefcourse.experiments import chapter07 as stored
from prefcourse.lab import lab
from prefcourse.losses import LossAndMetrics, Sums

torch.set_num_threads(1)
plt.rcParams.update(plots.STYLE)

# %% [markdown] question-7-1
# **Who is right, when nobody knows the answers?** `votes` is a list of `(item, annotator, label)`; a label is
# `"first"` or `"second"`. Return two dicts, `(truth, accuracy)`: for each item the probability that the first
# response is better, and for each annotator the probability of saying the truth. Dawid and Skene's EM, `steps`
# times around:
#
# - **Begin** with `truth[item]` = share of "first" among the item's votes, or with the dict `start`, if one is given.
# - **M step.** Each annotator's *hit* is the share of "first" among their votes, each vote weighed by the `truth` of
#   its item; their *false alarm* the same with the weights `1 - truth`. Add 1 to every count, so that a share becomes
#   $(\text{count} + 1)/(\text{total} + 2)$; do the same to the share of firsts among the items, `prior`.
# - **E step.** The log-odds of an item are $\log\frac{\text{prior}}{1-\text{prior}}$, plus
#   $\log\frac{\text{hit}}{\text{alarm}}$ for each vote "first", plus $\log\frac{1-\text{hit}}{1-\text{alarm}}$ for
#   each vote "second". They give the new `truth`.
# - **Accuracy** is $\text{prior}\cdot\text{hit} + (1-\text{prior})(1-\text{alarm})$, with the numbers of the last M
#   step.
# - **Naming.** The votes do not say which world is called "first". If $\sum_{\text{items}} (2\,\text{truth} - 1)(2\,
#   \text{share of "first"} - 1)$ is negative in the end, everything is mirrored: replace each truth by 1 - truth, each
#   accuracy by 1 - accuracy.
# - Items and annotators have unequal numbers of votes; some have hundreds. One vote on an item is fine, and all labels
#   may be the same. If *no* item has two votes, or there are no votes, nobody can be compared: raise `ValueError`.
#
# By hand first: two people vote on one item, both say "first"; one step. hit is $(1 + 1)/(1 + 2)$. What are alarm,
# prior, the log-odds? (The odds come out as 32 to 9.)


# %% answer-7-1
def dawid_skene(
    votes: list[tuple[Hashable, Hashable, str]], *, steps: int = 30, start: dict[Hashable, float] | None = None
) -> tuple[dict[Hashable, float], dict[Hashable, float]]:
    """P(first is better) of each item and P(says the truth) of each annotator, inferred from
    votes alone by EM (Dawid & Skene, 1979). Raises ValueError if no item has two votes."""
    items, people = (
        {name: n for n, name in enumerate(dict.fromkeys(c))} for c in ([v[p] for v in votes] for p in (0, 1))
    )
    if len(votes) == len(items):
        raise ValueError(f"found one vote on each of {len(items)} items: nobody can be compared")
    item, who = np.array([items[i] for i, _, _ in votes]), np.array([people[j] for _, j, _ in votes])
    said_first = np.array([label == "first" for _, _, label in votes])
    share = np.bincount(item, said_first) / np.bincount(item)
    truth = share if start is None else np.array([start[i] for i in items], dtype=float)
    for _ in range(steps):
        first, second = truth[item], 1 - truth[item]  # of each vote: P(its item's first is better)
        hit = (np.bincount(who, first * said_first) + 1) / (np.bincount(who, first) + 2)
        alarm = (np.bincount(who, second * said_first) + 1) / (np.bincount(who, second) + 2)
        prior = (truth.sum() + 1) / (len(truth) + 2)
        weight = np.where(said_first, np.log(hit / alarm)[who], np.log((1 - hit) / (1 - alarm))[who])
        log_odds = math.log(prior / (1 - prior)) + np.bincount(item, weight)
        truth = 0.5 + 0.5 * np.tanh(log_odds / 2)  # a sigmoid that cannot overflow
    accuracy = prior * hit + (1 - prior) * (1 - alarm)
    if ((2 * truth - 1) * (2 * share - 1)).sum() < 0:
        truth, accuracy = 1 - truth, 1 - accuracy
    return dict(zip(items, truth.tolist(), strict=True)), dict(zip(people, accuracy.tolist(), strict=True))


# %% [markdown] use-7-1-text
# **Your function on the course's twenty people.** Five of them vote on each of 600 pairs, 3,000 votes. The figure
# compares what your function infers with what only the simulation knows. **Who should stand alone at one half?**

# %% use-7-1
# NBVAL_IGNORE_OUTPUT
if check("7.1", dawid_skene).passed:
    people, draw = annotators.population(0), np.random.default_rng(0)
    features = annotators.random_features(600, generator=draw)
    votes = [vote[:3] for vote in annotators.label_pairs(people, features, per_item=5, generator=draw)]
    truth, found = dawid_skene(votes)
    said_better = [annotators.label_probabilities(p, features)[range(600), (features.gold < 0) * 1] for p in people]
    true = {person.name: float(said.mean()) for person, said in zip(people, said_better, strict=True)}
    right = np.mean([(truth[n] > 0.5) == (features.gold[n] > 0) for n in range(600)])
    figure, ax = plt.subplots(figsize=(5.6, 4.4))
    plots.inferred_accuracy(ax, true, found)
    ax.set_title(f"Your Dawid-Skene: right about {right:.0%} of the pairs")
    plots.show(figure, alt="Inferred against true accuracy of twenty people, by your function: near the diagonal.")
else:
    print("Here your function will find the spammer among twenty people, once 7.1 is solved.")

# %% [markdown] question-7-2
# **What is DPO's loss worth, if a known share of the labels is flipped?** Return `(loss, metrics)` for B pairs, as
# in 4.2; `{}` will do for the metrics. The loss is the one whose *mean over flips is the clean DPO loss*: with
# margin $m$ and $\ell(m) = -\log\sigma(m)$,
#
# $$\frac{(1-\varepsilon)\,\ell(m) - \varepsilon\,\ell(-m)}{1-2\varepsilon},\qquad \varepsilon = \texttt{flip\_probability},$$
#
# mean over the batch.
#
# - The margin is beta times (log-ratio of chosen minus log-ratio of rejected); the reference is a constant.
# - At $\varepsilon = 0$ it is DPO's loss. It may well be negative.
# - Log-ratios go up to 10,000 in both directions, and the loss must stay finite.
# - At $\varepsilon = \frac12$ labels are coin tosses, and above it they are lies: unless $0 \le \varepsilon <
#   \frac12$, raise `ValueError`.
#
# By hand first: five labels on one and the same pair of answers, with margin $m$ for whoever says "first"; four say
# so, one says "second". With $\varepsilon = 0.2$: what is the mean of the five losses?


# %% answer-7-2
from prefcourse.losses import rdpo_loss

# %% [markdown] use-7-2-text
# **Train on lies.** A fifth of 940 labels is flipped; TinyLM is trained on them with DPO's loss and with yours, 56
# steps each. (The first time, this cell also trains the SFT model, for half a minute.) **Which of the two will be
# further from the reference? Will it have more gold?**

# %% use-7-2
# NBVAL_IGNORE_OUTPUT
if check("7.2", rdpo_loss).passed:
    here = lab(seed=0)
    pairs = stored.flipped(stored.labelled(here, per_prompt=8), 0.2, seed=0)

    def yours(*sums, beta):
        found = rdpo_loss(*sums, beta=beta, flip_probability=0.2)
        return (found[0], {}) if isinstance(found, tuple) else (found, {})

    for name, loss in {"DPO": losses.dpo_loss, "yours": yours}.items():
        row = stored.measured(here, stored.trained(here, pairs, loss=loss, **stored.TRAINING))
        print("{:>5}: gold {gold:.2f}, KL {kl:.2f} nats, {length:.0f} words".format(name, **row))
else:
    print("Here your loss will train TinyLM on flipped labels, once 7.2 is solved.")

# %% [markdown] question-7-3
# **How often does each answer beat a random opponent?** `wins[i, j]` counts the votes for answer `i` against answer
# `j`. Return one number per answer: its share of wins against an opponent drawn at random from those it has met,
# each equally likely, *however many* votes were cast on the two.
#
# - Counts may be fractions (half a vote each for a tie).
# - What stands on the diagonal means nothing: no answer is its own opponent.
# - Two answers that were never compared have not met: leave the opponent out, for both.
# - An answer that has met nobody has no share: `nan`.
#
# By hand first: A beat B in 9 of 10 votes, and C in 1 of 2. What is A's Borda count? (Not 10/12.)


# %% answer-7-3
def borda(wins: Float[Tensor, "A A"]) -> Float[Tensor, " A"]:
    """Each answer's share of wins against a random opponent among those it has met;
    nan for an answer that has met none."""
    votes = wins + wins.T
    met = (votes > 0) & ~torch.eye(len(wins), dtype=torch.bool)
    shares = torch.where(met, wins / votes.where(met, torch.ones_like(votes)), 0.0)  # (A, A)
    return shares.sum(1) / met.sum(1)  # 0 / 0 is nan


# %% [markdown] use-7-3-text
# **What pooled votes teach.** Two crowds of opposite taste judge twelve answers: one wants gold plus length, the
# other gold minus length, twice as strongly. The votes are pooled, six to four; gradient descent fits Bradley-Terry
# scores to them, and your function counts. **Will the points lie on a rising line? On one through what the people
# want on average?**

# %% use-7-3
# NBVAL_IGNORE_OUTPUT
if check("7.3", borda).passed:
    draw = torch.Generator().manual_seed(0)
    gold, length = torch.randn(2, 12, generator=draw, dtype=torch.float64)
    wants = gold + length, gold - 2 * length
    against = [torch.sigmoid(3 * (want[:, None] - want)) for want in wants]  # (12, 12), people who are rather sure
    wins = 600 * against[0] + 400 * against[1]
    scores = torch.zeros(12, dtype=torch.float64)
    for _ in range(2000):  # chapter 6's fit
        scores += 4 * (wins / 1000 - torch.sigmoid(scores[:, None] - scores)).mean(1)
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.6), sharey=True)
    axes[0].plot(borda(wins), scores, "o", color=plots.POLICY)
    axes[0].set(xlabel="your Borda count", ylabel="Bradley-Terry score", title="One order")
    axes[1].plot(0.6 * wants[0] + 0.4 * wants[1], scores, "s", color=plots.OTHERS[1])
    axes[1].set(xlabel="what people want on average", title="Another")
    plots.show(figure, alt="Scores of twelve answers: they rise with the Borda count, but not with what people want.")
else:
    print("Here your function will show what pooled votes teach, once 7.3 is solved.")
