r"""Moment matching posterior sampling (Rozet et al. 2024).

"Learning diffusion priors from observations by expectation maximization". The covariance of
:math:`p(x_0|u)` is :math:`V = s^2 J` (Tweedie's second formula), so with the Gaussian of the same
two moments

.. math:: \nabla_u \log p(y|u) \approx J^T A^T (\Sigma_y + A V A^T)^{-1} (y - A D(u)),
          \qquad \Sigma_y = \sigma_y^2 I,

which is exact for every Gaussian prior and linear measurement with Gaussian noise. A nonlinear A is
replaced by its Jacobian at :math:`D(u)`, and other noise by the Gaussian of the same covariance
:math:`\Sigma_y` there (as in an extended Kalman filter). The system is solved in a Krylov space,
with one vector-Jacobian product per dimension. The products :math:`J^T A^T w_i` of its basis also
give the answer :math:`J^T A^T \sum_i c_i w_i`, which therefore costs no further product. For a
covariance the iterates are those of conjugate gradients; what a learned Jacobian lacks of one is
measured and bounds them (:mod:`solvers.guidance.krylov`).

Within the system V may be simplified, which reduces the cost to two products per step: to its
diagonal, from row sums (this is TMPD), or to their mean times I (PiGDM, with the variance that the
network implies instead of a constant).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from problems import InverseProblem
from problems.checks import check_choice
from problems.linalg.broadcast import expand_like
from solvers.capabilities import Exactness
from solvers.guidance.base import Guidance, Products, simulated_misfit
from solvers.guidance.krylov import nearly_symmetric_gain
from solvers.guidance.lanczos import square_root_product
from solvers.guidance.projected import projected_draw, projected_shift
from solvers.presets import Preset
from solvers.samplers.grid import TimeGrid
from solvers.samplers.heun import Heun
from solvers.scale import OfData

__all__ = ["Covariance", "MMPS"]

Covariance = Literal["full", "diagonal", "isotropic"]


@dataclass(frozen=True)
class MMPS(Guidance):
    """Moment matching posterior sampling: the covariance of x_0 given x_t from the denoiser.

    Each sample stops on its own once its relative residual is below rtol. Where a learned Jacobian
    is not symmetric or not positive, the shift stays bounded by the residual, see
    :mod:`solvers.guidance.krylov`.

    Args:
        iterations: Largest number of iterations, at least 1. With the full covariance each costs
            one vector-Jacobian product and the memory of one x and one y.
        rtol: Relative residual below which the iterations stop.
        covariance: Form of V within the system. "full": exact for Gaussian priors; "diagonal":
            exact for those with independent entries; "isotropic": exact for white ones.
        lanczos: Products for the square root of V in ``draw``, at least 1.
        accuracy: Error of the conditioned estimate, in standard deviations of x_0 given x_t and y,
            below which the iterations stop, too; not negative. 0: ``rtol`` alone decides. It counts
            with the full covariance alone.

    Raises:
        ValueError: If iterations or lanczos is below 1, or the covariance is unknown.

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
    lanczos: int = 4
    accuracy: float = 0.0

    @property
    def exactness(self) -> Exactness:  # type: ignore[override]
        """Exact for Gaussian priors with the full covariance, a heuristic otherwise."""
        return "gaussian" if self.covariance == "full" else "heuristic"

    def __post_init__(self) -> None:
        check_choice("covariance", self.covariance, Covariance)
        if self.iterations < 1 or self.lanczos < 1:
            raise ValueError(
                "iterations and lanczos must be at least 1, got "
                f"{self.iterations} and {self.lanczos}"
            )

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
                lambda steps: cls(iterations=16, accuracy=0.1),
                steps=20,
                sampler="dpm-solver-sde",
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
            # 99 evaluations, none of them above the levels at which modes part
            "mmps-churn-99": (
                cls(iterations=10),
                Heun(50, churn=40.0, grid=TimeGrid(s_max=OfData(8.0))),
            ),
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
        mean = problem.operator.unrounded(x0_hat)
        return self.gain(problem.operator.mask_unobserved(y) - mean, x0_hat, mean, vjp, s, problem)

    def draw(
        self,
        x0_hat: Tensor,
        vjp: Products,
        s: Tensor,
        problem: InverseProblem,
        y: Tensor,
        z: Tensor,
        generators: Sequence[torch.Generator],
    ) -> Tensor | None:
        r"""Draw :math:`x_0` given u and y, with the covariance V of the shift.

        The square root of V costs ``lanczos`` vector-Jacobian products, the correction at most
        ``iterations`` more. With a diagonal covariance both together cost two.

        Args:
            x0_hat: Denoised estimates :math:`D(u)`, shape (B, *shape).
            vjp: Maps v to :math:`J^T v`, both (B, *shape), with :math:`J = dD/du`.
            s: Noise-to-signal ratios, shape (B,).
            problem: Operator and noise of the measurements.
            y: Measurements, shape (B, ...).
            z: Standard normal numbers, shape (B, *shape).
            generators: B generators for the noise of the simulated measurements.

        Returns:
            The draws, shape (B, *shape).
        """
        if self.covariance != "full":
            return projected_draw(
                x0_hat,
                vjp,
                s,
                problem,
                y,
                z,
                generators,
                self.covariance,
                self.iterations,
                self.rtol,
            )
        x0 = x0_hat + expand_like(s, z) * square_root_product(vjp, z, self.lanczos)
        misfit = simulated_misfit(problem, y, x0, x0_hat, generators)
        return x0 + self.gain(misfit, x0_hat, problem.operator.unrounded(x0_hat), vjp, s, problem)

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
        return nearly_symmetric_gain(
            lambda w: s2 * vjp(A.adjoint(w)),
            A.apply,
            lambda w: problem.noise.covariance_matvec(mean, w),
            r,
            self.iterations,
            self.rtol,
            self.accuracy,
        )
