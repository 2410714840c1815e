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
# - name five ways in which the stages fail, and the measurement that shows each;
# - say how far annotators agree, and which five mistakes make that number wrong.
#
# **Time.** 45 minutes to read; all cells together take half a minute on one CPU core, a minute the first time.
#
# **Before.** Chapter 1 (gold, policy, the log-probability of an answer, SFT, the tilt by $e^{\text{gold}/\beta}$).
#
# **How to read.** Most cells are preceded by a question in bold. Decide on an answer, run the cell, then read on.
# What the text claims is computed: `claims` prints each claim that holds and stops at one that does not.

# %% setup
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

from prefcourse import agreement, annotators, evaluate, models, plots, train, widgets
from prefcourse.claims import claims
from prefcourse.data.pairs import annotate, gaps
from prefcourse.lab import lab
from prefcourse.sequences import encode
from prefcourse.worlds.pocket import PocketWorld

torch.set_num_threads(1)
plt.rcParams.update(plots.STYLE)
SEED = 0
world, people = PocketWorld(), annotators.population(SEED)
prompts = world.prompts("train")

# %% [markdown] first-pair
# ## One question, two answers
#
# We stay in **PocketWorld**, where a program gives any answer its true reward, **gold**. Real projects never see
# gold; people stand in its place. We have both, and so we can tell whether training made the answers better or only
# made them score better.
#
# Here are two answers to *what is python used for ?*
#
# > python is a language . people use it for scripting and plotting .
#
# > great question ! python is a language . people use it for scripting and milking . hope this helps !
#
# Twenty simulated people choose between the two. Twelve are careful, five are in a hurry. One goes by the position
# on the screen, one by the length, one flips coins. The pair is shown among 96 others, as it would be in a real
# session.
#
# **Which would you prefer? Which will have more gold, and why? How many of the twenty will prefer the plain one?**

# %% two-answers
QUESTION = prompts[0]
PLAIN = "python is a language . people use it for scripting and plotting ."
FLATTERING = "great question ! python is a language . people use it for scripting and milking . hope this helps !"
for answer in (PLAIN, FLATTERING):
    reasons = "; ".join(f"{points:+.1f} {reason}" for points, reason in world.explain(QUESTION, answer))
    print(f"gold {world.gold(QUESTION, answer):+.1f}  {answer}\n           {reasons}")
draw = np.random.default_rng(SEED)
others = [(p, world.demonstration(p, draw), world.demonstration(p, draw)) for p in prompts[:96]]
votes = annotate(world, [(QUESTION, PLAIN, FLATTERING), *others], people, seed=SEED, per_item=20)
said = {vote.annotator: vote.label for vote in votes if vote.item == 0}
print("prefer the plain answer:", sum(label == "first" for label in said.values()), "of", len(said))
print("prefer the other one:", *sorted(who for who, label in said.items() if label == "second"))

# %% [markdown] people-after
# Most see the wrong use. Some do not, careful people among them: everybody misses something at times. A single label
# is a noisy reading of what is good, and everything below is built on such labels.

# %% [markdown] stage-one
# ## Stage 1: imitate (SFT)
#
# As in chapter 1, SFT raises the likelihood of demonstrated answers. The crowd is a different one: a quarter of the
# answers are filler, a third are partly wrong, the rest are good. A tenth of the rows trains a second skill,
# counting. No preference will ever speak about counting; we will need that later.
#
# `lab` trains this model, a TinyLM as in chapter 1: 600 steps on 6,000 demonstrations, without pre-training: in so
# small a world the demonstrations teach the language, too. This takes up to half a minute the first time; after that
# it comes from your cache. To measure a policy is to sample from it and let the world read: `here.evaluate` takes four
# answers to each of the 128 training questions.
#
# **Chapter 1 lets you predict it: how far from the demonstrations will the model be, on which side, and how far from
# the best answers?**

# %% sft
# NBVAL_IGNORE_OUTPUT
here = lab(SEED)
tokenizer = here.tokenizer
sft = here.evaluate(here.sft)
demonstrations = world.demonstrations(6000, seed=SEED)
crowd = [row for row in demonstrations[:2000] if not row["prompt"].startswith("count")]
demonstrated = np.mean([world.gold(**row) for row in crowd])
best = np.mean([world.gold(prompt, world.best_answer(prompt)) for prompt in prompts])
print(f"gold: SFT {sft.gold.mean:.2f}, demonstrations {demonstrated:.2f}, best answers {best:.2f}")
claims({
    "SFT is below the average demonstration, by less than half a point": 0 < demonstrated - sft.gold.mean < 0.5,
    "and more than a point and a half below the best answers": sft.gold.mean < best - 1.5,
})

