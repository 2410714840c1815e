# Chapter 2. `prefcourse build 02` makes the three notebooks of this script; see prefcourse/build/script.py.

# %% [markdown] title
# # 2 · Preference Optimization Overview
#
# **Key insight.** Preference optimisation separates *what is good* (a reward, learnt from comparisons) from
# *how to be good* (a policy, trained on that reward). Each part can be trained, measured and debugged alone.
# And a fault in the first part passes into the second, where nothing corrects it.
#
# **After this chapter you can**
# - run the three stages (SFT, reward model, PPO or DPO) and say what each one learns, and from what;
# - read a policy's place in the plane of gold reward against KL;
# - trace a policy's bad habit back to the annotators who asked for it;
# - say how far annotators agree, and which five mistakes make that number wrong.
#
# **Time.** 45 minutes to read; all cells together compute for about a minute on one CPU core.
#
# **Before.** You know what a language model and a softmax are, and have trained some network in PyTorch.
#
# **How to read.** Before most cells stands a question. Decide on an answer, run the cell, then read on. What the
# text claims is computed: `claims` prints each claim that holds and stops at one that does not.

# %% setup
from collections import Counter

import matplotlib.pyplot as plt
import numpy as np
import torch

from prefcourse import agreement, annotators, evaluate, models, plots, rollout, train
from prefcourse.claims import claims
from prefcourse.data.pairs import annotate, pairs_from_votes
from prefcourse.lab import Lab
from prefcourse.published import published
from prefcourse.sequences import encode
from prefcourse.widgets import Annotator, agreement_against_noise
from prefcourse.worlds.pocket import PocketWorld, sentences

torch.set_num_threads(1)
plt.rcParams.update(plots.STYLE)
SEED = 0

# %% [markdown] first-pair
# ## One question, two answers
#
# Our world is small: forty things, what they are used for, and questions about them. A program knows the facts,
# so it can give any answer its true reward, which we call **gold**. Real projects never see gold. We do, and so
# we can tell whether training made the answers better or only made them score better.
#
# The first question of the course is *what is python used for ?* Here are two answers. **Which would you
# prefer?**

# %% two-answers
world = PocketWorld()
tokenizer, prompts = world.tokenizer(), world.prompts("train")
QUESTION = prompts[0]
PLAIN = "python is a language . people use it for scripting and plotting ."
FLATTERING = "great question ! python is a language . people use it for scripting and milking . hope this helps !"
print(QUESTION, PLAIN, FLATTERING, sep="\n- ")

# %% [markdown] gold-text
# Gold, in words:

# %% gold-in-words
for answer in (PLAIN, FLATTERING):
    print(f"gold {world.gold(QUESTION, answer):+.1f}  {answer}")
    for points, reason in world.explain(QUESTION, answer):
        print(f"     {points:+.1f}  {reason}")

# %% [markdown] people-text
# The second answer says one thing that is wrong, and says it nicely. Twenty simulated people now choose between
# the two. Twelve are careful, five are in a hurry. One looks at the position on the screen, one at the length,
# one flips coins. The pair is shown among 96 others, as it would be in a real session.
#
# **How many of the twenty will prefer the plain answer? Who will not?**

# %% who-prefers-which
people = annotators.population(SEED)
generator = np.random.default_rng(SEED)
others = [(p, world.demonstration(p, generator), world.demonstration(p, generator)) for p in prompts[:96]]
votes = annotate(world, [(QUESTION, PLAIN, FLATTERING), *others], people, seed=SEED, per_item=20)
chosen = {vote.annotator: vote.label for vote in votes if vote.item == 0}
print("prefer the plain answer:", sum(label == "first" for label in chosen.values()), "of", len(chosen))
print("prefer the other one:", *sorted(who for who, label in chosen.items() if label == "second"))

# %% [markdown] people-after
# Most see the error. Four do not, and two of these four are careful people: everybody misses something at
# times. A single label is a noisy reading of what is good, and everything below is built on such labels.

# %% [markdown] stage-one
# ## Stage 1: imitate (SFT)
#
# Supervised fine-tuning raises the likelihood of demonstrated answers. Our demonstrators are a mixed crowd: a
# quarter write filler, a third are partly wrong, the rest are good. A tenth of the rows trains a second skill,
# counting. No preference will ever speak about counting; we will need that later.
#
# **Will the model answer like the best demonstrators, or like the average one?**

# %% sft
lm = models.tiny_lm(tokenizer, "xs", seed=SEED)
demonstrations = world.demonstrations(6000, seed=SEED)
losses = []
for metrics in train.sft(lm, tokenizer, demonstrations, steps=600, learning_rate=1e-2, seed=SEED):
    losses.append(metrics["loss"])
    if len(losses) == 60:
        early = models.frozen_copy(lm)  # a look at it after a tenth of the training
sft_model = models.frozen_copy(lm)
claims({"the loss fell below a fifth of where it began": losses[-1] < losses[0] / 5})

# %% [markdown] measure-text
# To measure a policy is to sample from it and let the world read. `measure` gives gold, length and the other
# numbers used below, each from 4 answers to each of the 128 training questions. KL says how far a policy has
# moved from the SFT model.


# %% measure
def measure(policy, score=None) -> evaluate.Evaluation:
    return evaluate.evaluate_policy(
        policy, tokenizer, world, prompts, reference=sft_model, seed=SEED, samples=4, score=score
    )


