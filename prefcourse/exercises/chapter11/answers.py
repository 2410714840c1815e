"""Answers to chapter 11: an oracle by another road than the solution's, wrong answers that people give, right ones
written differently, hints. Never lies where submissions run."""

from __future__ import annotations

import math
import random
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from prefcourse import losses
from prefcourse.checks.exercise import Answers, Mutant
from prefcourse.exercises.tensors import closed_form
from prefcourse.logprobs import sequence_logprobs, token_logprobs

# --- 11.1 unseen_mass ---------------------------------------------------------------------------------------


def _by_sets(logprobs, prompts, chosen, rejected):
    """A set of answers per prompt, and a sum over those that are not in it."""
    rows = logprobs.tolist()
    seen = [set() for _ in rows]
    for prompt, *pair in zip(prompts.tolist(), chosen.tolist(), rejected.tolist(), strict=True):
        seen[prompt] |= set(pair)
    unseen = [[math.exp(x) for y, x in enumerate(row) if y not in seen[p]] for p, row in enumerate(rows)]
    return math.fsum(map(math.fsum, unseen)) / len(rows)


def _marked(shape, prompts, *sides):
    seen = torch.zeros(shape, dtype=torch.bool)
    for side in sides:
        seen[prompts, side] = True
    return seen


def _unseen(logprobs, prompts, chosen, rejected):
    return logprobs.exp().masked_fill(_marked(logprobs.shape, prompts, chosen, rejected), 0.0).sum(-1).mean()


def _of_pairs(logprobs, prompts, chosen, rejected):
    policy = logprobs.exp()
    return 1 - (policy[prompts, chosen] + policy[prompts, rejected]).sum() / len(policy)


def _anywhere(logprobs, prompts, chosen, rejected):
    seen = _marked(logprobs.shape, prompts, chosen, rejected).any(0, keepdim=True)
    return logprobs.exp().masked_fill(seen, 0.0).sum(-1).mean()


def _asked_only(logprobs, prompts, chosen, rejected):
    if not len(prompts):
        return torch.tensor(1.0)
    seen = _marked(logprobs.shape, prompts, chosen, rejected)
    asked = torch.unique(prompts)
    return logprobs.exp().masked_fill(seen, 0.0).sum(-1)[asked].mean()


def _as_often_as_asked(logprobs, prompts, chosen, rejected):
    if not len(prompts):
        return torch.tensor(1.0)
    seen = _marked(logprobs.shape, prompts, chosen, rejected)
    return logprobs.exp().masked_fill(seen, 0.0).sum(-1)[prompts].mean()


def _unasked_without_mass(logprobs, prompts, chosen, rejected):
    seen = _marked(logprobs.shape, prompts, chosen, rejected)
    return logprobs.exp().masked_fill(seen | ~seen.any(1, keepdim=True), 0.0).sum(-1).mean()


def _in_both_places(logprobs, prompts, chosen, rejected):
    both = _marked(logprobs.shape, prompts, chosen) & _marked(logprobs.shape, prompts, rejected)
    return logprobs.exp().masked_fill(both, 0.0).sum(-1).mean()


def _mean_over_pairs(logprobs, prompts, chosen, rejected):
    policy = logprobs.exp()
    return (1 - policy[prompts, chosen] - policy[prompts, rejected]).mean()


def _one_minus(logprobs, prompts, chosen, rejected):
    shown = {(p, y) for side in (chosen, rejected) for p, y in zip(prompts.tolist(), side.tolist(), strict=True)}
    return 1 - sum(logprobs[p, y].exp() for p, y in shown) / len(logprobs)


def _with_numpy(logprobs, prompts, chosen, rejected):
    policy = np.exp(logprobs.numpy())
    unseen = np.ones_like(policy)
    unseen[prompts.numpy(), chosen.numpy()] = 0
    unseen[prompts.numpy(), rejected.numpy()] = 0
    return float((policy * unseen).sum(axis=1).mean())


