"""Solvers: from a prior, and a measurement, to draws."""

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
    SITCOM,
    TDS,
    DiffPIR,
    Guided,
    MCGDiff,
    Posterior,
    PosteriorSampler,
    PredictedTwistSMC,
    REDDiff,
    RePaint,
    SecondOrderAncestral,
    SplitGibbs,
)
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
    "AnnealedLangevin", "BitsPerDim", "DAPS", "DDIM", "DDNM", "DDRM", "DPMSolver", "DPS", "DiffPIR", "EFFORTS", "Effort",
    "GaussianReference", "Guidance", "Guided", "GuidedPrior", "Heun", "LGDMC", "LogLikelihood", "LowerBound", "MCGDiff", "MMPS", "MPGD",
    "PiGDM", "Posterior", "PosteriorSampler", "PredictedTwistSMC", "PredictorCorrector", "ProbabilityFlowODE", "REDDiff", "RePaint",
    "SAMPLERS", "SITCOM", "SOLVERS", "Sampler", "SecondOrderAncestral", "SplitGibbs", "TDS", "TMPD", "TimeGrid", "Trajectory", "bits_per_dim",
    "elbo", "log_likelihood", "make_solver", "solve",
]  # fmt: skip
