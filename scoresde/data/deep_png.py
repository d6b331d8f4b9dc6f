"""16-bit PNG files in colour and with alpha, which Pillow does not write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

__all__ = ["deep_png"]

_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}
_ROWS = 256
_INCH = 0.0254  # metres


def deep_png(
    samples: np.ndarray,
    profile: bytes | None = None,
    resolution: tuple[float, float] | None = None,
) -> bytes:
    """Encode a picture by the PNG specification (W3C, third edition).

    Args:
        samples: Samples (H, W, n), uint16: grey, grey and alpha, colour, or colour and alpha.
        profile: ICC profile.
        resolution: Pixels per inch along the width and along the height.

    Returns:
        The content of the file.

    Example:
        >>> import io
        >>> import numpy as np
        >>> from PIL import Image
        >>> content = deep_png(np.full((4, 6, 3), 40000, np.uint16))
        >>> Image.open(io.BytesIO(content)).size
        (6, 4)
    """
    height, width, count = samples.shape
    parts = [struct.pack(">IIBBBBB", width, height, 16, _COLOURS[count], 0, 0, 0)]
    parts = [b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", parts[0])]
    if profile is not None:
        parts.append(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(profile)))
    if resolution is not None:
        across, down = (round(one / _INCH) for one in resolution)
        parts.append(_chunk(b"pHYs", struct.pack(">IIB", across, down, 1)))
    packer = zlib.compressobj(1)  # the low bytes are noise, which no level makes smaller
    packed = [packer.compress(rows) for rows in _filtered(samples)]
    parts.append(_chunk(b"IDAT", b"".join([*packed, packer.flush()])))
    return b"".join([*parts, _chunk(b"IEND", b"")])


def _chunk(kind: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def _filtered(samples: np.ndarray) -> Iterator[bytes]:
    """Rows after the filter that leaves the smallest bytes (section 12.7), some at a time."""
    height, width, count = samples.shape
    above = np.zeros((1, width, 2 * count), np.uint8)
    for top in range(0, height, _ROWS):
        rows = np.ascontiguousarray(samples[top : top + _ROWS], ">u2").view(np.uint8)
        before = np.concatenate([above, rows[:-1]])
        left = np.pad(rows, ((0, 0), (1, 0), (0, 0)))[:, :-1]
        corner = np.pad(before, ((0, 0), (1, 0), (0, 0)))[:, :-1]
        predictions = {1: left, 2: before, 4: _paeth(left, before, corner)}
        found = np.stack([rows - one for one in predictions.values()])
        costs = np.abs(found.view(np.int8).astype(np.int16)).sum((2, 3), dtype=np.int64)
        best = costs.argmin(0)
        kinds = np.array(list(predictions), np.uint8)[best]
        chosen = found[best, np.arange(len(rows))].reshape(len(rows), -1)
        yield np.concatenate([kinds[:, None], chosen], 1).tobytes()
        above = rows[-1:]


def _paeth(left: np.ndarray, above: np.ndarray, corner: np.ndarray) -> np.ndarray:
    a, b, c = (one.astype(np.int16) for one in (left, above, corner))
    by_left, by_above, by_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    nearest = np.where(by_above <= by_corner, above, corner)
    return np.where((by_left <= by_above) & (by_left <= by_corner), left, nearest)
