"""Pictures from files: pixels as stored, and what the file says about them.

TIFF files of any sample type are read by tifffile, all else by Pillow, and what Pillow would round
to 8 bits by code beside this. Nothing is scaled here: what the values mean is decided in
:mod:`problems.reading.ranges`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from problems.reading.netpbm import read_deep_ppm
from problems.reading.picture import (
    MAX_PIXELS,
    JPEGCoding,
    Picture,
    TooManyPixelsError,
    check_pixels,
    pillow_without_limit,
    split_alpha,
    turned,
)
from problems.reading.png import has_all_pixels
from problems.reading.png_samples import is_deep_png, read_deep_png
from problems.reading.profiles import carried_profile, is_srgb, profile_name, to_srgb
from problems.reading.quiet import quiet_logs
from problems.reading.regular import check_regular
from problems.reading.tiff import (
    check_pages,
    is_tiff,
    read_deep_tiff,
    refuse_raw,
    tiff_profile,
    tiff_size,
)

__all__ = [
    "MAX_PIXELS",
    "JPEGCoding",
    "Picture",
    "TooManyPixelsError",
    "read_picture",
    "stored_profile",
    "stored_size",
]

_GREY_MODES = ("1", "L", "LA", "La")
_ORIENTATION, _BITS = 274, 258


def read_picture(path: str | Path, colours: Literal["sRGB", "file"] = "sRGB") -> Picture:
    """Read a picture, upright, without scaling its values.

    Of several pages or frames the first is read. Transparent pixels keep their colour. CMYK and
    CIELAB become sRGB. A palette of greys is a grey picture.

    Args:
        path: Picture, in any format of Pillow, or a TIFF of any sample type.
        colours: "sRGB" to convert other colour profiles; "file" for the values of the file, with
            the profile beside them.

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
    check_regular(path)
    try:
        with _quiet() as heard:
            picture = _read(path, colours)
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except TooManyPixelsError:
        raise
    except Exception as error:  # damaged files raise errors of many types
        raise ValueError(f"cannot read {path} as an image: {_reason(error)}") from None
    if not picture.values.size:
        raise ValueError(f"{path} has no pixels")
    said = tuple(dict.fromkeys(str(one.message).splitlines()[0] for one in heard))
    return replace(picture, notes=picture.notes + said)


@contextmanager
def _quiet() -> Iterator[list[warnings.WarningMessage]]:
    """Collect what the libraries warn of, and keep their logs off the terminal."""
    with quiet_logs(), warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        yield heard


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "its content is of no known picture format"
    text = getattr(error, "strerror", None) or str(error)
    return text.splitlines()[0] if text else type(error).__name__


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
    check_regular(path)
    if is_tiff(path):  # of any sample type, also those that Pillow does not know
        size = tiff_size(path)
    else:
        with _opened(path) as image:
            size = image.height, image.width
    check_pixels(path, *size)
    return size


