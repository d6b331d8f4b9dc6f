r"""What an audit computes of one run: a truth, and draws given its measurement.

Let x* be drawn from the prior, y measured from it, and x_1, ..., x_K drawn by an exact solver from
p(x|y), independently. Given y the truth is one more draw. Hence, for any prior and any problem:

- the rank of f(x*, y) among f(x_k, y) is uniform on 0..K, for any f (Talts et al. 2018);
- so is the rank of each entry of x*; the interval between the order statistics a and K + 1 - a
  covers it with the probability (K + 1 - 2a)/(K + 1), and a mixture of two such intervals with any
  given probability;
- (x_1, y) has the law of (x*, y), so y - A x_1 has the law of the noise;
- with the posterior variance V of an entry the squared error of the mean of the draws has the mean
  (1 + 1/K) V, and the variance of the draws (divided by K - 1) the mean V;
- truth and draws are exchangeable: what is computed of the truth against the K draws has the law of
  what is computed of any draw against the truth and the other K - 1. So coverage and squared error
  are computed for all K + 1 points, and their law is known by exchanging them, however the entries
  of a sample depend on one another.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from problems import InverseProblem
from scoresde.evaluation.audit.functions import TestFunctions, residual_squares

__all__ = ["LEVELS", "RunStatistics", "covered", "ranks", "run_statistics"]

LEVELS = (0.5, 0.9, 0.95)
"""Nominal coverages."""


@dataclass(frozen=True)
class RunStatistics:
    """Statistics of B runs, one row for each.

    Args:
        ranks: Ranks of the test functions, shape (B, F), in 0..K.
        coverage: Share of the entries of each of the K + 1 points, the truth first, that lie within
            the intervals of the others, shape (B, K + 1, levels).
        residual: Squared residual of the first draw in units of the noise, shape (B,).
        observed: Number of entries of y that are observed, shape (B,).
        spread: Mean variance of the draws, times 1 + 1/K, shape (B,).
        error: Mean squared distance of each of the K + 1 points, the truth first, from the mean of
            the others, shape (B, K + 1).
    """

    ranks: Tensor
    coverage: Tensor
    residual: Tensor
    observed: Tensor
    spread: Tensor
    error: Tensor

    @classmethod
    def together(cls, parts: list["RunStatistics"]) -> "RunStatistics":
        """Put the runs of several batches together.

        Args:
            parts: Statistics of batches.

        Returns:
            Those of all runs.
        """
        return cls(**{name: torch.cat([getattr(one, name) for one in parts]) for name in _FIELDS})


_FIELDS = tuple(RunStatistics.__dataclass_fields__)


def run_statistics(
    problem: InverseProblem,
    functions: TestFunctions,
    truth: Tensor,
    y: Tensor,
    draws: Tensor,
    generator: torch.Generator,
) -> RunStatistics:
    """Compute the statistics of a batch of runs.

    Args:
        problem: Operator and noise.
        functions: Test functions.
        truth: Truths, shape (B, ...), on the CPU.
        y: Their measurements, shape (B, ...), on the CPU.
        draws: K draws for each, shape (K, B, ...), on the CPU, K at least 2.
        generator: Source of the random numbers that break ties.

    Returns:
        One row for each run.
    """
    K = len(draws)
    of_truth = functions(truth, y)
    of_draws = torch.stack([functions(x, y) for x in draws])
    flat = draws.flatten(2).double()
    points = torch.cat([truth.flatten(1).double()[None], flat])
    return RunStatistics(
        ranks(of_truth, of_draws, generator),
        torch.stack([covered(one, K) for one in _ranks_of_all(points, generator)], 1),
        residual_squares(problem, y, draws[0]),
        problem.operator.observed(y).flatten(1).sum(1).double(),
        (1 + 1 / K) * flat.var(0).mean(1),
        # the mean of the others is further from a point than the mean of all by (K + 1)/K
        ((1 + 1 / K) * (points - points.mean(0))).square().mean(2).T,
    )


def _ranks_of_all(points: Tensor, generator: torch.Generator) -> Tensor:
    """Rank of each of K + 1 points among the others, shape of the points; ties at random."""
    order = torch.randperm(len(points), generator=generator)
    ranked = points[order].argsort(dim=0, stable=True).argsort(dim=0)
    return ranked[order.argsort()]


def ranks(truth: Tensor, draws: Tensor, generator: torch.Generator) -> Tensor:
    """Rank values among draws, ties broken at random.

    Args:
        truth: Values, shape (...).
        draws: K values for each, shape (K, ...).
        generator: Source of the random numbers.

    Returns:
        Number of draws below, shape (...), int64, in 0..K; of m draws that are equal to the value
        a uniform number of 0..m counts as below.

    Example:
        >>> import torch
        >>> draws = torch.tensor([[1.0], [2.0], [3.0]])
        >>> ranks(torch.tensor([2.5]), draws, torch.Generator())
        tensor([2])
    """
    below, equal = (draws < truth).sum(0), (draws == truth).sum(0)
    share = torch.rand(truth.shape, generator=generator, dtype=torch.float64)
    return below + (share * (equal + 1)).long()


def covered(rank: Tensor, K: int) -> Tensor:
    """Compute which share of the entries lies within central intervals of K draws.

    An interval between order statistics has only the levels (K + 1 - 2a)/(K + 1). Between two of
    them the shares are interpolated, and their mean is the nominal level for any K.

    Args:
        rank: Ranks of the entries among their draws, shape (B, D), in 0..K.
        K: Number of draws.

    Returns:
        Shares, shape (B, levels), float64, in the order of ``LEVELS``.

    Example:
        >>> import torch
        >>> covered(torch.arange(20)[None], 19).tolist()  # every rank once
        [[0.5, 0.9, 0.95]]
    """
    shares = []
    for level in LEVELS:
        cut = (1 - level) / 2 * (K + 1)
        # ranks a..K - a lie within; cut is between the whole numbers a and a + 1
        a = int(cut + 1e-9)
        inner, outer = (((rank >= b) & (rank <= K - b)).double().mean(1) for b in (a + 1, a))
        shares.append(outer + (cut - a) * (inner - outer))
    return torch.stack(shares, 1)
