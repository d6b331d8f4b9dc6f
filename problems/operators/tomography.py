"""Computed tomography: the Radon transform, line integrals of the image along parallel beams.

The definition is that of scikit-image's ``radon(circle=False)``: the image, zero outside, is
rotated about its centre by bilinear interpolation and summed along columns. The adjoint
distributes every reading to the pixels with the same weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from problems.checks import check_number, check_sizes
from problems.linalg.solve import transposes
from problems.operators.base import LinearOperator, Operator, Shape

__all__ = ["Tomography", "angles_between"]

_MOST_ANGLES = 1 << 20
_LARGEST_SPACING = 1e15
_SAMPLES = 1 << 21  # sampling points of the rotated images held at once


def angles_between(count: int, start: float = 0.0, stop: float = 180.0) -> tuple[float, ...]:
    """Divide a range of angles evenly, the last angle excluded.

    Args:
        count: Number of angles, at least 1.
        start: First angle in degrees.
        stop: End of the range in degrees, excluded.

    Returns:
        Angles in degrees.

    Raises:
        ValueError: If the number of angles is below 1.
    """
    check_number(count, "the number of angles", least=1, most=_MOST_ANGLES, whole=True)
    check_number(start, "the first angle")
    check_number(stop, "the last angle")
    return tuple(start + (stop - start) * i / count for i in range(int(count)))


@dataclass(frozen=True, eq=False, repr=False)
class Tomography(LinearOperator):
    """Line integrals of x at several angles, with one detector per pixel width.

    y has shape (B, C, angles, detectors).

    Args:
        angles: Angles of the beams in degrees.
        shape: Size (H, W) of x.
        spacing: Width of a pixel, in whose unit the integrals are lengths; None for 1 / max(H, W),
            which keeps y of the order of x.

    Raises:
        ValueError: If there are no angles, an angle is not finite, the shape is not (H, W), or the
            spacing is not positive.

    Example:
        >>> import torch
        >>> from problems import Tomography, angles_between
        >>> operator = Tomography(angles_between(30), (32, 32))
        >>> operator.apply(torch.zeros(1, 1, 32, 32)).shape
        torch.Size([1, 1, 30, 46])
    """

    angles: tuple[float, ...]
    shape: tuple[int, int]
    spacing: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.angles, list | tuple) or not self.angles:
            raise ValueError(f"the angles must be finite and at least one, got {self.angles!s:.80}")
        angles = tuple(check_number(angle, "each of the angles") for angle in self.angles)
        shape = check_sizes(self.shape, "shape (H, W)", axes=2)
        if self.spacing is not None:
            check_number(self.spacing, "the spacing", above=0, most=_LARGEST_SPACING)
        object.__setattr__(self, "angles", angles)
        object.__setattr__(self, "shape", shape)

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build example operators.

        Args:
            shape: Shape (C, H, W) of an image.

        Returns:
            Six unevenly spaced angles, by name.
        """
        return {"tomography": cls((0.0, 31.0, 45.0, 90.0, 117.0, 170.0), (shape[1], shape[2]))}

    @property
    def detectors(self) -> int:
        """Number of detectors, enough for the diagonal of the image."""
        return max(n + math.ceil(math.sqrt(2) * max(self.shape) - n) for n in self.shape)

    @property
    def _width(self) -> float:
        return self.spacing if self.spacing is not None else 1 / max(self.shape)

    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of y.

        Args:
            shape: Shape (C, H, W) of x, without the batch.

        Returns:
            Shape (C, angles, detectors).

        Raises:
            ValueError: If the image has another size than ``shape``.
        """
        if len(shape) != 3 or tuple(shape[1:]) != self.shape:
            raise ValueError(
                f"this operator is made for images (C, H, W) with (H, W) = {self.shape}, "
                f"got {tuple(shape)}"
            )
        return (shape[0], len(self.angles), self.detectors)

    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x.

        Args:
            shape: Shape (C, angles, detectors) of y, without the batch.

        Returns:
            Shape (C, H, W).

        Raises:
            ValueError: If y has another number of angles or detectors.
        """
        if len(shape) != 3 or tuple(shape[1:]) != (len(self.angles), self.detectors):
            raise ValueError(
                f"a sinogram has shape (C, {len(self.angles)}, {self.detectors}) (angles, "
                f"detectors), got {tuple(shape)}"
            )
        return (shape[0], *self.shape)

    def preview(self, y: Tensor) -> Tensor:
        """Show the sinograms, each divided by its largest magnitude.

        Args:
            y: Measurements (B, C, angles, detectors).

        Returns:
            Pictures (B, C, angles, detectors) on [-1, 1].
        """
        return (
            y / y.abs().flatten(1).amax(1).clamp_min(torch.finfo(y.dtype).tiny)[:, None, None, None]
        )

    def _grids(self, like: Tensor) -> list[Tensor]:
        """Compute the sampling points of the rays, for a few angles at a time.

        Each grid has shape (1, rays of these angles, points, 2), in coordinates of ``grid_sample``.
        """

        def make() -> list[Tensor]:
            n, (height, width) = self.detectors, self.shape
            centre = n // 2
            offset = torch.arange(n, dtype=torch.float64) - centre
            detector, place = offset[:, None], offset
            count = max(1, _SAMPLES // n**2)
            grids = []
            for first in range(0, len(self.angles), count):
                angle = torch.tensor(
                    self.angles[first : first + count], dtype=torch.float64
                ).deg2rad()[:, None, None]
                column = angle.cos() * detector + angle.sin() * place + width // 2
                row = -angle.sin() * detector + angle.cos() * place + height // 2
                grid = torch.stack([(2 * column + 1) / width - 1, (2 * row + 1) / height - 1], -1)
                grids.append(grid.flatten(0, 1)[None].to(like))
            return grids

        return self._constant("grids", like, make)

    def _project(self, x: Tensor) -> Tensor:
        images = x.flatten(0, 1)[None]
        rays = [
            F.grid_sample(images, grid, "bilinear", "zeros", align_corners=False).sum(-1)
            for grid in self._grids(x)
        ]
        return (
            torch.cat(rays, -1).reshape(*x.shape[:2], len(self.angles), self.detectors)
            * self._width
        )

    def _spread(self, y: Tensor) -> Tensor:
        images = y.new_zeros(1, y.shape[0] * y.shape[1], *self.shape)
        total, first = torch.zeros_like(images), 0
        rays = y.reshape(1, y.shape[0] * y.shape[1], -1, 1)
        for grid in self._grids(y):
            part = rays[:, :, first : first + grid.shape[1]].expand(-1, -1, -1, grid.shape[2])
            total += torch.ops.aten.grid_sampler_2d_backward(
                part, images, grid, 0, 0, False, [True, False]
            )[0]
            first += grid.shape[1]
        return total.reshape(*y.shape[:2], *self.shape) * self._width

    def _apply(self, x: Tensor) -> Tensor:
        return transposes(self._project, self._spread)[0](x)

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        return transposes(self._project, self._spread)[1](y)
