"""Guidance methods, which turn a prior, a problem and a measurement into another prior."""

from solvers.guidance.base import Guidance, GuidedPrior
from solvers.guidance.dps import DPS
from solvers.guidance.lgd import LGDMC
from solvers.guidance.mmps import MMPS
from solvers.guidance.mpgd import MPGD
from solvers.guidance.pigdm import PiGDM
from solvers.guidance.tmpd import TMPD
from solvers.presets import discover

__all__ = ["DPS", "LGDMC", "MMPS", "MPGD", "TMPD", "Guidance", "GuidedPrior", "PiGDM"]

discover(__name__, __path__)  # registers the classes in new files of this folder, too
