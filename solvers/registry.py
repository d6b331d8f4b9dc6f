"""Solvers by name, and the one call that uses them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from problems import InverseProblem
from scoresde.prior import Prior
from solvers.guidance import DPS, MMPS, PiGDM
from solvers.posterior import DiffPIR, Guided, Posterior, PosteriorSampler
from solvers.samplers import DDIM, Heun, Sampler

__all__ = ["SAMPLERS", "SOLVERS", "SolverEntry", "make_solver", "solve"]

SAMPLERS: dict[str, Callable[[int], Sampler]] = {
    "ddim": lambda steps: DDIM(steps),
    "ancestral": lambda steps: DDIM(steps, eta=1.0),
    "heun": lambda steps: Heun(steps),
}


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
    "diffpir": SolverEntry(
        "denoise, proximal step to the data, re-noise; fast, not a posterior sampler",
        lambda steps, _: DiffPIR(steps), 100, None, DiffPIR.exactness, DiffPIR.requires,
    ),
    "mmps": SolverEntry(
        "moment matching with the full covariance by conjugate gradients; exact for Gaussian priors",
        lambda steps, sampler: Guided(MMPS(), sampler or Heun(steps)), 32, "ancestral", MMPS.exactness, MMPS.requires,
    ),
    "pigdm": SolverEntry(
        "pseudoinverse guidance, isotropic covariance; exact for white Gaussian priors",
        lambda steps, sampler: Guided(PiGDM(), sampler or Heun(steps)), 100, "ancestral", PiGDM.exactness, PiGDM.requires,
    ),
    "dps": SolverEntry(
        "gradient of the residual norm; the classic, needs many steps and a tuned step size",
        lambda steps, sampler: Guided(DPS(), sampler or Heun(steps)), 1000, "ancestral", DPS.exactness, DPS.requires,
    ),
}  # fmt: skip


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
    return entry.build(steps, SAMPLERS[chosen](steps) if chosen else None)


def solve(
    prior: Prior,
    problem: InverseProblem,
    y: Tensor,
    n: int = 1,
    *,
    solver: str | PosteriorSampler = "diffpir",
    generator: torch.Generator | None = None,
    **settings: Any,
) -> Posterior:
    """n draws of p(x | y) by a named solver or one made by hand. settings: ``batch`` and ``progress`` of ``sample``."""
    made = make_solver(solver) if isinstance(solver, str) else solver
    return made.sample(prior, problem, y, n, generator=generator, **settings)
