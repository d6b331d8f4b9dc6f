"""Windows that cover a picture: overlapping rectangles whose cores do not overlap."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

__all__ = ["Window", "cover"]


@dataclass(frozen=True)
class Window:
    """A rectangle of a picture, and the part of it that is kept.

    Args:
        rows: First row and the one after the last.
        columns: First column and the one after the last.
        core_rows: Rows that are kept.
        core_columns: Columns that are kept.
    """

    rows: tuple[int, int]
    columns: tuple[int, int]
    core_rows: tuple[int, int]
    core_columns: tuple[int, int]

    @property
    def name(self) -> str:
        """Rows and columns of the core, as in Python."""
        (a, b), (c, d) = self.core_rows, self.core_columns
        return f"{a}:{b},{c}:{d}"

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]

    def core(self) -> tuple[slice, slice]:
        """The core within the window."""
        (top, _), (left, _) = self.rows, self.columns
        rows, columns = self.core_rows, self.core_columns
        return slice(rows[0] - top, rows[1] - top), slice(columns[0] - left, columns[1] - left)


def cover(size: tuple[int, int], side: int, overlap: int, step: int = 1) -> list[Window]:
    """Cover a picture by windows.

    Neighbours share at least `overlap` pixels, and each keeps its half of what they share.

    Args:
        size: Height and width of the picture in pixels.
        side: Side of a window in pixels; shorter where the picture is, and up to `step` - 1 pixels
            longer at its end.
        overlap: Pixels that neighbours share, less than `side`.
        step: All windows begin at multiples of it.

    Returns:
        The windows, row by row.

    Example:
        >>> [(one.columns, one.core_columns) for one in cover((8, 20), 10, 4)]
        [((0, 10), (0, 8)), ((6, 16), (8, 13)), ((10, 20), (13, 20))]
    """
    rows, columns = (_along(n, side, overlap, step) for n in size)
    return [Window(r, c, kr, kc) for (r, kr), (c, kc) in itertools.product(rows, columns)]


def _along(
    size: int, side: int, overlap: int, step: int
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Windows and cores along an axis."""
    if size <= side:
        return [((0, size), (0, size))]
    stride = max(step, (side - overlap) // step * step)
    starts = [*range(0, size - side, stride), (size - side) // step * step]
    starts = sorted(set(starts))
    ends = [min(size, start + side) for start in starts[:-1]] + [size]
    # each keeps half of what it shares with the next one
    cuts = [(b + a) // 2 for b, a in zip(ends[:-1], starts[1:], strict=True)]
    cores = zip([0, *cuts], [*cuts, size], strict=True)
    return list(zip(zip(starts, ends, strict=True), cores, strict=True))
