"""The loops: what they leave alone, what they repeat, how they stop, and what their first steps must be exactly."""

from __future__ import annotations

import copy
import functools
import math

import datasets
import pytest
import torch
from elsewhere import Pretended, moved
from test_backbone import llama
from test_models import narrow_opt, same_weights, small_gpt2

from prefcourse import losses, models, train
from prefcourse.backbone import response_logprobs
from prefcourse.rollout import LlamaDecoder, sample
from prefcourse.sequences import encode
from prefcourse.train import common, online, supervised
from prefcourse.worlds.pocket import PocketWorld

WORLD = PocketWorld()
PROMPTS = WORLD.prompts("train")[:12]
DEMONSTRATIONS = WORLD.demonstrations(24, seed=0)
PAIRS = [
    {"prompt": row["prompt"], "chosen": row["response"], "rejected": "yeah . look it up ."} for row in DEMONSTRATIONS
]


@pytest.fixture(scope="module")
def tokenizer():
    return WORLD.tokenizer()


def word_count(rollout) -> torch.Tensor:
    """A score that a policy can move at once: how many words were written."""
    return rollout.sequences.lengths.float()


def taste(rollout) -> torch.Tensor:
    """A score on which no two responses agree."""
    return (rollout.sequences.input_ids * rollout.sequences.response_mask).sum(dim=1) / 100


def online_loop(loop):
    how = dict(iterations=2, batch_size=8, max_new_tokens=6, beta=0.1, seed=0, prompts=PROMPTS, score=taste)
    how |= {"minibatch_size": 4, "epochs": 2} if loop is train.ppo else {}
    return lambda model, reference, tokenizer, **changes: loop(model, reference, tokenizer, **how | changes)


LOOPS = {
    "sft": lambda model, reference, tokenizer, **how: train.sft(
        model, tokenizer, DEMONSTRATIONS, **{"steps": 2, "batch_size": 8, "seed": 0} | how
    ),
    "dpo": lambda model, reference, tokenizer, **how: train.dpo(
        model, reference, tokenizer, PAIRS[:16], **{"beta": 0.1, "batch_size": 8, "seed": 0} | how
    ),
    "ppo": online_loop(train.ppo),
    "rloo": online_loop(train.rloo),
    "grpo": online_loop(train.grpo),
    "online_dpo": online_loop(train.online_dpo),
}
FROM_SAMPLES = [name for name in LOOPS if name not in ("sft", "dpo")]
MODELS = {
    "tiny_lm": models.tiny_lm,
    "gpt2": small_gpt2,
    "grouped queries": lambda tokenizer: llama(vocab_size=len(tokenizer), num_key_value_heads=2),
    "narrow opt": narrow_opt,
    "bfloat16": lambda tokenizer: models.tiny_lm(tokenizer).bfloat16(),
}


def chatty(tokenizer):
    """A fresh model that ends an answer about every third word, so that lengths differ."""
    model = models.tiny_lm(tokenizer)
    model.config.tie_word_embeddings = False
    model.lm_head = torch.nn.Linear(64, len(tokenizer))
    torch.nn.init.zeros_(model.lm_head.weight)
    model.lm_head.bias.data.zero_()[tokenizer.eos_token_id] = 4.5
    return model


# -- every loop, every kind of model ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", LOOPS)
def test_every_loop_trains_every_model_and_leaves_the_reference_alone(tokenizer, name, kind):
    model = MODELS[kind](tokenizer)
    before, reference = copy.deepcopy(model), models.trainable_copy(model)  # not even frozen: nothing may reach it
    history = list(LOOPS[name](model, reference, tokenizer))
    assert len(history) == 2
    for metrics in history:
        assert {"loss", "grad_norm", "learning_rate"} <= set(metrics)
        assert all(math.isfinite(value) for value in metrics.values()), metrics
    assert same_weights(reference, before) and all(p.grad is None for p in reference.parameters())
    assert not same_weights(model, before)


@pytest.mark.parametrize("kind", MODELS)
def test_the_reward_model_too(tokenizer, kind):
    lm = MODELS[kind](tokenizer)
    before, model = copy.deepcopy(lm), models.RewardModel.from_lm(lm)
    history = list(train.reward_model(model, tokenizer, PAIRS, batch_size=8, epochs=2, learning_rate=3e-3, seed=0))
    assert len(history) == 6 and history[0]["loss"] == pytest.approx(math.log(2))  # all scores are 0 at first
    assert history[-1]["loss"] < 0.65 and same_weights(lm, before)


