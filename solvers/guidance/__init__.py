"""Guidance: (prior, problem, y) -> a prior again."""

from solvers.guidance.base import Guidance, GuidedPrior
from solvers.guidance.dps import DPS
from solvers.guidance.mmps import MMPS
from solvers.guidance.pigdm import PiGDM

__all__ = ["DPS", "MMPS", "Guidance", "GuidedPrior", "PiGDM"]
