# Chapter 9. `prefcourse build 09` makes the three notebooks of this script; see prefcourse/build/script.py.

# %% [markdown] title
# # 9 · PPO Theory
#
# **Key insight.** Clipping limits the *step*: how far one batch of samples may move the policy. The KL penalty
# limits the *destination*: where the policy is after many batches. Neither replaces the other.
#
# **After this chapter you can**
# - derive the policy gradient, and say what a baseline changes and what it does not;
# - use a batch for more than one step, and say where PPO's loss is silent and where it pulls back;
# - say which of two KL divergences a formula means, and which one a clip, a penalty or a log line is about;
# - estimate a KL from samples in three ways, and say which of the three may be differentiated;
# - spread the score of an answer over its tokens with GAE, and choose $\lambda$ by bias and variance.
#
# **Time.** 60 minutes to read; all cells together take about fifteen seconds on one CPU core.
#
# **Before.** Chapter 3 (the tilt $\pi^*$, KL). The chain rule, and what mean and standard deviation are.
#
# **How to read.** Most cells are preceded by a question in bold. Decide on an answer, run the cell, then read on.

# %% setup
import itertools
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from prefcourse import advantages, plots
from prefcourse.claims import claims
from prefcourse.widgets import chapter09 as drawn

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
plt.rcParams.update(plots.STYLE)
SEED = 0

# %% [markdown] bandit-text
# ## A policy with one parameter
#
# DPO needed pairs. Now there is no pair: the policy answers, somebody scores the answer, and the policy is to
# change so that scores rise. How must it change?
#
# We begin with the smallest case in which everything is there. One question, two answers, "right" and "look it
# up", and a policy with a single parameter $\theta$: it says "right" with probability $p = \sigma(\theta)$. The
# score is a thumb, up (1) or down (0). People are fickle: "right" gets a thumb up in 8 cases of 10, "look it
# up" in 6. Four things can happen, and all sums below run over these four.
#
# What we want is the mean score, $J(\theta) = 0.8\,p + 0.6\,(1 - p)$.
#
# ## The policy gradient
#
# We want the slope of $J$, and in the real world we cannot compute $J$: nobody knows how often an answer is
# liked. We can only sample. So the slope must be written as an expectation under the policy. Let $y$ be what
# happens, in this section an answer and a thumb, $\pi(y)$ its probability and $r(y)$ its score. How people react does
# not depend on $\theta$, so that $\nabla\log\pi(y)$ is that of the answer alone.
#
# **Step 1.** Only the policy depends on $\theta$: $\nabla J = \sum_y r(y)\,\nabla\pi(y)$. That is not an
# expectation: the terms are not weighted by $\pi(y)$.
#
# **Step 2.** Bring that weight in. Since $\nabla\log\pi = \nabla\pi/\pi$, we have $\nabla\pi = \pi\,\nabla\log\pi$:
#
# $$\nabla J = \sum_y \pi(y)\,r(y)\,\nabla\log\pi(y) = \mathbb E_{y\sim\pi}\big[r(y)\,\nabla\log\pi(y)\big]$$
#
# This is REINFORCE: sample, and push each answer's log-probability up in proportion to its score.
#
# **Step 3.** Probabilities add up to 1, so $\mathbb E[\nabla\log\pi] = \sum_y\nabla\pi(y) = \nabla 1 = 0$. Any
# number $b$ that does not depend on the answer may therefore be subtracted from the score:
#
# $$\nabla J = \mathbb E\big[A\,\nabla\log\pi\big],\qquad A = r - b$$
#
# $b$ is called a *baseline*, $A$ the *advantage*.
#
# In code: `logprobs` gives $\log\pi$ of the answer for each of the four things, `chance` is how often each happens
# at $\theta = 0$, and `direction` is $\nabla\log\pi$, which is $1 - p$ for "right" and $-p$ for "look it up". **What
# will three baselines, 0, 0.7 and 2, change?** (0.7 is the mean score of the untrained policy.)


# %% reinforce
ANSWER = torch.tensor([0, 0, 1, 1])  # the answers are "right" and "look it up", each liked or not
THUMB = torch.tensor([1.0, 0.0, 1.0, 0.0])
GIVEN_ANSWER = torch.tensor([0.8, 0.2, 0.6, 0.4])  # how often people react so, given the answer


def logprobs(theta):  # (...,) -> (..., 4)
    return torch.stack([F.logsigmoid(theta), F.logsigmoid(-theta)], dim=-1)[..., ANSWER]


chance, p = logprobs(torch.zeros(())).exp() * GIVEN_ANSWER, 0.5
direction = torch.where(ANSWER == 0, 1 - p, -p)
print(f"slope of J: {(0.8 - 0.6) * p * (1 - p):.3f}")
for baseline in (0.0, 0.7, 2.0):
    estimate = (THUMB - baseline) * direction  # from one sample
    mean = (chance * estimate).sum()
    sd = (chance * (estimate - mean) ** 2).sum().sqrt()
    print(f"baseline {baseline}: estimates have mean {mean:.3f}, standard deviation {sd:.2f}")

# %% [markdown] reinforce-after
# The mean is right with each of them. The standard deviation is not the same: with the mean score as baseline
# it is about half of what it is without, and a baseline that is far off makes it larger. It is many times the
# slope in each case, and that is why the samples come in batches.
#
# With baseline 0 both answers are pushed *up*, the better one more often. It works, and wastes samples: much of
# the push only undoes itself. From here on $A$ is score minus mean score.
#
# ## Use a batch more than once: the ratio
#
# Sampling answers and having them scored is the expensive part. After one small step the samples come from a policy
# that no longer exists, $\pi_{\text{old}}$, and strictly speaking they are useless. Can we still use them?
#
# An expectation under $\pi$ becomes one under $\pi_{\text{old}}$ by weighing each sample with the **ratio**:
#
# $$J(\theta) - b = \sum_y \pi(y)\,A(y) = \sum_y \pi_{\text{old}}(y)\,
# \underbrace{\frac{\pi(y)}{\pi_{\text{old}}(y)}}_{\text{ratio}} A(y)
# = \mathbb E_{\text{old}}\big[\text{ratio}\cdot A\big]$$
#
# In code the ratio is `exp(logprobs - old_logprobs)`; the second term is a number written down while sampling.
# At $\theta_{\text{old}}$ all ratios are 1, and the slope is $\mathbb E[A\,\nabla\log\pi]$, REINFORCE. **How far
# from $\theta_{\text{old}}$ will this be a good picture of $J$? And how far the same with $\log\pi$ in place of
# the ratio, which has the same slope?**

# %% ratio
old, A = logprobs(torch.zeros(())), THUMB - 0.7
theta = torch.linspace(-3, 3, 61)
J = (logprobs(theta).exp() * GIVEN_ANSWER * THUMB).sum(-1)
log_ratio = logprobs(theta) - old  # (61, 4)
by_ratio, by_log = ((chance * f * A).sum(-1) for f in (log_ratio.exp(), log_ratio))
lines = {"J - 0.7": J - 0.7, "mean of ratio x A": by_ratio, "of log-ratio x A": by_log}
figure, ax = plt.subplots(figsize=(6.4, 3.4))
plots.curves(ax, {name: (theta, y) for name, y in lines.items()}, xlabel="theta (old: 0)", ylabel="gain")
ax.set(title="The ratio carries over; the logarithm is only a tangent")
plots.show(figure, alt="Ratio times advantage lies on J; with the log-ratio it is a straight line.")
claims({"ratio x A is J, at every theta": torch.allclose(J - 0.7, by_ratio)})

