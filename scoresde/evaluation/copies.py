"""Memorisation: tests whether a generator repeats its training images.

If draws and held-out images have the same law, then, given the training set, their distances to the
nearest training image are exchangeable. This determines all numbers here for a perfect generator,
in any dimension. Distances are root mean squares over the pixels.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.evaluation.distances import squared_distances

__all__ = ["Memorisation", "memorisation"]

_ROWS, _TRAIN = 1024, 4096  # size of a block of distances: 32 MB


@dataclass(frozen=True)
class Memorisation:
    """Distances of draws and of held-out images to the nearest training image.

    Args:
        distance: Distance of each draw to the nearest training image, root mean square over the
            pixels, shape (n,), float64.
        index: Index of that training image, shape (n,).
        held_out: The same distances for the held-out images, shape (m,).
        copies: Share of the draws that are closer to a training image than all but 1 % of the
            held-out images are.
        ratio: Median distance of the draws divided by that of the held-out images; below 1 if draws
            are nearer.
    """

    distance: Tensor
    index: Tensor
    held_out: Tensor
    copies: float
    ratio: float

    @property
    def expected(self) -> float:
        """Mean of ``copies`` for a perfect generator, r / (m + 1).

        The threshold is the r-th smallest of m held-out distances, r = (m + 1) // 100, so that the
        mean is 0.01 or as close to it as m permits.
        """
        return _rank(len(self.held_out)) / (len(self.held_out) + 1)

    @property
    def error(self) -> float:
        r"""Standard deviation of ``copies`` for a perfect generator.

        The number of copies is beta-binomial, since the threshold is random too: the standard
        deviation is :math:`\sqrt{p (1 - p) / n}`, with the mean p, times
        :math:`\sqrt{(n + m + 1) / (m + 2)}`.
        """
        n, m, p = len(self.distance), len(self.held_out), self.expected
        return math.sqrt(p * (1 - p) / n * (n + m + 1) / (m + 2))

    @property
    def z(self) -> float:
        r"""Statistic of the data-copying test :math:`C_T` of Meehan et al. (2020).

        It is the statistic for the whole space. Among the n m pairs of a draw and a held-out image,
        U have the draw at the larger distance (Mann and Whitney 1947). Then

        .. math:: z = \frac{U - nm/2}{\sqrt{nm(n + m + 1)/12}}

        is standard normal for a perfect generator. Far below 0, draws are too near to the training
        images: copies. Far above 0, they are unlike the data.
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
    """Test whether draws are copies of training images.

    The held-out images must have the law of the training images. MNIST's test images do not: they
    are by other writers, and lie 2 % further away (median) than training images that were kept out,
    which gives a z of 2.7 between 3,000 of each. With test images held out, a perfect generator of
    the training law has z below 0 by as much.

    Args:
        draws: Draws, shape (n, ...), on [-1, 1].
        train: Training images, shape (N, ...), on [-1, 1].
        held_out: Images of the same law that were not trained on, shape (m, ...), m at least 99.

    Returns:
        Distances and test statistics, on the CPU.

    Raises:
        ValueError: If shapes of an image differ, there are too few images, or they are not finite
            floating-point numbers.

    Example:
        >>> import torch
        >>> from scoresde.evaluation import memorisation
        >>> images = torch.rand(400, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> train, held_out, fresh = images[:200], images[200:300], images[300:]
        >>> report = memorisation(train[:50], train, held_out)  # all draws are training images
        >>> report.copies, report.ratio, report.z < -5
        (1.0, 0.0, True)
        >>> abs(memorisation(fresh, train, held_out).z) < 3  # the draws are new images
        True
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
                f"the {name} must be finite on [-1, 1], and {least} or more, "
                f"got {x.dtype} of shape {tuple(x.shape)}"
            )
        if x.shape[1:] != train.shape[1:]:
            raise ValueError(
                f"the {name} have shape {tuple(x.shape[1:])}, "
                f"the training images {tuple(train.shape[1:])}"
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
    """Rank r of the held-out distance that is the threshold; the smallest distance has rank 1.

    A fresh draw is below the r-th of m distances with probability r / (m + 1).
    """
    return (held_out + 1) // 100


def _nearest(x: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (n,) to the nearest training image and its index (n,), on the CPU.

    It runs over blocks of training images, so that 60,000 of them need no copy in float64.
    """
    # distances near the origin lose fewer digits to rounding
    centre = train[:_TRAIN].detach().double().mean(0).flatten().to(x.device)
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
    found = [  # computed again without cancellation, so that the distance of a copy is exactly 0
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
