"""Posterior sampling in a latent space."""

from scoresde.families.latent.hmc import HMC, LogDensity
from scoresde.families.latent.posterior import Likelihood, latent_posterior

__all__ = ["HMC", "Likelihood", "LogDensity", "latent_posterior"]