# %% [markdown] ratio-after
# With the ratio the picture is not only good, it is $J$ itself, everywhere. The logarithm has the right slope
# at one point, and from there on promises gains without end. (In an answer of many words, a second error comes
# in: the words that follow are still those of the old policy. Small steps keep it small, too.)
#
# So why not maximise it, and be done? Because it was an expectation. A batch has 16 answers, not all. In the
# batch's sum, $p$ enters as $\text{ratio} = p/p_{\text{old}}$ or $(1-p)/(1-p_{\text{old}})$: it is a *straight
# line in $p$*, and the best point of a straight line is always one of its ends. Maximised, the batch's sum says
# "always the one" or "always the other", whatever the data. The further one goes from where the samples were
# drawn, the less they know of it. **A batch is worth one step of limited size.** PPO's loss has that built in.

# %% [markdown] clip-text
# ## The clip
#
# $$\text{objective} = \min\Big(\text{ratio}\cdot A,\;\;
# \text{clip}\big(\text{ratio},\,1-\epsilon,\,1+\epsilon\big)\cdot A\Big)$$
#
# The loss is minus its mean over all tokens of the batch (PPO, 1707.06347, eq. 7). $\epsilon$ is `clip_coef`,
# usually 0.2. Read it from the inside: the second part takes away whatever is won beyond the bounds, and the
# minimum takes the worse of both.
#
# What does the minimum do? There are three zones, the ratio below, between and above the bounds, and two signs
# of $A$: six cases. **In which of the six is the slope 0? And what if somebody leaves out the minimum?**


# %% clip
def clipped(ratio, advantage, low=0.2, high=0.2):
    return torch.minimum(ratio * advantage, ratio.clamp(1 - low, 1 + high) * advantage)


def without_minimum(ratio, advantage, low=0.2, high=0.2):
    return ratio.clamp(1 - low, 1 + high) * advantage


for advantage, ratio in itertools.product((1.0, -1.0), (0.5, 1.0, 1.5)):
    slopes = []
    for objective in (clipped, without_minimum):
        x = torch.tensor(ratio, requires_grad=True)
        slopes += torch.autograd.grad(objective(x, advantage), x)
    told = "advantage {:+.0f}, ratio {}: slope {:+z.0f}, without the minimum {:+z.0f}"
    print(told.format(advantage, ratio, *slopes))

# %% [markdown] clip-after
# Two of the six are silent, and each has its reason:
#
# - **Good answer, ratio high**: it has become likelier, by enough. Nothing more is to be won.
# - **Bad answer, ratio low**: it has become rarer, by enough.
#
# In the other two outer zones the policy went the *wrong* way: a good answer became rarer, a bad one likelier.
# There the full slope remains. Without the minimum those are silent, too, and a policy that went wrong by more
# than $\epsilon$, pushed by other samples, could never be called back.
#
# Here is the whole diagram, drawn with the package's loss and its gradient. **Before you look: on the right,
# where $A$ is negative, does the line end in the grey or begin in it?**

# %% diagram
figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.6))
for ax, advantage in zip(axes, (1.0, -1.0), strict=True):
    plots.clip_diagram(ax, **drawn.diagram(advantage, clip_low=0.2, clip_high=0.2))
    ax.set_title(f"advantage {advantage:+.0f}")
axes[0].legend(loc="upper left")
plots.show(figure, alt="Advantage +1: rises to ratio 1.2, then flat. -1: flat up to 0.8, then falls.")

# %% [markdown] diagram-after
# **Takeaway: clipping removes a reward for going further; it never removes the pull back.** The objective is
# nowhere above the dashed line. It is a cautious estimate: whatever the batch promises beyond the bounds is not
# believed, whatever it threatens is.
#
# The two bounds need not be equal. A token with probability 0.01 may rise by 0.002 in a step if
# $\epsilon = 0.2$, a token with probability 0.5 by 0.1, and so DAPO (2503.14476) gives the upper bound more room.
# In exercise 9.1 they are `clip_low` and `clip_high`.
#
# Now put the four things that can happen together again. **The unclipped sum grows up to $p = 1$. Where will the
# clipped one have its top?**

# %% pessimism
theta = torch.logit(torch.linspace(0.5, 0.9, 81))
log_ratio = logprobs(theta) - old
moved = -(chance * log_ratio).sum(-1)  # KL(old, new)
bold, cautious = ((chance * gain(log_ratio.exp(), A)).sum(-1) for gain in (torch.mul, clipped))
lines = {"ratio x A": (moved, bold), "clipped": (moved, cautious)}
figure, ax = plt.subplots(figsize=(6.4, 3.4))
plots.curves(ax, lines, xlabel="KL(old, new)", ylabel="gain").set_xlim(0, 0.25)
ax.set(title="Believed up to a small KL, and no further")
plots.show(figure, alt="Without clip the gain grows; with it, it peaks early and falls below 0.")
top = cautious.argmax()
print(f"at the top: P('right') {theta[top].sigmoid():.2f}, up from 0.50; KL(old, new) {moved[top]:.3f}")
claims({"the clipped sum is never above the other": (cautious <= bold + 1e-12).all()})

# %% [markdown] pessimism-after
# At the bound, ratio 1.2. Beyond it the sum does not stay level, it *falls*: liked samples of "right" are silent
# there, disliked ones are not, and they pull back. The clip silences applause, not complaint.
#
# Figure 2 of the PPO paper shows the same picture for a hopping robot. Its top lies at a KL of
# {{published:ppo-kl-of-first-update}}, and so does ours. That is not by chance. For small steps
# $\mathrm{KL}(\text{old}, \text{new}) \approx \tfrac12\,\mathbb E[(\text{ratio} - 1)^2]$, and if all ratios stand
# at their bounds that is $\epsilon^2/2 = 0.02$.

# %% [markdown] step-text
# ## What the clip limits: the step
#
# Now batches. Sixteen answers of the untrained policy and their thumbs; advantages are thumbs minus the batch's
# mean; then 50 steps of gradient ascent on the batch's objective (`update`). The order does not matter, only how
# often each of the four things happened, and there are 969 such batches. We need not draw any. We train on *all* of
# them, and weigh each with its probability.
#
# `clip_coef=math.inf` is no clip. **How far will $p$, now at 0.5, be moved by one batch, with and without?**


# %% batches
counts = [c for c in itertools.product(range(17), repeat=4) if sum(c) == 16]
batches = torch.tensor(counts, dtype=torch.float64)  # (969, 4): how often each of the four things happened
orders = torch.lgamma(torch.tensor(17.0)) - torch.lgamma(batches + 1).sum(-1)
weight = (orders + (batches * chance.log()).sum(-1)).exp()  # the probability of each batch


def update(policy, shares, clip_coef, rewards=THUMB, logprobs=logprobs, *, steps=50, learning_rate=2.0):
    old, A = logprobs(policy), rewards - (shares * rewards).sum(-1, keepdim=True)
    for _ in range(steps):
        policy = policy.detach().requires_grad_()  # its parameters
        ratio = (logprobs(policy) - old).exp()
        objective = (shares * clipped(ratio, A, clip_coef, clip_coef)).sum()
        policy = policy + learning_rate * torch.autograd.grad(objective, policy)[0]
    return policy.detach()


