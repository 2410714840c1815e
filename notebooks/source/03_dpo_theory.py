# Chapter 3. `prefcourse build 03` makes the three notebooks of this script; see prefcourse/build/script.py.

# %% [markdown] title
# # 3 · DPO Theory
#
# **Key insight.** The best policy near a reference is a *tilt* of it: every answer's probability is multiplied
# by $e^{r/\beta}$. Turn that around and each policy tells which reward it is best for, up to a constant that
# two answers to the same prompt share. So a policy can be fitted to comparisons directly, without a reward
# model.
#
# **After this chapter you can**
# - derive the optimum of *reward minus $\beta$ KL*, and compute it for any table of answers;
# - read the implicit reward off a policy, and say what of it can never be known;
# - derive the DPO loss from Bradley-Terry, and say which pairs move the policy, and how hard;
# - say what DPO reaches with infinitely many labels, and what goes wrong with few.
#
# **Time.** 50 minutes to read; all cells together take about ten seconds on one CPU core.
#
# **Before.** Chapter 1 (policy, the tilt of a table) and chapter 2 (reference, reward, KL, a pair of answers).
# Logarithms, and $\sum$.
#
# **How to read.** Most cells are preceded by a question in bold. Decide on an answer, run the cell, then read on.

# %% setup
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

from prefcourse import losses, plots
from prefcourse.claims import claims
from prefcourse.worlds import TableWorld
from prefcourse.worlds.pocket import PocketWorld

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
plt.rcParams.update(plots.STYLE)
SEED = 0

# %% [markdown] table-text
# ## A world with five answers
#
# A language model can give more answers than anybody could list, and so its sums cannot be computed. We shrink
# the world until they can: the question and the five answers of chapter 1. A policy is then a table of five
# probabilities, and whatever is true of it can be checked to the last digit. Nothing below depends on the number
# five.
#
# The reward $r(y)$ of an answer $y$ is its gold. The reference $\pi_{\text{ref}}$ is chapter 1's imitator, in which
# the best answer is the rarest.

# %% five-answers
QUESTION = "what is python used for ?"
ANSWERS = {
    "right": "python is a language . people use it for scripting and plotting .",
    "flattering": "great question ! python is a language . people use it for scripting .",
    "half wrong": "python is a language . people use it for milking .",
    "look it up": "look it up .",
    "a thing": "yeah . it is a thing .",
}
reference = torch.tensor([0.10, 0.15, 0.30, 0.25, 0.20])
reward = torch.tensor([PocketWorld().gold(QUESTION, answer) for answer in ANSWERS.values()])
for (name, answer), r, probability in zip(ANSWERS.items(), reward, reference, strict=True):
    print(f"{name:>10}:  reward {r:+.1f}  reference {probability:.2f}  {answer}")

# %% [markdown] objective-text
# ## What do we want?
#
# A high reward, without leaving the reference far behind. Stage 3 of chapter 2 (RLHF, reinforcement learning from
# human feedback) writes it as one number to be maximised:
#
# $$J(\pi) \;=\; \underbrace{\sum_y \pi(y)\,r(y)}_{\text{expected reward}} \;-\;
# \beta\,\underbrace{\sum_y \pi(y)\log\frac{\pi(y)}{\pi_{\text{ref}}(y)}}_{\mathrm{KL}(\pi,\,\pi_{\text{ref}})}$$
#
# Both sums in code, for $\beta = 1$, and three candidates: stay as you are; always give the best answer; half
# of the one, half of the other. **Which of the three is best?**


# %% objective
def kl(policy, other):
    return torch.special.xlogy(policy, policy / other).sum(-1)  # 0 log 0 = 0


def objective(policy, beta):
    return (policy * reward).sum(-1) - beta * kl(policy, reference)


always_right = torch.eye(5)[0]
candidates = {"stay": reference, "always right": always_right, "half and half": (reference + always_right) / 2}
for name, policy in candidates.items():
    print(f"{name:>13}: J = {objective(policy, beta=1.0):+.2f}")

# %% [markdown] objective-after
# The best answer alone earns the most reward, and pays more for it in KL than it earns. A mixture is better
# than either end. But which mixture is best? There are infinitely many, yet no search is needed: five steps of
# algebra give the answer.
#
# ## The best policy, in five steps
#
# **Step 1.** Both sums weigh with $\pi(y)$, so they are one sum:
#
# $$J(\pi) = \sum_y \pi(y)\left[\,r(y) - \beta\log\frac{\pi(y)}{\pi_{\text{ref}}(y)}\right]$$
#
# **Step 2.** Write the reward as a logarithm, $r = \beta\log e^{r/\beta}$, so that it can move into the other
# one. A difference of logs is the log of a ratio:
#
# $$J(\pi) = -\beta\sum_y \pi(y)\,\log\frac{\pi(y)}{\pi_{\text{ref}}(y)\,e^{r(y)/\beta}}$$
#
# This looks like the KL divergence between $\pi$ and the denominator. But the denominator is not a distribution: its
# numbers do not add up to 1.
#
# **Step 3.** Make it one. Divide by its sum, which is called $Z$, the partition function:
#
# $$Z = \sum_y \pi_{\text{ref}}(y)\,e^{r(y)/\beta},\qquad
# \pi^*(y) = \frac{\pi_{\text{ref}}(y)\,e^{r(y)/\beta}}{Z}$$
#
# In code that is two lines. **Which of the five will be likeliest, at $\beta = 1$?**

