"""What all loops share: the optimiser, its schedule, one guarded step. Knows no task."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor


class Diverged(FloatingPointError):
    """The loss is not a number, far beyond any useful one, or stuck. The model has the last weights before that."""


PATIENCE = 5  # steps: a batch of odd rows passes, a ruined model stays


def rows_of(examples, column: str) -> list[str]:
    """One column of a `datasets.Dataset` or of a list of dicts."""
    have = getattr(examples, "column_names", None) or sorted(set().union(*examples))
    if len(examples) and column not in have:
        raise ValueError(f"column {column!r} is missing; these examples have {', '.join(have)}")
    return list(examples[column]) if hasattr(examples, "column_names") else [row[column] for row in examples]


def warmup_cosine(steps: int, warmup: float = 0.1):
    """Learning-rate factor: linear rise over the first `warmup` share, then half a cosine down to 0."""
    rise = max(1, round(steps * warmup))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))

    return factor


def trainable(model) -> list[Tensor]:
    """The parameters that an update may move; ValueError if there is none."""
    found = [p for p in model.parameters() if p.requires_grad]
    if not found:
        raise ValueError("the model is frozen; train a copy: models.trainable_copy(model)")
    return found


def check_beta(beta: float) -> None:
    """ValueError for a pull that would push away from the reference."""
    if not 0 <= beta < math.inf:
        raise ValueError(f"beta is {beta}; the pull to the reference must be 0 or more (0.1 is a usual value)")


class Optimiser:
    """AdamW with clipped gradients and a learning-rate schedule; refuses steps that would ruin the model.

    Puts the model into eval mode: with dropout, the policy that is updated would not be the one that sampled.
    A model is lost if its loss is not a number, or is above `far` times the larger of the first loss and the usual one
    for `PATIENCE` steps in a row, or if its gradient is exactly 0 for as long though its loss is not.
    `advice`: what to try besides a lower learning rate.
    """

    def __init__(
        self, model, learning_rate: float, *, factor=lambda step: 1.0, max_grad_norm: float = 1.0, far: float = 1000.0,
        advice: str = "a larger beta, or look for odd rows in the data",
    ):  # fmt: skip
        self.parameters = trainable(model.eval())
        self.adamw = torch.optim.AdamW(self.parameters, lr=learning_rate, weight_decay=0.0, fused=True)
        self.learning_rate, self.factor, self.max_grad_norm = learning_rate, factor, max_grad_norm
        self.far, self.advice, self.first_loss, self.steps_far, self.steps_dead = far, advice, None, 0, 0
        self.good, self.step_count = [p.detach().clone() for p in self.parameters], 0

    def step(self, loss: Tensor, *, usual: float = 1.0, weight: Tensor | float = 1.0) -> dict[str, float]:
        """One update; the loss, the gradient's norm before clipping and the learning rate used.

        `usual`: the size of a loss with which this task may well begin. `weight`: what the loss is multiplied by
        before it is minimised, for batches that do not all weigh the same.
        """
        rate = self.learning_rate * self.factor(self.step_count)
        for group in self.adamw.param_groups:
            group["lr"] = rate
        self.adamw.zero_grad(set_to_none=True)
        self.refuse_unless_finite("loss", loss.detach())
        (loss * weight).backward()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        self.refuse_unless_finite("gradient norm", norm)
        metrics = {"loss": loss.item(), "grad_norm": norm.item(), "learning_rate": rate}
        self.refuse_if_lost(metrics["loss"], metrics["grad_norm"], usual)
        self.adamw.step()
        self.step_count += 1
        return metrics

    def refuse_unless_finite(self, what: str, value: Tensor) -> None:
        """Diverged if a number is not finite, or too large for any task."""
        if not torch.isfinite(value) or value.abs() > 1e8:
            self.stop(f"{what} is {value.item():.3g}")

    def refuse_if_lost(self, loss: float, norm: float, usual: float) -> None:
        """Diverged if a finite loss has long been beyond any useful one, or cannot change any more."""
        self.first_loss = loss if self.first_loss is None else self.first_loss
        limit = self.far * max(usual, abs(self.first_loss))
        self.steps_far = self.steps_far + 1 if abs(loss) > limit else 0
        self.steps_dead = self.steps_dead + 1 if norm == 0 and abs(loss) > 1e-6 else 0  # loss 0: all is learned
        if self.steps_far == PATIENCE:
            self.stop(f"loss is {loss:.3g}, beyond {limit:.3g} for {PATIENCE} steps,")
        if self.steps_dead == PATIENCE:
            self.stop(f"loss is {loss:.3g} and its gradient exactly 0 for {PATIENCE} steps,")
        if not self.steps_far + self.steps_dead:
            with torch.no_grad():
                torch._foreach_copy_(self.good, self.parameters)

    @torch.no_grad()
    def stop(self, found: str) -> None:
        """Diverged, with the last good weights: the last update may be what ruined them."""
        self.adamw.zero_grad(set_to_none=True)
        torch._foreach_copy_(self.parameters, self.good)
        raise Diverged(
            f"{found} at step {self.step_count + 1}. The last good weights are back. "
            f"Try a learning rate below {self.learning_rate:g}, {self.advice}."
        )


def floats(metrics: dict) -> dict[str, float]:
    return {key: float(value) for key, value in metrics.items()}


def finish(loop: Iterable[dict]) -> list[dict]:
    """Run a loop to its end (or to Ctrl-C, which keeps what is learned so far); all its metrics."""
    history = []
    try:
        for metrics in loop:
            history.append(metrics)
    except KeyboardInterrupt:
        print(f"Stopped after {len(history)} steps; the model keeps what it has learned.")
    return history
