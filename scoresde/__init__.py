"""Score-based priors: how they are defined, trained, stored and measured."""

from scoresde.analytic import GaussianMixturePrior, GaussianPrior
from scoresde.checkpoint import load_prior, save_prior
from scoresde.errors import InputError
from scoresde.prior import Counted, Prior, ScorePrior
from scoresde.sde import EDMSDE, SDE, VESDE, VPSDE, CosineVPSDE, FlowMatchingSDE, SubVPSDE, sde_from
from scoresde.symmetry import GroupAveraged

__all__ = [
    "CosineVPSDE", "Counted", "EDMSDE", "FlowMatchingSDE", "GaussianMixturePrior", "GaussianPrior", "GroupAveraged", "InputError", "Prior",
    "SDE", "ScorePrior", "SubVPSDE", "VESDE", "VPSDE", "load_prior", "save_prior", "sde_from",
]  # fmt: skip

__version__ = "0.1.0"
