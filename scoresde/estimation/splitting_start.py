r"""A first guess of a kernel of any shape, by half-quadratic splitting with the prior.

The spectrum of a measurement (``scoresde.spectral_evidence``) has the size of a kernel's transfer
function and not its phase. It tells lines and discs apart, and no path of a shaking camera. Picture
and kernel are found in turn, from coarse to fine levels of a pyramid:

.. math:: x \leftarrow D\bigl(\operatorname{argmin}_z |k * z - y|^2/\sigma^2
          + \lambda\,|z - x|^2/s^2,\; s\bigr) , \qquad
          k \leftarrow \operatorname{argmin}_k |k * \nabla x - \nabla y|^2 + \mu\,|k|^2 .

The first is a step of plug-and-play restoration (Zhang et al. 2021). At each level of the pyramid
the noise s falls from several standard deviations of the data. There the denoiser D returns a
picture of few strong edges, sharper than those of y, so that the kernel does not end at no blur
(Levin et al. 2009); classical methods select such edges by a rule (Cho and Lee 2009). Both steps
are a few Fourier transforms and one evaluation of the network. Kernels that are found with several
:math:`\lambda` and :math:`\mu` are candidates, among which the evidence of the spectrum chooses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from problems import Blur
from scoresde.priors.base import Prior
from solvers.samplers.grid import time_at
from solvers.scale import Scale

__all__ = ["kernels_by_splitting"]

_SETTINGS = ((3.0, 3e-3), (1.0, 3e-3), (3.0, 1e-2), (1.0, 1e-2))  # lambda, mu per pixel
_HIGHEST, _LOWEST = 4.0, 0.4  # noise s, in standard deviations of the data
_ROUNDS = 12  # at each level of the pyramid
_PICTURES = 2  # steps of the picture in each
_FACTOR = math.sqrt(2)  # between levels
_LEAST_NOISE = 0.3  # of sigma, at coarse levels: the mean of pixels has less noise, but errors too
_TAP = 0.05  # of the largest one, below which taps are noise


def kernels_by_splitting(y: Tensor, prior: Prior, sigma: float, size: int) -> list[Blur]:
    """Estimate kernels by turns with the picture.

    Args:
        y: A blurred picture (1, C, H, W).
        prior: Prior of pictures.
        sigma: Standard deviation of the noise, above 0.
        size: Odd side of the kernel in pixels, at most a third of the sides of y.

    Returns:
        Kernels of this side, one for each setting; none if the prior does not take pictures of the
        sizes of the pyramid.

    Example:
        >>> import torch
        >>> from problems import GaussianBlur
        >>> from scoresde import load_prior
        >>> y = GaussianBlur(1.0, "reflect").apply(torch.rand(1, 3, 32, 32) - 0.5)
        >>> len(kernels_by_splitting(y, load_prior("natural"), 0.02, 3))
        4
    """
    levels = [_Level.of(y.detach().double().cpu(), sigma, side, size) for side in _sides(size)]
    if not all(prior.accepts(tuple(level.y.shape)) for level in levels):
        return []
    std = Scale(prior).data
    noises = [std * _HIGHEST * (_LOWEST / _HIGHEST) ** (i / (_ROUNDS - 1)) for i in range(_ROUNDS)]
    found = []
    for trust, ridge in _SETTINGS:
        kernel = torch.full((3, 3), 1 / 9, dtype=torch.float64)
        for level in levels:
            kernel = level.improve(kernel, prior, noises, trust, ridge)
        found.append(Blur(kernel, "reflect"))
    return found


def _sides(size: int) -> list[int]:
    """Sides of the kernel at the levels, from coarse to fine, all odd."""
    sides = [size]
    while sides[-1] > 3:
        smaller = int(sides[-1] / _FACTOR)
        sides.append(max(3, smaller - 1 + smaller % 2))
    return sides[::-1]


@dataclass(frozen=True)
class _Level:
    """A level of the pyramid: the picture with a faded rim, and what all rounds need of it.

    Args:
        y: The picture (C, H, W).
        sigma: Standard deviation of its noise.
        inside: 1 where it is not faded, (H, W).
        spectrum: Its Fourier transform.
        gradients: Those of its gradients inside.
        side: Side of the kernel.
    """

    y: Tensor
    sigma: float
    inside: Tensor
    spectrum: Tensor
    gradients: tuple[Tensor, ...]
    side: int

    @classmethod
    def of(cls, y: Tensor, sigma: float, side: int, size: int) -> _Level:
        """The level at which a kernel of ``size`` pixels in y (1, C, H, W) has ``side``."""
        y = _resized(y, [round(n * side / size) for n in y.shape[-2:]])
        y = F.pad(y, [side] * 4, mode="reflect")[0]
        inside = torch.zeros_like(y[0])
        inside[side:-side, side:-side] = 1
        y = _tapered(y, side)
        gradients = tuple(torch.fft.fft2(one * inside) for one in _gradients(y))
        sigma = sigma * max(side / size, _LEAST_NOISE)
        return cls(y, sigma, inside, torch.fft.fft2(y), gradients, side)

    def improve(
        self, kernel: Tensor, prior: Prior, noises: list[float], trust: float, ridge: float
    ) -> Tensor:
        """Find picture and kernel in turn, from a kernel of the level before."""
        kernel, x = _thinned(_resized(kernel[None, None], [self.side] * 2)[0, 0]), self.y
        for s in noises:
            for _ in range(_PICTURES):
                z = self._deblurred(x, kernel, trust * (self.sigma / s) ** 2)
                x = self._denoised(z, prior, s)
            kernel = _centred(_thinned(self._kernel_of(x, ridge)))
        return kernel

    def _deblurred(self, x: Tensor, kernel: Tensor, weight: float) -> Tensor:
        """The picture between y and x, by the weight of x."""
        transfer = _transfer(kernel, self.y)
        spectrum = transfer.conj() * self.spectrum + weight * torch.fft.fft2(x)
        return torch.fft.ifft2(spectrum / (transfer.abs().square() + weight)).real

    @staticmethod
    def _denoised(z: Tensor, prior: Prior, s: float) -> Tensor:
        with torch.no_grad():
            t = time_at(prior, torch.tensor(s, device=prior.device))
            z = z[None].to(device=prior.device, dtype=prior.dtype)
            return prior.denoise(prior.sde.alpha(t).to(z) * z, t)[0].double().cpu()

    def _kernel_of(self, x: Tensor, ridge: float) -> Tensor:
        """The kernel that takes the gradients of x to those of y, with taps of both signs."""
        cross, power = torch.zeros(()), torch.zeros(())
        for of_x, b in zip(_gradients(x), self.gradients, strict=True):
            a = torch.fft.fft2(of_x * self.inside)
            cross = cross + (a.conj() * b).sum(0)
            power = power + a.abs().square().sum(0)
        kernel = torch.fft.ifft2(cross / (power + ridge * self.inside.numel())).real
        half = self.side // 2
        return torch.roll(kernel, (half, half), (0, 1))[: self.side, : self.side]


def _gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    """Differences to the right and downwards, around the borders."""
    return torch.roll(x, -1, -1) - x, torch.roll(x, -1, -2) - x


def _transfer(kernel: Tensor, y: Tensor) -> Tensor:
    side = len(kernel)
    padded = F.pad(kernel, [0, y.shape[-1] - side, 0, y.shape[-2] - side])
    return torch.fft.fft2(torch.roll(padded, (-(side // 2), -(side // 2)), (0, 1)))


def _tapered(y: Tensor, rim: int) -> Tensor:
    """Fade the rim to the mean, so that opposite borders meet."""
    ramp = torch.sin(torch.linspace(0, math.pi / 2, rim + 2, dtype=y.dtype)[1:-1]).square()
    rows, columns = (
        torch.cat([ramp, torch.ones(n - 2 * rim, dtype=y.dtype), ramp.flip(0)])
        for n in y.shape[-2:]
    )
    window = rows[:, None] * columns
    return window * y + (1 - window) * y.mean((-2, -1), keepdim=True)


def _resized(x: Tensor, shape: list[int]) -> Tensor:
    if list(x.shape[-2:]) == shape:
        return x
    return F.interpolate(x, size=shape, mode="bicubic", align_corners=False, antialias=True)


def _thinned(kernel: Tensor) -> Tensor:
    """Leave out negative and faint taps; the sum is 1. Without any edge there is no blur."""
    if not kernel.max() > 0:
        kernel = torch.zeros_like(kernel)
        kernel[len(kernel) // 2, len(kernel) // 2] = 1
    kernel = torch.where(kernel < _TAP * kernel.max(), 0, kernel)
    return kernel / kernel.sum()


def _centred(kernel: Tensor) -> Tensor:
    """Move the centre of mass to the middle, by whole pixels; what leaves the frame is lost."""
    side = len(kernel)
    i = torch.arange(side, dtype=kernel.dtype)
    down, right = (side // 2 - round(float(p @ i)) for p in (kernel.sum(1), kernel.sum(0)))
    padded = F.pad(kernel, [side] * 4)
    moved = torch.roll(padded, (down, right), (0, 1))[side:-side, side:-side]
    return moved / moved.sum()
