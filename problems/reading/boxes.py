"""Pictures of which a rectangle is read without the rest: TIFF of one page, and zarr.

An uncompressed TIFF is mapped into memory; of a compressed one the tiles or strips that the
rectangle touches are decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tifffile import TiffFile

from problems.reading.array_source import ArraySource, closed_with, closing_on_error, short_reason
from problems.reading.quiet import quiet_logs
from problems.reading.ranges import GivenRange, ValueRange, picture_range, source_range
from problems.reading.refusal import RefusalError
from problems.reading.regular import check_regular
from problems.reading.selection import layout, select
from problems.reading.sources import source_format
from problems.reading.tiff import check_pages, is_tiff, refuse_raw, stated_range
from problems.reading.zarr_arrays import open_zarr

__all__ = ["BoxedPicture", "only_axes", "open_boxes"]

_GREY, _RGB = 1, 2  # photometric interpretations of TIFF 6.0
_TAGS = (280, 281, 340, 341)
_PIECES, _PIECE = 8, 128
"""Squares along each side, and pixels of their sides, that stand for all values of a picture."""


@dataclass(frozen=True, eq=False)
class BoxedPicture:
    """A picture in a file, of which rectangles are read.

    Args:
        source: The array in the file.
        container: Format of the file.
        plane: Axes of the array that are rows and columns.
        channel: Axis of the colours; None for a grey picture without one.
    """

    source: ArraySource
    container: Literal["TIFF", "zarr"]
    plane: tuple[int, int]
    channel: int | None

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self.source.path

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.source.shape[self.plane[0]], self.source.shape[self.plane[1]]

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return 1 if self.channel is None else self.source.shape[self.channel]

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Read a rectangle.

        Args:
            rows: Rows, with step 1.
            columns: Columns, with step 1.

        Returns:
            Values of the file (C, H, W), an array of its own.

        Raises:
            ValueError: If the file is damaged, or the rectangle does not fit into the memory.
        """
        block = [slice(None)] * len(self.source.shape)
        block[self.plane[0]], block[self.plane[1]] = rows, columns
        values = self.source.read(tuple(block))
        kept = [axis for axis in (self.channel, *self.plane) if axis is not None]
        values = only_axes(values, kept)
        return np.ascontiguousarray(values if self.channel is not None else values[None])

    def sample(self) -> np.ndarray:
        """Read squares that are spread over the picture, which stand for all of it.

        Returns:
            Their values, flat.

        Raises:
            ValueError: If the file is damaged.
        """
        parts = []
        for top in _spread(self.size[0]):
            for left in _spread(self.size[1]):
                box = slice(top, top + _PIECE), slice(left, left + _PIECE)
                parts.append(self.read(*box).reshape(-1))
        return np.concatenate(parts)

    def range(self, given: GivenRange | None = None, noise: float = 0.0) -> ValueRange:
        """Decide which values are black and white, by the rules for whole pictures.

        Args:
            given: Black and white from the user, but no percentiles.
            noise: Standard deviation of the noise on [-1, 1], by which values may lie outside.

        Returns:
            The range, where it is not given or stated that of :meth:`sample`.

        Raises:
            ValueError: If the range cannot be told.
        """
        values = self.sample()
        if not np.isfinite(values).any():
            raise ValueError(f"{self.path} has no finite values where it was looked at")
        if self.container == "zarr":
            return source_range(self.source, values, given, noise)
        stated = self.source.stated_range
        return picture_range(values, str(self.path), given=given, stated=stated)


def only_axes(values: np.ndarray, kept: Sequence[int]) -> np.ndarray:
    """Drop the axes of length 1 that are none of a picture's.

    Args:
        values: Array of any number of axes.
        kept: Axes that stay, in the order of the result.

    Returns:
        Array with these axes.

    Raises:
        ValueError: If another axis is longer than 1.

    Example:
        >>> only_axes(np.zeros((4, 1, 5, 3)), (3, 0, 2)).shape
        (3, 4, 5)
    """
    rest = [axis for axis in range(values.ndim) if axis not in kept]
    return values.transpose(*rest, *kept).reshape([values.shape[axis] for axis in kept])


def open_boxes(path: Path, key: str | None = None) -> BoxedPicture:
    """Open a picture of which rectangles are read.

    Args:
        path: A TIFF of one page in grey or RGB, or an array of zarr.
        key: Name of the array in a group of zarr; None for the only one.

    Returns:
        The picture. Nothing but its head has been read.

    Raises:
        ValueError: If the file is missing, damaged, of another format, or no such picture.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> import tifffile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.tif"
        ...     tifffile.imwrite(path, np.arange(12, dtype=np.uint8).reshape(3, 4))
        ...     open_boxes(path).read(slice(1, 3), slice(2, 4)).tolist()
        [[[6, 7], [10, 11]]]
    """
    if not path.exists():
        raise ValueError(f"there is no file {path}")
    try:
        with quiet_logs():
            form = source_format(path)
            if form == "zarr":
                return _of_zarr(open_zarr(path, key))
            if path.is_dir():
                raise RefusalError("it is a folder; --windows takes a TIFF or zarr")
            check_regular(path)
            if form == "TIFF":
                raise RefusalError("it has several pages; windows are of a TIFF of one page")
            if form is not None or not is_tiff(path):
                raise RefusalError("windows are of a TIFF or zarr, and it is neither; convert it")
            if key is not None:
                raise RefusalError(f"it holds one picture, but {key!r} is asked for")
            return _of_tiff(path)
    except RefusalError as refused:
        raise ValueError(f"cannot read {path}: {refused}") from None
    except Exception as error:  # the libraries raise errors of many types on damaged files
        raise ValueError(
            f"cannot read {path}: the file is damaged, or of another format "
            f"({short_reason(error)}); write it again"
        ) from None


