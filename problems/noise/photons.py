r"""Counts in physical units: of a detector, and of X-rays after the logarithm.

:class:`CountNoise` is for measurements that are zero without light, such as the photons of a
detector or of :class:`problems.Transmission`. For pictures on [-1, 1] see
:mod:`problems.noise.poisson`.

:class:`LogPoissonNoise` is for sinograms. A ray with the line integral p has
:math:`k \sim \mathrm{Poisson}(I_0 e^{-p})` photons, and the sinogram holds :math:`-\ln(k/I_0)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from problems.noise.base import Noise, check_level, check_positive
from problems.noise.counts import log_count_density
from problems.random_numbers import Generators, randn_like

__all__ = ["CountNoise", "LogPoissonNoise"]

_FEWEST = 1e-6  # mean count, so that likelihoods stay finite
_GROWTH = 30.0  # largest exponent of a count: line integrals below -30 count as -30
_NONE = 0.5  # count that stands for no photon, whose logarithm is infinite


def _poisson(rate: Tensor, generator: Generators) -> Tensor:
    if isinstance(generator, Sequence):
        if len(generator) != len(rate):
            raise ValueError(f"{len(generator)} generators for {len(rate)} samples")
        rows = zip(rate, generator, strict=True)
        return torch.cat([_poisson(row[None], one) for row, one in rows])
    device = generator.device if generator is not None else rate.device
    return torch.poisson(rate.to(device), generator).to(rate)


def _log_probability(k: Tensor, rate: Tensor) -> Tensor:
    """The log-probability of k, also between whole numbers; -inf for negative ones."""
    k_or_0 = k.clamp_min(0)
    value = torch.xlogy(k_or_0, rate) - rate - torch.lgamma(k_or_0 + 1)
    return torch.where(k > -1e-3, value, -torch.inf)


@dataclass(frozen=True, eq=False, repr=False)
class CountNoise(Noise):
    """Photon counts and read noise in the units of the detector, y = gain k + std N(0, 1).

    The count k is Poisson of mean ``mean / gain``; a mean count below 1e-6 counts as 1e-6. Without
    read noise the density is a probability of each k.

    Args:
        gain: Units of the measurement per photon; 1 if the measurement is the number of photons.
        std: Standard deviation of the read noise, in units of the measurement; 0 for none.

    Raises:
        ValueError: If the gain is not positive, or std is negative or not finite.

    Example:
        >>> import torch
        >>> from problems import CountNoise
        >>> noise = CountNoise()
        >>> noise.covariance_matvec(torch.tensor([[100.0, 400.0]]), torch.ones(1, 2))
        tensor([[100., 400.]])
        >>> noise.log_density(torch.tensor([[-1.0]]), torch.tensor([[3.0]]))
        tensor([[-inf]])
    """

    gain: float = 1.0
    std: float = 0.0

    def __post_init__(self) -> None:
        check_positive(self.gain, "the gain")
        check_level(self.std)

    @property
    def capabilities(self) -> frozenset[str]:
        """Names of the optional abilities, see ``Noise.capabilities``."""
        return frozenset({"covariance"})

    def _rate(self, mean: Tensor) -> Tensor:
        return (mean / self.gain).clamp_min(_FEWEST)

    def sample(self, mean: Tensor, generator: Generators = None) -> Tensor:
        """Draw y given its mean.

        Args:
            mean: Noiseless measurements A x (B, ...), zero without light.
            generator: One generator, one for each sample, or None for the global one of torch.

        Returns:
            Noisy measurements, of the shape of ``mean``.

        Raises:
            ValueError: If the number of generators is not B.
        """
        y = self.gain * _poisson(self._rate(mean), generator)
        return y + self.std * randn_like(mean, generator) if self.std else y

    def log_density(self, y: Tensor, mean: Tensor) -> Tensor:
        """Compute the log-probability of each count, or the log-density with read noise.

        With read noise it is computed in float64, see :mod:`problems.noise.counts`.

        Args:
            y: Measurements (B, ...).
            mean: Noiseless measurements A x (B, ...), zero without light.

        Returns:
            Log-densities in nats, of the shape of y; -inf for negative counts without read noise.
        """
        if not self.std:
            return _log_probability(y / self.gain, self._rate(mean))
        read = y.double() / self.gain
        total = log_count_density(read, self._rate(mean.double()), self.std / self.gain)
        return (total - math.log(self.gain)).to(torch.promote_types(y.dtype, mean.dtype))

    def covariance_matvec(self, mean: Tensor, v: Tensor) -> Tensor:
        """Multiply by the covariance, diagonal with gain mean + std^2.

        Args:
            mean: Noiseless measurements A x (B, ...), zero without light.
            v: Vectors (B, ...), of the shape of y.

        Returns:
            Products Cov[y | mean] v, of the shape of v.
        """
        return (self.gain**2 * self._rate(mean) + self.std**2) * v


@dataclass(frozen=True, eq=False, repr=False)
class LogPoissonNoise(Noise):
    """Noise of line integrals that were computed from counts, y = -ln(k / photons) / mu.

    The count k is Poisson of mean ``photons exp(-mu mean)``. The density is the probability of each
    k. A ray without a photon is written as half a photon, and y is read back like that.

    Args:
        photons: Mean count of a ray that meets nothing.
        mu: Line integral for each unit of the measurement; 1 if the measurement is the line
            integral itself, without unit.

    Raises:
        ValueError: If the photons or mu are not positive.

    Example:
        >>> import torch
        >>> from problems import LogPoissonNoise
        >>> noise = LogPoissonNoise(photons=1e4)
        >>> noise.covariance_matvec(torch.zeros(1, 2), torch.ones(1, 2))
        tensor([[1.0000e-04, 1.0000e-04]])
    """

    photons: float
    mu: float = 1.0

    def __post_init__(self) -> None:
        check_positive(self.photons, "the number of photons")
        check_positive(self.mu, "mu")

    @property
    def capabilities(self) -> frozenset[str]:
        """Names of the optional abilities, see ``Noise.capabilities``."""
        return frozenset({"covariance"})

    def _count(self, integral: Tensor) -> Tensor:
        return self.photons * (-self.mu * integral).clamp_max(_GROWTH).exp()

    def _rate(self, mean: Tensor) -> Tensor:
        return self._count(mean).clamp_min(_FEWEST)

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
        k = _poisson(self._rate(mean), generator).clamp_min(_NONE)
        return -(k / self.photons).log() / self.mu

    def log_density(self, y: Tensor, mean: Tensor) -> Tensor:
        """Compute the log-probability of the count of each entry.

        Args:
            y: Measurements (B, ...).
            mean: Noiseless measurements A x (B, ...).

        Returns:
            Log-probabilities in nats, of the shape of y.
        """
        k = self._count(y)
        k = torch.where(k < (_NONE + 1) / 2, torch.zeros_like(k), k)
        return _log_probability(k, self._rate(mean))

    def covariance_matvec(self, mean: Tensor, v: Tensor) -> Tensor:
        """Multiply by the variance of many photons, exp(mu mean) / (photons mu^2) on the diagonal.

        It is the variance of the count over the square of its mean and of mu, to first order. The
        next order is smaller by the mean count.

        Args:
            mean: Noiseless measurements A x (B, ...).
            v: Vectors (B, ...), of the shape of y.

        Returns:
            Products, of the shape of v.
        """
        return v / (self._rate(mean) * self.mu**2)
