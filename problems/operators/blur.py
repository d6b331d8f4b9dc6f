"""Blurs: with a given kernel, Gaussian, linear motion, and out of focus.

This module builds the kernels. The convolution itself is in ``convolution.py``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from kornia.filters import get_gaussian_kernel1d
from kornia.geometry.transform import rotate
from torch import Tensor

from problems.checks import check_number
from problems.linalg.svd import SVD, separable_svd
from problems.operators.base import Operator, Shape
from problems.operators.convolution import (
    BOUNDARIES,
    CLOSED_FORM,
    Boundary,
    Convolution,
    check_side,
    clean_kernel,
    example_kernel,
    extended,
    fits,
)

__all__ = ["Blur", "DiskBlur", "GaussianBlur", "MotionBlur"]

_LONGEST = 4095.0  # line of motion
_LARGEST_RADIUS = 256.0  # of a disk: its kernel is counted on 33 x 33 points a pixel


@dataclass(frozen=True, eq=False, repr=False)
class Blur(Convolution):
    """Convolution with a given kernel.

    For several blurred copies of one picture, ``stack`` several of these.

    Args:
        kernel: Shape (l,) for signals, (h, w) for images, (d, h, w) for volumes; or one kernel per
            channel, with an axis of channels in front. It is used as it is: make it sum to 1 to
            keep the brightness.
        boundary: Rule for x outside the frame: "circular", "reflect", "replicate" or "zero"; with
            "valid", y is smaller than x.
        dimensions: Number of axes of x after the channels, 1 to 3; None for 1 if the kernel is
            (l,), else 2.

    Raises:
        ValueError: If the kernel has the wrong shape, is complex, not finite or all zero, or the
            boundary is unknown.

    Example:
        >>> import torch
        >>> from problems import Blur
        >>> x = torch.zeros(1, 1, 5, 5)
        >>> x[..., 2, 2] = 1
        >>> y = Blur(torch.ones(3, 3) / 9).apply(x)
        >>> torch.allclose(y[0, 0, 1:4, 1:4], torch.full((3, 3), 1 / 9))
        True
        >>> Blur(torch.ones(3, 3) / 9, "valid").output_shape((1, 5, 5))
        (1, 3, 3)

        A signal, whose running mean has three samples:

        >>> Blur(torch.ones(3) / 3, "replicate").apply(torch.tensor([[[0.0, 0.0, 3.0, 3.0]]]))
        tensor([[[0., 1., 2., 3.]]])
    """

    kernel: Tensor
    boundary: Boundary = "circular"
    dimensions: int | None = None

    def __post_init__(self) -> None:
        kernel, axes = clean_kernel(self.kernel, self.dimensions)
        object.__setattr__(self, "kernel", kernel)
        object.__setattr__(self, "dimensions", axes)
        self._check_boundary()

    @property
    def taps(self) -> Tensor:
        """Kernel with a channel axis, such as (1, h, w) or (C, h, w)."""
        return self.kernel if self.kernel.ndim == self.axes + 1 else self.kernel[None]

    @property
    def axes(self) -> int:
        """Number of axes of x after the channels."""
        assert self.dimensions is not None
        return self.dimensions

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build typical instances for the test sheet.

        Args:
            shape: Shape (C, H, W) of the images.

        Returns:
            Operators by name; {} if none fits.
        """
        sizes = [(h, w) for h, w in ((3, 5), (4, 2), (3, 1)) if fits(shape, h, w)]
        found: dict[str, Operator] = {
            f"blur-{h}x{w}-{b}": cls(example_kernel(h, w), b) for h, w in sizes for b in BOUNDARIES
        }
        if fits(shape, 3, 3):
            found |= {
                f"blur-per-channel-{b}": cls(example_kernel(3, 3, shape[0]), b)
                for b in ("circular", "reflect")
            }
        return found


