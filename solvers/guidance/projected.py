r"""Moment matching with a diagonal covariance: a variance for every entry, or one for all.

.. math:: s^2 \nabla_u \log p(y|u)
          \approx s^2 J^T A^T \bigl(\Sigma_y + A\,\mathrm{diag}(v)\,A^T\bigr)^{-1} (y - A D(u)),
          \qquad v = s^2 J \mathbf 1,

where v are the row sums of the covariance :math:`s^2 J` of :math:`p(x_0|u)` (Boys et al. 2023), or
their mean. Row sums are the diagonal where J is diagonal. Negative row sums are set to zero.
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
    r"""Compute the shift of the denoiser for a diagonal or isotropic covariance.

    It costs two products with :math:`J^T`, and at most ``iterations`` applications of A and of its
    adjoint.

    Args:
        x0_hat: Denoised estimates :math:`D(u)`, shape (B, *shape).
        vjp: Maps v to :math:`J^T v`, both (B, *shape), with :math:`J = dD/du`.
        s: Noise-to-signal ratios, shape (B,).
        problem: Operator and noise of the measurements.
        y: Measurements, shape (B, ...).
        covariance: "diagonal": a variance for every entry; "isotropic": one for all entries.
        iterations: Largest number of conjugate-gradient iterations.
        rtol: Relative residual at which a sample stops.

    Returns:
        The shift :math:`s^2 \nabla_u \log p(y|u)`, the shape of x0_hat.
    """
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
