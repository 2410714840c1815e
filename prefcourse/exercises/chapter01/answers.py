"""Answers to chapter 1: an oracle by another road than the solution's, wrong answers that people give, right ones
written differently, hints. Never lies where submissions run."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F

from prefcourse import logprobs, losses
from prefcourse.checks.exercise import Answers, Mutant
from prefcourse.exercises.tensors import closed_form

SMALL_NUMBERS = (1e-6, 1e-8, 1e-9, 1e-10, 1e-12)  # which people add before a logarithm


# --- 1.1 sft_loss -------------------------------------------------------------------------------------------


def _loss_word_by_word(logits, input_ids, response_mask):
    """Every word by hand; d(-log p) / d logits = the probabilities, minus 1 at the word that came."""
    counted = [(row, t) for row, mask in enumerate(response_mask.tolist()) for t, here in enumerate(mask) if here]
    terms, slope = [], torch.zeros_like(logits)
    for row, t in counted:
        word = input_ids[row, t].item()
        term, probabilities = _by_hand(logits[row, t - 1].tolist(), word)
        terms.append(term)
        slope[row, t - 1] += torch.tensor(probabilities)
        slope[row, t - 1, word] -= 1
    count = max(1, len(counted))
    return closed_form(math.fsum(terms) / count, logits=(torch.nan_to_num(logits), slope / count))


def _by_hand(logits, word):
    """-log p of one word, and all probabilities."""
    highest = max(logits)
    powers = [math.exp(x - highest) for x in logits]
    total = math.fsum(powers)
    return highest + math.log(total) - logits[word], [power / total for power in powers]


def _log_p(logits):
    return logits.log_softmax(-1)


def _gathered(table, ids):
    return table.gather(-1, ids[..., None])[..., 0]


def _mean_of_words(terms, counted):
    return terms.sum() / counted.sum().clamp(min=1)


def _nll(logits, input_ids, response_mask, *, log_p=_log_p, mask=lambda mask: mask, average=_mean_of_words, off=None):
    """The usual way, with one step at a time to be got wrong."""
    by_word = -_gathered(log_p(logits[:, :-1]), input_ids[:, 1:])
    counted = mask(response_mask)[:, 1:]
    return average(by_word.masked_fill(~counted, 0.0) if off is None else off(by_word, counted), counted)


def _in_the_own_column(logits, input_ids, response_mask):
    terms = -_gathered(_log_p(logits), input_ids).masked_fill(~response_mask, 0.0)
    return _mean_of_words(terms, response_mask)


def _shifted_the_wrong_way(logits, input_ids, response_mask):
    counted = response_mask[:, :-1]
    terms = -_gathered(_log_p(logits[:, 1:]), input_ids[:, :-1]).masked_fill(~counted, 0.0)
    return _mean_of_words(terms, counted)


def _rolled_the_wrong_way(logits, input_ids, response_mask):
    terms = -_gathered(_log_p(logits), input_ids.roll(1, 1)).masked_fill(~response_mask, 0.0)
    return _mean_of_words(terms, response_mask)


def _rolled_without_the_mask(logits, input_ids, response_mask):
    terms = -_gathered(_log_p(logits), input_ids.roll(-1, 1)).masked_fill(~response_mask, 0.0)
    return _mean_of_words(terms, response_mask)


def _mask_one_late(mask):
    return F.pad(mask[:, :-1], (1, 0))


def _up_to_the_end(mask):
    return mask.flip(1).cumsum(1).flip(1) > 0


def _without_the_last(mask):
    return mask & ~(mask & ~F.pad(mask[:, 1:], (0, 1)))


def _without_the_first(mask):
    return mask & F.pad(mask[:, :-1], (1, 0))


def _not_squeezed(logits, input_ids, response_mask):
    by_word = -_log_p(logits[:, :-1]).gather(-1, input_ids[:, 1:, None])  # (B, T - 1, 1)
    counted = response_mask[:, 1:]
    return _mean_of_words(torch.where(counted, by_word, 0.0), counted)


def _of_all_words(logits, input_ids, response_mask):
    counted = response_mask[:, 1:]
    return _mean_of_words(-_log_p(logits[:, :-1]).mean(-1).masked_fill(~counted, 0.0), counted)


def _logits_masked_first(logits, input_ids, response_mask):
    return _nll(logits.masked_fill(~response_mask[..., None], 0.0), input_ids, response_mask)


def _by_its_own_powers(logits):
    powers = logits.exp()
    return (powers / powers.sum(-1, keepdim=True)).log()


def _with_a_small_number(logits, *, small):
    return (logits.softmax(-1) + small).log()


def _mean_of_row_means(terms, counted):
    return (terms.sum(-1) / counted.sum(-1).clamp(min=1)).mean()


def _mean_of_sums(terms, counted):
    return terms.sum(-1).mean()


def _with_cross_entropy(logits, input_ids, response_mask):
    labels = input_ids.masked_fill(~response_mask, -100)[:, 1:].flatten()
    total = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels, ignore_index=-100, reduction="sum")
    return total / max(1, int((labels != -100).sum()))


def _selected(logits, input_ids, response_mask):
    counted = response_mask[:, 1:]
    log_p, words = logits[:, :-1][counted].log_softmax(-1), input_ids[:, 1:][counted]
    if len(words) == 0:
        return logits.new_zeros(())
    return -log_p[torch.arange(len(words)), words].mean(), {"words": len(words)}


def _row_by_row(logits, input_ids, response_mask):
    total, count = 0.0, 0
    for row, ids, mask in zip(logits, input_ids, response_mask, strict=True):
        for t in mask.nonzero()[:, 0].tolist():
            total = total + row[t - 1].logsumexp(-1) - row[t - 1, ids[t]]
            count += 1
    return total / count if count else 0.0


def _with_the_package(logits, input_ids, response_mask):
    return losses.sft_loss(logprobs.token_logprobs(logits, input_ids, response_mask), response_mask)


_SFT_LOSS = Answers(
    oracle=_loss_word_by_word,
    mutants=(
        Mutant(
            "no-shift",
            "you look each word up in its own column. Logits in column t predict word t + 1: pair logits[:, :-1] with "
            "input_ids[:, 1:].",
            _in_the_own_column,
        ),
        Mutant(
            "wrong-way",
            "you shift the wrong way: a word is looked up one column to its RIGHT. Its prediction stands one column to "
            "its left.",
            _shifted_the_wrong_way,
        ),
        Mutant(
            "rolled-wrong-way",
            "you roll the words to the right, so that column t meets word t - 1. roll(-1, 1) brings the next word, and "
            "the mask is rolled with the words.",
            _rolled_the_wrong_way,
        ),
        Mutant(
            "mask-not-rolled",
            "the words are rolled, the mask is not: you leave out the first word of the response and count what "
            "follows its end. Roll both.",
            _rolled_without_the_mask,
        ),
        Mutant(
            "mask-not-shifted",
            "logits and words are shifted, the mask is not: you leave out the first word of the response and count "
            "what follows its end. The mask goes with the words: response_mask[:, 1:].",
            partial(_nll, mask=_mask_one_late),
        ),
        Mutant(
            "no-mask",
            "you count every column, question and padding included. Count only where response_mask is true.",
            partial(_nll, mask=torch.ones_like),
        ),
        Mutant(
            "prompt-not-masked",
            "you count the words of the question, too: that is pre-training. Count only where response_mask is true.",
            partial(_nll, mask=_up_to_the_end),
        ),
        Mutant(
            "padding",
            "you count everything from the response on, padding included. Count only where response_mask is true.",
            partial(_nll, mask=lambda mask: mask.cumsum(1) > 0),
        ),
        Mutant(
            "end-dropped",
            "you leave out the last word of the response. The end counts: otherwise nobody learns to stop.",
            partial(_nll, mask=_without_the_last),
        ),
        Mutant(
            "first-dropped",
            "you shift inside the response, so its first word is left out. It counts, too: the last column of the "
            "question predicts it.",
            partial(_nll, mask=_without_the_first),
        ),
        Mutant(
            "logits-masked",
            "you blank the logits where the mask is false, before you shift. Then the first word of the response "
            "loses its prediction, which stands in the last column of the question. Blank the terms after the shift.",
            _logits_masked_first,
        ),
        Mutant(
            "not-squeezed",
            "gather leaves a last axis of length 1, and with the mask it broadcasts to every pair of columns. Remove "
            "it: squeeze(-1), or [..., 0].",
            _not_squeezed,
        ),
        Mutant(
            "all-words",
            "you average the log-probabilities of all words of the vocabulary. Only that of the word that came "
            "counts: gather it.",
            _of_all_words,
        ),
        Mutant(
            "mean-per-row",
            "you average each row first, so a word of a short answer weighs more, and the imitator becomes curt. "
            "Divide once, by the number of words in the batch.",
            partial(_nll, average=_mean_of_row_means),
        ),
        Mutant(
            "mean-over-columns",
            "you divide by the number of columns. Words that do not count must not be in the denominator either.",
            partial(_nll, average=lambda terms, counted: terms.mean()),
        ),
        Mutant(
            "sum-per-row",
            "you divide by the number of rows. Return the mean over words.",
            partial(_nll, average=_mean_of_sums),
        ),
        Mutant(
            "sum",
            "you return the sum over all words. Divide it by their number.",
            partial(_nll, average=lambda terms, counted: terms.sum()),
        ),
        Mutant(
            "raw-logits",
            "you average raw logits. They are log-probabilities only after log_softmax over the vocabulary.",
            partial(_nll, log_p=lambda logits: logits),
        ),
        Mutant(
            "no-log",
            "you average probabilities. Take their logarithm first: log_softmax, not softmax.",
            partial(_nll, log_p=lambda logits: logits.softmax(-1)),
        ),
        Mutant(
            "wrong-axis",
            "you normalise over the columns (dim=1). A distribution is over the words of the vocabulary: dim=-1.",
            partial(_nll, log_p=lambda logits: logits.log_softmax(1)),
        ),
        Mutant(
            "log-of-softmax",
            "you take the logarithm of a softmax: a small probability becomes 0 and its logarithm minus infinity. "
            "log_softmax does both in one step, and stays finite.",
            partial(_nll, log_p=lambda logits: logits.softmax(-1).log()),
        ),
        Mutant(
            "own-softmax",
            "you take e to the power of a logit: e^10000 is infinite. log_softmax subtracts the largest logit first.",
            partial(_nll, log_p=_by_its_own_powers),
        ),
        *(
            Mutant(
                f"plus-{small:.0e}",
                f"you add {small:.0e} to the probabilities (or clamp them there): the logarithm stays finite, but the "
                "loss is wrong. log_softmax is finite and exact.",
                partial(_nll, log_p=partial(_with_a_small_number, small=small)),
            )
            for small in SMALL_NUMBERS
        ),
        Mutant(
            "times-mask",
            "you multiply by the mask, and nan times 0 is nan. Put 0 where the mask is false (masked_fill), or take "
            "only the places where it is true.",
            partial(_nll, off=lambda by_word, counted: by_word * counted),
        ),
        Mutant(
            "nothing-is-nan",
            "without any word you divide 0 by 0. The loss is then 0: clamp the number of words at 1.",
            partial(_nll, average=lambda terms, counted: terms.sum() / counted.sum()),
        ),
        Mutant(
            "one-word-more",
            "you divide by one word too many. To avoid a division by 0, clamp the number of words at 1: nothing "
            "changes where there are words.",
            partial(_nll, average=lambda terms, counted: terms.sum() / (counted.sum() + 1)),
        ),
        Mutant(
            "perplexity",
            "you return e^loss, the perplexity. Return the loss itself.",
            lambda logits, ids, mask: _nll(logits, ids, mask).exp(),
        ),
        Mutant(
            "sign",
            "the minus is missing: you return the mean log-probability. A loss falls as the answers become likelier.",
            lambda logits, ids, mask: -_nll(logits, ids, mask),
        ),
        Mutant(
            "no-gradient",
            "the value is right, but no gradient flows back to the logits: nothing could be trained. Look for a "
            "no_grad, a detach or an item().",
            lambda logits, ids, mask: _nll(logits, ids, mask).detach(),
        ),
    ),
    alternatives=(_nll, _with_cross_entropy, _selected, _row_by_row, _with_the_package),
    hints=(
        "Write the words of one row on paper, and under each the column whose logits predict it. Which word does no "
        "column predict, and which column predicts no word?",
        "log_softmax of logits[:, :-1] is (B, T - 1, V); gather it at input_ids[:, 1:, None]; put 0 where "
        "response_mask[:, 1:] is false; divide minus the sum by the number of true places, at least 1.",
        "In the chapter's part 'Learning from text' the line `loss = ...` does it with log-probabilities that are "
        "known already; log_probability in 'What a language model is' finds them, one word at a time. Afterwards, "
        "compare with prefcourse.losses.sft_loss.",
    ),
)


# --- 1.2 objective_gap --------------------------------------------------------------------------------------


def _gaps_answer_by_answer(policy_logprobs, author_probs, gold):
    """Cross-entropy minus entropy, and what each answer falls short of the best, one answer after the other."""
    losses_, lowest, short = [], [], []
    for policy, authors, golds in zip(*(x.tolist() for x in (policy_logprobs, author_probs, gold)), strict=True):
        said = [(p, logprob) for p, logprob in zip(authors, policy, strict=True) if p > 0]
        losses_ += [-p * logprob for p, logprob in said]
        lowest += [-p * math.log(p) for p, _ in said]
        short += [math.exp(logprob) * (max(golds) - points) for logprob, points in zip(policy, golds, strict=True)]
    likelihood = math.inf if math.inf in losses_ else math.fsum(losses_) - math.fsum(lowest)
    return likelihood / len(policy_logprobs), math.fsum(short) / len(policy_logprobs)


def _kl(policy_logprobs, author_probs):
    return (torch.special.xlogy(author_probs, author_probs) - _weighed(policy_logprobs, author_probs)).sum(-1)


def _weighed(policy_logprobs, author_probs):
    """p log pi, 0 where nobody says it."""
    return torch.where(author_probs > 0, author_probs * policy_logprobs, 0.0)


def _short_of_the_best(policy_logprobs, author_probs, gold):
    return gold.max(-1).values - (policy_logprobs.exp() * gold).sum(-1)


def _gaps(policy_logprobs, author_probs, gold, *, likelihood=_kl, in_gold=_short_of_the_best, over_prompts=torch.mean):
    gap = likelihood(policy_logprobs, author_probs)
    return over_prompts(gap), over_prompts(in_gold(policy_logprobs, author_probs, gold))


def _reverse_kl(policy_logprobs, author_probs):
    policy = policy_logprobs.exp()
    return torch.where(policy > 0, policy * (policy_logprobs - author_probs.log()), 0.0).sum(-1)


def _loss_itself(policy_logprobs, author_probs):
    return -_weighed(policy_logprobs, author_probs).sum(-1)


def _naive_kl(policy_logprobs, author_probs):
    return (author_probs * (author_probs.log() - policy_logprobs)).sum(-1)


def _of_probabilities(policy_logprobs, author_probs):
    return torch.where(author_probs > 0, author_probs * (author_probs.log() - policy_logprobs.exp().log()), 0.0).sum(-1)


def _minus_its_own_entropy(policy_logprobs, author_probs):
    return _loss_itself(policy_logprobs, author_probs) - torch.special.entr(policy_logprobs.exp()).sum(-1)


def _plus_the_entropy(policy_logprobs, author_probs):
    return _loss_itself(policy_logprobs, author_probs) + torch.special.entr(author_probs).sum(-1)


def _mean_over_answers(policy_logprobs, author_probs):
    return _kl(policy_logprobs, author_probs) / policy_logprobs.shape[-1]


def _smoothed(policy_logprobs, author_probs, *, small):
    return (author_probs * ((author_probs + small).log() - (policy_logprobs.exp() + small).log())).sum(-1)


def _what_both_say(policy_logprobs, author_probs):
    both = (author_probs > 0) & policy_logprobs.isfinite()
    return torch.where(both, author_probs * (author_probs.log() - policy_logprobs), 0.0).sum(-1)


def _terms_are_numbers(policy_logprobs, author_probs):
    return (author_probs * (author_probs.log() - policy_logprobs)).nan_to_num().sum(-1)


def _clamped(policy_logprobs, author_probs):
    return _kl(policy_logprobs.clamp(min=-1e5), author_probs)


def _of_the_likeliest(policy_logprobs, author_probs, gold):
    return gold.max(-1).values - gold.gather(-1, policy_logprobs.argmax(-1, keepdim=True))[:, 0]


def _of_the_authors(policy_logprobs, author_probs, gold):
    return gold.max(-1).values - (author_probs * gold).sum(-1)


def _to_the_authors(policy_logprobs, author_probs, gold):
    return ((author_probs - policy_logprobs.exp()) * gold).sum(-1)


def _to_the_best_said(policy_logprobs, author_probs, gold):
    said = gold.masked_fill(author_probs == 0, -math.inf).max(-1).values
    return said - (policy_logprobs.exp() * gold).sum(-1)


def _to_the_best_of_all(policy_logprobs, author_probs, gold):
    return gold.max() - (policy_logprobs.exp() * gold).sum(-1)


def _to_the_best_of_its_own(policy_logprobs, author_probs, gold):
    given = gold.masked_fill(policy_logprobs == -math.inf, -math.inf).max(-1).values
    return given - (policy_logprobs.exp() * gold).sum(-1)


def _by_log_probabilities(policy_logprobs, author_probs, gold):
    return gold.max(-1).values - (policy_logprobs * gold).sum(-1)


def _divided_by_answers(policy_logprobs, author_probs, gold):
    return gold.max(-1).values - (policy_logprobs.exp() * gold).mean(-1)


def _not_the_best(policy_logprobs, author_probs, gold):
    return 1 - policy_logprobs.exp().gather(-1, gold.argmax(-1, keepdim=True))[:, 0]


def _along_the_questions(policy_logprobs, author_probs, gold):
    return _gaps(policy_logprobs.T, author_probs.T, gold.T)


def _with_kl_div(policy_logprobs, author_probs, gold):
    likelihood = F.kl_div(policy_logprobs.clamp(min=-1e308), author_probs, reduction="batchmean")
    likelihood = likelihood if likelihood < 1e300 else math.inf
    return [likelihood, (gold.amax(-1) - torch.einsum("pv,pv->p", policy_logprobs.exp(), gold)).mean()]


def _in_numpy(policy_logprobs, author_probs, gold):
    policy, authors, golds = (x.numpy() for x in (policy_logprobs, author_probs, gold))
    said = authors > 0
    likelihood = np.sum(authors[said] * (np.log(authors[said]) - policy[said])) / len(policy)
    return likelihood, np.mean(golds.max(1) - (np.exp(policy) * golds).sum(1))


def _question_by_question(policy_logprobs, author_probs, gold):
    found = []
    for policy, authors, golds in zip(policy_logprobs, author_probs, gold, strict=True):
        said = authors > 0
        likelihood = (authors[said] * (authors[said].log() - policy[said])).sum()
        found.append((float(likelihood), float(golds.max() - policy.exp() @ golds)))
    return tuple(sum(column) / len(found) for column in zip(*found, strict=True))


def _variant(**change):
    return partial(_gaps, **change)


_OBJECTIVE_GAP = Answers(
    oracle=_gaps_answer_by_answer,
    mutants=(
        Mutant(
            "reverse-kl",
            "you weight the log-ratio by the policy's probabilities. The loss is measured on the AUTHORS' answers: "
            "weight by theirs.",
            _variant(likelihood=_reverse_kl),
        ),
        Mutant(
            "loss-itself",
            "you return the loss. The gap is its excess over the lowest possible loss, the authors' entropy.",
            _variant(likelihood=_loss_itself),
        ),
        Mutant(
            "own-entropy",
            "you subtract the policy's own entropy. The lowest loss of all is that of the imitator, the entropy of the "
            "AUTHORS.",
            _variant(likelihood=_minus_its_own_entropy),
        ),
        Mutant(
            "entropy-added",
            "you add the authors' entropy to the loss. It is the lowest loss: subtract it.",
            _variant(likelihood=_plus_the_entropy),
        ),
        Mutant(
            "mean-over-answers",
            "you divide the gap in likelihood by the number of answers (F.kl_div does so by default). Add up over the "
            "answers, take the mean over the questions.",
            _variant(likelihood=_mean_over_answers),
        ),
        Mutant(
            "zero-log-zero",
            "you get nan where no author gives an answer: 0 times the logarithm of 0. Such an answer adds nothing: "
            "torch.special.xlogy, or torch.where.",
            _variant(likelihood=_naive_kl),
        ),
        Mutant(
            "probabilities",
            "you go through probabilities: e^-10000 is rounded to 0. Use the log-probabilities that you are given.",
            _variant(likelihood=_of_probabilities),
        ),
        *(
            Mutant(
                f"plus-{small:.0e}",
                f"you add {small:.0e} before the logarithms (or clamp there). What the policy never gives must have "
                "an infinite cost; for 0 log 0 = 0 use torch.special.xlogy, or torch.where.",
                _variant(likelihood=partial(_smoothed, small=small)),
            )
            for small in SMALL_NUMBERS
        ),
        Mutant(
            "what-both-say",
            "you leave out answers that the policy never gives. Where an author gives one, the loss is infinite.",
            _variant(likelihood=_what_both_say),
        ),
        Mutant(
            "nan-to-num",
            "nan_to_num turns inf into a number, too. The gap is infinite where an author gives what the policy never "
            "gives: only probability 0 is a special case.",
            _variant(likelihood=_terms_are_numbers),
        ),
        Mutant(
            "clamped",
            "you clamp log-probabilities of -inf. Where an author gives such an answer, the loss is infinite.",
            _variant(likelihood=_clamped),
        ),
        Mutant(
            "likelihood-sign",
            "the gap in likelihood has the wrong sign: no policy has a lower loss than the authors' own habits.",
            _variant(likelihood=lambda policy, authors: -_kl(policy, authors)),
        ),
        Mutant(
            "likeliest",
            "you take the gold of the likeliest answer. The policy gives all answers: take the mean under the policy.",
            _variant(in_gold=_of_the_likeliest),
        ),
        Mutant(
            "authors-gold",
            "you compute the gap in gold of the authors. Return that of the policy.",
            _variant(in_gold=_of_the_authors),
        ),
        Mutant(
            "to-the-authors",
            "you compare the policy's gold with the authors' mean. The gap is to the best answer.",
            _variant(in_gold=_to_the_authors),
        ),
        Mutant(
            "best-said",
            "you take the best answer that an author gives. The best may be one that none of them gives.",
            _variant(in_gold=_to_the_best_said),
        ),
        Mutant(
            "best-of-its-own",
            "you take the best answer that the policy gives. The best may be one that it never gives.",
            _variant(in_gold=_to_the_best_of_its_own),
        ),
        Mutant(
            "log-probabilities",
            "you multiply gold by log-probabilities. A mean under the policy uses its probabilities: exp.",
            _variant(in_gold=_by_log_probabilities),
        ),
        Mutant(
            "gold-by-answers",
            "you divide the policy's gold by the number of answers. The probabilities are weights already: just add "
            "up.",
            _variant(in_gold=_divided_by_answers),
        ),
        Mutant(
            "both-by-answers",
            "you take the mean of the whole table. Add up over the answers to each question, then take the mean over "
            "the questions.",
            _variant(likelihood=_mean_over_answers, in_gold=_divided_by_answers),
        ),
        Mutant(
            "not-the-best",
            "you return the probability that the answer is not the best. Return how much gold is missing.",
            _variant(in_gold=_not_the_best),
        ),
        Mutant(
            "wrong-axis",
            "you go along the questions (dim=0). A distribution is over the answers of one question: dim=-1.",
            _along_the_questions,
        ),
        Mutant(
            "best-of-all",
            "you take one best answer for all questions. Every question has its own: max over the last axis.",
            _variant(in_gold=_to_the_best_of_all),
        ),
        Mutant(
            "gold-sign",
            "the gap in gold has the wrong sign: best minus policy.",
            _variant(in_gold=lambda *tables: -_short_of_the_best(*tables)),
        ),
        Mutant(
            "sum",
            "you add up the questions. Each gap is a mean over them.",
            _variant(over_prompts=torch.sum),
        ),
        Mutant(
            "swapped",
            "the two gaps are in the wrong order: first likelihood, then gold.",
            lambda *tables: _gaps(*tables)[::-1],
        ),
    ),
    alternatives=(_gaps, _with_kl_div, _in_numpy, _question_by_question),
    hints=(
        "Two objectives, two questions. Which policy has the lowest loss, and how low is it? Which policy has the "
        "most gold, and how much? Each gap is a difference from one of these.",
        "Likelihood: for each question the sum over answers of p (log p - log pi), with the authors' p; p = 0 adds 0. "
        "Gold: the largest gold of the question minus the sum of pi times gold. Then the means over questions.",
        "In the chapter's part 'Why imitation copies the average' the loss is split into the authors' entropy and the "
        "KL; the second part is the gap. torch.special.xlogy(p, p) is p log p, with 0 for p = 0.",
    ),
)


# --- 1.3 gold_at_temperature --------------------------------------------------------------------------------


def _gold_by_odds(logprobs, gold, temperature):
    """An answer's probability is 1 over the sum of all answers' odds against it."""
    if temperature < 0:
        raise ValueError("below 0")
    total = 0.0
    for row, golds in zip(logprobs.tolist(), gold.tolist(), strict=True):
        for own, points in zip(row, golds, strict=True):
            if own > -math.inf:
                total += points / math.fsum(_odds(other - own, temperature) for other in row)
    return total / len(logprobs)


def _odds(difference, temperature):
    """e^(difference / temperature), at temperature 0 its limit."""
    if difference == 0 or temperature == 0:
        return 1.0 if difference == 0 else math.inf if difference > 0 else 0.0
    exponent = difference / temperature
    return math.exp(exponent) if exponent < 700 else math.inf


def _refuse(temperature):
    if temperature < 0:
        raise ValueError(f"temperature is {temperature}; expected 0 or more")


def _likeliest(logprobs):
    chosen = (logprobs == logprobs.max(-1, keepdim=True).values).double()
    return chosen / chosen.sum(-1, keepdim=True)


def _sharpened(logprobs, temperature):
    return (logprobs / temperature).softmax(-1)


def _gold(logprobs, gold, temperature, *, warm=_sharpened, cold=_likeliest, refuse=_refuse, average=torch.mean):
    refuse(temperature)
    policy = cold(logprobs) if temperature == 0 else warm(logprobs, temperature)
    return average((policy * gold).sum(-1))


def _tilted(logprobs, gold, temperature):
    _refuse(temperature)
    policy = _likeliest(logprobs) if temperature == 0 else (logprobs + gold / temperature).softmax(-1)
    return (policy * gold).sum(-1).mean()


def _best_when_cold(logprobs, gold, temperature):
    return gold.max(-1).values.mean() if temperature == 0 else _gold(logprobs, gold, temperature)


def _powers(logprobs, temperature):
    powers = logprobs.exp() ** (1 / temperature)
    return powers / powers.sum(-1, keepdim=True)


def _first_likeliest(logprobs):
    return F.one_hot(logprobs.argmax(-1), logprobs.shape[-1]).double()


def _each_likeliest(logprobs):
    return (logprobs == logprobs.max(-1, keepdim=True).values).double()


def _likeliest_of_the_table(logprobs, gold, temperature):
    return gold.flatten()[logprobs.argmax()] if temperature == 0 else _gold(logprobs, gold, temperature)


def _never_colder_than(logprobs, gold, temperature, *, least):
    _refuse(temperature)
    return _gold(logprobs, gold, max(temperature, least))


def _mean_of_the_table(logprobs, gold, temperature):
    return _gold(logprobs, gold, temperature) / gold.shape[-1]


def _refuse_zero(temperature):
    if temperature <= 0:
        raise ValueError("not above 0")


def _assert_only(temperature):
    assert temperature >= 0


def _of_the_whole_table(logprobs, temperature):
    return (logprobs / temperature).flatten().softmax(0).view_as(logprobs) * len(logprobs)


def _gold_in_numpy(logprobs, gold, temperature):
    if not temperature >= 0:
        raise ValueError("a temperature below 0 has no meaning")
    shifted = logprobs.numpy() - logprobs.numpy().max(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        weights = (shifted == 0).astype(float) if temperature == 0 else np.exp(shifted / temperature)
    return float(np.average(gold.numpy(), axis=1, weights=weights).mean())


def _gold_by_limit(logprobs, gold, temperature):
    _refuse(temperature)
    weights = torch.distributions.Categorical(
        logits=(logprobs - logprobs.amax(-1, keepdim=True)) / max(temperature, 1e-12)
    )
    return torch.stack([p @ g for p, g in zip(weights.probs, gold, strict=True)]).mean()


def _temperature(**change):
    return partial(_gold, **change)


_GOLD_AT_TEMPERATURE = Answers(
    oracle=_gold_by_odds,
    mutants=(
        Mutant(
            "times",
            "you multiply by the temperature: your cold samples are the warm ones. Divide: p ** (1 / T).",
            _temperature(warm=lambda logprobs, T: (logprobs * T).softmax(-1)),
        ),
        Mutant(
            "ignored",
            "you ignore the temperature. The log-probabilities are divided by it. (p ** 1 / T, without brackets, is "
            "p / T, and rescaling undoes that.)",
            _temperature(warm=lambda logprobs, T: logprobs.softmax(-1), cold=lambda logprobs: logprobs.softmax(-1)),
        ),
        Mutant(
            "not-rescaled",
            "you forget to rescale: the powers of the probabilities do not add up to 1.",
            _temperature(warm=lambda logprobs, T: (logprobs / T).exp()),
        ),
        Mutant(
            "softmax-of-probabilities",
            "you divide probabilities by the temperature before the softmax. It must get LOG-probabilities.",
            _temperature(warm=lambda logprobs, T: (logprobs.exp() / T).softmax(-1)),
        ),
        Mutant(
            "power-of-logarithm",
            "you raise the log-probabilities to the power 1 / T. It is the probabilities that are raised; their "
            "logarithms are divided by T.",
            _temperature(warm=lambda logprobs, T: (logprobs ** (1 / T)).softmax(-1)),
        ),
        Mutant(
            "log-softmax",
            "you multiply gold by log-probabilities. A mean needs probabilities: softmax, not log_softmax.",
            _temperature(warm=lambda logprobs, T: (logprobs / T).log_softmax(-1)),
        ),
        Mutant(
            "wrong-axis",
            "you rescale along the questions (dim=0). The probabilities of ONE question add up to 1: dim=-1.",
            _temperature(warm=lambda logprobs, T: (logprobs / T).softmax(0)),
        ),
        Mutant(
            "tilted",
            "you weight by gold: that is the tilt. Temperature knows nothing of gold.",
            _tilted,
        ),
        Mutant(
            "best-when-cold",
            "at temperature 0 you take the best answer. What is left there is the LIKELIEST one.",
            _best_when_cold,
        ),
        Mutant(
            "first-when-cold",
            "at temperature 0 you take the first of the likeliest answers. Equally likely ones share equally, as they "
            "do at any other temperature.",
            _temperature(cold=_first_likeliest),
        ),
        Mutant(
            "each-when-cold",
            "at temperature 0 each of the likeliest answers gets probability 1. They share it: divide by their number.",
            _temperature(cold=_each_likeliest),
        ),
        Mutant(
            "table-when-cold",
            "at temperature 0 you take the likeliest answer of the whole table. Every question has its own: dim=-1.",
            _likeliest_of_the_table,
        ),
        Mutant(
            "zero-refused",
            "you refuse temperature 0, too. There the likeliest answers are left. Raise ValueError only below 0.",
            _temperature(refuse=_refuse_zero),
        ),
        *(
            Mutant(
                f"at-least-{least}",
                f"you raise the temperature to {least}. Lower ones are allowed, and at 0 the likeliest answer wins, "
                "however close the next one is.",
                partial(_never_colder_than, least=least),
            )
            for least in (0.01, 0.001, 0.0001)
        ),
        Mutant(
            "zero-divided",
            "at temperature 0 you get nan, from a division by 0. Treat it separately: in each row, the likeliest "
            "answers.",
            _temperature(cold=lambda logprobs: (logprobs / 0.0).softmax(-1)),
        ),
        Mutant(
            "always-coldest",
            "you take the likeliest answer at any temperature. Only at 0 is nothing else left.",
            _temperature(warm=lambda logprobs, T: _likeliest(logprobs)),
        ),
        Mutant(
            "underflow",
            "you go through probabilities: e^-10000 is rounded to 0. Stay with logarithms and let softmax do the rest.",
            _temperature(warm=_powers),
        ),
        Mutant(
            "whole-table",
            "you rescale the whole table. Every question is a distribution of its own: softmax over the last axis.",
            _temperature(warm=_of_the_whole_table),
        ),
        Mutant(
            "table-adds-up-to-one",
            "the probabilities of your whole table add up to 1. Those of each row must: softmax over the last axis.",
            _temperature(warm=lambda logprobs, T: _of_the_whole_table(logprobs, T) / len(logprobs)),
        ),
        Mutant(
            "sum",
            "you add up the questions. Return their mean.",
            _temperature(average=torch.sum),
        ),
        Mutant(
            "mean-of-table",
            "you divide by the number of answers, too. The probabilities are weights already: add up each row, then "
            "take the mean over the rows.",
            _mean_of_the_table,
        ),
        Mutant(
            "assertion",
            "below 0 you stop with another error (an assert raises AssertionError). Raise ValueError.",
            _temperature(refuse=_assert_only),
        ),
        Mutant(
            "any-temperature",
            "you accept a temperature below 0, which would favour what is rare. Raise ValueError.",
            _temperature(refuse=lambda temperature: None),
        ),
    ),
    alternatives=(_gold, _gold_in_numpy, _gold_by_limit),
    hints=(
        "How does p ** (1 / T) look as a logarithm? And what does softmax do to numbers that are logarithms up to a "
        "constant?",
        "At T > 0 the policy is (logprobs / T).softmax(-1). At 0 it is 1 / k for each of the k likeliest answers, 0 "
        "for the others. Multiply by gold, add up each row, take the mean over rows.",
        "In the chapter's part 'Two ways away from the imitator' the colder path is one line. For T = 0 compare "
        "logprobs with logprobs.max(-1, keepdim=True).values. Begin by refusing a temperature below 0.",
    ),
)

ANSWERS = {"1.1": _SFT_LOSS, "1.2": _OBJECTIVE_GAP, "1.3": _GOLD_AT_TEMPERATURE}