_UNSEEN_MASS = Answers(
    oracle=_by_sets,
    mutants=(
        Mutant(
            "seen-mass",
            "you return the mass of what the pairs show. Return the rest.",
            lambda logprobs, *pairs: 1 - _unseen(logprobs, *pairs),
        ),
        Mutant(
            "chosen-only",
            "you count only chosen answers as seen. A rejected one was shown, too.",
            lambda logprobs, prompts, chosen, rejected: _unseen(logprobs, prompts, chosen, chosen),
        ),
        Mutant(
            "rejected-only",
            "you count only rejected answers as seen. A chosen one was shown, too.",
            lambda logprobs, prompts, chosen, rejected: _unseen(logprobs, prompts, rejected, rejected),
        ),
        Mutant(
            "pair-by-pair",
            "you subtract every pair's two answers. One that occurs in many pairs counts once.",
            _of_pairs,
        ),
        Mutant(
            "to-any-prompt",
            "you count an answer as seen if any prompt's pairs show it. For each prompt, only its own pairs count.",
            _anywhere,
        ),
        Mutant(
            "asked-only",
            "you leave out the prompts that have no pair. All that is said to them is unseen: each counts as 1.",
            _asked_only,
        ),
        Mutant(
            "as-often-as-asked",
            "you average over pairs: a prompt with many counts many times. Average over the prompts.",
            _as_often_as_asked,
        ),
        Mutant(
            "sum",
            "you add up over the prompts. Take their mean.",
            lambda logprobs, *pairs: _unseen(logprobs, *pairs) * len(logprobs),
        ),
        Mutant(
            "counted",
            "you count unseen answers. Each weighs as much as the policy gives it.",
            lambda logprobs, *pairs: (~_marked(logprobs.shape, pairs[0], *pairs[1:])).double().mean(),
        ),
        Mutant(
            "mean-of-cells",
            "you take the mean over all cells of the table. Add up the unseen answers of each prompt; the mean is over "
            "the prompts.",
            lambda logprobs, *pairs: _unseen(logprobs, *pairs) / logprobs.shape[1],
        ),
        Mutant(
            "along-the-prompts",
            "you add up over the prompts (dim 0) and take the mean over the answers. Add up over the answers, dim 1.",
            lambda logprobs, *pairs: _unseen(logprobs, *pairs) * len(logprobs) / logprobs.shape[1],
        ),
        Mutant(
            "mean-of-unseen",
            "you take the mean over the unseen answers. Add them up for each prompt; the mean is over the prompts.",
            lambda logprobs, *pairs: logprobs.exp()[~_marked(logprobs.shape, pairs[0], *pairs[1:])].mean(),
        ),
        Mutant(
            "one-for-seen",
            "you set log-probabilities of seen answers to 0, and exp(0) is 1. Take exp first, or fill with -inf.",
            lambda logprobs, *pairs: (
                logprobs.masked_fill(_marked(logprobs.shape, pairs[0], *pairs[1:]), 0.0).exp().sum(-1).mean()
            ),
        ),
        Mutant(
            "in-both",
            "you count an answer as seen only where it was chosen in one pair and rejected in another (and). One of "
            "the two is enough (or).",
            _in_both_places,
        ),
        Mutant(
            "mean-over-pairs",
            "you take 1 minus two probabilities for every pair, and the mean over pairs. Mark what all pairs of a "
            "prompt show, then take the mean over prompts.",
            _mean_over_pairs,
        ),
        Mutant(
            "unasked-without-mass",
            "you give 0 to a prompt that has no pair. All that is said to it is unseen: it counts as 1.",
            _unasked_without_mass,
        ),
        Mutant(
            "nothing-marked",
            "nothing is marked in your table: every prompt gives 1. seen[prompts][:, chosen] = True writes into a "
            "copy; seen[prompts, chosen] = True into the table.",
            lambda logprobs, *pairs: logprobs.exp().sum(-1).mean(),
        ),
        Mutant(
            "logprobs",
            "you add log-probabilities. Take exp of each first.",
            lambda logprobs, *pairs: (
                logprobs.masked_fill(_marked(logprobs.shape, pairs[0], *pairs[1:]), 0.0).sum(-1).mean()
            ),
        ),
    ),
    alternatives=(_unseen, _one_minus, _with_numpy),
    hints=(
        "Which cells of the table (prompt, answer) does any pair touch? Mark those, then look at the others.",
        "A table of booleans, P x V, all False; seen[prompts, chosen] = True and seen[prompts, rejected] = True. Then "
        "the sum of exp(logprobs) over the unmarked cells of each row, and the mean of the rows.",
        "The chapter's part 'What the pairs do not show' sums the last three columns of its single row; here each row "
        "has columns of its own.",
    ),
)


# --- 11.2 online_dpo_step -----------------------------------------------------------------------------------


