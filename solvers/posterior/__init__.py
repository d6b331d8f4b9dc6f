"""Posterior samplers: draws from p(x | y), given a prior and a measurement."""

from solvers.posterior.annealed_gauss_newton import AnnealedGaussNewton
from solvers.posterior.base import IndependentSampler, Posterior, PosteriorSampler
from solvers.posterior.best_of import BestOf
from solvers.posterior.daps import DAPS
from solvers.posterior.diffpir import DiffPIR
from solvers.posterior.guided import Guided
from solvers.posterior.hqs import HQS, PnPADMM
from solvers.posterior.point import PointEstimator
from solvers.posterior.red_diff import REDDiff
from solvers.posterior.repaint import RePaint
from solvers.posterior.second_order import SecondOrderAncestral
from solvers.posterior.sitcom import SITCOM
from solvers.posterior.smc.base import ParticleSampler
from solvers.posterior.smc.mcgdiff import MCGDiff
from solvers.posterior.smc.predicted_twist import PredictedTwistSMC
from solvers.posterior.smc.tds import TDS
from solvers.posterior.spectral import DDNM, DDRM
from solvers.posterior.split_gibbs import SplitGibbs
from solvers.posterior.trust import SolverWarning
from solvers.posterior.warm_start import WarmStart
from solvers.presets import discover

__all__ = [
    "AnnealedGaussNewton",
    "BestOf",
    "DAPS",
    "DDNM",
    "DDRM",
    "DiffPIR",
    "Guided",
    "HQS",
    "IndependentSampler",
    "MCGDiff",
    "ParticleSampler",
    "Posterior",
    "PosteriorSampler",
    "PnPADMM",
    "PointEstimator",
    "PredictedTwistSMC",
    "REDDiff",
    "RePaint",
    "SITCOM",
    "SecondOrderAncestral",
    "SolverWarning",
    "SplitGibbs",
    "TDS",
    "WarmStart",
]

discover(__name__, __path__)  # registers the classes of new files in this folder, too
