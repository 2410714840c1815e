# Chapter 11. `prefcourse build 11` makes the three notebooks of this script; see prefcourse/build/script.py.

# %% [markdown] title
# # 11 · PPO against DPO
#
# **Key insight.** The gap between them is coverage and freshness, not the loss. Told the same and able to read
# the same, PPO and DPO arrive at the same policy. What separates them is what the labels show of the answers
# that the policy will give, and whether anybody looks again when those answers change.
#
# **After this chapter you can**
# - find a case in which DPO's loss is at its minimum and the policy worse than before, and say where the mass went;
# - show that PPO on a reward model of the same knowledge makes the same mistake;
# - tell three remedies apart: a reward that reads, fresh labels, better coverage;
# - compare methods with one budget of labels, on one KL axis, with equal tuning, over seeds;
# - say whether a difference on the same questions is one, with a paired bootstrap.
#
# **Time.** 60 minutes to read; all cells together take half a minute on one CPU core, and a minute the first
# time.
#
# **Before.** Chapter 3 (the optimum is a tilt; DPO's loss), chapter 5 (what DPO's settings do), chapter 8 (the
# frontier, and what a nat is). PPO is chapters 9 and 10.
#
# **How to read.** Most cells are preceded by a question in bold. Decide on an answer, run the cell, then read on.

# %% setup
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.nn.functional import logsigmoid

from prefcourse import experiments, models, plots, train
from prefcourse.claims import claims
from prefcourse.evaluate import FrontierPoint
from prefcourse.experiments import chapter11
from prefcourse.lab import lab
from prefcourse.widgets.chapter03 import Slide, bars
from prefcourse.widgets.chapter11 import coverage
from prefcourse.worlds import TableWorld
from prefcourse.worlds.table import optimal_policy

torch.set_num_threads(1)
plt.rcParams.update(plots.STYLE)
SEED = 0

# %% [markdown] world-text
# ## What the pairs do not show
#
# One question, six answers. What is right in an answer earns a point, what is wrong costs one. The *usual* answer
# says one right and one wrong thing. The *good* one only the right thing, the *excellent* one two right things. Three
# more are just wrong. The reference mostly gives the usual answer; an excellent one comes twice in a thousand.
#
# Somebody collected pairs, and they show the first three answers only. Perhaps they are from another model, which
# never says the others. People have judged very many of these pairs, by Bradley-Terry, so that no lack of labels is
# to blame.
#
# DPO's loss for a pair with $i$ chosen and $j$ rejected is $-\log\sigma(m)$ with the margin
#
# $$m = \beta\left[\log\frac{\pi(i)}{\pi_{\text{ref}}(i)} - \log\frac{\pi(j)}{\pi_{\text{ref}}(j)}\right]
# = \beta\left[(z_i - z_j) - (z^{\text{ref}}_i - z^{\text{ref}}_j)\right].$$
#
# A policy here is a table of logits $z$, and the softmax's denominator cancels in the difference. So a pair moves
# two logits, by equal amounts: $\partial m/\partial z_i = \beta$ and $\partial m/\partial z_j = -\beta$. Two things
# follow. **The logits of answers that no pair shows never move. The sum of the others' logits stays what it was.**
#
# Training takes the usual answer down and the excellent one up, by the same number of logits. **Their probabilities
# are 0.7 and 0.002. Where will the mass go that the usual answer loses?**

# %% world
names = ("usual", "good", "excellent", "wrong", "worse", "nonsense")
right, wrong = torch.tensor([[1, 1, 2, 0, 0, 0], [1, 0, 0, 1, 2, 3]], dtype=torch.float64)
reference = torch.tensor([[0.70, 0.10, 0.002, 0.10, 0.06, 0.038]], dtype=torch.float64).log()  # (1, 6)
world, beta = TableWorld((right - wrong)[None], reference), 0.5
shown = torch.tensor([[0, 0, 0, -math.inf, -math.inf, -math.inf]])  # logits of the writer: the first three


def descend(loss, parameters, size=1 / beta**2, steps=400):
    path = [parameters]
    for _ in range(steps):
        parameters = parameters.detach().requires_grad_()
        parameters = parameters - size * torch.autograd.grad(loss(parameters), parameters)[0]
        path.append(parameters.detach())
    return torch.stack(path)


# %% offline
def dpo_loss(logits):  # on infinitely many labels of these pairs
    return world.dpo_population_loss(logits, beta=beta, data_logits=shown)


def unseen(logits):
    return logits.softmax(-1)[..., 3:].sum(-1).mean(-1)


offline, best = descend(dpo_loss, reference)[-1], world.optimum(beta)
figure, ax = plt.subplots(figsize=(7.0, 3.6))
bars(ax, names, Slide.of_logits(reference, best, offline), [])
ax.axvspan(2.5, 5.5, color=plots.REFERENCE, alpha=0.12)
ax.set(title="Grey: answers that no pair shows", ylim=(0, 0.8))
alt = "DPO lowers the usual answer from 0.70 to about 0.25; the three unseen ones get half of the mass."
plots.show(figure, alt=alt)

# %% offline-claims
for name, policy in {"reference": reference, "DPO": offline, "optimum": best}.items():
    print(f"{name:>9}: gold {world.expected_reward(policy):+.2f}, loss {dpo_loss(policy):.4f}, ", end="")
    print(f"unseen answers {unseen(policy):.2f}, KL {world.kl(policy):.2f}")
seen_rewards = world.reward[0, :3]
moved = reference[0, :3] + (seen_rewards - seen_rewards.mean()) / beta
before, after = map(world.expected_reward, (reference, offline))
claims({
    "DPO's loss is the optimum's, within a millionth": abs(dpo_loss(offline) - dpo_loss(best)) < 1e-6,
    "its policy has less gold than the reference": after < before,
    "it gives unseen answers twice as often": unseen(offline) > 2 * unseen(reference),
    "seen logits moved by (reward - mean reward) / beta": torch.allclose(offline[0, :3], moved, atol=1e-4),
    "unseen ones did not move": torch.equal(offline[0, 3:], reference[0, 3:]),
})