@pytest.fixture
def far_away(monkeypatch):
    """What the pretended accelerator does not offer, a GPU does: fused AdamW and views in inference mode."""
    plain = torch.optim.AdamW
    monkeypatch.setattr(torch.optim, "AdamW", lambda *given, **how: plain(*given, **how | {"fused": False}))
    monkeypatch.setattr(LlamaDecoder, "_run", LlamaDecoder._run.__wrapped__)


@pytest.mark.parametrize("name", [*LOOPS, "reward_model"])
def test_a_loop_goes_where_its_model_is(tokenizer, far_away, name):
    """Data are read on the CPU and random numbers drawn there; on no device does one tensor meet one of another."""

    def first_step(place) -> dict:
        model = place(models.tiny_lm(tokenizer))
        if name == "reward_model":
            judge = place(models.RewardModel.from_lm(models.tiny_lm(tokenizer)))
            return next(train.reward_model(judge, tokenizer, PAIRS, batch_size=8, seed=0))
        return next(LOOPS[name](model, place(models.tiny_lm(tokenizer)), tokenizer))

    here = first_step(lambda model: model)
    with Pretended():
        there = first_step(moved)
    for key in here.keys() - {"rewards/accuracies"}:  # those of margins that are 0, but for rounding
        assert there[key] == pytest.approx(here[key], rel=0.03, abs=0.01), key


@pytest.mark.parametrize("name", LOOPS)
def test_the_seed_is_the_run(tokenizer, name):
    """To the last bit, whatever the caller's own random state is; and another seed is another run."""
    finals = []
    for number, seed in enumerate((0, 0, 1)):
        torch.manual_seed(number)
        model = models.tiny_lm(tokenizer)
        common.finish(LOOPS[name](model, models.frozen_copy(model), tokenizer, seed=seed))
        finals.append(model)
    assert same_weights(finals[0], finals[1]) and not same_weights(finals[0], finals[2])


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_does_not_move_the_callers_randomness(tokenizer, name):
    model = models.tiny_lm(tokenizer)
    before = torch.get_rng_state()
    common.finish(LOOPS[name](model, models.frozen_copy(model), tokenizer))
    assert torch.equal(torch.get_rng_state(), before)


# -- how a loop stops ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOOPS)
def test_an_interruption_leaves_what_was_learned(tokenizer, name, monkeypatch, capsys):
    """Ctrl-C in the third update: the weights are those after two."""
    longer = {"steps": 5} if name == "sft" else {"epochs": 3} if name == "dpo" else {"iterations": 5}
    longer |= {"epochs": 1, "minibatch_size": 8} if name == "ppo" else {}
    model, complete = models.tiny_lm(tokenizer), models.tiny_lm(tokenizer)
    plain_step, steps = common.Optimiser.step, []

    def step(self, loss, **how):
        steps.append(loss)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return plain_step(self, loss, **how)

    monkeypatch.setattr(common.Optimiser, "step", step)
    history = train.finish(LOOPS[name](model, models.frozen_copy(model), tokenizer, **longer))
    assert len(history) == 2 and "Stopped after 2 steps" in capsys.readouterr().out
    monkeypatch.undo()
    loop = LOOPS[name](complete, models.frozen_copy(complete), tokenizer, **longer)
    assert [next(loop), next(loop)] == history
    assert same_weights(model, complete)
    assert sample(model, tokenizer, PROMPTS[:2], max_new_tokens=4).texts


def test_a_loss_that_is_no_number_stops_with_advice_and_the_last_good_weights(tokenizer):
    """The second update may be what spoiled the third loss: the weights are those that gave the second."""
    model, once = models.tiny_lm(tokenizer), models.tiny_lm(tokenizer)
    calls = []

    def spoiled(*sums, beta):
        calls.append(sums)
        loss, metrics = losses.dpo_loss(*sums, beta=beta)
        return loss * (math.nan if len(calls) == 3 else 1.0), metrics

    loop = LOOPS["dpo"](model, models.frozen_copy(model), tokenizer, loss=spoiled, epochs=3, learning_rate=1e-3)
    with pytest.raises(train.Diverged, match="loss is nan at step 3.*learning rate below 0.001"):
        list(loop)
    next(LOOPS["dpo"](once, models.frozen_copy(once), tokenizer, epochs=3, learning_rate=1e-3))
    assert same_weights(model, once)


