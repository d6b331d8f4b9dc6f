"""Denoising: A = I, so that the noise is the only damage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from problems.operators.base import LinearOperator, Operator, Shape

__all__ = ["Denoising"]


@dataclass(frozen=True, eq=False, repr=False)
class Denoising(LinearOperator):
    """Identity, y = x.

    Example:
        >>> import torch
        >>> from problems import Denoising
        >>> z, y = torch.zeros(1, 3), torch.tensor([[1.0, 2.0, 3.0]])
        >>> Denoising().prox(z, y, noise_variance=1.0, prior_variance=1.0)
        tensor([[0.5000, 1.0000, 1.5000]])
    """

    structure: ClassVar[frozenset[str]] = frozenset({"svd", "closed_form"})
    tight_constant: ClassVar[float] = 1.0  # type: ignore[misc]

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build typical instances for the test sheet.

        Args:
            shape: Shape (C, H, W) of the images.

        Returns:
            Operators by name.
        """
        return {"denoise": cls()}

    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of the measurement.

        Args:
            shape: Shape of x without its batch, any.

        Returns:
            Shape of y without its batch, that of x.
        """
        return shape

    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x from the shape of the measurement.

        Args:
            shape: Shape of y without its batch, any.

        Returns:
            Shape of x without its batch, that of y.
        """
        return shape

    def _apply(self, x: Tensor) -> Tensor:
        return x

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        return y
