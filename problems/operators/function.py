"""Any function of the user as an operator, its adjoint by automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from problems.operators.base import LinearOperator, Operator, Shape

__all__ = ["LinearFunction", "NonlinearFunction"]

Function = Callable[[Tensor], Tensor]


def _output(function: Function, shape: Shape, dtype: torch.dtype = torch.float32) -> Shape:
    with torch.no_grad():
        y = function(torch.zeros(1, *shape, dtype=dtype))
    if not isinstance(y, Tensor) or y.ndim < 2 or len(y) != 1:
        raise ValueError("the function must map a batch (B, *shape) to a batch (B, ...)")
    return tuple(y.shape[1:])


class _Known:
    """Shapes that are known beforehand."""

    shape: Shape
    output: Shape | None

    def output_shape(self, shape: Shape) -> Shape:
        if tuple(shape) != tuple(self.shape):
            raise ValueError(
                f"this function is for x of shape {tuple(self.shape)}, got {tuple(shape)}"
            )
        assert self.output is not None
        return self.output

    def input_shape(self, shape: Shape) -> Shape:
        if self.output is None or tuple(shape) != tuple(self.output):
            raise ValueError(f"this function measures shape {self.output}, got {tuple(shape)}")
        return tuple(self.shape)

    def _apply(self, x: Tensor) -> Tensor:
        return self.function(x)  # type: ignore[attr-defined]


@dataclass(frozen=True, eq=False, repr=False)
class LinearFunction(_Known, LinearOperator):
    """y = function(x), linear and differentiable, on batches (B, *shape). output: the shape of y, found by a trial in float32 if not given.

    Linearity is tried on random images. Such an operator cannot be described in JSON.
    """

    function: Function
    shape: Shape
    output: Shape | None = None

    def __post_init__(self) -> None:
        if self.output is not None:
            return
        object.__setattr__(self, "output", _output(self.function, self.shape))
        a, b = torch.randn(2, 1, *self.shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            fa, fb, both = self.function(a), self.function(b), self.function(a - 2 * b)
        if not torch.allclose(
            both, fa - 2 * fb, rtol=1e-3, atol=1e-4 * float(fa.abs().max() + fb.abs().max())
        ):
            raise ValueError(
                "the function is not linear: f(a - 2 b) differs from f(a) - 2 f(b); use NonlinearFunction"
            )

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        return {
            "function": cls(
                lambda x: (
                    torch.cumsum(x, -1).flatten(1)[:, 1::2]
                    if x[0].numel() > 1
                    else 2 * x.flatten(1)
                ),
                shape,
            )
        }

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        return Operator.vjp(self, y.new_zeros(len(y), *shape), y)


@dataclass(frozen=True, eq=False, repr=False)
class NonlinearFunction(_Known, Operator):
    """y = function(x), differentiable, on batches (B, *shape). Cannot be described in JSON."""

    function: Function
    shape: Shape
    output: Shape | None = None

    def __post_init__(self) -> None:
        if self.output is None:
            object.__setattr__(self, "output", _output(self.function, self.shape))

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        return {"nonlinear-function": cls(lambda x: torch.tanh(2 * x).flatten(1), shape)}