def _word_by_word(policy, reference, prompts, sample, judge, *, beta):
    """Value and slopes by hand: a word y after x moves the table's row x by (1 at y) - probabilities."""
    ids, mask = sample(policy, prompts)
    scores = [judge(ids[row : row + 1], mask[row : row + 1]).item() for row in range(len(ids))]
    sums, slopes = zip(*(_sum_and_slope(policy, reference, i, m) for i, m in zip(ids, mask, strict=True)), strict=True)
    total, slope, decided = 0.0, torch.zeros_like(policy.table), 0
    for first in range(0, len(ids), 2):
        second = first + 1
        if scores[first] == scores[second]:
            continue
        chosen, rejected = (first, second) if scores[first] > scores[second] else (second, first)
        margin = beta * (sums[chosen] - sums[rejected])
        total += math.log1p(math.exp(-abs(margin))) + max(0.0, -margin)
        pull = 1 / (1 + math.exp(min(margin, 700.0)))
        slope -= beta * pull * (slopes[chosen] - slopes[rejected])
        decided += 1
    count = max(1, decided)
    return closed_form(total / count, policy=(policy.table, slope / count))


def _sum_and_slope(policy, reference, ids, mask):
    total, slope = 0.0, torch.zeros_like(policy.table)
    for t in mask.nonzero()[:, 0].tolist():
        before, word = ids[t - 1].item(), ids[t].item()
        own, theirs = (model.table[before].detach().double().log_softmax(-1) for model in (policy, reference))
        total += (own[word] - theirs[word]).item()
        slope[before] -= own.exp()
        slope[before, word] += 1
    return total, slope


def _sums(model, ids, mask):
    return sequence_logprobs(model(ids), ids, mask)


def _means(model, ids, mask):
    return _sums(model, ids, mask) / mask.sum(1).clamp(min=1)


def _with_prompt(model, ids, mask):
    everything = ids != 0
    everything[:, 0] = False
    return _sums(model, ids, everything)


def _without_last(model, ids, mask):
    shifted = torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], dim=1)
    return _sums(model, ids, mask & shifted)


def _not_shifted(model, ids, mask):
    picked = model(ids).log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    return picked.masked_fill(~mask, 0.0).sum(1)


def _log_ratios(policy, reference, ids, mask, sums):
    return sums(policy, ids, mask) - sums(reference, ids, mask).detach()


def _step(
    policy, reference, prompts, sample, judge, *, beta, sums=_sums, who=lambda policy, reference: policy,
    log_ratios=_log_ratios, pairs=lambda x: x.view(-1, 2), signs=torch.sign, penalty=F.softplus,
    mean=lambda values, decided: values[decided].sum() / decided.sum().clamp(min=1),
):  # fmt: skip
    """The usual way, with one step at a time to be got wrong."""
    ids, mask = sample(who(policy, reference), prompts)
    scores = pairs(judge(ids, mask))
    of_pairs = pairs(log_ratios(policy, reference, ids, mask, sums))
    sign = signs((scores[:, 0] - scores[:, 1]).detach())
    return mean(penalty(-sign * beta * (of_pairs[:, 0] - of_pairs[:, 1])), sign != 0)


def _wrong(**change):
    return partial(_step, **change)


def _always_the_same(policy, reference, prompts, sample, judge, *, beta, kept={}):  # noqa: B006
    """What was drawn in the first step is used again in the next."""
    if kept.get("sampler") is not sample:
        kept.update(sampler=sample, drawn=sample(policy, prompts))
    return _step(policy, reference, prompts, lambda *_: kept["drawn"], judge, beta=beta)


def _weighted(policy, reference, prompts, sample, judge, *, beta):
    ids, mask = sample(policy, prompts)
    gap = judge(ids, mask).view(-1, 2).diff(dim=1)[:, 0]
    ratio = _log_ratios(policy, reference, ids, mask, _sums).view(-1, 2).diff(dim=1)[:, 0]
    decided = gap != 0
    return (F.softplus(-gap.sign() * beta * ratio) * gap.abs())[decided].sum() / decided.sum().clamp(min=1)


def _gap_as_sign(policy, reference, prompts, sample, judge, *, beta):
    ids, mask = sample(policy, prompts)
    gap = judge(ids, mask).view(-1, 2).diff(dim=1)[:, 0]
    ratio = _log_ratios(policy, reference, ids, mask, _sums).view(-1, 2).diff(dim=1)[:, 0]
    decided = gap != 0
    return F.softplus(-gap * beta * ratio)[decided].sum() / decided.sum().clamp(min=1)


