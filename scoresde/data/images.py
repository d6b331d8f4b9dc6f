"""Images in any format of Pillow, to and from float tensors (C, H, W) on [-1, 1]."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from problems.reading.pictures import Picture, read_picture
from problems.reading.ranges import GivenRange, ValueRange, looks_dark, picture_range
from scoresde.errors import InputError, as_input_error
from scoresde.files import write_atomically

__all__ = [
    "ReadImage",
    "centre_crop",
    "from_bytes",
    "open_image",
    "read_image",
    "row_blocks",
    "to_bytes",
    "to_uint8",
    "write_image",
]


@dataclass(frozen=True)
class ReadImage:
    """A picture and how it was read.

    Args:
        x: Image (C, H, W) with C = 1 or 3, float32, on [-1, 1].
        range: The values of black and white in the file.
        picture: The picture as its file holds it.
        notes: What a reader should know, a sentence each.
    """

    x: Tensor
    range: ValueRange
    picture: Picture
    notes: tuple[str, ...]

    @property
    def summary(self) -> str:
        """Format, range and its rule, in a line."""
        return f"{self.picture.kind}, black to white {self.range}"


def open_image(
    path: str | Path,
    value_range: GivenRange | None = None,
    *,
    allow_missing: bool = False,
    colours: Literal["sRGB", "file"] = "sRGB",
) -> ReadImage:
    """Read an image and tell how its values were understood.

    The image is turned upright, and alpha is left to the picture: transparent pixels keep their
    colour. How black and white are found is told in
    :func:`problems.reading.ranges.picture_range`.

    Args:
        path: Path of the image, in any format that Pillow reads, or a TIFF of any sample type.
        value_range: Black and white; None to go by the type and the values.
        allow_missing: Keep pixels that are NaN or infinite, as NaN.
        colours: "sRGB" to convert colours of other profiles; "file" for the values of the file,
            whose profile is that of the picture.

    Returns:
        The image, its range, and notes.

    Raises:
        InputError: If the file is missing, is not an image, has pixels that are NaN or infinite, or
            if its range is not known.
    """
    with as_input_error():
        picture = read_picture(path, colours)
        finite = np.isfinite(picture.values)
        if not finite.any():
            raise InputError(f"{path} has no finite values")
        if not finite.all() and not allow_missing:
            raise InputError(
                f"{path} has {int((~finite).sum())} values that are NaN or infinite; mark these "
                "pixels in a --mask, or fill them"
            )
        decided = picture_range(
            picture.values,
            str(path),
            given=value_range,
            stated=picture.stated_range,
            full_scale=picture.full_scale,
        )
    array = decided.to_unit(picture.values)
    array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    x = torch.from_numpy(np.ascontiguousarray(array))
    if not finite.all():
        x[~torch.isfinite(x)] = torch.nan
    dark = looks_dark(picture.values, decided, picture.stated_range)
    return ReadImage(x, decided, picture, (*picture.notes, *([dark] if dark else [])))


def read_image(path: str | Path, value_range: GivenRange | None = None) -> Tensor:
    """Read an image as a tensor on [-1, 1].

    Args:
        path: Path of the image, in any format that Pillow reads, or a TIFF of any sample type.
        value_range: Black and white; None to go by the type and the values.

    Returns:
        Image, shape (C, H, W) with C = 1 or 3, float32, on [-1, 1].

    Raises:
        InputError: If the file is missing, is not an image, has pixels that are NaN or infinite, or
            if its range is not known.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from scoresde.data.images import read_image, write_image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_image(torch.tensor([[[-1.0, 1.0]]]), Path(folder) / "two-pixels.png")
        ...     read_image(Path(folder) / "two-pixels.png")
        tensor([[[-1.,  1.]]])
    """
    return open_image(path, value_range).x


def to_bytes(x: Tensor) -> Tensor:
    """Convert values on [-1, 1] to grey levels, clipped and rounded.

    Args:
        x: Values on [-1, 1], any shape.

    Returns:
        Grey levels from 0 to 255, uint8, shape of x.

    Example:
        >>> import torch
        >>> to_bytes(torch.tensor([-1.0, 0.0, 1.0, 3.0]))
        tensor([  0, 128, 255, 255], dtype=torch.uint8)
    """
    return ((x.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def from_bytes(levels: Tensor) -> Tensor:
    """Convert grey levels to values on [-1, 1].

    Args:
        levels: Grey levels from 0 to 255, any shape.

    Returns:
        Values on [-1, 1], float32, shape of levels.

    Example:
        >>> import torch
        >>> from_bytes(torch.tensor([0, 51, 255], dtype=torch.uint8))
        tensor([-1.0000, -0.6000,  1.0000])
    """
    return levels.float() / 127.5 - 1


def row_blocks(shape: Sequence[int], entries: int = 1 << 20) -> Iterator[slice]:
    """Cut a large picture into blocks of rows, which are worked on one after the other.

    Args:
        shape: Shape (..., H, W).
        entries: Entries of a block, at most, if a row has no more.

    Yields:
        The rows of each block.

    Example:
        >>> [(rows.start, rows.stop) for rows in row_blocks((3, 5, 10), entries=60)]
        [(0, 2), (2, 4), (4, 5)]
    """
    height, row = shape[-2], math.prod(shape[:-2]) * shape[-1]
    step = max(1, entries // max(1, row))
    for first in range(0, height, step):
        yield slice(first, min(first + step, height))


def to_uint8(x: Tensor) -> np.ndarray:
    """Convert an image to an array of grey levels, clipped and rounded.

    Args:
        x: Image, shape (C, H, W) with C = 1 or 3, on [-1, 1].

    Returns:
        Pixels, shape (H, W) or (H, W, 3), uint8.
    """
    array = to_bytes(x).cpu().permute(1, 2, 0).numpy()
    return array[..., 0] if array.shape[-1] == 1 else array


def write_image(x: Tensor, path: str | Path) -> None:
    """Write an image in the format of the suffix of the path.

    Args:
        x: Image, shape (C, H, W) with C = 1 or 3, on [-1, 1]; other values are clipped.
        path: Path of the file, such as "restored.png".

    Raises:
        InputError: If the format cannot be written, or the file cannot.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from scoresde.data.images import read_image, write_image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_image(torch.zeros(3, 4, 6), Path(folder) / "grey.png")
        ...     read_image(Path(folder) / "grey.png").shape
        torch.Size([3, 4, 6])
    """
    path = Path(path)
    write_atomically(
        path, lambda temporary: Image.fromarray(to_uint8(x)).save(temporary, format=_format(path))
    )


def _format(path: Path) -> str:
    extensions = Image.registered_extensions()
    name = extensions.get(path.suffix.lower())
    if name not in Image.SAVE:
        raise InputError(f"cannot write the image format {path.suffix!r}; use .png")
    return name


def centre_crop(path: str | Path, side: int, value_range: GivenRange | None = None) -> Tensor:
    """Read the middle of an image.

    Args:
        path: Path of the image, in any format that Pillow reads.
        side: Height and width of the crop, in pixels.
        value_range: Black and white; None to go by the type and the values.

    Returns:
        Crop, shape (1, C, side, side), float32, on [-1, 1].

    Raises:
        InputError: If the image cannot be read or is smaller than the crop.
    """
    picture = read_image(path, value_range)
    height, width = picture.shape[1:]
    if min(height, width) < side:
        raise InputError(
            f"{path} is {width}x{height}, smaller than the crop {side}; use a smaller --crop or "
            "leave it out"
        )
    top, left = (height - side) // 2, (width - side) // 2
    return picture[None, :, top : top + side, left : left + side].contiguous()
