"""Loops over data that is there before training begins: SFT, the reward model, DPO and its relatives."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from prefcourse import losses
from prefcourse.backbone import response_logprobs
from prefcourse.sequences import Sequences, batches, concatenate, encode
from prefcourse.train.common import Optimiser, check_beta, floats, rows_of, warmup_cosine

STEADIER = "larger batches, or look for odd rows in the data"


def epochs_of(lengths: Tensor, batch_size: int, steps: int, seed: int) -> Iterator[Tensor]:
    """`steps` batches of row numbers: shuffled epochs, one after the other."""
    generator = torch.Generator().manual_seed(seed)
    done = 0
    while done < steps:
        for rows in batches(lengths, batch_size, generator):
            if done == steps:
                return
            done += 1
            yield rows


def steps_in(epochs: float, rows: int, batch_size: int) -> int:
    return max(1, round(epochs * -(-rows // batch_size)))


def sft(
    model, tokenizer, examples, *, steps: int, batch_size: int = 64, learning_rate: float = 5e-3, seed: int
) -> Iterator[dict[str, float]]:
    """Supervised fine-tuning: maximise the likelihood of each response given its prompt (prompt masked).

    `examples` has columns prompt and response. Yields after each of `steps` updates. Rows of like length share a batch,
    so batches differ in their number of tokens. What is minimised is each batch's sum over tokens, divided by the
    number that a batch has on average and not by its own: every token of the data weighs the same, in a short response
    and in a long one. The loss that is yielded is the mean over the batch's own tokens.
    """
    data = encode(tokenizer, rows_of(examples, "prompt"), rows_of(examples, "response"))
    usual_tokens = data.lengths.double().mean().item()  # of a row
    blind = math.log(model.config.get_text_config().vocab_size)  # the loss of a guess among all words
    optimiser = Optimiser(model, learning_rate, factor=warmup_cosine(steps), far=2, advice=STEADIER)
    for rows in epochs_of(data.attention_mask.sum(dim=1), batch_size, steps, seed):
        batch = data.take(rows).to(model.device)
        loss, metrics = losses.sft_loss(response_logprobs(model, batch), batch.response_mask)
        tokens = batch.response_mask.sum() / (len(rows) * usual_tokens)  # 1 in a batch of the usual length
        yield floats(metrics) | optimiser.step(loss, usual=blind, weight=tokens)


def encode_pairs(tokenizer, pairs) -> tuple[Sequences, Sequences]:
    """Chosen and rejected rows of a data set of pairs, both padded to the same width."""
    prompts = rows_of(pairs, "prompt")
    if not prompts:
        raise ValueError("there are no pairs to train on; see how many were dropped, and why, where they were read")
    chosen = encode(tokenizer, prompts, rows_of(pairs, "chosen"))
    rejected = encode(tokenizer, prompts, rows_of(pairs, "rejected"))
    return chosen, rejected


def pair_lengths(chosen: Sequences, rejected: Sequences) -> Tensor:
    return torch.maximum(chosen.attention_mask.sum(dim=1), rejected.attention_mask.sum(dim=1))


def reward_model(
    model,
    tokenizer,
    pairs,
    *,
    epochs: float = 1,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    seed: int,
) -> Iterator[dict[str, float]]:
    """Fit scores so that sigmoid(score of chosen - score of rejected) is the share that prefers chosen."""
    chosen, rejected = encode_pairs(tokenizer, pairs)
    steps = steps_in(epochs, len(chosen), batch_size)
    optimiser = Optimiser(model, learning_rate, factor=warmup_cosine(steps), far=20, advice=STEADIER)
    for rows in epochs_of(pair_lengths(chosen, rejected), batch_size, steps, seed):
        scores = model(concatenate(chosen.take(rows), rejected.take(rows)))
        loss, metrics = losses.bradley_terry_loss(*scores.chunk(2))
        yield floats(metrics) | optimiser.step(loss)


def sequence_sums(model, sequences: Sequences) -> Tensor:
    """log p(response | prompt) of each row: the sum over its tokens."""
    return response_logprobs(model, sequences).sum(dim=1)


@torch.no_grad()
def precomputed(model, sequences: Sequences, *, batch_size: int = 256) -> Tensor:
    """`sequence_sums` of many rows, once, in order of length; the reference never changes."""
    sums = torch.zeros(len(sequences), device=model.device)
    for rows in sequences.attention_mask.sum(dim=1).argsort().split(batch_size):
        sums[rows] = sequence_sums(model, sequences.take(rows))
    return sums


def dpo(
    policy, reference, tokenizer, pairs, *, beta: float, loss: Callable = losses.dpo_loss, epochs: float = 1,
    batch_size: int = 64, learning_rate: float = 5e-4, seed: int,
) -> Iterator[dict[str, float]]:  # fmt: skip
    """Direct preference optimisation, or any loss on pairs.

    With a reference, `loss` is called as dpo_loss is: four sums of log-probabilities and beta. With `reference=None` it
    gets the two MEANS per token that SimPO and ORPO ask for, and beta. Settings of a loss beyond that go in by partial.
    """
    check_beta(beta)
    chosen, rejected = encode_pairs(tokenizer, pairs)
    fixed = [precomputed(reference, rows) for rows in (chosen, rejected)] if reference is not None else []
    steps = steps_in(epochs, len(chosen), batch_size)
    optimiser = Optimiser(policy, learning_rate, factor=warmup_cosine(steps))
    for rows in epochs_of(pair_lengths(chosen, rejected), batch_size, steps, seed):
        both = concatenate(chosen.take(rows), rejected.take(rows)).to(policy.device)
        logprobs = sequence_sums(policy, both)
        if reference is None:
            logprobs = logprobs / both.lengths.clamp(min=1)
        value, metrics = loss(*logprobs.chunk(2), *(sums[rows].to(policy.device) for sums in fixed), beta=beta)
        yield floats(metrics) | optimiser.step(value)
