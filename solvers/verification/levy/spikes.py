r"""The variance of one Bernoulli-Laplace increment, with the increment itself integrated out.

Given its own increment, a variance of zero would stay zero for ever. Given the other variances and
the measurement, with all increments integrated out, the likelihood of the increment u is
:math:`\exp(r u - q u^2/2)`. So the odds of a jump are a ratio of two integrals, which are normal
distribution functions, and a jump is a draw of one of two truncated normals.
"""

import math

import torch
from scipy.special import ndtri_exp
from torch import Tensor

from solvers.verification.levy.increments import BernoulliLaplaceIncrements

__all__ = ["collapsed_variance"]

F64 = torch.float64
LEAST = 1e-8
"""Least curvature q, in units of 1/b^2: an increment that y does not see is within 1e-8 of it."""


def collapsed_variance(
    law: BernoulliLaplaceIncrements, q: Tensor, r: Tensor, generator: torch.Generator
) -> Tensor:
    """Draw the variances of increments with likelihood exp(r u - q u^2 / 2).

    Args:
        law: Law of the increments.
        q: Curvature of the log-likelihood, at least 0, any shape, float64.
        r: Slope of the log-likelihood at u = 0, shape of q.
        generator: Source of the random numbers.

    Returns:
        Draws of the variance w given the likelihood, shape of q; zero where there is no jump.
    """
    b = law.scale
    root = q.clamp_min(LEAST / b**2).sqrt()
    ends = torch.stack([r - 1 / b, -r - 1 / b]) / root  # of jumps up and jumps down
    masses = ends.square() / 2 + torch.special.log_ndtr(ends)
    masses = masses - root.log() + math.log(math.sqrt(2 * math.pi) / (2 * b))
    odds = math.log(law.rate / (1 - law.rate)) + torch.logaddexp(masses[0], masses[1])
    chance = torch.rand(3, *q.shape, dtype=F64, generator=generator)
    end = torch.where(chance[0] < torch.sigmoid(masses[0] - masses[1]), ends[0], ends[1])
    tail = torch.log1p(-chance[1]) + torch.special.log_ndtr(end)
    size = (end - torch.from_numpy(ndtri_exp(tail.numpy()))) / root
    jump = chance[2] < torch.sigmoid(odds)
    return torch.where(jump, law.variances_given(size.clamp_min(0), generator), 0.0)
