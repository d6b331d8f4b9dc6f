"""Recipes: settings of training runs that proved good, by name."""

from dataclasses import replace
from types import MappingProxyType

from scoresde.networks import UNetConfig
from scoresde.training.config import TrainConfig

__all__ = ["RECIPES"]

_NATURAL = TrainConfig(
    steps=400_000,
    batch=16,
    crops=(64, 128),
    learning_rate=5e-4,
    warmup=500,
    cooldown=0.25,
    # without attention, which sees all of a tile: large pictures have no seams
    network=UNetConfig(widths=(64, 128, 256), attention=()),
)

RECIPES = MappingProxyType(
    {
        "natural": _NATURAL,
        "natural-gpu": replace(_NATURAL, steps=48_500, batch=64, crops=(128,), cooldown=0.55),
    }
)
"""Settings by name: "natural" for photographs on a CPU, "natural-gpu" the same network on a GPU."""
