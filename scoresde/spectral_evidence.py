r"""The evidence of a kernel in the power spectrum of a picture.

The spectra of photographs fall with the frequency as :math:`c |f|^{-a}`, with a near 2, and about
as much in each direction (Field 1987). Under a stationary Gaussian prior of this spectrum the
entries of the periodogram I of y, windowed against the jump between opposite borders, are nearly
independent, and the evidence of a kernel k is that of Whittle (1953)

.. math:: \ln p(y | k) = -\sum_f \Bigl(\ln v_f + \frac{I_f}{v_f}\Bigr) , \qquad
          v_f = |\hat k_f|^2\, c |f|^{-a} + \sigma^2 .

It takes a millisecond, so that thousands of kernels are compared. It knows nothing of edges: a
picture of parallel lines looks as if it were blurred along them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import ndimage
from scipy.optimize import minimize_scalar
from torch import Tensor

from problems.operators.convolution import Convolution

__all__ = ["DEPENDENT", "SPECTRAL", "SpectralEvidence", "most_detailed", "periodogram"]

SPECTRAL = 256
"""Longest side, in pixels, of the part whose spectrum is looked at."""

DEPENDENT = 3.8
"""How often the window counts each frequency: its neighbours depend on it.

For a Hann window it is :math:`(n \\sum w^4 / (\\sum w^2)^2)^2`.
"""

_SLOPES = (1.6, 2.0, 2.4, 2.8)  # a
_AROUND = 0.5  # the slope is sought so far from the best of these
_ROUNDS = 12  # of the strength c
_SMOOTHED = 0.7  # pixels, before changes are compared, which noise has too
_LOWEST = 2.5  # periods a side, from which on the window hides its leakage


def periodogram(x: Tensor) -> Tensor:
    """Estimate the spectrum of pictures, windowed against the jump between opposite borders.

    Args:
        x: Pictures (..., H, W).

    Returns:
        Power at each frequency of the discrete Fourier transform (..., H, W), of white noise its
        variance on average.

    Example:
        >>> import torch
        >>> x = 3 * torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
        >>> bool((periodogram(x).mean() / 9 - 1).abs() < 0.1)
        True
    """
    rows, columns = (
        torch.hann_window(n + 2, False, dtype=x.dtype, device=x.device)[1:-1] for n in x.shape[-2:]
    )
    window = rows[:, None] * columns
    x = x - (window * x).sum((-2, -1), keepdim=True) / window.sum()
    return torch.fft.fft2(window * x).abs().square() / window.square().sum()


def most_detailed(y: Tensor, side: int) -> Tensor:
    """Cut out the square that changes most.

    Args:
        y: A picture (1, C, H, W).
        side: Longest side of the result in pixels.

    Returns:
        The part of y, y itself if it is no larger.

    Example:
        >>> import torch
        >>> y = torch.zeros(1, 1, 40, 60)
        >>> y[..., 5, 50] = 1
        >>> most_detailed(y, 20).shape, float(most_detailed(y, 20).max())
        (torch.Size([1, 1, 20, 20]), 1.0)
    """
    height, width = (min(side, n) for n in y.shape[-2:])
    if (height, width) == tuple(y.shape[-2:]):
        return y
    change = np.zeros(tuple(y.shape[-2:]))
    for channel in y[0]:  # one by one, which takes a third of the memory
        smooth = ndimage.gaussian_filter(channel.double().cpu().numpy(), _SMOOTHED)
        change += np.gradient(smooth, axis=0) ** 2 + np.gradient(smooth, axis=1) ** 2
    table = np.pad(change.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    sums = (
        table[height:, width:] - table[:-height, width:] - table[height:, :-width]
        + table[:-height, :-width]
    )  # fmt: skip
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return y[..., top : top + height, left : left + width]


@dataclass(frozen=True)
class SpectralEvidence:
    """ln p(y | k) under a stationary prior.

    Args:
        y: A picture (1, C, H, W).
        sigma: Standard deviation of its noise, above 0.

    Example:
        >>> import torch
        >>> from problems import GaussianBlur
        >>> g = torch.Generator().manual_seed(0)
        >>> white = torch.randn(1, 1, 64, 64, generator=g)
        >>> y = GaussianBlur(1.5).apply(white.cumsum(-1).cumsum(-2) / 64)
        >>> evidence = SpectralEvidence(y + 0.01 * torch.randn(y.shape, generator=g), 0.01)
        >>> max((0.5, 1.5, 3.0), key=lambda std: evidence(GaussianBlur(std)))
        1.5
    """

    y: Tensor
    sigma: float
    _periodogram: Tensor = field(init=False, repr=False)
    _frequency: Tensor = field(init=False, repr=False)
    _used: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # the mean of the channels has nearly all of a photograph and a C-th of the noise
        grey = self.y[0].double().mean(0)
        H, W = grey.shape
        spectrum = periodogram(grey)[:, : W // 2 + 1]
        rows = torch.fft.fftfreq(H, dtype=torch.float64)[:, None]
        columns = torch.fft.rfftfreq(W, dtype=torch.float64)
        frequency = torch.hypot(rows, columns)
        used = (torch.hypot(rows * H, columns * W) >= _LOWEST) & (columns > 0)
        object.__setattr__(self, "_periodogram", spectrum[used])
        object.__setattr__(self, "_frequency", frequency[used])
        object.__setattr__(self, "_used", used)

    def __call__(self, operator: Convolution) -> float:
        """Compute the evidence of a kernel.

        Args:
            operator: One kernel for all channels, no larger than y.

        Returns:
            Nats, up to a constant.
        """
        power = self._power(operator)
        return max(float(self._terms(power, a).sum()) for a in _SLOPES)

    def terms(self, operator: Convolution) -> Tensor:
        """Compute the part of every frequency in the evidence, at the most likely a of all.

        Args:
            operator: One kernel for all channels, no larger than y.

        Returns:
            Nats, one entry for each frequency of half the plane, float64.
        """
        power = self._power(operator)

        def loss(a: float) -> float:
            return -float(self._terms(power, a).sum())

        best = min(_SLOPES, key=loss)
        found = minimize_scalar(
            loss, bounds=(best - _AROUND, best + _AROUND), method="bounded",
            options={"xatol": 1e-3},
        )  # fmt: skip
        return self._terms(power, float(found.x))

    def _power(self, operator: Convolution) -> Tensor:
        kernel = operator.taps[0].double()
        return torch.fft.rfft2(kernel, s=tuple(self.y.shape[-2:])).abs().square()[self._used]

    def _terms(self, power: Tensor, a: float) -> Tensor:
        noise = self.sigma**2 / self.y.shape[1]
        shape = power * self._frequency**-a
        v = self._strength(shape, noise) * shape + noise
        return -(v.log() + self._periodogram / v)

    def _strength(self, shape: Tensor, noise: float) -> Tensor:
        """The most likely c, by Fisher scoring."""
        excess = (self._periodogram - noise).clamp_min(0).sum()
        c = excess / shape.sum() + 1e-12
        for _ in range(_ROUNDS):
            v = c * shape + noise
            weight = (shape / v).square()
            rest = self._periodogram - noise
            # the variance is linear in c
            c = ((weight * rest / shape.clamp_min(1e-300)).sum() / weight.sum()).clamp_min(1e-12)
        return c
