"""Solvers by name, and the one call that uses them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from problems import InverseProblem
from scoresde.priors.base import Prior
from solvers.guidance import DPS, MMPS, PiGDM
from solvers.posterior import DDNM, DDRM, DiffPIR, Guided, Posterior, PosteriorSampler, PredictedTwist, SecondOrder, SplitGibbs
from solvers.samplers import DDIM, AnnealedLangevin, DPMSolver, Heun, PredictorCorrector, ProbabilityFlowODE, Sampler, TimeGrid

__all__ = ["EFFORTS", "SAMPLERS", "SOLVERS", "Effort", "SamplerEntry", "SolverEntry", "make_solver", "solve"]

# Restorations start where the noise hides the picture and end below the noise of most measurements: steps beyond are wasted on them.
RESTORATION_GRID = TimeGrid(s_max=5.0, s_min=0.03)

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
    """A named solver. build(steps, sampler) makes it; steps and sampler are its defaults (sampler None: it has its own loop)."""

    summary: str
    build: Callable[[int, Sampler | None], PosteriorSampler]
    steps: int
    sampler: str | None
    exactness: str
    requires: frozenset[str]


SOLVERS: dict[str, SolverEntry] = {
    "mmps": SolverEntry(
        "moment matching with the full covariance by conjugate gradients; exact for Gaussian priors",
        lambda steps, sampler: Guided(MMPS(iterations=3), sampler or Heun(steps)), 20, "ancestral", MMPS().exactness, MMPS.requires,
    ),
    "second-order": SolverEntry(
        "ancestral steps with the covariance of each, drawn given y; spreads as wide as it should in few steps",
        lambda steps, _: SecondOrder(steps, grid=RESTORATION_GRID), 20, None, SecondOrder.exactness, SecondOrder.requires,
    ),
    "predicted-twist": SolverEntry(
        "sequential Monte Carlo, near exact; for small pictures and measurements of at most 1024 numbers; steps are about its levels",
        lambda steps, _: PredictedTwist(ratio=0.8 ** (30 / steps), flat_ratio=0.6 ** (30 / steps), s_max=20.0), 30, None,
        PredictedTwist.exactness, PredictedTwist.requires,
    ),
    "diffpir": SolverEntry(
        "denoise, proximal step to the data, re-noise; fast, its draws lie close to their mean",
        lambda steps, _: DiffPIR(steps, lam=3.0, zeta=1.0, grid=RESTORATION_GRID), 30, None, DiffPIR.exactness, DiffPIR.requires,
    ),
    "pigdm": SolverEntry(
        "pseudoinverse guidance, isotropic covariance, the paper's adaptive weights",
        lambda steps, sampler: Guided(PiGDM(weight="adaptive"), sampler or Heun(steps)), 30, "ancestral", PiGDM.exactness, PiGDM.requires,
    ),
    "dps": SolverEntry(
        "gradient of the residual norm; the classic, needs many steps and a step size tuned to the problem",
        lambda steps, sampler: Guided(DPS(), sampler or Heun(steps)), 60, "ancestral", DPS.exactness, DPS.requires,
    ),
    "ddrm": SolverEntry(
        "diffusion in the basis of singular vectors; fast, where the measurement has an svd",
        lambda steps, _: DDRM(steps, grid=RESTORATION_GRID), 20, None, DDRM.exactness, DDRM.requires,
    ),
    "ddnm": SolverEntry(
        "the range of the measurement replaced at each step (svd); no products; good around holes",
        lambda steps, _: DDNM(steps, eta=1.0, grid=RESTORATION_GRID), 30, None, DDNM.exactness, DDNM.requires,
    ),
    "split-gibbs": SolverEntry(
        "exact draws given y and given the prior by turns (PnP-DM); steps are sweeps of 3 evaluations",
        lambda steps, _: SplitGibbs(steps, rho_max=2.0, rho_min=0.08, inner=3, anneal=0.9), 12, None, SplitGibbs.exactness,
        SplitGibbs.requires,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Effort:
    """A budget: times the solver's own number of steps, and posterior draws. Cost goes with both: evaluations = steps x draws."""

    steps: float
    draws: int

    def steps_of(self, solver: str) -> int:
        """Of a named solver, rounded up. ValueError for an unknown name."""
        if solver not in SOLVERS:
            raise ValueError(f"unknown solver {solver!r}; known: {', '.join(SOLVERS)}")
        return math.ceil(self.steps * SOLVERS[solver].steps)


EFFORTS: dict[str, Effort] = {"quick": Effort(0.5, 4), "normal": Effort(1.0, 8), "thorough": Effort(2.0, 16)}
"""A quarter of the normal cost, once, and four times."""


def make_solver(name: str, steps: int | None = None, sampler: str | None = None) -> PosteriorSampler:
    """The solver of that name, with its own defaults where nothing is said."""
    if name not in SOLVERS:
        raise ValueError(f"unknown solver {name!r}; known: {', '.join(SOLVERS)}")
    entry = SOLVERS[name]
    if sampler is not None and entry.sampler is None:
        raise ValueError(f"{name} has a loop of its own and takes no sampler")
    chosen = sampler or entry.sampler
    if chosen is not None and chosen not in SAMPLERS:
        raise ValueError(f"unknown sampler {chosen!r}; known: {', '.join(SAMPLERS)}")
    steps = entry.steps if steps is None else steps
    return entry.build(steps, SAMPLERS[chosen](steps, RESTORATION_GRID) if chosen else None)


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