@pytest.mark.parametrize("name", LOOPS)
def test_a_step_too_far_is_taken_back(tokenizer, name):
    """A learning rate that no model survives: the error comes, and the model still speaks."""
    model = models.tiny_lm(tokenizer)
    how = {"learning_rate": 1e30} | ({"iterations": 4} if name in FROM_SAMPLES else {})
    with pytest.raises(train.Diverged, match="Try a learning rate below 1e\\+30"):
        list(LOOPS[name](model, models.frozen_copy(model), tokenizer, **how))
    with torch.no_grad():
        rows = supervised.encode(tokenizer, PROMPTS[:3], ["yeah ."] * 3)
        assert torch.isfinite(response_logprobs(model, rows)).all()


@pytest.mark.parametrize(
    ("name", "learning_rate", "found"),
    [
        ("sft", 1.0, "loss is .*, beyond 9.9 for 5 steps"),  # twice the loss of a guess among 137 words
        ("sft", 1e6, "loss is 4.92 and its gradient exactly 0 for 5 steps, at step 6"),
        ("ppo", 1e4, "loss is .*, beyond .* for 5 steps"),
        ("dpo", 1e6, "its gradient exactly 0 for 5 steps"),
        ("online_dpo", 1e6, "its gradient exactly 0 for 5 steps"),
    ],
)
def test_a_ruined_model_with_a_finite_loss_stops_too(tokenizer, name, learning_rate, found):
    """The weights are those from before the damage, and the advice fits the loop."""
    model = models.tiny_lm(tokenizer)
    long = {"sft": {"steps": 40}, "dpo": {"epochs": 20}}.get(name, {"iterations": 12})
    with pytest.raises(train.Diverged, match=found) as caught:
        list(LOOPS[name](model, models.frozen_copy(model), tokenizer, learning_rate=learning_rate, **long))
    assert ("beta" in str(caught.value)) == (name != "sft")
    rows = supervised.encode(tokenizer, PROMPTS[:3], ["yeah ."] * 3)
    assert -20 < response_logprobs(model, rows)[rows.response_mask].mean().item() < -1


def test_a_loss_that_has_arrived_at_0_is_no_stuck_one(tokenizer):
    """Every margin beyond 1: hinge has neither loss nor gradient left, for as long as one likes."""
    model = models.tiny_lm(tokenizer)
    how = {"loss": losses.hinge_loss, "epochs": 30, "learning_rate": 1e-2}
    history = list(LOOPS["dpo"](model, models.frozen_copy(model), tokenizer, **how))
    assert (
        [metrics["loss"] for metrics in history[-10:]]
        == [metrics["grad_norm"] for metrics in history[-10:]]
        == [0] * 10
    )


@pytest.mark.parametrize("first", [0.0, 1.0, 2500.0])
def test_a_bad_batch_passes_and_any_size_of_loss_may_be_healthy(tokenizer, first):
    """IPO begins at 1 / (4 beta^2); four steps far beyond that are forgiven, the fifth is not."""
    optimiser = common.Optimiser(models.tiny_lm(tokenizer), 1e-3)
    far = 1001 * max(first, 1.0)
    for loss in [first, *[far] * 4, first, *[far] * 4]:
        optimiser.refuse_if_lost(loss, 1.0, 1.0)
    with pytest.raises(train.Diverged, match="for 5 steps"):
        optimiser.refuse_if_lost(far, 1.0, 1.0)


def test_a_gradient_that_is_no_number_changes_nothing(tokenizer):
    model = models.tiny_lm(tokenizer)
    before, optimiser = copy.deepcopy(model), common.Optimiser(model, 1e-3)
    weight = model.model.norm.weight
    with pytest.raises(train.Diverged, match="gradient norm is nan"):
        optimiser.step((weight - weight).abs().sqrt().sum())  # 0, with gradient 0 * inf
    assert same_weights(model, before)


# -- slips ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOOPS)
def test_a_frozen_model_is_refused(tokenizer, name):
    frozen = models.frozen_copy(models.tiny_lm(tokenizer))
    with pytest.raises(ValueError, match="the model is frozen; train a copy: models.trainable_copy"):
        next(LOOPS[name](frozen, models.frozen_copy(frozen), tokenizer))


