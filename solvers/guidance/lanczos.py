r"""Lanczos's method for the products with a square root (Chow and Saad 2014)."""

import torch
from torch import Tensor

from problems.linalg.broadcast import expand_like
from problems.linalg.solve import dot
from problems.storage import VectorList
from solvers.guidance.base import Products

__all__ = ["lanczos", "square_root_product"]


def square_root_product(product: Products, z: Tensor, iterations: int) -> Tensor:
    r"""Compute J^(1/2) z for a symmetric J >= 0, given by its products, with Lanczos's method.

    With the orthonormal basis Q of the Krylov space of (J, z) and T = Q^T J Q the result is |z| Q
    T^(1/2) e_1. It is exact if the square root is a polynomial of degree ``iterations`` - 1 on the
    spectrum of J. Of a network's Jacobian, which is not exactly symmetric, the symmetric part of T
    counts, and eigenvalues that are negative count as 0.

    Args:
        product: Function v -> J v on tensors of shape (B, ...), each sample by itself.
        z: Vectors to multiply, shape (B, ...).
        iterations: Number of products, at least 1.

    Returns:
        J^(1/2) z, shape (B, ...).

    Example:
        >>> import torch
        >>> eigenvalues = torch.tensor([1.0, 4.0, 9.0])
        >>> root = square_root_product(lambda v: eigenvalues * v, torch.ones(1, 3), iterations=3)
        >>> [[round(x, 3) for x in row] for row in root.tolist()]
        [[1.0, 2.0, 3.0]]
    """
    T, Q = lanczos(product, z, iterations)
    values, vectors = torch.linalg.eigh(T)
    weights = (vectors * values.clamp_min(0).sqrt()[:, None]) @ vectors[:, 0, :, None]
    parts = (expand_like(weights[:, k, 0], z) * one for k, one in enumerate(Q))
    return expand_like(dot(z, z).sqrt(), z) * sum(parts, start=z.new_zeros(()))


def lanczos(product: Products, z: Tensor, iterations: int) -> tuple[Tensor, VectorList]:
    """Run Lanczos's method for a symmetric matrix that is given by its products.

    Args:
        product: Function v -> J v on tensors of shape (B, ...), each sample by itself. If J is not
            exactly symmetric, its symmetric part in the Krylov space counts (with all products
            kept, which is Arnoldi's method).
        z: Start vectors, shape (B, ...).
        iterations: Number of products, at least 1.

    Returns:
        The matrices T, the symmetric part of Q^T J Q, shape (B, k, k), tridiagonal for a symmetric
        J, and the orthonormal bases Q of the Krylov spaces, k tensors of shape (B, ...) to go
        through.

    Example:
        >>> import torch
        >>> eigenvalues = torch.tensor([1.0, 4.0, 9.0])
        >>> T, Q = lanczos(lambda v: eigenvalues * v, torch.ones(1, 3), iterations=3)
        >>> torch.linalg.eigvalsh(T).round(decimals=3)
        tensor([[1., 4., 9.]])
    """
    q, Q = z / expand_like(dot(z, z).sqrt(), z), VectorList()
    H = z.new_zeros(len(z), iterations, iterations)  # Q^T J Q, zero below its first subdiagonal
    del z  # large vectors are let go as soon as they can be
    for k in range(iterations):
        Q.append(q)
        w = product(q)
        for _ in range(2):  # two passes of Gram-Schmidt are enough, in single precision too
            for i, one in enumerate(Q):
                part = dot(w, one)
                H[:, i, k] += part
                w = torch.addcmul(w, -expand_like(part, w), one)
        beta = dot(w, w).sqrt()
        if k + 1 < iterations:
            H[:, k + 1, k] = beta
        # once the Krylov space is exhausted, w is 0 and so is the next basis vector
        q = w / expand_like(beta.clamp_min(torch.finfo(w.dtype).tiny), w)
        del w
    return (H + H.mT) / 2, Q
