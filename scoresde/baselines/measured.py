"""What is checked of a measurement before a model of one shape restores from it."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from scoresde.baselines.base import GenerativeModel

if TYPE_CHECKING:
    from problems import InverseProblem

__all__ = ["measured"]


def measured(model: GenerativeModel, problem: "InverseProblem", y: Tensor, n: int) -> Tensor:
    """y (B, ...) in the precision and on the device of the model, holes zeroed; ValueError that names what is wrong with y or n."""
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    expected = tuple(problem.operator.output_shape(model.shape))
    if tuple(y.shape[1:]) != expected:
        raise ValueError(f"a sample {tuple(model.shape)} measures as {expected}, got measurements of shape {tuple(y.shape[1:])}")
    y = problem.operator.observed(y).to(next(model.parameters()))
    if not bool(torch.isfinite(y).all()):
        raise ValueError("the measurement has NaN or infinite entries; mask them out")
    return y
