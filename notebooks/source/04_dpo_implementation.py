# Chapter 4. `prefcourse build 04` makes the three notebooks of this script; see prefcourse/build/script.py.

# %% [markdown] title
# # 4 · DPO Implementation
#
# **Key insight.** The DPO loss is five lines, and one look shows whether they are right. Their input, the
# log-probabilities of whole responses, is the hard part: a shift, a mask and a sum. Those are easy to get wrong, and
# if they are wrong, nothing crashes. The loss falls, sometimes faster than it should, and the policy learns
# something else, or nothing.
#
# **After this chapter you can**
# - turn a pair of texts into tokens, and logits into the log-probability of a response;
# - write the loss and the training loop of DPO, and say what the first line of its log must be;
# - read from a log that both responses become rarer, and explain why;
# - see which words a trained policy blames, and which it praises;
# - find a silent mistake with two short tests.
#
# **Time.** 55 minutes to read; all cells together take half a minute on one CPU core, a minute the first time.
#
# **Before.** Chapter 3 (implicit reward, margin, the DPO loss), and of chapter 1 the log-probability of an answer
# and the training loop.
#
# **How to read.** Most cells are preceded by a question in bold. Decide on an answer, run the cell, then read on.

# %% [markdown] lab-text
# As in chapter 2, the SFT model wrote eight pairs of answers to each question of PocketWorld, and for each pair one
# of twenty people said which answer is better. `lab` trains that SFT model once, which takes up to half a
# minute, and keeps it; it is our **reference**. The last hundred pairs are held out.

# %% setup
from itertools import islice, product

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F

from prefcourse import annotators, evaluate, models, plots, rollout, train
from prefcourse.claims import claims
from prefcourse.lab import lab
from prefcourse.logprobs import sequence_logprobs, token_logprobs
from prefcourse.sequences import Sequences, concatenate, encode
from prefcourse.train.common import Optimiser, warmup_cosine
from prefcourse.train.supervised import encode_pairs, epochs_of, pair_lengths, steps_in

torch.set_num_threads(1)
plt.rcParams.update(plots.STYLE)
SEED = 0
here = lab(SEED)
tokenizer, reference = here.tokenizer, here.sft
pairs = here.pairs(here.answers(8, seed=SEED), annotators.population(), seed=SEED)
train_pairs, held_out = pairs[:-100], pairs[-100:]

# %% [markdown] tokens-text
# ## From text to tokens
#
# A policy does not see texts. It sees rows of numbers, one per token, and all rows of a batch have the same
# width. Here is one pair. Our tokenizer makes one token of each word, so the rows can be read.
#
# Two masks go with the rows. `attention_mask` is true on all real tokens and false on padding; `response_mask`
# is true on the tokens of the response. **How many tokens of each row belong to the response?**

# %% tokens
PROMPT, CHOSEN, REJECTED = "what is sql used for ?", "sql is a language .", "look it up ."
pair = encode(tokenizer, [PROMPT, PROMPT], [CHOSEN, REJECTED])
words = [tokenizer.convert_ids_to_tokens(row) for row in pair.input_ids.tolist()]
for column, (chosen, rejected) in enumerate(zip(*words, strict=True)):
    marks = ["response" if mask[column] else "" for mask in pair.response_mask]
    print(f"{column:>2}  {chosen:<9}{marks[0]:<12}{rejected:<9}{marks[1]}")

# %% [markdown] tokens-after
# Six and five: the end token `<eos>` counts. To stop is a decision of the policy, too, and it can only be
# trained where it is counted. The shorter row is filled with `<pad>`, which belongs to nobody.
#
# ## The off-by-one
#
# A language model reads a row and gives, in every column, a distribution over the **next** word. So the
# prediction of a token stands one column to its left:

# %% shift
figure, ax = plt.subplots(figsize=(8.6, 2.1))
row = slice(0, 11)  # without padding
plots.shift_diagram(ax, words[1][row], pair.response_mask[1, row].tolist())
alt = """The row 'what is sql used for ? look it up . <eos>' twice; arrows lead from each column to the
    next. Green, and counted: the five that end in 'look it up . <eos>'; the first begins in the prompt's
    last token."""
plots.show(figure, alt=alt)

# %% [markdown] shift-after
# Two ends are worth a look. The first word of the response is predicted from the *last token of the prompt*.
# And what the model says after `<eos>` predicts nothing that we have.
#
# Chapter 1 fed the model one word after the other, and added up:
#
# $$\log\pi(y \mid x) = \sum_t \log\pi(y_t \mid x, y_{<t})$$
#
# Here one pass over the row gives all terms at once. For one row without padding that is three lines. **Which of
# the five tokens will be the least expected?**


# %% one-row
# NBVAL_IGNORE_OUTPUT
def logprobs_of(logits, input_ids, prompt_length):
    """log p of each token of one response; logits (T, V), input_ids (T,)."""
    log_p = logits.log_softmax(-1)  # (T, V): in each column, over the next word
    before = log_p[prompt_length - 1 : -1]  # (R, V): the column before each response token
    return before.gather(-1, input_ids[prompt_length:, None])[:, 0]  # (R,): of the words that came


with torch.no_grad():
    logits = reference(input_ids=pair.input_ids[1:, row]).logits[0]  # (11, V)
by_token = logprobs_of(logits, pair.input_ids[1, row], prompt_length=6)
for token, logprob in zip(words[1][6:11], by_token, strict=True):
    print(f"{token:>6}  log p {logprob:z6.2f}   p {logprob.exp():.2f}")
print(f"   sum  log p {by_token.sum():6.2f}   p {by_token.sum().exp():.2f}")

