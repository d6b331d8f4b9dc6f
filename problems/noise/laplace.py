"""Laplace noise: errors with heavy tails."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from problems.noise.base import Noise, check_positive
from problems.random_numbers import Generators, rand_like

__all__ = ["LaplaceNoise"]


@dataclass(frozen=True, eq=False, repr=False)
class LaplaceNoise(Noise):
    """Laplace noise, p(y) = exp(-|y - mean| / scale) / (2 scale).

    Its standard deviation is sqrt(2) scale.

    Args:
        scale: Mean absolute error, in units of the measurement.

    Raises:
        ValueError: If the scale is not positive.
    """

    scale: float

    def __post_init__(self) -> None:
        check_positive(self.scale, "the scale of Laplace noise")

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
        u = rand_like(mean, generator) - 0.5
        return mean - self.scale * u.sign() * (-2 * u.abs()).log1p()

    def log_density(self, y: Tensor, mean: Tensor) -> Tensor:
        """Compute ln p(y_i | mean) of each entry, with all constants.

        Args:
            y: Measurements (B, ...).
            mean: Noiseless measurements A x (B, ...).

        Returns:
            Log-densities in nats, of the shape of y.
        """
        return -(y - mean).abs() / self.scale - math.log(2 * self.scale)

    def covariance_matvec(self, mean: Tensor, v: Tensor) -> Tensor:
        """Multiply by the covariance 2 scale^2 I.

        Args:
            mean: Noiseless measurements A x (B, ...); not used.
            v: Vectors (B, ...), of the shape of y.

        Returns:
            Products 2 scale^2 v, of the shape of v.
        """
        return 2 * self.scale**2 * v
