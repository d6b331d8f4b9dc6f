r"""Computed tomography in millimetres: parallel beams, and fans from a source to a detector.

The image is a map of attenuation in 1/mm, its middle at the centre of rotation (the isocentre).
Coordinates are in mm, x to the right and y upwards. At the angle :math:`\theta` the detector lies
along :math:`u = (\cos\theta, \sin\theta)`, and rays go along :math:`(\sin\theta, -\cos\theta)`. At
0 degrees that is from the top to the bottom. Growing angles turn the scanner anticlockwise, as in
scikit-image's ``radon`` and :class:`problems.Tomography`. The detector j is at

.. math:: t_j = (j - (n - 1)/2)\,\text{pitch} + \text{offset}

along u. y is the line integral of the attenuation, without unit: :math:`I = I_0 e^{-y}`
(:class:`problems.Transmission`).

Line integrals follow Joseph (1982): a ray that is nearer to the vertical is sampled once in every
row, by linear interpolation between two pixels, and another one once in every column.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from problems.checks import check_number, check_sizes
from problems.operators.base import Operator, Shape
from problems.operators.rays import RayIntegrals

__all__ = ["FanBeam", "ParallelBeam"]

_LARGEST = 1e9  # millimetres
_MOST_DETECTORS = 1 << 20
_OUTSIDE = -4.0  # coordinate of points that are not part of a ray


class _Beams(RayIntegrals):
    """Rays as points and unit directions in mm."""

    angles: tuple[float, ...]
    shape: tuple[int, int]
    pixel: float
    detectors: int
    pitch: float
    offset: float

    def _clean(self) -> None:
        object.__setattr__(self, "angles", _angles(self.angles))
        object.__setattr__(self, "shape", check_sizes(self.shape, "shape (H, W)", axes=2))
        check_number(self.pixel, "the side of a pixel", above=0, most=_LARGEST)
        count = check_number(
            self.detectors, "the number of detectors", least=1, most=_MOST_DETECTORS, whole=True
        )
        object.__setattr__(self, "detectors", int(count))
        check_number(self.pitch, "the pitch of the detector", above=0, most=_LARGEST)
        check_number(self.offset, "the offset of the detector", least=-_LARGEST, most=_LARGEST)

    @abstractmethod
    def _lines(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Compute a point of each ray in mm and its unit direction, both (2, angles, detectors).

        ``theta`` are angles in radians, (angles, 1).
        """

    @property
    def positions(self) -> Tensor:
        """Positions of the detectors along the detector, in mm, (detectors,), float64."""
        place = torch.arange(self.detectors, dtype=torch.float64) - (self.detectors - 1) / 2
        return place * self.pitch + self.offset

    @property
    def _size(self) -> tuple[int, int]:
        return self.shape

    @property
    def _rays(self) -> tuple[int, int]:
        return len(self.angles), self.detectors

    def _pixels(self, first: int, count: int) -> tuple[Tensor, Tensor]:
        """The rays of some angles in pixels: points and directions (column, row)."""
        theta = torch.tensor(self.angles[first : first + count], dtype=torch.float64).deg2rad()
        point, direction = self._lines(theta[:, None])
        down = torch.tensor([1.0, -1.0], dtype=torch.float64)[:, None, None]
        middle = torch.tensor(self.shape[::-1], dtype=torch.float64)[:, None, None] / 2 - 0.5
        return point * down / self.pixel + middle, direction * down

    def _lengths(self, like: Tensor) -> Tensor:
        def make() -> Tensor:
            _, direction = self._pixels(0, len(self.angles))
            return (self.pixel / direction.abs().amax(0)).to(like)

        return self._constant("lengths", like, make)

    @property
    def _points(self) -> int:
        return max(self.shape)

    def _grid(self, first: int, count: int) -> Tensor:
        height, width = self.shape
        place = torch.arange(max(self.shape), dtype=torch.float64)
        (c, r), (dc, dr) = (part.flatten(1)[..., None] for part in self._pixels(first, count))
        steep = dr.abs() >= dc.abs()
        slope = torch.where(steep, dc / dr, dr / dc)
        across = torch.where(steep, c - r * slope, r - c * slope) + slope * place
        column, row = torch.where(steep, across, place), torch.where(steep, place, across)
        inside = place < torch.where(steep, height, width)
        grid = torch.stack([(2 * column + 1) / width - 1, (2 * row + 1) / height - 1], -1)
        return torch.where(inside[..., None], grid, _OUTSIDE)[None]


