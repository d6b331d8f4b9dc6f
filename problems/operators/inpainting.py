"""Inpainting, A = diag(mask), and masks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from problems.checks import check_number, check_sizes, check_tensor
from problems.linalg.broadcast import expand_like
from problems.linalg.svd import SVD, identity
from problems.operators.base import LinearOperator, Operator, Shape, check_sample

__all__ = ["Inpainting", "binary", "box_mask", "random_mask"]


def binary(mask: Tensor, what: str = "mask") -> Tensor:
    """Copy a mask as booleans.

    Args:
        mask: Mask of any shape and dtype.
        what: Name of the mask in the message.

    Returns:
        Mask of the same shape, bool.

    Raises:
        ValueError: If the mask holds anything but zeros and ones.
    """
    check_tensor(mask, f"a {what}")
    if mask.dtype != torch.bool and not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(
            f"a {what} must be binary: 1 where a pixel is observed, 0 where it is missing"
        )
    return mask.detach().bool().clone()


@dataclass(frozen=True, eq=False, repr=False)
class Inpainting(LinearOperator):
    """Inpainting, y = mask * x: pixels are missing.

    y has the shape of x, with zeros in the holes.

    Args:
        mask: Mask (L,) for signals, (H, W) for images, (D, H, W) for volumes; or one mask per
            channel, with an axis of channels in front. True or 1 where the pixel is observed.
        dimensions: Number of axes of x after the channels, 1 to 3; None for 1 if the mask is (L,),
            else 2.

    Raises:
        ValueError: If the mask is not binary, has another number of axes, or observes no pixel.

    Example:
        >>> import torch
        >>> from problems import Inpainting, box_mask
        >>> operator = Inpainting(box_mask(3, 3, top=1, left=1, box_height=1, box_width=1))
        >>> operator.apply(torch.ones(1, 1, 3, 3))
        tensor([[[[1., 1., 1.],
                  [1., 0., 1.],
                  [1., 1., 1.]]]])
        >>> Inpainting(torch.tensor([1, 0, 1, 1])).apply(torch.ones(1, 1, 4))
        tensor([[[1., 0., 1., 1.]]])
    """

    structure: ClassVar[frozenset[str]] = frozenset({"svd", "closed_form"})

    base_capabilities: ClassVar[frozenset[str]] = LinearOperator.base_capabilities | {"mask"}

    mask: Tensor
    dimensions: int | None = None

    def __post_init__(self) -> None:
        mask = binary(self.mask)
        axes = (1 if mask.ndim == 1 else 2) if self.dimensions is None else self.dimensions
        axes = int(check_number(axes, "dimensions of a mask", least=1, most=3, whole=True))
        if mask.ndim not in (axes, axes + 1):
            sides = {1: "L", 2: "H, W", 3: "D, H, W"}[axes]
            raise ValueError(
                f"a mask must have shape ({sides}{',' * (axes == 1)}) or (C, {sides}), "
                f"got {tuple(mask.shape)}"
            )
        if not mask.any():
            raise ValueError("the mask observes no pixel at all: there is nothing to restore from")
        object.__setattr__(self, "mask", mask if mask.ndim > axes else mask[None])
        object.__setattr__(self, "dimensions", axes)

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build example operators.

        Args:
            shape: Shape (C, H, W) of an image.

        Returns:
            One mask for all channels, and one for each channel, by name.
        """
        per_channel = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.6
        per_channel.view(-1)[0] = True
        return {
            "inpaint": cls(random_mask(shape[1], shape[2], 0.4, torch.Generator().manual_seed(1))),
            "inpaint-per-channel": cls(per_channel),
        }

    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of y, which is that of x.

        Args:
            shape: Shape of x without the batch, (C, H, W) for images.

        Returns:
            The same shape.

        Raises:
            ValueError: If the mask does not fit the shape.
        """
        assert self.dimensions is not None
        check_sample(shape, self.dimensions)
        axes, one = {
            1: ("", "signal"),
            2: (" (height, width)", "image"),
            3: (" (depth, height, width)", "volume"),
        }[self.dimensions]
        if tuple(shape[1:]) != tuple(self.mask.shape[1:]):
            raise ValueError(
                f"the mask is {tuple(self.mask.shape[1:])}{axes}, the {one} is {tuple(shape[1:])}"
            )
        if self.mask.shape[0] not in (1, shape[0]):
            raise ValueError(
                f"the mask has {self.mask.shape[0]} channels, the {one} has {shape[0]}"
            )
        return shape

    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x, which is that of y.

        Args:
            shape: Shape of y without the batch, (C, H, W) for images.

        Returns:
            The same shape.

        Raises:
            ValueError: If the mask does not fit the shape.
        """
        return self.output_shape(shape)

    def mask_unobserved(self, y: Tensor) -> Tensor:
        """Set the holes of a measurement to zero, even where they hold NaN.

        Args:
            y: Measurements, (B, C, H, W) for images.

        Returns:
            Measurements of the same shape with zeros in the holes.

        Raises:
            ValueError: If the mask does not fit the shape.
        """
        self.output_shape(tuple(y.shape[1:]))
        return torch.where(self.mask.to(y.device), y, 0)  # a product would keep NaN in a hole

    def _apply(self, x: Tensor) -> Tensor:
        return x * self._constant("mask", x, lambda: self.mask.to(x))

    def _gram(self, x: Tensor, shape: Shape) -> Tensor:
        return self._apply(x)

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        return self._apply(y)

    def _prox(
        self, z: Tensor, y: Tensor, noise_variance: Tensor | float, prior_variance: Tensor | float
    ) -> Tensor:
        prior_variance = expand_like(prior_variance, z)
        return z + self._apply(
            prior_variance / (expand_like(noise_variance, z) + prior_variance) * (y - z)
        )

    def _svd(self, shape: Shape, like: Tensor) -> SVD:
        return SVD(
            self.mask.to(like).expand(shape),
            identity,
            identity,
            identity,
            identity,
            complete_v=True,
            complete_u=True,
        )