# %% [markdown] forget-text
# One decision and its consequences: "look" is one of several ways to begin, and once it is said, "it up ."
# follows by itself. Then a second decision: to stop here, or to say more.
#
# **Now forget the shift: look every token up in its own column. Will the sum be higher or lower?** A hint: the
# logits of a column were computed from its own token.

# %% forget
# NBVAL_IGNORE_OUTPUT
own_column = logits.log_softmax(-1)[6:].gather(-1, pair.input_ids[1, row][6:, None]).sum()
print(f"shifted {by_token.sum():.0f}, not shifted {own_column:.0f}")
claims({"not shifted, the answer seems at least e^20 times less likely": own_column < by_token.sum() - 20})

# %% [markdown] forget-after
# Much lower. It asks how likely every word is to be said twice ("look look it it up up"), and nobody talks like
# that. Here one sees at once that something is wrong. In DPO one does not: the loss sees only *differences*
# of such numbers. We come back to this.
#
# ## Many rows at once
#
# Training reads 128 rows at a time. The same arithmetic on (B, T, V) is in `prefcourse.logprobs`:
# `token_logprobs` puts $\log p$ of each response token into its own column and exactly 0 everywhere else;
# `sequence_logprobs` sums them. You will write it in exercise 4.1. Two short functions ask a model for logits,
# and for such sums.
#
# A batch must not change what a row says. **Where could padding creep in: in the model, in the shift, in the
# mask, in the sum?** We compute the sum of "look it up ." beside a longer response, so that it is padded on the
# right, and with three columns of padding on the left. Both must be what it was alone.


# %% padding
def logits_of(model, rows):
    seen = rows.attention_mask.long()
    return model(input_ids=rows.input_ids, attention_mask=seen, use_cache=False).logits


def sums_of(model, rows, sums=sequence_logprobs):
    return sums(logits_of(model, rows), rows.input_ids, rows.response_mask)  # (B, T, V) -> (B,)


names = ("input_ids", "attention_mask", "response_mask")  # the padding token has number 0, and 0 is False
to_the_left = Sequences(*(F.pad(getattr(pair, name), (3, 0)) for name in names))
for side, rows in {"right": pair, "left": to_the_left}.items():
    with torch.no_grad():
        in_company = sums_of(reference, rows)[1]
    same = torch.isclose(in_company, by_token.sum(), atol=1e-4)
    claims({f"padded on the {side}: the same sum as alone": same})

# %% [markdown] loss-text
# ## From sums to a loss
#
# Now chapter 3 in five lines. The implicit reward of a response is $\beta$ times its log-ratio, the margin of a
# pair is the reward of `chosen` minus that of `rejected`, and the loss is
# $-\log\sigma(\text{margin})$, averaged over the batch. The rows hold all chosen responses first, then all
# rejected ones in the same order: one forward pass serves both.
#
# Before the first step the policy *is* the reference. **What is the loss then, for $\beta$ 0.1 and for $\beta$
# 5? Which pairs pull, and how hard?** (In chapter 3 the gradient with respect to a log-probability was
# $\mp\beta\,\sigma(-\text{margin})$.)


# %% loss
def loss_of_pairs(logprobs, ref_logprobs, beta):
    rewards = beta * (logprobs - ref_logprobs)  # (2B,)
    chosen_rewards, rejected_rewards = rewards.chunk(2)  # (B,) each
    margins = chosen_rewards - rejected_rewards  # (B,)
    loss = -F.logsigmoid(margins).mean()
    return loss, margins


ref_logprobs = torch.tensor([-4.0, -7.0, -3.0, -9.0])  # two pairs: chosen, chosen, rejected, rejected
logprobs = ref_logprobs.clone().requires_grad_()
for beta in (0.1, 5.0):
    loss, _ = loss_of_pairs(logprobs, ref_logprobs, beta)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    print(f"beta {beta}: loss {loss:.4f}, gradient", [f"{slope:+.3f}" for slope in gradient])

# %% [markdown] loss-after
# $\log 2 = 0.6931$, at every $\beta$: all margins are 0. And $\beta/2$ for every response, divided by the two
# pairs of the batch: minus for the chosen ones, whose log-probability is to rise, plus for the rejected ones.
# **A healthy DPO log begins with 0.6931.** If yours does not, policy and reference were not computed alike. If
# it does, that proves less than one would like.
#
# Why `logsigmoid`, and not the logarithm of a sigmoid? Because $\sigma(-120) \approx e^{-120}$ is 0 in single
# precision, and its logarithm minus infinity. The loss of such a pair is a harmless 120.
#
# ## The training loop
#
# Tokens, logits, sums, loss: put together they are the training. Everything that is specific to DPO stands in
# the middle: the same rows go through the reference (without gradient) and through the policy (with).


# %% loop
BATCH_SIZE = 64  # pairs


def dpo(policy, pairs, *, sums=sequence_logprobs, beta=0.1, epochs=4, learning_rate=5e-4, seed=SEED):
    chosen, rejected = encode_pairs(tokenizer, pairs)
    steps = steps_in(epochs, len(chosen), BATCH_SIZE)
    optimiser = Optimiser(policy, learning_rate, factor=warmup_cosine(steps))
    for rows in epochs_of(pair_lengths(chosen, rejected), BATCH_SIZE, steps, seed):
        both = concatenate(chosen.take(rows), rejected.take(rows))
        with torch.no_grad():
            ref_logprobs = sums_of(reference, both, sums)
        loss, margins = loss_of_pairs(sums_of(policy, both, sums), ref_logprobs, beta)
        yield optimiser.step(loss) | {"accuracy": (margins > 0).float().mean().item()}


