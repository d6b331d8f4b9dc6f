"""What every noise answers: a draw, and the density of a measurement."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from problems.description import Described, concrete
from problems.random_numbers import Generators

__all__ = ["Noise", "check_positive", "known_noises"]


class Noise(Described, ABC):
    """p(y | mean), mean = A x (B, ...). A frozen dataclass."""

    kind = "noise"

    @abstractmethod
    def sample(self, mean: Tensor, generator: Generators = None) -> Tensor:
        """A draw of y. generator: one, or one per sample."""

    @abstractmethod
    def log_density(self, y: Tensor, mean: Tensor) -> Tensor:
        """ln p(y_i | mean) of each entry, in nats, shape of y. Constants are kept."""

    def log_prob(self, y: Tensor, mean: Tensor) -> Tensor:
        """ln p(y | mean) of each sample, (B,)."""
        return self.log_density(y, mean).flatten(1).sum(1)

    def score(self, y: Tensor, mean: Tensor) -> Tensor:
        """Gradient of ``log_prob`` with respect to mean, shape of y."""
        outer = torch.is_grad_enabled() and (mean.requires_grad or y.requires_grad)
        with torch.enable_grad():
            m = mean if outer and mean.requires_grad else mean.detach().requires_grad_()
            return torch.autograd.grad(
                self.log_prob(y, m).sum(), m, create_graph=outer, materialize_grads=True
            )[0]

    def covariance_matvec(self, mean: Tensor, v: Tensor) -> Tensor:
        """Cov[y | mean] v, shape of v: for those who put a Gaussian of the same moments in the place of this noise."""
        raise ValueError(f"{type(self).__name__} is nothing that a Gaussian could stand for")


def known_noises() -> list[type[Noise]]:
    """Every concrete kind of noise."""
    return concrete(Noise)  # type: ignore[type-abstract]


def check_positive(value: float, name: str) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive, got {value}")
