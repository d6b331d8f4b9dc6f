"""Linear measurements in units of their noise."""

import torch
from torch import Tensor

from problems import InverseProblem
from solvers.posterior.records import WHITENING_RTOL

__all__ = ["whitened"]


def whitened(
    problem: InverseProblem, shape: tuple[int, ...], y: Tensor, most: int
) -> tuple[Tensor, Tensor]:
    """Rotate a measurement to its singular vectors and scale it so that y = A x + N(0, I).

    Args:
        problem: Linear problem with Gaussian noise.
        shape: Shape of x, without batch.
        y: The measurement, shape (1, ...).
        most: Largest number m of measured values that is accepted.

    Returns:
        The whitened matrix A, shape (m, D), and the whitened measurement y, shape (m,).

    Raises:
        ValueError: If there are more than ``most`` measured values.
    """
    svd = problem.linear_operator.svd(shape, y)
    s = svd.s.flatten() / problem.noise_variance**0.5
    kept = (s > WHITENING_RTOL * s.max()).nonzero()[:, 0]
    if len(kept) > most:
        raise ValueError(
            f"this solver handles measurements of at most {most} numbers with dense matrices, "
            f"got {len(kept)}; use MMPS"
        )
    unit = torch.zeros(len(kept), len(s), dtype=y.dtype, device=y.device)
    unit[torch.arange(len(kept)), kept] = s[kept]
    rows = svd.V(unit.reshape(-1, *svd.s.shape)).flatten(1)
    return rows, svd.Ut(y).flatten()[kept] / problem.noise_variance**0.5
