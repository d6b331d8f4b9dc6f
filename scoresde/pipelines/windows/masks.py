"""Missing pixels of a picture that is restored in windows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from problems import read_mask
from problems.reading.boxes import BoxedPicture, open_boxes
from problems.reading.masks import check_counts, check_mask_size, check_two_colours, count_soft
from scoresde.errors import InputError, as_input_error
from scoresde.pipelines.parsing import numbers
from scoresde.pipelines.settings import ProblemOptions

__all__ = ["WindowMask", "open_mask"]

_ROWS = 1 << 22
"""Pixels that are looked at together."""


@dataclass(frozen=True, eq=False)
class WindowMask:
    """Which pixels are observed, of any rectangle.

    Args:
        size: Height and width of the picture.
        file: A file that rectangles are read of; None if there is none.
        whole: The whole mask (H, W), True where observed; None if a file has it.
        hole: A missing rectangle, rows and columns; None if there is none.
        invert: Swap what is missing and observed in the file.
        value: Value of the file that is missing; None for the usual rule.
    """

    size: tuple[int, int]
    file: BoxedPicture | None = None
    whole: Tensor | None = None
    hole: tuple[slice, slice] | None = None
    invert: bool = False
    value: float | None = None

    def read(self, rows: slice, columns: slice) -> Tensor:
        """Read a rectangle.

        Args:
            rows: Rows.
            columns: Columns.

        Returns:
            Mask (H, W), True where observed.

        Raises:
            InputError: If the file cannot be read.
        """
        if self.whole is not None:
            return self.whole[rows, columns]
        if self.file is None:
            assert self.hole is not None
            down = torch.arange(rows.start, rows.stop)
            across = torch.arange(columns.start, columns.stop)
            top, left = self.hole
            in_rows = (down >= top.start) & (down < top.stop)
            in_columns = (across >= left.start) & (across < left.stop)
            return ~(in_rows[:, None] & in_columns)
        with as_input_error():
            values = self.file.read(rows, columns).max(0)
        missing = values == self.value if self.value is not None else values > self._middle
        if self.file.container == "zarr" and self.value is None:  # of arrays 1 is observed
            missing = ~missing
        return torch.from_numpy(np.asarray(missing if self.invert else ~missing))

    @cached_property
    def _middle(self) -> float:
        """The value between the two of the file, by a look at all of it in pieces."""
        assert self.file is not None
        low, high = np.inf, -np.inf
        for rows in self._pieces():
            with as_input_error():
                values = self.file.read(rows, slice(0, self.size[1])).max(0)
            if not np.isfinite(values).all():
                raise InputError(f"the mask {self.file.path} has values that are NaN or infinite")
            low, high = min(low, float(values.min())), max(high, float(values.max()))
        if low == high:
            raise InputError(f"the mask {self.file.path} is {low:g} everywhere; paint what is gone")
        soft = 0
        for rows in self._pieces():
            with as_input_error():
                values = self.file.read(rows, slice(0, self.size[1])).max(0)
            soft += count_soft(values, low, high)
        with as_input_error():
            found = f"its values are {low:g} to {high:g}"
            check_two_colours(self.file.path, soft, self.size[0] * self.size[1], found)
        return (low + high) / 2

    def _pieces(self) -> list[slice]:
        count = max(1, _ROWS // self.size[1])
        return [slice(i, min(i + count, self.size[0])) for i in range(0, self.size[0], count)]

    def share(self) -> float:
        """Count the missing pixels.

        Returns:
            Their share.

        Raises:
            InputError: If no pixel is missing or none is observed.
        """
        observed = 0
        for rows in self._pieces():
            observed += int(self.read(rows, slice(0, self.size[1])).sum())
        total = self.size[0] * self.size[1]
        with as_input_error():
            check_counts(observed, total, "the mask")
        return 1 - observed / total


def open_mask(options: ProblemOptions, size: tuple[int, int], overlap: int) -> WindowMask:
    """Open the mask of a picture.

    Args:
        options: The problem, with a mask file or a box.
        size: Height and width of the picture.
        overlap: Pixels that windows share: the hole must not be wider.

    Returns:
        The mask. A TIFF or zarr stays in its file, other files are read whole, a byte for each
        pixel.

    Raises:
        InputError: If there is no mask, it cannot be read, or the box is too large.
    """
    if options.mask is not None and options.box is not None:
        raise InputError("--mask and --box exclude each other; give one")
    if options.box is not None:
        return _of_box(options.box, size, overlap)
    if options.mask is None:
        raise InputError("inpaint in --windows needs --mask FILE or --box TOP,LEFT,HEIGHT,WIDTH")
    file = _boxes(options.mask, options.key)
    invert, value = options.invert_mask, options.mask_value
    if file is None:
        with as_input_error():
            whole = read_mask(options.mask, size, options.key, invert=invert, value=value)
        return WindowMask(size, whole=whole)
    with as_input_error():
        check_mask_size(options.mask, file.size, size)
    return WindowMask(size, file, invert=invert, value=value)


def _boxes(path: Path, key: str | None) -> BoxedPicture | None:
    try:
        return open_boxes(path, key)
    except ValueError:  # read whole, with its own error
        return None


def _of_box(text: str, size: tuple[int, int], overlap: int) -> WindowMask:
    top, left, height, width = numbers(text, int, "--box", "TOP,LEFT,HEIGHT,WIDTH")
    inside = 0 <= top < top + height <= size[0] and 0 <= left < left + width <= size[1]
    if not inside:
        raise InputError(f"--box {text} does not lie within the picture, {size[1]}x{size[0]}")
    if min(height, width) > overlap:
        raise InputError(
            f"the hole is {width}x{height}, wider than the {overlap} pixels that windows share, so "
            f"that they would fill it differently; give --overlap {min(height, width)} or more"
        )
    return WindowMask(size, hole=(slice(top, top + height), slice(left, left + width)))
