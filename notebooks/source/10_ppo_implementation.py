# Chapter 10. `prefcourse build 10` makes the three notebooks of this script; see prefcourse/build/script.py.

# %% [markdown] title
# # 10 · PPO Implementation and the Silent-Bug Clinic
#
# **Key insight.** RLHF's PPO is mostly bookkeeping: which tokens count, where the score lies, whose
# log-probabilities, the value of which state. Its bugs do not crash. They train, and the log looks like a log.
#
# **After this chapter you can**
# - write PPO for a language model from its six parts, and say of every table what stands in column $t$;
# - name the checks that a healthy run passes before any curve is drawn;
# - tell eight classical bugs apart by their logs and samples;
# - say why some of them do hardly any harm here, and what would make them deadly.
#
# **Time.** 60 minutes to read; all cells together take about a minute and a half on one CPU core the first time, and
# half a minute later.
#
# **Before.** Chapter 9 (the clip, GAE, the two KLs) and chapter 8 (what $\beta$ buys). Neither is explained again;
# here they are put together.
#
# **How to read.** Most cells are preceded by a question in bold. Decide on an answer, run the cell, then read on.

# %% setup
import inspect

import matplotlib.pyplot as plt
import torch

from prefcourse import losses, models, plots, train
from prefcourse.advantages import gae, masked_whiten, token_rewards
from prefcourse.claims import claims
from prefcourse.experiments import chapter10 as stored
from prefcourse.experiments import clinic
from prefcourse.models import PolicyWithValue
from prefcourse.rollout import sample
from prefcourse.train.common import Optimiser, floats
from prefcourse.train.online import Prompter, average, experience
from prefcourse.widgets import chapter10 as drawn

torch.set_num_threads(1)
plt.rcParams.update(plots.STYLE)
SEED = 0
BETA, LIMIT = stored.SETTINGS["beta"], stored.SETTINGS["max_new_tokens"]

# %% [markdown] rollout-text
# ## The rollout: sample, score, ask the reference
#
# The world is PocketWorld, the policy the SFT model of chapter 2, the judge a reward model of chapter 6, trained on
# two thousand labels. Its scores have no zero of their own (chapter 6: the offset is not identified). Here a constant
# brings their mean to about -1, as another training run might have left it; remember that, it will matter.
#
# One round of PPO begins with a **rollout**: 64 answers. For each of their tokens three numbers are written down, and
# none of them may change until the round is over: its log-probability under the policy that drew it (`old_logprobs`),
# under the reference (`ref_logprobs`), and the critic's value of the state before it (`old_values`). And one number
# per answer, the score. An answer that was cut off at the limit of 20 tokens loses 1.
#
# Column $t$ of every table speaks about token $t$ of its row. **What is in the columns of the prompt, and in those
# after the end of an answer?**

# %% rollout
here, score = stored.judged(SEED, stored.OFFSET)  # a lab; its reward model, with a mean of about -1


def collect(model, asked, draw):
    more = {"max_new_tokens": LIMIT, "generator": draw, "value_head": model.value_head}
    rollout = sample(model.lm, here.tokenizer, asked, **more)
    return experience(here.sft, rollout, score, unfinished_penalty=1.0)


model = PolicyWithValue(models.trainable_copy(here.sft))
round_ = collect(model, here.prompts[:64], torch.Generator().manual_seed(SEED))
mask, ids = round_.sequences.response_mask, round_.sequences.input_ids
for t in range(ids.shape[1]):
    word = here.tokenizer.decode(ids[0, t]) or "(padding)"
    counts = "counts" if mask[0, t] else "does not"
    print(f"{t:>2} {word:<12} {counts:<10} old log-probability {round_.old_logprobs[0, t]:z6.2f}")

# %% [markdown] rollout-after
# The prompt does not count: nobody chose its words. EOS counts: to stop is a choice, and the last one. What comes
# after EOS is there because a table has equal rows. **One mask says all this, and every sum from here on asks it.**
# Two of the eight bugs are in that mask.
#
# ## The rewards: a price on every token, the score on the last
#
# Chapter 9 subtracted $\beta\,\log\frac{\pi_{\text{old}}}{\pi_{\text{ref}}}$ from the score of an answer. A
# log-probability of an answer is the sum of those of its tokens, and so the price can be paid where it arises:
#
# $$r_t = -\beta\,\big(\log\pi_{\text{old}}(y_t) - \log\pi_{\text{ref}}(y_t)\big) + \big[\,t \text{ is the last}\,\big]\;
# \text{score}$$
#
# with $\beta = 0.1$ here. These **token rewards** add up to score minus $\beta$ times the answer's log-ratio, whose
# mean is the KL (chapter 9: $k_1$). The score comes with EOS: only then is there an answer. The mean KL, subtracted
# from all scores alike, would have the same sum over the batch, and teach nothing. **Which of these five tokens will
# have a positive reward?**

# %% rewards
log_ratio = torch.tensor([0.1, -0.4, 2.0, 0.0, 0.3])  # "a drill is food <eos>": "food" is new
rewards = -BETA * log_ratio
rewards[-1] += 0.8  # the score
print("rewards", [f"{r:+z.2f}" for r in rewards.tolist()])
tables = (torch.tensor([0.8]), log_ratio[None], torch.zeros(1, 5), torch.ones(1, 5, dtype=torch.bool))
claims({
    "their sum is score - beta * log-ratio": torch.isclose(rewards.sum(), 0.8 - BETA * log_ratio.sum()),
    "the package says the same": torch.allclose(token_rewards(*tables, beta=BETA)[0], rewards),
})

