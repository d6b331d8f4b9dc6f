"""Masks that are none: photographs, empty layers, other sizes, broken files, useless options."""

import functools
from typing import Any

import numpy as np
import scipy.io
from PIL import Image

from tests.odd_inputs.case import Case, Desk, Recipe
from tests.odd_inputs.damage import damaged
from tests.odd_inputs.mask_files import (
    GOOD,
    array_mask,
    holes,
    inpainting,
    mat_mask,
    npz_mask,
    photo_for_masks,
)
from tests.odd_inputs.modes import levels
from tests.odd_inputs.png import png

__all__ = ["RECIPES"]


def _bad_option(options: tuple[str, ...], word: str, desk: Desk) -> Case:
    photo, size = photo_for_masks(desk)
    path = GOOD["0-255"](desk, holes(desk, size), desk.folder)
    command = desk.restore(photo, "--mask", path, *options, problem="inpaint")
    return Case(command, "refused", (word, path.name), outputs=(desk.out,))


def _without_mask(option: tuple[str, ...], desk: Desk) -> Case:
    """An option of masks where there is no mask."""
    photo, _ = photo_for_masks(desk)
    command = desk.restore(photo, "--box", "1,1,4,4", *option, problem="inpaint")
    return Case(command, "refused", option[:1], outputs=(desk.out,))


def _wrong_picture(kind: str, desk: Desk) -> Case:
    """Pictures that are no mask."""
    photo, (height, width) = photo_for_masks(desk)
    path = desk.folder / "mask.png"
    missing = holes(desk, (height, width))
    if kind == "photo":
        values = levels(desk, height, width)
    elif kind == "soft":
        values = np.where(missing, 255, desk.rng.integers(0, 180, missing.shape))
    elif kind == "labels":
        values = desk.rng.integers(0, 5, missing.shape)
    elif kind == "transposed":
        values = np.where(missing, 255, 0).T
    elif kind == "larger":
        values = np.where(holes(desk, (height + 1, width)), 255, 0)
    elif kind == "one-pixel":
        values = np.full((1, 1), 255)
    else:
        values = np.full((height, width), {"black": 0, "white": 255, "grey": 77}[kind])
    path.write_bytes(png(values, 8, 0))
    return inpainting(desk, photo, path, None)


def _all_transparent(alpha: int, desk: Desk) -> Case:
    """A layer without paint, or paint of one colour all over."""
    photo, size = photo_for_masks(desk)
    path = desk.folder / "mask.png"
    colour = np.full((*size, 4), alpha, np.uint8)
    colour[..., :3] = desk.rng.integers(0, 256)
    Image.fromarray(colour).save(path)
    return inpainting(desk, photo, path, None)


def _wrong_array(kind: str, desk: Desk) -> Case:
    photo, size = photo_for_masks(desk)
    seen = (~holes(desk, size)).astype(float)
    values: np.ndarray = {
        "nan": np.where(seen > 0, 1.0, np.nan),
        "nan-seen": np.where(seen > 0, np.nan, 0.0),
        "halves": seen / 2,
        "soft": seen * desk.rng.uniform(0.5, 1, size),
        "signs": 2 * seen - 1,
        "inf": np.where(seen > 0, np.inf, 0.0),
        "complex": seen.astype(complex),
        "text": seen.astype(str),
        "ones": np.ones(size),
        "zeros": np.zeros(size),
        "transposed": seen.T,
        "one-axis": seen.ravel(),
        "four-axes": np.stack([seen, seen])[None],
        "colours": np.stack([seen, 1 - seen, seen]),
        "nothing": seen[:0],
        "scalar": np.array(1.0),
    }[kind]
    path = desk.folder / "mask.npy"
    np.save(path, values)
    return inpainting(desk, photo, path, None)


