"""Compositions of operators, and stacks of several measurements of one x."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from problems.checks import check_sizes
from problems.linalg.svd import SVD
from problems.operators.base import LinearOperator, Operator, Shape, derives

__all__ = ["Composition", "NonlinearComposition", "NonlinearStack", "Stack", "compose", "stack"]


@derives("compose")
def compose(outer: Operator, inner: Operator) -> Operator:
    """Return the operator x -> outer(inner(x)), also written ``outer @ inner``.

    Args:
        outer: Operator that is applied second.
        inner: Operator that is applied first.

    Returns:
        ``Composition`` if both are linear, otherwise ``NonlinearComposition``.

    Example:
        >>> import torch
        >>> from problems import GaussianBlur, Grayscale, LinearOperator, compose
        >>> operator = compose(GaussianBlur(1.0), Grayscale())
        >>> operator.apply(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 1, 16, 16])
        >>> isinstance(operator, LinearOperator)
        True
    """
    if isinstance(outer, LinearOperator) and isinstance(inner, LinearOperator):
        return Composition(outer, inner)
    return NonlinearComposition(outer, inner)


def stack(*operators: Operator, shape: Shape) -> Operator:
    """Return the operator that measures one x with each of several operators.

    Args:
        operators: Operators that accept x of the given shape, at least one.
        shape: Shape of x without its batch, (C, H, W); a required keyword.

    Returns:
        ``Stack`` if all operators are linear, otherwise ``NonlinearStack``. Its measurement is
        flat, shape (B, m); its method ``parts`` returns the measurements one by one.

    Raises:
        ValueError: If there is no operator or one of them does not accept the shape.

    Example:
        >>> import torch
        >>> from problems import GaussianBlur, Grayscale, stack
        >>> operator = stack(GaussianBlur(1.0), Grayscale(), shape=(3, 16, 16))
        >>> y = operator.apply(torch.zeros(2, 3, 16, 16))
        >>> y.shape
        torch.Size([2, 1024])
        >>> [tuple(part.shape) for part in operator.parts(y)]
        [(2, 3, 16, 16), (2, 1, 16, 16)]
    """
    linear = tuple(op for op in operators if isinstance(op, LinearOperator))
    return (
        Stack(linear, shape) if len(linear) == len(operators) else NonlinearStack(operators, shape)
    )


class _Chain:
    """Shapes and ``apply`` that linear and nonlinear compositions share."""

    outer: Operator
    inner: Operator

    @property
    def quantises(self) -> bool:
        """True if ``apply`` of either operator rounds to a grid."""
        return self.outer.quantises or self.inner.quantises

    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of the measurement.

        Args:
            shape: Shape of x without its batch, as ``inner`` accepts it.

        Returns:
            Shape of y without its batch, as ``outer`` gives it.

        Raises:
            ValueError: If one of the operators does not accept its shape.
        """
        return self.outer.output_shape(self.inner.output_shape(shape))

    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x from the shape of the measurement.

        Args:
            shape: Shape of y without its batch, as ``outer`` gives it.

        Returns:
            Shape of x without its batch, as ``inner`` accepts it.

        Raises:
            ValueError: If one of the operators cannot give its shape.
        """
        return self.inner.input_shape(self.outer.input_shape(shape))

    def mask_unobserved(self, y: Tensor) -> Tensor:
        """Set the entries of y to zero that ``outer`` never reaches.

        Args:
            y: Measurement (B, ...).

        Returns:
            Tensor in the shape of y.
        """
        return self.outer.mask_unobserved(y)

    def _apply(self, x: Tensor) -> Tensor:
        return self.outer._apply(self.inner._apply(x))


@dataclass(frozen=True, eq=False, repr=False)
class Composition(_Chain, LinearOperator):
    """Linear operator A = outer inner.

    If inner inner^T = c I, the solve and the SVD follow from those of ``outer``.

    Args:
        outer: Operator that is applied second.
        inner: Operator that is applied first.
    """

    outer: LinearOperator
    inner: LinearOperator

    @property
    def tight_constant(self) -> float | None:  # type: ignore[override]
        """The c of A A^T = c I; None if one of the operators has none."""
        a, b = self.outer.tight_constant, self.inner.tight_constant
        return None if a is None or b is None else a * b

    @property
    def structure(self) -> frozenset[str]:  # type: ignore[override]
        """Capabilities of ``outer`` if inner inner^T = c I, otherwise none."""
        return self.outer.structure if self.inner.tight_constant is not None else frozenset()

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        return self.inner._adjoint(self.outer._adjoint(y, self.inner.output_shape(shape)), shape)

    def _solve(self, v: Tensor, c0: Tensor | float, c1: Tensor | float, shape: Shape) -> Tensor:
        if self.inner.tight_constant is None:
            return self._iterate(v, c0, c1, shape)
        return self.outer._solve(
            v, c0, c1 * self.inner.tight_constant, self.inner.output_shape(shape)
        )

    def _svd(self, shape: Shape, like: Tensor) -> SVD:
        outer, scale = (
            self.outer.svd(self.inner.output_shape(shape), like),
            (self.inner.tight_constant or 0.0) ** 0.5,
        )
        return replace(
            outer,
            s=outer.s * scale,
            V=lambda w: self.inner._adjoint(outer.V(w), shape) / scale,
            Vt=lambda x: outer.Vt(self.inner._apply(x)) / scale,
            complete_v=outer.complete_v and outer.s.numel() == torch.Size(shape).numel(),
        )


@dataclass(frozen=True, eq=False, repr=False)
class NonlinearComposition(_Chain, Operator):
    """Operator y = outer(inner(x)), at least one of them nonlinear.

    Args:
        outer: Operator that is applied second.
        inner: Operator that is applied first.
    """

    outer: Operator
    inner: Operator


class _Side:
    """Shapes and ``apply`` that linear and nonlinear stacks share."""

    operators: tuple[Any, ...]
    shape: Shape

    def __post_init__(self) -> None:
        if not self.operators:
            raise ValueError("a stack needs at least one operator")
        object.__setattr__(self, "operators", tuple(self.operators))
        object.__setattr__(self, "shape", check_sizes(self.shape, "shape"))
        for op in self.operators:
            op.output_shape(self.shape)

    @property
    def quantises(self) -> bool:
        """True if ``apply`` of any of the operators rounds to a grid."""
        return any(op.quantises for op in self.operators)

    @property
    def sizes(self) -> list[int]:
        """Number m_i of entries that each operator measures."""
        return [torch.Size(op.output_shape(self.shape)).numel() for op in self.operators]

    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of the measurement.

        Args:
            shape: Shape of x without its batch, the shape of the stack.

        Returns:
            Shape of y without its batch, (m,).

        Raises:
            ValueError: If the shape is not that of the stack.
        """
        if tuple(shape) != self.shape:
            raise ValueError(f"this stack is made for x of shape {self.shape}, got {tuple(shape)}")
        return (sum(self.sizes),)

    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x from the shape of the measurement.

        Args:
            shape: Shape of y without its batch, (m,).

        Returns:
            Shape of x without its batch, the shape of the stack.

        Raises:
            ValueError: If y does not have the number of entries that the stack measures.
        """
        if tuple(shape) != (sum(self.sizes),):
            raise ValueError(
                f"this stack measures {sum(self.sizes)} numbers, "
                f"got a measurement of shape {tuple(shape)}"
            )
        return self.shape

    def parts(self, y: Tensor) -> list[Tensor]:
        """Split a measurement into those of the operators.

        Args:
            y: Measurement of the stack, shape (B, m).

        Returns:
            One tensor (B, ...) per operator, in the shape that the operator gives.
        """
        pieces = y.split(self.sizes, dim=1)
        return [
            piece.reshape(len(y), *op.output_shape(self.shape))
            for op, piece in zip(self.operators, pieces, strict=True)
        ]

    def mask_unobserved(self, y: Tensor) -> Tensor:
        """Set the entries of y to zero that their operator never reaches.

        Args:
            y: Measurement of the stack, shape (B, m).

        Returns:
            Tensor (B, m).
        """
        return torch.cat(
            [
                op.mask_unobserved(part).flatten(1)
                for op, part in zip(self.operators, self.parts(y), strict=True)
            ],
            1,
        )

    def _apply(self, x: Tensor) -> Tensor:
        return torch.cat([op._apply(x).flatten(1) for op in self.operators], 1)


@dataclass(frozen=True, eq=False, repr=False)
class Stack(_Side, LinearOperator):
    """Several linear measurements of one x (B, *shape), flattened and concatenated to y (B, m).

    ``parts`` splits y again.

    Args:
        operators: Linear operators that accept x of the given shape, at least one.
        shape: Shape of x without its batch.

    Raises:
        ValueError: If there is no operator or one of them does not accept the shape.
    """

    operators: tuple[LinearOperator, ...]
    shape: Shape

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        pieces = [
            op._adjoint(part, shape) for op, part in zip(self.operators, self.parts(y), strict=True)
        ]
        return reduce(torch.add, pieces)

    def _gram(self, x: Tensor, shape: Shape) -> Tensor:
        first, *rest = (op._gram(x, shape) for op in self.operators)
        return sum(rest, start=first)

    def _solve(self, v: Tensor, c0: Tensor | float, c1: Tensor | float, shape: Shape) -> Tensor:
        if len(self.operators) > 1:
            return self._iterate(v, c0, c1, shape)
        return self.operators[0]._solve(self.parts(v)[0], c0, c1, shape).flatten(1)


@dataclass(frozen=True, eq=False, repr=False)
class NonlinearStack(_Side, Operator):
    """Several measurements of one x, by operators that need not be linear.

    Args:
        operators: Operators that accept x of the given shape, at least one.
        shape: Shape of x without its batch.

    Raises:
        ValueError: If there is no operator or one of them does not accept the shape.
    """

    operators: tuple[Operator, ...]
    shape: Shape
