r"""The part of a residual that noise cannot explain, taken out of the draws.

Let x be a draw whose residual y - A x is larger than noise makes it, because the conjugate
gradients of the last step were stopped early, because a learned Jacobian was no covariance, or
because the method has no covariance at all. What x lacks of a draw that explains y is then an error
:math:`x_0 - x`, about which the residual alone is known. Taken as :math:`N(0, r^2 I)`, its size is
the moment estimate

.. math:: r^2 = \frac{|y - A x|^2 - m\sigma_y^2}{\operatorname{tr} A A^T},

and x is replaced by a draw given y under the prior :math:`N(x, r^2 I)`. A residual that noise
explains is left alone, so that a solver that is right stays as it is. So is a large error, above
the last noise level s and above a twentieth of x: the error of :math:`x_0` given :math:`x_t` is at
most s, hence such a draw has gone wrong earlier, and its residual must be seen to say so.
"""

import torch
from torch import Tensor

from problems.linalg.broadcast import expand_like
from solvers.posterior.records import Run
from solvers.posterior.trust import chance_limit, observed
from solvers.streams import fixed_normal

__all__ = ["explain_residual"]

_SMALL = 0.05  # of the root mean square of x, as y shows it


def explain_residual(run: Run, x: Tensor, s: Tensor) -> Tensor:
    """Draw again from a white Gaussian around each draw that does not explain its measurement.

    Args:
        run: Problem, measurements and random streams of the draws.
        x: Draws, shape (B, *shape).
        s: Last noise-to-signal ratio of each, shape (B,).

    Returns:
        The draws, shape (B, *shape); x itself where the residual has the size of the noise, and
        for problems that are not linear with white Gaussian noise.
    """
    problem = run.problem
    if not {"prox_sample", "gaussian_noise"} <= problem.capabilities:
        return x
    A, variance = problem.linear_operator, problem.noise_variance
    m = observed(problem, run.y)
    square = problem.residual(run.y, x).square().flatten(1).sum(1)
    trace = problem.operator.mask_unobserved(A.apply(fixed_normal(x))).square().flatten(1).sum(1)
    trace = trace.clamp_min(torch.finfo(x.dtype).tiny)
    r2 = (square - m * variance).clamp_min(0) / trace
    size = run.y.square().flatten(1).sum(1) / trace
    small = r2 <= torch.maximum(s**2, _SMALL**2 * size)
    mended = (square > m * variance * chance_limit(m)) & small
    if not bool(mended.any()):
        return x
    drawn = A.prox_sample(x, run.y, variance, r2, run.generators)
    return torch.where(expand_like(mended, x), drawn, x)
