r"""Denoising score matching.

.. math:: L(\theta) = E_{x_0, \sigma, n}\ \lambda(\sigma)\, \|D_\theta(x_0 + \sigma n, \sigma) - x_0\|^2 / d,
    \quad \ln\sigma \sim N(m, s^2),\ \lambda = 1/c_{out}^2

(Vincent 2011; weights and noise levels of Karras et al. 2022, table 1). This is the plain squared
error of the raw network against the target :math:`(x_0 - c_{skip} x_\sigma)/c_{out}`, which has
unit variance at every level. Under another SDE the same network is used through its
signal-to-noise ratio, so one objective trains for all of them.
"""  # noqa: E501 (one equation)

from dataclasses import dataclass

import torch
from torch import Tensor

from problems.linalg.broadcast import expand_like
from scoresde.priors.score import ScorePrior

__all__ = ["NoiseLevels", "denoising_score_matching"]


@dataclass(frozen=True)
class NoiseLevels:
    """The log-normal distribution of training noise levels, clipped to [sigma_min, sigma_max].

    Args:
        mean: Mean of ln sigma.
        std: Standard deviation of ln sigma.
        sigma_min: Smallest noise level, a standard deviation on [-1, 1].
        sigma_max: Largest noise level.

    Example:
        >>> import torch
        >>> NoiseLevels().draw(4, torch.Generator().manual_seed(0)).shape
        torch.Size([4])
    """

    mean: float = -1.2
    std: float = 1.5
    sigma_min: float = 0.002
    sigma_max: float = 80.0

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
        x_0: Clean samples (B, ...) on [-1, 1].
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