def _several(suffix: str, desk: Desk) -> Case:
    photo, size = photo_for_masks(desk)
    arrays: dict[str, Any] = {"seen": ~holes(desk, size), "other": np.ones(size)}
    path = desk.folder / f"mask.{suffix}"
    if suffix == "npz":
        np.savez(path, **arrays)
    else:
        scipy.io.savemat(path, {k: v.astype(float) for k, v in arrays.items()})
    return inpainting(desk, photo, path, None)


def _objects(kind: str, desk: Desk) -> Case:
    photo, size = photo_for_masks(desk)
    seen = ~holes(desk, size)
    path = desk.folder / f"mask.{kind}"
    if kind == "npz":
        np.savez(path, mask=seen.astype(object))
    elif kind == "mat":
        scipy.io.savemat(path, {"mask": {"inside": seen.astype(float)}})
    else:
        np.save(path, seen.astype(object))
    return inpainting(desk, photo, path, None)


def _broken(suffix: str, kind: str, desk: Desk) -> Case:
    photo, size = photo_for_masks(desk)
    missing = holes(desk, size)
    writers = {"png": GOOD["0-255"], "npy": array_mask("float64"), "npz": npz_mask, "mat": mat_mask}
    whole = writers[suffix](desk, missing, desk.folder)
    path = desk.folder / f"broken.{suffix}"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(damaged(desk, whole.read_bytes(), kind))
    return inpainting(desk, photo, path, None)


def _not_transparent(kind: str, desk: Desk) -> Case:
    """Nothing, or everything, is transparent, and there is no mask."""
    size, path = desk.size(), desk.folder / "photo.png"
    alpha = np.full((*size, 1), 255 if kind == "opaque" else 0)
    colours = levels(desk, *size, 3)
    values = colours if kind == "none" else np.concatenate([colours, alpha], -1)
    path.write_bytes(png(values, 8, 2 if kind == "none" else 6))
    command = desk.restore(path, problem="inpaint")
    return Case(command, "refused", (path.name, "--mask"), outputs=(desk.out,))


RECIPES: dict[str, Recipe] = {
    **{
        f"value-is-{value or 'empty'}": functools.partial(
            _bad_option, (f"--mask-value={value}",), "--mask-value"
        )
        for value in ("7", "-1", "nan", "inf", "text", "", "1e12")
    },
    "and-box": functools.partial(_bad_option, ("--box", "1,1,4,4"), "--box"),
    "and-random": functools.partial(_bad_option, ("--random", "0.5"), "--random"),
    "value-without-mask": functools.partial(_without_mask, ("--mask-value", "1")),
    "inverted-without-mask": functools.partial(_without_mask, ("--invert-mask",)),
    **{
        f"no-mask-{kind}": functools.partial(_wrong_picture, kind)
        for kind in (
            *("photo", "soft", "labels", "transposed", "larger", "one-pixel"),
            *("black", "white", "grey"),
        )
    },
    "no-mask-unpainted": functools.partial(_all_transparent, 0),
    "no-mask-painted-over": functools.partial(_all_transparent, 255),
    **{
        f"no-mask-array-{kind}": functools.partial(_wrong_array, kind)
        for kind in (
            *("nan", "nan-seen", "halves", "soft", "signs", "inf", "complex", "text", "ones"),
            *("zeros", "transposed", "one-axis", "four-axes", "colours", "nothing", "scalar"),
        )
    },
    **{f"several-{suffix}": functools.partial(_several, suffix) for suffix in ("npz", "mat")},
    **{f"objects-{kind}": functools.partial(_objects, kind) for kind in ("npy", "npz", "mat")},
    **{
        f"{kind}-{suffix}": functools.partial(_broken, suffix, kind)
        for suffix in ("png", "npy", "npz", "mat")
        for kind in ("empty", "cut", "garbage", "text", "missing", "folder")
    },
    **{
        f"transparent-{kind}": functools.partial(_not_transparent, kind)
        for kind in ("none", "opaque", "all")
    },
}
"""Recipes by name."""
