"""Draws from tabulated probabilities."""

import torch
from torch import Tensor

from problems.random_numbers import uniform

__all__ = ["categorical"]


def categorical(probabilities: Tensor, generator: torch.Generator | None) -> Tensor:
    """An index of the last axis for each of the others, in proportion to the entries (float64), by one uniform number each."""
    cumulated = probabilities.cumsum(-1)
    u = (
        uniform(tuple(probabilities.shape[:-1]), generator, probabilities)[..., None]
        * cumulated[..., -1:]
    )
    return torch.searchsorted(cumulated, u, right=True)[..., 0].clamp_max(
        probabilities.shape[-1] - 1
    )
