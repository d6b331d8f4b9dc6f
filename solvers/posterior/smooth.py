r"""The smoothest image that explains a measurement: where point estimates start.

It is the posterior mean under the membrane prior :math:`p(x) \propto \exp(-|\nabla x|^2/(2 g^2))`,
in which the differences of neighbouring pixels are independent with standard deviation g:

.. math:: \Bigl(\frac{A^T A}{\sigma_y^2} + \frac{\nabla^T\nabla}{g^2}\Bigr) x
          = \frac{A^T y}{\sigma_y^2} .

Holes are filled by membrane interpolation, blur is divided out as by a Wiener filter, and coarse
pixels are interpolated, without any setting for each.
"""

import torch
from torch import Tensor

from problems import InverseProblem
from problems.linalg.broadcast import expand_like
from problems.linalg.solve import conjugate_gradients
from solvers.posterior.proximal import data_curvature
from solvers.scale import PHOTOGRAPHS

__all__ = ["membrane_operator", "smooth_estimate"]

GRADIENT = 0.1
"""Standard deviation of the differences of neighbouring pixels of photographs on [-1, 1]."""

_RIDGE = 1e-4  # relative weight of a prior N(0, 1), for what neither data nor gradients see
_ACCURACY = 0.06  # of the standard deviation of the data


def membrane_operator(x: Tensor) -> Tensor:
    r"""Compute :math:`\nabla^T\nabla x` over the last two axes, without flux at the border.

    Args:
        x: Images, shape (..., H, W).

    Returns:
        For each pixel the sum of its differences to its (up to four) neighbours, shape of x.

    Example:
        >>> import torch
        >>> membrane_operator(torch.tensor([[0.0, 1.0, 1.0]]))
        tensor([[-1.,  1.,  0.]])
    """
    out = torch.zeros_like(x)
    for axis in (-2, -1):
        steps = x.diff(dim=axis)
        n = x.shape[axis]
        out.narrow(axis, 0, n - 1).sub_(steps)
        out.narrow(axis, 1, n - 1).add_(steps)
    return out


def smooth_estimate(
    problem: InverseProblem,
    y: Tensor,
    shape: tuple[int, ...],
    iterations: int = 50,
    std: float = PHOTOGRAPHS,
) -> Tensor:
    """Compute the smoothest image that explains y, for a start.

    Measurements that are more accurate than 6 % of the data's standard deviation count as if they
    had this noise: a start needs no more, and the equations stay well conditioned.

    Args:
        problem: Operator and noise. A nonlinear operator is linearised at the image 0, where the
            covariance of the noise is taken, too. Of this only the row sums count.
        y: Measurements, shape (B, ...).
        shape: Shape of x, without the batch. Gradients count for images (C, H, W) alone; any other
            sample gets the solution of least norm instead of the smoothest.
        iterations: Largest number of conjugate-gradient iterations.
        std: Standard deviation of the data; 0.5 for photographs on [-1, 1].

    Returns:
        Images, shape (B, *shape).

    Example:
        >>> import torch
        >>> from problems import GaussianNoise, Inpainting, InverseProblem
        >>> mask = torch.tensor([[1.0, 0.0, 1.0]])
        >>> problem = InverseProblem(Inpainting(mask), GaussianNoise(0.1))
        >>> y = torch.tensor([[[[0.0, 0.0, 1.0]]]])
        >>> smooth_estimate(problem, y, (1, 1, 3)).round(decimals=1)
        tensor([[[[0.2000, 0.5000, 0.7000]]]])
    """
    zero = y.new_zeros(len(y), *shape)
    A, mean = problem.operator.linearise(zero), problem.operator.unrounded(zero)
    variance = problem.noise.covariance_matvec(mean, torch.ones_like(mean))
    weight = 1 / variance.clamp_min(torch.finfo(y.dtype).tiny)
    curvature = data_curvature(problem, zero)
    weight = weight * expand_like((1 / ((_ACCURACY * std) ** 2 * curvature)).clamp_max(1), weight)
    image = len(shape) == 3

    def matvec(x: Tensor) -> Tensor:
        prior = membrane_operator(x) + _RIDGE * x if image else _RIDGE * x
        return A.adjoint(weight * A.apply(x)) + prior / (GRADIENT * std / PHOTOGRAPHS) ** 2

    misfit = problem.operator.mask_unobserved(y) - mean
    return conjugate_gradients(
        matvec, A.adjoint(weight * misfit), iterations=iterations, rtol=1e-4, warn=False
    )
