r"""Kernels with one or two parameters, from the spectrum of a picture alone.

The evidence of Whittle (``scoresde.spectral_evidence``) is that of a Gaussian prior whose spectrum
is a power law. On pictures of some hundred pixels a side it has a sharp maximum: on ten photographs
of 256 pixels a side the radius of a disk of 3 pixels is found within 1 %, Gaussians mostly within
6 %, and the line of every motion. On small pictures it is misled, and posterior draws decide
(``parameters``).

The search is over a grid, and then by the simplex of scipy. With the slopes g of the terms of the
evidence, the standard error is that of a sandwich, :math:`H^{-1} B H^{-1}` with
:math:`B = \omega \sum_f g_f g_f^T`. The window makes neighbouring frequencies dependent, hence
:math:`\omega`. What photographs have in their spectra that no power law has is not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from problems import Blur
from problems.operators.convolution import Convolution
from scoresde.estimation.family import Parameter
from scoresde.estimation.parameters import OutOfRange
from scoresde.spectral_evidence import DEPENDENT, SpectralEvidence

__all__ = ["values_by_spectrum"]

_GRID = 1.12  # ratio between widths
_FIRST = 0.4  # of a stride: the first simplex
_EVALUATIONS = 100
_DIFFERENCE = 0.02  # of the coordinates, for slopes
_CLEAR = 10.0  # nats above no blur


def values_by_spectrum(
    y: Tensor,
    sigma: float,
    blur: Callable[..., Convolution],
    parameters: Sequence[Parameter],
    least: float,
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[tuple[float, ...], ...]]:
    """Find the parameters of a kernel that explain the spectrum best.

    Args:
        y: A blurred picture (1, C, H, W).
        sigma: Standard deviation of its noise, above 0.
        blur: Makes the kernel of the values, one argument for each parameter.
        parameters: The parameters; the last is a size. A single one is sought in its whole range,
            several near their start.
        least: Smallest size that is not the sharpness of the picture itself.

    Returns:
        Values, their standard errors, and the values where the search began and ended.

    Raises:
        OutOfRange: If the spectrum shows no such blur, or one at an end of the range.

    Example:
        >>> import torch
        >>> from problems import DiskBlur
        >>> f = torch.fft.fftfreq(128)
        >>> distance = torch.hypot(f[:, None], f).clamp_min(1 / 128)
        >>> g = torch.Generator().manual_seed(0)
        >>> white = torch.randn(1, 1, 128, 128, generator=g)
        >>> x = 0.02 * torch.fft.ifft2(torch.fft.fft2(white) / distance).real
        >>> y = DiskBlur(2.2).apply(x) + 0.01 * torch.randn(1, 1, 128, 128, generator=g)
        >>> radius = Parameter("radius", 1.0, 0.7, 9.0)
        >>> values, error, _ = values_by_spectrum(y, 0.01, DiskBlur, [radius], 0.8)
        >>> abs(values[0] - 2.2) < 2 * error[0] < 0.2
        True
    """
    evidence = SpectralEvidence(y, sigma)

    def kernel(u: Sequence[float]) -> Convolution:
        inside = [
            min(max(p.value(float(c)), p.low), p.high) for p, c in zip(parameters, u, strict=True)
        ]
        return blur(*inside)

    def loss(u: Sequence[float]) -> float:
        return -float(evidence.terms(kernel(u)).sum())

    start = [p.coordinate(p.start) for p in parameters]
    if len(parameters) == 1:
        p = parameters[0]
        grid = np.arange(p.coordinate(p.low), p.coordinate(p.high), np.log(_GRID))
        start = [float(min(grid, key=lambda c: -evidence(kernel([c]))))]
    strides = np.diag([_FIRST * p.stride for p in parameters])
    simplex = np.vstack([start, start + strides])
    found = minimize(
        loss, start, method="Nelder-Mead",
        options={"initial_simplex": simplex, "maxfev": _EVALUATIONS, "xatol": 1e-3, "fatol": 0.01},
    )  # fmt: skip
    u = [float(c) for c in found.x]
    values = tuple(p.value(c) for p, c in zip(parameters, u, strict=True))
    size = parameters[-1]
    nothing = float(evidence.terms(Blur(torch.ones(1, 1), "reflect")).sum())
    least = max(least, size.low)
    if values[-1] <= least or -found.fun < nothing + _CLEAR:
        raise OutOfRange(replace(size, low=least, start=max(least, size.start)), low=True)
    if values[-1] >= size.high:
        raise OutOfRange(size, low=False)
    sd = _covariance(evidence, kernel, u).diagonal().clamp_min(0).sqrt().tolist()
    error = tuple(p.error(v, s) for p, v, s in zip(parameters, values, sd, strict=True))
    began = tuple(p.value(c) for p, c in zip(parameters, start, strict=True))
    return values, error, (began, values)


def _covariance(
    evidence: SpectralEvidence, kernel: Callable[[Sequence[float]], Convolution], u: list[float]
) -> Tensor:
    """Covariance of the coordinates at the maximum, by central differences."""
    n, h = len(u), _DIFFERENCE

    def at(*steps: tuple[int, float]) -> Tensor:
        moved = list(u)
        for i, by in steps:
            moved[i] += by
        return evidence.terms(kernel(moved))

    slopes = torch.stack([(at((i, h)) - at((i, -h))) / (2 * h) for i in range(n)])
    H = torch.zeros(n, n, dtype=torch.float64)
    for i in range(n):
        for j in range(i + 1):
            up = at((i, h), (j, h)) - at((i, h), (j, -h))
            down = at((i, -h), (j, h)) - at((i, -h), (j, -h))
            H[i, j] = H[j, i] = (down - up).sum() / (4 * h * h)
    inverse = torch.linalg.pinv(H)
    return inverse @ (DEPENDENT * slopes @ slopes.T) @ inverse
