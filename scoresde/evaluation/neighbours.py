r"""Fidelity and diversity of a generator, by balls around samples.

:math:`B(x_i)` is the ball around a sample that reaches its k-th nearest neighbour in its own set.
For N real samples x and M fake samples y,

.. math::

    \text{precision} &= \tfrac1M \#\{j : y_j \in \cup_i B(x_i)\}, &
    \text{recall} &= \tfrac1N \#\{i : x_i \in \cup_j B(y_j)\}, \\
    \text{density} &= \tfrac{1}{kM} \#\{(i, j) : y_j \in B(x_i)\}, &
    \text{coverage} &= \tfrac1N \#\{i : \text{some } y_j \in B(x_i)\} .

Precision and recall (Kynkäänniemi et al. 2019) are easily raised by outliers, whose balls are
large. Density and coverage (Naeem et al. 2020) use only the balls of the real samples. For equal
laws the mean of density is 1, and that of coverage is :func:`expected_coverage`.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.evaluation.distances import squared_distances
from scoresde.evaluation.features import check_features

__all__ = ["Manifold", "density_coverage", "expected_coverage", "manifold", "precision_recall"]

_ENTRIES = 1 << 23  # size of a block of distances: 64 MB


@dataclass(frozen=True)
class Manifold:
    """Fidelity and diversity of generated samples.

    Args:
        precision: Share of the fake samples in a ball of a real one, in [0, 1].
        recall: Share of the real samples in a ball of a fake one, in [0, 1].
        density: Mean number of real balls around a fake sample, divided by k, 0 or more; its mean
            is 1 for equal laws.
        coverage: Share of the real samples whose ball has a fake sample, in [0, 1].
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifold(real: Tensor, fake: Tensor, k: int = 5) -> Manifold:
    """Compute precision, recall, density and coverage with the same k.

    Args:
        real: Features of real samples, shape (N, F), N above k.
        fake: Features of generated samples, shape (M, F), M above k.
        k: Neighbour that a ball reaches, at least 1.

    Returns:
        The four numbers.

    Raises:
        ValueError: If k is below 1, or the features are not finite matrices with more than k rows
            and the same number of columns.
    """
    if k < 1:
        raise ValueError(f"the number of neighbours must be at least 1, got k = {k}")
    x, y = check_features(real, fake, least=k + 1)
    x_radii, y_radii = _squared_radii(x, k), _squared_radii(y, k)
    precise, pairs = torch.zeros(len(y), dtype=torch.bool, device=x.device), 0
    recalled = covered = 0
    rows = max(1, _ENTRIES // len(y))
    for part, radii in zip(x.split(rows), x_radii.split(rows), strict=True):
        squares = squared_distances(part, y)
        inside = squares <= radii[:, None]
        precise |= inside.any(0)
        pairs += int(inside.sum())
        covered += int(inside.any(1).sum())
        recalled += int((squares <= y_radii).any(1).sum())
    return Manifold(
        float(precise.double().mean()), recalled / len(x), pairs / (k * len(y)), covered / len(x)
    )


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """Compute precision and recall (Kynkäänniemi et al. 2019), by default with their k.

    Args:
        real: Features of real samples, shape (N, F), N above k.
        fake: Features of generated samples, shape (M, F), M above k.
        k: Neighbour that a ball reaches, at least 1.

    Returns:
        Precision and recall, both in [0, 1].

    Raises:
        ValueError: If k is below 1, or the features are not finite matrices with more than k rows
            and the same number of columns.

    Example:
        >>> import torch
        >>> from scoresde.evaluation import precision_recall
        >>> real = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
        >>> precision_recall(real, 0.01 * real)  # all draws are real, but they cover little
        (1.0, 0.0)
    """
    found = manifold(real, fake, k)
    return found.precision, found.recall


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> tuple[float, float]:
    """Compute density and coverage (Naeem et al. 2020), by default with their k.

    Args:
        real: Features of real samples, shape (N, F), N above k.
        fake: Features of generated samples, shape (M, F), M above k.
        k: Neighbour that a ball reaches, at least 1.

    Returns:
        Density, 0 or more, and coverage, in [0, 1].

    Raises:
        ValueError: If k is below 1, or the features are not finite matrices with more than k rows
            and the same number of columns.

    Example:
        >>> import torch
        >>> from scoresde.evaluation import density_coverage
        >>> real = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
        >>> density_coverage(real, real + 100)  # no draw is near the data
        (0.0, 0.0)
    """
    found = manifold(real, fake, k)
    return found.density, found.coverage


def expected_coverage(real: int, fake: int, k: int = 5) -> float:
    r"""Compute the mean coverage of real by fake samples of the same continuous law.

    Whatever the law, for N real and M fake samples it is

    .. math:: 1 - \frac{(N-1) \cdots (N-k)}{(N+M-1) \cdots (N+M-k)} ,

    the probability that the k nearest of the N + M - 1 other samples are not all real (Naeem et al.
    2020, lemma 2).

    Args:
        real: Number N of real samples, above k.
        fake: Number M of fake samples, at least 1.
        k: Neighbour that a ball reaches, at least 1.

    Returns:
        The mean coverage, in [0, 1].

    Raises:
        ValueError: Unless N > k >= 1 and M >= 1.

    Example:
        >>> round(expected_coverage(1000, 1000), 3)
        0.969
    """
    if not (real > k >= 1 and fake >= 1):
        raise ValueError(
            "coverage needs more than k real images, at least one fake image and k >= 1, "
            f"got {real} real, {fake} fake, k = {k}"
        )
    return 1 - math.prod((real - i) / (real + fake - i) for i in range(1, k + 1))


def _squared_radii(x: Tensor, k: int) -> Tensor:
    """Squared distance of each row of (n, F) to its k-th nearest other row, with a margin, (n,)."""
    rows = max(1, _ENTRIES // len(x))
    # the nearest of all points is the point itself, hence k + 1
    radii = torch.cat(
        [
            squared_distances(part, x).topk(k + 1, dim=1, largest=False).values[:, -1]
            for part in x.split(rows)
        ]
    )
    # a margin for rounding, so that a point on the edge lies within
    return radii + 1e-12 * (radii + x.square().sum(1))
