# Chapter 1. `prefcourse build 01` makes the three notebooks of this script; see prefcourse/build/script.py.

# %% [markdown] title
# # 1 · Why Alignment?
#
# **Key insight.** A language model is trained to say what people *would* say. We want it to say what is *good*.
# These are two different objectives. The first is called likelihood, and whoever maximises it copies the average
# author, mistakes and bad manners included. No amount of the same training closes that gap.
#
# **After this chapter you can**
# - say what a language model computes, and find the log-probability of an answer, word by word;
# - pre-train a small one, fine-tune it on demonstrations (SFT), and say in which single line the two differ;
# - show why the best imitator is exactly as good as the average of its authors;
# - tell apart three ways of changing an imitator: other authors, colder samples, another objective.
#
# **Time.** 40 minutes to read; all cells together take about half a minute on one CPU core.
#
# **Before.** You know what a softmax and a logarithm are, and have trained some network in PyTorch. No other
# chapter is needed.
#
# **How to read.** Most cells are preceded by a question in bold. Decide on an answer, run the cell, then read on.
# What the text claims is computed: `claims` prints each claim that holds and stops at one that does not.

# %% setup
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch

from prefcourse import evaluate, models, plots, rollout
from prefcourse.backbone import response_logprobs
from prefcourse.claims import claims
from prefcourse.progress import quiet_transformers
from prefcourse.sequences import encode
from prefcourse.train.common import Optimiser, warmup_cosine
from prefcourse.worlds.pocket import PocketWorld

quiet_transformers()
torch.set_num_threads(1)
plt.rcParams.update(plots.STYLE)
SEED = 0

# %% [markdown] world-text
# ## A pocket of English
#
# Whether an answer is good is usually a matter of opinion. To measure anything we need a place where it is not. So
# this course has a small world of its own, **PocketWorld**: forty things, what each is used for, questions about
# them, and answers of one to three sentences. A program knows the facts. It reads any answer and says what the
# answer is truly worth, in points. This true reward is called **gold**. No real project has it. We do, and so we
# can always tell whether training made the answers better.
#
# Here are one question and five answers. **Put them in order, best first. Then run the cell.**

# %% five-answers
world = PocketWorld()
questions = world.prompts("demonstrations")  # forty things, each asked about in four ways
QUESTION = "what is python used for ?"
ANSWERS = {
    "right": "python is a language . people use it for scripting and plotting .",
    "flattering": "great question ! python is a language . people use it for scripting .",
    "half wrong": "python is a language . people use it for milking .",
    "look it up": "look it up .",
    "a thing": "yeah . it is a thing .",
}
for name, answer in ANSWERS.items():
    print(f"{name:>10}  gold {world.gold(QUESTION, answer):+.1f}  {answer}")
    print(*(f"{points:+22.1f}  {reason}" for points, reason in world.explain(QUESTION, answer)), sep="\n")

# %% [markdown] authors-text
# Facts earn points, mistakes and empty phrases cost some. A complete answer, with three right uses and a friendly
# closing, is worth 2.7.
#
# Who writes answers? In this chapter two kinds of **authors**. *Curt* ones write whatever gets rid of the question.
# *Helpful* ones know the facts, mostly, and take the time. A crowd of authors is a mix of both.


# %% authors
def crowd(helpful, count, seed=SEED):
    """Answers of a crowd: a share `helpful` of them by helpful authors, the others by curt ones."""
    draw, rows = np.random.default_rng(seed), []
    for question in draw.choice(questions, count):
        quality = "good" if draw.random() < helpful else "poor"  # the world's words for helpful and curt
        rows.append({"prompt": str(question), "response": world.demonstration(question, draw, quality)})
    return rows


def gold_of(rows):
    return np.mean([world.gold(**row) for row in rows])


for share in (0, 0.5, 1):
    print(f"{share:4.0%} helpful authors: mean gold {gold_of(crowd(share, 2000)):+.1f}")
best = world.gold(QUESTION, world.best_answer(QUESTION))  # the same for every question

# %% [markdown] lm-text
# ## What a language model is
#
# A **language model** reads a text and gives a probability to every word that could come next. That is all it
# does. The words it knows are its *vocabulary*; ours has some 140 (real models use pieces of words, *tokens*, and
# know a hundred thousand). To answer a question, it draws one word from these probabilities, appends it, reads
# again and draws the next, until it draws the special word `<eos>`, the end.
#
# Ours is called **TinyLM**: the same kind of network as the large ones, a transformer, with a hundred thousand
# parameters. Nothing is trained yet. **After "what is python used for ?", how likely is "python"? How likely is
# "banana"?**


# %% next-word
def next_word(model, text):
    """log p of every word of the vocabulary, as the next one."""
    ids = tokenizer(text, return_tensors="pt").input_ids  # (1, T): each word as a number
    with torch.no_grad():
        return model(input_ids=ids).logits[0, -1].log_softmax(-1)  # (V,)


tokenizer = world.tokenizer()
untrained = models.tiny_lm(tokenizer, "xs", seed=SEED)
probabilities = next_word(untrained, QUESTION).exp()
known = tokenizer.get_vocab()  # word: its number
print(f"{len(known)} words; if all were equally likely, each would have {1 / len(known):.3f}")
print(f"p(python) = {probabilities[known['python']]:.3f}; banana is in the vocabulary: {'banana' in known}")