# %% [markdown] critic-text
# The second and the last: the second has become rarer and is paid a little for it, the last carries the score.
# "food", the third, pays at once, and the words after it do not: that is what a price per token is for.
#
# ## The critic: one more row of numbers
#
# Before each token a transformer has a vector that holds what it has read. One head turns it into logits; a second
# one, with a single output, turns it into the value. It begins at zero, so that at first all values are 0. One pass
# through the trunk gives log-probabilities, entropies and values of all tokens.
#
# **Straight after sampling, before any step: what must the ratio of new to old probability be? And what would it be if
# this pass were read one position off?**

# %% critic
logprobs, entropy, values = model(round_.sequences)  # (64, T) each, 0 where the mask is false
ratio = (logprobs - round_.old_logprobs).exp()
late = torch.roll(logprobs.detach(), 1, dims=1) * mask  # as if each number belonged to the next token
moved = (late - round_.old_logprobs).abs()[mask] > 0.01
claims({
    "all ratios are 1 before the first step": torch.allclose(ratio, torch.ones_like(ratio), atol=1e-3),
    "read one column later, most are not": moved.float().mean() > 0.5,
    "all values are 0 in the beginning": (values == 0).all(),
    "policy and reference are one model: their log-ratio is 0": torch.allclose(
        round_.old_logprobs, round_.ref_logprobs, atol=1e-3
    ),
})

# %% [markdown] whiten-text
# ## Whitening
#
# GAE (chapter 9) makes advantages of rewards and values. Their unit is that of the score: a reward model whose scores
# are ten times as large would make steps ten times as long. So they are *whitened*, brought to mean 0 and variance 1
# over the batch, and the learning rate has the same meaning everywhere:
#
# $$\hat A = \frac{A - \overline A}{\sqrt{\tfrac1n\sum (A - \overline A)^2 + 10^{-8}}}$$
#
# The mean and the $n$ are those of the tokens that count. **What happens to four numbers when six zeros of padding
# come along, and nobody tells the formula?**

# %% whiten
A = torch.tensor([2.0, 3.0, 2.5, 4.5])
padded = torch.cat([A, torch.zeros(6)])
counted = torch.arange(10) < 4


def whiten(x):
    return (x - x.mean()) / (x.var(correction=0) + 1e-8).sqrt()


for name, x in (("alone", whiten(A)), ("padding counted", whiten(padded)[:4])):
    print(f"{name:>15}:", [f"{a:+.2f}" for a in x.tolist()], f"mean {x.mean():+.2f}")
masked = masked_whiten(padded[None], counted[None])[0]
same = torch.allclose(masked[:4], whiten(A)) and not masked[4:].any()
claims({"with the mask, padding changes nothing": same})

# %% [markdown] update-text
# All four have become good, because they are better than padding. No error, no warning.
#
# ## The update: a minibatch, two losses
#
# The round is cut into minibatches, and gone through several times. Each gives the clip loss of chapter 9 for the
# policy, and half a squared error for the critic, times a small coefficient: the two share a trunk, and the critic,
# whose error is large at first, must not drown the policy.
#
# Everything with a name from the round is a number. Only `logprobs` and `values`, from the model as it is *now*, carry
# a gradient.


# %% update
def update(model, round_, advantages, returns, rows):
    batch = round_.sequences.take(rows)
    mask, width = batch.response_mask, batch.input_ids.shape[1]
    logprobs, _, values = model(batch)
    tables = (round_.old_logprobs, round_.old_values, advantages, returns)
    old_logprobs, old_values, A, R = (table[rows, :width] for table in tables)
    clip, metrics = losses.ppo_clip_loss(logprobs, old_logprobs, A, mask, clip_coef=0.2)
    critic, more = losses.value_loss(values, old_values, R, mask)
    return clip + 0.1 * critic, metrics | more


# %% [markdown] loop-text
# ## The loop
#
# Six parts, in this order: collect, rewards, advantages, whitening, minibatches, update. That is all of it.


# %% loop
def ppo(model, iterations, seed):
    draw = torch.Generator().manual_seed(seed)
    prompter, optimiser = Prompter(here.prompts, draw), Optimiser(model, 3e-4)
    for _ in range(iterations):
        round_ = collect(model, prompter.next(64), draw)
        mask = round_.sequences.response_mask
        rewards = token_rewards(round_.scores, round_.old_logprobs, round_.ref_logprobs, mask, beta=BETA)
        raw, returns = gae(rewards, round_.old_values, mask, gamma=1.0, gae_lambda=0.95)
        advantages, history = masked_whiten(raw, mask), []
        for rows in round_.minibatches(32, epochs=4, generator=draw):
            loss, metrics = update(model, round_, advantages, returns, rows)
            history.append(floats(metrics) | optimiser.step(loss))
        yield round_.metrics | average(history) | {"first": history[0]["approx_kl"]}


# %% [markdown] same-text
# Is it the package's? The same seed must give the same numbers, not similar ones. And the clinic's loop, in which the
# bugs will be planted, must be the same, too. **Three rounds of each.**