# %% [markdown] offline-after
# **Takeaway: the loss is satisfied, and half of the answers come from where nobody looked.** The margins between
# the three are exactly right. A loss on pairs says nothing else. The optimum has the same loss, and so does every
# policy between the two.
#
# Where did the mass go? The usual answer's logit fell by 2, which frees more than half of all probability. The
# excellent one's rose by 2, and $e^2$ times 0.002 is still next to nothing. What is freed goes to all, in proportion;
# mostly to answers of which DPO knows nothing. Nobody pushed them up; they were just never pushed down.
#
# This is not a rare accident. Two in a thousand is *much* for any single answer of a language model. Chapter 5 saw
# the log-probabilities of chosen answers fall during training, and their mass must go somewhere.
#
# ## The same knowledge, the other loss
#
# "So take PPO." PPO needs a reward, and the reward comes from the same pairs. Fit a reward model that is a table, a
# score per answer, beginning with 0. The argument above holds for it word for word: the scores of unseen answers
# never move and stay 0, and those of the other three add up to 0.
#
# And PPO with a penalty goes to the tilt of that score (chapters 3 and 9):
# $\pi \propto \pi_{\text{ref}}\,e^{s/\beta}$. **Predict: how far is it from DPO's policy?**


# %% same
def bradley_terry(score):  # on the same labels
    margins = score[:, :, None] - score[:, None, :]
    return -(world.labelled_pairs(shown) * logsigmoid(margins)).sum()


scores = descend(bradley_terry, torch.zeros_like(reference), size=2)[-1]
by_ppo = optimal_policy(reference, scores, beta)
print("scores:", *(f"{name} {score:+.2f}" for name, score in zip(names, scores[0], strict=True)))
print("gold: DPO {:+.2f}, PPO {:+.2f}".format(*map(world.expected_reward, (offline, by_ppo))))
apart = (by_ppo.exp() - offline.softmax(-1)).abs().max()
claims({"no answer's probability differs by 1e-5": apart < 1e-5})

# %% [markdown] same-after
# It is the same policy. **Takeaway: told the same, and able to express the same, PPO and DPO make the same
# mistake.** Swamy et al. prove it in general (2503.01067): if policies and reward models are of the same class,
# online and offline methods have the same optima, whatever the coverage. So when a paper finds PPO ahead of DPO,
# something *else* must differ. What?
#
# ## A reward that reads
#
# A reward model of text is not a table. It has seen that one wrong statement costs a point, and it recognises a wrong
# statement in an answer that it never saw. Let ours count: score $= a\cdot$right $+\; b\cdot$wrong, two numbers
# fitted to the same labels. **What will it say about nonsense? And if DPO's policy may count, too?** Its logits are
# then $z = z^{\text{ref}} + a\cdot$right $+\; b\cdot$wrong.

# %% reads
counts, nothing = torch.stack([right, wrong]), torch.zeros(1, 2, dtype=torch.float64)  # (2, 6), (1, 2)
weights = descend(lambda w: bradley_terry(w @ counts), nothing, size=2)[-1]
shift = descend(lambda w: dpo_loss(reference + w @ counts), nothing, size=2)[-1]
readers = {"PPO, reward that reads": optimal_policy(reference, weights @ counts, beta)}
readers["DPO, policy that reads"] = reference + shift @ counts
print("a right statement {:+.2f}, a wrong one {:+.2f}".format(*weights[0]))
for name, policy in readers.items():
    print(f"{name}: gold {world.expected_reward(policy):+.2f}, unseen answers {unseen(policy):.3f}")
claims({
    f"{name} is the optimum": torch.allclose(policy.softmax(-1), best.exp(), atol=1e-3)
    for name, policy in readers.items()
})

# %% [markdown] reads-after
# The same means cures both: **what generalises to unseen answers depends on who can read, not on the loss.** In
# practice the two read differently. A reward model looks at a finished answer and gives one number. DPO's reward is a
# sum of log-ratios, word by word, of a model that must also be able to *write*. To judge is often easier to learn
# than to write; that is where Swamy et al. see PPO's advantage.
#
# A reward that reads can also misread, and then with confidence. Both cases await us in PocketWorld.
#
# ## Fresh labels
#
# The other remedy: look again. In **online DPO** the policy answers twice, somebody says which answer is better, one
# step is taken, and then it answers again. The loss is the same; only the pairs are the policy's own. An unseen
# answer remains unseen only as long as nobody gives it.
#
# The table stays a table. The one change is the second argument: who writes the pairs. **Will the bad answers be
# taken down? Will what DPO learnt about the good ones be lost?**


# %% fresh
def fresh_loss(logits):  # infinitely many labels on pairs of the policy itself
    return world.dpo_population_loss(logits, beta=beta, data_logits=logits.detach())


losses = {"DPO": dpo_loss, "online DPO": fresh_loss}
paths = {name: descend(loss, reference, steps=1000) for name, loss in losses.items()}
end = paths["online DPO"][-1]
lost = (world.reward * (best.exp() - end.softmax(-1))).sum()
claims({
    "online DPO ends within 0.02 of the optimum's gold": lost < 0.02,
    "on unseen answers it keeps less than 2 %": unseen(end) < 0.02,
})


# %% fresh-figure
def gold_of(path):
    return (path.softmax(-1) * world.reward).sum(-1).mean(-1)


figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.2))
for ax, name, quantity in zip(axes, ("gold", "mass of unseen answers"), (gold_of, unseen), strict=True):
    plots.curves(ax, {n: (range(1, 1002), quantity(path)) for n, path in paths.items()}, ylabel=name)
    ax.set(xscale="log", xlabel="step (log axis; 1 is the start)")
