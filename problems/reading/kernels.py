"""Blur kernels from pictures and arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from problems.reading.pictures import read_picture
from problems.reading.sources import read_whole_array

__all__ = ["read_kernel"]

KEY = "the argument key, --key NAME on the command line"
"""How an array of a file is named, for errors."""

_LUMA = (0.299, 0.587, 0.114)


def read_kernel(path: str | Path, key: str | None = None) -> Tensor:
    """Read a blur kernel from a picture or an array and normalise its sum to 1.

    The range of the values does not matter. A colour picture is read as the luma of Rec. 601. An
    array (3, h, w), or (h, w, 3), is one kernel per channel, as lenses whose colours differ have
    them; each of them gets the sum 1, so that white stays white.

    Args:
        path: Picture, .npy, .npz or .mat file, or a file that
            :func:`problems.reading.sources.open_source` opens, such as the FITS of a telescope.
        key: Name of the array in a file that holds several; None if it holds one.

    Returns:
        Kernel (h, w), or (3, h, w) with one per channel, float64.

    Raises:
        ValueError: If the file cannot be read, or does not hold finite numbers of such a shape,
            with a positive sum.

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
    stored = read_whole_array(path, key, KEY)
    if stored is not None:
        array = _channels_first(stored)
    else:
        array = read_picture(path).values
        array = array.astype(np.float64) @ _LUMA if array.ndim == 3 else array
    total = np.zeros(1)
    known = array.ndim == 2 or (array.ndim == 3 and len(array) == 3)
    if known and array.dtype.kind in "buif" and np.isfinite(array).all():
        array = array.astype(np.float64)
        # the sum cannot overflow
        array /= np.maximum(np.abs(array).max((-2, -1), keepdims=True), np.finfo(np.float64).tiny)
        total = array.sum((-2, -1), keepdims=True)
    if not (total > 0).all():
        raise ValueError(
            f"the kernel {path} must be an array (h, w) of finite numbers with a positive sum, or "
            f"(3, h, w) with one kernel per channel, got {array.dtype} {array.shape}"
        )
    return torch.from_numpy(array / total)


def _channels_first(array: np.ndarray) -> np.ndarray:
    """(h, w) or (3, h, w) of the usual orders of axes; others as they are.

    An array (3, h, 3) is taken for (3, h, w), as arrays of pictures are.
    """
    if array.ndim == 3 and array.shape[0] == 1:
        return array.reshape(array.shape[1:])
    if array.ndim == 3 and array.shape[-1] == 1:
        return array.reshape(array.shape[:-1])
    if array.ndim == 3 and array.shape[0] != 3 and array.shape[-1] == 3:
        return np.moveaxis(array, -1, 0)
    return array
