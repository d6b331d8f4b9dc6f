"""Score-based priors: how they are defined, trained, stored and measured."""

from scoresde.errors import InputError
from scoresde.priors.averaged import EquivariantPrior
from scoresde.priors.base import CountingPrior, Prior
from scoresde.priors.checkpoint import load_prior, save_prior
from scoresde.priors.mixture import GaussianMixturePrior, GaussianPrior
from scoresde.priors.score import ScorePrior
from scoresde.sde import EDMSDE, SDE, VESDE, VPSDE, CosineVPSDE, FlowMatchingSDE, SubVPSDE, sde_from

__all__ = [
    "CosineVPSDE", "CountingPrior", "EDMSDE", "FlowMatchingSDE", "GaussianMixturePrior", "GaussianPrior", "EquivariantPrior", "InputError", "Prior",
    "SDE", "ScorePrior", "SubVPSDE", "VESDE", "VPSDE", "load_prior", "save_prior", "sde_from",
]  # fmt: skip

__version__ = "0.1.0"
