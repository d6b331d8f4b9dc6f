"""``scoresde likelihood``: from pictures or a data set to bits per dimension."""

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
    """Pictures, or the first ``count`` images of an array."""

    images: tuple[Path, ...] = ()
    dataset: Path | None = None
    array: str | None = None
    count: int = 100

    def __post_init__(self) -> None:
        if bool(self.images) == (self.dataset is not None):
            raise InputError("give pictures or --dataset FILE, one of the two")

    def read(self, channels: int) -> tuple[list[str], Iterator[Tensor]]:
        """Their names, and one after the other as uint8 (1, C, H, W)."""
        if self.dataset is not None:
            array = read_arrays(self.dataset, self.array)[: self.count]
            if array.shape[-1] != channels:
                raise InputError(
                    f"the images of {self.dataset} have {array.shape[-1]} channels, the prior {channels}"
                )
            return [str(i) for i in range(len(array))], (_tensor(x) for x in array)
        return [str(path) for path in self.images], (
            _tensor(read_pixels(path, channels)) for path in self.images
        )


def _tensor(pixels: np.ndarray) -> Tensor:
    """(H, W, C) -> (1, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]


def score_images(
    prior: Prior, source: ImageSource, generator: torch.Generator, progress: Callable[[float], None] | None = None,
    batch: int = 16, **settings: Any,
) -> dict[str, Any]:  # fmt: skip
    """The report of the command. settings: of :func:`solvers.bits_per_dim`."""
    names, pictures = source.read(prior.shape[0])
    values: list[float] = []
    errors: list[float] = []
    seconds, nfe, products, end = 0.0, 0, 0, 0.0
    waiting: list[Tensor] = []
    streams, first = spawn(generator, len(names)), None
    for i, picture in enumerate(pictures):
        first = picture.shape if first is None else first
        if picture.shape != first:
            raise InputError(
                f"{names[i]} has another size than {names[0]}; likelihoods of pictures compare only at one size"
            )
        waiting.append(picture)
        if len(waiting) == batch or i + 1 == len(names):
            own = streams[i + 1 - len(waiting) : i + 1]
            result = bits_per_dim(
                prior,
                torch.cat(waiting),
                generator=own,
                batch=max(1, batch // prior.cost),
                **settings,
            )
            values += result.value.tolist()
            errors += result.std_error.tolist()
            seconds, nfe, products, end = (
                seconds + result.seconds,
                result.nfe,
                result.vjps,
                result.end,
            )
            waiting = []
            if progress:
                progress((i + 1) / len(names))
    x, x_error = (torch.tensor(v, dtype=torch.float64) for v in (values, errors))
    whole = BitsPerDim(x, x_error, nfe, products, seconds, end)
    return {
        "images": names, "bits_per_dim": values, "std_error": errors, "mean": whole.mean, "mean_std_error": whole.mean_std_error,
        "dequantisation": "uniform", "density_at": end, "nfe": nfe, "products": products, "seconds": seconds, **settings,
    }  # fmt: skip