# %% [markdown] chain-text
# About as likely as any other word, and a word outside the vocabulary cannot be said at all.
#
# ### The log-probability of an answer
#
# How likely is a whole answer $y$ to a question $x$? (The literature calls them *response* and *prompt*, and so does
# our code.) Every word must be drawn, one after the other, so the probabilities multiply:
#
# $$\pi(y \mid x) = \prod_t \pi(y_t \mid x, y_{<t})
# \qquad\Rightarrow\qquad
# \log \pi(y \mid x) = \sum_t \log \pi(y_t \mid x, y_{<t})$$
#
# Here $y_t$ is word number $t$ of the answer and $y_{<t}$ all words before it. $\pi$ is the **policy**, which is
# what a language model is called when one thinks of it as somebody who chooses answers. Products of many small
# numbers vanish, so one adds logarithms. They are natural ones; their unit is called a *nat*. The end `<eos>` is
# a word like the others: whoever does not draw it has not stopped.
#
# **Which of the five answers will the untrained model find likeliest?**


# %% chain
def log_probability(model, prompt, response):
    text, total = prompt, 0.0
    for word in [*response.split(), "<eos>"]:
        total += next_word(model, text)[known[word]].item()
        text += f" {word}"
    return total


by_word = {name: log_probability(untrained, QUESTION, answer) for name, answer in ANSWERS.items()}
rows = encode(tokenizer, [QUESTION] * 5, list(ANSWERS.values()))  # the same for many rows at once
at_once = response_logprobs(untrained, rows).sum(1).detach()  # sums over the words of each answer
for name, answer in ANSWERS.items():
    print(f"{name:>10}: {len(answer.split()) + 1:2} words, log p = {by_word[name]:.0f}")
claims({"both ways give the same sums": np.allclose(list(by_word.values()), at_once, atol=1e-3)})

# %% [markdown] loss-text
# The shortest: every word costs about $\log 137 = 4.9$ nats, and the fewer the better. The model knows no facts
# and no manners, it only counts words.
#
# ## Learning from text
#
# Now somebody gives us text that people have written. The idea of all training below is one sentence: **make
# what they wrote likely.** Their answers are $y^{(1)}, y^{(2)}, \dots$ to questions $x^{(1)}, x^{(2)}, \dots$, and
# what one minimises is the mean of $-\log \pi$ over all words of all answers, the *negative log-likelihood*:
#
# $$\text{loss} = -\frac{1}{\text{number of words}} \sum_i \sum_t \log \pi\big(y^{(i)}_t \mid x^{(i)}, y^{(i)}_{<t}\big)$$
#
# In code the formula is the line `loss = ...`. The mask says which words count, a batch is 40 rows drawn at
# random, and the optimiser does what it does in any training.


# %% training
def train_on(model, data, *, steps, learning_rate, seed=SEED):
    optimiser = Optimiser(model, learning_rate, factor=warmup_cosine(steps))
    draw, losses = torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        batch = data.take(torch.randint(len(data), (40,), generator=draw))
        mask = batch.response_mask  # true on the words that count
        loss = -response_logprobs(model, batch)[mask].mean()
        losses.append(optimiser.step(loss)["loss"])
    return losses


def encoded(rows):
    return encode(tokenizer, [row["prompt"] for row in rows], [row["response"] for row in rows])


# %% [markdown] pretraining-text
# ### Pre-training: a forum
#
# A large model first reads a good part of the internet. Ours reads 6,000 threads of a forum. In most of them
# somebody asks, and one of the crowd answers: 60 % are curt, 40 % helpful. In every fifth thread nobody answers,
# and the next person asks something else. **Every** word counts here, those of the question, too. (Except the
# very first: nothing stands before it to predict it from.)
#
# **What is the loss before the first step? How low can it get: to 0?**

# %% pretraining
threads, draw = crowd(0.4, 6000), np.random.default_rng(SEED)
for row in threads[::5]:  # nobody answers; the next person asks something else
    row["response"] = str(draw.choice(questions))
forum = encoded(threads)
every_word = forum.attention_mask.clone()
every_word[:, 0] = False
base = models.trainable_copy(untrained)
losses = train_on(base, replace(forum, response_mask=every_word), steps=400, learning_rate=1.5e-2)
claims({
    "the loss begins near log 137 = 4.92": abs(losses[0] - np.log(137)) < 0.3,
    "it ends between 0.5 and 0.8": 0.5 < np.mean(losses[-20:]) < 0.8,
})

# %% [markdown] base-text
# Not to 0, however long one trains: nobody can know what the next person will ask or how polite they will be. What
# is left is the surprise that the text itself holds.
#
# The result is a **base model**. We ask it the 128 questions of the course, four times each. `measure` gives the
# mean gold of the answers, with its standard error: about as far as chance may have moved it (chapter 5). **You
# ask: "what is python used for ?" What will it say?**


# %% base
# NBVAL_IGNORE_OUTPUT
def answers_of(model, temperature=1.0, seed=SEED):
    asked = world.prompts("train") * 4
    generator = torch.Generator().manual_seed(seed)
    return rollout.sample(model, tokenizer, asked, max_new_tokens=32, generator=generator, temperature=temperature)


def measure(drawn):
    return evaluate.estimate(evaluate.gold_score(world)(drawn))


drawn = {"base": answers_of(base)}
print(f"mean gold {measure(drawn['base']).mean:.2f}", *drawn["base"].texts[:8], sep="\n- ")

