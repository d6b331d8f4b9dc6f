"""Files of masks as painting programs, label tools, cameras and numpy write them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import tifffile
from PIL import Image

from tests.odd_inputs.case import Case, Desk, Expectation
from tests.odd_inputs.checks import mask_is
from tests.odd_inputs.modes import levels
from tests.odd_inputs.png import png

__all__ = [
    "GOOD",
    "Writer",
    "array_mask",
    "grey_mask",
    "holes",
    "inpainting",
    "mat_mask",
    "npz_mask",
    "photo_for_masks",
]


def photo_for_masks(desk: Desk) -> tuple[Path, tuple[int, int]]:
    size = desk.size()
    path = desk.folder / "photo.png"
    path.write_bytes(png(levels(desk, *size, 3), 8, 2))
    return path, size


def holes(desk: Desk, size: tuple[int, int]) -> np.ndarray:
    """Missing pixels: a rectangle and some specks, in no symmetry."""
    missing = desk.rng.random(size) < 0.1
    top, left = int(desk.rng.integers(0, size[0] - 6)), int(desk.rng.integers(0, size[1] - 6))
    missing[top : top + 5, left : left + 3] = True
    missing[0, 0], missing[-1, -1] = True, False
    return missing


def inpainting(
    desk: Desk,
    photo: Path,
    mask: Path,
    missing: np.ndarray | None,
    *more: object,
    expect: Expectation = "right",
) -> Case:
    """Inpainting with a mask; None for the truth where it is refused anyway."""
    command = desk.restore(photo, "--mask", mask, *more, problem="inpaint")
    if missing is None:
        return Case(command, "refused", (mask.name, "--mask"), outputs=(desk.out,))
    return Case(
        *(command, expect, (mask.name, "--mask"), mask_is(desk.out, missing)), outputs=(desk.out,)
    )


Writer = Callable[[Desk, np.ndarray, Path], Path]
"""Writes missing pixels into a folder in a way of its own, and returns the file."""


def grey_mask(low: int, high: int, name: str = "mask.png", dtype: str = "uint8") -> Writer:
    def write(desk: Desk, missing: np.ndarray, folder: Path) -> Path:
        values = np.where(missing, high, low).astype(dtype)
        path = folder / name
        if dtype == "uint16" and name.endswith("png"):
            path.write_bytes(png(values, 16, 0))
        elif name.endswith("tif"):
            tifffile.imwrite(path, values)
        else:
            quality: dict[str, Any] = {"quality": 95} if name.endswith("jpg") else {}
            Image.fromarray(values).save(path, **quality)
        return path

    return write


def _two_levels(desk: Desk, missing: np.ndarray, folder: Path) -> Path:
    """Any two grey levels: the brighter one is missing."""
    low, high = sorted(desk.rng.choice(256, 2, replace=False).tolist())
    return grey_mask(low, high)(desk, missing, folder)


def _bits(name: str) -> Writer:
    def write(desk: Desk, missing: np.ndarray, folder: Path) -> Path:
        image = Image.fromarray(np.where(missing, 255, 0).astype(np.uint8))
        image.convert("1", dither=Image.Dither.NONE).save(folder / name)
        return folder / name

    return write


def _palette(first: tuple[int, ...], second: tuple[int, ...], swapped: bool = False) -> Writer:
    """Index 1 is missing and has the second colour; swapped, index 0 has it."""

    def write(desk: Desk, missing: np.ndarray, folder: Path) -> Path:
        index = (missing != swapped).astype(np.uint8)
        colours = np.array([second, first] if swapped else [first, second])
        path = folder / "mask.png"
        if desk.rng.random() < 0.3:
            image = Image.fromarray(index).copy()
            image.putpalette(colours.astype(np.uint8).tobytes())
            path = folder / "mask.gif"
            image.save(path)
        else:
            path.write_bytes(png(index.astype(int), int(desk.pick("1", "8")), 3, palette=colours))
        return path

    return write


def _paint(colour: tuple[int, int, int]) -> Writer:
    """A colour on black."""

    def write(desk: Desk, missing: np.ndarray, folder: Path) -> Path:
        path = folder / desk.pick("mask.png", "mask.bmp", "mask.tif")
        Image.fromarray((missing[..., None] * np.array(colour)).astype(np.uint8)).save(path)
        return path

    return write


def _alpha_paint(colour: tuple[int, int, int], below: tuple[int, int, int] = (0, 0, 0)) -> Writer:
    """Opaque paint on a transparent layer."""

    def write(desk: Desk, missing: np.ndarray, folder: Path) -> Path:
        values = np.where(missing[..., None], (*colour, 255), (*below, 0)).astype(np.uint8)
        Image.fromarray(values).save(folder / "mask.png")
        return folder / "mask.png"

    return write


def _opaque(mode: str) -> Writer:
    """White on black with an alpha channel that says nothing."""

    def write(desk: Desk, missing: np.ndarray, folder: Path) -> Path:
        grey = Image.fromarray(np.where(missing, 255, 0).astype(np.uint8))
        grey.convert(mode).save(folder / "mask.png")
        return folder / "mask.png"

    return write


def _grey_alpha(desk: Desk, missing: np.ndarray, folder: Path) -> Path:
    """Black paint on a transparent layer, in grey and alpha."""
    values = np.stack([np.zeros(missing.shape), np.where(missing, 255, 0)], -1).astype(np.uint8)
    Image.frombytes("LA", values.shape[1::-1], values.tobytes()).save(folder / "mask.png")
    return folder / "mask.png"


def _few_soft(desk: Desk, missing: np.ndarray, folder: Path) -> Path:
    """Two pixels of an edge are grey, on their own side of the middle."""
    values = np.where(missing, 255, 0).astype(np.uint8)
    for at in desk.rng.choice(values.size, 2, replace=False):
        values.flat[at] = 200 if missing.flat[at] else 60
    Image.fromarray(values).save(folder / "mask.png")
    return folder / "mask.png"


def array_mask(kind: str) -> Writer:
    """Arrays say 1 where a pixel is observed."""

    def write(desk: Desk, missing: np.ndarray, folder: Path) -> Path:
        seen = ~missing
        dtype = {"fortran": "uint8", "big-endian": ">i4"}.get(kind, kind)
        values = seen.astype(dtype)
        path = folder / desk.pick("mask.npy", "MASK.NPY")
        with path.open("wb") as file:
            np.save(file, np.asfortranarray(values) if kind == "fortran" else values)
        return path

    return write


def npz_mask(desk: Desk, missing: np.ndarray, folder: Path) -> Path:
    np.savez(folder / "mask.npz", anything=~missing)
    return folder / "mask.npz"


def mat_mask(desk: Desk, missing: np.ndarray, folder: Path) -> Path:
    scipy.io.savemat(folder / "mask.mat", {"mask": (~missing).astype(desk.pick("u1", "f8"))})
    return folder / "mask.mat"


GOOD: dict[str, Writer] = {
    "0-255": grey_mask(0, 255),
    "0-1": grey_mask(0, 1),
    "0-255-in-16-bits": grey_mask(0, 255, dtype="uint16"),
    "0-1-in-16-bits": grey_mask(0, 1, dtype="uint16"),
    "0-65535": grey_mask(0, 65535, dtype="uint16"),
    "0-65535-tiff": grey_mask(0, 65535, "mask.tif", "uint16"),
    "0-255-tiff": grey_mask(0, 255, "mask.tif"),
    "0-1-float-tiff": grey_mask(0, 1, "mask.tif", "float32"),
    "0-255-float-tiff": grey_mask(0, 255, "mask.tif", "float32"),
    "0-1-int32-tiff": grey_mask(0, 1, "mask.tif", "int32"),
    "1-2": grey_mask(1, 2),
    "254-255": grey_mask(254, 255),
    "two-levels": _two_levels,
    "bits-png": _bits("mask.png"),
    "bits-tiff": _bits("mask.tif"),
    "bits-bmp": _bits("mask.bmp"),
    "palette-voc": _palette((0, 0, 0), (128, 0, 0)),
    "palette-blue": _palette((0, 0, 0), (0, 0, 90)),
    "palette-swapped": _palette((0, 0, 0), (255, 255, 255), True),
    "palette-two-colours": _palette((20, 40, 20), (250, 250, 80)),
    "paint-red": _paint((255, 0, 0)),
    "paint-green": _paint((0, 255, 0)),
    "paint-blue": _paint((0, 0, 255)),
    "paint-dark": _paint((40, 0, 60)),
    "alpha-black": _alpha_paint((0, 0, 0)),
    "alpha-white": _alpha_paint((255, 255, 255)),
    "alpha-red": _alpha_paint((255, 0, 0)),
    "alpha-on-white": _alpha_paint((0, 0, 0), (255, 255, 255)),
    "alpha-opaque-RGBA": _opaque("RGBA"),
    "alpha-opaque-LA": _opaque("LA"),
    "alpha-LA": _grey_alpha,
    "few-soft": _few_soft,
    **{
        f"array-{kind}": array_mask(kind)
        for kind in (
            *("bool", "uint8", "int64", "float16", "float64", "fortran", "big-endian", "uint16"),
        )
    },
    "npz": npz_mask,
    "mat": mat_mask,
}
