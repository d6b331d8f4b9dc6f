r"""Whether a generator repeats its training images: are its draws nearer to them than new images of the same law are?

If draws and held-out images have one law, then, given the training set, their distances to the nearest training image are exchangeable.
That settles what every number here is for a perfect generator, in any dimension. Distances are in pixels.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.evaluation.distances import squared_distances

__all__ = ["Memorisation", "memorisation"]

_ROWS, _TRAIN = 1024, 4096  # of a block of distances: 32 MB


@dataclass(frozen=True)
class Memorisation:
    """distance: of each draw to the nearest training image, root mean square over the pixels, (n,), float64. index: which that is, (n,).
    held_out: the same distances of the held-out images, (m,).

    copies: share of draws closer to a training image than all but 1 % of the held-out images are. ratio: median distance of the draws over
    that of the held-out images; below 1 if draws are nearer.
    """

    distance: Tensor
    index: Tensor
    held_out: Tensor
    copies: float
    ratio: float

    @property
    def expected(self) -> float:
        """Mean of ``copies`` for a perfect generator: r / (m + 1), 0.01 or what of it m held-out images can tell."""
        return _rank(len(self.held_out)) / (len(self.held_out) + 1)

    @property
    def error(self) -> float:
        r"""Standard deviation of ``copies`` for a perfect generator. The number of copies is beta-binomial, for the threshold is drawn too:
        :math:`\sqrt{p (1 - p) / n}`, p the mean, times :math:`\sqrt{(n + m + 1) / (m + 2)}`."""
        n, m, p = len(self.distance), len(self.held_out), self.expected
        return math.sqrt(p * (1 - p) / n * (n + m + 1) / (m + 2))

    @property
    def z(self) -> float:
        r"""The data-copying test :math:`C_T` of Meehan et al. (2020), for the whole space: of the n m pairs, U have the draw further off
        than the held-out image (Mann and Whitney 1947), and

        .. math:: z = \frac{U - nm/2}{\sqrt{nm(n + m + 1)/12}}

        is standard normal for a perfect generator. Far below 0: draws are nearer, copies. Far above: they are off the data.
        """
        from scipy.stats import mannwhitneyu  # slow to import

        n, m = len(self.distance), len(self.held_out)
        U = float(
            mannwhitneyu(
                self.distance.numpy(), self.held_out.numpy(), method="asymptotic"
            ).statistic
        )
        return (U - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)


def memorisation(draws: Tensor, train: Tensor, held_out: Tensor) -> Memorisation:
    """Of draws (n, ...), training images (N, ...) and held-out images of the same law (m, ...), m at least 99.

    The same law in earnest: MNIST's test images are by other writers than its training images, and lie 2 % further off (median) than
    training images that were kept out, enough for a z of 2.7 between 3,000 of each. With test images held out, a perfect generator of the
    training law has z below 0 by as much.

    ValueError if the shapes of an image differ, if there are too few, or not all are finite, or they are integers.
    """
    for name, x, least in (
        ("draws", draws, 1),
        ("training images", train, 1),
        ("held-out images", held_out, 99),
    ):
        if (
            x.ndim < 2
            or len(x) < least
            or not x.is_floating_point()
            or not bool(torch.isfinite(x).all())
        ):
            raise ValueError(
                f"the {name} must be finite on [-1, 1], and {least} or more, got {x.dtype} of shape {tuple(x.shape)}"
            )
        if x.shape[1:] != train.shape[1:]:
            raise ValueError(
                f"the {name} have shape {tuple(x.shape[1:])}, the training images {tuple(train.shape[1:])}"
            )
    distance, index = _nearest(draws, train)
    fresh = _nearest(held_out, train)[0]
    threshold = fresh.sort().values[_rank(len(fresh)) - 1]
    median = float(fresh.median())
    return Memorisation(
        distance,
        index,
        fresh,
        float((distance < threshold).double().mean()),
        float(distance.median()) / median if median > 0 else math.nan,
    )


def _rank(held_out: int) -> int:
    """Which of the held-out distances, the smallest being 1, is the threshold: a fresh draw is below the r-th of m with r / (m + 1)."""
    return (held_out + 1) // 100


def _nearest(x: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """(distance (n,), index (n,)) on the CPU; blocks of training images, so that 60,000 need no copy in float64."""
    centre = (
        train[:_TRAIN].detach().double().mean(0).flatten().to(x.device)
    )  # near the origin, less is lost to rounding
    best = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    index = torch.zeros(len(x), dtype=torch.long, device=x.device)
    for begin in range(0, len(train), _TRAIN):
        block = train[begin : begin + _TRAIN].detach().to(x.device).double().flatten(1) - centre
        for rows in torch.arange(len(x), device=x.device).split(_ROWS):
            least = squared_distances(x[rows].detach().double().flatten(1) - centre, block).min(1)
            nearer = least.values < best[rows]
            best[rows[nearer]], index[rows[nearer]] = (
                least.values[nearer],
                begin + least.indices[nearer],
            )
    found = [  # once more without cancellation, so that a copy is at 0
        (
            x[rows].detach().double()
            - train[index[rows].to(train.device)].detach().to(x.device).double()
        )
        .flatten(1)
        .square()
        .mean(1)
        .sqrt()
        for rows in torch.arange(len(x), device=x.device).split(_ROWS)
    ]
    return torch.cat(found).cpu(), index.cpu()