# %% [markdown] sft-text
# It goes on as the forum would. It has learnt grammar and facts, and all its answers are likely ones. Some are
# good, many are not answers at all. It is not an assistant: nobody has told it which author to be.
#
# ### Fine-tuning: demonstrations
#
# So we hire people who write **demonstrations**: answers as they should be. We train on 3,000 of them for a short
# while, and only the words of the *answer* count. That is **supervised fine-tuning, SFT**. Loss and loop stay as they
# were; only the mask and the authors change.
#
# Our people have been told to be helpful. Three quarters are. **Which of the three faults of the base model will
# go away: questions instead of answers, curt answers, wrong facts?**


# %% sft
def imitate(share, seed=SEED):
    """A crowd's demonstrations, and the base model after SFT on them."""
    shown, model = crowd(share, 3000, seed=seed + 100), models.trainable_copy(base)
    train_on(model, encoded(shown), steps=90, learning_rate=7e-3, seed=seed)
    return shown, models.frozen_copy(model)


def share_of_curt(answers):
    return np.mean([text.startswith(("yeah", "it is", "look")) for text in answers.texts])


demonstrations, sft = imitate(0.75)

# %% sft-answers
# NBVAL_IGNORE_OUTPUT
drawn["SFT"] = answers_of(sft)
asks = {name: np.mean([text in questions for text in answers.texts]) for name, answers in drawn.items()}
curt = {name: share_of_curt(answers) for name, answers in drawn.items()}
print("      gold  questions  curt")
for name, answers in drawn.items():
    print(f"{name:>4} {measure(answers).mean:+.2f}  {asks[name]:9.0%}  {curt[name]:4.0%}")
print(*drawn["SFT"].texts[:8], sep="\n")

# %% sft-claims
gold = {name: measure(answers).mean for name, answers in drawn.items()}
claims({
    "base: more than a tenth of its answers are questions": asks["base"] > 0.1,
    "SFT: fewer than one in fifty": asks["SFT"] < 0.02,
    "SFT is at least half a point of gold above the base model": gold["SFT"] > gold["base"] + 0.5,
    "about a quarter of its answers are curt, as of its authors'": 0.17 < curt["SFT"] < 0.33,
    "it is below the mean of its demonstrations": gold["SFT"] < gold_of(demonstrations),
    "and more than 1.5 points below the best answers": gold["SFT"] < best - 1.5,
})

# %% [markdown] sft-after
# The questions are as good as gone: no demonstration shows one. The curt answers are not. A quarter of the
# demonstrators were curt, and so is a quarter of the model's answers. It cannot know that we did not mean *those*.
# Wrong facts stay, too: the small model mixes up which thing is used for what, and so its gold is below that of its
# demonstrations.
#
# ## Why imitation copies the average
#
# Is that a weakness of a small model? No. A model that learns *perfectly* does it exactly.
#
# Take one question and the five answers from above. Authors give answer $y$ with probability $p(y)$; the policy,
# with $\pi(y)$. Per answer the expected loss is $-\sum_y p(y) \log \pi(y)$, the *cross-entropy*. Add and
# subtract $\sum_y p(y) \log p(y)$:
#
# $$-\sum_y p(y) \log \pi(y) \;=\;
# \underbrace{-\sum_y p(y) \log p(y)}_{\text{entropy of the authors}} \;+\;
# \underbrace{\sum_y p(y) \log \frac{p(y)}{\pi(y)}}_{\mathrm{KL}(p,\,\pi)\;\ge\;0}$$
#
# The first part is the surprise that the authors hold, which no policy can change. The second, the
# *Kullback-Leibler divergence*, is 0 for $\pi = p$ and above 0 for any other policy (chapter 3 proves it in two
# lines). So there is **one** best policy for the loss: the authors' own habits. And then
#
# $$\mathbb E_{y \sim \pi}[\text{gold}] = \sum_y \pi(y)\,\text{gold}(y) = \sum_y p(y)\,\text{gold}(y) =
# \mathbb E_{\text{authors}}[\text{gold}].$$
#
# Gold stands nowhere in the loss, so it cannot be what is maximised. Let us try it, with five numbers (*logits*, whose
# softmax is the policy) and gradient descent. The gradient of the loss with respect to the logits is $\pi - p$.
# **What will the policy say most often?**

# %% table
authors = torch.tensor([0.10, 0.15, 0.30, 0.25, 0.20])
worth = torch.tensor([world.gold(QUESTION, answer) for answer in ANSWERS.values()])
logits = torch.zeros(5)
for _ in range(300):
    logits = logits - (logits.softmax(-1) - authors)  # minus the gradient of the cross-entropy
imitator = logits.softmax(-1)
for name, p, learnt, points in zip(ANSWERS, authors, imitator, worth, strict=True):
    print(f"{name:>10}: gold {points:+.1f}  authors {p:.2f}  policy {learnt:.2f}")
entropy = -(authors * authors.log()).sum()
claims({
    "the policy is the authors' mix": torch.allclose(imitator, authors, atol=1e-4),
    "its loss is their entropy": torch.isclose(-(authors * imitator.log()).sum(), entropy, atol=1e-4),
    "its gold is their mean gold": torch.isclose(imitator @ worth, authors @ worth, atol=1e-3),
})

