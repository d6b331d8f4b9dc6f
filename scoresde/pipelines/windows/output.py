"""Files that are written rectangle by rectangle: BigTIFF and zarr."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from problems.reading.boxes import BoxedPicture, only_axes
from scoresde.errors import CannotWriteError

__all__ = ["Target", "open_target", "put_in_place", "target_name"]

_LOWEST, _HIGHEST, _FLOAT = 340, 341, 11  # tags of TIFF 6.0, and the type of their values
_CHUNK = 256


class Target(Protocol):
    """A file of a picture, in its final size."""

    def write(self, rows: slice, columns: slice, pixels: np.ndarray) -> None:
        """Write a rectangle, and have it on the disk.

        Args:
            rows: Rows.
            columns: Columns.
            pixels: Pixels (h, w) or (h, w, 3) of the number type of the file.
        """

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Read a rectangle.

        Args:
            rows: Rows.
            columns: Columns.

        Returns:
            Pixels (h, w) or (h, w, 3).
        """


@dataclass(frozen=True)
class _Tiff:
    path: Path
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]

    def write(self, rows: slice, columns: slice, pixels: np.ndarray) -> None:
        # mapped for this rectangle alone, so that its pages do not stay in memory
        values = np.memmap(self.path, self.dtype, "r+", self.offset, self.shape)
        values[rows, columns] = pixels
        values.flush()

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        values = np.memmap(self.path, self.dtype, "r", self.offset, self.shape)
        return np.array(values[rows, columns])


@dataclass(frozen=True)
class _Zarr:
    path: Path
    array: Any
    order: tuple[int, int]
    channel: int | None

    def _block(self, rows: slice, columns: slice) -> tuple[slice, ...]:
        block = [slice(None)] * self.array.ndim
        block[self.order[0]], block[self.order[1]] = rows, columns
        return tuple(block)

    def write(self, rows: slice, columns: slice, pixels: np.ndarray) -> None:
        block = self._block(rows, columns)
        shape = [
            len(range(*one.indices(n))) for one, n in zip(block, self.array.shape, strict=True)
        ]
        if self.channel is not None and self.channel < self.order[0] and pixels.ndim == 3:
            pixels = np.moveaxis(pixels, -1, 0)
        try:
            self.array[block] = pixels.reshape(shape)
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        values = np.asarray(self.array[self._block(rows, columns)])
        kept = [axis for axis in (*self.order, self.channel) if axis is not None]
        values = only_axes(values, kept)
        return values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values


def target_name(name: str, like: BoxedPicture) -> str:
    """Name a file of the kind of the picture.

    Args:
        name: Name without a suffix.
        like: The picture.

    Returns:
        The name with its suffix.
    """
    return f"{name}.tif" if like.container == "TIFF" else f"{name}.zarr"


def open_target(
    path: Path,
    like: BoxedPicture,
    size: tuple[int, int],
    channels: int,
    dtype: np.dtype,
    value_range: tuple[float, float] | None = None,
    *,
    fresh: bool,
) -> Target:
    """Open a file for rectangles.

    Args:
        path: Its path.
        like: The picture whose kind of file it has.
        size: Height and width.
        channels: 1 or 3.
        dtype: Number type.
        value_range: Values of black and white, which a TIFF states.
        fresh: Make it anew, with all of its room on the disk; else open the one that is there.

    Returns:
        The file.

    Raises:
        CannotWriteError: If there is no room, or it cannot be written.
    """
    try:
        if like.container == "TIFF":
            return _tiff(path, size, channels, dtype, value_range, fresh=fresh)
        return _zarr(path, like, size, channels, dtype, fresh=fresh)
    except OSError as error:
        raise _unwritable(path, error) from None


def put_in_place(source: Path, path: Path) -> None:
    """Give a finished file, or folder of zarr, its name.

    Args:
        source: Where it is.
        path: Its path from now on; what is there is replaced.

    Raises:
        CannotWriteError: If that is not possible.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        os.replace(source, path)
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> CannotWriteError:
    return CannotWriteError(
        f"cannot write {path}: {error.strerror or error}; make room, or choose another folder"
    )


def _tiff(
    path: Path,
    size: tuple[int, int],
    channels: int,
    dtype: np.dtype,
    value_range: tuple[float, float] | None,
    *,
    fresh: bool,
) -> _Tiff:
    import tifffile

    shape = size if channels == 1 else (*size, channels)
    if fresh:
        options: dict[str, Any] = {"photometric": "minisblack" if channels == 1 else "rgb"}
        if channels > 1:
            options["planarconfig"] = "contig"
        if value_range is not None:
            ends = [(float(end),) * channels if channels > 1 else float(end) for end in value_range]
            options["extratags"] = [
                (tag, _FLOAT, channels, end, True)
                for tag, end in zip((_LOWEST, _HIGHEST), ends, strict=True)
            ]
        path.unlink(missing_ok=True)
        with tifffile.TiffWriter(path, bigtiff=True) as writer:
            writer.write(None, shape=shape, dtype=dtype, software="scoresde", metadata=None,
                         **options)  # fmt: skip
        if hasattr(os, "posix_fallocate"):  # a full disk ends a write into a map with a signal
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        own = np.dtype(file.byteorder + dtype.char)
        return _Tiff(path, own, int(page.dataoffsets[0]), tuple(shape))


def _zarr(
    path: Path,
    like: BoxedPicture,
    size: tuple[int, int],
    channels: int,
    dtype: np.dtype,
    *,
    fresh: bool,
) -> _Zarr:
    import zarr

    # an axis of colours is where that of the picture is, or behind the others
    channel = like.channel
    plane = like.plane
    if channel is None and channels > 1:
        channel = len(like.source.shape)
    axes = [1] * max(len(like.source.shape), 0 if channel is None else channel + 1)
    axes[plane[0]], axes[plane[1]] = size
    if channel is not None:
        axes[channel] = channels
    if fresh:
        if path.is_dir():
            shutil.rmtree(path)
        chunks = [min(n, _CHUNK) for n in axes]
        names = like.source.axes if len(like.source.axes) == len(axes) else None
        zarr.create_array(
            store=str(path), shape=tuple(axes), chunks=tuple(chunks), dtype=dtype,
            dimension_names=names,
        )  # fmt: skip
    return _Zarr(path, zarr.open_array(str(path), mode="r+"), plane, channel)
