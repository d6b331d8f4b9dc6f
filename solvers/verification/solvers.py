"""Solvers of the verification table."""

from collections.abc import Mapping

from solvers.posterior import Guided, PosteriorSampler
from solvers.presets import Declared, verified

__all__ = ["VERIFIED"]


def _solvers() -> dict[str, PosteriorSampler]:
    """What the classes declare; a guidance and its sampler make one solver."""
    made = verified().items()
    return {name: Guided(*one) if isinstance(one, tuple) else one for name, one in made}


VERIFIED: Mapping[str, PosteriorSampler] = Declared(_solvers)
"""Name -> solver with the settings of its paper where it has any; DDNM has ``power`` 2 instead."""