# %% same
fresh = [PolicyWithValue(models.trainable_copy(here.sft)) for _ in range(3)]
given = (here.sft, here.tokenizer, here.prompts, score)
settings = stored.SETTINGS | {"iterations": 3, "seed": SEED}
by_hand = list(ppo(fresh[0], 3, SEED))
package = list(train.ppo(fresh[1], *given, **settings))
healthy = list(clinic.ppo(fresh[2], *given, parts=clinic.Parts(), **settings))


def same(log):  # in all that both have
    shared = by_hand[0].keys() & log[0].keys()
    return all(ours[key] == row[key] for ours, row in zip(by_hand, log, strict=True) for key in shared)


claims({
    "train.ppo gives the same numbers": same(package),
    "the clinic's loop gives the same numbers": same(healthy),
})

# %% [markdown] live-text
# Now forty rounds, live. **What will score, KL, length and `approx_kl` of the first minibatch do?**

# %% live
log = list(ppo(model, stored.SETTINGS["iterations"], SEED))
figure, axes = plt.subplots(1, 4, figsize=(9.6, 2.5))
for ax, key in zip(axes, ("score", "kl", "length", "first"), strict=True):
    ax.plot(range(1, len(log) + 1), [metrics[key] for metrics in log], color=plots.POLICY)
    ax.set(title={"first": "approx_kl, first minibatch"}.get(key, key), xlabel="round")
axes[3].set_ylim(-0.01, 0.01)
plots.show(figure, alt="The score rises, the KL to between 1 and 3, the length a little; the last is 0.")

# %% live-claims
before, after = here.evaluate(here.sft, score=score), here.evaluate(model.lm, score=score)
for name, seen in (("before", before), ("after", after)):
    print(f"{name:>6}: score {seen.score.mean:+.1f}, gold {seen.gold.mean:.1f}, KL {seen.kl.mean:.0f}")
claims({
    "the score rises by more than 0.7": after.score.mean - before.score.mean > 0.7,
    "gold by more than 0.4": after.gold.mean - before.gold.mean > 0.4,
    "approx_kl of the first minibatch is always 0": max(abs(row["first"]) for row in log) < 1e-6,
})

# %% [markdown] clinic-text
# It works. Now it will be broken.
#
# ## The clinic
#
# Eight runs of this very loop. In each *one* part was taken out, and another put in: two to six lines of code that
# somebody has really written somewhere. None raises an error. All really ran, in four labs: four SFT models, four sets
# of labels, four reward models. `prefcourse build --figures 10_shown 10_unseen` makes them again.
#
# | bug | in words |
# |---|---|
# | flipped reward | the score has the wrong sign |
# | prompt counted | the mask is true on the prompt, too |
# | padding counted | the mask is true after EOS, too: in KL, entropy, everywhere |
# | constant KL | the batch's mean KL is subtracted from every score |
# | stale log-probabilities | the ratio divides by probabilities under the weights of the start, not under the sampler's |
# | truncated unscored | no EOS, no place for the score: 0 |
# | values shifted | the critic's value is read one position too late |
# | advantages attached | a gradient flows through the advantages into the critic |
#
# Grey is a run of the same lab that is known to be good, with another seed. The patients have letters. **Which bug has
# A? And B, C, D, ...? (The last three columns: `approx_kl` at the first minibatch of a round, the critic's value before
# the last token, the gradient's norm.) Write down your eight guesses, and what gave each away.**

# %% which
known, patients = stored.wards()[2]["known"], stored.admitted(2)  # of lab 2
panels = ("score", "kl", "length", "finished", "entropy", "approx_kl_first", "value_last", "grad_norm")
figure = plt.figure(figsize=(11, 10.5))
logs = {letter: run["log"] for letter, run in patients.items()}
drawn.which_bug(figure, logs, known["log"], panels=panels)
plots.show(figure, alt="Eight runs, A to H: score, KL, length, share finished and more, beside a good run.")

# %% [markdown] samples-text
# What is not in any curve is in the samples. What they say in the end, when asked the same question:

# %% samples
print(f"the known one: {known['answers'][0][1]}\n  asked: {known['answers'][0][0]}")
for letter, run in patients.items():
    print(f"{letter}: {run['answers'][0][1] or '(nothing)'}")

# %% [markdown] reveal-text
# **Before you run the next cell: which of the eight do the most harm to gold, and which hardly any?** Gold is what no
# log has; it was measured at the end.

# %% reveal
for letter, run in sorted(patients.items(), key=lambda item: -item[1]["end"]["gold"]):
    end = run["end"]
    told = "gold {gold:+.1f}   KL {kl:4.1f}   {length:4.1f} tokens".format(**end)
    print(f"{letter}  {run['name']:<24} {told}")
print(f"   the known one            gold {known['end']['gold']:+.1f}   KL {known['end']['kl']:4.1f}")
mild = [*stored.lost("prompt counted"), *stored.lost("truncated unscored")]
claims({"prompt counted, truncated unscored: at most 0.3 of gold is lost, in any lab": max(mild) < 0.3})