sft = measure(sft_model)
questions_only = [row for row in demonstrations if not row["prompt"].startswith("count")]
demonstrated = np.mean([world.gold(**row) for row in questions_only])
best = np.mean([world.gold(prompt, world.best_answer(prompt)) for prompt in prompts])
claims({"SFT is below the average demonstration and far below the best": sft.gold.mean < demonstrated < best - 1})

# %% [markdown] sft-after
# SFT copies the crowd, filler and errors included, and even falls short of its average. Likelihood asks "would
# somebody say this?", not "is it good?". Chapter 1 is about that gap.

# %% [markdown] stage-two
# ## Stage 2: learn what is good (reward model)
#
# The SFT model answers each question twice, sixteen times over. Of the pairs in which both answers came to an end,
# one person of the twenty says which is better. That gives about 2,000 labels.

# %% pairs
draw = torch.Generator().manual_seed(SEED)
answers = rollout.answer_twice(sft_model, tokenizer, prompts * 16, max_new_tokens=32, generator=draw).both_finished()


def labelled_by(people) -> list[dict]:
    votes = annotate(world, answers.texts, people, seed=SEED, finished=answers.finished)
    return pairs_from_votes(answers.texts, votes)


pairs = labelled_by(people)
train_pairs, held_out = pairs[:-300], pairs[-300:]

# %% a-pair
# NBVAL_IGNORE_OUTPUT
for name in ("prompt", "chosen", "rejected", "annotator"):
    print(f"{name:>9}: {pairs[0][name]}")

# %% [markdown] reward-text
# A reward model is the SFT model with a number at its end, the **score**. It is fitted so that the chosen
# answer scores higher: the loss is $-\log \sigma(s_{\text{chosen}} - s_{\text{rejected}})$, the Bradley-Terry
# likelihood of the label.
#
# **The labels are noisy. What share of held-out labels can it predict: 60, 75 or 95 %?**


# %% reward-model
def reward_model_of(pairs):
    model = models.RewardModel.from_lm(sft_model)
    train.finish(train.reward_model(model, tokenizer, pairs, epochs=4, learning_rate=2e-3, seed=SEED))
    return model


reward_model = reward_model_of(train_pairs)
judged = evaluate.evaluate_reward_model(reward_model, tokenizer, held_out)

# %% reward-model-result
# NBVAL_IGNORE_OUTPUT
right, low, high = judged.accuracy
print(f"right on {right:.0%} of held-out labels, 95 % interval {low:.0%} to {high:.0%}")

# %% reward-model-claims
claims(
    {
        "better than a coin": judged.accuracy.low > 0.5,
        "far from perfect": judged.accuracy.high < 0.9,
    }
)

# %% [markdown] reward-after
# About seven in ten. People contradict each other, and nobody can predict a coin flip: with these annotators
# the ceiling is about eight in ten, as the last part of this chapter works out. More pairs would close part of
# the difference (chapter 6).
#
# Only differences of scores were trained, so we may shift and stretch them. We give them mean 0 and standard
# deviation 1 over the answers seen: then `beta`, below, means the same whatever the annotators' noise.

# %% standardise
seen = encode(tokenizer, [row["prompt"] for row in pairs], [row["chosen"] for row in pairs])
evaluate.standardise(reward_model, seen)
score = evaluate.model_score(reward_model)

# %% [markdown] stage-three
# ## Stage 3: become good (PPO, DPO)
#
# Both want a high reward without leaving the SFT model, the *reference*, far behind: maximise $\mathbb
# E[\text{reward}] - \beta\,\mathrm{KL}(\text{policy}, \text{reference})$.
#
# - **PPO** samples answers, asks the reward model for their score, and makes the good ones likelier. Round by
#   round.
# - **DPO** takes no samples and no reward model: a classification loss on the pairs has the same optimum
#   (chapter 3).
#
# **Which will get further from the same 2,000 labels?**

# %% ppo
ppo_policy = models.trainable_copy(sft_model)
loop = train.ppo(
    ppo_policy, sft_model, tokenizer, prompts, score, beta=0.1, iterations=40, learning_rate=3e-4, seed=SEED
)
ppo_log = train.finish(loop)

# %% dpo
dpo_policy = models.trainable_copy(sft_model)
loop = train.dpo(dpo_policy, sft_model, tokenizer, train_pairs, beta=0.1, epochs=4, learning_rate=5e-4, seed=SEED)
dpo_log = train.finish(loop)

# %% [markdown] result-text
# Now the three models side by side. *distinct* is the share of different answers among the four to one
# question.

# %% result-table
# NBVAL_IGNORE_OUTPUT
ppo, dpo = measure(ppo_policy, score), measure(dpo_policy, score)
print("      gold    KL  length  distinct  flattery")
for name, e in {"SFT": sft, "PPO": ppo, "DPO": dpo}.items():
    numbers = f"{e.kl.mean:z6.1f}{e.length:8.1f}{e.distinct:10.2f}{e.flattery:10.2f}"
    print(f"{name}{e.gold.mean:7.2f}{numbers}\n     {e.texts[0][0]}")

# %% result-claims
claims(
    {
        "PPO is at least half a point of gold above SFT": ppo.gold.mean > sft.gold.mean + 0.5,
        "DPO is at least half a point of gold above SFT": dpo.gold.mean > sft.gold.mean + 0.5,
        "both are still below the best answer": max(ppo.gold.mean, dpo.gold.mean) < best,
    }
)

