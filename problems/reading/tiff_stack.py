"""TIFF files of several pages that belong together, OME-TIFF and ImageJ among them, by tifffile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tifffile import TiffFile

from problems.reading.array_source import ArraySource, closed_with, closing_on_error
from problems.reading.picture import check_pixels
from problems.reading.refusal import RefusalError
from problems.reading.tiff import check_pages, page_samples, stated_range
from problems.reading.tiff_segments import UndecodedError

__all__ = ["is_tiff_stack", "open_tiff_stack"]

_LIGHT, _WHITE_IS_ZERO = (0, 1, 2), 0
# tifffile's letters; Q, I and U stand for axes that are not known
_NAMES = {"S": "sample", "Q": "page", "I": "page", "U": "page", "R": "page"}


def is_tiff_stack(path: Path) -> bool:
    """Whether the first series of a TIFF has several pages that are read.

    Args:
        path: A TIFF.

    Returns:
        False for one page, and for colours that are no light, of which the first page is read as a
        picture.

    Raises:
        RefusalError: If its list of pages is cut off.
    """
    check_pages(path)
    with TiffFile(path) as file:
        series = file.series[0] if file.series else None
        if series is None or series.keyframe is None or len(series.shape) < 3:
            return False
        page: Any = series.keyframe
        return series.size > page.size and int(page.photometric) in _LIGHT


def open_tiff_stack(path: Path) -> ArraySource:
    """Open the first series of a TIFF.

    Args:
        path: A TIFF of several pages.

    Returns:
        The stack. Its axes have the names of the file ("z", "t", "c"), "page" where the file does
        not tell, and "sample" for the samples of a pixel.

    Raises:
        RefusalError: If its samples are no numbers, or pages are missing. tifffile raises errors of
            many types on damaged files.
    """
    check_pages(path)
    file = TiffFile(path)
    with closing_on_error(file):
        return closed_with(_source(path, file), file)


def _source(path: Path, file: TiffFile) -> ArraySource:
    series: Any = file.series[0]
    page: Any = series.keyframe
    check_pixels(path, page.imagelength, page.imagewidth)
    shape = tuple(int(n) for n in series.shape)
    dtype = np.dtype(series.dtype).newbyteorder("=")
    if dtype.kind not in "buifc":
        raise RefusalError(f"its samples are {dtype}, not numbers")
    letters = series.axes
    names = [_NAMES.get(letter, letter.lower()) for letter in letters]
    names = [n if names.count(n) == 1 else f"{n}{i}" for i, n in enumerate(names)]
    inner = _inner(letters)
    count = int(np.prod(shape[: len(shape) - inner]))
    whole = len(series.pages) != count

    bits = page.bitspersample
    partial = dtype.kind == "u" and isinstance(bits, int) and bits < 8 * dtype.itemsize
    full = 2 ** (bits if partial else 8 * dtype.itemsize) - 1
    inverted = int(page.photometric) == _WHITE_IS_ZERO and dtype.kind in "bu" and not whole

    def load(block: tuple[slice, ...]) -> np.ndarray:
        if whole:  # ImageJ may write all planes behind one page
            return np.asarray(series.asarray())[block]
        numbers = np.arange(count).reshape(shape[: len(shape) - inner])
        chosen = numbers[block[: len(shape) - inner]]
        pages = [_page(series.pages[int(i)], letters[-inner:]) for i in chosen.flat]
        planes = np.stack(pages)[(slice(None), *block[len(shape) - inner :])]
        if inverted:
            planes = ~planes if dtype.kind == "b" else full - planes
        return planes.reshape(*chosen.shape, *planes.shape[1:])

    notes = [f"the first of its {len(file.series)} series is read"] if len(file.series) > 1 else []
    if int(page.photometric) == _WHITE_IS_ZERO and not inverted:
        notes.append("it says that white is zero, which is not followed")
    tags = {code: tag.value for code in (280, 281, 340, 341) if (tag := page.tags.get(code))}
    kind = "OME-TIFF" if file.is_ome else "TIFF"
    return ArraySource(
        path,
        f"{kind}, {dtype}",
        shape,
        dtype,
        load,
        tuple(names),
        stated_range=stated_range(tags),
        full_scale=full if partial else None,
        notes=tuple(notes),
    )


def _inner(letters: str) -> int:
    """Number of axes within a page."""
    return 3 if letters.endswith(("YXS", "SYX")) else 2


def _page(page: Any, letters: str) -> np.ndarray:
    if page is None:
        raise RefusalError("a page of it is missing; write it again")
    try:
        values = page_samples(page.aspage())
    except UndecodedError:
        raise RefusalError(
            "its pages are compressed in a way that is not read; save it with deflate, LZW or "
            "without compression"
        ) from None
    return np.moveaxis(values, -1, 0) if letters == "SYX" else values