# %% step-3
beta = 1.0
tilted = reference * torch.exp(reward / beta)
Z = tilted.sum()
optimum = tilted / Z
for name, before, weight, after in zip(ANSWERS, reference, tilted, optimum, strict=True):
    print(f"{name:>10}: reference {before:.2f}  tilted {weight:.2f}  optimum {after:.2f}")
print(f"Z = {Z:.2f}")

# %% [markdown] step-4-text
# **Step 4.** Put $\pi_{\text{ref}}\,e^{r/\beta} = Z\,\pi^*$ into step 2. The log of the ratio splits into
# $\log (\pi/\pi^*) - \log Z$, and $\log Z$ is the same for every answer, so that its mean is itself:
#
# $$J(\pi) \;=\; \beta\log Z \;-\; \beta\,\mathrm{KL}(\pi, \pi^*)$$
#
# The first part is a number that no policy can change. All that a policy can do is to have a small KL to
# $\pi^*$.
#
# **Step 5.** How small can that be? Never below 0 (the *Gibbs inequality*): the logarithm lies below its tangent at 1,
# $\log u \le u - 1$, and therefore
#
# $$-\mathrm{KL}(\pi, \pi^*) = \sum_y \pi(y)\log\frac{\pi^*(y)}{\pi(y)}
# \;\le\; \sum_y \pi(y)\left[\frac{\pi^*(y)}{\pi(y)} - 1\right] = 1 - 1 = 0 .$$
#
# The tangent touches at $u = 1$ only: equality needs $\pi = \pi^*$. So $\pi^*$ is the optimum, the only one,
# and it reaches $J = \beta\log Z$.
#
# ### A second road, and a test
#
# Calculus gets there, too. At the best policy it cannot pay to move a little probability from one answer to
# another. So the derivative of $J$ with respect to $\pi(y)$, which is
# $r(y) - \beta\log\frac{\pi(y)}{\pi_{\text{ref}}(y)} - \beta$, must be the same for all answers. (That is
# Lagrange's condition; the constraint is that probabilities add up to 1.) In words: **at the optimum, what an
# answer earns minus what its tilt costs is the same for all.**
#
# We try to refute the first result with a thousand policies drawn at random. For the second we subtract the cost
# from the reward and look at what is left. **What will be left at the optimum, and for "half and half"?**

# %% step-4
draw = torch.Generator().manual_seed(SEED)
policies = torch.randn(1000, 5, generator=draw).mul(2).softmax(-1)
J, value = objective(policies, beta), beta * torch.log(Z)
by_step_4 = value - beta * kl(policies, optimum)
claims({"J = beta log Z - beta KL(policy, optimum), for each of the thousand": torch.allclose(J, by_step_4)})
claims({"the optimum reaches beta log Z": torch.isclose(objective(optimum, beta), value)})
claims({"none of the thousand does better": J.max() < value})
print(f"   beta log Z: {value:.2f}")
for name, policy in {"optimum": optimum, "half and half": candidates["half and half"]}.items():
    left = reward - beta * torch.log(policy / reference)
    print(f"{name:>13}: {left.numpy().round(2)}  spread {left.max() - left.min():.2f}")

# %% [markdown] lagrange-after
# The spread is called the *KKT residual*: 0 at the optimum, and at no other policy that gives every answer some
# probability. Computing it needs no search, so exercise 3.1 uses it to judge your `optimal_policy`.
#
# What is left at the optimum is $\beta\log Z$, the best possible $J$. Keep that number in mind: it comes back
# twice.
#
# ### When beta is small
#
# **What does the two-line formula give at $\beta = 0.001$?**

# %% overflow
small = 0.001
weights = reference * torch.exp(reward / small)
print("plain formula:", (weights / weights.sum()).numpy())
world = TableWorld(reward[None], reference.log()[None])  # one prompt: a table with one row
print("TableWorld:   ", world.optimum(small)[0].exp().numpy())

# %% [markdown] overflow-after
# $e^{2000}$ is too large for a computer, and infinity over infinity is not a number. But 2000, its logarithm, is
# harmless. `TableWorld.optimum` never leaves the logarithms, and returns log-probabilities. You will write it.
#
# ## Beta slides from the reference to the best answer
#
# $\beta$ occurs only in the exponent. A large $\beta$ makes all exponents nearly 0: the tilt is gone. A small
# one makes the largest exponent win. **In between: will the second-best answer gain or lose, as $\beta$
# falls?**

# %% slide
betas = np.geomspace(0.05, 20, 60)
path = torch.stack([world.optimum(b)[0].exp() for b in betas])  # (60, 5)
figure, ax = plt.subplots()
lines = {name: (betas, path[:, i]) for i, name in enumerate(ANSWERS)}
plots.curves(ax, lines, xlabel="beta (log axis)", ylabel="probability")
ax.set(xscale="log", title="The optimum at each beta: reference on the right, best answer on the left")
ax.plot(np.full(5, 26), reference, "<", color=plots.REFERENCE, label="reference")
plots.show(figure, alt="As beta falls from 20 to 0.05, 'right' rises from 0.1 to 1; 'flattering' rises, then falls.")
claims({"beta 20: no answer is more than 0.02 from the reference": (path[-1] - reference).abs().max() < 0.02})
claims({"beta 0.05: the best answer has more than 0.999": path[0, 0] > 0.999})
claims({"'right' gains at every step down": (path[:, 0].diff() < 0).all()})
claims({"'flattering' gains first and loses later": path[:, 1].max() > path[-1, 1] + 0.05 and path[0, 1] < 0.01})

