r"""Down-sampling with an antialiasing filter, :math:`y = R_h\, x\, R_w^T`.

Each axis is a small dense matrix R whose rows hold the filter, stretched by the factor so that it also removes what the coarse
grid cannot carry; rows sum to one and the border is mirrored (the definition of MATLAB's imresize). A acts on the two axes
separately, hence :math:`A A^T = R_h R_h^T \otimes R_w R_w^T`, and two small eigendecompositions solve it in closed form.
"""

import math
from functools import lru_cache
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from problems.linalg import bcast
from problems.operator import LinearOperator

__all__ = ["Filter", "SuperResolution", "resize_matrix"]

Filter = Literal["bicubic", "average"]


def _cubic(u: Tensor) -> Tensor:
    """Keys' cubic convolution kernel, a = -1/2 (Keys 1981)."""
    u = u.abs()
    near = (1.5 * u - 2.5) * u**2 + 1
    far = ((-0.5 * u + 2.5) * u - 4) * u + 2
    return torch.where(u <= 1, near, torch.where(u < 2, far, torch.zeros_like(u)))


def _box_overlap(left: Tensor, right: Tensor, pixel: Tensor) -> Tensor:
    return (torch.minimum(right, pixel + 1) - torch.maximum(left, pixel)).clamp_min(0)


@lru_cache(maxsize=64)
def resize_matrix(size: int, out: int, kind: Filter, factor: float) -> Tensor:
    """(out, size) float64 matrix that down-samples one axis by ``factor`` >= 1."""
    rows = torch.arange(out, dtype=torch.float64)
    if kind == "average":  # the mean of the interval [i f, (i+1) f), pixels counted by their overlap
        pixel = torch.arange(size, dtype=torch.float64)
        weights = _box_overlap((rows * factor)[:, None], ((rows + 1) * factor)[:, None], pixel)
        return weights / weights.sum(1, keepdim=True)
    centre = (rows + 0.5) * factor - 0.5
    reach = math.ceil(2 * factor) + 1
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    taps = centre.floor()[:, None] + offsets
    weights = _cubic((taps - centre[:, None]) / factor)
    weights = weights / weights.sum(1, keepdim=True)
    index = taps.long() % (2 * size)  # mirror with the edge pixel repeated: period 2 size
    index = torch.where(index < size, index, 2 * size - 1 - index)
    return torch.zeros(out, size, dtype=torch.float64).scatter_add_(1, index, weights)


@lru_cache(maxsize=64)
def _eigh(size: int, out: int, kind: Filter, factor: float) -> tuple[Tensor, Tensor]:
    matrix = resize_matrix(size, out, kind, factor)
    values, vectors = torch.linalg.eigh(matrix @ matrix.T)
    return values.clamp_min(0), vectors


class SuperResolution(LinearOperator):
    """y = x down-sampled by ``factor`` (any number > 1) with the "bicubic" or "average" filter.

    y has ceil(H / factor) rows. The way back is ambiguous where factor does not divide H: ``shape`` (H, W) fixes the size of x, otherwise
    it is taken to be floor(rows * factor).
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({"linear", "adjoint", "solve", "closed_form"})

    def __init__(self, factor: float, filter: Filter = "bicubic", shape: tuple[int, int] | None = None) -> None:
        if not (math.isfinite(factor) and factor > 1):
            raise ValueError(f"the factor must be above 1, got {factor}")
        if filter not in get_args(Filter):
            raise ValueError(f"unknown filter {filter!r}; known: {', '.join(get_args(Filter))}")
        self.factor, self.filter, self.shape = float(factor), filter, shape

    def _size(self, pixels: int) -> int:
        return max(1, math.ceil(pixels / self.factor - 1e-9))

    def _matrices(self, shape: tuple[int, ...], like: Tensor) -> tuple[Tensor, Tensor]:
        height, width = shape[-2:]
        if self.shape is not None and (height, width) != tuple(self.shape):
            raise ValueError(f"this operator is made for images of {tuple(self.shape)} (height, width), got {(height, width)}")
        return tuple(resize_matrix(n, self._size(n), self.filter, self.factor).to(like) for n in (height, width))  # type: ignore[return-value]

    def apply(self, x: Tensor) -> Tensor:
        rows, columns = self._matrices(tuple(x.shape), x)
        return rows @ x @ columns.T

    def adjoint(self, y: Tensor) -> Tensor:
        rows, columns = self._matrices(self.input_shape(tuple(y.shape)), y)
        return rows.T @ y @ columns

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-2], self._size(shape[-2]), self._size(shape[-1]))

    def input_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        height, width = self.shape or tuple(math.floor(n * self.factor + 1e-9) for n in shape[-2:])
        if (self._size(height), self._size(width)) != tuple(shape[-2:]):
            raise ValueError(f"an image of {(height, width)} does not shrink to {tuple(shape[-2:])} by a factor of {self.factor:g}")
        return (*shape[:-2], height, width)

    def solve(self, v: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        height, width = self.input_shape(tuple(v.shape))[-2:]
        (lam_h, u_h), (lam_w, u_w) = (
            tuple(part.to(v) for part in _eigh(n, self._size(n), self.filter, self.factor)) for n in (height, width)
        )
        spectrum = lam_h[:, None] * lam_w
        w = (u_h.T @ v @ u_w) / (bcast(c0, v) + bcast(c1, v) * spectrum)
        return u_h @ w @ u_w.T
