"""The Jacobian of a nonlinear operator, as a linear operator."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from problems.operators.base import LinearOperator, Operator, Shape, derives

__all__ = ["Jacobian"]


@derives("linearise")
@dataclass(frozen=True, eq=False, repr=False)
class Jacobian(LinearOperator):
    """Linear operator v -> J v, where J is the Jacobian of an operator at given points.

    It accepts batches of the same B as x only, because each sample has its own Jacobian.

    Args:
        operator: Operator whose derivative is taken.
        x: Points at which it is taken, shape (B, *shape).
    """

    operator: Operator
    x: Tensor

    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of the measurement.

        Args:
            shape: Shape of x without its batch, the shape of a point.

        Returns:
            Shape of y without its batch, that of the operator's measurement.

        Raises:
            ValueError: If the operator does not accept the shape.
        """
        return self.operator.output_shape(shape)

    def input_shape(self, shape: Shape) -> Shape:
        """Return the shape of the points.

        Args:
            shape: Shape of y without its batch, not used.

        Returns:
            Shape of x without its batch, the shape of a point.
        """
        return tuple(self.x.shape[1:])

    @cached_property
    def _graph(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return x, y = A(x), a zero w in the shape of y, and J^T w.

        The graph is kept, so that a product with J^T costs one backward pass. w stands for the
        vector of the product.
        """
        with torch.inference_mode(False), torch.enable_grad():
            u = self.x.detach().clone().requires_grad_()
            y = self.operator.apply(u)
            w = torch.zeros_like(y, requires_grad=True)
            return (
                u,
                y,
                w,
                torch.autograd.grad(y, u, w, create_graph=True, materialize_grads=True)[0],
            )

    def _product(self, output: Tensor, argument: Tensor, v: Tensor) -> Tensor:
        """Compute the vector-Jacobian product of output with respect to argument."""
        outer = torch.is_grad_enabled() and v.requires_grad
        with torch.inference_mode(False), torch.enable_grad():
            v = v.clone() if v.is_inference() else v
            return torch.autograd.grad(
                output, argument, v, retain_graph=True, create_graph=outer, materialize_grads=True
            )[0]

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        u, value, *_ = self._graph
        return self._product(value, u, y)

    def _apply(self, v: Tensor) -> Tensor:
        """Compute J v as the transpose of w -> J^T w.

        That map is linear in w, so that two backward passes make one forward-mode product.
        """
        *_, w, pulled = self._graph
        return self._product(pulled, w, v)
