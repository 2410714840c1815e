"""Small models, their heads, their copies: of the promised size, the same for a seed, the same back from disk."""

from __future__ import annotations

import copy

import pytest
import torch
from test_backbone import llama
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, OPTConfig, OPTForCausalLM

from prefcourse import models
from prefcourse.backbone import response_logprobs, trunk
from prefcourse.logprobs import token_entropy
from prefcourse.sequences import Sequences, concatenate, encode
from prefcourse.worlds.pocket import PocketWorld

PROMPTS = ["what is python used for ?", "what is a saw ?", "tell me about an ox ."]
RESPONSES = ["python is a language .", "yeah .", "an ox is an animal . people use it for pulling ."]


@pytest.fixture(scope="module")
def tokenizer():
    return PocketWorld().tokenizer()


@pytest.fixture(scope="module")
def rows(tokenizer):
    return encode(tokenizer, PROMPTS, RESPONSES)


def small_gpt2(tokenizer):
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=1
    )
    return GPT2LMHeadModel(config).eval()


def small_opt(tokenizer, width: int = 32):
    """`width`: of its word embeddings, from and to which a narrower OPT projects."""
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=len(tokenizer), hidden_size=32, ffn_dim=56, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, word_embed_proj_dim=width, init_std=0.3,
    )  # fmt: skip
    return OPTForCausalLM(config).eval()


def narrow_opt(tokenizer):
    return small_opt(tokenizer, width=16)


ANY_MODEL = [models.tiny_lm, small_gpt2, small_opt, narrow_opt]


def judge(tokenizer, make=models.tiny_lm) -> models.RewardModel:
    """A reward model with an opinion (a fresh one scores everything 0)."""
    model = models.RewardModel.from_lm(make(tokenizer))
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    model.head.bias.data.fill_(0.3)
    return model


def same_weights(first, second) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_sizes_are_tiny_and_what_the_table_says(tokenizer):
    counts = {size: models.parameters(models.tiny_lm(tokenizer, size)) / 1e6 for size in models.SIZES}
    assert {size: round(count, 2) for size, count in counts.items()} == {"xs": 0.11, "s": 0.23, "m": 0.42, "l": 0.82}
    with pytest.raises(ValueError, match="size is 'xxl'; TinyLM comes in xs, s, m, l"):
        models.tiny_lm(tokenizer, "xxl")


