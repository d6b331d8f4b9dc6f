r"""Moment matching posterior sampling (Rozet et al. 2024, "Learning diffusion priors from observations by expectation maximization").

The covariance of :math:`p(x_0|u)` is :math:`V = s^2 J` (Tweedie's second formula), so with the Gaussian of the same two moments

.. math:: \nabla_u \log p(y|u) \approx J^T A^T (\Sigma_y + A V A^T)^{-1} (y - A D(u)),\qquad \Sigma_y = \sigma_y^2 I,

exact for every Gaussian prior and linear measurement with Gaussian noise. A nonlinear A is replaced by its Jacobian at :math:`D(u)`, other
noise by the Gaussian of the same covariance :math:`\Sigma_y` there (as an extended Kalman filter does). The system is solved by conjugate
gradients, one vector-Jacobian product an iteration. The products :math:`J^T A^T p_i` of the search directions also make up the answer
:math:`J^T A^T \sum_i a_i p_i`, so none is spent on it.

Within the system V may be simplified, to two products a step: its diagonal, from row sums (which is TMPD), or their mean times I (PiGDM,
with the variance that the network has instead of a constant).
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from problems import InverseProblem
from problems.checks import check_choice
from problems.linalg.broadcast import expand_like
from problems.linalg.solve import dot
from solvers.capabilities import Exactness
from solvers.guidance.base import Guidance, Products
from solvers.guidance.projected import projected_shift
from solvers.presets import Preset
from solvers.samplers.heun import Heun

__all__ = ["Covariance", "MMPS"]

Covariance = Literal["full", "diagonal", "isotropic"]


@dataclass(frozen=True)
class MMPS(Guidance):
    """covariance: V within the system. "full": exact for Gaussian priors. "diagonal": for those with independent entries. "isotropic": for
    white ones. iterations: of conjugate gradients, at most; with the full covariance each costs one product.

    A sample stops by itself once its relative residual is below rtol, or when a learned Jacobian shows negative curvature along the next
    direction.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"vjp", "noise_covariance"})

    iterations: int = 4
    rtol: float = 1e-5
    covariance: Covariance = "full"

    @property
    def exactness(self) -> Exactness:  # type: ignore[override]
        return "gaussian" if self.covariance == "full" else "heuristic"

    def __post_init__(self) -> None:
        check_choice("covariance", self.covariance, Covariance)
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {self.iterations}")

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        return {
            "mmps": Preset(
                "moment matching with the full covariance by conjugate gradients; exact for Gaussian priors",
                lambda steps: cls(iterations=3),
                steps=20,
                sampler="ancestral",
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        return {
            "mmps": (cls(iterations=4), Heun(64)),
            "mmps-churn": (cls(iterations=10), Heun(64, churn=20.0)),
        }

    def shift(
        self, x0_hat: Tensor, vjp: Products, s: Tensor, problem: InverseProblem, y: Tensor
    ) -> Tensor:
        if self.covariance != "full":
            return projected_shift(
                x0_hat, vjp, s, problem, y, self.covariance, self.iterations, self.rtol
            )
        mean = problem.operator.apply(x0_hat)
        return self.gain(problem.operator.mask_unobserved(y) - mean, x0_hat, mean, vjp, s, problem)

    def gain(
        self,
        r: Tensor,
        x0_hat: Tensor,
        mean: Tensor,
        vjp: Products,
        s: Tensor,
        problem: InverseProblem,
    ) -> Tensor:
        """V A^T (Sigma_y + A V A^T)^-1 r at x0_hat, of its shape: the best linear estimate of x_0 - x0_hat from a residual r (B, ...).
        mean: A x0_hat, which decides on the noise."""
        A, s2 = problem.operator.linearise(x0_hat), expand_like(s**2, x0_hat)
        p, rho = r, dot(r, r)
        target = self.rtol**2 * rho
        active = rho > target.clamp_min(torch.finfo(r.dtype).tiny)
        answer = torch.zeros_like(x0_hat)
        for i in range(self.iterations):
            JtAtp = vjp(A.adjoint(p))
            noise = problem.noise.covariance_matvec(mean, p)
            q = noise + A.apply(s2 * JtAtp)
            curvature = dot(p, q)
            # q = (Sigma_y + A V A^T) p: anything below p^T Sigma_y p means that V is not positive along A^T p
            active = active & (curvature > 0.5 * dot(p, noise))
            step = torch.where(active, rho / curvature, torch.zeros_like(rho))
            answer = answer + expand_like(step, answer) * JtAtp
            if i + 1 == self.iterations or not active.any():
                break
            r = r - expand_like(step, r) * q
            new = dot(r, r)
            p = r + expand_like(torch.where(active, new / rho, torch.zeros_like(rho)), r) * p
            rho = torch.where(active, new, rho)
            active = active & (rho > target)
            if not active.any():
                break
        return s2 * answer