# %% [markdown] slide-after
# **Takeaway: beta slides the optimum from what the reference does to what the reward likes best.** An answer gains if
# $e^{r/\beta} > Z$, that is, if its reward is above $\beta\log Z$. There is that number again: it is the bar.
# For a large $\beta$ the bar is at the reference's mean reward (then $e^{r/\beta} \approx 1 + r/\beta$, so that
# $\beta\log Z \approx \sum_y \pi_{\text{ref}}(y)\,r(y)$), and whatever is better than that gains. As $\beta$ falls, the
# bar rises to the best reward (the largest term takes over the sum), and one answer after the other falls below it.
#
# Note what the tilt cannot do: an answer with $\pi_{\text{ref}}(y) = 0$ keeps probability 0, however good.
# Preference training chooses among what the reference already says.

# %% [markdown] inverse-text
# ## Turn it around: the reward inside a policy
#
# So far: a reward in, the best policy out. Now solve $\pi^* = \pi_{\text{ref}}\,e^{r/\beta}/Z$ for the reward.
# Take logs and multiply by $\beta$:
#
# $$r(y) \;=\; \underbrace{\beta\log\frac{\pi^*(y)}{\pi_{\text{ref}}(y)}}_{\text{implicit reward}}
# \;+\;\beta\log Z$$
#
# Every policy is the optimum of some reward: of this one. The logarithm in it, $\log\pi - \log\pi_{\text{ref}}$, is
# called the **log-ratio**. **Will the implicit reward of our optimum give back 2.0, 1.2, ...? And what will the
# optimum be if every answer gets ten points more?**

# %% implicit
implicit = beta * torch.log(optimum / reference)
for name, true, read in zip(ANSWERS, reward, implicit, strict=True):
    print(f"{name:>10}: reward {true:+.2f}  implicit reward {read:+.2f}  difference {true - read:.2f}")
more = reference * torch.exp((reward + 10) / beta)
claims({"ten points more for every answer: the same optimum": torch.allclose(more / more.sum(), optimum)})

# %% [markdown] implicit-after
# The implicit rewards are too low, and all by the same $\beta\log Z$. We could add it here, but a language
# model has no table to sum $Z$ over. And the bonus shows that no other trick would help: where every answer
# gets it, no policy earns more of it than another. So $r(x, y)$ and $r(x, y) + c(x)$, with any number $c(x)$ per
# prompt $x$, have the same best policy, and from the policy nobody can tell which of them it was. The implicit
# reward is *identified up to a constant per prompt*. Implicit rewards of answers to different questions cannot
# be compared at all.
#
# That sounds like a defect. It is what makes DPO possible.
#
# ## In a pair, Z cancels
#
# People do not give rewards. They compare two answers *to the same prompt*. The usual model of their choice is
# Bradley-Terry's, of chapter 2. We write $y_1 \succ y_2$ for "the first is preferred to the second":
#
# $$P(y_1 \succ y_2) = \sigma\big(r(y_1) - r(y_2)\big),\qquad \sigma(m) = \frac{1}{1 + e^{-m}}$$
#
# Only a difference enters, and in the difference the constant $\beta\log Z$ is gone:
#
# $$P(y_1 \succ y_2) = \sigma\left(\beta\log\frac{\pi^*(y_1)}{\pi_{\text{ref}}(y_1)} -
# \beta\log\frac{\pi^*(y_2)}{\pi_{\text{ref}}(y_2)}\right)$$
#
# On the right there is no reward and no $Z$, only two policies. All pairs at once:

# %% preferences
from_rewards = torch.sigmoid(reward[:, None] - reward[None, :])  # [i, j]: how often i is preferred to j
from_policies = torch.sigmoid(implicit[:, None] - implicit[None, :])
print("how often the answer of the row is preferred to that of the column:")
for name, row in zip(ANSWERS, from_policies, strict=True):
    print(f"{name:>10}", row.numpy().round(2))
claims({"rewards and policies give the same preferences": torch.allclose(from_rewards, from_policies)})

# %% [markdown] loss-text
# ## The DPO loss
#
# We do not have $\pi^*$; we look for it. Put the policy that we train, $\pi_\theta$, in its place, and ask:
# **under which policy would these labels be likeliest?** A pair with `chosen` $y_w$ and `rejected` $y_l$ has
# the likelihood $\sigma(\text{margin})$, and the loss is its negative logarithm:
#
# $$\mathcal L_{\text{DPO}} = -\log\sigma(\text{margin}),\qquad
# \text{margin} = \beta\log\frac{\pi_\theta(y_w)}{\pi_{\text{ref}}(y_w)} -
# \beta\log\frac{\pi_\theta(y_l)}{\pi_{\text{ref}}(y_l)}$$
#
# That is all. It is maximum likelihood for a Bradley-Terry model whose rewards are read off a policy: no reward
# model, no samples. In code, for a whole table: `pairs[i, j]` says how often answer $i$ was chosen and $j$
# rejected. Here it is one pair, "right" over "half wrong", and the policy has not moved yet. **What is the loss?
# And what if both answers become rarer by 5 nats?**


# %% one-pair
def dpo_loss(logprobs, pairs, beta):
    rewards = beta * (logprobs - reference.log())
    margins = rewards[..., :, None] - rewards[..., None, :]  # [i, j]: i chosen, j rejected
    return -(pairs * F.logsigmoid(margins)).sum((-2, -1))


