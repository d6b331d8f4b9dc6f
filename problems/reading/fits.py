"""FITS images by astropy, in their physical values (BSCALE, BZERO and BLANK are applied).

The axes are those of astropy: the last axis of the array is NAXIS1, x. The first row is the first
one in the file, which viewers of FITS show at the bottom.
"""

from __future__ import annotations

import warnings
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
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        file = fits.open(path, mode="readonly", memmap=False)
        with closing_on_error(file):
            hdu = _choose(file, key, option)
            if any("truncated" in str(one.message) for one in heard):
                raise RefusalError("the file ends too early; copy it again")
            return closed_with(_source(path, hdu), file)


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


def _choose(file: Any, key: str | None, option: str) -> Any:
    """The HDU of a name, or the only one that holds an image."""
    images = {
        number: hdu
        for number, hdu in enumerate(file)
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
