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
    """p(y) = exp(-|y - mean| / scale) / (2 scale); its standard deviation is sqrt(2) scale."""

    scale: float

    def __post_init__(self) -> None:
        check_positive(self.scale, "the scale of Laplace noise")

    def sample(self, mean: Tensor, generator: Generators = None) -> Tensor:
        u = rand_like(mean, generator) - 0.5
        return mean - self.scale * u.sign() * (-2 * u.abs()).log1p()

    def log_density(self, y: Tensor, mean: Tensor) -> Tensor:
        return -(y - mean).abs() / self.scale - math.log(2 * self.scale)

    def covariance_matvec(self, mean: Tensor, v: Tensor) -> Tensor:
        return 2 * self.scale**2 * v
