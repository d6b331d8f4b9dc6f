"""Networks that a :class:`scoresde.ScorePrior` can wrap."""

from scoresde.networks.dit import DiT, DiTConfig
from scoresde.networks.perceptron import Perceptron, PerceptronConfig, perceptron
from scoresde.networks.unet import UNet, UNetConfig

__all__ = [
    "DiT",
    "DiTConfig",
    "Perceptron",
    "PerceptronConfig",
    "UNet",
    "UNetConfig",
    "perceptron",
]