@pytest.mark.parametrize("name", FROM_SAMPLES)
def test_a_reference_that_would_move_along_is_refused(tokenizer, name):
    model = models.tiny_lm(tokenizer)
    with pytest.raises(ValueError, match="share their weights; give models.frozen_copy"):
        next(LOOPS[name](model, model, tokenizer))


@pytest.mark.parametrize("name", FROM_SAMPLES)
@pytest.mark.parametrize(
    ("score", "found"),
    [
        (lambda rollout: torch.zeros(3), "shape .3,., finite: True"),
        (lambda rollout: word_count(rollout) * math.nan, "shape .*, finite: False"),
    ],
)
def test_a_score_must_be_a_finite_number_per_response(tokenizer, name, score, found):
    model = models.tiny_lm(tokenizer)
    with pytest.raises(ValueError, match=f"finite numbers, one per response; it gave {found}"):
        next(LOOPS[name](model, models.frozen_copy(model), tokenizer, score=score))


def test_other_slips_are_named(tokenizer):
    model = models.tiny_lm(tokenizer)
    reference = models.frozen_copy(model)
    with pytest.raises(ValueError, match="column 'response' is missing; these examples have chosen, prompt, rejected"):
        next(train.sft(model, tokenizer, PAIRS, steps=1, seed=0))
    with pytest.raises(ValueError, match="column 'chosen' is missing; these examples have prompt, response"):
        next(train.dpo(model, reference, tokenizer, datasets.Dataset.from_list(DEMONSTRATIONS), beta=0.1, seed=0))
    with pytest.raises(ValueError, match="there are no pairs to train on"):
        next(train.dpo(model, reference, tokenizer, [], beta=0.1, seed=0))
    with pytest.raises(ValueError, match="there are no rows to encode"):
        next(train.sft(model, tokenizer, [], steps=1, seed=0))
    with pytest.raises(ValueError, match="batch_size 6 is not a multiple of group_size 4"):
        next(LOOPS["grpo"](model, reference, tokenizer, batch_size=6))
    with pytest.raises(ValueError, match="prompts is empty"):
        next(train.ppo(model, reference, tokenizer, [], word_count, beta=0.1, iterations=1, seed=0))


@pytest.mark.parametrize("name", [name for name in LOOPS if name != "sft"])
@pytest.mark.parametrize("beta", [-0.1, math.nan])
def test_a_pull_away_from_the_reference_is_refused(tokenizer, name, beta):
    model = models.tiny_lm(tokenizer)
    with pytest.raises(ValueError, match=f"beta is {beta}; the pull to the reference must be 0 or more"):
        list(LOOPS[name](model, models.frozen_copy(model), tokenizer, beta=beta))


def test_rows_may_be_a_list_or_a_dataset(tokenizer):
    finals = []
    for rows in (PAIRS, datasets.Dataset.from_list(PAIRS)):
        model = models.tiny_lm(tokenizer)
        common.finish(train.dpo(model, models.frozen_copy(model), tokenizer, rows, beta=0.1, batch_size=8, seed=0))
        finals.append(model)
    assert same_weights(*finals)


# -- what first steps must be -------------------------------------------------------------------------------------


def test_fresh_samples_have_ratio_one(tokenizer):
    """One epoch, one minibatch: policy and sampler are the same, nothing is clipped, nothing has moved."""
    model = chatty(tokenizer)
    reference = models.frozen_copy(models.tiny_lm(tokenizer))
    (metrics,) = train.ppo(
        model, reference, tokenizer, PROMPTS, word_count, beta=0.1, iterations=1, epochs=1, batch_size=32,
        minibatch_size=32, seed=0,
    )  # fmt: skip
    assert metrics["clipfrac"] == 0 and abs(metrics["approx_kl"]) < 1e-9 and metrics["kl"] > 0
    assert metrics["policy_loss"] == pytest.approx(0, abs=1e-5)  # minus the mean of whitened advantages


def test_dropout_is_off_so_that_ratios_are_one(tokenizer):
    model = small_gpt2(tokenizer).train()
    reference = models.frozen_copy(model)
    (metrics,) = LOOPS["ppo"](model, reference, tokenizer, iterations=1, epochs=1, minibatch_size=8)
    assert metrics["clipfrac"] == 0 and abs(metrics["approx_kl"]) < 1e-9 and abs(metrics["kl"]) < 1e-4


def all_equal(rollout) -> torch.Tensor:
    return torch.ones(len(rollout.prompts))


