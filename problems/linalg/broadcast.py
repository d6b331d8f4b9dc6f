"""One value per sample, shaped to act on a batch."""

from typing import TypeVar

from torch import Tensor

__all__ = ["expand_like"]

Value = TypeVar("Value", Tensor, float, Tensor | float)


def expand_like(value: Value, x: Tensor) -> Value:
    """Reshape one value per sample so that it broadcasts against a batch.

    Args:
        value: A number, a tensor () or one value per sample (B,).
        x: Batch (B, ...).

    Returns:
        The value unchanged if it is a single one, else with shape (B, 1, ..., 1).
    """
    if isinstance(value, Tensor) and value.ndim:
        return value.reshape(-1, *[1] * (x.ndim - 1))
    return value
