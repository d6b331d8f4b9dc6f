"""Missing pixels: A = diag(mask)."""

from typing import ClassVar

import torch
from torch import Tensor

from problems.linalg import bcast
from problems.operator import LinearOperator

__all__ = ["Inpainting", "box_mask", "random_mask"]


class Inpainting(LinearOperator):
    """y = mask * x. mask (H, W), (1, H, W) or (C, H, W): True or 1 where the pixel is observed.

    y has the shape of x, with zeros in the holes.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset({"linear", "adjoint", "solve", "closed_form"})

    def __init__(self, mask: Tensor) -> None:
        if mask.dtype != torch.bool and not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError("a mask must be binary: 1 where a pixel is observed, 0 where it is missing")
        if mask.ndim not in (2, 3):
            raise ValueError(f"a mask must have shape (H, W) or (C, H, W), got {tuple(mask.shape)}")
        mask = mask.bool().clone()
        if not mask.any():
            raise ValueError("the mask observes no pixel at all: there is nothing to restore from")
        self.mask = mask if mask.ndim == 3 else mask[None]

    def apply(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != self.mask.shape[-2:]:
            raise ValueError(f"the mask is {tuple(self.mask.shape[-2:])} (height, width), the image is {tuple(x.shape[-2:])}")
        if self.mask.shape[0] not in (1, x.shape[-3]):
            raise ValueError(f"the mask has {self.mask.shape[0]} channels, the image has {x.shape[-3]}")
        return torch.where(self.mask.to(x.device), x, torch.zeros_like(x))

    def adjoint(self, y: Tensor) -> Tensor:
        return self.apply(y)

    def observed(self, y: Tensor) -> Tensor:
        return self.apply(y)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def input_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def solve(self, v: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        return v / (bcast(c0, v) + bcast(c1, v) * self.mask.to(v))


def box_mask(height: int, width: int, top: int, left: int, box_height: int, box_width: int) -> Tensor:
    """(H, W) mask with a rectangular hole."""
    if box_height < 1 or box_width < 1 or top < 0 or left < 0 or top + box_height > height or left + box_width > width:
        raise ValueError(
            f"the box of {box_width}x{box_height} at row {top}, column {left} does not lie inside the image of {width}x{height}"
        )
    mask = torch.ones(height, width, dtype=torch.bool)
    mask[top : top + box_height, left : left + box_width] = False
    return mask


def random_mask(height: int, width: int, missing: float, generator: torch.Generator | None = None) -> Tensor:
    """(H, W) mask in which exactly round(missing * H * W) pixels, drawn at random, are holes."""
    if not 0 <= missing < 1:
        raise ValueError(f"the missing fraction must lie in [0, 1), got {missing}")
    order = torch.randperm(height * width, generator=generator)
    mask = torch.ones(height * width, dtype=torch.bool)
    mask[order[: round(missing * height * width)]] = False
    return mask.reshape(height, width)
