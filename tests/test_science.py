"""What the lab must show of reward models, DPO and biased people: `prefcourse bench science`, over three seeds."""

from __future__ import annotations

import pytest
from labs import SEEDS, all_hold, answers, before, lab, pairs

from prefcourse.bench import science


@pytest.mark.parametrize("seed", SEEDS[:1])
def test_reward_model_approaches_the_ceiling_that_noise_sets(seed):
    """Chapter 6 claims much the same of three seeds, in its lesson and of its stored runs."""
    all_hold(science.reward_model_claims(lab(seed), [64, 4096]))


@pytest.mark.parametrize("seed", SEEDS)
def test_dpo_reach_gain_and_displacement(seed):
    all_hold(science.dpo_claims(lab(seed), pairs(seed), before(seed)))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bias_of_the_annotators_reaches_the_policy(seed):
    all_hold(science.propagation_claims(lab(seed), answers(seed)))