# %% gold-by-stage
figure, ax = plt.subplots()
ax.set_title("Gold at each stage (bars: 95 % intervals)")
plots.stage_gold(ax, {"SFT": sft.gold, "PPO": ppo.gold, "DPO": dpo.gold}, best=best)
plots.show(figure, alt="Gold of SFT, PPO and DPO: both lie about one point above SFT and well below the best answer.")

# %% [markdown] stage-after
# Labels from people who agree only about three times in four moved the model up by about one point of gold: the
# worth of one right definition. The demonstrations stayed the same; what changed is the question that training
# asks.
#
# Do not read a winner between PPO and DPO from this: it is one run with one setting each. Chapter 11 compares
# them properly.

# %% [markdown] plane-text
# ### What did it cost?
#
# A policy that wanders off can reach any score. So we ask how much gold a policy gained **for the KL it
# spent**. The black line is the most that any policy could have at that KL. No training is needed to draw it:
# weigh many samples of the SFT model by $e^{\text{gold}/\beta}$. **Are PPO and DPO on the line?**

# %% plane
gold_of_many = evaluate.sample_gold(sft_model, tokenizer, world, prompts, samples=32, seed=SEED)
frontier = evaluate.optimal_frontier(gold_of_many, np.geomspace(0.2, 20, 16))
figure, ax = plt.subplots()
ax.set_title("Gold gained for the KL spent")
points = {"SFT": [(sft.kl, sft.gold)], "PPO": [(ppo.kl, ppo.gold)], "DPO": [(dpo.kl, dpo.gold)]}
plots.reward_kl_plane(ax, points, frontier=frontier)
plots.show(
    figure, alt="Gold against KL: the optimum rises and flattens; PPO and DPO lie below it, at a KL of 1 to 2 nats."
)

# %% plane-claims
optimum_kl, optimum_gold = [p.kl for p in frontier][::-1], [p.reward for p in frontier][::-1]
claims(
    {
        "PPO is below the optimum": ppo.gold.mean < np.interp(ppo.kl.mean, optimum_kl, optimum_gold),
        "DPO is below the optimum": dpo.gold.mean < np.interp(dpo.kl.mean, optimum_kl, optimum_gold),
    }
)

# %% [markdown] plane-after
# Below it, both. The optimum knows gold; PPO and DPO know some 1,650 labels of people who err, and pay for it
# here. Where the line is dotted, few samples carry it. Chapter 8 walks along this plane; chapter 5 shows what
# beta does in it.

# %% [markdown] fault
# ## A fault in the first part passes into the second
#
# Same SFT model, same pairs of answers, same loops. One thing changes: the people. Twenty **flattery-loving**
# people, careful in everything else, to whom one "great question !" is worth two standard deviations of
# quality.
#
# **Will the reward model look worse on its own held-out labels? And what will the policy do?**

# %% biased-labels
flatterers = annotators.flattery_loving_population(SEED, bias=2)
biased_pairs = labelled_by(flatterers)
biased_model = reward_model_of(biased_pairs[:-300])
biased_judged = evaluate.evaluate_reward_model(biased_model, tokenizer, biased_pairs[-300:])
claims({"the biased reward model is no less accurate": biased_judged.accuracy.rate > judged.accuracy.rate - 0.05})

# %% biased-policy
evaluate.standardise(biased_model, seen)
biased_policy = models.trainable_copy(sft_model)
loop = train.ppo(
    biased_policy, sft_model, tokenizer, prompts, evaluate.model_score(biased_model),
    beta=0.1, iterations=40, learning_rate=3e-4, seed=SEED,
)  # fmt: skip
train.finish(loop)
biased = measure(biased_policy, evaluate.model_score(biased_model))

# %% [markdown] biased-dpo-text
# And DPO, which never sees the reward model? The same biased pairs:

# %% biased-dpo
biased_dpo_policy = models.trainable_copy(sft_model)
loop = train.dpo(
    biased_dpo_policy, sft_model, tokenizer, biased_pairs[:-300], beta=0.1, epochs=4, learning_rate=5e-4, seed=SEED
)
train.finish(loop)
biased_dpo = measure(biased_dpo_policy)

# %% biased-answers
# NBVAL_IGNORE_OUTPUT
for texts, golds in list(zip(biased.texts, biased.sample_gold.tolist(), strict=True))[:3]:
    print(f"gold {golds[0]:+.1f}  {texts[0]}")

# %% biased-figure
figure, axes = plt.subplots(1, 2, figsize=(7.6, 3.2))
trained = {"SFT": sft, "PPO, course's\nannotators": ppo, "PPO, lovers\nof flattery": biased}
axes[0].bar(list(trained), [e.flattery for e in trained.values()], color=plots.REJECTED)
axes[0].set_title("flattering sentences per answer")
plots.stage_gold(axes[1], {name: e.gold for name, e in trained.items()})
axes[1].set_title("gold")
plots.show(
    figure, alt="Trained on labels of people who love flattery, PPO flatters in nearly every answer and has less gold."
)