def round_of(model, reference, tokenizer, score=word_count, **how):
    drawn = sample(
        model, tokenizer, PROMPTS * 2, max_new_tokens=8, generator=torch.Generator().manual_seed(0),
        value_head=how.pop("value_head", None),
    )  # fmt: skip
    return drawn, online.experience(reference, drawn, score, how.get("unfinished_penalty", 0.0))


def test_one_epoch_without_clipping_is_reinforce(tokenizer):
    """On fresh samples the gradient of PPO's loss is that of -A log p, per token instead of per response."""
    model = models.PolicyWithValue(chatty(tokenizer))
    _, round_ = round_of(model.lm, models.frozen_copy(model.lm), tokenizer)
    mask, rows = round_.sequences.response_mask, torch.arange(len(round_.sequences))
    advantages = torch.randn(mask.shape, generator=torch.Generator().manual_seed(1)) * mask
    weights = list(model.lm.parameters())
    ppo, _ = online.ppo_loss(model, round_, advantages, advantages, rows, clip_coef=1e9, vf_coef=0.0)
    reinforce, _ = losses.policy_gradient_loss(response_logprobs(model.lm, round_.sequences), advantages, mask)
    tokens_per_row = mask.sum() / len(mask)
    for ours, theirs in zip(torch.autograd.grad(ppo, weights), torch.autograd.grad(reinforce, weights), strict=True):
        torch.testing.assert_close(ours * tokens_per_row, theirs, atol=1e-5, rtol=1e-4)


def test_a_round_remembers_the_sampler_and_the_reference(tokenizer):
    model, reference = chatty(tokenizer), models.frozen_copy(models.tiny_lm(tokenizer))
    value_head = models.scalar_head(64)
    torch.nn.init.normal_(value_head.weight)
    drawn, round_ = round_of(model, reference, tokenizer, value_head=value_head)
    rows, original = round_.sequences, drawn.sequences
    assert rows.attention_mask[:, 0].all() and not original.attention_mask[:, 0].all()
    for ours, theirs in ((round_.old_logprobs, drawn.logprobs), (round_.old_values, drawn.values)):
        assert torch.equal(ours[rows.response_mask], theirs[original.response_mask])
        assert (ours[~rows.response_mask] == 0).all()
    torch.testing.assert_close(round_.ref_logprobs, response_logprobs(reference, rows).detach())
    log_ratio = (round_.old_logprobs - round_.ref_logprobs).sum().item() / len(rows)
    assert round_.metrics["kl"] == pytest.approx(log_ratio, rel=1e-5)
    assert round_.metrics["score"] == word_count(drawn).mean() == round_.metrics["length"]


def test_not_stopping_costs_what_was_said(tokenizer):
    """The metric shows the score itself; only what is learned from bears the penalty."""
    model = chatty(tokenizer)
    drawn, round_ = round_of(model, models.frozen_copy(model), tokenizer, unfinished_penalty=2.5)
    assert 0 < drawn.finished.float().mean() < 1
    assert torch.equal(round_.scores, word_count(drawn) - 2.5 * (~drawn.finished).float())
    assert round_.metrics["score"] == word_count(drawn).mean()


def test_online_dpo_is_dpo_on_the_pairs_it_drew(tokenizer):
    """The same update by hand, on the same samples as plain data: no gradient went through the sampling."""
    model, seen = chatty(tokenizer), []
    by_hand, reference = copy.deepcopy(model), models.frozen_copy(model)

    def score(rollout):
        seen.append(rollout)
        return word_count(rollout)

    how = dict(beta=0.5, iterations=1, batch_size=8, max_new_tokens=6, learning_rate=1e-2, seed=0)
    (metrics,) = train.online_dpo(model, reference, tokenizer, PROMPTS, score, **how)
    (drawn,) = seen
    lengths = drawn.sequences.lengths.view(-1, 2)
    decided = [pair for pair in range(8) if lengths[pair, 0] != lengths[pair, 1]]
    assert 0 < len(decided) and metrics["decided"] == len(decided) / 8
    longer = torch.tensor([2 * pair + int(lengths[pair, 1] > lengths[pair, 0]) for pair in decided])
    shorter = torch.tensor([2 * pair + int(lengths[pair, 1] < lengths[pair, 0]) for pair in decided])
    rows = drawn.sequences.left_aligned()
    policy, ref = (supervised.sequence_sums(lm, rows) for lm in (by_hand, reference))
    loss, _ = losses.dpo_loss(policy[longer], policy[shorter], ref[longer], ref[shorter], beta=0.5)
    assert metrics["loss"] == pytest.approx(math.log(2), abs=1e-5) == loss.item()
    common.Optimiser(by_hand, 1e-2).step(loss)
    for ours, theirs in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_online_dpo_learns_nothing_from_equal_scores(tokenizer):
    model = models.tiny_lm(tokenizer)
    before = copy.deepcopy(model)
    (metrics,) = LOOPS["online_dpo"](model, models.frozen_copy(model), tokenizer, score=all_equal, iterations=1)
    assert metrics["decided"] == 0 and same_weights(model, before)


