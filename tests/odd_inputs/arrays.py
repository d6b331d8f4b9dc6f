"""Arrays as measurements: shapes, dtypes, orders, ranges, and files that are damaged."""

import functools
import io
import struct

import numpy as np
import scipy.io

from tests.odd_inputs.case import Case, Desk, Expectation, Recipe
from tests.odd_inputs.checks import picture_is
from tests.odd_inputs.damage import damaged, flipped

__all__ = ["RECIPES"]


def _saved(
    desk: Desk,
    values: np.ndarray,
    shown: np.ndarray | None,
    *more: object,
    expect: Expectation = "right",
) -> Case:
    """A restoration of an array; None for what it shows where it is refused."""
    path = desk.folder / "measured.npy"
    np.save(path, values, allow_pickle=True)
    command = desk.restore(path, *more)
    if shown is None:
        return Case(command, "refused", (path.name,), outputs=(desk.out,))
    return Case(command, expect, (path.name,), picture_is(desk.out, shown), outputs=(desk.out,))


def _signed(desk: Desk, *shape: int) -> np.ndarray:
    """Values that fill [-1, 1]."""
    values = desk.rng.uniform(-1, 1, shape)
    values.flat[0], values.flat[-1] = -1, 1
    return values


def _shown(values: np.ndarray) -> np.ndarray:
    return (values + 1) * 127.5


_SHAPES: dict[str, tuple[tuple[str, ...], Expectation]] = {
    # letters of the axes, how it is read
    "HW": (("H", "W"), "right"),
    "1HW": (("1", "H", "W"), "right"),
    "3HW": (("3", "H", "W"), "right"),
    "HW3": (("H", "W", "3"), "right"),
    "11HW": (("1", "1", "H", "W"), "right"),
    "13HW": (("1", "3", "H", "W"), "right"),
    "HW1": (("H", "W", "1"), "either"),
    "1HW3": (("1", "H", "W", "3"), "either"),
    "2HW": (("2", "H", "W"), "refused"),
    "4HW": (("4", "H", "W"), "refused"),
    "HW2": (("H", "W", "2"), "refused"),
    "HW4": (("H", "W", "4"), "refused"),
    "23HW": (("2", "3", "H", "W"), "refused"),
    "21HW": (("2", "1", "H", "W"), "refused"),
    "113HW": (("1", "1", "3", "H", "W"), "refused"),
    "W": (("W",), "refused"),
    "scalar": ((), "refused"),
    "0W": (("0", "W"), "refused"),
    "30W": (("3", "0", "W"), "refused"),
    "3H0": (("3", "H", "0"), "refused"),
    "0HW": (("0", "H", "W"), "refused"),
}


def _shape(name: str, form: str, desk: Desk) -> Case:
    axes, expect = _SHAPES[name]
    values: np.ndarray
    height, width = desk.size()
    shape = tuple({"H": height, "W": width}.get(axis) or int(axis) for axis in axes)
    if form == "bytes":
        values = np.asarray(desk.rng.integers(0, 256, shape, dtype=np.uint8))
        shown = np.asarray(values, float)
    else:
        values = np.asarray(desk.rng.uniform(-1, 1, shape)).astype(np.float32)
        shown = _shown(values)
    shown = np.moveaxis(shown, -3, -1) if "3" in axes[:-1] and len(axes) >= 3 else shown
    return _saved(desk, values, None if expect == "refused" else shown.squeeze(), expect=expect)


_FLOATS = ("float16", "float32", "float64", "longdouble", ">f4", ">f8")


def _float(dtype: str, desk: Desk) -> Case:
    """Floats that reach below zero are on [-1, 1]."""
    values = _signed(desk, 3, *desk.size()).astype(dtype)
    stored = np.asfortranarray(values) if desk.rng.random() < 0.5 else values
    return _saved(desk, stored, _shown(np.moveaxis(values.astype(float), 0, -1)))


_FULL_SCALE = {"bool": 1, "uint8": 255, "uint16": 65535, ">u2": 65535}


def _unsigned(dtype: str, desk: Desk) -> Case:
    """These have a white of their own."""
    top = _FULL_SCALE[dtype]
    channels = int(desk.pick("1", "3"))
    values = desk.rng.integers(0, top + 1, (channels, *desk.size()))
    values.flat[0], values.flat[-1] = 0, top
    shown = np.moveaxis(values * (255 / top), 0, -1)
    return _saved(desk, values.astype(dtype), shown.squeeze())


_INTEGERS = ("int8", "int16", "int32", "uint32", "int64", "uint64", ">i2")


