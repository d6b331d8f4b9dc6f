"""Nonlinearities that act on each number alone: a sensor that saturates, a display's gamma, a coarse converter."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from problems.operators.base import Operator, Shape

__all__ = ["Clipping", "Gamma", "Quantisation", "straight_through"]


def straight_through(value: Tensor, x: Tensor) -> Tensor:
    """value, a rounding of x, with the gradient of x: that of a step is zero and says nothing (Bengio et al. 2013)."""
    return x + (value - x).detach()


class _Pointwise(Operator):
    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def input_shape(self, shape: Shape) -> Shape:
        return shape


@dataclass(frozen=True, eq=False, repr=False)
class Clipping(_Pointwise):
    """y = min(max(gain x, low), high): a photograph exposed ``gain`` times too long (HDR reconstruction undoes it)."""

    gain: float = 2.0
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.gain) and self.gain != 0 and self.low < self.high):
            raise ValueError(
                f"clipping needs a finite gain and low < high, got {self.gain}, {self.low} and {self.high}"
            )

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        return {"clip": cls()}

    def _apply(self, x: Tensor) -> Tensor:
        return (self.gain * x).clamp(self.low, self.high)


@dataclass(frozen=True, eq=False, repr=False)
class Gamma(_Pointwise):
    """y = 2 ((x + 1) / 2)^exponent - 1: 2.2 turns a picture into light, 1 / 2.2 turns light into a picture.

    Values below -1 count as -1. A blur of light is ``Gamma(1 / 2.2) @ blur @ Gamma(2.2)``.
    """

    exponent: float

    _DARKEST = 1e-4  # where the slope of a root is no longer usable

    def __post_init__(self) -> None:
        if not (math.isfinite(self.exponent) and self.exponent > 0):
            raise ValueError(f"the exponent must be positive, got {self.exponent}")

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        return {"gamma-2.2": cls(2.2), "gamma-1/2.2": cls(1 / 2.2)}

    def _apply(self, x: Tensor) -> Tensor:
        return 2 * ((x + 1) / 2).clamp_min(self._DARKEST) ** self.exponent - 1


@dataclass(frozen=True, eq=False, repr=False)
class Quantisation(_Pointwise):
    """y = x rounded to the nearest of ``levels`` evenly spaced values on [-1, 1]. Its vjp is that of the clipping alone."""

    levels: int = 8

    def __post_init__(self) -> None:
        if not float(self.levels).is_integer() or self.levels < 2:
            raise ValueError(
                f"quantisation needs a whole number of at least 2 levels, got {self.levels}"
            )
        object.__setattr__(self, "levels", int(self.levels))

    @property
    def quantises(self) -> bool:
        return True

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        return {"quantise": cls()}

    def _apply(self, x: Tensor) -> Tensor:
        step = (self.levels - 1) / 2
        place = (x.clamp(-1, 1) + 1) * step
        return straight_through(place.round(), place) / step - 1
