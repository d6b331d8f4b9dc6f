"""How far Markov chains agree, and how many independent draws they are worth.

Split R-hat and effective sample size as in Stan: chains are cut in halves, and the autocorrelation
is summed in pairs as long as the sums are positive and do not grow (Geyer).
"""

import torch
from torch import Tensor

__all__ = ["effective_size", "r_hat"]


def _split(chains: Tensor) -> Tensor:
    """Halves of the chains as chains; an odd draw in the middle is left out."""
    if chains.ndim < 2 or chains.shape[1] < 4:
        raise ValueError(f"chains need four draws or more, got shape {tuple(chains.shape)}")
    half = chains.shape[1] // 2
    return torch.cat([chains[:, :half], chains[:, -half:]])


def _variances(halves: Tensor) -> tuple[Tensor, Tensor]:
    """Variance within the chains, and that of all draws as the means of the chains show it."""
    within = halves.var(1).mean(0)
    n = halves.shape[1]
    return within, within * (n - 1) / n + halves.mean(1).var(0)


def r_hat(chains: Tensor) -> Tensor:
    """Compute the split R-hat.

    Args:
        chains: Draws, (chains, draws, ...), at least four draws.

    Returns:
        Root of the ratio of all variance to that within chains, (...); 1 for chains of one law.

    Raises:
        ValueError: If there are fewer than four draws.

    Example:
        >>> chains = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
        >>> round(float(r_hat(chains)), 2)
        1.0
        >>> bool(r_hat(chains + torch.tensor([[0.0], [1.0]])) > 1.05)
        True
    """
    within, total = _variances(_split(chains))
    return (total / within).sqrt()


def effective_size(chains: Tensor) -> Tensor:
    """Compute the effective sample size.

    Args:
        chains: Draws, (chains, draws, ...), at least four draws.

    Returns:
        Number of independent draws whose mean has the same variance, (...).

    Raises:
        ValueError: If there are fewer than four draws.

    Example:
        >>> chains = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0))
        >>> 1600 < float(effective_size(chains)) < 2600
        True
    """
    halves = _split(chains)
    within, total = _variances(halves)
    m, n = halves.shape[:2]
    centred = halves - halves.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(centred, 2 * n, dim=1).abs().square().mean(0)
    covariance = torch.fft.irfft(spectrum, 2 * n, dim=0)[:n] / n
    correlation = 1 - (within - covariance) / total
    pairs = correlation[: n // 2 * 2].unflatten(0, (-1, 2)).sum(1)
    positive = (pairs > 0).cumprod(0)
    pairs = torch.cummin(pairs, 0).values * positive
    time = (2 * pairs.sum(0) - 1).clamp_min(1 / torch.tensor(float(m * n)).log10())
    size: Tensor = m * n / time
    return size