# %% [markdown] predict-text
# The package's `train.dpo` has the same order, the same names and, as a test confirms, the same losses. It is
# faster: it asks the reference once before training (a reference never changes), and asks for logits only
# where a response stands.
#
# Now the whole run. Every seventh step we look at the held-out pairs, on which it does not train.
#
# **Three predictions, please. Where will the loss end? Which share of the held-out pairs will be in the right
# order? And the log-probability of the chosen responses: will it rise?**


# %% run
def look(policy):
    now, before = (evaluate.pair_logprobs(model, tokenizer, held_out) for model in (policy, reference))
    chosen_moved, rejected_moved = (a - b for a, b in zip(now, before, strict=True))  # log-ratios
    right = (chosen_moved > rejected_moved).float()
    return chosen_moved.mean().item(), rejected_moved.mean().item(), right.mean().item()


policy, log, visited = models.trainable_copy(reference), [], {0: reference}
for metrics in dpo(policy, train_pairs):
    log.append(metrics)
    if len(log) % 7 == 0:
        visited[len(log)] = models.frozen_copy(policy)
looks = {step: look(model) for step, model in visited.items()}
policy, last = models.frozen_copy(policy), looks[max(looks)]

# %% run-figure
figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.4))
losses = [metrics["loss"] for metrics in log]
plots.curves(axes[0], {"loss": (range(1, len(log) + 1), losses)}, ylabel="loss (training batches)")
axes[0].axhline(0.6931, color=plots.REFERENCE, linestyle=":")
axes[0].set_title("The loss falls from log 2")
chosen_moved, rejected_moved, _ = zip(*looks.values(), strict=True)
plots.chosen_and_rejected(axes[1], list(looks), chosen_moved, rejected_moved)
axes[1].set_title("Both responses become rarer (held-out pairs)")
alt = """Left: the loss falls from 0.69 to about 0.6, noisily. Right: log-probabilities fall, of rejected
    responses by almost 2 nats, of chosen ones by almost 1."""
plots.show(figure, alt=alt)

# %% [markdown] run-measure-text
# **Takeaway: the margin grows while both responses become rarer.** The loss asks for chosen responses, and got fewer
# of them. (The deep dips of the loss, once per epoch, are a batch of the few longest pairs that were left over.)
# **Did the policy become worse?** We sample from it and let the world read.

# %% run-claims
# NBVAL_IGNORE_OUTPUT
sft, trained = here.evaluate(reference), here.evaluate(policy)
chosen, rejected, right = last
print(f"chosen {chosen:+.1f}, rejected {rejected:+.1f} nats; held-out pairs in order: {right:.0%}")
print(f"gold {sft.gold.mean:.2f} -> {trained.gold.mean:.2f}; the policy now says")
print(*(texts[0] for texts in trained.texts[:3]), sep="\n")
claims({
    "the log begins with log 2": abs(losses[0] - 0.6931) < 1e-4,
    "chosen responses became rarer, by 0.3 nats or more": chosen < -0.3,
    "rejected ones by at least 0.7 nats more than those": rejected < chosen - 0.7,
    "60 to 85 % of the held-out pairs are in the right order": 0.6 < right < 0.85,
    "gold rose by at least 0.5": trained.gold.mean > sft.gold.mean + 0.5,
})

# %% [markdown] displacement
# Better, by more than half a point: the worth of one right use. So where did the probability of both answers
# go? To *other* answers. Both had been sampled from the reference, so both are what it says anyway. The policy
# moves to answers that were rare before. Here those are better answers, because what the rejected ones have
# in common ("look it up .") is bad for every question.
#
# It need not go well. A loss of differences does not care where the probability goes. When
# Llama-3-8B-Instruct was trained to refuse unsafe prompts, its rate of refusals *fell*,
# {{published:dpo-displaced-refusals}}. So draw **both** curves, always. A falling chosen curve is no alarm by
# itself; it says: look at samples.
#
# The usual log shows $\beta$ times these two curves as `rewards/chosen` and `rewards/rejected`.

# %% [markdown] heat-text
# ## Which words are blamed?
#
# A log-ratio is a sum over tokens, too. So we can see where in a response it comes from:
#
# $$\log\frac{\pi(y \mid x)}{\pi_{\text{ref}}(y \mid x)} = \sum_t
# \log\frac{\pi(y_t \mid x, y_{<t})}{\pi_{\text{ref}}(y_t \mid x, y_{<t})}$$
#
# We take two held-out pairs. The first is the one with the largest difference in gold. The second has the largest
# difference among the pairs whose two responses begin with the same ten tokens.
#
# A label says "this response rather than that". It names no word, and the gradient with respect to the
# log-probability of a token is the same for all of them. **Will all words of the rejected response be blamed alike?**


# %% heat
def log_ratios(model, row):
    both = encode(tokenizer, [row["prompt"]] * 2, [row["chosen"], row["rejected"]])
    ids, mask = both.input_ids, both.response_mask
    with torch.no_grad():
        new, old = (token_logprobs(logits_of(m, both), ids, mask) for m in (model, reference))  # (2, T)
    tokens = [tokenizer.convert_ids_to_tokens(ids[side][mask[side]]) for side in (0, 1)]
    numbers = [(new - old)[side][mask[side]].tolist() for side in (0, 1)]
    return {"chosen": (tokens[0], numbers[0]), "rejected": (tokens[1], numbers[1])}


def gap(row):
    return here.world.gold(row["prompt"], row["chosen"]) - here.world.gold(row["prompt"], row["rejected"])


alike = [row for row in held_out if row["chosen"].split()[:10] == row["rejected"].split()[:10]]
shown = [max(held_out, key=gap), max(alike, key=gap)]

