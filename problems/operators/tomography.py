"""Computed tomography: the Radon transform, line integrals of the image along parallel beams.

The definition is that of scikit-image's ``radon(circle=False)``: the image, zero outside, is
rotated about its centre by bilinear interpolation and summed along columns. The adjoint
distributes every reading to the pixels with the same weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from problems.checks import check_number, check_sizes
from problems.operators.base import Operator, Shape
from problems.operators.rays import RayIntegrals

__all__ = ["Tomography", "angles_between"]

_MOST_ANGLES = 1 << 20
_LARGEST_SPACING = 1e15


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
class Tomography(RayIntegrals):
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
    def _size(self) -> tuple[int, int]:
        return self.shape

    @property
    def _rays(self) -> tuple[int, int]:
        return len(self.angles), self.detectors

    def _lengths(self, like: Tensor) -> float:
        return self.spacing if self.spacing is not None else 1 / max(self.shape)

    @property
    def _points(self) -> int:
        return self.detectors

    def _grid(self, first: int, count: int) -> Tensor:
        n, (height, width) = self.detectors, self.shape
        offset = torch.arange(n, dtype=torch.float64) - n // 2
        detector, place = offset[:, None], offset
        angles = torch.tensor(self.angles[first : first + count], dtype=torch.float64)
        angle = angles.deg2rad()[:, None, None]
        column = angle.cos() * detector + angle.sin() * place + width // 2
        row = -angle.sin() * detector + angle.cos() * place + height // 2
        grid = torch.stack([(2 * column + 1) / width - 1, (2 * row + 1) / height - 1], -1)
        return grid.flatten(0, 1)[None]
