"""The header of a checkpoint: every field is checked before anything is built from it."""

from dataclasses import is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from problems.checks import check_number, unknown
from scoresde.networks import (
    DiT,
    DiTConfig,
    Perceptron,
    PerceptronConfig,
    UNet,
    UNetConfig,
)

__all__ = [
    "NETWORKS",
    "build_network",
    "config_kind",
    "check_fourier",
    "check_sample_shape",
    "check_weights",
    "network_kind",
    "network_settings",
    "new_network",
    "register_network",
]

NETWORKS: dict[str, tuple[type, type]] = {
    "DiT": (DiT, DiTConfig),
    "Perceptron": (Perceptron, PerceptronConfig),
    "UNet": (UNet, UNetConfig),
}
"""Networks that a file may name: type and configuration by kind, see :func:`register_network`."""

_OWN = frozenset(NETWORKS)
_ELSEWHERE = "module:"  # begins the kind of a network that was not registered
_MOST_ENTRIES = 1 << 30  # of one sample
_FINEST = 32  # exponent of Fourier features, in size
_MOST_FEATURES = 64


def register_network(kind: str, network: type[nn.Module], config: type) -> None:
    """Register a network of your own, so that files may name it.

    A file is never trusted to name code: only networks that the caller registered are built.

    Args:
        kind: Name in the header of files, another one than those of this package. A network that
            was registered by this name before is replaced.
        network: Its type, called with a configuration. It keeps it as ``config``. If it takes any
            length of its axes, it also has an attribute ``dimensions``, their number.
        config: A dataclass of plain JSON values, called with the fields of a file's header. It
            should refuse sizes that are absurd, because a file may state any. With fields
            ``channels``, ``extra`` and ``dimensions`` the network can be trained, too, as
            `TrainConfig(network=...)`.

    Raises:
        ValueError: If the name is that of a network of this package or no identifier, or the
            configuration is no dataclass.

    Example:
        >>> from dataclasses import dataclass
        >>> import torch
        >>> from torch import nn
        >>> from scoresde.priors.checkpoint import NETWORKS, register_network
        >>> @dataclass(frozen=True)
        ... class ShiftConfig:
        ...     size: int = 2
        >>> class Shift(nn.Module):
        ...     def __init__(self, config):
        ...         super().__init__()
        ...         self.config, self.shift = config, nn.Parameter(torch.zeros(config.size))
        ...     def forward(self, x, label):
        ...         return x + self.shift
        >>> register_network("Shift", Shift, ShiftConfig)
        >>> "Shift" in NETWORKS
        True
        >>> del NETWORKS["Shift"]
    """
    if not isinstance(kind, str) or not kind.isidentifier():
        raise ValueError(f"a kind of network is a name such as MyNet, got {kind!r:.80}")
    if not (isinstance(config, type) and is_dataclass(config)):
        raise ValueError(f"the configuration of {kind} must be a dataclass, got {config!r:.80}")
    if kind in _OWN:
        raise ValueError(f"the name {kind!r} is that of a network of scoresde; choose another one")
    NETWORKS[kind] = (network, config)


def network_kind(network: nn.Module) -> str:
    """Name the kind of a network, as the header of a file has it.

    Args:
        network: The network.

    Returns:
        The name under which its type is registered; else "module:" and the dotted name of its
        type, which a reader can only load into a network that the caller gives.

    Example:
        >>> from torch import nn
        >>> from scoresde.networks import UNet
        >>> network_kind(UNet()), network_kind(nn.Identity())
        ('UNet', 'module:torch.nn.modules.linear.Identity')
    """
    for kind, (known, _) in NETWORKS.items():
        if type(network) is known:
            return kind
    return f"{_ELSEWHERE}{type(network).__module__}.{type(network).__qualname__}"


def build_network(
    settings: Any, tensors: dict[str, Tensor], given: nn.Module | None = None
) -> nn.Module:
    """Build the network that a header describes, with the weights of its file.

    The network is first built without memory, so that sizes that do not fit the file are refused
    before anything is allocated.

    Args:
        settings: Kind and sizes of the network, as the header has them.
        tensors: Weights by name.
        given: A network that gets the weights, whatever the settings; None to build a known one.

    Returns:
        The network, in float32.

    Raises:
        ValueError: If the settings are none of a known network, or the weights are not its.
    """
    if given is None:
        network_type, config = network_settings(settings)
        with torch.device("meta"):
            expected = network_type(config).state_dict()
    else:
        expected = given.state_dict()
    _check_names(set(expected), set(tensors))
    for name, value in expected.items():
        if tensors[name].shape != value.shape:
            needs = "given network" if given is not None else "network that the header describes"
            raise ValueError(
                f"{name} has shape {tuple(tensors[name].shape)}, the {needs} needs "
                f"{tuple(value.shape)}"
            )
    # whole numbers, such as the counts of a batch normalisation, stay what they are
    weights = {k: v for k, v in tensors.items() if expected[k].is_floating_point()}
    check_weights(weights)
    network: nn.Module = network_type(config) if given is None else given
    network.float().load_state_dict(tensors | {k: v.float() for k, v in weights.items()})
    return network


def new_network(config: Any) -> nn.Module:
    """Build a known network with random weights.

    Args:
        config: Its configuration.

    Returns:
        The network.

    Raises:
        ValueError: If the configuration is that of no known network.

    Example:
        >>> from scoresde.networks import DiTConfig
        >>> type(new_network(DiTConfig(width=16, depth=1))).__name__
        'DiT'
    """
    network: nn.Module = NETWORKS[config_kind(config)][0](config)
    return network


def config_kind(config: Any) -> str:
    """Name the kind of network that a configuration describes.

    Args:
        config: The configuration.

    Returns:
        The name under which networks with such a configuration are registered.

    Raises:
        ValueError: If there are none.

    Example:
        >>> from scoresde.networks import UNetConfig
        >>> config_kind(UNetConfig())
        'UNet'
    """
    for kind, (_, config_type) in NETWORKS.items():
        if type(config) is config_type:
            return kind
    raise ValueError(f"{config!r:.80} configures no known network; register it by register_network")


def network_settings(settings: Any) -> tuple[type, Any]:
    """Read what describes a known network.

    Args:
        settings: Kind and sizes of the network.

    Returns:
        The type of the network and its configuration.

    Raises:
        ValueError: If the settings are none of a known network.

    Example:
        >>> network_settings({"kind": "Perceptron", "size": 3})[1].size
        3
    """
    if not isinstance(settings, dict):
        raise ValueError(f"the network is described by a dictionary, got {settings!r:.80}")
    sizes = dict(settings)
    kind = sizes.pop("kind", None)
    if isinstance(kind, str) and kind.startswith(_ELSEWHERE):
        raise ValueError(
            f"its network is {kind.removeprefix(_ELSEWHERE)!r:.120}, not one of this package; pass "
            "load_prior(..., network=...) such a network, or register it before it is saved"
        )
    if not isinstance(kind, str) or kind not in NETWORKS:
        raise ValueError(f"{unknown('network', kind, NETWORKS)}; register_network adds one")
    network_type, config_type = NETWORKS[kind]
    try:
        return network_type, config_type(**sizes)
    except TypeError as error:
        raise ValueError(f"bad settings of {kind}: {error}") from None


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
