"""Large tensors in files without names, which the system may take out of memory.

A draw of 24 megapixels in colour has 288 MB, eight of them and the Krylov spaces of a solver have
more than many computers. They are written once and read in order, and a file does for that. Its
pages are in memory as long as there is room. It has no name, so that nothing is left of it whatever
ends the process, and lies in the folder for temporary files (``TMPDIR``) if none is given.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

__all__ = ["LARGE_VECTOR", "VectorList", "mapped_empty", "release"]

LARGE_VECTOR = 1 << 22
"""Entries from which on a vector is kept in a file: pictures of 1.4 megapixels in colour."""

_mapped: weakref.WeakValueDictionary[int, np.memmap] = weakref.WeakValueDictionary()


def mapped_empty(
    shape: tuple[int, ...],
    dtype: torch.dtype = torch.float32,
    folder: Path | None = None,
) -> Tensor:
    """Make a tensor whose entries lie in a file without a name.

    Args:
        shape: Its shape, without zeros.
        dtype: Its type.
        folder: Folder of the file; None for that of temporary files.

    Returns:
        The tensor on the CPU, zero everywhere. The file is gone with it.

    Raises:
        OSError: If the disk is full, or the folder cannot be written to.

    Example:
        >>> x = mapped_empty((2, 3))
        >>> x[1] = 1.0
        >>> release(x)
        >>> x.tolist()
        [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """
    kind = torch.empty(0, dtype=dtype).numpy().dtype
    with tempfile.TemporaryFile(dir=folder) as file:
        _reserve(file.fileno(), math.prod(shape) * kind.itemsize)
        array = np.memmap(file, kind, "r+", shape=shape)
    x = torch.from_numpy(array)
    _mapped[x.untyped_storage().data_ptr()] = array
    return x


def _reserve(number: int, size: int) -> None:
    """Give a file its size, at once where the system can: an error now is better than one later."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(number, 0, size)
    else:
        os.ftruncate(number, size)


def release(x: Tensor) -> None:
    """Take the pages of a tensor of :func:`mapped_empty` out of the memory of this process.

    They are read from the file again where they are needed. Nothing happens to other tensors.

    Args:
        x: Tensor, or a part of one.
    """
    array = _mapped.get(x.untyped_storage().data_ptr())
    if array is None or not hasattr(mmap, "MADV_DONTNEED"):
        return
    pages: mmap.mmap = array._mmap  # type: ignore[attr-defined]
    pages.madvise(mmap.MADV_DONTNEED)


class VectorList:
    """Vectors that are appended one by one and read in order: in memory, or large ones in files.

    Vectors that a gradient needs, and those on a GPU, stay in memory.

    Args:
        large: Entries from which on a vector is kept in a file.

    Example:
        >>> import torch
        >>> vectors = VectorList(large=3)
        >>> for x in (torch.zeros(1, 3), torch.ones(1, 3)):
        ...     vectors.append(x)
        >>> len(vectors), [x.tolist() for x in vectors]
        (2, [[[0.0, 0.0, 0.0]], [[1.0, 1.0, 1.0]]])
    """

    def __init__(self, large: int = LARGE_VECTOR) -> None:
        self._large = large
        self._vectors: list[Tensor] = []
        self._in_files: set[int] = set()

    def append(self, x: Tensor) -> None:
        """Keep one more vector.

        Args:
            x: The vector, which must not be changed afterwards.
        """
        if x.device.type == "cpu" and not x.requires_grad and x.numel() >= self._large:
            kept = mapped_empty(tuple(x.shape), x.dtype)
            kept.copy_(x)
            release(kept)
            x = kept
            self._in_files.add(len(self._vectors))
        self._vectors.append(x)

    def __len__(self) -> int:
        return len(self._vectors)

    def __iter__(self) -> Iterator[Tensor]:
        """Go through the vectors; each is in memory until the next one is asked for."""
        for i, x in enumerate(self._vectors):
            yield x
            if i in self._in_files:  # others may have no storage, as within torch.func
                release(x)
