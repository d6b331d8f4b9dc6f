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
    """List the images of a folder and its subfolders, sorted by path.

    Args:
        folder: Path of the folder.

    Returns:
        Paths of the files with a suffix in ``SUFFIXES``.

    Raises:
        InputError: If the folder does not exist or has no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder of images")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"no images under {folder} (looked for {', '.join(sorted(SUFFIXES))})")
    return paths


def read_pixels(path: Path, channels: int) -> np.ndarray:
    """Read an image with a given number of channels.

    Args:
        path: Path of the image.
        channels: Number of channels. An image with another number is averaged over its channels and
            repeated.

    Returns:
        Pixels, shape (H, W, channels), uint8.

    Raises:
        InputError: If the image cannot be read.
    """
    x = read_image(path)
    if x.shape[0] != channels:
        x = x.mean(0, keepdim=True).expand(channels, -1, -1)
    return to_uint8(x).reshape(*x.shape[1:], channels)


def _turned(image: np.ndarray, turn: int) -> np.ndarray:
    """Turn (H, W, C) by one of the eight flips and quarter turns."""
    image = np.rot90(image, turn % 4)
    return image[:, ::-1] if turn >= 4 else image


class Dataset(Protocol):
    """Interface of the data that training reads."""

    def __len__(self) -> int: ...

    def batch(self, n: int, size: int, generator: torch.Generator) -> Tensor:
        """Draw a batch.

        Args:
            n: Number of samples.
            size: Height and width of the crops, in pixels.
            generator: Source of the random numbers, on the CPU.

        Returns:
            Images, shape (n, C, size, size), float32, on [-1, 1].
        """
        ...


class ImageFolder:
    """Random crops of the images of a folder.

    Decoded images are kept as uint8 while there is room, and are otherwise read again each time.

    Args:
        folder: Path of the folder; its subfolders are read too.
        channels: Number of channels; images with another number are averaged over their channels.
        cache_bytes: Memory for decoded images, in bytes.

    Raises:
        InputError: If the folder does not exist or has no images.
    """

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
        """Draw a batch: uniform image and position, one of the eight flips and quarter turns.

        Args:
            n: Number of samples.
            size: Height and width of the crops, in pixels.
            generator: Source of the random numbers, on the CPU.

        Returns:
            Images, shape (n, C, size, size), float32, on [-1, 1].

        Raises:
            InputError: If an image cannot be read or is smaller than the crop.
        """
        batch = np.empty((n, size, size, self.channels), np.uint8)
        for i in range(n):
            draw = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
            index = int(draw[0] * len(self))
            image = self._image(index)
            height, width = image.shape[:2]
            if min(height, width) < size:
                raise InputError(
                    f"{self.paths[index]} is {width}x{height}, smaller than the crop {size}; "
                    "use a smaller --crop"
                )
            top, left = int(draw[1] * (height - size + 1)), int(draw[2] * (width - size + 1))
            turn = int(draw[3] * 8)
            batch[i] = _turned(image[top : top + size, left : left + size], turn)
        return from_bytes(torch.from_numpy(batch).permute(0, 3, 1, 2))


class ImageArray:
    r"""Images of one size in an array file.

    Args:
        path: Path of a .npy or .npz file with uint8 images, shape (N, H, W) or (N, H, W, C).
        key: Name of the array in an .npz file; None if there is only one.
        dequantise: True to add uniform noise within each grey level, :math:`(k + u)/128 - 1` with
            :math:`u \sim U[0, 1)`, so that the data has a density (Theis et al. 2016). False for
            :math:`k/127.5 - 1`.
        flips: True to also draw one of the eight flips and quarter turns.

    Raises:
        InputError: If the file cannot be read or does not hold one array of uint8 images.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> import torch
        >>> from scoresde.data.datasets import ImageArray
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(Path(folder) / "white.npy", np.full((10, 8, 8), 255, dtype=np.uint8))
        ...     data = ImageArray(Path(folder) / "white.npy")
        >>> x = data.batch(4, 6, torch.Generator().manual_seed(0))
        >>> len(data), x.shape, float(x.min())
        (10, torch.Size([4, 1, 6, 6]), 1.0)
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
        """Draw a batch of uniformly random images and positions.

        Args:
            n: Number of samples.
            size: Height and width of the crops, in pixels.
            generator: Source of the random numbers, on the CPU.

        Returns:
            Images, shape (n, C, size, size), float32, on [-1, 1].

        Raises:
            InputError: If the images are smaller than the crop.
        """
        height, width = self.images.shape[1:3]
        if min(height, width) < size:
            raise InputError(
                f"the images of {self.path} are {width}x{height}, smaller than the crop {size}; "
                "use a smaller --crop"
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
    """Dequantise grey levels k to (k + u)/128 - 1 with u uniform on [0, 1).

    Args:
        levels: Grey levels from 0 to 255, any shape.
        generator: Source of the random numbers, on the CPU.

    Returns:
        Values on [-1, 1), float32, shape of levels.
    """
    return (levels.float() + torch.rand(levels.shape, generator=generator)) / 128 - 1


class TensorData:
    """Rows of a tensor, vectors or images, in random order.

    Args:
        samples: Finite samples, shape (N, ...).

    Raises:
        ValueError: If the tensor is no batch of samples or has NaN or infinite entries.

    Example:
        >>> import torch
        >>> from scoresde.data.datasets import TensorData
        >>> data = TensorData(torch.arange(6.0).reshape(3, 2))
        >>> x = data.batch(5, size=0, generator=torch.Generator().manual_seed(0))
        >>> len(data), x.shape
        (3, torch.Size([5, 2]))
    """

    def __init__(self, samples: Tensor) -> None:
        if samples.ndim < 2 or not len(samples) or not bool(torch.isfinite(samples).all()):
            raise ValueError(
                "data must be a batch of finite samples, "
                f"got a tensor of shape {tuple(samples.shape)}"
            )
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def batch(self, n: int, size: int, generator: torch.Generator) -> Tensor:
        """Draw a batch of uniformly random rows, with replacement.

        Args:
            n: Number of samples.
            size: Not used: samples are taken whole.
            generator: Source of the random numbers, on the CPU.

        Returns:
            Samples, shape (n, ...).
        """
        return self.samples[torch.randint(len(self), (n,), generator=generator)]


def read_arrays(path: Path, key: str | None) -> np.ndarray:
    """Read images from an array file.

    Args:
        path: Path of a .npy or .npz file.
        key: Name of the array in an .npz file; None if there is only one.

    Returns:
        Images, shape (N, H, W, C), uint8.

    Raises:
        InputError: If the file cannot be read or does not hold one array of uint8 images.
    """
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
            "images must be uint8, (N, H, W) or (N, H, W, C), "
            f"got {images.dtype} {images.shape} in {path}"
        )
    return images
