r"""Speckle: the multiplicative noise of coherent imaging, as of radar, sonar and ultrasound.

An intensity that is averaged over L independent looks is

.. math:: y - \text{black} = (\text{mean} - \text{black})\, g, \qquad
          g \sim \mathrm{Gamma}(L, 1/L)

(Goodman 1976), with mean 1 and variance 1/L. Its logarithm has additive noise of the same law
everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from problems.checks import check_number
from problems.noise.base import Noise, check_positive
from problems.random_numbers import Generators

__all__ = ["SpeckleNoise"]

_LARGEST_BLACK = 1e15
_DARKEST = 2e-6  # intensity, so that likelihoods stay finite: 1e-6 of white on [-1, 1]


@dataclass(frozen=True, eq=False, repr=False)
class SpeckleNoise(Noise):
    """Multiplicative gamma noise of an intensity, y - black = (mean - black) Gamma(looks, 1/looks).

    An intensity below 2e-6 counts as 2e-6.

    Args:
        looks: Number of independent looks that are averaged, positive; it need not be whole.
        black: Value of y that stands for no light: -1 for pictures on [-1, 1], 0 for intensities.

    Raises:
        ValueError: If the looks are not positive or black is not finite.

    Example:
        >>> import torch
        >>> from problems import SpeckleNoise
        >>> noise = SpeckleNoise(looks=4.0)
        >>> noise.covariance_matvec(torch.zeros(1, 2), torch.ones(1, 2))
        tensor([[0.2500, 0.2500]])
    """

    looks: float
    black: float = -1.0

    def __post_init__(self) -> None:
        check_positive(self.looks, "the number of looks")
        check_number(self.black, "black", least=-_LARGEST_BLACK, most=_LARGEST_BLACK)

    @property
    def capabilities(self) -> frozenset[str]:
        """Names of the optional abilities, see ``Noise.capabilities``."""
        return frozenset({"covariance"})

    def _intensity(self, mean: Tensor) -> Tensor:
        return (mean - self.black).clamp_min(_DARKEST)

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
        return self.black + self._intensity(mean) * _gamma(mean, self.looks, generator)

    def log_density(self, y: Tensor, mean: Tensor) -> Tensor:
        """Compute ln p(y_i | mean) of each entry, with all constants.

        Args:
            y: Measurements (B, ...).
            mean: Noiseless measurements A x (B, ...).

        Returns:
            Log-densities in nats, of the shape of y; -inf where y is below black.
        """
        L, intensity, r = self.looks, self._intensity(mean), y - self.black
        # speckle may be exactly black in the precision of y, and stays finite then
        log_ratio = r.clamp_min(torch.finfo(r.dtype).tiny).log() - intensity.log()
        constant = L * math.log(L) - math.lgamma(L)
        density = (L - 1) * log_ratio - L * r / intensity - intensity.log() + constant
        return torch.where(r >= 0, density, -torch.inf)

    def covariance_matvec(self, mean: Tensor, v: Tensor) -> Tensor:
        """Multiply by the covariance, diagonal with (mean - black)^2 / looks.

        Args:
            mean: Noiseless measurements A x (B, ...).
            v: Vectors (B, ...), of the shape of y.

        Returns:
            Products Cov[y | mean] v, of the shape of v.
        """
        return self._intensity(mean).square() / self.looks * v


def _gamma(mean: Tensor, looks: float, generator: Generators) -> Tensor:
    """Draw Gamma(looks, 1 / looks) in the shape of a batch."""
    if isinstance(generator, Sequence):
        if len(generator) != len(mean):
            raise ValueError(f"{len(generator)} generators for {len(mean)} samples")
        rows = zip(mean, generator, strict=True)
        return torch.cat([_gamma(row[None], looks, one) for row, one in rows])
    device = generator.device if generator is not None else mean.device
    shape = torch.full(mean.shape, float(looks), dtype=torch.float64, device=device)
    return (torch._standard_gamma(shape, generator) / looks).to(mean)