# %% [markdown] sweep-text
# "half wrong", since the authors do.
#
# ## The figure of this chapter
#
# The theory is about a table, and a perfect learner. Does TinyLM obey it? We hire five crowds, from all curt to all
# helpful, and fine-tune the same base model on 3,000 demonstrations of each. Across: what the crowd's answers are
# worth. Up: what the model's answers are worth. **Where will the five points lie: on the diagonal, above it,
# or below? And how far from the best answers will the helpful crowd's model be?**

# %% sweep
SHARES = [0.0, 0.25, 0.5, 0.75, 1.0]
runs = {share: imitate(share) if share != 0.75 else (demonstrations, sft) for share in SHARES}
shown_gold = [gold_of(shown) for shown, _ in runs.values()]
sft_gold = [measure(answers_of(model)) for _, model in runs.values()]
figure, ax = plt.subplots()
ax.set_title("SFT against those whom it imitates (bars: 95 % intervals)")
names = {"xlabel": "gold of the demonstrations", "ylabel": "gold of the SFT model", "level_name": "best answers"}
plots.against_diagonal(ax, shown_gold, sft_gold, labels=[f"{share:.0%}" for share in SHARES], level=best, **names)
told = "SFT's gold rises with its crowd's: first on the diagonal, then below it, always far below the best."
plots.show(figure, alt=told)

# %% sweep-claims
distance = np.array(shown_gold) - [e.mean for e in sft_gold]
claims({
    "each better crowd makes a better model": (np.diff([e.mean for e in sft_gold]) > 0).all(),
    "no model is better than its crowd (by more than 0.1)": (distance > -0.1).all(),
    "none is more than 0.8 below it": (distance < 0.8).all(),
    "even the best one is a whole point below the best answers": sft_gold[-1].mean < best - 1,
})

# %% [markdown] sweep-after
# **Takeaway: SFT's gold tracks the gold of whoever is imitated, and does not exceed it.** Curt answers are easily
# copied, and the first point lies on the diagonal. Facts are not: a hundred thousand parameters mix them up at times
# after a few seconds of reading, and so the other points lie below. A *perfect* imitator, of whatever size, would lie
# on the diagonal. That is as good as imitation gets.
#
# So one way to a better model is better authors, and a good one (LIMA, below, went far with it). But it ends where
# the authors end. People can often *tell* a better answer without being able to write it each time.
#
# ### Which model would you deploy?
#
# Suppose that the half-and-half crowd is what you have, and each of the five models is a candidate. You keep 500
# more of the crowd's answers *held out*, away from all training, and compute each candidate's loss on them. This is
# what a training log shows. **Which models have the lowest loss? Which has the most gold?**

# %% deploy
# NBVAL_IGNORE_OUTPUT
held_out = encoded(crowd(0.5, 500, seed=SEED + 200))
with torch.no_grad():
    logprobs = [response_logprobs(model, held_out)[held_out.response_mask] for _, model in runs.values()]
held_out_loss = [-words.mean() for words in logprobs]
print("helpful authors   loss on held-out answers   gold")
for share, nll, measured in zip(SHARES, held_out_loss, sft_gold, strict=True):
    print(f"{share:15.0%} {nll:26.2f} {measured.mean:+6.2f}")
own, helpful = held_out_loss[2], held_out_loss[4]
claims({
    "the crowd's own imitator has the lowest loss, or one within 0.02 of it": own < min(held_out_loss) + 0.02,
    "that of the helpful crowd has a loss higher by 0.15 or more": helpful > own + 0.15,
    "and answers worth more by 0.8 or more": sft_gold[4].mean > sft_gold[2].mean + 0.8,
})

# %% [markdown] deploy-after
# By the log you would deploy the crowd's own imitator, or one of its neighbours, although another model's answers
# are worth about a point more. Nothing is wrong with the log: it answers the question that it was asked. **Likelihood
# asks "would they say this?" Nobody deploys a model for that.**
#
# ## Two ways away from the imitator
#
# How could one do better than the crowd, with the crowd's answers only? Here are two ways to change the
# probabilities of answers that the imitator gives already.
#
# **Colder.** Raise each probability to the power $1/T$ and rescale: what is frequent becomes more so. $T$ is the
# *temperature*; below 1, one says that samples are colder, and at $T = 0$ only the most frequent answer is left.
#
# **Tilted.** Multiply each probability by $e^{\text{gold}/\beta}$ and rescale: what is *good* becomes more
# frequent. $\beta$ says how much of the imitator should stay. With a very large $\beta$ the factors are all 1;
# near 0, only the best answer is left. (Of all policies with the same KL(policy, imitator), this one has the most
# gold. So it is *the* optimum of this course; chapter 3 derives it.)
#
# On the five answers both are exact. **Both leave the imitator, so both pay in likelihood. Which one will get more
# gold for it? And where does each end?**

# %% two-ways
temperatures, betas = np.linspace(1, 0.07, 60), np.geomspace(50, 0.3, 40)
tilt = torch.stack([(authors.log() + worth / beta).softmax(-1) for beta in betas])
cool = torch.stack([(authors.log() / T).softmax(-1) for T in temperatures])
policies = {"tilted, beta from 50 to 0.3": tilt, "colder, T from 1 to 0.07": cool}
paths = {name: (-(policy.log() @ authors), policy @ worth) for name, policy in policies.items()}  # loss, gold
figure, ax = plt.subplots()
ax.set_title("Five answers: everything but imitation costs likelihood")
ax.plot([entropy], [authors @ worth], "X", color=plots.REFERENCE, markersize=10, label="imitator")
plots.curves(ax, paths, xlabel="loss on the authors' answers (nats per answer)", ylabel="mean gold")
told = "From the imitator, which has the lowest loss, the tilt goes up to gold 2, colder samples stay below 0.5."
plots.show(figure, alt=told)

