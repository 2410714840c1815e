"""Sampling with a key-value cache. Knows distributions and stopping; knows nothing of rewards or training.

Any Hugging Face causal model samples through its own cache. A plain Llama goes through `LlamaDecoder`, which gives
the same tokens with less work per step: folded matrices, a cache laid out for one matrix product, sampling by inverse
CDF and rows that leave the batch when they have ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from prefcourse.backbone import (
    fold,
    is_plain_llama,
    lengths,
    logit_head,
    norm_floor,
    norm_weight,
    read_out,
    rotate,
    rotations,
    trunk,
)
from prefcourse.sequences import Sequences, check_prompts


@dataclass(frozen=True)
class Rollout:
    """Samples, with what the sampler knew when it drew them."""

    sequences: Sequences  # prompts padded on the left, responses on the right
    logprobs: Float[Tensor, "B T"]  # of the sampled tokens at the sampling temperature, before top-p
    finished: Bool[Tensor, " B"]  # true where the response ended with EOS
    prompts: list[str]
    texts: list[str]  # responses, decoded, without EOS
    values: Float[Tensor, "B T"] | None = None  # of the state before each token, where a value head was given


def nucleus(probabilities: Float[Tensor, "B V"], top_p: float) -> Float[Tensor, "B V"]:
    """Zero outside the smallest set of words with mass >= top_p (Holtzman et al., 1904.09751); not renormalised."""
    ranked, order = probabilities.sort(dim=-1, descending=True)
    before = ranked.cumsum(dim=-1) - ranked
    return torch.zeros_like(probabilities).scatter(-1, order, ranked * (before < top_p))


def draw(weights: Float[Tensor, "B V"], u: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
    """The word at which the cumulative weight reaches the share u of the total; u uniform on (0, 1]."""
    cumulative = weights.cumsum(dim=-1)
    index = torch.searchsorted(cumulative, u[:, None] * cumulative[:, -1:]).squeeze(-1)
    return index.clamp(max=weights.shape[-1] - 1)  # where weights are nan, the loss will tell


def choose(
    logits: Float[Tensor, "B V"], u: Float[Tensor, " B"], temperature: float, top_p: float
) -> tuple[Int[Tensor, " B"], Float[Tensor, " B"]]:
    """Next tokens and their log-probabilities. Temperature 0 takes the most likely word."""
    logprobs = F.log_softmax(logits.float() / (temperature or 1.0), dim=-1)
    if temperature == 0:
        tokens = logprobs.argmax(dim=-1)
    else:
        probabilities = logprobs.exp()
        tokens = draw(probabilities if top_p >= 1 else nucleus(probabilities, top_p), u)
    return tokens, logprobs.gather(-1, tokens[:, None]).squeeze(-1)


class LlamaDecoder:
    """One token at a time through a plain Llama: the same sums as `backbone.hidden_states`, with a cache."""

    def __init__(self, model, rows: int, capacity: int):
        inner = trunk(model)
        config, self.embedding, self.norm = inner.config, inner.embed_tokens.weight, norm_weight(inner.norm)
        heads, width = config.num_attention_heads, config.hidden_size // config.num_attention_heads
        self.shape, self.floor, self.length = (heads, width), norm_floor(self.norm, config), 0
        self.layers = []
        for layer in (fold(layer, heads) for layer in inner.layers):
            scaled = layer.query * width**-0.5
            self.layers.append(
                (torch.cat([scaled, layer.key, layer.value]).T, layer.out.T,
                 torch.cat([layer.gate, layer.up]).T, layer.down.T)
            )  # fmt: skip
        self.turn = rotations(config, capacity, self.embedding.device)
        self.keys = self.embedding.new_zeros(len(self.layers), rows, heads, width, capacity)
        self.values = self.embedding.new_zeros(len(self.layers), rows, heads, capacity, width)
        never = torch.finfo(self.embedding.dtype).min / 2
        self.bias = self.embedding.new_full((rows, heads, 1, capacity), never)  # 0 where a token stands

    def keep(self, rows) -> None:
        """Go on with some rows only."""
        self.keys, self.values = self.keys.index_select(1, rows), self.values.index_select(1, rows)
        self.bias, self.positions = self.bias[rows], self.positions[rows]

    def read(self, prompt: Int[Tensor, "B P"], mask: Bool[Tensor, "B P"]) -> Float[Tensor, "B D"]:
        """Fill the cache with left-padded prompts; the state before the first response token."""
        width, bias = prompt.shape[1], self.bias[..., : prompt.shape[1]]
        future = bias[:1, :1].expand(1, 1, width, width).triu(1)
        bias.masked_fill_(mask[:, None, None], 0.0)
        positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
        self.positions = positions[:, -1] + 1
        return self._run(prompt, self.turn[positions][:, :, None], bias + future)

    def step(self, tokens: Int[Tensor, " B"]) -> Float[Tensor, "B D"]:
        """Take one token per row; the state before the next."""
        turn = self.turn[self.positions][:, None, None]
        self.positions = self.positions + 1
        self.bias[..., self.length].zero_()
        window = -(-(self.length + 1) // 32) * 32  # products of fewer columns are slower, not faster
        return self._run(tokens[:, None], turn, self.bias[..., :window])

    @torch.inference_mode()  # views are cheaper than under no_grad
    def _run(self, tokens: Int[Tensor, "B S"], turn: Tensor, bias: Tensor) -> Float[Tensor, "B D"]:
        x = F.embedding(tokens, self.embedding).flatten(0, 1)  # (B, S, D) -> (B S, D)
        (heads, width), (rows, columns) = self.shape, tokens.shape
        past, self.length = self.length, self.length + columns
        for number, (qkv, out, gate_up, down) in enumerate(self.layers, 1):
            keys, values = self.keys[number - 1], self.values[number - 1]
            projected = ((x / lengths(x, self.floor)) @ qkv).view(rows, columns, 3 * heads, width)
            query, key = rotate(projected[:, :, : 2 * heads], turn).transpose(1, 2).chunk(2, dim=1)
            keys[..., past : self.length] = key.transpose(2, 3)
            values[:, :, past : self.length] = projected[:, :, 2 * heads :].transpose(1, 2)
            if number == len(self.layers):  # only the last position is asked for
                x, query, bias = x.view(rows, columns, -1)[:, -1], query[:, :, -1:], bias[:, :, -1:]
            seen = attend(query, keys[..., : bias.shape[-1]], values[:, :, : bias.shape[-1]], bias)
            x = torch.addmm(x, seen.transpose(1, 2).reshape(x.shape), out)
            gate, up = ((x / lengths(x, self.floor)) @ gate_up).chunk(2, dim=-1)
            x = torch.addmm(x, F.silu(gate).mul_(up), down)
        return x / lengths(x, self.floor) * self.norm


def attend(
    query: Float[Tensor, "B H S W"],
    keys: Float[Tensor, "B H W T"],
    values: Float[Tensor, "B H T W"],
    bias: Tensor,
) -> Float[Tensor, "B H S W"]:
    """Attention over the cache; the query is already scaled. Two batched products beat the fused kernel at S = 1."""
    scores = torch.baddbmm(bias.flatten(0, 1), query.flatten(0, 1), keys.flatten(0, 1))
    return torch.bmm(torch.softmax(scores, dim=-1), values.flatten(0, 1)).view(query.shape)


class CachedDecoder:
    """The same three calls for any Hugging Face causal model, through its own cache."""

    def __init__(self, model, rows: int, capacity: int):
        self.trunk, self.cache = trunk(model), None

    def keep(self, rows) -> None:
        self.cache.batch_select_indices(rows)
        self.mask, self.positions = self.mask[rows], self.positions[rows]

    def read(self, prompt, mask):
        positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
        self.mask, self.positions = mask.long(), positions[:, -1:] + 1
        return self._run(prompt, positions)

    def step(self, tokens):
        self.mask = F.pad(self.mask, (0, 1), value=1)
        hidden = self._run(tokens[:, None], self.positions)
        self.positions = self.positions + 1
        return hidden

    def _run(self, tokens, positions):
        out = self.trunk(
            input_ids=tokens, attention_mask=self.mask, position_ids=positions,
            past_key_values=self.cache, use_cache=True,
        )  # fmt: skip
        self.cache = out.past_key_values
        return out.last_hidden_state[:, -1]


@torch.no_grad()
def sample_ids(
    model, prompt: Int[Tensor, "B P"], mask: Bool[Tensor, "B P"], *, eos_id: int, pad_id: int, max_new_tokens: int,
    generator: torch.Generator | None = None, temperature: float = 1.0, top_p: float = 1.0, value_head=None,
    decoder=None,
) -> tuple[Int[Tensor, "B R"], Float[Tensor, "B R"], Float[Tensor, "B R"]]:  # fmt: skip
    """Response tokens, their log-probabilities and the values of the states before them (0 without a value head).

    Prompts are padded on the left. Columns after a row's EOS hold `pad_id`, 0.0 and 0.0. Every row has its own
    random numbers, drawn beforehand: what it becomes does not depend on when its neighbours end.
    """
    rows = len(prompt)
    decoder = decoder or (LlamaDecoder if is_plain_llama(model) else CachedDecoder)
    decoder = decoder(model, rows, prompt.shape[1] + max_new_tokens)
    head = logit_head(model)
    drawn_on = generator.device if generator else prompt.device
    u = 1 - torch.rand(max_new_tokens, rows, generator=generator, device=drawn_on).to(prompt.device)
    tokens = prompt.new_full((max_new_tokens, rows), pad_id)
    logprobs, values = torch.zeros(2, max_new_tokens, rows, device=prompt.device)
    alive = torch.arange(rows, device=prompt.device)
    hidden = decoder.read(prompt, mask)
    for t in range(max_new_tokens):
        chosen, chosen_logprobs = choose(head(hidden), u[t], temperature, top_p)
        tokens[t].index_copy_(0, alive, chosen)
        logprobs[t].index_copy_(0, alive, chosen_logprobs)
        if value_head is not None:
            values[t].index_copy_(0, alive, read_out(value_head, hidden))
        going_on = (chosen != eos_id).nonzero().squeeze(1)
        if len(going_on) == 0 or t + 1 == max_new_tokens:
            break
        if len(going_on) < len(alive):
            decoder.keep(going_on)
            alive, chosen, u = alive[going_on], chosen[going_on], u[:, going_on]
        hidden = decoder.step(chosen)
    return tokens.T, logprobs.T, values.T


def sample(
    model, tokenizer, prompts: list[str], *, max_new_tokens: int, generator: torch.Generator | None = None,
    temperature: float = 1.0, top_p: float = 1.0, value_head=None,
) -> Rollout:  # fmt: skip
    """One response to each prompt. Pass a prompt n times for n responses.

    Log-probabilities are those of the policy at this temperature; top-p limits what is drawn, not what is reported.
    """
    if not prompts:
        raise ValueError("prompts is empty; give at least one")
    if not 0 < top_p <= 1 or temperature < 0 or max_new_tokens < 1:
        found = f"top_p={top_p}, temperature={temperature}, max_new_tokens={max_new_tokens}"
        raise ValueError(f"top_p must lie in (0, 1], temperature be >= 0, max_new_tokens >= 1; got {found}")
    encoded = tokenizer(list(prompts), return_tensors="pt", padding=True, padding_side="left").to(model.device)
    prompt, mask, eos = encoded["input_ids"].long(), encoded["attention_mask"].bool(), tokenizer.eos_token_id
    check_prompts(prompts, mask.sum(dim=1).tolist())
    tokens, logprobs, values = sample_ids(
        model, prompt, mask, eos_id=eos, pad_id=tokenizer.pad_token_id, generator=generator, value_head=value_head,
        max_new_tokens=max_new_tokens, temperature=temperature, top_p=top_p,
    )  # fmt: skip
    is_eos = tokens == eos
    written = is_eos.long().cumsum(dim=1) - is_eos.long() == 0  # no EOS before this column
    sequences = Sequences(
        input_ids=torch.cat([prompt, tokens], dim=1),
        attention_mask=torch.cat([mask, written], dim=1),
        response_mask=torch.cat([torch.zeros_like(mask), written], dim=1),
    ).trim()
    extra = prompt.shape[1], sequences.input_ids.shape[1] - prompt.shape[1] - max_new_tokens  # trim cut columns
    words = (written & ~is_eos).sum(dim=1).tolist()
    # special tokens stay visible: an <unk> that vanished from the text would escape its judge
    texts = tokenizer.batch_decode([row[:count] for row, count in zip(tokens.tolist(), words, strict=True)])
    values = None if value_head is None else F.pad(values, extra)
    return Rollout(sequences, F.pad(logprobs, extra), is_eos.any(dim=1), list(prompts), texts, values)


class Answers(NamedTuple):
    """Two different answers to each prompt, for somebody to choose between."""

    texts: list[tuple[str, str, str]]  # prompt, first, second
    finished: list[tuple[bool, bool]]

    def both_finished(self) -> Answers:
        """Those of which neither was cut off: `encode` ends every response with EOS, and training would teach that."""
        rows = [row for row in zip(*self, strict=True) if all(row[1])]
        return Answers([texts for texts, _ in rows], [ends for _, ends in rows])


def answer_twice(model, tokenizer, prompts: list[str], *, max_new_tokens: int, generator: torch.Generator) -> Answers:
    """Two samples per prompt. Prompts whose two answers are the same, or of which one is empty, are left out."""
    first, second = (
        sample(model, tokenizer, prompts, max_new_tokens=max_new_tokens, generator=generator) for _ in range(2)
    )
    ends = zip(first.finished.tolist(), second.finished.tolist(), strict=True)
    rows = zip(prompts, first.texts, second.texts, ends, strict=True)
    kept = [((p, a, b), end) for p, a, b, end in rows if a and b and a != b]
    return Answers([texts for texts, _ in kept], [end for _, end in kept])
