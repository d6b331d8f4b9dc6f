"""Pictures to PNG and TIFF files, with all of their bits and what belongs to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scoresde.data.deep_png import deep_png
from scoresde.errors import InputError
from scoresde.files import write_atomically

__all__ = ["PICTURE_SUFFIXES", "write_pixels"]

PICTURE_SUFFIXES = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF"}
"""Formats that are written with all bits, by the suffix of the file."""

_LOWEST, _HIGHEST, _FLOAT = 340, 341, 11


def write_pixels(
    pixels: np.ndarray,
    path: Path,
    *,
    alpha: np.ndarray | None = None,
    profile: bytes | None = None,
    resolution: tuple[float, float] | None = None,
    value_range: tuple[float, float] | None = None,
) -> None:
    """Write pixels as they are.

    Args:
        pixels: Pixels (H, W) or (H, W, 3): uint8 or uint16 for PNG; these or float32 for TIFF.
        path: Path of the file; its suffix says the format.
        alpha: Opacity (H, W) on [0, 1].
        profile: ICC profile of the pixels.
        resolution: Pixels per inch along the width and along the height.
        value_range: Values of black and white, stated in a TIFF (tags 340 and 341).

    Raises:
        InputError: If the format cannot hold them, or the file cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from problems.reading.pictures import read_picture
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_pixels(np.full((2, 3, 3), 1000, np.uint16), Path(folder) / "a.png")
        ...     read_picture(Path(folder) / "a.png").kind
        'PNG, 16-bit colour'
    """
    form = PICTURE_SUFFIXES.get(path.suffix.lower())
    if form is None or (form == "PNG" and pixels.dtype not in (np.uint8, np.uint16)):
        raise InputError(f"cannot write {pixels.dtype} pixels to {path.name}; use .png or .tif")
    samples = pixels
    if alpha is not None:
        top = 1.0 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
        opacity = (alpha * top) if pixels.dtype.kind == "f" else np.rint(alpha * top)
        stacked = [pixels[..., None] if pixels.ndim == 2 else pixels, opacity[..., None]]
        samples = np.concatenate([one.astype(pixels.dtype) for one in stacked], -1)
    if form == "TIFF":
        _write_tiff(path, samples, alpha is not None, profile, resolution, value_range)
    elif pixels.dtype == np.uint16:
        cubic = samples[..., None] if samples.ndim == 2 else samples
        content = deep_png(cubic, profile, resolution)
        write_atomically(path, lambda temporary: temporary.write_bytes(content))
    else:
        said: dict[str, Any] = {"icc_profile": profile, "dpi": resolution}
        said = {name: value for name, value in said.items() if value is not None}
        image = Image.fromarray(samples)
        write_atomically(path, lambda temporary: image.save(temporary, format="PNG", **said))


def _write_tiff(
    path: Path,
    samples: np.ndarray,
    has_alpha: bool,
    profile: bytes | None,
    resolution: tuple[float, float] | None,
    value_range: tuple[float, float] | None,
) -> None:
    import tifffile

    count = 1 if samples.ndim == 2 else samples.shape[-1]
    options: dict[str, Any] = {"photometric": "rgb" if count > 2 else "minisblack"}
    if samples.ndim == 3:
        options["planarconfig"] = "contig"
    if has_alpha:
        options["extrasamples"] = ["unassalpha"]
    if profile is not None:
        options["iccprofile"] = profile
    if resolution is not None:
        options |= {"resolution": resolution, "resolutionunit": "INCH"}
    if value_range is not None:
        ends = zip((_LOWEST, _HIGHEST), value_range, strict=True)
        options["extratags"] = [
            (tag, _FLOAT, count, (float(end),) * count if count > 1 else float(end), True)
            for tag, end in ends
        ]
    write_atomically(
        path,
        lambda temporary: tifffile.imwrite(
            temporary, samples, metadata=None, software="scoresde", **options
        ),
    )
