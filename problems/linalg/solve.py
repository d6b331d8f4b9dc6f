"""Batched linear algebra for operators that are given as functions."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from problems.linalg.broadcast import expand_like

__all__ = ["SolveWarning", "complex_dtype", "conjugate_gradients", "dot", "transposes"]

_LARGE, _PIECE = 1 << 22, 1 << 20  # entries of a sample, whose products would take memory


class SolveWarning(RuntimeWarning):
    """Warning that an iterative solve stopped before it reached the requested residual."""


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Compute the inner product of each sample.

    Args:
        a: Batch (B, ...).
        b: Batch (B, ...).

    Returns:
        Inner products, shape (B,).
    """
    if a.shape != b.shape or a[:1].numel() < _LARGE:
        return (a * b).flatten(1).sum(1)
    pieces = zip(a.flatten(1).split(_PIECE, 1), b.flatten(1).split(_PIECE, 1), strict=True)
    return torch.stack([(one * other).sum(1) for one, other in pieces]).sum(0)


def complex_dtype(x: Tensor) -> torch.dtype:
    """Choose the complex dtype for the precision of a tensor, at least single precision.

    Args:
        x: Real tensor.

    Returns:
        ``torch.complex128`` for float64, else ``torch.complex64``.
    """
    return torch.complex128 if x.dtype == torch.float64 else torch.complex64


def transposes(
    apply: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor]
) -> tuple[Callable[[Tensor], Tensor], ...]:
    """Make two linear maps, each the transpose of the other, differentiable to any order.

    The gradient of each map is the other one.

    Args:
        apply: Linear map on batches.
        adjoint: Transpose of ``apply``.

    Returns:
        The functions ``apply`` and ``adjoint`` with these gradients.
    """

    class Forward(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            return apply(x)

        @staticmethod
        def backward(ctx: object, v: Tensor) -> Tensor:
            pulled: Tensor = Backward.apply(v)  # type: ignore[no-untyped-call]
            return pulled

    class Backward(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, y: Tensor) -> Tensor:
            return adjoint(y)

        @staticmethod
        def backward(ctx: object, v: Tensor) -> Tensor:
            pulled: Tensor = Forward.apply(v)  # type: ignore[no-untyped-call]
            return pulled

    return Forward.apply, Backward.apply


def conjugate_gradients(
    matvec: Callable[[Tensor], Tensor],
    b: Tensor,
    *,
    precondition: Callable[[Tensor], Tensor] = lambda r: r,
    iterations: int = 500,
    rtol: float | None = None,
    warn: bool = True,
) -> Tensor:
    """Solve M x = b for symmetric positive (semi-)definite M, each sample (first axis) by itself.

    It stops when every sample has ``|M x - b| <= rtol |b|``. A sample whose next step would be
    unreliable (converged, or ``p^T M p <= 0``, as rounding can give) is frozen and does not disturb
    the rest. As x starts from zero it stays in the range of M, so that the result is the solution
    of least norm. Source: Hestenes and Stiefel 1952.

    Args:
        matvec: Product with M, (B, ...) -> (B, ...).
        b: Right-hand sides (B, ...).
        precondition: Product with a symmetric positive definite approximation of M^{-1}.
        iterations: Largest number of iterations.
        rtol: Relative residual to reach; None for 1e-12 in float64 and 1e-6 otherwise.
        warn: Emit a ``SolveWarning`` with the residual where not even sqrt(rtol) was reached.

    Returns:
        Solutions x, of the shape of b.

    Example:
        >>> import torch
        >>> from problems.linalg.solve import conjugate_gradients
        >>> M = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
        >>> conjugate_gradients(lambda x: x @ M, torch.tensor([[3.0, 5.0]]))
        tensor([[0.8000, 1.4000]])
    """
    if rtol is None:
        rtol = 1e-12 if b.dtype == torch.float64 else 1e-6
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
        # The inner where avoids 0/0, whose NaN gradient would pass through the outer one.
        step = torch.where(active, rho / torch.where(active, curvature, 1), 0)
        x = x + expand_like(step, b) * p
        r = r - expand_like(step, b) * q
        z = precondition(r)
        new = dot(r, z)
        p = z + expand_like(torch.where(active, new / torch.where(active, rho, 1), 0), b) * p
        rho = torch.where(active, new, rho)
        active = active & (dot(r, r) > target)
    if warn and active.any():
        _warn(matvec(x.detach()) - b.detach(), b, iterations, rtol)
    return x


def _warn(residual: Tensor, b: Tensor, iterations: int, rtol: float) -> None:
    relative = float((dot(residual, residual) / dot(b, b)).nan_to_num().max().sqrt())
    if relative > rtol**0.5:
        warnings.warn(
            f"conjugate gradients stopped after {iterations} iterations at a relative residual of "
            f"{relative:.1e}, asked for {rtol:.0e}",
            SolveWarning,
            stacklevel=4,
        )
