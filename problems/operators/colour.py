"""One number per pixel of a colour scene: the grey view, and the mosaic of a camera sensor.

Both have :math:`A A^T = c I`, so that every solve is a division.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from problems.checks import check_choice, check_number
from problems.linalg.broadcast import expand_like
from problems.operators.base import LinearOperator, Operator, Shape, check_image

__all__ = ["Grayscale", "Demosaicing"]

_LARGEST_WEIGHT = 1e15
_FAST = frozenset({"svd", "closed_form"})


@dataclass(frozen=True, eq=False, repr=False)
class Grayscale(LinearOperator):
    """Weighted sum of the channels, y = sum_c weights[c] x_c, with one channel.

    Args:
        weights: One weight per channel of x; the default is the mean of three colours, and (0.299,
            0.587, 0.114) is Rec. 601 luma.

    Raises:
        ValueError: If there are no weights, or they are not finite or all zero.

    Example:
        >>> import torch
        >>> from problems import Grayscale
        >>> Grayscale().output_shape((3, 8, 8))
        (1, 8, 8)
        >>> Grayscale((0.25, 0.5, 0.25)).apply(torch.tensor([[[[4.0]], [[0.0]], [[8.0]]]]))
        tensor([[[[3.]]]])
    """

    structure: ClassVar[frozenset[str]] = _FAST

    weights: tuple[float, ...] = (1 / 3, 1 / 3, 1 / 3)

    def __post_init__(self) -> None:
        try:
            weights = tuple(
                check_number(w, "a weight", least=-_LARGEST_WEIGHT, most=_LARGEST_WEIGHT)
                for w in self.weights
            )
        except (ValueError, TypeError):
            weights = ()
        if not sum(w * w for w in weights) > 0:
            raise ValueError(
                "the weights of the colours must be finite and not all zero, "
                f"got {self.weights!s:.80}"
            )
        object.__setattr__(self, "weights", weights)

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build typical instances for the test sheet.

        Args:
            shape: Shape (C, H, W) of the images.

        Returns:
            Operators by name.
        """
        return {
            "colourise": cls((0.299, 0.587, 0.114))
            if shape[0] == 3
            else cls((1 / shape[0],) * shape[0])
        }

    @property
    def tight_constant(self) -> float:  # type: ignore[override]
        """The c of A A^T = c I: the sum of the squared weights."""
        return sum(w * w for w in self.weights)

    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of the measurement.

        Args:
            shape: Shape of x without its batch, (C, H, W).

        Returns:
            Shape of y without its batch, (1, H, W).

        Raises:
            ValueError: If x is not an image or the number of channels is not that of the weights.
        """
        check_image(shape)
        if shape[0] != len(self.weights):
            raise ValueError(
                f"this operator is made for {len(self.weights)} channels, the image has {shape[0]}"
            )
        return (1, *shape[1:])

    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x from the shape of the measurement.

        Args:
            shape: Shape of y without its batch, (1, H, W).

        Returns:
            Shape of x without its batch, (C, H, W).

        Raises:
            ValueError: If y does not have one channel.
        """
        check_image(shape)
        if shape[0] != 1:
            raise ValueError(f"a grey measurement has one channel, got {shape[0]}")
        return (len(self.weights), *shape[1:])

    def _weights(self, like: Tensor) -> Tensor:
        return torch.tensor(self.weights, dtype=like.dtype, device=like.device)

    def _apply(self, x: Tensor) -> Tensor:
        grey: Tensor = torch.tensordot(x, self._weights(x), dims=([1], [0]))
        return grey[:, None]

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        return y * self._weights(y)[:, None, None]


Pattern = Literal["RGGB", "BGGR", "GRBG", "GBRG"]


@dataclass(frozen=True, eq=False, repr=False)
class Demosaicing(LinearOperator):
    """One colour per pixel, by the Bayer pattern of a camera sensor.

    x has 3 channels, y one.

    Args:
        pattern: Colours of the repeated 2 x 2 tile along rows from the top left: "RGGB", "BGGR",
            "GRBG" or "GBRG".

    Raises:
        ValueError: If the pattern is unknown.

    Example:
        >>> from problems import Demosaicing
        >>> operator = Demosaicing("RGGB")
        >>> operator.output_shape((3, 8, 8))
        (1, 8, 8)
        >>> operator.mask(2, 2)[0]
        tensor([[ True, False],
                [False, False]])
    """

    structure: ClassVar[frozenset[str]] = _FAST
    tight_constant: ClassVar[float] = 1.0  # type: ignore[misc]

    pattern: Pattern = "RGGB"

    def __post_init__(self) -> None:
        check_choice("Bayer pattern", self.pattern, Pattern)

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build typical instances for the test sheet.

        Args:
            shape: Shape (C, H, W) of the images.

        Returns:
            Operators by name; {} if none fits.
        """
        return {f"demosaic-{p}": cls(p) for p in get_args(Pattern)} if shape[0] == 3 else {}

    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of the measurement.

        Args:
            shape: Shape of x without its batch, (3, H, W).

        Returns:
            Shape of y without its batch, (1, H, W).

        Raises:
            ValueError: If x is not an image with 3 channels.
        """
        check_image(shape)
        if shape[0] != 3:
            raise ValueError(
                f"a Bayer mosaic is made of 3 colours, the image has {shape[0]} channels"
            )
        return (1, *shape[1:])

    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x from the shape of the measurement.

        Args:
            shape: Shape of y without its batch, (1, H, W).

        Returns:
            Shape of x without its batch, (3, H, W).

        Raises:
            ValueError: If y does not have one channel.
        """
        check_image(shape)
        if shape[0] != 1:
            raise ValueError(f"a mosaic has one channel, got {shape[0]}")
        return (3, *shape[1:])

    def mask(self, height: int, width: int) -> Tensor:
        """Return the mask of the observed colours.

        Args:
            height: Height of the image in pixels.
            width: Width of the image in pixels.

        Returns:
            Boolean mask (3, height, width), True where a colour is observed.
        """
        tile = torch.tensor(["RGB".index(c) for c in self.pattern]).reshape(2, 2)
        colour = tile.repeat(-(-height // 2), -(-width // 2))[:height, :width]
        return torch.stack([colour == c for c in range(3)])

    def _mask(self, like: Tensor) -> Tensor:
        height, width = like.shape[-2:]
        return self._constant((height, width), like, lambda: self.mask(height, width).to(like))

    def _apply(self, x: Tensor) -> Tensor:
        (r, g, b), (red, green, blue) = x.split(1, dim=1), self._mask(x)
        # This is faster than a sum over the channels.
        return torch.addcmul(torch.addcmul(r * red, g, green), b, blue)

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        return y * self._mask(y)

    def _prox(
        self, z: Tensor, y: Tensor, noise_variance: Tensor | float, prior_variance: Tensor | float
    ) -> Tensor:
        variance = expand_like(prior_variance, z)
        # Only the observed colour of each pixel moves.
        return z + self._mask(z) * (
            variance / (expand_like(noise_variance, z) + variance) * (y - z)
        )
