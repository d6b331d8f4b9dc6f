r"""Pseudoinverse-guided diffusion (Song, Vahdat, Mardani and Kautz 2023).

:math:`p(x_0|u)` is taken to be :math:`N(D(u), r^2 I)` with :math:`r^2 = s^2 v/(s^2 + v)`, which is
right for a white Gaussian prior of variance v:

.. math:: \nabla_u \log p(y|u) \approx J^T A^T (r^2 A A^T + \sigma_y^2 I)^{-1} (y - A D(u)).

Bayes' rule multiplies this gradient by :math:`s^2` to shift the denoiser. Where the prior is far
from white, as for photographs, whose brightness varies as a whole, :math:`s^2 J` is many times
:math:`r^2` in some directions and the shift overshoots without bound. The paper's algorithm
multiplies by :math:`r^2` instead ("adaptive" weights), which is stable and no longer exact for any
prior.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from problems import InverseProblem
from problems.linalg.broadcast import expand_like
from solvers.capabilities import Exactness
from solvers.guidance.base import Guidance, Products, simulated_misfit
from solvers.presets import Preset
from solvers.samplers.ddim import DDIM
from solvers.scale import OfData

__all__ = ["PiGDM"]


@dataclass(frozen=True)
class PiGDM(Guidance):
    """Pseudoinverse-guided diffusion: an isotropic covariance of x_0 given x_t.

    Args:
        prior_variance: Variance v of the white prior that the covariance assumes, positive, in
            squared units of x; 1 in the paper, which is four times the variance of photographs on
            [-1, 1].
        weight: "bayes": exact for the prior N(m, v I); "adaptive": the paper's, for photographs.

    Raises:
        ValueError: If prior_variance is not positive or the weight is unknown.

    Example:
        A white Gaussian prior of variance 1, seen directly with noise of variance 1. With y = 1
        everywhere and (almost) no information in x_t, the posterior mean is 0.5.

        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> from solvers import PiGDM
        >>> prior = GaussianPrior(torch.zeros(1, 1, 2), torch.eye(2))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(1.0))
        >>> y, x_t = torch.ones(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)
        >>> guided = PiGDM().condition(prior, problem, y)
        >>> guided.denoise(x_t, 80.0).round(decimals=2)
        tensor([[[[0.5000, 0.5000]]]])
    """

    exactness: ClassVar[Exactness] = "heuristic"
    requires: ClassVar[frozenset[str]] = frozenset({"linear", "adjoint", "solve", "gaussian_noise"})

    prior_variance: float = 1.0
    weight: Literal["bayes", "adaptive"] = "bayes"

    def __post_init__(self) -> None:
        if not self.prior_variance > 0:
            raise ValueError(f"prior_variance must be positive, got {self.prior_variance}")
        if self.weight not in ("bayes", "adaptive"):
            raise ValueError(f"weight must be 'bayes' or 'adaptive', got {self.weight!r}")

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        """Declare the named settings for photographs.

        Returns:
            Presets by name.
        """
        return {
            "pigdm": Preset(
                "pseudoinverse guidance, isotropic covariance, the paper's adaptive weights",
                lambda steps: cls(OfData(4.0, power=2), weight="adaptive"),
                steps=30,
                sampler="ancestral",
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        """Declare the settings of the verification table.

        Returns:
            Pairs of a guidance and the sampler that runs it, by name.
        """
        return {"pigdm": (cls(), DDIM(128, eta=1.0))}

    def shift(
        self, x0_hat: Tensor, vjp: Products, s: Tensor, problem: InverseProblem, y: Tensor
    ) -> Tensor:
        r"""Compute the shift with the isotropic covariance :math:`r^2 I`.

        Args:
            x0_hat: Denoised estimates :math:`D(u)`, shape (B, *shape).
            vjp: Maps v to :math:`J^T v`, both (B, *shape), with :math:`J = dD/du`.
            s: Noise-to-signal ratios, shape (B,).
            problem: Operator and noise of the measurements.
            y: Measurements, shape (B, ...).

        Returns:
            The shift :math:`s^2 \nabla_u \log p(y|u)`, the shape of x0_hat.
        """
        r2 = s**2 * self.prior_variance / (s**2 + self.prior_variance)
        A = problem.linear_operator
        e = A.solve(problem.residual(y, x0_hat), problem.noise_variance, r2)
        factor = s**2 if self.weight == "bayes" else r2
        return expand_like(factor, x0_hat) * vjp(A.adjoint(e))

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
        r"""Draw :math:`x_0` given u and y, with the covariance :math:`r^2 I`.

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
        r2 = s**2 * self.prior_variance / (s**2 + self.prior_variance)
        A = problem.linear_operator
        x0 = x0_hat + expand_like(r2.sqrt(), z) * z
        e = A.solve(
            simulated_misfit(problem, y, x0, x0_hat, generators), problem.noise_variance, r2
        )
        return x0 + expand_like(r2, z) * A.adjoint(e)
