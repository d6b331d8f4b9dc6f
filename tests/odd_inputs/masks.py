"""Masks that must be understood, and transparency that stands for one."""

import functools

import numpy as np
import tifffile
from PIL import Image

from tests.odd_inputs.case import Case, Desk, Recipe
from tests.odd_inputs.checks import mask_is
from tests.odd_inputs.mask_files import GOOD, grey_mask, holes, inpainting, photo_for_masks
from tests.odd_inputs.modes import levels
from tests.odd_inputs.png import png

__all__ = ["RECIPES"]


def _good(name: str, desk: Desk) -> Case:
    photo, size = photo_for_masks(desk)
    missing = holes(desk, size)
    return inpainting(desk, photo, GOOD[name](desk, missing, desk.folder), missing)


def _jpeg(desk: Desk) -> Case:
    """Ringing at the edges of blocks: the truth, or a refusal."""
    photo, size = photo_for_masks(desk)
    missing = np.zeros(size, bool)
    missing[:8, 8:] = True
    return inpainting(
        desk, photo, grey_mask(0, 255, "mask.jpg")(desk, missing, desk.folder), missing
    )


def _inverted(name: str, desk: Desk) -> Case:
    photo, size = photo_for_masks(desk)
    missing = holes(desk, size)
    path = GOOD[name](desk, missing, desk.folder)
    return inpainting(desk, photo, path, ~missing, "--invert-mask")


def _valued(kind: str, desk: Desk) -> Case:
    """--mask-value says which of several labels is missing."""
    photo, size = photo_for_masks(desk)
    labels = desk.rng.integers(0, 5, size)
    value = int(desk.rng.integers(0, 5))
    if kind == "png":
        path = desk.folder / "labels.png"
        path.write_bytes(png(labels, 8, 0))
    else:
        path = desk.folder / "labels.npy"
        np.save(path, labels.astype(desk.pick("uint8", "int32", "float32")))
    return inpainting(desk, photo, path, labels == value, "--mask-value", value)


def _perhaps(kind: str, desk: Desk) -> Case:
    """Arrays that may be taken for what they look like, or be refused."""
    photo, size = photo_for_masks(desk)
    missing = holes(desk, size)
    seen = ~missing
    values = {
        "0-255": 255 * seen.astype(np.uint8),
        "one-channel-first": seen[None],
        "one-channel-last": seen[..., None],
        "equal-channels": np.stack([seen] * 3),
    }[kind]
    path = desk.folder / "mask.npy"
    np.save(path, values)
    return inpainting(desk, photo, path, missing, expect="either")


def _measured(kind: str, desk: Desk) -> Case:
    """Of mri white and 1 are measured."""
    photo, size = photo_for_masks(desk)
    seen = ~holes(desk, size)
    if kind == "npy":
        path = desk.folder / "mask.npy"
        np.save(path, seen)
    else:
        path = grey_mask(0, 255 if kind == "png" else 1)(desk, seen, desk.folder)
    command = desk.restore(photo, "--mask", path, "--simulate", problem="mri")
    return Case(command, "right", (path.name, "--mask"), mask_is(desk.out, ~seen))


def _transparent(kind: str, desk: Desk) -> Case:
    """Without a mask the transparent pixels of the picture are missing."""
    size = desk.size()
    missing = holes(desk, size)
    alpha = np.where(missing, 0, 255)
    path = desk.folder / "photo.png"
    if kind == "palette":
        index = np.where(missing, 0, desk.rng.integers(1, 16, size))
        path.write_bytes(png(index, 4, 3, palette=levels(desk, 16, 3), transparency=b"\0"))
    elif kind == "key":
        values = desk.rng.integers(1, 256, (*size, 3))
        values[missing] = (0, 0, 0)
        path.write_bytes(png(values, 8, 2, transparency=bytes(6)))
    elif kind == "grey":
        path.write_bytes(png(np.stack([levels(desk, *size), alpha], -1), 8, 4))
    elif kind == "deep":
        values = np.concatenate([levels(desk, *size, 3, top=65536), alpha[..., None] * 257], -1)
        path.write_bytes(png(values, 16, 6))
    elif kind == "webp":
        values = np.concatenate([levels(desk, *size, 3), alpha[..., None]], -1).astype(np.uint8)
        path = desk.folder / "photo.webp"
        Image.fromarray(values).save(path, lossless=True)
    elif kind == "turned":
        values = np.concatenate([levels(desk, *size, 3), alpha[..., None]], -1).astype(np.uint8)
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(np.ascontiguousarray(np.rot90(values))).save(path, exif=exif.tobytes())
    else:
        values = np.concatenate([levels(desk, *size, 3), alpha[..., None]], -1)
        path.write_bytes(png(values, 8, 6))
    command = desk.restore(path, problem="inpaint")
    return Case(command, "right", (path.name,), mask_is(desk.out, missing), outputs=(desk.out,))


def _nan_below(form: str, desk: Desk) -> Case:
    """NaN under the mask is what it is for; it may be refused, but not shown."""
    size = desk.size()
    missing = holes(desk, size)
    values = desk.rng.uniform(-1, 1, size).astype(np.float32)
    values[missing] = np.nan
    path = desk.folder / f"photo.{form}"
    if form == "npy":
        np.save(path, values[None])
    else:
        tifffile.imwrite(path, (values + 1) / 2)
    mask = GOOD["0-255"](desk, missing, desk.folder)
    return Case(
        desk.restore(path, "--mask", mask, problem="inpaint"),
        "either",
        (path.name, "--mask"),
        mask_is(desk.out, missing),
        outputs=(desk.out,),
    )


RECIPES: dict[str, Recipe] = {
    **{name: functools.partial(_good, name) for name in GOOD},
    "jpeg": _jpeg,
    **{
        f"inverted-{name}": functools.partial(_inverted, name)
        for name in ("0-255", "0-1", "bits-png", "palette-voc", "alpha-black", "array-bool", "npz")
    },
    **{f"value-{kind}": functools.partial(_valued, kind) for kind in ("png", "npy")},
    **{
        f"perhaps-{kind}": functools.partial(_perhaps, kind)
        for kind in ("0-255", "one-channel-first", "one-channel-last", "equal-channels")
    },
    **{f"mri-{kind}": functools.partial(_measured, kind) for kind in ("png", "ones", "npy")},
    **{
        f"transparent-{kind}": functools.partial(_transparent, kind)
        for kind in ("colour", "grey", "palette", "key", "deep", "webp", "turned")
    },
    **{f"nan-below-{form}": functools.partial(_nan_below, form) for form in ("npy", "tif")},
}
"""Recipes by name."""
