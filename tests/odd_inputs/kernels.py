"""Blur kernels in pictures and arrays, and arrays that are none."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import tifffile
from PIL import Image

from tests.odd_inputs.case import Case, Desk, Expectation, Recipe
from tests.odd_inputs.checks import kernel_is
from tests.odd_inputs.damage import damaged
from tests.odd_inputs.modes import levels
from tests.odd_inputs.png import png

__all__ = ["RECIPES"]


def _case(desk: Desk, path: Path, kernel: np.ndarray | None, expect: Expectation = "right") -> Case:
    """A deconvolution, or a super-resolution; None for the kernel where it is refused anyway."""
    photo = desk.folder / "photo.png"
    photo.write_bytes(png(levels(desk, 17, 20, 3), 8, 2))
    problem = "deblur" if desk.rng.random() < 0.75 else "super-resolve"
    more = ("--scale", "2") if problem == "super-resolve" else ()
    command = desk.restore(
        photo, "--kernel", path, "--boundary", "circular", *more, problem=problem
    )
    names = (path.name, "--kernel", "kernel")
    if kernel is None:
        return Case(command, "refused", names, outputs=(desk.out,))
    return Case(command, expect, names, kernel_is(desk.out, kernel), outputs=(desk.out,))


def _kernel(desk: Desk, height: int = 5, width: int = 3) -> np.ndarray:
    """No symmetry, so that a flipped or transposed kernel shows."""
    return desk.rng.integers(1, 256, (height, width))


def _picture(kind: str, desk: Desk) -> Case:
    kernel, path = _kernel(desk), desk.folder / "kernel.png"
    if kind == "16-bit":
        kernel = desk.rng.integers(1, 65536, kernel.shape)
        path.write_bytes(png(kernel, 16, 0))
    elif kind == "palette":
        index = desk.rng.permutation(kernel.size).reshape(kernel.shape)
        grey = desk.rng.integers(1, 256, (kernel.size, 1))
        path.write_bytes(png(index, 8, 3, palette=grey.repeat(3, 1)))
        kernel = grey[index, 0]
    elif kind == "float":
        path = desk.folder / "kernel.tif"
        kernel = desk.rng.uniform(0, 1e-3, kernel.shape)
        tifffile.imwrite(path, kernel.astype(np.float32))
    elif kind == "colour":
        path.write_bytes(png(kernel[..., None].repeat(3, -1), 8, 2))
    elif kind == "alpha":
        path.write_bytes(png(np.stack([kernel, np.full_like(kernel, 255)], -1), 8, 4))
    elif kind == "bits":
        kernel = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 1]])
        path.write_bytes(png(kernel, 1, 0))
    elif kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        stored = np.ascontiguousarray(np.rot90(kernel).astype(np.uint8))
        Image.fromarray(stored).save(path, exif=exif.tobytes())
    else:
        path.write_bytes(png(kernel, 8, 0))
    # a kernel of two levels may be refused as a mask given in the wrong place, but not misread
    return _case(desk, path, kernel)


_DTYPES = ("bool", "uint8", "int16", "int64", "float16", "float32", "float64", ">f4", ">i2")


def _array(dtype: str, desk: Desk) -> Case:
    values = _kernel(desk) / (1 if "f" not in dtype else 255)
    if dtype == "bool":
        values = np.array([[1, 0], [1, 1], [0, 1]])
    path = desk.folder / desk.pick("kernel.npy", "KERNEL.NPY")
    stored = values.astype(dtype)
    with path.open("wb") as file:
        np.save(file, np.asfortranarray(stored) if desk.rng.random() < 0.5 else stored)
    return _case(desk, path, stored.astype(float))


def _container(suffix: str, desk: Desk) -> Case:
    kernel, path = _kernel(desk), desk.folder / f"kernel.{suffix}"
    if suffix == "npz":
        np.savez(path, k=kernel)
    else:
        scipy.io.savemat(path, {"k": kernel.astype(float)})
    return _case(desk, path, kernel)


def _several(suffix: str, desk: Desk) -> Case:
    """As Levin et al.'s files: a picture, a kernel and a blurred picture."""
    arrays: dict[str, Any] = {
        "x": levels(desk, 17, 20),
        "f": _kernel(desk),
        "y": levels(desk, 17, 20),
    }
    path = desk.folder / f"levin.{suffix}"
    if suffix == "npz":
        np.savez(path, **arrays)
    else:
        scipy.io.savemat(path, {k: v.astype(float) for k, v in arrays.items()})
    return _case(desk, path, None)


