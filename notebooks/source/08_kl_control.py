# Chapter 8. `prefcourse build 08` makes the three notebooks of this script; see prefcourse/build/script.py.

# %% [markdown] title
# # 8 · KL Control and the Reward-KL Frontier
#
# **Key insight.** How far a policy has moved from its reference is counted in nats of KL, and that is the honest
# axis: at each KL there is a highest reward that no policy can exceed. A penalty, a budget, early stopping and
# sampling are four ways to walk along that line. A report that gives a $\beta$, or a number of steps, says how the
# policy walked; the KL says where it is.
#
# **After this chapter you can**
# - draw the frontier of any table, and prove that it is concave and that its slope is $\beta$;
# - find the best policy within a budget of KL;
# - say what early stopping and best-of-n have to do with $\beta$, and what they cost;
# - tell the two directions of KL apart by what they forgive;
# - estimate the frontier of a language model without training, and say how far the estimate can be trusted;
# - steer PPO to a KL of your choice.
#
# **Time.** 55 minutes to read; all cells together take half a minute on one CPU core, a minute the first time.
#
# **Before.** Chapter 3 (the optimum is a tilt, $\log Z$). Chapters 5 and 6 (DPO's settings, reward models) help.
# PPO is used as in chapter 2, from outside; chapter 9 opens it.
#
# **How to read.** Most cells are preceded by a question in bold. Decide on an answer, run the cell, then read on.

# %% setup
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

from prefcourse import evaluate, experiments, models, plots, train
from prefcourse.claims import claims
from prefcourse.evaluate import Estimate
from prefcourse.experiments.chapter08 import answers_of_the_reference, at, averaged, runs_of
from prefcourse.lab import lab
from prefcourse.widgets import chapter08 as drawn
from prefcourse.widgets.runs import Materials, Settings
from prefcourse.worlds import TableWorld

torch.set_num_threads(1)
plt.rcParams.update(plots.STYLE)
SEED = 0

# %% [markdown] sweep-text
# ## Every beta is a point
#
# Chapter 3 gave the best policy for *reward minus $\beta$ KL*: the reference, tilted by $e^{r/\beta}$. It asked
# what the policy looks like. Now we ask where it stands: how much does it earn, and how far is it from the
# reference?
#
# $$R(\beta) = \sum_y \pi_\beta(y)\,r(y),\qquad
# K(\beta) = \mathrm{KL}(\pi_\beta, \pi_{\text{ref}}) =
# \sum_y \pi_\beta(y)\log\frac{\pi_\beta(y)}{\pi_{\text{ref}}(y)}$$
#
# Put $\pi_\beta = \pi_{\text{ref}}\,e^{r/\beta}/Z$ into the logarithm, and the second sum is already computed
# (chapter 5 used this):
#
# $$K(\beta) = \sum_y \pi_\beta(y)\left[\frac{r(y)}{\beta} - \log Z\right] = \frac{R(\beta)}{\beta} - \log Z$$
#
# The world is chapter 3's: one question, five answers. **As beta falls from 20 to 0.05, will the points come
# closer together or further apart?**

# %% sweep
reference = torch.tensor([0.10, 0.15, 0.30, 0.25, 0.20], dtype=torch.float64)
reward = torch.tensor([2.0, 1.2, 0.5, -0.6, -1.2], dtype=torch.float64)  # right, flattering, ...


def kl(policy, other):
    return torch.special.xlogy(policy, policy / other).sum(-1)  # 0 log 0 = 0


def optimum(beta, reward=reward):
    return (reference.log() + reward / beta).softmax(-1)


betas = np.geomspace(20, 0.05, 200)
path = torch.stack([optimum(beta) for beta in betas])  # (200, 5)
K, R = kl(path, reference), path @ reward
for i in range(0, 200, 33):
    print(f"beta {betas[i]:5.2f}: KL {K[i]:.3f}, reward {R[i]:+.2f}")

# %% [markdown] tangent-text
# ## No policy lies above it
#
# Why is this line a limit? No policy has a better objective than $\pi_\beta$. Written out, for any policy $\pi$
# at all:
#
# $$\mathbb E_\pi[r] - \beta\,\mathrm{KL}(\pi, \pi_{\text{ref}}) \;\le\; R(\beta) - \beta K(\beta)
# \qquad\Rightarrow\qquad
# \mathbb E_\pi[r] \;\le\; R(\beta) + \beta\,\big[\mathrm{KL}(\pi, \pi_{\text{ref}}) - K(\beta)\big]$$
#
# In the plane of reward against KL the right-hand side is a straight line. It passes through the point of
# $\beta$, and its slope is $\beta$. Every policy lies below *all* of these lines, one for each $\beta$, and the
# optima touch them. A curve that lies below all its tangents is **concave**, and it is the upper edge of all
# that is possible: the **frontier**.
#
# So $\beta$ is a price: **the reward that the next nat buys.** Calculus says so, too. Write $t = 1/\beta$. From
# $Z = \sum_y \pi_{\text{ref}}\,e^{tr}$ follows $d\log Z/dt = R$, and from that $d\pi/dt = \pi\,(r - R)$: what
# is better than the mean, gains. Then
#
# $$\frac{dR}{dt} = \sum_y \pi(y)\,\big(r(y) - R\big)\,r(y) = \mathrm{Var}_{\pi}(r),\qquad
# \frac{dK}{dt} = \frac{d}{dt}\big[tR - \log Z\big] = R + t\,\frac{dR}{dt} - R = t\,\mathrm{Var}_{\pi}(r),$$
#
# and one divided by the other is $dR/dK = 1/t = \beta$.
#
# And it says how the line begins. Next to the reference the variance is still that of the reference,
# $\sigma^2$ (here $\sigma$ is a standard deviation, not the sigmoid). Then the reward has grown by $t\sigma^2$ and
# the KL is $t^2\sigma^2/2$. The second gives $t = \sqrt{2\,\mathrm{KL}}/\sigma$, and with it the first says
#
# $$R - R_{\text{ref}} \;\approx\; \sigma\sqrt{2\,\mathrm{KL}} .$$
#
# The first steps are nearly free: a reward proportional to the **square root** of KL has an infinite slope at 0.
# **On a square-root axis, where will the line leave the straight one? What is the most KL that can be spent
# here?** The dots are three thousand policies drawn at random.

