"""Score-based priors: how they are defined, trained, stored and measured."""

from scoresde.analytic import GaussianMixturePrior, GaussianPrior
from scoresde.checkpoint import load_prior, save_prior
from scoresde.errors import InputError
from scoresde.prior import Counted, Prior, ScorePrior
from scoresde.sde import EDMSDE, SDE, VESDE, VPSDE

__all__ = [
    "Counted", "EDMSDE", "GaussianMixturePrior", "GaussianPrior", "InputError", "Prior", "SDE", "ScorePrior", "VESDE", "VPSDE",
    "load_prior", "save_prior",
]  # fmt: skip

__version__ = "0.1.0"
