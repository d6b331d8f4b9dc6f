r"""Orthonormal real transforms of the last axes, in O(n log n).

The Hartley transform is :math:`\mathrm{Re} - \mathrm{Im}` of the unitary Fourier transform: real,
symmetric, its own inverse. Every real convolution with a symmetric kernel is diagonal in it.
"""

import math

import torch
from torch import Tensor

from problems.linalg.solve import complex_dtype

__all__ = ["dct", "hadamard2", "hartley", "idct"]


def hartley(x: Tensor, axes: int = 2) -> Tensor:
    """Compute the Hartley transform of the last axes; it is its own inverse.

    Args:
        x: Real tensor (..., H, W).
        axes: Number of axes, from the last one.

    Returns:
        Transform, of the shape of x.
    """
    X: Tensor = torch.fft.fftn(x, dim=tuple(range(-axes, 0)), norm="ortho")
    return X.real - X.imag


def _dct(x: Tensor) -> Tensor:
    """Compute the DCT-II of the last axis by one FFT of the same length (Makhoul 1980)."""
    n = x.shape[-1]
    V = torch.fft.fft(torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], -1))
    X: Tensor = V * _twiddle(x)
    scale = torch.full((n,), math.sqrt(2 / n), dtype=x.dtype, device=x.device)
    scale[0] = math.sqrt(1 / n)
    return X.real * scale


def _idct(X: Tensor) -> Tensor:
    n = X.shape[-1]
    scale = torch.full((n,), math.sqrt(n / 2), dtype=X.dtype, device=X.device)
    scale[0] = math.sqrt(n)
    X = X * scale
    shifted = torch.cat([torch.zeros_like(X[..., :1]), X[..., 1:].flip(-1)], -1)
    v = torch.fft.ifft(torch.complex(X, -shifted) * _twiddle(X).conj()).real
    half = (n + 1) // 2
    x = torch.empty_like(v)
    x[..., ::2], x[..., 1::2] = v[..., :half], v[..., half:].flip(-1)
    return x


def _twiddle(x: Tensor) -> Tensor:
    angle = torch.arange(x.shape[-1], dtype=torch.float64, device=x.device) * (
        -math.pi / (2 * x.shape[-1])
    )
    return torch.polar(torch.ones_like(angle), angle).to(complex_dtype(x))


def dct(x: Tensor, axes: int = 2) -> Tensor:
    """Compute the orthonormal discrete cosine transform, type II, of the last axes.

    Args:
        x: Real tensor (..., H, W).
        axes: Number of axes, from the last one.

    Returns:
        Coefficients, of the shape of x.
    """
    for axis in range(-axes, 0):
        x = _dct(x.transpose(axis, -1)).transpose(axis, -1)
    return x


def idct(X: Tensor, axes: int = 2) -> Tensor:
    """Compute the inverse, and transpose, of ``dct``.

    Args:
        X: Coefficients (..., H, W).
        axes: Number of axes, from the last one.

    Returns:
        Real tensor, of the shape of X.
    """
    for axis in range(-axes, 0):
        X = _idct(X.transpose(axis, -1)).transpose(axis, -1)
    return X


def hadamard2(x: Tensor) -> Tensor:
    """Compute the Walsh-Hadamard transform of all H W = 2^k pixels together, in natural order.

    It is its own inverse.

    Args:
        x: Real tensor (..., H, W).

    Returns:
        Transform, of the shape of x.

    Raises:
        ValueError: If H W is not a power of two.
    """
    shape, n = x.shape, x.shape[-2] * x.shape[-1]
    if n & (n - 1):
        raise ValueError(
            f"a Hadamard transform needs a power of two, got {shape[-2]}x{shape[-1]} = {n} pixels; "
            "use dct or random"
        )
    x, rest = x.flatten(-2), n
    # H_n is a Kronecker product: transform the last 4 bits and move them to the front, repeatedly.
    while rest > 1:
        radix = min(16, rest)
        H = torch.ones(1, 1, dtype=x.dtype, device=x.device)
        while len(H) < radix:
            H = torch.cat([torch.cat([H, H], 1), torch.cat([H, -H], 1)], 0) / math.sqrt(2)
        x = (x.unflatten(-1, (n // radix, radix)) @ H).mT.flatten(-2)
        rest //= radix
    return x.reshape(shape)
