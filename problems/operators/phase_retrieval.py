"""Phase retrieval, :math:`y = |F P x|`, as in coherent diffraction.

The measurement is the magnitude of the Fourier transform of an image with a dark margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from problems.checks import check_number, check_sizes
from problems.linalg.precision import widened
from problems.operators.base import Operator, Shape, check_image

__all__ = ["PhaseRetrieval"]

_LARGEST_RATIO = 64.0
_DARK = 1e-3  # share of the energy that a shift may push out of the frame


@dataclass(frozen=True, eq=False, repr=False)
class PhaseRetrieval(Operator):
    """Magnitudes of the unitary Fourier transform of the light (x + 1) / 2, padded with zeros.

    y has shape (B, C, H', W') with H' = ceil(oversampling H). If the oversampling is 2 or more, y
    determines x up to a shift of its support and a rotation of it by 180 degrees (Hayes 1982), and
    the sign of the light. Draws are therefore of several kinds: ``align`` turns them all the same
    way before they are averaged or compared with a truth.

    Args:
        oversampling: Ratio of the sides of y to those of x, at least 1.
        squared: Measure intensities, the squares of the magnitudes.
        shape: Size (H, W) of x; None for the size of y divided by the oversampling, rounded down.

    Raises:
        ValueError: If the oversampling is below 1 or above 64, or the shape is not (H, W).

    Example:
        >>> import torch
        >>> from problems import PhaseRetrieval
        >>> operator = PhaseRetrieval(oversampling=2.0)
        >>> operator.apply(torch.zeros(1, 1, 8, 8)).shape
        torch.Size([1, 1, 16, 16])
        >>> "linear" in operator.capabilities
        False
    """

    ambiguities: ClassVar[tuple[str, ...]] = ("shift", "rotation by 180 degrees", "sign")
    """What the measurement leaves open, for every image."""

    oversampling: float = 2.0
    squared: bool = False
    shape: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_number(self.oversampling, "the oversampling", least=1, most=_LARGEST_RATIO)
        if self.shape is not None:
            object.__setattr__(self, "shape", check_sizes(self.shape, "shape (H, W)", axes=2))

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build example operators.

        Args:
            shape: Shape (C, H, W) of an image.

        Returns:
            Magnitudes and intensities, by name.
        """
        return {
            "phase": cls(2.0),
            "phase-squared": cls(1.5, squared=True, shape=(shape[1], shape[2])),
        }

    def _size(self, pixels: int) -> int:
        return math.ceil(pixels * self.oversampling - 1e-9)

    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of y.

        Args:
            shape: Shape (C, H, W) of x, without the batch.

        Returns:
            Shape (C, H', W').

        Raises:
            ValueError: If the image has another size than ``shape``.
        """
        check_image(shape)
        if self.shape is not None and tuple(shape[-2:]) != tuple(self.shape):
            raise ValueError(
                f"this operator is made for images of {tuple(self.shape)} (height, width), "
                f"got {tuple(shape[-2:])}"
            )
        return (*shape[:-2], self._size(shape[-2]), self._size(shape[-1]))

    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x.

        Args:
            shape: Shape (C, H', W') of y, without the batch.

        Returns:
            Shape (C, H, W).

        Raises:
            ValueError: If no image of the expected size gives this shape.
        """
        check_image(shape)
        height, width = self.shape or tuple(
            math.floor(n / self.oversampling + 1e-9) for n in shape[-2:]
        )
        if (self._size(height), self._size(width)) != tuple(shape[-2:]):
            raise ValueError(
                f"an image of {(height, width)} does not give {tuple(shape[-2:])} magnitudes at "
                f"an oversampling of {self.oversampling:g}"
            )
        return (*shape[:-2], height, width)

    def preview(self, y: Tensor) -> Tensor:
        """Show the logarithm of the magnitudes with the zero frequency in the middle.

        Args:
            y: Measurements (B, C, H', W').

        Returns:
            Pictures (B, C, H', W') on [-1, 1].
        """
        dtype = y.dtype
        y = torch.fft.fftshift(widened(y).clamp_min(0), dim=(-2, -1)).add(1e-3).log()
        low, high = (
            end(y.flatten(1), dim=1)[:, None, None, None] for end in (torch.amin, torch.amax)
        )
        return (2 * (y - low) / (high - low).clamp_min(1e-6) - 1).to(dtype)

    def _apply(self, x: Tensor) -> Tensor:
        height, width = self.output_shape(tuple(x.shape[1:]))[-2:]
        light = F.pad((x + 1) / 2, (0, width - x.shape[-1], 0, height - x.shape[-2]))
        field: Tensor = torch.fft.fft2(light, norm="ortho")
        return field.real**2 + field.imag**2 if self.squared else field.abs()

    def symmetries(self, x: Tensor) -> Tensor:
        """List the images of the same frame that have the measurement of x.

        The light is taken as it is, turned by 180 degrees (which conjugates its spectrum), negated
        (-2 - x on [-1, 1]), and both. Shifts are left out, since only an object with a dark margin
        can be shifted within its frame; ``align`` tries them.

        Args:
            x: Images (..., H, W).

        Returns:
            Equivalent images (4, ..., H, W), x itself first.
        """
        turned = x.flip(-2, -1)
        return torch.stack([x, turned, -2 - x, -2 - turned])

    def align(self, x: Tensor, reference: Tensor) -> Tensor:
        """Replace each channel by the equivalent one that is nearest to a reference.

        Beside the four images of ``symmetries`` these are shifts of an object with a dark margin
        within its frame, as long as they push less than 0.1 % of its energy out of the frame.
        Channels are measured one by one, so that each has symmetries of its own. For draws without
        a known truth, the first draw serves as the reference.

        Args:
            x: Images (..., C, H, W), such as draws (n, B, C, H, W).
            reference: Images (C, H, W), (B, C, H, W) or of another shape that broadcasts to x.

        Returns:
            Images of the shape of x, with the same measurement.

        Raises:
            ValueError: If the reference does not broadcast to the shape of x.

        Example:
            >>> import torch
            >>> from problems import PhaseRetrieval
            >>> x = torch.linspace(-1, 1, 16).reshape(1, 1, 4, 4)
            >>> operator = PhaseRetrieval()
            >>> torch.equal(operator.align(x.flip(-2, -1), x), x)
            True
        """
        try:
            reference = reference.expand(x.shape)
        except RuntimeError:
            raise ValueError(
                f"a reference of shape {tuple(reference.shape)} does not fit images of shape "
                f"{tuple(x.shape)}"
            ) from None
        found = self.symmetries(x)
        moved, distance = _nearest_shifts(found, reference.expand_as(found), 1, _DARK)
        best = distance[0].argmin(0)[None, ..., None, None].expand(1, *x.shape)
        return moved[0].gather(0, best)[0]

    def placements(self, x: Tensor, reference: Tensor, count: int, dark: float = 0.03) -> Tensor:
        """List the most likely places of an object in its frame, and it turned by 180 degrees.

        All channels are shifted together. A prior can then say which of the images it knows.

        Args:
            x: Images (B, C, H, W), of the right sign.
            reference: Image (C, H, W) near which the object is expected, such as a prior's mean.
            count: Number of shifts, those that bring x nearest to the reference, at least 1.
            dark: Largest share of the energy that a shift may push out of the frame.

        Returns:
            Images (2 count, B, C, H, W). Where fewer shifts are allowed, the best one is repeated.

        Example:
            >>> import torch
            >>> from problems import PhaseRetrieval
            >>> x = torch.full((1, 1, 1, 3), -1.0)
            >>> x[..., 0] = 1.0
            >>> PhaseRetrieval().placements(x, torch.tensor([[[-1.0, 1.0, -1.0]]]), 1).squeeze()
            tensor([[-1.,  1., -1.],
                    [-1.,  1., -1.]])
        """
        both = torch.stack([x, x.flip(-2, -1)])
        moved, _ = _nearest_shifts(both, reference.expand_as(both), count, dark, together=True)
        return moved.transpose(0, 1).flatten(0, 1)


