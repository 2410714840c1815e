"""Exercises on tensors: how a call becomes tensors; a loss, its gradients in fp64, and which tensors get none.

Knows torch and how a loss is called; knows no chapter.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from prefcourse.checks.exercise import Call


def tensors_of(call: Call) -> list[Tensor]:
    """Numbers become fp64, whole numbers and truths stay what they are."""
    made = [torch.tensor(value) for value in call.args]
    return [tensor.double() if tensor.is_floating_point() else tensor for tensor in made]


def of_tensors(function: Callable, call: Call):
    """The `apply` of a function that is called with tensors by position."""
    return function(*tensors_of(call), **call.settings)


def with_gradients(*names: str, constant: tuple[str, ...] = ()) -> Callable[[Callable, Call], dict]:
    """The `apply` of a loss that is called with tensors by position.

    `names`: of the positional arguments, in order. Numbers (lists, nested lists) become fp64 leaves; lists of bools
    stay masks. Recorded are the loss, its gradient for each name, and for those in `constant` only whether they
    receive one. A function may return its loss alone or (loss, metrics).
    """
    if unknown := set(constant) - set(names):
        raise ValueError(f"constant={sorted(unknown)} are not among the names {names}")

    def apply(function: Callable, call: Call) -> dict | None:
        tensors = [_leaf(value) for value in call.args]
        loss = function(*tensors, **call.settings)
        loss = loss[0] if isinstance(loss, tuple | list) and loss else loss
        if loss is None:  # a missing `return` has a note of its own
            return None
        leaves = {name: x for name, x in zip(names, tensors, strict=True) if x.requires_grad}
        gradients = dict(zip(leaves, _gradients(loss, list(leaves.values())), strict=True))
        facts = {"loss": loss}
        for name, gradient in gradients.items():
            if name in constant:
                facts[f"{name} receives a gradient"] = gradient is not None and bool(gradient.any())
            else:
                facts[f"gradient of {name}"] = gradient
        return facts

    return apply


def _leaf(value) -> Tensor:
    tensor = torch.tensor(value)
    return tensor if tensor.dtype == torch.bool else tensor.double().requires_grad_()


def _gradients(loss, leaves: list[Tensor]) -> list[Tensor | None]:
    """None for a leaf that the loss does not depend on, and for all where the loss is no tensor with a graph."""
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        return [None] * len(leaves)
    return list(torch.autograd.grad(loss.sum(), leaves, allow_unused=True))


def closed_form(value: float, **gradients: tuple[Tensor, list]) -> Tensor:
    """A loss of known value and known gradients, for an oracle that derives both by hand:
    closed_form(0.7, chosen=(chosen, [-0.25, -0.25]))."""
    loss = torch.tensor(value, dtype=torch.float64)
    for tensor, gradient in gradients.values():
        loss = loss + ((tensor - tensor.detach()) * torch.as_tensor(gradient, dtype=tensor.dtype)).sum()
    return loss