axes[0].axhline(world.expected_reward(best), color=plots.GOLD, linestyle=":")
alt = "DPO: gold falls at once, unseen answers grow to one half. Online DPO: gold rises to the optimum."
plots.show(figure, alt=alt)

# %% [markdown] fresh-after
# **Takeaway: with fresh labels the very same loss finds the optimum.** Bad answers are pushed down whenever they are
# given. Rare good ones are found as they become less rare: the late rise, after some five hundred steps, is the
# excellent answer. No gradient flows through the sampling: it only decides which answers are compared.
#
# ## Play
#
# Which answers do the pairs show, and at which $\beta$? **Find a setting in which DPO is worse than the reference, one
# in which more coverage makes it *worse*, and a $\beta$ from which on the leak is harmless.** (The policy is the exact
# end of training on infinitely many labels. The button draws 300 labels instead, and trains on those.)

# %% play
choices = {"usual, good": [0, 1], "usual, good, excellent": [0, 1, 2], "good, excellent": [1, 2]}
choices |= {"usual, excellent, wrong": [0, 2, 3], "all but nonsense": [0, 1, 2, 3, 4], "all six": list(range(6))}


def run(seed, covered, beta):
    here, r = torch.isin(torch.arange(6), torch.tensor(choices[covered]))[None], world.reward
    logits = reference + torch.where(here, r - r[here].mean(), 0.0) / beta  # the end, as derived
    if seed:
        writer, draw = torch.zeros_like(r).masked_fill(~here, -math.inf), torch.Generator().manual_seed(seed)
        prompt, i, j = world.sample_pairs(300, data_logits=writer, generator=draw)

        def of_the_drawn(z):
            log_ratio = world.log_ratio(z)
            return -logsigmoid(beta * (log_ratio[prompt, i] - log_ratio[prompt, j])).mean()

        logits = descend(of_the_drawn, reference, size=2 / beta**2, steps=300)[-1]
    return Slide.of_logits(reference, world.optimum(beta), logits)


# %% panel
controls = {"covered": list(choices), "beta": [2.0, 1.0, 0.5, 0.3, 0.1]}
start = {"covered": "usual, good, excellent", "beta": 0.5}
coverage(run, names, choices, world.reward[0].tolist(), start=start, **controls)

# %% [markdown] play-after
# Without the excellent answer DPO does *better* at 0.5: the rarer the praised answer, the further everything else
# must fall. At 0.1 the excellent answer has risen far enough to take all, and the leak is closed. And a single
# *wrong* answer among the pairs helps more than a good one: whoever is to be pushed down must be shown. More labels
# would not help: their number is infinite in every frame.
#
# ## One budget, five ways to spend it
#
# Now PocketWorld, and the question everybody asks: which is better? That has no answer until one says what is held
# equal. Here is what we hold equal, or as nearly equal as we can:
#
# | | |
# |---|---|
# | **labels** | 1,024 judgements by our twenty people, for everybody |
# | **offline DPO** | 1,024 pairs of answers of the SFT model, judged once; four epochs |
# | **PPO** | a reward model fitted to those same pairs; 40 rounds of 64 answers |
# | **online DPO** | 40 rounds of 64 fresh pairs, judged by that reward model: no new label |
# | **best of n** | the SFT model's answers, chosen by that reward model: no training |
# | **DPO, fresh labels** | the same budget spent otherwise: 16 rounds of 64 fresh pairs, judged by *people* |
# | **axis** | gold against KL; each method moves along it by its own dial: β, or n |
# | **tuning** | learning rate: one of four, the one with most gold on seed 3, which is not used again |
# | **seeds** | three: SFT model, pairs, people, reward model and training, all anew |
#
# **DPO, fresh labels** is the pure test of freshness: DPO's loss and 1,024 human labels in both, once on pairs that
# the SFT model wrote, once on pairs that the policy writes as it goes. Here both are run live, with evaluation on
# eight answers to each question. **By how much gold will they differ?**

# %% live
# NBVAL_IGNORE_OUTPUT
here, judged = lab(SEED), {}
bench = chapter11.Bench(here, "own")  # pairs of the SFT model's answers, and a reward model of them
for method in ("DPO", "DPO, fresh labels"):
    policy = models.trainable_copy(here.sft)
    train.finish(bench.loop(method, policy, beta=0.1, learning_rate=chapter11.RATES[method]))
    judged[method] = here.evaluate(policy, score=bench.score, samples=8)
for method, found in judged.items():
    print(f"{method}: gold {found.gold.mean:.2f}, score {found.score.mean:.2f}, KL {found.kl.mean:.1f}")
    print(f"   {found.prompts[0]} {found.texts[0][0]}")

# %% [markdown] paired-text
# ## On the same questions
#
# Both policies answered the same 128 questions. How sure are we of the difference? Let $a_x$ and $b_x$ be the mean gold of
# their answers to question $x$. Some questions are hard for both, so that $a_x$ and $b_x$ go together, and
#
# $$\mathrm{Var}(a - b) = \mathrm{Var}(a) + \mathrm{Var}(b) - 2\,\mathrm{Cov}(a, b).$$
#
# Whoever compares two error bars leaves the last term out, and sees less than the data say. The **paired bootstrap**
# keeps it: draw 128 questions *with replacement*, the same for both, take the difference of the means; again, two
# thousand times; and give the range of the middle 95 %. It asks: what might other questions have said? **Which of
# the two intervals will be narrower?**


# %% paired
def interval(a, b, others=None, draws=2000):
    draw = torch.Generator().manual_seed(SEED)
    rows = torch.randint(len(a), (draws, len(a)), generator=draw)
    of_b = torch.randint(len(a), (draws, len(a)), generator=draw) if others else rows
    return torch.quantile(a[rows].mean(1) - b[of_b].mean(1), torch.tensor([0.025, 0.975]))


