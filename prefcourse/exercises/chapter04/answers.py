"""Answers to chapter 4: an oracle by another road than the solution's, wrong answers that people give, right ones
written differently, hints. Never lies where submissions run."""

from __future__ import annotations

import math
from functools import partial

import torch
import torch.nn.functional as F

from prefcourse import logprobs, losses
from prefcourse.checks.exercise import Answers, Mutant
from prefcourse.exercises.tensors import closed_form

# --- 4.1 sequence_logprobs ----------------------------------------------------------------------------------


def _sums_token_by_token(logits, input_ids, response_mask):
    """Every token by hand; d log p / d logits = 1 at the token that came, minus the probabilities."""
    values, slope = [], torch.zeros_like(logits)
    for row, (ids, mask) in enumerate(zip(input_ids.tolist(), response_mask.tolist(), strict=True)):
        terms = []
        for t in range(1, len(ids)):
            if mask[t]:
                logprob, probabilities = _by_hand(logits[row, t - 1].tolist(), ids[t])
                terms.append(logprob)
                slope[row, t - 1] -= torch.tensor(probabilities)
                slope[row, t - 1, ids[t]] += 1
        values.append(math.fsum(terms))
    values = torch.tensor(values, dtype=torch.float64)
    return values + ((logits - logits.detach()) * slope).sum((1, 2)) if logits.requires_grad else values


def _by_hand(logits, token):
    """log p of one token, and all probabilities."""
    highest = max(logits)
    powers = [math.exp(x - highest) for x in logits]
    total = math.fsum(powers)
    return logits[token] - highest - math.log(total), [power / total for power in powers]


def _log_p(logits):
    return logits.log_softmax(-1)


def _gathered(table, ids):
    return table.gather(-1, ids[..., None])[..., 0]


def _sums(logits, input_ids, response_mask, *, log_p=_log_p, mask=lambda mask: mask, off_mask=None):
    """The usual way, with one step at a time to be got wrong."""
    by_token = _gathered(log_p(logits[:, :-1]), input_ids[:, 1:])
    counted = mask(response_mask)[:, 1:]
    return (by_token.masked_fill(~counted, 0.0) if off_mask is None else off_mask(by_token, counted)).sum(-1)


def _in_the_own_column(logits, input_ids, response_mask):
    return _gathered(_log_p(logits), input_ids).masked_fill(~response_mask, 0.0).sum(-1)


def _shifted_the_wrong_way(logits, input_ids, response_mask):
    by_token = _gathered(_log_p(logits[:, 1:]), input_ids[:, :-1])
    return by_token.masked_fill(~response_mask[:, :-1], 0.0).sum(-1)


def _mask_one_late(mask):
    return F.pad(mask[:, :-1], (1, 0))


def _up_to_the_end(mask):
    return mask.flip(1).cumsum(1).flip(1) > 0


def _without_the_last(mask):
    return mask & ~(mask & ~F.pad(mask[:, 1:], (0, 1)))


def _mean(logits, input_ids, response_mask):
    return _sums(logits, input_ids, response_mask) / response_mask.sum(-1).clamp(min=1)


def _mean_over_columns(logits, input_ids, response_mask):
    return _sums(logits, input_ids, response_mask) / (response_mask.shape[1] - 1)


def _one_number(logits, input_ids, response_mask):
    return _sums(logits, input_ids, response_mask).sum()


def _log_of_softmax(logits):
    return logits.softmax(-1).log()


def _log_of_softmax_and_a_little(logits):
    return (logits.softmax(-1) + 1e-8).log()


def _log_of_the_product(logits, input_ids, response_mask):
    by_token = _gathered(logits[:, :-1].softmax(-1), input_ids[:, 1:])
    return by_token.masked_fill(~response_mask[:, 1:], 1.0).prod(-1).log()


def _per_token(logits, input_ids, response_mask):
    return _gathered(_log_p(logits[:, :-1]), input_ids[:, 1:]).masked_fill(~response_mask[:, 1:], 0.0)


def _as_many_from_the_first(mask):
    start, size = mask.int().argmax(-1, keepdim=True), mask.sum(-1, keepdim=True)
    places = torch.arange(mask.shape[1])
    return (places >= start) & (places < start + size)


