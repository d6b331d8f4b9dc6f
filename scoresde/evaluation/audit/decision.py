"""Tests of the statistics of an audit, and the verdict of all of them together."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scoresde.evaluation.audit.functions import TestFunctions
from scoresde.evaluation.audit.statistics import LEVELS, RunStatistics

__all__ = ["FALSE_ALARM", "AuditReport", "Row", "bins_of", "decide", "holm"]

FALSE_ALARM = 0.05
"""Probability that the audit of an exact solver fails, at most."""

_EXCHANGES = 9999
"""Random exchanges of truths and draws: p-values have a grid of 1/5000."""

_EXPECTED = 8
"""Expected number of ranks in a bin, at least, for the chi-squared approximation."""


@dataclass(frozen=True)
class Row:
    """One test.

    Args:
        name: What is tested.
        found: What was found.
        expected: What an exact solver gives.
        chance: Half width of the band in which it lies with a probability of 95 %; NaN for ranks,
            which have no single number.
        p: p-value.
        rejected: Whether the test fails, all tests considered.
    """

    name: str
    found: float
    expected: float
    chance: float
    p: float
    rejected: bool = False


@dataclass(frozen=True)
class AuditReport:
    """The result of an audit.

    Args:
        rows: The tests.
        histograms: Number of ranks in each bin by test function.
        runs: Number of runs.
        draws: Number of draws of each.
    """

    rows: tuple[Row, ...]
    histograms: dict[str, list[int]]
    runs: int
    draws: int

    @property
    def passed(self) -> bool:
        """Whether no test fails."""
        return not any(row.rejected for row in self.rows)

    def summary(self) -> dict[str, Any]:
        """Summarise the result in plain values.

        Returns:
            "passed", "rows", "histograms", "runs" and "draws".
        """
        return {
            "passed": self.passed,
            "rows": [vars(row) for row in self.rows],
            "histograms": self.histograms,
            "runs": self.runs,
            "draws": self.draws,
        }


def decide(
    statistics: RunStatistics, draws: int, *, gaussian: bool, generator: torch.Generator
) -> AuditReport:
    """Test the statistics of all runs.

    Args:
        statistics: One row for each run, at least 10.
        draws: Number K of draws of each run.
        gaussian: Whether the noise is white and Gaussian, so that the law of the residual is known.
        generator: Source of the random exchanges of truths and draws.

    Returns:
        The report. The tests that fail are chosen by Holm (1979): an exact solver fails with a
        probability of at most ``FALSE_ALARM``, however the tests depend on one another.
    """
    runs = len(statistics.ranks)
    bins = bins_of(draws, runs)
    rows: list[Row] = []
    histograms = {}
    for name, rank in zip(TestFunctions.names, statistics.ranks.T, strict=True):
        counts = torch.bincount(rank * bins // (draws + 1), minlength=bins)
        histograms[name] = counts.tolist()
        square = float((counts - runs / bins).square().sum() / (runs / bins))
        p = _chi2_tail(square, bins - 1)
        rows.append(Row(f"ranks: {name}", square, bins - 1.0, math.nan, p))
    chosen = torch.randint(draws + 1, (_EXCHANGES, runs), generator=generator)
    ties = torch.rand(len(LEVELS) + 1, dtype=torch.float64, generator=generator).tolist()
    for j, level in enumerate(LEVELS):
        shares = statistics.coverage[..., j]
        p, chance = _exchanged(shares, chosen, ties[j])
        name = f"coverage of {level:.0%} intervals"
        rows.append(Row(name, float(shares[:, 0].mean()), level, chance, p))
    if gaussian:
        rows.append(_residual_row(statistics))
    p, chance = _exchanged(statistics.error, chosen, ties[-1])
    error = float(statistics.error[:, 0].mean())
    ratio = float(statistics.spread.mean()) / error if error else math.nan
    rows.append(
        Row("variance / squared error", ratio, 1.0, chance / error if error else math.nan, p)
    )
    rejected = holm([row.p for row in rows], FALSE_ALARM)
    decided = tuple(
        Row(row.name, row.found, row.expected, row.chance, row.p, bad)
        for row, bad in zip(rows, rejected, strict=True)
    )
    return AuditReport(decided, histograms, runs, draws)


def bins_of(draws: int, runs: int) -> int:
    """Choose the number of bins of the histograms of ranks.

    Args:
        draws: Number K of draws; the ranks are 0..K.
        runs: Number of runs.

    Returns:
        The largest divisor of K + 1 that leaves 8 expected ranks for each bin; at least the
        smallest divisor above 1.

    Example:
        >>> bins_of(19, 100), bins_of(15, 500), bins_of(6, 20)
        (10, 16, 7)
    """
    divisors = [b for b in range(2, draws + 2) if (draws + 1) % b == 0]
    return max((b for b in divisors if runs / b >= _EXPECTED), default=divisors[0])


def holm(p: list[float], level: float) -> list[bool]:
    """Decide which of several hypotheses to reject (Holm 1979).

    Args:
        p: p-values.
        level: Probability that any true hypothesis is rejected, at most.

    Returns:
        Whether each is rejected.

    Example:
        >>> holm([0.01, 0.04, 0.03], 0.05)
        [True, False, False]
        >>> holm([0.01, 0.02, 0.04], 0.05)
        [True, True, True]
    """
    rejected = [False] * len(p)
    for k, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[i] > level / (len(p) - k):
            break
        rejected[i] = True
    return rejected


def _exchanged(values: Tensor, chosen: Tensor, tie: float) -> tuple[float, float]:
    """Randomisation test: is the mean over runs of the first column that of random columns?

    Args:
        values: One value for each of the K + 1 points of each run, shape (N, K + 1).
        chosen: Random columns, shape (exchanges, N).
        tie: Uniform random number, the share of the equal means that count as beyond.

    Returns:
        The two-sided p-value, uniform up to its grid if the points are exchangeable, and the half
        width of the band of 95 % of the random means.
    """
    seen = float(values[:, 0].mean())
    rows = torch.arange(len(values))
    means = torch.cat([values[rows, some].mean(1) for some in chosen.split(500)])
    rounding = 1e-12 * float(values.abs().max())
    equal = float(((means - seen).abs() <= rounding).sum()) + 1  # that of the truths counts
    above = float((means > seen + rounding).sum()) + tie * equal
    tail = above / (len(means) + 1)
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=means.dtype)).tolist()
    return min(1.0, 2 * min(tail, 1 - tail)), (high - low) / 2


def _residual_row(statistics: RunStatistics) -> Row:
    """The sum of squares of the first draws of all runs is chi-squared, exactly."""
    from scipy.stats import chi2  # slow to import

    total, degrees = float(statistics.residual.sum()), float(statistics.observed.sum())
    name = "residual of a draw / noise"
    if not degrees > 0 or not math.isfinite(total):
        return Row(name, math.nan, 1.0, math.nan, 1.0 if not degrees > 0 else 0.0)
    p = min(1.0, 2 * min(float(chi2.cdf(total, degrees)), float(chi2.sf(total, degrees))))
    low, high = chi2.ppf([0.025, 0.975], degrees) / degrees
    return Row(name, total / degrees, 1.0, float(high - low) / 2, p)


def _chi2_tail(square: float, degrees: int) -> float:
    half = torch.tensor(degrees / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(half, torch.tensor(square / 2, dtype=torch.float64)))
