"""Checkpoints of priors: safetensors files with a JSON header that describes the network.

There are no pickles: reading a checkpoint cannot run code.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from scoresde.errors import InputError
from scoresde.files import WEIGHTS, read_tensors, write_tensors
from scoresde.networks import Perceptron, PerceptronConfig, UNet, UNetConfig
from scoresde.priors.score import Precision, ScorePrior
from scoresde.sde import sde_from

__all__ = ["NETWORKS", "PRIOR_FORMAT", "embedded_priors", "load_prior", "save_prior"]

NETWORKS: dict[str, tuple[type, type]] = {
    "Perceptron": (Perceptron, PerceptronConfig),
    "UNet": (UNet, UNetConfig),
}
PRIOR_FORMAT = "scoresde.prior/1"


def save_prior(prior: ScorePrior, path: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write a prior to a safetensors file.

    Args:
        prior: Prior with a network of this package.
        path: Path of the file.
        dtype: Dtype in which the weights are stored; ``torch.float16`` halves the file. None for
            the dtype of the weights.

    Raises:
        InputError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from scoresde import EDMSDE, ScorePrior, load_prior, save_prior
        >>> from scoresde.networks import Perceptron, PerceptronConfig
        >>> prior = ScorePrior(Perceptron(PerceptronConfig(size=2)), EDMSDE(), (2,))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_prior(prior, Path(folder) / "prior.safetensors")
        ...     again = load_prior(Path(folder) / "prior.safetensors")
        >>> torch.equal(again.denoise(torch.ones(1, 2), 0.5), prior.denoise(torch.ones(1, 2), 0.5))
        True
    """
    network = prior.network
    config: Any = network.config
    header = {
        "format": PRIOR_FORMAT,
        "network": {"kind": type(network).__name__, **asdict(config)},
        "sde": prior.sde.describe(),
        "shape": list(prior.shape),
        "sigma_data": prior.sigma_data,
        "fourier": list(prior.fourier),
        "card": prior.card,
    }
    tensors = network.state_dict()
    write_tensors(
        path,
        {k: v.to(dtype) if dtype and v.is_floating_point() else v for k, v in tensors.items()},
        header,
    )


def embedded_priors() -> dict[str, Path]:
    """List the priors that ship with the package.

    Returns:
        Paths of the checkpoints by name.
    """
    return {path.stem: path for path in sorted(WEIGHTS.glob("*.safetensors"))}


def load_prior(
    name: str | Path, device: str | torch.device = "cpu", precision: Precision = "auto"
) -> ScorePrior:
    """Load a prior that ships with the package, or a checkpoint.

    Args:
        name: Name of an embedded prior, such as "natural", or path of a checkpoint.
        device: Device of the prior.
        precision: Precision of the convolutions: "bf16", "fp32", or "auto" for bfloat16 where the
            hardware is fast at it. Likelihoods are in float32 with "auto".

    Returns:
        The prior in evaluation mode, with frozen parameters in float32. The network computes in
        ``precision``, all else in float32.

    Raises:
        ValueError: If the precision is unknown.
        InputError: If the name is unknown or the file is not a prior that this version reads.

    Example:
        >>> from scoresde import load_prior
        >>> prior = load_prior("mnist")
        >>> prior.shape
        (1, 28, 28)
    """
    path = embedded_priors().get(str(name), Path(name))
    if not path.is_file() and path.suffix != ".safetensors":
        raise InputError(
            f"unknown prior {str(name)!r}; embedded: {', '.join(embedded_priors()) or 'none'}; "
            "or give the path of a .safetensors file"
        )
    tensors, header = read_tensors(path)
    if header.get("format") != PRIOR_FORMAT:
        raise InputError(
            f"{path} is not a prior that this version reads "
            f"(format {header.get('format')!r}, needs {PRIOR_FORMAT!r})"
        )
    try:
        settings = dict(header["network"])
        network_type, config_type = NETWORKS[settings.pop("kind")]
        network = network_type(config_type(**settings))
        network.load_state_dict({k: v.float() for k, v in tensors.items()})
        prior = ScorePrior(
            network,
            sde_from(header["sde"]),
            tuple(header["shape"]),
            header["sigma_data"],
            card=header.get("card"),
            fourier=header.get("fourier", ()),
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{path} does not describe a prior that can be built: {' '.join(str(error).split())}"
        ) from None
    prior.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return prior.eval().requires_grad_(False).in_precision(precision)
