"""Models of all families as single safetensors files.

A file holds the tensors, and a JSON header from which the network around them is built.
"""

from collections.abc import Callable
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch

from problems.checks import unknown
from scoresde.errors import InputError
from scoresde.families.autoregressive.model import Autoregressive, AutoregressiveConfig
from scoresde.families.base import GenerativeModel
from scoresde.families.diffusion import Diffusion
from scoresde.families.flow.model import Flow, FlowConfig
from scoresde.families.gan.model import GAN, GANConfig
from scoresde.families.vae.model import VAE, VAEConfig
from scoresde.files import read_tensors, write_tensors
from scoresde.priors.checkpoint import PRIOR_FORMAT, load_score_prior, save_prior

__all__ = ["MODELS", "load_model", "model_from", "save_model"]

_FORMAT = "scoresde.baseline/1"

MODELS: dict[str, tuple[Callable[[Any], GenerativeModel], type]] = {
    "VAE": (VAE, VAEConfig),
    "Flow": (Flow, FlowConfig),
    "GAN": (GAN, GANConfig),
    "Autoregressive": (Autoregressive, AutoregressiveConfig),
}
"""Class and configuration class, by the name of the class."""


def model_from(kind: str, settings: dict[str, Any]) -> GenerativeModel:
    """Build a model with random weights from its class name and settings.

    Args:
        kind: Name of the class, a key of ``MODELS``.
        settings: Fields of its configuration, as JSON values.

    Returns:
        The model, initialised at random.

    Raises:
        InputError: If the kind is unknown.
        ValueError: If the configuration does not have one of the settings, or a value is invalid.

    Example:
        >>> model_from("Flow", {"shape": [2], "levels": 0, "steps": 1, "hidden": 8}).config.shape
        (2,)
    """
    if kind not in MODELS:
        raise InputError(unknown("kind of model", kind, MODELS))
    model, config = MODELS[kind]
    return model(_config(config, settings))


def _config(kind: type, settings: dict[str, Any]) -> Any:
    """Build a configuration from JSON, in which tuples are lists."""

    def tuples(value: Any) -> Any:
        return tuple(tuples(v) for v in value) if isinstance(value, list | tuple) else value

    assert is_dataclass(kind)
    known = {f.name for f in fields(kind)}
    if unknown := set(settings) - known:
        raise ValueError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")
    return kind(**{name: tuples(value) for name, value in settings.items()})


def save_model(model: GenerativeModel, path: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write a model and its card to one file.

    A :class:`Diffusion` model is written as the prior that it wraps; ``load_prior`` reads this file
    too.

    Args:
        model: Model of any family.
        path: File to write. It is replaced only once the new one is complete.
        dtype: Precision of the stored weights; None for that of the model. torch.float16 halves the
            file.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from scoresde.families import Flow, FlowConfig, load_model, save_model
        >>> model = Flow(FlowConfig(shape=(2,), levels=0, steps=1, hidden=8))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(model, Path(folder) / "flow.safetensors")
        ...     loaded = load_model(Path(folder) / "flow.safetensors")
        >>> loaded.config == model.config
        True
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
    """Read a model that :func:`save_model` wrote, or a score prior.

    Args:
        path: File of a model, or of a score prior, which becomes a :class:`Diffusion` model.
        device: Device of the model.

    Returns:
        The model in evaluation mode and float32; its parameters do not require gradients.

    Raises:
        InputError: If the file cannot be read, has another format, or does not describe a model.

    Example:
        >>> import tempfile, torch
        >>> from pathlib import Path
        >>> from scoresde.families import GAN, GANConfig, load_model, save_model
        >>> model = GAN(GANConfig(shape=(2,), latent=2, widths=(8,)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(model, Path(folder) / "gan.safetensors")
        ...     loaded = load_model(Path(folder) / "gan.safetensors")
        >>> draws = [one.sample(3, torch.Generator().manual_seed(0)) for one in (model, loaded)]
        >>> torch.equal(*draws)
        True
    """
    tensors, header = read_tensors(path)
    if header.get("format") == PRIOR_FORMAT:
        return Diffusion(load_score_prior(path, device, "fp32")).eval()
    if header.get("format") != _FORMAT:
        raise InputError(
            f"{path} is not a model file that this version reads "
            f"(format {header.get('format')!r}, needs {_FORMAT!r})"
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
