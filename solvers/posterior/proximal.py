r"""The proximal step of the data term, for any measurement, and its natural scale.

For linear A and white Gaussian noise it is :meth:`problems.LinearOperator.prox`. A nonlinear A is
replaced by its Jacobian at z and other noise by the Gaussian of the same covariance there, which is
one Gauss-Newton step.
"""

import torch
from torch import Tensor

from problems import InverseProblem
from problems.linalg.broadcast import expand_like
from problems.linalg.solve import conjugate_gradients
from solvers.streams import fixed_normal

__all__ = ["data_curvature", "proximal_step"]

_ITERATIONS = 20


def proximal_step(problem: InverseProblem, z: Tensor, y: Tensor, variance: Tensor) -> Tensor:
    r"""Compute the posterior mean of x under a prior :math:`N(z, v I)`.

    Args:
        problem: Operator and noise.
        z: Means of the prior, shape (B, *shape).
        y: Measurements, shape (B, ...).
        variance: Variances v of the prior, shape (B,).

    Returns:
        Posterior means, shape (B, *shape).

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> problem = InverseProblem(Denoising(), GaussianNoise(1.0))
        >>> z, y = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
        >>> round(float(proximal_step(problem, z, y, torch.tensor([3.0]))), 6)
        0.75
    """
    if {"prox", "gaussian_noise"} <= problem.capabilities:
        return problem.linear_operator.prox(z, y, problem.noise_variance, variance)
    A, v = problem.operator.linearise(z), expand_like(variance, z)
    mean = problem.operator.unrounded(z)
    weights = conjugate_gradients(
        lambda p: problem.noise.covariance_matvec(mean, p) + A.apply(v * A.adjoint(p)),
        problem.operator.mask_unobserved(y) - mean,
        iterations=_ITERATIONS,
        rtol=1e-5,
        warn=False,
    )
    return z + v * A.adjoint(weights)


def data_curvature(
    problem: InverseProblem, x: Tensor, v: Tensor | None = None, iterations: int = 8
) -> Tensor:
    r"""Estimate the norm :math:`|J^T \Sigma_y^{-1} J|` of each sample by power iterations.

    Its inverse square root is the standard deviation with which the best measured direction of x is
    known. :math:`\Sigma_y` is replaced by its row sums.

    Args:
        problem: Operator and noise.
        x: Where a nonlinear operator is linearised, shape (B, *shape).
        v: Start of the power iterations, shape (B, *shape); None for fixed random numbers.
        iterations: Number of power iterations.

    Returns:
        Norms, shape (B,).

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> data_curvature(problem, torch.zeros(1, 1, 2, 2))
        tensor([4.])
    """
    J, mean = problem.operator.linearise(x), problem.operator.unrounded(x)
    variance = problem.noise.covariance_matvec(mean, torch.ones_like(mean)).clamp_min(
        torch.finfo(mean.dtype).tiny
    )
    v, size = fixed_normal(x) if v is None else v, x.new_ones(len(x))
    for _ in range(iterations):
        v = v / expand_like(v.flatten(1).norm(dim=1).clamp_min(1e-30), v)
        v = J.adjoint(J.apply(v) / variance)
        size = v.flatten(1).norm(dim=1)
    return size
