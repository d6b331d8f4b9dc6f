r"""Moment matching with a covariance that is kept as numbers: a variance for every entry, or one for all.

.. math:: s^2 \nabla_u \log p(y|u) \approx s^2 J^T A^T \bigl(\Sigma_y + A\,\mathrm{diag}(v)\,A^T\bigr)^{-1} (y - A D(u)),
          \qquad v = s^2 J \mathbf 1,

the row sums of the covariance :math:`s^2 J` of :math:`p(x_0|u)` (Boys et al. 2023), or their mean. Row sums are the diagonal where J is
diagonal. Negative ones count as zero.
"""

from typing import Literal

import torch
from torch import Tensor

from problems import InverseProblem
from problems.linalg.broadcast import expand_like
from problems.linalg.solve import conjugate_gradients
from solvers.guidance.base import Products

__all__ = ["projected_shift"]


def projected_shift(
    x0_hat: Tensor,
    vjp: Products,
    s: Tensor,
    problem: InverseProblem,
    y: Tensor,
    covariance: Literal["diagonal", "isotropic"],
    iterations: int,
    rtol: float,
) -> Tensor:
    """The shift of the denoiser, of the shape of x0_hat: two products, and ``iterations`` applications of A and its adjoint at most."""
    A, s2 = problem.operator.linearise(x0_hat), expand_like(s**2, x0_hat)
    mean = problem.operator.apply(x0_hat)
    variance = s2 * vjp(torch.ones_like(x0_hat))
    if covariance == "isotropic":
        variance = expand_like(variance.flatten(1).mean(1), x0_hat)
    variance = variance.clamp_min(0)
    weights = conjugate_gradients(
        lambda p: problem.noise.covariance_matvec(mean, p) + A.apply(variance * A.adjoint(p)),
        problem.operator.mask_unobserved(y) - mean,
        iterations=iterations,
        rtol=rtol,
        warn=False,
    )
    return s2 * vjp(A.adjoint(weights))
