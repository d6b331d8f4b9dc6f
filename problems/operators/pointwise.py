"""Pointwise nonlinearities: a saturating sensor, a display's gamma, a coarse converter."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from problems.checks import check_number
from problems.operators.base import Operator, Shape
from problems.operators.rounding import straight_through

__all__ = ["Clipping", "Gamma", "Quantisation"]

_LARGEST_GAIN = 1e15
_LARGEST_EXPONENT = 100.0
_MOST_LEVELS = 1 << 24


class _Pointwise(Operator):
    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of y, which is that of x.

        Args:
            shape: Shape of x, without the batch.

        Returns:
            The same shape.
        """
        return shape

    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x, which is that of y.

        Args:
            shape: Shape of y, without the batch.

        Returns:
            The same shape.
        """
        return shape


@dataclass(frozen=True, eq=False, repr=False)
class Clipping(_Pointwise):
    """Clipping, y = min(max(gain x, low), high): overexposure, which HDR reconstruction undoes.

    Args:
        gain: Factor of the exposure, finite and not 0.
        low: Lowest value of y.
        high: Highest value of y.

    Raises:
        ValueError: If the gain is 0 or not finite, or ``low < high`` does not hold.

    Example:
        >>> import torch
        >>> from problems import Clipping
        >>> Clipping(gain=2.0).apply(torch.tensor([[-0.2, 0.3, 0.9]]))
        tensor([[-0.4000,  0.6000,  1.0000]])
    """

    gain: float = 2.0
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        try:
            check_number(self.gain, "gain", least=-_LARGEST_GAIN, most=_LARGEST_GAIN)
            for end in (self.low, self.high):
                if end not in (-math.inf, math.inf):  # one-sided clipping
                    check_number(end, "end", least=-_LARGEST_GAIN, most=_LARGEST_GAIN)
            sound = self.gain != 0 and self.low < self.high
        except (ValueError, RuntimeError):
            sound = False
        if not sound:
            raise ValueError(
                f"clipping needs a finite gain and low < high, got {self.gain!s:.40}, "
                f"{self.low!s:.40} and {self.high!s:.40}"
            )

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build example operators.

        Args:
            shape: Shape (C, H, W) of an image.

        Returns:
            Clipping with its defaults, by name.
        """
        return {"clip": cls()}

    def _apply(self, x: Tensor) -> Tensor:
        return (self.gain * x).clamp(self.low, self.high)


@dataclass(frozen=True, eq=False, repr=False)
class Gamma(_Pointwise):
    """Gamma curve, y = 2 ((x + 1) / 2)^exponent - 1.

    Values below -1 count as -1. To blur in linear light, use
    ``Gamma(1 / 2.2) @ blur @ Gamma(2.2)``.

    Args:
        exponent: Exponent > 0; 2.2 turns a picture into light, 1 / 2.2 turns light into a picture.

    Raises:
        ValueError: If the exponent is not positive or above 100.

    Example:
        >>> import torch
        >>> from problems import Gamma
        >>> Gamma(2.0).apply(torch.tensor([[-1.0, 0.0, 1.0]]))
        tensor([[-1.0000, -0.5000,  1.0000]])
    """

    exponent: float

    _DARKEST = 1e-4  # of light; below it the slope of a root is too steep to use

    def __post_init__(self) -> None:
        check_number(self.exponent, "the exponent", above=0, most=_LARGEST_EXPONENT)

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build example operators.

        Args:
            shape: Shape (C, H, W) of an image.

        Returns:
            Exponents 2.2 and 1 / 2.2, by name.
        """
        return {"gamma-2.2": cls(2.2), "gamma-1/2.2": cls(1 / 2.2)}

    def _apply(self, x: Tensor) -> Tensor:
        return 2 * ((x + 1) / 2).clamp_min(self._DARKEST) ** self.exponent - 1


@dataclass(frozen=True, eq=False, repr=False)
class Quantisation(_Pointwise):
    """Rounding to the nearest of evenly spaced values on [-1, 1].

    Its ``vjp`` is that of clipping to [-1, 1], without the rounding.

    Args:
        levels: Number of values, a whole number of at least 2.

    Raises:
        ValueError: If the number of levels is not whole, below 2 or above 2^24, beyond which
            float32 has no levels in between.

    Example:
        >>> import torch
        >>> from problems import Quantisation
        >>> Quantisation(levels=3).apply(torch.tensor([[-0.75, 0.25, 0.625]]))
        tensor([[-1.,  0.,  1.]])
    """

    levels: int = 8

    def __post_init__(self) -> None:
        try:
            check_number(self.levels, "levels", least=2, most=_MOST_LEVELS, whole=True)
        except ValueError:
            raise ValueError(
                f"quantisation needs a whole number of at least 2 levels, at most {_MOST_LEVELS}, "
                f"got {self.levels!s:.80}"
            ) from None
        object.__setattr__(self, "levels", int(self.levels))

    @property
    def quantises(self) -> bool:
        """Whether ``apply`` rounds to a grid: True."""
        return True

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build example operators.

        Args:
            shape: Shape (C, H, W) of an image.

        Returns:
            Quantisation with its defaults, by name.
        """
        return {"quantise": cls()}

    def _apply(self, x: Tensor) -> Tensor:
        step = (self.levels - 1) / 2
        place = (x.clamp(-1, 1) + 1) * step
        return straight_through(place.round(), place) / step - 1
