r"""Compressed sensing, :math:`y = S\,\Phi x`: a few coefficients of an orthonormal transform, kept at random places.

The rows are orthonormal, :math:`A A^T = I`, and no matrix is ever stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from problems.checks import check_choice
from problems.linalg.transforms import dct2, hadamard2, idct2
from problems.operators.base import LinearOperator, Operator, Shape

__all__ = ["CompressedSensing"]

Transform = Literal["hadamard", "dct", "random"]


@dataclass(frozen=True, eq=False, repr=False)
class CompressedSensing(LinearOperator):
    """y (B, C, m): round(fraction H W) coefficients of each channel, the first (the mean, for "hadamard" and "dct") always among them.

    transform: "hadamard" (a single-pixel camera; H W must be a power of two), "dct", or "random": signs flipped at random, then a DCT,
    which mixes every pixel into every coefficient as a random matrix would (Do, Gan, Nguyen and Tran 2012). shape: (H, W) of x. seed: of
    the places and the signs.
    """

    structure: ClassVar[frozenset[str]] = frozenset({"svd", "closed_form"})
    tight_constant: ClassVar[float] = 1.0  # type: ignore[misc]

    fraction: float
    shape: tuple[int, int]
    transform: Transform = "random"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(
                f"the fraction of coefficients must lie in (0, 1], got {self.fraction}"
            )
        check_choice("transform", self.transform, Transform)
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 2 or min(shape) < 1:
            raise ValueError(f"shape must be (H, W) of the image, got {self.shape}")
        n = math.prod(shape)
        if self.transform == "hadamard" and n & (n - 1):
            raise ValueError(
                f"a Hadamard transform needs a power of two, got {shape[0]}x{shape[1]} = {n} pixels; use 'dct' or 'random'"
            )
        object.__setattr__(self, "shape", shape)

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        size = (shape[1], shape[2])
        kinds: tuple[Transform, ...] = (
            ("dct", "random") if math.prod(size) & (math.prod(size) - 1) else get_args(Transform)
        )
        return {f"sense-{kind}": cls(0.4, size, kind, seed=2) for kind in kinds}

    @property
    def count(self) -> int:
        """m."""
        return max(1, round(self.fraction * math.prod(self.shape)))

    def _places(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Indices of the coefficients that are kept, (m,), and the signs of the pixels, (H, W)."""

        def make() -> tuple[Tensor, Tensor]:
            generator = torch.Generator().manual_seed(self.seed)
            rest = (
                torch.randperm(math.prod(self.shape) - 1, generator=generator)[: self.count - 1] + 1
            )
            places = torch.cat([torch.zeros(1, dtype=torch.long), rest.sort().values])
            signs = 1 - 2 * torch.randint(2, self.shape, generator=generator)
            return places.to(like.device), signs.to(like)

        return self._constant("places", like, make)

    def output_shape(self, shape: Shape) -> Shape:
        if tuple(shape[-2:]) != self.shape or len(shape) != 3:
            raise ValueError(
                f"this operator is made for images (C, H, W) with (H, W) = {self.shape}, got {tuple(shape)}"
            )
        return (shape[0], self.count)

    def input_shape(self, shape: Shape) -> Shape:
        if len(shape) != 2 or shape[1] != self.count:
            raise ValueError(f"a measurement has shape (C, {self.count}), got {tuple(shape)}")
        return (shape[0], *self.shape)

    def _apply(self, x: Tensor) -> Tensor:
        places, signs = self._places(x)
        X = (
            hadamard2(x)
            if self.transform == "hadamard"
            else dct2(x * signs if self.transform == "random" else x)
        )
        return X.flatten(-2)[..., places]

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        places, signs = self._places(y)
        X = (
            y.new_zeros(*y.shape[:-1], math.prod(self.shape))
            .index_copy(-1, places, y)
            .unflatten(-1, self.shape)
        )
        if self.transform == "hadamard":
            return hadamard2(X)
        x = idct2(X)
        return x * signs if self.transform == "random" else x
