"""Images in any format of Pillow, to and from float tensors (C, H, W) on [-1, 1]."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from scoresde.errors import InputError
from scoresde.files import write_atomically

__all__ = [
    "centre_crop",
    "from_bytes",
    "read_array",
    "read_image",
    "to_bytes",
    "to_uint8",
    "write_image",
]


def read_array(path: str | Path) -> np.ndarray:
    """Read an image as an array on [0, 1].

    The image is turned upright, and alpha is dropped; transparent pixels keep their colour. Grey
    16-bit and float files keep their depth; Pillow reads colour at 8 bits.

    Args:
        path: Path of the image.

    Returns:
        Pixels, shape (H, W) or (H, W, 3), float32, on [0, 1].

    Raises:
        InputError: If the file is missing, is not an image, or has pixels that are NaN or infinite.
    """
    try:
        with Image.open(path) as file:
            file.load()
            image = ImageOps.exif_transpose(file)
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except (
        UnidentifiedImageError,
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"cannot read {path} as an image: {reason}") from None
    if image.mode.startswith("I"):  # 16-bit greyscale opens as I;16 or I
        scale = 65535.0
    elif image.mode == "F":
        # float files do not state their range: [0, 1], or [0, 255] if any pixel is brighter
        values = np.asarray(image, dtype=np.float32)
        scale = 1.0 if not (np.nan_to_num(values) > 1).any() else 255.0
    else:
        scale = 255.0
        grey = image.mode in ("1", "L", "LA", "La")
        image = (
            image.convert("RGBA") if image.mode == "P" and "transparency" in image.info else image
        )
        image = image.convert("L" if grey else "RGB")
    array = np.asarray(image, dtype=np.float32) / scale
    if not np.isfinite(array).all():
        raise InputError(
            f"{path} has pixels that are NaN or infinite; "
            "mark them in a mask and fill them with 0 first"
        )
    return array


def read_image(path: str | Path) -> Tensor:
    """Read an image as a tensor on [-1, 1].

    Args:
        path: Path of the image, in any format that Pillow reads.

    Returns:
        Image, shape (C, H, W) with C = 1 or 3, float32, on [-1, 1].

    Raises:
        InputError: If the file is missing, is not an image, or has pixels that are NaN or infinite.

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
    array = read_array(path)
    array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(array)) * 2 - 1


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


def centre_crop(path: str | Path, side: int) -> Tensor:
    """Read the middle of an image.

    Args:
        path: Path of the image, in any format that Pillow reads.
        side: Height and width of the crop, in pixels.

    Returns:
        Crop, shape (1, C, side, side), float32, on [-1, 1].

    Raises:
        InputError: If the image cannot be read or is smaller than the crop.
    """
    picture = read_image(path)
    height, width = picture.shape[1:]
    if min(height, width) < side:
        raise InputError(
            f"{path} is {width}x{height}, smaller than the crop {side}; use a smaller --crop or "
            "leave it out"
        )
    top, left = (height - side) // 2, (width - side) // 2
    return picture[None, :, top : top + side, left : left + side].contiguous()
