"""A first guess of a kernel, from the spectrum of the measurement alone.

The evidence of a kernel in the spectrum (``scoresde.spectral_evidence``) is computed fast enough to
compare thousands of them. The best few are where a search with the prior of pictures begins.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from problems.operators.convolution import Convolution
from scoresde.spectral_evidence import SpectralEvidence

__all__ = ["best_starts"]


def best_starts(
    y: Tensor, sigma: float, candidates: Sequence[Convolution], count: int
) -> list[Convolution]:
    """Choose kernels that a search may begin with.

    Args:
        y: A picture (1, C, H, W).
        sigma: Standard deviation of its noise, above 0.
        candidates: Kernels, no larger than y.
        count: Number of kernels that are kept.

    Returns:
        The best of them, in falling order.

    Raises:
        ValueError: If there is no candidate.

    Example:
        >>> import torch
        >>> from problems import GaussianBlur, MotionBlur
        >>> f = torch.fft.fftfreq(64)
        >>> distance = torch.hypot(f[:, None], f).clamp_min(1 / 64)
        >>> white = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> x = 0.02 * torch.fft.ifft2(torch.fft.fft2(white) / distance).real
        >>> y = MotionBlur(9, 30.0).apply(x)
        >>> kernels = [MotionBlur(9, 0.0), MotionBlur(9, 30.0), GaussianBlur(2.0)]
        >>> best_starts(y, 0.01, kernels, 1)[0].angle
        30.0
    """
    if not candidates:
        raise ValueError("there is no kernel to begin with")
    evidence = SpectralEvidence(y, sigma)
    return sorted(candidates, key=evidence, reverse=True)[:count]