def _first_to_last(mask):
    return (mask.cumsum(1) > 0) & _up_to_the_end(mask)


def _of_blanked_logits(logits, input_ids, response_mask):
    return _sums(logits.masked_fill(~response_mask[..., None], 0.0), input_ids, response_mask)


def _times_mask(by_token, counted):
    return by_token * counted


def _with_cross_entropy(logits, input_ids, response_mask):
    labels = input_ids.masked_fill(~response_mask, -100)[:, 1:]
    by_token = F.cross_entropy(logits[:, :-1].transpose(1, 2), labels, ignore_index=-100, reduction="none")
    return -by_token.sum(dim=1)


def _row_by_row(logits, input_ids, response_mask):
    sums = []
    for row, ids, mask in zip(logits, input_ids, response_mask, strict=True):
        places = mask.nonzero()[:, 0]
        chosen = row[places - 1, ids[places]]
        sums.append((chosen - row[places - 1].logsumexp(-1)).sum())
    return sums


def _with_rolled_logits(logits, input_ids, response_mask):
    logits[~response_mask.roll(-1, dims=1)] = 0.0
    table = (logits - logits.logsumexp(-1, keepdim=True)).roll(1, dims=1)
    words = F.one_hot(input_ids, logits.shape[-1])
    return torch.where(response_mask, (table * words).sum(-1), 0.0).sum(-1)


def _in_single_precision(logits, input_ids, response_mask):
    return _sums(logits.float(), input_ids, response_mask)


