r"""How far a solver's draws are from the exact posterior.

On a Gaussian mixture the posterior of a linear measurement is another mixture, so that what a solver draws can be compared with exact draws
(Bishop 2006, section 2.3.3). For N draws:

- mean, cov: :math:`|\hat m - m|/\sqrt{\mathrm{tr}\,C}` and :math:`|\hat C - C|_F/|C|_F`;
- distance: sliced Wasserstein-2 between draws and as many exact draws, over the floor, its mean between exact and exact: 1 is as good as
  exact; floor_scatter: the standard deviation of the latter over their mean, which is how far from 1 an exact solver is by chance;
- modes: total variation between exact and recovered weights of the components;
- cover50, cover90, cover95: share of exact draws inside the solver's central intervals of so many per cent, entry by entry;
- seen, unseen: variance of the draws over the exact variance, averaged over directions that A sees and does not see.
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
    """What ``verify`` measured, see above, averaged over seeds. nfe, vjps: per draw; seconds: processor time a draw; memory: bytes a draw,
    NaN where it was not asked for (``memory.py``)."""

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
    """Run ``solver`` on the exact problem of that name, once for each seed. ValueError where the solver cannot do the problem."""
    found = [evaluate(solver, reference(name, draws, seed), draws, seed) for seed in range(seeds)]
    return Verdict(**{key: sum(row[key] for row in found) / seeds for key in found[0]})


def evaluate(
    solver: PosteriorSampler, given: ExactReference, draws: int, seed: int
) -> dict[str, float]:
    """The columns of a ``Verdict`` for one measurement; seed: of the solver."""
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
    """Share of entries of ``exact`` (M, D) inside the central intervals of the draws x (N, D).

    The ends are order statistics of rank p (N + 1), between which independent exact draws lie with probability ``level`` whatever N.
    """
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=F64)
    lower, upper = torch.quantile(x, ((ends * (len(x) + 1) - 1) / (len(x) - 1)).clamp(0, 1), dim=0)
    return float(((exact >= lower) & (exact <= upper)).double().mean())


def _variance_ratios(case: ExactProblem, cov: Tensor, C: Tensor) -> dict[str, float]:
    """Of the directions that A sees, and of those that it does not; NaN where there are none."""
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
    """For JSON."""
    return asdict(verdict)
