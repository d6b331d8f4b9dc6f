"""DICOM images by pydicom, in the values of the modality: HU for CT.

The stored values are rescaled by the attributes that the standard has for it (PS3.3, C.11.1 and
C.7.6.16.2.9). The window of the display is no part of the values.
"""

from __future__ import annotations

import itertools
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from problems.reading.array_source import ArraySource, library, numbers_only, short_reason
from problems.reading.refusal import RefusalError

__all__ = ["DICOM_SUFFIXES", "is_dicom", "open_dicom"]

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
"""Suffixes of DICOM files, in lower case."""

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_BLOCK = 1 << 20
_MOST_ELEMENTS = 100_000

# none of them says who the patient is
_FACTS = ("Modality", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices", "KVP")


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do (PS3.10): 128 bytes, then "DICM"."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def open_dicom(path: Path) -> ArraySource:
    """Open the image of a DICOM file.

    Args:
        path: Path of the file.

    Returns:
        The image: rows and columns, with several frames an axis "frame" before them, and with
        colours an axis "sample" after them.

    Raises:
        RefusalError: If pydicom or a decoder is missing, or the file has no image. Pydicom raises
            errors of many types on damaged files.
    """
    library("pydicom", "DICOM")
    from pydicom.filereader import read_partial
    from pydicom.pixels import apply_modality_lut, pixel_array

    _check_inflated(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with path.open("rb") as file:
            content = read_partial(file, stop_when=_counted())
        if "Rows" not in content or not any(
            name in content for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
        ):
            raise RefusalError("it is a DICOM file without an image")
        if content.get("PhotometricInterpretation") == "PALETTE COLOR":
            raise RefusalError("its pixels are places in a palette; convert it to RGB")
        try:
            stored = pixel_array(content)
        except (RuntimeError, NotImplementedError) as error:
            raise RefusalError(
                f"its pixels cannot be decoded ({short_reason(error)}); convert it to an "
                "uncompressed transfer syntax, or pip install pylibjpeg pylibjpeg-libjpeg "
                "pylibjpeg-openjpeg"
            ) from None
        transformations = _transformations(content)
        if transformations is None:
            values = apply_modality_lut(stored, content)
            unit = content.get("RescaleType")
        else:
            values = _rescaled(stored, transformations)
            unit = transformations[0].get("RescaleType")
    rescaled = values is not stored
    if unit is None and rescaled and content.get("Modality") == "CT":
        unit = "HU"  # C.8.2.1: of CT, unless another type is stated
    colours = int(content.get("SamplesPerPixel", 1)) > 1
    frames = ("frame",) if values.ndim == 2 + colours + 1 else ()
    notes = []
    if content.get("PhotometricInterpretation") == "MONOCHROME1":
        notes.append("it is MONOCHROME1: its large values are shown dark")
    if "PixelPaddingValue" in content:
        notes.append(f"stored pixels of the value {content.PixelPaddingValue} are padding")
    values = np.asarray(values)
    numbers_only(values.dtype, values.shape)
    bits = int(content.get("BitsStored", 8 * values.dtype.itemsize))
    partial = values.dtype.kind == "u" and bits < 8 * values.dtype.itemsize
    return ArraySource(
        path,
        f"DICOM, {content.get('Modality', 'image')}, {values.dtype}",
        values.shape,
        values.dtype,
        values.__getitem__,
        (*frames, "y", "x", *(("sample",) if colours else ())),
        None if unit in (None, "", "US") else str(unit),  # US: unspecified
        window=_window(content),
        full_scale=2**bits - 1 if partial else None,
        facts={name: _plain(content.get(name)) for name in _FACTS if name in content},
        notes=tuple(notes),
    )


def _counted() -> Callable[[Any, str | None, int], bool]:
    """Count the elements of a data set: one of zeros alone has an element every 8 bytes."""
    count = itertools.count(1)

    def stop(tag: Any, vr: str | None, length: int) -> bool:
        if next(count) > _MOST_ELEMENTS:
            raise RefusalError(f"it has more than {_MOST_ELEMENTS} elements")
        return False

    return stop


def _check_inflated(path: Path) -> None:
    """Refuse a deflated data set that does not fit into the memory, before it is inflated.

    PS3.10: the group of the file ends where its first element, a length, says; PS3.5, A.5: all that
    follows is one stream of deflate.
    """
    import psutil

    with path.open("rb") as file:
        head = file.read(144)
        if len(head) < 144 or head[132:138] != b"\x02\0\0\0UL":
            return  # without this length pydicom says what is wrong
        group = file.read(int.from_bytes(head[140:144], "little"))
        if _DEFLATED not in group:
            return
        limit, inflated = psutil.virtual_memory().available // 3, 0
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        while (block := file.read(_BLOCK)) and not stream.eof:
            while block:
                inflated += len(stream.decompress(block, _BLOCK))
                if inflated > limit:
                    raise RefusalError(
                        f"its data set takes more than {limit / 1e9:.3g} GB when it is inflated"
                    )
                block = stream.unconsumed_tail


def _transformations(content: Any) -> list[Any] | None:
    """Slope and intercept of each frame of an enhanced image, or one for all of them."""
    shared = content.get("SharedFunctionalGroupsSequence")
    if shared and "PixelValueTransformationSequence" in shared[0]:
        return [shared[0].PixelValueTransformationSequence[0]]
    each = content.get("PerFrameFunctionalGroupsSequence")
    if each and all("PixelValueTransformationSequence" in one for one in each):
        return [one.PixelValueTransformationSequence[0] for one in each]
    return None


def _rescaled(stored: np.ndarray, transformations: list[Any]) -> np.ndarray:
    frames = stored if len(transformations) > 1 else stored[None]
    if len(frames) != len(transformations):
        raise RefusalError(f"it rescales {len(transformations)} frames and has {len(frames)}")
    values = [
        frame.astype(np.float64) * float(one.RescaleSlope) + float(one.RescaleIntercept)
        for frame, one in zip(frames, transformations, strict=True)
    ]
    return np.stack(values) if len(transformations) > 1 else values[0]


def _window(content: Any) -> tuple[float, float] | None:
    """Ends of the first window of the display (C.11.2.1.2)."""

    def first(value: Any) -> float:
        return float(value[0] if hasattr(value, "append") else value)  # one or several windows

    try:
        centre, width = first(content.WindowCenter), first(content.WindowWidth)
    except (AttributeError, TypeError, ValueError, IndexError):
        return None
    if not width > 1:
        return None
    return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return str(value)
    if hasattr(value, "append"):
        return [float(one) for one in value]
    return None if value is None else float(value)
