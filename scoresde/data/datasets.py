"""Training data: random crops of a folder of photographs, or of an array of small images."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from problems.checks import check_choice
from problems.reading.arrays import read_array_file
from scoresde.data.headers import check_crop, colour_profiles, picture_size
from scoresde.data.images import from_bytes, open_image, to_uint8
from scoresde.errors import InputError, as_input_error

__all__ = [
    "AUGMENTATIONS",
    "SUFFIXES",
    "WHOLE",
    "Dataset",
    "DeviceImages",
    "ImageArray",
    "ImageFolder",
    "TensorData",
    "dequantised",
    "list_images",
    "read_arrays",
    "read_pixels",
]

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}

WHOLE = slice(None)
"""All rows of a batch."""

AUGMENTATIONS: dict[str, tuple[int, ...]] = {
    "none": (0,),
    "mirror": (0, 4),
    "flips": (0, 2, 4, 6),
    "turns": (0, 1, 2, 3, 4, 5, 6, 7),
}
"""Flips and turns of each augmentation: quarter turns modulo 4, and from 4 on then a flip of left
and right. "mirror" is left and right, "flips" also up and down, "turns" are all eight."""


def list_images(folder: str | Path) -> list[Path]:
    """List the images of a folder and its subfolders, sorted by path.

    Args:
        folder: Path of the folder.

    Returns:
        Paths of the files with a suffix in ``SUFFIXES``. Files and folders whose names begin with a
        dot do not count: systems keep their own notes there, such as "._photo.png" of macOS.

    Raises:
        InputError: If the folder does not exist, cannot be read or has no images.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder of images")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise InputError(f"cannot read the folder {folder}: change its permissions")
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
    if not paths:
        raise InputError(f"no images under {folder} (looked for {', '.join(sorted(SUFFIXES))})")
    return paths


def read_pixels(path: Path, channels: int) -> np.ndarray:
    """Read an image with a given number of channels, in the colours of the file.

    Args:
        path: Path of the image.
        channels: Number of channels. An image with another number is averaged over its channels and
            repeated.

    Returns:
        Pixels, shape (H, W, channels), uint8.

    Raises:
        InputError: If the image cannot be read.
    """
    x = open_image(path, colours="file").x
    if x.shape[0] != channels:
        x = x.mean(0, keepdim=True).expand(channels, -1, -1)
    return to_uint8(x).reshape(*x.shape[1:], channels)


def _turned(image: np.ndarray, turn: int) -> np.ndarray:
    """Turn (H, W, C) by one of the eight flips and quarter turns."""
    image = np.rot90(image, turn % 4)
    return image[:, ::-1] if turn >= 4 else image


def _turns(augment: str) -> tuple[int, ...]:
    with as_input_error():
        check_choice("augmentation", augment, AUGMENTATIONS)
    return AUGMENTATIONS[augment]


class Dataset(Protocol):
    """Interface of the data that training reads.

    A data set whose `batch` also takes `rows`, a slice of the batch to read, is read only where it
    is needed when several processes train; of others each process reads whole batches.
    """

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
    """Random crops of the images of folders, in the values of the files, as restorations are.

    Decoded images are kept as uint8 while there is room, and are otherwise read again each time.

    Args:
        folder: Path of the folder, or of several; their subfolders are read too.
        channels: 1 or 3; images with another number are averaged over their channels.
        cache_bytes: Memory for decoded images, in bytes.
        augment: A name in :data:`AUGMENTATIONS`.

    Raises:
        InputError: If the augmentation is unknown, a folder does not exist or has no images, or
            channels is neither 1 nor 3.
    """

    def __init__(
        self,
        folder: str | Path | Sequence[str | Path],
        channels: int = 3,
        cache_bytes: int = 2 << 30,
        augment: str = "turns",
    ) -> None:
        self.turns = _turns(augment)
        if channels not in (1, 3):
            raise InputError(
                f"pictures are read with 1 or 3 channels, got {channels}; use --channels 1 or 3"
            )
        folders = [folder] if isinstance(folder, str | Path) else folder
        # a folder within another one does not count twice
        self.paths = list(dict.fromkeys(path for one in folders for path in list_images(one)))
        self.channels, self._room = channels, cache_bytes
        self._cache: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def check_crop(self, size: int) -> None:
        """Check the heads of all files, so that a bad one is known before the first step.

        Args:
            size: Largest side of the crops, in pixels.

        Raises:
            InputError: If an image cannot be read or is smaller than the crop; the first few of
                them are named.
        """
        check_crop(self.paths, size)

    def profiles(self) -> dict[str, int]:
        """Count the colour profiles, from the heads of the files.

        Returns:
            Number of pictures of each profile, "sRGB" for those without one.
        """
        return colour_profiles(self.paths)

    def _image(self, index: int) -> np.ndarray:
        if index in self._cache:
            return self._cache[index]
        image = read_pixels(self.paths[index], self.channels)
        if image.nbytes <= self._room:
            self._room -= image.nbytes
            self._cache[index] = image
        return image

    def batch(self, n: int, size: int, generator: torch.Generator, rows: slice = WHOLE) -> Tensor:
        """Draw a batch: uniform image and position, one of the flips and quarter turns.

        Args:
            n: Number of samples.
            size: Height and width of the crops, in pixels.
            generator: Source of the random numbers, on the CPU.
            rows: Part of the batch to read; its random numbers are those of the whole one.

        Returns:
            Images, shape (n, C, size, size), float32, on [-1, 1].

        Raises:
            InputError: If an image cannot be read or is smaller than the crop.
        """
        draws = torch.rand(n, 4, generator=generator, dtype=torch.float64)[rows].tolist()
        batch = np.empty((len(draws), size, size, self.channels), np.uint8)
        for i, draw in enumerate(draws):
            index = int(draw[0] * len(self))
            image = self._image(index)
            height, width = image.shape[:2]
            if min(height, width) < size:
                raise _too_small(self.paths[index], height, width, size)
            top, left = int(draw[1] * (height - size + 1)), int(draw[2] * (width - size + 1))
            turn = self.turns[int(draw[3] * len(self.turns))]
            batch[i] = _turned(image[top : top + size, left : left + size], turn)
        return from_bytes(torch.from_numpy(batch).permute(0, 3, 1, 2))

    def on_device(self, device: torch.device, room: int) -> "DeviceImages | None":
        """Decode all images into the memory of a device, where crops are cut in a few operations.

        Args:
            device: Device.
            room: Bytes that the images may take.

        Returns:
            The same crops from the same random numbers; None if there is too little room.

        Raises:
            InputError: If an image cannot be read.
        """
        needed = 0
        for path in self.paths:
            needed += self.channels * math.prod(picture_size(path))
            if needed > room:
                return None
        return DeviceImages(self, device)


