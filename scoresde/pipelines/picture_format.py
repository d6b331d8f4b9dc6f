"""How restored pictures are written: format, depth, values, and what belongs to the picture.

By default they are like the file that was restored: of its format (PNG or TIFF), its depth, and in
its own values, with its profile, resolution and opacity. A number type that differs from that of
the file has black and white at the ends of its scale, except floating-point numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from problems import Inpainting, Operator
from problems.checks import unknown
from scoresde.data.images import row_blocks, to_uint8
from scoresde.data.picture_files import PICTURE_SUFFIXES, write_pixels
from scoresde.errors import InputError
from scoresde.pipelines.inputs import Input
from scoresde.pipelines.settings import PICTURE_FORMATS

__all__ = ["PictureFormat", "choose_format", "destination"]

_GREY = b"GRAY"


@dataclass(frozen=True)
class PictureFormat:
    """How a picture on [-1, 1] is written.

    Args:
        name: Name in :data:`scoresde.pipelines.settings.PICTURE_FORMATS`.
        black: Value of black in the files.
        white: Value of white in the files.
        profile: ICC profile of the values.
        resolution: Pixels per inch along the width and along the height.
        alpha: Opacity (H, W) on [0, 1].

    Example:
        >>> import torch
        >>> PictureFormat("tiff16", 0, 4095).pixels(torch.tensor([[[-1.0, 0.0, 1.0, 1.1]]]))
        array([[   0, 2048, 4095, 4300]], dtype=uint16)
    """

    name: str = "png"
    black: float = 0.0
    white: float = 255.0
    profile: bytes | None = None
    resolution: tuple[float, float] | None = None
    alpha: np.ndarray | None = None

    @property
    def suffix(self) -> str:
        """Suffix of the files."""
        return PICTURE_FORMATS[self.name][0]

    @property
    def dtype(self) -> np.dtype:
        """Number type of the pixels."""
        return np.dtype(PICTURE_FORMATS[self.name][1])

    def report(self) -> dict[str, Any]:
        """Describe in plain values how the pictures are written."""
        return {
            "format": self.name,
            "black": self.black,
            "white": self.white,
            "profile": self.profile is not None,
            "alpha": self.alpha is not None,
            "resolution": None if self.resolution is None else list(self.resolution),
        }

    def pixels(self, x: Tensor) -> np.ndarray:
        """Convert a picture to the values of the files.

        Args:
            x: Picture (C, H, W) with C = 1 or 3; -1 is black, 1 is white.

        Returns:
            Pixels (H, W) or (H, W, 3), rounded, and clipped at the ends of their number type.
        """
        if self.dtype == np.uint8 and (self.black, self.white) == (0.0, 255.0):
            return to_uint8(x)
        channels, height, width = x.shape
        pixels = np.empty((height, width, channels), self.dtype)
        for rows in row_blocks(x.shape):  # in double precision, of a few rows at a time
            unit = (x[:, rows].detach().cpu().double() + 1) / 2
            values = (self.black + unit * (self.white - self.black)).permute(1, 2, 0).numpy()
            if self.dtype.kind == "u":
                values = np.rint(values).clip(0, np.iinfo(self.dtype).max)
            pixels[rows] = values
        return pixels[..., 0] if channels == 1 else pixels

    def write(self, x: Tensor, path: Path) -> None:
        """Write a picture.

        Args:
            x: Picture (C, H, W) with C = 1 or 3; -1 is black, 1 is white.
            path: Path of the file, with the suffix of the format.

        Raises:
            InputError: If the file cannot be written.
        """
        profile = self.profile
        if profile is not None and (profile[16:20] == _GREY) != (len(x) == 1):
            profile = None  # of the colours of a grey picture the profile says nothing
        fits = self.alpha is not None and self.alpha.shape == tuple(x.shape[-2:])
        full = self.dtype.kind == "u" and (self.black, self.white) == (0, np.iinfo(self.dtype).max)
        write_pixels(
            self.pixels(x),
            path,
            alpha=self.alpha if fits else None,
            profile=profile,
            resolution=self.resolution,
            value_range=None if full else (self.black, self.white),
        )


def destination(out: Path) -> tuple[Path, Path | None]:
    """Tell a folder from a file for the picture alone.

    Args:
        out: What was given: a folder; or a file that ends in .png, .tif or .tiff, for the mean.

    Returns:
        The folder of the run, which for a file is that of its name without the suffix; and the
        file.

    Raises:
        InputError: If it is a picture of a format that loses bits.

    Example:
        >>> destination(Path("results/scan.tif"))
        (PosixPath('results/scan'), PosixPath('results/scan.tif'))
        >>> destination(Path("results"))
        (PosixPath('results'), None)
    """
    from PIL import Image

    suffix = out.suffix.lower()
    if out.is_dir() or suffix not in Image.registered_extensions():
        return out, None
    if suffix not in PICTURE_SUFFIXES:
        raise InputError(
            f"--out takes a folder, or a file that ends in {', '.join(PICTURE_SUFFIXES)}, for the "
            f"mean; got {out}"
        )
    return out.with_suffix(""), out


def choose_format(
    name: str | None, given: Input, operator: Operator, size: tuple[int, int], file: Path | None
) -> PictureFormat:
    """Decide how restored pictures are written.

    Args:
        name: A name in :data:`scoresde.pipelines.settings.PICTURE_FORMATS`; None to be like the
            file.
        given: The file that is restored.
        operator: How the picture was measured.
        size: Height and width of the result.
        file: File that was asked for in the place of a folder; its suffix decides too.

    Returns:
        The format.

    Raises:
        InputError: If the name is unknown, or contradicts the file.
    """
    if name is not None and name not in PICTURE_FORMATS:
        raise InputError(unknown("picture format", name, PICTURE_FORMATS))
    container = None if file is None else PICTURE_SUFFIXES[file.suffix.lower()]
    chosen = _like(given, container) if name is None else name
    if container is not None and PICTURE_SUFFIXES[PICTURE_FORMATS[chosen][0]] != container:
        raise InputError(f"--format {chosen} does not go into {file}; change one of them")
    dtype = np.dtype(PICTURE_FORMATS[chosen][1])
    picture = given.file
    if picture is None:
        ends = (-1.0, 1.0) if dtype.kind == "f" else (0.0, float(np.iinfo(dtype).max))
        return PictureFormat(chosen, *ends)
    own = dtype.kind == "f" or (dtype == picture.values.dtype and picture.full_scale is None)
    ends = (given.range.low, given.range.high) if own else (0.0, _top(dtype))
    resolution = picture.resolution
    if resolution is not None and size != picture.size:
        ratios = size[1] / picture.size[1], size[0] / picture.size[0]
        resolution = resolution[0] * ratios[0], resolution[1] * ratios[1]
    alpha = None if _is_hole(operator, picture.alpha) else picture.alpha
    alpha = alpha if alpha is not None and alpha.shape == size else None
    return PictureFormat(chosen, *ends, picture.profile, resolution, alpha)


def _top(dtype: np.dtype) -> float:
    return float(np.iinfo(dtype).max)


def _like(given: Input, container: str | None) -> str:
    """The format that is like a file."""
    picture = given.file
    tiff = (picture is not None and picture.container == "TIFF") or given.source is not None
    container = container or ("TIFF" if tiff else "PNG")
    if picture is None:
        return "tiff32" if container == "TIFF" else "png"
    kind = picture.values.dtype
    if container == "PNG":
        return "png" if kind in (np.uint8, np.bool_) else "png16"
    return {1: "tiff", 2: "tiff16"}.get(kind.itemsize, "tiff32") if kind.kind in "ub" else "tiff32"


def _is_hole(operator: Operator, alpha: np.ndarray | None) -> bool:
    """Whether the transparent pixels are those that are restored."""
    if alpha is None or not isinstance(operator, Inpainting):
        return False
    seen = operator.mask.bool().cpu()
    opaque = torch.from_numpy(alpha >= 0.5)
    return seen.shape[-2:] == opaque.shape and bool((seen == opaque).all())
