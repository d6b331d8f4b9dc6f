r"""Moment matching with a diagonal covariance: a variance for every entry, or one for all.

.. math:: s^2 \nabla_u \log p(y|u)
          \approx s^2 J^T A^T \bigl(\Sigma_y + A\,\mathrm{diag}(v)\,A^T\bigr)^{-1} (y - A D(u)),
          \qquad v = s^2 J \mathbf 1,

where v are the row sums of the covariance :math:`s^2 J` of :math:`p(x_0|u)` (Boys et al. 2023), or
their mean. Row sums are the diagonal where J is diagonal. Negative row sums are set to zero.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from problems import InverseProblem, LinearOperator
from problems.linalg.broadcast import expand_like
from problems.linalg.solve import conjugate_gradients
from solvers.guidance.base import Products, simulated_misfit

__all__ = ["diagonal_draw", "projected_draw", "projected_shift"]


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
    v = _variance(x0_hat, vjp, s, covariance)
    r = problem.operator.mask_unobserved(y) - problem.operator.unrounded(x0_hat)
    A, weights = _weights(r, x0_hat, v, problem, iterations, rtol)
    return expand_like(s**2, x0_hat) * vjp(A.adjoint(weights))


def projected_draw(
    x0_hat: Tensor,
    vjp: Products,
    s: Tensor,
    problem: InverseProblem,
    y: Tensor,
    z: Tensor,
    generators: Sequence[torch.Generator],
    covariance: Literal["diagonal", "isotropic"],
    iterations: int,
    rtol: float,
) -> Tensor:
    r"""Draw :math:`x_0` given u and y for the covariance :math:`\mathrm{diag}(v)`.

    It costs one product with :math:`J^T`.

    Args:
        x0_hat: Denoised estimates :math:`D(u)`, shape (B, *shape).
        vjp: Maps v to :math:`J^T v`, both (B, *shape), with :math:`J = dD/du`.
        s: Noise-to-signal ratios, shape (B,).
        problem: Operator and noise of the measurements.
        y: Measurements, shape (B, ...).
        z: Standard normal numbers, shape (B, *shape).
        generators: B generators for the noise of the simulated measurements.
        covariance: "diagonal": a variance for every entry; "isotropic": one for all entries.
        iterations: Largest number of conjugate-gradient iterations.
        rtol: Relative residual at which a sample stops.

    Returns:
        The draws, shape (B, *shape).
    """
    v = _variance(x0_hat, vjp, s, covariance)
    return diagonal_draw(x0_hat, v, problem, y, z, generators, iterations, rtol)


def diagonal_draw(
    x0_hat: Tensor,
    v: Tensor,
    problem: InverseProblem,
    y: Tensor,
    z: Tensor,
    generators: Sequence[torch.Generator],
    iterations: int,
    rtol: float,
) -> Tensor:
    r"""Draw :math:`x_0` given y under the prior :math:`N(\hat x_0, \mathrm{diag}(v))`.

    Args:
        x0_hat: Means, shape (B, *shape), where a nonlinear operator is linearised.
        v: Variances, shape (B, *shape).
        problem: Operator and noise of the measurements.
        y: Measurements, shape (B, ...).
        z: Standard normal numbers, shape (B, *shape).
        generators: B generators for the noise of the simulated measurements.
        iterations: Largest number of conjugate-gradient iterations.
        rtol: Relative residual at which a sample stops.

    Returns:
        The draws, shape (B, *shape).
    """
    x0 = x0_hat + v.sqrt() * z
    misfit = simulated_misfit(problem, y, x0, x0_hat, generators)
    A, weights = _weights(misfit, x0_hat, v, problem, iterations, rtol)
    return x0 + v * A.adjoint(weights)


def _variance(x0_hat: Tensor, vjp: Products, s: Tensor, covariance: str) -> Tensor:
    """Row sums of s^2 J, or their mean, without negative ones."""
    variance = expand_like(s**2, x0_hat) * vjp(torch.ones_like(x0_hat))
    if covariance == "isotropic":
        variance = expand_like(variance.flatten(1).mean(1), x0_hat)
    return variance.clamp_min(0)


def _weights(
    r: Tensor, x0_hat: Tensor, v: Tensor, problem: InverseProblem, iterations: int, rtol: float
) -> tuple[LinearOperator, Tensor]:
    """The operator, linearised, and (Sigma_y + A diag(v) A^T)^-1 r."""
    A, mean = problem.operator.linearise(x0_hat), problem.operator.unrounded(x0_hat)
    return A, conjugate_gradients(
        lambda p: problem.noise.covariance_matvec(mean, p) + A.apply(v * A.adjoint(p)),
        r,
        iterations=iterations,
        rtol=rtol,
        warn=False,
    )
