"""Samplers, which draw from a prior, guided or not."""

from solvers.samplers.base import Sampler, Trajectory
from solvers.samplers.ddim import DDIM
from solvers.samplers.dpm_solver import DPMSolver
from solvers.samplers.grid import TimeGrid
from solvers.samplers.heun import Heun
from solvers.samplers.langevin import AnnealedLangevin
from solvers.samplers.predictor_corrector import PredictorCorrector
from solvers.samplers.probability_flow import ProbabilityFlowODE

__all__ = [
    "AnnealedLangevin",
    "DDIM",
    "DPMSolver",
    "Heun",
    "PredictorCorrector",
    "ProbabilityFlowODE",
    "Sampler",
    "TimeGrid",
    "Trajectory",
]
