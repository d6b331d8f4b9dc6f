"""A linear measurement in units of its noise."""

import torch
from torch import Tensor

from problems import InverseProblem

__all__ = ["whitened"]

_ROWS = 1024  # of a measurement whose m x m matrices are still handled outright


def whitened(problem: InverseProblem, shape: tuple[int, ...], y: Tensor) -> tuple[Tensor, Tensor]:
    """(m, D) and (m,): A and y (1, ...) in the left singular vectors and in units of the noise, so that y = A x + N(0, I).

    ValueError for more than 1024 numbers.
    """
    svd = problem.linear_operator.svd(shape, y)
    s = svd.s.flatten() / problem.noise_variance**0.5
    kept = (s > 1e-8 * s.max()).nonzero()[:, 0]
    if len(kept) > _ROWS:
        raise ValueError(f"PredictedTwist handles measurements of at most {_ROWS} numbers, got {len(kept)}; use MMPS")
    unit = torch.zeros(len(kept), len(s), dtype=y.dtype, device=y.device)
    unit[torch.arange(len(kept)), kept] = s[kept]
    rows = svd.V(unit.reshape(-1, *svd.s.shape)).flatten(1)
    return rows, svd.Ut(y).flatten()[kept] / problem.noise_variance**0.5