def box_mask(
    height: int, width: int, top: int, left: int, box_height: int, box_width: int
) -> Tensor:
    """Make a mask with a rectangular hole.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        top: First row of the hole.
        left: First column of the hole.
        box_height: Height of the hole in pixels.
        box_width: Width of the hole in pixels.

    Returns:
        Mask (H, W), bool, True where observed.

    Raises:
        ValueError: If the hole is empty or not inside the image.

    Example:
        >>> from problems import box_mask
        >>> box_mask(3, 4, top=0, left=1, box_height=2, box_width=2).int()
        tensor([[1, 0, 0, 1],
                [1, 0, 0, 1],
                [1, 1, 1, 1]], dtype=torch.int32)
    """
    for name, value in (
        ("height", height),
        ("width", width),
        ("top", top),
        ("left", left),
        ("box_height", box_height),
        ("box_width", box_width),
    ):
        check_number(value, name, whole=True)
    check_sizes((height, width), "a mask")
    if (
        box_height < 1
        or box_width < 1
        or top < 0
        or left < 0
        or top + box_height > height
        or left + box_width > width
    ):
        raise ValueError(
            f"the box of {box_width}x{box_height} at row {top}, "
            f"column {left} does not lie inside the image of {width}x{height}"
        )
    mask = torch.ones(height, width, dtype=torch.bool)
    mask[top : top + box_height, left : left + box_width] = False
    return mask


def random_mask(
    height: int, width: int, missing: float, generator: torch.Generator | None = None
) -> Tensor:
    """Make a mask with holes at random pixels.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        missing: Fraction of missing pixels in [0, 1); exactly round(missing * H * W) are holes.
        generator: Source of the positions, on the CPU; None for the global one.

    Returns:
        Mask (H, W), bool, True where observed.

    Raises:
        ValueError: If the fraction is not in [0, 1).

    Example:
        >>> import torch
        >>> from problems import random_mask
        >>> int(random_mask(8, 8, 0.25, torch.Generator().manual_seed(0)).sum())
        48
    """
    check_sizes((height, width), "a mask")
    try:
        check_number(missing, "the missing fraction", least=0, below=1)
    except ValueError:
        raise ValueError(f"the missing fraction must lie in [0, 1), got {missing!s:.80}") from None
    order = torch.randperm(height * width, generator=generator)
    mask = torch.ones(height * width, dtype=torch.bool)
    mask[order[: round(missing * height * width)]] = False
    return mask.reshape(height, width)