# %% tangents
draw = torch.Generator().manual_seed(SEED)
anybody = torch.randn(3000, 5, generator=draw, dtype=torch.float64).mul(2).softmax(-1)
one = np.abs(betas - 1).argmin()  # beta = 1
tangent = R[one] + (K - K[one])
sigma = (reference * (reward - reference @ reward).square()).sum().sqrt()
root = reference @ reward + sigma * (2 * K).sqrt()
figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.6), sharey=True)
drawn.frontier_twice(axes, (K, R), (kl(anybody, reference), anybody @ reward), tangent=tangent, root=root)
alt = """Left: reward against KL, a concave line above three thousand dots, and its tangent at beta 1.
Right: on a square-root axis the line begins straight, and bends below its straight continuation from 0.8
on."""
plots.show(figure, alt)


# %% frontier-claims
def below(policies):  # how far under the frontier
    return np.interp(kl(policies, reference), K, R) - (policies @ reward).numpy()


slopes, near = (R.diff() / K.diff()).numpy(), K < 0.5  # slopes: of the chord from each point to the next
between = (betas[1:] < slopes) & (slopes < betas[:-1])
claims({
    "none of the three thousand lies above the frontier": below(anybody).min() > -1e-3,
    "from point to point the slope lies between the two betas": between.all(),
    "it falls at every step: the frontier is concave": (np.diff(slopes) < 0).all(),
    "up to half a nat the square root is right within 0.03": torch.allclose(R[near], root[near], atol=0.03),
    "at most log(1 / 0.10) nats, by always giving the best answer": 2.29 < K[-1] <= math.log(10) + 1e-9,
})

# %% [markdown] tangent-after
# **Takeaway: the frontier is concave, beta is its slope, and it begins like a square root.** Bai et al. found
# the reward of their RLHF runs {{published:hh-reward-sqrt-kl}} in the square root of KL. Here is a reason, for
# runs that lie near the frontier: it begins like that, whatever the reward. Where rewards have a ceiling, it
# must bend.
#
# ## First way: a penalty
#
# Fix the price, take what it buys. That is RLHF's objective, and everybody who trains has to choose a $\beta$.
# InstructGPT has {{published:instructgpt-kl-beta}}. Is that a large price or a small one? One cannot say. Only
# $r/\beta$ enters the tilt: whoever measures the same rewards in other units needs another $\beta$ for the same
# policy. A $\beta$ without the scale of its rewards is a price without a currency, and the scale of a reward
# model is that of its annotators' noise (chapter 6). InstructGPT's 0.02 and our 0.1 cannot be compared. Their
# KLs could.
#
# ## Second way: a budget
#
# Then fix the KL instead, and let the price follow: the best policy with $\mathrm{KL} \le k$. It must be one of
# the $\pi_\beta$, because nothing lies above the frontier. Which one? $K$ falls as $\beta$ grows, all the way
# ($dK/dt = t\,\mathrm{Var} \ge 0$), so that bisection finds it.
#
# The same rewards in three units, at $\beta = 0.5$ and with a budget of 0.5 nats. **How many different policies
# will that be?**


# %% budget
def within(budget, reward=reward):
    low, high = 1e-3, 1e3  # too far, too near
    for _ in range(100):
        beta = math.sqrt(low * high)
        too_far = kl(optimum(beta, reward), reference) > budget
        low, high = (beta, high) if too_far else (low, beta)
    return beta, optimum(beta, reward)


for unit in (1, 3, 0.2):
    priced, (beta, budgeted) = optimum(0.5, reward * unit), within(0.5, reward * unit)
    print(f"rewards x {unit:<3}  beta 0.5: KL {kl(priced, reference):.2f}, reward {priced @ reward:+.2f}")
    print(f"{'0.5 nats':>23}: beta {beta:.3f}, reward {budgeted @ reward:+.2f}")

# %% [markdown] budget-after
# One price, three policies; one budget, three prices and a single policy. A budget does not care about units.
# (Its ends: a budget of 0 is the reference; one above $\log 10$ cannot be spent here. Exercise 8.3 has both,
# and many prompts.)
#
# ## Third way: stop early
#
# No penalty at all: climb the reward, and stop. Take $m$ steps of the *natural* gradient, the one that measures
# a step by its KL and not by its logits. Each step multiplies every probability by $e^{\eta r}$ and normalises:
#
# $$\pi_{m} \;\propto\; \pi_{\text{ref}}\; \underbrace{e^{\eta r} \cdots e^{\eta r}}_{m\ \text{times}}
# \;=\; \pi_{\text{ref}}\,e^{\eta m r}$$
#
# This is the tilt of $\beta = 1/(\eta m)$: **stopping after $m$ steps is a penalty of $\beta = 1/(\eta m)$.** The
# two are the same policy. Usual training takes the plain gradient of the logits, in which likely answers move first:
#
# $$\frac{\partial}{\partial z_y}\mathbb E[r] = \pi(y)\,\big(r(y) - \mathbb E[r]\big)$$
#
# **Will the plain path stay on the frontier, too?**


# %% stopping
def climb(steps, natural, size=0.1):
    logits, visited = reference.log(), []
    for _ in range(steps):
        policy = logits.softmax(-1)
        advantage = reward - policy @ reward
        logits = logits + size * (advantage if natural else policy * advantage)
        visited.append(logits.softmax(-1))
    return torch.stack(visited)


natural, plain = climb(40, natural=True), climb(400, natural=False)
tilts, missed = torch.stack([optimum(10 / m) for m in range(1, 41)]), below(plain)
claims({
    "natural: m steps of 0.1 are the optimum of beta = 10 / m, for all m": torch.allclose(natural, tilts),
    "plain: below the frontier, by 0.05 at most": -1e-3 < missed.min() and 0.01 < missed.max() < 0.05,
})