def _integer(dtype: str, ranged: bool, desk: Desk) -> Case:
    """These have none: --range must say it."""
    low = 0 if "u" in dtype else -100
    values = desk.rng.integers(low, 101, (1, *desk.size()))
    values.flat[0], values.flat[-1] = low, 100
    if not ranged:
        return _saved(desk, values.astype(dtype), None)
    shown = (values[0] - low) / (100 - low) * 255
    return _saved(desk, values.astype(dtype), shown, f"--range={low},100")


_RANGES: dict[str, tuple[float, float, Expectation]] = {
    "unit": (0, 1, "refused"),
    "upper-half": (0.2, 0.9, "refused"),
    "bytes": (0, 255, "refused"),
    "counts": (0, 1e4, "refused"),
    "hounsfield": (-1000, 2000, "refused"),
    "wide": (-40, 40, "refused"),
    "huge": (-1e30, 1e30, "refused"),
    "a-little-wide": (-1.05, 1.05, "right"),
    "lower-half": (-0.9, -0.2, "right"),
    "middle": (-0.5, 0.5, "right"),
}


def _range(name: str, ranged: bool, desk: Desk) -> Case:
    low, high, expect = _RANGES[name]
    values = desk.rng.uniform(low, high, (3, *desk.size()))
    values.flat[0], values.flat[-1] = low, high
    colours = np.moveaxis(values, 0, -1)
    if ranged:
        shown = (colours - low) / (high - low) * 255
        return _saved(desk, values, shown, f"--range={low!r},{high!r}")
    return _saved(desk, values, None if expect == "refused" else _shown(colours))


def _outliers(desk: Desk) -> Case:
    """[-1, 1] with a few bright pixels, as of noise."""
    values = _signed(desk, *desk.size())
    values.flat[desk.rng.choice(values.size, 2, replace=False)] = 1.6
    return _saved(desk, values, _shown(values), expect="either")


def _constant(value: float, desk: Desk) -> Case:
    """One value everywhere says nothing of its range: to show it on [-1, 1] or to refuse it."""
    values = np.full((3, *desk.size()), value)
    return _saved(desk, values, _shown(np.moveaxis(values, 0, -1)), expect="either")


def _content(kind: str, desk: Desk) -> Case:
    """Entries that are no real numbers."""
    size = desk.size()
    values = _signed(desk, 3, *size)
    odd: np.ndarray = {
        "complex": values + 1j,
        "object": values.astype(object),
        "none": np.full(size, None, dtype=object),
        "text": values.astype("U6"),
        "bytes": values.astype("S6"),
        "record": np.zeros(size, [("red", "f4"), ("blue", "u1")]),
        "dates": np.zeros(size, "M8[s]"),
        "spans": np.zeros(size, "m8[s]"),
        "void": np.zeros(size, "V3"),
    }[kind]
    case = _saved(desk, odd, None)
    # complex numbers are two channels each
    names = (*case.names, "6 channels") if kind == "complex" else case.names
    return Case(case.command, "refused", names, outputs=case.outputs)


def _not_finite(value: float, share: float, desk: Desk) -> Case:
    values = _signed(desk, *desk.size())
    count = max(1, round(share * values.size))
    values.flat[desk.rng.choice(values.size, count, replace=False)] = value
    case = _saved(desk, values, None)
    return Case(case.command, "refused", (*case.names, "measurement"), outputs=case.outputs)


def _broken(kind: str, desk: Desk) -> Case:
    file = io.BytesIO()
    np.save(file, _signed(desk, 3, *desk.size()))
    path = desk.folder / "measured.npy"
    path.write_bytes(damaged(desk, file.getvalue(), kind))
    return Case(desk.restore(path), "refused", (path.name,), outputs=(desk.out,))


def _flipped(desk: Desk) -> Case:
    file = io.BytesIO()
    np.save(file, _signed(desk, 3, *desk.size()))
    path = desk.folder / "measured.npy"
    path.write_bytes(flipped(desk, file.getvalue()))
    return Case(desk.restore(path), "clean", (path.name, "measure"), outputs=(desk.out,))


_HEADERS = {
    "bomb": "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 1000000, 1000000)}",
    "overflow": "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 16)}",
    "negative": "{'descr': '<f4', 'fortran_order': False, 'shape': (3, -4, 5)}",
    "float-shape": "{'descr': '<f4', 'fortran_order': False, 'shape': (3.0, 4, 5)}",
    "no-shape": "{'descr': '<f4', 'fortran_order': False}",
    "code": "{'descr': '<f4', 'fortran_order': False, 'shape': (__import__('os').getpid(), 1)}",
    "unknown-dtype": "{'descr': '<q9', 'fortran_order': False, 'shape': (3, 4)}",
    "not-closed": "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)",
    "nested": "(" * 3000,
    "empty": "",
}