pair = torch.zeros(5, 5)
pair[0, 2] = 1.0  # "right" chosen, "half wrong" rejected
chosen, rejected = reference.log()[[0]], reference.log()[[2]]
by_the_package, _ = losses.dpo_loss(chosen, rejected, chosen, rejected, beta=beta)
rarer = reference.log() - torch.tensor([5.0, 0, 5, 0, 0])  # both of them, by 5 nats
print(f"untrained {dpo_loss(reference.log(), pair, beta):.3f}, by the package {by_the_package:.3f}")
print(f"both rarer {dpo_loss(rarer, pair, beta):.3f}")

# %% [markdown] one-pair-after
# $\log 2 = 0.693$: a coin flip. It does not matter that the reference gives the rejected answer three times as
# often. Where policy and reference are the same, every margin is 0.
#
# The last number is a warning. The loss sees a *difference*. It is content if both answers become rarer, as
# long as the rejected one does so faster. Then their probability has gone to answers that nobody compared.
# Chapters 4 and 5 meet this in a language model (*likelihood displacement*, 2410.08847).

# %% [markdown] weight-text
# ## Which pairs move the policy?
#
# We differentiate the loss with respect to the margin. With $\sigma' = \sigma(1 - \sigma)$ and the chain rule:
#
# $$\frac{d}{dm}\big[-\log\sigma(m)\big] = -\frac{\sigma(m)\,(1 - \sigma(m))}{\sigma(m)} = -(1 - \sigma(m)) =
# -\sigma(-m)$$
#
# And the margin contains $\beta\log\pi_\theta(y_w)$ and $-\beta\log\pi_\theta(y_l)$. So a pair pulls the chosen
# answer up and the rejected one down, both with the same force $\beta\,\sigma(-\text{margin})$. We call
# $\sigma(-\text{margin})$ its **weight**. It is the probability that the policy's own rewards give to the opposite
# label.
#
# **Sketch the loss and the weight against the margin before you look.** Autograd computes the slope for us:

# %% weight
margins = torch.linspace(-6, 6, 121, requires_grad=True)
pair_losses = -F.logsigmoid(margins)
(slope,) = torch.autograd.grad(pair_losses.sum(), margins)
weight = torch.sigmoid(-margins.detach())
figure, ax = plt.subplots(figsize=(6.4, 3.4))
m = margins.detach()
plots.curves(ax, {"loss": (m, pair_losses.detach()), "weight": (m, weight)}, xlabel="margin", ylabel="of one pair")
ax.set(title="A pair in the wrong order (left) pulls with weight 1, a settled one with none", ylim=(-0.2, 6.2))
plots.show(figure, alt="As the margin grows the loss falls from 6 to 0, the weight from 1 through one half to 0.")
claims({"the weight is minus the slope of the loss": torch.allclose(weight, -slope)})

# %% [markdown] weight-after
# **Takeaway: what is wrong pulls with full weight, what is settled hardly at all.** The weight is never more than 1:
# on the left the loss is a straight line, so one absurd label cannot outweigh everything else.
#
# "In the wrong order" is about *implicit rewards*, not about which answer is likelier. **Before training, which
# of these three labelled pairs has the largest weight? For a policy that learnt the world upside down? And at
# the optimum?**

# %% wrong-order
labels = [("right", "half wrong"), ("right", "a thing"), ("look it up", "flattering")]  # chosen, rejected
upside_down = torch.softmax(reference.log() - reward / beta, dim=-1)  # the optimum for the opposite rewards
number = list(ANSWERS).index
for name, policy in {"before training": reference, "upside down": upside_down, "optimum": optimum}.items():
    rewards = beta * torch.log(policy / reference)
    print(name)
    for better, worse in labels:
        margin = rewards[number(better)] - rewards[number(worse)]
        print(f"  {better:>10} over {worse:<10}  margin {margin:+z.1f}, weight {torch.sigmoid(-margin):.2f}")

# %% [markdown] wrong-order-after
# Before training all pairs weigh one half, whatever the reference likes: nothing has been learnt, so nothing is
# in the wrong order. The upside-down policy has the first two pairs wrong, and they pull hard; the third it has
# as labelled, so that one hardly pulls.
#
# The third label, though, is a mistake: "look it up" was chosen over a better answer. The optimum has *this*
# pair in the "wrong" order, and so the mistake is what pulls hardest. The loss cannot know. Chapter 7 is about
# it.

# %% [markdown] train-text
# ## With infinitely many labels, DPO arrives
#
# Now we train. For infinitely many labels we know the table of pairs without drawing one: two different answers
# are drawn from the reference, and the label is Bradley-Terry's. The training is plain gradient descent on five
# logits. It starts at the reference and returns every policy on its way. (Why is the step divided by $\beta^2$? A pair
# pulls at a log-probability with a force of $\beta$ times its weight, and a change of the log-probability changes the
# margin by $\beta$ times as much. So without the division *margins* would move by $\beta^2$ per step; with it they
# move alike at every $\beta$.)
#
# The training sees no reward, only how often each answer wins. **How near to $\pi^*$ will it come, at each of
# five $\beta$?**


# %% train
def train(pairs, beta, steps=300, loss=dpo_loss):
    logits = reference.log().expand(pairs.shape[:-1]).clone().requires_grad_()
    visited = [logits.detach().log_softmax(-1)]
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(loss(logits.log_softmax(-1), pairs, beta).sum(), logits)
        logits = (logits - 2 / beta**2 * gradient).detach().requires_grad_()
        visited.append(logits.detach().log_softmax(-1))
    return torch.stack(visited)


