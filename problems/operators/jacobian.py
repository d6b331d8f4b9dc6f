"""The Jacobian of a nonlinear operator, as a linear one."""

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
    """v -> J v at the points x (B, *shape) of an operator: what it does to small changes. For batches of that B only."""

    operator: Operator
    x: Tensor

    def output_shape(self, shape: Shape) -> Shape:
        return self.operator.output_shape(shape)

    def input_shape(self, shape: Shape) -> Shape:
        return tuple(self.x.shape[1:])

    @cached_property
    def _graph(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x, y = A(x), a zero w in the place of a product's vector, and J^T w: kept so that every product costs one pass backwards."""
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
        """The transpose of w -> J^T w, which is linear in w: two passes backwards make one forwards."""
        *_, w, pulled = self._graph
        return self._product(pulled, w, v)
