r"""Denoising score matching.

.. math:: L(\theta) = E_{x_0, \sigma, n}\ \lambda(\sigma)\, \|D_\theta(x_0 + \sigma n, \sigma) - x_0\|^2 / d,
    \quad \ln\sigma \sim N(m, s^2),\ \lambda = 1/c_{out}^2

(Vincent 2011; weights and noise levels of Karras et al. 2022, table 1). This is the plain squared
error of the raw network against the target :math:`(x_0 - c_{skip} x_\sigma)/c_{out}`, which has
unit variance at every level. Under another SDE the same network is used through its
signal-to-noise ratio, so one objective trains for all of them. Other weights :math:`\lambda` are
factors of this error (:func:`loss_weight`).
"""  # noqa: E501 (one equation)

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from problems.checks import check_choice
from problems.linalg.broadcast import expand_like
from scoresde.priors.score import ScorePrior
from scoresde.training.checks import check_number

__all__ = ["WEIGHTINGS", "NoiseLevels", "denoising_score_matching", "loss_weight"]

WEIGHTINGS = ("edm", "min-snr", "likelihood")
"""Names of the weights of the noise levels in the loss."""

MIN_SNR_GAMMA = 5.0
"""Largest weight of min-SNR (Hang et al. 2023)."""


@dataclass(frozen=True)
class NoiseLevels:
    """The log-normal distribution of training noise levels, clipped to [sigma_min, sigma_max].

    Args:
        mean: Mean of ln sigma.
        std: Standard deviation of ln sigma.
        sigma_min: Smallest noise level, a standard deviation in the units of the data.
        sigma_max: Largest noise level.

    Raises:
        ValueError: If a number is not finite, a standard deviation is not positive, or the range is
            empty.

    Example:
        >>> import torch
        >>> NoiseLevels().draw(4, torch.Generator().manual_seed(0)).shape
        torch.Size([4])
    """

    mean: float = -1.2
    std: float = 1.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        check_number("the mean of the noise levels' logarithm", self.mean)
        check_number("the std of the noise levels' logarithm", self.std, above=0)
        check_number("the smallest noise level", self.sigma_min, above=0)
        check_number("the largest noise level", self.sigma_max, above=0)
        if not self.sigma_min < self.sigma_max:
            raise ValueError(
                "the range of noise levels must be MIN,MAX with MIN below MAX, "
                f"got {self.sigma_min:g},{self.sigma_max:g}"
            )

    def scaled(self, factor: float) -> "NoiseLevels":
        """Change the units of the noise levels.

        Args:
            factor: Size of the old unit in new ones, above 0.

        Returns:
            The same levels in the new units.

        Example:
            Levels that are to data of standard deviation 3 what the default is to pictures:

            >>> levels = NoiseLevels().scaled(3 / 0.5)
            >>> levels.sigma_min, levels.sigma_max
            (0.012, 480.0)
        """
        check_number("the factor of the noise levels", factor, above=0)
        return NoiseLevels(
            self.mean + math.log(factor),
            self.std,
            self.sigma_min * factor,
            self.sigma_max * factor,
        )

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw noise levels, one in each n-th of the distribution.

        Stratification lowers the variance of the loss (Kingma et al. 2021).

        Args:
            n: Number of levels.
            generator: Source of the random numbers.

        Returns:
            Noise levels, shape (n,), float32.
        """
        u = (torch.arange(n) + torch.rand(n, generator=generator)) / n
        log_sigma = self.mean + self.std * torch.special.ndtri(u.clamp(1e-6, 1 - 1e-6))
        return log_sigma.exp().clamp(self.sigma_min, self.sigma_max)


def denoising_score_matching(
    prior: ScorePrior, x_0: Tensor, sigma: Tensor, noise: Tensor
) -> Tensor:
    """Compute the weighted loss of each sample.

    Args:
        prior: Network to be trained.
        x_0: Clean samples (B, ...).
        sigma: Noise levels (B,).
        noise: Standard normal numbers (B, ...).

    Returns:
        Loss of each sample, shape (B,).
    """
    s = expand_like(sigma, x_0)
    c_skip, c_out = (expand_like(c, x_0) for c in prior.preconditioning(sigma)[:2])
    x_sigma = x_0 + s * noise
    target = (x_0 - c_skip * x_sigma) / c_out
    return (prior.network_output(x_sigma, sigma) - target).square().flatten(1).mean(1)


def loss_weight(
    weighting: str, sigma: Tensor, noise: NoiseLevels, sigma_data: float = 0.5
) -> Tensor:
    r"""Compute the factor of :func:`denoising_score_matching` for a weighting of the noise levels.

    For a weight :math:`\lambda(\sigma)` of the squared error of :math:`x_0` it is
    :math:`\lambda c_{out}^2`, with :math:`c_{out}^2 = \sigma^2\sigma_d^2/(\sigma^2 + \sigma_d^2)`,
    over its mean under the distribution of the noise levels, so that learning rates carry over.

    - "edm": :math:`\lambda = 1/c_{out}^2` (Karras et al. 2022).
    - "min-snr": :math:`\lambda = \min(1/\sigma^2, 5)`, the signal-to-noise ratio of a process
      without scaling, cut off (Hang et al. 2023).
    - "likelihood": :math:`\lambda = 1/(\sigma^2 p(\ln\sigma))` with the density p from which
      :math:`\ln\sigma` is drawn. The mean over the levels is the integral of
      :math:`\|D - x_0\|^2/\sigma^2\,d\ln\sigma`, that is, of the error of the score times
      :math:`g(t)^2`, which bounds the likelihood (Song, Durkan, Murray and Ermon 2021). Levels that
      were clipped to an end of the range do not count, for they have no density. Levels far from
      the mean are rare and count much: draw them from a wide distribution.

    Args:
        weighting: One of ``WEIGHTINGS``.
        sigma: Noise levels, any shape.
        noise: Their distribution.
        sigma_data: Standard deviation of the data.

    Returns:
        Factors of mean 1, shape of sigma.

    Raises:
        ValueError: If the weighting is unknown.

    Example:
        >>> import torch
        >>> loss_weight("edm", torch.tensor([0.1, 1.0]), NoiseLevels())
        tensor([1., 1.])
    """
    check_choice("weighting", weighting, WEIGHTINGS)
    if weighting == "edm":
        return torch.ones_like(sigma)
    return _factor(weighting, sigma, noise, sigma_data) / _mean_factor(weighting, noise, sigma_data)


def _factor(weighting: str, sigma: Tensor, noise: NoiseLevels, sigma_data: float) -> Tensor:
    """The factor lambda c_out^2 before it is divided by its mean."""
    shape = sigma_data**2 / (sigma**2 + sigma_data**2)  # c_out^2 / sigma^2
    if weighting == "min-snr":
        return (MIN_SNR_GAMMA * sigma**2).clamp(max=1.0) * shape
    z = (sigma.log() - noise.mean) / noise.std
    density = torch.exp(-0.5 * z**2) / (noise.std * math.sqrt(2 * math.pi))
    inside = (sigma > noise.sigma_min) & (sigma < noise.sigma_max)
    return torch.where(inside, shape / density, 0.0)


@lru_cache
def _mean_factor(weighting: str, noise: NoiseLevels, sigma_data: float) -> float:
    """The mean of the factor over the noise levels."""
    if weighting == "likelihood":  # the integral of c_out^2 / sigma^2 over ln sigma
        ratios = (s**2 / (s**2 + sigma_data**2) for s in (noise.sigma_min, noise.sigma_max))
        low, high = ratios
        return 0.5 * math.log(high / low)
    n = 20_000  # levels in the middles of as many equal parts of the distribution
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    sigma = (noise.mean + noise.std * torch.special.ndtri(u)).exp()
    sigma = sigma.clamp(noise.sigma_min, noise.sigma_max)
    return float(_factor(weighting, sigma, noise, sigma_data).mean())
