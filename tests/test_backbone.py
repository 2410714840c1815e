"""The lean forward pass is the Hugging Face forward pass: log-probabilities and gradients of every weight."""

from __future__ import annotations

import pytest
import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM

from prefcourse import backbone
from prefcourse.logprobs import token_entropy, token_logprobs
from prefcourse.models import PolicyWithValue, RewardModel
from prefcourse.sequences import Sequences

WORDS, ROWS, COLUMNS = 41, 7, 15


def llama(**changes) -> LlamaForCausalLM:
    return decoder("Llama", **changes)


def decoder(family: str, **changes):
    """A random model of a family, whose norms and head are far from their bland starting values."""
    settings = dict(
        vocab_size=WORDS, hidden_size=32, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, tie_word_embeddings=True, initializer_range=0.3, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**settings | changes)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.data.uniform_(0.5, 1.5)
    return model


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=WORDS, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.3)
    return GPT2LMHeadModel(config).eval()


def random_rows(padding: str, seed: int = 0) -> Sequences:
    """Rows of unequal length; one response is empty, one row has no padding. Padding holds random words."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(2, WORDS, (ROWS, COLUMNS), generator=generator)
    left, right = torch.randint(0, 5, (2, ROWS), generator=generator)
    left[0] = right[0] = 0
    start = left * (padding in ("left", "both"))
    end = COLUMNS - right * (padding in ("right", "both"))
    columns = torch.arange(COLUMNS)
    attention_mask = (columns >= start[:, None]) & (columns < end[:, None])
    response_mask = attention_mask & (columns >= start[:, None] + 3)
    response_mask[1] = False
    return Sequences(input_ids, attention_mask, response_mask)


def reference_logits(model, rows: Sequences):
    """Hugging Face's own forward, told nothing but mask and positions."""
    mask = rows.attention_mask.long()
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return model(input_ids=rows.input_ids, attention_mask=mask, position_ids=positions).logits


def gradients(model, numbers):
    """Of a random weighting of the numbers, so that no two of them can swap places."""
    weights = torch.randn(numbers.shape, generator=torch.Generator().manual_seed(1))
    return torch.autograd.grad((numbers * weights).sum(), list(model.parameters()))


MODELS = {
    "tied": llama,
    "untied": lambda: llama(tie_word_embeddings=False),
    "rope_theta": lambda: llama(rope_parameters={"rope_type": "default", "rope_theta": 50.0}),
    "eps": lambda: llama(rms_norm_eps=0.1),
    "one layer": lambda: llama(num_hidden_layers=1),
    "grouped queries": lambda: llama(num_key_value_heads=2),
    "wide heads": lambda: llama(head_dim=16),
    "biases": lambda: llama(attention_bias=True, mlp_bias=True),
    "scaled rope": lambda: llama(
        rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}, max_position_embeddings=64
    ),
    "gelu": lambda: llama(hidden_act="gelu"),
    "gpt2": gpt2,
    "capped": lambda: decoder("Gemma2", head_dim=8, bos_token_id=2, final_logit_softcapping=2.0),
    "scaled": lambda: decoder("Cohere", bos_token_id=2, logit_scale=0.25),
    "divided": lambda: decoder("Granite", bos_token_id=2, logits_scaling=4.0),
}
PLAIN = {"tied", "untied", "rope_theta", "eps", "one layer"}


@pytest.mark.parametrize("name", MODELS)
def test_only_plain_llamas_take_the_lean_path(name):
    assert backbone.is_plain_llama(MODELS[name]()) == (name in PLAIN)


@pytest.mark.parametrize("padding", ["none", "left", "right", "both"])
@pytest.mark.parametrize("name", MODELS)
def test_log_probabilities_and_gradients_are_those_of_the_full_forward(name, padding):
    model, rows = MODELS[name](), random_rows(padding)
    plain = token_logprobs(reference_logits(model, rows), rows.input_ids, rows.response_mask)
    lean = backbone.response_logprobs(model, rows)
    torch.testing.assert_close(lean, plain, atol=2e-5, rtol=1e-5)
    assert (lean[~rows.response_mask] == 0).all() and (lean[1] == 0).all()
    for ours, theirs in zip(gradients(model, lean), gradients(model, plain), strict=True):
        torch.testing.assert_close(ours, theirs, atol=3e-5 * float(theirs.abs().max()), rtol=0)


