"""Training data: random crops of a folder of photographs, or of an array of small images."""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from scoresde.data.images import from_bytes, read_image, to_uint8
from scoresde.errors import InputError

__all__ = [
    "SUFFIXES",
    "Dataset",
    "ImageArray",
    "ImageFolder",
    "TensorData",
    "dequantised",
    "list_images",
    "read_arrays",
    "read_pixels",
]

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}


def list_images(folder: str | Path) -> list[Path]:
    """The images under ``folder``, sorted by name so that every machine sees the same order."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder of images")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"no images under {folder} (looked for {', '.join(sorted(SUFFIXES))})")
    return paths


def read_pixels(path: Path, channels: int) -> np.ndarray:
    """(H, W, channels) uint8; the mean over the channels where their number is another."""
    x = read_image(path)
    if x.shape[0] != channels:
        x = x.mean(0, keepdim=True).expand(channels, -1, -1)
    return to_uint8(x).reshape(*x.shape[1:], channels)


def _turned(image: np.ndarray, turn: int) -> np.ndarray:
    """One of the eight flips and quarter turns of (H, W, C)."""
    image = np.rot90(image, turn % 4)
    return image[:, ::-1] if turn >= 4 else image


class Dataset(Protocol):
    """What training asks of its data."""

    def __len__(self) -> int: ...

    def batch(self, n: int, size: int, generator: torch.Generator) -> Tensor:
        """(n, C, size, size) in [-1, 1]."""
        ...


class ImageFolder:
    """Random crops of a folder's images. Decoded images are kept as uint8 up to ``cache_bytes``, then read again each time."""

    def __init__(self, folder: str | Path, channels: int = 3, cache_bytes: int = 2 << 30) -> None:
        self.paths, self.channels, self._room = list_images(folder), channels, cache_bytes
        self._cache: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def _image(self, index: int) -> np.ndarray:
        if index in self._cache:
            return self._cache[index]
        image = read_pixels(self.paths[index], self.channels)
        if image.nbytes <= self._room:
            self._room -= image.nbytes
            self._cache[index] = image
        return image

    def batch(self, n: int, size: int, generator: torch.Generator) -> Tensor:
        """(n, C, size, size) in [-1, 1]: uniform image, uniform place, one of the eight flips and quarter turns."""
        batch = np.empty((n, size, size, self.channels), np.uint8)
        for i in range(n):
            draw = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
            index = int(draw[0] * len(self))
            image = self._image(index)
            height, width = image.shape[:2]
            if min(height, width) < size:
                raise InputError(
                    f"{self.paths[index]} is {width}x{height}, smaller than the crop {size}; use a smaller --crop"
                )
            top, left = int(draw[1] * (height - size + 1)), int(draw[2] * (width - size + 1))
            turn = int(draw[3] * 8)
            batch[i] = _turned(image[top : top + size, left : left + size], turn)
        return from_bytes(torch.from_numpy(batch).permute(0, 3, 1, 2))


class ImageArray:
    """Images of one size in an array, (N, H, W) or (N, H, W, C), uint8, from a .npy or .npz file.

    dequantise: add uniform noise within each grey level, :math:`(k + u)/128 - 1` with :math:`u \\sim U[0, 1)`, so that the data has a
    density (Theis et al. 2016); without it :math:`k/127.5 - 1`. flips: also draw the eight flips and quarter turns.
    """

    def __init__(
        self,
        path: str | Path,
        key: str | None = None,
        dequantise: bool = False,
        flips: bool = False,
    ) -> None:
        self.path, self.dequantise, self.flips = Path(path), dequantise, flips
        self.images = read_arrays(self.path, key)
        self.channels = self.images.shape[-1]

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, n: int, size: int, generator: torch.Generator) -> Tensor:
        """(n, C, size, size) in [-1, 1]: uniform image, uniform place."""
        height, width = self.images.shape[1:3]
        if min(height, width) < size:
            raise InputError(
                f"the images of {self.path} are {width}x{height}, smaller than the crop {size}; use a smaller --crop"
            )
        draws = torch.rand(n, 4, generator=generator, dtype=torch.float64).numpy()
        index, top, left, turn = (
            (draws * [len(self), height - size + 1, width - size + 1, 8]).astype(int).T
        )
        batch = np.empty((n, size, size, self.channels), np.uint8)
        for i in range(n):
            crop = self.images[index[i], top[i] : top[i] + size, left[i] : left[i] + size]
            batch[i] = _turned(crop, turn[i]) if self.flips else crop
        levels = torch.from_numpy(batch).permute(0, 3, 1, 2)
        return dequantised(levels, generator) if self.dequantise else from_bytes(levels)


def dequantised(levels: Tensor, generator: torch.Generator) -> Tensor:
    """(k + u)/128 - 1 of grey levels k, with u ~ U[0, 1) of each entry."""
    return (levels.float() + torch.rand(levels.shape, generator=generator)) / 128 - 1


class TensorData:
    """Rows of a tensor (N, ...) as they are, vectors or images, in random order."""

    def __init__(self, samples: Tensor) -> None:
        if samples.ndim < 2 or not len(samples) or not bool(torch.isfinite(samples).all()):
            raise ValueError(
                f"data must be a batch of finite samples, got a tensor of shape {tuple(samples.shape)}"
            )
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, n: int, size: int, generator: torch.Generator) -> Tensor:
        """(n, ...); size is not used: samples are taken whole."""
        return self.samples[torch.randint(len(self), (n,), generator=generator)]


def read_arrays(path: Path, key: str | None) -> np.ndarray:
    """(N, H, W, C) uint8."""
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        loaded = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not an array file that NumPy reads ({error})") from None
    if isinstance(loaded, np.ndarray):
        images = loaded
    else:
        with loaded:
            fitting = [name for name in loaded.files if key in (None, name)]
            if len(fitting) != 1:
                raise InputError(
                    f"{path} holds {', '.join(loaded.files)}; name one of them with --array"
                )
            images = loaded[fitting[0]]
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.dtype != np.uint8 or not images.size:
        raise InputError(
            f"images must be uint8, (N, H, W) or (N, H, W, C), got {images.dtype} {images.shape} in {path}"
        )
    return images
