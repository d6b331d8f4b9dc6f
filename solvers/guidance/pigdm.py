r"""Pseudoinverse-guided diffusion (Song, Vahdat, Mardani and Kautz 2023).

:math:`p(x_0|u)` is taken to be :math:`N(D(u), r^2 I)` with :math:`r^2 = s^2 v/(s^2 + v)`, which is right for a white Gaussian prior of
variance v:

.. math:: \nabla_u \log p(y|u) \approx J^T A^T (r^2 A A^T + \sigma_y^2 I)^{-1} (y - A D(u)).

Bayes' rule multiplies this gradient by :math:`s^2` to shift the denoiser. Where the prior is far from white, as for photographs, whose
brightness varies as a whole, :math:`s^2 J` is many times :math:`r^2` in some directions and the shift overshoots without bound; the paper's
algorithm multiplies by :math:`r^2` instead ("adaptive" weights), which is stable and no longer exact for any prior.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from torch import Tensor

from problems import InverseProblem
from problems.linalg.broadcast import expand_like
from solvers.capabilities import Exactness
from solvers.guidance.base import Guidance, Products
from solvers.presets import Preset
from solvers.samplers.ddim import DDIM

__all__ = ["PiGDM"]


@dataclass(frozen=True)
class PiGDM(Guidance):
    """prior_variance: v, 1 in the paper. weight "bayes": exact for the prior N(m, v I); "adaptive": the paper's, for photographs."""

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
        return {
            "pigdm": Preset(
                "pseudoinverse guidance, isotropic covariance, the paper's adaptive weights",
                lambda steps: cls(weight="adaptive"),
                steps=30,
                sampler="ancestral",
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        return {"pigdm": (cls(), DDIM(128, eta=1.0))}

    def shift(
        self, x0_hat: Tensor, vjp: Products, s: Tensor, problem: InverseProblem, y: Tensor
    ) -> Tensor:
        r2 = s**2 * self.prior_variance / (s**2 + self.prior_variance)
        A = problem.linear_operator
        e = A.solve(problem.residual(y, x0_hat), problem.noise_variance, r2)
        factor = s**2 if self.weight == "bayes" else r2
        return expand_like(factor, x0_hat) * vjp(A.adjoint(e))
