"""Prompt and response of many rows in one tensor layout. Knows padding and masks; knows nothing of models.

Column t of every (B, T) tensor in this package speaks about token t of its row: its log-probability given the
tokens before it, the value of the state before it, its reward. So a response mask selects the same columns
everywhere, and nothing is shifted outside `logprobs`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Sequences:
    """Rows of prompt + response. Padding may stand left, right or both; the masks say where."""

    input_ids: Int[Tensor, "B T"]
    attention_mask: Bool[Tensor, "B T"]
    response_mask: Bool[Tensor, "B T"]  # true on response tokens, EOS included

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def lengths(self) -> Int[Tensor, " B"]:
        """Response tokens per row, EOS included."""
        return self.response_mask.sum(dim=1)

    def take(self, rows) -> Sequences:
        """Some rows, without the columns that only pad."""
        return self._map(lambda tensor: tensor[rows]).trim()

    def trim(self) -> Sequences:
        used = self.attention_mask.any(dim=0).nonzero()
        start, end = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        if start == 0 and end == self.input_ids.shape[1]:
            return self
        return self._map(lambda tensor: tensor[:, start:end])

    def left_aligned(self) -> Sequences:
        """The same rows, every row beginning in column 0: causal attention then needs no mask."""
        if bool(self.attention_mask[:, 0].all()):
            return self
        order = (~self.attention_mask).to(torch.uint8).argsort(dim=1, stable=True)
        return self._map(lambda tensor: tensor.gather(1, order)).trim()

    def to(self, device) -> Sequences:
        """The same rows where a model can read them; themselves, if they are there already."""
        return self if self.input_ids.device == torch.device(device) else self._map(lambda tensor: tensor.to(device))

    def _map(self, change) -> Sequences:
        names = ("input_ids", "attention_mask", "response_mask")
        return replace(self, **{name: change(getattr(self, name)) for name in names})


def concatenate(first: Sequences, second: Sequences, pad_id: int = 0) -> Sequences:
    """Rows of both, one under the other, padded on the right to the wider of the two."""
    width = max(first.input_ids.shape[1], second.input_ids.shape[1])

    def stack(name: str, fill) -> Tensor:
        parts = (getattr(first, name), getattr(second, name))
        return torch.cat([torch.nn.functional.pad(p, (0, width - p.shape[1]), value=fill) for p in parts])

    return Sequences(stack("input_ids", pad_id), stack("attention_mask", False), stack("response_mask", False))


def encode(tokenizer, prompts: list[str], responses: list[str], *, max_length: int | None = None) -> Sequences:
    """Text to rows, padded on the right, EOS after every response. A row longer than `max_length` loses its end."""
    if len(prompts) != len(responses):
        raise ValueError(f"{len(prompts)} prompts but {len(responses)} responses; they must come in pairs")
    if not prompts:
        raise ValueError("there are no rows to encode; is the data set empty, or was every row dropped?")
    if tokenizer.eos_token_id is None or tokenizer.pad_token_id is None:
        raise ValueError("the tokenizer needs an eos_token and a pad_token; set them before encoding")
    prompt_ids = tokenizer(list(prompts), add_special_tokens=True)["input_ids"]
    check_prompts(prompts, [len(ids) for ids in prompt_ids])
    response_ids = tokenizer(list(responses), add_special_tokens=False)["input_ids"]
    rows = [p + r + [tokenizer.eos_token_id] for p, r in zip(prompt_ids, response_ids, strict=True)]
    rows = [row[:max_length] for row in rows]
    width = max(map(len, rows))
    input_ids = torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in rows])
    columns = torch.arange(width)[None, :]
    attention_mask = columns < torch.tensor([len(row) for row in rows])[:, None]
    response_mask = attention_mask & (columns >= torch.tensor([len(p) for p in prompt_ids])[:, None])
    return Sequences(input_ids, attention_mask, response_mask)


def check_prompts(prompts: list[str], token_counts: list[int]) -> None:
    """ValueError if a prompt has no tokens: the first token of a response is predicted from what stands before it."""
    empty = [row for row, count in enumerate(token_counts) if count == 0]
    if empty:
        raise ValueError(
            f"prompt {empty[0]} is {prompts[empty[0]]!r}, which has no tokens ({len(empty)} of {len(prompts)} prompts)."
            " Leave such rows out, or begin every prompt with a word"
        )


def batches(lengths: Int[Tensor, " N"], batch_size: int, generator: torch.Generator, *, pool: int = 16) -> Iterator:
    """Row numbers of one epoch in batches of like length, so that little padding is carried.

    Rows are shuffled, sorted by length within pools of `pool` batches, cut, and the batches are shuffled. Every
    row comes once; the last, smaller batch comes where the shuffle puts it. `pool=1` is a plain shuffle.
    """
    order, cut = torch.randperm(len(lengths), generator=generator), []
    lengths = lengths.to(order.device)
    for rows in order.split(batch_size * pool):
        cut += rows[lengths[rows].argsort(stable=True)].split(batch_size)
    for i in torch.randperm(len(cut), generator=generator).tolist():
        yield cut[i]
