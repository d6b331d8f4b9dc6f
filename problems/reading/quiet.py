"""Keep what libraries log of damaged files off the terminal: the reader says it in one line."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet_logs"]

# not astropy, whose logger must be of its own class, and which says all by warnings
_LOGGERS = ("tifffile", "nibabel.global", "nibabel", "pydicom", "h5py", "zarr")


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Silence the loggers of the libraries of the formats within a block.

    Yields:
        Nothing.

    Example:
        >>> import logging
        >>> with quiet_logs():
        ...     logging.getLogger("tifffile").isEnabledFor(logging.ERROR)
        False
    """
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)
