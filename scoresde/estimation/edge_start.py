r"""A first guess of a kernel of any shape, from the strong edges of the measurement.

The spectrum of a measurement (``spectral_start``) has the size of a kernel's transfer function and
not its phase. It tells lines and discs apart, and no path of a shaking camera. Edges have the
phase: a picture whose gradients are mostly zero, as drawings have them, is found by

.. math:: \min_x |k * x - y|^2 + \lambda |\nabla x|_0 ,

and a kernel from its gradients by least squares, in turn (Xu et al. 2013; Pan et al. 2014). The
picture is no restoration. It keeps only edges that are long against the kernel, and as these are
sharper than those of y, the kernel does not end at no blur. Both steps are a few Fourier
transforms, from coarse to fine levels of a pyramid, and take about a second. Kernels that are found
with several :math:`\lambda` are candidates, among which the evidence of the spectrum chooses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from problems import Blur

__all__ = ["edge_kernels"]

_LAMBDAS = (1e-3, 2e-3, 4e-3)  # for values on [0, 1]
_FAINT = (0.1, 0.2)  # of the largest tap: smaller ones are left out at the end
_RIDGE = 8e-4  # of the least squares, in units of |gradient|^2 per pixel
_ROUNDS = 5  # at each level of the pyramid
_FACTOR = math.sqrt(2)  # between levels
_SHRINK, _LEAST = 1.1, 1e-4  # lambda falls with the rounds
_STEEPEST = 1e5  # weight of the split gradients at which the half-quadratic splitting ends
_TAP = 0.05  # of the largest one, below which taps are noise while the search runs


def edge_kernels(y: Tensor, size: int) -> list[Blur]:
    """Estimate kernels from strong edges.

    Args:
        y: A blurred picture (1, C, H, W), on [-1, 1].
        size: Odd side of the kernel in pixels, at most a third of the sides of y.

    Returns:
        Kernels of this side, one for each setting.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> x = torch.zeros(1, 1, 96, 96)
        >>> for _ in range(40):  # a picture of rectangles
        ...     i, j, h, w = torch.randint(0, 64, (4,), generator=g).tolist()
        ...     x[..., i : i + h, j : j + w] = 2 * torch.rand((), generator=g) - 1
        >>> kernel = torch.zeros(7, 7)
        >>> kernel[1:6, 3] = kernel[1, 3:6] = 1  # two strokes that meet in a corner
        >>> y = Blur(kernel / kernel.sum(), "reflect").apply(x)
        >>> found = edge_kernels(y, 9)[-2].taps[0]  # centred by its mass
        >>> bool(found[3:8, 2].sum() + found[3, 3:6].sum() > 0.6)
        True
    """
    grey = (y[0].double().mean(0) + 1) / 2
    sides = [size]
    while sides[-1] > 3:
        smaller = int(sides[-1] / _FACTOR)
        sides.append(max(3, smaller - 1 + smaller % 2))
    kernels = [torch.full((3, 3), 1 / 9, dtype=grey.dtype)] * len(_LAMBDAS)
    for side in reversed(sides):
        level = _Level.of(_resized(grey, [round(n * side / size) for n in grey.shape]), side)
        kernels = [
            level.improve(_thinned(_resized(kernel, [side] * 2)), weight)
            for kernel, weight in zip(kernels, _LAMBDAS, strict=True)
        ]
    return [
        Blur(_centred(_thinned(kernel, faint)), "reflect") for kernel in kernels for faint in _FAINT
    ]


@dataclass(frozen=True)
class _Level:
    """A level of the pyramid: the picture with a faded rim, and what all rounds need of it.

    Args:
        y: The picture.
        inside: 1 where it is not faded.
        spectrum: Its Fourier transform.
        gradients: Those of its gradients inside.
        power: Squared size of the transfer functions of both gradients, summed.
        side: Side of the kernel.
    """

    y: Tensor
    inside: Tensor
    spectrum: Tensor
    gradients: tuple[Tensor, ...]
    power: Tensor
    side: int

    @classmethod
    def of(cls, y: Tensor, side: int) -> _Level:
        y = F.pad(y[None, None], [side] * 4, mode="reflect")[0, 0]
        inside, delta = torch.zeros_like(y), torch.zeros_like(y)
        inside[side:-side, side:-side] = 1
        delta[0, 0] = 1
        y = _tapered(y, side)
        power = torch.stack([torch.fft.fft2(one).abs().square() for one in _gradients(delta)])
        gradients = tuple(torch.fft.fft2(one * inside) for one in _gradients(y))
        return cls(y, inside, torch.fft.fft2(y), gradients, power.sum(0), side)

    def improve(self, kernel: Tensor, weight: float) -> Tensor:
        """Find picture and kernel in turn."""
        for _ in range(_ROUNDS):
            kernel = _centred(_thinned(self._kernel_of(self._of_few_edges(kernel, weight))))
            weight = max(weight / _SHRINK, _LEAST)
        return kernel

    def _of_few_edges(self, kernel: Tensor, weight: float) -> Tensor:
        """The picture of few gradients that y is a blur of, by half-quadratic splitting."""
        transfer = _transfer(kernel, self.y)
        data, share = transfer.conj() * self.spectrum, transfer.abs().square()
        x, beta = self.y, 2 * weight
        while beta < _STEEPEST:
            right, down = _gradients(x)
            flat = right.square() + down.square() < weight / beta
            right, down = right.masked_fill(flat, 0), down.masked_fill(flat, 0)
            back = torch.roll(right, 1, 1) - right + torch.roll(down, 1, 0) - down
            spectrum = (data + beta * torch.fft.fft2(back)) / (share + beta * self.power)
            x = torch.fft.ifft2(spectrum).real
            beta *= 2
        return x

    def _kernel_of(self, x: Tensor) -> Tensor:
        """The kernel that takes the gradients of x to those of y, with taps of both signs."""
        cross, power = 0, 0
        for of_x, b in zip(_gradients(x), self.gradients, strict=True):
            a = torch.fft.fft2(of_x * self.inside)
            cross, power = cross + a.conj() * b, power + a.abs().square()
        kernel = torch.fft.ifft2(cross / (power + _RIDGE * x.numel())).real
        half = self.side // 2
        return torch.roll(kernel, (half, half), (0, 1))[: self.side, : self.side]


def _gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences to the right and downwards, around the borders."""
    return torch.roll(x, -1, 1) - x, torch.roll(x, -1, 0) - x


