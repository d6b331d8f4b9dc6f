r"""The width of a kernel in the spectrum of a picture, where a narrower one is stated.

A kernel that is too narrow leaves no trace in the residual: some softer picture explains the
measurement as well, and the restoration is that picture. Photographs are not soft at every
frequency alike, though. Their spectra fall with a power of the frequency (``spectral_evidence``).
What falls faster has gone through a wider kernel than the stated one, and the evidence of kernels
of other widths says how much wider.

What photographs have in their spectra that is no power law makes that evidence too sure of itself,
and some of them are softer than others. A kernel is suspected if the most likely width is 1.4 times
the stated one, it adds more blur than photographs have themselves, and its evidence is larger by
more than 10 nats. Kernels that are too wide are left to the residual, which shows them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from problems import (
    Blur,
    DiskBlur,
    GaussianBlur,
    GaussianNoise,
    InverseProblem,
    MotionBlur,
    Operator,
)
from problems.operators.convolution import Convolution
from scoresde.spectral_evidence import DEPENDENT, SPECTRAL, SpectralEvidence, most_detailed

__all__ = ["SeenWidth", "seen_width"]

WIDER = 1.4
"""Most likely width over the stated one, from which on that is suspected."""

OWN = 0.72
"""Variance in square pixels, of both axes together, that photographs have from their own optics.

It is that of a Gaussian of 0.6 pixels.
"""

NATS = 10.0
"""Evidence that the most likely width has more than the stated one."""

_RATIO = 1.1  # between the widths that are compared
_NARROWER, _WIDER = 7, 12  # numbers of them: from 0.51 to 3.1 times the stated one
_SMALLEST = 144  # pixels a side


@dataclass(frozen=True)
class SeenWidth:
    """The most likely width of the kernel.

    Args:
        factor: Its ratio to the stated one, from 0.51 to 3.1.
        nats: How much more evidence it has.
        added: Variance in square pixels, of both axes together, that it has more; negative if it
            is narrower.
    """

    factor: float
    nats: float
    added: float

    @property
    def wider(self) -> bool:
        """Whether the kernel is clearly wider than stated."""
        return self.factor >= WIDER and self.nats > NATS and self.added > OWN


def seen_width(problem: InverseProblem, y: Tensor) -> SeenWidth | None:
    """Compare the width of a kernel with that which the spectrum of a picture shows.

    It costs up to half a second, and no evaluation of a network.

    Args:
        problem: Operator and noise as they are stated.
        y: Measurement (1, C, H, W).

    Returns:
        The most likely width. None for operators other than convolutions of pictures with one
        Gaussian, disk, line or given kernel without negative values, noise that is not white and
        Gaussian, and pictures of less than 144 pixels a side.

    Example:
        >>> import torch
        >>> from problems import GaussianBlur
        >>> f = torch.fft.fftfreq(192)
        >>> distance = torch.hypot(f[:, None], f).clamp_min(1 / 192)
        >>> g = torch.Generator().manual_seed(0)
        >>> white = torch.randn(1, 1, 192, 192, generator=g)
        >>> x = 0.02 * torch.fft.ifft2(torch.fft.fft2(white) / distance).real
        >>> y = InverseProblem(GaussianBlur(1.6), GaussianNoise(0.01)).measure(x, g)
        >>> right, wrong = (
        ...     InverseProblem(GaussianBlur(std), GaussianNoise(0.01)) for std in (1.6, 0.8)
        ... )
        >>> seen_width(right, y).wider, seen_width(wrong, y).wider
        (False, True)
    """
    noise, operator = problem.noise, problem.operator
    if not isinstance(noise, GaussianNoise) or isinstance(noise.std, Tensor):
        return None
    if y.ndim != 4 or min(y.shape[-2:]) < _SMALLEST:
        return None
    scaled = _scaled(operator)
    if scaled is None:
        return None
    part = most_detailed(y, SPECTRAL)
    evidence = SpectralEvidence(part, float(noise.std))
    widths = [_RATIO**number for number in range(-_NARROWER, _WIDER + 1)]
    kernels = {factor: scaled(factor) for factor in widths}
    values = {
        factor: evidence(kernel)
        for factor, kernel in kernels.items()
        if max(kernel.taps.shape[-2:]) <= min(part.shape[-2:])
    }
    if 1.0 not in values:
        return None
    best = max(values, key=lambda factor: values[factor])
    nats = (values[best] - values[1.0]) / DEPENDENT
    added = _variance(kernels[best].taps[0]) - _variance(kernels[1.0].taps[0])
    return SeenWidth(best, nats, added)


def _scaled(operator: Operator) -> Callable[[float], Convolution] | None:
    """The stated kernel, so many times as wide; None if there is no such thing."""
    if isinstance(operator, GaussianBlur):
        return lambda factor: replace(operator, std=operator.std * factor)
    if isinstance(operator, DiskBlur):
        return lambda factor: replace(operator, radius=operator.radius * factor)
    if isinstance(operator, MotionBlur):
        return lambda factor: replace(operator, length=max(1.0, operator.length * factor))
    if not isinstance(operator, Blur) or operator.axes != 2 or len(operator.taps) > 1:
        return None
    if bool((operator.taps < 0).any()):
        return None
    return lambda factor: replace(operator, kernel=_magnified(operator.taps[0], factor))


def _magnified(kernel: Tensor, factor: float) -> Tensor:
    """A kernel (h, w) on a grid that is finer by a factor."""
    if factor == 1:
        return kernel
    size = [max(1, round(n * factor)) for n in kernel.shape]
    wide = torch.nn.functional.interpolate(kernel[None, None], size=size, mode="bilinear")[0, 0]
    return wide * (kernel.sum() / wide.sum())


def _variance(kernel: Tensor) -> float:
    """Second moment about the centre of a kernel (h, w), both axes together, in square pixels."""
    mass = kernel.double() / kernel.sum(dtype=torch.float64)
    total = 0.0
    for axis in (0, 1):
        line = mass.sum(1 - axis)
        i = torch.arange(len(line), dtype=torch.float64, device=line.device)
        mean = (i * line).sum()
        total += float(((i - mean).square() * line).sum())
    return total