# %% [markdown] sft-after
# SFT copies the crowd, filler and flattery included. It even falls a little short of the crowd's average: a small model
# mixes up what is used for what, and now and then says one use twice. Nothing in these demonstrations says which of
# them are worth copying.

# %% [markdown] stage-two
# ## Stage 2: learn what is good (reward model)
#
# For each question the SFT model writes sixteen pairs of answers. Pairs in which an answer did not come to an end are
# left out. Of every remaining pair, one of the twenty people says which answer is better.

# %% pairs
# NBVAL_IGNORE_OUTPUT
answers = here.answers(16, seed=SEED)
pairs = here.pairs(answers, people, seed=SEED)
print(f"{len(pairs)} labels. One of them:")
for name in ("prompt", "chosen", "rejected", "annotator"):
    print(f"{name:>9}: {pairs[4][name]}")

# %% [markdown] reward-text
# Would you have said the same? There is no way to ask; the pair was shown to one person once. The answer that was
# preferred is called `chosen` from here on, the other one `rejected`.
#
# A reward model is the SFT model with a number at its end, the **score** $s$. How does a label teach it a
# number? *Bradley and Terry* suppose that the further apart two scores are, the more surely people choose the
# better answer:
#
# $$P(\text{chosen is preferred}) = \sigma(s_{\text{chosen}} - s_{\text{rejected}}),\qquad
# \sigma(u) = \frac{1}{1 + e^{-u}}$$
#
# The scores under which the labels seen are likeliest have the smallest mean of
# $-\log \sigma(s_{\text{chosen}} - s_{\text{rejected}})$. That is the loss. Chapter 6 derives it with care and
# trains it by hand; here `train.reward_model` does. We hold the last 300 labels out.
#
# **The labels are noisy. What share of held-out labels can it predict: half, two thirds, or nine in ten?**


# %% reward-model
# NBVAL_IGNORE_OUTPUT
def reward_model_of(pairs):
    model = models.RewardModel.from_lm(here.sft)
    train.finish(train.reward_model(model, tokenizer, pairs[:-300], epochs=2, learning_rate=3e-3, seed=SEED))
    chosen, rejected = evaluate.read_pairs(model, tokenizer, pairs[-300:])  # scores, (300,) each
    loss, accuracy = -F.logsigmoid(chosen - rejected).mean(), evaluate.judge_scores(chosen, rejected).accuracy
    print(f"held out: loss {loss:.2f}, right on {accuracy.rate:.0%} ({accuracy.low:.0%} to {accuracy.high:.0%})")
    evaluate.standardise(model, encode(tokenizer, [p["prompt"] for p in pairs], [p["chosen"] for p in pairs]))
    return evaluate.model_score(model), accuracy


score, accuracy = reward_model_of(pairs)
seen = annotators.pair_features(*gaps(world, answers.texts))
ceiling = agreement.ceiling_from_annotators(people, seen).best
claims({"better than a coin": accuracy.low > 0.5, "far from perfect": accuracy.high < 0.85})
claims({f"not above its ceiling, {ceiling:.0%}": accuracy.low < ceiling})

# %% [markdown] reward-after
# About two in three. (In brackets the 95 % interval, which covers the true share in 95 of 100 such trials; chapter
# 5.) People contradict each other, and nobody can predict a coin flip: with these annotators the *ceiling*, the share
# that the best possible model could predict, is about eight in ten. The part on agreement shows where it comes from.
# More pairs would close part of the difference (chapter 6).
#
# Only differences of scores were trained, so a shift changes nothing; a stretch changes no ranking, only the unit in
# which `beta` is paid. `standardise` does both, to mean 0 and standard deviation 1 over the chosen answers: then
# `beta`, below, means the same whatever the annotators' noise.

# %% [markdown] stage-three
# ## Stage 3: become good (PPO, DPO)
#
# Both want a high reward without leaving the SFT model, the *reference*, far behind: maximise $\mathbb
# E[\text{reward}] - \beta\,\mathrm{KL}(\text{policy}, \text{reference})$. The KL says how far a policy has moved:
# by how many nats its own answers are likelier under itself than under the reference, on average.
#
# - **PPO** samples answers, asks the reward model for their score, and makes the good ones likelier. Round by
#   round (chapters 9 and 10).
# - **DPO** takes no samples and no reward model: a classification loss on the pairs has the same optimum
#   (chapters 3 and 4).
#
# Look at what each is given: questions and a score, or pairs.


