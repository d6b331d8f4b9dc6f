"""Restoring in windows: TIFF and zarr of every layout, damaged ones, masks, and options."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from PIL import Image

from tests.odd_inputs.case import Case, Command, Desk, Outcome, Recipe
from tests.odd_inputs.checks import picture_is
from tests.odd_inputs.damage import damaged, flipped
from tests.odd_inputs.modes import levels

__all__ = ["RECIPES"]

_SMALL = ("--windows", "64", "--overlap", "8")
"""Several windows of the pictures here."""


def _size(desk: Desk) -> tuple[int, int]:
    height, width = desk.size()
    return height + 56, width + 64


def _line(desk: Desk, path: Path, *options: object, problem: str = "denoise") -> Command:
    own = () if "--windows" in options else _SMALL
    return desk.restore(path, *own, *options, problem=problem)


def _written(desk: Desk, **options: Any) -> Path:
    path = desk.folder / "scan.tif"
    tifffile.imwrite(path, levels(desk, *_size(desk)).astype(np.uint8), **options)
    return path


def _refused(desk: Desk, path: Path, *options: object, names: tuple[str, ...] = ()) -> Case:
    command = _line(desk, path, *options)
    return Case(command, "refused", (path.name, *names), outputs=(desk.out,))


_LAYOUTS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "grey-8": ("u1", 1, {}),
    "grey-16": ("u2", 1, {}),
    "grey-16-big-endian": ("u2", 1, {"byteorder": ">"}),
    "grey-float": ("f4", 1, {}),
    "colour-8": ("u1", 3, {"photometric": "rgb"}),
    "colour-16": ("u2", 3, {"photometric": "rgb"}),
    "colour-planar": ("u1", 3, {"photometric": "rgb", "planarconfig": "separate"}),
    "tiled": ("u2", 1, {"tile": (16, 16)}),
    "tiled-colour": ("u1", 3, {"photometric": "rgb", "tile": (16, 16)}),
    "strips": ("u1", 1, {"rowsperstrip": 3}),
    "deflate": ("u2", 1, {"compression": "zlib"}),
    "deflate-predictor": ("u2", 1, {"compression": "zlib", "predictor": True, "rowsperstrip": 5}),
    "deflate-tiled": ("u1", 1, {"compression": "zlib", "tile": (16, 16)}),
    "bigtiff": ("u1", 1, {"bigtiff": True}),
}


def _layout(kind: str, desk: Desk) -> Case:
    """Whatever lies where in the file, the same picture comes back."""
    form, channels, options = _LAYOUTS[kind]
    height, width = _size(desk)
    top = {"u1": 256, "u2": 65536, "f4": 256}[form]
    values = levels(desk, height, width, channels, top=top).squeeze()
    stored = values / 255 if form == "f4" else values
    if options.get("planarconfig") == "separate":
        stored = np.moveaxis(stored, -1, 0)
    path = desk.folder / "scan.tif"
    tifffile.imwrite(path, stored.astype(form), **options)
    check = picture_is(desk.out, values * (255 / (top - 1)))
    return Case(_line(desk, path), "right", (path.name,), check, outputs=(desk.out,))


def _zarr(kind: str, desk: Desk) -> Case:
    """Arrays (H, W), (H, W, 3) and (3, H, W), in chunks that windows cross."""
    height, width = _size(desk)
    channels = 1 if kind == "grey" else 3
    values = levels(desk, height, width, channels).astype(np.uint8).squeeze()
    stored = np.moveaxis(values, -1, 0) if kind == "first" else values
    path = desk.folder / "scan.zarr"
    chunks = tuple(min(n, 5) for n in stored.shape)
    array = zarr.create_array(store=str(path), shape=stored.shape, dtype="u1", chunks=chunks)
    array[:] = stored

    def check(outcome: Outcome) -> str | None:
        found = np.asarray(zarr.open_array(str(desk.out / "mean.zarr"), mode="r")[:])
        if found.shape != stored.shape:
            return f"the mean has shape {found.shape}, must have {stored.shape}"
        error = np.abs(found.astype(float) - stored).max()
        return None if error <= 1.5 else f"the mean is off by {error:.0f} grey levels"

    command = _line(desk, path, "--range", "0,255")
    return Case(command, "right", (path.name,), check, outputs=(desk.out,))


_OTHERS = ("png", "jpg", "pages", "palette", "cmyk", "alpha", "turned", "bits", "lzw", "white")


def _other(kind: str, desk: Desk) -> Case:
    """Pictures that are not read in windows: one line, which says what they are."""
    values = levels(desk, *_size(desk), 3).astype(np.uint8)
    path = desk.folder / ("scan." + (kind if kind in ("png", "jpg") else "tif"))
    colour = Image.fromarray(values)
    if kind == "pages":
        tifffile.imwrite(path, np.stack([values, values]), photometric="rgb")
    elif kind == "turned":
        tifffile.imwrite(path, values[..., 0], extratags=[(274, "H", 1, 6, True)])
    elif kind == "bits":
        tifffile.imwrite(path, values[..., 0] > 99, photometric="minisblack")
    elif kind == "white":
        tifffile.imwrite(path, values[..., 0], photometric="miniswhite")
    elif kind == "lzw":
        colour.save(path, compression="tiff_lzw")
    else:
        modes = {"palette": "P", "cmyk": "CMYK", "alpha": "RGBA"}
        colour.convert(modes.get(kind, "RGB")).save(path)
    if kind == "lzw":  # read where imagecodecs is installed
        check = picture_is(desk.out, values)
        return Case(_line(desk, path), "either", (path.name,), check, outputs=(desk.out,))
    return _refused(desk, path)


def _damaged(kind: str, desk: Desk) -> Case:
    path = _written(desk)
    path.write_bytes(damaged(desk, path.read_bytes(), kind))
    return _refused(desk, path)


def _flipped(compression: str | None, desk: Desk) -> Case:
    path = _written(desk, compression=compression, rowsperstrip=4)
    path.write_bytes(flipped(desk, path.read_bytes()))
    names = (path.name, "--range")
    return Case(_line(desk, path), "clean", names, outputs=(desk.out,))


_VALUES: dict[str, tuple[str, ...]] = {
    "--windows": ("0", "-16", "x", "1.5", "nan", "1e3", ""),
    "--overlap": ("-1", "x", "64", "1000000", "1.5", ""),
    "--range": ("1,1", "x", "5%,95%", "nan,1"),
    "--sigma": ("auto", "x", "-1", "nan"),
    "--select": ("page=0", "x"),
    "--format": ("png", "jpg", "x"),
    "--samples": ("0", "-1", "x"),
    "--workers": ("0", "-1", "x"),
}


def _value(option: str, value: str, desk: Desk) -> Case:
    more = _SMALL if option not in _SMALL else ("--windows", "64") if option == "--overlap" else ()
    command = desk.restore(_written(desk), *more, f"{option}={value}")
    return Case(command, "refused", (option, option[2:], "windows"), outputs=(desk.out,))


_PROBLEMS: dict[str, tuple[str, ...]] = {
    "kernel-auto": ("deblur", "--kernel", "auto"),
    "gaussian-auto": ("deblur", "--gaussian", "auto"),
    "whole": ("phase-retrieval",),
    "k-space": ("mri",),
    "no-mask": ("inpaint",),
    "box-outside": ("inpaint", "--box", "1,1,190,2"),
    "box-empty": ("inpaint", "--box", "1,1,0,2"),
    "box-wide": ("inpaint", "--box", "0,0,9,10"),
    "kernel-missing": ("deblur", "--kernel", "nowhere.npy"),
}


def _problem(kind: str, desk: Desk) -> Case:
    """Problems that couple the whole picture, or say too little."""
    problem, *more = _PROBLEMS[kind]
    command = _line(desk, _written(desk), *more, problem=problem)
    names = (*(one for one in more if one.startswith("--")), "windows", "hole", "--mask", "nowhere")
    return Case(command, "refused", names, outputs=(desk.out,))


_MASKS = ("right", "array", "white", "black", "grey", "size", "nan", "missing", "empty")


def _mask(kind: str, desk: Desk) -> Case:
    """Masks in TIFF, of which rectangles are read; the wrong ones are refused before any window."""
    height, width = _size(desk)
    values = levels(desk, height, width).astype(np.uint8)
    photo = desk.folder / "scan.tif"
    tifffile.imwrite(photo, values)
    missing = np.zeros((height, width), bool)
    missing[3:6, 4:8] = True
    painted: dict[str, np.ndarray] = {
        "white": np.full((height, width), 255, np.uint8),
        "black": np.zeros((height, width), np.uint8),
        "grey": values,
        "size": np.uint8(255) * missing[:-1],
        "nan": np.where(missing, np.nan, 0).astype(np.float32),
    }
    path = desk.folder / ("mask.npy" if kind == "array" else "mask.tif")
    if kind == "array":
        np.save(path, ~missing)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind != "missing":
        tifffile.imwrite(path, painted.get(kind, np.uint8(255) * missing))
    command = _line(desk, photo, "--mask", path, problem="inpaint")
    if kind not in ("right", "array"):
        return Case(command, "refused", (path.name, "the mask"), outputs=(desk.out,))

    def check(outcome: Outcome) -> str | None:
        found = tifffile.imread(desk.out / "mean.tif").astype(float)
        error = np.abs(found - values)[~missing].max()
        return None if error <= 1.5 else f"seen pixels are off by {error:.0f} grey levels"

    return Case(command, "right", (path.name,), check, outputs=(desk.out,))


def _over_input(desk: Desk) -> Case:
    """A result that would lie where the picture lies."""
    folder = desk.folder / "here"
    folder.mkdir()
    path = folder / "mean.tif"
    tifffile.imwrite(path, levels(desk, *_size(desk)).astype(np.uint8))
    return Case(_line(desk, path, "--out", folder), "refused", ("--out", "mean.tif"))


def _into_a_file(desk: Desk) -> Case:
    path = _written(desk)
    target = desk.folder / "result.tif"
    command = _line(desk, path, "--out", target)
    return Case(command, "refused", ("--windows", target.name), outputs=(target,))


def _content(kind: str, desk: Desk) -> Case:
    """Floating-point values that are no picture."""
    values = np.full(_size(desk), {"nan": np.nan, "inf": np.inf, "flat": 3.0}[kind], np.float32)
    path = desk.folder / "scan.tif"
    tifffile.imwrite(path, values)
    return _refused(desk, path, names=("--range",))


RECIPES: dict[str, Recipe] = {
    **{f"layout-{kind}": functools.partial(_layout, kind) for kind in _LAYOUTS},
    **{f"zarr-{kind}": functools.partial(_zarr, kind) for kind in ("grey", "last", "first")},
    **{f"other-{kind}": functools.partial(_other, kind) for kind in _OTHERS},
    **{
        f"damaged-{kind}": functools.partial(_damaged, kind)
        for kind in ("empty", "cut", "garbage", "zeros", "text", "page")
    },
    **{
        f"flipped-{number}-{compression or 'raw'}": functools.partial(_flipped, compression)
        for compression in (None, "zlib")
        for number in range(6)
    },
    **{
        f"option-{option[2:]}-{number}": functools.partial(_value, option, value)
        for option, values in _VALUES.items()
        for number, value in enumerate(values)
    },
    **{f"problem-{kind}": functools.partial(_problem, kind) for kind in _PROBLEMS},
    **{f"mask-{kind}": functools.partial(_mask, kind) for kind in _MASKS},
    **{f"content-{kind}": functools.partial(_content, kind) for kind in ("nan", "inf", "flat")},
    "over-input": _over_input,
    "into-a-file": _into_a_file,
}
"""Recipes by name."""