def _transfer(kernel: Tensor, y: Tensor) -> Tensor:
    side = len(kernel)
    padded = F.pad(kernel, [0, y.shape[1] - side, 0, y.shape[0] - side])
    return torch.fft.fft2(torch.roll(padded, (-(side // 2), -(side // 2)), (0, 1)))


def _tapered(y: Tensor, rim: int) -> Tensor:
    """Fade the rim to the mean, so that opposite borders meet."""
    ramp = torch.sin(torch.linspace(0, math.pi / 2, rim + 2, dtype=y.dtype)[1:-1]).square()
    rows, columns = (
        torch.cat([ramp, torch.ones(n - 2 * rim, dtype=y.dtype), ramp.flip(0)]) for n in y.shape
    )
    window = rows[:, None] * columns
    return window * y + (1 - window) * y.mean()


def _resized(x: Tensor, shape: list[int]) -> Tensor:
    if list(x.shape) == shape:
        return x
    return F.interpolate(
        x[None, None], size=shape, mode="bicubic", align_corners=False, antialias=True
    )[0, 0]


def _thinned(kernel: Tensor, faint: float = _TAP) -> Tensor:
    """Leave out negative and faint taps; the sum is 1. Without any edge there is no blur."""
    if not kernel.max() > 0:
        kernel = torch.zeros_like(kernel)
        kernel[len(kernel) // 2, len(kernel) // 2] = 1
    kernel = torch.where(kernel < faint * kernel.max(), 0, kernel)
    return kernel / kernel.sum()


def _centred(kernel: Tensor) -> Tensor:
    """Move the centre of mass to the middle, by whole pixels; what leaves the frame is lost."""
    side = len(kernel)
    i = torch.arange(side, dtype=kernel.dtype)
    down, right = (side // 2 - round(float(p @ i)) for p in (kernel.sum(1), kernel.sum(0)))
    padded = F.pad(kernel, [side] * 4)
    moved = torch.roll(padded, (down, right), (0, 1))[side:-side, side:-side]
    return moved / moved.sum()
