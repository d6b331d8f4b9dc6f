"""Operators that couple only pixels near to each other, and the part of one in a window.

A window does not know the pixels beyond its inner sides. Entries of y that depend on them are left
out of the window's measurement, so that it assumes nothing of what lies there. At the sides of the
picture the boundary condition of the operator holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from problems import (
    Clipping,
    Decimation,
    Demosaicing,
    Denoising,
    Gamma,
    Grayscale,
    Inpainting,
    Operator,
    Quantisation,
    SuperResolution,
)
from problems.operators.compose import Composition, NonlinearComposition
from problems.operators.convolution import Convolution
from scoresde.errors import InputError
from scoresde.pipelines.windows.grid import Window

__all__ = ["Local", "localise"]

_POINTWISE = (Denoising, Grayscale, Quantisation, Clipping, Gamma)
_RADIUS = {"bicubic": 2, "bilinear": 1, "lanczos3": 3, "average": 0}
"""Rows and columns of y at a side of x that its border conditions change, by filter."""


@dataclass(frozen=True)
class Local:
    """An operator with what is known of its reach.

    Args:
        operator: Operator for pictures of any size.
        factor: Pixels of x along a side for each of y.
        reach: Rows and columns of y at an inner side that depend on x beyond it.
        lost: Rows and columns that y has less than x.
        step: Windows begin at multiples of this number of pixels of x.
    """

    operator: Operator
    factor: int = 1
    reach: int = 0
    lost: tuple[int, int] = (0, 0)
    step: int = 1

    @property
    def margin(self) -> int:
        """Pixels of x at an inner side about which y is incomplete."""
        return self.reach * self.factor + max(self.lost)

    def picture_size(self, measured: tuple[int, int]) -> tuple[int, int]:
        """Find the size of x.

        Args:
            measured: Height and width of y.

        Returns:
            Height and width of x.
        """
        return (
            measured[0] * self.factor + self.lost[0],
            measured[1] * self.factor + self.lost[1],
        )

    def measured_box(self, window: Window) -> tuple[slice, slice]:
        """Find the rows and columns of y in a window of x.

        Args:
            window: The window.

        Returns:
            Rows and columns.
        """
        (top, bottom), (left, right) = window.rows, window.columns
        return (
            slice(top // self.factor, (bottom - self.lost[0]) // self.factor),
            slice(left // self.factor, (right - self.lost[1]) // self.factor),
        )

    def within(self, window: Window, size: tuple[int, int]) -> Operator:
        """Restrict the operator to a window.

        Args:
            window: The window.
            size: Height and width of x.

        Returns:
            The operator, whose y has zeros where it depends on x beyond the window.
        """
        rows, columns = self.measured_box(window)
        seen = torch.ones(rows.stop - rows.start, columns.stop - columns.start, dtype=torch.bool)
        if self.reach:
            seen[: self.reach if window.rows[0] > 0 else 0] = False
            seen[:, : self.reach if window.columns[0] > 0 else 0] = False
            seen[len(seen) - (self.reach if window.rows[1] < size[0] else 0) :] = False
            seen[:, seen.shape[1] - (self.reach if window.columns[1] < size[1] else 0) :] = False
        return self.operator if bool(seen.all()) else Inpainting(seen) @ self.operator


def localise(operator: Operator, problem: str) -> Local:
    """Tell how far an operator reaches.

    Args:
        operator: The operator.
        problem: Name of its problem, for the error.

    Returns:
        The operator with its reach.

    Raises:
        InputError: If it couples the whole picture, or it is not known how far it reaches.
    """
    if isinstance(operator, _POINTWISE):
        return Local(operator)
    if isinstance(operator, Demosaicing):
        return Local(operator, step=2)
    if isinstance(operator, Convolution):
        sides = operator.taps.shape[1:]
        _check_boundary(operator.boundary)
        if operator.boundary == "valid":
            return Local(operator, lost=(sides[0] - 1, sides[1] - 1))
        return Local(operator, reach=max(sides) // 2)
    if isinstance(operator, Decimation):
        _check_boundary(operator.boundary)
        reach = -(-(max(operator.kernel.shape[-2:]) // 2) // operator.factor)
        return Local(operator, operator.factor, reach, step=operator.factor)
    if isinstance(operator, SuperResolution):
        if not operator.factor.is_integer():
            raise InputError(f"--windows need a whole --scale, got {operator.factor:g}")
        factor = int(operator.factor)
        free = SuperResolution(factor, operator.filter)
        return Local(free, factor, _RADIUS[operator.filter], step=factor)
    if isinstance(operator, Composition | NonlinearComposition):
        parts = [localise(one, problem) for one in (operator.outer, operator.inner)]
        if all(one.factor == 1 and not any(one.lost) for one in parts):
            reach, step = sum(one.reach for one in parts), max(one.step for one in parts)
            return Local(operator, reach=reach, step=step)
    raise InputError(
        f"--windows cut the picture into pieces, and {problem} ({type(operator).__name__}) couples "
        "pixels far from each other; leave out --windows. They are for denoise, inpaint, deblur, "
        "super-resolve, colourise, demosaic, quantise, hdr and gamma-blur"
    )


def _check_boundary(boundary: str) -> None:
    if boundary == "circular":
        raise InputError(
            "--windows cut the picture into pieces, and --boundary circular joins its opposite "
            "sides; give another --boundary"
        )