stale, fresh = (found.sample_gold.mean(1) for found in judged.values())  # (128,)
paired, unpaired = interval(fresh, stale), interval(fresh, stale, others=True)
print("fresh labels minus offline, 95 %: {:+.1f} to {:+.1f}".format(*paired))
claims({
    "both find the same questions hard": torch.corrcoef(torch.stack([fresh, stale]))[0, 1] > 0.2,
    "0 is not in the paired interval": paired[0] > 0,
    "paired, the interval is narrower": paired.diff() < unpaired.diff(),
})

# %% [markdown] paired-after
# The interval speaks of *these two policies* and of questions like these. It does not speak of other SFT models,
# other people or another training run: for that there are seeds. Neither replaces the other.
#
# ## Equal effort
#
# If one method is tuned and the other is not, the tuned one wins. So all four loops had the same four learning rates
# to choose from, at the middle of their dial. **Would the order be the same at the usual 5e-4?**

# %% tuning
(tuned,) = experiments.load("11_tuning")
rates, winners = chapter11.TUNING["rates"], {}
print(f"{'gold on seed 3':<20}", *(f"{rate:>8.1e}" for rate in rates))
for method in chapter11.RATES:
    gold = [row["gold"] for row in tuned if row["method"] == method]
    winners[method] = rates[int(np.argmax(gold))]
    print(f"{method:<20}", *(f"{value:8.2f}" for value in gold), f"  -> {winners[method]:.1e}")
claims({"the runs below use, for each, the rate with most gold": winners == chapter11.RATES})

# %% [markdown] plane-text
# With the usual rate, fresh labels would have looked worse than offline DPO: their sixteen steps need to be larger.
# Two of the four winners lie at an edge of the grid, so that PPO might gain from less, and fresh labels from more.
#
# ## Five methods on one plane
#
# The runs are made by `prefcourse build --figures 11_methods`; settings and versions are stored beside them. Left is
# what is true, right what PPO, online DPO and best of n were told to raise: the score of the reward model, which
# knows only what is in the 1,024 labels. Lines are means over three seeds, as far as every seed came; bands reach
# from the lowest seed to the highest. Along a method's line $\beta$ falls, or n grows. The black line is the frontier
# of chapter 8, the roof: the optimum for gold, from 128 answers of the SFT model to each question, without training.
# The cell below prints how many of them carry it at each distance; below ten it is dotted. The grey one is the
# optimum for the *score*: what perfect PPO would do.
#
# **Papers find PPO and online methods ahead. Will it be so on the left? On the right? Where does the method with
# fresh labels lie?**

# %% roof
seeds, bands = experiments.load("11_methods"), {}
for what in ("gold", "score"):
    methods = ("PPO", "DPO", "online DPO", "best of n", "DPO, fresh labels")
    bands[what] = {name: chapter11.band(seeds, "own", name, what) for name in methods}
roof = chapter11.roof(seeds)
carried = (f"{point.effective_sample_size:.0f} at {point.kl:.1f}" for point in roof[::3])
print("effective sample size of the roof, of 128 answers, at so many nats:", ", ".join(carried))

# %% plane
figure, axes = plt.subplots(1, 2, figsize=(10.4, 4.6), layout="constrained")
plots.reward_kl_plane(axes[0], {}, frontier=roof).get_legend().remove()
for ax, (what, lines) in zip(axes, bands.items(), strict=True):
    plots.banded_curves(ax, lines, xlabel="KL from the SFT model (nats)", ylabel=what)
    kl, _, middle, _ = chapter11.band(seeds, "own", "optimum for the score", what)
    ax.plot(kl, middle, "--", color=plots.REFERENCE, label="optimum for the score", zorder=1)
axes[0].set(xlim=(0, 2.5), ylim=(0.3, 2.3), title="What is true")
axes[1].set(xlim=(0, 2.5), title="What the reward model says")
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
plots.show(
    figure,
    alt="Gold: all far below the roof; DPO with fresh labels ends highest, offline DPO next, the other "
    "three together. Score: the order is turned over, best of n and PPO lead.",
)

# %% plane-claims
at = {"seeds": seeds, "source": "own", "kl": 0.8}
gold, score = (chapter11.gap("DPO", "PPO", what, **at) for what in ("gold", "score"))  # one number per seed
perfect = chapter11.gap("PPO", "optimum for the score", "gold", **at)
early = chapter11.gap("DPO, fresh labels", "DPO", "gold", **at)
late = np.subtract(*(chapter11.most_gold(seeds, "own", name) for name in ("DPO, fresh labels", "DPO")))
print("DPO minus PPO at 0.8 nats, gold:", *(f"{x:+.2f}" for x in gold), "score:", *(f"{x:+.2f}" for x in score))
print("fresh minus offline DPO, the best of each, gold:", *(f"{x:+.2f}" for x in late))
claims({
    "DPO has at least 0.1 more gold than PPO, under each seed": gold.min() > 0.1,
    "and less score": score.max() < -0.03,
    "PPO's gold is that of its score's optimum, within 0.15": abs(perfect).max() < 0.15,
    "at 0.8 nats fresh labels bring nothing yet": abs(early).max() < 0.05,
    "in the end 0.08 or more, under each seed": late.min() > 0.08,
})

