r"""Diffusion posterior sampling (Chung et al. 2023).

"Diffusion posterior sampling for general noisy inverse problems". The likelihood of :math:`x_t` is
taken to be that of :math:`\hat x_0(x_t)`, as if the denoiser left no uncertainty:

.. math:: \nabla_u \log p(y|u) \approx -\rho\,\nabla_u \|y - A D(u)\|^2 = 2\rho\,J^T A^T e,
          \quad e = y - A D(u).

Theory (their eq. 16) has :math:`\rho = 1/(2\sigma_y^2)` ("likelihood"; for other noise the gradient
of its log-density). A nonlinear A enters by its vector-Jacobian product. Their algorithm replaces
this by the step :math:`-\zeta \nabla \|e\|` per step of a 1000-step DDPM ("residual"), with the
norm **per sample**. In a continuous-time denoiser that step is the score
:math:`-(\zeta/\beta)\,\nabla_{x_t}\|e\|`, with :math:`\beta` the noise variance that DDPM's linear
schedule adds per step at the same signal-to-noise ratio.

Either way the uncertainty of :math:`\hat x_0` is left out: on a white Gaussian prior of variance v
seen directly, the ODE with "likelihood" ends at the variance :math:`v\,e^{-v/\sigma_y^2}`, whereas
the posterior has :math:`v\sigma_y^2/(v+\sigma_y^2)`.
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
    """Diffusion posterior sampling: the likelihood at the denoised estimate.

    Args:
        zeta: With weight "residual" the step size, 0.3 to 1 in the paper, which tunes it for each
            problem; with "likelihood" a factor on the exact weight.
        weight: "residual": the paper's algorithm, a step along the gradient of the residual norm;
            "likelihood": the gradient of the log-likelihood.

    Raises:
        ValueError: If zeta is not positive or the weight is unknown.

    Example:
        A white Gaussian prior of variance 1, seen directly with noise of variance 1. With y = 1
        everywhere and (almost) no information in x_t, the posterior mean is 0.5. DPS
        neglects the variance of the prior and goes all the way to y.

        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> from solvers import DPS
        >>> prior = GaussianPrior(torch.zeros(1, 1, 2), torch.eye(2))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(1.0))
        >>> y, x_t = torch.ones(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)
        >>> guided = DPS(weight="likelihood").condition(prior, problem, y)
        >>> guided.denoise(x_t, 80.0).round(decimals=2)
        tensor([[[[1., 1.]]]])
    """

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
        """Declare the named settings for photographs.

        Returns:
            Presets by name.
        """
        return {
            "dps": Preset(
                "gradient of the residual norm; the classic, needs many steps and a step size "
                "tuned to the problem",
                lambda steps: cls(),
                steps=60,
                sampler="ancestral",
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        """Declare the settings of the verification table.

        Returns:
            Pairs of a guidance and the sampler that runs it, by name.
        """
        return {"dps": (cls(), DDIM(256, eta=1.0))}

    def shift(
        self, x0_hat: Tensor, vjp: Products, s: Tensor, problem: InverseProblem, y: Tensor
    ) -> Tensor:
        r"""Compute the shift by the gradient of the residual norm or of the log-likelihood.

        Args:
            x0_hat: Denoised estimates :math:`D(u)`, shape (B, *shape).
            vjp: Maps v to :math:`J^T v`, both (B, *shape), with :math:`J = dD/du`.
            s: Noise-to-signal ratios, shape (B,).
            problem: Operator and noise of the measurements.
            y: Measurements, shape (B, ...).

        Returns:
            The shift :math:`s^2 \nabla_u \log p(y|u)`, the shape of x0_hat.
        """
        operator = problem.operator
        if self.weight == "likelihood":
            score = operator.mask_unobserved(problem.noise.score(y, operator.apply(x0_hat)))
            return expand_like(self.zeta * s**2, x0_hat) * vjp(operator.vjp(x0_hat, score))
        e = problem.residual(y, x0_hat)
        t = _DDPM.t_from_noise_to_signal(s).clamp(1 / _DDPM_STEPS, 1)
        beta, alpha = _DDPM.diffusion(t) ** 2 / _DDPM_STEPS, _DDPM.alpha(t)
        norm = e.flatten(1).norm(dim=1).clamp_min(torch.finfo(e.dtype).tiny)
        factor: Tensor = self.zeta * s**2 * alpha / (beta * norm)
        return expand_like(factor, x0_hat) * vjp(operator.vjp(x0_hat, e))
