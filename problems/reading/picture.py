"""A picture as its file holds it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = [
    "MAX_PIXELS",
    "JPEGCoding",
    "Picture",
    "TooManyPixelsError",
    "check_pixels",
    "pillow_without_limit",
    "split_alpha",
    "turned",
]

MAX_PIXELS = 1 << 28
"""Pixels beyond which a picture is refused unread: small files can claim any size."""


class TooManyPixelsError(ValueError):
    """More pixels than are read."""


def check_pixels(path: Path, height: int, width: int) -> None:
    """Refuse a picture that is too large.

    Args:
        path: Path of the picture, for the error.
        height: Its height in pixels.
        width: Its width in pixels.

    Raises:
        TooManyPixelsError: If it has more than :data:`MAX_PIXELS`.
    """
    if height * width > MAX_PIXELS:
        raise TooManyPixelsError(
            f"{path} has {height * width / 1e6:.0f} megapixels, more than the "
            f"{MAX_PIXELS / 1e6:.0f} that are read; crop or scale it first"
        )


@contextmanager
def pillow_without_limit() -> Iterator[None]:
    """Lift Pillow's limit on pixels: :data:`MAX_PIXELS` is higher, and the same for TIFF.

    Yields:
        Nothing.
    """
    limit = Image.MAX_IMAGE_PIXELS
    try:
        Image.MAX_IMAGE_PIXELS = None
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


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
        alpha: Opacity (H, W) on [0, 1], float32; None if the file has none.
        indices: Indices (H, W) into the palette; None if the file has none.
        stated_range: Values of black and white, if the file states them.
        jpeg: Quantisation tables of a JPEG file.
        rounded: Whether the file has more bits than were read.
        notes: What a reader should know, a sentence each.
        profile: ICC profile of the values; None for sRGB, or if the file has none.
        resolution: Pixels per inch along the width and along the height, if the file states them.
        full_scale: White of unsigned integers if it is not the largest number of their type, as
            in a TIFF of 12 bits.
    """

    values: np.ndarray
    kind: str
    alpha: np.ndarray | None = None
    indices: np.ndarray | None = None
    stated_range: tuple[float, float] | None = None
    jpeg: JPEGCoding | None = None
    rounded: bool = False
    notes: tuple[str, ...] = ()
    profile: bytes | None = None
    resolution: tuple[float, float] | None = None
    full_scale: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def container(self) -> str:
        """Name of the file format, such as "PNG" or "TIFF"."""
        return self.kind.split(",")[0]


def split_alpha(
    values: np.ndarray, full_scale: int | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Split off the opacity, the second or fourth sample, and the axis of a single sample.

    Args:
        values: Pixels (H, W) or (H, W, 1 to 4).
        full_scale: Value of the opaque; None for the largest number of the type, 1 of floats.

    Returns:
        Pixels (H, W) or (H, W, 3), and the opacity (H, W) on [0, 1], float32, or None.
    """
    alpha = None
    if values.ndim == 3 and values.shape[-1] in (2, 4):
        largest = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 1.0
        top = largest if full_scale is None else full_scale
        alpha, values = (values[..., -1] / top).astype(np.float32), values[..., :-1]
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    return np.ascontiguousarray(values), alpha


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels upright.

    Args:
        values: Pixels (H, W, ...) as stored.
        orientation: Tag 274 of TIFF 6.0 and EXIF, 1 to 8: where row 0 and column 0 of the stored
            pixels are. Other values are taken for 1.

    Returns:
        A view of the pixels.
    """
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values
