"""A linear measurement in units of its noise."""

import torch
from torch import Tensor

from problems import InverseProblem

__all__ = ["whitened"]


def whitened(
    problem: InverseProblem, shape: tuple[int, ...], y: Tensor, most: int
) -> tuple[Tensor, Tensor]:
    """(m, D) and (m,): A and y (1, ...) in the left singular vectors and in units of the noise, so that y = A x + N(0, I).

    ValueError for more than ``most`` numbers.
    """
    svd = problem.linear_operator.svd(shape, y)
    s = svd.s.flatten() / problem.noise_variance**0.5
    kept = (s > 1e-8 * s.max()).nonzero()[:, 0]
    if len(kept) > most:
        raise ValueError(
            f"measurements of at most {most} numbers are handled by dense matrices, got {len(kept)}; use MMPS"
        )
    unit = torch.zeros(len(kept), len(s), dtype=y.dtype, device=y.device)
    unit[torch.arange(len(kept)), kept] = s[kept]
    rows = svd.V(unit.reshape(-1, *svd.s.shape)).flatten(1)
    return rows, svd.Ut(y).flatten()[kept] / problem.noise_variance**0.5