# %% batches-figure
clips = {"no clip": math.inf, "clip 0.2": 0.2}
ends = {name: update(torch.zeros(969), batches / 16, clip).sigmoid() for name, clip in clips.items()}
figure, ax = plt.subplots(figsize=(6.4, 3.4))
drawn.two_histograms(ax, ends, weight, before=0.5)
ax.set(xlabel="P('right') after one batch", title="All 969 batches, each with its probability")
plots.show(figure, alt="No clip: most batches end above 0.9, some near 0. Clip: all between 0.3 and 0.7.")
for name, p in ends.items():
    print(f"{name:>8}: P('right') {p.min():.2f} to {p.max():.2f}; score {weight @ (0.6 + 0.2 * p):.3f}")
bold, cautious = ends.values()
claims({
    "no clip: more than one batch in ten leaves 'right' below 0.2": weight @ (bold < 0.2).double() > 0.1,
    "clip: none leaves the range from 0.3 to 0.7": (cautious - 0.5).abs().max() < 0.2,
    "both: one or two in ten go wrong": all(0.1 < weight @ (p < 0.5).double() < 0.2 for p in ends.values()),
})

# %% [markdown] batches-after
# **Takeaway: without a clip one unlucky batch can undo the policy; with it, no batch can.** An unlucky batch
# points the wrong way in both. The clip does not make it right, it makes it cheap.
#
# Two facts that are often told otherwise:
#
# - **The bounds are not a wall.** They would allow 0.4 to 0.6, and we see 0.32 and 0.68. The clip
#   takes the slope away *beyond* the bound; the step that crosses it is as long as the learning rate makes it.
#   (That clipping does not keep the ratio within bounds is where 1903.07940 begins.)
# - **After one batch the bold policy is better on average.** Most batches are right, and it believes them
#   entirely. What it pays shows later: a policy that says "look it up" only never samples "right" again, and
#   cannot learn that it was wrong.
#
# So we go on: 20 batches in a row, 500 players, four learning rates. **Who will be ahead at the end?**


# %% players
def play(clip_coef, learning_rate, rounds=20, players=500):
    draw, theta = torch.Generator().manual_seed(SEED), torch.zeros(players)
    for _ in range(rounds):
        happens = logprobs(theta).exp() * GIVEN_ANSWER  # (players, 4)
        things = happens.multinomial(16, replacement=True, generator=draw)  # (players, 16)
        theta = update(theta, F.one_hot(things, 4).double().mean(1), clip_coef, learning_rate=learning_rate)
    return theta.sigmoid()


score, lost = {}, {}  # at four learning rates
for name, clip_coef in clips.items():
    ended = torch.stack([play(clip_coef, rate) for rate in (0.1, 0.5, 2.0, 8.0)])  # (4, 500)
    score[name], lost[name] = (0.6 + 0.2 * ended).mean(-1), (ended < 0.1).double().mean(-1)
    told = [f"{s:.3f} ({share:.0%} lost)" for s, share in zip(score[name], lost[name], strict=True)]
    print(f"{name:>8}: mean score", ", ".join(told))

# %% [markdown] players-after
# (From left to right: learning rates 0.1, 0.5, 2 and 8. A player is "lost" who says "right" less than once in ten
# answers.)
#
# **Takeaway: with a clip it hardly matters what the learning rate is.** Without one it matters much, and a learning
# rate that is right (0.5) does even better than the clip. So a clip is not magic. It measures the step in what
# counts, probabilities instead of parameters, and so saves the search for a learning rate that is safe for
# every batch.
#
# Note when it does nothing at all: in the first step after sampling. All ratios are 1 there. PPO with one step
# per batch is REINFORCE.

# %% [markdown] destination-text
# ## What the KL penalty limits: the destination
#
# How far from the *reference* will such a policy go, if it may take as many steps as it likes? The clip does not
# say. After each batch, $\pi_{\text{old}}$ is the new policy, and the next 20 % are counted from there.
#
# The destination is set by what is maximised. In RLHF that is $\mathbb E[r] - \beta\,\mathrm{KL}(\pi,
# \pi_{\text{ref}})$, and chapter 3 knows its optimum, $\pi^* \propto \pi_{\text{ref}}\,e^{r/\beta}$. PPO gets
# there by subtracting the penalty from the score:
#
# $$r(y) - \beta\,\log\frac{\pi_{\text{old}}(y)}{\pi_{\text{ref}}(y)}$$
#
# Back to chapter 3's five answers, where $\pi^*$ is known: 40 batches of 32 answers, 8 steps on each, 100 runs
# side by side. Clip or not, $\beta$ 0 or 1. **Four settings: which of them ends at $\pi^*$?**


# %% five
REWARD = torch.tensor([2.0, 1.2, 0.5, -0.6, -1.2])  # right, flattering, half wrong, look it up, a thing
REFERENCE = torch.tensor([0.10, 0.15, 0.30, 0.25, 0.20]).log()
log_softmax = torch.nn.LogSoftmax(dim=-1)


def ppo(clip_coef, beta, learning_rate=1.0, runs=100):
    draw, visited = torch.Generator().manual_seed(SEED), [REFERENCE.expand(runs, 5)]
    for _ in range(40):
        old = visited[-1]
        samples = old.exp().multinomial(32, replacement=True, generator=draw)  # (runs, 32)
        shares = F.one_hot(samples, 5).double().mean(1)  # (runs, 5)
        rewards = REWARD - beta * (old - REFERENCE)  # numbers, without a gradient
        new = update(old, shares, clip_coef, rewards, log_softmax, steps=8, learning_rate=learning_rate)
        visited.append(log_softmax(new))
    return torch.stack(visited)  # (41, runs, 5)


# %% five-figure
def kl(policy, other):  # of log-probabilities
    return (policy.exp() * (policy - other)).sum(-1)


settings = {f"{name}, beta {beta}": (clip, beta) for beta in (0, 1) for name, clip in clips.items()}
optimum = log_softmax(REFERENCE + REWARD)  # of beta 1
runs = {name: ppo(*setting) for name, setting in settings.items()}  # (41, 100, 5) each
far = {name: kl(visited, REFERENCE) for name, visited in runs.items()}
step = {name: kl(visited[:-1], visited[1:]) for name, visited in runs.items()}  # KL(old, new)
figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.8))
drawn.destination_and_step(axes, far, step, optimum=kl(optimum, REFERENCE))
alt = """Left: with beta 0 the KL rises to 2.3, with and without clip; with clip and beta 1 it stays at
about 0.45; with beta 1 alone it ends anywhere. Right: with a clip all steps are below 0.1, without it
they reach 100."""
plots.show(figure, alt)

# %% five-claims
missed = {name: kl(visited[-1], optimum) for name, visited in runs.items()}
for name, kls in far.items():
    low, middle, high = kls[-1].quantile(torch.tensor([0.1, 0.5, 0.9]))
    print(f"{name:>16}: KL {middle:.2f} ({low:.2f} to {high:.2f}), from pi* {missed[name].median():.2f}")
