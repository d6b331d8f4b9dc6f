"""What exact denoisers of signals have in common: float64, one noise level at a time."""

from abc import abstractmethod

import torch
from torch import Tensor

from scoresde.priors.base import Prior

__all__ = ["SignalDenoiser"]


class SignalDenoiser(Prior):
    """Prior of signals with a known denoiser D(u, s) of u = x_0 + s n, in float64."""

    _lowest = torch.float64

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point dtype of the samples, float64."""
        return torch.float64

    @property
    def _needs_signal(self) -> bool:
        return True

    @abstractmethod
    def _mean(self, u: Tensor, s: float) -> Tensor:
        """Compute E[x_0 | x_0 + s n = u] for signals (B, n) and one noise level s > 0."""

    def _levels(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Signals with noise alone, u = x_t / alpha, and the noise s = sigma / alpha."""
        return x_t / self.sde.alpha(t)[:, None], self.sde.noise_to_signal(t)

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        u, levels = self._levels(x_t, t)
        distinct, which = levels.unique(return_inverse=True)
        D = torch.empty_like(u)
        for i, s in enumerate(distinct.tolist()):
            rows = which == i
            D[rows] = self._mean(u[rows], s) if s > 0 else u[rows]
        return D
