r"""Down-sampling with an antialiasing filter, :math:`y = R_h\, x\, R_w^T`.

Each axis is a small dense matrix R whose rows hold the filter, stretched by the factor so that it also removes what the coarse
grid cannot carry; rows sum to one and the border is mirrored (the definition of MATLAB's imresize). A acts on the two axes
separately, so two small decompositions are its SVD.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from problems.checks import check_choice
from problems.linalg.svd import SVD, separable_svd
from problems.operators.base import LinearOperator, Operator, Shape, check_image

__all__ = ["FILTERS", "Filter", "SuperResolution", "resize_matrix"]

Filter = Literal["bicubic", "bilinear", "lanczos3", "average"]
FILTERS: tuple[Filter, ...] = get_args(Filter)


def _cubic(u: Tensor) -> Tensor:
    """Keys' cubic convolution kernel, a = -1/2 (Keys 1981)."""
    u = u.abs()
    near = (1.5 * u - 2.5) * u**2 + 1
    far = ((-0.5 * u + 2.5) * u - 4) * u + 2
    return torch.where(u <= 1, near, torch.where(u < 2, far, torch.zeros_like(u)))


def _triangle(u: Tensor) -> Tensor:
    return (1 - u.abs()).clamp_min(0)


def _lanczos(u: Tensor) -> Tensor:
    return torch.where(u.abs() < 3, torch.sinc(u) * torch.sinc(u / 3), torch.zeros_like(u))


# the filter and how far it reaches, in pixels of the coarse grid
_KERNELS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "bicubic": (_cubic, 2),
    "bilinear": (_triangle, 1),
    "lanczos3": (_lanczos, 3),
}


def _box_overlap(left: Tensor, right: Tensor, pixel: Tensor) -> Tensor:
    return (torch.minimum(right, pixel + 1) - torch.maximum(left, pixel)).clamp_min(0)


@lru_cache(maxsize=64)
def resize_matrix(size: int, out: int, kind: Filter, factor: float) -> Tensor:
    """(out, size) float64 matrix that down-samples one axis by ``factor`` >= 1."""
    rows = torch.arange(out, dtype=torch.float64)
    if (
        kind == "average"
    ):  # the mean of the interval [i f, (i+1) f), pixels counted by their overlap
        pixel = torch.arange(size, dtype=torch.float64)
        weights = _box_overlap((rows * factor)[:, None], ((rows + 1) * factor)[:, None], pixel)
        return weights / weights.sum(1, keepdim=True)
    kernel, radius = _KERNELS[kind]
    centre = (rows + 0.5) * factor - 0.5
    reach = math.ceil(radius * factor) + 1
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    taps = centre.floor()[:, None] + offsets
    weights = kernel((taps - centre[:, None]) / factor)
    weights = weights / weights.sum(1, keepdim=True)
    index = taps.long() % (2 * size)  # mirror with the edge pixel repeated: period 2 size
    index = torch.where(index < size, index, 2 * size - 1 - index)
    return torch.zeros(out, size, dtype=torch.float64).scatter_add_(1, index, weights)


@lru_cache(maxsize=64)
def _axis(size: int, out: int, kind: Filter, factor: float) -> tuple[Tensor, Tensor, Tensor]:
    U, s, Vt = torch.linalg.svd(resize_matrix(size, out, kind, factor), full_matrices=False)
    return U, s, Vt


@dataclass(frozen=True, eq=False, repr=False)
class SuperResolution(LinearOperator):
    """y = x down-sampled by ``factor`` (any number > 1), antialiased by one of ``FILTERS``; "bicubic" is MATLAB's ``imresize``.

    y has ceil(H / factor) rows. The way back is ambiguous where factor does not divide H: ``shape`` (H, W) fixes the size of x, otherwise
    it is taken to be floor(rows * factor). For a filter of your own see ``Decimation``.
    """

    structure: ClassVar[frozenset[str]] = frozenset({"svd", "closed_form"})

    factor: float
    filter: Filter = "bicubic"
    shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and self.factor > 1):
            raise ValueError(f"the factor must be above 1, got {self.factor}")
        check_choice("filter", self.filter, FILTERS)
        object.__setattr__(self, "factor", float(self.factor))

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        size = (shape[1], shape[2])
        found: dict[str, Operator] = {
            f"{f}-x{k}": cls(k, f, size) for f in FILTERS for k in (2, 3, 2.5)
        }
        return found | {"bicubic-x4": cls(4, shape=size)}

    def _size(self, pixels: int) -> int:
        return max(1, math.ceil(pixels / self.factor - 1e-9))

    def _constants(self, size: int, like: Tensor) -> tuple[Tensor, ...]:
        """The matrix of one axis and its thin SVD."""
        arguments = (size, self._size(size), self.filter, self.factor)
        return self._constant(
            size,
            like,
            lambda: tuple(
                part.to(like) for part in (resize_matrix(*arguments), *_axis(*arguments))
            ),
        )

    def output_shape(self, shape: Shape) -> Shape:
        check_image(shape)
        if self.shape is not None and tuple(shape[-2:]) != tuple(self.shape):
            raise ValueError(
                f"this operator is made for images of {tuple(self.shape)} (height, width), got {tuple(shape[-2:])}"
            )
        return (*shape[:-2], self._size(shape[-2]), self._size(shape[-1]))

    def input_shape(self, shape: Shape) -> Shape:
        check_image(shape)
        height, width = self.shape or tuple(math.floor(n * self.factor + 1e-9) for n in shape[-2:])
        if (self._size(height), self._size(width)) != tuple(shape[-2:]):
            raise ValueError(
                f"an image of {(height, width)} does not shrink to {tuple(shape[-2:])} by a factor of {self.factor:g}"
            )
        return (*shape[:-2], height, width)

    def _apply(self, x: Tensor) -> Tensor:
        rows, columns = (self._constants(n, x)[0] for n in x.shape[-2:])
        return rows @ x @ columns.T

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        rows, columns = (self._constants(n, y)[0] for n in shape[-2:])
        return rows.T @ y @ columns

    def _svd(self, shape: Shape, like: Tensor) -> SVD:
        (_, *rows), (_, *columns) = (self._constants(n, like) for n in shape[-2:])
        return separable_svd(shape[0], tuple(rows), tuple(columns))  # type: ignore[arg-type]