# %% [markdown] plane-after
# **Takeaway: offline DPO leads PPO in gold and trails it in score. Fresh labels go further than either.** Three things
# are in this figure:
#
# - **Judge and teacher.** By the score PPO is ahead under every seed: that is what it climbed. By gold it is behind.
#   Whoever compares methods by the reward model that trained one of them has fixed the answer in advance.
# - **The reward model is the ceiling.** PPO has the gold that perfect training on this score would have, and so,
#   roughly, have online DPO and best of n. Their optimisers are not at fault, and no other would do better: with
#   1,024 noisy labels, this score knows no more. Offline DPO learnt another reward from the same labels (chapter 8
#   noticed it), and here it is the better one. Nothing is unseen that matters: the pairs are the SFT model's own
#   answers.
# - **Freshness.** Near the SFT model old pairs are as good as fresh ones; they *are* fresh there. Further out offline
#   DPO gains no more, while DPO with as many human labels, on what the policy now says, goes on rising. The loss does
#   not explain that gap: it is the same in both. (From the SFT model to a method's first point there is only a
#   straight line; the points begin at 0.3 to 0.8 nats.)
#
# ## Somebody else's pairs
#
# So far the pairs were answers of the SFT model itself. Now the same number of labels on pairs that *others* wrote: two
# **mediocre** writers, who give one or two uses and err in three of ten, or two **poor** ones, who only write "yeah ."
# and "look it up .". The SFT model has learnt from both, among others. Nothing else changes; learning rates stay.
#
# On mediocre pairs there is much to learn, but no answer with three uses and no closing is among them. On poor pairs
# there is nothing to learn but which filler people mind least. Below the curves: how many of the policy's answers occur,
# word for word, in no pair. **Who will be hurt more by which pairs, PPO or DPO?**

# %% coverage
figure, rows = plt.subplots(2, 3, figsize=(10.4, 5.6), sharey="row", sharex=True, layout="constrained")
for column, source in zip(rows.T, ("own", "mediocre", "poor"), strict=True):
    for ax, what in zip(column, ("gold", "unseen"), strict=True):
        plots.curves_by_seed(ax, {name: chapter11.ways(seeds, source, name, what) for name in ("PPO", "DPO")})
    column[0].set_title(f"pairs: {source}")
    column[1].set(xscale="symlog", xlabel="KL (nats)", xticks=[0, 1, 3, 10], xticklabels=[0, 1, 3, 10])
rows[0, 0].set_ylabel("gold")
rows[1, 0].set_ylabel("share of unseen answers")
rows[0, 0].legend()
plots.show(
    figure,
    alt="Own pairs: DPO above PPO. Mediocre pairs: PPO rises, DPO falls below its start, more of it is "
    "unseen. Poor pairs: both fall, PPO furthest, to answers that the pairs show.",
)

# %% coverage-ends
start, won = chapter11.reference_gold(seeds), {}  # one number per seed, as in all of these
for source in ("own", "mediocre", "poor"):
    for method in ("PPO", "DPO"):
        gold = chapter11.at_beta(0.1, "gold", seeds=seeds, source=source, method=method)
        print(f"{source:>8} pairs, {method} at beta 0.1: gold", *(f"{x:+.2f}" for x in gold))
        won[source, method] = gold - start

# %% coverage-claims
lead = chapter11.gap("PPO", "DPO", "gold", seeds=seeds, source="mediocre", kl=1)
lured = chapter11.at_beta(0.1, "score", seeds=seeds, source="poor", method="PPO")
lured -= [seed["poor"]["reference"]["score"] for seed in seeds]
claims({
    "mediocre: PPO leads by 0.1 at one nat, each seed": lead.min() > 0.1,
    "there DPO ends below the SFT model": won["mediocre", "DPO"].max() < 0,
    "and PPO above it by 0.2": won["mediocre", "PPO"].min() > 0.2,
    "poor: DPO ends below it": won["poor", "DPO"].max() < 0,
    "by less than 0.3": won["poor", "DPO"].min() > -0.3,
    "PPO by more than a point, in two seeds of three": sorted(won["poor", "PPO"])[1] < -1,
    "while its score grew by 0.5, in all three": lured.min() > 0.5,
})

# %% [markdown] coverage-after
# **Takeaway: without coverage either may fail; which one depends on which reads better what it never saw.**
#
# With mediocre pairs it is as the papers say. To DPO these are strange answers: it can learn the margins between them
# by moving words that the policy needs elsewhere, and its loss cannot see what becomes of the rest. At least nine in
# ten of its answers are unseen. That was nearly so before training; but now they are worse. The reward model learnt
# from the same pairs that right facts are good and wrong ones bad. It reads that in new answers, too, and PPO asks it
# about its *own*. (Online DPO was run once on these pairs, at β = 3, where it goes about one nat; it ends between 0.3
# and 0.5 above the SFT model: it asks, too.)
#
# With poor pairs the reward model has only seen filler, and has no idea that facts are worth anything. PPO trusts it
# and goes where the score is high: in two seeds of three *into* the data, to a few words of filler. DPO is pulled less
# far: between its pairs' answers there is little to move. **An answer in the data is not a good
# answer, and an unseen one is not a bad answer.** Coverage means that what matters was *compared*.
#
# So "PPO is better" and "DPO is better" are both in this figure, in the same world, with the same code.

# %% [markdown] cost-text
# ## What it costs
#
# **Which method is the most expensive?** Seconds are those of one core, as multiples of offline DPO's training.

# %% cost
# NBVAL_IGNORE_OUTPUT
spent, fitting = chapter11.seconds(seeds, "own"), np.mean([seed["own"]["fitting"] for seed in seeds])
print(f"{'':<20}{'training':>9}{'of it reward model':>20}{'labels':>9}{'each answer':>13}")
for method in chapter11.RATES:
    extra = fitting if method in ("PPO", "online DPO") else 0.0
    mean, of_it = (spent[method] + extra) / spent["DPO"], extra / spent["DPO"]
    print(f"{method:<20}{mean:>9.1f}{of_it:>20.1f}{1024:>9,}{'1':>13}")
only = fitting / spent["DPO"]
print(f"{'best of n':<20}{only:>9.1f}{only:>20.1f}{1024:>9,}{'n':>13}")

