"""Blur kernels from pictures and arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from problems.reading.arrays import SUFFIXES, read_array_file
from problems.reading.pictures import read_picture

__all__ = ["read_kernel"]

KEY = "the argument key, --key NAME on the command line"
"""How an array of a file is named, for errors."""

_LUMA = (0.299, 0.587, 0.114)


def read_kernel(path: str | Path, key: str | None = None) -> Tensor:
    """Read a blur kernel from a picture or an array and normalise its sum to 1.

    The range of the values does not matter. A colour picture is read as the luma of Rec. 601.

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
    if path.suffix.lower() in SUFFIXES:
        array = read_array_file(path, key, KEY)
    else:
        array = read_picture(path).values
        array = array.astype(np.float64) @ _LUMA if array.ndim == 3 else array
    total = 0.0
    if array.ndim == 2 and array.dtype.kind in "buif" and np.isfinite(array).all():
        array = array.astype(np.float64)
        array /= max(np.abs(array).max(), np.finfo(np.float64).tiny)  # the sum cannot overflow
        total = array.sum()
    if not total > 0:
        raise ValueError(
            f"the kernel {path} must be a 2-D array of finite numbers with a positive sum, "
            f"got {array.dtype} {array.shape}"
        )
    return torch.from_numpy(array / total)