# %% [markdown] sampling-text
# ## Fourth way: sample, and choose
#
# No training either: draw $n$ answers of the reference and give the best. Let $G(y)$ be the share of the
# reference's answers that are no better than $y$, and $G^-(y)$ the share of the worse ones. The best of $n$ is no
# better than $y$ if all $n$ are, with probability $G(y)^n$. So
#
# $$\pi_n(y) = G(y)^n - G^-(y)^n .$$
#
# Its KL has a ceiling that one can know without any world. If there are very many answers, each rare, then the
# share $u = G(y)$ of a drawn answer is uniform between 0 and 1, that of the best of $n$ has the density
# $n u^{n-1}$, and
#
# $$\mathrm{KL} = \int_0^1 n u^{n-1} \log\big(n u^{n-1}\big)\,du = \log n + (n - 1)\int_0^1 n u^{n-1}\log u\,du
# = \log n - \frac{n-1}{n} .$$
#
# (The last integral is $-1/n$.) Where answers are few and recur, the KL is smaller (2401.01879). **With five
# answers: how far apart are the true KL and this bound at $n = 2$? At $n = 64$?**


# %% sampling
def best_of(n, reference, reward):
    order = reward.argsort(-1)  # from the worst to the best
    no_better = F.pad(reference.gather(-1, order).cumsum(-1).clamp(max=1), (1, 0))  # G, with a 0 before it
    return torch.zeros_like(reference).scatter(-1, order, (no_better**n).diff(dim=-1))


counts = [1, 2, 4, 8, 16, 64]
best = torch.stack([best_of(n, reference, reward) for n in counts])
bound, found = torch.tensor([math.log(n) - (n - 1) / n for n in counts]), kl(best, reference)
for n, policy, spent, most in zip(counts, best, found, bound, strict=True):
    print(f"best of {n:>2}: reward {policy @ reward:+.2f}, KL {spent:.2f}, bound {most:.2f}")
claims({
    "no KL is above its bound": (found <= bound + 1e-6).all(),
    "none lies more than 0.06 below the frontier": below(best).max() < 0.06,
})

# %% [markdown] map-text
# All four on one map. The budgets are those of 0.25, 0.5, ... nats. **Which of the ways lies lowest?**

# %% map
budgets = torch.stack([within(k)[1] for k in (0.25, 0.5, 1.0, 1.5, 2.0)])
shown = {"penalty: beta 2, 1, 0.5": torch.stack([optimum(b) for b in (2, 1, 0.5)]), "budget": budgets}
shown |= {"stopped early, plain gradient": plain[::25], "best of n": best}
ways = {name: (kl(policies, reference), policies @ reward) for name, policies in shown.items()}
figure, ax = plt.subplots(figsize=(6.6, 3.8))
drawn.ways(ax, (K, R), ways)
ax.plot(bound, best @ reward, ":", color=plots.OTHERS[3], label="best of n, at the bound of its KL")
ax.legend(loc="lower right")
alt = """Reward against KL. Penalty and budget lie on the frontier, early stopping and best-of-n a hair's
breadth below it, best-of-n at the bound of its KL to the right of it."""
plots.show(figure, alt)

# %% [markdown] map-after
# **Takeaway: four ways, one line.** On a table none of them is much worse than another; what they differ in is
# what one has to know (a price, a budget, when to stop, how many to draw) and who pays (training, or every single
# answer). So do not ask "PPO or best-of-n?" before you know at which KL.
#
# ## Which KL? There are two
#
# The axis is $\mathrm{KL}(\text{policy}, \text{reference})$: the log-ratio weighed by what the *policy* says.
# The other direction weighs it by what the reference says, and the two forgive different sins. An example with
# two humps. The **target** on the left has a larger and a smaller one; a policy may only be *one* hump, of any
# place and width. We take the nearest one in each sense. **Where will the two lie?**

# %% two-kls
x = torch.linspace(-4, 4, 161, dtype=torch.float64)
target = 0.6 * torch.exp(-2 * (x - 1.8) ** 2) + 0.4 * torch.exp(-2 * (x + 1.8) ** 2)
target = target.clamp(min=1e-12) / target.clamp(min=1e-12).sum()
places, widths = torch.linspace(-3, 3, 121)[:, None, None], torch.linspace(0.3, 3, 109)[:, None]
humps = (-((x - places) ** 2) / (2 * widths**2)).softmax(-1).flatten(0, 1)  # (121 * 109, 161)
nearest = {"KL(policy, target)": kl(humps, target), "KL(target, policy)": kl(target, humps)}
fits = {name: humps[distance.argmin()] for name, distance in nearest.items()}
one_sided, both_sides = fits.values()
claims({
    "KL(policy, target) chose one hump: less than 1 % left of the middle": one_sided[x < 0].sum() < 0.01,
    "KL(target, policy) covers both: more than 30 % on either side": 0.3 < both_sides[x < 0].sum() < 0.7,
    "over a quarter where the target has hardly anything": both_sides[x.abs() < 0.9].sum() > 0.25,
})

# %% two-kls-figure
figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.0), sharey=True)
for ax, (name, fit) in zip(axes, fits.items(), strict=True):
    ax.fill_between(x, target, color=plots.REFERENCE, alpha=0.3, label="target")
    ax.plot(x, fit, color=plots.POLICY, label="nearest hump")
    ax.set(title=f"smallest {name}", xlabel="answers, on a line", yticks=[])
axes[1].legend()
alt = """A target of two humps, twice. Left: the hump with the smallest KL(policy, target) covers the
larger one and leaves the other out. Right: that with the smallest KL(target, policy) lies across both and
the gap."""
plots.show(figure, alt)

# %% [markdown] two-kls-after
# **Takeaway: KL(policy, ·) forgives what is left out, KL(·, policy) what is made up.** In the first an answer
# that the policy never gives costs nothing; in the second an answer that the *target* never gives.
#
# Both occur in this course. The objective of RLHF falls short by $\beta\,\mathrm{KL}(\pi, \pi^*)$ (chapter 3,
# step 4): the first direction, and a network that cannot be the whole optimum becomes a part of it. Imitating
# samples is maximum likelihood, the second direction: SFT covers all that its demonstrators say
# (chapter 1).
#
# And our axis? A policy that gives up half of what the reference says, and keeps the proportions of the rest,
# has twice the probability everywhere: that costs $\log 2 = 0.69$ nats, no more. One that says in one case of a
# hundred what the reference never says has an infinite KL. **KL is an honest measure of how far a policy moved,
# and nearly blind to what it lost.** Diversity must be looked at by itself, as in chapter 2 (mode collapse).

