"""Models of all families as single safetensors files: tensors, and a JSON header that says how to build the network around them."""

from collections.abc import Callable
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch

from scoresde.errors import InputError
from scoresde.families.autoregressive.model import Autoregressive, AutoregressiveConfig
from scoresde.families.base import GenerativeModel
from scoresde.families.diffusion import Diffusion
from scoresde.families.flow.model import Flow, FlowConfig
from scoresde.families.gan.model import GAN, GANConfig
from scoresde.families.vae.model import VAE, VAEConfig
from scoresde.files import read_tensors, write_tensors
from scoresde.priors.checkpoint import PRIOR_FORMAT, load_prior, save_prior

__all__ = ["MODELS", "load_model", "model_from", "save_model"]

_FORMAT = "scoresde.baseline/1"

MODELS: dict[str, tuple[Callable[[Any], GenerativeModel], type]] = {
    "VAE": (VAE, VAEConfig),
    "Flow": (Flow, FlowConfig),
    "GAN": (GAN, GANConfig),
    "Autoregressive": (Autoregressive, AutoregressiveConfig),
}
"""Name of a class -> the class and its configuration."""


def model_from(kind: str, settings: dict[str, Any]) -> GenerativeModel:
    """The model of that class and those settings, with random weights."""
    if kind not in MODELS:
        raise InputError(f"unknown kind of model {kind!r}; known: {', '.join(MODELS)}")
    model, config = MODELS[kind]
    return model(_config(config, settings))


def _config(kind: type, settings: dict[str, Any]) -> Any:
    """A dataclass from JSON: lists were tuples."""

    def tuples(value: Any) -> Any:
        return tuple(tuples(v) for v in value) if isinstance(value, list | tuple) else value

    assert is_dataclass(kind)
    known = {f.name for f in fields(kind)}
    if unknown := set(settings) - known:
        raise ValueError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")
    return kind(**{name: tuples(value) for name, value in settings.items()})


def save_model(model: GenerativeModel, path: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write a model and its card as one file; dtype stores the weights in another precision (torch.float16 halves the file).

    :class:`Diffusion` is written as the prior that it wraps, which ``load_prior`` reads as well.
    """
    if isinstance(model, Diffusion):
        model.prior.card = model.card
        save_prior(model.prior, path, dtype)
        return
    header = {
        "format": _FORMAT,
        "kind": type(model).__name__,
        "config": asdict(model.config),
        "card": model.card,
    }
    tensors = model.state_dict()
    write_tensors(
        path,
        {k: v.to(dtype) if dtype and v.is_floating_point() else v for k, v in tensors.items()},
        header,
    )


def load_model(path: str | Path, device: str | torch.device = "cpu") -> GenerativeModel:
    """A model that :func:`save_model` wrote, or a score prior by the path of its file: frozen, in evaluation mode, float32."""
    tensors, header = read_tensors(path)
    if header.get("format") == PRIOR_FORMAT:
        return Diffusion(load_prior(path, device)).eval()
    if header.get("format") != _FORMAT:
        raise InputError(
            f"{path} is not a baseline that this version reads (format {header.get('format')!r}, needs {_FORMAT!r})"
        )
    try:
        model = model_from(header["kind"], header["config"])
        model.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
        )
    except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise InputError(
            f"{path} does not describe a model that can be built: {' '.join(str(error).split())}"
        ) from None
    model.card = header.get("card", {})
    return model.to(device=device, memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]
