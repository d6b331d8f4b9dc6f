"""Photographs in and out: any format that Pillow reads <-> float tensors (C, H, W) in [-1, 1]."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from scoresde.errors import InputError
from scoresde.files import write_atomically

__all__ = ["from_bytes", "read_array", "read_image", "to_bytes", "to_uint8", "write_image"]


def read_array(path: str | Path) -> np.ndarray:
    """The picture as float32 (H, W) or (H, W, 3) in [0, 1], upright, without alpha.

    Transparent pixels keep their colour values. Grey 16-bit and float files keep their depth; Pillow reads colour at 8 bits.
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
        raise InputError(
            f"cannot read {path} as an image: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from None
    if image.mode.startswith("I"):  # 16-bit greyscale opens as I;16 or I
        scale = 65535.0
    elif (
        image.mode == "F"
    ):  # float files carry no range: [0, 1] is taken as such, anything brighter as 0..255
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
            f"{path} has pixels that are NaN or infinite; mark them in a mask and fill them with 0 first"
        )
    return array


def read_image(path: str | Path) -> Tensor:
    """The picture as float32 (C, H, W) in [-1, 1], C = 1 or 3."""
    array = read_array(path)
    array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(array)) * 2 - 1


def to_bytes(x: Tensor) -> Tensor:
    """[-1, 1] -> the grey levels 0..255 as uint8, clipped and rounded; of any shape."""
    return ((x.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def from_bytes(levels: Tensor) -> Tensor:
    """Grey levels 0..255 -> [-1, 1], float32."""
    return levels.float() / 127.5 - 1


def to_uint8(x: Tensor) -> np.ndarray:
    """(C, H, W) in [-1, 1] -> (H, W) or (H, W, 3) uint8, clipped and rounded."""
    array = to_bytes(x).cpu().permute(1, 2, 0).numpy()
    return array[..., 0] if array.shape[-1] == 1 else array


def write_image(x: Tensor, path: str | Path) -> None:
    """Write (C, H, W) in [-1, 1] in the format of the path's suffix."""
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