# %% [markdown] reveal-after
# **Takeaway: a run can be sick and look well, and it can look sick and be nearly well.** Two lose little, here and in
# the other labs (prompt counted, truncated unscored: at most 0.3); the one with stale log-probabilities, whose KL is the
# smallest, goes a part of the way; and the one with a constant KL, whose score rises as it should, ends far below where
# it began. Now one by one, with the code that really ran, and with the test that finds it. Each test is asserted for all
# four labs, the known runs included.
#
# ## Two bugs in the books
#
# A log has redundant numbers, and redundancy is a gift: the rewards of an answer must add up to its score, minus 1 if
# it was cut off, minus $\beta$ times its log-ratio. So must the means. **Whose books will not balance?**

# %% books
print(inspect.getsource(clinic.flipped_rewards), inspect.getsource(clinic.truncated_unscored), sep="\n")


def gap(log):
    lines = zip(log["reward"], log["score"], log["finished"], log["kl"], strict=True)
    return max(abs(reward - (score - (1 - finished) - BETA * kl)) for reward, score, finished, kl in lines)


wrong = stored.found_by(lambda log: gap(log) > 0.3)
fell = stored.found_by(lambda log: gap(log) > 0.3 and log["score"][-1] < log["score"][0] - 1)
print("books that do not balance:", ", ".join(sorted(set(wrong))))
claims({
    "those two, in every lab, and no other": wrong == ["flipped reward"] * 4 + ["truncated unscored"] * 4,
    "all others balance within 0.03": len(stored.found_by(lambda log: gap(log) > 0.03)) == 8,
    "flipped: the score falls by more than 1": fell == ["flipped reward"] * 4,
})

# %% [markdown] books-after
# The flipped one is that of Ziegler et al. (1909.08593, section 4.4). A refactoring flipped the sign of the reward
# and, by the same slip, that of the KL penalty, so that the pull to the reference still worked: overnight the model
# became as bad as people could imagine, in fluent language. Here it says "look it up". It is fluent, too: its KL is
# small.
#
# Had the sign been turned inside the *score function*, the log's score would rise and the books would balance. No curve
# would show it. **Read samples. Nothing replaces it.**
#
# The other one gives 0 to an answer without EOS. That looks fair, and 0 is more than most finished answers get here: in
# three of the four labs fewer and fewer answers end (look at F); in the fourth the scores rise above 0 in time, and
# nothing happens. It all depends on where the zero of the scores lies, and nobody chose that. **The same
# code, with scores of mean 0, and with scores of mean -2: what will it learn?**

# %% zero
found = stored.means_of_labs()  # (offset, name) -> means over three labs
for (offset, name), means in found.items():
    told = ", ".join(f"{what} {means[what]:+.1f}" for what in ("finished", "gold", "length"))
    print(f"mean score {offset:+.0f}, {name:<18}: {told}")
centred, low = (found[offset, "truncated unscored"] for offset in (0.0, -2.0))
claims({
    "mean 0: no harm, gold within 0.2": abs(found[0.0, "healthy"]["gold"] - centred["gold"]) < 0.2,
    "mean -2: in training less than one answer in ten ends": low["finished"] < 0.1,
    "and gold is below -1": low["gold"] < -1,
})

# %% [markdown] zero-after
# (Means of three labs; `finished` is the share of the last round in training, with 20 tokens; gold and length are
# measured with room for 32.) The healthy code, too, learns a little worse with scores far from 0, because its critic
# begins at 0. **A bug that does nothing today is waiting for a reward model with another zero.** That is why
# implementations give a truncated answer a fixed low score instead ({{published:n-details-eos}}), or let it keep its
# score and subtract a fine, as ours does; and it is why they centre the scores first.
#
# ## Three bugs that cannot hide
#
# An answer has at most 20 tokens: there the sampler stops. And before the first step of a round the policy is the old
# policy. Neither has to do with how well the training goes. **So what must `length` never be, and `approx_kl` at the
# first minibatch of *every* round?**

# %% bounds
for part in (clinic.prompt_counted, clinic.padding_counted, clinic.stale_logprobs):
    print(inspect.getsource(part))
long = stored.found_by(lambda log: max(log["length"]) > LIMIT)
negative = stored.found_by(lambda log: min(log["kl"]) < -0.1)
stale = stored.found_by(lambda log: max(log["approx_kl_first"]) > 1e-3)
padding, prompt = (stored.far(f"{what} counted") for what in ("padding", "prompt"))  # the KL in the end
claims({
    "length finds the two masks, in every lab": long == ["padding counted"] * 4 + ["prompt counted"] * 4,
    "approx_kl finds the stale one, in every lab": stale == ["stale log-probabilities"] * 4,
    "a negative KL: padding counted, in every lab": negative == ["padding counted"] * 4,
    "padding: more than 3 times the known KL; prompt: less": min(padding) > 3 > 2.5 > max(prompt),
})

# %% [markdown] bounds-after
# - **Prompt counted**: the policy is also trained on the question's words, with an advantage that they did not earn. It
#   does little harm here: there are few of them, and they are the same with good answers and bad ones.
# - **Padding counted**: nobody ever trained what comes after EOS, so policy and reference drift apart there without
#   any meaning. Most of this KL is of that kind, and the answers pay for it; the score, moreover, lies in the last
#   column, far from the words that earned it. A negative KL, which no KL can be, is the other sign (look at G):
#   tokens are counted that the policy did not draw.
# - **Stale log-probabilities**: the ratio now compares with the start, and the clip keeps it near 1: it does the KL
#   penalty's work, far too strictly, and the policy hardly moves. This is how a sampler behaves whose weights are not
#   renewed; learning from samples of another policy is called *off-policy*. In an engine that samples on other
#   machines it takes one forgotten call.
#
# ## Two bugs in the critic
#
# Logits are shifted by one position against tokens (chapter 4). Whoever shifts the values as well reads each one *after*
# its token, and behind the last token there is nothing to read. And whoever computes `advantage = return - value`
# with the value of *now*, and forgets `detach`, offers the optimiser a cheap way to raise all advantages. **Which way?**

