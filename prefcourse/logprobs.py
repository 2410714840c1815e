"""From logits to log-probabilities of responses. Knows shifting and masking; knows no models or losses."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def _predictions(logits: Float[Tensor, "B T V"], response_mask: Bool[Tensor, "B T"]) -> Float[Tensor, "N V"]:
    """The log-distributions from which the N response tokens of the batch were drawn, row after row."""
    if response_mask[:, 0].any():
        raise ValueError(
            "response_mask is true in column 0, but the first token has nothing before it to predict it. Is "
            "the prompt missing, or was the mask shifted already? (the shift happens in here)"
        )
    # logits at t-1 predict token t; the rest is left out, so logits of padding may hold anything, even nan
    return logits[:, :-1][response_mask[:, 1:]].log_softmax(-1)  # (B, T, V) -> (N, V)


def _on_mask(response_mask: Bool[Tensor, "B T"], numbers: Float[Tensor, " N"]) -> Float[Tensor, "B T"]:
    """Lay N numbers back on the N true places of the mask, in order; exactly 0 elsewhere."""
    return numbers.new_zeros(response_mask.shape).masked_scatter(response_mask, numbers)  # (N,) -> (B, T)


def token_logprobs(
    logits: Float[Tensor, "B T V"], input_ids: Int[Tensor, "B T"], response_mask: Bool[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """Column t is log p(token t | tokens before t) on response tokens, EOS included, and exactly 0 elsewhere.

    Logits and ids go in as the model has them: the shift happens here. Prompt and padding get no gradient. A
    response without tokens is a row of zeros. ValueError if the mask is true in column 0.
    """
    drawn = input_ids[:, 1:][response_mask[:, 1:]]  # (B, T) -> (N,)
    return _on_mask(response_mask, _predictions(logits, response_mask).gather(-1, drawn[:, None])[:, 0])


def sequence_logprobs(
    logits: Float[Tensor, "B T V"], input_ids: Int[Tensor, "B T"], response_mask: Bool[Tensor, "B T"]
) -> Float[Tensor, " B"]:
    """log p(response | prompt): the SUM over the response tokens, never the mean; 0 for an empty response."""
    return token_logprobs(logits, input_ids, response_mask).sum(-1)  # (B, T) -> (B,)


def token_entropy(logits: Float[Tensor, "B T V"], response_mask: Bool[Tensor, "B T"]) -> Float[Tensor, "B T"]:
    """Column t is the entropy, in nats, of the distribution that response token t came from; 0 off the mask.

    Differentiable. A token with logit -inf adds 0 (the limit of -p log p), not nan.
    """
    log_p = _predictions(logits, response_mask).clamp(min=torch.finfo(logits.dtype).min)
    return _on_mask(response_mask, -(log_p.exp() * log_p).sum(-1))
