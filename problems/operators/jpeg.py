"""JPEG compression: the image as it is decoded from a file of a given quality.

Baseline JPEG as libjpeg computes it: Y'CbCr, chroma halved by averaging if asked for, 8x8 DCT,
quantisation by the standard tables scaled with the quality, and back, with the triangular filter by
which libjpeg upsamples the chroma. Images have many flat parts, in which sums fall exactly on
halves. Every rounding therefore breaks ties as libjpeg does, including those within its DCT
("islow"): in float64 the bytes are those of libjpeg. kornia's codec smooths the rounding and the
tables so that gradients flow, and so its output is not that of a JPEG; here the values are exact
and the gradient passes straight through each rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from problems.operators.base import Operator, Shape
from problems.operators.pointwise import straight_through

__all__ = ["JPEG"]

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

    Its ``vjp`` is that of the same chain without the roundings.

    Args:
        quality: Quality of the file, a whole number from 1 to 100.
        subsampling: Store the chroma at half the size (4:2:0).

    Raises:
        ValueError: If the quality is not a whole number from 1 to 100.

    Example:
        >>> import torch
        >>> from problems import JPEG
        >>> x = torch.linspace(-1, 1, 256).reshape(1, 1, 16, 16)
        >>> low, high = (float((JPEG(q).apply(x) - x).abs().mean()) for q in (10, 90))
        >>> low > high
        True
    """

    quality: int
    subsampling: bool = True

    def __post_init__(self) -> None:
        if not float(self.quality).is_integer() or not 1 <= self.quality <= 100:
            raise ValueError(
                f"the quality of a JPEG is a whole number from 1 to 100, got {self.quality}"
            )
        object.__setattr__(self, "quality", int(self.quality))

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
            Two qualities, with and without subsampling, by name; none unless C is 1 or 3.
        """
        return (
            {"jpeg-20": cls(20), "jpeg-90": cls(90, subsampling=False)}
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

    def _table(self, text: str, like: Tensor) -> Tensor:
        base = torch.tensor([int(n) for n in text.split()], dtype=torch.float64).reshape(8, 8)
        scale = 5000 // self.quality if self.quality < 50 else 200 - 2 * self.quality
        return ((base * scale + 50) / 100).floor().clamp(1, 255).to(like)

    def _through(self, plane: Tensor, table: str) -> Tensor:
        """Quantise one plane (B, H, W) on 0..255; its sides are padded to multiples of 8."""
        height, width = plane.shape[-2:]
        blocks = rearrange(_filled(plane, 8, 8) - 128, "b (i r) (j c) -> b i j r c", r=8, c=8)
        q, D = self._table(table, plane), _dct(plane)
        eightfold = _whole(D @ _whole(4 * blocks @ D.T) / 4)
        level = (eightfold.abs() / (8 * q) + 0.5).floor() * eightfold.sign()
        coefficients = straight_through(level * q, eightfold / 8)
        back = _byte(_whole(4 * D.T @ coefficients) @ D / 32 + 128)
        return rearrange(back, "b i j r c -> b (i r) (j c)")[:, :height, :width]

    def _apply(self, x: Tensor) -> Tensor:
        pixels = _byte((x + 1) * 127.5)
        if x.shape[1] == 1:
            return self._through(pixels[:, 0], _LUMA)[:, None] / 127.5 - 1
        shift = torch.tensor([0.0, 128.0, 128.0], dtype=x.dtype, device=x.device)[:, None, None]
        ycc = torch.einsum("ij,bjhw->bihw", _YCC.to(x), pixels) + shift
        planes = [self._through(_byte(ycc[:, 0]), _LUMA)]
        for chroma in ycc[:, 1:].unbind(1):
            plane = _byte(chroma, down=torch.ones_like(chroma[0, 0], dtype=torch.bool))
            planes.append(
                self._coarse(plane) if self.subsampling else self._through(plane, _CHROMA)
            )
        return (
            _byte(torch.einsum("ij,bjhw->bihw", _RGB.to(x), torch.stack(planes, 1) - shift)) / 127.5
            - 1
        )

    def _coarse(self, plane: Tensor) -> Tensor:
        """Quantise a chroma plane (B, H, W) at half its size."""
        height, width = plane.shape[-2:]
        means = F.avg_pool2d(_filled(plane, 2, 16)[:, None], 2)[:, 0]
        half = self._through(_byte(means, down=_even(means)), _CHROMA)[
            :, : -(-height // 2), : -(-width // 2)
        ]
        return _doubled(half)[:, :height, :width]


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


def _doubled(plane: Tensor) -> Tensor:
    """Upsample by 2: on each axis a new pixel is 3/4 of the nearest old one and 1/4 of the next."""
    if plane.shape[-1] <= 2:  # libjpeg does not filter such narrow planes
        return plane.repeat_interleave(2, 1).repeat_interleave(2, 2)
    for axis in (1, 2):
        n = plane.shape[axis]
        before = torch.cat([plane.narrow(axis, 0, 1), plane.narrow(axis, 0, n - 1)], axis)
        after = torch.cat([plane.narrow(axis, 1, n - 1), plane.narrow(axis, n - 1, 1)], axis)
        pair = torch.stack([(3 * plane + before) / 4, (3 * plane + after) / 4], axis + 1)
        plane = pair.flatten(axis, axis + 1)
    return _byte(plane, down=~_even(plane))
