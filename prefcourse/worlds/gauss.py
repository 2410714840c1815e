"""GaussWorld: over-optimisation in closed form. A response is a vector; the proxy sees one direction of it.

The reference draws x ~ N(0, I). The proxy scores u.x with |u| = 1; gold is g.x - x'Cx. The most proxy to be
had for a given KL is the tilt N(d sqrt2 u, I), whose KL to the reference is d^2; along the way
    proxy gain = sqrt2 d,    gold gain = d (alpha - beta d),    alpha = sqrt2 g.u,    beta = 2 u'Cu,
the form that Gao et al. (2210.10760) fitted to best-of-n samples of trained models; what they fitted to RL was
d (alpha - beta log d). Knows nothing of text, tokens or training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class GaussWorld:
    """u, the proxy's direction; g, gold's slope; C, gold's curvature (symmetric; zero for a linear gold)."""

    u: Float[Tensor, " D"]
    g: Float[Tensor, " D"]
    C: Float[Tensor, "D D"]

    def __post_init__(self):
        if not math.isclose(self.u.norm().item(), 1.0, rel_tol=1e-5):
            raise ValueError(f"|u| is {self.u.norm():.4g}, but KL = d^2 needs |u| = 1: divide u by its norm")
        if not torch.allclose(self.C, self.C.T):
            raise ValueError("C must be symmetric; x'Cx only sees (C + C') / 2, so pass that")

    @classmethod
    def random(cls, dim: int = 16, *, seed: int, correlation=0.8, curvature=0.15) -> GaussWorld:
        """|g| = 1, g.u = correlation, u'Cu = curvature, C >= 0, the rest at random, in float64."""
        generator = torch.Generator().manual_seed(seed)
        draw = torch.randn(dim, dim + 2, generator=generator, dtype=torch.float64)
        u = draw[:, 0] / draw[:, 0].norm()
        across = draw[:, 1] - (draw[:, 1] @ u) * u
        g = correlation * u + math.sqrt(1 - correlation**2) * across / across.norm()
        C = draw[:, 2:] @ draw[:, 2:].T
        return cls(u, g, C * (curvature / (u @ C @ u)))

    @property
    def alpha(self) -> float:
        return math.sqrt(2) * (self.g @ self.u).item()

    @property
    def beta(self) -> float:
        return 2 * (self.u @ self.C @ self.u).item()

    def proxy(self, x: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
        return x @ self.u

    def gold(self, x: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
        return x @ self.g - ((x @ self.C) * x).sum(-1)

    def sample(self, count: int, *, d: float = 0.0, generator: torch.Generator) -> Float[Tensor, "N D"]:
        """Responses of the tilted policy at distance d = sqrt(KL); d = 0 is the reference."""
        noise = torch.randn(count, len(self.u), generator=generator, dtype=self.u.dtype)
        return noise + d * math.sqrt(2) * self.u

    def gold_gain(self, d):
        """E[gold] under the tilt at distance d (a number or an array) minus E[gold] under the reference."""
        return d * (self.alpha - self.beta * d)

    def peak(self) -> tuple[float, float] | None:
        """(d, gold gain) where gold turns; None unless it first rises (alpha > 0) and bends down (beta > 0).

        So a linear gold (C = 0) has no peak: more proxy means more gold for ever, or never."""
        if self.alpha <= 0 or self.beta <= 1e-12:  # below this, u'Cu is rounding error
            return None
        return self.alpha / (2 * self.beta), self.alpha**2 / (4 * self.beta)

    def best_of_n(self, n: int, count: int, *, generator: torch.Generator) -> Float[Tensor, "N D"]:
        """`count` responses, each the one of n reference samples that the proxy likes best."""
        x = self.sample(count * n, generator=generator)
        best = self.proxy(x).view(count, n).argmax(-1)
        return x.view(count, n, -1)[torch.arange(count), best]


def best_of_n_kl(n: int) -> float:
    """KL(best-of-n, reference) = log n - (n - 1)/n: exact if scores never tie, as here, else a bound."""
    return math.log(n) - (n - 1) / n
