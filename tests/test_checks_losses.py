"""The check engine on a loss, chapter 4's dpo_loss: values and gradients in fp64, no gradient to the reference,
extreme input."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from prefcourse.checks.exercise import Call
from prefcourse.checks.run import agreeing, recognise, run_cases
from prefcourse.checks.verdict import judge, words
from prefcourse.exercises.chapter04 import DPO_LOSS as DPO
from prefcourse.exercises.chapter04.answers import ANSWERS
from prefcourse.exercises.tensors import with_gradients

REFERENCE = ("ref_chosen", "ref_rejected")
by_hand = ANSWERS["4.2"].oracle
MUTANTS = {mutant.name: mutant.function for mutant in ANSWERS["4.2"].mutants}


def margins(pc, pr, rc, rr, beta):
    return beta * ((pc - pr) - (rc - rr).detach())


def with_metrics(pc, pr, rc, rr, *, beta):
    return -F.logsigmoid(margins(pc, pr, rc, rr, beta)).mean(), {"margin": torch.zeros(())}


def softplus(pc, pr, rc, rr, *, beta):
    return F.softplus(-margins(pc, pr, rc, rr, beta)).mean()


def cross_entropy(pc, pr, rc, rr, *, beta):
    both = torch.stack([beta * (pc - rc.detach()), beta * (pr - rr.detach())], dim=0)
    return -torch.log_softmax(both, dim=0)[0].mean()


def with_loop(pc, pr, rc, rr, *, beta):
    with torch.no_grad():
        ref = [float(a - b) for a, b in zip(rc, rr, strict=True)]
    losses = [torch.logaddexp(torch.zeros_like(a), -beta * (a - b - r)) for a, b, r in zip(pc, pr, ref, strict=True)]
    return sum(losses) / len(losses)


def in_fp32(pc, pr, rc, rr, *, beta):
    print("the margins are", margins(pc, pr, rc, rr, beta))
    return -F.logsigmoid(margins(pc.float(), pr.float(), rc.float(), rr.float(), beta)).mean()


SEEDS = ("public", "a secret", "another")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("right", [with_metrics, softplus, cross_entropy, with_loop, in_fp32])
def test_right_losses_pass_however_written(right, seed):
    given, expected = (run_cases(DPO, f, seed) for f in (right, by_hand))
    assert all(agreeing(given.bundle, expected.bundle)), given
    json.dumps(given.bundle, allow_nan=False)


@pytest.mark.parametrize("seed", SEEDS)
def test_each_wrong_loss_fails_and_is_recognised(seed):
    bundles = {name: run_cases(DPO, f, seed).bundle for name, f in ({"oracle": by_hand} | MUTANTS).items()}
    assert {name: recognise(bundles[name], bundles) for name in MUTANTS} == {name: name for name in MUTANTS}
    assert recognise(bundles["oracle"], bundles) is None


def test_only_the_extreme_input_finds_the_log_of_a_sigmoid():
    bundles = {name: run_cases(DPO, f).bundle for name, f in ({"oracle": by_hand} | MUTANTS).items()}
    verdict = judge(DPO, bundles["log-of-sigmoid"], bundles)
    assert [claim for claim, holds in verdict.holds.items() if not holds] == ["finite at log-ratios of 10,000"]


def test_the_facts_of_a_loss():
    """One pair with margin 0: loss log 2, gradient -beta/2 and +beta/2, nothing to the reference."""
    call = Call(([0.0], [0.0], [0.0], [0.0]), {"beta": 0.4})
    facts = DPO.apply(with_metrics, call)
    assert facts["loss"].item() == pytest.approx(math.log(2))
    assert facts["gradient of policy_chosen"].tolist() == pytest.approx([-0.2])
    assert facts["gradient of policy_rejected"].tolist() == pytest.approx([0.2])
    assert [facts[f"{name} receives a gradient"] for name in REFERENCE] == [False, False]
    leaky = DPO.apply(MUTANTS["reference-not-detached"], call)
    assert [leaky[f"{name} receives a gradient"] for name in REFERENCE] == [True, True]


def test_words_name_the_gradient_that_differs():
    bundles = {name: run_cases(DPO, f).bundle for name, f in ({"oracle": by_hand} | MUTANTS).items()}
    given = bundles["rejected-detached"]
    verdict = judge(DPO, given, bundles)
    told = words(verdict, given, bundles["oracle"], DPO.calls()[verdict.first], {}, "")
    assert ("note", "what differs: gradient of policy_rejected") in told.case


@pytest.mark.parametrize("useless", [None, 3.0, np.float64(2), torch.tensor(1.0), (), "text"])
def test_a_loss_without_a_graph_is_wrong_and_breaks_nothing(useless):
    bundle = run_cases(DPO, lambda *tensors, beta: useless).bundle
    assert not any(agreeing(bundle, run_cases(DPO, by_hand).bundle))


def test_masks_stay_masks_and_names_are_checked():
    apply = with_gradients("logprobs", "mask")
    facts = apply(lambda logprobs, mask: -(logprobs * mask).sum(), Call(([[1.0, 2.0]], [[True, False]])))
    assert sorted(facts) == ["gradient of logprobs", "loss"]
    assert facts["gradient of logprobs"].tolist() == [[-1.0, 0.0]]
    with pytest.raises(ValueError, match="not among the names"):
        with_gradients("policy", constant=("reference",))
