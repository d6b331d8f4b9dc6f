r"""Moment matching posterior sampling (Rozet et al. 2024).

"Learning diffusion priors from observations by expectation maximization". The covariance of
:math:`p(x_0|u)` is :math:`V = s^2 J` (Tweedie's second formula), so with the Gaussian of the same
two moments

.. math:: \nabla_u \log p(y|u) \approx J^T A^T (\Sigma_y + A V A^T)^{-1} (y - A D(u)),
          \qquad \Sigma_y = \sigma_y^2 I,

which is exact for every Gaussian prior and linear measurement with Gaussian noise. A nonlinear A is
replaced by its Jacobian at :math:`D(u)`, and other noise by the Gaussian of the same covariance
:math:`\Sigma_y` there (as in an extended Kalman filter). The system is solved by conjugate
gradients, with one vector-Jacobian product per iteration. The products :math:`J^T A^T p_i` of the
search directions also give the answer :math:`J^T A^T \sum_i a_i p_i`, which therefore costs no
further product.

Within the system V may be simplified, which reduces the cost to two products per step: to its
diagonal, from row sums (this is TMPD), or to their mean times I (PiGDM, with the variance that the
network implies instead of a constant).
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
    """Moment matching posterior sampling: the covariance of x_0 given x_t from the denoiser.

    Each sample stops on its own once its relative residual is below rtol, or when a learned
    Jacobian shows negative curvature along the next direction.

    Args:
        iterations: Largest number of conjugate-gradient iterations, at least 1. With the full
            covariance each costs one vector-Jacobian product.
        rtol: Relative residual below which the iterations stop.
        covariance: Form of V within the system. "full": exact for Gaussian priors; "diagonal":
            exact for those with independent entries; "isotropic": exact for white ones.

    Raises:
        ValueError: If iterations < 1 or the covariance is unknown.

    Example:
        A white Gaussian prior of variance 1, seen directly with noise of variance 1. With y = 1
        everywhere and (almost) no information in x_t, the posterior mean is 0.5.

        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> from solvers import MMPS
        >>> prior = GaussianPrior(torch.zeros(1, 1, 2), torch.eye(2))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(1.0))
        >>> y, x_t = torch.ones(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)
        >>> guided = MMPS().condition(prior, problem, y)
        >>> guided.denoise(x_t, 80.0).round(decimals=2)
        tensor([[[[0.5000, 0.5000]]]])
    """

    requires: ClassVar[frozenset[str]] = frozenset({"vjp", "noise_covariance"})

    iterations: int = 4
    rtol: float = 1e-5
    covariance: Covariance = "full"

    @property
    def exactness(self) -> Exactness:  # type: ignore[override]
        """Exact for Gaussian priors with the full covariance, a heuristic otherwise."""
        return "gaussian" if self.covariance == "full" else "heuristic"

    def __post_init__(self) -> None:
        check_choice("covariance", self.covariance, Covariance)
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {self.iterations}")

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        """Declare the named settings for photographs.

        Returns:
            Presets by name.
        """
        return {
            "mmps": Preset(
                "moment matching with the full covariance by conjugate gradients; exact for "
                "Gaussian priors",
                lambda steps: cls(iterations=3),
                steps=20,
                sampler="ancestral",
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        """Declare the settings of the verification table.

        Returns:
            Pairs of a guidance and the sampler that runs it, by name.
        """
        return {
            "mmps": (cls(iterations=4), Heun(64)),
            "mmps-churn": (cls(iterations=10), Heun(64, churn=20.0)),
        }

    def shift(
        self, x0_hat: Tensor, vjp: Products, s: Tensor, problem: InverseProblem, y: Tensor
    ) -> Tensor:
        r"""Compute the shift by moment matching.

        Args:
            x0_hat: Denoised estimates :math:`D(u)`, shape (B, *shape).
            vjp: Maps v to :math:`J^T v`, both (B, *shape), with :math:`J = dD/du`.
            s: Noise-to-signal ratios, shape (B,).
            problem: Operator and noise of the measurements.
            y: Measurements, shape (B, ...).

        Returns:
            The shift :math:`s^2 \nabla_u \log p(y|u)`, the shape of x0_hat.
        """
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
        r"""Compute the best linear estimate of :math:`x_0 - \hat x_0` from a residual.

        Args:
            r: Residuals :math:`y - A \hat x_0`, shape (B, ...).
            x0_hat: Denoised estimates, shape (B, *shape), where a nonlinear A is linearised.
            mean: :math:`A \hat x_0`, shape (B, ...), at which the noise covariance is taken.
            vjp: Maps v to :math:`J^T v`, both (B, *shape).
            s: Noise-to-signal ratios, shape (B,).
            problem: Operator and noise of the measurements.

        Returns:
            :math:`V A^T (\Sigma_y + A V A^T)^{-1} r`, the shape of x0_hat.
        """
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
            # q = (Sigma_y + A V A^T) p: a curvature p^T q below p^T Sigma_y p means that V is not
            # positive along A^T p
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
