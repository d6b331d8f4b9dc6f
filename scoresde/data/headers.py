"""Sizes of pictures from the heads of their files, without decoding them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tifffile import TiffFile

from problems.reading.pictures import MAX_PIXELS
from scoresde.errors import InputError

__all__ = ["check_crop", "picture_size"]

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_NAMED = 3
"""Pictures that an error names; of the others it gives the number."""


def picture_size(path: Path) -> tuple[int, int]:
    """Read width and height from the head of a picture.

    Args:
        path: Path of the picture.

    Returns:
        Width and height as stored, before the picture is turned upright.

    Raises:
        InputError: If there is no picture, or one of more pixels than are read.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from scoresde.data.headers import picture_size
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("L", (7, 5)).save(Path(folder) / "grey.png")
        ...     picture_size(Path(folder) / "grey.png")
        (7, 5)
    """
    try:
        width, height = _stored_size(path)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except PermissionError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except Exception:  # the readers of damaged files raise errors of many types
        raise InputError(f"{path} is not a picture that can be read") from None
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{path} has {width * height / 1e6:.0f} megapixels, more than the "
            f"{MAX_PIXELS / 1e6:.0f} that are read; crop or scale it first"
        )
    return width, height


def _stored_size(path: Path) -> tuple[int, int]:
    with path.open("rb") as file:
        if file.read(4) in _TIFF:  # of any sample type, also those that Pillow does not know
            with TiffFile(path) as tiff:
                page: Any = tiff.pages[0]
                return int(page.imagewidth), int(page.imagelength)
    limit = Image.MAX_IMAGE_PIXELS
    try:
        Image.MAX_IMAGE_PIXELS = None  # a head costs no memory, whatever size it states
        with Image.open(path) as image:
            return image.size
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def check_crop(paths: Sequence[Path], size: int) -> None:
    """Check that crops of a size can be cut from all pictures.

    Only the heads of the files are read.

    Args:
        paths: Paths of the pictures.
        size: Side of the crops, in pixels.

    Raises:
        InputError: If a picture cannot be read or is smaller; the first few are named.
    """
    faults = []
    for path in paths:
        try:
            width, height = picture_size(path)
        except InputError as error:
            faults.append(str(error).partition(";")[0])
            continue
        if min(width, height) < size:
            faults.append(f"{path} is {width}x{height}, smaller than the crop {size}")
    if faults:
        named = "; ".join(faults[:_NAMED])
        rest = len(faults) - _NAMED
        raise InputError(
            f"{len(faults)} of {len(paths)} pictures cannot be used: {named}"
            + (f"; and {rest} more" if rest > 0 else "")
            + "; remove them or use a smaller --crop"
        )