# %% ppo-and-dpo
def trained(loop, *data, **settings):
    policy = models.trainable_copy(here.sft)
    train.finish(loop(policy, here.sft, tokenizer, *data, beta=0.1, seed=SEED, **settings))
    return policy


PPO = {"iterations": 20, "learning_rate": 6e-4}
DPO = {"epochs": 1, "learning_rate": 7e-4}
ppo_policy = trained(train.ppo, prompts, score, **PPO)
dpo_policy = trained(train.dpo, pairs[:-300], **DPO)

# %% [markdown] result-text
# Now the three policies side by side. *Flattery* counts the flattering sentences per answer. **Which will get
# further from the same labels? What will become of the flattery?**

# %% result-table
# NBVAL_IGNORE_OUTPUT
ppo, dpo = here.evaluate(ppo_policy, score=score), here.evaluate(dpo_policy)
stages = {"SFT": sft, "PPO": ppo, "DPO": dpo}
print("      gold    KL  length  flattery  an answer")
for name, e in stages.items():
    print(f"{name}{e.gold.mean:7.2f}{e.kl.mean:z6.1f}{e.length:8.1f}{e.flattery:10.2f}  {e.texts[0][0]}")
claims({
    "each is at least a quarter of a point of gold above SFT": min(ppo.gold, dpo.gold).mean > sft.gold.mean + 0.25,
    "and above the average demonstration": min(ppo.gold, dpo.gold).mean > demonstrated,
    "both flatter less than SFT": max(ppo.flattery, dpo.flattery) < sft.flattery,
})

# %% [markdown] stage-after
# Labels from people who agree only about three times in four moved the model up by half a point of gold or more, the
# worth of one right use, and above the average of the demonstrations that it learnt from. They also took away most of
# the flattery. The demonstrations stayed the same; what changed is the question that training asks.
#
# Do not read a winner between PPO and DPO from this: it is one run with one setting each. Chapter 11 compares
# them properly.

# %% [markdown] plane-text
# ### What did it cost?
#
# A policy that wanders off can reach any score. So we ask how much gold a policy gained **for the KL it
# spent**. On the right, the black line is the most that any policy could have at that KL. No training is needed
# to draw it: as at the end of chapter 1, weigh many samples of the SFT model by $e^{\text{gold}/\beta}$, for many
# $\beta$. (Chapter 3 says why.) **Are PPO and DPO on the line?**

# %% pipeline-figure
many = evaluate.sample_gold(here.sft, tokenizer, world, prompts, samples=32, seed=SEED)
frontier = evaluate.optimal_frontier(many, np.geomspace(20, 0.2, 16))
figure, axes = plt.subplots(1, 2, figsize=(9.2, 3.6))
plots.stage_gold(axes[0], {name: e.gold for name, e in stages.items()}, best=best)
axes[0].set_title("Gold at each stage (bars: 95 % intervals)")
plots.reward_kl_plane(axes[1], {name: [(e.kl, e.gold)] for name, e in stages.items()}, frontier=frontier)
axes[1].set_title("Gold gained for the KL spent")
told = "PPO and DPO lie above SFT, well below the best answer, and below the optimum's curve."
plots.show(figure, alt=told)
kl, gold = [point.kl for point in frontier], [point.reward for point in frontier]
below = [e.gold.mean < np.interp(e.kl.mean, kl, gold) for e in (ppo, dpo)]
claims({"PPO and DPO are below the optimum at their KL": all(below)})

# %% [markdown] plane-after
# **Takeaway: preference training pays, and neither loop gets all that its KL could buy.** The optimum knows gold;
# PPO and DPO know some 1,700 labels of people who err. Where the line is dotted, few samples carry it. Chapter 5
# shows what beta does in this plane, chapter 8 how to move in it.

# %% [markdown] fault
# ## A fault in the first part passes into the second
#
# Same SFT model, same pairs of answers, same loops. One thing changes: the people. Twenty **flattery-loving**
# people, careful in everything else, to whom one "great question !" is worth two standard deviations of
# quality.
#
# **Will the reward model look worse on its own held-out labels? And what will the policy do?**