@pytest.mark.parametrize("name", ["rloo", "grpo"])
def test_groups_with_equal_scores_teach_nothing_at_the_reference(tokenizer, name):
    """All advantages are 0, and at the reference the gradient of the KL penalty is 0 too."""
    model = models.tiny_lm(tokenizer)
    how = {"iterations": 1, "unfinished_penalty": 0.0, "score": all_equal}
    (metrics,) = LOOPS[name](model, models.frozen_copy(model), tokenizer, **how)
    assert metrics["grad_norm"] < 1e-4 and metrics["score"] == 1.0


def test_dpo_begins_at_log_2_and_without_reference_gets_means(tokenizer):
    model = models.tiny_lm(tokenizer)
    first = next(LOOPS["dpo"](model, models.frozen_copy(model), tokenizer))
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-5)
    seen = []

    def simpo(chosen_mean, rejected_mean, *, beta):
        seen.append((chosen_mean, rejected_mean))
        return losses.simpo_loss(chosen_mean, rejected_mean, beta=beta, gamma=0.5)

    model = models.tiny_lm(tokenizer)
    next(train.dpo(model, None, tokenizer, PAIRS[:1], beta=2.0, loss=simpo, seed=0))
    fresh = models.tiny_lm(tokenizer)
    for mean, key in zip(seen[0], ("chosen", "rejected"), strict=True):
        rows = supervised.encode(tokenizer, [PAIRS[0]["prompt"]], [PAIRS[0][key]])
        expected = response_logprobs(fresh, rows).sum() / rows.lengths.sum()
        torch.testing.assert_close(mean[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        losses.ipo_loss,
        losses.hinge_loss,
        functools.partial(losses.cdpo_loss, label_smoothing=0.1),
        functools.partial(losses.rdpo_loss, flip_probability=0.1),
    ],
)
def test_any_loss_on_pairs_fits_the_loop(tokenizer, loss):
    model = models.tiny_lm(tokenizer)
    history = list(LOOPS["dpo"](model, models.frozen_copy(model), tokenizer, loss=loss, epochs=4, learning_rate=2e-3))
    assert history[-1]["loss"] < history[0]["loss"] and history[-1]["rewards/margins"] > 0


def test_the_reference_is_read_once_and_rightly(tokenizer):
    """Precomputed sums, in whatever order and padding, are those of each row alone."""
    model = models.tiny_lm(tokenizer)
    rows = supervised.encode(tokenizer, *([row[key] for row in DEMONSTRATIONS] for key in ("prompt", "response")))
    sums = supervised.precomputed(model, rows, batch_size=5)
    alone = torch.stack([supervised.sequence_sums(model, rows.take([row]))[0] for row in range(len(rows))])
    torch.testing.assert_close(sums, alone.detach(), atol=1e-4, rtol=1e-5)
    assert not sums.requires_grad


# -- whether they learn ---------------------------------------------------------------------------------------------


def test_sft_weighs_every_token_of_the_data_the_same(tokenizer, monkeypatch):
    """Short rows share batches, so do long ones; the mean of the batches' losses is the loss of all rows as one."""
    rows = [{"prompt": PROMPTS[0], "response": words} for words in ["yeah"] * 8 + ["look it up ." * 3] * 8]
    model = models.tiny_lm(tokenizer, "xs", seed=0)
    minimised = []

    def step(self, loss, *, usual, weight):
        minimised.append((loss * weight).item())
        return {"loss": loss.item()}

    monkeypatch.setattr(supervised.Optimiser, "step", step)
    told = [metrics["loss"] for metrics in train.sft(model, tokenizer, rows, steps=4, batch_size=4, seed=0)]
    together = encode(tokenizer, [row["prompt"] for row in rows], [row["response"] for row in rows])
    loss, _ = losses.sft_loss(response_logprobs(model, together), together.response_mask)
    assert sum(minimised) / 4 == pytest.approx(loss.item(), rel=1e-5)
    assert sum(told) / 4 != pytest.approx(loss.item(), rel=1e-3)