# %% two-ways-claims
(tilted_loss, tilted_gold), (colder_loss, colder_gold) = paths.values()
claims({
    "no policy on either path has a lower loss than the imitator": min(tilted_loss.min(), colder_loss.min())
    > entropy - 1e-6,
    "the tilt ends near the best answer's gold, 2": tilted_gold[-1] > 1.8,
    "colder samples lose gold at first": colder_gold.min() < authors @ worth - 0.1,
    "and never get beyond that of 'half wrong', 0.5": colder_gold.max() < 0.5,
    "for the same loss the tilt has more gold, all along": np.all(
        np.interp(colder_loss[1:], tilted_loss, tilted_gold) > colder_gold[1:].numpy()
    ),
})

# %% [markdown] colder-text
# **Takeaway: colder samples move to the most common answer, the tilt moves to the best one.** Here the best answer is
# the rarest, and it is the first that the cold takes away. That is the difference between sharpening what people say
# and asking for what they want.
#
# Colder samples are not bad by themselves. Where each author errs now and then but never in the same place, the
# most common answer has no error in it, and the imitator may rise above every one of its authors; this has been
# shown for chess (2406.11741). So our figure is about samples at $T = 1$, the policy as it is. We look at the
# coldest, $T = 0$. **For which of the five crowds will it help? For which not?**

# %% colder
# NBVAL_IGNORE_OUTPUT
coldest = {share: answers_of(model, temperature=0) for share, (_, model) in runs.items()}
cold_gold = [measure(answers).mean for answers in coldest.values()]
print("helpful authors   crowd   SFT, T = 1   SFT, T = 0")
for row in zip(SHARES, shown_gold, [e.mean for e in sft_gold], cold_gold, strict=True):
    print("{:15.0%} {:+7.2f} {:+12.2f} {:+12.2f}".format(*row))
claims({
    "a quarter helpful: at T = 0 more than two thirds are curt": share_of_curt(coldest[0.25]) > 2 / 3,
    "half and half: at T = 0 fewer than one in three": share_of_curt(coldest[0.5]) < 1 / 3,
    "and they have more gold than their crowd, by 0.2 or more": cold_gold[2] > shown_gold[2] + 0.2,
    "three quarters helpful: at T = 0 fewer than one in ten": share_of_curt(coldest[0.75]) < 0.1,
    "and more gold than at T = 1, by 0.2 or more": cold_gold[3] > sft_gold[3].mean + 0.2,
    "everybody helpful: still 0.9 or more below the best answers": cold_gold[4] < best - 0.9,
})

# %% [markdown] tilt-text
# It is a vote, held at every word. Where the curt are in the majority, the coldest model says what they say. Where three
# quarters are helpful, it hardly ever says anything but what the helpful say, and it has more gold than at $T = 1$. Half
# and half goes to the helpful, because the curt have three ways to begin and divide their votes; this cold model even
# rises above the mean of its crowd, as in the chess result. Where all are of one kind, there is less to vote out: the
# model of the helpful gains little or nothing, and if everybody is curt, what is left is one empty phrase, -0.6. Quality
# has no vote: what is best is often rare.
#
# ### The optimum, for a language model
#
# Can TinyLM be tilted, too? Its answers cannot be listed. But they can be drawn. We take the imitator of the
# half-and-half crowd, draw 32 answers to each question, ask the program what each is worth, and give it the
# weight $e^{\text{gold}/\beta}$. The weighted mean is the gold of the tilted policy. (For a small $\beta$ the best
# few of the 32 carry nearly all the weight, and the number comes out a little too low.) Nothing is trained. **How
# much better can this model become with what it already says?**

# %% tilt
# NBVAL_IGNORE_OUTPUT
half = runs[0.5][1]
many = evaluate.sample_gold(half, tokenizer, world, world.prompts("train"), samples=32, seed=SEED)  # (128, 32)
tilted = {}
for beta in (np.inf, 2.0, 1.0, 0.5, 0.25):
    weights = (many / beta).softmax(-1)  # each question's weights add up to 1
    tilted[beta] = (weights * many).sum(-1).mean().item()
    print(f"beta {beta:4}: gold {tilted[beta]:+.2f}")
claims({
    "beta = inf is the imitator itself": abs(tilted[np.inf] - sft_gold[2].mean) < 0.25,
    "at beta 0.5 it is more than a point better": tilted[0.5] > tilted[np.inf] + 1,
    "and better than the model of the helpful crowd": tilted[0.5] > sft_gold[4].mean,
})

# %% [markdown] tilt-after
# The imitator of a half-curt crowd can answer better than the imitator of an all-helpful one. It knows how; nobody ever
# asked it to. **That is the gap which alignment closes**: not between what a model can say and what it
# cannot, but between what it can say and what it does say.
#
# One thing in this cell does not exist outside PocketWorld: the program that knows gold. People cannot say that an
# answer is worth 1.7 points. But they can look at two answers and say which one is better. How to get a number per
# answer from such choices, and a policy from the numbers, is the rest of this course; chapter 2 goes through all of
# it once.