# %% [markdown] many-text
# ## The frontier of a language model, without training
#
# A language model has no table. But a *sample* of it is one, as in chapter 5: $N$ answers to a question, each with
# probability $1/N$, reweighted by $e^{r/\beta}$. No policy is ever trained. Two limits to remember: few effective
# samples ($1/\sum_i w_i^2$, with weights $w_i$ that add up to 1) mean a bad estimate, and no sample can tell of a KL
# above $\log N$.
#
# We draw 256 answers of the SFT model to each of PocketWorld's 128 questions. The world reads their **gold**,
# and a reward model, trained on 1,024 labels of our twenty people, gives each a **score**. **How small can beta
# become before fewer than ten answers carry the estimate?**

# %% many
# NBVAL_IGNORE_OUTPUT
here, N = lab(SEED), 256
materials = Materials(here)
reward_model = materials.reward_model(Settings(seed=SEED))  # the laboratory's
gold, score = answers_of_the_reference(materials, Settings(seed=SEED), N)  # (128, 256) each


def reweighted(rewards, beta):
    weights = (rewards / beta).softmax(-1)  # (128, 256): each row a policy
    log_z = (rewards / beta).logsumexp(-1) - math.log(N)
    kl_of_rows = (weights * rewards).sum(-1) / beta - log_z  # K = R / beta - log Z
    return (weights * gold).sum(-1).mean(), kl_of_rows.mean(), (1 / weights.square().sum(-1)).mean()


for beta in (5.0, 2.5, 1.3, 0.65, 0.32, 0.16, 0.08):
    told = reweighted(gold, beta)
    print("beta {:.2f}: gold {:.1f}, KL {:.1f}, effective sample size {:.0f}".format(beta, *told))

# %% [markdown] two-lines-text
# Down to a $\beta$ of about 0.2, that is, up to somewhat more than two nats. Beyond that the line is a guess, and we
# dot it.
#
# Nobody can train on gold, though. What PPO climbs is the score. So the same answers once more, tilted by
# $e^{\text{score}/\beta}$: that is, at each KL, the very best that any optimiser could do *for the score*.
# **What is its gold?** Best-of-n by score goes beside it.

# %% two-lines
points = evaluate.optimal_frontier(gold, np.geomspace(20, 0.08, 20))  # the package's: the same six lines
by_score = torch.tensor([reweighted(score, beta)[:2] for beta in np.geomspace(20, 0.004, 24)])  # gold, KL
counts = [1, 2, 4, 8, 16, 32, 64]
chosen = [best_of(n, torch.full_like(score, 1 / N), score) for n in counts]
of_n = [(math.log(n) - (n - 1) / n, (w * gold).sum(-1).mean()) for n, w in zip(counts, chosen, strict=True)]
figure, ax = plt.subplots(figsize=(7.2, 3.8))
plots.reward_kl_plane(ax, {}, frontier=points, reference=Estimate(gold.mean().item(), 0.0))
ax.plot(by_score[:, 1], by_score[:, 0], "--", color=plots.SCORE, label="optimum for the score")
ax.plot(*zip(*of_n, strict=True), "v", color=plots.CHOSEN, label="best of n by score")
ax.set(xlim=(-0.1, 4), title="Two lines, and nothing was trained")
ax.legend(loc="upper left")
alt = """The optimum for gold rises to 2 and beyond; that for the score to about 1.2 near one nat, then falls;
best of n by score lies on it at first, and gains nothing after n = 8."""
plots.show(figure, alt)

