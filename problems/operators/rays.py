"""Integrals of an image along rays: what all scanners of computed tomography share.

A subclass gives the points at which a ray samples the image, and the length that a sample stands
for. Samples are interpolated, and the adjoint gives every reading back with the same weights.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from problems.linalg.solve import transposes
from problems.operators.base import LinearOperator, Shape

__all__ = ["SAMPLES", "RayIntegrals"]

SAMPLES = 1 << 21
"""Points that are sampled at once."""

_KEPT = 1 << 25  # points of all rays that are kept, 270 MB in single precision


class RayIntegrals(LinearOperator):
    """Base class of operators that integrate images (C, H, W) along rays.

    y has shape (B, C, angles, detectors).
    """

    @property
    @abstractmethod
    def _size(self) -> tuple[int, int]:
        """Size (H, W) of x."""

    @property
    @abstractmethod
    def _rays(self) -> tuple[int, int]:
        """Numbers of angles and of detectors."""

    @property
    @abstractmethod
    def _points(self) -> int:
        """Points at which a ray samples the image."""

    @abstractmethod
    def _grid(self, first: int, count: int) -> Tensor:
        """Compute the sampling points of the rays of some angles.

        They have shape (1, rays of these angles, points, 2), in coordinates of ``grid_sample``.
        """

    def _grids(self, like: Tensor) -> Iterable[Tensor]:
        """The grids of all angles, a few at a time; computed anew each time if they are many."""
        angles, detectors = self._rays
        rays = detectors * self._points
        count = max(1, SAMPLES // rays)
        grids = (self._grid(first, count).to(like) for first in range(0, angles, count))
        if angles * rays > _KEPT:
            return grids
        return self._constant("grids", like, lambda: list(grids))

    @abstractmethod
    def _lengths(self, like: Tensor) -> Tensor | float:
        """Compute the length between two points, a number or (angles, detectors)."""

    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of y.

        Args:
            shape: Shape (C, H, W) of x, without the batch.

        Returns:
            Shape (C, angles, detectors).

        Raises:
            ValueError: If the image has another size than ``shape``.
        """
        if len(shape) != 3 or tuple(shape[1:]) != self._size:
            raise ValueError(
                f"this operator is made for images (C, H, W) with (H, W) = {self._size}, "
                f"got {tuple(shape)}"
            )
        return (shape[0], *self._rays)

    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x.

        Args:
            shape: Shape (C, angles, detectors) of y, without the batch.

        Returns:
            Shape (C, H, W).

        Raises:
            ValueError: If y has another number of angles or detectors.
        """
        if len(shape) != 3 or tuple(shape[1:]) != self._rays:
            angles, detectors = self._rays
            turned = len(shape) == 3 and tuple(shape[1:]) == (detectors, angles)
            hint = "; transpose it" if turned else ""
            raise ValueError(
                f"a sinogram has shape (C, {angles}, {detectors}) (angles, "
                f"detectors), got {tuple(shape)}{hint}"
            )
        return (shape[0], *self._size)

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

    def _project(self, x: Tensor) -> Tensor:
        images = x.flatten(0, 1)[None]
        rays = [
            F.grid_sample(images, grid, "bilinear", "zeros", align_corners=False).sum(-1)
            for grid in self._grids(x)
        ]
        return torch.cat(rays, -1).reshape(*x.shape[:2], *self._rays) * self._lengths(x)

    def _spread(self, y: Tensor) -> Tensor:
        images = y.new_zeros(1, y.shape[0] * y.shape[1], *self._size)
        total, first = torch.zeros_like(images), 0
        rays = (y * self._lengths(y)).reshape(1, y.shape[0] * y.shape[1], -1, 1)
        for grid in self._grids(y):
            part = rays[:, :, first : first + grid.shape[1]].expand(-1, -1, -1, grid.shape[2])
            total += torch.ops.aten.grid_sampler_2d_backward(
                part, images, grid, 0, 0, False, [True, False]
            )[0]
            first += grid.shape[1]
        return total.reshape(*y.shape[:2], *self._size)

    def _apply(self, x: Tensor) -> Tensor:
        return transposes(self._project, self._spread)[0](x)

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        return transposes(self._project, self._spread)[1](y)