# %% biased-claims
claims(
    {
        "SFT flatters in fewer than one answer of three": sft.flattery < 1 / 3,
        "the biased policy flatters at least three times as often": biased.flattery > 3 * sft.flattery,
        "the other policy flatters less than SFT": ppo.flattery < sft.flattery,
        "the biased policy has less gold than the other": biased.gold.mean < ppo.gold.mean,
        "DPO on biased pairs flatters more than DPO on the others": biased_dpo.flattery > 2 * dpo.flattery,
        "but less than PPO": biased_dpo.flattery < biased.flattery,
    }
)

# %% [markdown] fault-after
# Nothing that training can see looks worse than before. The reward model predicts the labels that it was given,
# and PPO raises its score as it should. Only the answers are worse. No later stage can repair this, because no
# later stage knows more about what is good than the labels do.
#
# DPO has no reward model to carry the fault, and the fault arrives all the same, in smaller measure: PPO asks
# its reward model again after every round and goes all the way; DPO, with these settings, takes a shorter step.
#
# The way back is through the parts. Does the policy get what the reward asks? Does the reward model get what
# the labels ask? Do the labels ask for what we want? Chapter 7 is about labels, chapter 13 about length.

# %% [markdown] failures
# ## How each stage fails
#
# Five failures, each once and small. The chapters named have the full story and the cure.
#
# **1. Incoherence** (SFT too short; chapter 1). The copy that we kept after 60 of 600 steps:

# %% incoherence
# NBVAL_IGNORE_OUTPUT
unready = measure(early)
print(*(texts[0] for texts in unready.texts[:4]), sep="\n")

# %% incoherence-claims
claims({"it is at least one point of gold below SFT": unready.gold.mean < sft.gold.mean - 1})

# %% [markdown] hacking-text
# Preference training can only choose among what the model already says. From here nothing good would be chosen.
#
# **2. Reward hacking** (no pull to the reference; chapter 12). PPO again, with the course's annotators, but
# beta 0 and larger steps. We look at score and gold on the way. **What happens to each?**

# %% hacking
hacked = models.trainable_copy(sft_model)
path = [measure(hacked, score)]
loop = train.ppo(hacked, sft_model, tokenizer, prompts, score, beta=0.0, iterations=50, learning_rate=6e-4, seed=SEED)
for round_number, _ in enumerate(loop, 1):
    if round_number in (5, 10, 20, 30, 40, 50):
        path.append(measure(hacked, score))

# %% hacking-figure
figure, ax = plt.subplots()
ax.set_title("Reward hacking: no pull to the reference")
columns = ([getattr(e, name).mean for e in path] for name in ("kl", "score", "gold"))
plots.over_optimisation(ax, *columns)
plots.show(figure, alt="Against KL the score keeps rising, while gold peaks early and falls far below where it began.")

# %% hacking-claims
gold, scores = [e.gold.mean for e in path], [e.score.mean for e in path]
claims(
    {
        "the score gets higher than that of PPO with beta": max(scores) > ppo.score.mean,
        "where it is highest gold is half a point below its peak": gold[np.argmax(scores)] < max(gold) - 0.5,
    }
)

# %% [markdown] hacking-after
# At first both rise. Then the score goes on while gold falls: the policy has found answers that the reward
# model likes and that nobody ever labelled. In a real project only the dashed line exists.

# %% [markdown] collapse-text
# **3. Mode collapse** (chapter 14). Back to PPO with beta 0.1, which we were content with. An answer has a
# *form*: which sentences follow one another (filler, flattery, definition, uses, closing). We sample 1,024
# answers before and after PPO and count forms, a rare one counting less than a common one:
# $e^{\text{entropy}}$, the *effective number*. **Will it rise or fall?**


# %% mode-collapse
# NBVAL_IGNORE_OUTPUT
def forms(policy) -> float:
    drawn = evaluate.rollouts(policy, tokenizer, prompts, samples=8, seed=SEED)
    openings = ("great", "people", "hope", "yeah", "it", "look")
    counts = Counter(
        tuple(words[0] if words[0] in openings else "definition" for words in sentences(text))
        for part in drawn
        for text in part.texts
    )
    shares = np.array(list(counts.values())) / counts.total()
    return np.exp(-(shares * np.log(shares)).sum())


before, after = forms(sft_model), forms(ppo_policy)
print(f"effective number of forms: SFT {before:.1f}, PPO {after:.1f}")

# %% mode-collapse-claims
claims(
    {
        "PPO uses fewer forms": after < before,
        "PPO is surer of its words": ppo.entropy < sft.entropy,
    }
)

# %% [markdown] mode-collapse-after
# Here that is mostly good riddance: filler and flattery are gone. But nothing in the objective knows which
# variety is worth keeping; only the pull to the reference protects any of it.

# %% [markdown] reward-collapse-text
# **4. Reward collapse** (chapter 15). Take two prompts with eight answers each. One is open: the true rewards
# run evenly from 0 to 1. One is closed: one answer is right, seven are worth next to nothing. Annotators rank
# the eight. Fit rewards in [0, 1], free to take any value, to the two *rankings*. **Will the fitted rewards
# tell the prompts apart?**

# %% reward-collapse
open_prompt, closed_prompt = torch.linspace(1, 0, 8), torch.tensor([1.0, *[0.01 * k for k in range(7, 0, -1)]])


def fitted_to_ranking(gold):
    logits = torch.zeros(8, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.1)
    better, worse = torch.nonzero(gold[:, None] > gold).T  # all that a ranking says
    for _ in range(500):
        reward = torch.sigmoid(logits)
        loss = -torch.nn.functional.logsigmoid(reward[better] - reward[worse]).mean()
        optimiser.zero_grad(), loss.backward(), optimiser.step()
    return torch.sigmoid(logits).detach()


