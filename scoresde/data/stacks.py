"""Training data in its own numbers: floats, 16 bits, complex values, stacks, any channels."""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from problems.checks import check_choice
from problems.reading.array_source import ArraySource
from problems.reading.arrays import SUFFIXES as ARRAY_SUFFIXES
from problems.reading.arrays import read_array_file
from problems.reading.pictures import read_picture
from problems.reading.selection import Layout, complex_parts, layout, select
from problems.reading.sources import open_source, source_format
from problems.reading.tiff import is_tiff
from scoresde.data.datasets import AUGMENTATIONS, SUFFIXES, WHOLE, list_images
from scoresde.data.headers import colour_profiles
from scoresde.errors import InputError, as_input_error

__all__ = ["ImageStacks", "array_type", "list_own_numbers"]

_OPEN = 32  # files at a time
_NAMED = 3  # files that an error names
_PIECE = 1 << 24  # values that are looked at at once


def list_own_numbers(folder: str | Path) -> list[Path]:
    """List the files of a folder and its subfolders that are read in their own numbers.

    Args:
        folder: Path of the folder.

    Returns:
        Paths, sorted: of all pictures if one of them has more than 8 bits a sample; of arrays and
        files of instruments if there are no pictures. Empty for a folder of pictures of 8 bits, for
        one without either, and for one that cannot be read. Files and folders whose names begin
        with a dot do not count.
    """
    folder = Path(folder)
    if not folder.is_dir() or not os.access(folder, os.R_OK | os.X_OK):
        return []
    try:
        pictures = list_images(folder)
    except InputError:
        pictures = []
    if pictures:
        return pictures if any(map(_is_deep, pictures)) else []
    found: list[Path] = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or any(one in path.parents for one in found):  # zarr has files of its own
            continue
        array = path.suffix.lower() in ARRAY_SUFFIXES and path.is_file()
        if array or source_format(path) is not None:
            found.append(path)
    return found


def _is_deep(path: Path) -> bool:
    try:
        if is_tiff(path):
            from tifffile import TiffFile

            with TiffFile(path) as file:
                page: Any = file.pages[0]
                return page.dtype is not None and page.dtype not in (np.bool_, np.uint8)
        with path.open("rb") as stream:
            head = stream.read(25)
        return head.startswith(b"\x89PNG\r\n\x1a\n") and head[24] == 16
    except Exception:
        return False


