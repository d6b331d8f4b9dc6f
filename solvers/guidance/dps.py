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

The published step is one of a thousand. A sampler of n steps takes the gradient 1000/n times as
long, and where that passes the minimum of the misfit it oscillates and grows. "limited" ends the
step where the Gaussian of moment matching, :math:`V = s^2 J`, has its best step along the same
direction,

.. math:: p = V A^T e,\qquad \text{shift} = p\,\min\Bigl(\frac{\zeta\alpha}{\beta\|e\|},\
          \frac{e^T e}{e^T(\Sigma_y + A V A^T)\,e}\Bigr),

the first iterate of conjugate gradients for MMPS's system. It costs one application of A, because p
is at hand.

Either way the uncertainty of :math:`\hat x_0` is left out: on a white Gaussian prior of variance v
seen directly, the ODE with "likelihood" ends at the variance :math:`v\,e^{-v/\sigma_y^2}`, whereas
the posterior has :math:`v\sigma_y^2/(v+\sigma_y^2)`.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from problems import InverseProblem
from problems.checks import check_choice
from problems.linalg.broadcast import expand_like
from problems.linalg.solve import dot
from scoresde.sde import VPSDE
from solvers.capabilities import Exactness
from solvers.guidance.base import Guidance, Products
from solvers.presets import Preset
from solvers.samplers.ddim import DDIM
from solvers.scale import OfData

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
            "limited": the same with a limit that follows from moment matching, for few steps and
            linear measurements, or linearised ones; "likelihood": the gradient of the
            log-likelihood.
        unit: Length in the units of x that counts as 1, positive. The published schedule and zeta
            assume data on [-1, 1], whose standard deviation is about 0.5.

    Raises:
        ValueError: If zeta or unit is not positive or the weight is unknown.

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
    weight: Literal["residual", "limited", "likelihood"] = "residual"
    unit: float = 1.0

    def __post_init__(self) -> None:
        if not (self.zeta > 0 and self.unit > 0):
            raise ValueError(f"zeta and unit must be positive, got {self.zeta} and {self.unit}")
        check_choice("weight", self.weight, ("residual", "limited", "likelihood"))

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        """Declare the named settings for photographs.

        Returns:
            Presets by name.
        """
        return {
            "dps": Preset(
                "gradient of the residual norm; the classic, its steps limited to what the "
                "measurement explains",
                lambda steps: cls(weight="limited", unit=OfData(2.0)),
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
            score = operator.mask_unobserved(problem.noise.score(y, operator.unrounded(x0_hat)))
            return expand_like(self.zeta * s**2, x0_hat) * vjp(operator.vjp(x0_hat, score))
        e = problem.residual(y, x0_hat, rounded=False)
        t = _DDPM.t_from_noise_to_signal(s / self.unit).clamp(1 / _DDPM_STEPS, 1)
        beta, alpha = _DDPM.diffusion(t) ** 2 / _DDPM_STEPS, _DDPM.alpha(t)
        norm = e.flatten(1).norm(dim=1).clamp_min(torch.finfo(e.dtype).tiny)
        factor: Tensor = self.zeta * alpha / (self.unit * beta * norm)
        p = expand_like(s**2, x0_hat) * vjp(operator.vjp(x0_hat, e))
        if self.weight == "limited":
            seen = operator.mask_unobserved(operator.linearise(x0_hat).apply(p))
            noise = dot(e, problem.noise.covariance_matvec(operator.unrounded(x0_hat), e))
            # p is no step of descent where a learned J is no covariance: then noise alone counts
            whole = (noise + dot(e, seen).clamp_min(0)).clamp_min(torch.finfo(e.dtype).tiny)
            factor = factor.minimum(dot(e, e) / whole)
        return expand_like(factor, x0_hat) * p
