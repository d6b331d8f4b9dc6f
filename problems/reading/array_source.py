"""An array in a file, of which any block is read without the rest."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from problems.reading.quiet import quiet_logs
from problems.reading.refusal import RefusalError

__all__ = [
    "ArraySource",
    "closed_with",
    "closing_on_error",
    "library",
    "numbers_only",
    "short_reason",
]

Block = tuple[slice, ...]
"""A slice for each axis, of step 1."""


@dataclass(frozen=True, eq=False)
class ArraySource:
    """An array in a file, in the values of the file: slope and intercept are applied.

    Args:
        path: Path of the file.
        kind: Format and type in words, such as "FITS, 32-bit float".
        shape: Shape of the array, in the order of numpy.
        dtype: Type of the values.
        load: Reads the block of a slice for each axis.
        axes: Name of each axis, where the format states them; else an empty tuple.
        units: Unit of the values, such as "HU"; None if the file does not state it.
        stated_range: Values of black and white, if the file states them.
        window: Values of black and white of the display; they are used where a user says so.
        full_scale: White of unsigned integers if it is not the largest number of their type.
        facts: What else the file says, in plain values.
        notes: What a reader should know, a sentence each.
        frame: What a file of the same format needs beside the values; its type depends on the
            format.

    Example:
        >>> import numpy as np
        >>> values = np.arange(6).reshape(2, 3)
        >>> source = ArraySource(Path("a"), "array", (2, 3), values.dtype, values.__getitem__)
        >>> source.read((slice(0, 1), slice(1, 3))).tolist()
        [[1, 2]]
    """

    path: Path
    kind: str
    shape: tuple[int, ...]
    dtype: np.dtype
    load: Callable[[Block], np.ndarray]
    axes: tuple[str, ...] = ()
    units: str | None = None
    stated_range: tuple[float, float] | None = None
    window: tuple[float, float] | None = None
    full_scale: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    frame: Any = None

    @property
    def summary(self) -> str:
        """Axes, shape and type, for errors."""
        named = f"axes {', '.join(self.axes)}, " if self.axes else ""
        return f"{self.kind}, {named}shape {self.shape}, {self.dtype}"

    def check_memory(self, block: Block | None = None) -> None:
        """Refuse a block that is larger than the free memory: a small file can claim any shape.

        Args:
            block: A slice of step 1 for each axis; None for the whole array.

        Raises:
            RefusalError: If it does not fit.
        """
        import psutil

        block = tuple(slice(None) for _ in self.shape) if block is None else block
        sides = (len(range(*s.indices(n))) for s, n in zip(block, self.shape, strict=True))
        needed, free = math.prod(sides) * self.dtype.itemsize, psutil.virtual_memory().available
        if needed > free:
            raise RefusalError(
                f"{self.summary} takes {needed / 1e9:.3g} GB of memory, and {free / 1e9:.3g} GB "
                "are free; take a part of it"
            )

    def read(self, block: Block | None = None) -> np.ndarray:
        """Read a block.

        Args:
            block: A slice of step 1 for each axis; None for the whole array.

        Returns:
            The values, in the byte order of this machine, an array of its own.

        Raises:
            ValueError: If the file is damaged, or the block does not fit into the memory.
        """
        block = tuple(slice(None) for _ in self.shape) if block is None else block
        try:
            self.check_memory(block)
            with quiet_logs():
                values = np.array(self.load(block))
        except RefusalError as refused:
            raise ValueError(f"cannot read {self.path}: {refused}") from None
        except MemoryError:
            raise ValueError(
                f"cannot read {self.path}: {self.summary} does not fit into the memory; take a "
                "part of it"
            ) from None
        except Exception as error:  # the libraries raise errors of many types on damaged files
            raise ValueError(
                f"cannot read {self.path}: the file is damaged ({short_reason(error)}); copy it "
                "again"
            ) from None
        return values if values.dtype.isnative else values.astype(values.dtype.newbyteorder("="))


@contextmanager
def closing_on_error(file: Any) -> Iterator[None]:
    """Close a file if the block fails.

    Args:
        file: Anything with a method `close`.

    Yields:
        Nothing.
    """
    try:
        yield
    except BaseException:
        file.close()
        raise


def closed_with(source: ArraySource, file: Any) -> ArraySource:
    """Close a file when a source is no longer in use.

    Args:
        source: The source, which reads from the file.
        file: Anything with a method `close`.

    Returns:
        The source.
    """
    weakref.finalize(source, file.close)
    return source


def short_reason(error: Exception) -> str:
    """Give the first line of an error without a full stop, or its type if it has no short one.

    Args:
        error: The error.

    Returns:
        The reason.
    """
    lines = str(error).strip().splitlines()
    readable = bool(lines) and 0 < len(lines[0]) < 200  # some repeat the bytes of the file
    return lines[0].rstrip(". ") if readable else type(error).__name__


def library(name: str, what: str) -> Any:
    """Import the library of a format.

    Args:
        name: Name of the module.
        what: The format, for the error.

    Returns:
        The module.

    Raises:
        RefusalError: If it is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise RefusalError(f'{what} needs {package}: pip install "scoresde[science]"') from None


def numbers_only(dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """Check that an array holds numbers.

    Args:
        dtype: Its type.
        shape: Its shape.

    Raises:
        RefusalError: If it holds anything else, or nothing.
    """
    if dtype.kind not in "biufc":
        raise RefusalError(f"it holds {dtype} of the shape {shape}; an array of numbers is needed")
    if not shape or 0 in shape:
        raise RefusalError(f"it holds an array of the shape {shape}, without entries or axes")