# %% two-lines-claims
ours = [torch.stack(reweighted(gold, p.beta)).tolist() for p in points]
enough = [p for p in points if p.effective_sample_size >= 10]
fewer = evaluate.optimal_frontier(gold[:, : N // 4], [p.beta for p in enough])
apart = max(abs(a.reward - b.reward) for a, b in zip(enough, fewer, strict=True))
top, its_kl = by_score[by_score[:, 0].argmax()]
start, possible = gold.mean(), np.interp(its_kl, [p.kl for p in points], [p.reward for p in points])
claims({
    "our lines and the package agree": np.allclose(ours, [p[1:] for p in points]),
    "no estimate of KL exceeds log N": max(p.kl for p in points) < math.log(N),
    "with ten effective samples a quarter of the answers gives the same gold within 0.15": apart < 0.15,
    "the optimum for the score has its most gold between 0.5 and 1.5 nats": 0.5 < its_kl < 1.5,
    "there it has won 40 to 60 % of what could be won": 0.4 < (top - start) / (possible - start) < 0.6,
    "64 samples by score have less gold than 8": of_n[-1][1] < of_n[3][1],
})

# %% [markdown] two-lines-after
# **Takeaway: the gap between the two lines is what the reward model does not know.** Not training, not beta, not
# the optimiser: the most perfect optimiser of *this* score follows the dashed line, up to about one nat, and then
# *down*. The further it goes, the more it finds answers that score well by mistake. That is over-optimisation,
# seen without training anything; chapter 12 measures it properly.
#
# The line for gold is the frontier, a roof over all that trains. The dashed line is what perfect training on this
# score would earn. (More gold than that is possible, but only with another score.)

# %% [markdown] plane-text
# ## Every method so far, on one plane
#
# Now real training: 64 steps of SFT on the chosen answers, 64 steps of DPO at four betas, 40 rounds of PPO at
# five. Each is a run of the laboratory with 1,024 labels, from three SFT models (three seeds), made once by
# `prefcourse build --figures 08_plane`. PPO with $\beta = 0$ is looked at every third round: that is early
# stopping. Points are means over the seeds, bars 95 % intervals.
#
# **Guess before you look. Will DPO at $\beta = 0.03$ and PPO at $\beta = 0.03$ be equally far from the reference?
# Will any method come above the dashed line? Will early stopping be as good as the penalty?**

# %% plane
seeds = experiments.load("08_plane")
plane = averaged(seeds, looks=7)
figure, ax = plt.subplots(figsize=(8.6, 4.6))
plots.reward_kl_plane(ax, plane.methods, frontier=plane.optimum, reference=plane.reference)
score_line = np.transpose(plane.for_the_score)
ax.plot(*score_line, "--", color=plots.SCORE, label="optimum for the score", zorder=1)
drawn.name_betas(ax, plane.methods, (1.0, 0.3, 0.1, 0.03))
ax.set(xlim=(-0.1, 3.6), ylim=(0, 2.4), title="Gold against KL: three seeds; small numbers are beta")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
alt = """All methods lie far below the optimum. The dashed line, the optimum for the score, is flat at 1.1
from half a nat on. DPO lies a little above it, between 0.4 and 1.1 nats; PPO, from 0.3 to 2.5 nats, and
best of n on it or a little below; PPO stopped early 0.2 below it."""
plots.show(figure, alt)

# %% plane-claims
ppo, dpo = ([(k.mean, gold.mean) for k, gold in plane.methods[name]] for name in ("PPO", "DPO"))
line, roof = plane.for_the_score, [(p.kl, p.reward) for p in plane.optimum]
lost = [(at(k, roof) - at(k, line)) / (at(k, roof) - gold) for k, gold in ppo + dpo if 0.4 < k < 1.5]
print("PPO at beta 0.03, three seeds: KL", *(f"{r['end']['kl']:.1f}" for r in runs_of(seeds, "PPO", 0.03)))
won = [run["end"]["gold"] - run["path"][0]["gold"] for run in runs_of(seeds, "PPO", 0.0)]
claims({
    "PPO and DPO lie at least 0.2 below the roof": min(at(k, roof) - gold for k, gold in ppo + dpo) > 0.2,
    "to 1.5 nats the dashed line explains 60 to 130 % of each distance": 0.6 < min(lost) < max(lost) < 1.3,
    "DPO lies above the dashed line, at every beta": all(gold > at(k, line) for k, gold in dpo),
    "at beta 0.03 PPO is at least 1.7 times as far away as DPO": ppo[3][0] > 1.7 * dpo[3][0],
    "from beta 1 to 0.03 DPO moves under a nat, PPO more": dpo[3][0] - dpo[0][0] < 1 < ppo[3][0] - ppo[0][0],
    "PPO at beta 0 has lost nearly all it had won, by round 40": max(won) < 0.2,
})

# %% [markdown] plane-after
# **Takeaway: on the KL axis the methods fall in line, more or less, and the line is the reward model's.** What
# separates them from the roof is mostly the score, and not how it was climbed. Read along the axis:
#
# - **The same $\beta$ is not the same place.** DPO stops after 64 steps, long before a small $\beta$ takes
#   effect, so its four points lie close together; PPO's are spread out. And three seeds with one $\beta$ end at
#   different KLs. "We used $\beta$ = 0.03" says little.
# - **DPO comes a little above the dashed line.** It never saw this reward model. From the same labels it learnt
#   another reward, inside its policy (chapter 3), and that one is here a little better. Chapter 11 asks whether
#   this is a rule.
# - **Early stopping against the penalty.** At the same KL Gao et al. saw no more gold with a penalty than
#   without: like early stopping, they say, and warn that it depends on the settings (2210.10760). **Is it so
#   here?** The cell below compares, seed by seed.

# %% stopped-or-priced
better = []
for *runs, free in zip(*(runs_of(seeds, "PPO", beta) for beta in (0.3, 0.1, 0.0)), strict=True):
    way = [(look["kl"], look["gold"]) for look in free["path"][:7]]  # its KL grows from look to look
    better.append([run["end"]["gold"] - at(run["end"]["kl"], way) for run in runs])
print("gold above early stopping at the same KL")
for seed, (strong, weak) in enumerate(better):
    print(f"seed {seed}: with beta 0.3 {strong:+z.2f}, with beta 0.1 {weak:+z.2f}")
claims({"under every seed, at both betas, the penalty has 0.05 more gold": np.min(better) > 0.05})

# %% [markdown] stopped-or-priced-after
# It is not. At the same KL the priced runs have more gold, under all three seeds. Perhaps a run without a price
# takes whatever raises the score first, while a run with a price has forty rounds to find the best use of the KL it
# is allowed. One learning rate and one size of model settle nothing. But they show why one reports the KL
# *and* how one got there.
#
# ## Steering
#
# The budget was the way that needs no currency. On a table we bisected. In training there is one run and no second
# try, so $\beta$ is steered during the run. Ziegler et al. (1909.08593, section 2.2) saw runs with
# different seeds and one penalty end at quite different KLs, and let $\beta$ follow the measured KL, by a
# **controller**:
#
# $$e_t = \mathrm{clip}\left(\frac{\mathrm{KL}_t - \mathrm{KL}_{\text{target}}}{\mathrm{KL}_{\text{target}}},\,
# -0.2,\, 0.2\right),\qquad \beta_{t+1} = \beta_t\,(1 + \text{gain}\cdot e_t)$$
#
# ($\mathrm{clip}(x, a, b)$ is $x$, held between $a$ and $b$.) Too far, and the price rises; too near, and it falls.
# The update multiplies, so any first $\beta$ will do, and the bounds keep one odd batch from doing much. Their
# settings were {{published:ziegler-controller}}: at most 2 % a round, 35 rounds to double. We have fifty rounds, and
# take a gain of 0.5. The KL is that of a whole response.
#
# The live run starts with $\beta = 0.5$. Beside it, from `08_controllers`: the same with $\beta = 0.05$ at first,
# and two runs whose $\beta$ stays. The target is 1 nat. **Will both arrive? Directly?**


# %% controller
def adapt(beta, kl, target, gain=0.1, limit=0.2):
    error = min(max(kl / target - 1, -limit), limit)
    return beta * (1 + gain * error)


beta, live_run = torch.tensor(0.5), []  # a tensor, so that the loop sees it change
policy, judge = models.trainable_copy(here.sft), evaluate.model_score(reward_model)
loop = train.ppo(policy, here.sft, here.tokenizer, here.prompts, judge, beta=beta, iterations=50, seed=SEED)
for metrics in loop:
    live_run.append((metrics["kl"], beta.item()))
    beta.fill_(adapt(beta.item(), metrics["kl"], target=1.0, gain=0.5))

# %% controller-figure
found = experiments.load("08_controllers")  # by seed
steered = [{(run["kind"], run["first"]): run for run in some} for some in found]
runs = {f"{kind}, {first:g}": (run["kl"], run["beta"]) for (kind, first), run in steered[SEED].items()}
runs["adaptive, 0.5"] = tuple(zip(*live_run, strict=True))  # this one was run just now
figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.4))
drawn.side_by_side(axes, runs, target=1.0)
alt = """Left: the KL of four PPO runs over fifty rounds. The two with a fixed beta end at about 0.5 and
3.5 nats; the two adaptive ones overshoot the target of 1 nat and come back to it. Right: their betas; the
adaptive ones fall or rise more than tenfold, and end near each other."""
plots.show(figure, alt)