# %% [markdown] play-text
# ## Play
#
# Every frame is a model that was fine-tuned above, and answers that it gave. Orange is what the crowd's answers
# are worth, blue the model's. Move the share of helpful authors, then the temperature. **At which share does the
# coldest model change sides? Does it do so at the same share with new demonstrations?** (The button hires a new
# crowd and trains again, which takes some seconds.)

# %% play
from prefcourse.widgets.chapter01 import Imitation, imitation


def model_gold(model, temperature, seed=SEED):
    return evaluate.gold_score(world)(answers_of(model, temperature, seed)).tolist()


def run(seed, helpful, temperature):
    shown, model = imitate(helpful, seed)
    return Imitation([world.gold(**row) for row in shown], model_gold(model, temperature, seed))


TEMPERATURES = [1.0, 0.7, 0.4, 0.0]
crowd_gold = {share: [world.gold(**row) for row in shown] for share, (shown, _) in runs.items()}
kept = {(share, T): model_gold(runs[share][1], T) for share in SHARES for T in TEMPERATURES}
frames = {(share, T): Imitation(crowd_gold[share], golds) for (share, T), golds in kept.items()}
imitation(run, frames, helpful=SHARES, temperature=TEMPERATURES)

# %% [markdown] summary
# ## In five lines
#
# 1. A language model gives probabilities to next words; an answer's log-probability is the sum over its words,
#    the end included.
# 2. Pre-training and SFT minimise the same loss. SFT counts the words of the response only, and has other authors.
# 3. The loss is lowest where the policy is its authors' mix; then its gold is their mean gold, not a bit more.
# 4. Better authors make a better imitator, colder samples pick the most common answer; neither asks what is good.
# 5. Weighing answers by $e^{\text{gold}/\beta}$ does. It costs likelihood, and it needs to know gold.

# %% [markdown] questions
# ## Three questions
#
# **1.** Your SFT model is curt in a quarter of its answers. A colleague proposes to train it twice as long. What
# will happen?
#
# <details><summary>Answer</summary>
#
# If a quarter of the demonstrations are curt, nothing: a quarter is what the loss asks for. Facts may improve,
# until the model begins to memorise single demonstrations. Remove the curt demonstrations (if you can tell
# them), or change the objective.
# </details>
#
# **2.** Somebody averages the loss per answer first, and then over the answers, so that every *answer* counts
# alike. Does the imitator change?
#
# <details><summary>Answer</summary>
#
# Yes, it becomes curt. The loss is then $-\sum_y p(y) / n(y) \cdot \log \pi(y)$, with $n(y)$ words in answer $y$, and it
# is lowest at $\pi \propto p / n$: short answers count more. If half of the authors are curt and write 5 words where the
# others write 15, three quarters of this imitator's answers are curt. Nothing in the log shows it. Exercise
# 1.1 has it among its wrong answers. Reports of a loss should say what was averaged over.
# </details>
#
# **3.** The demonstrations come from experts only, and the SFT model is nearly as good. Is there any reason left
# for preference training?
#
# <details><summary>Answer</summary>
#
# Three. Experts judge faster than they write, so the same money buys more comparisons. The best answer may be one
# that no expert would write and everybody would prefer. And the loss looks at the experts' answers only. Whatever else
# the model says costs the same, harmless or harmful; a comparison of the model's own answers tells the two apart.
# </details>

# %% [markdown] classical
# ## The classical results beside ours
#
# | | published | here | why they differ |
# |---|---|---|---|
# | a larger imitator against a smaller model trained on preferences | InstructGPT: {{published:instructgpt-small-beats-large}} | not measured: our models are of one size | likelihood grows with size, what people want need not |
# | the same size, before and after alignment | outputs preferred to GPT-3's in {{published:instructgpt-175b}}; to GPT-3 with examples in its prompt in {{published:instructgpt-175b-few-shot}} | SFT at least half a point of gold above the base model | theirs is SFT and preferences together, judged by people; ours SFT only, judged by gold |
# | few, but good demonstrations | LIMA: {{published:lima-demonstrations}}; {{published:lima-gpt4}} | gold rises with each better crowd | theirs has 65 billion parameters and learnt its facts before; ours still learns facts from demonstrations |
# | imitators better than those whom they imitate | 2406.11741, chess at low temperature | at $T = 0$ the imitator of the half-and-half crowd has more gold than its crowd; that of the curt majority is curt | a vote removes errors that few make, and keeps those that most make |

# %% [markdown] further
# ## Further reading
#
# - InstructGPT: arXiv 2203.02155. The introduction is this chapter's argument, at scale.
# - LIMA, how far good demonstrations carry: arXiv 2305.11206
# - Transcendence, when an imitator rises above its authors: arXiv 2406.11741
# - Learning to summarize from human feedback, the same gap in summaries: arXiv 2009.01325
#
# **Next:** exercises 1.1 to 1.3, in `exercises/01_why_alignment.ipynb`. Then chapter 2: the whole pipeline once,
# with people in gold's place.
# %% [exercises]
# %% [markdown] title
# # 1 · Exercises: the loss, the gap, the temperature
#
# Three functions, about an hour. Write each body, run the cell, then run its check. When the first is right, it
# trains TinyLM, in a cell after it. A check calls your function on cases of its own and says which properties hold.
# If one does not, you see the first case that fails and the likeliest mistake.
#
# Every table comes as a tensor, in double precision where it holds fractions. A check prints tables as lists; to try
# such a case yourself, wrap each list in `torch.tensor(...)`, and where it has `inf` or `nan`, import these from
# `math`. Letters in the signatures are sizes: B rows, T columns (words), V words of the vocabulary in 1.1; P questions
# and V answers in 1.2 and 1.3.
#
# Stuck? Open the hints one at a time. The solved notebook is in `solutions/`, under the same name. In a terminal
# `prefcourse check 1` checks what you saved, and `prefcourse reset 1.1` gives you an exercise afresh.