single = (runs["no clip, beta 1"][-1].exp().amax(-1) > 0.99).double().mean()
slow = kl(ppo(math.inf, 1.0, learning_rate=0.3)[-1], optimum)
claims({
    "clip: no step above a KL of 0.2, at either beta": max(step[n].max() for n in step if "0.2" in n) < 0.2,
    "no clip: steps above 1, at either beta": min(step[n].max() for n in step if "no" in n) > 1,
    "beta 0, with the clip: a KL above 2": far["clip 0.2, beta 0"][-1].median() > 2,
    "beta 1, without: nine runs of ten end with a single answer": single > 0.9,
    "both: nine of ten within 0.05 nats of the optimum": missed["clip 0.2, beta 1"].quantile(0.9) < 0.05,
    "beta 1, without, learning rate 0.3: the same": slow.quantile(0.9) < 0.05,
})

# %% [markdown] five-after
# **Takeaway: clip without penalty walks safely to the wrong place; penalty without clip knows the place and does
# not get there.** The four in turn:
#
# - **clip, $\beta$ 0**: short steps, one after the other, and always in the same direction. It ends where the run
#   without a clip was after a handful of batches: nearly one answer, with a KL close to $\log 10$. Where the score is
#   not quite what people want, that place is chapter 12's subject.
# - **no clip, $\beta$ 1**: the penalty pulls, and the steps overshoot. Sooner or later a batch makes one answer
#   nearly certain. Then all 32 answers are alike, all advantages are 0, and it stays there. Which answer? Any.
# - **both**: at $\pi^*$, and hovering around it. With such long steps a run does not settle; with a learning rate of
#   0.3 it does.
#
# And the last claim says again what the players said: a small learning rate limits the step as well. Something
# must; it need not be the clip.
#
# ### Two KLs, not to be confused
#
# | | $\mathrm{KL}(\pi_{\text{old}}, \pi)$ | $\mathrm{KL}(\pi, \pi_{\text{ref}})$ |
# |---|---|---|
# | compares with | the policy that drew this batch | the policy before all training |
# | samples come from | the first one, old | the first one, the policy |
# | is kept small by | the clip | $\beta$ |
# | in a log | `approx_kl`, and `clipfrac`, the share of ratios out of bounds | `kl` |
#
# The PPO paper also tries a penalty in place of the clip (its section 4). That is a penalty on the *first* KL, another
# way to limit the step. The penalty of RLHF is on the second; the paper's robots have no reference.

# %% [markdown] estimators-text
# ## Estimating a KL from samples
#
# Both KLs are sums over all answers, and a language model cannot sum over them. It has samples $y \sim \pi$, and
# for each one two log-probabilities. Let $k_1 = \log\pi(y) - \log\pi_{\text{ref}}(y)$. Three estimates per
# sample are in use (Schulman, *Approximating KL Divergence*, 2020, a note):
#
# - $k_1$ itself. Its mean *is* the definition of $\mathrm{KL}(\pi, \pi_{\text{ref}})$. But a KL is never
#   negative, and single $k_1$ are, for every answer that became rarer.
# - $k_2 = \tfrac12 k_1^2$. Never negative. Is its mean the KL? Not quite.
# - $k_3 = e^{-k_1} - 1 + k_1$. The trick: $e^{-k_1} = \pi_{\text{ref}}/\pi$, and its mean under $\pi$ is
#   $\sum_y \pi_{\text{ref}}(y) = 1$. So $e^{-k_1} - 1$ has mean 0, may be added for nothing, and cancels much of
#   $k_1$'s scatter. And $k_3 \ge 0$, by $\log u \le u - 1$ of chapter 3, with $u = e^{-k_1}$.
#
# We have five answers, so mean and standard deviation are exact sums. Policies are the optima for three $\beta$:
# near the reference, further off, far away. Two normal distributions, from Schulman's note, are printed below them.
# **Which estimator is best?**


# %% estimators
def estimators(logprobs, ref_logprobs):
    k1 = logprobs - ref_logprobs
    return k1, k1.square() / 2, torch.exp(-k1) - 1 + k1


def moments(weights, values):
    mean = (weights * values).sum()
    return mean, (weights * (values - mean) ** 2).sum().sqrt()


x = torch.arange(-12, 12, 0.001)  # so fine that sums are integrals
normal = {m: (-((x - m) ** 2) / 2).log_softmax(0) for m in (0.0, 0.1, 1.0)}  # N(m, 1), on the grid
pairs = {f"five answers, beta {b}": (log_softmax(REFERENCE + REWARD / b), REFERENCE) for b in (20, 1, 0.2)}
pairs |= {f"N(0, 1) and N({m}, 1)": (normal[0.0], normal[m]) for m in (0.1, 1.0)}
for name, (policy, other) in pairs.items():
    true, found = kl(policy, other), [moments(policy.exp(), k) for k in estimators(policy, other)]
    told = [f"k{n} {mean / true:.2f} +- {sd / true:.2f}" for n, (mean, sd) in enumerate(found, start=1)]
    print(f"{name}: KL {true:.3f}. In units of it:", ", ".join(told))

# %% [markdown] estimators-after
# $k_1$ and $k_3$ have the right mean everywhere, $k_2$ is too large by up to a quarter. The scatter is another
# matter. Near the reference $k_1$ is hopeless: one sample of it scatters by forty times the KL, one of $k_3$ by about
# the KL itself. Far away it is the other way round: there $k_3$ scatters by two hundred times the KL. The culprit is
# $e^{-k_1}$, the price of an answer that the policy has nearly given up: hardly ever drawn, and huge when it is.
#
# In PPO the first case is the rule for $\mathrm{KL}(\pi_{\text{old}}, \pi)$, where a step is small, and
# `approx_kl` is a mean of $k_3$. (Its samples come from the old policy, so old takes the place of $\pi$ above
# and new that of the reference: **who sampled stands first**.) For the distance from the reference, nats away
# after some training, $k_1$ is the safe one.
#
# The last two lines are Schulman's own example, and his numbers.

# %% [markdown] gradient-text
# ## The slope of an estimate is not an estimate of the slope
#
# One may use a KL in two ways. As a *number*, subtracted from the score as above; then only its value counts. Or as a
# *loss*: add $\beta k$ to the loss, and differentiate it. **Which of the three has, on average, the gradient of
# the KL?** Careful: not the same as the last question.
#
# The gradient that we want, with the product rule, and $\mathbb E[\nabla\log\pi] = 0$ from step 3 above:
#
# $$\nabla\,\mathrm{KL}(\pi, \pi_{\text{ref}}) = \sum_y \nabla\pi\; k_1 + \sum_y \pi\,\nabla k_1
# = \mathbb E\big[k_1\,\nabla\log\pi\big] + 0$$
#
# The gradients that we get, since the samples are fixed and only $k$ is differentiated ($\nabla k_1 = \nabla\log\pi$):
#
# $$\mathbb E[\nabla k_1] = \mathbb E[\nabla\log\pi] = 0,\qquad
# \mathbb E[\nabla k_2] = \mathbb E[k_1\,\nabla\log\pi],\qquad
# \mathbb E[\nabla k_3] = \mathbb E\big[(1 - e^{-k_1})\,\nabla\log\pi\big]$$
#
# The last one is $0 - \sum_y \pi_{\text{ref}}\,\nabla\log\pi$, and that is the gradient of the *other* KL,
# $\mathrm{KL}(\pi_{\text{ref}}, \pi)$. Check by autograd:


