"""Samples of 16-bit PNG files in colour or with alpha, of which Pillow keeps 8 bits.

Filters and interlacing are those of the PNG specification (W3C, third edition, sections 8 and 9).
A byte is predicted by its neighbours to the left and above, so that all bytes of an anti-diagonal
can be found at once.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from problems.reading.png import ADAM7, SAMPLES, SIGNATURE, bytes_of_rows

__all__ = ["is_deep_png", "read_deep_png", "unfiltered"]

_NONE, _LEFT, _ABOVE, _MEAN, _PAETH = range(5)
_DEEP_COLOURS = (2, 4, 6)  # colour, grey with alpha, colour with alpha


def is_deep_png(path: Path) -> bool:
    """Whether a file is a 16-bit PNG in colour or with alpha.

    Args:
        path: A file.

    Returns:
        Whether it is one, by its header.
    """
    with path.open("rb") as file:
        start = file.read(33)
    return (
        len(start) == 33
        and start[:8] == SIGNATURE
        and start[12:16] == b"IHDR"
        and start[24] == 16
        and start[25] in _DEEP_COLOURS
    )


def read_deep_png(path: Path) -> np.ndarray:
    """Read all bits of a 16-bit PNG.

    Args:
        path: A file for which :func:`is_deep_png` holds.

    Returns:
        Samples (H, W, n), uint16, as stored.

    Raises:
        ValueError: If the file is damaged.
    """
    header, packed = b"", []
    with path.open("rb") as file:
        file.seek(len(SIGNATURE))
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            content = file.read(length)
            file.seek(4, 1)
            if kind == b"IHDR" and not header:  # the one whose size was checked
                header = content
            elif kind == b"IDAT":
                packed.append(content)
            elif kind == b"IEND":
                break
    needed = bytes_of_rows(header)
    try:
        data = zlib.decompressobj().decompress(b"".join(packed), needed)
    except zlib.error as error:
        raise ValueError(f"its pixels are damaged ({error})") from None
    if len(data) < needed:
        raise ValueError("its pixels end too early")
    width, height, _, colours, _, _, interlaced = struct.unpack(">IIBBBBB", header[:13])
    pixel = 2 * SAMPLES[colours]
    samples = np.empty((height, width, pixel), np.uint8)
    rest = np.frombuffer(data, np.uint8)
    for part in _passes(samples, interlaced):
        size = part.shape[0] * (1 + part.shape[1] * pixel)
        rows = rest[:size].reshape(part.shape[0], -1)
        part[...] = unfiltered(rows[:, 0], rows[:, 1:].reshape(part.shape))
        rest = rest[size:]
    return samples.view(">u2").astype(np.uint16)


def _passes(samples: np.ndarray, interlaced: int) -> Iterator[np.ndarray]:
    """The parts of a picture that are stored one after the other."""
    for left, top, across, down in ADAM7 if interlaced else ((0, 0, 1, 1),):
        part = samples[top::down, left::across]
        if part.size:
            yield part


def unfiltered(filters: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Undo the filters of a PNG file.

    Args:
        filters: Filter of each row (H,), 0 to 4.
        rows: Filtered bytes (H, W, b) with b bytes a pixel, uint8.

    Returns:
        The bytes (H, W, b), uint8.

    Raises:
        ValueError: If there is no such filter.
    """
    if filters.max() > _PAETH:
        raise ValueError(f"its pixels are damaged (a row has the filter {filters.max()})")
    height, width, size = rows.shape
    # a row above and a column to the left, of zeros; then an anti-diagonal is a slice of step width
    padded = np.zeros((height + 1, width + 1, size), np.uint8)
    padded[1:, 1:] = rows
    if not filters.any():
        return padded[1:, 1:]
    flat, step = padded.reshape(-1, size), width
    for diagonal in range(height + width - 1):
        first, last = max(0, diagonal - width + 1), min(height - 1, diagonal)
        start = (first + 1) * (width + 1) + (diagonal - first) + 1
        stop = start + (last - first) * step + 1
        left, above, corner = (
            flat[start - back : stop - back : step].astype(np.int16)
            for back in (1, width + 1, width + 2)
        )
        found = filters[first : last + 1]
        flat[start:stop:step] += _predicted(found[:, None], left, above, corner)
    return padded[1:, 1:]


def _predicted(
    filters: np.ndarray, left: np.ndarray, above: np.ndarray, corner: np.ndarray
) -> np.ndarray:
    """The prediction of each byte, uint8."""
    mean, paeth = left, left
    if (filters == _MEAN).any():
        mean = (left + above) >> 1
    if (filters == _PAETH).any():
        by_left, by_above = np.abs(above - corner), np.abs(left - corner)
        by_corner = np.abs(left + above - 2 * corner)
        paeth = np.where(
            (by_left <= by_above) & (by_left <= by_corner),
            left,
            np.where(by_above <= by_corner, above, corner),
        )
    nothing = np.int16(0)
    return np.choose(filters, [nothing, left, above, mean, paeth]).astype(np.uint8)
