r"""Heun's method with churn (Karras et al. 2022, algorithms 1 and 2).

In :math:`u = x_t/\alpha_t` and :math:`s = \sigma_t/\alpha_t` the probability-flow ODE of every SDE
is :math:`du/ds = (u - D(u, s))/s`. Each step is an Euler step corrected by the slope at its end;
the last step, to s = 0, is an Euler step, which returns the denoised estimate. Churn adds noise
before each step, from s to :math:`\hat s = (1 + \gamma)s`, which reduces the errors of earlier
steps.
"""

import math
from dataclasses import dataclass

from torch import Tensor

from problems.checks import check_number
from scoresde.priors.base import Prior
from solvers.samplers.base import Callback, Sampler
from solvers.streams import NormalStream

__all__ = ["Heun"]

_LOUDEST = 1e6  # factor of the noise that is added


@dataclass(frozen=True)
class Heun(Sampler):
    r"""Heun's method; NFE = 2 steps - 1. Deterministic given the start unless churn > 0.

    Args:
        steps: Number of points of the time grid, at least 1.
        grid: Time grid.
        start: Law of the first state, "noise" or "mean", see :class:`Sampler`.
        churn: :math:`S_{churn}`, not negative. The noise grows by the factor :math:`1 + \gamma`
            before each step, with :math:`\gamma = \min(S_{churn}/n, \sqrt2 - 1)` where
            churn_min <= s <= churn_max, else 0.
        churn_min: Smallest noise-to-signal ratio s at which noise is added.
        churn_max: Largest noise-to-signal ratio s at which noise is added.
        churn_noise: :math:`S_{noise}`, the standard deviation of the noise that churn adds; 1
            keeps the marginals right.

    Raises:
        ValueError: If steps < 1, the start is unknown, churn or churn_noise is negative, or
            0 <= churn_min <= churn_max does not hold.

    Example:
        >>> import torch
        >>> from scoresde import GaussianPrior
        >>> from solvers import Heun
        >>> prior = GaussianPrior(torch.full((1,), 3.0), 0.01 * torch.eye(1))
        >>> x = Heun(steps=20, churn=2.0).sample(prior, 500, generator=torch.manual_seed(0))
        >>> round(float(x.mean()), 1), round(float(x.std()), 1)
        (3.0, 0.1)
    """

    churn: float = 0.0
    churn_min: float = 0.0
    churn_max: float = math.inf
    churn_noise: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            check_number(self.churn, "churn", least=0)
            check_number(self.churn_noise, "churn_noise", least=0, most=_LOUDEST)
            check_number(self.churn_min, "churn_min", least=0)
            if self.churn_max != math.inf:
                check_number(self.churn_max, "churn_max", least=self.churn_min)
        except ValueError:
            raise ValueError(
                f"churn must not be negative, and churn_min not above churn_max, got {self}"
            ) from None

    def _run(
        self,
        prior: Prior,
        x_t: Tensor,
        times: Tensor,
        noise: NormalStream,
        callback: Callback | None,
    ) -> Tensor:
        sde = prior.sde
        u, x0_hat = x_t / sde.alpha(times[0]), x_t
        s_limit = sde.noise_to_signal(times[0])
        gamma = min(self.churn / len(times), math.sqrt(2) - 1)
        for i, time in enumerate(times):
            t, s = time, sde.noise_to_signal(time)
            if gamma > 0 and self.churn_min <= float(s) <= self.churn_max:
                s_hat = ((1 + gamma) * s).minimum(s_limit)  # the SDE ends there
                z = noise(tuple(u.shape), u.dtype, u.device)
                u = u + self.churn_noise * (s_hat**2 - s**2).clamp_min(0).sqrt() * z
                s, t = s_hat, sde.t_from_noise_to_signal(s_hat)
            x_t = sde.alpha(t) * u
            x0_hat = prior.denoise(x_t, t)
            if callback:
                callback(i + 1, len(times), t, x_t, x0_hat)
            if i + 1 < len(times):
                t_next = times[i + 1]
                s_next = sde.noise_to_signal(t_next)
                slope = (u - x0_hat) / s
                euler = u + (s_next - s) * slope
                slope_next = (euler - prior.denoise(sde.alpha(t_next) * euler, t_next)) / s_next
                u = u + (s_next - s) * (slope + slope_next) / 2
        return x0_hat
