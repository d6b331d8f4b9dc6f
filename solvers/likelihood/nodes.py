r"""Nodes in the noise level, and sums over them.

The nodes are uniform in a node_density w with :math:`dw/ds = c/((s + a)(s + c))`, that is :math:`\ln s` between a and c, standing still far
outside, where the density hardly changes.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["NodeGrid", "error_from_pairs", "error_of_sum", "quadrature_weights"]

_GREGORY = (1 / 12, 1 / 24, 19 / 720, 3 / 160)


@dataclass(frozen=True)
class NodeGrid:
    """n nodes from the noise-to-signal ratio ``first`` up to ``last``."""

    first: float
    last: float
    n: int
    a: float
    c: float

    def w(self) -> Tensor:
        """(n,) float64, the nodes."""
        low, high = (
            self.c / (self.c - self.a) * math.log((s + self.a) / (s + self.c))
            for s in (self.first, self.last)
        )
        return torch.linspace(low, high, self.n, dtype=torch.float64)

    def s(self, w: Tensor) -> Tensor:
        ratio = (w * (self.c - self.a) / self.c).exp()  # (s + a)/(s + c)
        return (self.c * ratio - self.a) / (1 - ratio)

    def rate(self, s: Tensor) -> Tensor:
        """d ln s / dw."""
        return (s + self.a) * (s + self.c) / (s * self.c)


def quadrature_weights(n: int) -> Tensor:
    """Weights of Gregory's rule of order 6 on n nodes at unit distance: 1 inside, which also makes the noise of the nodes least."""
    weights = torch.ones(n, dtype=torch.float64)
    weights[[0, -1]] = 0.5
    for j, c in enumerate(_GREGORY, start=1):
        for m in range(j + 1):
            difference = (
                c * (-1) ** m * math.comb(j, m)
            )  # backward differences at the end, mirrored at the start
            weights[-1 - m] -= difference
            weights[m] -= difference
    return weights


def error_of_sum(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Standard error of values @ weights and its degrees of freedom, each (B,), for nodes (B, n) of a smooth curve plus independent noise.

    Third differences, (1, -3, 3, -1) with the sum of squares 20, are nearly free of a smooth integrand and estimate the variance of
    their middle (von Neumann 1941; Gasser, Sroka and Jennen-Steinmetz 1986). The degrees of freedom are Satterthwaite's (1946),
    with the correlations -15/20, 6/20 and -1/20 of neighbouring differences.
    """
    e = values[:, :-3] - 3 * values[:, 1:-2] + 3 * values[:, 2:-1] - values[:, 3:]
    parts = (
        torch.nn.functional.pad((e.square() / 20)[:, None], (1, 2), mode="replicate")[:, 0]
        * weights.square()
    )
    variance = parts.sum(1)
    overlap = 1 + 2 * (15**2 + 6**2 + 1) / 20**2
    # each part has been squared once, and E[e^4] = 3 E[e^2]^2
    dof = 3 * variance**2 / (overlap * parts.square().sum(1)).clamp_min(1e-300)
    return variance.sqrt(), dof.clamp(1, values.shape[1] / overlap)


def error_from_pairs(
    differences: Tensor, nodes: list[int], weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Standard error of values @ weights and its degrees of freedom, each (B,), where some ``nodes`` were measured twice, independently.

    differences (B, len(nodes)): of the two; their mean is the node's value. Half a difference's square is the variance of one measurement
    there, and stands for the nodes around. Unlike :func:`error_of_sum` nothing is asked of the curve. Degrees of freedom as there.
    """
    n = len(weights)
    nearest = (
        (torch.arange(n)[:, None] - torch.tensor(nodes)[None]).abs().argmin(1).to(weights.device)
    )
    share = torch.ones_like(weights)
    share[nodes] = 0.5
    group = torch.zeros(len(nodes), dtype=weights.dtype, device=weights.device).index_add_(
        0, nearest, share * weights.square()
    )
    parts = group * differences.square() / 2
    variance = parts.sum(1)
    dof = 3 * variance**2 / parts.square().sum(1).clamp_min(1e-300)
    return variance.sqrt(), dof.clamp(1, len(nodes))