# %% critic-bugs
for part in (clinic.values_after_the_token, clinic.attached_advantages):
    print(inspect.getsource(part))
sunk = stored.found_by(lambda log: log["value"][-1] < log["return"][-1] - 2)  # in the end
mute = stored.found_by(lambda log: not any(log["value_last"]))  # exactly 0, always
ends = [run["end"]["gold"] for run in stored.every_run() if run["name"] == "values shifted"]
print("gold of the shifted ones, by lab:", ", ".join(f"{gold:+.1f}" for gold in ends))
claims({
    "the sunken critic finds the attached advantages, in every lab": sunk == ["advantages attached"] * 4,
    "the mute one finds the shift, in every lab": mute == ["values shifted"] * 4,
    "the shift: from no harm at all to ruin": max(ends) > 1 and min(ends) < -5,
})

# %% [markdown] critic-bugs-after
# **Attached.** The policy loss of a token is $-\text{ratio}\cdot A$ with $A = \dots - V$. Its derivative with respect
# to $V$ is $+1$ (at ratio 1): to lower the loss, lower the value. The critic's own loss pulls back with
# $0.1\,(V - R)$. The two are in balance at $V = R - 10$, and it is on its way there. The shared trunk is dragged
# along, and all that is left of the policy is an EOS. (Many logs show the critic's **explained variance**,
# $1 - \mathrm{Var}(\text{returns} - \text{values}) / \mathrm{Var}(\text{returns})$. A variance does not see what is
# common to all: take 10 from every value, and it stays as it was. Log the two means as well.)
#
# **Shifted.** The last token's advantage is its score minus 0: not "better than expected", only "paid so much". With
# scores below zero, ending is punished. How much harm that does depends on how soon the scores rise above zero: in
# one lab nothing can be seen, in another hardly any answer ends. It is the same code. **One healthy seed does not
# make the code healthy.**
#
# ## A price that nobody pays
#
# The last one passes every test so far. The batch's mean KL is subtracted from every score, the books balance, the
# loss is the same to the last digit in the first round. But what is subtracted from all alike does not say which
# answer caused it, and whitening removes it altogether. **It is a run with $\beta = 0$. What did the log show?**

# %% constant
print(inspect.getsource(clinic.constant_kl))
both = stored.beside_known("constant KL")
print("a constant KL against the known run, lab by lab")
for sick, known in both:
    ends = [(run["log"]["score"][-1], run["log"]["kl"][-1], run["end"]["gold"]) for run in (sick, known)]
    print("   against   ".join("score {:+.1f}, KL {:2.0f}, gold {:+.1f}".format(*end) for end in ends))
scores = [[run["log"]["score"][-1] for run in pair] for pair in both]
claims({
    "score no more than 0.2 below": all(score > known - 0.2 for score, known in scores),
    "gold more than 1.5 below": all(a["end"]["gold"] < b["end"]["gold"] - 1.5 for a, b in both),
    "KL more than 3 times as large": min(stored.far("constant KL")) > 3,
})

# %% [markdown] constant-after
# **Takeaway: the score says that all is well, gold falls, and only the KL tells.** There is no threshold for a KL that
# is too large; one needs a run that is known to be good. Keep one. It is the best debugger there is.
#
# That is the order of a diagnosis: *what must hold exactly* (books, first minibatch, the limit, the critic's last word),
# then *what should look as before*, then samples.

# %% [markdown] play-text
# ## The ward
#
# Two labs, eight patients each, under letters; make a guess, and see whether it is right. The button runs the
# patient's sabotaged code again, live, with another seed: half a minute, most of it for the reward model. (Same bug,
# other numbers: is the signature still there?)

# %% play
frames, names = {}, [drawn.UNDECIDED, *clinic.BUGS]
for lab_seed in stored.SHOWN:
    for letter, run in stored.admitted(lab_seed).items():
        shown = run | {"known": stored.wards()[lab_seed]["known"]["log"]}
        frames |= {(lab_seed, letter, guess): shown for guess in names}
choices = {"lab": list(stored.SHOWN), "patient": list("ABCDEFGH"), "guess": names}
drawn.ward_round(stored.again, frames=frames, start={"lab": 3, "patient": "B"}, **choices)

# %% [markdown] ninth-text
# ## The ninth
#
# One more, drawn by seed from all four labs. It may have any of the eight, or nothing. Put in a number of your own,
# look, decide; `print(patient["name"])` tells. (In exercise 10.3 a run that nobody has seen is made for you, live.)

