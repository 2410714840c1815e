"""What the tests of the claims share: one lab per seed, made once per process. Not a test itself."""

from __future__ import annotations

import functools

from prefcourse.bench import science

SEEDS = (0, 1, 2)


@functools.cache
def lab(seed: int):
    return science.lab(seed)


@functools.cache
def before(seed: int):
    return lab(seed).evaluate(lab(seed).sft)


@functools.cache
def answers(seed: int):
    return lab(seed).answers(16, seed=seed)


@functools.cache
def pairs(seed: int):
    return lab(seed).pairs(answers(seed), science.population(0), seed=seed)


@functools.cache
def reward_model(seed: int):
    return lab(seed).reward_model(pairs(seed))


def all_hold(claims: list[science.Claim]) -> None:
    failed = [f"{claim.text}: {claim.measured}" for claim in claims if not claim.holds]
    assert not failed, "\n".join(failed)
