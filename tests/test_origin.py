"""Whose code a function is: every road to the package's own function is followed, and nothing else is taken for it."""

from __future__ import annotations

import functools
import importlib
import inspect
import types

import numpy as np
import pytest
import torch

import prefcourse.agreement
from prefcourse import advantages, agreement
from prefcourse.checks import check
from prefcourse.checks.origin import MOST, leads_to

KAPPA = "prefcourse.agreement:fleiss_kappa"


def imported_inside(labels):
    from prefcourse.agreement import fleiss_kappa as theirs

    return theirs(labels)


def by_its_whole_path(labels):
    return prefcourse.agreement.fleiss_kappa(labels)


def in_a_function_inside(labels):
    return [agreement.fleiss_kappa(labels) for _ in range(1)][0]


def kept(function):
    return lambda labels: function(labels)


@functools.wraps(agreement.fleiss_kappa)
def wrapped(labels):
    return 0.0


class Holder:
    def __init__(self, function=None):
        self.function = function

    def method(self, labels):
        return 0.0

    def __call__(self, labels):
        return 0.0


class Calls:
    def __call__(self, labels):
        return agreement.fleiss_kappa(labels)


def made_by_exec():
    exec("from prefcourse.agreement import fleiss_kappa as f", names := {})
    return names["f"]


ROADS = {
    "itself": agreement.fleiss_kappa,
    "getattr": getattr(importlib.import_module("prefcourse.agreement"), "fleiss" + "_kappa"),
    "exec": made_by_exec(),
    "imported inside": imported_inside,
    "whole path": by_its_whole_path,
    "function inside": in_a_function_inside,
    "lambda": lambda labels: agreement.fleiss_kappa(labels),
    "closure": kept(agreement.fleiss_kappa),
    "default": lambda labels, theirs=agreement.fleiss_kappa: theirs(labels),
    "wraps": wrapped,
    "partial": functools.partial(agreement.fleiss_kappa),
    "partial of partial": functools.partial(functools.partial(kept(agreement.fleiss_kappa))),
    "cache": functools.lru_cache(agreement.fleiss_kappa),
    "bound method": Holder(agreement.fleiss_kappa).method,
    "callable object": Holder({"theirs": [agreement.fleiss_kappa]}),
    "class that calls": Calls(),
    "vectorised": np.vectorize(agreement.fleiss_kappa),
    "its code": types.FunctionType(agreement.fleiss_kappa.__code__, {}),
    "its code, renamed": agreement.fleiss_kappa.__code__.replace(
        co_filename="cell", co_name="mine", co_qualname="mine", co_firstlineno=1
    ),
}


@pytest.mark.parametrize("road", ROADS)
def test_every_road_is_followed(road):
    assert leads_to(ROADS[road], ("prefcourse.agreement:cohen_kappa", KAPPA)) == KAPPA


def own(labels):
    """It takes a helper that is nobody's answer."""
    return float(agreement.count_labels(labels).counts.sum())


class Hostile:
    __dict__ = property(lambda self: 1 / 0)
    __getattr__ = __call__ = lambda self, *_: 1 / 0


def endless():
    return endless() or others[0]


others = [[object() for _ in range(MOST)] for _ in range(5)]


OTHERS = {
    "one's own": own,
    "one's own, kept": kept(own),
    "another of the package": agreement.cohen_kappa,
    "built in": len,
    "no function": [None, 3],
    "hostile class": Hostile,
    "hostile object": Hostile(),
    "more than is looked at": endless,
}


@pytest.mark.parametrize("other", OTHERS)
def test_nothing_else_is_taken_for_it(other):
    assert leads_to(OTHERS[other], (KAPPA,)) is None


def test_where_submissions_run_the_check_says_so(monkeypatch):
    monkeypatch.setenv("PREFCOURSE_SEED", "a secret")
    assert check("2.4", imported_inside).run.bundle["package"] == KAPPA
    assert "package" not in check("2.4", own).run.bundle


def test_a_decorator_of_anothers_is_not_taken_for_what_it_decorates():
    @torch.no_grad()
    def mine(x, mask):
        return x

    decorated = "prefcourse.advantages:masked_whiten"
    assert leads_to(mine, (decorated,)) is None
    assert leads_to(advantages.masked_whiten, (decorated,)) == decorated
    copied = types.FunctionType(inspect.unwrap(advantages.masked_whiten).__code__.replace(co_filename="mine"), {})
    assert leads_to(copied, (decorated,)) == decorated
