"""Which values of a file are black and white.

Integers without sign state it by their type. Other files are read by a rule on robust quantiles,
which no single pixel can change, or are refused with the question that has to be answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from problems.reading.array_source import ArraySource

__all__ = [
    "GivenRange",
    "Percentiles",
    "ValueRange",
    "array_range",
    "check_range",
    "looks_dark",
    "picture_range",
    "source_range",
]

# A 1st percentile above _BELOW and a 99th below _ABOVE, in units of white, are a picture between
# black and white with noise and a few outliers.
_BELOW, _ABOVE = -0.15, 1.3
_TAIL = 0.02
_ARRAYS = ("HDF5", "MATLAB", "zarr", "array")
# white of less than this is more likely another unit than a very dark picture
_DARK = {1.0: 0.05, 255.0: 32.0}


@dataclass(frozen=True)
class ValueRange:
    """The values of black and white in a file.

    Args:
        low: Value of black, which becomes -1.
        high: Value of white, which becomes 1.
        rule: Where this is known from, in a few words.
        certain: Whether it follows from the type, or was given.
    """

    low: float
    high: float
    rule: str
    certain: bool = False

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g} ({self.rule})"

    def to_unit(self, values: np.ndarray) -> np.ndarray:
        """Map black to -1 and white to 1.

        Args:
            values: Values of the file, any shape.

        Returns:
            The mapped values, float32.

        Example:
            >>> import numpy as np
            >>> ValueRange(0, 255, "full scale").to_unit(np.array([0, 51, 255], np.uint8))
            array([-1. , -0.6,  1. ], dtype=float32)
        """
        if self.low == 0:
            scaled = np.asarray(values, np.float32) / np.float32(self.high)
        else:
            scaled = (np.asarray(values, np.float64) - self.low) / (self.high - self.low)
        return (scaled * 2 - 1).astype(np.float32)


@dataclass(frozen=True)
class Percentiles:
    """Black and white as percentiles of the values of a file, all channels together.

    Args:
        low: Percentage of the values below black, 0 for the smallest value.
        high: Percentage of the values below white, 100 for the largest.

    Raises:
        ValueError: If they are not from 0 to 100, in this order.

    Example:
        >>> import numpy as np
        >>> str(Percentiles(0, 100).of(np.array([120, 4000, 700], np.uint16), "a.tif"))
        '120 to 4000 (0 % to 100 % of its values)'
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 100:
            raise ValueError(
                "--range needs two percentages from 0% to 100%, the smaller one first, got "
                f"{self.low:g}% and {self.high:g}%"
            )

    def of(self, values: np.ndarray, name: str) -> ValueRange:
        """Find black and white.

        Args:
            values: Values of the file, any shape.
            name: Name of the file, for the error.

        Returns:
            The range.

        Raises:
            ValueError: If black and white are the same value.
        """
        finite = values[np.isfinite(values)]
        if finite.dtype == np.bool_:
            finite = finite.astype(np.uint8)
        ends = np.percentile(finite, [self.low, self.high]) if finite.size else np.zeros(2)
        if not ends[0] < ends[1]:
            raise ValueError(
                f"{self.low:g} % and {self.high:g} % of the values of {name} are the same value, "
                f"{ends[0]:g}; say which are black and white: --range LOW,HIGH"
            )
        rule = f"{self.low:g} % to {self.high:g} % of its values"
        return ValueRange(float(ends[0]), float(ends[1]), rule, True)


GivenRange = tuple[float, float] | Percentiles | Literal["file"]
"""What a user says of black and white: two values, two percentiles, or what the file states."""


def check_range(low: float, high: float) -> tuple[float, float]:
    """Check a range that a user gives.

    Args:
        low: Value of black.
        high: Value of white.

    Returns:
        The same numbers.

    Raises:
        ValueError: If they are not finite, or not in this order.
    """
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(
            f"--range needs two finite numbers, black below white, got {low:g} and {high:g}"
        )
    return float(low), float(high)


def picture_range(
    values: np.ndarray,
    name: str,
    *,
    given: GivenRange | None = None,
    stated: tuple[float, float] | None = None,
    full_scale: int | None = None,
) -> ValueRange:
    """Decide the range of a picture.

    What is given counts first. bool, uint8 and uint16 have the full scale of their type. Other
    types have the range that the file states, if it does. Floating-point values are on [0, 1] or on
    [0, 255], where all but the lowest and highest 2 % of them say so.

    Args:
        values: Pixels in the type of the file, any shape.
        name: Name of the file, for the error.
        given: Black and white from the user.
        stated: Values of black and white from the file.
        full_scale: White of unsigned integers, if it is not the largest number of their type.

    Returns:
        The range.

    Raises:
        ValueError: If the range cannot be told.

    Example:
        >>> import numpy as np
        >>> str(picture_range(np.array([[0.0, 0.5, 1.02]]), "a.tif"))
        '0 to 1 (98 % of its values fit)'
    """
    if given == "file":
        if stated is None:
            raise ValueError(
                f"{name} does not state which values are black and white; say --range LOW,HIGH or "
                "--range 0%,100%"
            )
        return ValueRange(*check_range(*stated), "stated in the file", True)
    chosen = _told(values, name, given)
    if chosen is not None and given is None and full_scale is not None:
        return ValueRange(0.0, float(full_scale), "full scale of its bits", True)
    if chosen is not None:
        return chosen
    if stated is not None:
        return ValueRange(*check_range(*stated), "stated in the file")
    low, high = _quantiles(values)
    if values.dtype.kind == "f":
        for white, darkest in _DARK.items():
            if low >= _BELOW * white and darkest <= high <= _ABOVE * white:
                return ValueRange(0.0, white, "98 % of its values fit")
    raise _unknown(values, name, low, high)