# %% setup
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from prefcourse import evaluate, models, plots
from prefcourse.checks import NotWritten, check
from prefcourse.progress import quiet_transformers
from prefcourse.rollout import sample
from prefcourse.sequences import encode
from prefcourse.train import common
from prefcourse.widgets import live
from prefcourse.worlds.pocket import PocketWorld

quiet_transformers()
torch.set_num_threads(1)

# %% [markdown] question-1-1
# **How badly does this model predict what people answered?** Given is a batch of rows, each a question with its
# answer, as the model sees them: `input_ids`, the words as numbers; `logits`, what the model returned; and
# `response_mask`, true on the words of the answer, the end included. Return the SFT loss: the mean of $-\log p$ over
# all words that count, one number.
#
# - A model reads from the left, and its logits in column t are about the *next* word, that of column t + 1. The
#   shift is yours to make. The mask is never true in column 0.
# - A log-probability is what `log_softmax` over the V words makes of the logits.
# - Every word of the batch weighs the same, whether its answer is long or short.
# - Rows have unequal lengths, and padding fills them up, on the left or on the right. The mask is false there. The
#   logits of padding may hold anything, even `nan`, and none of it may reach the loss.
# - A row may have no answer: it adds nothing. If no row has one, the loss is 0.
# - Logits may be as large as 10,000, and the loss must stay finite.
# - It will be trained with: the check also compares the gradient.
#
# By hand first: two words, *a* and *b*. In column 0 the logits make both equally likely, in column 1 *a* has
# probability 3/4. The row is *a b a*, and the answer its last two words.


# %% answer-1-1
def sft_loss(
    logits: Float[Tensor, "B T V"], input_ids: Int[Tensor, "B T"], response_mask: Bool[Tensor, "B T"]
) -> Float[Tensor, ""]:
    """What is the mean of -log p over all words where the mask is true? 0 if there are
    none."""
    log_p = logits[:, :-1].log_softmax(-1)  # (B, T - 1, V): column t speaks of word t + 1
    of_the_words = log_p.gather(-1, input_ids[:, 1:, None])[..., 0]  # (B, T - 1)
    counted = response_mask[:, 1:]
    return -of_the_words.masked_fill(~counted, 0.0).sum() / counted.sum().clamp(min=1)


# %% [markdown] use-1-1-text
# **Your own SFT.** When 1.1 is solved, the second of these cells trains an untrained TinyLM on 3,000 helpful
# demonstrations with your loss, for some ten seconds, and plots the loss as it trains. **At which loss will it begin?**
# Then it answers.


# %% your-sft
def your_sft(model, tokenizer, rows, *, steps=200, learning_rate=1e-2, batch_size=64, seed=0):
    data = encode(tokenizer, [row["prompt"] for row in rows], [row["response"] for row in rows])
    optimiser = common.Optimiser(model, learning_rate, factor=common.warmup_cosine(steps))
    draw = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        batch = data.take(torch.randint(len(data), (batch_size,), generator=draw))
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask.long(), use_cache=False).logits
        loss = sft_loss(logits, batch.input_ids, batch.response_mask)
        yield optimiser.step(loss[0] if isinstance(loss, tuple) else loss)


def loss_curve(figure, history):
    plots.curves(figure.subplots(), {"loss": (range(1, len(history) + 1), [m["loss"] for m in history])}, ylabel="loss")


# %% use-1-1
# NBVAL_IGNORE_OUTPUT
if check("1.1", sft_loss).passed:
    world = PocketWorld()
    tokenizer, prompts = world.tokenizer(), world.prompts("train")
    yours = models.tiny_lm(tokenizer, "xs", seed=0)
    rows = world.demonstrations(3000, seed=0, quality="good", counting=0)
    log = live(your_sft(yours, tokenizer, rows), loss_curve)
    generator = torch.Generator().manual_seed(0)
    drawn = sample(yours, tokenizer, prompts * 4, max_new_tokens=32, generator=generator)
    authors_gold = np.mean([world.gold(row["prompt"], row["response"]) for row in rows])
    gold = evaluate.gold_score(world)(drawn).mean()
    print(f"loss {log[0]['loss']:.2f} -> {log[-1]['loss']:.2f}; gold {gold:.2f}, its authors' {authors_gold:.2f}")
    print(*(f"- {text}" for text in drawn.texts[:5]), sep="\n")
else:
    print("Here your loss will train TinyLM, once 1.1 is solved.")