def stored_profile(path: Path) -> str | None:
    """Read the name of a picture's colour profile from its head.

    Args:
        path: Path of the picture.

    Returns:
        Its description; None for sRGB, for no profile and for one that is not of RGB colours.

    Raises:
        Exception: Of any type, if the file is missing, damaged or no picture.
    """
    check_regular(path)
    if is_tiff(path):
        profile = tiff_profile(path)
    else:
        with _opened(path) as image:
            profile = image.info.get("icc_profile")
    kept, _ = carried_profile(profile, False)
    if kept is None:
        return None
    name = profile_name(kept)
    return None if is_srgb(name) else name


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A file opened by Pillow, whatever size its head states."""
    # A file that Pillow opens by its path is mapped into memory if it is not compressed, and is
    # then turned wrongly where its orientation swaps the axes (Pillow 13).
    with pillow_without_limit(), path.open("rb") as stream, Image.open(stream) as image:
        yield image


def _read(path: Path, colours: str) -> Picture:
    if is_tiff(path):
        check_pages(path)
        refuse_raw(path)
        deep = read_deep_tiff(path)
        if deep is not None:
            return deep if colours == "file" else _in_srgb(deep)
    with _opened(path) as image:
        check_pixels(path, image.height, image.width)
        if is_deep_png(path):
            deep = _deep(image, read_deep_png(path))
            return deep if colours == "file" else _in_srgb(deep)
        if image.format == "PPM" and (found := read_deep_ppm(path)) is not None:
            return replace(_deep(image, found[0]), full_scale=found[1])
        if not has_all_pixels(path):
            raise ValueError("its pixels end too early")
        return _from_pillow(path, image, colours)


def _deep(file: Image.Image, stored: np.ndarray) -> Picture:
    """A picture of 16-bit samples (H, W, n), with what Pillow knows of the rest of its file."""
    values, alpha = split_alpha(turned(stored, _orientation(file)))
    grey = values.ndim == 2
    key = file.info.get("transparency")  # of a PNG: the colour that is transparent
    if alpha is None and isinstance(key, tuple) and len(key) == 3:
        alpha = (values != np.array(key)).any(-1).astype(np.float32)
    profile, told = carried_profile(file.info.get("icc_profile"), grey)
    return Picture(
        values,
        f"{file.format}, 16-bit {'grey' if grey else 'colour'}",
        alpha,
        notes=(*_notes(file), *told),
        profile=profile,
        resolution=_resolution(file),
    )


def _in_srgb(picture: Picture) -> Picture:
    """A deep picture without a profile: its colours in sRGB, for which 8 bits have to do."""
    if picture.profile is None or picture.values.ndim == 2:
        return replace(picture, profile=None)
    kept = tuple(note for note in picture.notes if "which the results carry" not in note)
    if is_srgb(name := profile_name(picture.profile)):
        return replace(picture, profile=None, notes=kept)
    if picture.values.dtype.kind != "u":
        told = f"its colours are of the profile {name!r}, which is not followed"
        return replace(picture, profile=None, notes=(*kept, told))
    top = picture.full_scale or np.iinfo(picture.values.dtype).max
    bytes_ = np.rint(picture.values * (255 / top)).astype(np.uint8)
    image, told_ = to_srgb(Image.fromarray(bytes_), picture.profile)
    return replace(
        picture,
        values=np.asarray(image),
        profile=None,
        full_scale=None,
        rounded=True,
        notes=(*kept, *(f"{note}, at 8 bits" for note in told_)),
    )


def _from_pillow(path: Path, file: Image.Image, colours: str) -> Picture:
    if file.format == "FITS":
        raise ValueError(
            "a FITS file is no picture here; `scoresde restore` and `scoresde train` read it"
        )
    notes = _notes(file)
    tiles: Any = getattr(file, "tile", None)
    raw = str(tiles[0][3]) if tiles else ""
    coding = _coding(file)
    signed, kind = _sixteen_bits(file), file.format or "picture"
    profile = file.info.get("icc_profile")
    bits = _tiff_bits(file)
    file.load()
    resolution = _resolution(file)  # to ask for the orientation before would move the file on
    image = ImageOps.exif_transpose(file)
    alpha = _alpha(image)
    indices = np.asarray(image) if image.mode == "P" else None
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float32 if image.mode == "F" else None)
        values = values.astype(np.uint16) if signed else values
        words = {"F": "32-bit float"}.get(image.mode, f"{bits or 16}-bit" if signed else "32-bit")
        profile, told = carried_profile(profile if colours == "file" else None, True)
        return Picture(
            values,
            f"{kind}, {words} grey",
            alpha,
            notes=(*notes, *told),
            profile=profile,
            resolution=resolution,
            full_scale=2**bits - 1 if signed and bits not in (None, 16) else None,
        )
    deep = 16 if ";16" in raw else _hidden_bits(path, file)
    if deep > 8:
        notes += (f"its colours have {deep} bits, of which 8 are read",)
    grey = image.mode in _GREY_MODES or (image.mode == "P" and _is_grey_palette(image))
    words = "1-bit" if image.mode == "1" else "8-bit"
    colour = "CMYK" if image.mode == "CMYK" else "colour"
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if grey or (colours == "file" and image.mode not in ("CMYK", "LAB")):
        # a palette of greys has a profile of colours
        carried, told = carried_profile(profile if colours == "file" else None, grey)
    else:
        carried = None
        image, told = to_srgb(image, profile)
        if colour == "CMYK" and image.mode == "CMYK":
            told += ("its CMYK has no usable profile: its colours are an estimate",)
    return Picture(
        np.asarray(image.convert("L" if grey else "RGB")),
        f"{kind}, {words} {'grey' if grey else colour}",
        alpha,
        indices,
        jpeg=coding,
        rounded=deep > 8,
        notes=(*notes, *told),
        profile=carried,
        resolution=resolution,
    )


def _notes(file: Image.Image) -> tuple[str, ...]:
    """That there are more frames than one."""
    frames = getattr(file, "n_frames", 1)
    return (f"the first of its {frames} frames is read",) if frames > 1 else ()


def _orientation(file: Image.Image) -> int:
    return int(file.getexif().get(_ORIENTATION, 1))


def _resolution(file: Image.Image) -> tuple[float, float] | None:
    """Pixels per inch of the upright picture."""
    stated: Any = file.info.get("dpi")
    try:
        across, down = (float(one) for one in stated)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not (0 < across < np.inf and 0 < down < np.inf):
        return None
    return (down, across) if _orientation(file) in (5, 6, 7, 8) else (across, down)


def _tiff_bits(file: Image.Image) -> int | None:
    """Bits of the samples of a TIFF, if all have the same."""
    tags: Any = getattr(file, "tag_v2", {})
    bits = set(tags.get(_BITS, ())) if file.format == "TIFF" else set()
    return int(bits.pop()) if len(bits) == 1 else None


def _hidden_bits(path: Path, file: Image.Image) -> int:
    """Bits of colours where Pillow does not tell that it rounds them."""
    if file.format not in ("JPEG2000", "AVIF") or file.mode not in ("RGB", "RGBA", "LA"):
        return 8
    with path.open("rb") as stream:
        start = stream.read(1 << 16)
    # SIZ, the first marker of a JPEG 2000 codestream (ISO 15444-1, A.5.1)
    if (found := start.find(b"\xff\x4f\xff\x51")) >= 0 and len(start) > found + 42:
        return (start[found + 42] & 127) + 1
    # flags of the configuration of AV1 (AV1-ISOBMFF, 2.3.3)
    if (found := start.find(b"av1C")) >= 0 and len(start) > found + 6:
        flags = start[found + 6]
        return (12 if flags & 32 else 10) if flags & 64 else 8
    return 8


def _is_grey_palette(image: Image.Image) -> bool:
    """Whether all entries that are used are greys."""
    used = np.asarray(image.convert("RGB"))
    return bool((used == used[..., :1]).all())


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