# %% controller-claims
last = {key: [np.mean(found[key]["kl"][-10:]) for found in steered] for key in steered[0]}
for (kind, first), found in last.items():
    print(f"{kind:>8}, first beta {first:<4}: KL of the last ten rounds", *(f"{x:.2f}" for x in found))
final = np.mean([distance for distance, _ in live_run[-10:]])
missed = {kind: abs(np.array([last[kind, 0.5], last[kind, 0.05]]) - 1) for kind in ("fixed", "adaptive")}
shot = min(max(found["adaptive", 0.05]["kl"]) for found in steered)
claims({
    "the live run ends within 0.25 nats of the target": abs(final - 1) < 0.25,
    "so do all adaptive runs, from either beta, under three seeds": missed["adaptive"].max() < 0.25,
    "no fixed one does": missed["fixed"].min() > 0.25,
    "with 0.05 the seeds end 2 nats and more apart": np.ptp(last["fixed", 0.05]) > 2,
    "from 0.05 the KL first shoots beyond twice the target": shot > 2,
})

# %% [markdown] controller-after
# **Takeaway: whatever beta it starts with, a steered run arrives at its target, by a detour.** A fixed $\beta$ ends up
# wherever the reward model's scale and the seed take it. The detour has a reason. The KL responds late: a new $\beta$
# changes the next *updates*, and it takes many of them to change the KL. Meanwhile the controller keeps adjusting. So
# it overshoots, the more so the larger its gain.
#
# But the controller knows nothing of gold: it would reach a target of four nats just as well, and the dashed line says
# what that is worth. To choose the target, one needs to see answers, or a roof.
#
# ## Play
#
# A controller on a table of 16 questions with 12 answers: exact gradient, and a KL estimated from 64 answers a
# round. **With Ziegler's gain of 0.1 and a first $\beta$ of 0.02: how far does the KL shoot? Which gain arrives
# soonest? What does a gain of 2 do?** (Gain 0 is a fixed $\beta$. The button runs it with another draw of
# answers.)

# %% play
table = TableWorld.random(prompts=16, responses=12, seed=0)


def run(seed, target, gain, first_beta):
    draw = torch.Generator().manual_seed(seed)
    logits, beta, seen = table.ref_logits.clone(), first_beta, []
    for _ in range(300):
        answers = table.sample(logits, 4, generator=draw)
        seen.append((table.log_ratio(logits).gather(1, answers).mean().item(), beta))  # KL, beta
        logits = logits + 8 * table.objective_gradient(logits, beta=beta)
        beta = adapt(beta, seen[-1][0], target, gain)
    return drawn.Course(*zip(*seen, strict=True))


choices = {"target": [0.5, 1.0], "gain": [0.0, 0.1, 0.5, 2.0], "first_beta": [0.02, 0.2, 2.0]}
drawn.steering(run, start={"target": 1.0, "gain": 0.1, "first_beta": 0.2}, **choices)

# %% [markdown] play-after
# With a small gain the KL overshoots far and comes back slowly; a moderate one arrives soonest; a large one never stops
# swinging, because the price changes faster than the policy can follow. Whatever the target, nobody chose the $\beta$
# at which a run settles; the controller found it.

# %% [markdown] summary
# ## In five lines
#
# 1. The frontier is the set of tilts $\pi_{\text{ref}}\,e^{r/\beta}/Z$: concave, with slope $\beta$, and like
#    $\sigma\sqrt{2\,\mathrm{KL}}$ near the reference. Nothing lies above it.
# 2. Penalty, budget, early stopping and best-of-n walk along it; $\beta$ has a currency (the reward's scale), KL
#    has none.
# 3. $\mathrm{KL}(\text{policy}, \text{reference})$ forgives what the policy no longer says, and not what it makes up.
# 4. Reweighting samples of the reference gives the frontier of a language model without training, up to some
#    $\log N$ nats; look at the effective sample size.
# 5. Tilted by a reward model's score, the same samples show what perfect training on that score would earn. Most of
#    what our methods miss is missed there already.

# %% [markdown] questions
# ## Three questions
#
# **1.** Two papers train the same model. One reports that judges prefer its answers in 61 % of cases, with $\beta =
# 0.1$, the other 64 % with $\beta = 0.05$. Which method is better?
#
# <details><summary>Answer</summary>
#
# Unknown. Their rewards have different scales, so that the betas cannot be compared, and the second may simply have
# gone further along the same line. Ask for the KL of both, and for the judges' shares at several KLs each.
# </details>
#
# **2.** Your controller keeps the KL at 8 nats, as asked; the KL is the mean over *tokens* times the mean length
# (nearly the same as the mean of the sums). Then the answers become longer. What does the controller do?
#
# <details><summary>Answer</summary>
#
# A KL of a response is a sum over its tokens. If the policy pays per token what it paid before, longer answers
# have more KL, and $\beta$ rises: length has a price. A target per *token* would let long answers spend more in
# all. Which of the two is meant must be said; the course, and Ziegler et al., mean the response.
# </details>
#
# **3.** A colleague estimates the frontier from 16 samples of each prompt, and finds that 2.6 nats buy 1.9 points
# of gold. Do you believe it?
#
# <details><summary>Answer</summary>
#
# $\log 16 = 2.77$: at 2.6 nats one answer of each prompt has nearly all the weight. What was measured is the best
# of 16, and it is too low for the policy that the formula speaks of. Ask for the effective sample size, and draw
# more.
# </details>

# %% [markdown] classical
# ## The classical results beside ours
#
# | | published | here | why they differ |
# |---|---|---|---|
# | reward against the square root of KL | {{published:hh-reward-sqrt-kl}} | the frontier of five answers: straight up to half a nat, then it bends | our rewards have a ceiling, two nats away |
# | the penalty of InstructGPT | {{published:instructgpt-kl-beta}} | β from 0 to 1 | other rewards, other scale: not comparable, and that is the point |
# | same β, other seed: another KL | 1909.08593, section 2.2 | at β = 0.03 one seed's KL is nearly twice that of the others | no difference |
# | the controller | {{published:ziegler-controller}} | gain 0.5, fifty rounds | with fifty rounds a gain of 0.1 could move beta too little |
# | KL of best-of-n | 2401.01879: log n - (n - 1)/n is an upper bound, not the KL | below it by nearly 0.9 nats at n = 64, with five answers | the fewer the answers, the wider the gap |
# | penalty against early stopping, gold at the same KL | 2210.10760: no difference | the penalty ahead by more than 0.05, in all three seeds | forty rounds of a tiny model; they name it sensitive to settings |
# | best-of-n against RL at the same KL | 2210.10760: RL spends more KL | near each other, on the dashed line | our PPO comes near the optimum for the score, so little is left for best-of-n |

