"""Training data: random crops of a folder of photographs."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scoresde.errors import InputError
from scoresde.images import read_image, to_uint8

__all__ = ["ImageFolder", "SUFFIXES", "list_images"]

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
        x = read_image(self.paths[index])
        if x.shape[0] != self.channels:
            x = x.mean(0, keepdim=True).expand(self.channels, -1, -1)
        image = to_uint8(x).reshape(*x.shape[1:], self.channels)
        if image.nbytes <= self._room:
            self._room -= image.nbytes
            self._cache[index] = image
        return image

    def crops(self, n: int, size: int, generator: torch.Generator) -> Tensor:
        """(n, C, size, size) in [-1, 1]: uniform image, uniform place, one of the eight flips and quarter turns."""
        batch = np.empty((n, size, size, self.channels), np.uint8)
        for i in range(n):
            draw = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
            index = int(draw[0] * len(self))
            image = self._image(index)
            height, width = image.shape[:2]
            if min(height, width) < size:
                raise InputError(f"{self.paths[index]} is {width}x{height}, smaller than the crop {size}; use a smaller --crop")
            top, left = int(draw[1] * (height - size + 1)), int(draw[2] * (width - size + 1))
            turn = int(draw[3] * 8)
            crop = np.rot90(image[top : top + size, left : left + size], turn % 4)
            batch[i] = crop[:, ::-1] if turn >= 4 else crop
        return torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 127.5 - 1
