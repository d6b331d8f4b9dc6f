"""Solvers, which turn a prior, or a prior and a measurement, into draws."""

from typing import TYPE_CHECKING

from solvers.guidance import DPS, LGDMC, MMPS, MPGD, TMPD, Guidance, GuidedPrior, PiGDM
from solvers.likelihood import (
    BitsPerDim,
    GaussianReference,
    LogLikelihood,
    LowerBound,
    bits_per_dim,
    elbo,
    log_likelihood,
)
from solvers.posterior import (
    DAPS,
    DDNM,
    DDRM,
    HQS,
    SITCOM,
    TDS,
    AnnealedGaussNewton,
    BestOf,
    DiffPIR,
    Guided,
    MCGDiff,
    PnPADMM,
    PointEstimator,
    Posterior,
    PosteriorSampler,
    PredictedTwistSMC,
    REDDiff,
    RePaint,
    SecondOrderAncestral,
    SolverWarning,
    SplitGibbs,
    WarmStart,
)
from solvers.presets import Registered, registered_class
from solvers.registry import EFFORTS, SAMPLERS, SOLVERS, Effort, make_solver, solve
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
    "AnnealedGaussNewton",
    "BestOf",
    "AnnealedLangevin",
    "BitsPerDim",
    "DAPS",
    "DDIM",
    "DDNM",
    "DDRM",
    "DPMSolver",
    "DPS",
    "DiffPIR",
    "EFFORTS",
    "Effort",
    "GaussianReference",
    "Guidance",
    "Guided",
    "GuidedPrior",
    "HQS",
    "Heun",
    "LGDMC",
    "LogLikelihood",
    "LowerBound",
    "MCGDiff",
    "MMPS",
    "MPGD",
    "PiGDM",
    "PnPADMM",
    "PointEstimator",
    "Posterior",
    "PosteriorSampler",
    "PredictedTwistSMC",
    "PredictorCorrector",
    "ProbabilityFlowODE",
    "REDDiff",
    "RePaint",
    "SAMPLERS",
    "SITCOM",
    "SOLVERS",
    "Sampler",
    "SecondOrderAncestral",
    "SolverWarning",
    "SplitGibbs",
    "TDS",
    "TMPD",
    "TimeGrid",
    "Trajectory",
    "WarmStart",
    "bits_per_dim",
    "elbo",
    "log_likelihood",
    "make_solver",
    "solve",
]

if not TYPE_CHECKING:  # type checkers know the names above alone

    def __getattr__(name: str) -> type[Registered]:
        """Find a solver of a new file, which no line above imports."""
        found = None if name.startswith("_") else registered_class(name)
        if found is None:
            raise AttributeError(f"module 'solvers' has no attribute {name!r}")
        return found