def _spread(side: int) -> list[int]:
    """Starts of squares along a side."""
    count = min(_PIECES, -(-side // _PIECE))
    last = max(0, side - _PIECE)
    return [round(i * last / max(1, count - 1)) for i in range(count)]


def _of_zarr(source: ArraySource) -> BoxedPicture:
    found = layout(source, select(source, ()))
    if found.slices:
        raise RefusalError(f"{source.summary} is a stack; windows are of one picture")
    picture = BoxedPicture(source, "zarr", found.plane, found.channel)
    if not all(source.shape):
        raise RefusalError(f"{source.summary} has no pixels")
    if found.plane[0] > found.plane[1] or picture.channels not in (1, 3):
        raise RefusalError(f"{source.summary} is no picture (H, W), (H, W, 3) or (3, H, W)")
    if source.dtype.kind not in "buif":
        raise RefusalError(f"its values are {source.dtype}, not real numbers")
    return picture


def _of_tiff(path: Path) -> BoxedPicture:
    check_pages(path)
    refuse_raw(path)
    file = TiffFile(path)
    with closing_on_error(file):
        page: Any = file.pages[0]
        samples, dtype = int(page.samplesperpixel), page.dtype
        if dtype is None or np.dtype(dtype).kind not in "uif" or np.dtype(dtype) == np.bool_:
            raise RefusalError(f"its samples are {dtype}; windows are of whole bytes")
        if page.bitspersample != 8 * np.dtype(dtype).itemsize:
            raise RefusalError(f"it has {page.bitspersample} bits a sample; windows need 8, 16, 32")
        if samples not in (1, 3) or len(page.extrasamples):
            raise RefusalError(f"it has {samples} samples a pixel; windows are of 1 or 3")
        if int(page.photometric) not in (_GREY, _RGB):
            raise RefusalError("its colours are neither grey from black nor RGB; convert it")
        turned = page.tags.get(274)
        if turned is not None and turned.value != 1:
            raise RefusalError("it is to be shown turned; save it upright")
        tags = {code: page.tags[code].value for code in _TAGS if code in page.tags}
        height, width = int(page.imagelength), int(page.imagewidth)
        source = ArraySource(
            path,
            f"TIFF, {np.dtype(dtype)} {'colour' if samples == 3 else 'grey'}",
            (samples, height, width),
            np.dtype(dtype).newbyteorder("="),
            _mapped(path, file, page) if page.is_memmappable else _decoded(file, page),
            stated_range=stated_range(tags),
        )
        return BoxedPicture(closed_with(source, file), "TIFF", (1, 2), 0)


def _mapped(path: Path, file: TiffFile, page: Any) -> Callable[[tuple[slice, ...]], np.ndarray]:
    """Read from the file where it lies; the map is closed again, so that it takes no memory."""
    dtype = np.dtype(file.byteorder + page.dtype.char)
    offset, shape = int(page.dataoffsets[0]), page.shape
    separate = page.planarconfig == 2

    def load(block: tuple[slice, ...]) -> np.ndarray:
        values = np.memmap(path, dtype, "r", offset, shape)
        if len(shape) == 2:
            return np.array(values[None][block])
        return np.array(values[block] if separate else np.moveaxis(values, -1, 0)[block])

    return load


def _decoded(file: TiffFile, page: Any) -> Callable[[tuple[slice, ...]], np.ndarray]:
    """Decode the tiles or strips that a block touches."""
    height, width = int(page.imagelength), int(page.imagewidth)
    tall = int(page.tilelength) if page.is_tiled else min(int(page.rowsperstrip), height)
    wide = int(page.tilewidth) if page.is_tiled else width
    down, across = -(-height // tall), -(-width // wide)
    samples = int(page.samplesperpixel)
    planes = samples if page.planarconfig == 2 else 1
    if len(page.dataoffsets) != planes * down * across:
        raise RefusalError("it does not have all of its strips or tiles")

    def load(block: tuple[slice, ...]) -> np.ndarray:
        channels, rows, columns = (
            slice(*one.indices(n)) for one, n in zip(block, (samples, height, width), strict=True)
        )
        out = np.zeros(
            (samples, rows.stop - rows.start, columns.stop - columns.start),
            np.dtype(page.dtype).newbyteorder("="),
        )
        for plane in range(planes):
            for row in range(rows.start // tall, -(-rows.stop // tall)):
                for column in range(columns.start // wide, -(-columns.stop // wide)):
                    index = (plane * down + row) * across + column
                    found = _segment(file, page, index)
                    if found is None:  # sparse files leave empty ones out
                        continue
                    y, x = row * tall - rows.start, column * wide - columns.start
                    part = found[max(-y, 0) : out.shape[1] - y, max(-x, 0) : out.shape[2] - x]
                    place = out[:, max(y, 0) :, max(x, 0) :][:, : len(part), : part.shape[1]]
                    if planes == 1:
                        place[:] = np.moveaxis(part, -1, 0)
                    else:
                        place[plane] = part[..., 0]
        return out[channels]

    return load


def _segment(file: TiffFile, page: Any, index: int) -> np.ndarray | None:
    """The pixels (h, w, samples) of a tile or strip within the picture."""
    offset, count = int(page.dataoffsets[index]), int(page.databytecounts[index])
    if not count:
        return None
    file.filehandle.seek(offset)
    try:
        data, _, shape = page.decode(file.filehandle.read(count), index)
    except (ValueError, ImportError, NotImplementedError) as error:
        if "imagecodecs" not in str(error):
            raise
        raise RefusalError(
            "it is compressed in a way that needs the package imagecodecs; install it, or save the "
            "file uncompressed or with deflate"
        ) from None
    found: np.ndarray = data[0, : shape[1], : shape[2]]
    return found