# %% ninth
patient, known = stored.ninth(seed=SEED)
figure, axes = plt.subplots(2, 4, figsize=(9.6, 4.2), sharex=True)
drawn.dashboard(axes.flat, patient["log"], known["log"])
axes[0, 0].legend(fontsize=7)
plots.show(figure, alt="The ninth run beside a good one: score, KL, length, share finished and more.")
for prompt, answer in patient["answers"]:
    print(f"{prompt:<28} {answer or '(nothing)'}")

# %% [markdown] summary
# ## In five lines
#
# 1. PPO on a language model is six parts in a row: collect, rewards, advantages, whitening, minibatches, update.
# 2. One mask says which tokens count; the price of the KL lies on every token, the score on the last one.
# 3. Some things hold exactly: ratios of 1 at the first minibatch, rewards that add up, lengths within the limit.
# 4. What holds only roughly needs a run that is known to be good; what no curve shows needs samples.
# 5. How much a bug hurts depends on things that nobody chose, such as the zero of the scores, or the seed.

# %% [markdown] questions
# ## Three questions
#
# **1.** A colleague's log has a KL of -3 per answer. Can a KL be negative? What would you look at?
#
# <details><summary>Answer</summary>
#
# The KL cannot; its estimate from samples of the policy can, a little, and less with more samples. -3 is not such a
# fluctuation. Then the samples are not those of the policy in the numerator of the log-ratio: tokens that nobody
# sampled are counted (prompt, padding), or the sampler's weights or temperature differ. In this clinic, too, the
# negative ones are runs with a wrong mask: padding counted.
# </details>
#
# **2.** Why does whitening make "constant KL" all but the same as no penalty at all, and the flipped sign not?
#
# <details><summary>Answer</summary>
#
# A constant added to all scores shifts advantages by nearly the same number, once the critic has learnt it, and the mean
# is taken away. What is left is the order. A sign turns the order round, and no shift or scale brings it back.
# </details>
#
# **3.** You may log one number per round, beside score and KL. Which?
#
# <details><summary>Answer</summary>
#
# There is no single right answer. `approx_kl` at the first minibatch is exactly 0 in a healthy run and sees everything
# that makes old and new log-probabilities differ: stale weights, another temperature, dropout, a kernel that rounds
# otherwise, a shift of one position. The gap in the books sees what it does not. Better than either: ten samples.
# </details>

# %% [markdown] classical
# ## The classical results beside ours
#
# | | published | here | why they differ |
# |---|---|---|---|
# | flipped sign of the reward | {{published:ziegler-flip}} | gold below -1 in four labs, at a KL below 4: fluent, and useless | theirs wrote what raters called worst; our worst is short and says nothing |
# | an answer without EOS | {{published:n-details-eos}} | keeps its score, less 1 | both make ending pay; a fixed score also works where nobody knows the zero |
# | details of PPO that matter | {{published:n-details-count}} | eight bugs, two of which hardly hurt | small model, short answers, $\lambda$ 0.95: the critic matters little |
# | critic's coefficient, $\lambda$, clip, epochs | {{published:n-details-settings}} | the same | |

# %% [markdown] further
# ## Further reading
#
# - The flipped sign: arXiv 1909.08593, section 4.4
# - The N implementation details: arXiv 2403.17031; for other tasks 2005.12729
# - PPO's part in RLHF, opened up: Secrets of RLHF I, arXiv 2307.04964
#
# **Next:** exercises 10.1 to 10.4, in `exercises/10_ppo_implementation.ipynb`. Then chapter 11: PPO against DPO.
# %% [exercises]
# %% [markdown] title
# # 10 · Exercises: the books, a diagnosis, a repair
#
# Four functions, about an hour and a half. Write each body, run the cell, then run its check. In the end your own
# functions train a language model, and a run that nobody has seen is drawn for you to diagnose.
#
# Tables come as tensors in double precision: B answers, T columns. A check prints them as lists; to try such a case
# yourself, wrap each list in `torch.tensor(...)`.
#
# Stuck? Open the hints one at a time. The solved notebook is in `solutions/`, under the same name. In a terminal
# `prefcourse check 10` checks what you saved, and `prefcourse reset 10.1` gives you an exercise afresh.

# %% setup
import matplotlib.pyplot as plt
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from prefcourse import models, plots
from prefcourse.advantages import Mask, PerToken, gae, masked_mean
from prefcourse.checks import NotAvailable, NotWritten, check
from prefcourse.experiments import chapter10 as stored
from prefcourse.experiments import clinic
from prefcourse.experiments.clinic import NAMES
from prefcourse.losses import value_loss
from prefcourse.widgets import chapter10 as drawn

torch.set_num_threads(1)
plt.rcParams.update(plots.STYLE)

# %% [markdown] question-10-1
# **What is each token paid?** Given are the scores of B answers, the log-probabilities of their tokens under the policy
# that drew them and under the reference, and a mask that is true on the answers' tokens. Return one reward per token:
# minus `beta` times its own log-ratio, and on the last token of each answer the score on top.
#
# - Padding may stand on the left and on the right, and the numbers that stand there mean nothing: rewards are 0 there.
# - An answer without tokens has no last token: its row is all zeros.
# - Rewards are constants, in a table of their own. No gradient may flow back, and the given tables stay as they were.
# - The check compares the tokens' rewards, and their sum for each answer: score minus `beta` times its log-ratio.
#
# By hand first: one answer of two tokens, score 1, `beta` 0.5; log-probabilities -1 and -2, the reference's -1.5 and -1.
# (The rewards are -0.25 and 1.5.)


