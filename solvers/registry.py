"""Solvers and samplers by name, and the one call that uses them.

``SAMPLERS`` holds the samplers of a prior and ``SOLVERS`` the posterior samplers; ``make_solver``
builds one of the latter, and ``solve`` builds and runs it.

Example:
    >>> from solvers import SAMPLERS, SOLVERS
    >>> sorted(SAMPLERS)[:4]
    ['ancestral', 'ddim', 'dpm-solver', 'dpm-solver-fast']
    >>> SAMPLERS["heun"](10).steps
    10
    >>> SOLVERS["mmps"].exactness, SOLVERS["mmps"].sampler
    ('gaussian', 'dpm-solver-sde')
    >>> sorted(SOLVERS["pigdm"].requires)
    ['adjoint', 'gaussian_noise', 'linear', 'solve']
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from problems import InverseProblem
from problems.checks import check_choice
from scoresde.priors.base import Prior
from solvers.guidance import Guidance
from solvers.posterior import Guided, Posterior, PosteriorSampler
from solvers.presets import DRAWING_GRID, Declared, Preset, presets
from solvers.samplers import (
    DDIM,
    AnnealedLangevin,
    DPMSolver,
    Heun,
    PredictorCorrector,
    ProbabilityFlowODE,
    Sampler,
    TimeGrid,
)
from solvers.scale import OfData

__all__ = [
    "EFFORTS",
    "SAMPLERS",
    "SOLVERS",
    "Effort",
    "SamplerEntry",
    "make_solver",
    "solve",
]

# A start at the mean of the data permits a lower first noise level, which leaves more of the few
# steps for the levels that matter.
FAST_GRID = TimeGrid("log_snr", s_max=OfData(40.0), s_min=OfData(0.04))


@dataclass(frozen=True)
class SamplerEntry:
    """A named sampler, made by a call with the number of steps and the time grid.

    Args:
        summary: One line for the list of samplers.
        build: Makes the sampler for a number of steps and a time grid.
        grid: Default time grid.
        steps: Default number of steps, for draws of a prior.
    """

    summary: str
    build: Callable[[int, TimeGrid], Sampler]
    grid: TimeGrid
    steps: int

    def __call__(self, steps: int | None = None, grid: TimeGrid | None = None) -> Sampler:
        """Make the sampler.

        Args:
            steps: Number of steps; None for the default.
            grid: Time grid; None for the default.

        Returns:
            The sampler.
        """
        return self.build(self.steps if steps is None else steps, grid or self.grid)


SAMPLERS: dict[str, SamplerEntry] = {
    "ddim": SamplerEntry("probability-flow ODE, first order; NFE = steps", DDIM, TimeGrid(), 100),
    "ancestral": SamplerEntry(
        "the reverse SDE as DDPM runs it; NFE = steps",
        lambda n, grid: DDIM(n, grid, eta=1.0),
        TimeGrid(),
        200,
    ),
    "heun": SamplerEntry(
        "probability-flow ODE, second order (EDM); NFE = 2 steps - 1", Heun, TimeGrid(), 40
    ),
    "dpm-solver": SamplerEntry("DPM-Solver++ 2M; NFE = steps", DPMSolver, DPMSolver().grid, 20),
    "dpm-solver-sde": SamplerEntry(
        "DPM-Solver++ 2M on the reverse SDE; NFE = steps",
        lambda n, grid: DPMSolver(n, grid, stochastic=True),
        DPMSolver().grid,
        40,
    ),
    "dpm-solver-fast": SamplerEntry(
        "DPM-Solver++ 2M from the mean of the data, for 5 to 15 evaluations; NFE = steps + 1",
        lambda n, grid: DPMSolver(n, grid, start="mean"),
        FAST_GRID,
        12,
    ),
    "predictor-corrector": SamplerEntry(
        "reverse diffusion with a Langevin correction after each step, for 1000 steps; "
        "NFE = 2 steps - 1",
        PredictorCorrector,
        PredictorCorrector().grid,
        1000,
    ),
    "langevin": SamplerEntry(
        "annealed Langevin dynamics, 100 updates at each level; NFE = 100 steps + 1",
        AnnealedLangevin,
        AnnealedLangevin().grid,
        AnnealedLangevin().steps,
    ),
    "ode": SamplerEntry(
        "probability-flow ODE with adaptive steps; the tolerance decides the NFE, not steps",
        ProbabilityFlowODE,
        TimeGrid(),
        2,
    ),
}
"""Samplers of a prior, by name."""


SOLVERS: Mapping[str, Preset] = Declared(presets)
"""Posterior samplers, by name."""


@dataclass(frozen=True)
class Effort:
    """A budget of steps and draws. The number of network evaluations is proportional to both.

    Args:
        steps: Factor on the solver's default number of steps.
        draws: Number of posterior draws.
        solver: Name of the solver that this budget prefers; None for the default one.
    """

    steps: float
    draws: int
    solver: str | None = None

    def scaled_steps(self, solver: str) -> int:
        """Compute the number of steps of a named solver.

        Args:
            solver: Name of the solver.

        Returns:
            Number of steps, rounded up, and no fewer than the solver needs.

        Raises:
            ValueError: If there is no solver of this name.
        """
        check_choice("solver", solver, SOLVERS)
        preset = SOLVERS[solver]
        return max(preset.least, math.ceil(self.steps * preset.steps))


EFFORTS: dict[str, Effort] = {
    "instant": Effort(1.0, 1, "hqs"),
    "quick": Effort(0.5, 4),
    "normal": Effort(1.0, 8),
    "thorough": Effort(2.0, 16),
}
"""Budgets by name: a point estimate, then draws at 1/4 to 1/2, once and 4 times the normal cost."""


def make_solver(
    name: str, steps: int | None = None, sampler: str | None = None
) -> PosteriorSampler:
    """Make a named solver.

    Args:
        name: Name of the solver, a key of ``SOLVERS``.
        steps: Number of steps; None for the solver's default.
        sampler: Name of the sampler that runs a guidance, a key of ``SAMPLERS``; None for the
            solver's default.

    Returns:
        The posterior sampler.

    Raises:
        ValueError: If a name is unknown, or a sampler is given for a solver with its own loop.

    Example:
        >>> from solvers import make_solver
        >>> solver = make_solver("mmps", steps=10, sampler="heun")
        >>> type(solver.guidance).__name__, type(solver.sampler).__name__, solver.sampler.steps
        ('MMPS', 'Heun', 10)
        >>> make_solver("diffpir").exactness
        'heuristic'
    """
    check_choice("solver", name, SOLVERS)
    preset = SOLVERS[name]
    if sampler is not None and preset.sampler is None:
        raise ValueError(f"{name} has its own loop and takes no sampler")
    chosen = preset.sampler if sampler is None else sampler
    if chosen is not None:
        check_choice("sampler", chosen, SAMPLERS)
    steps = preset.steps if steps is None else steps
    made: Guidance | PosteriorSampler = preset.build(steps)
    if isinstance(made, Guidance):
        assert chosen is not None
        entry = SAMPLERS[chosen]
        grid = replace(DRAWING_GRID, spacing=entry.grid.spacing, rho=entry.grid.rho)
        return Guided(made, entry(steps, grid), finish="draw")
    return made


def solve(
    prior: Prior,
    problem: InverseProblem,
    y: Tensor,
    n: int = 1,
    *,
    solver: str | PosteriorSampler = "warm-start",
    generator: torch.Generator | None = None,
    **settings: Any,
) -> Posterior:
    """Draw from the posterior p(x | y) of a problem.

    Args:
        prior: Prior of x.
        problem: Operator and noise of the measurements.
        y: Measurements, shape (B, ...).
        n: Number of draws for each measurement.
        solver: Name of a solver, a key of ``SOLVERS``, or a posterior sampler.
        generator: Source of the random numbers; None for torch's default generator.
        **settings: ``batch`` and ``progress`` of :meth:`PosteriorSampler.sample`.

    Returns:
        The draws, shape (n, B, *shape), with their mean, standard deviation and intervals, and
        their cost.

    Raises:
        ValueError: If the solver is unknown, if the problem lacks a capability that it requires or
            has no noise, if n < 1, or if y has NaN or infinite entries.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> from solvers import solve
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.1))
        >>> y = torch.full((1, 1, 2, 2), 2.0)
        >>> posterior = solve(prior, problem, y, n=16, generator=torch.manual_seed(0))
        >>> posterior.draws.shape
        torch.Size([16, 1, 1, 2, 2])
        >>> posterior.mean.round(decimals=0)
        tensor([[[[2., 2.],
                  [2., 2.]]]], dtype=torch.float64)
    """
    made = make_solver(solver) if isinstance(solver, str) else solver
    return made.sample(prior, problem, y, n, generator=generator, **settings)
