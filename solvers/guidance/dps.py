r"""Diffusion posterior sampling (Chung et al. 2023, "Diffusion posterior sampling for general noisy inverse problems").

The likelihood of :math:`x_t` is taken to be that of :math:`\hat x_0(x_t)`, as if the denoiser left no doubt:

.. math:: \nabla_u \log p(y|u) \approx -\rho\,\nabla_u \|y - A D(u)\|^2 = 2\rho\,J^T A^T e,\quad e = y - A D(u).

Theory (their eq. 16) has :math:`\rho = 1/(2\sigma_y^2)` ("likelihood"; for other noise the gradient of its log-density). A nonlinear A
enters by its vector-Jacobian product. Their algorithm replaces it by the step
:math:`-\zeta \nabla \|e\|` per step of a 1000-step DDPM ("residual"), the norm **per sample**; in a continuous-time denoiser that
step is the score :math:`-(\zeta/\beta)\,\nabla_{x_t}\|e\|`, with beta the noise variance that DDPM's linear schedule adds per step at the
same signal-to-noise ratio. Either way the doubt in :math:`\hat x_0` is left out: on a white Gaussian prior of variance v seen directly, the
ODE with "likelihood" ends at the variance :math:`v\,e^{-v/\sigma_y^2}` where the posterior has :math:`v\sigma_y^2/(v+\sigma_y^2)`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from problems import InverseProblem
from problems.linalg.broadcast import expand_like
from scoresde.sde import VPSDE
from solvers.capabilities import Exactness
from solvers.guidance.base import Guidance, Products
from solvers.presets import Preset
from solvers.samplers.ddim import DDIM

__all__ = ["DPS"]

_DDPM = VPSDE()
_DDPM_STEPS = 1000


@dataclass(frozen=True)
class DPS(Guidance):
    """zeta: step size, .3 to 1 in the paper, where it is tuned for each problem; a factor on the exact weight for "likelihood"."""

    exactness: ClassVar[Exactness] = "heuristic"

    zeta: float = 1.0
    weight: Literal["residual", "likelihood"] = "residual"

    def __post_init__(self) -> None:
        if not self.zeta > 0:
            raise ValueError(f"zeta must be positive, got {self.zeta}")
        if self.weight not in ("residual", "likelihood"):
            raise ValueError(f"weight must be 'residual' or 'likelihood', got {self.weight!r}")

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        return {
            "dps": Preset(
                "gradient of the residual norm; the classic, needs many steps and a step size tuned to the problem",
                lambda steps: cls(),
                steps=60,
                sampler="ancestral",
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        return {"dps": (cls(), DDIM(256, eta=1.0))}

    def shift(
        self, x0_hat: Tensor, vjp: Products, s: Tensor, problem: InverseProblem, y: Tensor
    ) -> Tensor:
        operator = problem.operator
        if self.weight == "likelihood":
            score = operator.mask_unobserved(problem.noise.score(y, operator.apply(x0_hat)))
            return expand_like(self.zeta * s**2, x0_hat) * vjp(operator.vjp(x0_hat, score))
        e = problem.residual(y, x0_hat)
        t = _DDPM.t_from_noise_to_signal(s).clamp(1 / _DDPM_STEPS, 1)
        beta, alpha = _DDPM.diffusion(t) ** 2 / _DDPM_STEPS, _DDPM.alpha(t)
        norm = e.flatten(1).norm(dim=1).clamp_min(torch.finfo(e.dtype).tiny)
        factor = self.zeta * s**2 * alpha / (beta * norm)
        return expand_like(factor, x0_hat) * vjp(operator.vjp(x0_hat, e))
