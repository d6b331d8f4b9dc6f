r"""The lower end of the flow: at the smallest noise, or continued to the data.

The grid of nodes begins at the smallest noise of the prior. The density at the data needs the part
of the flow below it. There, for smooth data, both right-hand sides are :math:`a s^2 + b s^4 + ...`,
and a and b follow from the values at two nodes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from scoresde.sde import SDE
from solvers.likelihood.settings import End

__all__ = ["AtData", "AtSmallestNoise", "Endpoint", "endpoint_for"]

Slope = Callable[[Tensor, Tensor], Tensor]
"""(z (B, d), s ()) -> dz/d ln s (B, d)."""


class Endpoint(ABC):
    """Noise level at which the density is evaluated, and the flow from there to the first node.

    Attributes:
        nfe: Evaluations of the denoiser between this end and the first node.
    """

    nfe: ClassVar[int]

    @property
    @abstractmethod
    def alpha(self) -> Tensor:
        """Factor of the signal in the samples, ()."""

    @property
    @abstractmethod
    def s(self) -> Tensor:
        """Noise-to-signal ratio of the samples, ()."""

    @property
    @abstractmethod
    def weights_below(self) -> Mapping[int, float]:
        """Weights, by index of the node, for the integral over ln s from here to the first node."""

    @abstractmethod
    def first_node(self, z: Tensor, slope: Slope) -> Tensor:
        """Follow the flow from this end to the first node.

        Args:
            z: Points at this end, (B, d).
            slope: Right-hand side of the flow.

        Returns:
            Points at the first node, (B, d).
        """

    def standard_deviations(self, variances: Tensor) -> Tensor:
        """Add the noise at this end to the variances of the reference.

        Args:
            variances: Variances of the reference, (d,).

        Returns:
            Standard deviations with noise, (d,), positive.
        """
        return (variances + self.s**2).clamp_min(1e-300).sqrt()


@dataclass(frozen=True)
class AtSmallestNoise(Endpoint):
    """The density at t_min: the samples lie at the first node.

    Args:
        sde: Forward process.
        nodes: Noise-to-signal ratios of the nodes, (n,).
    """

    nfe: ClassVar[int] = 0

    sde: SDE
    nodes: Tensor

    @property
    def alpha(self) -> Tensor:
        """Factor of the signal at t_min, ()."""
        return self.sde.alpha(torch.tensor(self.sde.t_min, dtype=torch.float64))

    @property
    def s(self) -> Tensor:
        """Noise-to-signal ratio of the first node, ()."""
        return self.nodes[0]

    @property
    def weights_below(self) -> Mapping[int, float]:
        """No weights: there is nothing below the first node."""
        return {}

    def first_node(self, z: Tensor, slope: Slope) -> Tensor:
        """Return z as it is.

        Args:
            z: Points at this end, (B, d).
            slope: Not used.

        Returns:
            The same points.
        """
        return z


@dataclass(frozen=True)
class AtData(Endpoint):
    """The density of the data, continued below the first node by a s^2 + b s^4.

    Args:
        nodes: Noise-to-signal ratios of the nodes, (n,).
    """

    _ITERATIONS: ClassVar[int] = 3
    nfe: ClassVar[int] = 2 * _ITERATIONS

    nodes: Tensor

    @property
    def alpha(self) -> Tensor:
        """Factor of the signal in the data, 1."""
        return torch.ones((), dtype=torch.float64)

    @property
    def s(self) -> Tensor:
        """Noise-to-signal ratio of the data, 0."""
        return torch.zeros((), dtype=torch.float64)

    @cached_property
    def second(self) -> int:
        """Index of the node that is used with the first one, at 1.6 times its noise or more."""
        return max(1, int((self.nodes < 1.6 * self.nodes[0]).sum()))

    @property
    def weights_below(self) -> Mapping[int, float]:
        """Weights of both nodes in the integral of a s^2 + b s^4 over ln s below the first node."""
        p, r = self._squares
        return {0: (2 * r - p) / (4 * (r - p)), self.second: -(p**2) / (4 * r * (r - p))}

    def first_node(self, z: Tensor, slope: Slope) -> Tensor:
        """Follow the flow from s = 0 to the first node, with a and b by fixed-point iteration.

        Args:
            z: Points at s = 0, (B, d).
            slope: Right-hand side of the flow.

        Returns:
            Points at the first node, (B, d).
        """
        p, r = self._squares
        f = g = torch.zeros_like(z)
        for _ in range(self._ITERATIONS):
            a, b = (f * r / p - g * p / r) / (r - p), (g / r - f / p) / (r - p)
            f = slope(z + a * p / 2 + b * p**2 / 4, self.nodes[0])
            g = slope(z + a * r / 2 + b * r**2 / 4, self.nodes[self.second])
        first, second = self.weights_below.values()
        return z + first * f + second * g

    @cached_property
    def _squares(self) -> tuple[float, float]:
        """s^2 at the first node and at the second one."""
        return float(self.nodes[0]) ** 2, float(self.nodes[self.second]) ** 2


def endpoint_for(end: End, sde: SDE, nodes: Tensor) -> Endpoint:
    """Choose the endpoint by its name.

    Args:
        end: "data" or "t_min".
        sde: Forward process of the prior.
        nodes: Noise-to-signal ratios of the nodes, (n,), increasing.

    Returns:
        The endpoint.
    """
    return AtData(nodes) if end == "data" else AtSmallestNoise(sde, nodes)
