"""Rounding within an operator: its gradient, and the operator without it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

__all__ = ["straight_through", "without_rounding"]

_left_out: ContextVar[bool] = ContextVar("rounding left out", default=False)


def straight_through(value: Tensor, x: Tensor) -> Tensor:
    """Give a rounded value the gradient of the value before rounding.

    The true gradient of a step is zero and carries no information (Bengio et al. 2013).

    Args:
        value: Rounded value.
        x: Value before rounding, of the same shape.

    Returns:
        Tensor equal to ``value`` up to rounding errors, with the gradient of ``x``; within
        :func:`without_rounding` x itself.
    """
    return x if _left_out.get() else x + (value - x).detach()


@contextmanager
def without_rounding() -> Iterator[None]:
    """Leave out every rounding within the block.

    Example:
        >>> import torch
        >>> from problems import Quantisation
        >>> with without_rounding():
        ...     Quantisation(levels=3).apply(torch.tensor([[-0.75, 0.25, 1.5]]))
        tensor([[-0.7500,  0.2500,  1.0000]])
    """
    token = _left_out.set(True)
    try:
        yield
    finally:
        _left_out.reset(token)