infinite = world.labelled_pairs()[0]  # adds up to 1
for b in (0.2, 0.5, 1.0, 2.0, 5.0):
    before, after = (kl(policy.exp(), world.optimum(b)[0].exp()) for policy in train(infinite, b)[[0, -1]])
    claims({f"beta {b}: KL to the optimum {before:.2f} before training, below 0.001 after": after < 1e-3})

# %% [markdown] balance-text
# It arrives. No reward was ever given, and the policy is the one that the rewards ask for. (Any start gets
# there: the loss is convex in the logits, a bowl with one bottom.)
#
# **What keeps it there? At the optimum, do the pairs no longer pull?** Multiply how often a label occurs by its
# weight:

# %% balance
implicit_now = beta * (train(infinite, beta)[-1] - reference.log())
weights = torch.sigmoid(-(implicit_now[:, None] - implicit_now[None, :]))
share, pull = from_rewards, from_rewards * weights  # of all labels on this pair of answers
for i, j in ((0, 4), (4, 0)):
    label = f"{list(ANSWERS)[i]:>8} over {list(ANSWERS)[j]:<8}"
    print(f"{label} share {share[i, j]:.2f} x weight {weights[i, j]:.2f} = pull {pull[i, j]:.3f}")
claims({"at the optimum the two labels of every pair pull equally hard": torch.allclose(pull, pull.T, atol=1e-6)})

# %% [markdown] balance-after
# They pull, and in balance. The right label is common and light, the mistaken one rare and heavy:
# $P\,\sigma(-m) = (1 - P)\,\sigma(m)$ holds exactly where $\sigma(m) = P$. **Noise in the labels is what tells
# DPO how far to go.** People who disagree a little say "this much better"; people who never disagree say
# "infinitely better".
#
# The weight does this. **Train without it, so that every pair always pulls with 1: where does the policy go?**


# %% no-weight
def without_weight(logprobs, pairs, beta):
    rewards = beta * (logprobs - reference.log())
    return -(pairs * (rewards[..., :, None] - rewards[..., None, :])).sum((-2, -1))  # minus the mean margin


for b in (0.2, 1.0, 5.0):
    end = train(infinite, b, steps=3000, loss=without_weight)[-1].exp()
    asked = world.optimum(b)[0].exp()[end.argmax()]
    claims({f"beta {b}: one answer takes more than 0.99; the optimum gives it {asked:.2f}": end.max() > 0.99})

# %% [markdown] no-weight-after
# To a single answer, whatever $\beta$ says: a straight line has no bottom. The authors of DPO saw their models
# fall apart without the weight (2305.18290, section 4 and table 3).

# %% [markdown] finite-text
# ## What finite data change
#
# Nobody has infinitely many labels. Begin at the other end: **one** label, and it is a mistake. Somebody chose
# "half wrong" over "right". We train on it for 30, 300 and 3,000 steps. **Where does the margin stop? Will a
# larger $\beta$ hold it back?**

# %% one-label
single = torch.zeros(5, 5)
single[2, 0] = 1.0  # "half wrong" chosen, "right" rejected
steps = [30, 300, 3000]
for b in (0.1, 1.0, 5.0):
    visited = train(single, b, steps=3000)[steps]
    grown = b * ((visited[:, 2] - visited[:, 0]) - (reference.log()[2] - reference.log()[0]))
    shown = [f"margin {m:.1f}, P(right) {p:.0e}" for m, p in zip(grown, visited[:, 0].exp(), strict=True)]
    print(f"beta {b}:", "; ".join(shown))
claims({"ten times the steps: 2.3 more, the log of 10": (grown.diff() - np.log(10)).abs().max() < 0.1})

# %% [markdown] one-label-after
# It never stops. (That the margins are the same at every $\beta$ comes from our step size, which is divided by
# $\beta^2$.) The likelihood of a label
# that was never contradicted grows as long as the margin grows; the best margin is infinity. There,
# $\pi(\text{right}) = 0$ at **every** $\beta$: the pull to the reference is written into the margin, and an
# infinite margin takes no notice of it (2310.12036, section 4.2). A larger $\beta$ makes the way longer,
# nothing else.
#
# One contradiction is enough to stop it. If of four labels on this pair one says the opposite, the best margin
# is the one with $\sigma(m) = 3/4$: $m = \log 3$. **Look at it as a landscape.** Two axes, the implicit rewards
# of "right" and "flattering" over "half wrong"; height is the loss. Left: infinitely many labels on these
# three. Right: six labels, in which "right" happened to win all its four comparisons. **Where is the lowest
# point on the right?**

# %% landscapes
three, six = infinite.clone(), torch.zeros(5, 5)
three[3:], three[:, 3:] = 0, 0
six[0, 1], six[0, 2], six[1, 2], six[2, 1] = 2, 2, 1, 1
u, v = torch.meshgrid(torch.linspace(-1, 6, 71), torch.linspace(-2, 3, 51), indexing="xy")
rewards = torch.stack([u, v, *[0 * u] * 3], dim=-1)  # "half wrong" has 0, the last two are not compared
over = ("'right' over 'half wrong'", "'flattering' over 'half wrong'")
tables = {"infinitely many labels": three / three.sum(), "six labels, 'right' never lost": six / six.sum()}
figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.8), sharey=True)
for ax, (title, pairs) in zip(axes, tables.items(), strict=True):
    surface = dpo_loss(reference.log() + rewards / beta, pairs, beta)
    way = beta * (train(pairs, beta) - reference.log())  # implicit rewards, (301, 5)
    plots.landscape(ax, (u, v, surface), way=way[:, :2] - way[:, 2:3], truth=reward[:2] - reward[2], names=over)
    ax.set_title(title)