def array_range(
    values: np.ndarray,
    name: str,
    *,
    given: GivenRange | None = None,
    noise: float = 0.0,
) -> ValueRange:
    """Decide the range of an array that holds a picture or a measurement of one.

    As in a picture, except that floating-point values are on [-1, 1], the units of this package.
    Values that would fit [0, 1] as well are refused.

    Args:
        values: Values in the type of the file, any shape.
        name: Name of the file, for the error.
        given: Black and white from the user.
        noise: Standard deviation of the noise on [-1, 1], by which values may lie outside.

    Returns:
        The range.

    Raises:
        ValueError: If the range cannot be told.

    Example:
        >>> import numpy as np
        >>> str(array_range(np.array([-0.9, 0.1, 0.8]), "y.npy"))
        '-1 to 1 (the units of arrays)'
    """
    if given == "file":
        raise ValueError(
            f"an array such as {name} does not state which values are black and white; say "
            "--range LOW,HIGH or --range 0%,100%"
        )
    chosen = _told(values, name, given)
    if chosen is not None:
        return chosen
    low, high = _quantiles(values)
    beyond = _ABOVE + 2.5 * noise
    if values.dtype.kind == "f" and low < _BELOW and -beyond <= low and high <= beyond:
        return ValueRange(-1.0, 1.0, "the units of arrays")
    if values.dtype.kind == "f" and low >= _BELOW and high <= beyond:
        raise ValueError(
            f"the range of {name} is not known: its values from {low:.4g} to {high:.4g} (all but "
            "4 %) fit [0, 1] and [-1, 1]; say which: --range 0,1 or --range -1,1"
        )
    raise _unknown(values, name, low, high)


def source_range(
    source: ArraySource, values: np.ndarray, given: GivenRange | None = None, noise: float = 0.0
) -> ValueRange:
    """Decide the range of pictures from the file of an instrument.

    FITS, DICOM, NIfTI and TIFF are read as pictures are, HDF5 and zarr as arrays are. In a file
    that states a unit nothing is guessed.

    Args:
        source: The file.
        values: What was read of it.
        given: Black and white from the user; "file" for what the file states, the window of its
            display included.
        noise: Standard deviation of the noise on [-1, 1], by which values may lie outside.

    Returns:
        The range.

    Raises:
        ValueError: If the range cannot be told.
    """
    name, stated = str(source.path), source.stated_range
    window = stated or source.window
    if given == "file":
        return picture_range(values, name, given=given, stated=window)
    told = values.dtype.kind in "fi" and given is None and stated is None
    if told and (source.units is not None or window is not None):
        low, high = _quantiles(values)
        unit = f" {source.units}" if source.units else ""
        way = "--range LOW,HIGH"
        if window is not None:
            way += f", or --range file for the window {window[0]:g} to {window[1]:g} that it states"
        raise ValueError(
            f"the range of {name} is not known: its values are from {low:.4g} to {high:.4g}{unit} "
            f"(all but 4 %); say which are black and white: {way}"
        )
    if source.kind.startswith(_ARRAYS):
        return array_range(values, name, given=given, noise=noise)
    return picture_range(values, name, given=given, stated=stated, full_scale=source.full_scale)


def _unknown(values: np.ndarray, name: str, low: float, high: float) -> ValueError:
    return ValueError(
        f"the range of {name} is not known: its {values.dtype} values are from {low:.4g} to "
        f"{high:.4g} (all but 4 %); say which are black and white: --range LOW,HIGH"
    )


def _told(
    values: np.ndarray, name: str, given: tuple[float, float] | Percentiles | None
) -> ValueRange | None:
    """What the user or the type says."""
    if isinstance(given, Percentiles):
        return given.of(values, name)
    if given is not None:
        return ValueRange(*check_range(*given), "as given", True)
    if values.dtype == np.bool_:
        return ValueRange(0.0, 1.0, "black and white", True)
    if values.dtype in (np.uint8, np.uint16):
        return ValueRange(0.0, float(np.iinfo(values.dtype).max), "full scale of its type", True)
    return None


def _quantiles(values: np.ndarray) -> tuple[float, float]:
    """Lowest and highest 2 % of the finite values; of a part of a large array."""
    flat = values.reshape(-1)
    flat = flat[:: max(1, flat.size >> 22)].astype(np.float64)
    finite = flat[np.isfinite(flat)]
    if not finite.size:
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [_TAIL, 1 - _TAIL])
    return float(low), float(high)


def looks_dark(
    values: np.ndarray, chosen: ValueRange, stated: tuple[float, float] | None = None
) -> str | None:
    """Notice 16-bit files that use a small part of their range, as of a 12-bit camera.

    Args:
        values: Pixels in the type of the file.
        chosen: The range that was decided.
        stated: Values of black and white that the file states and that were not used.

    Returns:
        A sentence, None if the file uses its range.
    """
    if values.dtype != np.uint16 or chosen.high != 65535:
        return None
    high = _quantiles(values)[1]
    if not high < 8192:
        return None
    top = int(values.max())
    bits = max(8, top.bit_length())
    way = f"--range 0,{2**bits - 1}"
    if stated is not None:
        way += f", or --range file for the {stated[0]:g} to {stated[1]:g} that it states"
    return (
        f"98 % of its values are below {high:.0f} of 65535; if its white is lower, say so, such as "
        f"{way}"
    )