_SEQUENCE_LOGPROBS = Answers(
    oracle=_sums_token_by_token,
    mutants=(
        Mutant(
            "no-shift",
            "you look each token up in its own column. Logits in column t predict token t + 1: pair logits[:, :-1] "
            "with input_ids[:, 1:].",
            _in_the_own_column,
        ),
        Mutant(
            "wrong-way",
            "you shift the wrong way: the token is looked up one column to its RIGHT. Its prediction stands one column "
            "to its left.",
            _shifted_the_wrong_way,
        ),
        Mutant(
            "mask-not-shifted",
            "logits and tokens are shifted, the mask is not: you leave out the first token of the response and count "
            "what follows its end. The mask goes with the tokens: response_mask[:, 1:].",
            partial(_sums, mask=_mask_one_late),
        ),
        Mutant(
            "no-mask",
            "you count every column, prompt and padding included. Count only where response_mask is true.",
            partial(_sums, mask=torch.ones_like),
        ),
        Mutant(
            "prompt-not-masked",
            "you count the prompt, too. Count only where response_mask is true.",
            partial(_sums, mask=_up_to_the_end),
        ),
        Mutant(
            "padding",
            "you count everything from the first response token on, padding included. Count only where response_mask "
            "is true.",
            partial(_sums, mask=lambda mask: mask.cumsum(1) > 0),
        ),
        Mutant(
            "one-piece",
            "you take as many tokens as the mask counts, from the first one on. Where the mask has a gap, those are "
            "the wrong ones: use the mask column by column.",
            partial(_sums, mask=_as_many_from_the_first),
        ),
        Mutant(
            "gap-counted",
            "you count everything from the first to the last token of the response, including what stands in a gap.",
            partial(_sums, mask=_first_to_last),
        ),
        Mutant(
            "blanked-logits",
            "you blank the logits outside the response. But its first token is predicted one column before it: mask "
            "the log-probabilities, after the shift.",
            _of_blanked_logits,
        ),
        Mutant(
            "end-dropped",
            "you leave out the last token of the response. The end token counts: stopping is a decision, too.",
            partial(_sums, mask=_without_the_last),
        ),
        Mutant(
            "mean",
            "you return the mean over the response. Return the sum: the log of a product has no denominator.",
            _mean,
        ),
        Mutant(
            "mean-over-columns",
            "you return the mean over all columns (.mean(-1)). Return the sum.",
            _mean_over_columns,
        ),
        Mutant(
            "one-number",
            "you add up the whole batch. Return one sum per row: .sum(-1).",
            _one_number,
        ),
        Mutant(
            "per-token",
            "you return one number per token. Add them up over the columns: .sum(-1).",
            _per_token,
        ),
        Mutant(
            "raw-logits",
            "you add up raw logits. They are log-probabilities only after log_softmax over the vocabulary.",
            partial(_sums, log_p=lambda logits: logits),
        ),
        Mutant(
            "no-log",
            "you add up probabilities. Take their logarithm first: log_softmax, not softmax.",
            partial(_sums, log_p=lambda logits: logits.softmax(-1)),
        ),
        Mutant(
            "wrong-axis",
            "you normalise over the columns (dim=1). A distribution is over the words of the vocabulary: dim=-1.",
            partial(_sums, log_p=lambda logits: logits.log_softmax(1)),
        ),
        Mutant(
            "log-of-softmax",
            "you take the logarithm of a softmax: a small probability becomes 0 and its logarithm minus infinity. "
            "log_softmax does both in one step, and stays finite.",
            partial(_sums, log_p=_log_of_softmax),
        ),
        Mutant(
            "little-added",
            "you add a small number before the logarithm. That hides the infinity, and gives a wrong number: use "
            "log_softmax.",
            partial(_sums, log_p=_log_of_softmax_and_a_little),
        ),
        Mutant(
            "log-of-product",
            "you multiply the probabilities and take the logarithm last: a product of many is rounded to 0. Add up "
            "logarithms, from log_softmax.",
            _log_of_the_product,
        ),
        Mutant(
            "times-mask",
            "you multiply by the mask, and nan times 0 is nan. Put 0 where the mask is false: masked_fill, or "
            "torch.where.",
            partial(_sums, off_mask=_times_mask),
        ),
        Mutant(
            "sign",
            "you return the negative, as cross_entropy does. A log-probability is never above 0.",
            lambda logits, ids, mask: -_sums(logits, ids, mask),
        ),
        Mutant(
            "no-gradient",
            "the sums are right, but no gradient flows back to the logits: nothing could be trained. Look for a "
            "no_grad, a detach or an item().",
            lambda logits, ids, mask: _sums(logits, ids, mask).detach(),
        ),
    ),
    alternatives=(
        _sums,
        logprobs.sequence_logprobs,
        _with_cross_entropy,
        _row_by_row,
        _with_rolled_logits,
        _in_single_precision,
    ),
    hints=(
        "Write the tokens of one row on paper, and under each the column whose logits predict it. In which column is "
        "the prediction of the first response token? Which column's logits are never used?",
        "Four steps: log_softmax of logits[:, :-1] gives (B, T - 1, V); gather it at input_ids[:, 1:], which must be "
        "(B, T - 1, 1) for that; put 0 where response_mask[:, 1:] is false; sum over the last axis.",
        "In the chapter's part 'The off-by-one' logprobs_of does it for one row, by slicing at the prompt's length; "
        "the picture above it shows the shift. Afterwards, compare with prefcourse.logprobs.sequence_logprobs.",
    ),
)


# --- 4.2 dpo_loss -------------------------------------------------------------------------------------------


def _sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def _loss_by_hand(policy_chosen, policy_rejected, ref_chosen, ref_rejected, *, beta):
    """-log sigmoid(m) = log(1 + e^-m); its derivative by m is sigmoid(m) - 1."""
    columns = (policy_chosen, policy_rejected, ref_chosen, ref_rejected)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    margins = [beta * ((a - c) - (b - d)) for a, b, c, d in rows]
    losses_ = [math.log1p(math.exp(-m)) if m > -30 else -m for m in margins]
    pull = [beta * (_sigmoid(m) - 1) / len(margins) for m in margins]
    chosen, rejected = (policy_chosen, pull), (policy_rejected, [-x for x in pull])
    return closed_form(math.fsum(losses_) / len(losses_), chosen=chosen, rejected=rejected)


def _margins(pc, pr, rc, rr, beta):
    return beta * ((pc - pr) - (rc - rr).detach())


def _dpo(pc, pr, rc, rr, *, beta, margins=_margins, per_pair=lambda m: -F.logsigmoid(m), over_batch=torch.mean):
    return over_batch(per_pair(margins(pc, pr, rc, rr, beta)))


