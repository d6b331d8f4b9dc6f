r"""Heun's method on the probability-flow ODE (Karras et al. 2022, algorithm 1).

In :math:`u = x_t/\alpha_t` and :math:`s = \sigma_t/\alpha_t` the ODE of every SDE is :math:`du/ds = (u - D(u, s))/s`. Each step is an Euler
step corrected by the slope at its end; the last step, to s = 0, is Euler's, which returns the denoiser.
"""

from dataclasses import dataclass

from torch import Tensor

from scoresde.prior import Prior
from solvers.noise import Noise
from solvers.samplers.base import Callback, Sampler

__all__ = ["Heun"]


@dataclass(frozen=True)
class Heun(Sampler):
    """NFE = 2 steps - 1. Deterministic given the start."""

    def _run(self, prior: Prior, x_t: Tensor, times: Tensor, noise: Noise, callback: Callback | None) -> Tensor:
        sde = prior.sde
        u, x0_hat = x_t / sde.alpha(times[0]), x_t
        for i, t in enumerate(times):
            s = sde.noise_to_signal(t)
            x0_hat = prior.denoise(sde.alpha(t) * u, t)
            if i + 1 == len(times):
                u = x0_hat
            else:
                t_next = times[i + 1]
                s_next = sde.noise_to_signal(t_next)
                slope = (u - x0_hat) / s
                euler = u + (s_next - s) * slope
                slope_next = (euler - prior.denoise(sde.alpha(t_next) * euler, t_next)) / s_next
                u = u + (s_next - s) * (slope + slope_next) / 2
            if callback:
                callback(i + 1, len(times), u if i + 1 == len(times) else sde.alpha(times[i + 1]) * u, x0_hat)
        return u
