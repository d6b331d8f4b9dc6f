"""Vector-Jacobian products of a network, any number of them from one evaluation."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["Linearisation", "value_and_products"]


def value_and_products(
    f: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Evaluate f once, for its value and for products with its Jacobian.

    Args:
        f: Function of a batch, (B, ...) -> (B, ...).
        x: Point of evaluation, shape (B, ...).

    Returns:
        The value f(x), and a function that maps k vectors per sample, shape (k, B, ...), to
        v^T df/dx, shape (k, B, ...).
    """
    try:
        with sdpa_kernel(SDPBackend.MATH):  # the fused attention has no batching rule
            value, pull = torch.func.vjp(f, x)[:2]
    except RuntimeError:  # a guided prior differentiates inside, which functorch does not allow
        with sdpa_kernel(SDPBackend.MATH):  # the fused attention has no second derivative either
            at = Linearisation(f, x)
        return at.value, at.vjps

    def batched(v: Tensor) -> Tensor:
        try:
            products: Tensor = torch.vmap(lambda one: pull(one)[0])(v)
            return products.detach()
        except RuntimeError:
            # functorch does not support the backward pass of attention in mixed precision
            return Linearisation(f, x).vjps(v)

    return value.detach(), batched


class Linearisation:
    """A function evaluated once at x, with vector-Jacobian products one at a time.

    Args:
        f: Function of a batch, (B, ...) -> (B, ...).
        x: Point of evaluation, shape (B, ...).

    Attributes:
        value: f(x), shape (B, ...), detached.
        count: Number of products so far.
    """

    def __init__(self, f: Callable[[Tensor], Tensor], x: Tensor) -> None:
        with torch.enable_grad():
            self._x = x.detach().requires_grad_()
            self._value = f(self._x)
        self.value, self.count = self._value.detach(), 0

    def vjp(self, v: Tensor) -> Tensor:
        """Compute one product with the Jacobian.

        Args:
            v: One vector per sample, shape (B, ...).

        Returns:
            v^T df/dx, shape (B, ...).
        """
        self.count += 1
        return torch.autograd.grad(
            self._value, self._x, v.to(self._value.dtype), retain_graph=True
        )[0]

    def vjps(self, v: Tensor) -> Tensor:
        """Compute k products with the Jacobian.

        Args:
            v: k vectors per sample, shape (k, B, ...).

        Returns:
            v^T df/dx for each of them, shape (k, B, ...).
        """
        return torch.stack([self.vjp(one) for one in v])
