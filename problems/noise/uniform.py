"""Uniform noise: the error of rounding to a grid."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from problems.noise.base import Noise, check_positive
from problems.random_numbers import Generators, rand_like

__all__ = ["UniformNoise"]


@dataclass(frozen=True, eq=False, repr=False)
class UniformNoise(Noise):
    """Uniform noise, y = mean + U(-step/2, step/2).

    It is the error of dithered quantisation with this step (Widrow 1956). Within half a step of the
    mean the likelihood is constant, with gradient zero; outside it is zero.

    Args:
        step: Width of the interval, in units of the measurement.

    Raises:
        ValueError: If the step is not positive.
    """

    step: float

    def __post_init__(self) -> None:
        check_positive(self.step, "the step of a quantisation")

    @property
    def capabilities(self) -> frozenset[str]:
        """Names of the optional abilities, see ``Noise.capabilities``."""
        return frozenset({"covariance"})

    def sample(self, mean: Tensor, generator: Generators = None) -> Tensor:
        """Draw y given its mean.

        Args:
            mean: Noiseless measurements A x (B, ...).
            generator: One generator, one for each sample, or None for the global one of torch.

        Returns:
            Noisy measurements, of the shape of ``mean``.

        Raises:
            ValueError: If the number of generators is not B.
        """
        return mean + self.step * (rand_like(mean, generator) - 0.5)

    def log_density(self, y: Tensor, mean: Tensor) -> Tensor:
        """Compute ln p(y_i | mean) of each entry; rounding errors at the edges are tolerated.

        Args:
            y: Measurements (B, ...).
            mean: Noiseless measurements A x (B, ...).

        Returns:
            Log-densities in nats, of the shape of y; -inf outside of the interval.
        """
        slack = 4 * torch.finfo(y.dtype).eps * (y.abs() + self.step)
        inside = (y - mean).abs() <= self.step / 2 + slack
        return torch.where(inside, 0 * mean - math.log(self.step), -torch.inf)

    def covariance_matvec(self, mean: Tensor, v: Tensor) -> Tensor:
        """Multiply by the covariance step^2 / 12 I.

        Args:
            mean: Noiseless measurements A x (B, ...); not used.
            v: Vectors (B, ...), of the shape of y.

        Returns:
            Products step^2 / 12 v, of the shape of v.
        """
        return self.step**2 / 12 * v
