"""From what a user says on the command line to a measurement operator."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from problems import Blur, GaussianBlur, Inpainting, LinearOperator, MotionBlur, SuperResolution, box_mask, random_mask
from scoresde.errors import InputError
from scoresde.images import read_array

__all__ = ["PROBLEMS", "ProblemOptions", "as_input_error", "build_operator", "numbers"]

PROBLEMS = {
    "inpaint": "missing pixels: --mask FILE (white is missing), --box TOP,LEFT,HEIGHT,WIDTH, --random FRACTION, or transparency",
    "deblur": "known blur: --kernel FILE, --gaussian STD, --motion LENGTH,ANGLE",
    "super-resolve": "a small picture: --scale FACTOR, --filter bicubic|average",
}


@dataclass(frozen=True)
class ProblemOptions:
    """The options of ``scoresde restore`` that describe the damage."""

    problem: str
    mask: Path | None = None
    box: str | None = None
    random: float | None = None
    kernel: Path | None = None
    gaussian: float | None = None
    motion: str | None = None
    boundary: str = "reflect"
    scale: float = 4.0
    filter: str = "bicubic"


@contextmanager
def as_input_error() -> Iterator[None]:
    """A ValueError of the library, raised while a user's options are turned into objects, is the user's to mend."""
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        raise InputError(str(error)) from None


def numbers(text: str, kind: type, option: str, count: int | None = None) -> tuple[Any, ...]:
    """Numbers separated by commas, ``count`` of them if given."""
    try:
        values = tuple(kind(part) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or (count is not None and len(values) != count):
        what = {int: "whole numbers", float: "numbers"}[kind]
        raise InputError(f"{option} takes {'' if count is None else f'{count} '}{what} separated by commas, got {text!r}")
    return values


def build_operator(
    options: ProblemOptions, image: Path, height: int, width: int, simulate: bool, generator: torch.Generator
) -> tuple[LinearOperator, dict[str, Any]]:
    """(operator, its description). height, width: of the picture: the truth when simulating, else the measurement."""
    with as_input_error():
        if options.problem == "inpaint":
            return _inpainting(options, image, height, width, generator)
        if options.problem == "deblur":
            return _blur(options)
        if options.problem == "super-resolve":
            shape = (height, width) if simulate else None
            description = {"problem": "super-resolve", "scale": options.scale, "filter": options.filter}
            return SuperResolution(options.scale, options.filter, shape), description  # type: ignore[arg-type]
    raise InputError(f"unknown problem {options.problem!r}; known: {', '.join(PROBLEMS)}")


def _one_of(options: ProblemOptions, names: tuple[str, ...], otherwise: str) -> str | None:
    given = [name for name in names if getattr(options, name) is not None]
    if len(given) > 1:
        raise InputError(f"--{given[0]} and --{given[1]} exclude each other; give one")
    if not given and otherwise:
        raise InputError(otherwise)
    return given[0] if given else None


def _numbers(text: str, name: str, form: str, kind: type = float) -> list[Any]:
    try:
        values = [kind(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != len(form.split(",")):
        raise InputError(f"--{name} takes {form}, got {text!r}")
    return values


def _inpainting(
    options: ProblemOptions, image: Path, height: int, width: int, generator: torch.Generator
) -> tuple[LinearOperator, dict[str, Any]]:
    choice = _one_of(options, ("mask", "box", "random"), "")
    detail: Any = None
    if choice == "mask":
        assert options.mask is not None
        observed, detail = _read_mask(options.mask, height, width), str(options.mask)
    elif choice == "box":
        detail = _numbers(options.box or "", "box", "TOP,LEFT,HEIGHT,WIDTH", int)
        observed = box_mask(height, width, *detail)
    elif choice == "random":
        detail = options.random
        observed = random_mask(height, width, float(options.random or 0.0), generator)
    else:
        alpha = _read_transparency(image)
        if alpha is None:
            raise InputError("inpaint needs --mask FILE (white is missing), --box TOP,LEFT,HEIGHT,WIDTH or --random FRACTION")
        choice, observed = "transparency", alpha
    missing = 1 - observed.double().mean().item()
    return Inpainting(observed), {"problem": "inpaint", "by": choice, "detail": detail, "missing": missing}


def _read_mask(path: Path, height: int, width: int) -> Tensor:
    """(H, W), True where observed. White is missing, as in painting programs."""
    array = read_array(path)
    grey = torch.from_numpy(array if array.ndim == 2 else array.mean(2))
    if tuple(grey.shape) != (height, width):
        raise InputError(f"the mask {path} is {grey.shape[1]}x{grey.shape[0]}, the image is {width}x{height}; they must be the same size")
    if ((grey > 0.25) & (grey < 0.75)).double().mean() > 0.01:
        raise InputError(f"the mask {path} is not black and white: paint what is missing in white, the rest in black")
    return grey < 0.5


def _read_transparency(path: Path) -> Tensor | None:
    """(H, W), True where opaque; None if nothing is transparent."""
    from PIL import ImageOps

    with Image.open(path) as file:
        if "A" not in file.getbands() and "transparency" not in file.info:
            return None
        alpha = torch.from_numpy(np.array(ImageOps.exif_transpose(file).convert("RGBA"))[..., 3])
    return None if bool((alpha >= 128).all()) else alpha >= 128


def _blur(options: ProblemOptions) -> tuple[LinearOperator, dict[str, Any]]:
    choice = _one_of(options, ("kernel", "gaussian", "motion"), "deblur needs --kernel FILE, --gaussian STD or --motion LENGTH,ANGLE")
    description: dict[str, Any] = {"problem": "deblur", "by": choice, "boundary": options.boundary}
    boundary: Any = options.boundary
    if choice == "gaussian":
        return GaussianBlur(options.gaussian or 0.0, boundary), description | {"std": options.gaussian}
    if choice == "motion":
        length, angle = _numbers(options.motion or "", "motion", "LENGTH,ANGLE")
        return MotionBlur(int(length), angle, boundary), description | {"length": int(length), "angle": angle}
    assert options.kernel is not None
    return Blur(_read_kernel(options.kernel), boundary), description | {"kernel": str(options.kernel)}


def _read_kernel(path: Path) -> Tensor:
    """(h, w), normalised to sum 1, from a picture or a .npy file."""
    if path.suffix == ".npy":
        try:
            array = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"cannot read the kernel {path}: {str(error).splitlines()[0]}") from None
    else:
        array = read_array(path)
        array = array if array.ndim == 2 else array.mean(2)
    kernel = torch.from_numpy(np.asarray(array)).double()
    if kernel.ndim != 2 or not torch.isfinite(kernel).all() or not kernel.sum() > 0:
        raise InputError(f"the kernel {path} must be a 2-D array of finite numbers with a positive sum, got shape {tuple(kernel.shape)}")
    return kernel / kernel.sum()
