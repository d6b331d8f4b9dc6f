"""Networks that a :class:`scoresde.ScorePrior` can wrap."""

from scoresde.networks.perceptron import Perceptron, PerceptronConfig, perceptron
from scoresde.networks.unet import UNet, UNetConfig

__all__ = ["Perceptron", "PerceptronConfig", "UNet", "UNetConfig", "perceptron"]
