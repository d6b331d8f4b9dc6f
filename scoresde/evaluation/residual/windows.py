"""Windows of a large picture that stand for all of it.

What is said of a residual are means over its entries, and a million entries give them to a
thousandth. Of a larger picture 4 x 4 windows are looked at, evenly spaced from corner to corner:
memory is then that of the windows, however many draws there are. They are joined to one picture,
whose joints, where pixels are no neighbours, are rare.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from problems import CorrelatedNoise, Noise

__all__ = ["ENTRIES", "LARGE", "Windows"]

LARGE = 1 << 21
"""Entries from which on a picture is looked at in windows: 0.7 megapixels in colour."""

ENTRIES = 1 << 20
"""Entries of the windows, at most."""

_BANDS = 4


@dataclass(frozen=True)
class Windows:
    """Windows of pictures.

    Args:
        rows: Numbers of their rows; None for all rows.
        columns: Numbers of their columns; None for all columns.

    Example:
        >>> x = torch.zeros(1, 1, 4096, 4096)
        >>> Windows.of(x)(x).shape, Windows.of(x[..., :9, :9]).all
        (torch.Size([1, 1, 1024, 1024]), True)
    """

    rows: Tensor | None = None
    columns: Tensor | None = None

    @classmethod
    def of(cls, x: Tensor, noise: Noise | None = None) -> Windows:
        """Choose the windows of pictures.

        Args:
            x: Pictures (1, C, H, W).
            noise: Noise of them if they are measurements. Where its entries depend on one another
                or have settings of their own, everything is needed.

        Returns:
            Windows with a million entries together; everything of pictures below :data:`LARGE` and
            of what is no picture.
        """
        if x.ndim != 4 or x[0].numel() <= LARGE or not _separable(noise):
            return cls()
        channels, height, width = x.shape[1:]
        side = max(1, math.isqrt(ENTRIES // channels))
        rows = min(height, max(side, ENTRIES // channels // width))
        return cls(_bands(height, rows), _bands(width, ENTRIES // channels // rows))

    @property
    def all(self) -> bool:
        """Whether they are the whole picture."""
        return self.rows is None and self.columns is None

    def __call__(self, x: Tensor) -> Tensor:
        """Take the windows out of pictures.

        Args:
            x: Pictures (..., H, W).

        Returns:
            The windows, joined; x itself where they are everything.
        """
        for axis, index in ((-2, self.rows), (-1, self.columns)):
            x = x if index is None else x.index_select(axis, index.to(x.device))
        return x


def _bands(size: int, count: int) -> Tensor | None:
    """Numbers of about `count` of `size` rows or columns, in a few bands; None for all of them."""
    length = count // _BANDS
    if _BANDS * length >= size or length < 1:
        return None
    starts = torch.linspace(0, size - length, _BANDS).round().long()
    return (starts[:, None] + torch.arange(length)).flatten()


def _separable(noise: Noise | None) -> bool:
    if noise is None:
        return True
    if isinstance(noise, CorrelatedNoise) or "joint_density" in noise.capabilities:
        return False
    settings = vars(noise).values()
    return not any(isinstance(one, Tensor) and one.numel() > 1 for one in settings)