# %% [markdown] further
# ## Further reading
#
# - The controller, and RLHF on language models before it had the name: arXiv 1909.08593
# - InstructGPT: arXiv 2203.02155, appendix C.4. Helpful and harmless: arXiv 2204.05862, section 4.3
# - Over-optimisation, and the penalty as early stopping: arXiv 2210.10760
# - KL-penalised reward as the first direction of KL, and the other direction: arXiv 2206.00761
# - Best-of-n and its KL: arXiv 2401.01879. The optimum within a budget, and best-of-n beside it: arXiv 2404.01730
#
# **Next:** exercises 8.1 to 8.3, in `exercises/08_kl_control.ipynb`. Then chapter 9: what PPO does inside, and
# why its clip is no substitute for this chapter's KL.
# %% [exercises]
# %% [markdown] title
# # 8 · Exercises: the frontier, the controller, the budget
#
# Three functions, about an hour. Write each body, run the cell, then run its check. After each check the function
# is put to use: on answers of the SFT model, in a training run, and on what a budget buys.
#
# Tables and log-ratios come as tensors in double precision. A check prints them as lists; to try such a case
# yourself, wrap each list in `torch.tensor(...)`. A table has one row per prompt (P of them) and one column per
# answer (V).
#
# Stuck? Open the hints one at a time. The solved notebook is in `solutions/`, under the same name. In a terminal
# `prefcourse check 8` checks what you saved, and `prefcourse reset 8.1` gives you an exercise afresh.

# %% setup
import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from prefcourse import evaluate, models, plots, train
from prefcourse.checks import NotWritten, check
from prefcourse.lab import lab
from prefcourse.logprobs import token_logprobs
from prefcourse.widgets import live
from prefcourse.widgets.runs import Materials, Settings

torch.set_num_threads(1)
plt.rcParams.update(plots.STYLE)

# %% [markdown] question-8-1
# **Where does the best policy stand, at each of these betas?** Return two tensors of N numbers, `(kl, reward)`,
# in this order: the KL from the reference, in nats, and the expected reward.
#
# - The best policy at a beta maximises expected reward minus beta times KL(policy, reference). Each prompt has
#   its own; both numbers are means over the prompts.
# - The points come in the order of the betas, which may be any.
# - An infinite beta is allowed: the policy is the reference, and the KL is 0.
# - An answer with log-probability `-inf` in the reference is never given. It costs nothing: count 0 for it.
# - `beta` goes down to 0.001 and rewards up to 10,000. If a beta is not above 0, raise `ValueError`.
#
# By hand first: the reference gives two answers with probability 1/2 each; their rewards are $\log 3$ and 0; beta
# is 1. The optimum is (3/4, 1/4). What are its KL and its reward?


