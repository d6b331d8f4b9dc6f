r"""The line of noise variance against brightness, from the finest details of a measurement alone.

With light :math:`u = (\text{mean} + 1)/2`, P photons at white and read noise s the variance of an
entry on [-1, 1] is

.. math:: v = \frac{4 u}{P} + s^2 ,

a line (the photon transfer curve of cameras). Both of its numbers can be read off a single picture
(Foi et al. 2008): differences of neighbours are noise where the picture is smooth, and their size
is measured at each brightness. Here the differences are those of a 3 x 3 stencil that slopes of
the picture do not pass, or of shorter ones between holes. The half of the pixels with the flattest
surroundings is kept and cut into bins of equal counts by local mean. The variance of a bin is that
of the median size, and a robust fit on logarithms gives the line.

Clipped pixels have too little noise. Where values pile up at an end, all pixels that are expected
within 2.5 standard deviations of it are left out, whatever their own value is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage, optimize
from torch import Tensor

from problems import InverseProblem

__all__ = ["PhotonTransfer", "photon_transfer"]

_STENCILS = (
    np.outer([1.0, -2.0, 1.0], [1.0, -2.0, 1.0]),
    np.array([[1.0, -2.0, 1.0]]),
    np.array([[1.0], [-2.0], [1.0]]),
    np.array([[1.0, -1.0]]),
)
_FEWEST = 2000  # places of a stencil; with fewer, and few of all, a shorter one is taken
_SIDE = 5  # pixels, of the window of a local mean
_SMOOTH = 1.5  # pixels, before the slope of the picture is measured
_BINS, _IN_BIN = 24, 40
_MEDIAN = 0.6745  # median size of a standard normal number
_ROBUST = 0.3  # of ln v: bins that are further off count less
_SHARE = 0.1
_SMALLEST = 8  # pixels, of the sides of a picture with details
_PILE, _RATIO = 8, 2.0  # clipped entries at least, and how many more than at the next value
_REACH = 2.5  # standard deviations


@dataclass(frozen=True)
class PhotonTransfer:
    """A line of variance against brightness.

    Args:
        gain: Slope 1 / P, above 0.
        read_variance: Variance s^2 of the read noise on [-1, 1].
        unclipped: Entries whose noise is not cut off, bool, of the shape of y.
    """

    gain: float
    read_variance: float
    unclipped: Tensor


def photon_transfer(
    problem: InverseProblem, y: Tensor, read_variance: float | None = None
) -> PhotonTransfer:
    """Fit the line to a measurement.

    Args:
        problem: The operator says which entries are observed; its noise is not used.
        y: Measurement (1, ...). If it is no picture, a share of its size is the guess.
        read_variance: Variance of the read noise if it is known, 0 for counts without it; None to
            fit it.

    Returns:
        The line; texture of the picture makes it too high.

    Example:
        >>> import torch
        >>> from problems import Denoising, InverseProblem, PoissonGaussianNoise
        >>> problem = InverseProblem(Denoising(), PoissonGaussianNoise(peak=50.0, std=0.05))
        >>> slope = torch.linspace(-0.9, 0.9, 96).expand(1, 1, 96, 96)
        >>> y = problem.measure(slope, torch.Generator().manual_seed(0))
        >>> line = photon_transfer(problem, y, read_variance=0.05**2)
        >>> abs(line.gain * 50 - 1) < 0.15
        True
    """
    seen = problem.operator.observed(y).expand_as(y)
    counts = read_variance == 0
    if y.ndim != 4 or min(y.shape[-2:]) < _SMALLEST:
        return _by_size(y, seen, read_variance)
    z, holes = y[0].double().cpu().numpy(), ~seen[0].cpu().numpy()
    low, high = _ends(z[~holes])
    low = -math.inf if counts else low  # no photons are a count, too
    clipped = (z <= low) | (z >= high)
    details = _details(z, holes | clipped)
    if details is None:
        return _by_size(y, seen, read_variance)
    gain, floor = _fit(*details, read_variance)
    inside = np.ones_like(z, dtype=bool)
    if math.isfinite(low) or math.isfinite(high):
        mean = _local_mean(z, ~holes)
        spread = np.sqrt(4 * gain * ((mean + 1) / 2).clip(0) + floor)
        inside = (mean - _REACH * spread > low) & (mean + _REACH * spread < high)
        details = _details(z, holes | ~inside)
        if details is not None:
            gain, floor = _fit(*details, read_variance)
    unclipped = torch.from_numpy(inside)[None].to(y.device)
    return PhotonTransfer(gain, floor, unclipped)


def _by_size(y: Tensor, seen: Tensor, read_variance: float | None) -> PhotonTransfer:
    """A guess for measurements without details."""
    values = y[seen].double()
    variance = _SHARE**2 * max(float((values + 1).square().mean()), 1e-12)
    light = max(float((values + 1).mean()) / 2, 1e-3)
    floor = _SHARE * variance if read_variance is None else read_variance
    return PhotonTransfer(variance / (4 * light), floor, torch.ones_like(seen))


def _ends(values: np.ndarray) -> tuple[float, float]:
    """Values below and above which the measurement was cut off; infinite if it was not."""
    levels, counts = np.unique(values, return_counts=True)
    if len(levels) < 3:
        return -math.inf, math.inf
    low = counts[0] >= _PILE and counts[0] > _RATIO * counts[1]
    high = counts[-1] >= _PILE and counts[-1] > _RATIO * counts[-2]
    return float(levels[0]) if low else -math.inf, float(levels[-1]) if high else math.inf


def _local_mean(z: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Mean over the entries of a window that are there, 0 if none is."""
    size = (1, _SIDE, _SIDE)
    total = ndimage.uniform_filter(np.where(there, z, 0.0), size)
    share = ndimage.uniform_filter(there.astype(float), size)
    mean: np.ndarray = np.where(share > 1e-9, total / np.maximum(share, 1e-9), 0.0)
    return mean