def test_sft_learns_four_answers_by_heart(tokenizer):
    rows = [{"prompt": prompt, "response": WORLD.best_answer(prompt)} for prompt in PROMPTS[:1] + PROMPTS[4:12:4]]
    model = models.tiny_lm(tokenizer)
    history = list(train.sft(model, tokenizer, rows, steps=80, batch_size=4, learning_rate=1e-2, seed=0))
    assert history[0]["loss"] > 3 and history[-1]["loss"] < 0.05
    greedy = sample(model, tokenizer, [row["prompt"] for row in rows], max_new_tokens=32, temperature=0)
    assert greedy.texts == [row["response"] for row in rows] and greedy.finished.all()


def test_dpo_and_the_reward_model_learn_which_answers_are_preferred(tokenizer):
    model = models.tiny_lm(tokenizer)
    judge = models.RewardModel.from_lm(model)
    how = {"epochs": 8, "batch_size": 8, "learning_rate": 3e-3, "seed": 0}
    assert list(train.reward_model(judge, tokenizer, PAIRS, **how))[-1]["accuracy"] == 1
    history = list(train.dpo(model, models.frozen_copy(model), tokenizer, PAIRS, beta=0.1, **how))
    assert history[-1]["rewards/accuracies"] == 1 and history[-1]["rewards/margins"] > 1


@pytest.mark.parametrize("name", FROM_SAMPLES)
def test_every_online_loop_raises_the_score(tokenizer, name):
    """Words are worth a point each up to the limit: the policy stops stopping."""
    model = chatty(tokenizer)
    how = {"iterations": 12, "batch_size": 32, "learning_rate": 1e-2, "beta": 0.01, "score": word_count}
    how |= {"minibatch_size": 32} if name == "ppo" else {}
    how |= {"unfinished_penalty": 0.0} if name != "online_dpo" else {}
    history = list(LOOPS[name](model, models.frozen_copy(model), tokenizer, **how))
    assert history[-1]["score"] > history[0]["score"] + 1 and history[-1]["kl"] > history[0]["kl"]


def test_a_larger_beta_stays_nearer(tokenizer):
    ends = []
    for beta in (0.01, 5.0):
        model = chatty(tokenizer)
        how = {"iterations": 12, "batch_size": 32, "minibatch_size": 32, "learning_rate": 1e-2, "score": word_count}
        ends.append(list(LOOPS["ppo"](model, models.frozen_copy(model), tokenizer, beta=beta, **how))[-1]["kl"])
    assert ends[1] < ends[0] / 2


# -- parts ------------------------------------------------------------------------------------------------------------


def test_every_prompt_comes_once_per_epoch_and_copies_stand_together():
    prompter = online.Prompter(list("abcdefg"), torch.Generator().manual_seed(0))
    asked = [prompter.next(5, copies=3) for _ in range(7)]  # five epochs of seven prompts
    flat = [row[start] for row in asked for start in range(0, 15, 3)]
    assert all(row[i] == row[i + 1] == row[i + 2] for row in asked for i in range(0, 15, 3))
    assert all(sorted(flat[epoch * 7 : epoch * 7 + 7]) == list("abcdefg") for epoch in range(5))


def test_the_learning_rate_rises_and_falls():
    factor = common.warmup_cosine(100)
    rates = [factor(step) for step in range(100)]
    assert rates[0] == 0.1 and max(rates) == 1.0 == rates[10] and 0 <= rates[-1] < 0.01
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert common.warmup_cosine(1)(0) == 1.0


def test_steps_of_an_epoch():
    assert supervised.steps_in(1, 100, 64) == 2 and supervised.steps_in(0.5, 640, 64) == 5
    assert supervised.steps_in(0.001, 64, 64) == 1
    cut = list(supervised.epochs_of(torch.arange(10), 4, 7, seed=0))
    assert len(cut) == 7 and sorted(torch.cat(cut[:3]).tolist()) == sorted(torch.cat(cut[3:6]).tolist()) == list(
        range(10)
    )