@dataclass(frozen=True, eq=False, repr=False)
class ParallelBeam(_Beams):
    """Line integrals of an attenuation in 1/mm along parallel rays, as of a synchrotron.

    y has shape (B, C, angles, detectors), without unit.

    Args:
        angles: Angles of the beams in degrees, in any order.
        shape: Size (H, W) of x.
        pixel: Side of a pixel in mm.
        detectors: Number of detectors.
        pitch: Distance of neighbouring detectors in mm.
        offset: Position of the middle of the detector in mm.

    Raises:
        ValueError: If there are no angles, one is not finite, the shape is not (H, W), or a length
            or number is out of its range.

    Example:
        A pixel of 0.5 mm and 0.02 per mm attenuates by 0.01:

        >>> import torch
        >>> from problems import ParallelBeam
        >>> beam = ParallelBeam((0.0, 90.0), (3, 3), pixel=0.5, detectors=3, pitch=0.5)
        >>> x = torch.zeros(1, 1, 3, 3)
        >>> x[..., 0, 1] = 0.02
        >>> beam.apply(x)
        tensor([[[[0.0000, 0.0100, 0.0000],
                  [0.0000, 0.0000, 0.0100]]]])
    """

    angles: tuple[float, ...]
    shape: tuple[int, int]
    pixel: float
    detectors: int
    pitch: float
    offset: float = 0.0

    def __post_init__(self) -> None:
        self._clean()

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build example operators.

        Args:
            shape: Shape (C, H, W) of an image.

        Returns:
            Five unevenly spaced angles and a detector that is not centred, by name.
        """
        sides = (shape[1], shape[2])
        return {"parallel-beam": cls((100.0, 0.0, 31.0, 45.0, 160.0), sides, 0.5, 9, 0.6, 0.2)}

    def _lines(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        c, s = theta.cos(), theta.sin()
        t = self.positions
        direction = torch.stack([s, -c]).expand(-1, -1, len(t))
        return torch.stack([c * t, s * t]), direction


@dataclass(frozen=True, eq=False, repr=False)
class FanBeam(_Beams):
    """Line integrals of an attenuation in 1/mm along a fan of rays from a source.

    y has shape (B, C, angles, detectors), without unit. The source at the angle theta is at
    ``source_distance`` times (-sin theta, cos theta), above the image at 0 degrees.

    Args:
        angles: Angles of the scanner in degrees, in any order.
        shape: Size (H, W) of x.
        pixel: Side of a pixel in mm.
        source_distance: Distance from the source to the centre of rotation in mm; the whole image
            must lie nearer to the centre.
        detector_distance: Distance from the centre of rotation to the detector in mm, at least 0. A
            pitch that was scaled to the centre of rotation goes with 0.
        detectors: Number of detectors.
        pitch: Distance of neighbouring detectors in mm.
        offset: Position of the middle of the detector in mm, along the detector.
        arc: If True the detectors lie on an arc about the source, and pitch and offset are lengths
            along it; if False on a straight line.

    Raises:
        ValueError: If there are no angles, one is not finite, the shape is not (H, W), a length or
            number is out of its range, or the source is in the image.

    Example:
        >>> import torch
        >>> from problems import FanBeam, angles_between
        >>> fan = FanBeam(
        ...     angles_between(60, 0, 360),
        ...     (64, 64),
        ...     pixel=2.0,
        ...     source_distance=500.0,
        ...     detector_distance=500.0,
        ...     detectors=96,
        ...     pitch=4.0,
        ... )
        >>> fan.apply(torch.full((1, 1, 64, 64), 0.02)).shape
        torch.Size([1, 1, 60, 96])
    """

    angles: tuple[float, ...]
    shape: tuple[int, int]
    pixel: float
    source_distance: float
    detector_distance: float
    detectors: int
    pitch: float
    offset: float = 0.0
    arc: bool = False

    def __post_init__(self) -> None:
        self._clean()
        check_number(self.source_distance, "the distance of the source", above=0, most=_LARGEST)
        check_number(self.detector_distance, "the distance of the detector", least=0, most=_LARGEST)
        corner = math.hypot(*self.shape) * self.pixel / 2
        if self.source_distance <= corner:
            raise ValueError(
                f"the source must lie outside of the image, whose corners are {corner:.6g} mm from "
                f"the centre of rotation; its distance is {self.source_distance:.6g} mm"
            )
        if not isinstance(self.arc, bool):
            raise ValueError(f"arc must be True or False, got {self.arc!s:.80}")
        if self.arc:
            widest = float(self.positions.abs().max()) / self._span
            if widest >= math.pi / 2:
                raise ValueError(
                    f"the detector spans {math.degrees(widest):.4g} degrees on one side of the "
                    "central ray, more than 90"
                )

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build example operators.

        Args:
            shape: Shape (C, H, W) of an image.

        Returns:
            A straight detector and an arc, each with five unevenly spaced angles, by name.
        """
        far = 1.5 * max(shape[1:]) * 0.5
        angles = (200.0, 0.0, 31.0, 135.0, 300.0)
        sides = (shape[1], shape[2])
        return {
            "fan-beam": cls(angles, sides, 0.5, far, far, 9, 1.1, 0.3),
            "fan-beam-arc": cls(angles, sides, 0.5, far, 0.5 * far, 9, 0.9, arc=True),
        }

    @property
    def _span(self) -> float:
        """Distance from the source to the detector."""
        return float(self.source_distance) + float(self.detector_distance)

    def _lines(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        c, s = theta.cos(), theta.sin()
        gamma = self.positions / self._span if self.arc else (self.positions / self._span).atan()
        source = torch.stack([-s, c]) * self.source_distance
        # the central ray (s, -c), turned towards the detector axis (c, s) by gamma
        direction = torch.stack(
            [s * gamma.cos() + c * gamma.sin(), -c * gamma.cos() + s * gamma.sin()]
        )
        return source.expand_as(direction), direction


def _angles(angles: Any) -> tuple[float, ...]:
    """Angles as plain numbers, of a list, tuple, array or tensor."""
    values = angles.tolist() if hasattr(angles, "tolist") else angles
    if isinstance(values, str) or not isinstance(values, Sequence) or not len(values):
        raise ValueError(f"the angles must be a list of at least one number, got {angles!s:.80}")
    return tuple(check_number(angle, "each of the angles") for angle in values)
