r"""Metrics for a solver's draws against the exact posterior.

On a Gaussian mixture the posterior of a linear measurement is another mixture (Bishop 2006, section
2.3.3), so a solver's draws can be compared with exact draws. For N draws:

- mean, cov: :math:`|\hat m - m|/\sqrt{\mathrm{tr}\,C}` and :math:`|\hat C - C|_F/|C|_F`;
- distance: sliced Wasserstein-2 distance to N exact draws, divided by the floor, which is its mean
  between two sets of exact draws: 1 is as good as exact;
- floor_scatter: standard deviation of the distance between exact sets over their mean, which is the
  deviation from 1 to expect of an exact solver;
- modes: total variation between the exact and the recovered weights of the components;
- cover50, cover90, cover95: share of exact draws inside the solver's central intervals of that
  percentage, entry by entry;
- seen, unseen: variance of the draws over the exact variance, averaged over the directions that A
  observes and those that it does not.
"""

import time
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from scoresde.priors.base import CountingPrior
from solvers.posterior import PosteriorSampler
from solvers.verification.problems import ExactProblem, seeded
from solvers.verification.reference import ExactReference, reference

__all__ = ["Verdict", "interval_coverage", "evaluate", "verify", "verdict_row"]

F64 = torch.float64


@dataclass(frozen=True)
class Verdict:
    """Metrics of a solver on one exact problem, averaged over seeds.

    Args:
        mean: Error of the mean, relative to the exact standard deviation.
        cov: Relative error of the covariance.
        distance: Sliced Wasserstein-2 distance to exact draws over its floor; 1 for exact draws.
        floor_scatter: Relative standard deviation of the floor.
        modes: Total variation between exact and recovered component weights, in [0, 1].
        cover50: Coverage of the central 50 % intervals.
        cover90: Coverage of the central 90 % intervals.
        cover95: Coverage of the central 95 % intervals.
        seen: Ratio of variances in directions that the measurement observes.
        unseen: The same in unobserved directions; NaN if there are none.
        nfe: Network evaluations per draw.
        vjps: Vector-Jacobian products per draw.
        seconds: Processor time per draw.
        memory: Bytes per draw; NaN if it was not measured (`memory_of_a_draw`).
    """

    mean: float
    cov: float
    distance: float
    floor_scatter: float
    modes: float
    cover50: float
    cover90: float
    cover95: float
    seen: float
    unseen: float
    nfe: float
    vjps: float
    seconds: float
    memory: float = float("nan")


def verify(solver: PosteriorSampler, name: str, *, draws: int = 1000, seeds: int = 3) -> Verdict:
    """Measure a solver on an exact problem.

    Args:
        solver: Solver to measure.
        name: Name of an exact problem, of `EXACT_PROBLEMS` or `FULL_PROBLEMS`.
        draws: Number of draws for each seed, at least 2.
        seeds: Number of runs, each with another measurement and other random numbers, at least 1.

    Returns:
        The metrics, averaged over the seeds.

    Raises:
        ValueError: If the problem is unknown or the solver cannot solve it.

    Example:
        >>> from solvers.verification import VERIFIED, verify
        >>> verdict = verify(VERIFIED["ddrm"], "gaussian", draws=200, seeds=1)
        >>> verdict.nfe
        20.0
        >>> verdict.seen < 0.6  # DDRM is overconfident on this problem
        True
    """
    found = [evaluate(solver, reference(name, draws, seed), draws, seed) for seed in range(seeds)]
    return Verdict(**{key: sum(row[key] for row in found) / seeds for key in found[0]})


def evaluate(
    solver: PosteriorSampler, given: ExactReference, draws: int, seed: int
) -> dict[str, float]:
    """Measure a solver on one measurement.

    Args:
        solver: Solver to measure.
        given: Exact problem with exact draws.
        draws: Number of draws, that of the reference.
        seed: Seed of the solver's random numbers.

    Returns:
        The fields of a `Verdict` by name, without memory.

    Raises:
        ValueError: If the solver cannot solve the problem.
    """
    case = given.case
    counted, start = CountingPrior(case.prior), time.process_time()
    result = solver.sample(counted, case.problem, case.y, draws, generator=seeded(seed))
    seconds = (time.process_time() - start) / draws
    x = result.draws[:, 0].double().flatten(1)
    m, C = case.posterior.moments()
    cov = torch.cov(x.T)
    weights = case.posterior.responsibilities(x.reshape(-1, *case.prior.shape)).mean(0)
    return {
        "mean": float((x.mean(0) - m).norm() / C.trace().sqrt()),
        "cov": float((cov - C).norm() / C.norm()),
        "distance": given.distance(x),
        "floor_scatter": given.scatter,
        "modes": float((weights - case.posterior.weights).abs().sum() / 2),
        **{
            f"cover{level}": interval_coverage(x, given.exact, level / 100)
            for level in (50, 90, 95)
        },
        **_variance_ratios(case, cov, C),
        "nfe": float(result.nfe),
        "vjps": float(result.vjps),
        "seconds": seconds,
    }


def interval_coverage(x: Tensor, exact: Tensor, level: float) -> float:
    """Compute the share of exact draws inside the central intervals of a solver's draws.

    The interval ends are order statistics of rank p (N + 1). Independent exact draws lie between
    them with probability level for every N.

    Args:
        x: Draws of the solver, (N, D), float64.
        exact: Exact draws, (M, D), float64.
        level: Nominal coverage of the intervals, in (0, 1).

    Returns:
        Share of the entries of exact that lie inside the interval of their column.

    Example:
        >>> import torch
        >>> generator = torch.Generator().manual_seed(0)
        >>> x, exact = torch.randn(2, 1000, 20, dtype=torch.float64, generator=generator)
        >>> round(interval_coverage(x, exact, 0.9), 2)
        0.9
    """
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=F64)
    lower, upper = torch.quantile(x, ((ends * (len(x) + 1) - 1) / (len(x) - 1)).clamp(0, 1), dim=0)
    return float(((exact >= lower) & (exact <= upper)).double().mean())


def _variance_ratios(case: ExactProblem, cov: Tensor, C: Tensor) -> dict[str, float]:
    """Ratios of variances in the directions that A observes, and in the others (NaN if none)."""
    _, s, Vt = torch.linalg.svd(
        case.problem.linear_operator.dense(case.prior.shape), full_matrices=True
    )
    rank = int((s > 1e-8 * s.max()).sum())
    ratio = (Vt @ cov @ Vt.T).diagonal() / (Vt @ C @ Vt.T).diagonal()
    return {
        "seen": float(ratio[:rank].mean()),
        "unseen": float(ratio[rank:].mean()) if rank < len(ratio) else float("nan"),
    }


def verdict_row(verdict: Verdict) -> dict[str, Any]:
    """Convert a verdict to a JSON-serialisable dictionary.

    Args:
        verdict: Metrics of a solver.

    Returns:
        The fields by name.
    """
    return asdict(verdict)
