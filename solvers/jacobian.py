"""Products of vectors with the Jacobian of a network, many from one evaluation."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["Linearisation", "value_and_products"]


def value_and_products(
    f: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """f(x) and v (k, B, ...) -> v^T df/dx (k, B, ...), from one evaluation of f."""
    try:
        with sdpa_kernel(SDPBackend.MATH):  # the fused attention has no batching rule
            value, pull = torch.func.vjp(f, x)[:2]
    except RuntimeError:  # a guided prior differentiates inside, which functorch does not allow
        with sdpa_kernel(SDPBackend.MATH):  # nor has the fused attention a second derivative
            at = Linearisation(f, x)
        return at.value, at.vjps

    def batched(v: Tensor) -> Tensor:
        try:
            return torch.vmap(lambda one: pull(one)[0])(v).detach()
        except (
            RuntimeError
        ):  # functorch does not know the backward pass of attention in mixed precision
            return Linearisation(f, x).vjps(v)

    return value.detach(), batched


class Linearisation:
    """f at x, one evaluation: ``value``, and v -> v^T df/dx, (B, ...), one at a time; ``count`` counts them."""

    def __init__(self, f: Callable[[Tensor], Tensor], x: Tensor) -> None:
        with torch.enable_grad():
            self._x = x.detach().requires_grad_()
            self._value = f(self._x)
        self.value, self.count = self._value.detach(), 0

    def vjp(self, v: Tensor) -> Tensor:
        self.count += 1
        return torch.autograd.grad(
            self._value, self._x, v.to(self._value.dtype), retain_graph=True
        )[0]

    def vjps(self, v: Tensor) -> Tensor:
        """For each row of v (k, B, ...)."""
        return torch.stack([self.vjp(one) for one in v])
