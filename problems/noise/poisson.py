r"""Photon-counting noise, with and without the Gaussian read noise of an amplifier.

On [-1, 1] the light of a pixel is :math:`(\text{mean} + 1)/2`, and ``peak`` is the mean number of
photons of a white pixel:

.. math::

    k \sim \mathrm{Poisson}\bigl(\text{peak}\,(\text{mean} + 1)/2\bigr), \qquad
    y = 2k/\text{peak} - 1 .
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from problems.noise.base import Noise, check_positive
from problems.noise.counts import log_count_density
from problems.random_numbers import Generators, randn_like

__all__ = ["PoissonGaussianNoise", "PoissonNoise"]


def _photons(mean: Tensor, peak: float) -> Tensor:
    """Compute the mean count; light is at least 1e-6 of white, so that likelihoods stay finite."""
    return peak * ((mean + 1) / 2).clamp_min(1e-6)


def _counts(mean: Tensor, peak: float, generator: Generators) -> Tensor:
    if isinstance(generator, Sequence):
        if len(generator) != len(mean):
            raise ValueError(f"{len(generator)} generators for {len(mean)} samples")
        return torch.cat(
            [_counts(row[None], peak, one) for row, one in zip(mean, generator, strict=True)]
        )
    device = generator.device if generator is not None else mean.device
    return torch.poisson(_photons(mean, peak).to(device), generator).to(mean)


@dataclass(frozen=True, eq=False, repr=False)
class PoissonNoise(Noise):
    """Poisson noise of photon counts, y = 2 k / peak - 1.

    The density is that of the count: a probability of each k.

    Args:
        peak: Mean number of photons of a white pixel.

    Raises:
        ValueError: If the peak is not positive.

    Example:
        >>> import torch
        >>> from problems import PoissonNoise
        >>> noise = PoissonNoise(peak=100.0)
        >>> noise.covariance_matvec(torch.zeros(1, 2), torch.ones(1, 2))
        tensor([[0.0200, 0.0200]])
    """

    peak: float

    def __post_init__(self) -> None:
        check_positive(self.peak, "the number of photons at white")

    @property
    def capabilities(self) -> frozenset[str]:
        """Names of the optional abilities, see ``Noise.capabilities``."""
        return frozenset({"covariance"})

    def sample(self, mean: Tensor, generator: Generators = None) -> Tensor:
        """Draw y given its mean.

        Args:
            mean: Noiseless measurements A x (B, ...) on [-1, 1].
            generator: One generator, one for each sample, or None for the global one of torch.

        Returns:
            Noisy measurements, of the shape of ``mean``.

        Raises:
            ValueError: If the number of generators is not B.
        """
        return 2 * _counts(mean, self.peak, generator) / self.peak - 1

    def log_density(self, y: Tensor, mean: Tensor) -> Tensor:
        """Compute the log-probability of the count of each entry.

        Args:
            y: Measurements (B, ...).
            mean: Noiseless measurements A x (B, ...) on [-1, 1].

        Returns:
            Log-probabilities in nats, of the shape of y; -inf for negative counts.
        """
        rate, k = _photons(mean, self.peak), (y + 1) / 2 * self.peak
        return torch.where(
            k > -1e-3, torch.xlogy(k, rate) - rate - torch.lgamma(k.clamp_min(0) + 1), -torch.inf
        )

    def covariance_matvec(self, mean: Tensor, v: Tensor) -> Tensor:
        """Multiply by the covariance, diagonal with 2 (mean + 1) / peak.

        Args:
            mean: Noiseless measurements A x (B, ...) on [-1, 1].
            v: Vectors (B, ...), of the shape of y.

        Returns:
            Products Cov[y | mean] v, of the shape of v.
        """
        return 4 * _photons(mean, self.peak) / self.peak**2 * v


@dataclass(frozen=True, eq=False, repr=False)
class PoissonGaussianNoise(Noise):
    """Noise of a scientific camera: photon counts plus Gaussian read noise.

    y = 2 k / peak - 1 + std * N(0, 1). The density sums over the counts that contribute.

    Args:
        peak: Mean number of photons of a white pixel.
        std: Standard deviation of the read noise, in units of the measurement ([-1, 1]).

    Raises:
        ValueError: If the peak or the standard deviation is not positive.

    Example:
        >>> import torch
        >>> from problems import PoissonGaussianNoise
        >>> noise = PoissonGaussianNoise(peak=100.0, std=0.1)
        >>> noise.covariance_matvec(torch.zeros(1, 2), torch.ones(1, 2))
        tensor([[0.0300, 0.0300]])
    """

    peak: float
    std: float

    def __post_init__(self) -> None:
        check_positive(self.peak, "the number of photons at white")
        check_positive(self.std, "the level of the read noise")

    @property
    def capabilities(self) -> frozenset[str]:
        """Names of the optional abilities, see ``Noise.capabilities``."""
        return frozenset({"covariance"})

    def sample(self, mean: Tensor, generator: Generators = None) -> Tensor:
        """Draw y given its mean.

        Args:
            mean: Noiseless measurements A x (B, ...) on [-1, 1].
            generator: One generator, one for each sample, or None for the global one of torch.

        Returns:
            Noisy measurements, of the shape of ``mean``.

        Raises:
            ValueError: If the number of generators is not B.
        """
        return (
            2 * _counts(mean, self.peak, generator) / self.peak
            - 1
            + self.std * randn_like(mean, generator)
        )

    def log_density(self, y: Tensor, mean: Tensor) -> Tensor:
        """Compute ln sum_k Poisson(k; rate) N(y; 2 k / peak - 1, std^2) of each entry.

        It is computed in float64, in a time that does not grow with the peak or with std, see
        :mod:`problems.noise.counts`.

        Args:
            y: Measurements (B, ...).
            mean: Noiseless measurements A x (B, ...) on [-1, 1].

        Returns:
            Log-densities in nats, of the shape of y.
        """
        rate, read = _photons(mean.double(), self.peak), (y.double() + 1) / 2 * self.peak
        total = log_count_density(read, rate, self.std * self.peak / 2)
        return (total + math.log(self.peak / 2)).to(torch.promote_types(y.dtype, mean.dtype))

    def covariance_matvec(self, mean: Tensor, v: Tensor) -> Tensor:
        """Multiply by the covariance, diagonal with 2 (mean + 1) / peak + std^2.

        Args:
            mean: Noiseless measurements A x (B, ...) on [-1, 1].
            v: Vectors (B, ...), of the shape of y.

        Returns:
            Products Cov[y | mean] v, of the shape of v.
        """
        return (4 * _photons(mean, self.peak) / self.peak**2 + self.std**2) * v