def _saved(values: np.ndarray, expect: Expectation, desk: Desk) -> Case:
    path = desk.folder / "kernel.npy"
    np.save(path, values)
    return _case(desk, path, None if expect == "refused" else values, expect)


_ODD: dict[str, tuple[np.ndarray, Expectation]] = {
    "one-pixel": (np.full((1, 1), 7.0), "right"),
    "one-row": (np.array([[1.0, 2, 4]]), "right"),
    "one-column": (np.array([[1.0], [2], [4]]), "right"),
    "even": (np.array([[1.0, 2, 3, 4], [4, 3, 2, 1]]), "either"),
    "negative": (np.array([[-1.0, 2, 3], [0, 1, 4], [1, 1, 0]]), "either"),
    "tiny": (np.array([[1.0, 2, 3], [0, 1, 4]]) * 1e-200, "either"),
    "huge": (np.array([[1.0, 2, 3], [0, 1, 4]]) * 1e300, "either"),
    "zero-sum": (np.array([[-1.0, 0, 1]]), "refused"),
    "negative-sum": (np.array([[-1.0, -2, -1]]), "refused"),
    "zeros": (np.zeros((3, 3)), "refused"),
    "nan": (np.array([[1.0, np.nan, 1]]), "refused"),
    "inf": (np.array([[1.0, np.inf, 1]]), "refused"),
    "sum-overflows": (np.full((3, 3), 1.7e308), "either"),
    "three-axes": (np.ones((3, 2, 5)) * np.arange(1, 6), "either"),
    "seven-channels": (np.ones((7, 4, 5)), "refused"),
    "one-axis": (np.ones(5), "refused"),
    "scalar": (np.array(1.0), "refused"),
    "nothing": (np.ones((0, 3)), "refused"),
    "no-columns": (np.ones((3, 0)), "refused"),
    "complex": (np.ones((3, 3), complex), "refused"),
    "text": (np.array([["a", "b"]]), "refused"),
    "records": (np.zeros(3, [("a", "f4"), ("b", "i4")]), "refused"),
    "dates": (np.zeros((2, 2), "M8[s]"), "refused"),
    "larger": (np.random.default_rng(0).uniform(1, 2, (40, 41)), "either"),
    "much-larger": (np.random.default_rng(0).uniform(1, 2, (5000, 1)), "either"),
}


def _objects(suffix: str, desk: Desk) -> Case:
    path = desk.folder / f"kernel.{suffix}"
    objects = np.array([[1, 2], [3, None]], dtype=object)
    if suffix == "npz":
        np.savez(path, k=objects)
    elif suffix == "mat":
        scipy.io.savemat(path, {"k": np.array([[1, "a"]], dtype=object)})
    else:
        np.save(path, objects)
    return _case(desk, path, None)


def _broken(suffix: str, kind: str, desk: Desk) -> Case:
    whole = desk.folder / f"whole.{suffix}"
    kernel = _kernel(desk, 15, 16)
    if suffix == "png":
        whole.write_bytes(png(kernel, 8, 0))
    elif suffix == "mat":
        scipy.io.savemat(whole, {"k": kernel})
    else:
        (np.savez if suffix == "npz" else np.save)(whole, kernel)
    path = desk.folder / f"broken.{suffix}"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(damaged(desk, whole.read_bytes(), kind))
    return _case(desk, path, None)


def _black(desk: Desk) -> Case:
    path = desk.folder / "kernel.png"
    path.write_bytes(png(np.zeros((5, 5), int), 8, 0))
    return _case(desk, path, None)


RECIPES: dict[str, Recipe] = {
    **{
        f"picture-{kind}": functools.partial(_picture, kind)
        for kind in ("8-bit", "16-bit", "palette", "float", "colour", "alpha", "bits", "turned")
    },
    "picture-black": _black,
    **{
        f"array-{dtype.replace('>', 'big-')}": functools.partial(_array, dtype) for dtype in _DTYPES
    },
    **{f"container-{suffix}": functools.partial(_container, suffix) for suffix in ("npz", "mat")},
    **{f"several-{suffix}": functools.partial(_several, suffix) for suffix in ("npz", "mat")},
    **{
        f"odd-{name}": functools.partial(_saved, values, expect)
        for name, (values, expect) in _ODD.items()
    },
    **{
        f"objects-{suffix}": functools.partial(_objects, suffix) for suffix in ("npy", "npz", "mat")
    },
    **{
        f"{kind}-{suffix}": functools.partial(_broken, suffix, kind)
        for suffix in ("png", "npy", "npz", "mat")
        for kind in ("empty", "cut", "garbage", "text", "missing", "folder")
    },
}
"""Recipes by name."""
