"""Files that are cut, empty, full of garbage, or that claim to be huge."""

import functools
import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests.odd_inputs.case import Case, Desk, Recipe
from tests.odd_inputs.modes import levels
from tests.odd_inputs.png import chunk, header, png

__all__ = ["RECIPES", "damaged", "flipped"]

_FORMATS = {
    "png": "PNG",
    "jpg": "JPEG",
    "tif": "TIFF",
    "bmp": "BMP",
    "gif": "GIF",
    "tga": "TGA",
    "ppm": "PPM",
    "webp": "WEBP",
    "jp2": "JPEG2000",
    "sgi": "SGI",
    "pcx": "PCX",
    "dds": "DDS",
    "qoi": "QOI",
    "avif": "AVIF",
    "ico": "ICO",
    "im": "IM",
}


def _content(desk: Desk, suffix: str) -> bytes:
    colours = levels(desk, *desk.size(), 3).astype(np.uint8)
    image, file = Image.fromarray(colours), io.BytesIO()
    image.convert("P").save(file, "GIF") if suffix == "gif" else image.save(file, _FORMATS[suffix])
    return file.getvalue()


def damaged(desk: Desk, content: bytes, kind: str) -> bytes:
    """Cut a file, or replace what it holds.

    Args:
        desk: Where the random numbers are.
        content: The whole file.
        kind: "empty", "cut" (in its first 60 %), "garbage", "zeros", "text" or "page".

    Returns:
        The damaged file.
    """
    if kind == "cut":
        return content[: int(desk.rng.integers(1, max(2, int(0.6 * len(content)))))]
    return {
        "empty": b"",
        "garbage": desk.rng.bytes(len(content)),
        "zeros": bytes(len(content)),
        "text": b"this is not what you think\n" * 8,
        "page": b"<!DOCTYPE html><html><body>404 not found</body></html>\n",
    }[kind]


def flipped(desk: Desk, content: bytes) -> bytes:
    """Flip a few random bits, most of them near the start, where the headers are."""
    data = bytearray(content)
    for _ in range(int(desk.rng.integers(1, 9))):
        reach = len(data) if desk.rng.random() < 0.5 else min(len(data), 64)
        data[int(desk.rng.integers(reach))] ^= 1 << int(desk.rng.integers(8))
    return bytes(data)


def _refused(desk: Desk, path: Path) -> Case:
    return Case(desk.restore(path), "refused", (path.name,), outputs=(desk.out,))


def _damaged(suffix: str, kind: str, desk: Desk) -> Case:
    path = desk.folder / f"photo.{suffix}"
    path.write_bytes(damaged(desk, _content(desk, suffix), kind))
    return _refused(desk, path)


def _flipped(suffix: str, desk: Desk) -> Case:
    path = desk.folder / f"photo.{suffix}"
    path.write_bytes(flipped(desk, _content(desk, suffix)))
    return Case(desk.restore(path), "clean", (path.name,), outputs=(desk.out,))


def _appended(desk: Desk) -> Case:
    """Bytes after the end do no harm."""
    path = desk.folder / "photo.png"
    path.write_bytes(_content(desk, "png") + desk.rng.bytes(100))
    return Case(desk.restore(path), "clean", (path.name,), outputs=(desk.out,))


def _huge(kind: str, desk: Desk) -> Case:
    """A small file that claims millions of pixels."""
    path = desk.folder / "photo.png"
    side = {"beyond-the-limit": 20000, "much-beyond": 2**31 - 1, "above-the-warning": 9600}[kind]
    data = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(header(side, side, 1, 0) + data)
    return _refused(desk, path)


def _no_pixels(form: str, desk: Desk) -> Case:
    path = desk.folder / f"photo.{form}"
    if form == "png":
        end = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
        path.write_bytes(header(0, 7, 8, 0) + end)
    elif form == "pgm":
        path.write_bytes(b"P5\n0 7\n255\n")
    else:
        path.write_bytes(b"GIF89a" + struct.pack("<HHBBB", 0, 0, 0, 0, 0) + b";")
    return _refused(desk, path)


def _bad_checksum(desk: Desk) -> Case:
    data = bytearray(png(levels(desk, *desk.size(), 3), 8, 2))
    at = data.index(b"IDAT") + 12
    data[at] ^= 255
    path = desk.folder / "photo.png"
    path.write_bytes(bytes(data))
    return _refused(desk, path)


def _short_rows(desk: Desk) -> Case:
    """Half of the rows are missing, in a stream that is whole."""
    values = levels(desk, *desk.size(), 3)
    rows = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in values[: len(values) // 2])
    head = header(values.shape[1], len(values), 8, 2)
    path = desk.folder / "photo.png"
    path.write_bytes(head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return _refused(desk, path)


def _renamed(name: str, desk: Desk) -> Case:
    """A file of another kind under the suffix of a picture or an array."""
    path, values = desk.folder / name, levels(desk, *desk.size()).astype(np.uint8)
    file = io.BytesIO()
    if name.endswith(".npy"):
        Image.fromarray(values).save(file, "PNG")
    elif name.startswith("array"):
        np.save(file, values)
    elif name.startswith("zip"):
        np.savez(file, values)
    else:
        file.write(b'{"operator": {"operator": "Denoising"}}')
    path.write_bytes(file.getvalue())
    return _refused(desk, path)


_CUTS = ("png", "jpg", "tif", "bmp", "gif", "ppm", "webp", "jp2", "sgi", "tga", "qoi")

RECIPES: dict[str, Recipe] = {
    **{f"cut-{suffix}": functools.partial(_damaged, suffix, "cut") for suffix in _CUTS},
    **{
        f"{kind}-{suffix}": functools.partial(_damaged, suffix, kind)
        for kind in ("empty", "garbage", "zeros", "text", "page")
        for suffix in ("png", "jpg", "tif")
    },
    **{f"flipped-{suffix}": functools.partial(_flipped, suffix) for suffix in _FORMATS},
    "bytes-after-the-end": _appended,
    **{
        f"huge-{kind}": functools.partial(_huge, kind)
        for kind in ("beyond-the-limit", "much-beyond", "above-the-warning")
    },
    **{f"no-pixels-{form}": functools.partial(_no_pixels, form) for form in ("png", "pgm", "gif")},
    "png-bad-checksum": _bad_checksum,
    "png-short-rows": _short_rows,
    **{
        f"renamed-{name}": functools.partial(_renamed, name)
        for name in ("picture.npy", "array.png", "zip.jpg", "description.png")
    },
}
"""Recipes by name."""
