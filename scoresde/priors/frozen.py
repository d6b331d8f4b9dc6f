"""Copies of a network with frozen weights in a lower precision."""

from typing import Protocol, Self, cast, runtime_checkable

import torch
from torch import Tensor, nn

__all__ = ["FrozenCopies"]

_Stamp = tuple[tuple[int, int, torch.dtype], ...]


@runtime_checkable
class _Lowers(Protocol):
    """A network that can make such a copy of itself."""

    def in_dtype(self, dtype: torch.dtype) -> Self:
        """A copy whose convolutions compute in another precision."""


class FrozenCopies:
    """Copies of one network, made when they are first used and again when its weights change.

    Autocast converts every weight at every call, a copy converts them once.

    Example:
        >>> import torch
        >>> from scoresde.networks import UNet, UNetConfig
        >>> network = UNet(UNetConfig(channels=1, widths=(8,), blocks=1, attention=()))
        >>> copies = FrozenCopies()
        >>> copies.of(network, torch.bfloat16) is None  # weights that are trained
        True
        >>> copies.of(network.requires_grad_(False), torch.bfloat16).stem.weight.dtype
        torch.bfloat16
    """

    def __init__(self) -> None:
        # the storages are held so that no other weights can come to lie at their addresses
        self._made: dict[torch.dtype, tuple[_Stamp, list[torch.UntypedStorage], nn.Module]] = {}

    def of(self, network: nn.Module, dtype: torch.dtype) -> nn.Module | None:
        """Give the copy of a network.

        Args:
            network: The network.
            dtype: Precision of the convolutions of the copy.

        Returns:
            The copy; None if a weight of the network requires gradients, which a copy would not
            receive, or if the network has no method ``in_dtype``.
        """
        if any(p.requires_grad for p in network.parameters()) or not isinstance(network, _Lowers):
            return None
        stamp = _stamp(network)
        made = self._made.get(dtype)
        if made is None or made[0] != stamp:
            # tensors made in inference mode could not be used with gradients later
            with torch.inference_mode(False), torch.no_grad():
                held = [v.untyped_storage() for v in network.parameters()]
                made = stamp, held, cast(nn.Module, network.in_dtype(dtype))
            self._made[dtype] = made
        return made[2]


def _stamp(network: nn.Module) -> _Stamp:
    """What changes if a weight changes: its memory, or the count of writes to it."""
    return tuple((v.data_ptr(), _writes(v), v.dtype) for v in network.parameters())


def _writes(v: Tensor) -> int:
    return 0 if v.is_inference() else v._version
