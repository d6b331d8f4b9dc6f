"""Devices, and priors on them."""

from typing import cast, get_args

import torch

from scoresde.errors import InputError
from scoresde.priors.averaged import EquivariantPrior
from scoresde.priors.base import Prior
from scoresde.priors.checkpoint import load_prior
from scoresde.priors.score import Precision

__all__ = ["choose_device", "kept_prior", "open_prior"]


def choose_device(name: str) -> torch.device:
    """Choose a device and check that it works.

    Args:
        name: "auto" for the first GPU or else the CPU, or a device of torch.

    Returns:
        The device.

    Raises:
        InputError: If the device cannot be used.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # "meta" has no numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} cannot be used here: {reason}") from None
    return device


def open_prior(
    name: str,
    device: torch.device,
    precision: str,
    average: str | None = None,
    *,
    recompute: bool = False,
) -> Prior:
    """Load a prior onto a device.

    Args:
        name: An embedded prior, the path of a .safetensors file, "diffusers:FOLDER",
            "torch-export:FILE" or "onnx:FILE".
        device: Where its weights go.
        precision: Precision inside the network: "bf16", "fp32", or "auto" for bfloat16 where the
            hardware is fast at it.
        average: Group over which the prior is averaged; None for no averaging.
        recompute: Let the averaged prior recompute activations instead of keeping them, see
            :class:`EquivariantPrior`.

    Returns:
        The prior, frozen.

    Raises:
        InputError: If the prior, the precision or the group is unknown.
    """
    if precision not in get_args(Precision):
        raise InputError(f"--precision must be auto, bf16 or fp32, got {precision!r}")
    prior = load_prior(name, device, cast(Precision, precision))
    if average is None:
        return prior
    try:
        return EquivariantPrior(prior, average, recompute=recompute)
    except ValueError as error:
        raise InputError(f"--average {average}: {error}") from None


_kept: dict[tuple[str, ...], Prior] = {}


def kept_prior(
    name: str, device: str = "auto", precision: str = "auto", average: str | None = None
) -> Prior:
    """Load a prior as :func:`open_prior` does, unless it is the one that was asked for last.

    Args:
        name: As in :func:`open_prior`.
        device: Name of the device, see :func:`choose_device`.
        precision: As in :func:`open_prior`.
        average: As in :func:`open_prior`.

    Returns:
        The prior, frozen. Activations of an averaged one are computed again.

    Raises:
        InputError: If the prior, the device, the precision or the group cannot be used.
    """
    key = (name, device, precision, str(average))
    if key not in _kept:
        _kept.clear()
        _kept[key] = open_prior(name, choose_device(device), precision, average, recompute=True)
    return _kept[key]
