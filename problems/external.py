"""An adapter for the physics of deepinv."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from problems.operators.base import Operator, Shape
from problems.operators.function import LinearFunction, NonlinearFunction

__all__ = ["from_deepinv"]


def from_deepinv(physics: Any, shape: Shape) -> Operator:
    """Turn a ``deepinv.physics.Physics`` into an operator, without its noise.

    A physics that has ``A_adjoint`` is taken to be linear. Its ``A_adjoint`` is not used: the
    adjoint is made from its ``A`` by differentiation, so that it is exact.

    Args:
        physics: Object with a method ``A`` that maps a batch to one tensor.
        shape: Shape (C, H, W) of x, without the batch.

    Returns:
        ``LinearFunction`` if the physics has ``A_adjoint``, else ``NonlinearFunction``.

    Raises:
        ValueError: If the physics has no method ``A``, ``A`` gives anything but one tensor, or
            it has ``A_adjoint`` and ``A`` is not linear.
    """
    if not callable(getattr(physics, "A", None)):
        raise ValueError(f"a deepinv Physics has a method A; {type(physics).__name__} has none")

    def apply(x: Tensor) -> Tensor:
        y = physics.A(x)
        if not isinstance(y, Tensor):
            raise ValueError(
                f"{type(physics).__name__}.A gives a {type(y).__name__}, not one tensor; "
                "wrap its parts one by one"
            )
        return y

    kind: Callable[..., Operator] = (
        LinearFunction if hasattr(physics, "A_adjoint") else NonlinearFunction
    )
    return kind(apply, tuple(shape))
