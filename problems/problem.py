r"""A measurement and its noise: :math:`y = A x + n`."""

from dataclasses import dataclass

import torch
from torch import Tensor

from problems.noise import GaussianNoise
from problems.operator import LinearOperator

__all__ = ["InverseProblem"]


@dataclass(frozen=True)
class InverseProblem:
    """y = A x + n. Frozen and independent of any prior; x and y are batches (B, ...), images in [-1, 1]."""

    operator: LinearOperator
    noise: GaussianNoise

    def measure(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A draw of y given x."""
        return self.operator.observed(self.noise.sample(self.operator.apply(x), generator))

    def log_likelihood(self, y: Tensor, x: Tensor) -> Tensor:
        """log p(y | x) in nats, (B,). Entries that the operator never observes are left out but for a constant."""
        return self.noise.log_prob(self.operator.observed(y), self.operator.apply(x))

    def residual(self, y: Tensor, x: Tensor) -> Tensor:
        """y - A x, zero where nothing is observed."""
        return self.operator.observed(y) - self.operator.apply(x)

    @property
    def capabilities(self) -> frozenset[str]:
        """What a solver may ask for, by name."""
        names = set(self.operator.capabilities)
        if isinstance(self.noise, GaussianNoise):
            names.add("gaussian_noise")
        return frozenset(names)

    def input_shape(self, y: Tensor) -> tuple[int, ...]:
        """Shape of x, without batch, for the measurement y (B, ...)."""
        return self.operator.input_shape(tuple(y.shape[1:]))