def _with_metrics(pc, pr, rc, rr, *, beta):
    margins = _margins(pc, pr, rc, rr, beta)
    return -F.logsigmoid(margins).mean(), {"rewards/margins": margins.detach().mean()}


def _with_softplus(pc, pr, rc, rr, *, beta):
    return F.softplus(-_margins(pc, pr, rc, rr, beta)).mean()


def _as_classification(pc, pr, rc, rr, *, beta):
    both = torch.stack([beta * (pc - rc.detach()), beta * (pr - rr.detach())])
    return -torch.log_softmax(both, dim=0)[0].mean()


def _pair_by_pair(pc, pr, rc, rr, *, beta):
    with torch.no_grad():
        ref = [float(a - b) for a, b in zip(rc, rr, strict=True)]
    zero = pc.new_zeros(())
    losses_ = [torch.logaddexp(zero, -beta * (a - b - r)) for a, b, r in zip(pc, pr, ref, strict=True)]
    return sum(losses_) / len(losses_)


def _in_fp32(pc, pr, rc, rr, *, beta):
    return -F.logsigmoid(_margins(pc.float(), pr.float(), rc.float(), rr.float(), beta)).mean()


def _responses_apart(pc, pr, rc, rr, *, beta):
    chosen, rejected = beta * (pc - rc.detach()), beta * (pr - rr.detach())
    return -(F.logsigmoid(chosen) + F.logsigmoid(-rejected)).mean()


def _variant(**change):
    return partial(_dpo, **change)


