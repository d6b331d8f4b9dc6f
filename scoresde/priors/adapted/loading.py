"""Priors of other projects by name: ``diffusers:...``, ``torch-export:...``, ``onnx:...``."""

from collections.abc import Callable
from importlib import import_module
from typing import cast

from scoresde.priors.adapted.prior import AdaptedPrior

__all__ = ["LOADERS", "load_named"]

LOADERS: dict[str, tuple[str, str, str]] = {
    "diffusers": (
        "scoresde.priors.adapted.diffusers",
        "load_diffusers",
        "folder of a diffusers pipeline, or its id on the Hugging Face hub",
    ),
    "torch-export": (
        "scoresde.priors.adapted.exported",
        "load_exported",
        "program of torch.export with a stored convention",
    ),
    "onnx": (
        "scoresde.priors.adapted.onnx",
        "load_onnx",
        "file of scoresde export --to onnx; no derivatives",
    ),
}
"""Prefixes of names: module and function that read such a prior, and what follows the prefix."""


def load_named(name: str) -> AdaptedPrior | None:
    """Load a prior of another project.

    Args:
        name: Name with a prefix, such as "diffusers:FOLDER".

    Returns:
        The prior, frozen, on the CPU; None if the name has none of the prefixes.

    Raises:
        InputError: If the prior cannot be read.

    Example:
        >>> from scoresde.priors.adapted import load_named
        >>> load_named("natural") is None
        True
    """
    prefix, mark, rest = name.partition(":")
    if not mark or prefix not in LOADERS:
        return None
    module, function, _ = LOADERS[prefix]
    load = cast(Callable[[str], AdaptedPrior], getattr(import_module(module), function))
    return load(rest)
