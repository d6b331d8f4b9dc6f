"""How fast the machine computes what networks are made of: 3x3 convolutions."""

import statistics
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from problems.checks import check_number

__all__ = ["ConvolutionSpeed", "convolution_speed"]

_CHANNELS, _SIDE = 96, 64  # a middle level of the network `natural`, for 128x128 pixels


@dataclass(frozen=True)
class ConvolutionSpeed:
    """Speed of a convolution.

    Args:
        gflops: Billions of additions and multiplications each second, by the median of the runs.
        runs: Number of convolutions.
    """

    gflops: float
    runs: int


def convolution_speed(
    device: torch.device, dtype: torch.dtype = torch.float32, seconds: float = 0.2
) -> ConvolutionSpeed:
    """Time convolutions of 96 channels on 64x64 pixels.

    Args:
        device: Where they are computed.
        dtype: Their floating type.
        seconds: Time to spend, at least; three convolutions are always made.

    Returns:
        The speed.

    Raises:
        ValueError: If the time is not positive.

    Example:
        >>> import torch
        >>> convolution_speed(torch.device("cpu"), seconds=0.01).gflops > 0
        True
    """
    seconds = float(check_number(seconds, "the seconds of a measurement", above=0))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, _CHANNELS, _SIDE, _SIDE, generator=generator).to(device, dtype)
    w = torch.randn(_CHANNELS, _CHANNELS, 3, 3, generator=generator).to(device, dtype)
    flops = 2 * _CHANNELS**2 * 9 * _SIDE**2
    times: list[float] = []
    with torch.no_grad():
        F.conv2d(x, w, padding=1)  # the first one plans
        _wait(device)
        while len(times) < 3 or sum(times) < seconds:
            start = time.perf_counter()
            F.conv2d(x, w, padding=1)
            _wait(device)
            times.append(time.perf_counter() - start)
    return ConvolutionSpeed(flops / statistics.median(times) / 1e9, len(times))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
