"""Checkpoints of priors: safetensors files with a JSON header that describes the network.

There are no pickles: reading a checkpoint cannot run code.
"""

from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from problems.checks import check_number, unknown
from scoresde.errors import InputError
from scoresde.files import WEIGHTS, read_tensors, write_tensors
from scoresde.networks import DiTConfig, PerceptronConfig, UNetConfig
from scoresde.networks.axes import channels_last
from scoresde.priors.adapted.loading import load_named
from scoresde.priors.base import Prior
from scoresde.priors.header import (
    NETWORKS,
    build_network,
    check_fourier,
    check_sample_shape,
    network_kind,
    register_network,
)
from scoresde.priors.score import Precision, ScorePrior
from scoresde.sde import sde_from

__all__ = [
    "NETWORKS",
    "PRIOR_FORMAT",
    "benchmark_priors",
    "embedded_priors",
    "load_prior",
    "load_score_prior",
    "register_network",
    "save_prior",
]

PRIOR_FORMAT = "scoresde.prior/1"
_LARGEST_DATA = 1e6  # of sigma_data: its square must stay finite in float32


def save_prior(prior: ScorePrior, path: str | Path, dtype: torch.dtype | None = None) -> None:
    """Write a prior to a safetensors file.

    Args:
        prior: Prior with any network. One of this package, or one that was registered by
            :func:`register_network`, is built again from the file; for another one the reader
            must be given such a network, ``load_prior(path, network=...)``. Its ``config`` is
            written if it is a dataclass.
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
    config: Any = getattr(network, "config", None)
    described = is_dataclass(config) and not isinstance(config, type)
    header = {
        "format": PRIOR_FORMAT,
        "network": {"kind": network_kind(network), **(asdict(config) if described else {})},
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


def benchmark_priors() -> dict[str, Path]:
    """List the priors of benchmarks that ship with the package.

    They are networks for signals whose exact posteriors are known ("levy/..."), to judge solvers
    with, and for random phantoms ("phantoms/..."), for worked examples, and of no other use.

    Returns:
        Paths of the checkpoints by name, such as "levy/laplace".
    """
    return {
        f"{folder}/{path.stem}": path
        for folder in ("levy", "phantoms")
        for path in sorted(WEIGHTS.glob(f"{folder}/*.safetensors"))
    }


def load_prior(
    name: str | Path,
    device: str | torch.device = "cpu",
    precision: Precision = "auto",
    network: nn.Module | None = None,
) -> Prior:
    """Load a prior that ships with the package, a checkpoint, or a network of another project.

    Args:
        name: Name of an embedded prior, such as "natural"; path of a checkpoint;
            "diffusers:FOLDER_OR_ID" for a pipeline of diffusers in pixel space (with "?label=3" for
            a class); "torch-export:FILE" for a program of torch.export with a stored convention; or
            "onnx:FILE" for a file of `scoresde export`, without derivatives.
        device: Device of the prior.
        precision: Precision of the network: "bf16", "fp32", or "auto", see
            :func:`load_score_prior`. Networks of others run in their own precision with "auto".
        network: A network of your own for a checkpoint, see :func:`load_score_prior`.

    Returns:
        The prior in evaluation mode, with frozen parameters: a :class:`ScorePrior` for an embedded
        prior or a checkpoint.

    Raises:
        ValueError: If the precision is unknown.
        InputError: If the name is unknown, or what it names cannot be read.

    Example:
        >>> from scoresde import load_prior
        >>> prior = load_prior("mnist")
        >>> prior.shape
        (1, 28, 28)
    """
    adapted = load_named(name) if isinstance(name, str) else None
    if adapted is None:
        return load_score_prior(name, device, precision, network)
    if network is not None:
        raise InputError(f"{name} brings its own network; leave the argument network out")
    return adapted.to(device=device).in_precision(precision)


def load_score_prior(
    name: str | Path,
    device: str | torch.device = "cpu",
    precision: Precision = "auto",
    network: nn.Module | None = None,
) -> ScorePrior:
    """Load a prior that ships with the package, or a checkpoint.

    A file cannot make this import or run code of its choice: its network is one of this package,
    one that was registered (:func:`register_network`), or the one that is given.

    Args:
        name: Name of an embedded prior, such as "natural", or path of a checkpoint.
        device: Device of the prior.
        precision: Precision of the convolutions: "bf16", "fp32", or "auto" for bfloat16 where the
            hardware is fast at it. Likelihoods are in float32 with "auto".
        network: A network of your own with the sizes of the one in the file. It gets the weights,
            and becomes the frozen network of the prior. None to build what the file describes.

    Returns:
        The prior in evaluation mode, with frozen parameters in float32. The network computes in
        ``precision``, all else in float32.

    Raises:
        ValueError: If the precision is unknown.
        InputError: If the name is unknown, the file is not a prior that this version reads, a field
            of its header is wrong, or its weights are not finite.

    Example:
        >>> from scoresde.priors.checkpoint import load_score_prior
        >>> prior = load_score_prior("mnist")
        >>> prior.shape
        (1, 28, 28)
    """
    path = (embedded_priors() | benchmark_priors()).get(str(name), Path(name))
    if not path.is_file() and path.suffix != ".safetensors":
        raise InputError(
            f"{unknown('prior', str(name), embedded_priors(), 'embedded')}; "
            "or give the path of a .safetensors file, diffusers:FOLDER, torch-export:FILE or "
            "onnx:FILE"
        )
    tensors, header = read_tensors(path)
    if header.get("format") != PRIOR_FORMAT:
        raise InputError(
            f"{path} is not a prior that this version reads "
            f"(format {header.get('format')!r}, needs {PRIOR_FORMAT!r})"
        )
    try:
        prior = _prior_of(header, tensors, network)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = f"no {error} in its header" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{path} does not describe a prior that can be built: {' '.join(reason.split())}"
        ) from None
    prior.to(device=device)
    channels_last(prior)
    return prior.eval().requires_grad_(False).in_precision(precision)


def _prior_of(
    header: dict[str, Any], tensors: dict[str, Tensor], given: nn.Module | None
) -> ScorePrior:
    """Build the prior of a file; a ValueError names the first field that is wrong."""
    shape = check_sample_shape(header["shape"])
    fourier = check_fourier(header.get("fourier", []))
    card = header.get("card") or {}
    if not isinstance(card, dict):
        raise ValueError(f"the card is a dictionary, got {card!r:.80}")
    sde = sde_from(header["sde"])
    sigma_data = check_number(header["sigma_data"], "sigma_data", above=0, most=_LARGEST_DATA)
    network = build_network(header["network"], tensors, given)
    _check_fit(getattr(network, "config", None), shape, len(fourier))
    return ScorePrior(network, sde, shape, sigma_data, card=card, fourier=fourier)


def _check_fit(config: Any, shape: tuple[int, ...], exponents: int) -> None:
    """Check that the sizes of a network of this package fit the samples and their features."""
    if isinstance(config, PerceptronConfig):
        entries, axes, takes = config.size, 1, f"{config.size} numbers"
    elif isinstance(config, UNetConfig | DiTConfig):
        what = {1: "signals", 2: "images", 3: "volumes"}[config.dimensions]
        entries, axes, takes = (
            config.channels,
            config.dimensions + 1,
            f"{what} of {config.channels} channels",
        )
    else:  # a network of a user, who knows what it takes
        return
    if shape[0] != entries or len(shape) != axes:
        raise ValueError(f"samples of shape {shape} do not fit a network that takes {takes}")
    if config.extra != 2 * entries * exponents:
        raise ValueError(
            f"a network with {config.extra} further inputs does not fit {exponents} exponents of "
            f"fourier, which give {2 * entries * exponents}"
        )
