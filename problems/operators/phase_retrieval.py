r"""Phase retrieval, :math:`y = |F P x|`: the magnitudes of the Fourier transform of a picture with a dark margin (coherent diffraction)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from problems.operators.base import Operator, Shape, check_image

__all__ = ["PhaseRetrieval"]


@dataclass(frozen=True, eq=False, repr=False)
class PhaseRetrieval(Operator):
    """y (B, C, H', W'), H' = ceil(oversampling H): |F| of the light (x + 1) / 2 amid zeros, F unitary. squared: intensities |F|^2.

    x is known from y up to a shift and a turn by 180 degrees of its support (Hayes 1982), if oversampling is 2 or more. shape: (H, W) of
    x where rounding leaves it open.
    """

    oversampling: float = 2.0
    squared: bool = False
    shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.oversampling) and self.oversampling >= 1):
            raise ValueError(f"the oversampling must be at least 1, got {self.oversampling}")

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        return {
            "phase": cls(2.0),
            "phase-squared": cls(1.5, squared=True, shape=(shape[1], shape[2])),
        }

    def _size(self, pixels: int) -> int:
        return math.ceil(pixels * self.oversampling - 1e-9)

    def output_shape(self, shape: Shape) -> Shape:
        check_image(shape)
        if self.shape is not None and tuple(shape[-2:]) != tuple(self.shape):
            raise ValueError(
                f"this operator is made for images of {tuple(self.shape)} (height, width), got {tuple(shape[-2:])}"
            )
        return (*shape[:-2], self._size(shape[-2]), self._size(shape[-1]))

    def input_shape(self, shape: Shape) -> Shape:
        check_image(shape)
        height, width = self.shape or tuple(
            math.floor(n / self.oversampling + 1e-9) for n in shape[-2:]
        )
        if (self._size(height), self._size(width)) != tuple(shape[-2:]):
            raise ValueError(
                f"an image of {(height, width)} does not give {tuple(shape[-2:])} magnitudes at an oversampling of {self.oversampling:g}"
            )
        return (*shape[:-2], height, width)

    def preview(self, y: Tensor) -> Tensor:
        """The logarithm, the zero frequency in the middle."""
        y = torch.fft.fftshift(y.clamp_min(0), dim=(-2, -1)).add(1e-3).log()
        low, high = (
            end(y.flatten(1), dim=1)[:, None, None, None] for end in (torch.amin, torch.amax)
        )
        return 2 * (y - low) / (high - low).clamp_min(1e-6) - 1

    def _apply(self, x: Tensor) -> Tensor:
        height, width = self.output_shape(tuple(x.shape[1:]))[-2:]
        light = F.pad((x + 1) / 2, (0, width - x.shape[-1], 0, height - x.shape[-2]))
        field = torch.fft.fft2(light, norm="ortho")
        return field.real**2 + field.imag**2 if self.squared else field.abs()