# %% [markdown] question-1-2
# **How far is a policy from the best one, by each of two objectives?** Every question has V possible answers. Given
# are the policy's log-probabilities, the authors' probabilities, and the gold of each answer. Return two numbers,
# `(likelihood, gold)`, in this order, both means over the questions:
#
# - `likelihood`: by how much the policy's loss on the authors' answers, $-\sum_y p(y) \log \pi(y)$, is above the lowest
#   loss that any policy could have. In nats per answer.
# - `gold`: by how much the policy's mean gold, $\sum_y \pi(y)\,\text{gold}(y)$, is below that of the best policy of all.
#
# Probabilities may be 0, which needs some care:
#
# - An answer that no author gives (probability 0) adds nothing to the loss, even if the policy's log-probability of
#   it is `-inf`. The best answer may be such a one.
# - If an author gives an answer that the policy never gives, the first gap is `inf`.
# - Log-probabilities go down to -10,000. Use them as they are: $e^{-10000}$ is 0 to a computer, and there is no way back.
#
# By hand first: one question, two answers; the authors give each with probability 1/2, the policy with 3/4 and 1/4.
# Gold is 1 and 0. Which of the two gaps would the imitator close? And what would happen to the other?


# %% answer-1-2
def objective_gap(
    policy_logprobs: Float[Tensor, "P V"], author_probs: Float[Tensor, "P V"], gold: Float[Tensor, "P V"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """How far above the lowest possible loss, and how far below the best gold, is this
    policy? Two means over the questions: (likelihood, gold)."""
    weighed = torch.where(author_probs > 0, author_probs * policy_logprobs, 0.0)  # (P, V)
    likelihood = torch.special.xlogy(author_probs, author_probs) - weighed
    best = gold.max(-1).values  # (P,)
    return likelihood.sum(-1).mean(), (best - (policy_logprobs.exp() * gold).sum(-1)).mean()


# %% [markdown] use-1-2-text
# **From one objective to the other.** The five answers of the chapter, from the imitator to the policy that is
# tilted nearly all the way to the best answer. **One gap closes on the way. How far does the other one open?**

# %% use-1-2
authors = torch.tensor([[0.10, 0.15, 0.30, 0.25, 0.20]], dtype=torch.float64)
gold = torch.tensor([[2.0, 1.2, 0.5, -0.6, -1.2]], dtype=torch.float64)
tilted = {beta: (authors.log() + gold / beta).log_softmax(-1) for beta in (np.inf, 4.0, 2.0, 1.0, 0.5, 0.25, 0.1)}
try:
    gaps = {beta: objective_gap(policy, authors, gold) for beta, policy in tilted.items()}
    print("beta   likelihood   gold")
    for beta, (likelihood, short) in gaps.items():
        print(f"{beta:4}  {float(likelihood):z11.2f}  {float(short):z5.2f}")
except NotWritten as missing:
    print(missing)

# %% [markdown] question-1-3
# **What gold does a policy earn if its samples are drawn colder, or warmer?** At temperature $T$ an answer's
# probability is $\pi(y)^{1/T}$, rescaled so that the probabilities of a question add up to 1. Given are
# log-probabilities and gold, a row for each question. Return the mean gold of the samples, averaged over the questions.
#
# - At temperature 0 only the likeliest answer is left. If several are equally likely, they share alike.
# - An answer with log-probability `-inf` is never given, at any temperature.
# - Temperatures go down to 0.001, log-probabilities to -10,000.
# - A temperature below 0 is a mistake: raise `ValueError`.
#
# By hand first: two answers with probabilities 3/4 and 1/4, their gold 0 and 1. What is the mean gold at
# temperature 1? At 1/2? At 0?


# %% answer-1-3
def gold_at_temperature(
    logprobs: Float[Tensor, "P V"], gold: Float[Tensor, "P V"], temperature: float
) -> Float[Tensor, ""]:
    """What is the mean gold of samples at this temperature, mean over the questions?
    Raises ValueError below 0."""
    if temperature < 0:
        raise ValueError(f"temperature={temperature}: expected 0 or more")
    if temperature == 0:
        likeliest = (logprobs == logprobs.max(-1, keepdim=True).values).to(gold.dtype)  # (P, V)
        policy = likeliest / likeliest.sum(-1, keepdim=True)
    else:
        policy = (logprobs / temperature).softmax(-1)
    return (policy * gold).sum(-1).mean()


# %% [markdown] use-1-3-text
# **Three crowds.** In the first the right answer is the most common one, and there are many ways to err. In the second
# the most common one is curt. In the third nearly everybody gives the same mediocre answer, and one in ten knows better.
# **Which of them should sample cold?**

# %% use-1-3
crowds = {
    "mostly right": ([0.40, 0.15, 0.15, 0.15, 0.15], [2.0, 0.5, 0.5, 0.0, 0.0]),
    "mostly curt": ([0.25, 0.15, 0.10, 0.40, 0.10], [2.0, 1.0, 0.5, -0.6, -1.2]),
    "one expert": ([0.10, 0.80, 0.05, 0.03, 0.02], [2.7, 0.5, 0.5, -0.6, -1.2]),
}
temperatures = (1.0, 0.7, 0.4, 0.1, 0.0)
tables = {name: (torch.tensor([p]).log(), torch.tensor([golds])) for name, (p, golds) in crowds.items()}
try:
    earned = {name: [gold_at_temperature(*table, T) for T in temperatures] for name, table in tables.items()}
    print("temperature ", *(f"{T:5}" for T in temperatures))
    for name, golds in earned.items():
        print(f"{name:12}", *(f"{float(mean):5.2f}" for mean in golds))
except NotWritten as missing:
    print(missing)
