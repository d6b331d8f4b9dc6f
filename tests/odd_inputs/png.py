"""A PNG encoder for what Pillow does not write: 16-bit colour, few bits, interlacing, keys."""

import struct
import zlib

import numpy as np

__all__ = ["chunk", "header", "png"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# first row, first column and steps of Adam7, PNG specification 8.2
_PASSES = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk with its checksum."""
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def header(width: int, height: int, depth: int, colour: int, interlaced: bool = False) -> bytes:
    """Signature and IHDR of a picture."""
    content = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    return SIGNATURE + chunk(b"IHDR", content)


def _lines(values: np.ndarray, depth: int) -> bytes:
    """Rows of samples (H, W, n), each after the byte of filter 0."""
    if not values.size:
        return b""
    rows = values.reshape(len(values), -1)
    if depth == 16:
        packed = rows.astype(">u2").view(np.uint8).reshape(len(rows), -1)
    elif depth == 8:
        packed = rows.astype(np.uint8)
    else:
        bits = (rows[..., None] >> np.arange(depth - 1, -1, -1)) & 1
        packed = np.packbits(bits.astype(np.uint8).reshape(len(rows), -1), axis=1)
    return np.concatenate([np.zeros((len(rows), 1), np.uint8), packed], 1).tobytes()


def png(
    values: np.ndarray,
    depth: int,
    colour: int,
    *,
    interlaced: bool = False,
    palette: np.ndarray | None = None,
    transparency: bytes = b"",
    chunks: bytes = b"",
) -> bytes:
    """Encode samples as they are.

    Args:
        values: Samples (H, W) or (H, W, n), whole numbers below 2^depth.
        depth: Bits of a sample.
        colour: Colour type: 0 grey, 2 colour, 3 palette, 4 grey and alpha, 6 colour and alpha.
        interlaced: Whether the rows are in the order of Adam7.
        palette: Colours (n, 3).
        transparency: Content of a tRNS chunk.
        chunks: Further chunks, before the pixels.

    Returns:
        The file.
    """
    samples = values if values.ndim == 3 else values[..., None]
    height, width = samples.shape[:2]
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    raw = b"".join(_lines(samples[r::i, c::j], depth) for r, c, i, j in passes)
    file = header(width, height, depth, colour, interlaced)
    if palette is not None:
        file += chunk(b"PLTE", palette.astype(np.uint8).tobytes())
    if transparency:
        file += chunk(b"tRNS", transparency)
    return file + chunks + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
