"""Who takes part: five families at one budget, the score model under other samplers, and an embedded prior of another budget."""

from pathlib import Path

import torch

from scoresde.families.base import GenerativeModel
from scoresde.families.comparison.families import FAMILIES
from scoresde.families.comparison.judge import Entrant
from scoresde.families.diffusion import Diffusion, DiffusionConfig
from scoresde.families.store import load_model
from scoresde.files import WEIGHTS
from scoresde.priors.checkpoint import embedded_priors, load_prior

__all__ = ["SAMPLERS_SHOWN", "embedded_families", "entrants", "load_family"]

_WEIGHTS = WEIGHTS / "families"

SAMPLERS_SHOWN: dict[str, DiffusionConfig] = {
    "DPM-Solver, 9 evaluations": DiffusionConfig("dpm-solver-fast", 8),
    "DDIM, 20": DiffusionConfig("ddim", 20),
    "predictor-corrector": DiffusionConfig("predictor-corrector", 50, schedule="karras"),
    "adaptive ODE": DiffusionConfig("ode", 1),
}
"""Title -> how else the score model is shown to draw."""


def embedded_families() -> dict[str, Path]:
    """Family -> file of the weights that come with the package, for digits of 28x28."""
    return {path.stem: path for path in sorted(_WEIGHTS.glob("*.safetensors"))}


def load_family(name: str, device: str | torch.device = "cpu") -> GenerativeModel:
    """An embedded model of a family. ValueError that names the known ones."""
    known = embedded_families()
    if name not in known:
        raise ValueError(
            f"no weights of a family {name!r} come with the package; there are {', '.join(known) or 'none'}"
        )
    return load_model(known[name], device)


def entrants(
    models: dict[str, GenerativeModel], device: str | torch.device = "cpu"
) -> list[Entrant]:
    """In the order of the families; ``whole`` for the first of each and for the embedded prior of the same shape."""
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
                Diffusion(load_prior("mnist", device)),
            )
        )
    return found
