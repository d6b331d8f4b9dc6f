r"""The proximal step of a nonlinear measurement, by the method of Levenberg and Marquardt.

For a prior :math:`N(z, v I)` it descends on

.. math:: f(x) = -2\ln p(y|x) + |x - z|^2/v,

of which :func:`solvers.posterior.proximal.proximal_step` is one Gauss-Newton step. At each
iteration A is replaced by its Jacobian J at x and the curvature of the likelihood by
:math:`J^T\Sigma_y^{-1}J`. The step solves

.. math:: \bigl(J^T\Sigma_y^{-1}J + (1 + \mu)/v\bigr)\,d = -f'(x)/2

by conjugate gradients, and is taken only if f falls, sample by sample. The damping :math:`\mu`
falls after a step that is taken, and grows otherwise (Marquardt 1963).
"""

import torch
from torch import Tensor

from problems import InverseProblem, LinearOperator
from problems.linalg.broadcast import expand_like
from problems.linalg.solve import conjugate_gradients

__all__ = ["log_likelihood_gradient", "marquardt_step", "unrounded_log_likelihood"]

_FALL, _RISE = 1 / 3, 4.0  # of the damping after a step that is taken, and after another
_RTOL = 1e-3  # of the conjugate gradients: the next iteration corrects the rest


def unrounded_log_likelihood(problem: InverseProblem, y: Tensor, x: Tensor) -> Tensor:
    """Compute ln p(y | x) with an operator whose rounding counts as noise.

    Args:
        problem: Operator and noise.
        y: Measurements, shape (B, ...), zero where nothing is observed.
        x: Images, shape (B, *shape).

    Returns:
        Log-likelihoods in nats, shape (B,), but for a constant where the noise is white.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> unrounded_log_likelihood(problem, torch.ones(1, 1, 1, 2), torch.zeros(1, 1, 1, 2))
        tensor([-4.])
    """
    if "gaussian_noise" in problem.capabilities:  # without the constant, which costs digits
        square = problem.residual(y, x, rounded=False).square().flatten(1).sum(1)
        return -square / (2 * problem.noise_variance)
    mean = problem.operator.unrounded(x)
    if "joint_density" in problem.noise.capabilities:
        return problem.noise.log_prob(y, mean)
    density = problem.operator.mask_unobserved(problem.noise.log_density(y, mean))
    return density.flatten(1).sum(1)


def log_likelihood_gradient(problem: InverseProblem, y: Tensor, x: Tensor) -> Tensor:
    """Compute the gradient of ln p(y | x) with respect to x.

    Args:
        problem: Operator and noise.
        y: Measurements, shape (B, ...), zero where nothing is observed.
        x: Images, shape (B, *shape).

    Returns:
        Gradients, shape (B, *shape).

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> log_likelihood_gradient(problem, torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1))
        tensor([[[[4.]]]])
    """
    score = problem.noise.score(y, problem.operator.unrounded(x))
    return problem.operator.vjp(x, problem.operator.mask_unobserved(score))


def marquardt_step(
    problem: InverseProblem,
    z: Tensor,
    y: Tensor,
    variance: Tensor,
    iterations: int = 2,
    products: int = 4,
    start: Tensor | None = None,
) -> Tensor:
    r"""Descend on the negative log-posterior of x under a prior :math:`N(z, v I)`.

    Args:
        problem: Operator and noise.
        z: Means of the prior, shape (B, *shape).
        y: Measurements, shape (B, ...), zero where nothing is observed.
        variance: Variances v of the prior, shape (B,).
        iterations: Number of damped Gauss-Newton steps, each with a fresh Jacobian.
        products: Conjugate gradients of each, with a product by J and one by its transpose.
        start: First x, shape of z; None for z.

    Returns:
        Points, shape (B, *shape), at which the density is no smaller than at the start. With many
        iterations they are stationary.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> problem = InverseProblem(Denoising(), GaussianNoise(1.0))
        >>> z, y = torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
        >>> x = marquardt_step(problem, z, y, torch.tensor([3.0]), iterations=12)
        >>> round(float(x), 3)
        0.75
    """
    operator, x = problem.operator, z if start is None else start
    v, damping = expand_like(variance, z), torch.ones_like(variance)

    def cost(x: Tensor) -> Tensor:
        anchor = ((x - z).square() / v).flatten(1).sum(1)
        return anchor - 2 * unrounded_log_likelihood(problem, y, x)

    value = cost(x)
    for _ in range(iterations):
        J, mean = operator.linearise(x), operator.unrounded(x)
        ones = operator.mask_unobserved(torch.ones_like(mean))
        noise = problem.noise.covariance_matvec(mean, ones).clamp_min(torch.finfo(mean.dtype).tiny)
        weight, ridge = ones / noise, (1 + expand_like(damping, z)) / v
        slope = log_likelihood_gradient(problem, y, x) + (z - x) / v

        def curvature(
            p: Tensor, J: LinearOperator = J, weight: Tensor = weight, ridge: Tensor = ridge
        ) -> Tensor:
            return J.adjoint(weight * J.apply(p)) + ridge * p

        d = conjugate_gradients(curvature, slope, iterations=products, rtol=_RTOL, warn=False)
        tried = x + d
        new = cost(tried)
        better = new < value  # False for NaN
        x = torch.where(expand_like(better, x), tried, x)
        value = torch.where(better, new, value)
        damping = torch.where(better, _FALL * damping, _RISE * damping)
    return x
