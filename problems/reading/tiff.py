"""TIFF files whose samples are no plain bytes, by tifffile, and segments of it by Pillow's libtiff.

Orders of axes, tags and types are those of TIFF 6.0 and of Adobe's technical note 3 (predictors).
"""

from __future__ import annotations

import logging
import struct
from pathlib import Path
from typing import Any

import numpy as np
from tifffile import TiffFile

from problems.reading.picture import Picture, check_pixels, split_alpha, turned
from problems.reading.profiles import carried_profile
from problems.reading.refusal import RefusalError
from problems.reading.tiff_segments import UndecodedError, decoded

__all__ = [
    "READ_COLOURS",
    "check_pages",
    "is_tiff",
    "page_samples",
    "read_deep_tiff",
    "refuse_raw",
    "stated_range",
    "tiff_profile",
    "tiff_size",
]

_ORIENTATION, _COLOURS, _PROFILE, _DNG = 274, 262, 34675, 50706
_ACROSS, _DOWN, _UNIT = 282, 283, 296
_LOWEST, _HIGHEST, _SIGNED_LOWEST, _SIGNED_HIGHEST = 280, 281, 340, 341
_TAGS = (
    *(_ORIENTATION, _COLOURS, _PROFILE, _ACROSS, _DOWN, _UNIT),
    *(_LOWEST, _HIGHEST, _SIGNED_LOWEST, _SIGNED_HIGHEST),
)
# grey, and colours by their light or by a mosaic of filters; TIFF 6.0, TIFF/EP and DNG
READ_COLOURS = (0, 1, 2, 32803, 34892)
"""Photometric interpretations that are read: light, in grey or by colour."""

_COLOURS_IN_WORDS = {3: "a palette", 5: "CMYK", 6: "YCbCr", 8: "CIELAB", 9: "CIELAB", 10: "CIELAB"}
# without a handler Python would print what tifffile says of damaged files
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_RAW = (".arw", ".cr2", ".dng", ".nef", ".orf", ".pef", ".rw2", ".srw")


def is_tiff(path: Path) -> bool:
    """Whether a file begins as a TIFF.

    Args:
        path: A file.

    Returns:
        Whether it does.
    """
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def check_pages(path: Path) -> None:
    """Refuse a TIFF whose list of pages is cut off.

    What is left of a stack would look like a whole file of fewer pages.

    Args:
        path: A TIFF.

    Raises:
        RefusalError: If a page lies beyond the end of the file.
    """
    size, seen = path.stat().st_size, set[int]()
    with path.open("rb") as file:
        head = file.read(8)
        order = "<" if head[:2] == b"II" else ">"
        # sizes of an offset, of a number of entries and of an entry; BigTIFF has larger ones
        form, count_form, entry = ("Q", "Q", 20) if 43 in head[2:4] else ("I", "H", 12)
        where = 8 if form == "Q" else 4  # of the offset of the first page
        while where + struct.calcsize(form) <= size:
            file.seek(where)
            (page,) = struct.unpack(f"{order}{form}", file.read(struct.calcsize(form)))
            if page == 0 or page in seen:
                return
            seen.add(page)
            if page + struct.calcsize(count_form) > size:
                break
            file.seek(page)
            (count,) = struct.unpack(f"{order}{count_form}", file.read(struct.calcsize(count_form)))
            where = page + struct.calcsize(count_form) + entry * count
    raise RefusalError(f"it ends before page {max(len(seen), 1)} of its list does; copy it again")


def tiff_size(path: Path) -> tuple[int, int]:
    """Read height and width of the first page of a TIFF, in pixels, as stored."""
    with TiffFile(path) as file:
        page: Any = file.pages[0]
        return int(page.imagelength), int(page.imagewidth)


def tiff_profile(path: Path) -> bytes | None:
    """Read the colour profile of the first page of a TIFF."""
    with TiffFile(path) as file:
        page: Any = file.pages[0]
        found: bytes | None = page.tags.valueof(_PROFILE)
        return found


def refuse_raw(path: Path) -> None:
    """Refuse the raw file of a camera, whose first page is a thumbnail.

    Args:
        path: A TIFF.

    Raises:
        ValueError: If it is the raw file of a camera.
    """
    raw = path.suffix.lower() in _RAW
    if not raw:
        with TiffFile(path) as file:
            page: Any = file.pages[0]
            raw = _DNG in page.tags
    if raw:
        raise ValueError(
            "it is the raw file of a camera; develop it to a 16-bit TIFF first, with dcraw or the "
            "program of the camera"
        )