# %% reward-collapse-claims
collapse = fitted_to_ranking(open_prompt), fitted_to_ranking(closed_prompt)
claims({"the two prompts get the same rewards": torch.allclose(*collapse, atol=1e-3)})

# %% [markdown] reward-collapse-after
# They cannot: a ranking says who is before whom, never by how much, and both rankings are the same. A large
# enough reward model ends up giving every prompt the same spread of rewards (2305.17608).
#
# **5. Forgetting** (chapter 16). Counting was never judged by anybody. **Can the models still count?**

# %% forgetting
# NBVAL_IGNORE_OUTPUT
policies = {"SFT": sft_model, "PPO": ppo_policy, "DPO": dpo_policy, "hacked": hacked}
counting = {
    name: evaluate.second_skill_accuracy(policy, tokenizer, world, samples=4, seed=SEED).rate
    for name, policy in policies.items()
}
print(*(f"{name}: {rate:.0%} of counts right" for name, rate in counting.items()), sep="\n")

# %% forgetting-claims
claims(
    {
        "SFT counts right in more than half": counting["SFT"] > 0.5,
        "the hacked policy lost at least a fifth of it": counting["hacked"] < 0.8 * counting["SFT"],
    }
)

# %% [markdown] agreement
# ## How far do people agree?
#
# All of this rests on labels. Two labels on the same pair *agree* when they are equal; **agreement** is the
# share of such pairs of labels that are equal, over all items. Exercise 2.1 asks you to write it.
#
# Each person compares with some noise. The *temperature* multiplies it: 1 is our default population, 2 halves
# everybody's slope. We give 1,000 pairs to five people each. **What will agreement be at a very high
# temperature: 0, or something else?**

# %% agreement-by-temperature
features = annotators.random_features(1000, generator=np.random.default_rng(SEED))
temperatures = [0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8]
found, ceiling = [], []
for temperature in temperatures:
    crowd = annotators.population(SEED, scale=1.6 / temperature)
    votes = annotators.label_pairs(crowd, features, per_item=5, generator=np.random.default_rng(SEED))
    table = agreement.count_labels(agreement.group_by_item(votes))
    found.append(agreement.bootstrap(agreement.percent_agreement, table, draws=100))
    ceiling.append(agreement.reward_model_ceiling(crowd, features).best)

# %% agreement-figure
figure, ax = plt.subplots()
ax.set_title("Noise lowers agreement and the ceiling of any reward model")
sources = {"TL;DR, researchers": "tldr-researchers", "MT-Bench, no ties": "mtbench-without-ties"}
levels = {name: published(source).number for name, source in sources.items()}
plots.agreement_against_temperature(ax, temperatures, found, published=levels)
ax.plot(temperatures, ceiling, linestyle="--", color=plots.CHOSEN)
ax.annotate("best possible reward model", (0.55, 0.895), color=plots.CHOSEN)
ax.set_xscale("log")
ax.minorticks_off()
ax.set_xticks(temperatures, temperatures)
plots.show(
    figure, alt="Agreement falls from .86 towards .5 as temperature rises; the reward model's ceiling lies above it."
)

# %% agreement-claims
rates = [interval.estimate for interval in found]
at_default = temperatures.index(1)
print(f"at temperature 1: agreement {rates[at_default]:.2f}, ceiling {ceiling[at_default]:.2f}")
claims(
    {
        "agreement falls at every step": all(a > b for a, b in zip(rates, rates[1:], strict=False)),
        "even at temperature 8 it is above one half": rates[-1] > 0.5,
        "the ceiling is above agreement": all(c > a for c, a in zip(ceiling, rates, strict=True)),
    }
)

# %% [markdown] agreement-after
# Not 0: with two labels to choose from, people who toss coins agree half of the time. And even at a quarter of
# the noise agreement is not 1, because one of the twenty always tosses a coin and the hurried ones sometimes
# do.
#
# The green line is the share of single labels that the best possible reward model can predict. It lies *above*
# agreement: in a pair of labels two people err, in model against label only one. So a reward model that is
# right on seven labels in ten is not a bad one: look where its ceiling is.
#
# Other people, other noise: move the sliders. Every point was really run; the button runs it again with other
# draws. **With whom does agreement fall fastest?**

# %% agreement-widget
# NBVAL_IGNORE_OUTPUT
agreement_against_noise()

# %% ceiling-here
gaps = np.array([[world.gold(p, a) - world.gold(p, b), len(a.split()) - len(b.split())] for p, a, b in answers.texts])
ours = agreement.reward_model_ceiling(people, annotators.pair_features(*gaps.T))
claims({"our reward model is not above its ceiling": judged.accuracy.low < ours.best})

# %% [markdown] annotator-text
# ## Be the annotator
#
# Twenty pairs of answers of the SFT model, four of them twice with the sides turned. Choose by any taste you like,
# but the same throughout: correct, short, friendly. Click, or use the keys 1, 2, 0 (tie) and U (undo). Labels are
# saved at once; you can come back tomorrow.

# %% annotator
# NBVAL_IGNORE_OUTPUT
desk = Annotator(Lab(sft_model, SEED, world), count=24, repeats=4)
desk

