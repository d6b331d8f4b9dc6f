"""Base class of all noises: draws, and the density of a measurement."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from problems.description import Described, concrete
from problems.random_numbers import Generators

__all__ = ["Noise", "check_positive", "known_noises"]


class Noise(Described, ABC):
    """Distribution p(y | mean) of a measurement about its mean A x.

    A noise is a frozen dataclass with ``sample`` and ``log_density``. A noise with further
    ``capabilities`` declares them by name.
    """

    kind = "noise"

    @property
    def capabilities(self) -> frozenset[str]:
        """Names of the optional abilities of this noise.

        "covariance": ``covariance_matvec`` works, so that a Gaussian can approximate this noise.
        "joint_density": ``log_prob`` is defined for whole measurements only, and ``log_density``
        raises. A noise declares here which of them it has.
        """
        return frozenset()

    @abstractmethod
    def sample(self, mean: Tensor, generator: Generators = None) -> Tensor:
        """Draw y given its mean.

        Args:
            mean: Noiseless measurements A x (B, ...).
            generator: One generator, one for each sample, or None for the global one of torch.

        Returns:
            Noisy measurements, of the shape of ``mean``.

        Raises:
            ValueError: If the settings do not fit the shape, or the number of generators is not B.
        """

    @abstractmethod
    def log_density(self, y: Tensor, mean: Tensor) -> Tensor:
        """Compute ln p(y_i | mean) of each entry, with all constants.

        Args:
            y: Measurements (B, ...).
            mean: Noiseless measurements A x (B, ...).

        Returns:
            Log-densities in nats, of the shape of y.

        Raises:
            ValueError: If the noise has no density of single entries.
        """

    def log_prob(self, y: Tensor, mean: Tensor) -> Tensor:
        """Compute ln p(y | mean) of each sample.

        Args:
            y: Measurements (B, ...).
            mean: Noiseless measurements A x (B, ...).

        Returns:
            Log-densities in nats, shape (B,).

        Raises:
            ValueError: If the noise has no density.
        """
        return self.log_density(y, mean).flatten(1).sum(1)

    def score(self, y: Tensor, mean: Tensor) -> Tensor:
        """Compute the gradient of ``log_prob`` with respect to the mean.

        It can be differentiated again where y or the mean requires a gradient.

        Args:
            y: Measurements (B, ...).
            mean: Noiseless measurements A x (B, ...).

        Returns:
            Gradient, of the shape of y.

        Raises:
            ValueError: If the noise has no density.
        """
        outer = torch.is_grad_enabled() and (mean.requires_grad or y.requires_grad)
        with torch.enable_grad():
            m = mean if outer and mean.requires_grad else mean.detach().requires_grad_()
            return torch.autograd.grad(
                self.log_prob(y, m).sum(), m, create_graph=outer, materialize_grads=True
            )[0]

    def covariance_matvec(self, mean: Tensor, v: Tensor) -> Tensor:
        """Multiply by the covariance Cov[y | mean], for a Gaussian approximation of this noise.

        Args:
            mean: Noiseless measurements A x (B, ...).
            v: Vectors (B, ...), of the shape of y.

        Returns:
            Products Cov[y | mean] v, of the shape of v.

        Raises:
            ValueError: If the noise has no capability "covariance".
        """
        raise ValueError(
            f"{type(self).__name__} has no Gaussian approximation; "
            "use a solver that needs only the score of the noise"
        )


def known_noises() -> list[type[Noise]]:
    """List every concrete class of noise, including those of users.

    Returns:
        Classes in the order of their definition.
    """
    return concrete(Noise)  # type: ignore[type-abstract]


def check_positive(value: float, name: str) -> None:
    """Check that a setting is positive and finite.

    Args:
        value: Value of the setting.
        name: Name of the setting in the message.

    Raises:
        ValueError: If the value is not a finite number above 0.
    """
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive, got {value}")
