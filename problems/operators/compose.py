"""One operator after another, and several side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from problems.linalg.svd import SVD
from problems.operators.base import LinearOperator, Operator, Shape, derives

__all__ = ["Composition", "NonlinearComposition", "NonlinearStack", "Stack", "compose", "stack"]


@derives("compose")
def compose(outer: Operator, inner: Operator) -> Operator:
    """x -> outer(inner(x)), also written ``outer @ inner``."""
    if isinstance(outer, LinearOperator) and isinstance(inner, LinearOperator):
        return Composition(outer, inner)
    return NonlinearComposition(outer, inner)


def stack(*operators: Operator, shape: Shape) -> Operator:
    """x of this shape measured by each of them."""
    linear = tuple(op for op in operators if isinstance(op, LinearOperator))
    return (
        Stack(linear, shape) if len(linear) == len(operators) else NonlinearStack(operators, shape)
    )


class _Chain:
    outer: Operator
    inner: Operator

    @property
    def quantises(self) -> bool:
        return self.outer.quantises or self.inner.quantises

    def output_shape(self, shape: Shape) -> Shape:
        return self.outer.output_shape(self.inner.output_shape(shape))

    def input_shape(self, shape: Shape) -> Shape:
        return self.inner.input_shape(self.outer.input_shape(shape))

    def mask_unobserved(self, y: Tensor) -> Tensor:
        return self.outer.mask_unobserved(y)

    def _apply(self, x: Tensor) -> Tensor:
        return self.outer._apply(self.inner._apply(x))


@dataclass(frozen=True, eq=False, repr=False)
class Composition(_Chain, LinearOperator):
    """A = outer inner. Where inner inner^T = c I, the solve and the SVD are those of ``outer``."""

    outer: LinearOperator
    inner: LinearOperator

    @property
    def tight_constant(self) -> float | None:  # type: ignore[override]
        a, b = self.outer.tight_constant, self.inner.tight_constant
        return None if a is None or b is None else a * b

    @property
    def structure(self) -> frozenset[str]:  # type: ignore[override]
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
    """y = outer(inner(x))."""

    outer: Operator
    inner: Operator


class _Side:
    operators: tuple[Any, ...]
    shape: Shape

    def __post_init__(self) -> None:
        if not self.operators:
            raise ValueError("a stack needs at least one operator")
        object.__setattr__(self, "operators", tuple(self.operators))
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        for op in self.operators:
            op.output_shape(self.shape)

    @property
    def quantises(self) -> bool:
        return any(op.quantises for op in self.operators)

    @property
    def sizes(self) -> list[int]:
        """Numbers that each operator measures."""
        return [torch.Size(op.output_shape(self.shape)).numel() for op in self.operators]

    def output_shape(self, shape: Shape) -> Shape:
        if tuple(shape) != self.shape:
            raise ValueError(f"this stack is made for x of shape {self.shape}, got {tuple(shape)}")
        return (sum(self.sizes),)

    def input_shape(self, shape: Shape) -> Shape:
        if tuple(shape) != (sum(self.sizes),):
            raise ValueError(
                f"this stack measures {sum(self.sizes)} numbers, got a measurement of shape {tuple(shape)}"
            )
        return self.shape

    def parts(self, y: Tensor) -> list[Tensor]:
        """The measurement (B, m) as each operator made it, (B, ...)."""
        pieces = y.split(self.sizes, dim=1)
        return [
            piece.reshape(len(y), *op.output_shape(self.shape))
            for op, piece in zip(self.operators, pieces, strict=True)
        ]

    def mask_unobserved(self, y: Tensor) -> Tensor:
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
    """Several measurements of one x (B, *shape), flattened and joined: y (B, m). ``parts`` takes them apart again."""

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
    """As ``Stack``, of operators that need not be linear."""

    operators: tuple[Operator, ...]
    shape: Shape
