"""Masks of observed pixels from pictures, arrays and files of instruments.

One rule for pictures: a pixel is marked if it is painted. Painted is the brighter of two values, a
colour on black, or what is opaque on a transparent layer. In arrays, those in files of instruments
too, 1 or True is observed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from problems.reading.kernels import KEY
from problems.reading.pictures import Picture, read_picture
from problems.reading.sources import read_whole_array

__all__ = [
    "check_counts",
    "check_mask_size",
    "check_misses",
    "check_two_colours",
    "count_soft",
    "read_mask",
]

# values in the middle third or so of the range are neither black nor white; soft edges have some
_SOFT, _SOFT_SHARE = (0.25, 0.75), 0.01
_WAYS_OUT = "say which value is missing with --mask-value, or swap both with --invert-mask"


def read_mask(
    path: str | Path,
    size: tuple[int, int] | None = None,
    key: str | None = None,
    white: Literal["missing", "observed"] = "missing",
    *,
    invert: bool = False,
    value: float | None = None,
) -> Tensor:
    """Read a mask of observed pixels from a picture, an array or the file of an instrument.

    In an array, also one in FITS, DICOM, NIfTI, HDF5 or zarr, 1 means observed. In a picture
    ``white`` says what the painted pixels are; by default the missing ones, as in painting
    programs. Painted are the brighter pixels of a picture in two colours, of any depth, and the
    opaque ones of a layer in one colour. The few grey pixels of soft edges are cut at the middle.

    A mask of k-space (``white="observed"``) may say the same for all rows or all columns: (W,),
    (1, W) or (H, 1), and as the masks of fastMRI with an axis of real and imaginary part behind and
    others of length 1 in front, such as (1, 1, W, 1).

    Args:
        path: Picture, .npy, .npz or .mat file, or a file that
            :func:`problems.reading.sources.open_source` opens. Of a TIFF of several pages the first
            is read, as a picture.
        size: Size (H, W) that the mask must have; None for any.
        key: Name of the array in a file that holds several; None if it holds one.
        white: Meaning of the painted pixels of a picture, "missing" or "observed".
        invert: Swap observed and missing.
        value: Grey level, index of a palette, or value of an array that means missing (observed
            with ``white="observed"``), all others being the opposite. None for the rules above.

    Returns:
        Mask (H, W), bool, True where observed.

    Raises:
        ValueError: If the file cannot be read, the mask does not have two values, its size is
            wrong, or it observes nothing or (with ``white="missing"``) misses nothing.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from problems import read_mask
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "mask.npy"
        ...     np.save(path, np.array([[1, 0], [1, 1]]))
        ...     read_mask(path)
        tensor([[ True, False],
                [ True,  True]])
    """
    path = Path(path)
    array = read_whole_array(path, key, KEY)
    if array is not None:
        if white == "observed" and size is not None:
            array = _of_k_space(array, size)
        array = _one_channel(array)
        check_mask_size(path, array.shape, size)
        marked, found = _marked_in_array(path, array, value, white)
    else:
        picture = read_picture(path)
        check_mask_size(path, picture.size, size)
        marked, found = _marked_in_picture(path, picture, value)
    observed = marked if white == "observed" else ~marked
    observed = ~observed if invert else observed
    if not observed.any() or (white == "missing" and observed.all()):
        what = "misses nothing" if observed.all() else "observes nothing"
        raise ValueError(f"the mask {path} {what}: {found}; {_WAYS_OUT}")
    return torch.from_numpy(np.ascontiguousarray(observed))


def check_misses(mask: Tensor, source: str) -> None:
    """Check that a mask leaves something to restore and something to go by.

    Args:
        mask: True where observed, any shape.
        source: Where the mask is from, for the error.

    Raises:
        ValueError: If it observes all pixels or none.
    """
    check_counts(int(mask.bool().sum()), mask.numel(), source)


def check_counts(observed: int, total: int, source: str) -> None:
    """Check that a mask of which the pixels were counted misses some and observes some.

    Args:
        observed: Number of observed pixels.
        total: Number of all pixels.
        source: Where the mask is from, for the error.

    Raises:
        ValueError: If it observes all pixels or none.
    """
    if observed in (0, total):
        what = "misses every pixel" if observed == 0 else "misses no pixel"
        raise ValueError(f"{source} {what}; inpainting needs some of each kind")


def check_mask_size(path: Path, shape: tuple[int, ...], size: tuple[int, int] | None) -> None:
    """Check that a mask is as large as its picture.

    Args:
        path: File of the mask, for the error.
        shape: Shape of the mask.
        size: Height and width that it must have; None for any.

    Raises:
        ValueError: If it is not.
    """
    if len(shape) != 2:
        raise ValueError(f"the mask {path} must have two axes, got shape {shape}")
    if size is not None and shape != tuple(size):
        raise ValueError(
            f"the mask {path} is {shape[1]}x{shape[0]}, the image is {size[1]}x{size[0]}; "
            "they must be the same size"
        )


def count_soft(values: np.ndarray, low: float, high: float) -> int:
    """Count the values that are neither black nor white.

    Args:
        values: Grey levels, any shape.
        low: The darkest level of the mask.
        high: Its brightest level, above the darkest.

    Returns:
        Number of values in the middle half between the two.
    """
    level = (values - low) / (high - low)
    return int(((level > _SOFT[0]) & (level < _SOFT[1])).sum())


def check_two_colours(path: Path, soft: int, total: int, found: str) -> None:
    """Check that no more of a mask is grey than the soft edges of strokes.

    Args:
        path: File of the mask, for the error.
        soft: Number of its grey pixels, see :func:`count_soft`.
        total: Number of all pixels.
        found: What the mask holds, for the error.

    Raises:
        ValueError: If it is not black and white.
    """
    if soft > _SOFT_SHARE * total:
        raise ValueError(
            f"the mask {path} is not black and white: {found}; paint it in two colours, or say "
            "which value is missing with --mask-value"
        )


def _one_channel(array: np.ndarray) -> np.ndarray:
    """(H, W) of (1, H, W), (H, W, 1) and others with further axes of length 1."""
    while array.ndim > 2 and 1 in array.shape:
        array = array.squeeze(array.shape.index(1))
    return array


def _of_k_space(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) of masks that are the same for all rows or columns; others as they are."""
    part = array[..., 0] if array.ndim > 2 and array.shape[-1] == 1 else array
    while part.ndim > 2 and part.shape[0] == 1:
        part = part[0]
    if part.ndim not in (1, 2) or part.size == 1:
        return array
    rows, columns = (1, *part.shape)[-2:]
    if rows not in (1, size[0]) or columns not in (1, size[1]):
        return array
    return np.broadcast_to(part, size)


