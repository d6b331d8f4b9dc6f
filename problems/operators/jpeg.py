"""JPEG compression: the image as it is decoded from a file of a given quality or given tables.

Baseline JPEG as libjpeg computes it: Y'CbCr, chroma halved by averaging if asked for, 8x8 DCT,
quantisation by the tables of a file, or by the standard tables scaled with a quality, and back,
with the triangular filter by which libjpeg upsamples the chroma. Images have many flat parts, in
which sums fall exactly on halves. Every rounding therefore breaks ties as libjpeg does, including
those within its DCT ("islow"): in float64 the bytes are those of libjpeg. kornia's codec smooths
the rounding and the tables so that gradients flow, and so its output is not that of a JPEG; here
the values are exact and the gradient passes straight through each rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from problems.checks import check_choice, check_number
from problems.operators.base import Operator, Shape
from problems.operators.rounding import straight_through

__all__ = ["JPEG", "Subsampling"]

Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]
"""Chroma at full size, at half the width, or at half the width and height."""


# The tables of the standard (ITU-T T.81, annex K.1)
_LUMA = """
     16  11  10  16  24  40  51  61
     12  12  14  19  26  58  60  55
     14  13  16  24  40  57  69  56
     14  17  22  29  51  87  80  62
     18  22  37  56  68 109 103  77
     24  35  55  64  81 104 113  92
     49  64  78  87 103 121 120 101
     72  92  95  98 112 100 103  99
"""
_CHROMA = """
    17 18 24 47 99 99 99 99
    18 21 26 66 99 99 99 99
    24 26 56 99 99 99 99 99
    47 66 99 99 99 99 99 99
    99 99 99 99 99 99 99 99
    99 99 99 99 99 99 99 99
    99 99 99 99 99 99 99 99
    99 99 99 99 99 99 99 99
"""

# The left half of libjpeg's integer DCT matrix, in units of 2^-13, as the butterflies and constants
# of jfdctint.c give it
_ISLOW = """
      8192   8192   8192   8192
     11363   9633   6437   2260
     10703   4433  -4433 -10703
      9633  -2259 -11362  -6436
      8192  -8192  -8192   8192
      6437 -11362   2261   9633
      4433 -10704  10704  -4433
      2260  -6436   9633 -11363
