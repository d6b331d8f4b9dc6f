"""Missing pixels: A = diag(mask)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from problems.linalg.broadcast import expand_like
from problems.linalg.svd import SVD, identity
from problems.operators.base import LinearOperator, Operator, Shape, check_image

__all__ = ["Inpainting", "binary", "box_mask", "random_mask"]


def binary(mask: Tensor, what: str = "mask") -> Tensor:
    """A copy as booleans; ValueError unless it holds zeros and ones only."""
    if mask.dtype != torch.bool and not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(
            f"a {what} must be binary: 1 where a pixel is observed, 0 where it is missing"
        )
    return mask.detach().bool().clone()


@dataclass(frozen=True, eq=False, repr=False)
class Inpainting(LinearOperator):
    """y = mask * x. mask (H, W), (1, H, W) or (C, H, W): True or 1 where the pixel is observed.

    y has the shape of x, with zeros in the holes.
    """

    structure: ClassVar[frozenset[str]] = frozenset({"svd", "closed_form"})

    base_capabilities: ClassVar[frozenset[str]] = LinearOperator.base_capabilities | {"mask"}

    mask: Tensor

    def __post_init__(self) -> None:
        mask = binary(self.mask)
        if mask.ndim not in (2, 3):
            raise ValueError(f"a mask must have shape (H, W) or (C, H, W), got {tuple(mask.shape)}")
        if not mask.any():
            raise ValueError("the mask observes no pixel at all: there is nothing to restore from")
        object.__setattr__(self, "mask", mask if mask.ndim == 3 else mask[None])

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        per_channel = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.6
        per_channel.view(-1)[0] = True
        return {
            "inpaint": cls(random_mask(shape[1], shape[2], 0.4, torch.Generator().manual_seed(1))),
            "inpaint-per-channel": cls(per_channel),
        }

    def output_shape(self, shape: Shape) -> Shape:
        check_image(shape)
        if tuple(shape[-2:]) != tuple(self.mask.shape[-2:]):
            raise ValueError(
                f"the mask is {tuple(self.mask.shape[-2:])} (height, width), the image is {tuple(shape[-2:])}"
            )
        if self.mask.shape[0] not in (1, shape[-3]):
            raise ValueError(
                f"the mask has {self.mask.shape[0]} channels, the image has {shape[-3]}"
            )
        return shape

    def input_shape(self, shape: Shape) -> Shape:
        return self.output_shape(shape)

    def mask_unobserved(self, y: Tensor) -> Tensor:
        self.output_shape(tuple(y.shape[1:]))
        return torch.where(self.mask.to(y.device), y, 0)  # not a product: NaN in a hole is nothing

    def _apply(self, x: Tensor) -> Tensor:
        return x * self._constant("mask", x, lambda: self.mask.to(x))

    def _gram(self, x: Tensor, shape: Shape) -> Tensor:
        return self._apply(x)

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        return self._apply(y)

    def prox(
        self, z: Tensor, y: Tensor, noise_variance: Tensor | float, prior_variance: Tensor | float
    ) -> Tensor:
        self.output_shape(tuple(z.shape[1:]))
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
    """(H, W) mask with a rectangular hole."""
    if (
        box_height < 1
        or box_width < 1
        or top < 0
        or left < 0
        or top + box_height > height
        or left + box_width > width
    ):
        raise ValueError(
            f"the box of {box_width}x{box_height} at row {top}, column {left} does not lie inside the image of {width}x{height}"
        )
    mask = torch.ones(height, width, dtype=torch.bool)
    mask[top : top + box_height, left : left + box_width] = False
    return mask


def random_mask(
    height: int, width: int, missing: float, generator: torch.Generator | None = None
) -> Tensor:
    """(H, W) mask in which exactly round(missing * H * W) pixels, drawn at random, are holes."""
    if not 0 <= missing < 1:
        raise ValueError(f"the missing fraction must lie in [0, 1), got {missing}")
    order = torch.randperm(height * width, generator=generator)
    mask = torch.ones(height * width, dtype=torch.bool)
    mask[order[: round(missing * height * width)]] = False
    return mask.reshape(height, width)