# %% [markdown] cost-after
# In training PPO is the most expensive, with online DPO close behind. Best of n hardly trains and pays with every
# answer instead. And one price is not in the table: fresh labels need people who are there sixteen times, whenever
# the policy has answered.
#
# ## What this shows, and what it does not
#
# It shows that "PPO or DPO?" is no question about a loss. In one world, with one budget of labels, either can be ahead:
# it depends on whose answers the pairs show, on how well the reward model reads what it never saw, and on what one
# calls success, gold or score. It shows that a label on a fresh answer is worth more than one on an old answer.
#
# It does not show which method is better *for you*. Our model has a hundred thousand weights, our answers have twenty
# words, and the labels are few, also for the reward model. Larger reward models are better judges, and that helps PPO
# and online DPO, not offline DPO. Whoever has a judge that is right (a test, a proof) has fresh labels for nothing.
# Three seeds show what is large; of differences below a tenth of a point they say nothing. And the online DPO of our
# figure asks a reward model that never gets a new label; with fresh human labels it is another method, drawn beside
# it.

# %% [markdown] summary
# ## In five lines
#
# 1. A loss on pairs fixes margins between answers that are shown. Unseen answers take what the others lose, in
#    proportion, and nobody notices: the loss is at its minimum.
# 2. PPO on a reward model of the same knowledge goes to the same policy. The loss is not the gap.
# 3. What helps: a reward or policy that can read unseen answers (coverage by generalisation), and labels on the answers
#    that the policy now gives (freshness).
# 4. With pairs of its own, offline DPO was not behind PPO here: nothing that matters was unseen, and the judge of all
#    others was made of the same labels. With somebody else's pairs either of the two may fail.
# 5. Compare on one KL axis, with one budget, equal tuning, several seeds, on the same questions; and by gold, not by
#    the score that one side was trained on.

# %% [markdown] questions
# ## Three questions
#
# **1.** A colleague trains DPO on a public set of pairs, written by a far better model than hers. The loss falls nicely,
# accuracy on held-out pairs is 75 %, and her model gets worse. What do you look at first?
#
# <details><summary>Answer</summary>
#
# At what her model says *now*, and whether anything like it occurs in the pairs. Both sides of each pair may be answers
# that her model hardly ever gives: the margin between them can be learnt while the mass goes elsewhere. Remedies: SFT
# on the chosen answers first, so that the pairs are likely; pairs of her own model; a larger $\beta$.
# </details>
#
# **2.** PPO's reward model and DPO are fitted to the same 1,024 labels. Can PPO know more than the labels said?
#
# <details><summary>Answer</summary>
#
# No. On-policy samples bring no new judgement. But it can *use* more of it: the reward model generalises to unseen
# answers in another way than the policy does, and PPO applies that where the policy now is. If it generalises badly,
# PPO applies that, too. Fresh labels are the one way to know more.
# </details>
#
# **3.** Two policies differ by 0.05 in gold, with a standard error of 0.04 each. "Not significant," says a reviewer.
# What do you ask?
#
# <details><summary>Answer</summary>
#
# Were the questions the same? Then the error of the difference is not $0.04\sqrt2$ but smaller, by twice the
# covariance; compute it from the differences. And then: are these two *policies* to be compared, or two *methods*? For
# methods the unit is the seed, and no number of questions replaces it.
# </details>

# %% [markdown] classical
# ## The classical results beside ours
#
# | | published | here | why they differ |
# |---|---|---|---|
# | PPO and DPO, judged by a reward model | HH-RLHF: {{published:xu-ppo-hh}} | own pairs: PPO ahead in score by 0.05 or more at 0.8 nats, behind in *gold* by 0.1 or more | they have no gold; ours turns the order over. Whether theirs would, nobody knows |
# | PPO and DPO in all | {{published:xu-ppo-all}} | with own pairs no, with mediocre pairs yes, with poor pairs no | our offline pairs are the SFT model's own, and fresh when training begins |
# | is it coverage? | coverage and quality of data {{published:tang-coverage}} | without coverage large gaps, in either direction; with it fresh labels still go further | on the second half we agree: samples of the present policy do something that no fixed set of pairs does |
# | online DPO | {{published:oaif-humans}} | judged by people: ahead; by a reward model of the same labels: behind offline DPO | their judge is a large language model, not made of the same labels; ours knows no more than the pairs |

# %% [markdown] further
# ## Further reading
#
# - DPO may find solutions that exploit unseen responses, PPO's are among them; and PPO ahead: arXiv 2404.10719
# - Online against offline, hypothesis by hypothesis: arXiv 2405.08448
# - Online DPO with a language model as judge: arXiv 2402.04792
# - On-policy samples and pushing down, which of them helps when: arXiv 2404.14367
# - Coverage as theory, and DPO with a KL on the policy's own samples: arXiv 2406.01462
# - The same optima whatever the loss, and why online still helps: arXiv 2503.01067
#
# **Next:** exercises 11.1 to 11.3, in `exercises/11_ppo_vs_dpo.ipynb`. Then chapter 12: how far the score can be pushed
# before gold falls, measured.
# %% [exercises]
# %% [markdown] title
# # 11 · Exercises: what no pair shows, a fresh step, a paired interval
#
# Three functions, a good hour. Write each body, run the cell, then run its check. After each check the function is put
# to use: on the table of the chapter, in a training run, and on two policies.
#
# Tables come as tensors in double precision, numbers of prompts and answers as whole numbers. A check prints them as
# lists; to try such a case yourself, wrap each list in `torch.tensor(...)`. Letters in the signatures are sizes: P
# prompts, V answers, N pairs, B rows of a batch, T columns.
#
# Stuck? Open the hints one at a time. The solved notebook is in `solutions/`, under the same name. In a terminal
# `prefcourse check 11` checks what you saved, and `prefcourse reset 11.1` gives you an exercise afresh.