class DeviceImages:
    """The images of a folder as one flat tensor on a device.

    A crop that is flipped and turned is an affine map from its pixels to places in the flat tensor.
    The host computes the maps of all crops of a batch at once, and the device gathers.

    Args:
        images: The images.
        device: Device.

    Raises:
        InputError: If an image cannot be read.
    """

    def __init__(self, images: ImageFolder, device: torch.device) -> None:
        self.paths, self.channels, self.device = images.paths, images.channels, device
        self._turns = np.array(images.turns)
        loaded = [
            torch.from_numpy(read_pixels(path, self.channels)).to(device) for path in self.paths
        ]
        sizes = np.array([image.shape[:2] for image in loaded], np.int64)
        self._heights, self._widths = sizes.T
        ends = np.cumsum(self.channels * self._heights * self._widths)
        self._starts = np.concatenate([[0], ends[:-1]])
        self._pixels = torch.cat([image.flatten() for image in loaded])

    def __len__(self) -> int:
        return len(self.paths)

    def batch(self, n: int, size: int, generator: torch.Generator, rows: slice = WHOLE) -> Tensor:
        """Draw a batch: uniform image and position, one of the eight flips and quarter turns.

        Args:
            n: Number of samples.
            size: Height and width of the crops, in pixels.
            generator: Source of the random numbers, on the CPU.
            rows: Part of the batch to read; its random numbers are those of the whole one.

        Returns:
            Images on the device, shape (n, C, size, size), float32, on [-1, 1]: those that
            :meth:`ImageFolder.batch` gives.

        Raises:
            InputError: If an image is smaller than the crop.
        """
        draws = torch.rand(n, 4, generator=generator, dtype=torch.float64)[rows].numpy()
        index = (draws[:, 0] * len(self)).astype(np.int64)
        height, width = self._heights[index], self._widths[index]
        if (small := np.minimum(height, width) < size).any():
            i = int(small.argmax())
            raise _too_small(self.paths[index[i]], height[i], width[i], size)
        top = (draws[:, 1] * (height - size + 1)).astype(np.int64)
        left = (draws[:, 2] * (width - size + 1)).astype(np.int64)
        row, column = self.channels * width, np.full_like(width, self.channels)
        corner = self._starts[index] + top * row + left * column
        turn = self._turns[(draws[:, 3] * len(self._turns)).astype(np.int64)]
        first, down, right = _turned_strides(corner, row, column, size, turn)
        table = torch.from_numpy(np.stack([first, down, right]))
        if self.device.type == "cuda":
            table = table.pin_memory()
        first_, down_, right_ = table.to(self.device, non_blocking=True)[:, :, None, None, None]
        steps = torch.arange(size, device=self.device)
        places = first_ + down_ * steps[:, None, None] + right_ * steps[:, None]
        places = places + torch.arange(self.channels, device=self.device)
        return from_bytes(self._pixels[places].permute(0, 3, 1, 2))


