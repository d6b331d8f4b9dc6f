"""Pipelines of diffusers: pixel-space ``UNet2DModel`` and ``DiTTransformer2DModel`` as priors."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from problems.reading.regular import read_text_file
from scoresde.errors import InputError
from scoresde.priors.adapted.convention import Convention
from scoresde.priors.adapted.exported import load_exported
from scoresde.priors.adapted.hub import find_pipeline, needs
from scoresde.priors.adapted.prior import AdaptedPrior
from scoresde.priors.adapted.schedulers import scheduler_convention, scheduler_notes

__all__ = ["OWN_NETWORK", "check_index", "load_diffusers"]

OWN_NETWORK = ("scoresde_denoiser", "ScoresdeDenoiser")
"""Module and class of the network in a pipeline that `scoresde export` wrote."""

_NETWORKS = {"UNet2DModel": "unet", "DiTTransformer2DModel": "transformer"}
_LATENT = ("vae", "vqvae", "vqgan", "movq")
_GUIDED = ("text_encoder", "tokenizer", "image_encoder")


class _Sample(nn.Module):
    """The tensor in the output of a network of diffusers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, label: Tensor, **conditions: Any) -> Tensor:
        """Evaluate the network."""
        output: Tensor = self.network(x, label, return_dict=False, **conditions)[0]
        return output


def load_diffusers(name: str) -> AdaptedPrior:
    """Read the pipeline of a pixel-space diffusion model.

    Prediction and schedule are those of the scheduler's configuration. Sampling settings, among
    them ``clip_sample`` and ``thresholding``, are not part of the denoiser and are left out; the
    card of the prior says so. Of a folder that `scoresde export` wrote, the graph in it is read,
    which needs no diffusers.

    Args:
        name: Folder that ``save_pretrained`` of a pipeline wrote, or an id of the hub; a class
            follows a question mark: ``FOLDER?label=3``.

    Returns:
        The prior, frozen.

    Raises:
        InputError: If diffusers is missing, the folder or id cannot be read, or the pipeline is not
            one of pixel space, has another kind of network or scheduler, or needs a label.
    """
    name, label = _split(name)
    if _is_own(Path(name)):
        if label is not None:
            raise InputError("the network has no classes; leave the label out")
        return load_exported(Path(name) / "unet" / "denoiser.pt2")
    diffusers = needs("diffusers", f"the pipeline {name!r}")
    folder = find_pipeline(name, check_index)
    kind = check_index(folder / "model_index.json", str(folder))
    place = folder / _NETWORKS[kind]
    place = place if place.is_dir() else folder  # old pipelines keep all files in one folder
    network = _network(diffusers, kind, place)
    scheduler = _scheduler(diffusers, folder)
    shape, convention = _fit(network, kind, scheduler_convention(scheduler))
    conditions = _conditions(network, kind, label)
    card = {
        "source": name,
        "network": kind,
        "scheduler": type(scheduler).__name__,
        "notes": scheduler_notes(scheduler),
    }
    prior = AdaptedPrior(_Sample(network), convention, shape, conditions=conditions, card=card)
    return prior.eval().requires_grad_(False)


def _is_own(folder: Path) -> bool:
    """Whether `scoresde export` wrote the folder; its graph is read and no code of it is run."""
    path = folder / "model_index.json"
    return path.is_file() and tuple(_json(path).get("unet") or ()) == OWN_NETWORK


def _split(name: str) -> tuple[str, int | None]:
    """Folder or id, and the label after a question mark."""
    folder, mark, setting = name.partition("?")
    if not mark:
        return folder, None
    key, _, value = setting.partition("=")
    if key != "label" or not value.isdecimal():
        raise InputError(f"after the question mark comes label=NUMBER, got {setting!r:.80}")
    return folder, int(value)


