"""Priors as programs of torch.export, which ``load_prior("torch-export:FILE")`` reads."""

import math
from pathlib import Path
from typing import Any

from scoresde.priors.adapted.convention import Convention
from scoresde.priors.adapted.exported import load_exported, save_exported
from scoresde.priors.base import Prior
from scoresde.priors.export.agreement import Agreement, compare
from scoresde.priors.export.denoiser import TracedDenoiser, trained_levels
from scoresde.sde import EDMSDE

__all__ = ["PROGRAM", "check_program", "write_program"]

PROGRAM = "denoiser.pt2"
"""Name of the file."""


def write_program(
    prior: Prior, traced: TracedDenoiser, path: Path, card: dict[str, Any] | None = None
) -> None:
    """Write the program with the convention that makes it the same prior again.

    Args:
        prior: The prior.
        traced: Its graph.
        path: Path of the file.
        card: What is known about the prior, as plain values.

    Raises:
        InputError: If the file cannot be written.
    """
    # the program itself holds labels within the training: it is told every noise level
    convention = Convention(
        "x0",
        EDMSDE(),
        "sigma",
        trained=(0.0, math.inf),
        fixed_size=traced.least is None,
    )
    save_exported(
        traced.program,
        convention,
        traced.shape,
        path,
        sde=prior.sde,
        trained=trained_levels(prior),
        card=card,
    )


def check_program(prior: Prior, traced: TracedDenoiser, path: Path) -> Agreement:
    """Read a program back and compare it with the prior.

    Args:
        prior: The prior.
        traced: Its graph.
        path: Path of the file.

    Returns:
        The differences.

    Raises:
        InputError: If they are more than rounding.
    """
    again = load_exported(path).to(device=prior.device).with_sde(EDMSDE())
    return compare(prior, traced, again._denoise)
