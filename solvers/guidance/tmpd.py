r"""Tweedie moment projected diffusions (Boys et al. 2023).

The covariance of :math:`p(x_0|u)` is :math:`V = s^2 J`; its projection on the diagonal is taken to be the row sums,
:math:`s^2 J \mathbf 1`, one product more:

.. math:: \nabla_u \log p(y|u) \approx J^T A^T \bigl(\Sigma_y + A\,\mathrm{diag}(s^2 J\mathbf 1) A^T\bigr)^{-1} (y - A D(u)) .

Row sums are the diagonal where J is diagonal: exact for a Gaussian prior with independent entries. Negative sums count as zero.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from problems import InverseProblem
from problems.linalg import conjugate_gradients
from scoresde.prior import expand_like
from solvers.capabilities import Exactness
from solvers.guidance.base import Guidance, Products

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

    def shift(self, x0_hat: Tensor, vjp: Products, s: Tensor, problem: InverseProblem, y: Tensor) -> Tensor:
        A, s2 = problem.operator.linearise(x0_hat), expand_like(s**2, x0_hat)
        mean = problem.operator.apply(x0_hat)
        variance = (s2 * vjp(torch.ones_like(x0_hat))).clamp_min(0)
        weights = conjugate_gradients(
            lambda p: problem.noise.covary(mean, p) + A.apply(variance * A.adjoint(p)),
            problem.operator.observed(y) - mean,
            iterations=self.iterations,
            rtol=1e-5,
            warn=False,
        )
        return s2 * vjp(A.adjoint(weights))
