"""Normalising flows."""

from scoresde.families.flow.couplings import Coupling, SplineCoupling, Split
from scoresde.families.flow.layers import ActNorm, Bijection, Logit, Mixing, Squeeze
from scoresde.families.flow.model import Flow, FlowConfig

__all__ = [
    "ActNorm",
    "Bijection",
    "Coupling",
    "Flow",
    "FlowConfig",
    "Logit",
    "Mixing",
    "SplineCoupling",
    "Split",
    "Squeeze",
]