"""

# JFIF: Y'CbCr from R'G'B', in the fixed point of libjpeg, and back
_YCC = (
    torch.tensor(
        [[19595, 38470, 7471], [-11059, -21709, 32768], [32768, -27439, -5329]], dtype=torch.float64
    )
    / 65536
)
_RGB = (
    torch.tensor(
        [[65536, 0, 91881], [65536, -22554, -46802], [65536, 116130, 0]], dtype=torch.float64
    )
    / 65536
)


@dataclass(frozen=True, eq=False, repr=False)
class JPEG(Operator):
    """JPEG compression and decompression of x, an image with 1 or 3 channels on [-1, 1].

    A file says its tables and its subsampling, not its quality. Pillow reads the tables in the
    order that is needed here: ``list(Image.open("photo.jpg").quantization.values())``. The ``vjp``
    is that of the same chain without the roundings.

    Args:
        quality: Quality of the file, a whole number from 1 to 100; None if tables are given.
        subsampling: How the chroma is stored: "4:4:4" at full size, "4:2:2" at half the width,
            "4:2:0" at half the width and height; True means "4:2:0" and False "4:4:4".
        tables: Tables of the file, 64 whole numbers from 1 to 65535 each, row by row (not in
            zigzag order): one for all planes, two for luma and chroma, or three for Y', Cb and Cr.
            An image with one channel uses the first. None for the standard tables of the quality.

    Raises:
        ValueError: If not exactly one of quality and tables is given, or a setting is not one of
            the above.

    Example:
        >>> import torch
        >>> from problems import JPEG
        >>> x = torch.linspace(-1, 1, 256).reshape(1, 1, 16, 16)
        >>> low, high = (float((JPEG(q).apply(x) - x).abs().mean()) for q in (10, 90))
        >>> low > high
        True
        >>> JPEG(subsampling="4:2:2", tables=[[16] * 64, [24] * 64])
        JPEG(quality=None, subsampling='4:2:2', tables=2 tables, 16... and 24...)
    """

    quality: int | None = None
    subsampling: bool | Subsampling = True
    tables: Sequence[Sequence[int]] | None = None

    def __post_init__(self) -> None:
        if (self.quality is None) == (self.tables is None):
            raise ValueError(
                "JPEG needs either a quality or tables, got "
                + ("neither" if self.tables is None else "both")
            )
        if self.tables is None:
            object.__setattr__(self, "quality", _whole_quality(self.quality))
        else:
            object.__setattr__(self, "tables", _whole_tables(self.tables))
        if not isinstance(self.subsampling, bool):
            check_choice("subsampling", self.subsampling, Subsampling)

    def __repr__(self) -> str:
        tables: str | None = None
        if self.tables is not None:
            starts = " and ".join(f"{table[0]}..." for table in self.tables)
            tables = f"{len(self.tables)} table{'s' * (len(self.tables) > 1)}, {starts}"
        return f"JPEG(quality={self.quality}, subsampling={self.subsampling!r}, tables={tables})"

    @property
    def quantises(self) -> bool:
        """Whether ``apply`` rounds to a grid: True."""
        return True

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build example operators.

        Args:
            shape: Shape (C, H, W) of an image.

        Returns:
            Two qualities, with and without subsampling, and the tables of a file, by name; none
            unless C is 1 or 3.
        """
        tables = ([12] * 64, [20] * 64)
        return (
            {
                "jpeg-20": cls(20),
                "jpeg-90": cls(90, subsampling=False),
                "jpeg-tables": cls(subsampling="4:2:2", tables=tables),
            }
            if shape[0] in (1, 3)
            else {}
        )

    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of y, which is that of x.

        Args:
            shape: Shape (C, H, W) of x, without the batch.

        Returns:
            The same shape.

        Raises:
            ValueError: If the image has not 1 or 3 channels.
        """
        if len(shape) != 3 or shape[0] not in (1, 3):
            raise ValueError(f"a JPEG has 1 or 3 channels, got an image of shape {tuple(shape)}")
        return shape

    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x, which is that of y.

        Args:
            shape: Shape (C, H, W) of y, without the batch.

        Returns:
            The same shape.

        Raises:
            ValueError: If the image has not 1 or 3 channels.
        """
        return self.output_shape(shape)

    @property
    def luma_table(self) -> tuple[int, ...]:
        """Steps of the quantisation of the luma, 64 numbers on 0..255, row by row."""
        table = self._table(0, torch.empty(0, dtype=torch.float64))
        return tuple(int(step) for step in table.flatten().tolist())

    @property
    def _steps(self) -> tuple[int, int]:
        """By how much the chroma is smaller than the luma, along (height, width)."""
        if isinstance(self.subsampling, bool):
            return (2, 2) if self.subsampling else (1, 1)
        steps: dict[Subsampling, tuple[int, int]] = {
            "4:4:4": (1, 1),
            "4:2:2": (1, 2),
            "4:2:0": (2, 2),
        }
        return steps[self.subsampling]

    def _table(self, plane: int, like: Tensor) -> Tensor:
        """Steps of the quantisation of a plane: 0 for Y', 1 for Cb, 2 for Cr."""
        if self.tables is not None:
            values = self.tables[min(plane, len(self.tables) - 1)]
            return torch.tensor(values, dtype=torch.float64).reshape(8, 8).to(like)
        assert self.quality is not None
        text = _CHROMA if plane else _LUMA
        base = torch.tensor([int(n) for n in text.split()], dtype=torch.float64).reshape(8, 8)
        scale = 5000 // self.quality if self.quality < 50 else 200 - 2 * self.quality
        return ((base * scale + 50) / 100).floor().clamp(1, 255).to(like)

    def _through(self, plane: Tensor, index: int) -> Tensor:
        """Quantise one plane (B, H, W) on 0..255; its sides are padded to multiples of 8."""
        height, width = plane.shape[-2:]
        blocks = rearrange(_filled(plane, 8, 8) - 128, "b (i r) (j c) -> b i j r c", r=8, c=8)
        q, D = self._table(index, plane), _dct(plane)
        eightfold = _whole(D @ _whole(4 * blocks @ D.T) / 4)
        level = (eightfold.abs() / (8 * q) + 0.5).floor() * eightfold.sign()
        coefficients = straight_through(level * q, eightfold / 8)
        back = _byte(_whole(4 * D.T @ coefficients) @ D / 32 + 128)
        return rearrange(back, "b i j r c -> b (i r) (j c)")[:, :height, :width]

    def _apply(self, x: Tensor) -> Tensor:
        pixels = _byte((x + 1) * 127.5)
        if x.shape[1] == 1:
            return self._through(pixels[:, 0], 0)[:, None] / 127.5 - 1
        shift = torch.tensor([0.0, 128.0, 128.0], dtype=x.dtype, device=x.device)[:, None, None]
        ycc = torch.einsum("ij,bjhw->bihw", _YCC.to(x), pixels) + shift
        planes = [self._through(_byte(ycc[:, 0]), 0)]
        for index, chroma in enumerate(ycc[:, 1:].unbind(1), start=1):
            plane = _byte(chroma, down=torch.ones_like(chroma[0, 0], dtype=torch.bool))
            planes.append(self._coarse(plane, index))
        return (
            _byte(torch.einsum("ij,bjhw->bihw", _RGB.to(x), torch.stack(planes, 1) - shift)) / 127.5
            - 1
        )

    def _coarse(self, plane: Tensor, index: int) -> Tensor:
        """Quantise a chroma plane (B, H, W) at the size at which it is stored."""
        rows, columns = self._steps
        if columns == 1:
            return self._through(plane, index)
        height, width = plane.shape[-2:]
        means = F.avg_pool2d(_filled(plane, rows, 16)[:, None], (rows, columns))[:, 0]
        half = self._through(_byte(means, down=_even(means)), index)[
            :, : -(-height // rows), : -(-width // columns)
        ]
        return _doubled(half, rows)[:, :height, :width]


def _whole_quality(quality: Any) -> int:
    try:
        return int(check_number(quality, "the quality", least=1, most=100, whole=True))
    except ValueError:
        raise ValueError(
            f"the quality of a JPEG is a whole number from 1 to 100, got {quality!s:.80}"
        ) from None


def _whole_tables(tables: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Check the tables and turn them into tuples."""
    if not isinstance(tables, Sequence) or not 1 <= len(tables) <= 3:
        raise ValueError(
            "the tables of a JPEG are one to three lists of 64 numbers, got "
            + (f"{len(tables)} lists" if isinstance(tables, Sequence) else type(tables).__name__)
        )
    return tuple(_whole_table(table) for table in tables)


def _whole_table(table: Sequence[int]) -> tuple[int, ...]:
    try:
        values = [float(n) for n in table]
    except (TypeError, ValueError):
        raise ValueError(
            f"a table of a JPEG has 64 whole numbers from 1 to 65535, got {table!r:.40}"
        ) from None
    wrong = [n for n in values if not (n.is_integer() and 1 <= n <= 65535)]
    if len(values) != 64 or wrong:
        raise ValueError(
            "a table of a JPEG has 64 whole numbers from 1 to 65535, got "
            + (f"{len(values)} numbers" if len(values) != 64 else f"{wrong[0]:g} in it")
        )
    return tuple(int(n) for n in values)


def _whole(x: Tensor, down: Tensor | None = None) -> Tensor:
    """Round to whole numbers; halves go up, or down where ``down`` is True."""
    value = (x + 0.5).floor()
    return straight_through(
        value if down is None else torch.where(down, (x - 0.5).ceil(), value), x
    )


def _byte(x: Tensor, down: Tensor | None = None) -> Tensor:
    return _whole(x.clamp(0, 255), down)


def _even(plane: Tensor) -> Tensor:
    """Mark the even columns, (W,)."""
    return torch.arange(plane.shape[-1], device=plane.device) % 2 == 0


def _dct(like: Tensor) -> Tensor:
    """Build sqrt(8) times the orthonormal DCT of 8 numbers, as precise as in libjpeg."""
    left = torch.tensor([int(n) for n in _ISLOW.split()], dtype=torch.float64).reshape(8, 4)
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(4)[:, None]
    return (torch.cat([left, sign * left.flip(1)], 1) / 8192).to(like)


def _filled(plane: Tensor, rows: int, columns: int) -> Tensor:
    """Repeat the last row and column until the sides are multiples of the given numbers."""
    height, width = plane.shape[-2:]
    return F.pad(plane[:, None], (0, -width % columns, 0, -height % rows), mode="replicate")[:, 0]


def _doubled(plane: Tensor, rows: int) -> Tensor:
    """Upsample by 2 along the columns, and along the rows if ``rows`` is 2.

    On each axis a new pixel is 3/4 of the nearest old one and 1/4 of the next.
    """
    if plane.shape[-1] <= 2:  # libjpeg does not filter such narrow planes
        return plane.repeat_interleave(rows, 1).repeat_interleave(2, 2)
    for axis in (1, 2) if rows == 2 else (2,):
        n = plane.shape[axis]
        before = torch.cat([plane.narrow(axis, 0, 1), plane.narrow(axis, 0, n - 1)], axis)
        after = torch.cat([plane.narrow(axis, 1, n - 1), plane.narrow(axis, n - 1, 1)], axis)
        pair = torch.stack([(3 * plane + before) / 4, (3 * plane + after) / 4], axis + 1)
        plane = pair.flatten(axis, axis + 1)
    # Halves go down and up in turn. Of the two axes together it is the odd columns whose ties go
    # down, of the columns alone the even ones.
    return _byte(plane, down=~_even(plane) if rows == 2 else _even(plane))
