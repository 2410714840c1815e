"""TinyLM, and the heads that turn a language model into a reward model or an actor with a critic.

Knows how models are made, copied, saved and loaded. Knows nothing of losses or of how they are trained.
Every class takes any Hugging Face causal model; TinyLM is only a small one that needs no download.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prefcourse.backbone import hidden_states, logit_head, read_out, response_hidden, scatter, trunk
from prefcourse.sequences import Sequences

SIZES = {  # name: (layers, width, feed-forward width); parameters with PocketWorld's 137 words
    "xs": (2, 64, 176),  # 0.11 M
    "s": (2, 96, 256),  # 0.23 M
    "m": (2, 128, 352),  # 0.42 M
    "l": (4, 128, 352),  # 0.82 M
}
_HEAD_FILE = "head.safetensors"


def tiny_lm(tokenizer, size: str = "xs", *, seed: int = 0):
    """A randomly initialised `LlamaForCausalLM` for this tokenizer: same class as the real ones, seconds to train."""
    from transformers import LlamaConfig, LlamaForCausalLM

    if size not in SIZES:
        raise ValueError(f"size is {size!r}; TinyLM comes in {', '.join(SIZES)}")
    layers, width, inner = SIZES[size]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        initializer_range=0.05,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):  # the caller's random state is not ours to move
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def trainable_copy(model):
    """An independent copy whose parameters all take gradients."""
    return copy.deepcopy(model).requires_grad_(True)


def frozen_copy(model):
    """An independent copy that no optimiser can move: the reference of DPO and PPO."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def scalar_head(width: int, device="cpu") -> nn.Linear:
    """A linear read-out that starts at zero: before training every score and every value is 0.

    In float32 on any trunk: bfloat16 keeps 8 bits, too few to tell two good answers apart.
    """
    head = nn.utils.skip_init(nn.Linear, width, 1, device=device, dtype=torch.float32)  # draws no random numbers
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def head_for(model) -> nn.Linear:
    """A scalar head as wide as the model's last hidden states, and where they are."""
    config = model.config.get_text_config()
    return scalar_head(getattr(config, "word_embed_proj_dim", None) or config.hidden_size, model.device)  # OPT projects


class RewardModel(nn.Module):
    """A causal model's trunk and one linear read-out on the last response token (Ziegler et al. 2019, 1909.08593)."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = head_for(backbone)

    @classmethod
    def from_lm(cls, lm) -> RewardModel:
        """Start from a copy of a language model's trunk; the model itself stays as it is."""
        whole = getattr(lm, "base_model", None)  # of OPT, the decoder alone could be saved but not loaded
        return cls(trainable_copy(whole if hasattr(whole, "get_decoder") else trunk(lm)))

    def forward(self, sequences: Sequences) -> Float[Tensor, " B"]:
        """Score of each row, read at its last token (of the prompt, where the response is empty)."""
        rows = sequences.to(self.backbone.device).left_aligned()
        columns = torch.arange(rows.input_ids.shape[1], device=rows.input_ids.device)
        last = (columns * rows.attention_mask).argmax(dim=1, keepdim=True)
        hidden = hidden_states(self.backbone, rows.input_ids, rows.attention_mask, columns == last)
        return read_out(self.head, hidden)

    def save_pretrained(self, folder: str | Path) -> None:
        self.backbone.save_pretrained(folder)
        save_file(self.head.state_dict(), Path(folder) / _HEAD_FILE)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> RewardModel:
        from transformers import AutoModel

        model = cls(load_exactly(AutoModel, folder))
        model.head.load_state_dict(load_file(_head_file(folder)))
        return model


class PolicyWithValue(nn.Module):
    """A language model and a critic on one trunk: one forward pass gives both."""

    def __init__(self, lm):
        super().__init__()
        self.lm = lm
        self.value_head = head_for(lm)

    def forward(self, sequences: Sequences) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities, entropies (no gradient) and values of the response tokens, each (B, T), 0 elsewhere."""
        sequences = sequences.to(self.lm.device)
        hidden = response_hidden(self.lm, sequences)
        mask = sequences.response_mask
        logprobs = torch.log_softmax(logit_head(self.lm)(hidden), dim=-1)  # (N, V)
        chosen = logprobs.gather(1, sequences.input_ids[mask][:, None]).squeeze(1)
        with torch.no_grad():
            entropy = -(logprobs.exp() * logprobs).sum(dim=1)
        values = read_out(self.value_head, hidden)
        return scatter(chosen, mask), scatter(entropy, mask), scatter(values, mask)

    def save_pretrained(self, folder: str | Path) -> None:
        self.lm.save_pretrained(folder)
        save_file(self.value_head.state_dict(), Path(folder) / _HEAD_FILE)

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> PolicyWithValue:
        model = cls(load_lm(folder))
        model.value_head.load_state_dict(load_file(_head_file(folder)))
        return model


def load_lm(folder: str | Path):
    """A causal model from a folder (or from the hub, by id), ready to train: in float32, as it may have been saved.

    bfloat16 would lose most updates: at a weight of 1 it knows no step smaller than 1/128.
    """
    from transformers import AutoModelForCausalLM

    return load_exactly(AutoModelForCausalLM, folder)


def load_exactly(kind, folder: str | Path):
    """`kind.from_pretrained` in float32. ValueError if a weight is missing or has no place: it would be random."""
    model, info = kind.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    for reason in ("missing_keys", "mismatched_keys"):
        if found := sorted(map(str, info[reason])):
            facts = f"{reason.replace('_', ' ')}: {', '.join(found[:3])}{', ...' * (len(found) > 3)} ({len(found)})"
            raise ValueError(f"{folder} does not hold the weights of a {type(model).__name__}. {facts}")
    return model


def _head_file(folder: str | Path) -> Path:
    path = Path(folder) / _HEAD_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {folder} holds a language model without a trained head")
    return path


def parameters(model) -> int:
    return sum(p.numel() for p in model.parameters())
