"""From tokens to hidden states and log-probabilities, without work that nobody needs.

`hidden_states` is the forward pass of any Hugging Face causal model. For a plain Llama (TinyLM is one) it runs the
same sums in fewer, larger steps: norms folded into the matrices that follow them, residuals added
by the matrix product, rotary positions as one complex product, and the last layer finishes only the positions that are
asked for. Rows begin in column 0 (`Sequences.left_aligned`), so that causality is mask enough. Tests hold it to
the Hugging Face forward, gradients included. `response_logprobs` then applies the head on response positions only:
`logit_head`, which is held to the model's own logits before it is first used.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from prefcourse.sequences import Sequences

_PLAIN_PARTS = set(
    "ModuleList LlamaDecoderLayer LlamaAttention LlamaMLP LlamaRMSNorm Linear SiLU SiLUActivation".split()
)
_HEADS_HELD_TO_THEIR_MODEL = weakref.WeakSet()


class Layer(NamedTuple):
    """The matrices of one decoder layer, the norm's weight folded into those that read the normed state."""

    query: Float[Tensor, "D D"]
    key: Float[Tensor, "D D"]
    value: Float[Tensor, "D D"]
    out: Float[Tensor, "D D"]
    gate: Float[Tensor, "F D"]
    up: Float[Tensor, "F D"]
    down: Float[Tensor, "D F"]


def lengths(x: Float[Tensor, "N D"], floor: Float[Tensor, ""]) -> Float[Tensor, "N 1"]:
    """sqrt(|x|^2 + floor^2) of each row, as a hypotenuse: one pass over x."""
    return torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), floor)


class Norm(torch.autograd.Function):
    """x over its length. RMSNorm is sqrt(D) times this, which goes into the weights; half its passes over memory."""

    @staticmethod
    def forward(ctx, x: Float[Tensor, "N D"], floor: Float[Tensor, ""]) -> Float[Tensor, "N D"]:
        length = lengths(x, floor)
        unit = x / length
        ctx.save_for_backward(unit, length)
        return unit

    @staticmethod
    def backward(ctx, grad):
        unit, length = ctx.saved_tensors
        along = torch.linalg.vecdot(grad, unit)[:, None]
        return torch.addcmul(grad, unit, along, value=-1).div_(length), None


def norm_floor(weight: Float[Tensor, " D"], config) -> Float[Tensor, ""]:
    """The eps of RMSNorm, in units of length."""
    return weight.new_tensor((config.rms_norm_eps * config.hidden_size) ** 0.5)


def norm_weight(norm) -> Float[Tensor, " D"]:
    """What a unit vector is multiplied by to become RMSNorm's output."""
    return norm.weight * norm.weight.shape[0] ** 0.5