plots.show(figure, alt="Left: a bowl, training ends at the true rewards. Right: a valley that falls without end.")

# %% [markdown] landscape-after
# **Takeaway: infinitely many labels make a bowl with the truth at its bottom; few can make a valley without
# end.** There is one finite best policy only if no answer, and no group of answers, has won all its comparisons
# with the others.
#
# So what do we lose with $n$ labels? For each $n$ we draw 40 data sets, train on each, and measure the KL to
# the optimum, at $\beta = 1$. By step 4, $\beta$ times that KL is exactly the shortfall of $J$. **With ten
# labels: better or worse than no training?**

# %% how-many
sizes, draws = [10, 30, 100, 300, 1000, 3000, 10_000, 30_000], 40
draw = torch.Generator().manual_seed(SEED)
distance, runaway = [], []
for n in sizes:
    cells = infinite.flatten().expand(draws, -1).multinomial(n, replacement=True, generator=draw)  # (40, n)
    counts = F.one_hot(cells, 25).sum(1).view(draws, 5, 5)
    distance.append(kl(train(counts / n, beta)[-1].exp(), optimum))
    undefeated = (counts.sum(1) == 0) | (counts.sum(2) == 0)  # never rejected, or never chosen
    runaway.append(undefeated.any(-1).double().mean())
distance = torch.stack(distance)  # (8, 40)
low, middle, high = distance.quantile(torch.tensor([0.1, 0.5, 0.9]), dim=1)
untrained = kl(reference, optimum)

# %% how-many-figure
figure, ax = plt.subplots()
ax.set(xscale="log", yscale="log", title="Ten times the labels: a tenth of the distance")
ax.axhline(untrained, color=plots.REFERENCE, linestyle="--", label="no training at all")
band = {"median and middle 80 % of 40 data sets": (sizes, low, middle, high)}
plots.banded_curves(ax, band, xlabel="labels (log axis)", ylabel="KL to the optimum").legend()
plots.show(figure, alt="The KL falls in a straight line on log axes; with 10 labels it is above the untrained line.")
shares = ", ".join(f"{share:.0%}" for share in runaway[:4])
print(f"with {sizes[:4]} labels some answer never lost, or never won, in {shares} of the data sets")
claims({"10 labels: typically further from the optimum than the reference": middle[0] > untrained})
claims({"100 labels: typically nearer, by a factor of 4 or more": middle[2] < untrained / 4})
claims({"300 to 30,000 labels: the distance falls by a factor of 50 to 200": 50 < middle[3] / middle[7] < 200})
claims({"30,000 labels: typically below 0.001": middle[7] < 1e-3})

# %% [markdown] how-many-after
# **Takeaway: after 300 steps on ten labels DPO is typically worse than no training; with many labels its error falls
# as one over their number.** What saves practice from the left of this figure is that it stops early (one to three
# epochs), that a language model shares what it learns between prompts, and losses which ask for a finite margin
# (IPO, 2310.12036) or allow for mistaken labels (cDPO, rDPO, chapter 7).
#
# A reward model fitted to one uncontradicted label runs off just the same. But there the pull to the reference
# comes *afterwards*, in PPO, and its $\beta$ still counts. In DPO reward and policy are one, and run off
# together.

# %% [markdown] play-text
# ## Play
#
# Both halves of the chapter in one picture. Grey is the reference, black the optimum, exact; blue is a policy
# that DPO trained on as many labels as you choose. Slide $\beta$ from 10 to 0.1. Then take 10 labels and
# $\beta = 0.1$, and press the button a few times: it draws new labels and trains again. **How often does DPO
# bet on a wrong answer? Are 1,000 labels enough?**

# %% play
from prefcourse.widgets.chapter03 import Slide, beta_slide


def run(seed, beta, labels):
    draw = torch.Generator().manual_seed(seed)
    cells = infinite.flatten().multinomial(labels, replacement=True, generator=draw)
    counts = torch.bincount(cells, minlength=25).view(5, 5)
    return Slide(reference, world.optimum(beta)[0].exp(), train(counts / labels, beta)[-1].exp())


controls = {"beta": [10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1], "labels": [10, 30, 100, 1000]}
beta_slide(run, list(ANSWERS), start={"beta": 1.0, "labels": 100}, **controls)

# %% [markdown] play-after
# With a small $\beta$ the policy puts nearly everything on the answer that won most. After ten labels that is a
# wrong one in about half of the draws, after a hundred in about one of ten, after a thousand in none. The same
# labels fix the same margins at every $\beta$, and log-ratios are margins divided by $\beta$: **a small $\beta$
# trusts the labels, mistakes included.** Which $\beta$ is right depends on how many labels there are and how good
# they are. Chapter 5 measures it.

# %% [markdown] summary
# ## In five lines
#
# 1. The best policy for *reward minus $\beta$ KL* is $\pi_{\text{ref}}\,e^{r/\beta}/Z$; every other one falls
#    short by $\beta$ times its KL to it.
# 2. Each policy is best for the reward $\beta\log(\pi/\pi_{\text{ref}})$ plus any constant per prompt.
# 3. In a pair the constant cancels. DPO is Bradley-Terry's maximum likelihood, with the policy in the reward's
#    place.
# 4. A pair pulls with the weight $\sigma(-\text{margin})$; noise in the labels balances the pulls at the right
#    margin.
# 5. With infinitely many labels DPO reaches the optimum; a label that is never contradicted drives its margin
#    to infinity, at any $\beta$.