def _details(z: np.ndarray, holes: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Local mean and detail of unit variance of the flattest places; None if there are few."""
    there = ~holes
    for stencil in _STENCILS:
        kernel = (stencil / np.linalg.norm(stencil))[None]
        detail = ndimage.correlate(np.where(there, z, 0.0), kernel, mode="nearest")
        whole = ndimage.binary_erosion(there, np.ones(kernel.shape, dtype=bool))
        if whole.sum() >= min(_FEWEST, there.sum() / 2):
            break
    if whole.sum() < _IN_BIN:
        return None
    mean = _local_mean(z, there)
    smooth = [ndimage.gaussian_filter(one, _SMOOTH) for one in np.where(there, z, mean)]
    slope = np.stack([np.hypot(*np.gradient(one)) for one in smooth])
    mean, detail, slope = mean[whole], detail[whole], slope[whole]
    order = np.argsort(mean)
    parts = np.array_split(order, max(1, min(_BINS, len(order) // _IN_BIN)))
    kept = np.concatenate([part[slope[part] <= np.median(slope[part])] for part in parts])
    return mean[kept], detail[kept]


def _fit(mean: np.ndarray, detail: np.ndarray, known: float | None) -> tuple[float, float]:
    """Gain and variance of the read noise, of the pixels of a picture."""
    parts = np.array_split(np.argsort(mean), max(2, min(_BINS, len(mean) // _IN_BIN)))
    light = np.array([((mean[part].mean() + 1) / 2).clip(1e-4) for part in parts])
    size = [np.median(np.abs(detail[part])) for part in parts]
    variance = np.maximum((np.array(size) / _MEDIAN) ** 2, 1e-12)
    slope = float(np.median(variance) / (4 * np.median(light)))

    def off(parameters: np.ndarray) -> np.ndarray:
        floor = np.exp(parameters[1]) if known is None else known
        found: np.ndarray = np.log(variance / (4 * np.exp(parameters[0]) * light + floor))
        return found

    start = [math.log(slope), math.log(float(variance.min()) / 2)][: 1 + (known is None)]
    found = optimize.least_squares(off, start, loss="soft_l1", f_scale=_ROBUST)
    # a floor above all variances leaves nothing for the photons
    gain = max(float(np.exp(found.x[0])), 1e-3 * slope)
    return gain, float(np.exp(found.x[1])) if known is None else known