@pytest.mark.parametrize("name", ["tied", "capped", "scaled", "divided"])
def test_actor_and_critic_read_the_models_own_logits(name):
    model, rows = MODELS[name](), random_rows("both")
    logits = reference_logits(model, rows)
    logprobs, entropy, _ = PolicyWithValue(model)(rows)
    expected = token_logprobs(logits, rows.input_ids, rows.response_mask)
    torch.testing.assert_close(logprobs, expected, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(entropy, token_entropy(logits, rows.response_mask), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: decoder("HyperCLOVAX", logits_scaling=4.0),  # multiplies by what Granite divides by
        lambda: transformers.BertLMHeadModel(
            transformers.BertConfig(vocab_size=WORDS, hidden_size=32, intermediate_size=56, num_hidden_layers=1,
                                    num_attention_heads=4, is_decoder=True)  # a layer stands before its head
        ),
    ],
)  # fmt: skip
def test_a_head_that_is_not_known_is_refused(make):
    """Silence would mean wrong log-probabilities."""
    with pytest.raises(ValueError, match="makes its logits in a way that is not known here"):
        backbone.response_logprobs(make(), random_rows("right"))


def test_holding_the_head_to_its_model_moves_no_randomness_and_accepts_a_ruined_model():
    model = gpt2().train()  # with dropout
    before = torch.get_rng_state()
    backbone.logit_head(model)
    assert torch.equal(torch.get_rng_state(), before) and model.training
    model = llama()
    model.model.norm.weight.data.fill_(torch.nan)  # a matter for the loop, which says what to try
    assert backbone.response_logprobs(model, random_rows("right")).isnan().any()


@pytest.mark.parametrize("name", ["tied", "untied", "grouped queries", "gpt2"])
def test_states_at_any_positions_are_those_of_the_full_forward(name):
    """Wanted positions may be anywhere, and a row may want none: the last layer only finishes fewer rows."""
    model, rows = MODELS[name](), random_rows("right")
    wanted = rows.attention_mask & (torch.rand(ROWS, COLUMNS, generator=torch.Generator().manual_seed(3)) < 0.4)
    wanted[2] = False
    states = backbone.hidden_states(model, rows.input_ids, rows.attention_mask, wanted)
    logits = model.get_output_embeddings()(states)
    torch.testing.assert_close(logits, reference_logits(model, rows)[wanted], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["tied", "gpt2"])
@pytest.mark.parametrize("padding", ["left", "right", "both"])
def test_what_padding_holds_is_of_no_account(name, padding):
    model, rows = MODELS[name](), random_rows(padding)
    other_words = torch.where(rows.attention_mask, rows.input_ids, (rows.input_ids + 7) % WORDS)
    other = Sequences(other_words, rows.attention_mask, rows.response_mask)
    torch.testing.assert_close(backbone.response_logprobs(model, rows), backbone.response_logprobs(model, other))


def test_no_response_anywhere_gives_zeros_and_a_gradient():
    model, rows = llama(), random_rows("right")
    rows = Sequences(rows.input_ids, rows.attention_mask, torch.zeros_like(rows.response_mask))
    logprobs = backbone.response_logprobs(model, rows)
    assert (logprobs == 0).all()
    assert all((gradient == 0).all() for gradient in gradients(model, logprobs))


def test_norm_has_the_gradient_of_the_plain_formula():
    x = torch.randn(6, 8, dtype=torch.float64, requires_grad=True)
    floor = torch.tensor((1e-2 * 8) ** 0.5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: backbone.Norm.apply(x, floor), x)
    rms_norm = torch.nn.functional.rms_norm(x, (8,), eps=1e-2)
    torch.testing.assert_close(backbone.Norm.apply(x, floor) * 8**0.5, rms_norm)


def test_a_state_of_zeros_is_no_division_by_zero():
    x = torch.zeros(2, 8, requires_grad=True)
    backbone.Norm.apply(x, torch.tensor(1e-3)).sum().backward()
    assert torch.isfinite(x.grad).all()


def test_half_precision_takes_the_hugging_face_path():
    """The lean path turns queries as complex numbers, which have no bfloat16."""
    model, rows = llama().bfloat16(), random_rows("both")
    assert torch.isfinite(backbone.response_logprobs(model, rows)).all()


def test_positions_count_from_the_first_real_token():
    """Left padding moves a row without changing it, also in the reward model."""
    model = RewardModel(llama().model)
    torch.nn.init.normal_(model.head.weight)
    right = random_rows("right")
    shift = COLUMNS - right.attention_mask.sum(dim=1)
    order = (torch.arange(COLUMNS)[None] - shift[:, None]) % COLUMNS
    left = Sequences(
        right.input_ids.gather(1, order), right.attention_mask.gather(1, order), right.response_mask.gather(1, order)
    )
    assert left.attention_mask[:, -1].all()
    torch.testing.assert_close(model(left), model(right), atol=1e-5, rtol=1e-5)
