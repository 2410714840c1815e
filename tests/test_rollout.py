"""The sampler draws from the distribution it reports, stops where it says, and is the same through any cache."""

from __future__ import annotations

import pytest
import torch
from test_backbone import MODELS, PLAIN, WORDS, llama, reference_logits

from prefcourse import models, rollout
from prefcourse.backbone import is_plain_llama, response_logprobs
from prefcourse.logprobs import token_logprobs
from prefcourse.rollout import CachedDecoder, LlamaDecoder, sample, sample_ids
from prefcourse.worlds.pocket import PocketWorld

NEVER = -1  # an EOS that no model can say
PROMPTS = ["what is python ?", "what is a saw used for ?", "tell me about a dog .", "count from 2 to 5 ."]


@pytest.fixture(scope="module")
def tokenizer():
    return PocketWorld().tokenizer()


@pytest.fixture(scope="module")
def wild(tokenizer):
    """A TinyLM whose weights are large: distributions far from uniform, EOS at very different times."""
    model = models.tiny_lm(tokenizer, "xs", seed=3)
    for parameter in model.parameters():
        parameter.data.mul_(3.0 if parameter.dim() > 1 else 1.0)
    return model


def prompts_of(lengths: list[int], seed: int = 0):
    """Random prompts padded on the left."""
    width = max(lengths)
    ids = torch.randint(2, WORDS, (len(lengths), width), generator=torch.Generator().manual_seed(seed))
    mask = torch.arange(width) >= width - torch.tensor(lengths)[:, None]
    return ids.masked_fill(~mask, 0), mask


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", [*sorted(PLAIN), "grouped queries", "gpt2", "capped", "scaled", "divided"])
@pytest.mark.parametrize("new_tokens", [1, 12, 40])
def test_greedy_is_what_generate_writes(name, new_tokens):
    model, (prompt, mask) = MODELS[name]().eval(), prompts_of([3, 7, 5, 1])
    theirs = model.generate(
        prompt,
        attention_mask=mask.long(),
        max_new_tokens=new_tokens,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    ours, *_ = sample_ids(model, prompt, mask, eos_id=NEVER, pad_id=0, max_new_tokens=new_tokens, temperature=0)
    assert torch.equal(ours, theirs[:, prompt.shape[1] :])


@pytest.mark.parametrize("eos", [NEVER, 7])
@pytest.mark.parametrize("top_p", [1.0, 0.6])
def test_both_decoders_draw_the_same_tokens(eos, top_p):
    model, (prompt, mask) = llama(), prompts_of([4, 2, 6] * 5)
    drawn = [
        sample_ids(
            model,
            prompt,
            mask,
            eos_id=eos,
            pad_id=0,
            max_new_tokens=30,
            generator=seeded(),
            top_p=top_p,
            decoder=decoder,
        )
        for decoder in (LlamaDecoder, CachedDecoder)
    ]
    (ours, our_logprobs, _), (theirs, their_logprobs, _) = drawn
    assert torch.equal(ours, theirs)
    torch.testing.assert_close(our_logprobs, their_logprobs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("temperature", [1.0, 0.7, 1.6])
@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_reported_log_probabilities_are_those_of_a_forward_pass(wild, tokenizer, temperature, top_p):
    """At the sampling temperature and before top-p, whatever was drawn."""
    drawn = sample(
        wild, tokenizer, PROMPTS * 8, max_new_tokens=32, generator=seeded(), temperature=temperature, top_p=top_p
    )
    rows = drawn.sequences
    with torch.no_grad():
        positions = (rows.attention_mask.long().cumsum(1) - 1).clamp(min=0)
        logits = wild(rows.input_ids, attention_mask=rows.attention_mask.long(), position_ids=positions).logits
    logprobs = (logits[:, :-1] / temperature).log_softmax(-1).gather(-1, rows.input_ids[:, 1:, None])[..., 0]
    expected = torch.nn.functional.pad(logprobs, (1, 0)).masked_fill(~rows.response_mask, 0.0)
    torch.testing.assert_close(drawn.logprobs, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["gpt2", "grouped queries", "capped", "scaled", "divided"])
def test_any_other_model_reports_its_own_log_probabilities(name, tokenizer):
    model = MODELS[name]()
    model.resize_token_embeddings(len(tokenizer))
    assert not is_plain_llama(model)
    drawn = sample(model, tokenizer, PROMPTS * 4, max_new_tokens=20, generator=seeded())
    rows = drawn.sequences
    with torch.no_grad():
        expected = token_logprobs(reference_logits(model, rows), rows.input_ids, rows.response_mask)
    torch.testing.assert_close(drawn.logprobs, expected, atol=1e-4, rtol=0)


def test_eos_ends_a_response_and_is_part_of_it(wild, tokenizer):
    drawn = sample(wild, tokenizer, PROMPTS * 30, max_new_tokens=24, generator=seeded())
    rows, eos = drawn.sequences, tokenizer.eos_token_id
    assert drawn.finished.any() and not drawn.finished.all()
    for ids, mask, finished, text in zip(rows.input_ids, rows.response_mask, drawn.finished, drawn.texts, strict=True):
        response = ids[mask].tolist()
        assert eos not in response[:-1]
        assert (response[-1] == eos) == finished
        assert finished or len(response) == 24
        assert len(text.split()) == len(response) - int(finished)
    assert (rows.lengths == (drawn.logprobs != 0).sum(dim=1)).all()  # EOS has its log-probability too


def test_text_is_what_was_drawn_special_words_included(tokenizer):
    """A model that says nothing but <pad> or <unk> must not pass for silent before its judge."""
    model = models.tiny_lm(tokenizer)
    model.model.norm.weight.data.zero_()  # all logits are 0: the likeliest word is the first of the vocabulary
    drawn = sample(model, tokenizer, PROMPTS[:1], max_new_tokens=3, temperature=0)
    assert drawn.texts == ["<pad> <pad> <pad>"] and drawn.sequences.lengths.tolist() == [3]
    assert PocketWorld().gold(PROMPTS[0], drawn.texts[0]) <= -1.0


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_frequencies_are_the_exact_probabilities(temperature):
    """40,000 draws of one token over a tiny vocabulary: chi-square below its 99.99 % quantile (7 degrees: 29.9)."""
    logits = torch.tensor([0.0, 1.0, -1.0, 2.0, 0.5, -3.0, 1.5, 0.0])
    count = 40_000
    tokens, logprobs = rollout.choose(
        logits.expand(count, -1), 1 - torch.rand(count, generator=seeded()), temperature, 1.0
    )
    exact = (logits / temperature).softmax(-1)
    seen = torch.bincount(tokens, minlength=8)
    assert ((seen - count * exact) ** 2 / (count * exact)).sum() < 29.9
    torch.testing.assert_close(logprobs, exact.log()[tokens])


def test_frequencies_of_whole_responses_are_the_product_of_exact_probabilities():
    """Two-token responses of a model over four words: each of the 16 as often as its exact probability says."""
    model, count = llama(vocab_size=4), 20_000
    prompt = torch.tensor([[1, 2]]).expand(count, -1)
    tokens, *_ = sample_ids(
        model, prompt, torch.ones_like(prompt, dtype=torch.bool), eos_id=NEVER, pad_id=0, max_new_tokens=2,
        generator=seeded(),
    )  # fmt: skip
    pairs = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    with torch.no_grad():
        logits = model(torch.cat([torch.tensor([[1, 2]]).expand(16, -1), pairs], dim=1)).logits.log_softmax(-1)
    exact = (logits[:, 1:3].gather(-1, pairs[..., None]).sum((1, 2))).exp()
    assert exact.sum().item() == pytest.approx(1.0, abs=1e-5)
    seen = torch.bincount(tokens[:, 0] * 4 + tokens[:, 1], minlength=16)
    likely = count * exact > 5
    chi_square = ((seen - count * exact) ** 2 / (count * exact))[likely].sum()
    assert chi_square < 44.3  # 99.99 % quantile at 15 degrees of freedom


@pytest.mark.parametrize("top_p", [0.05, 0.29, 0.5, 0.69, 0.9, 0.999])
def test_top_p_never_leaves_the_nucleus_and_keeps_its_proportions(top_p):
    """The nucleus by its definition: the fewest words, likeliest first, that together have mass top_p or more."""
    probabilities = torch.tensor([0.05, 0.3, 0.02, 0.25, 0.15, 0.13, 0.1])
    ranked = sorted(range(7), key=lambda word: -float(probabilities[word]))
    inside, mass = set(), 0.0
    for word in ranked:
        if mass >= top_p:
            break
        inside.add(word)
        mass += float(probabilities[word])
    count = 20_000
    tokens, _ = rollout.choose(
        probabilities.log().expand(count, -1), 1 - torch.rand(count, generator=seeded()), 1.0, top_p
    )
    assert set(tokens.tolist()) == inside
    seen = torch.bincount(tokens, minlength=7) / count
    exact = torch.tensor([float(p) / mass if word in inside else 0.0 for word, p in enumerate(probabilities)])
    torch.testing.assert_close(seen, exact, atol=0.02, rtol=0)


def test_the_inverse_of_the_cumulative_sum_at_its_ends():
    """u in (0, 1]: a word without weight is never drawn, not even at the very ends."""
    weights = torch.tensor([[0.0, 0.0, 0.3, 0.0, 0.7, 0.0, 0.0]]).expand(5, -1)
    smallest = float(torch.finfo(torch.float32).tiny)
    drawn = rollout.draw(weights, torch.tensor([smallest, 1e-7, 0.29, 0.31, 1.0]))
    assert drawn.tolist() == [2, 2, 2, 4, 4]


def test_low_temperature_is_greedy_and_high_is_uniform():
    logits = torch.tensor([[0.0, 1.0, 3.0, 2.0]]).expand(4000, -1)
    u = 1 - torch.rand(4000, generator=seeded())
    assert (rollout.choose(logits, u, 1e-3, 1.0)[0] == 2).all()
    frequencies = torch.bincount(rollout.choose(logits, u, 1e4, 1.0)[0]) / 4000
    torch.testing.assert_close(frequencies, torch.full((4,), 0.25), atol=0.04, rtol=0)


def test_the_seed_is_the_sample(wild, tokenizer):
    def draw(seed):
        return sample(wild, tokenizer, PROMPTS * 4, max_new_tokens=16, generator=seeded(seed)).texts

    torch.manual_seed(123)
    before = torch.get_rng_state()
    assert draw(1) == draw(1) != draw(2)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_row_does_not_feel_its_neighbours(wild, tokenizer):
    """Neither their padding nor their end: with the same random numbers each row becomes what it is alone."""
    u_width = len(PROMPTS)
    together = sample(wild, tokenizer, PROMPTS, max_new_tokens=24, generator=seeded(5))
    longer = [*PROMPTS[:-1], "what do people use an elephant for ? " * 3]
    others = sample(wild, tokenizer, longer, max_new_tokens=24, generator=seeded(5))
    assert u_width == len(longer) and together.texts[:-1] == others.texts[:-1]
    for row in range(u_width - 1):
        ours, theirs = (drawn.logprobs[row][drawn.sequences.response_mask[row]] for drawn in (together, others))
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_two_answers_to_choose_between_differ_and_say_something(wild, tokenizer):
    answers = rollout.answer_twice(wild, tokenizer, PROMPTS * 8, max_new_tokens=3, generator=seeded())
    assert 0 < len(answers.texts) == len(answers.finished) <= 32
    assert all(prompt in PROMPTS and first and second and first != second for prompt, first, second in answers.texts)


def test_answers_that_were_cut_off_can_be_left_out(wild, tokenizer):
    answers = rollout.answer_twice(wild, tokenizer, PROMPTS * 8, max_new_tokens=24, generator=seeded())
    whole = answers.both_finished()
    assert 0 < len(whole.texts) == sum(map(all, answers.finished)) < len(answers.texts)
    assert set(whole.finished) == {(True, True)} and set(whole.texts) <= set(answers.texts)


def test_values_of_the_sampler_are_those_of_the_forward_pass(wild, tokenizer):
    model = models.PolicyWithValue(wild)
    torch.nn.init.normal_(model.value_head.weight)
    drawn = sample(model.lm, tokenizer, PROMPTS * 4, max_new_tokens=20, generator=seeded(), value_head=model.value_head)
    logprobs, entropy, values = model(drawn.sequences)
    torch.testing.assert_close(drawn.values, values.detach(), atol=1e-4, rtol=0)
    torch.testing.assert_close(drawn.logprobs, logprobs.detach(), atol=1e-4, rtol=0)
    assert (entropy[drawn.sequences.response_mask] > 0).all()
    assert sample(wild, tokenizer, PROMPTS, max_new_tokens=2, generator=seeded()).values is None


def test_what_was_sampled_can_be_trained_on(wild, tokenizer):
    """No gradient comes out of the sampler, and its tensors may enter a loss."""
    drawn = sample(wild, tokenizer, PROMPTS, max_new_tokens=8, generator=seeded())
    assert not drawn.logprobs.requires_grad and not drawn.logprobs.is_inference()
    logprobs = response_logprobs(wild, drawn.sequences)
    (logprobs.exp() * drawn.logprobs).sum().backward()
    wild.zero_grad()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"prompts": []}, "prompts is empty"),
        ({"prompts": ["what is python ?", ""]}, "prompt 1 is ''.*no tokens"),
        ({"top_p": 0.0}, "top_p must lie in"),
        ({"top_p": 1.5}, "top_p must lie in"),
        ({"temperature": -1.0}, "temperature be >= 0"),
        ({"max_new_tokens": 0}, "max_new_tokens >= 1"),
    ],
)
def test_slips_are_named(wild, tokenizer, arguments, words):
    with pytest.raises(ValueError, match=words):
        sample(wild, tokenizer, **{"prompts": PROMPTS, "max_new_tokens": 4} | arguments)
