r"""Counting noise: photons, and photons read by an amplifier with noise of its own.

On [-1, 1] the light of a pixel is :math:`(\text{mean} + 1)/2`, and ``peak`` is the number of photons that white sends:

.. math:: k \sim \mathrm{Poisson}\bigl(\text{peak}\,(\text{mean} + 1)/2\bigr), \qquad y = 2k/\text{peak} - 1 .
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from problems.noise.base import Noise, check_positive
from problems.random_numbers import Generators, randn_like

__all__ = ["PoissonGaussianNoise", "PoissonNoise"]


_NEWTON = 30


def _photons(mean: Tensor, peak: float) -> Tensor:
    """The rate; light below black counts as a trace of it, so that a likelihood stays finite there."""
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


def _likeliest(rate: Tensor, read: Tensor, variance: float) -> Tensor:
    """The k that solves ln k + (k - read) / variance = ln rate: the likeliest number of photons, to within one, if ``read`` were counted.

    Newton's method in ln k, where the equation is increasing and convex: started above its root it descends to it.
    """
    log_k = torch.maximum(rate, read).log()
    for _ in range(_NEWTON):
        k = log_k.exp()
        log_k = log_k - (log_k - rate.log() + (k - read) / variance) / (1 + k / variance)
    return log_k.exp()


@dataclass(frozen=True, eq=False, repr=False)
class PoissonNoise(Noise):
    """peak: photons of a white pixel. The density is that of the count, a probability of each k."""

    peak: float

    def __post_init__(self) -> None:
        check_positive(self.peak, "the number of photons at white")

    def sample(self, mean: Tensor, generator: Generators = None) -> Tensor:
        return 2 * _counts(mean, self.peak, generator) / self.peak - 1

    def log_density(self, y: Tensor, mean: Tensor) -> Tensor:
        rate, k = _photons(mean, self.peak), (y + 1) / 2 * self.peak
        return torch.where(
            k > -1e-3, torch.xlogy(k, rate) - rate - torch.lgamma(k.clamp_min(0) + 1), -torch.inf
        )

    def covariance_matvec(self, mean: Tensor, v: Tensor) -> Tensor:
        return 4 * _photons(mean, self.peak) / self.peak**2 * v


@dataclass(frozen=True, eq=False, repr=False)
class PoissonGaussianNoise(Noise):
    """y = 2 k / peak - 1 + std * N(0, 1): a scientific camera. The density sums over the counts that can matter."""

    peak: float
    std: float

    _REACH = 8.0  # standard deviations

    def __post_init__(self) -> None:
        check_positive(self.peak, "the number of photons at white")
        check_positive(self.std, "the level of the read noise")

    def sample(self, mean: Tensor, generator: Generators = None) -> Tensor:
        return (
            2 * _counts(mean, self.peak, generator) / self.peak
            - 1
            + self.std * randn_like(mean, generator)
        )

    def log_density(self, y: Tensor, mean: Tensor) -> Tensor:
        """ln sum_k Poisson(k; rate) N(y; 2 k / peak - 1, std^2): all k within 8 deviations of the likeliest."""
        rate, read = _photons(mean, self.peak), (y + 1) / 2 * self.peak
        half = math.ceil(self._REACH * self.std * self.peak / 2) + 1
        nearest = _likeliest(rate.detach(), read.detach(), (self.std * self.peak / 2) ** 2).round()
        log_rate, total = rate.log(), torch.full_like(mean, -torch.inf)
        for offset in range(-half, half + 1):
            k = nearest + offset
            count = k * log_rate - rate - torch.lgamma(k.clamp_min(0) + 1)
            error = (2 * (read - k) / self.peak / self.std).square()
            total = torch.logaddexp(total, torch.where(k >= 0, count - 0.5 * error, -torch.inf))
        return total - math.log(self.std * math.sqrt(2 * math.pi))

    def covariance_matvec(self, mean: Tensor, v: Tensor) -> Tensor:
        return (4 * _photons(mean, self.peak) / self.peak**2 + self.std**2) * v