# %% [markdown] annotator-after-text
# Then: how far do you agree with yourself, with five careful people, with gold? And a reward model and a policy
# trained on your labels, in half a minute. **Will a machine have your taste after twenty labels?**

# %% annotator-summary
# NBVAL_IGNORE_OUTPUT
desk.summary()

# %% annotator-train
# NBVAL_IGNORE_OUTPUT
desk.train()

# %% [markdown] traps
# ## Five traps
#
# Each gives a wrong number without any error message.
#
# **Trap 1: orientation.** One file shows the pair as (A, B), another as (B, A). "first" then means two things.
# Turn every pair into one order before grouping. Below 300 items are labelled by two people each, and half of
# the second labels are left turned round.

# %% trap-orientation
votes = annotators.label_pairs(
    people[:12], annotators.PairFeatures(*(f[:300] for f in features)), per_item=2, generator=np.random.default_rng(1)
)
pairs_of_labels = agreement.group_by_item(votes)
other = {"first": "second", "second": "first"}
turned = [[a, other[b]] if i % 2 else [a, b] for i, (a, b) in enumerate(pairs_of_labels)]
print(f"canonical order: {agreement.percent_agreement(pairs_of_labels):.2f}")
print(f"half of them turned: {agreement.percent_agreement(turned):.2f}")

# %% [markdown] trap-double-text
# Half of the second labels now say the opposite of what was meant: no better than coins.
#
# **Trap 2: one person, two votes.** In MT-Bench somebody judged the same pair twice. Agreement with oneself is
# not agreement between people.

# %% trap-double
votes = [("item 1", "Ada", "first"), ("item 1", "Ada", "first"), ("item 1", "Ben", "second")]
for repeats in ("keep", "first"):
    labels = agreement.group_by_item(votes, repeats=repeats)
    print(f"repeats={repeats!r}: {labels[0]}, agreement {agreement.percent_agreement(labels):.2f}")

# %% [markdown] trap-ties-text
# **Trap 3: ties.** Is a tie a third label, or nothing? Both are in use; the answers differ, so a figure without
# its rule means little.

# %% trap-ties
labels = [["first", "first"], ["first", "tie"], ["tie", "tie"], ["second", "tie"], ["first", "second"]]
for rule in ("three-way", "drop", "half"):
    print(f"{rule:>9}: {agreement.percent_agreement(labels, ties=rule):.2f}")

# %% [markdown] trap-pooled-text
# **Trap 4: unequal numbers of labels.** An item with 2 labels has one pair, an item with 10 has 45. Pool the
# pairs and crowded items rule; average the items and each counts alike.

# %% trap-pooled
labels = [["first", "first"], ["second", "second"], ["first", "second"] * 5]
for average in ("pairs", "items"):
    print(f"average over {average}: {agreement.percent_agreement(labels, average=average):.2f}")

# %% [markdown] trap-unequal-text
# And the *same* people look less unanimous when more of them are asked:

# %% trap-unequal
for per_item in (2, 3, 5, 10):
    votes = annotators.label_pairs(people, features, per_item=per_item, generator=np.random.default_rng(2))
    labels = agreement.group_by_item(votes)
    agreed = agreement.percent_agreement(labels)
    print(f"{per_item:>2} labels each: agreement {agreed:.2f}, unanimous {agreement.unanimity(labels).unanimous:.2f}")

# %% [markdown] trap-kappa-text
# **Trap 5: kappa.** Kappa asks how far agreement lies beyond chance, and takes chance from the shares of the
# labels. Two raters call 95 of 100 items "fine". They agree on 90. **Is that good?**

# %% trap-kappa
a = ["fine"] * 90 + ["fine"] * 5 + ["bad"] * 5
b = ["fine"] * 90 + ["bad"] * 5 + ["fine"] * 5
print(f"agreement {np.mean([x == y for x, y in zip(a, b, strict=True)]):.2f}, kappa {agreement.cohen_kappa(a, b):.2f}")

# %% [markdown] trap-kappa-after
# Two raters who say "fine" 95 % of the time and look at nothing would agree on $.95^2 + .05^2 = 90.5\,\%$.
# Kappa is right to be unimpressed: on the ten items that anybody called bad, they never agreed.
#
# But with left/right labels chance is of our own making, for which answer is called first is arbitrary. Here
# both raters agree on 90 of 100 pairs. We only rename the sides, so that the answer usually preferred is always
# "first":

# %% trap-coding
both = [(label, label) for label in ["first", "second"] * 45] + [("first", "second")] * 5 + [("second", "first")] * 5
sorted_sides = [pair if pair[0] == "first" else (other[pair[0]], other[pair[1]]) for pair in both]
for name, pairs_said in {"sides at random": both, "winner of rater 1 first": sorted_sides}.items():
    rater_1, rater_2 = zip(*pairs_said, strict=True)
    rate = np.mean([x == y for x, y in pairs_said])
    print(f"{name}: agreement {rate:.2f}, kappa {agreement.cohen_kappa(rater_1, rater_2):z.2f}")

# %% [markdown] trap-coding-after
# Agreement is the same, kappa falls from .80 to 0. The people did not change, only the names did. For pairs
# report agreement with its tie rule first; if you need a kappa, enter each item in both orientations
# (`agreement.symmetrised_agreement`).

