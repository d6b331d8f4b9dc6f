"""Exact draws, and the distance of other exact draws from them, the floor."""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from solvers.verification.problems import ExactProblem, exact_problem, seeded

__all__ = ["ExactReference", "reference", "sliced_wasserstein"]

F64 = torch.float64
PAIRS = 8


def _projected(x: Tensor, directions: int) -> Tensor:
    v = F.normalize(torch.randn(x.shape[1], directions, dtype=F64, generator=seeded(0)), dim=0)
    return (x @ v).sort(0).values


def sliced_wasserstein(x: Tensor, y: Tensor, directions: int = 1000) -> float:
    """Compute the sliced Wasserstein-2 distance of two sets of equal size.

    It is the root mean square, over random directions, of the Wasserstein-2 distance between the
    projections. The directions are the same in every call.

    Args:
        x: First set, (N, D), float64.
        y: Second set, (N, D), float64.
        directions: Number of random directions.

    Returns:
        The distance, in the units of x.

    Example:
        A translation by a vector v gives the distance |v|/sqrt(D), up to the random directions.

        >>> import torch
        >>> x = torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        >>> sliced_wasserstein(x, x)
        0.0
        >>> round(sliced_wasserstein(x, x + 1), 1)  # |v| = 2, D = 4
        1.0
    """
    return float((_projected(x, directions) - _projected(y, directions)).square().mean().sqrt())


@dataclass(frozen=True)
class ExactReference:
    """Exact draws of a posterior, and the floor of the distance.

    Args:
        case: Exact problem.
        exact: Exact draws of its posterior, (M, D), float64; the first N of them are the reference
            for the distance.
        projected: Projections of these N, (N, directions), sorted along each direction.
        floor: Mean distance of `PAIRS` other sets of N exact draws from the first set.
        scatter: Standard deviation of these distances over their mean.
    """

    case: ExactProblem
    exact: Tensor
    projected: Tensor
    floor: float
    scatter: float

    def distance(self, x: Tensor) -> float:
        """Compute the sliced Wasserstein-2 distance to the exact draws, over the floor.

        Args:
            x: Draws, (N, D), float64, as many as the reference has.

        Returns:
            The ratio: 1 on average for exact draws.
        """
        return (
            float((_projected(x, self.projected.shape[1]) - self.projected).square().mean().sqrt())
            / self.floor
        )


@lru_cache(maxsize=4)
def reference(name: str, draws: int, seed: int, directions: int = 1000) -> ExactReference:
    """Draw the reference for an exact problem.

    The last four results are cached, because all solvers of a table use the same ones.

    Args:
        name: Name of an exact problem.
        draws: Number N of draws that will be compared, at least 1.
        seed: Seed of the problem and of the exact draws.
        directions: Number of random directions of the sliced distance.

    Returns:
        Exact draws with the floor of the distance.

    Raises:
        ValueError: If the problem is unknown.

    Example:
        >>> given = reference("gaussian", draws=100, seed=0)
        >>> given.exact.shape  # the first 100, and 8 other sets
        torch.Size([900, 8])
        >>> draws = given.case.posterior.sample(100, torch.Generator().manual_seed(1)).flatten(1)
        >>> 0.5 < given.distance(draws) < 2
        True
    """
    case, generator = exact_problem(name, seed), seeded(1000 + seed)
    sets = [case.posterior.sample(draws, generator).flatten(1) for _ in range(1 + PAIRS)]
    first, *others = (_projected(one, directions) for one in sets)
    found = torch.stack([(other - first).square().mean().sqrt() for other in others])
    return ExactReference(
        case, torch.cat(sets), first, float(found.mean()), float(found.std() / found.mean())
    )
