"""Solvers by name, and the one call that uses them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from problems import InverseProblem
from problems.checks import check_choice
from scoresde.priors.base import Prior
from solvers.guidance import Guidance
from solvers.posterior import Guided, Posterior, PosteriorSampler
from solvers.presets import RESTORATION_GRID, Preset, presets
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

__all__ = [
    "EFFORTS",
    "SAMPLERS",
    "SOLVERS",
    "Effort",
    "SamplerEntry",
    "SolverEntry",
    "make_solver",
    "solve",
]

# With a start at the mean of the data the noise need not be so high, and every step counts when there are few.
FAST_GRID = TimeGrid("log_snr", s_max=20.0, s_min=0.02)


@dataclass(frozen=True)
class SamplerEntry:
    """A named sampler; called with steps and perhaps a grid, it makes it. steps: its own number, for draws of a prior."""

    summary: str
    build: Callable[[int, TimeGrid], Sampler]
    grid: TimeGrid
    steps: int

    def __call__(self, steps: int | None = None, grid: TimeGrid | None = None) -> Sampler:
        return self.build(self.steps if steps is None else steps, grid or self.grid)


SAMPLERS: dict[str, SamplerEntry] = {
    "ddim": SamplerEntry("probability-flow ODE, first order; NFE = steps", DDIM, TimeGrid(), 100),
    "ancestral": SamplerEntry("the reverse SDE as DDPM runs it; NFE = steps", lambda n, grid: DDIM(n, grid, eta=1.0), TimeGrid(), 200),
    "heun": SamplerEntry("probability-flow ODE, second order (EDM); NFE = 2 steps - 1", Heun, TimeGrid(), 40),
    "dpm-solver": SamplerEntry("DPM-Solver++ 2M; NFE = steps", DPMSolver, DPMSolver().grid, 20),
    "dpm-solver-sde": SamplerEntry(
        "DPM-Solver++ 2M on the reverse SDE; NFE = steps", lambda n, grid: DPMSolver(n, grid, stochastic=True), DPMSolver().grid, 40
    ),
    "dpm-solver-fast": SamplerEntry(
        "DPM-Solver++ 2M from the mean of the data, for 5 to 15 evaluations; NFE = steps + 1",
        lambda n, grid: DPMSolver(n, grid, start="mean"), FAST_GRID, 12,
    ),
    "predictor-corrector": SamplerEntry(
        "reverse diffusion with a Langevin correction after each step, for 1000 steps; NFE = 2 steps - 1",
        PredictorCorrector, PredictorCorrector().grid, 1000,
    ),
    "langevin": SamplerEntry(
        "annealed Langevin dynamics, 100 updates at each level; NFE = 100 steps + 1",
        AnnealedLangevin, AnnealedLangevin().grid, AnnealedLangevin().steps,
    ),
    "ode": SamplerEntry(
        "probability-flow ODE with adaptive steps; NFE as the tolerance asks, whatever the steps", ProbabilityFlowODE, TimeGrid(), 2
    ),
}  # fmt: skip


@dataclass(frozen=True)
class SolverEntry:
    """A named solver. steps, sampler: its defaults (sampler None: it has its own loop). exactness, requires: see ``PosteriorSampler``."""

    preset: Preset

    @property
    def summary(self) -> str:
        return self.preset.summary

    @property
    def steps(self) -> int:
        return self.preset.steps

    @property
    def sampler(self) -> str | None:
        return self.preset.sampler

    @property
    def requires(self) -> frozenset[str]:
        return self.preset.requires

    @property
    def exactness(self) -> str:
        return self.preset.exactness

    def build(self, steps: int, sampler: str | None) -> PosteriorSampler:
        """The solver with this many steps; sampler: of a guidance, by name."""
        made = self.preset.build(steps)
        if isinstance(made, Guidance):
            assert sampler is not None
            return Guided(made, SAMPLERS[sampler](steps, RESTORATION_GRID))
        return made


class _Solvers(Mapping[str, SolverEntry]):
    """The presets of all solver classes, those of the user too."""

    def __getitem__(self, name: str) -> SolverEntry:
        return SolverEntry(presets()[name])

    def __iter__(self) -> Iterator[str]:
        return iter(presets())

    def __len__(self) -> int:
        return len(presets())


SOLVERS: Mapping[str, SolverEntry] = _Solvers()


@dataclass(frozen=True)
class Effort:
    """A budget: times the solver's own number of steps, and posterior draws. Cost goes with both: evaluations = steps x draws."""

    steps: float
    draws: int

    def scaled_steps(self, solver: str) -> int:
        """Of a named solver, rounded up. ValueError for an unknown name."""
        check_choice("solver", solver, SOLVERS)
        return math.ceil(self.steps * SOLVERS[solver].steps)


EFFORTS: dict[str, Effort] = {
    "quick": Effort(0.5, 4),
    "normal": Effort(1.0, 8),
    "thorough": Effort(2.0, 16),
}
"""A quarter of the normal cost, once, and four times."""


def make_solver(
    name: str, steps: int | None = None, sampler: str | None = None
) -> PosteriorSampler:
    """The solver of that name, with its own defaults where nothing is said."""
    check_choice("solver", name, SOLVERS)
    entry = SOLVERS[name]
    if sampler is not None and entry.sampler is None:
        raise ValueError(f"{name} has a loop of its own and takes no sampler")
    chosen = sampler or entry.sampler
    if chosen is not None:
        check_choice("sampler", chosen, SAMPLERS)
    return entry.build(entry.steps if steps is None else steps, chosen)


def solve(
    prior: Prior,
    problem: InverseProblem,
    y: Tensor,
    n: int = 1,
    *,
    solver: str | PosteriorSampler = "mmps",
    generator: torch.Generator | None = None,
    **settings: Any,
) -> Posterior:
    """n draws of p(x | y) by a named solver or one made by hand. settings: ``batch`` and ``progress`` of ``sample``."""
    made = make_solver(solver) if isinstance(solver, str) else solver
    return made.sample(prior, problem, y, n, generator=generator, **settings)
