"""Distances between two laws, from features of samples of each.

The features come from :mod:`scoresde.evaluation.features`, as matrices (n, F).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scoresde.evaluation.features import check_features

__all__ = ["KernelDistance", "frechet_distance", "kernel_distance", "squared_distances"]


class _Given(nn.Identity):
    """Feature extractor for torchmetrics that returns its input, since it is features already."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.num_features = features


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    r"""Compute the Fréchet distance of two sets of features (FID; Heusel et al. 2017).

    It is the squared Wasserstein distance of the Gaussians with the mean and the covariance of each
    set,

    .. math:: |m - m'|^2 + \operatorname{tr}\big(S + S' - 2 (S S')^{1/2}\big) \ge 0 .

    It is biased: two sets of n samples from one law have a distance of the order of 1/n. Compare
    only distances at the same n, and use n far above F. Where a covariance is singular, rounding
    leaves about 1e-7 of the traces.

    Args:
        real: Features of real samples, shape (n, F), n at least 2.
        fake: Features of generated samples, shape (m, F), m at least 2.

    Returns:
        The distance, 0 or more.

    Raises:
        ValueError: If the features are not finite matrices with the same number of columns.

    Example:
        >>> import torch
        >>> from scoresde.evaluation import frechet_distance
        >>> real = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
        >>> round(frechet_distance(real, real + torch.tensor([3.0, 0.0])), 4)
        9.0
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    real, fake = check_features(real, fake)
    metric = FrechetInceptionDistance(feature=_Given(real.shape[1])).to(real.device)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return max(0.0, float(metric.compute()))


@dataclass(frozen=True)
class KernelDistance:
    """Estimate of a kernel distance.

    Args:
        mean: Unbiased estimate. For equal laws it is negative about as often as positive.
        error: Standard error of the estimate.
    """

    mean: float
    error: float


def kernel_distance(
    real: Tensor, fake: Tensor, subsets: int = 10, generator: torch.Generator | None = None
) -> KernelDistance:
    r"""Compute the kernel distance of two sets of features (KID; Binkowski et al. 2018).

    It is the squared maximum mean discrepancy with the kernel
    :math:`k(x, y) = (x^\top y / F + 1)^3`,

    .. math:: \frac{1}{m(m-1)} \sum_{i \ne j} \big(k(x_i, x_j) + k(y_i, y_j)\big)
              - \frac{2}{m^2} \sum_{i,j} k(x_i, y_j) ,

    which is unbiased at any m. The mean is over ``subsets`` pairs of random subsets of size m =
    min(n, n') // subsets. The subsets are disjoint, hence independent, and the standard error is
    that of their mean. Overlapping subsets, as in the class of torchmetrics, would understate it.

    Args:
        real: Features of real samples, shape (n, F).
        fake: Features of generated samples, shape (n', F).
        subsets: Number of pairs of subsets, at least 2.
        generator: Source of the random numbers that choose the subsets; None for one with seed 0.

    Returns:
        The mean over the subsets and its standard error.

    Raises:
        ValueError: If the features are not finite matrices with the same number of columns, or a
            subset would have fewer than two samples.

    Example:
        >>> import torch
        >>> from scoresde.evaluation import kernel_distance
        >>> generator = torch.Generator().manual_seed(0)
        >>> real, fake = (torch.randn(1000, 4, generator=generator) for _ in range(2))
        >>> same, shifted = kernel_distance(real, fake), kernel_distance(real, fake + 1)
        >>> abs(same.mean) < 3 * same.error, shifted.mean > 10 * shifted.error
        (True, True)
    """
    # the metric's class uses the global generator and has no standard error
    from torchmetrics.image.kid import poly_mmd

    check_features(real, fake)  # the centred copies are not used: the kernel depends on the origin
    size = min(len(real), len(fake)) // subsets if subsets >= 2 else 0
    if size < 2:
        raise ValueError(
            "a kernel distance needs at least two subsets, of two images or more; "
            f"got {subsets} of {size}"
        )
    generator = generator or torch.Generator().manual_seed(0)
    chosen = [
        x[torch.randperm(len(x), generator=generator)[: subsets * size].to(x.device)].double().cpu()
        for x in (real, fake)
    ]
    values = torch.stack(
        [poly_mmd(x, y) for x, y in zip(*(x.split(size) for x in chosen), strict=True)]
    )
    return KernelDistance(float(values.mean()), float(values.std()) / math.sqrt(subsets))


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Compute the squared Euclidean distances of all pairs, as |x|^2 + |y|^2 - 2 x y.

    The error is about 1e-16 of the squared lengths in float64; negative results are set to 0.

    Args:
        x: Points, shape (n, F).
        y: Points, shape (m, F).

    Returns:
        Squared distances, shape (n, m).
    """
    return torch.addmm(x.square().sum(1)[:, None] + y.square().sum(1), x, y.T, alpha=-2).clamp_min_(
        0
    )
