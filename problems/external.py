"""Readers for masks and kernels in files, and an adapter for the physics of deepinv."""

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
    """Read (H, W) grey values in [0, 1], upright, without alpha.

    16-bit and float files keep their depth.
    """
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
    """Read a 2-D array from .npy, from a variable of .npz or .mat, or from a picture as grey."""
    if path.suffix not in (".npy", ".npz", ".mat"):
        return _read_picture(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        content = _load(path)
    except Exception as error:  # on damaged files numpy and scipy raise errors of many types
        raise ValueError(f"cannot read {path}: {_first_line(error)}") from None
    fitting = [name for name in content if key in (None, name) or path.suffix == ".npy"]
    if len(fitting) != 1:
        raise ValueError(f"{path} holds {', '.join(content) or 'nothing'}; name one of them as key")
    return content[fitting[0]]


def _load(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a file by name."""
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
    """Read a mask of observed pixels from a picture or an array.

    In an array 1 means observed. In a picture ``white`` says which pixels are painted in white; by
    default the missing ones, as in painting programs.

    Args:
        path: Picture, or .npy, .npz or .mat file.
        size: Size (H, W) that the mask must have; None for any.
        key: Name of the variable in a .npz or .mat file that holds several; None if it holds one.
        white: Meaning of white in a picture, "missing" or "observed".

    Returns:
        Mask (H, W), bool, True where observed.

    Raises:
        ValueError: If the file cannot be read, the mask is not binary, or its size is wrong.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from problems import read_mask
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "mask.npy"
        ...     np.save(path, np.array([[1, 0], [1, 1]]))
        ...     read_mask(path)
        tensor([[ True, False],
                [ True,  True]])
    """
    path = Path(path)
    array = _read_grey(path, key)
    if array.ndim != 2:
        raise ValueError(f"the mask {path} must have two axes, got shape {array.shape}")
    if size is not None and array.shape != tuple(size):
        height, width = array.shape
        raise ValueError(
            f"the mask {path} is {width}x{height}, the image is {size[1]}x{size[0]}; "
            "they must be the same size"
        )
    if path.suffix in (".npy", ".npz", ".mat"):
        if not ((array == 0) | (array == 1)).all():
            raise ValueError(
                f"the mask {path} is not binary: 1 where a pixel is observed, 0 where it is missing"
            )
        return torch.from_numpy(np.ascontiguousarray(array != 0))
    if ((array > 0.25) & (array < 0.75)).mean() > 0.01:
        raise ValueError(
            f"the mask {path} is not black and white: "
            f"paint the {white} pixels white and all others black"
        )
    return torch.from_numpy(
        np.ascontiguousarray(array > 0.5 if white == "observed" else array < 0.5)
    )


def read_kernel(path: str | Path, key: str | None = None) -> Tensor:
    """Read a blur kernel from a picture or an array and normalise its sum to 1.

    Args:
        path: Picture, or .npy, .npz or .mat file.
        key: Name of the variable in a .npz or .mat file that holds several; None if it holds one.

    Returns:
        Kernel (h, w), float64.

    Raises:
        ValueError: If the file cannot be read or does not hold a 2-D array of finite numbers with a
            positive sum.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from problems import read_kernel
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "kernel.npy"
        ...     np.save(path, np.array([[1.0, 2.0, 1.0]]))
        ...     read_kernel(path)
        tensor([[0.2500, 0.5000, 0.2500]], dtype=torch.float64)
    """
    path = Path(path)
    array = np.asarray(_read_grey(path, key))
    if (
        array.ndim != 2
        or array.dtype.kind not in "buif"
        or not np.isfinite(array).all()
        or not array.sum() > 0
    ):
        raise ValueError(
            f"the kernel {path} must be a 2-D array of finite numbers with a positive sum, "
            f"got {array.dtype} {array.shape}"
        )
    kernel = torch.from_numpy(array.astype(np.float64))
    return kernel / kernel.sum()


def from_deepinv(physics: Any, shape: Shape) -> Operator:
    """Turn a ``deepinv.physics.Physics`` into an operator, without its noise.

    A physics that has ``A_adjoint`` is taken to be linear. Its ``A_adjoint`` is not used: the
    adjoint is made from its ``A`` by differentiation, so that it is exact.

    Args:
        physics: Object with a method ``A`` that maps a batch to one tensor.
        shape: Shape (C, H, W) of x, without the batch.

    Returns:
        ``LinearFunction`` if the physics has ``A_adjoint``, else ``NonlinearFunction``.

    Raises:
        ValueError: If the physics has no method ``A``, ``A`` gives anything but one tensor, or
            it has ``A_adjoint`` and ``A`` is not linear.
    """
    if not callable(getattr(physics, "A", None)):
        raise ValueError(f"a deepinv Physics has a method A; {type(physics).__name__} has none")

    def apply(x: Tensor) -> Tensor:
        y = physics.A(x)
        if not isinstance(y, Tensor):
            raise ValueError(
                f"{type(physics).__name__}.A gives a {type(y).__name__}, not one tensor; "
                "wrap its parts one by one"
            )
        return y

    kind: Callable[..., Operator] = (
        LinearFunction if hasattr(physics, "A_adjoint") else NonlinearFunction
    )
    return kind(apply, tuple(shape))