_DPO_LOSS = Answers(
    oracle=_loss_by_hand,
    mutants=(
        Mutant(
            "beta-ignored",
            "you ignore beta. Each reward is beta times a log-ratio.",
            _variant(margins=lambda pc, pr, rc, rr, beta: _margins(pc, pr, rc, rr, 1.0)),
        ),
        Mutant(
            "beta-on-the-policy",
            "beta multiplies only the policy's difference. It must multiply both: beta * (log policy - log ref).",
            _variant(margins=lambda pc, pr, rc, rr, beta: beta * (pc - pr) - (rc - rr).detach()),
        ),
        Mutant(
            "beta-divided",
            "you divide by beta. A reward is beta TIMES the log-ratio.",
            _variant(margins=lambda pc, pr, rc, rr, beta: _margins(pc, pr, rc, rr, 1 / beta)),
        ),
        Mutant(
            "ratio-of-logs",
            "you divide the log-probabilities. The logarithm of a ratio is a DIFFERENCE: log policy - log reference.",
            _variant(margins=lambda pc, pr, rc, rr, beta: beta * (pc / rc.detach() - pr / rr.detach())),
        ),
        Mutant(
            "through-probabilities",
            "you go through probabilities: e^10000 is infinite. Subtract the log-probabilities that you have.",
            _variant(
                margins=lambda pc, pr, rc, rr, beta: (
                    beta * ((pc.exp() / rc.detach().exp()).log() - (pr.exp() / rr.detach().exp()).log())
                )
            ),
        ),
        Mutant(
            "beta-outside",
            "you multiply the loss by beta instead of the margin. beta belongs inside the sigmoid.",
            lambda pc, pr, rc, rr, *, beta: beta * _dpo(pc, pr, rc, rr, beta=1.0),
        ),
        Mutant(
            "sign",
            "the sign is flipped: this loss asks for the REJECTED response. It must fall as the margin grows: "
            "-logsigmoid(margin).",
            _variant(margins=lambda pc, pr, rc, rr, beta: -_margins(pc, pr, rc, rr, beta)),
        ),
        Mutant(
            "no-minus",
            "the minus is missing: you return the log-likelihood of the labels. A loss is its negative.",
            _variant(per_pair=F.logsigmoid),
        ),
        Mutant(
            "no-reference",
            "you forget the reference. A reward is beta * (log policy - log ref).",
            _variant(margins=lambda pc, pr, rc, rr, beta: beta * (pc - pr)),
        ),
        Mutant(
            "reference-swapped",
            "chosen and rejected are swapped in the reference (or its difference is added instead of subtracted): each "
            "response is compared with the reference's log-probability of the SAME response.",
            _variant(margins=lambda pc, pr, rc, rr, beta: beta * ((pc - rr.detach()) - (pr - rc.detach()))),
        ),
        Mutant(
            "reference-not-detached",
            "the value is right, but a gradient reaches the reference. It is a constant: .detach() its tensors.",
            _variant(margins=lambda pc, pr, rc, rr, beta: beta * ((pc - pr) - (rc - rr))),
        ),
        Mutant(
            "policy-detached",
            "the value is right, but no gradient reaches the policy. Detach the reference's tensors, not the policy's, "
            "and work outside torch.no_grad().",
            lambda *sums, beta: _dpo(*(x.detach() for x in sums), beta=beta),
        ),
        Mutant(
            "rejected-detached",
            "no gradient reaches the rejected responses. Both sides of a pair are trained.",
            lambda pc, pr, rc, rr, *, beta: _dpo(pc, pr.detach(), rc, rr, beta=beta),
        ),
        Mutant(
            "no-log",
            "you take the sigmoid without its logarithm. The loss is -log sigmoid(margin).",
            _variant(per_pair=lambda m: -torch.sigmoid(m)),
        ),
        Mutant(
            "log-of-sigmoid",
            "you take the logarithm of a sigmoid. Far below 0 the sigmoid is 0 and its logarithm minus infinity; "
            "F.logsigmoid stays finite.",
            _variant(per_pair=lambda m: -torch.log(torch.sigmoid(m))),
        ),
        Mutant(
            "little-added",
            "you add a small number before the logarithm. That hides the infinity, and gives a wrong number: use "
            "F.logsigmoid.",
            _variant(per_pair=lambda m: -torch.log(torch.sigmoid(m) + 1e-8)),
        ),
        Mutant(
            "probability-of-the-other",
            "you return the probability of the other label, sigmoid(-margin). The loss is -log sigmoid(margin).",
            _variant(per_pair=lambda m: torch.sigmoid(-m)),
        ),
        Mutant(
            "minus-margin",
            "you return minus the margin. The log of the sigmoid is missing; it is what lets a settled pair rest.",
            _variant(per_pair=lambda m: -m),
        ),
        Mutant(
            "responses-apart",
            "you give each response a loss of its own. A label only compares: first the margin of the two rewards, "
            "then one loss per pair.",
            _responses_apart,
        ),
        Mutant(
            "sum",
            "you add up the losses of the batch. Take the mean, so that the learning rate means the same for every "
            "batch size.",
            _variant(over_batch=torch.sum),
        ),
        Mutant(
            "not-reduced",
            "you return one loss per pair. Take the mean over the batch: one number.",
            _variant(over_batch=lambda losses_: losses_),
        ),
        Mutant(
            "loss-of-the-mean",
            "you average the margins first. Every pair has its own loss; the mean comes last.",
            _variant(margins=lambda pc, pr, rc, rr, beta: _margins(pc, pr, rc, rr, beta).mean()),
        ),
    ),
    alternatives=(
        _dpo,
        losses.dpo_loss,
        _with_metrics,
        _with_softplus,
        _as_classification,
        _pair_by_pair,
        _in_fp32,
    ),
    hints=(
        "Three quantities, in this order: a reward for each response, a margin for each pair, one loss for the batch. "
        "Which of the four tensors are constants?",
        "reward = beta * (log policy - log ref); margin = reward of chosen - reward of rejected; loss = the mean of "
        "-log sigmoid(margin). torch.nn.functional.logsigmoid is the stable way; .detach() cuts a tensor out of the "
        "graph.",
        "In the chapter's part 'From sums to a loss' loss_of_pairs has the five lines, for rows that hold all chosen "
        "responses and then all rejected ones. Afterwards, compare with prefcourse.losses.dpo_loss.",
    ),
)


# --- 4.3 prompt_masking_cancels -----------------------------------------------------------------------------