# %% setup
import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from prefcourse import models, plots, train
from prefcourse.checks import NotWritten, check
from prefcourse.experiments import chapter11
from prefcourse.lab import lab
from prefcourse.logprobs import sequence_logprobs
from prefcourse.rollout import sample as sample_texts
from prefcourse.worlds import TableWorld

torch.set_num_threads(1)
plt.rcParams.update(plots.STYLE)
Model = Callable[[Int[Tensor, "B T"]], Float[Tensor, "B T V"]]  # logits of a language model

# %% [markdown] question-11-1
# **How much probability does the policy give to answers that no pair shows?** A row of `logprobs` is a policy on one
# prompt: log-probabilities of its V answers. Pair number n shows two answers to prompt `prompts[n]`: the columns
# `chosen[n]` and `rejected[n]`. Return the mass of the unseen answers, mean over the P prompts; one number.
#
# - Chosen or rejected, an answer in a pair is seen. In how many pairs it occurs does not matter.
# - What is seen for one prompt is not thereby seen for another.
# - A prompt without any pair counts 1. There may be no pairs at all.
# - A log-probability may be `-inf`: an answer that is never given has no mass.
#
# By hand first: one prompt, three answers with probabilities 0.5, 0.3 and 0.2, and one pair of the first and the third.
# (0.3 is unseen.)


# %% answer-11-1
def unseen_mass(
    logprobs: Float[Tensor, "P V"], prompts: Int[Tensor, " N"], chosen: Int[Tensor, " N"], rejected: Int[Tensor, " N"]
) -> Float[Tensor, ""]:
    """How much probability goes to answers that occur in no pair? Mean over the prompts."""
    seen = torch.zeros_like(logprobs, dtype=torch.bool)
    seen[prompts, chosen] = True
    seen[prompts, rejected] = True
    return logprobs.exp().masked_fill(seen, 0.0).sum(-1).mean()


# %% [markdown] use-11-1-text
# **Watch the leak.** The chapter's question and a second one. To the first the pairs show answers 0, 1 and 2, to the
# second 1 and 3. Offline DPO descends, your function watches. **Will the mass of unseen answers grow? And gold?** (The
# last number says how far the loss is above its minimum.)

# %% leak
likely = [[0.70, 0.10, 0.002, 0.10, 0.06, 0.038], [0.08, 0.78, 0.05, 0.004, 0.066, 0.02]]
gold = [[0.0, 1.0, 2.0, -1.0, -2.0, -3.0], [-1.0, 0.5, -2.0, 2.5, 0.0, -3.0]]
table = TableWorld(torch.tensor(gold).double(), torch.tensor(likely).double().log())
never = -math.inf
writers = torch.tensor([[0, 0, 0, never, never, never], [never, 0, never, 0, never, never]])
pairs = table.sample_pairs(500, data_logits=writers, generator=torch.Generator().manual_seed(0))


def offline_dpo(beta=0.5, steps=300):
    logits, least = table.ref_logits, table.dpo_population_loss(table.optimum(beta), beta=beta, data_logits=writers)
    for step in range(steps + 1):
        logits = logits.detach().requires_grad_()
        loss = table.dpo_population_loss(logits, beta=beta, data_logits=writers)
        if step in (0, 3, 10, 30, 100, steps):
            yield step, logits.detach(), abs((loss - least).item())
        logits = logits - 16 * torch.autograd.grad(loss, logits)[0]


# %% use-11-1
if check("11.1", unseen_mass).passed:
    for step, logits, above in offline_dpo():
        mass = float(unseen_mass(logits.log_softmax(-1), *pairs))
        gold = table.expected_reward(logits).item()
        print(f"step {step:>4}: unseen {mass:.3f}, gold {gold:+.3f}, loss {above:.4f} too high")
else:
    print("Here your function will watch DPO's mass leak away, once 11.1 is solved.")

# %% [markdown] question-11-2
# **One step of online DPO: what is the loss?** Let the policy answer each prompt twice, let the judge score the
# answers, and return DPO's loss on these pairs. What you are given:
#
# - `policy(input_ids)` and `reference(input_ids)`: logits of shape (B, T, V), as language models give them. Column t-1
#   predicts token t.
# - `sample(model, prompts)` lets that model answer: `(input_ids, response_mask)`, two rows to each prompt, one after the
#   other. It draws anew at every call; call it once.
# - `judge(input_ids, response_mask)`: one score per row. The higher score is the chosen answer.
#
# What is asked:
#
# - The loss is $-\log\sigma$ of $\beta$ times (chosen's log-ratio minus rejected's), the mean over the decided pairs. A
#   log-ratio is that of a whole response: the sum over its tokens, log policy minus log reference.
# - Two equal scores say nothing: that pair is left out, of the mean, too. If no pair is decided, the loss is 0.
# - A gradient reaches the policy only, and through the log-probabilities only: not the reference, not the judge.
# - `sequence_logprobs(logits, input_ids, response_mask)` of chapter 4 is imported above. You may return the loss alone,
#   or a pair (loss, metrics). Log-ratios go up to 10,000; the loss stays finite.
#
# By hand first: one prompt; log-ratios 0.5 and -1.5, scores 2 and 3, beta 0.5. What is the margin? (-1, and so the
# loss is 1.313.)
#
# The check prints this case as `online_dpo_step([0.5, -1.5], [2.0, 3.0], beta=0.5)`: log-ratios and scores, two to each
# prompt. In its longer cases policy and reference are tables (logits of the next token after each token), then come
# points per token for the judge, and the prompts; `seed` is that of `sample`.


