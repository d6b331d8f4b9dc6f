r"""Distances between two laws, from features of samples of each (:mod:`scoresde.evaluation.features`); both sets (n, F)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scoresde.evaluation.features import check_features

__all__ = ["KernelDistance", "frechet_distance", "kernel_distance", "squared_distances"]


class _Given(nn.Identity):
    """Features that are features already, for torchmetrics."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.num_features = features


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    r"""Of the Gaussians with the mean and the covariance of each set (FID; Heusel et al. 2017),

    .. math:: |m - m'|^2 + \operatorname{tr}\big(S + S' - 2 (S S')^{1/2}\big) \ge 0 .

    It is biased: two sets of n from one law give about 1/n of it, so compare at the same n only, and have n far above F. Where a covariance
    has no inverse, rounding leaves about 1e-7 of the traces.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance

    real, fake = check_features(real, fake)
    metric = FrechetInceptionDistance(feature=_Given(real.shape[1])).to(real.device)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    return max(0.0, float(metric.compute()))


@dataclass(frozen=True)
class KernelDistance:
    """mean: the unbiased estimate, below 0 as often as not where the laws are equal. error: its standard error."""

    mean: float
    error: float


def kernel_distance(
    real: Tensor, fake: Tensor, subsets: int = 10, generator: torch.Generator | None = None
) -> KernelDistance:
    r"""The squared maximum mean discrepancy with the kernel :math:`k(x, y) = (x^\top y / F + 1)^3` (KID; Binkowski et al. 2018),

    .. math:: \frac{1}{m(m-1)} \sum_{i \ne j} \big(k(x_i, x_j) + k(y_i, y_j)\big) - \frac{2}{m^2} \sum_{i,j} k(x_i, y_j) ,

    unbiased at any m. The mean is over ``subsets`` pairs of random subsets of m = min(n, n') // subsets. These are disjoint, hence
    independent, and the standard error is that of their mean; subsets that overlap, as in torchmetrics' class, would understate it.

    generator: for the choice of the subsets, one with seed 0 by default. ValueError if a subset would have fewer than two images.
    """
    from torchmetrics.image.kid import (
        poly_mmd,
    )  # the class draws from the global generator, and has no standard error

    check_features(real, fake)  # the kernel is not invariant to shifts: as they are
    size = min(len(real), len(fake)) // subsets if subsets >= 2 else 0
    if size < 2:
        raise ValueError(
            f"a kernel distance needs at least two subsets, of two images or more; got {subsets} of {size}"
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
    """(n, F), (m, F) -> (n, m), |x|^2 + |y|^2 - 2 xy: off by some 1e-16 of the squared lengths in float64, and 0 at least."""
    return torch.addmm(x.square().sum(1)[:, None] + y.square().sum(1), x, y.T, alpha=-2).clamp_min_(
        0
    )
