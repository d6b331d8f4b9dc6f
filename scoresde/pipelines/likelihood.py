"""From pictures or a data set to bits per dimension."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde.data.datasets import read_arrays, read_pixels
from scoresde.errors import InputError
from scoresde.priors.base import Prior
from solvers.likelihood import BitsPerDim, bits_per_dim
from solvers.streams import spawn

__all__ = ["ImageSource", "score_images"]


@dataclass(frozen=True)
class ImageSource:
    """Pictures, or the first images of an array.

    Args:
        images: Files of pictures.
        dataset: A .npy or .npz file of images; either this or `images`.
        array: Name of the array in a .npz file that holds several.
        count: Number of images, from the start of the data set.

    Raises:
        InputError: If neither or both of `images` and `dataset` are given.
    """

    images: tuple[Path, ...] = ()
    dataset: Path | None = None
    array: str | None = None
    count: int = 100

    def __post_init__(self) -> None:
        if bool(self.images) == (self.dataset is not None):
            raise InputError("give pictures or --dataset FILE, one of the two")

    def read(self, channels: int) -> tuple[list[str], Iterator[Tensor]]:
        """Read the images.

        Args:
            channels: Channels of the prior.

        Returns:
            Names, and the images one after the other, uint8 (1, C, H, W).

        Raises:
            InputError: If a file cannot be read or has other channels.
        """
        if self.dataset is not None:
            array = read_arrays(self.dataset, self.array)[: self.count]
            if array.shape[-1] != channels:
                raise InputError(
                    f"the images of {self.dataset} have {array.shape[-1]} channels, the prior "
                    f"{channels}"
                )
            return [str(i) for i in range(len(array))], (_tensor(x) for x in array)
        names = [str(path) for path in self.images]
        return names, (_tensor(read_pixels(path, channels)) for path in self.images)


def _tensor(pixels: np.ndarray) -> Tensor:
    """(H, W, C) -> (1, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]


def score_images(
    prior: Prior,
    source: ImageSource,
    generator: torch.Generator,
    progress: Callable[[float], None] | None = None,
    batch: int = 16,
    **settings: Any,
) -> dict[str, Any]:
    """Compute bits per dimension of each image.

    Args:
        prior: Prior of images.
        source: The images, all of one size.
        generator: Source of the random numbers; an image has the same ones in any batch.
        progress: Called with the finished fraction of the work.
        batch: Images at a time.
        **settings: Settings of :func:`solvers.bits_per_dim`.

    Returns:
        The report of the command.

    Raises:
        InputError: If an image cannot be read or has another size.
        ValueError: If a setting is out of its range.
    """
    names, pictures = source.read(prior.shape[0])
    values: list[float] = []
    errors: list[float] = []
    seconds, nfe, vjps, end = 0.0, 0, 0, 0.0
    waiting: list[Tensor] = []
    streams, first = spawn(generator, len(names)), None
    for i, picture in enumerate(pictures):
        first = picture.shape if first is None else first
        if picture.shape != first:
            raise InputError(
                f"{names[i]} has another size than {names[0]}; likelihoods of pictures compare "
                "only at one size"
            )
        waiting.append(picture)
        if len(waiting) == batch or i + 1 == len(names):
            own = streams[i + 1 - len(waiting) : i + 1]
            size = max(1, batch // prior.cost)
            result = bits_per_dim(prior, torch.cat(waiting), generator=own, batch=size, **settings)
            values += result.value.tolist()
            errors += result.std_error.tolist()
            seconds += result.seconds
            nfe, vjps, end = result.nfe, result.vjps, result.end
            waiting = []
            if progress:
                progress((i + 1) / len(names))
    x, x_error = (torch.tensor(v, dtype=torch.float64) for v in (values, errors))
    whole = BitsPerDim(x, x_error, nfe, vjps, seconds, end)
    return {
        "images": names,
        "bits_per_dim": values,
        "std_error": errors,
        "mean": whole.mean,
        "mean_std_error": whole.mean_std_error,
        "dequantisation": "uniform",
        "density_at": end,
        "nfe": nfe,
        "vjps": vjps,
        "seconds": seconds,
        **settings,
    }
