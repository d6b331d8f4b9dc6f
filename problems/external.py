"""Problems from the outside: a mask that somebody painted, a kernel that somebody measured, the physics of another library."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from problems.operators.base import Operator, Shape
from problems.operators.function import LinearFunction, NonlinearFunction

__all__ = ["from_deepinv", "read_kernel", "read_mask"]


def _read_picture(path: Path) -> np.ndarray:
    """(H, W) grey in [0, 1], upright, without alpha; 16-bit and float files keep their depth."""
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            deep = image.mode.startswith(("I", "F"))
            values = np.asarray(
                image if deep else image.convert("RGB").convert("L"), dtype=np.float64
            )
    except FileNotFoundError:
        raise ValueError(f"there is no file {path}") from None
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:
        raise ValueError(f"cannot read {path} as an image: {_first_line(error)}") from None
    return values / (max(values.max(), 1e-300) if image.mode == "F" else 65535.0 if deep else 255.0)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _read_grey(path: Path, key: str | None) -> np.ndarray:
    """A 2-D array from .npy, from a variable of .npz or .mat, or from a picture as grey."""
    if path.suffix not in (".npy", ".npz", ".mat"):
        return _read_picture(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        content = _load(path)
    except (
        Exception
    ) as error:  # on a damaged file the readers of numpy and scipy raise whatever they stumble over
        raise ValueError(f"cannot read {path}: {_first_line(error)}") from None
    fitting = [name for name in content if key in (None, name) or path.suffix == ".npy"]
    if len(fitting) != 1:
        raise ValueError(f"{path} holds {', '.join(content) or 'nothing'}; name one of them as key")
    return content[fitting[0]]


def _load(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name."""
    if path.suffix == ".npy":
        return {path.stem: np.load(path, allow_pickle=False)}
    if path.suffix == ".mat":
        from scipy.io import loadmat

        return {name: value for name, value in loadmat(path).items() if not name.startswith("__")}
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def read_mask(
    path: str | Path,
    size: tuple[int, int] | None = None,
    key: str | None = None,
    white: Literal["missing", "observed"] = "missing",
) -> Tensor:
    """(H, W) bool, True where observed. In a picture ``white`` is missing, as in painting programs, or observed; in an array 1 is observed.

    size: (H, W) that it must have. key: the name of the variable in a .npz or .mat file that holds several.
    """
    path = Path(path)
    array = _read_grey(path, key)
    if array.ndim != 2:
        raise ValueError(f"the mask {path} must have two axes, got shape {array.shape}")
    if size is not None and array.shape != tuple(size):
        height, width = array.shape
        raise ValueError(
            f"the mask {path} is {width}x{height}, the image is {size[1]}x{size[0]}; they must be the same size"
        )
    if path.suffix in (".npy", ".npz", ".mat"):
        if not ((array == 0) | (array == 1)).all():
            raise ValueError(
                f"the mask {path} is not binary: 1 where a pixel is observed, 0 where it is missing"
            )
        return torch.from_numpy(np.ascontiguousarray(array != 0))
    if ((array > 0.25) & (array < 0.75)).mean() > 0.01:
        raise ValueError(
            f"the mask {path} is not black and white: paint what is {white} in white, the rest in black"
        )
    return torch.from_numpy(
        np.ascontiguousarray(array > 0.5 if white == "observed" else array < 0.5)
    )


def read_kernel(path: str | Path, key: str | None = None) -> Tensor:
    """(h, w) float64, normalised to sum 1, from a picture, or a .npy, .npz or .mat file."""
    path = Path(path)
    array = np.asarray(_read_grey(path, key))
    if (
        array.ndim != 2
        or array.dtype.kind not in "buif"
        or not np.isfinite(array).all()
        or not array.sum() > 0
    ):
        raise ValueError(
            f"the kernel {path} must be a 2-D array of finite numbers with a positive sum, got {array.dtype} {array.shape}"
        )
    kernel = torch.from_numpy(array.astype(np.float64))
    return kernel / kernel.sum()


def from_deepinv(physics: Any, shape: Shape) -> Operator:
    """A ``deepinv.physics.Physics`` as an operator for x of this shape, without its noise.

    One that has ``A_adjoint`` is taken to be linear. Its adjoint is made from its ``A`` by differentiation all the same, so that it is
    the adjoint.
    """
    if not callable(getattr(physics, "A", None)):
        raise ValueError(f"a deepinv Physics has a method A; {type(physics).__name__} has none")

    def apply(x: Tensor) -> Tensor:
        y = physics.A(x)
        if not isinstance(y, Tensor):
            raise ValueError(
                f"{type(physics).__name__}.A gives a {type(y).__name__}, not one tensor; wrap its parts one by one"
            )
        return y

    kind: Callable[..., Operator] = (
        LinearFunction if hasattr(physics, "A_adjoint") else NonlinearFunction
    )
    return kind(apply, tuple(shape))
