"""Draws that no posterior would make, and whether the solver said so.

A draw x is as far from the exact posterior mean m as :math:`|x - m|`. The farthest of thousands of
exact draws sets the scale; a draw more than twice as far is wild.
"""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from problems.checks import check_number
from scoresde.priors.base import Prior
from solvers.posterior import PosteriorSampler, SolverWarning
from solvers.verification.levy.gibbs import GibbsDraws
from solvers.verification.levy.problems import LevyProblem

__all__ = ["WildDraws", "wild_draws"]

_FACTOR = 2.0  # distances of the farthest exact draw


@dataclass(frozen=True)
class WildDraws:
    """What became of many draws, made by many calls of a solver.

    Args:
        draws: Number of draws.
        wild: Number of wild ones.
        silent: Number of wild ones from a call without a ``SolverWarning``.
        warned: Share of the calls with such a warning.
        farthest: Largest distance of a draw, in units of that of the farthest exact draw.
    """

    draws: int
    wild: int
    silent: int
    warned: float
    farthest: float


def wild_draws(
    solver: PosteriorSampler,
    case: LevyProblem,
    prior: Prior,
    draws: int,
    *,
    call: int = 50,
    measurements: int = 20,
    sweeps: int = 1000,
    seed: int = 0,
) -> WildDraws:
    """Make many draws and count the wild ones.

    Each call of the solver takes the next one of the measurements, and begins again after the last.

    Args:
        solver: Solver to judge.
        case: Problem.
        prior: Denoiser of signals, of shape (n,) or (1, n).
        draws: Number of draws, a multiple of ``call``.
        call: Number of draws of each call.
        measurements: Number of measurements, no more than there are calls.
        sweeps: Draws of each of two Gibbs chains, for each measurement.
        seed: Seed of signals, noise and draws.

    Returns:
        The counts.

    Raises:
        ValueError: If the solver cannot solve the problem, or a number is out of its range.
    """
    for name, value in (
        ("number of draws", draws),
        ("number of draws of a call", call),
        ("number of measurements", measurements),
    ):
        check_number(value, f"the {name}", least=1, whole=True)
    if draws % call:
        raise ValueError(f"{draws} draws cannot be made by calls of {call}")
    generator = torch.Generator().manual_seed(seed)
    problem = case.problem_for(prior)
    calls = draws // call
    _, y = case.pairs(min(measurements, calls), generator)
    exact = case.posterior(y, sweeps, generator, burn_in=sweeps // 4)
    wild, silent, warned, farthest = 0, 0, 0, 0.0
    for i in (k % len(y) for k in range(calls)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = solver.sample(prior, problem, y[i : i + 1], call, generator=generator).draws
        told = any(issubclass(warning.category, SolverWarning) for warning in caught)
        distances = _distances(found.reshape(call, -1).cpu().double(), exact, i)
        count = int((distances > _FACTOR).sum())
        wild += count
        silent += 0 if told else count
        warned += told
        farthest = max(farthest, float(distances.max()))
    return WildDraws(draws, wild, silent, warned / calls, farthest)


def _distances(x: Tensor, exact: GibbsDraws, i: int) -> Tensor:
    """Distances of draws (N, n) to the mean of posterior i, in units of the largest exact one."""
    drawn, mean = exact.pooled[:, i], exact.mean[i]
    distances: Tensor = (x - mean).norm(dim=1) / (drawn - mean).norm(dim=1).max()
    return distances