def read_deep_tiff(path: Path) -> Picture | None:
    """Read a TIFF whose samples are no plain bytes.

    Args:
        path: A TIFF.

    Returns:
        The picture in its own values; None if Pillow reads it as well.

    Raises:
        ValueError: If it is no picture in grey or colour.
    """
    with TiffFile(path) as file:
        page: Any = file.pages[0]
        if page.dtype is None or page.dtype in (np.bool_, np.uint8):
            return None
        check_pixels(path, page.imagelength, page.imagewidth)
        if page.samplesperpixel > 4:  # before memory is taken for them
            raise ValueError(f"it has {page.samplesperpixel} samples a pixel; 1 or 3 are needed")
        try:
            values = page_samples(page)
        except UndecodedError:  # compressed in a way that Pillow may know
            return None
        many = len(file.pages)
        tags = {code: page.tags[code].value for code in _TAGS if code in page.tags}
        extra = len(page.extrasamples)
        bits = page.bitspersample
    colours = tags.get(_COLOURS, 1)
    if colours not in READ_COLOURS:
        name = _COLOURS_IN_WORDS.get(int(colours), f"colours of the kind {int(colours)}")
        raise ValueError(f"it has {name} in {bits} bits, which is not read; convert it to RGB")
    if values.ndim == 3 and values.shape[-1] not in (1, 2, 3, 4):
        raise ValueError(f"it has {values.shape[-1]} samples a pixel; 1 or 3 are needed")
    if values.ndim not in (2, 3):
        raise ValueError(f"its first page has the shape {values.shape}, not that of a picture")
    if values.dtype.kind not in "buif":
        raise ValueError(f"its samples are {values.dtype}, not real numbers")
    if values.ndim == 3 and values.shape[-1] in (2, 4) and not extra:
        raise ValueError(f"it has {values.shape[-1]} samples a pixel; 1 or 3 are needed")
    values = turned(values.astype(values.dtype.newbyteorder("=")), tags.get(_ORIENTATION, 1))
    unsigned = values.dtype.kind == "u"
    full = 2**bits - 1 if unsigned and isinstance(bits, int) else None
    values, alpha = split_alpha(values, full)
    notes = [f"the first of its {many} pages is read"] if many > 1 else []
    if colours == 0:  # white is zero
        if full is not None:
            values = full - values
        else:
            notes.append("it says that white is zero, which is not followed")
    profile, told = carried_profile(tags.get(_PROFILE), values.ndim == 2)
    return Picture(
        values,
        f"TIFF, {_type_in_words(values.dtype, bits)} {'colour' if values.ndim == 3 else 'grey'}",
        alpha,
        stated_range=stated_range(tags),
        notes=(*notes, *told),
        profile=profile,
        resolution=_resolution(tags),
        full_scale=full if full != (np.iinfo(values.dtype).max if unsigned else None) else None,
    )


def page_samples(page: Any) -> np.ndarray:
    """Read the samples of a page.

    Args:
        page: A page of tifffile.

    Returns:
        Samples (H, W) or (H, W, n) as stored.

    Raises:
        UndecodedError: If they are compressed in a way that is not read here.
    """
    try:
        values: np.ndarray = page.asarray()
    except (ValueError, ImportError, NotImplementedError) as error:
        if "imagecodecs" not in str(error):
            raise
        return decoded(page)
    if values.ndim == 3 and page.planarconfig == 2:
        values = np.moveaxis(values, 0, -1)
    return values


def stated_range(tags: dict[int, Any]) -> tuple[float, float] | None:
    """Find the range that a TIFF states.

    Args:
        tags: Values of the tags by number.

    Returns:
        Lowest and highest sample value, if the tags state both and they differ.
    """
    for low, high in ((_SIGNED_LOWEST, _SIGNED_HIGHEST), (_LOWEST, _HIGHEST)):
        if low in tags and high in tags:
            ends = float(np.min(tags[low])), float(np.max(tags[high]))
            if np.isfinite(ends).all() and ends[0] < ends[1]:
                return ends
    return None


def _resolution(tags: dict[int, Any]) -> tuple[float, float] | None:
    """Pixels per inch of the upright picture."""
    centimetres = {2: 1.0, 3: 2.54}.get(int(tags.get(_UNIT, 2)))
    if _ACROSS not in tags or _DOWN not in tags or centimetres is None:
        return None
    pairs = (tags[_ACROSS], tags[_DOWN])
    if not all(len(pair) == 2 and min(pair) > 0 for pair in pairs):
        return None
    across, down = (pair[0] / pair[1] * centimetres for pair in pairs)
    return (down, across) if tags.get(_ORIENTATION, 1) in (5, 6, 7, 8) else (across, down)


def _type_in_words(dtype: np.dtype, bits: Any) -> str:
    count = bits if isinstance(bits, int) else 8 * dtype.itemsize
    return f"{count}-bit {({'i': 'signed', 'f': 'float'}).get(dtype.kind, '')}".strip()
