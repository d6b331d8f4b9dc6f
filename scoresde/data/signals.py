"""Signals, pictures and volumes as arrays of numbers, in the units of their owner."""

import math
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from problems.checks import check_number
from problems.reading.arrays import read_array_file
from scoresde.data.datasets import WHOLE
from scoresde.errors import InputError, as_input_error

__all__ = ["Signals"]

_NAMES = {
    1: "(N, L), (N, C, L), or (L,) for one signal",
    2: "(N, H, W) or (N, C, H, W)",
    3: "(N, D, H, W) or (N, C, D, H, W)",
}


class Signals:
    """Samples with one, two or three axes, whole or as random crops.

    Values are used as they are. A network is trained with the ``sigma_data`` that is measured here,
    and with noise levels in proportion (:meth:`scoresde.training.NoiseLevels.scaled`).

    Args:
        samples: Real numbers, (N, L), (N, C, L) or one signal (L,) for one dimension; (N, H, W) or
            (N, C, H, W) for two; (N, D, H, W) or (N, C, D, H, W) for three.
        dimensions: Number of axes of a sample, 1 to 3, without that of the channels.

    Attributes:
        samples: The samples, shape (N, C, ...), float32.
        channels: Number of channels, 1 if the samples came without.
        sides: Lengths of the axes of a sample.
        sigma_data: Root mean square of all values. It is the standard deviation of data with mean
            zero; from other data subtract the mean.

    Raises:
        InputError: If the samples are empty, complex, not finite, all zero, or have another number
            of axes.

    Example:
        >>> import torch
        >>> from scoresde.data.signals import Signals
        >>> data = Signals(torch.tensor([[3.0, 4.0, 3.0, 4.0]]), dimensions=1)
        >>> data.samples.shape, round(data.sigma_data ** 2, 3)
        (torch.Size([1, 1, 4]), 12.5)
        >>> data.batch(5, 2, torch.Generator().manual_seed(0)).shape
        torch.Size([5, 1, 2])
    """

    def __init__(self, samples: Tensor | np.ndarray, dimensions: int) -> None:
        dimensions = int(
            check_number(dimensions, "dimensions of signals", least=1, most=3, whole=True)
        )
        values = torch.as_tensor(samples)
        if values.is_complex():
            raise InputError(
                "signals must be real numbers, got complex ones; give real and imaginary parts as "
                "two channels"
            )
        if dimensions == 1 and values.ndim == 1:
            values = values[None]
        if values.ndim == dimensions + 1:
            values = values[:, None]
        if values.ndim != dimensions + 2 or not values.numel():
            raise InputError(
                f"samples with {dimensions} {'axis' if dimensions == 1 else 'axes'} are an array "
                f"{_NAMES[dimensions]}, got the shape {tuple(np.shape(samples))}"
            )
        # a copy, because numpy's array may change or be read-only
        self.samples = values.to(torch.float32, copy=True).contiguous()
        if not bool(torch.isfinite(self.samples).all()):
            raise InputError(
                "signals must be finite numbers, got NaN or infinity; take those samples out"
            )
        self.channels, self.sides = self.samples.shape[1], tuple(self.samples.shape[2:])
        self.sigma_data = math.sqrt(float(self.samples.double().square().mean()))
        if self.sigma_data == 0:
            raise InputError("signals must not all be zero: there is nothing to learn")

    @classmethod
    def read(cls, path: str | Path, dimensions: int, key: str | None = None) -> Self:
        """Read samples from an array file.

        Args:
            path: Path of a .npy, .npz or .mat file.
            dimensions: Number of axes of a sample, 1 to 3.
            key: Name of the array in a .npz or .mat file; None if there is only one.

        Returns:
            The samples.

        Raises:
            InputError: If the file cannot be read, or its array is none of samples; the message
                names the file.
        """
        with as_input_error():
            array = read_array_file(path, key, "--array NAME")
        try:
            return cls(array, dimensions)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    def __len__(self) -> int:
        return len(self.samples)

    def check_crop(self, size: int) -> None:
        """Check that a crop is not longer than every axis.

        Args:
            size: Largest length of the crops.

        Raises:
            InputError: If it is.
        """
        if size > max(self.sides):
            raise InputError(
                f"samples of {'x'.join(map(str, self.sides))} are shorter than the crop {size}; "
                "use a smaller --crop"
            )

    def batch(self, n: int, size: int, generator: torch.Generator, rows: slice = WHOLE) -> Tensor:
        """Draw a batch: uniform sample and position.

        Args:
            n: Number of samples.
            size: Length of the crops along each axis. An axis that is not longer is taken whole.
            generator: Source of the random numbers, on the CPU.
            rows: Part of the batch to read; its random numbers are those of the whole one.

        Returns:
            Samples, shape (n, C, ...), float32, in the units of the data.
        """
        index = torch.randint(len(self), (n,), generator=generator)[rows]
        starts = [
            torch.randint(max(1, s - size + 1), (n,), generator=generator)[rows] for s in self.sides
        ]
        if all(side <= size for side in self.sides):
            return self.samples[index]
        corners = zip(index.tolist(), *(one.tolist() for one in starts), strict=True)
        return torch.stack(
            [
                self.samples[(i, slice(None), *(slice(start, start + size) for start in corner))]
                for i, *corner in corners
            ]
        )