def is_plain_llama(model) -> bool:
    """True where the lean forward below knows every part of the model: no adapters, no biases, no shared heads."""
    config = model.config
    return (
        config.model_type == "llama"
        and config.hidden_act == "silu"
        and not (getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False))
        and config.num_key_value_heads == config.num_attention_heads
        and getattr(config, "head_dim", None) in (None, config.hidden_size // config.num_attention_heads)
        and getattr(config, "attention_dropout", 0.0) == 0.0
        and (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default") == "default"
        and model.dtype in (torch.float32, torch.float64)  # there is no complex bfloat16
        and {type(part).__name__ for part in trunk(model).layers.modules()} <= _PLAIN_PARTS
    )


def trunk(model):
    """The decoder without its head."""
    return model.get_decoder()


def interleave(weight: Float[Tensor, "D D"], heads: int) -> Float[Tensor, "D D"]:
    """Rows so ordered that the two halves that rotate together are neighbours; q.k does not change."""
    width = weight.shape[0] // heads
    return weight.view(heads, 2, width // 2, -1).transpose(1, 2).reshape(weight.shape)


def fold(layer, heads: int) -> Layer:
    """Weights of one Hugging Face layer, ready for `layer_forward`; gradients flow back to the originals."""
    attention, mlp = layer.self_attn, layer.mlp
    before, after = norm_weight(layer.input_layernorm), norm_weight(layer.post_attention_layernorm)
    return Layer(
        query=interleave(attention.q_proj.weight, heads) * before,
        key=interleave(attention.k_proj.weight, heads) * before,
        value=attention.v_proj.weight * before,
        out=attention.o_proj.weight,
        gate=mlp.gate_proj.weight * after,
        up=mlp.up_proj.weight * after,
        down=mlp.down_proj.weight,
    )


def rotations(config, length: int, device) -> Tensor:
    """(length, head_dim / 2) unit complex numbers that turn a query or key at each position."""
    theta = (getattr(config, "rope_parameters", None) or {}).get("rope_theta", getattr(config, "rope_theta", 1e4))
    width = config.hidden_size // config.num_attention_heads
    frequency = theta ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    angle = torch.arange(length, device=device, dtype=torch.float32)[:, None] * frequency
    return torch.polar(torch.ones_like(angle), angle)


def rotate(x: Float[Tensor, "... W"], turn: Tensor) -> Float[Tensor, "... W"]:
    return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turn).flatten(-2)


def layer_forward(
    x: Float[Tensor, "N D"], layer: Layer, heads: int, floor: Tensor, turn: Tensor, rows: Int[Tensor, " M"] | None
) -> Float[Tensor, "M D"]:
    """One decoder layer; N = B x T rows, `turn` (T, 1, W / 2) carries the shape back. `rows`: only finish these."""
    unit = Norm.apply(x, floor)
    query, key, value = (
        F.linear(unit, weight).view(-1, len(turn), heads, x.shape[1] // heads)  # (B, T, H, W)
        for weight in (layer.query, layer.key, layer.value)
    )
    query, key, value = (part.transpose(1, 2) for part in (rotate(query, turn), rotate(key, turn), value))
    seen = F.scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2).reshape(x.shape)
    if rows is not None:  # from here on no position looks at another
        x, seen = x.index_select(0, rows), seen.index_select(0, rows)  # (N, D) -> (M, D)
    x = torch.addmm(x, seen, layer.out.T)
    unit = Norm.apply(x, floor)
    return torch.addmm(x, F.silu(F.linear(unit, layer.gate)) * F.linear(unit, layer.up), layer.down.T)


def hidden_states(
    model, input_ids: Int[Tensor, "B T"], attention_mask: Bool[Tensor, "B T"], wanted: Bool[Tensor, "B T"]
) -> Float[Tensor, "M D"]:
    """Last hidden states, final norm included, at the wanted positions, row by row. Rows begin in column 0."""
    inner = trunk(model)
    if not is_plain_llama(model):
        return inner(input_ids=input_ids, attention_mask=attention_mask.long(), use_cache=False)[0][wanted]
    heads, floor = inner.config.num_attention_heads, norm_floor(inner.norm.weight, inner.config)
    turn = rotations(inner.config, input_ids.shape[1], input_ids.device)[:, None]
    x = F.embedding(input_ids, inner.embed_tokens.weight).flatten(0, 1)  # (B, T, D) -> (N, D)
    rows = wanted.flatten().nonzero().squeeze(1)
    for layer in inner.layers:
        is_last = layer is inner.layers[-1]
        x = layer_forward(x, fold(layer, heads), heads, floor, turn, rows if is_last else None)
    return Norm.apply(x, floor) * norm_weight(inner.norm)


def response_hidden(model, sequences: Sequences) -> Float[Tensor, "M D"]:
    """The state before each response token, all responses in one list, row by row."""
    rows = sequences.to(
        model.device
    ).left_aligned()  # nothing needs the state after the last token: its column stays out
    return hidden_states(model, rows.input_ids[:, :-1], rows.attention_mask[:, :-1], rows.response_mask[:, 1:])


def logit_head(model) -> Callable[[Float[Tensor, "M D"]], Float[Tensor, "M V"]]:
    """From last hidden states to logits, in float32, scaled (Cohere, Granite) and capped (Gemma) as the model does it.

    ValueError if the model does anything else to them: its log-probabilities would be wrong, silently.
    """
    config, head = model.config.get_text_config(), model.get_output_embeddings()
    factor = number(config, "logit_scale", 1.0) / number(config, "logits_scaling", 1.0)
    cap = number(config, "final_logit_softcapping", None)

    def logits_of(hidden: Float[Tensor, "M D"]) -> Float[Tensor, "M V"]:
        logits = head(hidden).float()
        logits = logits if factor == 1 else logits * factor
        return logits if cap is None else cap * torch.tanh(logits / cap)

    if model not in _HEADS_HELD_TO_THEIR_MODEL:
        if head is None or not gives_own_logits(model, logits_of):
            known = "known: a linear head, logit_scale, logits_scaling, final_logit_softcapping"
            raise ValueError(
                f"{type(model).__name__} makes its logits in a way that is not known here ({known}), so its"
                " log-probabilities would be wrong. Use another model, or extend backbone.logit_head"
            )
        _HEADS_HELD_TO_THEIR_MODEL.add(model)
    return logits_of


def number(config, name: str, default: float | None) -> float | None:
    """A setting, where the model has it as a number."""
    found = getattr(config, name, None)
    return found if isinstance(found, int | float) else default


@torch.no_grad()
def gives_own_logits(model, logits_of: Callable) -> bool:
    """Whether `logits_of` the trunk's states are the logits of the model's own forward, on two tokens."""
    ids, states = torch.arange(2, device=model.device)[None], []
    hook = trunk(model).register_forward_hook(lambda module, given, found: states.append(found[0]))
    try:
        with torch.random.fork_rng(devices=[]):  # dropout may draw
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits.float()
    finally:
        hook.remove()
    try:
        ours = logits_of(states[-1])
    except (RuntimeError, IndexError):  # the head reads other states, or those of another trunk
        return False
    rounding = 16 * torch.finfo(model.dtype).eps
    return ours.shape == logits.shape and torch.allclose(ours, logits, rtol=rounding, atol=1e-6, equal_nan=True)


def read_out(head, hidden: Float[Tensor, "M D"]) -> Float[Tensor, " M"]:
    """A scalar head on hidden states, in the head's precision: it stays float32 on a trunk of bfloat16."""
    return head(hidden.to(head.weight.dtype)).squeeze(-1).float()


def scatter(flat: Float[Tensor, " N"], mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Back from the list of response tokens to (B, T), zero elsewhere."""
    return flat.new_zeros(mask.shape).masked_scatter(mask, flat)


def response_logprobs(model, sequences: Sequences) -> Float[Tensor, "B T"]:
    """log p of each response token given what stands before it; 0 elsewhere.

    Equal to `logprobs.token_logprobs` of the full logits, computed on response positions only.
    """
    sequences = sequences.to(model.device)
    logits = logit_head(model)(response_hidden(model, sequences))
    chosen = -F.cross_entropy(logits, sequences.input_ids[:, 1:][sequences.response_mask[:, 1:]], reduction="none")
    return scatter(chosen, sequences.response_mask)
