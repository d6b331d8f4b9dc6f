r"""Simulation-based calibration: a test of a solver averaged over measurements (Talts et al. 2018).

The test holds for a posterior of any shape. Draw :math:`x^* \sim p(x)`, :math:`y \sim p(y|x^*)` and
L draws :math:`x_l` of the solver. Given y, :math:`x^*` is one more draw of the posterior. So for an
exact solver with independent draws the rank :math:`\#\{l: f(x_l) < f(x^*)\}` is uniform on 0..L for
every f. An excess of ranks at both ends means that the draws are too narrow; in the middle, too
wide; at one end, shifted. The draws of a particle method depend on one another, and it fails the
test to that extent.

The functions f are three random projections; the directions that A observes best and least
("seen", "unseen"); the log-density of the prior; and the log-likelihood, without which a solver
that ignores y would pass (Modrák et al. 2023).
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
    """Ranks of the truth among a solver's draws, and tests of their uniformity.

    Args:
        ranks: Ranks, (measurements, functions), integers in 0..draws.
        draws: Number of draws for each measurement.
        bins: Number of bins of the histograms; it divides draws + 1.
        functions: Names of the functions f.
    """

    ranks: Tensor
    draws: int
    bins: int
    functions: tuple[str, ...] = FUNCTIONS

    @property
    def histograms(self) -> Tensor:
        """Number of ranks in each of the bins, which have equal width; (functions, bins)."""
        bin_of = self.ranks * self.bins // (self.draws + 1)
        return F.one_hot(bin_of, self.bins).sum(0)

    @property
    def p(self) -> dict[str, float]:
        """p-value of Pearson's chi-squared test of uniformity, by function."""
        expected = len(self.ranks) / self.bins
        statistic = (self.histograms - expected).square().sum(1) / expected
        # half the degrees of freedom
        half = torch.full_like(statistic, (self.bins - 1) / 2, dtype=F64)
        return dict(
            zip(
                self.functions,
                torch.special.gammaincc(half, statistic.double() / 2).tolist(),
                strict=True,
            )
        )

    @property
    def p_all(self) -> float:
        """p-value for all functions together: the smallest one times their number (Bonferroni)."""
        return min(1.0, len(self.functions) * min(self.p.values()))

    def summary(self) -> dict[str, Any]:
        """Summarise the result for JSON.

        Returns:
            "p_all", "p", and the numbers of "measurements", "draws" and "bins".
        """
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
    """Test the calibration of a solver on the prior and the operator of an exact problem.

    The measurements are new draws, processed in one call of `PosteriorSampler.sample`.

    Args:
        solver: Solver to test.
        name: Name of an exact problem.
        measurements: Number of measurements, at least 1.
        draws: Number L of draws for each measurement.
        bins: Number of bins of the histograms, at least 2; it must divide draws + 1.
        seed: Seed of the problem, the measurements and the solver.

    Returns:
        The ranks, (measurements, 7), with p-values of their uniformity.

    Raises:
        ValueError: If the numbers are invalid, the problem is unknown, or the solver cannot solve
            it.

    Example:
        >>> from solvers.verification import VERIFIED, ranks
        >>> found = ranks(VERIFIED["ddrm"], "gaussian", measurements=64, draws=7, bins=4)
        >>> found.ranks.shape, found.histograms.shape
        (torch.Size([64, 7]), torch.Size([7, 4]))
        >>> found.p_all < 0.01  # DDRM is not exact
        True
    """
    if bins < 2 or (draws + 1) % bins or measurements < 1:
        raise ValueError(
            "draws + 1 must be a multiple of bins >= 2 and measurements at least 1, "
            f"got {draws} draws, {bins} bins and {measurements} measurements"
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
    """The functions f, (N, functions), of x and y (N, ...)."""
    flat = x.flatten(1)
    random = torch.randn(flat.shape[1], 3, dtype=F64, generator=seeded(3000 + seed))
    Vt = torch.linalg.svd(
        case.problem.linear_operator.dense(case.prior.shape), full_matrices=True
    ).Vh
    directions = torch.cat([random, Vt[[0, -1]].T], dim=1)
    laws = torch.stack([case.prior.log_prob(x), case.problem.log_likelihood(y, x)], dim=1)
    return torch.cat([flat @ directions, laws], dim=1)