# %% biased
# NBVAL_IGNORE_OUTPUT
flatterers = annotators.flattery_loving_population(SEED, bias=2)
biased_pairs = here.pairs(answers, flatterers, seed=SEED)
biased_score, biased_accuracy = reward_model_of(biased_pairs)
biased = here.evaluate(trained(train.ppo, prompts, biased_score, **PPO), score=biased_score)
biased_dpo = here.evaluate(trained(train.dpo, biased_pairs[:-300], **DPO))
for texts, gold in zip(biased.texts[:3], biased.sample_gold, strict=False):
    print(f"gold {gold[0]:+.1f}  {texts[0]}")
claims({"the biased reward model predicts its labels better": biased_accuracy.rate > accuracy.rate})

# %% biased-figure
figure, axes = plt.subplots(1, 2, figsize=(9.2, 3.2))
by = {"SFT": sft, "PPO": ppo, "PPO,\nbiased": biased, "DPO": dpo, "DPO,\nbiased": biased_dpo}
axes[0].bar_label(axes[0].bar(list(by), [e.flattery for e in by.values()], color=plots.REJECTED), fmt="%.2f")
axes[0].set_title("Flattering sentences per answer")
plots.stage_gold(axes[1], {name: e.gold for name, e in by.items()}).set_title("Gold")
told = "On biased labels PPO flatters in most answers and has far less gold; DPO flatters, too, but less."
plots.show(figure, alt=told)
claims({
    "the biased PPO flatters at least three times as often as SFT": biased.flattery > 3 * sft.flattery,
    "and has at least 0.3 less gold than PPO for the course's people": biased.gold.mean < ppo.gold.mean - 0.3,
    "more than half of what PPO gained is gone": biased.gold.mean < (sft.gold.mean + ppo.gold.mean) / 2,
    "the biased DPO flatters more often than SFT, too": biased_dpo.flattery > sft.flattery + 0.1,
    "but less than two thirds as often as the biased PPO": biased_dpo.flattery < biased.flattery * 2 / 3,
})

# %% [markdown] fault-after
# **Takeaway: nothing that training can see looks worse than before; only the answers are worse.** The reward model
# predicts its labels even better than the first one did: flattery is easy to see, and all twenty want it. PPO gives
# them what they want, and most of the gold that preference training had gained is gone, in this run all of it. No later
# stage can repair this, because no later stage knows more about what is good than the labels do.
#
# DPO has no reward model to carry the fault, and it arrives all the same: the SFT model flattered now and then, DPO on
# these pairs does so about twice as often. PPO goes further, because it asks its reward model again after every round;
# DPO has only the pairs and, with these settings, stays near the SFT model. Chapter 11 compares the two.
#
# The way back is through the parts. Does the policy get what the reward asks? Does the reward model get what
# the labels ask? Do the labels ask for what we want? Chapter 7 is about labels.

# %% [markdown] failures
# ## How each stage fails
#
# Five failures, each shown once, in miniature. Chapter 12 has the full story of the second; chapters on the last three
# are still to come.
#
# **1. Incoherence** (SFT was too short; the cure is more of it). The same model, trained for 40 steps in place of 600.
# **What will it say?**

# %% incoherence
# NBVAL_IGNORE_OUTPUT
early = models.tiny_lm(tokenizer, "xs", seed=SEED)
train.finish(train.sft(early, tokenizer, demonstrations, steps=40, learning_rate=1e-2, seed=SEED))
unready = here.evaluate(early)
print(*(texts[0] for texts in unready.texts[:4]), sep="\n")
claims({"it is at least one point of gold below SFT": unready.gold.mean < sft.gold.mean - 1})

# %% [markdown] hacking-text
# Preference training can only choose among what the model already says. Here there is nothing good to choose.
#
# **2. Reward hacking** (no pull to the reference; chapter 12). PPO again, with the course's annotators, but
# beta 0 and larger steps. We look at score and gold along the way. **What happens to each?**