# %% answer-11-2
def online_dpo_step(
    policy: Model, reference: Model, prompts: list, sample: Callable, judge: Callable, *, beta: float
) -> Float[Tensor, ""]:
    """What is DPO's loss on fresh answers of the policy, two to each prompt, as the judge sees
    them? Mean over decided pairs. A gradient reaches the policy only."""
    with torch.no_grad():
        input_ids, mask = sample(policy, prompts)
        scores = judge(input_ids, mask).view(-1, 2)  # (2 P,) -> (P, 2)
        ref_logprobs = sequence_logprobs(reference(input_ids), input_ids, mask)
    log_ratios = (sequence_logprobs(policy(input_ids), input_ids, mask) - ref_logprobs).view(-1, 2)
    sign = (scores[:, 0] - scores[:, 1]).sign()  # 1: the first is chosen, -1: the second, 0: nobody is
    losses = -F.logsigmoid(sign * beta * (log_ratios[:, 0] - log_ratios[:, 1]))
    return losses.masked_fill(sign == 0, 0.0).sum() / (sign != 0).sum().clamp(min=1)


# %% [markdown] use-11-2-text
# **Train with it.** TinyLM from the SFT model on, 24 steps of 32 prompts with your loss. The judges are people: every
# pair is shown to one of the twenty. That is 768 labels at most. **What was the gold of the chapter's policies, and
# how far did they go?**


# %% people
class Logits:
    def __init__(self, lm):
        self.lm = lm

    def __call__(self, input_ids):
        return self.lm(input_ids=input_ids).logits


# %% fresh-pairs
def fresh_pairs(here, seed):  # `sample` and `judge` for your function; kept is what the people need to read
    people = chapter11.judged_by_people(here, chapter11.population(seed), seed=seed)
    draw, kept = torch.Generator().manual_seed(seed), {}

    def sample(model, prompts):
        twice = [prompt for prompt in prompts for _ in range(2)]
        kept["rollout"] = sample_texts(model.lm, here.tokenizer, twice, max_new_tokens=32, generator=draw)
        rows = kept["rollout"].sequences.left_aligned()
        return rows.input_ids, rows.response_mask

    return sample, lambda input_ids, response_mask: people(kept["rollout"])


# %% use-11-2
# NBVAL_IGNORE_OUTPUT
if check("11.2", online_dpo_step).passed:
    here = lab(seed=0)
    policy, (sample, judge) = models.trainable_copy(here.sft), fresh_pairs(here, seed=0)
    optimiser = torch.optim.AdamW(policy.parameters(), lr=1e-3)
    for step in range(24):
        asked = [here.prompts[(32 * step + i * 5) % len(here.prompts)] for i in range(32)]
        loss = online_dpo_step(Logits(policy), Logits(here.sft), asked, sample, judge, beta=0.1)
        loss = loss[0] if isinstance(loss, tuple) else loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimiser.step()
    for name, model in {"SFT model": here.sft, "your policy": policy}.items():
        found = here.evaluate(model)
        print(f"{name}: gold {found.gold.mean:.2f}, KL {found.kl.mean:.2f}: {found.texts[0][0]}")
else:
    print("Here your loss will train TinyLM on fresh labels, once 11.2 is solved.")

# %% [markdown] question-11-3
# **How large is the difference of two policies, and how sure is it?** Both answered the same P questions; `gold_a` has n
# answers of a to each, `gold_b` m answers of b. Return `(low, high)`: a 95 % interval for a's mean minus b's, by the
# paired percentile bootstrap.
#
# - One difference per question: the mean of a's answers minus the mean of b's.
# - One draw: P questions, *with replacement*, the same for both policies; the mean of their differences. There are
#   `draws` draws. `low` and `high` are the 2.5th and the 97.5th percentile of them.
# - How percentiles between two draws are interpolated is up to you, and so is the generator. But the same `seed` gives
#   the same interval, and another seed another. The check therefore allows a fifth of a standard error to each end.
# - With a single question, or the same difference on all, both ends are that difference.
#
# By hand first: two questions with differences 0 and 1. Which means can a draw have, and how often? (0, 1/2 and 1, with
# probabilities 1/4, 1/2 and 1/4: the interval is 0 to 1.)
#
# Where there are many questions, the check prints both ends as multiples of the standard error. In a printed call
# `again=True` means that it called more than once, `sets=True` that it called for many data sets; your function gets
# neither.


# %% answer-11-3
def paired_bootstrap(
    gold_a: Float[Tensor, "P n"], gold_b: Float[Tensor, "P m"], *, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Between which bounds lies a's mean gold minus b's, at 95 %? Percentiles of the means of
    `draws` samples of the questions, with replacement."""
    difference = gold_a.mean(1) - gold_b.mean(1)  # (P,)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(difference), (draws, len(difference)), generator=generator)
    means = difference[rows].mean(1)  # (draws, P) -> (draws,)
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=means.dtype)).tolist()
    return low, high


# %% [markdown] use-11-3-text
# **Is it one?** Offline DPO at two betas, on the same 1,024 labels; four answers to each of the 128 questions. Your
# interval, beside the one that forgets that the questions are the same. **Would you publish that one of the two is
# better?**

# %% use-11-3
# NBVAL_IGNORE_OUTPUT
if check("11.3", paired_bootstrap).passed:
    bench, found = chapter11.Bench(lab(seed=0), "own"), {}
    for beta in (0.3, 0.1):
        policy = models.trainable_copy(bench.here.sft)
        train.finish(bench.loop("DPO", policy, beta=beta, learning_rate=5e-4))
        found[beta] = bench.here.evaluate(policy).sample_gold
    a, b = found.values()
    low, high = (float(end) for end in paired_bootstrap(a, b, draws=2000, seed=0))
    loose = 1.96 * math.sqrt(a.mean(1).var() / len(a) + b.mean(1).var() / len(b))
    middle = (a.mean() - b.mean()).item()
    print(f"beta 0.3 minus beta 0.1: {middle:+.3f}; paired {low:+.3f} to {high:+.3f}")
    print(f"as if the questions were others: {middle - loose:+.3f} to {middle + loose:+.3f}")
else:
    print("Here your interval will compare two policies, once 11.3 is solved.")