# %% gradient
def slope(number):
    return torch.autograd.grad(number, logits, retain_graph=True)[0]


logits = (REFERENCE + REWARD / 0.5).requires_grad_()
policy = log_softmax(logits)
sampler = policy.detach().exp()  # samples know nothing of the parameters
by_k1, by_k2, by_k3 = (slope((sampler * k).sum()) for k in estimators(policy, REFERENCE))
wanted, other = slope(kl(policy, REFERENCE)), slope(kl(REFERENCE, policy))
claims({
    "k1: its mean gradient is 0": by_k1.abs().max() < 1e-12,
    "k2, the biased one: that of KL(policy, reference)": torch.allclose(by_k2, wanted),
    "k3, the unbiased one: that of KL(reference, policy)": torch.allclose(by_k3, other),
    "and the two gradients differ": not torch.allclose(by_k2, by_k3, atol=0.05),
})

# %% [markdown] penalties-text
# The biased estimate has the right gradient, and the two unbiased ones have wrong ones. (Why does $k_1$ work as
# a number? Because there it multiplies $\nabla\log\pi$, as part of the advantage: it gives
# $\mathbb E[k_1\nabla\log\pi]$, which is right.)
#
# Does it matter? It decides the *destination*. We maximise exactly, with each of the four penalties, $\beta = 1$.
# **Where does $k_1$ as a loss lead?**


# %% penalties
def maximise(k, as_score=False):
    logits = REFERENCE.clone()
    for _ in range(3000):
        policy = log_softmax(logits.requires_grad_())
        penalty = estimators(policy, REFERENCE)[k - 1]
        penalty = penalty.detach() * policy if as_score else penalty
        gain = (policy.detach().exp() * (REWARD * policy - penalty)).sum()
        logits = (logits + 0.5 * torch.autograd.grad(gain, logits)[0]).detach()
    return log_softmax(logits)


arrived = {"k1 as score": maximise(1, as_score=True)} | {f"k{k} as loss": maximise(k) for k in (1, 2, 3)}
away = {name: kl(policy, optimum) for name, policy in arrived.items()}
for name, policy in arrived.items():
    print(f"{name}: P('right') {policy[0].exp():.2f}, KL from the optimum {away[name]:z.3f}")
claims({"k1 as score and k2 as loss arrive": max(away["k1 as score"], away["k2 as loss"]) < 1e-6})

# %% [markdown] penalties-after
# **Takeaway: as a number take $k_1$ or $k_3$, as a loss take $k_2$.** $k_1$ as a loss is not a weak penalty but none
# at all; the log still shows a KL, and it looks as if $\beta$ were too small. $k_3$ as a loss, which GRPO takes
# (2402.03300), pulls to a neighbour of the optimum. (2506.09477 found such mistakes in a number of open projects and
# papers; 2510.01555 compares all the ways.)

# %% [markdown] gae-text
# ## Which word deserves the score?
#
# So far an answer was one decision. It is a row of tokens, and the score comes when the last one is written. Each
# token needs an advantage of its own: was *this* word better than what the policy says here on average?
#
# The tool is a second model, the **critic**. It gives a value $V(s_t)$: what the score will be, seen from
# before token $t$. Rewards $r_t$ are 0 except on the last token (a KL penalty would add one to every token), and after
# the last token nothing comes, so the value there is 0.
#
# **Step 1: look one token ahead.** A token is good if what we have and expect after it exceeds what we
# expected before it:
#
# $$\delta_t = r_t + \gamma V(s_{t+1}) - V(s_t)$$
#
# This *TD error* believes the critic. $\gamma$ (`gamma`) discounts what comes later; in RLHF it is 1.
#
# **Step 2: look further.** Add up $k$ of them, each discounted. All values in between cancel:
#
# $$\delta_t + \gamma\,\delta_{t+1} + \dots + \gamma^{k-1}\delta_{t+k-1}
# = \underbrace{r_t + \gamma r_{t+1} + \dots + \gamma^{k-1}r_{t+k-1}}_{\text{seen}}
# + \underbrace{\gamma^k V(s_{t+k})}_{\text{believed}} - V(s_t)$$
#
# Looking to the end, nothing is believed: that is *Monte Carlo*, what came minus what was expected.
#
# **Step 3: do not choose.** Generalised advantage estimation (GAE, 1506.02438, eq. 16) mixes all lengths $k$, with
# weights $(1-\lambda)\lambda^{k-1}$, which add up to 1. How often does $\delta_{t+l}$ occur? Every length
# $k > l$ contains it, and their weights add up to $\lambda^l$:
#
# $$A_t = \sum_{l\ge 0}\,(\gamma\lambda)^l\,\delta_{t+l}\qquad\Rightarrow\qquad
# A_t = \delta_t + \gamma\lambda\,A_{t+1}$$
#
# So it is one walk from the end. $\lambda$ (`gae_lambda`) 0 is step 1, $\lambda$ 1 is Monte Carlo.


# %% gae
def gae_of(rewards, values, gamma, gae_lambda):  # (N, T) each
    next_values = F.pad(values[:, 1:], (0, 1))  # after the end: 0
    td_errors = rewards + gamma * next_values - values
    found, after = [], 0.0
    for t in reversed(range(rewards.shape[1])):
        after = td_errors[:, t] + gamma * gae_lambda * after
        found.append(after)
    return torch.stack(found[::-1], dim=1)


rewards, values = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(SEED))
package, _ = advantages.gae(rewards, values, torch.ones(4, 6).bool(), gamma=0.9, gae_lambda=0.5)
ours = gae_of(rewards, values, gamma=0.9, gae_lambda=0.5)
claims({"it is the package's gae, which also knows padding": torch.allclose(ours, package)})

# %% [markdown] chain-text
# A world in which all can be computed: an answer has eight words, each is right or wrong, and the score, given at
# the end, is the number of right ones. The policy has one parameter again: it writes a right word with
# probability $p = 0.3$, everywhere. That makes 256 answers.
#
# Before word $t$ the true value is what is won already plus $0.3$ for each word to come. A perfect critic knows
# that. **One answer, three $\lambda$, a perfect critic: what will each say of the third word, a wrong one?**

# %% chain
T, P = 8, 0.3
words = torch.tensor(list(itertools.product([0.0, 1.0], repeat=T)))  # (256, 8): 1 is a right word
probability = (words * P + (1 - words) * (1 - P)).prod(-1)
won = words.cumsum(-1) - words  # before each word
true_value = won + P * torch.arange(T, 0, -1)
rewards = F.pad(words.sum(-1, keepdim=True), (T - 1, 0))  # the score, on the last word
shown = [1, 1, 0, 0, 1, 0, 1, 1]
row = words.tolist().index(shown)
marks = ["right" if word else "wrong" for word in shown]
credit = {f"lambda {x}": (marks, gae_of(rewards, true_value, 1.0, x)[row].tolist()) for x in (0.0, 0.5, 1.0)}
figure, ax = plt.subplots(figsize=(8.0, 3.4))
plots.token_heat_map(ax, credit, limit=2.6, label="advantage")
plots.show(figure, alt="Lambda 0: +0.7 for a right word, -0.3 for a wrong one. Lambda 1: high early.")

