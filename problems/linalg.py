"""Batched linear algebra that knows operators only as functions."""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["bcast", "conjugate_gradients", "dot"]


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Inner product per sample: (B, ...), (B, ...) -> (B,)."""
    return (a * b).flatten(1).sum(1)


def bcast(value: Tensor | float, x: Tensor) -> Tensor | float:
    """A number, or one per sample (B,), shaped to multiply x (B, ...)."""
    if isinstance(value, Tensor) and value.ndim:
        return value.reshape(-1, *[1] * (x.ndim - 1))
    return value


def conjugate_gradients(
    matvec: Callable[[Tensor], Tensor],
    b: Tensor,
    *,
    precondition: Callable[[Tensor], Tensor] = lambda r: r,
    iterations: int = 300,
    rtol: float = 1e-6,
) -> Tensor:
    """Solve M x = b for symmetric positive definite M, each sample (first axis) by itself.

    precondition: a symmetric positive definite approximation of M^{-1}. Stops when every sample has |M x - b| <= rtol |b|. A sample
    whose next step would be unreliable (converged, or p^T M p <= 0, as rounding can give) stays where it is and does not disturb the
    rest. Source: Hestenes and Stiefel 1952.
    """
    x, r = torch.zeros_like(b), b
    p = z = precondition(r)
    rho, target = dot(r, z), rtol**2 * dot(r, r)
    active = dot(r, r) > target.clamp_min(torch.finfo(b.dtype).tiny)
    for _ in range(iterations):
        if not active.any():
            break
        q = matvec(p)
        curvature = dot(p, q)
        active = active & (curvature > 0)
        step = torch.where(active, rho / torch.where(active, curvature, 1), 0)  # no 0/0, whose gradient where() would let through
        x = x + bcast(step, b) * p
        r = r - bcast(step, b) * q
        z = precondition(r)
        new = dot(r, z)
        p = z + bcast(torch.where(active, new / torch.where(active, rho, 1), 0), b) * p
        rho = torch.where(active, new, rho)
        active = active & (dot(r, r) > target)
    return x