# %% heat-figure
figure, axes = plt.subplots(2, 1, figsize=(8.8, 5.6))
for ax, row in zip(axes, shown, strict=True):
    plots.token_heat_map(ax, log_ratios(policy, row), limit=1, label="log-ratio (nats)")
    ax.set_title(row["prompt"])
alt = """Two pairs, token by token. Most tokens are white; single ones orange or blue: a response's first
    word, some uses. In the second pair the first tokens have the same colours in both rows."""
plots.show(figure, alt=alt)

# %% [markdown] heat-claims-text
# Most words are white. Now all held-out pairs. Of which tokens was the reference unsure, and of which nearly
# certain? **What share of the tokens carries most of the movement?**

# %% heat-claims
# NBVAL_IGNORE_OUTPUT
both = concatenate(*encode_pairs(tokenizer, held_out))
with torch.no_grad():
    logits_now, logits_before = logits_of(policy, both), logits_of(reference, both)
now, before = (token_logprobs(x, both.input_ids, both.response_mask) for x in (logits_now, logits_before))
moved, p = (now - before)[both.response_mask].abs(), before[both.response_mask].exp()
tokens, carry = {}, {}
for name, kind in {"p < 0.5": p < 0.5, "p > 0.99": p > 0.99}.items():
    tokens[name], carry[name] = kind.float().mean(), moved[kind].sum() / moved.sum()
    print(f"{name:>8} before training: {tokens[name]:.0%} of tokens, {carry[name]:.0%} of the movement")
claims({"under 1/3 of the tokens carry over 80 %": tokens["p < 0.5"] < 1 / 3 and carry["p < 0.5"] > 0.8})
claims({"over 1/2 of them carry under 10 %": tokens["p > 0.99"] > 1 / 2 and carry["p > 0.99"] < 0.1})

# %% [markdown] heat-after
# **Takeaway: blame and praise fall on the few words at which there was a choice.** "people use it for" follows
# by itself once the sentence is begun; no policy can make it much likelier.
#
# Why is that so, if the gradient with respect to every $\log p$ is the same? Because the parameters do not move
# $\log p$, they move logits. With $\log p_k = z_k - \log\sum_j e^{z_j}$,
#
# $$\frac{\partial \log p_k}{\partial z_k} = 1 - p_k$$
#
# which is nearly 0 for a word that is nearly certain. Nobody tells DPO which word was wrong. It finds out,
# because choices are made at few words, and over many pairs the bad ones stand more often in rejected
# responses. (That DPO gives credit to single tokens, and what the theory says of it, is the subject of "From r
# to Q*", 2404.12358.)
#
# ## What a pair shares, cancels
#
# Look at the second pair once more. Up to the first word that differs, both rows have **the same colours**: the
# same tokens after the same tokens. In the margin one row is subtracted from the other, and that part is gone. From
# this pair such words get no gradient at all; what moved them are other pairs.
#
# The prompt is the extreme case: both responses have the same one. Let $P$ be the sum over the prompt's
# tokens, $C$ and $R$ those over the responses, and let a prime mark the reference's. If somebody forgets to
# mask the prompt, DPO's margin is
#
# $$\beta\big[(P + C) - (P' + C')\big] - \beta\big[(P + R) - (P' + R')\big]
# = \beta\big[(C - C') - (R - R')\big],$$
#
# the same as before. SimPO (2405.14734) has no reference and takes the *mean* over the tokens, so that long
# responses have no disadvantage. With $p$ tokens in the prompt, $c$ and $r$ in the responses:
#
# $$\beta\left[\frac{P + C}{p + c} - \frac{P + R}{p + r}\right] \neq
# \beta\left[\frac{C}{c} - \frac{R}{r}\right]$$
#
# $P$ stays where the lengths differ. Where they do not, it cancels, and the margin still shrinks, to $c/(p + c)$
# of its size. **By how much do SimPO's margins change on our held-out pairs? Does any pair change its order?**


# %% prompt
# NBVAL_IGNORE_OUTPUT
def margins_of(mask):
    now, before = (sequence_logprobs(x, both.input_ids, mask) for x in (logits_now, logits_before))
    rewards = torch.stack([0.1 * (now - before), 2.0 * now / mask.sum(1)])  # (2, 2B): DPO's, SimPO's
    chosen_rewards, rejected_rewards = rewards.chunk(2, dim=1)
    return chosen_rewards - rejected_rewards  # (2, B), at the usual beta of each


prompt_too = F.pad(both.attention_mask[:, 1:], (1, 0))  # the first token is predicted from nothing
masked, not_masked = margins_of(both.response_mask), margins_of(prompt_too)
size, change = masked.abs().mean(1), (not_masked - masked).abs().mean(1)
turned = (masked * not_masked < 0).float().mean(1)
for n, name in enumerate(("DPO", "SimPO")):
    print(f"{name:>5}: a mean margin of {size[n]:.1f} changes by {change[n]:z.1f}; {turned[n]:.0%} turn")
claims({"DPO: no margin changes": torch.allclose(masked[0], not_masked[0], atol=1e-3)})
claims({"SimPO: changes exceed margins, over 1/20 turn": change[1] > size[1] and turned[1] > 1 / 20})

# %% [markdown] prompt-after
# So DPO forgives this mistake. SimPO does not, and neither does IPO (2310.12036) in TRL, Hugging Face's library for
# training on preferences, which computes it from means. And even DPO forgives only if both rows hold the *same*
# prompt: where a long row was cut at its left end to fit, they do not. Exercise 4.3 works that out. Mask the prompt,
# and there is nothing to remember.
#
# ## Fifty ways to get it wrong
#
# Here are five, each a small change to the right line. Such things happen to careful people. A user of MaxText found
# that it read the log-probabilities of a prompt in each token's own column (AI-Hypercomputer/maxtext, issue 2103).
# And where the padding token is also the end token, as in many recipes, whoever masks the padding masks the end
# (huggingface/trl, issue 976).