def test_the_seed_is_the_model_and_the_callers_randomness_stays(tokenizer):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, again, other = (models.tiny_lm(tokenizer, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert same_weights(first, again) and not same_weights(first, other)


def test_a_fresh_model_knows_nothing(tokenizer, rows):
    """Near-uniform over the vocabulary: log V nats per token."""
    logprobs = response_logprobs(models.tiny_lm(tokenizer), rows)[rows.response_mask]
    assert logprobs.mean().item() == pytest.approx(-torch.tensor(float(len(tokenizer))).log().item(), abs=0.3)


def test_copies_are_independent(tokenizer):
    model = models.tiny_lm(tokenizer)
    frozen, trainable = models.frozen_copy(model), models.trainable_copy(models.frozen_copy(model))
    assert not any(p.requires_grad for p in frozen.parameters()) and all(
        p.requires_grad for p in trainable.parameters()
    )
    assert all(p.requires_grad for p in model.parameters())
    trunk(trainable).norm.weight.data.add_(1.0)
    assert same_weights(model, frozen) and not same_weights(model, trainable)
    assert trainable.lm_head.weight is trainable.model.embed_tokens.weight  # tied before, tied after


def test_a_language_model_makes_the_trip(tokenizer, rows, tmp_path):
    model = models.tiny_lm(tokenizer)
    model.save_pretrained(tmp_path)
    for loaded in (models.load_lm(tmp_path), AutoModelForCausalLM.from_pretrained(tmp_path)):
        assert torch.equal(response_logprobs(loaded, rows), response_logprobs(model, rows))


@pytest.mark.parametrize("make", [*ANY_MODEL, lambda _: llama(vocab_size=137, num_key_value_heads=2)])
def test_a_reward_model_makes_the_trip(tokenizer, rows, tmp_path, make):
    model = judge(tokenizer, make)
    model.save_pretrained(tmp_path)
    loaded = models.RewardModel.from_pretrained(tmp_path)
    assert torch.equal(loaded(rows), model(rows)) and model(rows).std() > 0


@pytest.mark.parametrize("make", ANY_MODEL)
def test_a_policy_with_value_makes_the_trip(tokenizer, rows, tmp_path, make):
    model = models.PolicyWithValue(make(tokenizer))
    torch.nn.init.normal_(model.value_head.weight)
    model.save_pretrained(tmp_path)
    for ours, loaded in zip(model(rows), models.PolicyWithValue.from_pretrained(tmp_path)(rows), strict=True):
        assert torch.equal(ours, loaded)


@pytest.mark.parametrize("load", [models.RewardModel.from_pretrained, models.load_lm])
def test_weights_that_would_be_random_are_an_error(tokenizer, tmp_path, load):
    """Of OPT's decoder alone no name fits the whole; Hugging Face warns and goes on with random numbers."""
    trunk(small_opt(tokenizer)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="does not hold the weights of a OPT.*missing keys: .*decoder"):
        load(tmp_path)


@pytest.mark.parametrize("make", ANY_MODEL)
def test_a_checkpoint_in_bfloat16_is_trained_in_float32(tokenizer, rows, tmp_path, make):
    """bfloat16 has no number between 1 and 1 + 1/128: small updates would be lost."""
    model = models.trainable_copy(make(tokenizer)).bfloat16()
    model.save_pretrained(tmp_path / "lm")
    judge(tokenizer, make).bfloat16().save_pretrained(tmp_path / "judge")
    loaded, score = models.load_lm(tmp_path / "lm"), models.RewardModel.from_pretrained(tmp_path / "judge")
    assert {p.dtype for p in (*loaded.parameters(), *score.parameters())} == {torch.float32}
    assert same_weights(loaded, copy.deepcopy(model).float()) and score(rows).std() > 0


@pytest.mark.parametrize("make", ANY_MODEL)
def test_heads_fit_a_trunk_of_bfloat16_too(tokenizer, rows, make):
    lm = make(tokenizer).bfloat16()
    for fresh in (models.RewardModel.from_lm(lm)(rows), models.PolicyWithValue(lm)(rows)[2]):
        assert fresh.dtype == torch.float32 and (fresh == 0).all()
    all_of_it = judge(tokenizer, make).bfloat16()  # the head as well
    torch.testing.assert_close(all_of_it(rows), judge(tokenizer, make)(rows), atol=0.2, rtol=0.1)


def test_a_folder_without_a_head_is_named(tokenizer, tmp_path):
    models.tiny_lm(tokenizer).save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="holds a language model without a trained head"):
        models.RewardModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("make", [models.tiny_lm, small_gpt2])
def test_the_score_is_read_at_the_last_token(tokenizer, rows, make):
    """Against the plain forward of each row alone, without padding."""
    model = judge(tokenizer, make)
    for row, score in enumerate(model(rows)):
        ids = rows.input_ids[row][rows.attention_mask[row]][None]
        state = trunk(model.backbone)(input_ids=ids).last_hidden_state[0, -1]
        torch.testing.assert_close(score, model.head(state)[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("make", [models.tiny_lm, small_gpt2])
def test_padding_does_not_change_a_score(tokenizer, rows, make):
    model, pad = judge(tokenizer, make), torch.nn.functional.pad
    for sides in ((0, 5), (4, 0), (2, 3)):
        padded = Sequences(
            pad(rows.input_ids, sides, value=9), pad(rows.attention_mask, sides), pad(rows.response_mask, sides)
        )
        torch.testing.assert_close(model(padded), model(rows), atol=1e-5, rtol=1e-5)
    longer = encode(tokenizer, ["what is a dog ?"], ["yeah . " * 12])
    torch.testing.assert_close(model(concatenate(rows, longer))[:3], model(rows), atol=1e-5, rtol=1e-5)


def test_an_empty_response_is_scored_at_the_end_of_its_prompt(tokenizer):
    model, rows = judge(tokenizer), encode(tokenizer, PROMPTS, RESPONSES)
    prompt_only = rows.attention_mask & ~rows.response_mask
    scores = model(Sequences(rows.input_ids, prompt_only, torch.zeros_like(prompt_only)))
    for score, prompt in zip(scores, PROMPTS, strict=True):
        ids = torch.tensor([tokenizer(prompt)["input_ids"]])
        alone = model(Sequences(ids, torch.ones_like(ids, dtype=torch.bool), torch.zeros_like(ids, dtype=torch.bool)))
        torch.testing.assert_close(score, alone[0], atol=1e-5, rtol=1e-5)


def test_fresh_heads_say_zero_and_leave_the_model_alone(tokenizer, rows):
    model = models.tiny_lm(tokenizer)
    assert (models.RewardModel.from_lm(model)(rows) == 0).all()
    assert (models.PolicyWithValue(model)(rows)[2] == 0).all()
    reward_model = models.RewardModel.from_lm(models.frozen_copy(model))
    trunk(reward_model.backbone).norm.weight.data.add_(1.0)
    assert same_weights(model, models.tiny_lm(tokenizer))


def test_actor_and_critic_in_one_pass(tokenizer, rows):
    """Log-probabilities and entropies are those of the language model; nothing stands outside the responses."""
    model = models.PolicyWithValue(models.tiny_lm(tokenizer))
    torch.nn.init.normal_(model.value_head.weight)
    logprobs, entropy, values = model(rows)
    logits = model.lm(rows.input_ids, attention_mask=rows.attention_mask.long()).logits
    torch.testing.assert_close(logprobs, response_logprobs(model.lm, rows))
    torch.testing.assert_close(entropy, token_entropy(logits, rows.response_mask), atol=1e-5, rtol=1e-5)
    for tensor in (logprobs, entropy, values):
        assert (tensor[~rows.response_mask] == 0).all() and (tensor[rows.response_mask] != 0).all()
    assert not entropy.requires_grad


def test_a_value_belongs_to_the_state_before_its_token(tokenizer, rows):
    """Other words from column t on change no value up to and including column t."""
    model = models.PolicyWithValue(models.tiny_lm(tokenizer))
    torch.nn.init.normal_(model.value_head.weight)
    t = 8
    changed = rows.input_ids.clone()
    changed[:, t:] = (changed[:, t:] + 11) % len(tokenizer)
    values, others = model(rows)[2], model(Sequences(changed, rows.attention_mask, rows.response_mask))[2]
    torch.testing.assert_close(values[:, : t + 1], others[:, : t + 1])
    assert (values[:, t + 1 :] != others[:, t + 1 :]).any()