def _soft(policy, reference, prompts, sample, judge, *, beta):
    ids, mask = sample(policy, prompts)
    gap = judge(ids, mask).view(-1, 2).diff(dim=1)[:, 0]
    margins = beta * _log_ratios(policy, reference, ids, mask, _sums).view(-1, 2).diff(dim=1)[:, 0]
    second, decided = torch.sigmoid(gap), gap != 0
    values = second * F.softplus(-margins) + (1 - second) * F.softplus(margins)
    return values[decided].sum() / decided.sum().clamp(min=1)


def _drawn_twice(policy, reference, prompts, sample, judge, *, beta):
    """The judge sees other answers than those whose log-probabilities count."""
    judged, drawn = sample(policy, prompts), sample(policy, prompts)
    return _step(policy, reference, prompts, lambda *_: drawn, lambda *_: judge(*judged), beta=beta)


def _logits(model, ids, mask):
    picked = model(ids)[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
    return picked.masked_fill(~mask[:, 1:], 0.0).sum(1)


def _nan_to_zero(values, decided):
    """The loss is right; 0/0 in the sign of a tied pair makes every gradient nan."""
    undone = torch.where(decided, 0.0, torch.nan) * values
    return (values + undone).nan_to_num(0.0)[decided].sum() / decided.sum().clamp(min=1)


def _reinforce(policy, reference, prompts, sample, judge, *, beta):
    ids, mask = sample(policy, prompts)
    ratio = _log_ratios(policy, reference, ids, mask, _sums)
    return -((judge(ids, mask).detach() - beta * ratio.detach()) * ratio).mean()


def _one_by_one(policy, reference, prompts, sample, judge, *, beta):
    """A prompt at a time: two answers each, drawn in the same order."""
    steps = []
    for prompt in prompts:
        ids, mask = sample(policy, [prompt])
        with torch.no_grad():
            first, second = judge(ids, mask)
            theirs = token_logprobs(reference(ids), ids, mask).sum(1)
        if first == second:
            continue
        ratio = token_logprobs(policy(ids), ids, mask).sum(1) - theirs
        margin = beta * (ratio[0] - ratio[1]) if first > second else beta * (ratio[1] - ratio[0])
        steps.append(-F.logsigmoid(margin))
    return torch.stack(steps).mean() if steps else torch.tensor(0.0)


def _with_package(policy, reference, prompts, sample, judge, *, beta):
    ids, mask = sample(policy, prompts)
    scores = judge(ids, mask).detach()
    even, odd = scores[::2], scores[1::2]
    first = torch.arange(0, len(scores), 2)[even != odd]
    better = first + (odd > even)[even != odd].long()
    worse = first + (odd < even)[even != odd].long()
    if not len(better):
        return 0.0
    own, theirs = _sums(policy, ids, mask), _sums(reference, ids, mask).detach()
    return losses.dpo_loss(own[better], own[worse], theirs[better], theirs[worse], beta=beta)


def _in_fp32(policy, reference, prompts, sample, judge, *, beta):
    ids, mask = sample(policy, prompts)
    with torch.no_grad():
        scores = judge(ids, mask).reshape(len(prompts), 2)
    logits = policy(ids).float(), reference(ids).float().detach()
    own, theirs = (sequence_logprobs(x, ids, mask).reshape(len(prompts), 2) for x in logits)
    ratio = (own - theirs)[scores[:, 0] != scores[:, 1]]
    winners = scores[scores[:, 0] != scores[:, 1]].argsort(dim=1, descending=True)
    ratio = ratio.gather(1, winners)
    return -F.logsigmoid(beta * (ratio[:, 0] - ratio[:, 1])).sum() / max(1, len(ratio)), {"decided": len(ratio)}


_ONLINE_DPO_STEP = Answers(
    oracle=_word_by_word,
    mutants=(
        Mutant(
            "from-the-reference",
            "you let the reference answer. Fresh answers come from the policy as it is now.",
            _wrong(who=lambda policy, reference: reference),
        ),
        Mutant(
            "first-answers-again",
            "the first step is right; in the next you use the answers of the first again. Every step draws new ones.",
            _always_the_same,
        ),
        Mutant(
            "worse-is-chosen",
            "you make the answer with the LOWER score the chosen one.",
            _wrong(signs=lambda gap: -torch.sign(gap)),
        ),
        Mutant(
            "not-judged",
            "the first answer of each pair is always your chosen one. The judge's scores decide.",
            _wrong(signs=torch.ones_like),
        ),
        Mutant(
            "first-is-chosen",
            "you leave out ties, but never ask which score is higher: the first of each pair is your chosen one.",
            _wrong(signs=lambda gap: gap.sign().abs()),
        ),
        Mutant(
            "halves",
            "you compare row i with row i + B. The two answers to one prompt follow each other: view(-1, 2).",
            _wrong(pairs=lambda x: x.view(2, -1).T),
        ),
        Mutant(
            "weighted-by-the-gap",
            "the gap between the scores is a factor of your loss, so a gradient reaches the judge. The judge only "
            "says which of two answers is chosen.",
            _weighted,
        ),
        Mutant(
            "gap-for-sign",
            "you multiply the margin by the gap between the scores. Only its sign counts: which answer is chosen, not "
            "by how much.",
            _wrong(signs=lambda gap: gap),
        ),
        Mutant(
            "gap-for-sign-with-gradient",
            "you multiply the margin by the gap between the scores, so a gradient reaches the judge. Only its sign "
            "counts.",
            _gap_as_sign,
        ),
        Mutant(
            "soft-labels",
            "you weight both orders by the sigmoid of the gap. Here the judge decides: the higher score is chosen, "
            "whatever the gap.",
            _soft,
        ),
        Mutant(
            "drawn-twice",
            "you call `sample` twice: the judge sees different answers from those whose log-probabilities you take. "
            "Call it once.",
            _drawn_twice,
        ),
        Mutant(
            "four-answers",
            "you give each prompt to `sample` twice, and it draws two answers to each: that makes four per prompt.",
            lambda policy, reference, prompts, *given, beta: _step(
                policy, reference, [prompt for prompt in prompts for _ in range(2)], *given, beta=beta
            ),
        ),
        Mutant(
            "reinforce",
            "this is a policy gradient: scores times log-probabilities. Return DPO's loss on the two answers.",
            _reinforce,
        ),
        Mutant(
            "reference-is-the-policy",
            "your reference is the policy itself: every margin is 0. It is the second model.",
            _wrong(log_ratios=lambda p, r, i, m, sums: sums(p, i, m) - sums(p, i, m).detach()),
        ),
        Mutant(
            "no-reference",
            "you leave out the reference. Rewards are beta times (log policy - log reference).",
            _wrong(log_ratios=lambda p, r, i, m, sums: sums(p, i, m)),
        ),
        Mutant(
            "reference-learns",
            "a gradient reaches the reference. It is frozen: torch.no_grad() around it, or detach().",
            _wrong(log_ratios=lambda p, r, i, m, sums: sums(p, i, m) - sums(r, i, m)),
        ),
        Mutant(
            "means",
            "you take the mean over an answer's tokens. A log-probability of an answer is their sum.",
            _wrong(sums=_means),
        ),
        Mutant(
            "last-token-dropped",
            "the last token of each answer is missing in your sums. EOS counts.",
            _wrong(sums=_without_last),
        ),
        Mutant(
            "logits",
            "you add logits, which are not log-probabilities yet: log_softmax first, or sequence_logprobs.",
            _wrong(sums=_logits),
        ),
        Mutant(
            "not-shifted",
            "you read each token's probability from its own column. Logits of column t-1 predict token t.",
            _wrong(sums=_not_shifted),
        ),
        Mutant(
            "ties-to-the-first",
            "you give a tie to the first answer. Equal scores say nothing: leave the pair out.",
            _wrong(signs=lambda gap: torch.where(gap >= 0, 1.0, -1.0)),
        ),
        Mutant(
            "ties-to-the-second",
            "you give a tie to the second answer. Equal scores say nothing: leave the pair out.",
            _wrong(signs=lambda gap: torch.where(gap > 0, 1.0, -1.0)),
        ),
        Mutant(
            "ties-as-log-2",
            "a tied pair has margin 0 and adds log 2 to your mean. Leave it out.",
            _wrong(mean=lambda values, decided: values.mean()),
        ),
        Mutant(
            "ties-in-the-mean",
            "you divide by all pairs. Tied ones are left out of the mean, too: divide by the decided ones.",
            _wrong(mean=lambda values, decided: values[decided].sum() / len(values)),
        ),
        Mutant(
            "mean-of-nothing",
            "where nothing is decided your mean divides by 0, and the loss is nan. It is 0.",
            _wrong(mean=lambda values, decided: values[decided].mean()),
        ),
        Mutant(
            "sum-of-pairs",
            "you add up over the pairs. Take the mean of the decided ones.",
            _wrong(mean=lambda values, decided: values[decided].sum()),
        ),
        Mutant(
            "no-beta",
            "you leave out beta: margins are beta times the difference of log-ratios.",
            lambda *given, beta: _step(*given, beta=1.0),
        ),
        Mutant(
            "sign",
            "your loss has the wrong sign: it is MINUS log sigmoid of the margin.",
            _wrong(penalty=lambda x: F.logsigmoid(-x)),
        ),
        Mutant(
            "unstable",
            "at large margins sigmoid is rounded to 0, and its logarithm is -inf. Use F.logsigmoid.",
            _wrong(penalty=lambda x: -torch.log(torch.sigmoid(-x))),
        ),
        Mutant(
            "small-number-inside",
            "a small number inside the logarithm caps the loss of a pair (1e-8: at 18). Use F.logsigmoid.",
            _wrong(penalty=lambda x: -torch.log(torch.sigmoid(-x) + 1e-8)),
        ),
        Mutant(
            "nan-gradient",
            "the loss is right, but the gradient is nan: a tied pair is computed as nan and hidden afterwards, and 0 "
            "times nan is nan on the way back. Leave tied pairs out before they become nan.",
            _wrong(mean=_nan_to_zero),
        ),
        Mutant(
            "no-gradient",
            "the value is right, but no gradient reaches the policy. torch.no_grad() belongs around sampling, judge "
            "and reference only.",
            torch.no_grad()(lambda *given, beta: _step(*given, beta=beta)),
        ),
    ),
    alternatives=(_step, _one_by_one, _with_package, _in_fp32, _wrong(sums=_with_prompt)),  # the prompt cancels
    hints=(
        "Five lines: let the policy answer; let the judge score; log-probabilities under both models; which answer is "
        "chosen; DPO's loss. Which of the five may carry a gradient?",
        "scores.view(-1, 2) and log_ratios.view(-1, 2) have a row per prompt. The sign of the scores' difference turns "
        "the difference of log-ratios into chosen minus rejected; where it is 0, the pair is left out.",
        "The chapter's part 'Fresh labels' does the same on a table. Log-probabilities of a response: chapter 4, or "
        "sequence_logprobs, which is imported above.",
    ),
)


# --- 11.3 paired_bootstrap ----------------------------------------------------------------------------------


def _ends(values, level=0.95):
    ranked = np.sort(np.asarray(values, dtype=float))
    tail = (1 - level) / 2
    return float(np.quantile(ranked, tail)), float(np.quantile(ranked, 1 - tail))


def _without_drawing(gold_a, gold_b, *, draws=1000, seed=0):
    """Where there are many draws, their limit: the sum of P drawn differences has the P-fold convolution of one."""
    difference = (gold_a.mean(1) - gold_b.mean(1)).numpy()
    count, low, span = len(difference), difference.min(), np.ptp(difference)
    if draws < 200:
        often = np.random.default_rng(seed).multinomial(count, [1 / count] * count, size=draws)  # (draws, P)
        return _ends(often @ difference / count)
    if span < 1e-9:
        return low, low
    cells = 500  # the differences as whole numbers of steps from the smallest
    one = np.bincount(np.round((difference - low) / span * cells).astype(int), minlength=cells + 1) / count
    size = 1 << (cells * count).bit_length()
    below = np.cumsum(np.fft.irfft(np.fft.rfft(one, size) ** count, size))
    return tuple(low + span / cells * np.searchsorted(below, [0.025, 0.975]) / count)


def _drawn(count, draws, seed):
    return torch.randint(count, (draws, count), generator=torch.Generator().manual_seed(seed))


def _quantiles(means, low=0.025, high=0.975):
    ends = torch.quantile(means, torch.tensor([low, high], dtype=means.dtype))
    return ends[0].item(), ends[1].item()


def _paired(gold_a, gold_b, *, draws=1000, seed=0, rows=_drawn, ends=_quantiles):
    """The usual way, with one step at a time to be got wrong."""
    difference = gold_a.mean(1) - gold_b.mean(1)
    return ends(difference[rows(len(difference), draws, seed)].mean(1))


def _unpaired(gold_a, gold_b, *, draws=1000, seed=0):
    a, b = gold_a.mean(1), gold_b.mean(1)
    rows = _drawn(len(a), draws, seed), _drawn(len(a), draws, seed + 1)
    return _quantiles(a[rows[0]].mean(1) - b[rows[1]].mean(1))


def _answers_drawn(gold_a, gold_b, *, draws=1000, seed=0):
    """The prompts stay; each policy's answers to a prompt are drawn."""
    generator = torch.Generator().manual_seed(seed)
    means = []
    for gold in (gold_a, gold_b):
        index = torch.randint(gold.shape[1], (draws, *gold.shape), generator=generator)
        means.append(gold.expand(draws, *gold.shape).gather(2, index).mean((1, 2)))
    return _quantiles(means[0] - means[1])


def _pooled(gold_a, gold_b, *, draws=1000, seed=0):
    """Every answer is a row of its own, as if there were as many prompts."""
    generator, means = torch.Generator().manual_seed(seed), []
    for gold in (gold_a, gold_b):
        flat = gold.flatten()
        index = torch.randint(len(flat), (draws, len(flat)), generator=generator)
        means.append(flat[index].mean(1))
    return _quantiles(means[0] - means[1])


def _without_replacement(count, draws, seed):
    return torch.rand(draws, count, generator=torch.Generator().manual_seed(seed)).argsort(1)


def _basic(gold_a, gold_b, *, draws=1000, seed=0):
    low, high = _paired(gold_a, gold_b, draws=draws, seed=seed)
    middle = 2 * (gold_a.mean(1) - gold_b.mean(1)).mean().item()
    return middle - high, middle - low


def _of_single_prompts(gold_a, gold_b, *, draws=1000, seed=0):
    return _quantiles(gold_a.mean(1) - gold_b.mean(1))


def _single_prompts_drawn(gold_a, gold_b, *, draws=1000, seed=0):
    difference = gold_a.mean(1) - gold_b.mean(1)
    return _quantiles(difference[_drawn(len(difference), draws, seed)[:, 0]])


def _normal(gold_a, gold_b, *, draws=1000, seed=0):
    difference = gold_a.mean(1) - gold_b.mean(1)
    means = difference[_drawn(len(difference), draws, seed)].mean(1)
    reach = 1.96 * means.std(correction=0)
    return (difference.mean() - reach).item(), (difference.mean() + reach).item()


def _along_the_prompts(gold_a, gold_b, *, draws=1000, seed=0):
    difference = gold_a.mean(0) - gold_b.mean(0)
    return _quantiles(difference[_drawn(len(difference), draws, seed)].mean(1))


def _sums_of_answers(gold_a, gold_b, **given):
    return _paired(gold_a.sum(1, keepdim=True), gold_b.sum(1, keepdim=True), **given)


def _spread_of_means(gold_a, gold_b, *, draws=1000, seed=0):
    difference = gold_a.mean(1) - gold_b.mean(1)
    means = difference[_drawn(len(difference), draws, seed)].mean(1)
    return (means.mean() - means.std()).item(), (means.mean() + means.std()).item()


def _other_seed_each_time(gold_a, gold_b, *, draws=1000, seed=0):
    difference = gold_a.mean(1) - gold_b.mean(1)
    return _quantiles(difference[torch.randint(len(difference), (draws, len(difference)))].mean(1))


def _medians(gold_a, gold_b, *, draws=1000, seed=0):
    difference = gold_a.mean(1) - gold_b.mean(1)
    return _quantiles(difference[_drawn(len(difference), draws, seed)].median(1).values)


def _in_a_loop(gold_a, gold_b, *, draws=1000, seed=0):
    draw = random.Random(seed)
    differences = (gold_a.mean(1) - gold_b.mean(1)).tolist()
    means = sorted(sum(draw.choices(differences, k=len(differences))) / len(differences) for _ in range(draws))
    return [means[int(0.025 * draws)], means[min(draws - 1, int(0.975 * draws))]]


def _rows_of_both(gold_a, gold_b, *, draws=1000, seed=0):
    """The same rows of both tables."""
    rows = np.random.default_rng(seed).integers(len(gold_a), size=(draws, len(gold_a)))
    a, b = gold_a.mean(1).numpy(), gold_b.mean(1).numpy()
    return np.percentile(a[rows].mean(1) - b[rows].mean(1), [2.5, 97.5])


_PAIRED_BOOTSTRAP = Answers(
    oracle=_without_drawing,
    mutants=(
        Mutant(
            "unpaired",
            "you draw questions for a and for b independently: what is hard for both counts as a difference, and the "
            "interval is too wide. Draw once, and take the same questions for both.",
            _unpaired,
        ),
        Mutant(
            "answers",
            "you draw answers and keep the questions. Then the interval is about these very questions; draw "
            "questions, each with all its answers.",
            _answers_drawn,
        ),
        Mutant(
            "pooled",
            "you pool all answers and draw among them. Answers to one question belong together: draw questions.",
            _pooled,
        ),
        Mutant(
            "no-replacement",
            "you draw without replacement: every draw has all the questions, and all means are equal.",
            lambda *golds, **given: _paired(*golds, **given, rows=_without_replacement),
        ),
        Mutant(
            "ninety",
            "your ends are the 5th and 95th percentiles: that is an interval of 90 %. Leave 2.5 % out on each side.",
            lambda *golds, **given: _paired(*golds, **given, ends=partial(_quantiles, low=0.05, high=0.95)),
        ),
        Mutant(
            "one-sided",
            "your lower end leaves out 5 %, your upper end nothing. Leave 2.5 % out on each side.",
            lambda *golds, **given: _paired(*golds, **given, ends=partial(_quantiles, low=0.05, high=1.0)),
        ),
        Mutant(
            "smallest-and-largest",
            "your ends are the smallest and the largest draw. Take the 2.5th and the 97.5th percentiles.",
            lambda *golds, **given: _paired(*golds, **given, ends=partial(_quantiles, low=0.0, high=1.0)),
        ),
        Mutant(
            "one-percent",
            "your ends are the 0.025th percentile and its counterpart: 2.5 % is a share of 0.025.",
            lambda *golds, **given: _paired(*golds, **given, ends=partial(_quantiles, low=0.00025, high=0.99975)),
        ),
        Mutant(
            "percent-as-share",
            "your ends are percentiles 0.025 and 0.975, both near the smallest draw: np.percentile wants 2.5, 97.5.",
            lambda *golds, **given: _paired(*golds, **given, ends=partial(_quantiles, low=0.00025, high=0.00975)),
        ),
        Mutant(
            "single-prompts-drawn",
            "each of your draws is a single question. A draw has as many questions as there are, and its mean counts.",
            _single_prompts_drawn,
        ),
        Mutant(
            "along-the-prompts",
            "you average over the questions, and draw among answers. Average over the answers to each question: dim 1.",
            _along_the_prompts,
        ),
        Mutant(
            "sums",
            "you add up the answers to a question. Take their mean: a may have more of them than b.",
            _sums_of_answers,
        ),
        Mutant(
            "single-prompts",
            "these are percentiles of the questions' differences. Return an interval for their MEAN.",
            _of_single_prompts,
        ),
        Mutant(
            "one-error",
            "you give the mean plus and minus one standard deviation of the drawn means: that covers 68 %.",
            _spread_of_means,
        ),
        Mutant(
            "normal",
            "you give the mean plus and minus 1.96 standard errors. Where the draws are skewed, the ends are "
            "elsewhere: take their percentiles.",
            _normal,
        ),
        Mutant(
            "turned-over",
            "you mirror the percentiles at the difference (2 d - percentile). Return the percentiles themselves.",
            _basic,
        ),
        Mutant(
            "b-minus-a",
            "you subtract the other way round: a minus b.",
            lambda a, b, **given: _paired(b, a, **given),
        ),
        Mutant(
            "high-first",
            "the lower end comes first.",
            lambda *golds, **given: _paired(*golds, **given)[::-1],
        ),
        Mutant(
            "medians",
            "you take the median of each draw. Return the difference of means.",
            _medians,
        ),
        Mutant(
            "no-seed",
            "the same seed gives another interval each time. Draw with a generator of that seed.",
            _other_seed_each_time,
        ),
        Mutant(
            "one-seed-for-all",
            "your generator has a seed of its own. Give it `seed`.",
            lambda *golds, draws=1000, seed=0: _paired(*golds, draws=draws, seed=0),
        ),
        Mutant(
            "as-many-as-usual",
            "you ignore `draws`.",
            lambda *golds, draws=1000, seed=0: _paired(*golds, draws=1000, seed=seed),
        ),
    ),
    alternatives=(_paired, _in_a_loop, _rows_of_both),
    hints=(
        "What would another set of questions have given? Draw one from those you have, with replacement, and "
        "compute the difference again. And again.",
        "difference = gold_a.mean(1) - gold_b.mean(1), one number per question. rows = torch.randint(P, (draws, P)), "
        "difference[rows].mean(1): `draws` means. Their 2.5th and 97.5th percentiles: torch.quantile.",
        "The chapter's part 'On the same questions' draws questions once and takes the same ones for both policies.",
    ),
)

ANSWERS = {"11.1": _UNSEEN_MASS, "11.2": _ONLINE_DPO_STEP, "11.3": _PAIRED_BOOTSTRAP}
