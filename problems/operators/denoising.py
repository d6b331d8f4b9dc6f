"""Nothing but noise: A = I."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from problems.operators.base import LinearOperator, Operator, Shape

__all__ = ["Denoising"]


@dataclass(frozen=True, eq=False, repr=False)
class Denoising(LinearOperator):
    """y = x."""

    structure: ClassVar[frozenset[str]] = frozenset({"svd", "closed_form"})
    tight_constant: ClassVar[float] = 1.0  # type: ignore[misc]

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        return {"denoise": cls()}

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def input_shape(self, shape: Shape) -> Shape:
        return shape

    def _apply(self, x: Tensor) -> Tensor:
        return x

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        return y
