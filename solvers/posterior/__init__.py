"""Posterior samplers: from a prior and a measurement to draws."""

from solvers.posterior.base import Posterior, PosteriorSampler
from solvers.posterior.diffpir import DiffPIR
from solvers.posterior.guided import Guided

__all__ = ["DiffPIR", "Guided", "Posterior", "PosteriorSampler"]
