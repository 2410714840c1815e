# Chapter 6. `prefcourse build 06` makes the three notebooks of this script; see prefcourse/build/script.py.

# %% [markdown] title
# # 6 · Reward Model Training
#
# **Key insight.** A reward model ranks. The *order* of its scores is what it has learnt about quality. Their *scale*
# says how noisy the annotators were, and their *offset* says nothing at all: no label can settle it.
#
# **After this chapter you can**
# - fit Bradley-Terry scores to a table of votes, and say when the fit has no end;
# - turn a language model into a reward model, and train it;
# - read a learning curve under its ceiling, and say which pairs a reward model gets wrong;
# - tell a good ranking from a good scale, draw the diagram that shows it, and correct the scale with one number;
# - say what has to be done to scores before a policy is trained on them.
#
# **Time.** 55 minutes to read; all cells together take half a minute on one CPU core, a minute the first time.
#
# **Before.** Chapter 2: what a reward model is for, its ceiling, and the annotators' temperature. Chapter 3 for the
# slope of $\log\sigma$ and for the constant per prompt.
#
# **How to read.** Most cells are preceded by a question in bold. Decide on an answer, run the cell, then read on.

# %% setup
import math

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F

from prefcourse import agreement, annotators, evaluate, models, plots, sequences
from prefcourse.claims import claims
from prefcourse.data.pairs import gaps
from prefcourse.experiments import chapter06 as stored
from prefcourse.lab import lab
from prefcourse.train.common import Optimiser, warmup_cosine
from prefcourse.train.supervised import encode_pairs, epochs_of, pair_lengths, steps_in
from prefcourse.widgets.chapter06 import pairs_and_noise

torch.set_num_threads(1)
plt.rcParams.update(plots.STYLE)
SEED = 0
here = lab(SEED)
people, answers = annotators.population(SEED), here.answers(24, seed=SEED)
pairs = here.pairs(answers, people, seed=SEED)
train_pairs, held_out = pairs[:-1000], pairs[-1000:]

# %% [markdown] one-pair-text
# ## One pair, many votes
#
# Twenty people compare two answers; 14 prefer the first. Bradley and Terry's model of such votes (chapter 2) has one
# number per answer, its score, and only the difference $d$ of two scores matters: the first is preferred with
# probability $\sigma(d)$.
#
# Which $d$ makes the votes likeliest? Their log-likelihood is $14\log\sigma(d) + 6\log\sigma(-d)$. As the slope
# of $\log\sigma(d)$ is $\sigma(-d) = 1 - \sigma(d)$, its derivative is
#
# $$14\,(1 - \sigma(d)) - 6\,\sigma(d) = 14 - 20\,\sigma(d)$$
#
# and is 0 where $\sigma(d) = 14/20$: where the model expects as many wins as there were. Solved for $d$, that is
# $\log(14/6)$. **About how much? And if all twenty had preferred the first?**

# %% one-pair
differences = torch.linspace(-3, 3, 601)
log_likelihood = 14 * F.logsigmoid(differences) + 6 * F.logsigmoid(-differences)
likeliest = differences[log_likelihood.argmax()]
print(f"14 to 6: likeliest at {likeliest:.2f}; log(14 / 6) = {math.log(14 / 6):.2f}")
for difference in (2.0, 4.0, 8.0, 16.0):
    all_twenty = 20 * F.logsigmoid(torch.tensor(difference))
    print(f"20 to 0: difference {difference:>2.0f}, log-likelihood {all_twenty:z.5f}")

# %% [markdown] one-pair-after
# With 20 to 0 the fit has no end, as for DPO in chapter 3: the larger the difference, the likelier the votes, and the
# model would like to be *certain*. Nobody said that they are; there were just no votes against. We will meet this
# again in a neural network that has seen every label sixteen times.
#
# ## Many answers: a table of scores
#
# Now five answers, and votes on all pairs of them. $w_{ij}$ counts how often $i$ was preferred to $j$, and
# $p_{ij} = \sigma(s_i - s_j)$. The derivative with respect to one score adds up what we just had, over its opponents:
#
# $$\frac{\partial \log L}{\partial s_i} = \sum_j \big[ w_{ij} - (w_{ij} + w_{ji})\, p_{ij} \big]
# = \text{wins of } i - \text{expected wins of } i$$
#
# So each score moves up while its answer wins more often than expected. That is the whole fit.


# %% table
def fit(wins, start, steps=3000):
    """The scores under which the votes are likeliest; wins[i, j]: how often i was preferred to j."""
    scores, votes = start.clone(), wins + wins.T
    for _ in range(steps):
        expected = votes * torch.sigmoid(scores[:, None] - scores)  # (A, A): of i against j
        scores = scores + 0.5 * (wins - expected).sum(1) / votes.max()
    return scores


def votes_of_people(slope):
    return torch.sigmoid(slope * (gold[:, None] - gold)).fill_diagonal_(0)  # (A, A): shares of votes


def centred(scores):
    return scores - scores.mean()


# %% [markdown] table-text
# The people know gold, and choose with $\sigma(\text{slope} \cdot \text{difference in gold})$. We give the fit what
# infinitely many of them would say, with slope 1, so that nothing is left to chance. It starts twice: with all
# scores 0, and with a random number for each answer. **Will it find gold? Both times the same?**