def _changes_by_hand(logprobs, ref_logprobs, prompt_mask, response_mask, *, beta):
    """DPO: only the prompts' log-ratios are left. SimPO: the mean moves towards the prompt's, by its share."""
    tables = (table.tolist() for table in (logprobs, ref_logprobs, prompt_mask, response_mask))
    dpo, simpo = [], []
    for policy, ref, is_prompt, is_response in zip(*tables, strict=True):
        prompt = [t for t, here in enumerate(is_prompt) if here]
        response = [t for t, here in enumerate(is_response) if here]
        dpo.append(math.fsum(policy[t] - ref[t] for t in prompt))
        mean = math.fsum(policy[t] for t in response) / len(response)
        moved = math.fsum(policy[t] - mean for t in prompt)
        simpo.append(moved / (len(prompt) + len(response)))
    return beta * (dpo[0] - dpo[1]), beta * (simpo[0] - simpo[1])


def _sum_over(table, mask):
    return table.masked_fill(~mask, 0.0).sum(-1)


def _mean_over(table, mask):
    return _sum_over(table, mask) / mask.sum(-1)


def _difference(rows):
    return rows[0] - rows[1]


def _dpo_margin(policy, ref, mask, beta):
    return beta * _difference(_sum_over(policy, mask) - _sum_over(ref, mask))


def _simpo_margin(policy, ref, mask, beta):
    return beta * _difference(_mean_over(policy, mask))


def _changes(policy, ref, prompt, response, *, beta, dpo=_dpo_margin, simpo=_simpo_margin, together=torch.logical_or):
    both = together(prompt, response)
    return tuple(margin(policy, ref, both, beta) - margin(policy, ref, response, beta) for margin in (dpo, simpo))


def _other(**change):
    return partial(_changes, **change)


def _dpo_of_means(policy, ref, mask, beta):
    return beta * _difference(_mean_over(policy, mask) - _mean_over(ref, mask))


def _takes_dpo_for_granted(policy, ref, prompt, response, *, beta):
    return 0.0, _changes(policy, ref, prompt, response, beta=beta)[1]


def _simpo_with_the_response_length(policy, ref, prompt, response, *, beta):
    lengths = response.sum(-1)
    dpo, _ = _changes(policy, ref, prompt, response, beta=beta)
    return dpo, beta * _difference(_sum_over(policy, prompt) / lengths)


def _simpo_of_prompts(policy, ref, prompt, response, *, beta):
    dpo, _ = _changes(policy, ref, prompt, response, beta=beta)
    return dpo, beta * _difference(_sum_over(policy, prompt) / prompt.sum(-1).clamp(min=1))


def _mean_over_columns_of(policy, ref, mask, beta):
    return beta * _difference(policy.masked_fill(~mask, 0.0).mean(-1))


def _swapped(*tables, beta):
    return _changes(*tables, beta=beta)[::-1]


def _verdicts(*tables, beta):
    return tuple(bool(change.abs() < 1e-6) for change in _changes(*tables, beta=beta))


def _margins_not_masked(policy, ref, prompt, response, *, beta):
    both = prompt | response
    return _dpo_margin(policy, ref, both, beta), _simpo_margin(policy, ref, both, beta)


def _with_products(policy, ref, prompt, response, *, beta):
    changes = []
    for table, by_length in ((policy - ref, False), (policy, True)):
        margins = []
        for mask in ((prompt + response).double(), response.double()):
            value = (table * mask).sum(1)
            value = value / mask.sum(1) if by_length else value
            margins.append(beta * (value[0] - value[1]))
        changes.append(margins[0] - margins[1])
    return torch.stack(changes)


def _with_selected_tokens(policy, ref, prompt, response, *, beta):
    def margins(mask):
        ours = [row[here] for row, here in zip(policy, mask, strict=True)]
        theirs = [row[here] for row, here in zip(ref, mask, strict=True)]
        dpo = (ours[0].sum() - theirs[0].sum()) - (ours[1].sum() - theirs[1].sum())
        return beta * dpo.item(), beta * (ours[0].mean() - ours[1].mean()).item()

    return [a - b for a, b in zip(margins(prompt | response), margins(response), strict=True)]


