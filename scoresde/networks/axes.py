r"""Signals, pictures and volumes: what differs between networks for one, two and three axes.

A sample has the shape (C, L), (C, H, W) or (C, D, H, W). Blocks of :math:`p^d` positions are folded
into channels (Shi et al. 2016); convolutions keep the channels last in memory where that layout
exists, for pictures and volumes.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "AXES",
    "CONVOLUTIONS",
    "LAYOUTS",
    "TRANSPOSED",
    "VolumeConvolution",
    "channels_last",
    "cropped",
    "fold",
    "pad_to_multiple",
    "unfold",
]


class VolumeConvolution(nn.Conv3d):
    """Convolution of volumes whose weights are trained in bfloat16 on a CPU.

    There PyTorch (2.13, with oneDNN) leaves a part of the gradient of 3x3x3 weights
    unwritten if the first axis has two entries; it then holds whatever was in memory. Such feature
    maps, the smallest ones, are computed in the precision of the weights.

    Args:
        *args: As for ``torch.nn.Conv3d``.
        **kwargs: As for ``torch.nn.Conv3d``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Apply the convolution.

        Args:
            x: Feature map, shape (B, C, D, H, W).

        Returns:
            Feature map.
        """
        lowered = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
        if not (lowered and x.shape[2] == 2 and torch.is_grad_enabled()):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.to(self.weight.dtype))


CONVOLUTIONS: dict[int, type[Any]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: VolumeConvolution}
"""Convolutions by the number of axes."""

TRANSPOSED: dict[int, type[Any]] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
"""Transposed convolutions by the number of axes."""

AXES = {1: "length", 2: "height width", 3: "depth height width"}
"""Names of the axes, as einops takes them."""

LAYOUTS = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
}
"""Layout of feature maps in memory, by the number of axes."""


def channels_last(module: nn.Module) -> None:
    """Store the weights of convolutions with the channels last, in place.

    Args:
        module: Network. Weights of other layers, and those for signals, stay as they are.

    Example:
        >>> import torch
        >>> layer = torch.nn.Conv3d(2, 2, 3)
        >>> channels_last(layer)
        >>> layer.weight.is_contiguous(memory_format=torch.channels_last_3d)
        True
    """
    for values in (*module.parameters(), *module.buffers()):
        if values.ndim in (4, 5) and values.is_floating_point():
            values.data = values.data.to(memory_format=LAYOUTS[values.ndim - 2])


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last entries of every axis, up to a multiple of a number.

    Args:
        x: Samples, shape (B, C, ...).
        multiple: The number.

    Returns:
        Samples whose axes after the second are multiples of it; x itself if they are.

    Example:
        >>> import torch
        >>> pad_to_multiple(torch.tensor([[[1.0, 2.0, 3.0]]]), 2)
        tensor([[[1., 2., 3., 3.]]])
    """
    missing = [-size % multiple for size in reversed(x.shape[2:])]
    if not any(missing):
        return x
    return F.pad(x, [n for end in missing for n in (0, end)], mode="replicate")


def cropped(x: Tensor, sides: tuple[int, ...]) -> Tensor:
    """Cut off what was added at the ends.

    Args:
        x: Samples, shape (B, C, ...).
        sides: Lengths of the axes after the second.

    Returns:
        Samples with these sides, in a contiguous tensor.

    Example:
        >>> import torch
        >>> cropped(torch.zeros(1, 1, 4, 8), (3, 8)).shape
        torch.Size([1, 1, 3, 8])
    """
    kept: Any = (..., *(slice(side) for side in sides))
    return x[kept].contiguous()


def fold(x: Tensor, patch: int) -> Tensor:
    """Fold blocks of positions into channels.

    Args:
        x: Samples, shape (B, C, ...); the sides are multiples of ``patch``.
        patch: Side p of the blocks.

    Returns:
        Samples with C p^d channels and sides that are p times shorter.

    Example:
        >>> import torch
        >>> fold(torch.arange(4.0).reshape(1, 1, 4), 2)
        tensor([[[0., 2.],
                 [1., 3.]]])
    """
    d = x.ndim - 2
    if d == 2:
        return F.pixel_unshuffle(x, patch)
    for axis in range(d):
        x = x.unflatten(2 + 2 * axis, (-1, patch))
    blocks, within = (range(first, 2 + 2 * d, 2) for first in (2, 3))
    return x.permute(0, 1, *within, *blocks).flatten(1, 1 + d)


def unfold(x: Tensor, patch: int) -> Tensor:
    """Undo :func:`fold`.

    Args:
        x: Samples, shape (B, C p^d, ...).
        patch: Side p of the blocks.

    Returns:
        Samples with C channels and sides that are p times longer.

    Example:
        >>> import torch
        >>> x = torch.arange(16.0).reshape(1, 1, 2, 4, 2)
        >>> torch.equal(unfold(fold(x, 2), 2), x)
        True
    """
    d = x.ndim - 2
    if d == 2:
        return F.pixel_shuffle(x, patch)
    x = x.unflatten(1, (-1, *[patch] * d))
    x = x.permute(0, 1, *(axis for i in range(d) for axis in (2 + d + i, 2 + i)))
    for axis in range(d):
        x = x.flatten(2 + axis, 3 + axis)
    return x