# %% answer-10-1
from prefcourse.advantages import token_rewards

# %% [markdown] question-10-2
# **Bring the advantages of a batch to mean 0 and variance 1.** `x` holds numbers of which only those under the mask
# count. One mean and one variance for all of them, whatever their row; the variance divides by their number. Under the
# root add 1e-8.
#
# - With `center=False` the variance becomes 1 and the mean stays what it was (this is how *rewards* are whitened, whose
#   zero has a meaning).
# - Off the mask the result is 0, and what stood there makes no difference.
# - If all numbers that count are equal, the result is 0 (or, with `center=False`, their mean). If there are none, it is
#   zeros.
# - Numbers that hardly differ are tested, too: 0 and 0.0002 become -0.71 and 0.71, because 1e-8 is as large as their
#   variance.
# - The result is a constant, in a table of its own. No gradient may flow back, and `x` stays as it was.
#
# By hand first: one row, 1 and 5. (They become -1 and 1; with `center=False` 2 and 4.)


# %% answer-10-2
from prefcourse.advantages import masked_whiten

# %% [markdown] question-10-3
# **Which bug?** `log` is the log of one run, `healthy` that of a run of the same lab that is known to be good. Return
# the name of the bug as it stands in `NAMES`, or "healthy".
#
# A log is a dict of columns; each has 20 numbers, of rounds 1, 3, ..., 39, and all runs have the settings of the chapter
# (`beta` 0.1, a fine of 1 for answers that were cut off). Its columns:
#
# | column | of a round |
# |---|---|
# | `score`, `kl`, `length`, `finished` | means of the 64 answers: reward model's score, before the fine; log-ratio to the reference; tokens that count; share with EOS |
# | `reward` | mean over answers of the sum of their rewards |
# | `value`, `return`, `value_last` | means over tokens: of the critic's values, of what it should have said; its value before the last token |
# | `value_error`, `entropy`, `clipfrac`, `approx_kl`, `grad_norm` | means over the round's minibatches |
# | `approx_kl_first` | at the first minibatch, before any step of the round |
#
# **What you have**: the runs of labs 2 and 3, nine patients each, with their names (the cell below shows where they lie).
# Healthy is one of the nine. **What is tested**: the nine patients of labs 0 and 1, which are other SFT models, other
# labels, other reward models and other seeds, with the same settings and the same bugs. All 18 must be named. Every
# patient has another seed than the known run, so its numbers differ from it even where it is healthy.
#
# Any rule is welcome: thresholds, ratios, a nearest neighbour. Leave room on both sides of a threshold. What must hold
# exactly may be asked exactly: the logs have three digits.
#
# By hand first: print `approx_kl_first` of all nine patients of lab 2. (One of them is unlike all others.)

# %% your-patients
for lab in stored.SHOWN:
    known = stored.wards()[lab]["known"]["log"]
    print(f"lab {lab}; the known run: score {known['score'][0]} to {known['score'][-1]}, kl to {known['kl'][-1]}")
    for run in stored.wards()[lab]["patients"]:
        log = run["log"]
        print(f"   {run['name']:<24} score {log['score'][0]} to {log['score'][-1]}, kl to {log['kl'][-1]}")


# %% answer-10-3
def diagnose(log: dict[str, list[float]], healthy: dict[str, list[float]]) -> str:
    """Which of NAMES is this run? `healthy` is the log of a run of the same lab that is known to be good."""
    lines = zip(log["reward"], log["score"], log["finished"], log["kl"], strict=True)
    gap = max(abs(reward - (score - (1 - finished) - 0.1 * kl)) for reward, score, finished, kl in lines)
    far = sum(log["kl"][-3:]) / sum(healthy["kl"][-3:])
    if max(log["approx_kl_first"]) > 0.001:
        return "stale log-probabilities"
    if gap > 0.1:
        return "flipped reward" if log["score"][-1] < log["score"][0] - 0.7 else "truncated unscored"
    if max(log["length"]) > 20:  # the limit of the sampler
        return "padding counted" if far > 3 else "prompt counted"
    if log["value"][-1] < log["return"][-1] - 2:
        return "advantages attached"
    if not any(log["value_last"]):
        return "values shifted"
    return "constant KL" if far > 2.5 else "healthy"


# %% [markdown] use-10-3-text
# **The ninth, live.** `MYSTERY` draws one of the eight bugs; then the sabotaged code really runs, with a seed that
# nobody has tried, and your function reads the log. It takes about half a minute, and only when 10.3 is solved. **Look
# at the picture before you look at the last line.**

# %% use-10-3
MYSTERY = 2026  # any whole number
if check("10.3", diagnose).passed:
    try:
        here, score = stored.judged(0, stored.OFFSET)
        name = clinic.mystery(MYSTERY)
        run = stored.logs(here, score, models.trainable_copy(here.sft), name, seed=MYSTERY, **stored.SETTINGS)
        log, known = stored.as_log(list(run)), stored.wards()[0]["known"]["log"]
        figure, axes = plt.subplots(2, 4, figsize=(9.6, 4.2), sharex=True)
        drawn.dashboard(axes.flat, log, known)
        plots.show(figure, alt="Eight panels of the mystery run, beside a run that is known to be good.")
        print(f"your function says: {diagnose(log, known)}. It is: {name}.")
    except NotAvailable:
        print("The sabotaged run needs functions that are put away while this notebook is graded.")