# %% [markdown] chain-after
# With a perfect critic $\lambda = 0$ says of each word what it deserves: $1 - 0.3$ or $0 - 0.3$. With $\lambda = 1$
# a word is credited with whatever came after it, and the third word, wrong as it is, shares in the luck of the
# last ones. On average that is not an error: other answers have bad luck. It is *noise*.
#
# But critics are not perfect. Let ours know a share $q$ of what there is to know:
# $\hat V = 8p + q\,(V - 8p)$, which for $q = 0$ is always the mean score. **Now $\lambda = 0$ believes somebody
# who is wrong. Which $\lambda$ will be best for $q$ = 1, 0.5, 0?**
#
# Best at what? At estimating the policy gradient. Each answer gives an estimate of $dJ/d\theta$,
# $\sum_t A_t\,(\text{right}_t - p)$; the true slope is $8\,p\,(1-p)$. Over all 256 answers bias and standard
# deviation are exact, and a batch of 16 misses the slope by $\sqrt{\text{bias}^2 + \text{sd}^2/16}$.

# %% bias-variance
lambdas, true_slope = torch.linspace(0, 1, 41), T * P * (1 - P)
bias, sd = {}, {}
for share in (1.0, 0.5, 0.0):
    critic = T * P + share * (true_value - T * P)
    estimates = [(gae_of(rewards, critic, 1.0, x) * (words - P)).sum(-1) for x in lambdas.tolist()]
    mean, sd[share] = torch.tensor([[*moments(probability, estimate)] for estimate in estimates]).T
    bias[share] = mean - true_slope
miss = {share: (bias[share] ** 2 + sd[share] ** 2 / 16).sqrt() for share in bias}
best_lambda = {share: lambdas[m.argmin()].item() for share, m in miss.items()}

# %% bias-variance-figure
figure, axes = plt.subplots(1, 2, figsize=(8.6, 3.5))
half = {"size of the bias": (lambdas, bias[0.5].abs()), "standard deviation / 4": (lambdas, sd[0.5] / 4)}
plots.curves(axes[0], half, xlabel="gae_lambda", ylabel="slope of J").set_title("A critic that knows half")
critics = {f"critic knows {share:.0%}": (lambdas, m) for share, m in miss.items()}
plots.curves(axes[1], critics, xlabel="gae_lambda", ylabel="miss of a batch of 16")
axes[1].set_title("A better critic, a lower best lambda")
plots.show(figure, alt="Left: bias falls, deviation grows. Right: miss, lowest at 0, near 0.9, near 1.")
print("best lambda if the critic knows all, half, nothing:", *(f"{x:.2f}" for x in best_lambda.values()))
claims({
    "lambda 1 has no bias, whatever the critic": all(abs(b[-1]) < 1e-12 for b in bias.values()),
    "half a critic: less bias with every step up": (bias[0.5].abs().diff() < 0).all(),
    "and more noise": (sd[0.5].diff() > 0).all(),
    "the best lambda of half a critic lies strictly between": 0 == best_lambda[1.0] < best_lambda[0.5] < 1,
})

# %% [markdown] bias-variance-after
# **Takeaway: $\lambda$ says how much of the critic to believe.** With a good critic look one word ahead; with a
# poor one look to the end, and pay in noise. In between, the bias falls steeply only near 1, and so the best
# $\lambda$ of a middling critic is high. In the GAE paper, balancing a pole, it was {{published:gae-best-lambda}}.
#
# Why has $\lambda = 1$ no bias, even with a critic that knows nothing? All values between cancelled in step 2. What
# is left, $-V(s_t)$, does not depend on word $t$: it is a baseline.
#
# ## All of PPO in one line
#
# The critic is trained as well: $A_t + V(s_t)$, called the *returns*, is where $V(s_t)$ should have been. The loss
# that PPO minimises on each *minibatch*, a part of the batch, is
#
# $$\underbrace{-\,\text{mean}\,\min(\text{ratio}\,A,\ \text{clip}(\text{ratio})\,A)}_{\text{policy}}
# \;+\;\texttt{vf\_coef}\;\underbrace{\tfrac12\,\text{mean}\,(V - \text{returns})^2}_{\text{critic}}$$
#
# (Other implementations add a bonus for entropy; we do not.)
# `vf_coef` matters only where policy and critic share parameters. Log-probabilities of the old policy, advantages
# and returns are numbers: computed once per batch of samples, and no gradient passes through them. What else it
# takes to do this with a language model, where $r$, $A$ and mask are tables of tokens, is chapter 10.

# %% [markdown] play-text
# ## Play
#
# One token. Left its clipped objective, computed by the package's loss. Right its ratio in 30 gradient steps;
# the rest of the batch, which shares the parameters, pushes it about at random, and the button draws another
# such push. **Put the token into each of the six zones. Where does the clip hold it, and where does it not?**

# %% play
drawn.clip_explorer(
    drawn.one_token,
    start={"ratio": 1.25, "clip_coef": 0.2},
    ratio=[0.5, 0.65, 0.75, 0.85, 0.95, 1.0, 1.05, 1.15, 1.25, 1.35, 1.5],
    clip_coef=[0.1, 0.2, 0.3, 0.4],
    advantage=["positive", "negative"],
)

# %% [markdown] summary
# ## In five lines
#
# 1. The policy gradient is $\mathbb E[A\,\nabla\log\pi]$; a baseline changes its variance, not its mean.
# 2. $\mathbb E_{\text{old}}[\text{ratio}\cdot A]$ lets a batch be used again, and PPO's clip takes away the reward for
#    moving a token's probability by more than $\epsilon$. It never takes away the pull back.
# 3. The clip limits the step, counted from the last policy; $\beta$ sets the destination, counted from the
#    reference. Clip alone walks safely to the wrong place, $\beta$ alone may not arrive.
# 4. Of a KL, $k_1$ and $k_3$ have the right mean, and $k_2$ has the right gradient.
# 5. $\lambda$ in GAE says how much of the critic to believe: bias at 0, noise at 1.

# %% [markdown] questions
# ## Three questions
#
# **1.** Your log shows `clipfrac` 0 in every first step after sampling. Is something broken?
#
# <details><summary>Answer</summary>
#
# No: there policy and old policy are the same, so that every ratio is 1. It would be alarming if it were *not* 0
# there. Then the log-probabilities of sampling and of training are not computed alike (temperature, padding,
# dropout, another precision), and the ratio compares two functions in place of two policies.
# </details>
#
# **2.** A colleague says: "We clip, so the policy cannot run away from the reference. We can drop the KL penalty."
# And another: "We have a KL penalty, so we can drop the clip."
#
# <details><summary>Answer</summary>
#
# The first is wrong: 40 short steps reached a KL of more than 2. The second is right if something else keeps the
# steps short: a small learning rate, one step per batch, a penalty on KL(old, new). In this chapter, with long steps
# and without a clip, nine runs of ten ended with a single answer, penalty or not.
# </details>
#
# **3.** With $\lambda = 0.95$ and $\gamma = 1$, a critic learns to say, before every word, exactly the mean score of
# *this prompt*. What are the advantages, and what would change with a baseline per prompt and no critic at all?
#
# <details><summary>Answer</summary>
#
# Before the last word all TD errors are 0, and the last one is score minus mean. So word $t$ gets
# $0.95^{T-t}$ times that: the same verdict for all, only weaker for early words, for no good reason. Without a critic
# each word gets score minus mean, which is $\lambda = 1$. That is REINFORCE with a baseline; RLOO (2402.14740)
# and GRPO (2402.03300) do it.
# </details>