# %% mistakes
EOS = tokenizer.eos_token_id
variants = {
    "right": sequence_logprobs,
    "no shift": lambda logits, ids, mask: sequence_logprobs(logits.roll(-1, dims=1), ids, mask),
    "mask shifted twice": lambda logits, ids, mask: sequence_logprobs(logits, ids, F.pad(mask[:, :-1], (1, 0))),
    "mean, not sum": lambda logits, ids, mask: sequence_logprobs(logits, ids, mask) / mask.sum(1),
    "padding counted": lambda logits, ids, mask: sequence_logprobs(logits, ids, mask.cumsum(1) > 0),
    "<eos> forgotten": lambda logits, ids, mask: sequence_logprobs(logits, ids, mask & (ids != EOS)),
}

# %% [markdown] logs-text
# Four runs: the right one and the first three mistakes. Same pairs in the same order, same settings. You see
# what you would see at work: their logs, smoothed over an epoch. **Three of them are wrong. Which run would you
# keep?**

# %% logs
logs, policies = {"right": log}, {"right": policy}
for name in ("no shift", "mask shifted twice", "mean, not sum"):
    policies[name] = models.trainable_copy(reference)
    logs[name] = train.finish(dpo(policies[name], train_pairs, sums=variants[name]))
letters = {"A": "mean, not sum", "B": "right", "C": "no shift", "D": "mask shifted twice"}
figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.4))
for ax, metric in zip(axes, ("loss", "accuracy"), strict=True):
    smooth = {n: np.convolve([m[metric] for m in logs[n]], np.ones(14) / 14, "valid") for n in logs}
    lines = {letter: (range(14, 14 + len(smooth[n])), smooth[n]) for letter, n in letters.items()}
    plots.curves(ax, lines, ylabel=f"{metric}, mean of 14 steps")
plots.show(figure, alt="Losses of A to D fall, C's furthest, A's least; accuracies rise to 0.7 to 0.8.")
spread = np.ptp([line[-1] for line in smooth.values()])
claims({"at the end all accuracies are within 0.12 of each other": spread < 0.12})

# %% [markdown] reveal-text
# By their accuracies they are much alike; by its loss C is far ahead. Now what no real log contains:

# %% reveal
# NBVAL_IGNORE_OUTPUT
measured = {letter: here.evaluate(policies[name]) for letter, name in letters.items()}
gold, kl = ({x: getattr(e, key).mean for x, e in measured.items()} for key in ("gold", "kl"))
won = {x: (gold[x] - sft.gold.mean) / (gold["B"] - sft.gold.mean) for x in gold}
end = {letter: np.mean([m["loss"] for m in logs[name][-14:]]) for letter, name in letters.items()}
print(f"{'':>20}  loss at the end   gold (SFT {sft.gold.mean:.2f})    KL")
for x, name in letters.items():
    print(f"{x} {name:>18}  {end[x]:15.2f}  {gold[x]:16.2f}  {kl[x]:4.1f}")
claims({"C: the lowest loss, and nothing won": end["C"] == min(end.values()) and won["C"] < 0.2})
claims({"D: B's loss, and under 2/3 of what B won": abs(end["D"] - end["B"]) < 0.04 and won["D"] < 2 / 3})
claims({"A: its loss is hardly below log 2 = 0.69": 0.66 < end["A"] < 0.69})
claims({"yet it moved more than half as far as B, by KL": kl["A"] > kl["B"] / 2})

# %% [markdown] mistakes-after
# **Takeaway: the log of a wrong run can look better than the right one's, just like it, or as if nothing were
# learnt.** B is right.
#
# - **C, no shift**, has by far the lowest loss and learnt nothing. In its own column a policy says how likely a
#   word is to be *repeated*. Nobody repeats words, so these numbers are free. The policy moves them until the
#   pairs are told apart, and its samples hardly notice.
# - **D, the mask shifted twice** (somebody shifts it and calls a function that shifts it again), leaves out the
#   first word of every response, and counts what follows its end. The heat map shows why that hurts: "look it up ."
#   is decided at its first word. The log looks like the right one's.
# - **A, the mean instead of the sum**, divides every margin by the length. The pull to the reference is in the
#   margin, so it is divided, too: as if $\beta$ were some fourteen times smaller. The loss says that nothing was
#   learnt, while the policy moved about as far as B's, and is nearly as good. What is wrong is that neither $\beta$
#   nor the log means what it says. Whoever trusts the log will raise the learning rate. At twice the rate it still
#   looks timid, and the policy has run away: its gold is at least 0.3 below B's.
#
# The two others: if **padding counts**, part of the margin is made on words that nobody will ever say, as in C.
# Without **`<eos>`** the log is as it should be, gold too, and answers are longer by a word or two. (These two, and A
# at twice the rate, are not run here. `tests/test_chapter04.py` runs them, and asserts these sentences.)
#
# ## Two tests that find them
#
# The log is not a test: it compares a function with itself. A test needs a second road to the same number.
#
# 1. **Alone as in company.** A row has the same sum alone and in a batch with others.
# 2. **The sampler's own sum.** Whoever draws a response word by word knows the probability of each word, and
#    would talk nonsense if the shift were wrong. Let the sampler write the logarithms down. Then feed the
#    finished row through your function: the sums must be equal.
#
# And the test that everybody knows: the loss begins with $\log 2$. **Which of the five mistakes does each of
# the three find?**

