"""A prior as a function of x_0 plus noise of a given level, whatever its SDE."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.priors.base import Prior

__all__ = ["Denoiser", "noise_levels"]


@dataclass(frozen=True)
class Denoiser:
    """The denoiser D(u, s) = E[x_0 | u] for u = x_0 + s n, computed by a prior of any SDE.

    Args:
        prior: Prior to evaluate.

    Example:
        >>> import torch
        >>> from scoresde import GaussianPrior, VPSDE
        >>> denoiser = Denoiser(GaussianPrior(torch.zeros(2), torch.eye(2), VPSDE()))
        >>> denoiser(torch.ones(1, 2), 1.0)
        tensor([[0.5000, 0.5000]])
    """

    prior: Prior

    def knows(self, s: float) -> bool:
        """Say whether the SDE of the prior reaches a noise level.

        Args:
            s: Standard deviation of the noise, in the units of the data.

        Returns:
            True up to the level of ``t_max``. Below that of ``t_min`` also where the time is in
            the domain of the SDE: networks are told such levels, too.
        """
        return 0 < s <= self.ends()[1] * (1 + 1e-6) and self._time(s) >= self.prior.sde.domain[0]

    def _time(self, s: float) -> float:
        time = self.prior.sde.t_from_noise_to_signal(torch.tensor(s, dtype=torch.float64))
        return min(float(time), self.prior.sde.t_max)  # rounding must not exceed it

    def ends(self) -> tuple[float, float]:
        """Compute the smallest and the largest noise level of the SDE.

        Returns:
            Noise-to-signal ratios at ``t_min`` and ``t_max``; the largest may be infinite.
        """
        sde = self.prior.sde
        ends = torch.tensor([sde.t_min, sde.t_max], dtype=torch.float64)
        low, high = sde.noise_to_signal(ends).tolist()
        return low, high if math.isfinite(high) else math.inf

    def __call__(self, u: Tensor, s: float) -> Tensor:
        """Denoise.

        Args:
            u: Noisy samples x_0 + s n, shape (B, ...), in the dtype of the prior.
            s: Standard deviation of the noise.

        Returns:
            The denoised samples, shape of u.
        """
        sde = self.prior.sde
        t = self._time(s)
        D: Tensor = self.prior.denoise(float(sde.alpha(torch.tensor(t).double())) * u, t)
        return D


def noise_levels(denoiser: Denoiser, scale: float, count: int = 13) -> list[float]:
    """Choose the noise levels at which a prior is examined.

    They are evenly spaced in the logarithm, from 0.02 to 160 standard deviations of the data (0.01
    to 80 for pictures, the range of Karras et al. 2022), as far as the SDE of the prior goes.

    Args:
        denoiser: Prior.
        scale: Standard deviation of the data.
        count: Number of levels.

    Returns:
        Standard deviations of the noise, increasing.

    Raises:
        ValueError: If the SDE has none of these levels.

    Example:
        >>> import torch
        >>> from scoresde import EDMSDE, GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(2), torch.eye(2), EDMSDE(sigma_max=10.0))
        >>> [round(s, 3) for s in noise_levels(Denoiser(prior), scale=1.0, count=3)]
        [0.02, 0.447, 10.0]
    """
    first, last = denoiser.ends()
    low, high = max(first, 0.02 * scale), min(last, 160 * scale)
    if not low < high:
        raise ValueError(
            f"the noise levels of the prior run from {first:.3g} to {last:.3g}, which does not "
            f"suit samples with a standard deviation of {scale:.3g}; check their units"
        )
    step = (high / low) ** (1 / (count - 1))
    return [low * step**k for k in range(count - 1)] + [high]