# %% table-fit
ANSWERS = [
    "python is a language . people use it for scripting and plotting .",
    "python is a language .",
    "great question ! python is a language .",
    "look it up .",
    "python is a tool .",
]
gold = torch.tensor([here.world.gold("what is python ?", answer) for answer in ANSWERS])
random_start = torch.randn(len(gold), generator=torch.Generator().manual_seed(SEED))
from_0, from_random = (fit(votes_of_people(1.0), start) for start in (0 * gold, random_start))
print("   gold  from 0  from random")
for row in zip(gold, from_0, from_random, ANSWERS, strict=True):
    print("{:+7.2f}{:+8.2f}{:+13.2f}  {}".format(*row))

# %% [markdown] offset-text
# Three columns, and every two differ by a constant. The fit has found gold, *up to an offset*. The gradient shows why:
# the expected wins and the real wins each add up to the number of votes, so the gradients of all scores add up to 0.
# Nothing ever moves their mean. It stays where it began, and where it began was ours to choose.
#
# With many questions there is such a constant for each: answers to different questions are never compared. One
# number for every prompt, $c(x)$, is left open. It is the same freedom that chapter 3 found in DPO's reward.
#
# **And noise? Let people be half as sure (slope 1/2), or twice as sure. What changes: order, offset, scale?**

# %% slopes
fitted = {slope: fit(votes_of_people(slope), 0 * gold) for slope in (0.5, 1.0, 2.0)}
for slope, scores in fitted.items():
    order = " > ".join(str(i + 1) for i in scores.argsort(descending=True).tolist())
    print(f"slope {slope}: order {order}, best minus worst {scores.max() - scores.min():.2f}")
both = [torch.allclose(centred(scores), centred(gold), atol=1e-3) for scores in (from_0, from_random)]
scaled = [torch.allclose(centred(s), slope * centred(gold), atol=1e-2) for slope, s in fitted.items()]
claims({
    "from both starts: the differences of gold": all(both),
    "the mean stays where it began": torch.isclose(from_random.mean(), random_start.mean(), atol=1e-4),
    "scores are slope times gold": all(scaled),
})

# %% [markdown] slopes-after
# The order stays; the scale is the people's slope. A score has no unit of quality. It is measured in *logits of
# this crowd*: a difference of 1 means that $\sigma(1) = 73\,\%$ of its labels go to the better answer. A reward
# model of careful people speaks in larger numbers than one of hurried people about the same answers.
#
# ## A reward model is a table that generalises
#
# A table needs votes on every answer. A reward model computes the score from the text, so that it has one for
# answers that nobody has voted on: the SFT model without its last layer, and a linear *head* with one output.
#
# Where in the row is it read? A causal model knows at each token what stands before it and nothing of what comes
# after. So only the **last token**, `<eos>`, has seen the whole answer. **In which column does it stand?**


# %% scores-of
def scores_of(model, rows):
    """One score per row; rows are padded on the right."""
    mask = rows.attention_mask.long()
    hidden = model.backbone(input_ids=rows.input_ids, attention_mask=mask).last_hidden_state  # (B, T, D)
    last = mask.sum(1) - 1  # (B,): the column of the last real token
    return model.head(hidden[torch.arange(len(last)), last])[:, 0]  # (B,)


# %% [markdown] scores-of-after
# In a different column for each row: column -1 is padding wherever a row is short. (And with padding on the left,
# `mask.sum(1) - 1` is wrong, too. Exercise 6.2 wants both.)
#
# As in chapter 2, the SFT model has answered every question several times, and each pair of answers has one label,
# by one of twenty people (in the first cell). We train on some 2,000 pairs; a thousand are held out.
#
# The loss is minus the log-likelihood of the labels, $-\log\sigma(s_{\text{chosen}} - s_{\text{rejected}})$,
# and its gradient with respect to a score is again "won minus expected". The head starts at 0, so all scores do. **With which
# loss does the training begin?**


# %% train
def fit_reward_model(pairs, *, epochs=4, learning_rate=2e-3, batch_size=64):
    model = models.RewardModel.from_lm(here.sft)
    chosen, rejected = encode_pairs(here.tokenizer, pairs)
    steps, losses = steps_in(epochs, len(chosen), batch_size), []
    optimiser = Optimiser(model, learning_rate, factor=warmup_cosine(steps))
    for rows in epochs_of(pair_lengths(chosen, rejected), batch_size, steps, SEED):
        both = sequences.concatenate(chosen.take(rows), rejected.take(rows))
        chosen_scores, rejected_scores = scores_of(model, both).chunk(2)  # (B,) each
        loss = -F.logsigmoid(chosen_scores - rejected_scores).mean()
        losses.append(optimiser.step(loss)["loss"])
    return models.frozen_copy(model), losses


reward_model, losses = fit_reward_model(train_pairs)

# %% [markdown] judge-text
# Log 2, of course: nobody is ahead. Now the thousand held-out pairs. We hold two things against the scores. The
# *labels*: on which share of the pairs does the chosen answer score higher? The ceiling for that is the quantity
# of exercise 2.5: what the best possible model would reach without knowing who will be asked. And *gold*, as
# only our world allows.
#
# **Two predictions. How far below its ceiling will the model be? And how often are its teachers, one label at a
# time, right about gold: more often than the model, or less?**


# %% judge
def margins_of(model, pairs):
    chosen, rejected = evaluate.read_pairs(model, here.tokenizer, pairs)
    return (chosen - rejected).double()  # (N,)


def right_about_gold(margins, gold_gaps):
    return ((margins * gold_gaps)[gold_gaps != 0] > 0).double().mean().item()


