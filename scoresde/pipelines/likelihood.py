"""From pictures or a data set to bits per dimension."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scoresde.data.datasets import read_arrays
from scoresde.data.headers import picture_size
from scoresde.data.levels import read_levels
from scoresde.errors import InputError
from scoresde.pipelines.devices import choose_device, open_prior
from scoresde.pipelines.memory import fitting_batch
from scoresde.pipelines.workers import Workers, device_of_worker
from scoresde.priors.base import Prior
from solvers.likelihood import BitsPerDim, bits_per_dim
from solvers.streams import spawn

__all__ = ["ImageSource", "Images", "Opened", "score_images"]


@dataclass(frozen=True)
class ImageSource:
    """Pictures, or the first images of an array.

    Args:
        images: Files of pictures.
        dataset: A .npy, .npz or .mat file of images; either this or `images`.
        array: Name of the array in a file that holds several.
        count: Number of images, from the start of the data set; None for 100.

    Raises:
        InputError: If neither or both of `images` and `dataset` are given, `array` or `count`
            without `dataset`, or no image is asked for.
    """

    images: tuple[Path, ...] = ()
    dataset: Path | None = None
    array: str | None = None
    count: int | None = None

    def __post_init__(self) -> None:
        if bool(self.images) == (self.dataset is not None):
            raise InputError("give pictures or --dataset FILE, one of the two")
        if self.array is not None and self.dataset is None:
            raise InputError(f"--array {self.array} names an array of --dataset FILE; give one")
        if self.count is not None and self.dataset is None:
            raise InputError("--count does nothing beside pictures; it belongs to --dataset FILE")
        if self.count is not None and self.count < 1:
            raise InputError(f"--count must be at least 1, got {self.count}")
        if self.dataset is not None and self.dataset.is_dir():
            raise InputError(f"--dataset needs an array file, {self.dataset} is a folder")

    def read(self, channels: int) -> "Images":
        """Read the images, pictures only when their turn comes.

        Args:
            channels: Channels of the prior.

        Returns:
            The images.

        Raises:
            InputError: If a file cannot be read or has other channels.
        """
        if self.dataset is not None:
            array = read_arrays(self.dataset, self.array)[: self.count or 100]
            if array.shape[-1] != channels:
                raise InputError(
                    f"the images of {self.dataset} have {array.shape[-1]} channels, the prior "
                    f"{channels}; convert them, or give another --prior"
                )
            names = tuple(str(i) for i in range(len(array)))
            height, width = array.shape[1:3]
            return Images(names, (channels, height, width), (_tensor(x) for x in array))
        width, height = picture_size(self.images[0])
        return Images(
            tuple(map(str, self.images)),
            (channels, height, width),
            (_tensor(read_levels(path, channels)) for path in self.images),
        )


@dataclass(frozen=True)
class Images:
    """Images that are read one after the other.

    Args:
        names: Name of each.
        shape: Shape (C, H, W) of the first, known before it is read; a picture may come turned.
        each: The images, uint8 (1, C, H, W).
    """

    names: tuple[str, ...]
    shape: tuple[int, int, int]
    each: Iterator[Tensor]


def _tensor(pixels: np.ndarray) -> Tensor:
    """(H, W, C) -> (1, C, H, W)."""
    # a copy: what Pillow gives cannot be written to, of which torch would warn
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None]


def _share(
    progress: Callable[[float], None] | None, done: int, now: int, total: int
) -> Callable[[float], None] | None:
    """Progress of some images as progress of all of them."""
    if progress is None:
        return None
    return lambda fraction: progress((done + now * fraction) / total)


@dataclass(frozen=True)
class Opened:
    """How a prior is opened, by a worker too.

    Args:
        name: As in :func:`scoresde.pipelines.devices.open_prior`.
        device: Name of the device.
        average: Group over which it is averaged.
    """

    name: str
    device: str = "auto"
    average: str | None = None


@dataclass(frozen=True)
class _Share:
    """A batch, with all that its likelihood depends on."""

    prior: Opened | None
    x: Tensor
    seeds: tuple[int, ...]
    batch: int
    settings: dict[str, Any]


@lru_cache(maxsize=1)
def _open(opened: Opened, device: str) -> Prior:
    """The prior as the command opens it: one that recomputes activations rounds in another way."""
    return open_prior(opened.name, choose_device(device), "fp32", opened.average)


def _bits(share: _Share) -> BitsPerDim:
    """Run on a worker."""
    assert share.prior is not None
    prior = _open(share.prior, device_of_worker(share.prior.device))
    generators = [torch.Generator().manual_seed(seed) for seed in share.seeds]
    return bits_per_dim(prior, share.x, generator=generators, batch=share.batch, **share.settings)


def _batches(
    images: Images, streams: list[torch.Generator], batch: int
) -> Iterator[tuple[int, Tensor, list[torch.Generator]]]:
    """The images of one size, some at a time, with the number of the first and their streams."""
    names, waiting = images.names, list[Tensor]()
    first = None
    for i, picture in enumerate(images.each):
        first = picture.shape if first is None else first
        if picture.shape != first:
            raise InputError(
                f"{names[i]} has another size than {names[0]}; likelihoods of pictures compare "
                "only at one size: give those of one size"
            )
        waiting.append(picture)
        if len(waiting) == batch or i + 1 == len(names):
            begin = i + 1 - len(waiting)
            yield begin, torch.cat(waiting), streams[begin : i + 1]
            waiting = []


def score_images(
    prior: Prior,
    source: ImageSource,
    generator: torch.Generator,
    progress: Callable[[float], None] | None = None,
    batch: int = 16,
    workers: Workers | None = None,
    opened: Opened | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Compute bits per dimension of each image.

    Args:
        prior: Prior of images.
        source: The images, all of one size.
        generator: Source of the random numbers; an image has the same ones in any batch.
        progress: Called with the finished fraction of the work.
        batch: Images at a time; fewer if they do not fit the memory.
        workers: Who computes the batches; None for this process alone. The values are the same.
        opened: What workers open the prior by; None if there are none.
        **settings: Settings of :func:`solvers.bits_per_dim`.

    Returns:
        The report of the command.

    Raises:
        InputError: If an image cannot be read, has another size, or takes more memory than is free.
        ValueError: If a setting is out of its range, or workers are not told the prior.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    images = source.read(prior.shape[0])
    names = images.names
    exact = settings.get("divergence") == "exact"
    batch = max(1, batch // prior.cost)
    probes = None if exact else settings.get("probes", 4)
    batch = fitting_batch(prior, images.shape, batch, probes, settings.get("k", 1))
    workers = workers or Workers()
    if not workers.alone and opened is None:
        raise ValueError("workers need the name of the prior")
    values: list[float] = []
    errors: list[float] = []
    seconds, nfe, vjps, end = 0.0, 0, 0, 0.0
    streams = spawn(generator, len(names))
    batches = _batches(images, streams, batch)
    if workers.alone:
        results = (
            bits_per_dim(
                prior,
                x,
                generator=own,
                batch=batch,
                progress=_share(progress, first, len(x), len(names)),
                **settings,
            )
            for first, x, own in batches
        )
    else:
        shares = [
            _Share(opened, x, tuple(one.initial_seed() for one in own), batch, settings)
            for _, x, own in batches
        ]
        results = workers.map(_bits, shares)
    for result in results:
        values += result.value.tolist()
        errors += result.std_error.tolist()
        seconds += result.seconds
        nfe, vjps, end = result.nfe, result.vjps, result.end
        if progress and not workers.alone:
            progress(len(values) / len(names))
    x, x_error = (torch.tensor(v, dtype=torch.float64) for v in (values, errors))
    whole = BitsPerDim(x, x_error, nfe, vjps, seconds, end)
    return {
        "format": "scoresde.likelihood-report/1",
        "images": list(names),
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