# %% answer-8-1
def frontier(
    ref_logprobs: Float[Tensor, "P V"], rewards: Float[Tensor, "P V"], betas: list[float]
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """What are the KL from the reference and the expected reward of the best policy at each
    beta? Means over prompts. Raises ValueError if a beta is not above 0."""
    if any(not beta > 0 for beta in betas):
        raise ValueError(f"betas={betas}: expected numbers above 0")
    points = []
    for beta in betas:
        policy = (ref_logprobs + rewards / beta).log_softmax(-1)
        p = policy.exp()
        log_ratio = (policy - ref_logprobs).masked_fill(p == 0, 0.0)  # 0 log 0 = 0
        points.append(torch.stack([(p * log_ratio).sum(-1).mean(), (p * rewards).sum(-1).mean()]))
    kl, reward = torch.stack(points).T
    return kl, reward


# %% [markdown] use-8-1-text
# **The frontier of a language model.** A sample is a table: 64 answers of the SFT model to each of 128 questions,
# each with probability 1/64. The world reads their gold, your function draws the line. (The first time, this cell
# trains the SFT model, for half a minute.)

# %% use-8-1
# NBVAL_IGNORE_OUTPUT
if check("8.1", frontier).passed:
    here, N, betas = lab(seed=0), 64, np.geomspace(10, 0.05, 30).tolist()
    gold = evaluate.sample_gold(here.sft, here.tokenizer, here.world, here.prompts, samples=N, seed=0).double()
    kl, reward = frontier(torch.full_like(gold, -math.log(N)), gold, betas)
    figure, ax = plt.subplots()
    ax.plot(kl, reward, color=plots.GOLD)
    ax.axvline(math.log(N), color=plots.REFERENCE, linestyle=":")
    ax.set(xlabel="KL from the SFT model (nats); dotted: log 64", ylabel="gold", title="Your frontier of PocketWorld")
    plots.show(figure, alt="Gold against KL by your function: rising, concave, and flat before log 64 = 4.2 nats.")
else:
    print("Here your function will draw the frontier of a language model, once 8.1 is solved.")

# %% [markdown] question-8-2
# **Which beta comes next?** A batch of B responses was drawn from the policy. `log_ratios` holds log policy minus
# log reference of each token, `response_mask` is true where a token stands. Return the next beta, one number, by
# the controller of Ziegler et al. (2019):
#
# $$e = \mathrm{clip}\left(\frac{\mathrm{KL} - \text{target}}{\text{target}},\, -0.2,\, 0.2\right),\qquad
# \beta_{\text{next}} = \beta\,(1 + \text{gain}\cdot e)$$
#
# - The KL is that of a *response*: the sum over its tokens, and then the mean over the responses.
# - Padding stands on either side and may hold anything, even `nan`. None of it counts.
# - A response without tokens has KL 0, and counts in the mean.
# - The estimate may be negative, as estimates are. Then it lies below the target, and beta falls.
# - If the target is not above 0, raise `ValueError`.
#
# By hand first: three responses with sums 5, 6 and 7.6, target 6, beta 0.1, gain 0.1. What is the error?


# %% answer-8-2
def adaptive_kl(
    beta: float,
    log_ratios: Float[Tensor, "B T"],
    response_mask: Bool[Tensor, "B T"],
    *,
    target: float,
    gain: float = 0.1,
) -> float:
    """Which beta comes next, if the KL of a response is to be `target`? The controller of
    Ziegler et al. (1909.08593). Raises ValueError if target is not above 0."""
    if not target > 0:
        raise ValueError(f"target={target}: expected a number above 0")
    kl = log_ratios.masked_fill(~response_mask, 0.0).sum(1).mean().item()
    error = min(max(kl / target - 1, -0.2), 0.2)
    return beta * (1 + gain * error)


# %% [markdown] use-8-2-text
# **Steer a run.** PPO on TinyLM, fifty rounds, some ten seconds. In every round your function sees the tokens
# that were just drawn, and says which beta comes next. The target is 0.7 nats, the first beta 0.05, far too
# small. **What do you expect of the first ten rounds?**


# %% steer
def steered_ppo(here, score, *, target, beta, gain=0.5, rounds=50):
    price, seen = torch.tensor(beta), {}

    def watched(drawn):  # the score of PPO, and on the way the log-ratios of the same answers
        rows, mask = drawn.sequences, drawn.sequences.response_mask
        logits = here.sft(input_ids=rows.input_ids, attention_mask=rows.attention_mask.long()).logits
        seen["batch"] = drawn.logprobs.double() - token_logprobs(logits, rows.input_ids, mask), mask
        return score(drawn)

    policy = models.trainable_copy(here.sft)
    options = {"beta": price, "iterations": rounds, "seed": 0}
    for metrics in train.ppo(policy, here.sft, here.tokenizer, here.prompts, watched, **options):
        yield metrics | {"beta": price.item()}
        price.fill_(float(adaptive_kl(price.item(), *seen["batch"], target=target, gain=gain)))


# %% use-8-2
# NBVAL_IGNORE_OUTPUT
def course(figure, history):
    axes = figure.subplots(1, 2)
    for ax, name in zip(axes, ("kl", "beta"), strict=True):
        plots.curves(ax, {name: (range(1, len(history) + 1), [m[name] for m in history])}, xlabel="round", ylabel=name)
    axes[0].axhline(0.7, color=plots.REFERENCE, linestyle=":")


if check("8.2", adaptive_kl).passed:
    here = lab(seed=0)
    score = evaluate.model_score(Materials(here).reward_model(Settings()))
    log = live(steered_ppo(here, score, target=0.7, beta=0.05), course)
    print(f"mean KL of the last ten rounds: {np.mean([m['kl'] for m in log[-10:]]):.2f}, asked for 0.7")
else:
    print("Here your function will steer a training run, once 8.2 is solved.")

# %% [markdown] question-8-3
# **Which policy earns most with this much KL?** Return its log-probabilities, as a table of the same shape. The
# mean of KL(policy, reference) over the prompts is to be `budget` nats, within a millionth.
#
# - The best policies are tilts of the reference, $\pi_{\text{ref}}\,e^{r/\beta}/Z$, with *one* beta for all prompts:
#   who has more to gain may spend more. So you look for one number. KL falls as beta grows: bisection.
# - Rewards may be in the thousands, or near 0. A beta that fits is then as large, or as small.
# - A budget of 0 is the reference.
# - A budget that cannot be spent (`float("inf")` is one) is no mistake: return the limit, in which each prompt has
#   only its best answers, in the reference's proportions. With equal rewards the reference itself is the limit.
# - An answer with log-probability `-inf` in the reference keeps it, and does not count as best.
# - A negative budget is a mistake: raise `ValueError`.
#
# By hand first: two answers with probability 1/2 each, rewards 5 and 2, budget 0.1308. In 8.1 you computed a
# policy with this KL. Which beta is it here?


# %% answer-8-3
def project_to_kl(
    ref_logprobs: Float[Tensor, "P V"], rewards: Float[Tensor, "P V"], budget: float
) -> Float[Tensor, "P V"]:
    """Which policy has the most reward among those whose mean KL from the reference is at
    most the budget? Log-probabilities. Raises ValueError if the budget is negative."""
    if budget < 0:
        raise ValueError(f"budget={budget}: expected 0 or more")

    def mean_kl(policy):
        p = policy.exp()
        return (p * (policy - ref_logprobs).masked_fill(p == 0, 0.0)).sum(-1).mean()

    possible = rewards.masked_fill(ref_logprobs == -math.inf, -math.inf)
    best = possible == possible.max(-1, keepdim=True).values
    limit = ref_logprobs.masked_fill(~best, -math.inf).log_softmax(-1)
    if budget == 0 or mean_kl(limit) <= budget:
        return limit if budget else ref_logprobs
    spread = (rewards.max() - rewards.min()).item()
    low, high = 1e-7 * spread, 1e7 * spread  # too far, too near
    for _ in range(200):
        beta = math.sqrt(low * high)
        too_far = mean_kl((ref_logprobs + rewards / beta).log_softmax(-1)) > budget
        low, high = (beta, high) if too_far else (low, beta)
    return (ref_logprobs + rewards / high).log_softmax(-1)


# %% [markdown] use-8-3-text
# **What does a nat buy?** Your function spends 0, 0.5, 1, 2 and 3 nats on the answers of the SFT model, 128 to
# each question. Below is what such a policy says to the first question, drawn from your weights, and what it
# earns over all questions.

# %% use-8-3
# NBVAL_IGNORE_OUTPUT
if check("8.3", project_to_kl).passed:
    here, N, draw = lab(seed=0), 128, torch.Generator().manual_seed(0)
    drawn = list(evaluate.rollouts(here.sft, here.tokenizer, here.prompts, samples=N, seed=0))
    gold = torch.cat([evaluate.gold_score(here.world)(r) for r in drawn]).double().view(-1, N)
    texts = [text for rollout in drawn for text in rollout.texts]
    print(here.prompts[0])
    for budget in (0.0, 0.5, 1.0, 2.0, 3.0):
        weights = project_to_kl(torch.full_like(gold, -math.log(N)), gold, budget).exp()
        said = texts[weights[0].multinomial(1, generator=draw).item()]
        print(f"{budget:.1f} nats, mean gold {(weights * gold).sum(-1).mean():.2f}: {said}")
else:
    print("Here your function will spend nats on real answers, once 8.3 is solved.")