# %% hacking
hacked = models.trainable_copy(here.sft)
path = [here.evaluate(hacked, score=score)]
settings = {"beta": 0.0, "iterations": 20, "learning_rate": 1e-3, "seed": SEED}
loop = train.ppo(hacked, here.sft, tokenizer, prompts, score, **settings)
path += [here.evaluate(hacked, score=score) for number, _ in enumerate(loop, 1) if number % 5 == 0]
kl, scores, gold = ([getattr(e, name).mean for e in path] for name in ("kl", "score", "gold"))
figure, ax = plt.subplots()
plots.over_optimisation(ax, kl, scores, gold).set_title("Reward hacking: no pull to the reference")
plots.show(figure, alt="The score rises and stays high as KL grows; gold peaks early and falls far below its start.")
claims({
    "the score ends at least 0.7 above its start": scores[-1] > scores[0] + 0.7,
    "and not below where it was at gold's peak (by more than 0.1)": scores[-1] > scores[np.argmax(gold)] - 0.1,
    "gold ends half a point below its start, or more": gold[-1] < gold[0] - 0.5,
})

# %% [markdown] hacking-after
# **Takeaway: at first both rise, then gold falls and the score does not tell.** The policy has found answers that the
# reward model likes and that nobody ever labelled. In a real project only the dashed line exists.

# %% [markdown] losses-text
# **3. Mode collapse** and **4. Forgetting.** Back to PPO with beta 0.1, which we were content with. What did the
# policies give up that nobody spoke about?
#
# An answer has a *form*: which sentences follow one another (filler, flattery, definition, uses, closing). We count
# the forms among the 512 answers of a policy, a rare one counting less than a common one: $e^{\text{entropy}}$, the
# *effective number*. And we ask each policy to count, the second skill, which no annotator ever judged. **Will PPO
# use more forms than SFT, or fewer? Can the policies still count?**

# %% variety-and-counting
# NBVAL_IGNORE_OUTPUT
variety, counting = {}, {}
policies = {"SFT": here.sft, "PPO": ppo_policy, "DPO": dpo_policy, "hacked": hacked}
for (name, policy), e in zip(policies.items(), (sft, ppo, dpo, path[-1]), strict=True):
    variety[name] = evaluate.effective_number([world.form(text) for texts in e.texts for text in texts])
    counting[name] = evaluate.second_skill_accuracy(policy, tokenizer, world, samples=4, seed=SEED).rate
    print(f"{name:>6}: {variety[name]:4.1f} forms, {counting[name]:.0%} of counts right")
kept = {name: rate / counting["SFT"] for name, rate in counting.items()}
claims({
    "PPO uses fewer than half as many forms as SFT": variety["PPO"] < variety["SFT"] / 2,
    "PPO and DPO kept at least half of the counting": min(kept["PPO"], kept["DPO"]) > 0.5,
    "the hacked policy kept less than either": kept["hacked"] < min(kept["PPO"], kept["DPO"]) - 0.1,
})

# %% [markdown] losses-after
# Variety falls under PPO, in spite of the pull. Here that is mostly good riddance: filler and flattery are gone. But
# nothing in the objective knows which variety is worth keeping.
#
# With the pull to the reference most of the counting is still there (how much differs from seed to seed); without it
# much is gone. Nobody punished counting. The policy went elsewhere, and only that pull holds on to what no label
# mentions.

# %% [markdown] reward-collapse-text
# **5. Reward collapse.** Take two prompts with eight answers each. One is open: the true rewards
# run evenly from 0 to 1. One is closed: one answer is right, seven are worth next to nothing. Annotators rank
# the eight. Fit rewards in [0, 1], free to take any value, to the two *rankings*. **Will the fitted rewards
# tell the prompts apart?**

# %% reward-collapse
golds = {"open": torch.linspace(1, 0, 8), "closed": torch.tensor([1.0, *[0.01 * k for k in range(7, 0, -1)]])}
fitted = {}
for name, gold in golds.items():
    better, worse = torch.nonzero(gold[:, None] > gold).T  # all that a ranking says
    logits = torch.zeros(8, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.1)
    for _ in range(500):
        reward = torch.sigmoid(logits)
        loss = -F.logsigmoid(reward[better] - reward[worse]).mean()
        optimiser.zero_grad(), loss.backward(), optimiser.step()
    fitted[name] = reward.detach()
    print(f"{name:>6}  gold", *(f"{x:.2f}" for x in gold), "  fitted", *(f"{x:.2f}" for x in fitted[name]))
claims({"the two prompts get the same rewards": torch.allclose(fitted["open"], fitted["closed"], atol=1e-3)})

# %% [markdown] reward-collapse-after
# They cannot: a ranking says who is before whom, never by how much, and both rankings are the same. A large
# enough reward model ends up giving every prompt the same spread of rewards (2305.17608).

