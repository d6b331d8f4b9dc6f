"""White noise that belongs to places: a window of a picture has its part of one large field.

Windows that overlap then have the same noise where they do, in whatever order and process they are
computed, so that draws of neighbours fit each other. The field is made of blocks, each with a seed
of its own, of which a window makes those that it touches.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["PlacedNoise", "Site", "current_noise", "placed_noise"]

_BLOCK = 64

_current: ContextVar[PlacedNoise | None] = ContextVar("placed_noise", default=None)


@dataclass(frozen=True)
class Site:
    """Where a window lies in a picture.

    Args:
        sides: Height and width of the window.
        origin: Row and column of its first pixel in the picture.
    """

    sides: tuple[int, int]
    origin: tuple[int, int]


class PlacedNoise:
    """The noise of one window.

    The k-th numbers that are asked for with one generator are the window's part of the k-th field
    of the generator's seed.

    Args:
        sites: Where tensors with these sides lie: those of x, and those of y where they differ.
            Others are drawn from their generators as usual.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> left, right = (PlacedNoise((Site((80, 90), (0, at)),)) for at in (0, 70))
        >>> a, b = (one.draw((3, 80, 90), g, torch.float32) for one in (left, right))
        >>> torch.equal(a[..., 70:], b[..., :20])
        True
    """

    def __init__(self, sites: Sequence[Site]) -> None:
        self._sites = tuple(sites)
        self._asked: Counter[tuple[int, int]] = Counter()

    def draw(
        self, shape: tuple[int, ...], generator: torch.Generator | None, dtype: torch.dtype
    ) -> Tensor | None:
        """Draw the next numbers.

        Args:
            shape: Shape (..., H, W).
            generator: Its seed says which fields; it is not used up.
            dtype: Floating type of the numbers.

        Returns:
            Standard normal numbers on the CPU; None where no site has these sides, or without a
            generator.
        """
        kind = next((i for i, s in enumerate(self._sites) if s.sides == tuple(shape[-2:])), None)
        if kind is None or generator is None:
            return None
        seed = generator.initial_seed()
        field = (seed % 2**64, kind, self._asked[seed, kind])
        self._asked[seed, kind] += 1
        top, left = self._sites[kind].origin
        height, width = shape[-2:]
        leading = torch.Size(shape[:-2])
        out = torch.empty(leading.numel(), height, width, dtype=dtype)
        rows = range(top // _BLOCK, (top + height - 1) // _BLOCK + 1)
        columns = range(left // _BLOCK, (left + width - 1) // _BLOCK + 1)
        for i, j in itertools.product(rows, columns):
            block = _block((*field, i, j), len(out), dtype)
            y, x = i * _BLOCK - top, j * _BLOCK - left
            down = slice(max(y, 0), min(y + _BLOCK, height))
            across = slice(max(x, 0), min(x + _BLOCK, width))
            part = block[:, down.start - y : down.stop - y, across.start - x : across.stop - x]
            out[:, down, across] = part
        return out.reshape(shape)


def _block(entropy: tuple[int, ...], count: int, dtype: torch.dtype) -> Tensor:
    seed = int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((count, _BLOCK, _BLOCK), generator=generator, dtype=dtype)


def current_noise() -> PlacedNoise | None:
    """Give the noise of :func:`placed_noise`; None outside of it."""
    return _current.get()


@contextmanager
def placed_noise(noise: PlacedNoise) -> Iterator[None]:
    """Let all random numbers of this block that have the sides of its sites belong to places.

    Args:
        noise: The noise of a window.

    Yields:
        Nothing.
    """
    token = _current.set(noise)
    try:
        yield
    finally:
        _current.reset(token)
