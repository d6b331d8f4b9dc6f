"""Solvers: from a prior, and a measurement, to draws."""

from solvers.guidance import DPS, MMPS, Guidance, GuidedPrior, PiGDM
from solvers.posterior import DiffPIR, Guided, Posterior, PosteriorSampler
from solvers.registry import SAMPLERS, SOLVERS, make_solver, solve
from solvers.samplers import DDIM, Heun, Sampler, TimeGrid

__all__ = [
    "DDIM", "DPS", "DiffPIR", "Guidance", "Guided", "GuidedPrior", "Heun", "MMPS", "PiGDM", "Posterior", "PosteriorSampler", "SAMPLERS",
    "SOLVERS", "Sampler", "TimeGrid", "make_solver", "solve",
]  # fmt: skip
