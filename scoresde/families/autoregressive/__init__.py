"""Autoregressive models."""

from scoresde.families.autoregressive.categorical import categorical
from scoresde.families.autoregressive.conditional_smc import particle_draws
from scoresde.families.autoregressive.discrete_langevin import langevin_draws
from scoresde.families.autoregressive.made import MADE
from scoresde.families.autoregressive.model import Autoregressive, AutoregressiveConfig
from scoresde.families.autoregressive.pixelcnn import PixelCNN
from scoresde.families.autoregressive.posterior import RestoreSettings, likelihood_table
from scoresde.families.autoregressive.potentials import (
    GaussianLookahead,
    LookaheadFactors,
    Pointwise,
    Potential,
)

__all__ = [
    "MADE",
    "Autoregressive",
    "AutoregressiveConfig",
    "GaussianLookahead",
    "LookaheadFactors",
    "PixelCNN",
    "Pointwise",
    "Potential",
    "RestoreSettings",
    "categorical",
    "langevin_draws",
    "likelihood_table",
    "particle_draws",
]
