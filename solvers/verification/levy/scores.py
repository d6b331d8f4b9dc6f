r"""Scores of a solver on a Lévy problem against draws of the exact posterior.

- gap: how far the mean-squared error of the solver's means is above the least one, in dB. With
  exact means m and variances v, it is :math:`10 \log_{10}(1 + \overline{|\hat m - m|^2}/\bar v)`,
  without what N draws of a solver add by chance. Negative values are chance.
- coverage: share of exact draws inside the solver's central 90 % intervals, by ranks; .9 is exact.
- distance: sliced Wasserstein-2 distance to exact draws over that of other exact draws; 1 is exact.
"""

import math
import time
import warnings
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scoresde.priors.base import Prior
from solvers.posterior import PosteriorSampler
from solvers.verification.levy.gibbs import GibbsDraws
from solvers.verification.levy.problems import LevyProblem
from solvers.verification.metrics import interval_coverage
from solvers.verification.reference import sliced_wasserstein

__all__ = ["LevyScore", "judge", "score"]


@dataclass(frozen=True)
class LevyScore:
    """Scores of a solver, averaged over measurements.

    Args:
        gap: Mean-squared error of the posterior means over the least one, in dB.
        coverage: Share of exact draws inside the central 90 % intervals.
        distance: Sliced Wasserstein-2 distance to exact draws over its floor.
        seconds: Wall time per draw; NaN if it was not measured.
        nfe: Network evaluations per draw; NaN if they were not counted.
        warned: Share of the draws that came with a warning, each measurement solved on its own.
        warnings: What the solver warned of.
    """

    gap: float
    coverage: float
    distance: float
    seconds: float = float("nan")
    nfe: float = float("nan")
    warned: float = 0.0
    warnings: tuple[str, ...] = ()


def judge(draws: Tensor, exact: GibbsDraws) -> LevyScore:
    """Compare draws with exact ones.

    Args:
        draws: Draws of a solver for B measurements, (N, B, n), independent, N at least 19.
        exact: Exact draws, at least 2 N for each measurement.

    Returns:
        The scores, without time and cost.

    Raises:
        ValueError: If there are too few draws of a kind or the shapes do not fit.
    """
    pooled, draws = exact.pooled, draws.double()
    count = len(draws)
    if count < 19 or len(pooled) < 2 * count or draws.shape[1:] != pooled.shape[1:]:
        raise ValueError(
            "scores need 19 draws (N, B, n) or more and twice as many exact ones, "
            f"got {tuple(draws.shape)} and {tuple(pooled.shape)}"
        )
    chance = draws.var(0) / count + exact.standard_error.square()
    excess = (draws.mean(0) - exact.mean).square() - chance
    share = float(excess.mean() / exact.std.square().mean())
    rows = range(draws.shape[1])
    apart = pooled[:: len(pooled) // (2 * count)][: 2 * count]  # nearly independent
    one, two = apart[::2], apart[1::2]
    found = [sliced_wasserstein(draws[:, i], one[:, i], 200) for i in rows]
    floor = [sliced_wasserstein(two[:, i], one[:, i], 200) for i in rows]
    return LevyScore(
        10 * math.log10(max(1 + share, 1e-3)),
        sum(interval_coverage(draws[:, i], pooled[:, i], 0.9) for i in rows) / len(rows),
        sum(found) / sum(floor),
    )


def score(
    solver: PosteriorSampler,
    case: LevyProblem,
    y: Tensor,
    exact: GibbsDraws,
    *,
    draws: int,
    seed: int = 0,
    prior: Prior | None = None,
) -> LevyScore:
    """Run a solver on one measurement after another and compare its draws with exact ones.

    Args:
        solver: Solver to judge.
        case: Problem.
        y: Measurements, (B, m).
        exact: Draws of their exact posteriors.
        draws: Number of draws for each measurement, at least 19.
        seed: Seed of the solver's random numbers.
        prior: Denoiser of signals, of shape (n,) or (1, n); None for the exact one.

    Returns:
        The scores, with time, cost and warnings.

    Raises:
        ValueError: If the solver cannot solve the problem or there are too few draws.
    """
    generator, prior = torch.Generator().manual_seed(seed), prior or case.prior
    problem = case.problem_for(prior)
    start, found, told, warned = time.perf_counter(), [], [], 0
    for one in y.split(1):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found.append(solver.sample(prior, problem, one, draws, generator=generator))
        told += [str(warning.message) for warning in caught]
        warned += bool(caught)
    seconds = (time.perf_counter() - start) / (draws * len(y))
    together = torch.cat([one.draws.reshape(draws, 1, -1) for one in found], dim=1)
    judged = judge(together.cpu(), exact)
    return replace(
        judged,
        seconds=seconds,
        nfe=sum(one.nfe for one in found) / len(y),
        warned=warned / len(y),
        warnings=tuple(dict.fromkeys(told)),
    )
