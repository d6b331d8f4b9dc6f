"""Colour Netpbm files (PPM) of more than 8 bits, of which Pillow keeps 8."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

__all__ = ["read_deep_ppm"]

_GAP = rb"(?:\s|#[^\n]*\n)+"
_HEADER = re.compile(rb"P6" + 3 * (_GAP + rb"(\d{1,9})") + rb"\s")
_LONGEST_HEADER = 4096


def read_deep_ppm(path: Path) -> tuple[np.ndarray, int] | None:
    """Read a binary colour Netpbm file whose white is above 255.

    Args:
        path: A file.

    Returns:
        Samples (H, W, 3), uint16, and the value of white; None for every other file.

    Raises:
        ValueError: If its pixels end too early.
    """
    with path.open("rb") as file:
        start = file.read(_LONGEST_HEADER)
        found = _HEADER.match(start)
        if found is None or not 255 < int(found[3]) < 65536:
            return None
        width, height, white = (int(one) for one in found.groups())
        file.seek(found.end())
        data = file.read(6 * width * height)
    if len(data) < 6 * width * height:
        raise ValueError("its pixels end too early")
    return np.frombuffer(data, ">u2").reshape(height, width, 3).astype(np.uint16), white
