"""Stacks of pictures as TIFF files of several pages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scoresde.files import write_atomically

__all__ = ["write_stack"]

_LOWEST, _HIGHEST, _FLOAT = 340, 341, 11
_LETTERS = {"z": "Z", "t": "T", "c": "C", "slice": "Z", "frame": "T"}


def write_stack(
    pixels: np.ndarray,
    path: Path,
    names: Sequence[str] = ("z",),
    value_range: tuple[float, float] | None = None,
) -> None:
    """Write a stack as it is, a page for each slice.

    Args:
        pixels: Pixels (..., H, W) or (..., H, W, 3): uint8, uint16 or float32, with one or more
            axes of slices.
        path: Path of the .tif file.
        names: Names of the axes of the slices; the file has those that TIFF knows (z, t, c).
        value_range: Values of black and white, stated in the file (tags 340 and 341).

    Raises:
        InputError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from problems.reading.sources import open_source
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.tif"
        ...     write_stack(np.zeros((4, 5, 6), np.float32), path)
        ...     open_source(path).axes
        ('z', 'y', 'x')
    """
    import tifffile

    colours = 1 if pixels.ndim - len(names) == 3 else 0
    letters = [_LETTERS.get(name, "Q") for name in names]
    unique = [a if letters.count(a) == 1 and a != "Q" else "Q" for a in letters]
    options: dict[str, Any] = {"photometric": "rgb" if colours else "minisblack"}
    if colours:
        options["planarconfig"] = "contig"
    if value_range is not None:
        count = 3 if colours else 1
        options["extratags"] = [
            (tag, _FLOAT, count, (float(end),) * count if count > 1 else float(end), True)
            for tag, end in zip((_LOWEST, _HIGHEST), value_range, strict=True)
        ]
    axes = "".join(unique) + "YX" + "S" * colours
    write_atomically(
        path,
        lambda temporary: tifffile.imwrite(
            temporary, pixels, metadata={"axes": axes}, software="scoresde", **options
        ),
    )