# %% tests
generator = torch.Generator().manual_seed(SEED)
drawn = rollout.sample(reference, tokenizer, here.prompts[:16], max_new_tokens=32, generator=generator)
rows, by_the_sampler, passed = drawn.sequences, drawn.logprobs.sum(1), {}
print(f"{'':18}  log 2   alone   sampler")
for name, sums in variants.items():
    with torch.no_grad():
        together = sums_of(reference, rows, sums)
        alone = torch.cat([sums_of(reference, rows.take([i]), sums) for i in range(len(rows))])
    begins_with, _ = loss_of_pairs(together, together, 0.1)
    passed[name] = [torch.allclose(begins_with, torch.tensor(2.0).log())]
    passed[name] += [torch.allclose(together, other, atol=1e-3) for other in (alone, by_the_sampler)]
    print(f"{name:>18}  " + "   ".join("passes" if result else "FAILS " for result in passed[name]))

# %% [markdown] tests-after
# Everything begins with $\log 2$: that test finds none. *Alone as in company* finds the two mistakes that depend on
# padding. The sampler's own sum finds all five, and costs one forward pass. Write it before the training loop, and
# run it again whenever the tokenizer, the model or the chat template changes (the words that are set around prompt
# and response).
#
# It has one blind spot: it uses your own rows, and cannot know how the model was *meant* to read them. To find a
# template that says `<eos>` twice, or one start token too many, look at one row, token by token, as at the top of
# this chapter.
#
# ### A third road: somebody else's code
#
# The package's functions are held to TRL's, by tests (`tests/test_trl_parity.py`). TRL's own DPO trainer puts a
# batch together; policy and reference are two different random models, so that nothing is 0 by accident. On that
# batch the loss, every metric of the same name and **the gradient of every weight** agree within $10^{-5}$, at
# $\beta$ 0.1 and 1 (large gradients within a ten-thousandth of their size). Gradients say more than losses: they
# also show that both stop the gradient at the same places. What such a test cannot show is that both are right; the
# sampler's can.

# %% [markdown] play-text
# ## Play
#
# The heat map while training goes on, every seventh step. **In which step does the first word move, and which
# is it? Does another order of the pairs (the button trains anew, for a few seconds) blame other words?**

# %% play
from prefcourse.widgets.chapter04 import token_credit

by_prompt = {row["prompt"]: row for row in (*shown, *held_out[:4])}


def run(seed, step, pair):
    again = models.trainable_copy(reference)
    train.finish(islice(dpo(again, train_pairs, seed=seed), step))
    return log_ratios(again, by_prompt[pair])


looked_at = product(visited, by_prompt)  # (step, prompt)
frames = {(step, pair): log_ratios(visited[step], by_prompt[pair]) for step, pair in looked_at}
token_credit(run, frames, step=list(visited), pair=list(by_prompt))

# %% [markdown] summary
# ## In five lines
#
# 1. Logits in column $t$ predict token $t + 1$; the log-probability of a response is the *sum* over its tokens,
#    `<eos>` included, prompt and padding not.
# 2. The loss is $-\log\sigma$ of the difference of two implicit rewards; it begins with $\log 2$, right or
#    wrong.
# 3. A growing margin does not mean that chosen responses become likelier: draw both curves, and look at
#    samples.
# 4. Blame and praise fall on the few words at which there was a choice; what a pair shares, cancels, and so
#    does the prompt, but only in sums.
# 5. A log compares a function with itself. Test log-probabilities against the sampler, and a row alone
#    against the same row in a batch.

# %% [markdown] questions
# ## Three questions
#
# **1.** Your DPO log begins with a loss of 0.52. What do you look for?
#
# <details><summary>Answer</summary>
#
# Policy and reference did not give the same log-probabilities, though they are the same model. Dropout in one
# of them; another precision; reference sums that were computed once, with another padding, template or
# checkpoint; chosen and rejected swapped on one side. It is not $\beta$: that scales a margin of 0.
# </details>
#
# **2.** Both curves fall, the margin grows. A colleague wants to add the SFT loss of the chosen responses. What
# do you say?
#
# <details><summary>Answer</summary>
#
# First samples and KL. In this chapter both curves fell and gold rose. If samples did become worse, such a term
# is one known cure (DPO-Positive, 2402.13228, is another), and a larger $\beta$ a simpler one. It has a price:
# it pulls towards what SFT does already, mistakes of the chosen responses included.
# </details>
#
# **3.** A tokenizer has no padding token, and somebody sets `pad_token = eos_token`. The mask is
# `input_ids != pad_token_id`. Which of the five mistakes is that, and what will you see?
#
# <details><summary>Answer</summary>
#
# `<eos>` forgotten: the true end of each response is masked like padding. The log looks healthy. Stopping is no
# longer trained, and the samples grow longer. Build the mask from lengths, not from token ids.
# </details>

# %% [markdown] classical
# ## The classical results beside ours
#
# | | published | here | why they differ |
# |---|---|---|---|
# | log-probabilities in the reference code (github.com/eric-mitchell/direct-preference-optimization) | shift inside, gather, times mask, sum | shift inside, gather, only where the mask is true | the same number; but a product lets `nan` through |
# | the loss there | $-\log\sigma(\beta[\text{policy's difference} - \text{reference's difference}])$ | rewards first, then their difference | the same number in another order; rewards are what one logs |
# | TRL's DPO trainer | its own loss and gradients | equal within $10^{-5}$ | |
# | settings | {{published:dpo-settings}} | β = 0.1, batch size 64, AdamW, learning rate 5e-4 | a model of a hundred thousand parameters tolerates learning rates hundreds of times larger; chapter 5 |
# | chosen responses become rarer | 2404.12358 (why), 2410.08847 (when it harms) | by more than 0.3 nats, rejected ones by more than 1; gold rises | many of our bad answers are bad for every question, so the probability goes to better ones |
# | DPO gives credit to single tokens | 2404.12358, for a large model | less than a third of the tokens carries more than four fifths of the movement | our sentences are half fixed phrases |

