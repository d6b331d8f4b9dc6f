r"""Nodes in the noise level, and sums over them.

The nodes are uniform in a variable w with :math:`dw/ds = c/((s + a)(s + c))`. This is
:math:`\ln s` between a and c. Far outside, where the density hardly changes, w hardly changes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.priors.base import Prior
from solvers.likelihood.reference import GaussianReference

__all__ = [
    "NodeGrid",
    "error_from_pairs",
    "error_of_sum",
    "nodes_for",
    "quadrature_weights",
    "standard_error",
]

_GREGORY = (1 / 12, 1 / 24, 19 / 720, 3 / 160)


@dataclass(frozen=True)
class NodeGrid:
    r"""Increasing noise-to-signal ratios :math:`s = \sigma/\alpha`, uniform in the variable w.

    Args:
        first: Smallest noise-to-signal ratio, positive.
        last: Largest noise-to-signal ratio.
        n: Number of nodes.
        a: Noise-to-signal ratio below which nodes become rarer; 0 for none.
        c: Noise-to-signal ratio above which nodes become rarer, greater than a.

    Example:
        >>> grid = NodeGrid(first=0.01, last=100.0, n=5, a=0.1, c=2.0)
        >>> [round(s, 2) for s in grid.s(grid.w()).tolist()]
        [0.01, 0.14, 0.47, 1.63, 100.0]
    """

    first: float
    last: float
    n: int
    a: float
    c: float

    def w(self) -> Tensor:
        """Compute the nodes in w.

        Returns:
            Equally spaced increasing numbers, shape (n,), float64.
        """
        low, high = (
            self.c / (self.c - self.a) * math.log((s + self.a) / (s + self.c))
            for s in (self.first, self.last)
        )
        return torch.linspace(low, high, self.n, dtype=torch.float64)

    def s(self, w: Tensor) -> Tensor:
        """Convert w to the noise-to-signal ratio.

        Args:
            w: Values of w, any shape.

        Returns:
            Noise-to-signal ratios, same shape as w.
        """
        ratio = (w * (self.c - self.a) / self.c).exp()  # (s + a)/(s + c)
        return (self.c * ratio - self.a) / (1 - ratio)

    def rate(self, s: Tensor) -> Tensor:
        """Compute the derivative d ln s / dw.

        Args:
            s: Noise-to-signal ratios, any shape.

        Returns:
            The derivative at s, same shape as s.
        """
        return (s + self.a) * (s + self.c) / (s * self.c)


def nodes_for(
    prior: Prior,
    reference: GaussianReference,
    n: int,
    *,
    s_max: float | None = None,
    node_density: tuple[float, float] | None = None,
) -> NodeGrid:
    """Choose the nodes for a prior, dense at the noise levels where its density changes.

    Args:
        prior: Prior whose smallest and largest noise bound the grid.
        reference: Gaussian whose smallest and largest standard deviation give the default density.
        n: Number of nodes.
        s_max: Noise-to-signal ratio of the last node, if below that of the SDE at t_max; None for
            the latter.
        node_density: The fields (a, c) of `NodeGrid`; None to take them from the reference.

    Returns:
        The grid of nodes.

    Raises:
        ValueError: If s_max is not above the smallest noise or 0 <= a < c does not hold.
    """
    ends = prior.sde.noise_to_signal(
        torch.tensor([prior.sde.t_min, prior.sde.t_max], dtype=torch.float64)
    )
    first, last = float(ends[0]), min(float(ends[1]), math.inf if s_max is None else s_max)
    if not first < last:
        raise ValueError(
            f"s_max must lie above the smallest noise of the prior, {first:g}; got {last:g}"
        )
    smallest, largest = (
        math.sqrt(max(float(v), 1e-12))
        for v in (reference.variances.min(), reference.variances.max())
    )
    a, c = node_density or (0.0 if reference.basis is None else 0.4 * smallest, 2 * largest)
    if not 0 <= a < c:
        raise ValueError(f"a node_density (a, c) needs 0 <= a < c, got {node_density}")
    return NodeGrid(first, last, n, a, c)


def quadrature_weights(n: int) -> Tensor:
    """Compute the weights of Gregory's rule of order 6 on nodes at unit distance.

    The weights are 1 in the interior, which also minimises the variance that independent noise at
    the nodes causes in the sum.

    Args:
        n: Number of nodes, at least 8.

    Returns:
        Weights, shape (n,), float64.
    """
    weights = torch.ones(n, dtype=torch.float64)
    weights[[0, -1]] = 0.5
    for j, c in enumerate(_GREGORY, start=1):
        for m in range(j + 1):
            # backward differences at the end, mirrored at the start
            difference = c * (-1) ** m * math.comb(j, m)
            weights[-1 - m] -= difference
            weights[m] -= difference
    return weights


def standard_error(
    values: Tensor, weights: Tensor, differences: Tensor | None, twice: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Estimate the standard error of values @ weights caused by random probes.

    Args:
        values: Integrand at the nodes, (B, n).
        weights: Quadrature weights, (n,).
        differences: Differences of the two measurements at the nodes in twice, (B, len(twice));
            None if no random probes were used.
        twice: Indices of the nodes that were measured twice. If empty, the error is estimated
            from the scatter of the values about a smooth curve.

    Returns:
        The standard error and its effective degrees of freedom, each (B,). They are 0 and infinity
        without random probes.
    """
    if differences is None:
        zero = values.new_zeros(len(values))
        return zero, zero + math.inf
    if twice:
        return error_from_pairs(differences, list(twice), weights)
    return error_of_sum(values, weights)


def error_of_sum(values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Estimate the standard error of values @ weights from third differences.

    The values are those of a smooth curve plus independent noise. Third differences,
    (1, -3, 3, -1) with the sum of squares 20, are nearly free of a smooth integrand and estimate
    the variance in their middle (von Neumann 1941; Gasser, Sroka and Jennen-Steinmetz 1986). The
    degrees of freedom are Satterthwaite's (1946), with the correlations -15/20, 6/20 and -1/20 of
    neighbouring differences.

    Args:
        values: Values at the nodes, (B, n).
        weights: Weights of the sum, (n,).

    Returns:
        The standard error and its effective degrees of freedom, each (B,).
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
    """Estimate the standard error of values @ weights from nodes that were measured twice.

    The two measurements are independent, and their mean is the value at the node. Half the squared
    difference estimates the variance of one measurement there, and is used for the neighbouring
    nodes too. Unlike `error_of_sum` this makes no assumption on the curve. The degrees of freedom
    are Satterthwaite's (1946).

    Args:
        differences: Differences of the two measurements, (B, len(nodes)).
        nodes: Indices of the nodes that were measured twice.
        weights: Weights of the sum over all nodes, (n,).

    Returns:
        The standard error and its effective degrees of freedom, each (B,).
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