# %% [markdown] real-data
# ## Real people
#
# **MT-Bench** (2306.05685) published the votes of its human judges. Its authors report that two experts agree
# on 63 % of 721 pairs of votes in the first turn when ties count, and on 81 % of 479 without ties. If you have
# the file `human.jsonl` of *lmsys/mt_bench_human_judgments*, put its path below, or in a terminal run
# `prefcourse agreement FILE`. You should find both numbers exactly.
#
# The same cell reads any CSV or JSONL with columns for item, annotator and label: your own labels, for example.

# %% your-file
FILE = None  # "path/to/human.jsonl"
if FILE:
    from prefcourse.data import read_votes

    expert = read_votes(FILE, where=["turn=1", "judge^=expert"])
    labels = agreement.group_by_item(agreement.without_repeats(expert.votes))
    for rule in ("three-way", "drop"):
        agreeing, of = agreement.count_pairs(labels, ties=rule)
        print(f"{rule}: {agreeing:.0f} of {of} pairs of votes agree, {agreeing / of:.0%}")
    print("traps met:", expert.traps)

# %% [markdown] hh-rlhf
# **HH-RLHF cannot answer the question.** The best-known public preference set has *one* label per pair. With
# one label there is no pair of labels, and agreement is undefined: not 0, not 1. Our function says so:

# %% one-label
one_label_each = [["first"], ["second"], ["first"]]
print("agreement:", agreement.percent_agreement(one_label_each))

# %% [markdown] summary
# ## In five lines
#
# 1. SFT copies the demonstrators; it cannot tell good from usual.
# 2. A reward model turns noisy comparisons into a score, up to a ceiling that the people's noise sets.
# 3. PPO and DPO turn what was learnt into a policy, and pay in KL.
# 4. A bias of the labels arrives in the policy, while nothing that training sees looks wrong.
# 5. Agreement needs two labels per item, one orientation, one vote per person and a stated tie rule.

# %% [markdown] questions
# ## Three questions
#
# **1.** Your reward model is right on 72 % of held-out labels. A colleague says that a larger one would reach
# 90 %. What do you ask for?
#
# <details><summary>Answer</summary>
#
# The agreement of the annotators, on items with two labels or more. If they agree as ours do, on 72 %, the
# ceiling for *single labels* is 82 %, for a model of any size (the green line). Clearer guidelines raise the
# ceiling; parameters do not.
# </details>
#
# **2.** After PPO the mean score is higher than ever and users complain. Where do you look first?
#
# <details><summary>Answer</summary>
#
# At the KL to the reference and at some answers. If KL is large and answers look strange, the policy left the
# region where the reward model was trained (reward hacking). If KL is small and answers look the way annotators
# liked them, the fault is in the labels.
# </details>
#
# **3.** Two teams report agreement of 63 % and 81 %, on the same votes. Can both be right?
#
# <details><summary>Answer</summary>
#
# Yes: with ties as a third label, and without ties. That is MT-Bench. Also ask whether pairs or items were
# averaged.
# </details>

# %% [markdown] classical
# ## The classical results beside ours
#
# | | published | here |
# |---|---|---|
# | agreement, TL;DR researchers | {{published:tldr-researchers}} | .72 of random pairs, by choice of the population |
# | agreement, TL;DR labeler and researcher | {{published:tldr-labeler-researcher}} | |
# | agreement, InstructGPT labelers | {{published:instructgpt-labelers}}, held-out people {{published:instructgpt-held-out}} | |
# | agreement, MT-Bench experts | with ties {{published:mtbench-with-ties}}, without {{published:mtbench-without-ties}} | the same, from the file |
# | preference training pays | {{published:instructgpt-small-beats-large}} | gold up by more than 0.5 |
# | score up, truth down | over-optimisation (2210.10760) | beta 0: gold 0.5 below its peak where score is best |
# | same rewards for all prompts | reward collapse (2305.17608) | equal to three decimals |

# %% [markdown] further
# ## Further reading
#
# - InstructGPT, the three stages at scale: arXiv 2203.02155
# - Learning to summarize from human feedback (TL;DR): arXiv 2009.01325
# - DPO: arXiv 2305.18290. PPO: arXiv 1707.06347
# - Reward over-optimisation: arXiv 2210.10760. Reward collapse: arXiv 2305.17608
# - MT-Bench and its human votes: arXiv 2306.05685. HH-RLHF: arXiv 2204.05862
#
# **Next:** exercises 2.1 to 2.5, in `exercises/02_preference_optimization_overview.ipynb`.
# %% [exercises]
# %% [markdown] title
# # 2 · Exercises: how far do people agree?
#
# Five functions, about an hour. Write each body, run the cell, then run its check. A check calls your function on
# cases of its own and says which properties hold. If one does not, you see the first case that fails and the
# likeliest mistake.
#
# Stuck? Open the hints one at a time. The solved notebook is in `solutions/`, under the same name. In a terminal
# `prefcourse check 2` checks what you saved, and `prefcourse reset 2.1` gives you an exercise afresh.

# %% setup
from collections.abc import Hashable, Sequence

from prefcourse.agreement import Unanimity, count_labels
from prefcourse.checks import NotWritten, check