class ImageStacks:
    """Random crops of pictures and stacks in the numbers of their files.

    A value v of channel c becomes ``2 (v - low_c) / (high_c - low_c) - 1``. Both ends are those of
    the range that is given; or the full scale of 8 and 16 bits, if all files are of these types;
    else mean ± 2 standard deviations of the channel, so that the data has the standard deviation
    1/2 that training assumes; of complex numbers ± 2 root mean squares of both parts. They are
    stored with the prior. Files that are larger than the memory are read crop by crop.

    Args:
        paths: Files of pictures (in the colours of the file), arrays (N, H, W) or (N, H, W, C), or
            files of instruments (:func:`problems.reading.sources.open_source`).
        key: Name of the array in files that hold several.
        channels: Number of channels; None to go by the first file. In arrays it also tells
            (N, C, H, W) from (N, H, W, C), and a picture (H, W, C) or (C, H, W) from (N, H, W).
        value_range: Values of black and white of all channels; None to find them.
        augment: A name in :data:`scoresde.data.datasets.AUGMENTATIONS`.
        cache_bytes: Memory for whole files, in bytes.

    Attributes:
        low: Value of -1 of each channel, shape (C,).
        high: Value of 1 of each channel, shape (C,).
        units: Unit of the values, if the files state it.

    Raises:
        InputError: If a file cannot be read, holds NaN or infinite values, or differs from the
            others in its channels or unit; the first few are named.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.npy"
        ...     np.save(path, np.random.default_rng(0).normal(3.0, 10.0, (4, 16, 20)))
        ...     data = ImageStacks([path])
        ...     x = data.batch(64, 8, torch.Generator().manual_seed(0))
        >>> len(data), x.shape, round(float(x.std()), 1)
        (4, torch.Size([64, 1, 8, 8]), 0.5)
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        *,
        key: str | None = None,
        channels: int | None = None,
        value_range: tuple[float, float] | None = None,
        augment: str = "none",
        cache_bytes: int = 2 << 30,
    ) -> None:
        with as_input_error():
            check_choice("augmentation", augment, AUGMENTATIONS)
        self.paths, self.key, self.augment = [Path(one) for one in paths], key, augment
        self._turns, self._room = AUGMENTATIONS[augment], cache_bytes
        self._wanted = channels
        self._cache: dict[int, np.ndarray] = {}
        self._profiles: dict[str, int] | None = None
        self._open: OrderedDict[int, tuple[ArraySource, Layout]] = OrderedDict()
        self.channels, self.units = 0, None
        counts, self._sides, kinds = list[int](), list[tuple[int, ...]](), list[np.dtype]()
        self._tops: list[float | None] = []
        for index, path in enumerate(self.paths):
            source, axes = self._source(index)
            number = self._channels(source, axes)
            if index and (number, source.units) != (self.channels, self.units):
                raise InputError(
                    f"{path} has {number} channels in {source.units or 'no unit'}, and "
                    f"{self.paths[0]} {self.channels} in {self.units or 'no unit'}; train on files "
                    "of one kind"
                )
            self.channels, self.units = number, source.units
            counts.append(math.prod(source.shape[axis] for axis in axes.slices))
            self._sides.append(tuple(source.shape[axis] for axis in axes.plane))
            kinds.append(source.dtype)
            unsigned = source.dtype in (np.uint8, np.uint16)
            top = source.full_scale or (np.iinfo(source.dtype).max if unsigned else None)
            self._tops.append(None if top is None else float(top))
        self._ends = np.cumsum(counts)
        self._complex = any(dtype.kind == "c" for dtype in kinds)
        self._by_type = value_range is None and None not in self._tops
        self.low, self.high = self._range(value_range)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def value_range(self) -> dict[str, Any]:
        """Range and unit, as the card of the prior has them; no range if files differ in it.

        Colour profiles are named if they are not sRGB alone.
        """
        named = self.profiles()
        told = {"profiles": named} if set(named) - {"sRGB"} else {}
        if self._by_type and len(set(self._tops)) > 1:
            return {"low": None, "high": None, "units": self.units} | told
        return {"low": self.low.tolist(), "high": self.high.tolist(), "units": self.units} | told

    def profiles(self) -> dict[str, int]:
        """Count the colour profiles of those files that are pictures.

        Returns:
            Number of pictures of each profile, "sRGB" for those without one; empty for grey ones
            and for other files.
        """
        if self._profiles is None:
            pictures = [path for path in self.paths if path.suffix.lower() in SUFFIXES]
            self._profiles = colour_profiles(pictures) if self.channels == 3 else {}
        return self._profiles

    def _source(self, index: int) -> tuple[ArraySource, Layout]:
        if index in self._open:
            self._open.move_to_end(index)
            return self._open[index]
        path = self.paths[index]
        with as_input_error():
            source = _opened(path, self.key)
            wanted = self._wanted
            if wanted is not None and source.dtype.kind == "c" and wanted % 2 == 0:
                wanted //= 2
            found = _axes(source, wanted)
        self._open[index] = source, found
        while len(self._open) > _OPEN:
            self._open.popitem(last=False)
        return source, found

    @staticmethod
    def _channels(source: ArraySource, axes: Layout) -> int:
        number = 1 if axes.channel is None else source.shape[axes.channel]
        return number * (2 if source.dtype.kind == "c" else 1)

    def _range(self, given: tuple[float, float] | None) -> tuple[np.ndarray, np.ndarray]:
        """Ends of each channel, after a look at every value that may be none."""
        measured = given is None and not self._by_type
        total, squares, count, faults = np.zeros(self.channels), np.zeros(self.channels), 0, []
        shift: np.ndarray | None = None  # near the mean, so that small deviations are not rounded
        for index, path in enumerate(self.paths):
            if not measured and self._source(index)[0].dtype.kind not in "fc":
                continue
            wrong = 0
            for piece in self._pieces(index):
                wrong += int((~np.isfinite(piece)).sum())
                if not wrong:
                    flat = piece.reshape(len(piece), -1).astype(np.float64)
                    if shift is None:
                        # the phase of complex numbers has no preferred direction
                        shift = np.zeros(len(flat)) if self._complex else flat[:, 0].copy()
                    flat -= shift[:, None]
                    total, squares = total + flat.sum(1), squares + (flat**2).sum(1)
                    count += flat.shape[1]
            if wrong:
                faults.append(f"{path} ({wrong})")
        if faults:
            more = f" and {len(faults) - _NAMED} more" if len(faults) > _NAMED else ""
            raise InputError(
                f"values that are NaN or infinite in {', '.join(faults[:_NAMED])}{more}; fill them "
                "or take these files out"
            )
        if given is not None or not measured:
            low, high = given or (0.0, self._tops[0] or 1.0)
            return np.full(self.channels, float(low)), np.full(self.channels, float(high))
        mean, power = total / count, squares / count
        if self._complex:
            mean, power = np.zeros(self.channels), np.repeat(power.reshape(-1, 2).mean(1), 2)
        std = np.sqrt(np.maximum(power - mean**2, 0))
        if not (std > 0).all():
            raise InputError(
                f"a channel of {self.paths[0]} has one value everywhere: there is nothing to learn"
            )
        assert shift is not None
        return shift + mean - 2 * std, shift + mean + 2 * std

    def _pieces(self, index: int) -> Any:
        """Blocks (C, n) of a file, each of bounded size."""
        source, axes = self._source(index)
        first = axes.slices[0] if axes.slices else axes.plane[0]
        step = max(1, _PIECE * source.shape[first] // max(math.prod(source.shape), 1))
        for start in range(0, source.shape[first], step):
            block = [slice(0, n) for n in source.shape]
            block[first] = slice(start, min(start + step, source.shape[first]))
            with as_input_error():
                yield self._ordered(source.read(tuple(block)), axes)

    @staticmethod
    def _ordered(values: np.ndarray, axes: Layout) -> np.ndarray:
        """(C, ..., H, W) of a block."""
        front = [] if axes.channel is None else [axes.channel]
        middle = [a for a in range(values.ndim) if a not in (axes.channel, *axes.plane)]
        values = values.transpose(*front, *middle, *axes.plane)
        values = values if front else values[None]
        return complex_parts(values, 0) if values.dtype.kind == "c" else values

    def check_crop(self, size: int) -> None:
        """Check that crops of a size can be cut from all files.

        Args:
            size: Largest side of the crops, in pixels.

        Raises:
            InputError: If one is smaller; the first few are named.
        """
        small = [
            f"{path} is {sides[1]}x{sides[0]}"
            for path, sides in zip(self.paths, self._sides, strict=True)
            if min(sides) < size
        ]
        if small:
            more = f" and {len(small) - _NAMED} more" if len(small) > _NAMED else ""
            raise InputError(
                f"smaller than the crop {size}: {', '.join(small[:_NAMED])}{more}; use a smaller "
                "--crop"
            )

    def _crop(
        self, index: int, top: float, left: float, size: int
    ) -> tuple[np.ndarray, float | None]:
        """A crop (C, size, size) of a slice, in the numbers of the file, and their full scale."""
        file = int(np.searchsorted(self._ends, index, side="right"))
        place = index - (int(self._ends[file - 1]) if file else 0)
        source, axes = self._source(file)
        height, width = (source.shape[axis] for axis in axes.plane)
        if min(height, width) < size:
            self.check_crop(size)
        block = [slice(0, n) for n in source.shape]
        lengths = [source.shape[axis] for axis in axes.slices]
        for axis, one in zip(axes.slices, np.unravel_index(place, lengths), strict=True):
            block[axis] = slice(int(one), int(one) + 1)
        corner = int(top * (height - size + 1)), int(left * (width - size + 1))
        for axis, start in zip(axes.plane, corner, strict=True):
            block[axis] = slice(start, start + size)
        with as_input_error():
            if file not in self._cache:
                needed = math.prod(source.shape) * source.dtype.itemsize
                if needed > self._room:
                    crop = self._ordered(source.read(tuple(block)), axes)
                    return crop.reshape(self.channels, size, size), self._tops[file]
                self._room -= needed
                self._cache[file] = source.read()
        crop = self._ordered(self._cache[file][tuple(block)], axes)
        return crop.reshape(self.channels, size, size), self._tops[file]

    def batch(self, n: int, size: int, generator: torch.Generator, rows: slice = WHOLE) -> Tensor:
        """Draw a batch: uniform slice and position, and one of the flips and turns.

        Args:
            n: Number of samples.
            size: Height and width of the crops, in pixels.
            generator: Source of the random numbers, on the CPU.
            rows: Part of the batch to read; its random numbers are those of the whole one.

        Returns:
            Images, shape (n, C, size, size), float32; -1 is `low` and 1 is `high`.

        Raises:
            InputError: If a file cannot be read or is smaller than the crop.
        """
        draws = torch.rand(n, 4, generator=generator, dtype=torch.float64)[rows].tolist()
        batch = np.empty((len(draws), self.channels, size, size), np.float32)
        low, high = self.low[:, None, None], self.high[:, None, None]
        for i, draw in enumerate(draws):
            crop, top = self._crop(int(draw[0] * len(self)), draw[1], draw[2], size)
            crop = (crop - low) / ((top if self._by_type else high) - low) * 2 - 1
            turn = self._turns[int(draw[3] * len(self._turns))]
            crop = np.rot90(crop, turn % 4, (1, 2))
            batch[i] = crop[..., ::-1] if turn >= 4 else crop
        return torch.from_numpy(batch)


def _axes(source: ArraySource, channels: int | None) -> Layout:
    """The axes of a file; without names those of (N, H, W) and (N, H, W, C), as for bytes.

    The number of channels, if it is known, decides for channels first, and for single pictures.
    """
    count = len(source.shape)
    if source.axes or count not in (3, 4):
        return layout(source, select(source, ()), ask=False)
    slices = tuple(range(count - 3))
    if channels is not None and (count == 4 or channels > 1):
        for axis in (count - 1, count - 3):
            if source.shape[axis] == channels:
                first, second = (a for a in range(count - 3, count) if a != axis)
                return Layout(slices, axis, (first, second))
    return Layout((0,), None, (1, 2)) if count == 3 else Layout((0,), 3, (1, 2))


def array_type(path: Path, key: str | None = None) -> str | None:
    """Tell the type of the numbers in an array file.

    Args:
        path: Path of a .npy, .npz or .mat file.
        key: Name of the array, if there are several.

    Returns:
        Its name, such as "float32"; None for what cannot be read, and then the reader says why.

    Example:
        >>> array_type(Path("missing.npy")) is None
        True
    """
    try:
        return _opened(path, key).dtype.name
    except ValueError:
        return None


def _opened(path: Path, key: str | None) -> ArraySource:
    """A picture, an array or the file of an instrument, as one kind of record."""
    if path.suffix.lower() == ".npy" or source_format(path) is not None:
        return open_source(path, key, "--array NAME")
    if path.suffix.lower() in ARRAY_SUFFIXES:
        array = read_array_file(path, key, "--array NAME")
        return ArraySource(
            path, f"array, {array.dtype}", array.shape, array.dtype, array.__getitem__
        )
    picture = read_picture(path, "file")
    values = picture.values
    axes = ("y", "x", "sample")[: values.ndim]
    return ArraySource(
        path,
        picture.kind,
        values.shape,
        values.dtype,
        values.__getitem__,
        axes,
        full_scale=picture.full_scale,
    )