def _marked_in_array(
    path: Path, array: np.ndarray, value: float | None, white: str
) -> tuple[np.ndarray, str]:
    """Where an array says what ``white`` is, and what it holds in words."""
    if array.dtype.kind not in "buif":
        raise ValueError(f"the mask {path} must hold real numbers, got {array.dtype}")
    found = f"its values are {_values_in_words(array)}"
    if value is not None:
        return np.asarray(array == value), found
    if not ((array == 0) | (array == 1)).all():
        raise ValueError(
            f"the mask {path} is not binary: {found}; 1 is where a pixel is observed, 0 where it "
            "is missing, or say which value is missing with --mask-value"
        )
    observed = array != 0
    return observed if white == "observed" else ~observed, found


def _marked_in_picture(path: Path, picture: Picture, value: float | None) -> tuple[np.ndarray, str]:
    """Where a picture is painted, and what it holds in words."""
    if value is not None:
        values = picture.values if picture.indices is None else picture.indices
        if values.ndim == 3:
            values = values.max(-1)
        return np.asarray(values == value), f"its values are {_values_in_words(values)}"
    bright = picture.values.max(-1) if picture.values.ndim == 3 else picture.values
    bright = bright.astype(np.float64)
    if not np.isfinite(bright).all():
        raise ValueError(f"the mask {path} has values that are NaN or infinite")
    opaque = None if picture.alpha is None else picture.alpha >= 0.5
    if opaque is not None and opaque.any() and not opaque.all():
        return _marked_in_layer(path, bright, opaque)
    found = f"its values are {_values_in_words(bright)}"
    low, high = bright.min(), bright.max()
    if low == high:  # one colour: all or nothing
        return np.full(bright.shape, _is_light(picture.values, high)), found
    check_two_colours(path, count_soft(bright, low, high), bright.size, found)
    return bright - low > (high - low) / 2, found


def _marked_in_layer(path: Path, bright: np.ndarray, opaque: np.ndarray) -> tuple[np.ndarray, str]:
    """Where a layer with transparency is painted: its opaque part, or the white in that."""
    paint = bright[opaque]
    low, high = paint.min(), paint.max()
    scale = max(high, 1e-300)
    # the rims of brush strokes vary a little
    if np.mean(np.abs(paint - np.median(paint)) > 0.25 * scale) <= _SOFT_SHARE:
        return opaque, f"{opaque.mean():.1%} of it is opaque"
    raise ValueError(
        f"the mask {path} has transparent pixels and opaque ones from {low:g} to {high:g}; "
        "paint it in one colour on a transparent layer, or in black and white"
    )


def _is_light(values: np.ndarray, value: float) -> bool:
    """Whether a value is nearer to white than to black, for the type of a file."""
    top = float(np.iinfo(values.dtype).max) if values.dtype.kind in "iu" else 1.0
    return bool(value > top / 2)


def _values_in_words(values: np.ndarray) -> str:
    """The values of a mask: all of them where they are few."""
    distinct = np.unique(values[np.isfinite(values)])
    if len(distinct) == 1:
        return f"all {distinct[0]:g}"
    if len(distinct) <= 4:
        return ", ".join(f"{v:g}" for v in distinct)
    return f"{len(distinct)} different ones from {distinct[0]:g} to {distinct[-1]:g}"
