"""Variational autoencoders."""

from scoresde.families.vae.likelihood import GaussianLikelihood, LogisticLikelihood, PixelLikelihood
from scoresde.families.vae.model import VAE, VAEConfig
from scoresde.families.vae.networks import ConvDecoder, ConvEncoder

__all__ = [
    "VAE",
    "ConvDecoder",
    "ConvEncoder",
    "GaussianLikelihood",
    "LogisticLikelihood",
    "PixelLikelihood",
    "VAEConfig",
]
