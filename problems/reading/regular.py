"""Files that have an end: a pipe or a device may have none, and opening it may never return."""

from __future__ import annotations

from pathlib import Path

__all__ = ["MAX_TEXT", "check_regular", "read_text_file"]

MAX_TEXT = 1 << 30
"""Bytes of the longest text that is read, such as a problem.json with a mask in it."""


def check_regular(path: Path) -> None:
    """Refuse a pipe or device before it is opened.

    Args:
        path: Path of a file; one that does not exist is left to whoever opens it.

    Raises:
        ValueError: If it is neither a file nor a folder.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError(f"{path} is no ordinary file; copy its content to one")


def read_text_file(path: Path) -> str:
    """Read a file of text.

    Args:
        path: Path of the file.

    Returns:
        Its content.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is no ordinary file, is longer than any text that is meant, or is not
            UTF-8.
    """
    check_regular(path)
    size = path.stat().st_size
    if size > MAX_TEXT:
        raise ValueError(f"{path} has {size / 1e9:.3g} GB, which is no text")
    return path.read_text(encoding="utf-8")