@dataclass(frozen=True, eq=False, repr=False)
class GaussianBlur(Convolution):
    """Convolution with a Gaussian kernel.

    The kernel is separable. For every boundary small decompositions, one per axis, give the SVD.
    The solve uses them for sides of up to 1024 pixels, and conjugate gradients for longer ones
    unless the boundary is "circular", which is solved by FFT.

    Args:
        std: Standard deviation of the kernel in pixels, above 0, the same along every axis.
        boundary: Rule for x outside the frame: "circular", "reflect", "replicate" or "zero"; with
            "valid", y is smaller than x.
        truncate: Radius at which the kernel is cut, in standard deviations, above 0; rounded up to
            whole pixels.
        dimensions: Number of axes of x after the channels: 1 for signals, 2 for images, 3 for
            volumes.

    Raises:
        ValueError: If std or truncate is not positive and finite, the kernel would have a side of
            more than 4096 pixels, the boundary is unknown, or the dimensions are not 1, 2 or 3.

    Example:
        >>> import torch
        >>> from problems import GaussianBlur
        >>> operator = GaussianBlur(1.0, "reflect")
        >>> operator.kernel.shape
        torch.Size([9, 9])
        >>> x = torch.full((1, 3, 16, 16), 0.5)
        >>> torch.allclose(operator.apply(x), x)
        True
        >>> "closed_form" in operator.capabilities
        True
    """

    std: float
    boundary: Boundary = "circular"
    truncate: float = 4.0
    dimensions: int = 2

    _LARGEST = 1024  # longest side in pixels for which the axes are decomposed

    def __post_init__(self) -> None:
        std = check_number(self.std, "the standard deviation of a blur", above=0)
        truncate = check_number(self.truncate, "truncate", above=0)
        check_side(2 * truncate * std + 1, f"a blur of {self.std} pixels cut at {self.truncate}")
        axes = check_number(self.dimensions, "dimensions of a blur", least=1, most=3, whole=True)
        object.__setattr__(self, "dimensions", int(axes))
        self._check_boundary()

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build typical instances for the test sheet.

        Args:
            shape: Shape (C, H, W) of the images.

        Returns:
            Operators by name; {} if none fits.
        """
        return (
            {f"gaussian-{b}": cls(0.7, b, truncate=2.0) for b in BOUNDARIES}
            if fits(shape, 5, 5)
            else {}
        )

    @property
    def structure(self) -> frozenset[str]:  # type: ignore[override]
        """Capabilities from the structure: "svd" and "closed_form" for every boundary."""
        return CLOSED_FORM

    @cached_property
    def kernel(self) -> Tensor:
        """Kernel with the same side along every axis, float64, with sum 1."""
        line = self._line
        kernel = line
        for _ in range(self.dimensions - 1):
            kernel = kernel[..., None] * line
        return kernel

    @cached_property
    def _line(self) -> Tensor:
        """The kernel of one axis."""
        size = 2 * math.ceil(self.truncate * self.std) + 1
        line: Tensor = get_gaussian_kernel1d(size, float(self.std), dtype=torch.float64)[0]
        return line

    @property
    def taps(self) -> Tensor:
        """Kernel with a channel axis, such as (1, h, w)."""
        return self.kernel[None]

    def _axis(self, size: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the thin SVD (U, s, V^T) of the matrix that blurs one axis of x."""

        def make() -> tuple[Tensor, Tensor, Tensor]:
            line = self._line
            before, after = self._reach[0] if self.boundary != "valid" else (0, 0)
            rows = torch.eye(size, dtype=torch.float64)
            if self.boundary == "zero":
                rows = F.pad(rows, (0, 0, before, after))
            elif before or after:
                rows = rows[extended(size, before, after, self.boundary)]
            matrix = F.conv1d(rows.T[:, None], line.flip(0)[None, None])[:, 0].T
            U, s, Vt = torch.linalg.svd(matrix, full_matrices=False)
            return U.to(like), s.to(like), Vt.to(like)

        return self._constant(("axis", size), like, make)

    def _svd(self, shape: Shape, like: Tensor) -> SVD:
        if self.boundary == "circular":
            return super()._svd(shape, like)
        return separable_svd(shape[0], [self._axis(n, like) for n in shape[1:]])

    def _solve(self, v: Tensor, c0: Tensor | float, c1: Tensor | float, shape: Shape) -> Tensor:
        if self.boundary == "circular" or max(shape[1:]) <= self._LARGEST:
            return super()._solve(v, c0, c1, shape)
        return self._iterate(v, c0, c1, shape)


