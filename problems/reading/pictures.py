"""Pictures from files: pixels as stored, and what the file says about them.

TIFF files of any sample type are read by tifffile, all else by Pillow. Nothing is scaled here: what
the values mean is decided in :mod:`problems.reading.ranges`.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from tifffile import TiffFile

from problems.reading.png import has_all_pixels

__all__ = [
    "MAX_PIXELS",
    "JPEGCoding",
    "Picture",
    "TooManyPixelsError",
    "read_picture",
    "stored_size",
]

MAX_PIXELS = 1 << 28
"""Pixels beyond which a picture is refused unread: small files can claim any size."""

_GREY_MODES = ("1", "L", "LA", "La")
_ORIENTATION, _BITS, _COLOURS, _FORMAT = 274, 258, 262, 339
_LOWEST, _HIGHEST, _SIGNED_LOWEST, _SIGNED_HIGHEST = 280, 281, 340, 341


@dataclass(frozen=True)
class JPEGCoding:
    """How a JPEG file was encoded.

    Args:
        luma: Quantisation table of the brightness, 64 numbers, row-major.
        chroma: That of the colours; None for a grey picture.
        sampling: Horizontal and vertical reduction of the colours, such as (2, 2) for 4:2:0.
    """

    luma: tuple[int, ...]
    chroma: tuple[int, ...] | None
    sampling: tuple[int, int]


@dataclass(frozen=True)
class Picture:
    """A picture as its file holds it, upright.

    Args:
        values: Pixels (H, W) or (H, W, 3), in the type of the file: bool, uint8, uint16, int16,
            int32, uint32, float32, float64, ...
        kind: Format and sample type in words, such as "PNG, 16-bit grey".
        alpha: Opacity (H, W) on [0, 1]; None if the file has none.
        indices: Indices (H, W) into the palette; None if the file has none.
        stated_range: Values of black and white, if the file states them.
        jpeg: Quantisation tables of a JPEG file.
        rounded: Whether the file has more bits than were read.
        notes: What a reader should know, a sentence each.
    """

    values: np.ndarray
    kind: str
    alpha: np.ndarray | None = None
    indices: np.ndarray | None = None
    stated_range: tuple[float, float] | None = None
    jpeg: JPEGCoding | None = None
    rounded: bool = False
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.values.shape[0], self.values.shape[1]


def read_picture(path: str | Path) -> Picture:
    """Read a picture, upright, without scaling its values.

    Colour profiles are converted to sRGB. Of several pages or frames the first is read. Transparent
    pixels keep their colour.

    Args:
        path: Picture, in any format of Pillow, or a TIFF of any sample type.

    Returns:
        The picture.

    Raises:
        ValueError: If the file is missing, is no picture, is damaged, or is too large.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from PIL import Image
        >>> from problems.reading.pictures import read_picture
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.fromarray(np.array([[0, 1000]], np.uint16)).save(f"{folder}/a.png")
        ...     picture = read_picture(f"{folder}/a.png")
        >>> picture.kind, picture.values.tolist()
        ('PNG, 16-bit grey', [[0, 1000]])
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a picture")
    try:
        with _quiet() as heard:
            picture = _read(path)
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except TooManyPixelsError:
        raise
    except Exception as error:  # damaged files raise errors of many types
        raise ValueError(f"cannot read {path} as an image: {_reason(error, path)}") from None
    if not picture.values.size:
        raise ValueError(f"{path} has no pixels")
    said = tuple(dict.fromkeys(str(one.message).splitlines()[0] for one in heard))
    return replace(picture, notes=picture.notes + said)


class TooManyPixelsError(ValueError):
    """More pixels than are read."""


@contextmanager
def _quiet() -> Iterator[list[warnings.WarningMessage]]:
    """Collect what the libraries warn of, and keep their logs off the terminal."""
    logger = logging.getLogger("tifffile")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            yield heard
    finally:
        logger.setLevel(level)


def _reason(error: Exception, path: Path) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "its content is of no known picture format"
    text = getattr(error, "strerror", None) or str(error)
    return text.splitlines()[0] if text else type(error).__name__