# %% [markdown] further
# ## Further reading
#
# - DPO: arXiv 2305.18290, appendix B for the authors' five lines
# - From r to Q*, DPO token by token: arXiv 2404.12358
# - Likelihood displacement: arXiv 2410.08847. A cure: arXiv 2402.13228
# - SimPO: arXiv 2405.14734
#
# **Next:** exercises 4.1 to 4.3, in `exercises/04_dpo_implementation.ipynb`. Then chapter 5: which $\beta$,
# which learning rate, how many epochs.
# %% [exercises]
# %% [markdown] title
# # 4 · Exercises: the sums, the loss, the prompt
#
# Three functions, about an hour. Write each body, run the cell, then run its check. When the first two are
# right, they train TinyLM, in a cell after 4.2.
#
# All numbers come as tensors in double precision. A check prints them as lists; to try such a case yourself,
# wrap each list in `torch.tensor(...)`. Letters in the signatures are sizes: B rows, T columns (tokens), V words
# of the vocabulary.
#
# Stuck? Open the hints one at a time. The solved notebook is in `solutions/`, under the same name. In a
# terminal `prefcourse check 4` checks what you saved, and `prefcourse reset 4.1` gives you an exercise afresh.

# %% setup
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from prefcourse import annotators, models, plots, rollout
from prefcourse.checks import NotWritten, check
from prefcourse.lab import lab
from prefcourse.losses import LossAndMetrics, Sums, pair_metrics
from prefcourse.sequences import concatenate
from prefcourse.train import common, supervised
from prefcourse.widgets import live

torch.set_num_threads(1)
plt.rcParams.update(plots.STYLE)
policy = None  # until your functions have trained one

# %% [markdown] question-4-1
# **What is the log-probability of each row's response?** Given are the logits as the model returns them, the
# tokens of the rows, and a mask that is true on the tokens of the response, end token included. Return one sum
# per row.
#
# - Logits in column t predict token t + 1. The shift is yours to make. The mask is never true in column 0.
# - Padding may stand on the left, on the right, or on both sides.
# - The mask may have gaps, as in a conversation with two answers. A row without response has 0.
# - Logits of padding may hold anything, even `nan` (an attention that may look at nothing gives that). None of it may
#   reach the sums.
# - Logits may be as large as 10,000, and the sums must stay finite.
# - Training goes through it: the check compares the gradient with respect to the logits, too.
#
# By hand first: two words, *a* and *b*. The row is *b a b a*, and the response its last two tokens. In column 1 the
# logits make both words equally likely, in column 2 *a* has probability 3/4. What is the sum?


# %% answer-4-1
from prefcourse.logprobs import sequence_logprobs

# %% [markdown] use-4-1-text
# **Against the sampler.** Eight answers of the SFT model, and what the sampler wrote down while it drew them.
# (The first time, this cell trains that model, for half a minute.)

# %% use-4-1
# NBVAL_IGNORE_OUTPUT
if check("4.1", sequence_logprobs).passed:
    here = lab(seed=0)
    generator = torch.Generator().manual_seed(0)
    drawn = rollout.sample(here.sft, here.tokenizer, here.prompts[:8], max_new_tokens=32, generator=generator)
    rows = drawn.sequences
    logits = here.sft(input_ids=rows.input_ids, attention_mask=rows.attention_mask.long()).logits
    yours = sequence_logprobs(logits, rows.input_ids, rows.response_mask)
    for text, ours, own in zip(drawn.texts, yours, drawn.logprobs.sum(1), strict=True):
        print(f"yours {ours:6.2f}   the sampler's {own:6.2f}   {text}")
else:
    print("Here your function will be held against a sampler's own numbers, once 4.1 is solved.")

# %% [markdown] question-4-2
# **How badly does this policy explain the labels?** Given are the log-probabilities of B pairs of responses
# (`Sums`: of each response the sum over its tokens), under the policy and under the reference. Return `(loss,
# metrics)`, as every loss of the package does. The loss is minus the log-likelihood of the labels, mean over the
# batch, one number. The metrics are a dict of what you would like to log; they are not checked, and `{}` will do.
#
# - A reward is `beta` times (log policy - log reference), a margin is the reward of `chosen` minus that of
#   `rejected`, and a label has the likelihood $\sigma(\text{margin})$.
# - The reference is a constant. Even if its tensors could take a gradient, none may reach them.
# - Log-ratios go up to 10,000 in both directions, and the loss must stay finite.
# - The check compares the value, and the gradient with respect to each of the policy's log-probabilities.
#
# By hand first: policy -2 (chosen) and -4 (rejected), reference -3 and -3, `beta` 1/2. What is the margin, and is
# the loss above or below $\log 2$?


# %% answer-4-2
from prefcourse.losses import dpo_loss

# %% [markdown] use-4-2-text
# **Your own DPO.** The chapter's loop, with your two functions in the middle. When both are solved, the cell
# after it trains TinyLM on some 900 pairs, which takes a few seconds, and plots as it trains. **What do you
# expect of the two curves?** (They are noisy: every step sees other pairs.)


