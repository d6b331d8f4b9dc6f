"""Networks that a :class:`scoresde.ScorePrior` can wrap."""

from scoresde.networks.unet import UNet, UNetConfig

__all__ = ["UNet", "UNetConfig"]