_PROMPT_MASKING_CANCELS = Answers(
    oracle=_changes_by_hand,
    mutants=(
        Mutant(
            "dpo-for-granted",
            "you answer 0 for DPO without computing it. It is 0 only if both rows hold the same prompt; where one of "
            "them was cut, it is not.",
            _takes_dpo_for_granted,
        ),
        Mutant(
            "dpo-means",
            "you take means in DPO, too. DPO's log-probabilities are SUMS over the tokens; that is why the prompt "
            "cancels.",
            _other(dpo=_dpo_of_means),
        ),
        Mutant(
            "dpo-no-reference",
            "DPO's margin has a reference: from each of the policy's sums, subtract that of the reference.",
            _other(dpo=lambda policy, ref, mask, beta: beta * _difference(_sum_over(policy, mask))),
        ),
        Mutant(
            "simpo-sums",
            "you take sums in SimPO. Its rewards are MEANS over the tokens that count.",
            _other(simpo=lambda policy, ref, mask, beta: beta * _difference(_sum_over(policy, mask))),
        ),
        Mutant(
            "simpo-columns",
            "SimPO's mean divides by all columns of the row. Divide by the number of tokens that count, mask.sum(-1).",
            _other(simpo=_mean_over_columns_of),
        ),
        Mutant(
            "simpo-no-beta",
            "SimPO's margin lacks beta. It multiplies both differences.",
            _other(simpo=lambda policy, ref, mask, beta: _simpo_margin(policy, ref, mask, 1.0)),
        ),
        Mutant(
            "simpo-reference",
            "you use a reference in SimPO. It has none: its rewards are means of the policy's log-probabilities.",
            _other(simpo=_dpo_of_means),
        ),
        Mutant(
            "response-length",
            "with the prompt in the sum, you still divide by the length of the response. The prompt's tokens count in "
            "the length, too.",
            _simpo_with_the_response_length,
        ),
        Mutant(
            "prompts-only",
            "for SimPO you compare the means of the prompts alone. Return the margin over prompt and response minus "
            "the margin over the response.",
            _simpo_of_prompts,
        ),
        Mutant(
            "padding",
            "you count padding. What counts is prompt_mask | response_mask, not every column.",
            _other(together=lambda prompt, response: torch.ones_like(prompt)),
        ),
        Mutant(
            "sign",
            "the sign is flipped. The change is the margin WITH the prompt minus the margin without it.",
            lambda *tables, beta: tuple(-x for x in _changes(*tables, beta=beta)),
        ),
        Mutant(
            "no-sign",
            "you drop the sign. A margin that shrinks has a negative change: with the prompt minus without it.",
            lambda *tables, beta: tuple(change.abs() for change in _changes(*tables, beta=beta)),
        ),
        Mutant("swapped", "the order is swapped. Return DPO first, then SimPO.", _swapped),
        Mutant(
            "beta-ignored",
            "you ignore beta. Both margins are beta times a difference.",
            lambda *tables, beta: _changes(*tables, beta=1.0),
        ),
        Mutant(
            "verdicts",
            "you return verdicts, True and False. Return two numbers: by how much each margin changes.",
            _verdicts,
        ),
        Mutant(
            "no-change",
            "you return the margins with the prompt counted. Subtract the margins with the prompt masked.",
            _margins_not_masked,
        ),
    ),
    alternatives=(_changes, _with_products, _with_selected_tokens),
    hints=(
        "Four margins: DPO's and SimPO's, each once over the response alone and once over prompt and response. Write a "
        "function of the mask that gives both margins, and call it twice.",
        "DPO: beta * [(sum policy - sum ref) of row 0 - the same of row 1]. SimPO: beta * [mean policy of row 0 - mean "
        "policy of row 1]. The mask with the prompt is prompt_mask | response_mask; a mean divides by mask.sum(-1).",
        "The chapter's part 'What a pair shares, cancels' has both formulas, and its margins_of computes them on the "
        "held-out pairs, with a beta for each.",
    ),
)


ANSWERS = {"4.1": _SEQUENCE_LOGPROBS, "4.2": _DPO_LOSS, "4.3": _PROMPT_MASKING_CANCELS}
