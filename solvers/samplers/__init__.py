"""Samplers: from a prior, guided or not, to draws."""

from solvers.samplers.base import Sampler
from solvers.samplers.ddim import DDIM
from solvers.samplers.grid import TimeGrid
from solvers.samplers.heun import Heun

__all__ = ["DDIM", "Heun", "Sampler", "TimeGrid"]
