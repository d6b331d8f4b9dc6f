r"""DDRM and DDNM+: diffusion in the basis of singular vectors.

In :math:`u = x_t/\alpha_t`, :math:`s = \sigma_t/\alpha_t` and the coefficients :math:`\bar u = V^T u`, the measurement is
:math:`\bar y_i = (U^T y)_i/s_i`, which tells :math:`\bar x_i` to within :math:`\tau_i = \sigma_y/s_i`. What A cannot see
(:math:`s_i = 0`, and all that V does not span) follows DDIM with noise eta. Neither is exact for any prior: the measured coefficients
are steered by y and the denoiser's mean, and do not tell the others how much was learnt.
"""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from solvers.capabilities import Exactness
from solvers.posterior.base import IndependentSampler
from solvers.posterior.records import Run
from solvers.presets import RESTORATION_GRID, Preset
from solvers.samplers.grid import TimeGrid

__all__ = ["DDNM", "DDRM"]


@dataclass(frozen=True)
class _Spectral(IndependentSampler):
    exactness: ClassVar[Exactness] = "heuristic"
    requires: ClassVar[frozenset[str]] = frozenset({"linear", "adjoint", "gaussian_noise"})

    steps: int = 20
    eta: float = 0.85
    grid: TimeGrid = field(default_factory=TimeGrid)

    def __post_init__(self) -> None:
        if self.steps < 1 or not 0 <= self.eta <= 1:
            raise ValueError(
                f"steps must be at least 1 and eta in [0, 1], got {self.steps} and {self.eta}"
            )

    @torch.no_grad()
    def _draw(self, run: Run) -> tuple[Tensor, int]:
        prior, problem, y = run.prior, run.problem, run.y
        sde = prior.sde
        svd = problem.linear_operator.svd(run.shape[1:], y)
        seen = svd.s > 1e-6 * svd.s.max()
        tau = torch.where(
            seen, problem.noise_variance**0.5 / torch.where(seen, svd.s, 1), torch.inf
        )
        y_bar = torch.where(seen, svd.Ut(y) / torch.where(seen, svd.s, 1), 0)
        times, levels = self.grid.along(prior, self.steps)
        z = run.randn()
        z_bar = svd.Vt(z)
        known = seen & (tau < levels[0])
        start = torch.where(
            known,
            y_bar + (levels[0] ** 2 - tau.clamp_max(levels[0]) ** 2).sqrt() * z_bar,
            levels[0] * z_bar,
        )
        u = levels[0] * z + svd.V(start - levels[0] * z_bar)
        for i, t in enumerate(times):
            s, s_next = levels[i], levels[i + 1]
            D = prior.denoise(sde.alpha(t) * u, t)
            z = run.randn()
            free = D + (1 - self.eta**2) ** 0.5 * s_next / s * (u - D) + self.eta * s_next * z
            steered = self._steer(svd.Vt(D), svd.Vt(u), y_bar, tau, s, s_next, svd.Vt(z))
            u = free + svd.V(torch.where(seen, steered - svd.Vt(free), 0))
            run.progress((i + 1) / len(times))
        return u, 0

    @abstractmethod
    def _steer(
        self, D: Tensor, u: Tensor, y: Tensor, tau: Tensor, s: float, s_next: float, z: Tensor
    ) -> Tensor:
        """The measured coefficients at the next level."""


@dataclass(frozen=True)
class DDRM(_Spectral):
    """Denoising diffusion restoration models (Kawar et al. 2022, eqs. 7 and 8): eta .85, eta_b 1, 20 steps as published."""

    eta_b: float = 1.0

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        return {
            "ddrm": Preset(
                "diffusion in the basis of singular vectors; fast, where the measurement has an svd",
                lambda steps: cls(steps, grid=RESTORATION_GRID),
                steps=20,
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        return {"ddrm": cls()}

    def _steer(
        self, D: Tensor, u: Tensor, y: Tensor, tau: Tensor, s: float, s_next: float, z: Tensor
    ) -> Tensor:
        below = (
            D
            + (1 - self.eta**2) ** 0.5 * s_next * (y - D) / tau.clamp_min(1e-30)
            + self.eta * s_next * z
        )
        spread = (s_next**2 - (self.eta_b * tau).clamp_max(1e30) ** 2).clamp_min(0).sqrt()
        above = (1 - self.eta_b) * D + self.eta_b * y + spread * z
        return torch.where(tau > s_next, below, above)


@dataclass(frozen=True)
class DDNM(_Spectral):
    r"""Denoising diffusion null-space models with noise, DDNM+ (Wang, Yu and Zhang 2023, section 3.3): the estimate's measured coefficients
    are replaced by y's, as far as the noise of the step (a share eta of it) can hide the noise that y brings along.

    Where it cannot, y has the share :math:`(\eta s/\tau_i)^\mathrm{power}`. Published is power = 1, by which y's noise
    takes the place of the step's whole noise. But it is the same at every step, so in the coefficients that y tells little of it adds up: a
    blurred photograph comes back at 14 dB instead of 25. power = 2 is about the precision of y against that of the estimate.
    """

    steps: int = 100
    power: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.power >= 1:
            raise ValueError(f"power must be at least 1, got {self.power}")

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        return {
            "ddnm": Preset(
                "the range of the measurement replaced at each step (svd); no products; good around holes",
                lambda steps: cls(steps, eta=1.0, grid=RESTORATION_GRID),
                steps=30,
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        return {"ddnm": cls()}

    def _steer(
        self, D: Tensor, u: Tensor, y: Tensor, tau: Tensor, s: float, s_next: float, z: Tensor
    ) -> Tensor:
        share = (self.eta * s_next / tau.clamp_min(1e-30)).clamp_max(1) ** self.power
        x0_hat = D + share * (y - D)
        fresh = ((self.eta * s_next) ** 2 - (share * tau).nan_to_num(0) ** 2).clamp_min(0).sqrt()
        return x0_hat + (1 - self.eta**2) ** 0.5 * s_next / s * (u - D) + fresh * z
