"""A Gaussian prior of small pictures whose neighbours are alike."""

import torch

from scoresde import GaussianPrior
from tests.conftest import F64


def smooth_prior(side: int) -> GaussianPrior:
    """Pictures (1, side, side), correlation exp(-(|dy| + |dx|)/4), standard deviation 0.3."""
    i = torch.arange(side, dtype=F64)
    field = torch.exp(-(i[:, None] - i).abs() / 4)
    return GaussianPrior(torch.zeros(1, side, side, dtype=F64), 0.09 * torch.kron(field, field))