# %% your-dpo
def your_dpo(policy, reference, tokenizer, pairs, *, beta=0.1, epochs=4, learning_rate=5e-4, batch_size=64, seed=0):
    def sums_of(model, rows):
        logits = model(input_ids=rows.input_ids, attention_mask=rows.attention_mask.long(), use_cache=False).logits
        return sequence_logprobs(logits, rows.input_ids, rows.response_mask)

    chosen, rejected = supervised.encode_pairs(tokenizer, pairs)
    steps = supervised.steps_in(epochs, len(chosen), batch_size)
    optimiser = common.Optimiser(policy, learning_rate, factor=common.warmup_cosine(steps))
    for rows in supervised.epochs_of(supervised.pair_lengths(chosen, rejected), batch_size, steps, seed):
        both = concatenate(chosen.take(rows), rejected.take(rows))
        with torch.no_grad():
            ref_logprobs = sums_of(reference, both)
        logprobs = sums_of(policy, both)
        loss = dpo_loss(*logprobs.chunk(2), *ref_logprobs.chunk(2), beta=beta)
        chosen_moved, rejected_moved = (half.mean().item() for half in (logprobs - ref_logprobs).detach().chunk(2))
        step = optimiser.step(loss[0] if isinstance(loss, tuple) else loss)
        yield step | {"chosen": chosen_moved, "rejected": rejected_moved}


# %% use-4-2
# NBVAL_IGNORE_OUTPUT
def both_curves(figure, history):
    steps, (chosen, rejected) = range(1, len(history) + 1), ([m[k] for m in history] for k in ("chosen", "rejected"))
    plots.chosen_and_rejected(figure.subplots(), steps, chosen, rejected)


if check("4.1", sequence_logprobs).passed and check("4.2", dpo_loss).passed:
    here = lab(seed=0)
    pairs = here.pairs(here.answers(8, seed=0), annotators.population(), seed=0)
    policy = models.trainable_copy(here.sft)
    log = live(your_dpo(policy, here.sft, here.tokenizer, pairs[:-100]), both_curves)
    before, after = here.evaluate(here.sft), here.evaluate(policy)
    print(f"loss {log[0]['loss']:.4f} at the first step, gold {before.gold.mean:.2f} -> {after.gold.mean:.2f}")
    print(*(f"- {texts[0]}" for texts in after.texts[:5]), sep="\n")
else:
    print("Here your functions will train TinyLM, once 4.1 and 4.2 are solved.")

# %% [markdown] question-4-3
# **By how much does a margin change if somebody forgets to mask the prompt?** Given are the log-probabilities
# of *every* token of one pair (of the first one, too), under policy and reference: row 0 holds prompt and chosen
# response, row 1 prompt and rejected response. Return two numbers, `(dpo, simpo)`: the margin with the prompt's
# tokens counted **minus** the margin without them, for DPO and for SimPO. Where it is 0, masking the prompt makes
# no difference.
#
# - DPO's margin: `beta` times the difference, row 0 minus row 1, of the **sums** of (log policy - log reference).
# - SimPO's margin: `beta` times the difference, row 0 minus row 1, of the **means** of log policy over the tokens
#   that count. It has no reference.
# - `prompt_mask` and `response_mask` say which tokens are which. Padding belongs to neither, and what stands
#   there means nothing.
# - The two rows need not hold the same prompt: a long row may have lost the beginning of it, or all. Every
#   response has a token.
#
# By hand first: the prompt has one token, with log-probability -1. The chosen response has -2 and -3, the
# rejected one -5; `beta` is 1/2. What is SimPO's margin with the prompt, and without?


# %% answer-4-3
def prompt_masking_cancels(
    logprobs: Float[Tensor, "2 T"],
    ref_logprobs: Float[Tensor, "2 T"],
    prompt_mask: Bool[Tensor, "2 T"],
    response_mask: Bool[Tensor, "2 T"],
    *,
    beta: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """By how much do DPO's and SimPO's margins change if prompt tokens count, too? Each:
    the margin with the prompt minus the margin without it."""

    def margins(mask):
        sums = ((logprobs - ref_logprobs) * mask).sum(-1)  # (2,)
        means = (logprobs * mask).sum(-1) / mask.sum(-1)  # (2,)
        return beta * torch.stack([sums[0] - sums[1], means[0] - means[1]])

    return tuple(margins(prompt_mask | response_mask) - margins(response_mask))


# %% [markdown] use-4-3-text
# **On real pairs.** The policy that you trained, and five pairs that it did not see. In the last row the prompt
# of the rejected response was cut, as a maximum length would do it.

# %% use-4-3
# NBVAL_IGNORE_OUTPUT
if policy and check("4.3", prompt_masking_cancels).passed:
    from prefcourse.logprobs import token_logprobs

    both = concatenate(*supervised.encode_pairs(here.tokenizer, pairs[-100:]))
    known = both.attention_mask.clone()
    known[:, 0] = False  # the first token is predicted from nothing
    with torch.no_grad():
        logits = [model(input_ids=both.input_ids).logits for model in (policy, here.sft)]
    tables = [token_logprobs(x, both.input_ids, known) for x in logits] + [known & ~both.response_mask]
    for number in range(5):
        pair = [table[[number, number + 100]] for table in (*tables, both.response_mask)]
        print("DPO {:+z.2f}   SimPO {:+z.2f}".format(*prompt_masking_cancels(*pair, beta=0.1)))
    pair[2][1, :3] = False
    print("DPO {:+z.2f}   SimPO {:+z.2f}   one prompt cut".format(*prompt_masking_cancels(*pair, beta=0.1)))
else:
    print("Here your function will look at real pairs, once 4.1, 4.2 and 4.3 are solved.")
