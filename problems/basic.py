"""The identity, an explicit matrix, and the grey view of a colour scene."""

from typing import ClassVar

import torch
from torch import Tensor

from problems.linalg import bcast
from problems.operator import LinearOperator

__all__ = ["Denoising", "Grey", "LinearMatrix"]

_CLOSED_FORM = frozenset({"linear", "adjoint", "solve", "closed_form"})


class Denoising(LinearOperator):
    """A = I."""

    capabilities: ClassVar[frozenset[str]] = _CLOSED_FORM

    def apply(self, x: Tensor) -> Tensor:
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        return y

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def input_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def solve(self, v: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        return v / (bcast(c0, v) + bcast(c1, v))


class LinearMatrix(LinearOperator):
    """y = A vec(x) for an explicit matrix (m, D); x has shape (B, *shape) with D entries, y (B, m)."""

    capabilities: ClassVar[frozenset[str]] = _CLOSED_FORM

    def __init__(self, matrix: Tensor, shape: tuple[int, ...] | None = None) -> None:
        if matrix.ndim != 2:
            raise ValueError(f"the matrix must have two axes, got {tuple(matrix.shape)}")
        if not torch.isfinite(matrix).all():
            raise ValueError("the matrix must be finite")
        self.matrix = matrix.detach().double().clone()
        self.shape = tuple(shape) if shape is not None else (matrix.shape[1],)
        if torch.Size(self.shape).numel() != matrix.shape[1]:
            raise ValueError(f"shape {self.shape} does not have the matrix's {matrix.shape[1]} entries")
        self._values, self._vectors = torch.linalg.eigh(self.matrix @ self.matrix.T)

    def apply(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), -1) @ self.matrix.to(x).T

    def adjoint(self, y: Tensor) -> Tensor:
        return (y @ self.matrix.to(y)).reshape(len(y), *self.shape)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (self.matrix.shape[0],)

    def input_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.shape

    def solve(self, v: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        vectors = self._vectors.to(v)
        return (v @ vectors) / (bcast(c0, v) + bcast(c1, v) * self._values.clamp_min(0).to(v)) @ vectors.T


class Grey(LinearOperator):
    """The mean over ``channels`` colours of another operator's output: a grey photograph of a colour scene.

    Lets a colour prior restore a grey picture: y = (1/C) sum_c A x_c, one channel. A must treat its channels alike.
    """

    def __init__(self, operator: LinearOperator, channels: int = 3) -> None:
        self.operator, self.channels = operator, channels

    @property
    def capabilities(self) -> frozenset[str]:  # type: ignore[override]
        return self.operator.capabilities

    def apply(self, x: Tensor) -> Tensor:
        if x.shape[-3] != self.channels:
            raise ValueError(f"this operator is made for {self.channels} channels, the image has {x.shape[-3]}")
        return self.operator.apply(x.mean(-3, keepdim=True))

    def adjoint(self, y: Tensor) -> Tensor:
        x = self.operator.adjoint(y)
        return x.expand(*x.shape[:-3], self.channels, *x.shape[-2:]) / self.channels

    def observed(self, y: Tensor) -> Tensor:
        return self.operator.observed(y)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.operator.output_shape((1, *shape[-2:]))

    def input_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (self.channels, *self.operator.input_shape(shape)[-2:])

    def solve(self, v: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        return self.operator.solve(v, c0, c1 / self.channels)  # A_grey A_grey^T = A A^T / C