# %% [markdown] agreement
# ## How far do people agree?
#
# All of this rests on labels. Two labels on the same pair *agree* when they are equal; **agreement** is the
# share of such pairs of labels that are equal, over all items. Exercise 2.1 asks you to write it.
#
# Each person compares with some noise. The *annotators' temperature* multiplies it (it is not the temperature of
# samples of chapter 1): 1 is our usual population, and at 2 everybody's noise is twice as large. We give 600 pairs to
# five people each. The last column is the share of single labels that the best possible reward model could predict,
# one that knows all twenty people but not who will be asked.
#
# The figure shows the same for careful people, too, with two published agreements as levels; every point was really
# run, and the button runs it again with other draws. **What will agreement be at a very high temperature: 0, or
# something else? Which column is larger? With which people does agreement fall faster?**

# %% agreement-and-noise
features = annotators.random_features(600, generator=np.random.default_rng(0))
agreements, ceilings = [], []
for temperature in (0.25, 0.5, 1, 2, 8):
    noisy = annotators.population(SEED, scale=1.6 / temperature)
    votes = annotators.label_pairs(noisy, features, per_item=5, generator=np.random.default_rng(1))
    agreements.append(agreement.percent_agreement(agreement.group_by_item(votes)))
    ceilings.append(agreement.ceiling_from_annotators(noisy, features).best)
    print(f"temperature {temperature:>4}: agreement {agreements[-1]:.2f}, best reward model {ceilings[-1]:.2f}")
falls = agreements == sorted(agreements, reverse=True)
claims({"agreement falls at every step and stays above one half": falls and agreements[-1] > 0.5})
claims({"the best reward model is always above agreement": all(np.array(ceilings) > agreements)})
widgets.agreement_against_noise()

# %% [markdown] agreement-after
# Not 0: with two labels to choose from, people who toss coins agree half of the time. And even at a quarter of
# the noise agreement is not 1, because one of the twenty always tosses a coin and the hurried ones sometimes
# do. Careful people begin higher, near 95 %, and fall further. Some of the course's twenty hardly look at the answers,
# so their agreement has little to lose.
#
# The ceiling lies *above* agreement: in a pair of labels two people err, in model against label only one. So our
# reward model, right on two labels in three, is not a bad one. **Noise lowers agreement, and with it what any reward
# model can reach.** Your own 68 or 72 % means nothing until you know under which ceiling it lies.

# %% [markdown] annotator-text
# ## Be the annotator
#
# Twenty pairs of answers of the SFT model, four of them twice with the sides turned. Choose by any taste you like
# (correct, short, friendly), but keep to it. Click, or use the keys 1, 2, 0 (tie) and U (undo). Labels are
# saved at once; you can come back tomorrow.
#
# Then let the desk say how far you agree with yourself, with five careful people, and with gold; and let it
# train a reward model and two policies on your labels, in half a minute. **Will a machine have your taste after
# twenty labels?** (It tries from eight on; from about thirty on it usually succeeds.)

# %% annotator
# NBVAL_IGNORE_OUTPUT
widgets.Annotator(here, count=24, repeats=4)

# %% [markdown] traps
# ## Five traps
#
# Each gives a wrong number without any error message.
#
# **Trap 1: orientation.** One file shows the pair as (A, B), another as (B, A). "first" then means two things.
# Turn every pair into one order before grouping. Below 600 items are labelled by two careful people each, and
# half of the second labels are left turned round.
#
# **Trap 2: one person, two votes.** In MT-Bench somebody judged the same pair twice. Agreement with oneself is
# not agreement between people. Below Ada voted twice, Ben once.
#
# **What will the turned labels say? And which is right for Ada and Ben?**

# %% traps-1-and-2
votes = annotators.label_pairs(people[:12], features, per_item=2, generator=np.random.default_rng(1))
canonical = agreement.group_by_item(votes)
other = {"first": "second", "second": "first"}
turned = [[a, other[b]] if item % 2 else [a, b] for item, (a, b) in enumerate(canonical)]
twice = [("item 1", "Ada", "first"), ("item 1", "Ada", "first"), ("item 1", "Ben", "second")]
groups = {
    "one orientation": canonical,
    "half of them turned": turned,
    "Ada twice": agreement.group_by_item(twice),
    "Ada once": agreement.group_by_item(twice, repeats="first"),
}
for name, labels in groups.items():
    print(f"{name:>19}: agreement {agreement.percent_agreement(labels):.2f}")

