"""Whether a PNG file holds all of its pixels.

Decoders fill the rest of a picture with black where the compressed data ends too early, and say
nothing if every chunk is whole.
"""

import struct
import zlib
from pathlib import Path

__all__ = ["ADAM7", "SAMPLES", "SIGNATURE", "bytes_of_rows", "has_all_pixels"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
"""The first bytes of a PNG file."""

SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by the colour type of IHDR."""

# first column, first row, steps between columns and between rows of the passes of Adam7
ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


def has_all_pixels(path: Path) -> bool:
    """Compare the length of the decompressed data with what the header asks for.

    Args:
        path: A file.

    Returns:
        Whether there are bytes for all rows; True if the file is no PNG, as others will say.
    """
    with path.open("rb") as file:
        if file.read(8) != SIGNATURE:
            return True
        needed = found = 0
        stream = zlib.decompressobj()
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"IHDR":
                needed = bytes_of_rows(file.read(length))
                file.seek(4, 1)
            elif kind == b"IDAT" and needed:
                found += _decompressed(stream, file.read(length))
                file.seek(4, 1)
                if found >= needed:
                    return True
            else:
                file.seek(length + 4, 1)
    return found >= needed


def _decompressed(stream: "zlib._Decompress", data: bytes) -> int:
    """Length of what comes out, without keeping more than a piece of it."""
    total = 0
    try:
        while data:
            total += len(stream.decompress(data, 1 << 20))
            data = stream.unconsumed_tail
    except zlib.error:  # the decoder will say so, or has all it needs
        pass
    return total


def bytes_of_rows(header: bytes) -> int:
    """Count the bytes of all rows, each with its filter byte.

    Args:
        header: Content of the IHDR chunk.

    Returns:
        The number of bytes; 0 for a header of unknown meaning.
    """
    if len(header) < 13:
        return 0
    width, height, bits, colours, _, _, interlaced = struct.unpack(">IIBBBBB", header[:13])
    if colours not in SAMPLES:
        return 0
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * SAMPLES[colours] * bits // 8))
    return total