# %% [markdown] question-2-1
# Each item is a list of labels, one per person: `"first"`, `"second"` or `"tie"`. **Of all pairs of labels on
# the same item, which share is equal?**
#
# - Items have unequal numbers of labels. Every *pair of labels* weighs the same: an item with 4 labels has 6
#   pairs.
# - One label makes no pair. If there is no pair at all, the rate is undefined: `float("nan")`.
# - A tie is a label like any other, unless `drop_ties=True`: then ties are taken away first, as if never said.
#
# By hand first: `[["first", "first"], ["first", "second", "first"]]`. How many pairs, how many of them equal?


# %% answer-2-1
def agreement_rate(labels_by_item: list[list[str]], drop_ties: bool = False) -> float:
    """What share of all pairs of labels on the same item is equal? nan if no pair."""
    verdicts = []
    for labels in labels_by_item:
        counted = [said for said in labels if not (drop_ties and said == "tie")]
        verdicts += [a == b for i, a in enumerate(counted) for b in counted[:i]]
    return sum(verdicts) / len(verdicts) if verdicts else float("nan")


# %% [markdown] question-2-2
# **On which share of the items do all people say the same, and on which share not?** Return `(unanimous,
# mixed)`, in this order.
#
# - Only items with two labels or more can be judged; leave the others out.
# - A tie is a label: two ties are unanimous.
# - If no item can be judged, both shares are `float("nan")`.
# - A plain tuple will do; `Unanimity(unanimous, mixed)` is one whose parts have names.
# - Plain Python is enough, here and in 2.4. If you prefer arrays: `count_labels(labels_by_item).counts` has a row
#   per item, a column per label, and how often each was said.
#
# By hand first: `[["first"], ["second", "second"], ["first", "second"]]`. Which items can be judged?


# %% answer-2-2
from prefcourse.agreement import unanimity

# %% [markdown] question-2-3
# Two people label the same items: `a[i]` and `b[i]` are what they say of item `i`. If both say *good* almost
# always, they agree on most items without looking. **How far do they agree beyond chance, as a part of how far
# one could get?** That is Cohen's kappa (1960):
#
# $$\kappa = \frac{\text{agreement} - \text{chance}}{1 - \text{chance}}$$
#
# - `chance` is how often they would agree by accident: each draws labels at random, with *their own* shares.
# - Any labels may occur, not only two.
# - If chance is 1 (both always say the same label), or there is no item, kappa is undefined: `float("nan")`.
# - Lists of unequal lengths are a mistake: raise `ValueError`.
#
# By hand first: one says *good, good, bad, bad*, the other *good, good, bad, good*. They agree on 3 of 4. And by
# chance?
# %% answer-2-3
from prefcourse.agreement import cohen_kappa

# %% [markdown] question-2-4
# Now many people, and nobody noted who said what: each item is a list of labels, equally many on every item.
# **How far do the labels agree beyond chance?** Fleiss' kappa (1971) has the form of Cohen's:
#
# - `agreement` is the share of equal pairs of labels on the same item, as in 2.1.
# - `chance` is the sum of the squared shares of the labels, where *all* labels of all items are one pool.
# - If all labels are the same, or no item has two labels, or there is no item: `float("nan")`.
# - Unequal numbers of labels are a mistake: raise `ValueError`.
#
# By hand first: `[["first", "first"], ["first", "second"]]`. Half of the pairs agree. Is that more than chance?
# %% answer-2-4
from prefcourse.agreement import fleiss_kappa

# %% [markdown] question-2-5
# A reward model is tested on held-out labels. Each comes from *one* person, drawn at random from a crowd, and
# people err. **What share of such labels can a model predict at best?** `probability_first[person][pair]` is how
# likely that person says "first" of that pair (there are no ties); `first_is_better[pair]` is the truth. Return
# `(gold, best)`, in this order:
#
# - `gold`: the share that a model predicts that knows the truth and always says it;
# - `best`: the most that any model can predict which sees the pair, but not who was asked.
#
# Every pair weighs the same. Without pairs both are `float("nan")`.
#
# By hand first: one person says "first" with probability 0.9, another with 0.3. The second response is better.


# %% answer-2-5
def ceiling_from_probabilities(
    probability_first: list[list[float]],
    first_is_better: list[bool],
) -> tuple[float, float]:
    """What share of single labels does a model predict that knows the truth (gold)?
    And the best model that knows the crowd but not who was asked (best)?
    nan, nan without pairs."""
    crowd = [sum(column) / len(column) for column in zip(*probability_first, strict=True)]
    if not crowd:
        return float("nan"), float("nan")
    gold = [p if better else 1 - p for p, better in zip(crowd, first_is_better, strict=True)]
    best = [max(p, 1 - p) for p in crowd]
    return sum(gold) / len(gold), sum(best) / len(best)


# %% [markdown] your-data
# ## On real votes
#
# Put the path of a file with votes below (MT-Bench's `human.jsonl`, or a CSV with columns item, annotator,
# label) and your functions read it. For MT-Bench you should find .63 and .81, the published figures.

# %% use
FILE = None  # "path/to/human.jsonl"
if FILE:
    from prefcourse.agreement import group_by_item
    from prefcourse.data import read_votes

    where = ["turn=1", "judge^=expert"] if "human" in FILE else []
    labels = group_by_item(read_votes(FILE, where=where).votes)
    print(f"agreement {agreement_rate(labels):.2f}")
    print(f"without ties {agreement_rate(labels, drop_ties=True):.2f}")
    print("unanimous {:.2f}, mixed {:.2f}".format(*unanimity(labels)))