def _turned_strides(
    corner: np.ndarray, row: np.ndarray, column: np.ndarray, size: int, turn: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Place of the first pixel of each turned crop, and strides to the one below and beside it.

    The turns are those of :func:`_turned`: quarter turns, then a flip of left and right.
    """
    last = size - 1
    # pixel (i, j) of a crop turned by k quarters is pixel (i, j), (j, last - i),
    # (last - i, last - j) or (last - j, i) of the crop
    quarters = turn % 4
    first = np.choose(
        quarters,
        [corner, corner + last * column, corner + last * (row + column), corner + last * row],
    )
    down = np.choose(quarters, [row, -column, -row, column])
    right = np.choose(quarters, [column, row, -column, -row])
    flipped = turn >= 4
    return (
        np.where(flipped, first + last * right, first),
        down,
        np.where(flipped, -right, right),
    )


def _too_small(path: Path, height: int, width: int, size: int) -> InputError:
    return InputError(
        f"{path} is {width}x{height}, smaller than the crop {size}; use a smaller --crop"
    )


class ImageArray:
    r"""Images of one size in an array file.

    Args:
        path: Path of a .npy, .npz or .mat file with uint8 images, shape (N, H, W) or (N, H, W, C).
        key: Name of the array in a .npz or .mat file; None if there is only one.
        dequantise: True to add uniform noise within each grey level, :math:`(k + u)/128 - 1` with
            :math:`u \sim U[0, 1)`, so that the data has a density (Theis et al. 2016). False for
            :math:`k/127.5 - 1`.
        flips: True to also draw one of the eight flips and quarter turns.
        augment: A name in :data:`AUGMENTATIONS` in the place of `flips`; None to go by it.

    Raises:
        InputError: If the augmentation is unknown, or the file cannot be read or does not hold one
            array of uint8 images.

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
        augment: str | None = None,
    ) -> None:
        self.path, self.dequantise = Path(path), dequantise
        self.turns = _turns(augment or ("turns" if flips else "none"))
        self.images = read_arrays(self.path, key)
        self.channels = self.images.shape[-1]

    def __len__(self) -> int:
        return len(self.images)

    def check_crop(self, size: int) -> None:
        """Check that crops of a size can be cut from the images.

        Args:
            size: Largest side of the crops, in pixels.

        Raises:
            InputError: If the images are smaller.
        """
        height, width = self.images.shape[1:3]
        if min(height, width) < size:
            raise InputError(
                f"the images of {self.path} are {width}x{height}, smaller than the crop {size}; "
                "use a smaller --crop"
            )

    def batch(self, n: int, size: int, generator: torch.Generator, rows: slice = WHOLE) -> Tensor:
        """Draw a batch of uniformly random images and positions.

        Args:
            n: Number of samples.
            size: Height and width of the crops, in pixels.
            generator: Source of the random numbers, on the CPU.
            rows: Part of the batch to read; its random numbers are those of the whole one.

        Returns:
            Images, shape (n, C, size, size), float32, on [-1, 1].

        Raises:
            InputError: If the images are smaller than the crop.
        """
        self.check_crop(size)
        height, width = self.images.shape[1:3]
        draws = torch.rand(n, 4, generator=generator, dtype=torch.float64)[rows].numpy()
        index, top, left, turn = (
            (draws * [len(self), height - size + 1, width - size + 1, len(self.turns)])
            .astype(int)
            .T
        )
        batch = np.empty((len(index), size, size, self.channels), np.uint8)
        for i in range(len(index)):
            crop = self.images[index[i], top[i] : top[i] + size, left[i] : left[i] + size]
            batch[i] = _turned(crop, self.turns[turn[i]])
        levels = torch.from_numpy(batch).permute(0, 3, 1, 2)
        if not self.dequantise:
            return from_bytes(levels)
        u = torch.rand(n, *levels.shape[1:], generator=generator)
        return (levels.float() + u[rows]) / 128 - 1


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

    def batch(self, n: int, size: int, generator: torch.Generator, rows: slice = WHOLE) -> Tensor:
        """Draw a batch of uniformly random rows, with replacement.

        Args:
            n: Number of samples.
            size: Not used: samples are taken whole.
            generator: Source of the random numbers, on the CPU.
            rows: Part of the batch to read; its random numbers are those of the whole one.

        Returns:
            Samples, shape (n, ...).
        """
        return self.samples[torch.randint(len(self), (n,), generator=generator)[rows]]


def read_arrays(path: Path, key: str | None) -> np.ndarray:
    """Read images from an array file.

    Args:
        path: Path of a .npy, .npz or .mat file.
        key: Name of the array in a .npz or .mat file; None if there is only one.

    Returns:
        Images, shape (N, H, W, C), uint8.

    Raises:
        InputError: If the file cannot be read or does not hold one array of uint8 images.
    """
    with as_input_error():
        images = read_array_file(path, key, "--array NAME")
    if images.ndim not in (3, 4) or images.dtype != np.uint8:
        raise InputError(
            f"images must be grey levels uint8, (N, H, W) or (N, H, W, C), "
            f"got {images.dtype} {images.shape} in {path}; convert them"
        )
    return images if images.ndim == 4 else images[..., None]