# %% [markdown] traps-3-and-4-text
# Half of the second labels now say the opposite of what was meant: no better than coins. And Ada and Ben do not
# agree at all; Ada only agrees with herself.
#
# **Trap 3: ties.** Is a tie a third label, or nothing, or half of an agreement? All are in use; the answers
# differ, so a figure without its rule means little.
#
# **Trap 4: unequal numbers of labels.** An item with 2 labels has one pair, an item with 10 has 45. Pool the
# pairs, and items with many labels dominate; average over items, and each counts the same. And **unanimity**, the share of items on
# which all say the same: **what happens to it when more of the *same* people are asked?**

# %% traps-3-and-4
labels = [["first", "first"], ["first", "tie"], ["tie", "tie"], ["second", "tie"], ["first", "second"]]
for rule in ("three-way", "drop", "half"):
    print(f"ties, {rule}: agreement {agreement.percent_agreement(labels, ties=rule):.2f}")
labels = [["first", "first"], ["second", "second"], ["first", "second"] * 5]
for average in ("pairs", "items"):
    print(f"average over {average}: agreement {agreement.percent_agreement(labels, average=average):.2f}")
for per_item in (2, 3, 5, 10):
    votes = annotators.label_pairs(people, features, per_item=per_item, generator=np.random.default_rng(1))
    labels = agreement.group_by_item(votes)
    agreed, unanimous = agreement.percent_agreement(labels), agreement.unanimity(labels).unanimous
    print(f"{per_item:>2} labels each: agreement {agreed:.2f}, unanimous {unanimous:.2f}")

# %% [markdown] trap-5-text
# Agreement does not care how many are asked; unanimity does. Never compare two shares of unanimous items that
# come from different numbers of labels.
#
# **Trap 5: kappa.** Kappa asks how far agreement lies beyond chance, as a share of the most it could:
#
# $$\kappa = \frac{\text{agreement} - \text{chance}}{1 - \text{chance}}$$
#
# and takes chance from the shares of the labels. First, two raters call 95 of 100 items "fine" and agree on 90.
# Then two people compare 100 pairs and agree on 90, too. Last, the same labels again, where we only rename the
# sides so that rater 1's winner is always "first". **Three times 90 of 100. Three times the same kappa?**

# %% trap-5
split = [("first", "second")] * 5 + [("second", "first")] * 5
sides = [("first", "first"), ("second", "second")] * 45 + split
said_by_two = {
    "fine or bad": [("fine", "fine")] * 90 + [("fine", "bad")] * 5 + [("bad", "fine")] * 5,
    "sides at random": sides,
    "rater 1's winner first": [(a, b) if a == "first" else (other[a], other[b]) for a, b in sides],
}
for name, labels in said_by_two.items():
    rate, kappa = agreement.percent_agreement(labels), agreement.cohen_kappa(*zip(*labels, strict=True))
    print(f"{name:>22}: agreement {rate:.2f}, kappa {kappa:z.2f}")

# %% [markdown] trap-5-after
# Two raters who say "fine" 95 % of the time and look at nothing would agree on $.95^2 + .05^2 = 90.5\,\%$, so
# $\kappa = (.90 - .905)/(1 - .905)$. Kappa is right to be unimpressed: on the ten items that anybody called bad,
# they never agreed.
#
# But with left/right labels chance is of our own making: which answer is called the first is arbitrary. Agreement
# is the same, kappa falls from .80 to 0. The people did not change, only the names did. For pairs report
# agreement with its tie rule first; if you need a kappa, enter each item in both orientations
# (`agreement.symmetrised_agreement`).

# %% [markdown] real-data
# ## Real people
#
# **MT-Bench** published the votes of its human judges. Its authors report how often two experts agree in the first
# turn: on {{published:mtbench-with-ties}} of 721 pairs of votes when ties count, and on
# {{published:mtbench-without-ties}} of 479 without ties. If you have the file `human.jsonl` of
# *lmsys/mt_bench_human_judgments*, put its path below, or in a terminal run `prefcourse agreement FILE`. (Online, the
# name of the data set will do.) You should find both numbers exactly. The same cell reads any CSV
# or JSONL with columns for item, annotator and label.
#
# **HH-RLHF cannot answer the question.** The best-known public preference set (2204.05862) has *one* label per
# pair. **What is the agreement of one label?**