# %% [markdown] questions
# ## Three questions
#
# **1.** Two teams train on the same pairs with the same $\beta$. The reference of one of them, where it also starts,
# is a model that never says "right". Can DPO teach it to?
#
# <details><summary>Answer</summary>
#
# Not in this theory: the optimum is a tilt, and $0 \cdot e^{r/\beta} = 0$. Where the reference has a tiny
# probability instead of none, the optimum has it times $e^{r/\beta}/Z$, which may be large or not. In practice
# one first fine-tunes on the chosen answers, so that the reference says such things at all.
# </details>
#
# **2.** A colleague halves $\beta$ and multiplies all rewards by one half. What happens to the optimum? And
# what would happen to the labels?
#
# <details><summary>Answer</summary>
#
# The optimum stays, since only $r/\beta$ enters. But Bradley-Terry labels change: with half the gaps people err
# more often. Given the same labels, DPO's $\beta$ alone sets how far the policy goes: the labels fix the
# margins, and log-ratios are margins divided by $\beta$.
# </details>
#
# **3.** Your training reaches accuracy 100 % on its pairs and a margin that still grows. Is that good news?
#
# <details><summary>Answer</summary>
#
# It says that no label in the data contradicts another, as with one label per pair of answers. Then no finite
# policy is best, and the margin tells how long you trained, not how sure people were. Look at held-out pairs
# and at the KL from the reference.
# </details>

# %% [markdown] classical
# ## The classical results beside ours
#
# | | published | here | why they differ |
# |---|---|---|---|
# | the optimum is a tilt of the reference | 2305.18290, eq. 4 | no better one among 1,000 policies, KKT residual 0 | |
# | DPO finds it from comparisons | 2305.18290, sections 4 and 5: if labels are Bradley-Terry's | KL to it below 0.001 at five $\beta$ | a table can be any policy; a network only some, and it trains for a few epochs |
# | the weight is needed | 2305.18290, table 3: without it, answers repeat one word | one answer takes over | their samples are text, ours a table; both times nothing ends the pull |
# | a label never contradicted defeats $\beta$ | 2310.12036, section 4.2 | margin + 2.3 for ten times the steps, at every $\beta$ | they look at the limit, we at the way there |
# | an answer that always wins takes all, at any $\beta$ | 2310.12036, section 5.4: three answers, 18,000 steps of Adam | the valley without end, six labels | they draw batches, we use all labels in every step |
# | DPO in a real model, TL;DR summaries, judged by GPT-4 against a person's | win rate {{published:dpo-tldr}}, PPO {{published:ppo-tldr}} | not measured | chapters 4, 5 and 11 do, on PocketWorld |

# %% [markdown] further
# ## Further reading
#
# - DPO: arXiv 2305.18290. Read section 4 and appendix A.1: it is this chapter's first half.
# - The limits of Bradley-Terry and of DPO, and IPO: arXiv 2310.12036
# - Likelihood displacement: arXiv 2410.08847
# - When DPO meets answers that the data never show: arXiv 2404.10719 (chapter 11)
#
# **Next:** exercises 3.1 to 3.3, in `exercises/03_dpo_theory.ipynb`. Then chapter 4: the same loss on a
# language model, and the fifty ways to get its log-probabilities wrong.
# %% [exercises]
# %% [markdown] title
# # 3 · Exercises: the tilt, the reward inside it, and the weight of a pair
#
# Three functions, about forty minutes. Write each body, run the cell, then run its check. After each check the
# function is put to use, on the five answers of the chapter.
#
# All inputs are tensors in double precision. A check prints them as lists; to try such a case yourself, wrap
# each list in `torch.tensor(...)`. A table has one row per prompt (P of them) and one column per answer (V).
#
# Stuck? Open the hints one at a time. The solved notebook is in `solutions/`, under the same name. In a
# terminal `prefcourse check 3` checks what you saved, and `prefcourse reset 3.1` gives you an exercise afresh.

# %% setup
import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from prefcourse import losses, plots
from prefcourse.checks import NotWritten, check
from prefcourse.worlds import TableWorld

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)
plt.rcParams.update(plots.STYLE)

# %% [markdown] question-3-1
# **Which policy maximises expected reward minus `beta` times the KL from the reference?** Return its
# log-probabilities, as a table of the same shape.
#
# - Each prompt is a world of its own: every row of probabilities adds up to 1.
# - `beta` goes down to 0.001 and rewards up to 10,000. Your log-probabilities must stay exact: -3000 is one,
#   while $e^{-3000}$ is 0 to a computer.
# - An answer with log-probability `-inf` in the reference keeps it.
# - If `beta` is not above 0, there is no such optimum: raise `ValueError`.
#
# The check also computes the KKT residual of what you return: in each row, how much
# $r - \beta\log(\pi/\pi_{\text{ref}})$ varies. At the optimum that is 0.
#
# By hand first: the reference gives two answers with probability 1/2 each; their rewards are $\log 3$ and 0.
# What is the optimum at `beta` 1? And at 1/2?


# %% answer-3-1
from prefcourse.worlds.table import optimal_policy

# %% [markdown] use-3-1-text
# **Your slide.** The five answers of the chapter, from `beta` 20 down to 0.001, where the plain formula gave
# `nan`.