margins, said = margins_of(reward_model, held_out), torch.ones(len(held_out))  # a label says: chosen
gold_gaps = torch.tensor(stored.gold_gaps(here, held_out))  # gold of the chosen answer minus the other's
features = annotators.pair_features(*gaps(here.world, answers.texts[-1000:], answers.finished[-1000:]))
ceiling = agreement.ceiling_from_annotators(people, features).best
right = evaluate.wilson((margins > 0).sum().item(), len(margins))

# %% judge-print
# NBVAL_IGNORE_OUTPUT
print(f"labels: right on {right.rate:.1%} ({right.low:.1%} to {right.high:.1%}); ceiling {ceiling:.1%}")
on_gold, label_on_gold = (right_about_gold(m, gold_gaps) for m in (margins, said))
print(f"gold:   right on {on_gold:.1%}; a single label on {label_on_gold:.1%}")
claims({
    "the training begins with log 2": abs(losses[0] - math.log(2)) < 1e-4,
    "on labels: between 8 and 16 points below the ceiling": 0.08 < ceiling - right.rate < 0.16,
    "on gold: between 2 and 12 points below one of its teachers": 0.02 < label_on_gold - on_gold < 0.12,
})

# %% [markdown] curve-text
# Less often than one of its teachers, although it has heard twenty of them, and far below the ceiling. (On *labels*
# it looks even worse than on gold, because the labels themselves are wrong on every sixth pair.) Does it lack pairs?
#
# ## More pairs
#
# One run is an anecdote. So we made 84 of them beforehand: three SFT models, four crowds, 64 to 4,096 pairs,
# each judged on some 2,000 others. (`prefcourse build --figures 06_learning_curve` makes them again, in five
# minutes.) The figure has the usual crowd, three seeds together; the star is the run that you just saw. **Where
# does the curve flatten? Does it reach the ceiling?**

# %% curve
frames = stored.frames()  # (pairs, temperature): what three seeds' reward models show together
usual = [frames[n, 1] for n in stored.PAIRS]
figure, ax = plt.subplots()
plots.learning_curve(ax, stored.PAIRS, [row["accuracy"] for row in usual], ceiling=usual[0]["ceiling"])
ax.plot([len(train_pairs)], [right.rate], "*", color=plots.OTHERS[1], markersize=14)
ax.set(ylim=(0.48, 0.86), title="Right on held-out labels (star: this run)")
plots.show(figure, alt="Accuracy on labels rises from .67 with 64 pairs to .70 with 4,096; ceiling .82.")
gain_labels, gain_gold = (usual[-1][key] - usual[0][key] for key in ("labels", "gold"))
print(f"six doublings gain {100 * gain_labels:.1f} points on labels, {100 * gain_gold:.1f} on gold")
claims({
    "64 pairs are enough to be right on 65 % of the labels": usual[0]["labels"] > 0.65,
    "4,096 pairs are still 10 points below the ceiling": usual[-1]["labels"] < usual[0]["ceiling"] - 0.1,
    "they gain less than 5 points; on gold a quarter more": 0.05 > gain_gold > 1.25 * gain_labels > 0.02,
})

# %% [markdown] curve-after
# **Takeaway: sixty-four pairs bring most of it, and four thousand end ten points and more below the ceiling.** The
# first lesson is an easy one: filler is bad, a definition is good. The noise of the labels explains the distance
# from 100 % to the ceiling, and no more: the ceiling is what the best model reaches on just these noisy labels. The
# rest must have another reason.
#
# About gold the model gained more than about labels: noisy labels show only a part of any progress.
#
# ## What it does not see
#
# We split the held-out pairs. In some the two answers differ in filler ("look it up .") or in the kind that they
# name (a tool, a language), perhaps among other things. In the others both say the same on that, and differ in
# the *uses*: one names a wrong use, or fewer. **On which of the two sorts is the reward model worse than people?**

# %% blind
# NBVAL_IGNORE_OUTPUT
only_uses = torch.tensor(stored.only_uses(here, held_out))  # the same filler, the same kind; other uses
example = held_out[only_uses.nonzero()[0]]
print(example["prompt"], "+ " + example["chosen"], "- " + example["rejected"], sep="\n")
found = {}
for name, some in {"filler or kind differs": ~only_uses, "only uses differ": only_uses}.items():
    found[name] = model, person = [right_about_gold(m[some], gold_gaps[some]) for m in (margins, said)]
    print(f"{name:>22} ({some.double().mean():.0%}): model right on {model:.0%}, people on {person:.0%}")
(form, people_on_form), (uses, people_on_uses) = found.values()
claims({
    "where filler or kind decides, it is within 4 points of people": abs(form - people_on_form) < 0.04,
    "where only the uses do, it is at least 8 points below them": uses < people_on_uses - 0.08,
})

# %% [markdown] variants-text
# There it is. Where filler or kind decides, the model is as good as its teachers. Where it comes down to the uses,
# it is far behind them; in the mean of the stored runs, below, it is nearer to a coin than to people. It has learnt
# what a good answer *looks* like: a definition, the right kind, no filler. Which use belongs to which thing it would
# have to learn thing by thing, from the few pairs that differ in nothing else.
#
# Would another recipe learn it? We tried. Each row is one change to the usual training on 2,048 pairs, three seeds
# together: fewer epochs and more; the score as sum or as mean of the head over all tokens of the response, instead
# of the last one. **Which change helps?**

# %% variants
tried = stored.variants()
print(f"{'':>10}  labels   gold   uses")
for name, row in tried.items():
    print(f"{name:>10}{row['labels']:8.3f}{row['gold']:7.3f}{row['uses']:7.3f}")
