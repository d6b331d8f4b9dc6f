r"""Compressed sensing, :math:`y = S\,\Phi x`: a random subset of orthonormal coefficients.

:math:`\Phi` is an orthonormal transform, S keeps a few of its coefficients at random places. The
rows are orthonormal, :math:`A A^T = I`, and no matrix is ever stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from problems.checks import check_choice, check_number, check_sizes
from problems.linalg.transforms import dct, hadamard2, idct
from problems.operators.base import LinearOperator, Operator, Shape

__all__ = ["CompressedSensing"]

Transform = Literal["hadamard", "dct", "random"]


@dataclass(frozen=True, eq=False, repr=False)
class CompressedSensing(LinearOperator):
    """Random coefficients of an orthonormal transform of each channel, y (B, C, m).

    m = round(fraction H W), at least 1. The first coefficient, which is the mean for "hadamard" and
    "dct" up to its scale, is always among them.

    Args:
        fraction: Share of the coefficients that are kept, in (0, 1].
        shape: Size (H, W) of x in pixels.
        transform: "hadamard": the patterns of a single-pixel camera, H W must be a power of two.
            "dct": discrete cosine transform. "random": signs flipped at random, then a DCT, which
            mixes every pixel into every coefficient as a random matrix would (Do, Gan, Nguyen and
            Tran 2012).
        seed: Seed of the places and of the signs.

    Raises:
        ValueError: If the fraction is outside (0, 1], the transform unknown, the shape not (H, W),
            or H W is not a power of two for "hadamard".

    Example:
        >>> import torch
        >>> from problems import CompressedSensing
        >>> operator = CompressedSensing(0.25, (8, 8))
        >>> y = operator.apply(torch.ones(2, 3, 8, 8))
        >>> y.shape
        torch.Size([2, 3, 16])
        >>> torch.allclose(operator.apply(operator.adjoint(y)), y, atol=1e-5)
        True
    """

    structure: ClassVar[frozenset[str]] = frozenset({"svd", "closed_form"})
    tight_constant: ClassVar[float] = 1.0  # type: ignore[misc]

    fraction: float
    shape: tuple[int, int]
    transform: Transform = "random"
    seed: int = 0

    def __post_init__(self) -> None:
        try:
            check_number(self.fraction, "the fraction", above=0, most=1)
        except ValueError:
            raise ValueError(
                f"the fraction of coefficients must lie in (0, 1], got {self.fraction!s:.80}"
            ) from None
        check_choice("transform", self.transform, Transform)
        # (a generator takes negative seeds too)
        check_number(self.seed, "the seed", least=-(2.0**63), below=2.0**63, whole=True)
        object.__setattr__(self, "seed", int(self.seed))
        shape = check_sizes(self.shape, "shape (H, W)", axes=2)
        n = math.prod(shape)
        if self.transform == "hadamard" and n & (n - 1):
            raise ValueError(
                "a Hadamard transform needs a power of two, "
                f"got {shape[0]}x{shape[1]} = {n} pixels; use 'dct' or 'random'"
            )
        object.__setattr__(self, "shape", shape)

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build typical instances for the test sheet.

        Args:
            shape: Shape (C, H, W) of the images.

        Returns:
            Operators by name.
        """
        size = (shape[1], shape[2])
        kinds: tuple[Transform, ...] = (
            ("dct", "random") if math.prod(size) & (math.prod(size) - 1) else get_args(Transform)
        )
        return {f"sense-{kind}": cls(0.4, size, kind, seed=2) for kind in kinds}

    @property
    def count(self) -> int:
        """Number m of coefficients per channel."""
        return max(1, round(self.fraction * math.prod(self.shape)))

    def _places(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the indices (m,) of the kept coefficients and the signs (H, W) of the pixels."""

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
        """Compute the shape of the measurement.

        Args:
            shape: Shape of x without its batch, (C, H, W).

        Returns:
            Shape of y without its batch, (C, m).

        Raises:
            ValueError: If x is not an image of the size of this operator.
        """
        if tuple(shape[-2:]) != self.shape or len(shape) != 3:
            raise ValueError(
                "this operator is made for images (C, H, W) with (H, W) = "
                f"{self.shape}, got {tuple(shape)}"
            )
        return (shape[0], self.count)

    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x from the shape of the measurement.

        Args:
            shape: Shape of y without its batch, (C, m).

        Returns:
            Shape of x without its batch, (C, H, W).

        Raises:
            ValueError: If y does not have m coefficients per channel.
        """
        if len(shape) != 2 or shape[1] != self.count:
            raise ValueError(f"a measurement has shape (C, {self.count}), got {tuple(shape)}")
        return (shape[0], *self.shape)

    def _apply(self, x: Tensor) -> Tensor:
        places, signs = self._places(x)
        X = (
            hadamard2(x)
            if self.transform == "hadamard"
            else dct(x * signs if self.transform == "random" else x)
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
        x = idct(X)
        return x * signs if self.transform == "random" else x