# %% your-file
print("one label per pair: agreement", agreement.percent_agreement([["first"], ["second"], ["first"]]))
FILE = None  # "path/to/human.jsonl"
if FILE:
    from prefcourse.data import read_votes

    expert = read_votes(FILE, where=["turn=1", "judge^=expert"])
    labels = agreement.group_by_item(agreement.without_repeats(expert.votes))
    for rule in ("three-way", "drop"):
        agreeing, of = agreement.count_pairs(labels, ties=rule)
        print(f"{rule}: {agreeing:.0f} of {of} pairs of votes agree, {agreeing / of:.0%}")
    print("traps met:", expert.traps)

# %% [markdown] one-label
# With one label there is no pair of labels, and agreement is undefined: not 0, not 1, but `nan`. Any agreement
# quoted for HH-RLHF was measured on labels that were not published.

# %% [markdown] summary
# ## In five lines
#
# 1. SFT copies the demonstrators; it cannot tell good from usual.
# 2. A reward model turns noisy comparisons into a score, up to a ceiling that the people's noise sets.
# 3. PPO and DPO turn what was learnt into a policy, and pay in KL.
# 4. A taste that annotators share arrives in the policy, while nothing that training sees looks wrong.
# 5. Agreement needs two labels per item, one orientation, one vote per person and a stated tie rule.

# %% [markdown] questions
# ## Three questions
#
# **1.** Your reward model is right on 72 % of held-out labels. A colleague says that a larger one would reach
# 90 %. What do you ask for?
#
# <details><summary>Answer</summary>
#
# The agreement of the annotators, on items with two labels or more. If they agree as ours do, three times in
# four, the ceiling for *single labels* is near 82 %, for a model of any size (the green line). Clearer guidelines
# raise the ceiling; parameters do not.
# </details>
#
# **2.** After PPO the mean score is higher than ever and users complain. Where do you look first?
#
# <details><summary>Answer</summary>
#
# At the KL from the reference and at some answers. If KL is large and answers look strange, the policy left the
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
# | | published | here | why they differ |
# |---|---|---|---|
# | agreement of two people | TL;DR: researchers {{published:tldr-researchers}}, labelers with researchers {{published:tldr-labeler-researcher}}. InstructGPT: labelers {{published:instructgpt-labelers}}, held-out people {{published:instructgpt-held-out}} | about three in four | no difference to explain: the noise of our population was set to this range |
# | agreement of MT-Bench's experts | with ties {{published:mtbench-with-ties}}, without {{published:mtbench-without-ties}} | the same, from the file | the same votes |
# | preference training pays | {{published:instructgpt-small-beats-large}} | gold up by more than 0.25 | theirs is people's choice, ours the true reward |
# | score up, truth down | the score rises with KL, gold peaks and falls (2210.10760) | beta 0: score up and stays up, gold ends below its start | their gold is a larger reward model, ours a program |
# | same rewards for all prompts | late in training, the same spread for each prompt (2305.17608) | equal to three decimals | theirs a network, ours a free table |

# %% [markdown] further
# ## Further reading
#
# - InstructGPT, the three stages at scale: arXiv 2203.02155
# - Learning to summarize from human feedback (TL;DR): arXiv 2009.01325
# - DPO: arXiv 2305.18290. PPO: arXiv 1707.06347
# - Reward over-optimisation: arXiv 2210.10760. Reward collapse: arXiv 2305.17608
# - MT-Bench and its human votes: arXiv 2306.05685. HH-RLHF: arXiv 2204.05862
#
# **Next:** exercises 2.1 to 2.5, in `exercises/02_preference_optimization_overview.ipynb`. Then chapter 3: why DPO
# needs no reward model.

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
# always, they agree on most items without looking. **How far do they agree beyond chance, as a share of
# the most that is possible?** That is Cohen's kappa (1960):
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
# - `gold`: the share predicted by a model that knows the truth and always says it;
# - `best`: the largest share for any model that sees the pair but not who was asked.
#
# Every pair weighs the same. Without pairs both are `float("nan")`.
#
# By hand first: one person says "first" with probability 0.9, another with 0.3. The second response is better.


# %% answer-2-5
def reward_model_ceiling(
    probability_first: list[list[float]],
    first_is_better: list[bool],
) -> tuple[float, float]:
    """What share of single labels is predicted by a model that knows the truth (gold)?
    And by the best model that knows the crowd but not who was asked (best)?
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