def _nearest_shifts(
    x: Tensor, reference: Tensor, count: int, dark: float, together: bool = False
) -> tuple[Tensor, Tensor]:
    """Shift each image (..., H, W) towards a reference, the light outside of the frame being zero.

    Args:
        x: Images (..., C, H, W) on [-1, 1].
        reference: Images of the same shape.
        count: Number of shifts for each.
        dark: Share of the energy that may leave the frame.
        together: Whether the channels are shifted as one.

    Returns:
        The images (count, ..., C, H, W), nearest first, and their squared distances in light,
        (count, ..., C), or (count, ..., 1) if shifted together.
    """
    height, width = x.shape[-2:]
    size = (2 * height, 2 * width)
    light, target = (widened(one + 1) / 2 for one in (x, reference))

    def spectrum(one: Tensor) -> Tensor:
        found: Tensor = torch.fft.rfft2(one, s=size)
        return found

    def correlation(one: Tensor, other: Tensor) -> Tensor:
        found: Tensor = torch.fft.irfft2(spectrum(one).conj() * spectrum(other), s=size)
        return found.sum(-3, keepdim=True) if together else found

    inside = correlation(light.square(), torch.ones_like(light))  # energy that stays, by shift
    energy = inside[..., :1, :1]
    away = inside + target.square().sum((-2, -1), keepdim=True) - 2 * correlation(light, target)
    away = torch.where(inside >= (1 - dark) * energy, away, torch.inf).flatten(-2)
    distance, places = (one.movedim(-1, 0) for one in away.topk(count, largest=False))
    places = torch.where(distance.isinf(), places[:1], places)
    distance = torch.where(distance.isinf(), distance[:1], distance)
    down, right = places // size[1], places % size[1]
    row = (
        torch.arange(height, device=x.device)
        - torch.where(down < height, down, down - size[0])[..., None]
    )
    column = (
        torch.arange(width, device=x.device)
        - torch.where(right < width, right, right - size[1])[..., None]
    )
    full = (count, *x.shape)
    within = ((row >= 0) & (row < height))[..., None] & ((column >= 0) & (column < width))[
        ..., None, :
    ]
    rows = row.clamp(0, height - 1)[..., None].expand(full)
    columns = column.clamp(0, width - 1)[..., None, :].expand(full)
    moved = x.expand(full).gather(-2, rows).gather(-1, columns)
    return torch.where(within, moved, x.new_tensor(-1.0)), distance
