"""Sizes that a network does not take: padded by repeating the edge, and cropped."""

import torch
from torch import Tensor

__all__ = ["crop", "pad_to_multiple"]


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last entries of all axes after the channels, up to a multiple of a number.

    Args:
        x: Batch, shape (B, C, ...).
        multiple: Number of which all sides become multiples.

    Returns:
        The padded batch; x itself if nothing is missing.

    Example:
        >>> import torch
        >>> pad_to_multiple(torch.tensor([[[1.0, 2.0, 3.0]]]), 4)
        tensor([[[1., 2., 3., 3.]]])
    """
    for axis in range(2, x.ndim):
        size = x.shape[axis]
        if missing := -size % multiple:
            # an index instead of F.pad: it has derivatives of every kind and batches under vmap
            index = torch.arange(size + missing, device=x.device).clamp(max=size - 1)
            x = x.index_select(axis, index)
    return x


def crop(x: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Take the first entries of all axes after the channels.

    Args:
        x: Batch, shape (B, C, ...).
        sizes: Wanted sizes of the axes after the channels.

    Returns:
        The cropped batch, shape (B, C, *sizes).
    """
    for axis, size in enumerate(sizes, start=2):
        x = x.narrow(axis, 0, size)
    return x