as_usual, of_sum = tried["as usual"], tried["reads sum"]
gained = {name: row["labels"] - as_usual["labels"] for name, row in tried.items()}
people_on_uses, best_on_uses = as_usual["people_on_uses"], max(row["uses"] for row in tried.values())
claims({
    "no change gains two points on labels": max(gained.values()) < 0.02,
    "the sum gains one to three on gold": 0.01 < of_sum["gold"] - as_usual["gold"] < 0.03,
    "one epoch and sixteen lose half a point": max(gained["epochs 1"], gained["epochs 16"]) < -0.005,
    "where only uses differ, all stay 15 points below people": best_on_uses < people_on_uses - 0.15,
    "and are nearer to a coin": best_on_uses - 0.5 < people_on_uses - best_on_uses,
})

# %% [markdown] doubt-text
# The sum, and only a little: half a point on labels, one or two on gold. Where the model was blind it even loses. One
# epoch is too short, sixteen are too long.
#
# A reward model of a real project has blind spots, too, and its owners have no gold to find them with. An average
# accuracy does not show them, but a policy will find them (chapter 12). Look at accuracy *by sort of pair*; RewardBench
# (2403.13787) is made of such sorts.
#
# ## Labels that it does not believe
#
# Now the other way round. We sort the *training* pairs, which the model has seen with their labels, by margin,
# and cut them into ten equal groups. In the first, the model disagrees most with the label that it was trained
# on. **Who is right there, the label or the model?**