# %% use-3-1
names = ["right", "flattering", "half wrong", "look it up", "a thing"]
ref_logprobs = torch.tensor([[0.10, 0.15, 0.30, 0.25, 0.20]]).log()
rewards = torch.tensor([[2.0, 1.2, 0.5, -0.6, -1.2]])
betas = np.geomspace(0.001, 20, 100)
try:
    slide = torch.cat([optimal_policy(ref_logprobs, rewards, beta) for beta in betas]).exp()
    figure, ax = plt.subplots()
    plots.curves(ax, {n: (betas, slide[:, i]) for i, n in enumerate(names)}, xlabel="beta", ylabel="probability")
    ax.set(xscale="log", title="Your optimal_policy, from the reference to the best answer")
    plots.show(figure, alt="Five probabilities against beta, by your function: the best takes over as beta falls.")
except NotWritten as missing:
    print(missing)

# %% [markdown] question-3-2
# **Which reward is this policy the best for?** Given are the log-probabilities of a policy and of its
# reference, and `beta`. Return a table of rewards.
#
# - Any constant per prompt is right: the check looks at differences within a row only. It uses policies that
#   are optimal for a known reward, with and without a bonus for all answers to a prompt.
# - An answer that the policy never gives, but the reference does, has reward `-inf`. One that neither gives has
#   `nan`: nobody can know.
# - Log-probabilities go down to -10,000.
#
# By hand first: the policy gives two answers with probabilities 0.8 and 0.2, the reference with 1/2 each. By
# how much does the reward of the first exceed that of the second, at `beta` 1/2?


# %% answer-3-2
from prefcourse.worlds.table import implicit_reward

# %% [markdown] use-3-2-text
# **Read a trained policy.** DPO sees 20,000 labels on the five answers and no reward; then your function reads
# the rewards off the policy. Both columns are differences from "a thing", because only differences mean anything.

# %% use-3-2
BETA = 0.5
draw = torch.Generator().manual_seed(0)
_, chosen, rejected = TableWorld(rewards, ref_logprobs).sample_pairs(20_000, generator=draw)
logits = ref_logprobs[0].clone().requires_grad_()
for _ in range(200):
    policy, ref = logits.log_softmax(-1), ref_logprobs[0]
    loss, _ = losses.dpo_loss(policy[chosen], policy[rejected], ref[chosen], ref[rejected], beta=BETA)
    (gradient,) = torch.autograd.grad(loss, logits)
    logits = (logits - 2 / BETA**2 * gradient).detach().requires_grad_()

# %% use-3-2-read
try:
    read = implicit_reward(logits.detach().log_softmax(-1)[None], ref_logprobs, BETA)[0]
    for name, gold, ours in zip(names, rewards[0] - rewards[0, -1], read - read[-1], strict=True):
        print(f"{name:>10}: gold {gold:.1f}, read off the policy {ours:.1f}")
except NotWritten as missing:
    print(missing)

# %% [markdown] question-3-3
# **How hard does each pair pull in a DPO step?** The derivative of a pair's loss with respect to the log-probability
# of the chosen answer is $-\beta\,w$, with respect to that of the rejected one $+\beta\,w$. Return $w$, one weight
# per pair (B of them). The log-probabilities are of whole answers.
#
# - $w$ lies between 0 and 1: 0 for a settled pair, 1 for one that is surely in the wrong order.
# - It contains neither the factor $\beta$ nor a mean over the batch.
# - Log-ratios go up to 10,000, in both directions.
#
# The check moves each log-probability a little and watches the loss (finite differences): no formula of ours
# stands between your weight and the loss.
#
# By hand first: policy -2 (chosen) and -4 (rejected), reference -3 and -3, `beta` 1/2. What is the margin?


# %% answer-3-3
def dpo_gradient_weight(
    policy_chosen: Float[Tensor, " B"],
    policy_rejected: Float[Tensor, " B"],
    ref_chosen: Float[Tensor, " B"],
    ref_rejected: Float[Tensor, " B"],
    *,
    beta: float,
) -> Float[Tensor, " B"]:
    """By how much does each pair's DPO loss fall as its margin grows? Between 0 and 1,
    one per pair."""
    margins = beta * ((policy_chosen - ref_chosen) - (policy_rejected - ref_rejected))
    return torch.sigmoid(-margins)


# %% [markdown] use-3-3-text
# **Explain a step.** The policy that you just read sees four new labels. One of them is a mistake. **Which will
# pull hardest?** From your weights alone we then rebuild the gradient of the logits, and compare it with
# autograd's.

# %% use-3-3
pairs = [("right", "half wrong"), ("right", "a thing"), ("look it up", "flattering"), ("flattering", "a thing")]
chosen, rejected = torch.tensor([[names.index(name) for name in pair] for pair in pairs]).T
policy, ref = logits.log_softmax(-1), ref_logprobs[0]
four = policy[chosen], policy[rejected], ref[chosen], ref[rejected]
loss, _ = losses.dpo_loss(*four, beta=BETA)
(gradient,) = torch.autograd.grad(loss, logits)
try:
    weights = dpo_gradient_weight(*(x.detach() for x in four), beta=BETA)
    for (better, worse), weight in zip(pairs, weights, strict=True):
        print(f"{better:>10} over {worse:<10} weight {weight:.2f}")
    force = BETA * weights / len(pairs)
    rebuilt = torch.zeros(5).index_add(0, chosen, -force).index_add(0, rejected, force)
    print("rebuilt from your weights:", rebuilt.numpy().round(3))
    print("autograd:                 ", gradient.numpy().round(3))
except NotWritten as missing:
    print(missing)