else:
    print("Here a mystery run will be made and diagnosed, once 10.3 is solved.")

# %% [markdown] question-10-4
# **Repair this round.** `sick_round` is a whole update of PPO: from the tables of a round to the loss. All eight bugs of
# the clinic are in it, and it runs. Write `ppo_round_loss`, the same in good health.
#
# The tables have all columns, prompt and padding in them; column $t$ of each speaks about token $t$, and `values` and
# `old_values` are of the state before it. `logprobs` and `values` are those of the model as it is now, the others were
# written down when the answers were drawn. `finished` is false where an answer was cut off.
#
# - `gae` with `gamma` 1 and `gae_lambda` 0.95, the clip, and the critic's `value_loss` are in order, as is `vf_coef`.
# - An answer that was cut off has its score less `unfinished_penalty`.
# - Return the loss, one number. The check compares it, and its gradients with respect to `logprobs` and `values`; the
#   other tables are plain numbers. Its last case is a short real run with your loss: its log must be that of a
#   healthy one.
# - Use your own `token_rewards` and `masked_whiten` from above. Every answer has a token or more.
#
# By hand first: two answers of one token, scores 1 and -1, nothing has moved, all values 0, `vf_coef` 0.1. (The
# advantages are 1 and -1; the policy's loss is 0, the critic's 0.5 times 0.1: 0.05.)


# %% sick-round
def sick_round(
    logprobs, values, old_logprobs, ref_logprobs, old_values, scores, finished, is_prompt, is_padding,
    *, beta, clip_coef, vf_coef, unfinished_penalty,
):  # fmt: skip
    mask = torch.ones_like(is_prompt)
    values, old_values = (torch.nn.functional.pad(v[:, 1:], (0, 1)) for v in (values, old_values))
    kl = (old_logprobs - ref_logprobs).sum(1).mean()
    scores = -(scores * finished) - beta * kl
    rewards = token_rewards(scores, old_logprobs, ref_logprobs, mask, beta=0.0)
    raw, returns = gae(rewards, old_values, mask, gamma=1.0, gae_lambda=0.95)
    advantages = masked_whiten(raw, mask) + old_values - values
    ratio = (logprobs - ref_logprobs).exp()
    bounded = ratio.clamp(1 - clip_coef, 1 + clip_coef)
    policy_loss = -masked_mean(torch.minimum(ratio * advantages, bounded * advantages), mask)
    return policy_loss + vf_coef * value_loss(values, old_values, returns, mask)[0]


# %% answer-10-4
def ppo_round_loss(
    logprobs: Float[Tensor, "B T"],
    values: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    ref_logprobs: Float[Tensor, "B T"],
    old_values: Float[Tensor, "B T"],
    scores: Float[Tensor, " B"],
    finished: Bool[Tensor, " B"],
    is_prompt: Bool[Tensor, "B T"],
    is_padding: Bool[Tensor, "B T"],
    *,
    beta: float,
    clip_coef: float,
    vf_coef: float,
    unfinished_penalty: float,
) -> Float[Tensor, ""]:
    """PPO's loss of a round, clip plus vf_coef times critic: `sick_round` without its eight bugs."""
    mask = ~(is_prompt | is_padding)
    scores = scores - unfinished_penalty * ~finished
    rewards = token_rewards(scores, old_logprobs, ref_logprobs, mask, beta=beta)
    raw, returns = gae(rewards, old_values, mask, gamma=1.0, gae_lambda=0.95)
    advantages = masked_whiten(raw, mask)
    ratio = (logprobs - old_logprobs.detach()).exp()
    bounded = ratio.clamp(1 - clip_coef, 1 + clip_coef)
    policy_loss = -masked_mean(torch.minimum(ratio * advantages, bounded * advantages), mask)
    return policy_loss + vf_coef * value_loss(values, old_values, returns, mask)[0]


# %% [markdown] use-10-4-text
# **Your PPO, and the sick one.** Both train the SFT model of the lab, twenty rounds each, in about half a minute. All of
# the loss is yours: rewards, whitening, round. **Where will the sick one go?**

# %% use-10-4
if check("10.4", ppo_round_loss).passed:
    here, score = stored.judged(0, stored.OFFSET)
    settings = {"beta": 0.1, "clip_coef": 0.2, "vf_coef": 0.1, "unfinished_penalty": 1.0, "max_new_tokens": 20}
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.2))
    for name, loss in (("repaired", ppo_round_loss), ("sick", sick_round)):
        policy = models.trainable_copy(here.sft)
        given = (loss, policy, here.sft, here.tokenizer, here.prompts, score)
        log = list(clinic.train_with(*given, iterations=20, seed=0, **settings))
        look = {"color": plots.POLICY if name == "repaired" else plots.REJECTED, "label": name}
        for ax, key in zip(axes, ("score", "length"), strict=True):
            ax.plot(range(1, 21), [metrics[key] for metrics in log], **look)
            ax.set(xlabel="round", title=key)
    axes[0].legend()
    plots.show(figure, alt="Score and length of the two: the repaired one's score rises, that of the sick one falls.")
else:
    print("Here your loss will train a language model, once 10.4 is solved.")
