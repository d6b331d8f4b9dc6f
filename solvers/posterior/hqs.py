r"""Plug-and-play restoration by half-quadratic splitting, and by the method of multipliers.

Both minimise :math:`-\ln p(y|x) + \lambda R(z)` with z = x, where the denoiser at noise s stands
for the proximal step of the prior's energy R (Venkatakrishnan et al. 2013). s falls from a level at
which the start is as good as noise to that of the measurement.

:class:`HQS` is DPIR (Zhang et al. 2021, "Plug-and-play image restoration with deep denoiser
prior"), with penalty :math:`\lambda/s^2`:

.. math:: x \leftarrow \arg\min_x -\ln p(y|x) + \tfrac{\lambda}{2 s^2}|x - z|^2,\qquad
          z \leftarrow D(x, s) .

:class:`PnPADMM` (Chan et al. 2017) adds a multiplier u, which sums up the disagreement of x and z:

.. math:: x \leftarrow \arg\min_x -\ln p(y|x) + \tfrac{\lambda}{2 s^2}|x - (z - u)|^2,\quad
          z \leftarrow D(x + u, s),\quad u \leftarrow u + x - z .

For a Gaussian prior D is the proximal step of :math:`R = -\ln p` exactly, and :math:`\lambda = 1`
gives the posterior mean: ADMM at any s, HQS as s goes to 0 slowly. Other :math:`\lambda` weight the
prior by :math:`\lambda`. The published 0.23 trusts the data more, since a denoised mean is smoother
than a proximal step of the energy of photographs would be.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from problems import InverseProblem
from problems.linalg.broadcast import expand_like
from scoresde.priors.base import Prior
from solvers.posterior.point import PointEstimator
from solvers.posterior.proximal import data_curvature, proximal_step
from solvers.posterior.records import Progress
from solvers.posterior.smooth import smooth_estimate
from solvers.presets import Preset
from solvers.samplers.grid import time_at
from solvers.scale import PHOTOGRAPHS, OfData

__all__ = ["HQS", "PnPADMM"]


@dataclass(frozen=True)
class _PlugAndPlay(PointEstimator):
    """Settings and loop that HQS and PnPADMM share; with u = 0 the second is the first.

    Args:
        steps: Number of steps, each with one network evaluation.
        lam: Weight lambda of the prior.
        s_max: First noise level, in the units of x, as s_min.
        s_min: Smallest last noise level; that of the measurement is used if it is larger.
        std: Standard deviation of the data, which the start assumes, in the units of x.

    Raises:
        ValueError: If steps is below 1, lam is not positive, std is not positive, or
            0 < s_min < s_max does not hold.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"vjp", "noise_covariance"})
    _multiplier: ClassVar[bool] = False

    steps: int = 8
    lam: float = 0.23
    s_max: float = 0.4
    s_min: float = 0.02
    std: float = PHOTOGRAPHS

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.lam > 0 or not (0 < self.s_min < self.s_max and self.std > 0):
            raise ValueError(
                f"{type(self).__name__} needs steps >= 1, lam > 0, 0 < s_min < s_max and "
                f"std > 0, got {self}"
            )

    def levels(self, measured: Tensor) -> Tensor:
        """Compute the noise levels of the steps, evenly spaced in their logarithm.

        Args:
            measured: Noise of the measurements in units of x, shape (B,).

        Returns:
            The levels, shape (steps, B), from s_max (or twice the last one, if that is larger) down
            to the noise of the measurement (or s_min, if that is larger).
        """
        last = measured.clamp_min(self.s_min)
        first = (2 * last).clamp_min(self.s_max)
        ramp = torch.linspace(0, 1, self.steps, dtype=last.dtype, device=last.device)[:, None]
        return torch.lerp(first.log(), last.log(), ramp).exp()

    def _estimate(
        self, prior: Prior, problem: InverseProblem, y: Tensor, progress: Progress
    ) -> Tensor:
        z = smooth_estimate(problem, y, problem.input_shape(y), std=self.std)
        u = torch.zeros_like(z)
        levels = self.levels(data_curvature(problem, z).rsqrt())
        for i, s in enumerate(levels):
            t = time_at(prior, s)
            x = proximal_step(problem, z - u, y, s**2 / self.lam)
            z = prior.denoise(expand_like(prior.sde.alpha(t), x) * (x + u), t)
            if self._multiplier:
                u = u + x - z
            progress((i + 1) / self.steps)
        return z


@dataclass(frozen=True)
class HQS(_PlugAndPlay):
    """Half-quadratic splitting with a denoiser (DPIR): a point estimate in few evaluations.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.2))
        >>> estimate = HQS().sample(prior, problem, torch.ones(1, 1, 2, 2))
        >>> estimate.nfe, estimate.std.isnan().all().item()
        (8, True)
    """

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        """Return the named settings of this solver.

        Returns:
            Name -> settings for photographs.
        """
        return {
            "hqs": Preset(
                "half-quadratic splitting (DPIR): one estimate in 8 evaluations, no draws",
                lambda steps: cls(steps, s_max=OfData(0.8), s_min=OfData(0.04), std=OfData(1.0)),
                steps=8,
            ),
        }


@dataclass(frozen=True)
class PnPADMM(_PlugAndPlay):
    """Plug-and-play ADMM: a point estimate that converges where half-quadratic splitting is slow.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(1.0))
        >>> y = torch.ones(1, 1, 2, 2)
        >>> estimate = PnPADMM(steps=40, lam=1.0).sample(prior, problem, y)
        >>> estimate.nfe, round(float(estimate.mean.mean()), 1)
        (40, 0.5)
    """

    _multiplier: ClassVar[bool] = True

    steps: int = 16
    lam: float = 0.7

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        """Return the named settings of this solver.

        Returns:
            Name -> settings for photographs.
        """
        return {
            "pnp-admm": Preset(
                "plug-and-play ADMM: one estimate in 16 evaluations, no draws; ahead of hqs where "
                "pixels are missing",
                lambda steps: cls(steps, s_max=OfData(0.8), s_min=OfData(0.04), std=OfData(1.0)),
                steps=16,
            ),
        }
