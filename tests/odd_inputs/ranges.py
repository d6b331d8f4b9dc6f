"""Pictures of numbers without a known white: a stated range, or a refusal that asks for one."""

import functools
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from tests.odd_inputs.case import Case, Desk, Expectation, Recipe
from tests.odd_inputs.checks import picture_is
from tests.odd_inputs.modes import levels

__all__ = ["RECIPES"]


def _between(desk: Desk, low: float, high: float) -> np.ndarray:
    """Values that fill a range and touch its ends."""
    values = desk.rng.uniform(low, high, desk.size())
    values.flat[0], values.flat[-1] = low, high
    return values


def _with_outliers(desk: Desk, low: float, high: float) -> np.ndarray:
    """The same with 1 % of the pixels beyond the range, as noise does."""
    values = _between(desk, low, high)
    count = max(1, values.size // 100)
    beyond = desk.rng.uniform(0.02, 0.5, count) * (high - low)
    values.flat[desk.rng.choice(values.size, count, replace=False)] = high + beyond
    return values


_FLOATS = {
    # name: (low, high, white if it is read without --range)
    "unit": (0.0, 1.0, 1.0),
    "dark-unit": (0.0, 0.3, 1.0),
    "bytes": (0.0, 255.0, 255.0),
    "dark-bytes": (0.0, 60.0, 255.0),
    "signed-unit": (-1.0, 1.0, None),
    "between": (0.0, 6.0, None),
    "negative": (-5.0, 3.0, None),
    "counts": (0.0, 4000.0, None),
    "hounsfield": (-1000.0, 2000.0, None),
    "tiny": (0.0, 1e-30, 1.0),
    "huge": (0.0, 1e30, None),
    "far": (1e6, 1e6 + 255, None),
}


def _written(desk: Desk, values: np.ndarray, form: str) -> str:
    """Write floats in a format, and return the name of the file."""
    path = desk.folder / {"pfm": "photo.pfm", "im": "photo.im"}.get(form, "photo.tif")
    single = values.astype(np.float32)
    if form == "tifffile":
        tifffile.imwrite(path, single)
    elif form == "double":
        tifffile.imwrite(path, values.astype(np.float64))
    elif form == "half":
        tifffile.imwrite(path, values.astype(np.float16))
    elif form == "big-endian":
        tifffile.imwrite(path, single, byteorder=">")
    elif form == "deflate":
        tifffile.imwrite(path, single, compression="zlib")
    else:
        formats = {"pfm": "PPM", "im": "IM", "pillow": "TIFF"}
        Image.fromarray(single).save(path, formats[form])
    return path.name


_FORMS = ("tifffile", "double", "big-endian", "deflate", "pillow", "pfm", "im")


def _read(
    desk: Desk,
    values: np.ndarray,
    white: float | None,
    form: str,
    expect: Expectation | None = None,
) -> Case:
    """Without --range: right by the stated rule, or refused with a word on --range."""
    name = _written(desk, values, form)
    check = picture_is(desk.out, values * (255 / (white or 1)))
    right: Expectation = "refused" if white is None else "right"
    return Case(
        *(desk.restore(desk.folder / name), expect or right, (name,), check),
        outputs=(desk.out,),
    )


def _float(kind: str, desk: Desk) -> Case:
    low, high, white = _FLOATS[kind]
    expect: Expectation | None = "either" if kind == "tiny" else None  # black, or not a picture
    return _read(desk, _between(desk, low, high), white, desk.pick(*_FORMS), expect)


def _float_outliers(kind: str, desk: Desk) -> Case:
    low, high, white = _FLOATS[kind]
    return _read(desk, _with_outliers(desk, low, high), white, desk.pick(*_FORMS))


def _float_noisy(desk: Desk) -> Case:
    """[0, 1] and noise, which makes a few pixels negative and a few brighter than white."""
    values = _between(desk, 0, 1)
    noisy = values + desk.rng.normal(0, 0.02, values.shape)
    return _read(desk, noisy, 1.0, desk.pick(*_FORMS))


def _float_ranged(kind: str, desk: Desk) -> Case:
    low, high, _ = _FLOATS[kind]
    values = _between(desk, low, high)
    name = _written(desk, values, desk.pick("double", "tifffile", "pfm", "pillow"))
    return _ranged(desk, name, values, low, high)


def _ranged(desk: Desk, name: str, values: np.ndarray, low: float, high: float) -> Case:
    shown = (values.astype(float) - low) / (high - low) * 255
    command = desk.restore(desk.folder / name, f"--range={low!r},{high!r}")
    return Case(command, "right", (name,), picture_is(desk.out, shown))


def _half(desk: Desk) -> Case:
    values = _between(desk, 0, 1).astype(np.float16).astype(float)
    return _read(desk, values, 1.0, "half", "either")


def _float_colour(desk: Desk) -> Case:
    values = desk.rng.uniform(0, 1, (*desk.size(), 3))
    path = desk.folder / "photo.tif"
    tifffile.imwrite(path, values.astype(np.float32), photometric="rgb")
    check = picture_is(desk.out, 255 * values)
    return Case(desk.restore(path), "either", (path.name,), check, outputs=(desk.out,))


def _not_finite(value: float, share: float, desk: Desk) -> Case:
    values = _between(desk, 0, 1)
    count = max(1, round(share * values.size))
    values.flat[desk.rng.choice(values.size, count, replace=False)] = value
    return _read(desk, values, None, desk.pick(*_FORMS))


def _constant(value: float, desk: Desk) -> Case:
    """0.5 is grey, 100 a byte; 20 may be either; black and white are what they are."""
    expect: dict[float, Expectation] = {0.0: "either", 1.0: "right", 20.0: "refused"}
    white = 1.0 if value <= 1 else 255.0
    values = np.full(desk.size(), value)
    return _read(desk, values, white, desk.pick(*_FORMS), expect.get(value, "right"))


_INTEGERS = {
    "int8": (-128, 127),
    "int16": (-1000, 2000),
    "int16-positive": (0, 4095),
    "int32": (0, 1_000_000),
    "uint32": (0, 4_000_000_000),
    "int32-bytes": (0, 255),
    "int32-words": (0, 65535),
    "int64": (0, 255),
}


def _integers(kind: str, desk: Desk) -> np.ndarray:
    low, high = _INTEGERS[kind]
    values = desk.rng.integers(low, high + 1, desk.size(), dtype=np.int64)
    values.flat[0], values.flat[-1] = low, high
    return values


def _integer(kind: str, ranged: bool, desk: Desk) -> Case:
    """Signed and 32-bit integers have no white: they are refused without --range."""
    values, path = _integers(kind, desk), desk.folder / "photo.tif"
    order: Any = desk.pick("<", ">")
    tifffile.imwrite(path, values.astype(kind.split("-")[0]), byteorder=order)
    if ranged:
        case = _ranged(desk, path.name, values, *_INTEGERS[kind])
        # TIFF files of 8-bit and 64-bit signed numbers are rare: Pillow does not read them all
        rare = kind in ("int8", "int64", "uint32")
        return Case(case.command, "either" if rare else "right", case.names, case.check)
    return Case(desk.restore(path), "refused", (path.name,), outputs=(desk.out,))


def _integer_pillow(form: str, desk: Desk) -> Case:
    values = _integers("int32", desk)
    path = desk.folder / ("photo.im" if form == "IM" else "photo.tif")
    Image.fromarray(values.astype(np.int32)).save(path, form)
    return Case(desk.restore(path), "refused", (path.name,), outputs=(desk.out,))


def _tagged(kind: str, desk: Desk) -> Case:
    """TIFF tags say the range: it may be taken from them, or --range asked for."""
    path = desk.folder / "photo.tif"
    if kind == "float":
        low, high = -5.0, 3.0
        values = _between(desk, low, high)
        tags = [(340, "f", 1, low, True), (341, "f", 1, high, True)]
        tifffile.imwrite(path, values.astype(np.float32), extratags=tags)
    else:
        low, high = 100, 3000
        values = desk.rng.integers(low, high + 1, desk.size())
        tags = [(280, "H", 1, low, True), (281, "H", 1, high, True)]
        tifffile.imwrite(path, values.astype(np.int32), extratags=tags)
    shown = (values - low) / (high - low) * 255
    return Case(
        *(desk.restore(path), "either", (path.name,), picture_is(desk.out, shown)),
        outputs=(desk.out,),
    )


def _bytes_ranged(desk: Desk) -> Case:
    """--range also stretches 8-bit pictures."""
    values = desk.rng.integers(40, 200, (*desk.size(), 3))
    path = desk.folder / "photo.png"
    Image.fromarray(values.astype(np.uint8)).save(path)
    return _ranged(desk, path.name, values, 40, 199)


def _bad_range(text: str, desk: Desk) -> Case:
    path = desk.folder / "photo.tif"
    tifffile.imwrite(path, levels(desk, *desk.size()).astype(np.float32))
    command = desk.restore(path, f"--range={text}")
    return Case(command, "refused", ("--range",), outputs=(desk.out,))


_BAD_RANGES = ("", "1", "5,1", "3,3", "nan,1", "0,nan", "0,inf", "-inf,inf", "a,b", "0,1,2", "0;1")

RECIPES: dict[str, Recipe] = {
    **{f"float-{kind}": functools.partial(_float, kind) for kind in _FLOATS},
    **{
        f"float-{kind}-outliers": functools.partial(_float_outliers, kind)
        for kind in ("unit", "bytes", "negative", "counts")
    },
    "float-unit-noisy": _float_noisy,
    **{
        f"float-{kind}-ranged": functools.partial(_float_ranged, kind)
        for kind in _FLOATS
        if kind not in ("tiny", "far")  # float32 cannot tell their values apart
    },
    "float-half": _half,
    "float-colour": _float_colour,
    "float-one-nan": functools.partial(_not_finite, np.nan, 0.0),
    "float-all-nan": functools.partial(_not_finite, np.nan, 1.0),
    "float-one-inf": functools.partial(_not_finite, np.inf, 0.0),
    "float-many-minus-inf": functools.partial(_not_finite, -np.inf, 0.3),
    **{
        f"float-constant-{value:g}": functools.partial(_constant, value)
        for value in (0.0, 0.5, 1.0, 20.0, 100.0, 255.0)
    },
    **{f"integer-{kind}": functools.partial(_integer, kind, False) for kind in _INTEGERS},
    **{f"integer-{kind}-ranged": functools.partial(_integer, kind, True) for kind in _INTEGERS},
    **{
        f"integer-pillow-{form}": functools.partial(_integer_pillow, form)
        for form in ("TIFF", "IM")
    },
    "tagged-float": functools.partial(_tagged, "float"),
    "tagged-integer": functools.partial(_tagged, "integer"),
    "bytes-ranged": _bytes_ranged,
    **{f"range-{text or 'empty'}": functools.partial(_bad_range, text) for text in _BAD_RANGES},
}
"""Recipes by name."""
