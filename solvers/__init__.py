"""Solvers: from a prior, and a measurement, to draws."""

from solvers.guidance import DPS, MMPS, Guidance, GuidedPrior, PiGDM
from solvers.likelihood import BitsPerDim, GaussianReference, LogLikelihood, bits_per_dim, log_likelihood
from solvers.posterior import DiffPIR, Guided, Posterior, PosteriorSampler
from solvers.registry import SAMPLERS, SOLVERS, make_solver, solve
from solvers.samplers import (
    DDIM,
    AnnealedLangevin,
    DPMSolver,
    Heun,
    PredictorCorrector,
    ProbabilityFlowODE,
    Sampler,
    TimeGrid,
    Trajectory,
)

__all__ = [
    "AnnealedLangevin", "BitsPerDim", "DDIM", "DPMSolver", "DPS", "DiffPIR", "GaussianReference", "Guidance", "Guided", "GuidedPrior",
    "Heun", "LogLikelihood", "MMPS", "PiGDM", "Posterior", "PosteriorSampler", "PredictorCorrector", "ProbabilityFlowODE", "SAMPLERS",
    "SOLVERS", "Sampler", "TimeGrid", "Trajectory", "bits_per_dim", "log_likelihood", "make_solver", "solve",
]  # fmt: skip
