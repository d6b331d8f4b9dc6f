"""Grey levels of pictures, as a likelihood counts them: nothing rounded, mixed or left out."""

from pathlib import Path

import numpy as np

from problems.reading.pictures import read_picture
from scoresde.errors import InputError, as_input_error

__all__ = ["read_levels"]

_COLOURS = {1: "grey", 3: "colour"}


def read_levels(path: Path, channels: int) -> np.ndarray:
    """Read the grey levels of an 8-bit picture whose channels are those of a prior.

    Bits per dimension are those of the values in the file. A picture of another depth, of other
    channels, or with transparent parts has other values than a prior of 8-bit pictures describes.

    Args:
        path: Path of the picture.
        channels: Channels of the prior.

    Returns:
        Grey levels, shape (H, W, channels), uint8.

    Raises:
        InputError: If the picture cannot be read, or would have to be converted.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from scoresde.data.levels import read_levels
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("L", (7, 5), 200).save(Path(folder) / "grey.png")
        ...     levels = read_levels(Path(folder) / "grey.png", 1)
        >>> levels.shape, levels.dtype, int(levels[0, 0, 0])
        ((5, 7, 1), dtype('uint8'), 200)
    """
    with as_input_error():
        picture = read_picture(path)
    values = picture.values
    if values.dtype != np.uint8 or picture.rounded:
        deep = picture.kind if values.dtype != np.uint8 else f"{picture.kind}, stored in 16 bits"
        raise InputError(
            f"{path} is no 8-bit picture ({deep}), and bits per dimension count 8-bit values; "
            "convert it to 8 bits first"
        )
    if picture.alpha is not None and not bool((picture.alpha == 1).all()):
        raise InputError(
            f"{path} has transparent pixels, which the prior does not know; put it on a background "
            "and save it without an alpha channel"
        )
    values = values[..., None] if values.ndim == 2 else values
    if values.shape[-1] != channels:
        raise InputError(
            f"{path} is a {_COLOURS[values.shape[-1]]} picture, the prior is of "
            f"{_COLOURS.get(channels, f'{channels}-channel')} pictures; convert it, or give "
            "another --prior"
        )
    return values