def check_index(path: Path, name: str) -> str:
    """Check that a pipeline is one of pixel space with a network that is known here.

    Args:
        path: Path of its model_index.json.
        name: Name of the pipeline for messages.

    Returns:
        The class of its network.

    Raises:
        InputError: If it is not.
    """
    if not path.is_file():
        raise InputError(
            f"{name} has no model_index.json: it is not the folder of a diffusers pipeline. Write "
            "one with DDPMPipeline(unet=unet, scheduler=scheduler).save_pretrained(FOLDER)"
        )
    index = _json(path)
    if latent := [part for part in _LATENT if index.get(part, [None])[0]]:
        raise InputError(
            f"{name} is a latent diffusion model (it has a {latent[0]}): its network denoises "
            "codes and not pictures, which is not supported; take a model of pixel space"
        )
    if guided := [part for part in _GUIDED if index.get(part, [None])[0]]:
        raise InputError(
            f"{name} needs a prompt (it has a {guided[0]}), which is not supported; take an "
            "unconditional or a class-conditional model"
        )
    for kind, part in _NETWORKS.items():
        if index.get(part, [None, None])[1] == kind:
            return kind
    found = [f"{k}: {v[1]}" for k, v in index.items() if isinstance(v, list) and len(v) == 2]
    raise InputError(
        f"{name} has none of the networks that are known here ({', '.join(_NETWORKS)}), but "
        f"{', '.join(found) or 'nothing'}; describe it in Python: AdaptedPrior(network, "
        "Convention(...), shape)"
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text_file(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {path}: {error!s:.80}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no settings")
    return content


def _network(diffusers: Any, kind: str, place: Path) -> nn.Module:
    safe = any(place.glob("*.safetensors"))
    try:
        # without safetensors diffusers reads its .bin file with weights_only=True
        network: nn.Module = getattr(diffusers, kind).from_pretrained(
            place, use_safetensors=safe, local_files_only=True, low_cpu_mem_usage=False
        )
    except Exception as error:  # of many kinds
        reason = " ".join((str(error).splitlines() or [type(error).__name__])[0].split())
        raise InputError(f"the network in {place} cannot be read: {reason:.160}") from None
    return network


def _scheduler(diffusers: Any, folder: Path) -> Any:
    path = folder / "scheduler" / "scheduler_config.json"
    path = path if path.is_file() else folder / "scheduler_config.json"
    config = _json(path)
    kind = str(config.get("_class_name"))
    scheduler = getattr(diffusers, kind, None)
    if not kind.endswith("Scheduler") or scheduler is None:
        raise InputError(f"{path} names the scheduler {kind!r:.60}, which diffusers does not have")
    try:
        return scheduler.from_config(config)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise InputError(f"the settings in {path} are wrong: {error!s:.160}") from None


def _fit(
    network: nn.Module, kind: str, convention: Convention
) -> tuple[tuple[int, int, int], Convention]:
    """Shape of a sample, and the convention with channels and sizes of the network."""
    config: Any = network.config
    channels, size = int(config.in_channels), config.sample_size
    outputs = int(config.out_channels or channels)
    if outputs not in (channels, 2 * channels):
        raise InputError(
            f"the network takes {channels} channels and returns {outputs}: it is conditioned on "
            "pictures, which is not supported"
        )
    if size is None:
        raise InputError("the configuration of the network has no sample_size; add the side")
    height, width = (size, size) if isinstance(size, int) else size
    dit = kind == "DiTTransformer2DModel"
    return (channels, int(height), int(width)), dataclasses.replace(
        convention,
        extra_outputs=outputs - channels,
        fixed_size=dit,
        multiple=1 if dit else 2 ** (len(config.block_out_channels) - 1),
    )


def _conditions(network: nn.Module, kind: str, label: int | None) -> dict[str, Tensor]:
    """The class label as the network takes it."""
    config: Any = network.config
    if kind == "DiTTransformer2DModel":
        classes = int(config.num_embeds_ada_norm)
        label = classes if label is None else label  # the last row is that of no class
        most = classes
    else:
        if config.get("class_embed_type") in ("timestep", "identity"):
            raise InputError(
                f"the network has class_embed_type {config.class_embed_type!r}, which is not "
                "supported; describe it in Python: AdaptedPrior(network, Convention(...), shape, "
                "conditions=...)"
            )
        classes = int(config.get("num_class_embeds") or 0)
        if label is None and not classes:
            return {}
        if label is None:
            raise InputError(
                f"the network has {classes} classes; name one, such as diffusers:FOLDER?label=0"
            )
        most = classes - 1
    if not classes:
        raise InputError("the network has no classes; leave the label out")
    if not 0 <= label <= most:
        raise InputError(f"the network has the classes 0 to {classes - 1}, got label={label}")
    return {"class_labels": torch.tensor([label])}