# %% doubt
# NBVAL_IGNORE_OUTPUT
on_training = margins_of(reward_model, train_pairs)
true_gaps = torch.tensor(stored.gold_gaps(here, train_pairs))
groups = on_training.argsort()[: len(on_training) // 10 * 10].chunk(10)
label_right = [right_about_gold(torch.ones(len(g)), true_gaps[g]) for g in groups]
print("mean margin ", *(f"{on_training[g].mean():+z5.1f}" for g in groups))
print("label right ", *(f"{share:5.0%}" for share in label_right))
contradicted = (on_training < 0).double().mean()
claims({
    "the model contradicts between 20 and 32 % of its training labels": 0.2 < contradicted < 0.32,
    "where it contradicts most, half the labels are right, to 10 points": abs(label_right[0] - 0.5) < 0.1,
    "where it agrees most, at least 95 % of the labels are right": label_right[-1] > 0.95,
})

# %% [markdown] noise-text
# Each of them half the time: where model and label contradict each other most, you might as well toss a coin.
# A label was given by one person, perhaps in a hurry. The model has heard two thousand of them, and errors that do not
# point the same way average out; but it has its blind spots, and there even a true label does not move it. Where it
# agrees most, nearly all labels are right. "Secrets of RLHF II" (2401.06080) does just this with ten reward models on
# HH-RLHF: {{published:hh-strength-below-zero}} of the pairs have a negative mean margin, and where it is lowest, GPT-4
# confirms one label in six.
#
# ## Noise: the ranking stays, the scale goes
#
# If noise averages out, then a noisier crowd should teach the same *ranking*, from enough pairs. And the scale? In
# the table it was the people's slope. Our crowd has no single slope: twenty people have their own, most *lapse* now
# and then (they press any key), one only tosses coins. But we can ask which slope describes its labels best. On the
# true differences in gold, $g_n$ (chosen minus rejected), that is Bradley-Terry with one parameter, $k$:
#
# $$\frac{\partial}{\partial k} \sum_n \log\sigma(k\, g_n) = \sum_n g_n\, \sigma(-k\, g_n) = 0$$


# %% slope
def likeliest_slope(gaps, steps=50):
    """The factor on all gaps, chosen minus rejected, that makes labels likeliest (Newton's method)."""
    slope = torch.tensor(0.0)
    for _ in range(steps):
        surprise = torch.sigmoid(-slope * gaps)  # (N,): how likely was the other label?
        slope = slope + (gaps * surprise).sum() / (gaps**2 * surprise * (1 - surprise)).sum()
    return slope.item()


slopes = {}
for temperature in stored.TEMPERATURES:  # the same pairs of answers, other crowds
    crowd = annotators.population(SEED, scale=1.6 / temperature)
    labelled = here.pairs(answers, crowd, seed=SEED)
    slopes[temperature] = likeliest_slope(torch.tensor(stored.gold_gaps(here, labelled)))

# %% [markdown] noise-figure-text
# At temperature $t$ everybody's slope is divided by $t$: from .5 to 4, the noise grows eightfold. Reward models
# on 2,048 pairs each. **Two figures to predict: the share of pairs on which the reward model is right, about
# labels and about gold; and how many logits it gives to a point of gold.**

# %% noise
noise = [frames[2048, t] for t in stored.TEMPERATURES]
keys = {"reward model, gold": "gold", "single label, gold": "people", "reward model, labels": "labels"}
shares = {name: (stored.TEMPERATURES, [row[key] for row in noise]) for name, key in keys.items()}
scale = {"reward model": (stored.TEMPERATURES, [row["slope"] for row in noise])}
scale["labels"] = (list(slopes), list(slopes.values()))
figure, axes = plt.subplots(1, 2, figsize=(9, 3.7))
for ax, lines, ylabel in zip(axes, (shares, scale), ("share right", "logits per point of gold"), strict=True):
    plots.curves(ax, lines, xlabel="annotators' temperature (log axis)", ylabel=ylabel)
    ax.set(xscale="log", xticks=stored.TEMPERATURES, xticklabels=stored.TEMPERATURES)
    ax.minorticks_off()
alt = """Against the annotators' temperature. Left: a reward model's accuracy about gold hardly moves up to
    temperature 2, while its accuracy on labels, and that of single labels about gold, fall. Right: both
    slopes more than halve."""
plots.show(figure, alt=alt)

# %% noise-claims
careful, _, noisy, noisiest = noise
less = {key: careful[key] - noisy[key] for key in ("labels", "gold")}
ahead = [row["gold"] - row["people"] for row in (noisy, noisiest)]
claims({
    "from temperature 0.5 to 2 accuracy on labels falls by more than 6 points": less["labels"] > 0.06,
    "accuracy about gold by less than 2": less["gold"] < 0.02,
    "at temperature 2 the model is right about gold as often as people, to 2 points": abs(ahead[0]) < 0.02,
    "at temperature 4, five points more often": ahead[1] > 0.05,
    "from 0.5 to 4 the reward model's slope falls by more than half": noisiest["slope"] < careful["slope"] / 2,
    "so does that of the labels": slopes[4] < slopes[0.5] / 2,
})

# %% [markdown] noise-after
# **Takeaway: noise is paid in scale (and in pairs), not in the ranking.** With people at temperature 2 the model
# is right on fewer labels, but knows nearly as much about gold as before: as much as a single label of theirs, in
# spite of its blind spot. At temperature 4 it is *better than its teachers*. Whoever judges it by held-out labels alone
# sees the noise of the labels, not the model.
#
# Two reservations. The slopes do not fall eightfold as the noise grows eightfold: the coin-tosser and the lapses are
# there at every temperature, and no slope describes a coin. And the reward model's slope lies below that of the
# labels, as it sees only a part of what the people see. The uses that it is blind to are noise to it.
#
# What does this mean for a policy? It maximises $\mathbb E[\text{score}] - \beta\,\mathrm{KL}$, and only the
# ratio $\text{score}/\beta$ matters (chapter 3). With the scores of a noisier crowd the *same* $\beta$ holds the
# policy nearer to the reference. That is fair, in a way: less sure, less far. But it makes $\beta$ incomparable
# from one reward model to the next, so we divide by the standard deviation first.
#
# ## As often as it says
#
# A scale can also be plainly wrong. If the reward model prefers an answer by a margin $m$, it *claims* that
# $\sigma(|m|)$ of the labels agree. Collect the pairs on which it claims about 80 %: do 80 % of the labels agree?
# A model for which this holds everywhere is **calibrated**. The fit by likelihood asks for it, on the *training*
# labels. On those, one can do better by being more certain (remember 20 to 0).
#
# So we train a second model, on 500 pairs, for 16 epochs instead of 4. **Will its claims be too low or too high?
# And can one number correct it?** We look for the factor on all its margins that makes the first half of the held-out
# labels likeliest, and judge on the second half.

# %% calibration
overfitted, _ = fit_reward_model(train_pairs[:500], epochs=16)
trial, rest = margins_of(overfitted, held_out).split(500)
factor = likeliest_slope(trial)
judged = {"2,000 pairs, 4 epochs": margins, "500 pairs, 16 epochs": rest, "corrected": factor * rest}
errors, (figure, axes) = {}, plt.subplots(1, 3, figsize=(9.6, 3.5))
for ax, (name, m) in zip(axes, judged.items(), strict=True):
    claimed, came_true = torch.sigmoid(m.abs()), (m > 0).double()
    plots.reliability_diagram(ax, evaluate.calibration_bins(claimed, came_true)).set_title(name)
    errors[name] = evaluate.expected_calibration_error(claimed, came_true)
for ax in axes[1:]:
    ax.get_legend().remove()
alt = """Three reliability diagrams. The usual model lies near the diagonal. The one of 16 epochs on
    500 pairs lies well below it, where it claims most. With its margins times one factor, it is near again."""
plots.show(figure, alt=alt)

# %% calibration-claims
before, after = errors["500 pairs, 16 epochs"], errors["corrected"]
claims({
    "the usual model's claims are off by less than .07 in the mean": errors["2,000 pairs, 4 epochs"] < 0.07,
    "after 16 epochs on 500 pairs they are off by more than .08": before > 0.08,
    "the factor lies between 0.1 and 0.6": 0.1 < factor < 0.6,
    "it takes away at least 40 % of the error": after < 0.6 * before,
})

# %% [markdown] calibration-after
# **Takeaway: too many epochs inflate the scale, and one number takes that back.** No ranking changed: a factor
# cannot reverse a margin. So accuracy does not see that the model is too sure (*overconfident*), and the diagram does.
# (For classifiers this factor is known as temperature scaling, 1706.04599.)
#
# The mean gap between claim and truth, each bin weighing what it holds, is the *expected calibration error* of
# exercise 6.3. A warning about it: with few pairs in a bin chance makes gaps as well, so even perfect claims have
# an error above 0. Compare only numbers of equally many pairs and bins.
#
# ## Before a policy sees it: centre
#
# The scale is corrected or divided out. The offset remains. **We add to all scores of a prompt a constant of its own,
# some of them as large as 20. What happens to the loss, to the accuracy, to the spread of the scores?**

# %% centring
# NBVAL_IGNORE_OUTPUT
constants = 10 * torch.randn(len(here.prompts), generator=torch.Generator().manual_seed(SEED))
shift = constants[[here.prompts.index(row["prompt"]) for row in held_out]]  # one constant per prompt
plain = evaluate.read_pairs(reward_model, here.tokenizer, held_out)
shifted, loss = [scores + shift for scores in plain], {}
for name, (chosen, rejected) in {"plain": plain, "shifted": shifted}.items():
    loss[name] = -F.logsigmoid(chosen - rejected).mean()
    accuracy, spread = (chosen > rejected).float().mean(), torch.cat([chosen, rejected]).std()
    print(f"{name:>8}: loss {loss[name]:.2f}, accuracy {accuracy:.2f}, spread of the scores {spread:.1f}")
claims({
    "the same loss": torch.isclose(loss["plain"], loss["shifted"], atol=1e-4),
    "the head's bias stayed within 0.05 of its start, 0": abs(reward_model.head.bias.item()) < 0.05,
})

# %% [markdown] centring-after
# Nothing, nothing, and it becomes some ten times as large. By its loss a reward model with random offsets is as good as ours; the head's
# bias, trained with all the rest, got no gradient but rounding errors. (That our model's scores are *not* scattered
# like this is due to the network, which is one function for all prompts, not to the labels.)
#
# Does it matter? For the optimum it does not: $c(x)$ goes into the normaliser, and the tilt is the same. It
# matters wherever scores of *different* prompts meet:
#
# - in a mean score that somebody plots, or compares between two reward models;
# - in PPO's value function, which has to learn every $c(x)$, and in advantages that are standardised over a batch
#   (chapters 9 and 10);
# - in a mean of several reward models, and in a fixed penalty, say for an answer that does not stop;
# - in a filter: "keep the answers with a score above 1".
#
# Hence the custom of centring. InstructGPT shifts the scores so that demonstrations have mean 0 (2203.02155,
# section 3.5). Christiano et al. give them mean 0 and a constant deviation (1706.03741), and so does our
# `evaluate.standardise`, over answers of the reference. TRL's reward trainer has `center_rewards_coefficient`, which
# adds a little of $(s_{\text{chosen}} + s_{\text{rejected}})^2$ to the loss (after 2312.09244): that settles the
# offset of each prompt, too.
#
# Once scores are standardised, the same $\beta$ pulls alike under every reward model. But a margin is then no longer
# a claim: 1 does not mean 73 % any more. Measure calibration first.

# %% [markdown] widget-text
# ## Try it: pairs and noise
#
# All 28 settings of the stored runs. Left the learning curve of these people under their ceiling, right how often
# the model was right against what it claimed. The button trains one more, with other pairs and labels (a few
# seconds; with 4,096 pairs half a minute). **With which people does the curve come nearest to its ceiling? And
# where are claims too low?**

# %% widget
# NBVAL_IGNORE_OUTPUT
controls = {"pairs": stored.PAIRS, "temperature": stored.TEMPERATURES}
pairs_and_noise(stored.once_more, frames, start={"pairs": 512, "temperature": 1}, **controls)

# %% [markdown] widget-after
# With the noisiest people, at temperature 4, the distance is smallest: what a model does not see hardly shows in
# labels that are half noise. Claims are too low with 64 and 128 pairs. Four epochs of those are four steps or
# eight, and scores begin at 0. A scale that is too small is the mark of too few steps, as one that is too large is
# that of too many epochs.

# %% [markdown] summary
# ## In five lines
#
# 1. Bradley-Terry's likelihood is greatest where the model expects as many wins as there were; with no votes
#    against, the fit has no end.
# 2. A reward model reads its score at the last token, and learns from differences only: a constant per prompt
#    stays open.
# 3. Accuracy on labels has a ceiling below 1; what lies between model and ceiling is mostly one sort of pairs, which
#    it cannot see.
# 4. Noise shrinks the scale and leaves the ranking: a reward model can be right more often than its teachers.
# 5. Too many epochs inflate the scale; one factor corrects it, and centring settles the rest.

# %% [markdown] questions
# ## Three questions
#
# **1.** Two reward models are judged on the same held-out labels: both are right on 72 %. One has a loss of .55,
# the other of .80. Which do you take for PPO, and what do you do first?
#
# <details><summary>Answer</summary>
#
# They rank alike. A loss of .80 is worse than that of a coin (.69), so the second is overconfident: its scale is
# too large. One factor would bring it down, and standardising both makes $\beta$ mean the same anyway. Then look
# at accuracy by sort of pair: that is where they can differ.
# </details>
#
# **2.** A reward model gives answers to question A a mean score of 3, and answers to question B one of -1. Are we
# better at A?
#
# <details><summary>Answer</summary>
#
# Nobody ever compared an answer to A with one to B, so the labels say nothing about it. Compare with something on
# the same question: the score of the reference's answers to A, and to B.
# </details>
#
# **3.** A colleague wants to drop all training pairs on which the reward model contradicts the label. In our world
# half of the strongest contradictions were wrong labels. What can go wrong?
#
# <details><summary>Answer</summary>
#
# The other half were true labels. The model contradicts those where it is blind, as on pairs that differ in the uses
# alone. Dropping those removes the only data that could teach it. Prefer the strongest contradictions, of several
# models with other seeds, and have them labelled once more (chapter 7).
# </details>

# %% [markdown] classical
# ## The classical results beside ours
#
# | | published | here | why they differ |
# |---|---|---|---|
# | accuracy on held-out labels | InstructGPT: {{published:instructgpt-rm-own-labelers}} with its own labelers, {{published:instructgpt-rm-other-labelers}} with others | .68 to .72 on 2,000 pairs | much the same; our crowd was made to agree as theirs did |
# | gain per doubling of the pairs | {{published:tldr-doubling-pairs}} | about half of that | ours lack a sort of knowledge, not pairs |
# | pairs that the reward model contradicts | {{published:hh-strength-below-zero}}, ten models | a quarter, one model | |
# | labels confirmed where margins are lowest and highest | {{published:hh-strength-agreement}}, by GPT-4 | about .5 and over .95, by gold | theirs are the 500 most extreme of thousands, ours a tenth |
# | people who answer at random | {{published:christiano-random-labels}} of the time, assumed in the fit | 2 % of the time (twelve people), 10 % (five), always (one) | our fit has no term for it: one reason why slopes fall less than noise grows |
# | scores before the policy is trained | mean 0 and constant deviation (1706.03741); demonstrations at mean 0 (2203.02155) | mean 0 and deviation 1 on answers of the reference | |

# %% [markdown] further
# ## Further reading
#
# - Deep RL from human preferences: arXiv 1706.03741, section 2.2
# - Learning to summarize from human feedback, learning curves: arXiv 2009.01325
# - InstructGPT, the reward model's section: arXiv 2203.02155
# - Secrets of RLHF II, which labels to believe: arXiv 2401.06080
# - RewardBench, accuracy by sort of pair: arXiv 2403.13787
# - Reward model ensembles, and why offsets harm them: arXiv 2312.09244
# - Calibration of neural networks: arXiv 1706.04599
#
# **Next:** exercises 6.1 to 6.3, in `exercises/06_reward_model_training.ipynb`. Then chapter 7: which labels to
# believe.
# %% [exercises]
# %% [markdown] title
# # 6 · Exercises: the loss, the place, the trust
#
# Three functions, under an hour. Write each body, run the cell, then run its check. The first one trains a reward
# model, in a cell after its check; the second reads its scores, and the third says how far to believe it.
#
# All numbers come as tensors in double precision. A check prints them as lists; to try such a case yourself,
# wrap each list in `torch.tensor(...)`. Letters in the signatures are sizes: B rows or pairs, T columns (tokens),
# D the width of a hidden state, N claims.
#
# Stuck? Open the hints one at a time. The solved notebook is in `solutions/`, under the same name. In a
# terminal `prefcourse check 6` checks what you saved, and `prefcourse reset 6.1` gives you an exercise afresh.

# %% setup
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from prefcourse import annotators, evaluate, models, plots
from prefcourse.checks import NotWritten, check
from prefcourse.evaluate import PerRow
from prefcourse.lab import lab
from prefcourse.losses import LossAndMetrics, Scores
from prefcourse.sequences import Sequences, concatenate
from prefcourse.train import common, supervised
from prefcourse.widgets import live

torch.set_num_threads(1)
plt.rcParams.update(plots.STYLE)
reward_model = None  # until your loss has trained one

# %% [markdown] question-6-1
# **How badly do these scores explain the labels?** Given are the scores of B pairs of responses (`Scores`: one
# number per response). Return `(loss, metrics)`, as every loss of the package does. The loss is minus the
# log-likelihood of the labels under Bradley-Terry, mean over the batch, one number. The metrics are a dict of what
# you would like to log; they are not checked, and `{}` will do.
#
# - A label says: this response rather than that one. Its likelihood is $\sigma$ of the difference of the two
#   scores.
# - Adding a constant to both scores of a pair must change nothing, even if each pair has its own constant.
# - Scores go up to 10,000 in both directions, and the loss must stay finite.
# - The check compares the value, and the gradient with respect to every score.
#
# By hand first: the chosen response has score $\log 3$, the rejected one 0. How likely is the label? And what is the
# gradient with respect to each of the two scores?
# %% answer-6-1
from prefcourse.losses import bradley_terry_loss

# %% [markdown] use-6-1-text
# **Your own reward model.** The chapter's loop, with your loss in the middle. When 6.1 is solved, the cell after
# it trains a reward model on some 1,300 pairs, which takes a few seconds, and plots as it trains. **On which
# share of 600 labels that it has not seen will it be right?** (The first time, the cell also trains the SFT model,
# for half a minute.)


# %% your-loop
def your_reward_model(model, tokenizer, pairs, *, epochs=4, learning_rate=2e-3, batch_size=64, seed=0):
    chosen, rejected = supervised.encode_pairs(tokenizer, pairs)
    steps = supervised.steps_in(epochs, len(chosen), batch_size)
    optimiser = common.Optimiser(model, learning_rate, factor=common.warmup_cosine(steps))
    for rows in supervised.epochs_of(supervised.pair_lengths(chosen, rejected), batch_size, steps, seed):
        scores = model(concatenate(chosen.take(rows), rejected.take(rows)))  # (2B,)
        loss = bradley_terry_loss(*scores.chunk(2))
        step = optimiser.step(loss[0] if isinstance(loss, tuple) else loss)
        yield step | {"accuracy": (scores.chunk(2)[0] > scores.chunk(2)[1]).float().mean().item()}


# %% use-6-1
# NBVAL_IGNORE_OUTPUT
def loss_curve(figure, history):
    ax = figure.subplots()
    plots.curves(ax, {"loss": (range(1, len(history) + 1), [m["loss"] for m in history])}, ylabel="loss")
    ax.axhline(0.6931, color=plots.REFERENCE, linestyle=":")


if check("6.1", bradley_terry_loss).passed:
    here = lab(seed=0)
    pairs = here.pairs(here.answers(15, seed=0), annotators.population(), seed=0)
    reward_model = models.RewardModel.from_lm(here.sft)
    log = live(your_reward_model(reward_model, here.tokenizer, pairs[:-600]), loss_curve)
    reward_model = models.frozen_copy(reward_model)
    judged = evaluate.evaluate_reward_model(reward_model, here.tokenizer, pairs[-600:])
    print("right on {:.1%} of the held-out labels (95 % interval {:.1%} to {:.1%})".format(*judged.accuracy))
else:
    print("Here your loss will train a reward model, once 6.1 is solved.")

# %% [markdown] question-6-2
# **Which score does each row get?** Given are the hidden states of a batch, the weight of a head without bias, and
# a mask that is true on real tokens. Return one number per row: the head, read at the row's **last real token**.
#
# - Padding may stand on the left, on the right, or on both sides. Real tokens follow one another without a gap.
# - Hidden states of padding may hold anything, even `nan`. None of it may reach the scores.
# - A row without any token has no score: `nan`. It must not disturb the others.
# - It will be trained through: where all is a number, the check also compares the gradients with respect to hidden
#   states and weight.
#
# By hand first: one row of hidden states (1, 0), (2, 1), (9, 9), the weight (1, 1/2), and the mask true, true, false.
# Which score?


# %% answer-6-2
def last_token_score(
    hidden: Float[Tensor, "B T D"], weight: Float[Tensor, " D"], attention_mask: Bool[Tensor, "B T"]
) -> Float[Tensor, " B"]:
    """What does the head say at the last real token of each row? nan for a row without tokens."""
    columns = torch.arange(attention_mask.shape[1])
    last = (columns * attention_mask).argmax(dim=1)  # (B,)
    scores = hidden[torch.arange(len(last)), last] @ weight  # (B, D) @ (D,) -> (B,)
    return scores.masked_fill(~attention_mask.any(dim=1), float("nan"))


# %% [markdown] use-6-2-text
# **In the place of the package's.** The reward model that you trained reads the last pairs again, with padding
# put on both sides. Your function picks the place; the package's own scores stand beside.

# %% use-6-2
# NBVAL_IGNORE_OUTPUT
if reward_model and check("6.2", last_token_score).passed:
    rows, _ = supervised.encode_pairs(here.tokenizer, pairs[-6:])
    names = ("input_ids", "attention_mask", "response_mask")
    padded = Sequences(*(F.pad(getattr(rows, name), (2, 3)) for name in names))  # 0 is the padding token, and False
    reads = {"input_ids": padded.input_ids, "attention_mask": padded.attention_mask.long()}
    positions = (padded.attention_mask.cumsum(1) - 1).clamp(min=0)  # the first real token is number 0
    with torch.no_grad():
        hidden = reward_model.backbone(**reads, position_ids=positions).last_hidden_state
    yours = last_token_score(hidden, reward_model.head.weight[0], padded.attention_mask) + reward_model.head.bias
    for row, your_score, its_score in zip(pairs[-6:], yours, reward_model(rows), strict=True):
        print(f"yours {your_score:+.3f}   the package's {its_score:+.3f}   {row['chosen']}")
else:
    print("Here your function will read your reward model, once 6.1 and 6.2 are solved.")

# %% [markdown] question-6-3
# **How far are claims from what came true?** Given are N claimed probabilities, `confidence`, and for each one
# whether it came true, `correct`: 1, 0, or 1/2 where it was a tie (`PerRow`: one number for each). Sort the claims
# into `bins` bins of equal width on [0, 1]. In each bin compare the mean claim with the mean of what came true. Return
# the mean of these gaps, each bin weighing as many claims as it holds: the expected calibration error (Guo et al.,
# 1706.04599, equation 3).
#
# - A gap has no sign: a bin that claims too much and one that claims too little do not cancel.
# - A claim on the edge of two bins belongs to the upper one; a claim of exactly 1 to the last. Empty bins do not
#   count. There is at least one claim.
# - Claims below 0 or above 1 are scores that somebody forgot to turn into probabilities: raise `ValueError`.
#
# By hand first: the claims are .92, .92, .62 and .62, and of these the first, third and fourth came true. What is
# the mean claim, what share came true, and what is the error with ten bins?
# %% answer-6-3
from prefcourse.evaluate import expected_calibration_error

# %% [markdown] use-6-3-text
# **How far to believe it.** On the held-out pairs the model claims $\sigma(|\text{margin}|)$ for the answer that
# it prefers. Beside your number stands what a model would get whose claims are true, on as many pairs; it is not
# 0. **Is your reward model overconfident? And after twice as many epochs?** Change `epochs` above, and look.

# %% use-6-3
# NBVAL_IGNORE_OUTPUT
if reward_model and check("6.3", expected_calibration_error).passed:
    chosen, rejected = evaluate.read_pairs(reward_model, here.tokenizer, pairs[-600:])
    claimed, came_true = torch.sigmoid((chosen - rejected).abs()), (chosen > rejected).float()
    print(f"your reward model: {float(expected_calibration_error(claimed, came_true, bins=20)):.3f}")
    draw = torch.Generator().manual_seed(0)
    honest = [torch.bernoulli(claimed, generator=draw) for _ in range(50)]
    errors = [float(expected_calibration_error(claimed, truth, bins=20)) for truth in honest]
    print(f"a model whose claims are true: {sum(errors) / len(errors):.3f}, the mean of 50 draws")
    figure, ax = plt.subplots(figsize=(4.4, 4.2))
    plots.reliability_diagram(ax, evaluate.calibration_bins(claimed, came_true, bins=20))
    plots.show(figure, alt="Share of labels that your reward model got right, against what it claimed.")
else:
    print("Here your function will judge your reward model, once 6.1 and 6.3 are solved.")
