"""Uniform noise: what rounding to a grid leaves."""

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
    """y = mean + U(-step/2, step/2): quantisation with steps of ``step`` as dithering makes it (Widrow 1956).

    The likelihood is flat inside the step, with gradient zero, and impossible outside.
    """

    step: float

    def __post_init__(self) -> None:
        check_positive(self.step, "the step of a quantisation")

    def sample(self, mean: Tensor, generator: Generators = None) -> Tensor:
        return mean + self.step * (rand_like(mean, generator) - 0.5)

    def log_density(self, y: Tensor, mean: Tensor) -> Tensor:
        slack = 4 * torch.finfo(y.dtype).eps * (y.abs() + self.step)
        inside = (y - mean).abs() <= self.step / 2 + slack
        return torch.where(inside, 0 * mean - math.log(self.step), -torch.inf)

    def covariance_matvec(self, mean: Tensor, v: Tensor) -> Tensor:
        return self.step**2 / 12 * v
