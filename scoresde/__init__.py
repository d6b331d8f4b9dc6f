"""Score-based priors: how they are defined, trained, stored and measured.

Names are imported when they are first used, so that `import scoresde` and the help of the command
line take no time.

Threads of OpenMP wait for each other without spinning, if the package is imported before torch and
the environment does not say otherwise.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scoresde.errors import InputError
    from scoresde.priors.adapted.convention import Convention
    from scoresde.priors.adapted.denoiser import DenoiserPrior
    from scoresde.priors.adapted.prior import AdaptedPrior
    from scoresde.priors.averaged import EquivariantPrior
    from scoresde.priors.base import CountingPrior, Prior, Wrapper
    from scoresde.priors.checkpoint import load_prior, register_network, save_prior
    from scoresde.priors.grey import GreyPrior
    from scoresde.priors.mixture import GaussianMixturePrior, GaussianPrior
    from scoresde.priors.score import ScorePrior
    from scoresde.priors.shared_mixture import SharedMixturePrior
    from scoresde.priors.tiled import TiledPrior
    from scoresde.sde import (
        EDMSDE,
        SDE,
        VESDE,
        VPSDE,
        CosineVPSDE,
        FlowMatchingSDE,
        SubVPSDE,
        sde_from,
    )

# OpenMP reads it when torch is loaded. By default a thread that waits for another one spins, on the
# very core that the other one may need: on two cores, one of them busy, the estimate of a picture
# took 25 s instead of 1.5 s. The price is a wake-up at each parallel section.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__all__ = [
    "EDMSDE",
    "SDE",
    "VESDE",
    "VPSDE",
    "AdaptedPrior",
    "Convention",
    "CosineVPSDE",
    "CountingPrior",
    "DenoiserPrior",
    "EquivariantPrior",
    "FlowMatchingSDE",
    "GaussianMixturePrior",
    "GaussianPrior",
    "GreyPrior",
    "InputError",
    "Prior",
    "ScorePrior",
    "SharedMixturePrior",
    "SubVPSDE",
    "TiledPrior",
    "Wrapper",
    "load_prior",
    "register_network",
    "save_prior",
    "sde_from",
]

__version__ = "0.1.0"

_MODULES = {
    "scoresde.errors": ("InputError",),
    "scoresde.priors.adapted.convention": ("Convention",),
    "scoresde.priors.adapted.denoiser": ("DenoiserPrior",),
    "scoresde.priors.adapted.prior": ("AdaptedPrior",),
    "scoresde.priors.averaged": ("EquivariantPrior",),
    "scoresde.priors.base": ("CountingPrior", "Prior", "Wrapper"),
    "scoresde.priors.checkpoint": ("load_prior", "register_network", "save_prior"),
    "scoresde.priors.grey": ("GreyPrior",),
    "scoresde.priors.mixture": ("GaussianMixturePrior", "GaussianPrior"),
    "scoresde.priors.score": ("ScorePrior",),
    "scoresde.priors.shared_mixture": ("SharedMixturePrior",),
    "scoresde.priors.tiled": ("TiledPrior",),
    "scoresde.sde": (
        "EDMSDE",
        "SDE",
        "VESDE",
        "VPSDE",
        "CosineVPSDE",
        "FlowMatchingSDE",
        "SubVPSDE",
        "sde_from",
    ),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'scoresde' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
