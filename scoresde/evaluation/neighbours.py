r"""How much of what is generated is real, and how much of what is real is generated, by balls around samples.

:math:`B(x_i)` is the ball around a sample that reaches its k-th nearest neighbour in its own set. Of N real and M fake,

.. math::

    \text{precision} &= \tfrac1M \#\{j : y_j \in \cup_i B(x_i)\}, & \text{recall} &= \tfrac1N \#\{i : x_i \in \cup_j B(y_j)\}, \\
    \text{density} &= \tfrac{1}{kM} \#\{(i, j) : y_j \in B(x_i)\}, & \text{coverage} &= \tfrac1N \#\{i : \text{some } y_j \in B(x_i)\} .

Precision and recall (Kynkäänniemi et al. 2019) are easily raised by outliers, whose balls are large; density and coverage (Naeem et al.
2020) trust the balls of the real samples alone. For equal laws the mean of density is 1, and that of coverage is :func:`expected_coverage`.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.evaluation.distances import squared_distances
from scoresde.evaluation.features import check_features

__all__ = ["Manifold", "density_coverage", "expected_coverage", "manifold", "precision_recall"]

_ENTRIES = 1 << 23  # of a block of distances: 64 MB


@dataclass(frozen=True)
class Manifold:
    """precision, recall, coverage: shares in [0, 1]. density: 0 or more, mean 1 for equal laws."""

    precision: float
    recall: float
    density: float
    coverage: float


def manifold(real: Tensor, fake: Tensor, k: int = 5) -> Manifold:
    """All four of features (N, F) and (M, F), by the same k. ValueError unless both have more than k."""
    if k < 1:
        raise ValueError(f"a neighbour is the first or a later one, got k = {k}")
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
    """(precision, recall), with the k of their authors."""
    found = manifold(real, fake, k)
    return found.precision, found.recall


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> tuple[float, float]:
    """(density, coverage), with the k of their authors."""
    found = manifold(real, fake, k)
    return found.density, found.coverage


def expected_coverage(real: int, fake: int, k: int = 5) -> float:
    r"""Mean coverage of N real by M fake samples of the same continuous law, whatever it is,

    .. math:: 1 - \frac{(N-1) \cdots (N-k)}{(N+M-1) \cdots (N+M-k)} :

    the k nearest of the N + M - 1 others must not all be real (Naeem et al. 2020, lemma 2). ValueError unless N > k >= 1 and M >= 1.
    """
    if not (real > k >= 1 and fake >= 1):
        raise ValueError(
            f"coverage is that of more than k real images, k >= 1, by at least one: got {real} real, {fake} fake, k = {k}"
        )
    return 1 - math.prod((real - i) / (real + fake - i) for i in range(1, k + 1))


def _squared_radii(x: Tensor, k: int) -> Tensor:
    """Squared distance of each of (n, F) to its k-th nearest other, (n,), and a little more."""
    rows = max(1, _ENTRIES // len(x))  # the nearest of all is the point itself
    radii = torch.cat(
        [
            squared_distances(part, x).topk(k + 1, dim=1, largest=False).values[:, -1]
            for part in x.split(rows)
        ]
    )
    return radii + 1e-12 * (
        radii + x.square().sum(1)
    )  # the rounding of distances: a point on the edge shall lie within