# %% [markdown] classical
# ## The classical results beside ours
#
# | | published | here | why they differ |
# |---|---|---|---|
# | the clipped objective has its top at a small KL(old, new) | {{published:ppo-kl-of-first-update}}, first update of a hopping robot | 0.020, a bandit with one parameter | they need not: it is $\epsilon^2/2$ where all ratios reach their bound |
# | clip against no clip, several steps per batch | scores {{published:ppo-clipped-score}} and {{published:ppo-unclipped-score}} | four learning rates: mean scores within 0.015 of each other; without clip more than 0.04 apart | with a learning rate that fits, no clip does better here; robots have many parameters, and one rate does not fit all |
# | a penalty on KL(old, new) in its place | score {{published:ppo-kl-to-old-score}}, below the clip | not measured | our penalty is on the other KL |
# | clipping does not keep ratios within bounds | 1903.07940 | below 0.7 and above 1.3, at bounds of 0.8 and 1.2 | |
# | scatter of $k_1$, $k_2$, $k_3$, a small KL | {{published:kl-estimators-near}} times the KL | 20, 1.42, 1.42 | the same two normal distributions |
# | the same, a larger KL | {{published:kl-estimators-far}} | 2, 1.73, 1.70; far from the reference $k_3$ at 200 | the note stops at a KL of 0.5 |
# | the unbiased estimates have wrong gradients | 2506.09477, 2510.01555 | $k_1$: none; $k_3$: of the other KL; $k_2$: exact | |
# | the best $\lambda$ | {{published:gae-best-lambda}} | 0.93 with half a critic, 0.97 with none, 0 with a perfect one | theirs is learnt while the policy learns; how much it knows is not known |

# %% [markdown] further
# ## Further reading
#
# - PPO: arXiv 1707.06347. Read sections 2 to 4, they are short.
# - GAE: arXiv 1506.02438, sections 3 and 4
# - What the clip does not do: arXiv 1903.07940. A clip with two bounds: arXiv 2503.14476
# - Gradients of KL estimates: arXiv 2506.09477 and 2510.01555; Schulman's note *Approximating KL Divergence* (2020)
#
# **Next:** exercises 9.1 to 9.3, in `exercises/09_ppo_theory.ipynb`. Then chapter 10: the same loss on a language
# model, and eight ways to break it without an error message.
# %% [exercises]
# %% [markdown] title
# # 9 · Exercises: the clip, the credit, the KL
#
# Three functions, about an hour. Write each body, run the cell, then run its check. When the first two are right,
# they train a policy together, in a cell after 9.2.
#
# All numbers come as tensors in double precision. A check prints them as lists; to try such a case yourself, wrap
# each list in `torch.tensor(...)`. Letters in the signatures are sizes: B responses, T columns (tokens), N samples.
#
# Stuck? Open the hints one at a time. The solved notebook is in `solutions/`, under the same name. In a terminal
# `prefcourse check 9` checks what you saved, and `prefcourse reset 9.1` gives you an exercise afresh.

# %% setup
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from prefcourse import plots
from prefcourse.advantages import Mask, PerToken
from prefcourse.checks import NotWritten, check

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
plt.rcParams.update(plots.STYLE)

# %% [markdown] question-9-1
# **What is PPO's loss on this batch of tokens?** Given are the log-probabilities of the tokens under the policy and
# under the policy that drew them, their advantages, a mask, and two bounds. The objective of a token is
# $\min(\text{ratio}\cdot A,\ \text{clip}(\text{ratio},\,1 - \text{clip\_low},\,1 + \text{clip\_high})\cdot A)$.
# Return minus its mean, one number.
#
# - The mean is over all tokens of the batch where `mask` is true, each with one vote. If there is none, the loss
#   is 0. What stands elsewhere means nothing.
# - `advantages` has one column per token, or a single one: then all tokens of a response share it.
# - The old log-probabilities and the advantages are constants. Even if their tensors could take a gradient, none
#   may reach them.
# - Where the clip binds, log-ratios go up to 10,000, in both directions. Loss and gradient must stay finite:
#   $e^{10000}$ is `inf`, and `inf` times 0 is `nan`.
# - The check compares the value, and the gradient with respect to each log-probability. Where a token is silent, it
#   is exactly 0.
#
# By hand first: one token, advantage 2, both bounds 0.2. It had probability 0.4, now it has 0.6. What is the loss,
# and what would it be for advantage -2?


# %% answer-9-1
def ppo_clip_loss(
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    advantages: Float[Tensor, " B #T"],
    mask: Bool[Tensor, "B T"],
    *,
    clip_low: float,
    clip_high: float,
) -> Float[Tensor, ""]:
    """What is PPO's clipped loss, mean over the tokens where the mask is true? No gradient
    reaches the old log-probabilities or the advantages."""
    ratio = (logprobs - old_logprobs.detach()).clamp(-20, 20).exp()  # exp(20) is beyond any bound
    advantages = advantages.detach()
    objective = torch.minimum(ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages)
    return -objective.masked_fill(~mask, 0.0).sum() / mask.sum().clamp(min=1)


# %% [markdown] use-9-1-text
# **Your clip at work.** The bandit of the chapter: "right" is liked in 8 cases of 10, "look it up" in 6. Eight
# players learn from 20 batches of 16 thumbs, in 20 steps each, with your loss. The learning rate is too bold on
# purpose. **What will the left picture, with hardly any bounds, look like?**


# %% your-bandit
def bandit(clip_low, clip_high, seed, batches=20, steps=20, learning_rate=6.0):
    draw, theta, path = torch.Generator().manual_seed(seed), torch.zeros(()), [0.5]
    for _ in range(batches):
        right = torch.rand(16, 1, generator=draw) < theta.sigmoid()  # which answer was given
        thumbs = (torch.rand(16, 1, generator=draw) < torch.where(right, 0.8, 0.6)).double()
        old, mask = F.logsigmoid(torch.where(right, theta, -theta)), torch.ones(16, 1, dtype=torch.bool)
        for _ in range(steps):
            theta = theta.detach().requires_grad_()
            new = F.logsigmoid(torch.where(right, theta, -theta))
            loss = ppo_clip_loss(new, old, thumbs - thumbs.mean(), mask, clip_low=clip_low, clip_high=clip_high)
            loss = loss[0] if isinstance(loss, tuple) else loss  # some functions return (loss, metrics)
            theta = (theta - learning_rate * torch.autograd.grad(loss, theta)[0]).detach()
        path.append(theta.sigmoid().item())
    return path


# %% use-9-1
if check("9.1", ppo_clip_loss).passed:
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.2), sharey=True)
    for ax, (low, high) in zip(axes, ((0.999, 1e6), (0.2, 0.2)), strict=True):
        for seed in range(8):
            ax.plot(bandit(low, high, seed), color=plots.POLICY, alpha=0.7, linewidth=1.2)
        ax.set(title=f"ratio between {1 - low:g} and {1 + high:g}", xlabel="batch", ylim=(-0.03, 1.03))
    axes[0].set(ylabel="P('right')")
    plots.show(
        figure, alt="P('right') of eight players. Hardly bounded: jumps to 0 or 1. Clipped: rises in short steps."
    )
