"""FITS images by astropy, in their physical values (BSCALE, BZERO and BLANK are applied).

The axes are those of astropy: the last axis of the array is NAXIS1, x. The first row is the first
one in the file, which viewers of FITS show at the bottom.
"""

from __future__ import annotations

import gzip
import itertools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from problems.reading.array_source import (
    ArraySource,
    closed_with,
    closing_on_error,
    library,
    numbers_only,
)
from problems.reading.refusal import RefusalError

__all__ = ["FITS_SUFFIXES", "open_fits"]

FITS_SUFFIXES = (".fits", ".fit", ".fts", ".fits.gz", ".fits.fz")
"""Suffixes of FITS files, in lower case."""

_BLOCK, _MOST_BLOCKS = 2880, 4096  # FITS standard 4.0, 3.1; headers of 12 MB

_FACTS = ("OBJECT", "TELESCOP", "INSTRUME", "FILTER", "EXPTIME", "DATE-OBS", "BUNIT")


def open_fits(path: Path, key: str | None = None, option: str = "--array NAME") -> ArraySource:
    """Open an image of a FITS file.

    Args:
        path: Path of the file.
        key: Name (EXTNAME) or number of the HDU; None for the only one that holds an image.
        option: How the user names an HDU, for the error.

    Returns:
        The image; `frame` is its header.

    Raises:
        RefusalError: If astropy is missing, or the file has no such image. Astropy raises errors of
            many types on damaged files.
    """
    fits = library("astropy.io.fits", "FITS")
    with _opened(path) as raw:
        if not _has_header(raw, 0, b"SIMPLE  ="):
            raise RefusalError("it does not begin as FITS files do; write it again")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        file = fits.open(path, mode="readonly", memmap=False)
        with closing_on_error(file):
            hdu = _choose(path, file, key, option)
            if any("truncated" in str(one.message) for one in heard):
                raise RefusalError("the file ends too early; copy it again")
            return closed_with(_source(path, hdu), file)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The bytes of a file, those of gzip inflated."""
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path) if packed else path.open("rb") as file:
        yield file


def _has_header(file: Any, where: int, mark: bytes) -> bool:
    """Whether a header begins at a place; one without an end nearby is refused.

    Astropy would look for its end up to the end of the file.
    """
    file.seek(where)
    for number in range(_MOST_BLOCKS):
        block = file.read(_BLOCK)
        if number == 0 and not block.startswith(mark):
            return False
        if b"END     " in (block[at : at + 8] for at in range(0, len(block), 80)):
            return True
        if len(block) < _BLOCK:
            break
    raise RefusalError("a header of it has no end; copy it again")


def _units(path: Path, file: Any) -> Iterator[tuple[int, Any]]:
    """The HDUs with their numbers, up to the first that is none (FITS standard 4.0, 3.5)."""
    with _opened(path) as raw:
        for number in itertools.count():
            try:
                hdu = file[number]
            except IndexError:
                return
            yield number, hdu
            place = hdu.fileinfo() or {}
            if "datLoc" in place and not _has_header(
                raw, place["datLoc"] + place["datSpan"], b"XTENSION"
            ):
                return


def _source(path: Path, hdu: Any) -> ArraySource:
    header = hdu.header.copy()
    shape = tuple(int(n) for n in hdu.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dtype = hdu.section[tuple(slice(0, 1) for _ in shape)].dtype.newbyteorder("=")
    numbers_only(dtype, shape)

    def load(block: tuple[slice, ...]) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.asarray(hdu.section[block])

    low, high = header.get("DATAMIN"), header.get("DATAMAX")
    stated = None
    if _number(low) and _number(high) and low < high:
        stated = float(low), float(high)
    unit = str(header.get("BUNIT") or "").strip()
    return ArraySource(
        path,
        f"FITS, {dtype}",
        shape,
        dtype,
        load,
        _axes(header, len(shape)),
        unit or None,
        stated,
        facts={n: header[n] for n in _FACTS if isinstance(header.get(n), str | int | float)},
        frame=header,
    )


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))


def _choose(path: Path, file: Any, key: str | None, option: str) -> Any:
    """The HDU of a name, or the only one that holds an image."""
    images = {
        number: hdu
        for number, hdu in _units(path, file)
        if getattr(hdu, "is_image", False) and len(hdu.shape or ()) >= 2
    }
    listed = ", ".join(f"{n} {hdu.name or '(no name)'} {hdu.shape}" for n, hdu in images.items())
    if not images:
        raise RefusalError("it holds no image of two axes or more")
    if key is not None:
        found = [hdu for n, hdu in images.items() if key in (str(n), hdu.name)]
        if len(found) != 1:
            raise RefusalError(f"it has no image {key!r}; it holds {listed}")
        return found[0]
    if len(images) > 1:
        raise RefusalError(f"it holds several images, {listed}; name one with {option}")
    return next(iter(images.values()))


def _axes(header: Any, count: int) -> tuple[str, ...]:
    """Names of the axes, slowest first: x, y, and further ones by their CTYPE."""
    names: list[str] = []
    for number in range(1, count + 1):
        kind = str(header.get(f"CTYPE{number}") or "").partition("-")[0].strip().lower()
        further = kind or ("z" if number == 3 else f"axis{number}")
        name = {1: "x", 2: "y"}.get(number, further)
        names.append(name if name not in names else f"axis{number}")
    return tuple(reversed(names))