def _check_size(path: Path, height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise TooManyPixelsError(
            f"{path} has {height * width / 1e6:.0f} megapixels, more than the "
            f"{MAX_PIXELS / 1e6:.0f} that are read; crop or scale it first"
        )


def stored_size(path: Path) -> tuple[int, int]:
    """Read the height and width of a picture from its head, before it is turned upright.

    Args:
        path: Path of the picture.

    Returns:
        Height and width in pixels.

    Raises:
        TooManyPixelsError: If it has more pixels than are read.
        Exception: Of any type, if the file is missing, damaged or no picture.
    """
    if _is_tiff(path):  # of any sample type, also those that Pillow does not know
        with TiffFile(path) as file:
            page: Any = file.pages[0]
            size = int(page.imagelength), int(page.imagewidth)
    else:
        with _opened(path) as image:
            size = image.height, image.width
    _check_size(path, *size)
    return size


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A file opened by Pillow, whatever size its head states."""
    # A file that Pillow opens by its path is mapped into memory if it is not compressed, and is
    # then turned wrongly where its orientation swaps the axes (Pillow 13).
    limit = Image.MAX_IMAGE_PIXELS
    try:
        Image.MAX_IMAGE_PIXELS = None  # the limit here is higher, and the same for TIFF
        with path.open("rb") as stream, Image.open(stream) as image:
            yield image
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _read(path: Path) -> Picture:
    if _is_tiff(path):
        deep = _read_deep_tiff(path)
        if deep is not None:
            return deep
    with _opened(path) as image:
        _check_size(path, image.height, image.width)
        if not has_all_pixels(path):
            raise ValueError("its pixels end too early")
        return _from_pillow(image)


def _from_pillow(file: Image.Image) -> Picture:
    if file.format == "FITS":
        raise ValueError("FITS is read without its units here; convert it to a float TIFF")
    notes = []
    frames = getattr(file, "n_frames", 1)
    if frames > 1:
        notes.append(f"the first of its {frames} frames is read")
    tiles: Any = getattr(file, "tile", None)
    raw = str(tiles[0][3]) if tiles else ""
    coding = _coding(file)
    signed, kind = _sixteen_bits(file), file.format or "picture"
    file.load()
    image = ImageOps.exif_transpose(file)
    alpha = _alpha(image)
    indices = np.asarray(image) if image.mode == "P" else None
    if image.mode.startswith("I"):
        values = np.asarray(image)
        values = values.astype(np.uint16) if signed else values
        return Picture(
            values,
            f"{kind}, {'16-bit grey' if signed else '32-bit grey'}",
            alpha,
            notes=tuple(notes),
        )
    if image.mode == "F":
        return Picture(
            np.asarray(image, np.float32), f"{kind}, 32-bit float grey", alpha, notes=tuple(notes)
        )
    rounded = ";16" in raw
    if rounded:
        notes.append("its colours have 16 bits, of which 8 are read")
    grey = image.mode in _GREY_MODES
    bits = "1-bit" if image.mode == "1" else "8-bit"
    colour = "CMYK" if image.mode == "CMYK" else "colour"
    image, told = _to_srgb(image, grey)
    return Picture(
        np.asarray(image.convert("L" if grey else "RGB")),
        f"{kind}, {bits} {'grey' if grey else colour}",
        alpha,
        indices,
        jpeg=coding,
        rounded=rounded,
        notes=(*notes, *told),
    )


def _sixteen_bits(file: Image.Image) -> bool:
    """Whether the integers of Pillow's modes I;16 and I are unsigned 16-bit numbers."""
    return file.mode.startswith("I;16") or (file.mode == "I" and file.format in ("PNG", "PPM"))


def _alpha(image: Image.Image) -> np.ndarray | None:
    """(H, W) on [0, 1]."""
    if "A" not in image.getbands() and "a" not in image.getbands():
        if "transparency" not in image.info or image.mode.startswith(("I", "F")):
            return None
        image = image.convert("RGBA")
    elif image.mode == "PA":
        image = image.convert("RGBA")
    return np.asarray(image.getchannel(image.getbands()[-1]), np.float32) / 255


def _to_srgb(image: Image.Image, grey: bool) -> tuple[Image.Image, tuple[str, ...]]:
    """Convert the colours of an embedded profile to sRGB."""
    profile = image.info.get("icc_profile")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if not profile or grey:
        return image, ()
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = (ImageCms.getProfileDescription(own) or "").strip() or "unnamed"
        if "srgb" in name.lower():
            return image, ()
        plain = image if image.mode in ("RGB", "CMYK", "LAB") else image.convert("RGB")
        converted = ImageCms.profileToProfile(
            plain, own, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return image, ("its colour profile cannot be used: its colours are read as sRGB",)
    assert converted is not None  # only in-place conversion returns None
    return converted, (f"its colours are converted from the profile {name!r} to sRGB",)


def _coding(file: Image.Image) -> JPEGCoding | None:
    """The tables of a JPEG file in row-major order, as Pillow gives them."""
    tables: Any = getattr(file, "quantization", None)
    layers: Any = getattr(file, "layer", None)
    if file.format not in ("JPEG", "MPO") or not tables or not layers:
        return None
    if file.mode not in ("L", "RGB"):  # of CMYK the tables are of other planes
        return None
    if any(int(layer[3]) not in tables for layer in layers):
        return None
    luma = tuple(int(v) for v in tables[int(layers[0][3])])
    if len(layers) < 3:
        return JPEGCoding(luma, None, (1, 1))
    chroma = tuple(int(v) for v in tables[int(layers[1][3])])
    across, down = (int(layers[0][i]) // max(int(layers[1][i]), 1) for i in (1, 2))
    return JPEGCoding(luma, chroma, (across, down))


def _read_deep_tiff(path: Path) -> Picture | None:
    """A TIFF whose samples are no plain bytes; None if Pillow reads it as well or better."""
    with TiffFile(path) as file:
        page: Any = file.pages[0]
        if page.dtype is None or page.dtype in (np.bool_, np.uint8):
            return None
        _check_size(path, page.imagelength, page.imagewidth)
        try:
            values = page.asarray()
        except (ValueError, ImportError) as error:
            if "imagecodecs" in str(error):  # compressed in a way that Pillow's libtiff knows
                return None
            raise
        many = len(file.pages)
        tags = {code: page.tags[code].value for code in _TAGS if code in page.tags}
        extra = len(page.extrasamples)
        separate = page.planarconfig == 2
    if values.ndim == 3 and separate:
        values = np.moveaxis(values, 0, -1)
    if values.ndim == 3 and values.shape[-1] not in (1, 2, 3, 4):
        raise ValueError(f"it has {values.shape[-1]} samples a pixel; 1 or 3 are needed")
    if values.ndim not in (2, 3):
        raise ValueError(f"its first page has the shape {values.shape}, not that of a picture")
    if values.dtype.kind not in "buif":
        raise ValueError(f"its samples are {values.dtype}, not real numbers")
    values = _upright(values.astype(values.dtype.newbyteorder("=")), tags.get(_ORIENTATION, 1))
    values, alpha = _without_alpha(values, extra)
    notes = [f"the first of its {many} pages is read"] if many > 1 else []
    if tags.get(_COLOURS) == 0:  # white is zero
        if values.dtype.kind == "u":
            values = np.iinfo(values.dtype).max - values
        else:
            notes.append("it says that white is zero, which is not followed")
    colour = "colour" if values.ndim == 3 else "grey"
    return Picture(
        values,
        f"TIFF, {_type_in_words(values.dtype)} {colour}",
        alpha,
        stated_range=_stated_range(tags),
        notes=tuple(notes),
    )


_TAGS = (_ORIENTATION, _COLOURS, _LOWEST, _HIGHEST, _SIGNED_LOWEST, _SIGNED_HIGHEST)


def _without_alpha(values: np.ndarray, extra: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Split off the opacity, and the axis of a single sample."""
    alpha = None
    if values.ndim == 3 and values.shape[-1] in (2, 4):
        if not extra:
            raise ValueError(f"it has {values.shape[-1]} samples a pixel; 1 or 3 are needed")
        top = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 1.0
        alpha, values = (values[..., -1] / top).astype(np.float32), values[..., :-1]
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    return np.ascontiguousarray(values), alpha


def _upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turn by tag 274 (TIFF 6.0): where row 0 and column 0 of the stored pixels are."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values


def _stated_range(tags: dict[int, Any]) -> tuple[float, float] | None:
    """Lowest and highest sample value, if the tags state both and they differ."""
    for low, high in ((_SIGNED_LOWEST, _SIGNED_HIGHEST), (_LOWEST, _HIGHEST)):
        if low in tags and high in tags:
            ends = float(np.min(tags[low])), float(np.max(tags[high]))
            if np.isfinite(ends).all() and ends[0] < ends[1]:
                return ends
    return None


def _type_in_words(dtype: np.dtype) -> str:
    bits = 8 * dtype.itemsize
    return f"{bits}-bit {({'i': 'signed', 'f': 'float'}).get(dtype.kind, '')}".strip()
