r"""Tweedie moment projected diffusions (Boys et al. 2023).

The covariance of :math:`p(x_0|u)` is :math:`V = s^2 J`; its projection on the diagonal is taken to be the row sums,
:math:`s^2 J \mathbf 1`, one product more:

.. math:: \nabla_u \log p(y|u) \approx J^T A^T \bigl(\Sigma_y + A\,\mathrm{diag}(s^2 J\mathbf 1) A^T\bigr)^{-1} (y - A D(u)) .

Row sums are the diagonal where J is diagonal: exact for a Gaussian prior with independent entries. Negative sums count as zero.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from problems import InverseProblem
from solvers.capabilities import Exactness
from solvers.guidance.base import Guidance, Products
from solvers.guidance.projected import projected_shift
from solvers.presets import Preset
from solvers.samplers.ddim import DDIM

__all__ = ["TMPD"]


@dataclass(frozen=True)
class TMPD(Guidance):
    """Two products a step, whatever the measurement; the linear system costs applications of A only. iterations: of it, at most."""

    exactness: ClassVar[Exactness] = "heuristic"
    requires: ClassVar[frozenset[str]] = frozenset({"vjp", "noise_covariance"})

    iterations: int = 50

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {self.iterations}")

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        return {
            "tmpd": Preset(
                "moment matching with a variance for each pixel; two products a step; weak on scattered holes",
                lambda steps: cls(iterations=5),
                steps=30,
                sampler="ancestral",
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        return {"tmpd": (cls(), DDIM(128, eta=1.0))}

    def shift(
        self, x0_hat: Tensor, vjp: Products, s: Tensor, problem: InverseProblem, y: Tensor
    ) -> Tensor:
        return projected_shift(x0_hat, vjp, s, problem, y, "diagonal", self.iterations, 1e-5)
