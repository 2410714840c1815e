"""Estimates against exact sums, intervals against their coverage, the frontier against TableWorld."""

from __future__ import annotations

import math

import pytest
import torch

from prefcourse import evaluate as ev
from prefcourse import models
from prefcourse.logprobs import sequence_logprobs
from prefcourse.rollout import Rollout, sample
from prefcourse.sequences import encode
from prefcourse.worlds import PocketWorld, TableWorld


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- one number and its error ---


def test_estimate_by_hand():
    """1, 2, 3, 4: mean 2.5, variance (2.25 + .25 + .25 + 2.25) / 3 = 5/3, error sqrt(5/3) / 2."""
    mean, error = ev.estimate(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert mean == 2.5 and error == pytest.approx(math.sqrt(5 / 3) / 2)


def test_one_number_has_no_error_and_none_has_no_mean():
    assert math.isnan(ev.estimate(torch.tensor([3.0])).standard_error)
    with pytest.raises(ValueError, match="nothing to average"):
        ev.estimate(torch.tensor([]))


@pytest.mark.parametrize(("wins", "trials"), [(0, 10), (8, 10), (10, 10), (454, 721)])
def test_wilson_agrees_with_statsmodels(wins, trials):
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    theirs = proportion.proportion_confint(wins, trials, method="wilson")
    assert ev.wilson(wins, trials) == pytest.approx((wins / trials, *theirs), abs=1e-4)


@pytest.mark.parametrize("rate", [0.5, 0.7, 0.9])
def test_wilson_covers_the_truth_19_times_in_20(rate):
    """Exact: the sum of binomial probabilities of the counts whose interval holds the true rate."""
    n = 100
    intervals = [ev.wilson(k, n) for k in range(n + 1)]
    held = [k for k, interval in enumerate(intervals) if interval.low <= rate <= interval.high]
    coverage = sum(math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in held)
    assert 0.93 <= coverage <= 0.97


def test_a_win_rate_by_hand():
    """Two wins, one loss, one tie: 2.5 of 4."""
    assert ev.win_rate(torch.tensor([2.0, 3.0, 0.0, 1.0]), torch.tensor([1.0, 1.0, 1.0, 1.0])).rate == 0.625


def test_a_win_for_one_is_a_loss_for_the_other():
    a, b = normal(50).round(), normal(50, seed=1).round()  # rounded: some ties
    there, back = ev.win_rate(a, b), ev.win_rate(b, a)
    assert (there.rate, there.low, there.high) == pytest.approx((1 - back.rate, 1 - back.high, 1 - back.low))
    assert ev.win_rate(a, a).rate == 0.5


def test_win_rate_refuses_what_does_not_pair_up():
    with pytest.raises(ValueError, match="same prompts"):
        ev.win_rate(torch.zeros(3), torch.zeros(1))
    with pytest.raises(ValueError, match="0 trials"):
        ev.win_rate(torch.zeros(0), torch.zeros(0))


# --- KL: two tokens over three words, every response enumerated ---


def two_tokens(seed):
    """log p(first word), log p(second word | first)."""
    return normal(3, seed=seed).log_softmax(-1), normal(3, 3, seed=seed + 10).log_softmax(-1)


def draws(policy, reference, count, seed):
    first_p, second_p = policy
    generator = torch.Generator().manual_seed(seed)
    first = first_p.exp().multinomial(count, replacement=True, generator=generator)
    second = second_p[first].exp().multinomial(1, generator=generator)[:, 0]
    pick = lambda model: torch.stack([model[0][first], model[1][first, second]], dim=1)  # noqa: E731
    return pick(policy), pick(reference)


def exact_kl(policy, reference):
    joint = lambda model: (model[0][:, None] + model[1]).flatten()  # noqa: E731
    return (joint(policy).exp() * (joint(policy) - joint(reference))).sum().item()


def test_kl_estimate_covers_the_exact_kl_in_the_right_direction():
    policy, reference = two_tokens(0), two_tokens(1)
    truth, backwards = exact_kl(policy, reference), exact_kl(reference, policy)
    mask, covered = torch.ones(400, 2, dtype=torch.bool), 0
    for seed in range(200):
        mean, error = ev.kl_estimate(*draws(policy, reference, 400, seed), mask)
        covered += abs(mean - truth) < 1.96 * error
    assert 0.90 <= covered / 200 <= 0.99
    mean, error = ev.kl_estimate(*draws(policy, reference, 20_000, 1), torch.ones(20_000, 2, dtype=torch.bool))
    assert abs(mean - truth) < 4 * error and abs(mean - backwards) > 10 * error


def test_kl_is_a_sum_over_tokens_and_sees_the_response_only():
    """Rows with log-ratios (.5, .25) and (1, masked): sums .75 and 1, mean .875. Padding may hold anything."""
    logprobs = torch.tensor([[-1.0, -1.0], [-1.0, 99.0]])
    ref_logprobs = torch.tensor([[-1.5, -1.25], [-2.0, math.nan]])
    mask = torch.tensor([[True, True], [True, False]])
    assert ev.kl_estimate(logprobs, ref_logprobs, mask).mean == pytest.approx(0.875)


# --- texts ---


def test_distinct_by_hand():
    """'a b a b' has bigrams ab, ba, ab: 2 of 3 differ; with a second copy 2 of 6. No bigram crosses texts."""
    assert ev.distinct_n(["a b a b"], 2) == pytest.approx(2 / 3)
    assert ev.distinct_n(["a b a b"] * 2, 2) == pytest.approx(2 / 6)
    assert ev.distinct_n(["a", "b"], 1) == 1
    assert math.isnan(ev.distinct_n(["a", "b"], 2))
    assert ev.distinct_share(["yes", "yes", "no", "yes"]) == 0.5


def test_effective_number_by_hand():
    """Shares 1/2, 1/4, 1/4: entropy 1.5 log 2, so 2 ** 1.5 kinds. All alike: one. All unlike: as many as there are."""
    assert ev.effective_number(["a", "a", "b", "c"]) == pytest.approx(2**1.5)
    assert ev.effective_number([("a", "b")] * 3) == pytest.approx(1)
    assert ev.effective_number("abcde") == pytest.approx(5)


# --- reward models ---


def test_calibration_by_hand():
    """Four claims of .9, half right: gap .4. Four of .25, one right: gap 0. Together .2."""
    confidence, correct = torch.tensor([0.9] * 4 + [0.25] * 4), torch.tensor([1.0, 0, 1, 0, 1, 0, 0, 0])
    assert ev.expected_calibration_error(confidence[:4], correct[:4]) == pytest.approx(0.4)
    assert ev.expected_calibration_error(confidence[4:], correct[4:]) == pytest.approx(0)
    assert ev.expected_calibration_error(confidence, correct) == pytest.approx(0.2)
    assert [part.count for part in ev.calibration_bins(confidence, correct)] == [4, 4]


def test_calibration_error_needs_no_order_and_vanishes_for_honest_claims():
    confidence = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    honest = torch.bernoulli(confidence, generator=torch.Generator().manual_seed(1))
    error = ev.expected_calibration_error(confidence, honest)
    shuffle = torch.randperm(20_000, generator=torch.Generator().manual_seed(2))
    assert error < 0.02
    assert ev.expected_calibration_error(confidence[shuffle], honest[shuffle]) == pytest.approx(error)


def test_certainty_joins_the_last_bin_and_scores_are_refused():
    bins = ev.calibration_bins(torch.tensor([1.0, 0.0, 0.95]), torch.tensor([1.0, 0.0, 1.0]))
    assert bins[0] == (0.0, 0.0, 1) and bins[1] == (pytest.approx(0.975), 1.0, 2)
    with pytest.raises(ValueError, match="sigmoid"):
        ev.calibration_bins(torch.tensor([1.7]), torch.tensor([1.0]))


def test_a_report_depends_on_margins_only():
    """Bradley-Terry labels judged by the scores that made them: right E[sigmoid(|margin|)] of the time, calibrated."""
    first, second = normal(20_000), normal(20_000, seed=1)
    heads = torch.bernoulli(torch.sigmoid(first - second), generator=torch.Generator().manual_seed(2)).bool()
    chosen, rejected = torch.where(heads, first, second), torch.where(heads, second, first)
    report, offset = ev.judge_scores(chosen, rejected), normal(20_000, seed=3)
    expected = torch.sigmoid((first - second).abs()).mean().item()
    assert report.accuracy.low < expected < report.accuracy.high
    assert report.calibration_error < 0.02 < ev.judge_scores(3 * chosen, 3 * rejected).calibration_error
    assert ev.judge_scores(chosen + offset, rejected + offset).accuracy == report.accuracy


def test_displacement_can_be_negative_for_both_while_the_margin_grows():
    moved = ev.displacement(*(torch.tensor(x) for x in ([-3.0, -4.0], [-9.0, -9.0], [-2.0, -2.0], [-2.0, -4.0])))
    assert moved.chosen.mean == -1.5 and moved.rejected.mean == -6.0
    assert moved.chosen.standard_error == pytest.approx(0.5)  # -1 and -2


# --- the optimal frontier ---


BETAS = (10.0, 1.0, 0.3, 0.1)


def test_a_sample_in_exact_proportion_gives_the_exact_frontier():
    """Reference (1/2, 1/4, 1/4) and (1/4, 1/4, 1/2): four samples of each prompt hold it exactly."""
    reward = normal(2, 3)
    world = TableWorld(reward, torch.tensor([[2.0, 1.0, 1.0], [1.0, 1.0, 2.0]], dtype=torch.float64).log())
    gold = torch.stack([reward[0, [0, 0, 1, 2]], reward[1, [0, 1, 2, 2]]])
    kl, expected = world.frontier(BETAS)
    points = ev.optimal_frontier(gold, BETAS)
    assert [p.kl for p in points] == pytest.approx(kl.tolist(), abs=1e-12)
    assert [p.reward for p in points] == pytest.approx(expected.tolist(), abs=1e-12)
    assert [p.beta for p in points] == list(BETAS)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_large_sample_agrees_with_the_table_within_its_error(seed):
    world = TableWorld.random(3, 8, seed=seed)
    drawn = world.sample(world.ref_logits, 20_000, generator=torch.Generator().manual_seed(seed))
    points = ev.optimal_frontier(world.reward.gather(1, drawn), BETAS[1:3])
    for point, kl, reward in zip(points, *world.frontier(BETAS[1:3]), strict=True):
        error = 1 / math.sqrt(point.effective_sample_size)  # rewards have sd about 1
        assert abs(point.reward - reward) < 3 * error
        assert abs(point.kl - kl) < 3 * error / point.beta


def test_kl_is_reward_over_beta_minus_log_z():
    """Rewards 0 and log 3, beta 1: weights 1/4 and 3/4, Z = 2, KL = 3/4 log 3 - log 2, 1 / (1/16 + 9/16) samples."""
    (point,) = ev.optimal_frontier(torch.tensor([[0.0, math.log(3)]], dtype=torch.float64), [1.0])
    assert point.reward == pytest.approx(0.75 * math.log(3))
    assert point.kl == pytest.approx(0.75 * math.log(3) - math.log(2))
    assert point.effective_sample_size == pytest.approx(1.6)


def test_the_frontier_rises_with_slope_beta():
    betas = torch.linspace(2, 0.2, 400).tolist()
    points = ev.optimal_frontier(normal(5, 200), betas)
    for a, b in zip(points, points[1:], strict=False):
        assert b.reward > a.reward and b.kl > a.kl
        assert (b.reward - a.reward) / (b.kl - a.kl) == pytest.approx((a.beta + b.beta) / 2, rel=1e-2)


def test_prompts_are_tilted_each_on_its_own():
    """A prompt on which every answer is worth more is no reason to favour its answers."""
    gold = normal(2, 50)
    raised = gold + torch.tensor([[0.0], [100.0]])
    plain, moved = ev.optimal_frontier(gold, [0.5])[0], ev.optimal_frontier(raised, [0.5])[0]
    assert moved.kl == pytest.approx(plain.kl) and moved.reward == pytest.approx(plain.reward + 50)


def test_limits_of_beta():
    """Large: the reference. Small: the best of the sample, KL log n, one effective sample; nothing overflows."""
    gold = normal(4, 64) * 1e4
    far, near = ev.optimal_frontier(gold, [1e9, 1e-3])
    assert far.reward == pytest.approx(gold.mean().item(), abs=0.2) and far.kl < 1e-6
    assert far.effective_sample_size == pytest.approx(64)
    assert near.reward == pytest.approx(gold.max(dim=1).values.mean().item())
    assert near.kl == pytest.approx(math.log(64)) and near.effective_sample_size == pytest.approx(1)


def test_the_frontier_refuses_pooled_gold_and_beta_zero():
    with pytest.raises(ValueError, match="prompts, samples of each"):
        ev.optimal_frontier(torch.zeros(10), [1.0])
    with pytest.raises(ValueError, match="above 0"):
        ev.optimal_frontier(torch.zeros(1, 10), [0.0])


# --- models and worlds: an untrained TinyLM on PocketWorld ---


@pytest.fixture(scope="module")
def world():
    return PocketWorld()


@pytest.fixture(scope="module")
def tokenizer(world):
    return world.tokenizer()


@pytest.fixture(scope="module")
def policy(tokenizer):
    return models.tiny_lm(tokenizer, seed=1)


@pytest.fixture(scope="module")
def reference(tokenizer):
    return models.tiny_lm(tokenizer, seed=2)


@pytest.fixture
def reward_model(policy):
    """With a head that says something."""
    made = models.RewardModel.from_lm(policy)
    torch.nn.init.normal_(made.head.weight, generator=torch.Generator().manual_seed(0))
    return made


def demonstrations(world, tokenizer, count=40):
    rows = world.demonstrations(count, 0)
    return encode(tokenizer, [row["prompt"] for row in rows], [row["response"] for row in rows])


PAIRS = [
    {"prompt": "what is a drill ?", "chosen": "a drill is a tool .", "rejected": "yeah ."},
    {"prompt": "what is python ?", "chosen": "python is a language .", "rejected": "yeah .", "tie": True},
    {"prompt": "tell me about an apple .", "chosen": "an apple is a food .", "rejected": "great question ! yeah ."},
]


def test_log_probabilities_of_pairs_are_the_plain_sums_in_the_order_of_the_rows(policy, tokenizer):
    chosen, rejected = ev.pair_logprobs(policy, tokenizer, PAIRS)
    for column, computed in (("chosen", chosen), ("rejected", rejected)):
        rows = encode(tokenizer, *([pair[key] for pair in (PAIRS[0], PAIRS[2])] for key in ("prompt", column)))
        with torch.no_grad():
            logits = policy(rows.input_ids, attention_mask=rows.attention_mask.long()).logits
        plain = sequence_logprobs(logits, rows.input_ids, rows.response_mask)
        torch.testing.assert_close(computed, plain, atol=1e-4, rtol=1e-5)
    assert not chosen.requires_grad


def test_a_tie_has_no_winner_and_only_ties_have_nothing_to_read(reward_model, tokenizer):
    report = ev.evaluate_reward_model(reward_model, tokenizer, PAIRS)
    assert sum(part.count for part in report.bins) == 2
    with pytest.raises(ValueError, match="ties"):
        ev.evaluate_reward_model(reward_model, tokenizer, PAIRS[1:2])


def test_reading_rows_in_batches_changes_nothing(reward_model, world, tokenizer):
    rows = demonstrations(world, tokenizer)
    torch.testing.assert_close(
        ev.read_rows(reward_model, rows, batch_size=7), ev.read_rows(reward_model, rows), atol=1e-4, rtol=1e-4
    )


def test_standardised_scores_keep_every_ranking(reward_model, world, tokenizer):
    rows = demonstrations(world, tokenizer)
    before = ev.read_rows(reward_model, rows)
    mean, spread = ev.standardise(reward_model, rows)
    after = ev.read_rows(reward_model, rows)
    assert after.mean().item() == pytest.approx(0, abs=1e-4)
    assert after.std(correction=0).item() == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(after * spread + mean, before, atol=1e-4, rtol=1e-4)
    assert ev.standardise(reward_model, rows) == pytest.approx((0, 1), abs=1e-4), "a second time is the identity"


def test_an_untrained_reward_model_has_no_scale(policy, world, tokenizer):
    with pytest.raises(ValueError, match="train the reward model"):
        ev.standardise(models.RewardModel.from_lm(policy), demonstrations(world, tokenizer))


def test_scores_of_a_rollout(policy, reward_model, world, tokenizer):
    """Padding on the left, as the sampler leaves it, is nothing to a score; gold knows who never stopped."""
    prompts = ["what is a drill ?", "tell me what people use a drill for ."]
    rollout = sample(policy, tokenizer, prompts, max_new_tokens=5, generator=torch.Generator().manual_seed(0))
    scores = ev.model_score(reward_model)(rollout)
    alone = [reward_model(rollout.sequences.take([row]).trim()).item() for row in range(2)]
    assert scores.tolist() == pytest.approx(alone, abs=1e-4) and not scores.requires_grad
    cut = Rollout(rollout.sequences, rollout.logprobs, torch.tensor([True, False]), prompts, ["yeah ."] * 2)
    assert ev.gold_score(world)(cut).tolist() == pytest.approx([-0.6, -1.1])


def test_a_policy_measured_against_itself(policy, world, tokenizer):
    prompts = world.prompts("train")[:6]
    settings = {"reference": policy, "samples": 4, "max_new_tokens": 12}
    first = ev.evaluate_policy(policy, tokenizer, world, prompts, seed=0, **settings)
    again = ev.evaluate_policy(
        policy, tokenizer, world, prompts, seed=0, baseline=first.sample_gold, score=ev.gold_score(world), **settings
    )
    assert abs(first.kl.mean) < 1e-3
    assert again.texts == first.texts and again.win_rate.rate == 0.5
    assert again.score == again.gold == first.gold
    assert first.score is None and "win_rate" not in first.metrics() and "score_se" in again.metrics()
    critic = models.PolicyWithValue(policy)
    assert ev.evaluate_policy(critic, tokenizer, world, prompts, seed=0, **settings).texts == first.texts


def test_an_evaluation_says_what_its_own_texts_say(policy, reference, world, tokenizer):
    prompts = world.prompts("train")[:40]  # 40 x 8 answers: more than one batch of the sampler
    result = ev.evaluate_policy(
        policy, tokenizer, world, prompts, reference=reference, seed=0, max_new_tokens=12,
        baseline=torch.full((40, 1), 100.0),
    )  # fmt: skip
    assert result.sample_gold.shape == (40, 8) and [len(texts) for texts in result.texts] == [8] * 40
    # an untrained model hardly ever stops by itself, hence the two cases
    for prompt, texts, gold in zip(prompts, result.texts, result.sample_gold.tolist(), strict=True):
        for text, value in zip(texts, gold, strict=True):
            assert value in (pytest.approx(world.gold(prompt, text)), pytest.approx(world.gold(prompt, text) - 0.5))
    assert result.gold.mean == pytest.approx(result.sample_gold.mean().item(), abs=1e-5)
    assert result.win_rate.rate == 0 and result.distinct > 0.99
    assert 0 < result.length <= 12 and result.kl.mean > 10 * result.kl.standard_error
    # an untrained policy is near uniform over the words it knows
    assert 0.7 * math.log(len(tokenizer)) < result.entropy < math.log(len(tokenizer))
    assert all(type(value) is float for value in result.metrics().values())


def test_a_row_of_gold_belongs_to_one_prompt(policy, tokenizer):
    """A world that pays by the prompt alone: every row is constant, whatever the batches."""

    class Fares:
        def gold(self, prompt, response, *, finished):
            return float(prompt)

    prompts = [str(digit) for digit in range(1, 9)]
    gold = ev.sample_gold(policy, tokenizer, Fares(), prompts, samples=40, seed=0)
    assert gold.tolist() == [[float(prompt)] * 40 for prompt in prompts]


def test_a_baseline_on_other_prompts_is_refused(policy, world, tokenizer):
    with pytest.raises(ValueError, match="same prompts"):
        ev.evaluate_policy(
            policy, tokenizer, world, world.prompts()[:2], reference=policy, seed=0, samples=2, max_new_tokens=3,
            baseline=torch.zeros(3, 2),
        )  # fmt: skip
    with pytest.raises(ValueError, match="nothing to sample"):
        ev.sample_gold(policy, tokenizer, world, [], samples=2, seed=0)


def test_the_second_skill_counts_right_answers(monkeypatch, world, tokenizer):
    """Half of the answers count correctly; a correct beginning is not a correct answer."""
    prompts = world.prompts("counting")
    right = [world._counting_answer(prompt) for prompt in prompts]
    wrong = [answer.removesuffix(" .") for answer in right]
    rollout = Rollout(None, None, torch.ones(2 * len(prompts)), prompts * 2, right + wrong)
    monkeypatch.setattr(ev, "rollouts", lambda *args, **kwargs: iter([rollout]))
    share = ev.second_skill_accuracy(None, tokenizer, world, samples=2, seed=0)
    assert share.rate == 0.5 and share.low < 0.5 < share.high
