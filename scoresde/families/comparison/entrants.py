"""Entrants of the comparison.

They are the five families at one budget, the score model with other samplers, and an embedded prior
of another budget.
"""

from pathlib import Path

import torch

from scoresde.families.base import GenerativeModel
from scoresde.families.comparison.families import FAMILIES
from scoresde.families.comparison.judge import Entrant
from scoresde.families.diffusion import Diffusion, DiffusionConfig
from scoresde.families.store import load_model
from scoresde.files import WEIGHTS
from scoresde.priors.checkpoint import embedded_priors, load_score_prior

__all__ = ["SAMPLERS_SHOWN", "embedded_families", "entrants", "load_family"]

_WEIGHTS = WEIGHTS / "families"

SAMPLERS_SHOWN: dict[str, DiffusionConfig] = {
    "DPM-Solver, 9 evaluations": DiffusionConfig("dpm-solver-fast", 8),
    "DDIM, 20": DiffusionConfig("ddim", 20),
    "predictor-corrector": DiffusionConfig("predictor-corrector", 50, schedule="karras"),
    "adaptive ODE": DiffusionConfig("ode", 1),
}
"""Further samplers of the score model, by title."""


def embedded_families() -> dict[str, Path]:
    """List the trained families that come with the package, for digits of 28x28.

    Returns:
        Files of the weights by the name of the family.
    """
    return {path.stem: path for path in sorted(_WEIGHTS.glob("*.safetensors"))}


def load_family(name: str, device: str | torch.device = "cpu") -> GenerativeModel:
    """Load the embedded model of a family.

    Args:
        name: Name of the family, a key of :func:`embedded_families`.
        device: Device of the weights.

    Returns:
        The trained model.

    Raises:
        ValueError: If the package has no weights of this family; the message lists those it has.
    """
    known = embedded_families()
    if name not in known:
        raise ValueError(
            f"no weights of a family {name!r} come with the package; there are "
            f"{', '.join(known) or 'none'}"
        )
    return load_model(known[name], device)


def entrants(
    models: dict[str, GenerativeModel], device: str | torch.device = "cpu"
) -> list[Entrant]:
    """List the entrants of a comparison, in the order of the families.

    With a score model, its other samplers follow, judged by their draws alone, and for pictures
    (1, 28, 28) the embedded prior "mnist".

    Args:
        models: Trained models by the name of their family.
        device: Device of the embedded prior.

    Returns:
        The entrants.
    """
    found = [
        Entrant(name, FAMILIES[name].title, models[name]) for name in FAMILIES if name in models
    ]
    diffusion = models.get("diffusion")
    if not isinstance(diffusion, Diffusion):
        return found
    found += [
        Entrant(f"diffusion-{c.sampler}", title, Diffusion(diffusion.prior, c), whole=False)
        for title, c in SAMPLERS_SHOWN.items()
    ]
    if "mnist" in embedded_priors() and tuple(diffusion.shape) == (1, 28, 28):
        found.append(
            Entrant(
                "diffusion-mnist",
                "the embedded prior mnist",
                Diffusion(load_score_prior("mnist", device, "fp32")),
            )
        )
    return found
