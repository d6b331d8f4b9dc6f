r"""Down-sampling with an antialiasing filter, :math:`y = R_h\, x\, R_w^T`.

Each axis has a small dense matrix R whose rows hold the filter, stretched by the factor so that it
also removes frequencies above the limit of the coarse grid. Rows sum to one and the border is
mirrored (the definition of MATLAB's imresize). A acts on the two axes separately, so its SVD
follows from two small decompositions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from problems.checks import check_choice, check_number, check_sizes
from problems.linalg.svd import SVD, along_axes, separable_svd
from problems.operators.base import LinearOperator, Operator, Shape, check_sample

__all__ = ["FILTERS", "Filter", "SuperResolution", "resize_matrix"]

Filter = Literal["bicubic", "bilinear", "lanczos3", "average"]
FILTERS: tuple[Filter, ...] = get_args(Filter)
_LARGEST_FACTOR = 4096.0
_SAMPLES = {1: "signals", 2: "images", 3: "volumes"}


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


# The filter and its radius, in pixels of the coarse grid
_KERNELS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "bicubic": (_cubic, 2),
    "bilinear": (_triangle, 1),
    "lanczos3": (_lanczos, 3),
}


def _box_overlap(left: Tensor, right: Tensor, pixel: Tensor) -> Tensor:
    return (torch.minimum(right, pixel + 1) - torch.maximum(left, pixel)).clamp_min(0)


@lru_cache(maxsize=64)
def resize_matrix(size: int, out: int, kind: Filter, factor: float) -> Tensor:
    """Build the matrix that down-samples one axis.

    Args:
        size: Number of pixels before.
        out: Number of pixels after.
        kind: Antialiasing filter, one of ``FILTERS``.
        factor: Ratio of the pixel spacings, at least 1.

    Returns:
        Matrix (out, size), float64, whose rows sum to 1. It is cached: do not change it in place.
    """
    rows = torch.arange(out, dtype=torch.float64)
    if kind == "average":
        # the mean over the interval [i f, (i+1) f), pixels weighted by their overlap with it
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
    """Antialiased down-sampling of x by a factor, to be undone by super-resolution.

    x may be a signal or a volume, too. y has ceil(H / factor) rows. Where the factor does not
    divide H, several sizes of x give the same size of y. For a custom filter see ``Decimation``.

    Args:
        factor: Any number > 1.
        filter: Antialiasing filter, one of ``FILTERS``; "bicubic" is MATLAB's ``imresize``.
        shape: Sides of x, (H, W) for images; None for floor(rows * factor), and likewise for the
            other axes.
        dimensions: Number of axes of x after the channels: 1 for signals, 2 for images, 3 for
            volumes.

    Raises:
        ValueError: If the factor is not above 1 and finite, the filter is unknown, or the
            dimensions are not 1, 2 or 3, or the shape has another number of sides.

    Example:
        >>> import torch
        >>> from problems import SuperResolution
        >>> operator = SuperResolution(2, "average")
        >>> y = operator.apply(torch.arange(4.0).reshape(1, 1, 2, 2))
        >>> y
        tensor([[[[1.5000]]]])
        >>> operator.input_shape((1, 16, 16))
        (1, 32, 32)
    """

    structure: ClassVar[frozenset[str]] = frozenset({"svd", "closed_form"})

    factor: float
    filter: Filter = "bicubic"
    shape: tuple[int, ...] | None = None
    dimensions: int = 2

    def __post_init__(self) -> None:
        axes = int(
            check_number(self.dimensions, "dimensions of resizing", least=1, most=3, whole=True)
        )
        object.__setattr__(self, "dimensions", axes)
        check_number(self.factor, "the factor", above=1, most=_LARGEST_FACTOR)
        if self.shape is not None:
            name = {1: "shape (L,)", 2: "shape (H, W)", 3: "shape (D, H, W)"}[axes]
            object.__setattr__(self, "shape", check_sizes(self.shape, name, axes=axes))
        check_choice("filter", self.filter, FILTERS)
        object.__setattr__(self, "factor", float(self.factor))

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build example operators.

        Args:
            shape: Shape (C, H, W) of an image.

        Returns:
            All filters with three factors, and a bicubic one with factor 4, by name.
        """
        size = (shape[1], shape[2])
        found: dict[str, Operator] = {
            f"{f}-x{k}": cls(k, f, size) for f in FILTERS for k in (2, 3, 2.5)
        }
        return found | {"bicubic-x4": cls(4, shape=size)}

    def _size(self, pixels: int) -> int:
        return max(1, math.ceil(pixels / self.factor - 1e-9))

    def _constants(self, size: int, like: Tensor) -> tuple[Tensor, ...]:
        """Compute the matrix of one axis and its thin SVD."""
        arguments = (size, self._size(size), self.filter, self.factor)
        return self._constant(
            size,
            like,
            lambda: tuple(
                part.to(like) for part in (resize_matrix(*arguments), *_axis(*arguments))
            ),
        )

    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of y.

        Args:
            shape: Shape (C, H, W) of x, without the batch.

        Returns:
            Shape (C, ceil(H / factor), ceil(W / factor)).

        Raises:
            ValueError: If the image has another size than ``shape``.
        """
        check_sample(shape, self.dimensions)
        if self.shape is not None and tuple(shape[1:]) != self.shape:
            axes = {1: "", 2: " (height, width)", 3: " (depth, height, width)"}[self.dimensions]
            raise ValueError(
                f"this operator is made for {_SAMPLES[self.dimensions]} of {self.shape}{axes}, "
                f"got {tuple(shape[1:])}"
            )
        return (shape[0], *map(self._size, shape[1:]))

    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x.

        Args:
            shape: Shape (C, h, w) of y, without the batch.

        Returns:
            Shape (C, H, W).

        Raises:
            ValueError: If no image of the expected size shrinks to this shape.
        """
        check_sample(shape, self.dimensions)
        sides = self.shape or tuple(math.floor(n * self.factor + 1e-9) for n in shape[1:])
        if tuple(map(self._size, sides)) != tuple(shape[1:]):
            one = {1: "a signal", 2: "an image", 3: "a volume"}[self.dimensions]
            raise ValueError(
                f"{one} of {sides} does not shrink to {tuple(shape[1:])} by a "
                f"factor of {self.factor:g}"
            )
        return (shape[0], *sides)

    def _apply(self, x: Tensor) -> Tensor:
        return along_axes(x, [self._constants(n, x)[0] for n in x.shape[2:]])

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        return along_axes(y, [self._constants(n, y)[0].T for n in shape[1:]])

    def _svd(self, shape: Shape, like: Tensor) -> SVD:
        parts = [self._constants(n, like)[1:] for n in shape[1:]]
        return separable_svd(shape[0], [(U, values, Vt) for U, values, Vt in parts])
