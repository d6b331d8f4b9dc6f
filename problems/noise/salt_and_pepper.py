"""Dead and hot pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from problems.noise.base import Noise
from problems.random_numbers import Generators, rand_like, randn_like

__all__ = ["SaltAndPepperNoise"]


@dataclass(frozen=True, eq=False, repr=False)
class SaltAndPepperNoise(Noise):
    """With probability ``amount`` a pixel is -1 or 1, each half of the time; the others carry Gaussian noise of level std (0 for none).

    The density is with respect to Lebesgue's measure and an atom at each of -1 and 1: a pixel that is exactly -1 or 1 tells nothing of the
    mean. It needs std > 0.
    """

    amount: float
    std: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.amount <= 1:
            raise ValueError(f"the amount of salt and pepper must lie in [0, 1], got {self.amount}")
        if not (math.isfinite(self.std) and self.std >= 0):
            raise ValueError(f"the noise level must be a finite number >= 0, got {self.std}")

    def sample(self, mean: Tensor, generator: Generators = None) -> Tensor:
        u, n = rand_like(mean, generator), randn_like(mean, generator)
        y = mean + self.std * n
        return torch.where(u < self.amount / 2, -1.0, torch.where(u < self.amount, 1.0, y))

    def log_density(self, y: Tensor, mean: Tensor) -> Tensor:
        if self.std == 0:
            raise ValueError("a likelihood needs a noise level above 0")
        normal = -0.5 * ((y - mean) / self.std).square() - math.log(
            self.std * math.sqrt(2 * math.pi)
        )
        keep = math.log(1 - self.amount) if self.amount < 1 else -math.inf
        atom = math.log(self.amount / 2) if self.amount > 0 else -math.inf
        return torch.where(y.abs() == 1, torch.full_like(normal, atom) + 0 * mean, normal + keep)
