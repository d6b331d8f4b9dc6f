r"""DiffPIR (Zhu et al. 2023, "Denoising diffusion models for plug-and-play image restoration", algorithm 1).

Half-quadratic splitting inside DDIM: denoise, pull the estimate towards the measurement by a proximal step, add the noise of the next level
back, a share zeta of it fresh:

.. math:: \hat x_0 = \arg\min_x \tfrac12\|y - A x\|^2 + \tfrac{\rho_t}{2}\|x - D(x_t)\|^2,\quad \rho_t = \lambda\sigma_y^2/s_t^2

.. math:: x_s = \alpha_s\hat x_0 + \sigma_s(\sqrt{1-\zeta}\,\hat\varepsilon + \sqrt{\zeta}\,z),\quad
          \hat\varepsilon = (x_t - \alpha_t\hat x_0)/\sigma_t .

The prox takes :math:`x_0|x_t` to have variance :math:`s^2/\lambda` everywhere, and the noise estimate ignores that :math:`\hat x_0` is a
mean: the draws are not posterior draws even for a Gaussian prior.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from solvers.capabilities import Exactness
from solvers.posterior.base import IndependentSampler
from solvers.posterior.records import Run
from solvers.presets import RESTORATION_GRID, Preset
from solvers.samplers.grid import TimeGrid

__all__ = ["DiffPIR"]


@dataclass(frozen=True)
class DiffPIR(IndependentSampler):
    """lam: weight of the denoiser against the data, 1 to 15 in the paper. zeta: share of fresh noise, .1 to .3 there. NFE = steps."""

    exactness: ClassVar[Exactness] = "heuristic"
    requires: ClassVar[frozenset[str]] = frozenset({"linear", "adjoint", "solve", "gaussian_noise"})

    steps: int = 100
    lam: float = 8.0
    zeta: float = 0.3
    grid: TimeGrid = field(default_factory=TimeGrid)

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.lam > 0 or not 0 <= self.zeta <= 1:
            raise ValueError(
                f"DiffPIR needs steps >= 1, lam > 0 and zeta in [0, 1], got {self.steps}, {self.lam}, {self.zeta}"
            )

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        return {
            "diffpir": Preset(
                "denoise, proximal step to the data, re-noise; fast, its draws lie close to their mean",
                lambda steps: cls(steps, lam=3.0, zeta=1.0, grid=RESTORATION_GRID),
                steps=30,
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        return {"diffpir": cls(100)}

    @torch.no_grad()
    def _draw(self, run: Run) -> tuple[Tensor, int]:
        prior, problem, y = run.prior, run.problem, run.y
        sde, variance = prior.sde, problem.noise_variance
        times, _ = self.grid.along(prior, self.steps)
        x_t = sde.sigma(times[0]) * run.randn()
        x0_hat = x_t
        for i, t in enumerate(times):
            s2 = float(sde.noise_to_signal(t)) ** 2
            x0_hat = problem.linear_operator.prox(prior.denoise(x_t, t), y, variance, s2 / self.lam)
            if i + 1 < len(times):
                t_next = times[i + 1]
                eps_hat = (x_t - sde.alpha(t) * x0_hat) / sde.sigma(t)
                eps = (1 - self.zeta) ** 0.5 * eps_hat
                if self.zeta > 0:
                    eps = eps + self.zeta**0.5 * run.randn()
                x_t = sde.alpha(t_next) * x0_hat + sde.sigma(t_next) * eps
            run.progress((i + 1) / len(times))
        return x0_hat, 0
