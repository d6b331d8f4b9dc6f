"""Exact draws, and what distance other exact draws have from them: the floor."""

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
    """Root mean square over random directions of the Wasserstein-2 distance of the projections; x, y: (N, D)."""
    return float((_projected(x, directions) - _projected(y, directions)).square().mean().sqrt())


@dataclass(frozen=True)
class ExactReference:
    """exact: (M, D), more draws of the posterior of ``case``; projected: the first N, sorted along each direction.

    floor, scatter: mean of the distances of ``PAIRS`` other exact sets from the first, and their standard deviation over it.
    """

    case: ExactProblem
    exact: Tensor
    projected: Tensor
    floor: float
    scatter: float

    def distance(self, x: Tensor) -> float:
        """Sliced Wasserstein-2 between N draws (N, D) and as many exact ones, over the floor."""
        return (
            float((_projected(x, self.projected.shape[1]) - self.projected).square().mean().sqrt())
            / self.floor
        )


@lru_cache(maxsize=4)
def reference(name: str, draws: int, seed: int, directions: int = 1000) -> ExactReference:
    """For ``draws`` draws on the exact problem of that name; kept, because every solver of a table asks for it."""
    case, generator = exact_problem(name, seed), seeded(1000 + seed)
    sets = [case.posterior.sample(draws, generator).flatten(1) for _ in range(1 + PAIRS)]
    first, *others = (_projected(one, directions) for one in sets)
    found = torch.stack([(other - first).square().mean().sqrt() for other in others])
    return ExactReference(
        case, torch.cat(sets), first, float(found.mean()), float(found.std() / found.mean())
    )