else:
    print("Here your loss will teach eight players, once 9.1 is solved.")

# %% [markdown] question-9-2
# **By how much did it go better than expected, token by token?** Given are rewards and values of the tokens of B
# responses. Return two tables, `(advantages, returns)`: generalised advantage estimates, and advantages plus
# values, which is what the critic should have said.
#
# - The advantage of a token is its TD error, plus $\gamma\lambda$ times the advantage of the next token. The TD error
#   is $r_t + \gamma V(s_{t+1}) - V(s_t)$. After the last token nothing comes: both numbers are 0 there.
# - Columns where `mask` is false are no tokens. Padding may stand on the left and on the right, and there may be gaps
#   (somebody else's words). The next token after a gap is the one behind it. In both tables such columns are 0, and
#   the numbers that stand there in the inputs mean nothing.
# - A response without tokens is a row of zeros.
# - Both tables are numbers to train on. No gradient may flow back to the values; the line above the function sees to
#   that.
# - `PerToken` and `Mask` are the package's names for tables of B rows and T columns, of numbers and of truths.
#
# By hand first: two tokens, rewards 0 and 1, values 0.5 and 0.75, `gamma` 1, `gae_lambda` 0.5. Begin with the second.


# %% answer-9-2
from prefcourse.advantages import gae

# %% [markdown] use-9-2-text
# **Your PPO.** Eight words, each right or wrong; the score comes with the last one and is the number of right words.
# This time the policy has a parameter for every place, and a critic learns along: for every place and number of right
# words so far, what the score will be. Your two functions do the rest, 30 batches of 32 answers. **Which $\lambda$
# learns fastest at the beginning, when the critic knows nothing?**


# %% your-ppo
def your_ppo(gae_lambda, seed, batches=30):
    draw, theta, critic, scores = torch.Generator().manual_seed(seed), torch.full((8,), -1.0), torch.zeros(8, 9), []
    place, mask = torch.arange(8), torch.ones(32, 8, dtype=torch.bool)
    for _ in range(batches):
        right = torch.rand(32, 8, generator=draw) < theta.sigmoid()
        so_far = right.long().cumsum(1) - right.long()  # right words before each place
        rewards = F.pad(right.sum(1, keepdim=True).double(), (7, 0))  # the score, with the last word
        advantages, returns = gae(rewards, critic[place, so_far], mask, gamma=1.0, gae_lambda=gae_lambda)
        old = F.logsigmoid(torch.where(right, theta, -theta))
        for _ in range(4):
            theta = theta.detach().requires_grad_()
            new = F.logsigmoid(torch.where(right, theta, -theta))
            loss = ppo_clip_loss(new, old, advantages, mask, clip_low=0.2, clip_high=0.2)
            theta = theta - 2 * torch.autograd.grad(loss[0] if isinstance(loss, tuple) else loss, theta)[0]
        seen = F.one_hot(so_far, 9).double()  # (32, 8, 9)
        critic += 0.5 * (seen * (torch.as_tensor(returns)[..., None] - critic)).sum(0) / seen.sum(0).clamp(min=1)
        scores.append(rewards.sum(1).mean().item())
    return scores


# %% use-9-2
if check("9.1", ppo_clip_loss).passed and check("9.2", gae).passed:
    figure, ax = plt.subplots(figsize=(6.4, 3.4))
    lines = {}
    for gae_lambda in (0.0, 0.95, 1.0):
        runs = torch.tensor([your_ppo(gae_lambda, seed) for seed in range(5)])
        lines[f"lambda {gae_lambda:g}"] = (range(30), runs.mean(0))
    plots.curves(ax, lines, xlabel="batch", ylabel="right words of 8 (mean of 5 runs)")
    plots.show(figure, alt="Mean score against batches for three lambdas: all rise; lambda 0 starts slowest.")
else:
    print("Here your two functions will train a policy and its critic, once 9.1 and 9.2 are solved.")

# %% [markdown] question-9-3
# **How far is this policy from its reference, seen from samples?** Given are the log-probabilities of N samples of the
# policy, under the policy and under the reference. Return the three estimates `(k1, k2, k3)`, each with one number per
# sample.
#
# - All three speak of $\mathrm{KL}(\text{policy}, \text{reference})$. Averaged over the policy, k1 and k3 are exactly
#   that; k2 and k3 are never negative. In small cases the check sums over all answers, exactly.
# - The reference is a constant: no gradient may reach it.
# - Log-ratios go up to 10,000: answers that the reference hardly ever gives. All three must stay finite.
# - The check compares the values, and the gradient of each by the policy's log-probabilities.
#
# By hand first: two answers. The policy gives them with probabilities 1/4 and 3/4, the reference with 1/2 each. What is
# k1 of both? What is its mean under the policy? And what is that of $e^{-k_1}$?


# %% answer-9-3
def kl_estimators(
    logprobs: Float[Tensor, " N"], ref_logprobs: Float[Tensor, " N"]
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"], Float[Tensor, " N"]]:
    """What do k1, k2 and k3 say of KL(policy, reference), for each sample of the policy?
    No gradient reaches the reference."""
    k1 = logprobs - ref_logprobs.detach()
    return k1, k1.square() / 2, torch.exp(-k1) - 1 + k1


# %% [markdown] use-9-3-text
# **Your estimates on samples.** The five answers of the chapter, a policy near the reference and one far from it. A
# thousand samples of each; mean and standard error of your three, beside the exact sum. **Which one would you log?**

# %% use-9-3
reference = torch.tensor([0.10, 0.15, 0.30, 0.25, 0.20]).log()
reward = torch.tensor([2.0, 1.2, 0.5, -0.6, -1.2])
try:
    for name, beta in (("near", 20), ("far", 0.2)):
        policy, draw = (reference + reward / beta).log_softmax(-1), torch.Generator().manual_seed(0)
        drawn = policy.exp().multinomial(1000, replacement=True, generator=draw)
        exact = (policy.exp() * (policy - reference)).sum()
        print(f"{name}: the KL is {exact:.4f}")
        for number, k in enumerate(kl_estimators(policy[drawn], reference[drawn]), start=1):
            print(f"   k{number}: {k.mean():+.4f}, standard error {k.std() / math.sqrt(1000):.4f}")
except NotWritten as missing:
    print(missing)

# %% [markdown] use-9-3-loss-text
# **And as losses.** The exact policy gradient of the reward, minus each of your three, differentiated. The optimum of
# $\beta = 1$ says "right" with probability 0.38. **Which of yours arrives there?**

# %% use-9-3-loss
try:
    for number in range(3):
        logits = reference.clone()
        for _ in range(1500):
            policy = logits.requires_grad_().log_softmax(-1)
            gain = (policy.detach().exp() * (reward * policy - kl_estimators(policy, reference)[number])).sum()
            logits = (logits + torch.autograd.grad(gain, logits)[0]).detach()
        print(f"k{number + 1} as loss: P('right') {logits.softmax(-1)[0]:.2f}")
except NotWritten as missing:
    print(missing)
