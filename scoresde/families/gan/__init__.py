"""Generative adversarial networks."""

from scoresde.families.gan.losses import Game, discriminator_game, generator_game, gradient_penalty
from scoresde.families.gan.model import GAN, GANConfig
from scoresde.families.gan.networks import (
    ImageDiscriminator,
    ImageGenerator,
    VectorDiscriminator,
    VectorGenerator,
)

__all__ = [
    "GAN",
    "GANConfig",
    "Game",
    "ImageDiscriminator",
    "ImageGenerator",
    "VectorDiscriminator",
    "VectorGenerator",
    "discriminator_game",
    "generator_game",
    "gradient_penalty",
]
