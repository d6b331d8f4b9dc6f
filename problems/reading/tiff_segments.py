"""Compressed TIFF samples that tifffile leaves to imagecodecs, by the libtiff within Pillow.

Pillow decompresses LZW and others, but keeps 8 bits of a colour and no floating-point colours.
Each compressed strip or tile is therefore given to it as a grey picture of bytes, and the bytes are
put together here: bits, byte order, planes, and the predictor (TIFF 6.0, section 14; Adobe's
technical note 3).
"""

from __future__ import annotations

import io
import struct
from typing import Any, Literal

import numpy as np
from PIL import Image

from problems.reading.picture import MAX_PIXELS, pillow_without_limit

__all__ = ["UndecodedError", "decoded"]

# none, LZW, Adobe deflate, deflate, PackBits, LZMA, ZSTD: what is the same for any samples
_COMPRESSIONS = (1, 5, 8, 32946, 32773, 34925, 50000)
_DIFFERENCES, _FLOAT_DIFFERENCES = 2, 3


class UndecodedError(Exception):
    """A compression or packing that is not undone here."""


def decoded(page: Any) -> np.ndarray:
    """Read the samples of a page.

    Args:
        page: Page of tifffile.

    Returns:
        Samples (H, W) or (H, W, n), as stored.

    Raises:
        UndecodedError: If their compression is not known here.
        ValueError: If the file is damaged.
    """
    dtype, samples = np.dtype(page.dtype), int(page.samplesperpixel)
    bits = page.bitspersample
    packed = dtype == np.uint16 and isinstance(bits, int) and 8 < bits < 16 and page.predictor == 1
    if page.compression not in _COMPRESSIONS or not (packed or bits == 8 * dtype.itemsize):
        raise UndecodedError
    if page.fillorder != 1 or page.predictor not in (1, _DIFFERENCES, _FLOAT_DIFFERENCES):
        raise UndecodedError
    separate = page.planarconfig == 2 and samples > 1
    height, width = int(page.imagelength), int(page.imagewidth)
    planes, inside = (samples, 1) if separate else (1, samples)
    tall, wide = (
        (int(page.tilelength), int(page.tilewidth))
        if page.is_tiled
        else (min(int(page.rowsperstrip), height), width)
    )
    down, across = -(-height // tall), -(-width // wide)
    if down * tall * across * wide > 2 * MAX_PIXELS:
        raise ValueError("its tiles are much larger than the picture")
    if len(page.dataoffsets) != planes * down * across:
        raise ValueError("it does not have all of its strips or tiles")
    whole = np.zeros((planes, down * tall, across * wide, inside), dtype.newbyteorder("="))
    file = page.parent.filehandle
    for i, (offset, count) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        if not count:  # sparse files leave empty segments out
            continue
        plane, place = divmod(i, down * across)
        row, column = (place // across) * tall, (place % across) * wide
        rows = tall if page.is_tiled else min(tall, height - row)
        file.seek(offset)
        row_bytes = -(-wide * inside * bits // 8)
        data = _bytes(file.read(count), int(page.compression), rows, row_bytes)
        if packed:
            found = _unpacked(data, bits, wide * inside).reshape(rows, wide, inside)
        else:
            found = _undone(data, dtype, inside, int(page.predictor), page.parent.byteorder)
        whole[plane, row : row + rows, column : column + wide] = found
    whole = whole[:, :height, :width]
    whole = np.moveaxis(whole[..., 0], 0, -1) if separate else whole[0]
    return whole[..., 0] if samples == 1 else whole


def _bytes(packed: bytes, compression: int, rows: int, width: int) -> np.ndarray:
    """Decompress a segment as a grey TIFF of bytes (rows, width)."""
    entries = [
        *((256, 4, width), (257, 4, rows), (258, 3, 8), (259, 3, compression), (262, 3, 1)),
        *((273, 4, 0), (277, 3, 1), (278, 4, rows), (279, 4, len(packed))),
    ]
    start = 8 + 2 + 12 * len(entries) + 4
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    for tag, kind, value in entries:
        number = start if tag == 273 else value
        head += struct.pack("<HHI", tag, kind, 1) + struct.pack(
            "<I" if kind == 4 else "<Hxx", number
        )
    # its bytes may be more than the pixels that Pillow allows
    with pillow_without_limit(), Image.open(io.BytesIO(head + bytes(4) + packed)) as image:
        return np.asarray(image, np.uint8)


def _unpacked(data: np.ndarray, bits: int, count: int) -> np.ndarray:
    """Samples (rows, count) of a stream of bits (rows, bytes), the highest bit first."""
    stream = np.unpackbits(data, axis=1)[:, : count * bits].reshape(len(data), count, bits)
    weights = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint16)
    samples: np.ndarray = (stream * weights).sum(-1, dtype=np.uint16)
    return samples


def _undone(
    data: np.ndarray, dtype: np.dtype, samples: int, predictor: int, order: Literal["<", ">"]
) -> np.ndarray:
    """Samples (rows, width, samples) of bytes (rows, bytes of a row)."""
    rows, size = len(data), dtype.itemsize
    if predictor == _FLOAT_DIFFERENCES:
        # bytes of equal weight lie together, the highest first, each minus that of the pixel before
        sums = np.cumsum(data.reshape(rows, -1, samples), axis=1, dtype=np.uint8)
        planes = sums.reshape(rows, size, -1)
        values = np.ascontiguousarray(planes.transpose(0, 2, 1)).view(dtype.newbyteorder(">"))
        return values.reshape(rows, -1, samples)
    values = np.ascontiguousarray(data).view(dtype.newbyteorder(order))
    values = values.reshape(rows, -1, samples)
    if predictor == _DIFFERENCES:
        if dtype.kind not in "iu":
            raise UndecodedError
        native = values.astype(dtype.newbyteorder("="))
        return np.cumsum(native, axis=1, dtype=native.dtype)
    return values
