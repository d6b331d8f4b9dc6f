"""An explicit matrix as an operator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from problems.checks import check_sizes
from problems.linalg.svd import SVD, dense_svd
from problems.operators.base import LinearOperator, Operator, Shape

__all__ = ["LinearMatrix"]


@dataclass(frozen=True, eq=False, repr=False)
class LinearMatrix(LinearOperator):
    """Linear operator y = A vec(x) from an explicit matrix.

    Args:
        matrix: Real matrix A of shape (m, D); it is copied.
        shape: Shape of x without its batch, with D entries in all; None for the flat shape (D,).

    Raises:
        ValueError: If the matrix does not have two axes, is empty, complex or not finite, or the
            shape does not have D entries.

    Example:
        >>> import torch
        >>> from problems import LinearMatrix
        >>> operator = LinearMatrix(torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]))
        >>> y = operator.apply(torch.tensor([[1.0, 2.0, 3.0]]))
        >>> y
        tensor([[1., 4.]])
        >>> torch.allclose(operator.pinv(y), torch.tensor([[1.0, 2.0, 0.0]]))
        True
    """

    structure: ClassVar[frozenset[str]] = frozenset({"svd", "closed_form"})

    matrix: Tensor
    shape: Shape | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.matrix, Tensor):
            raise ValueError(f"the matrix must be a tensor, got {type(self.matrix).__name__}")
        if self.matrix.ndim != 2 or not self.matrix.numel():
            raise ValueError(f"the matrix must have two axes, got {tuple(self.matrix.shape)}")
        if self.matrix.is_complex():
            raise ValueError("the matrix must be real; stack real and imaginary parts")
        if not torch.isfinite(self.matrix).all():
            raise ValueError("the matrix must be finite")
        shape = (
            check_sizes(self.shape, "shape") if self.shape is not None else (self.matrix.shape[1],)
        )
        if torch.Size(shape).numel() != self.matrix.shape[1]:
            raise ValueError(
                f"shape {shape} does not have the matrix's {self.matrix.shape[1]} entries"
            )
        object.__setattr__(self, "matrix", self.matrix.detach().clone())
        object.__setattr__(self, "shape", shape)

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build typical instances for the test sheet.

        Args:
            shape: Shape (C, H, W) of the images.

        Returns:
            Operators by name.
        """
        size = torch.Size(shape).numel()
        generator = torch.Generator().manual_seed(4)
        return {
            f"matrix-{name}": cls(
                torch.randn(m, size, generator=generator, dtype=torch.float64) / size**0.5, shape
            )
            for name, m in (("wide", max(1, size // 5)), ("tall", size + 3))
        }

    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of the measurement.

        Args:
            shape: Shape of x without its batch, the shape of this operator.

        Returns:
            Shape of y without its batch, (m,).

        Raises:
            ValueError: If the shape is not that of this operator.
        """
        if tuple(shape) != self.shape:
            raise ValueError(f"the matrix is made for x of shape {self.shape}, got {tuple(shape)}")
        return (self.matrix.shape[0],)

    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x from the shape of the measurement.

        Args:
            shape: Shape of y without its batch, (m,).

        Returns:
            Shape of x without its batch, the shape of this operator.

        Raises:
            ValueError: If y does not have m entries.
        """
        if tuple(shape) != (self.matrix.shape[0],):
            raise ValueError(
                f"the matrix measures {self.matrix.shape[0]} numbers, "
                f"got a measurement of shape {tuple(shape)}"
            )
        assert self.shape is not None
        return self.shape

    def _apply(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix.to(x).T

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        return (y @ self.matrix.to(y)).reshape(len(y), *shape)

    def _svd(self, shape: Shape, like: Tensor) -> SVD:
        return dense_svd(self.matrix.double().to(like), shape, (self.matrix.shape[0],))