def _header(kind: str, desk: Desk) -> Case:
    """Headers of .npy that lie."""
    text = _HEADERS[kind].encode("latin1") + b"\n"
    path = desk.folder / "measured.npy"
    head = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
    path.write_bytes(head + bytes(240))
    return Case(desk.restore(path), "refused", (path.name,), outputs=(desk.out,))


def _version(number: int, desk: Desk) -> Case:
    """Versions 2 and 3 of the format are read, too."""
    values = _signed(desk, *desk.size()).astype(np.float32)
    path = desk.folder / "measured.npy"
    with path.open("wb") as file:
        np.lib.format.write_array(file, values, version=(number, 0))
    return Case(desk.restore(path), "right", (path.name,), picture_is(desk.out, _shown(values)))


def _container(suffix: str, desk: Desk) -> Case:
    """Other array files: read rightly or refused."""
    values = _signed(desk, *desk.size())
    path = desk.folder / f"measured.{suffix}"
    if suffix == "npz":
        np.savez(path, y=values)
    else:
        scipy.io.savemat(path, {"y": values})
    return Case(
        *(desk.restore(path), "either", (path.name,), picture_is(desk.out, _shown(values))),
        outputs=(desk.out,),
    )


def _capital(desk: Desk) -> Case:
    values = _signed(desk, *desk.size())
    path = desk.folder / "MEASURED.NPY"
    with path.open("wb") as file:
        np.save(file, values)
    return Case(desk.restore(path), "right", (path.name,), picture_is(desk.out, _shown(values)))


def _simulated(desk: Desk) -> Case:
    """An array may be the truth, or a measurement that cannot be measured again."""
    values = _signed(desk, *desk.size())
    case = _saved(desk, values, _shown(values), "--simulate")
    check = picture_is(desk.out, _shown(values), 3.0)  # noise of SIGMA was added
    return Case(case.command, "either", ("--simulate",), check, outputs=case.outputs)


def _unused_range(desk: Desk) -> Case:
    """Magnitudes have no black and white: --range must be refused, and not be ignored."""
    values = desk.rng.uniform(0, 1, (1, 32, 32))
    path = desk.folder / "measured.npy"
    np.save(path, values)
    command = desk.restore(path, "--range=-1,1", problem="phase-retrieval")
    return Case(command, "clean", ("--range", path.name), outputs=(desk.out,))


RECIPES: dict[str, Recipe] = {
    **{
        f"shape-{name}-{form}": functools.partial(_shape, name, form)
        for name in _SHAPES
        for form in ("floats", "bytes")
    },
    **{
        f"float-{dtype.replace('>', 'big-')}": functools.partial(_float, dtype) for dtype in _FLOATS
    },
    **{
        f"full-scale-{dtype.replace('>', 'big-')}": functools.partial(_unsigned, dtype)
        for dtype in _FULL_SCALE
    },
    **{
        f"integer-{dtype.replace('>', 'big-')}{'-ranged' if ranged else ''}": functools.partial(
            _integer, dtype, ranged
        )
        for dtype in _INTEGERS
        for ranged in (False, True)
    },
    **{
        f"range-{name}{'-ranged' if ranged else ''}": functools.partial(_range, name, ranged)
        for name in _RANGES
        for ranged in (False, True)
    },
    "outliers": _outliers,
    **{
        f"constant-{value:g}": functools.partial(_constant, value)
        for value in (0.0, 0.5, -0.5, 1.0, -1.0)
    },
    **{
        f"content-{kind}": functools.partial(_content, kind)
        for kind in (
            *("complex", "object", "none", "text", "bytes", "record", "dates", "spans", "void"),
        )
    },
    "one-nan": functools.partial(_not_finite, np.nan, 0.0),
    "all-nan": functools.partial(_not_finite, np.nan, 1.0),
    "one-inf": functools.partial(_not_finite, -np.inf, 0.0),
    **{
        f"broken-{kind}": functools.partial(_broken, kind)
        for kind in ("empty", "cut", "garbage", "zeros", "text", "page")
    },
    "flipped": _flipped,
    **{f"header-{kind}": functools.partial(_header, kind) for kind in _HEADERS},
    **{f"version-{number}": functools.partial(_version, number) for number in (1, 2, 3)},
    **{f"container-{suffix}": functools.partial(_container, suffix) for suffix in ("npz", "mat")},
    "capital-suffix": _capital,
    "simulated": _simulated,
    "unused-range": _unused_range,
}
"""Recipes by name."""
