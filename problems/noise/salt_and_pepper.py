"""Salt-and-pepper noise: dead and hot pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from problems.checks import check_number
from problems.noise.base import Noise, check_level
from problems.random_numbers import Generators, rand_like, randn_like

__all__ = ["SaltAndPepperNoise"]


@dataclass(frozen=True, eq=False, repr=False)
class SaltAndPepperNoise(Noise):
    """Noise that replaces pixels by -1 or 1, with Gaussian noise on the others.

    The density is with respect to Lebesgue's measure plus an atom at each of -1 and 1. A pixel that
    is exactly -1 or 1 therefore carries no information about the mean. The density needs std > 0.

    Args:
        amount: Probability that a pixel is replaced; -1 and 1 are equally likely.
        std: Standard deviation of the noise of the other pixels, in units of the measurement; 0 for
            none.

    Raises:
        ValueError: If the amount is not in [0, 1], or std is negative or not finite.
    """

    amount: float
    std: float = 0.0

    def __post_init__(self) -> None:
        try:
            check_number(self.amount, "the amount", least=0, most=1)
        except ValueError:
            raise ValueError(
                f"the amount of salt and pepper must lie in [0, 1], got {self.amount!s:.80}"
            ) from None
        check_level(self.std)

    @property
    def capabilities(self) -> frozenset[str]:
        """Names of the optional abilities, see ``Noise.capabilities``."""
        return frozenset()

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
        u, n = rand_like(mean, generator), randn_like(mean, generator)
        y = mean + self.std * n
        return torch.where(u < self.amount / 2, -1.0, torch.where(u < self.amount, 1.0, y))

    def log_density(self, y: Tensor, mean: Tensor) -> Tensor:
        """Compute ln p(y_i | mean) of each entry, with all constants.

        Args:
            y: Measurements (B, ...).
            mean: Noiseless measurements A x (B, ...).

        Returns:
            Log-densities in nats, of the shape of y; log-probabilities where y is exactly -1 or 1.

        Raises:
            ValueError: If std is 0.
        """
        if self.std == 0:
            raise ValueError("a likelihood needs a noise level above 0")
        normal = -0.5 * ((y - mean) / self.std).square() - math.log(
            self.std * math.sqrt(2 * math.pi)
        )
        keep = math.log(1 - self.amount) if self.amount < 1 else -math.inf
        atom = math.log(self.amount / 2) if self.amount > 0 else -math.inf
        return torch.where(y.abs() == 1, torch.full_like(normal, atom) + 0 * mean, normal + keep)
