"""The header of a checkpoint: every field is checked before anything is built from it."""

from typing import Any

import torch
from torch import Tensor, nn

from problems.checks import check_number
from scoresde.networks import Perceptron, PerceptronConfig, UNet, UNetConfig

__all__ = ["NETWORKS", "build_network", "check_fourier", "check_sample_shape", "check_weights"]

NETWORKS: dict[str, tuple[type, type]] = {
    "Perceptron": (Perceptron, PerceptronConfig),
    "UNet": (UNet, UNetConfig),
}
_MOST_ENTRIES = 1 << 30  # of one sample
_FINEST = 32  # exponent of Fourier features, in size
_MOST_FEATURES = 64


def build_network(settings: Any, tensors: dict[str, Tensor]) -> nn.Module:
    """Build the network that a header describes, with the weights of its file.

    The network is first built without memory, so that sizes that do not fit the file are refused
    before anything is allocated.

    Args:
        settings: Kind and sizes of the network, as the header has them.
        tensors: Weights by name.

    Returns:
        The network, in float32.

    Raises:
        ValueError: If the settings are none of a known network, or the weights are not its.
    """
    if not isinstance(settings, dict):
        raise ValueError(f"the network is described by a dictionary, got {settings!r:.80}")
    sizes = dict(settings)
    kind = sizes.pop("kind", None)
    if not isinstance(kind, str) or kind not in NETWORKS:
        raise ValueError(f"unknown network {kind!r:.80}; known: {', '.join(NETWORKS)}")
    network_type, config_type = NETWORKS[kind]
    try:
        config = config_type(**sizes)
    except TypeError as error:
        raise ValueError(f"bad settings of {kind}: {error}") from None
    with torch.device("meta"):
        expected = network_type(config).state_dict()
    _check_names(set(expected), set(tensors))
    for name, value in expected.items():
        if tensors[name].shape != value.shape:
            raise ValueError(
                f"{name} has shape {tuple(tensors[name].shape)}, the network that the header "
                f"describes needs {tuple(value.shape)}"
            )
    check_weights(tensors)
    network: nn.Module = network_type(config)
    network.load_state_dict({name: value.float() for name, value in tensors.items()})
    return network


def _check_names(expected: set[str], found: set[str]) -> None:
    for names, verb in ((expected - found, "lacks"), (found - expected, "has an unknown")):
        if names:
            first, *others = sorted(names)
            more = f" and {len(others)} more" if others else ""
            raise ValueError(f"the file {verb} weight {first}{more}")


def check_weights(tensors: dict[str, Tensor]) -> None:
    """Check that weights are finite floating-point numbers.

    Args:
        tensors: Weights by name.

    Raises:
        ValueError: If one is not; the message names the first.

    Example:
        >>> import torch
        >>> check_weights({"stem.weight": torch.tensor([1.0, float("nan")])})
        Traceback (most recent call last):
        ValueError: the weight stem.weight has NaN or infinite entries (1 of 2), as after a \
training that diverged; take an earlier checkpoint
    """
    for name, value in sorted(tensors.items()):
        if not value.is_floating_point():
            raise ValueError(f"the weight {name} is {value.dtype}, not floating-point")
        bad = int((~torch.isfinite(value.float())).sum())
        if bad:
            raise ValueError(
                f"the weight {name} has NaN or infinite entries ({bad} of {value.numel()}), as "
                "after a training that diverged; take an earlier checkpoint"
            )


def check_sample_shape(shape: Any) -> tuple[int, ...]:
    """Check the shape of one sample.

    Args:
        shape: List or tuple of the sizes, at least one.

    Returns:
        The shape as a tuple of ints.

    Raises:
        ValueError: If it is anything else, or has more than 2^30 entries.
    """
    if not isinstance(shape, list | tuple) or not 1 <= len(shape) <= 8:
        raise ValueError(f"the shape of a sample is a list of sizes, got {shape!r:.80}")
    sizes = tuple(
        int(check_number(n, "a size of a sample", least=1, most=_MOST_ENTRIES, whole=True))
        for n in shape
    )
    entries = 1
    for n in sizes:
        entries *= n
    if entries > _MOST_ENTRIES:
        raise ValueError(f"a sample of shape {sizes} has more than {_MOST_ENTRIES} entries")
    return sizes


def check_fourier(exponents: Any) -> tuple[int, ...]:
    """Check the exponents of Fourier features.

    Args:
        exponents: List or tuple of the exponents; empty for no features.

    Returns:
        The exponents as a tuple of ints.

    Raises:
        ValueError: If it is anything else, an exponent is no whole number between -32 and 32, or
            there are more than 64.
    """
    if not isinstance(exponents, list | tuple) or len(exponents) > _MOST_FEATURES:
        raise ValueError(
            f"fourier is a list of at most {_MOST_FEATURES} exponents, got {exponents!r:.80}"
        )
    return tuple(
        int(check_number(n, "an exponent of fourier", least=-_FINEST, most=_FINEST, whole=True))
        for n in exponents
    )
