r"""Simulation-based calibration (Talts et al. 2018): is a solver right on average over measurements, whatever the posterior's shape?

Draw :math:`x^* \sim p(x)`, :math:`y \sim p(y|x^*)` and L draws :math:`x_l` of the solver. Given y, x* is one more draw of the posterior, so
for an exact solver with independent draws the rank :math:`\#\{l: f(x_l) < f(x^*)\}` is uniform on 0..L for every f. Ranks heaped at both
ends say that the draws are too narrow; in the middle, too wide; at one end, shifted. Draws of a particle method depend on one another,
and so much as they do, they fail too.

f: three random projections; the directions that A sees best and least ("seen", "unseen"); the log-density of the prior; and the
log-likelihood, without which a solver that ignores y would pass (Modrák et al. 2023).
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from solvers.posterior import PosteriorSampler
from solvers.verification.problems import ExactProblem, exact_problem, seeded

__all__ = ["Ranks", "ranks"]

F64 = torch.float64
FUNCTIONS = ("random 1", "random 2", "random 3", "seen", "unseen", "prior", "likelihood")


@dataclass(frozen=True)
class Ranks:
    """ranks: (measurements, functions), integers in 0..draws."""

    ranks: Tensor
    draws: int
    bins: int
    functions: tuple[str, ...] = FUNCTIONS

    @property
    def histograms(self) -> Tensor:
        """(functions, bins): how many ranks fall into each of equal bins."""
        bin_of = self.ranks * self.bins // (self.draws + 1)
        return F.one_hot(bin_of, self.bins).sum(0)

    @property
    def p(self) -> dict[str, float]:
        """Pearson's chi-squared: probability of counts at least so uneven if the ranks are uniform."""
        expected = len(self.ranks) / self.bins
        statistic = (self.histograms - expected).square().sum(1) / expected
        half = torch.full_like(
            statistic, (self.bins - 1) / 2, dtype=F64
        )  # of the degrees of freedom
        return dict(
            zip(
                self.functions,
                torch.special.gammaincc(half, statistic.double() / 2).tolist(),
                strict=True,
            )
        )

    @property
    def p_all(self) -> float:
        """Of all functions together: Bonferroni's bound, the smallest p times their number."""
        return min(1.0, len(self.functions) * min(self.p.values()))

    def summary(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "p_all": self.p_all,
            "p": self.p,
            "measurements": len(self.ranks),
            "draws": self.draws,
            "bins": self.bins,
        }


def ranks(
    solver: PosteriorSampler,
    name: str,
    *,
    measurements: int = 128,
    draws: int = 31,
    bins: int = 8,
    seed: int = 0,
) -> Ranks:
    """Calibrate ``solver`` on the prior and operator of an exact problem, with fresh measurements, all in one call of ``sample``.

    bins must divide draws + 1. ValueError where the solver cannot do the problem.
    """
    if bins < 2 or (draws + 1) % bins or measurements < 1:
        raise ValueError(
            f"draws + 1 must be a multiple of bins >= 2, got {draws} draws and {bins} bins"
        )
    case = exact_problem(name, seed)
    x, y = case.pairs(measurements, seeded(2000 + seed))
    drawn = solver.sample(case.prior, case.problem, y, draws, generator=seeded(seed)).draws.double()
    truth = _functions(case, x, y, seed)
    flat = drawn.reshape(-1, *drawn.shape[2:])
    values = _functions(case, flat, y.repeat(draws, *[1] * (y.ndim - 1)), seed).reshape(
        draws, *truth.shape
    )
    return Ranks((values < truth).sum(0), draws, bins)


def _functions(case: ExactProblem, x: Tensor, y: Tensor, seed: int) -> Tensor:
    """(N, functions) for x and y (N, ...)."""
    flat = x.flatten(1)
    random = torch.randn(flat.shape[1], 3, dtype=F64, generator=seeded(3000 + seed))
    Vt = torch.linalg.svd(
        case.problem.linear_operator.dense(case.prior.shape), full_matrices=True
    ).Vh
    directions = torch.cat([random, Vt[[0, -1]].T], dim=1)
    laws = torch.stack([case.prior.log_prob(x), case.problem.log_likelihood(y, x)], dim=1)
    return torch.cat([flat @ directions, laws], dim=1)
