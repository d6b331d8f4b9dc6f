"""Any differentiable function as an operator, with its adjoint by automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from problems.operators.base import LinearOperator, Operator, Shape

__all__ = ["LinearFunction", "NonlinearFunction"]

Function = Callable[[Tensor], Tensor]


def _output(function: Function, shape: Shape, dtype: torch.dtype = torch.float32) -> Shape:
    """Return the shape of y without its batch, from a trial on zeros."""
    with torch.no_grad():
        y = function(torch.zeros(1, *shape, dtype=dtype))
    if not isinstance(y, Tensor) or y.ndim < 2 or len(y) != 1:
        raise ValueError("the function must map a batch (B, *shape) to a batch (B, ...)")
    return tuple(y.shape[1:])


class _Known:
    """Shapes that are known in advance."""

    function: Function
    shape: Shape
    output: Shape | None

    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of the measurement.

        Args:
            shape: Shape of x without its batch, the shape of this operator.

        Returns:
            Shape of y without its batch, ``output``.

        Raises:
            ValueError: If the shape is not that of this operator.
        """
        if tuple(shape) != tuple(self.shape):
            raise ValueError(
                f"this function is made for x of shape {tuple(self.shape)}, got {tuple(shape)}"
            )
        assert self.output is not None
        return self.output

    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x from the shape of the measurement.

        Args:
            shape: Shape of y without its batch, ``output``.

        Returns:
            Shape of x without its batch, the shape of this operator.

        Raises:
            ValueError: If the shape is not that of the measurement.
        """
        if self.output is None or tuple(shape) != tuple(self.output):
            raise ValueError(f"this function measures shape {self.output}, got {tuple(shape)}")
        return tuple(self.shape)

    def _apply(self, x: Tensor) -> Tensor:
        return self.function(x)


@dataclass(frozen=True, eq=False, repr=False)
class LinearFunction(_Known, LinearOperator):
    """Linear operator from a differentiable function on batches (B, *shape).

    If ``output`` is None, the function is called on zeros for the shape of y and on random images
    for a test of its linearity, all in float32. Such an operator cannot be described in JSON.

    Args:
        function: Linear, differentiable map from (B, *shape) to (B, *output).
        shape: Shape of x without its batch.
        output: Shape of y without its batch; None to find it by a trial.

    Raises:
        ValueError: If the trial shows that the function does not map batches to batches or is not
            linear.

    Example:
        >>> import torch
        >>> from problems import LinearFunction
        >>> operator = LinearFunction(lambda x: x.cumsum(-1), (1, 1, 3))
        >>> operator.apply(torch.ones(1, 1, 1, 3))
        tensor([[[[1., 2., 3.]]]])
        >>> operator.adjoint(torch.ones(1, 1, 1, 3))
        tensor([[[[3., 2., 1.]]]])
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
                "the function is not linear: f(a - 2 b) differs from f(a) - 2 f(b); "
                "use NonlinearFunction"
            )

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build typical instances for the test sheet.

        Args:
            shape: Shape (C, H, W) of the images.

        Returns:
            Operators by name.
        """
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
    """Operator from a differentiable function on batches (B, *shape).

    Such an operator cannot be described in JSON.

    Args:
        function: Differentiable map from (B, *shape) to (B, *output).
        shape: Shape of x without its batch.
        output: Shape of y without its batch; None to find it by a trial on zeros in float32.

    Raises:
        ValueError: If the trial shows that the function does not map batches to batches.

    Example:
        >>> import torch
        >>> from problems import NonlinearFunction
        >>> operator = NonlinearFunction(torch.square, (1, 1, 3))
        >>> x = torch.tensor([[[[1.0, 2.0, 3.0]]]])
        >>> operator.apply(x)
        tensor([[[[1., 4., 9.]]]])
        >>> operator.vjp(x, torch.ones_like(x))
        tensor([[[[2., 4., 6.]]]])
    """

    function: Function
    shape: Shape
    output: Shape | None = None

    def __post_init__(self) -> None:
        if self.output is None:
            object.__setattr__(self, "output", _output(self.function, self.shape))

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build typical instances for the test sheet.

        Args:
            shape: Shape (C, H, W) of the images.

        Returns:
            Operators by name.
        """
        return {"nonlinear-function": cls(lambda x: torch.tanh(2 * x).flatten(1), shape)}
