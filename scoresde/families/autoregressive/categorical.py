"""Draws from tabulated probabilities."""

import torch
from torch import Tensor

from problems.random_numbers import uniform

__all__ = ["categorical"]


def categorical(probabilities: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw indices from tabulated probabilities, by one uniform number each.

    Args:
        probabilities: Weights along the last axis, shape (*S, L), float64. They need not sum to 1.
        generator: Source of the random numbers; None for torch's global one.

    Returns:
        Indices from 0 to L - 1, shape (*S), int64.

    Example:
        >>> import torch
        >>> weights = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]], dtype=torch.float64)
        >>> categorical(weights, torch.Generator().manual_seed(0))
        tensor([1, 2])
    """
    cumulated = probabilities.cumsum(-1)
    u = (
        uniform(tuple(probabilities.shape[:-1]), generator, probabilities)[..., None]
        * cumulated[..., -1:]
    )
    return torch.searchsorted(cumulated, u, right=True)[..., 0].clamp_max(
        probabilities.shape[-1] - 1
    )