@dataclass(frozen=True, eq=False, repr=False)
class MotionBlur(Convolution):
    """Convolution with a straight line: the blur of linear motion.

    The line is as long as it says: its ends cover parts of their pixels, and so does a line of an
    even length. The kernel has the next odd side.

    Args:
        length: Length of the line in pixels, at least 1.
        angle: Direction of the line in degrees, anticlockwise from the horizontal.
        boundary: Rule for x outside the frame: "circular", "reflect", "replicate" or "zero"; with
            "valid", y is smaller than x.

    Raises:
        ValueError: If the length is below 1 or above 4095, the angle is not finite, or the boundary
            is unknown.

    Example:
        >>> import torch
        >>> from problems import MotionBlur
        >>> kernel = MotionBlur(5).kernel
        >>> torch.allclose(kernel[2], torch.full((5,), 0.2, dtype=torch.float64))
        True
        >>> torch.allclose(MotionBlur(5, angle=90).kernel, kernel.T)
        True
        >>> MotionBlur(4).kernel[2]
        tensor([0.1250, 0.2500, 0.2500, 0.2500, 0.1250], dtype=torch.float64)
    """

    length: float
    angle: float = 0.0
    boundary: Boundary = "circular"

    def __post_init__(self) -> None:
        check_number(self.length, "the length of a motion blur", least=1, most=_LONGEST)
        check_number(self.angle, "the angle of a motion blur")
        self._check_boundary()

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build typical instances for the test sheet.

        Args:
            shape: Shape (C, H, W) of the images.

        Returns:
            Operators by name; {} if none fits.
        """
        return {f"motion-{b}": cls(5, 30.0, b) for b in BOUNDARIES} if fits(shape, 5, 5) else {}

    @cached_property
    def kernel(self) -> Tensor:
        """Kernel of shape (n, n), n the next odd number to the length, float64, with sum 1."""
        side = 2 * math.ceil((self.length - 1) / 2) + 1
        line = torch.zeros(1, 1, side, side, dtype=torch.float64)
        line[..., side // 2, :] = 0.5
        if side > 1:
            line[..., side // 2, [0, -1]] = (self.length - side + 2) / 4
        angle = torch.tensor([float(self.angle)], dtype=torch.float64)
        kernel = rotate(line, angle, mode="bilinear", align_corners=True)[0, 0]
        return kernel / kernel.sum()

    @property
    def taps(self) -> Tensor:
        """Kernel with a channel axis, shape (1, h, w)."""
        return self.kernel[None]


@dataclass(frozen=True, eq=False, repr=False)
class DiskBlur(Convolution):
    """Convolution with a disk: the blur of a lens out of focus.

    Each tap is the share of its pixel that lies inside the disk, counted on 33 x 33 points.

    Args:
        radius: Radius of the disk in pixels, above 0.
        boundary: Rule for x outside the frame: "circular", "reflect", "replicate" or "zero"; with
            "valid", y is smaller than x.

    Raises:
        ValueError: If the radius is not positive or above 256, or the boundary is unknown.

    Example:
        >>> from problems import DiskBlur
        >>> kernel = DiskBlur(2.0).kernel
        >>> kernel.shape
        torch.Size([5, 5])
        >>> round(float(kernel.sum()), 6)
        1.0
    """

    radius: float
    boundary: Boundary = "circular"

    def __post_init__(self) -> None:
        check_number(self.radius, "the radius of a disk", above=0, most=_LARGEST_RADIUS)
        self._check_boundary()

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build typical instances for the test sheet.

        Args:
            shape: Shape (C, H, W) of the images.

        Returns:
            Operators by name; {} if none fits.
        """
        return {f"disk-{b}": cls(1.7, b) for b in BOUNDARIES} if fits(shape, 5, 5) else {}

    @cached_property
    def kernel(self) -> Tensor:
        """Kernel of shape (h, w), float64, with sum 1."""
        half, fine = math.ceil(self.radius - 0.5), 33
        place = (torch.arange((2 * half + 1) * fine, dtype=torch.float64) + 0.5) / fine - half - 0.5
        kernel = torch.cat(
            [  # one row of pixels at a time, because the fine grid of a large disk is vast
                F.avg_pool2d(
                    (rows[:, None] ** 2 + place**2 <= self.radius**2).double()[None, None], fine
                )[0, 0]
                for rows in place.split(fine)
            ]
        )
        return kernel / kernel.sum()

    @property
    def taps(self) -> Tensor:
        """Kernel with a channel axis, shape (1, h, w)."""
        return self.kernel[None]
