r"""What a linear measurement can be asked: :math:`A x`, :math:`A^T y`, and :math:`(c_0 I + c_1 A A^T)^{-1} v`.

Everything a solver needs follows from these three. The primal solve and the prox are Woodbury's identity,

.. math:: (c_0 I + c_1 A^T A)^{-1} z = \bigl(z - c_1 A^T (c_0 I + c_1 A A^T)^{-1} A z\bigr)/c_0 .
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from problems.linalg import bcast, conjugate_gradients

__all__ = ["LinearOperator"]


class LinearOperator(ABC):
    """A linear map A on batches (B, ...). Frozen: nothing about it changes after construction.

    capabilities: what it can do, by name: "linear", "adjoint", "solve", and "closed_form" where the solve is exact.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({"linear", "adjoint", "solve"})

    @abstractmethod
    def apply(self, x: Tensor) -> Tensor:
        """A x for x (B, ...)."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y for y (B, ...), in the shape that ``input_shape`` gives."""

    @abstractmethod
    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of A x for x of this shape, both without batch."""

    @abstractmethod
    def input_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of x for a measurement of this shape, both without batch."""

    def observed(self, y: Tensor) -> Tensor:
        """y with the entries zeroed that A can never reach (the holes of a mask), which carry no noise either."""
        return y

    def solve(self, v: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        """(c0 I + c1 A A^T)^{-1} v. c0 > 0, c1 >= 0: numbers or one per sample (B,).

        This default runs conjugate gradients to a relative residual of 1e-6 (float32) or 1e-12 (float64).
        """
        return conjugate_gradients(
            lambda u: bcast(c0, u) * u + bcast(c1, u) * self.apply(self.adjoint(u)),
            v,
            precondition=lambda r: self._precondition(r, c0, c1),
            rtol=1e-6 if v.dtype == torch.float32 else 1e-12,
        )

    def _precondition(self, r: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        """Something near to (c0 I + c1 A A^T)^{-1} r that is cheap, symmetric and positive definite."""
        return r

    def solve_primal(self, z: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        """(c0 I + c1 A^T A)^{-1} z."""
        return (z - bcast(c1, z) * self.adjoint(self.solve(self.apply(z), c0, c1))) / bcast(c0, z)

    def prox(self, z: Tensor, y: Tensor, noise_variance: Tensor | float, prior_variance: Tensor | float) -> Tensor:
        """argmin_x |y - A x|^2 / (2 noise_variance) + |x - z|^2 / (2 prior_variance).

        Also the posterior mean of x under the prior N(z, prior_variance I).
        """
        residual = self.solve(y - self.apply(z), noise_variance, prior_variance)
        return z + bcast(prior_variance, z) * self.adjoint(residual)

    def dense(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Tensor:
        """The matrix of A for x of this shape, (m, D). For tests and exact posteriors of small problems."""
        size = int(torch.Size(shape).numel())
        if size > 1 << 14:
            raise ValueError(f"a dense matrix with {size} columns is too large; use apply and adjoint")
        return self.apply(torch.eye(size, dtype=dtype).reshape(size, *shape)).reshape(size, -1).T.contiguous()
