"""Traces of a hole that its mask does not cover: plain pixels beside the missing ones.

A hole is painted in one colour, and pixels of it that the mask declares observed are exactly equal.
Pixels with noise are not, except where they are clipped, and that is no more frequent beside the
mask than elsewhere.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["plain_beside_holes"]

_REACH = 2  # pixels from the hole
_NEIGHBOURS = 4  # observed pixels of 3 x 3 that have to be equal, the middle included
_FEWEST = 16  # pixels


def plain_beside_holes(y: Tensor, seen: Tensor) -> float:
    """Compute how much more frequent exactly plain pixels are beside holes than elsewhere.

    Args:
        y: Picture with holes (1, C, H, W).
        seen: Observed entries, bool, shape of y.

    Returns:
        Share of the pixels within 2 pixels of a hole that equal all their observed neighbours, less
        the share of the others; 0 if there are no holes or too few such pixels.

    Example:
        >>> import torch
        >>> from scoresde.evaluation.residual.flat_edge import plain_beside_holes
        >>> y, seen = torch.randn(1, 1, 32, 32), torch.ones(1, 1, 32, 32) == 1
        >>> seen[..., 10:20, 10:20] = False
        >>> y[..., 7:23, 7:23] = 0.0
        >>> plain_beside_holes(y, seen) > 0.9
        True
    """
    if y.ndim != 4 or bool(seen.all()):
        return 0.0
    observed = seen.all(1, keepdim=True)
    here = observed.to(y)
    count = F.avg_pool2d(here, 3, 1, 1, count_include_pad=False) * F.avg_pool2d(
        torch.ones_like(here), 3, 1, 1, divisor_override=1
    )
    low = -F.max_pool2d(torch.where(seen, -y, -torch.inf), 3, 1, 1)
    high = F.max_pool2d(torch.where(seen, y, -torch.inf), 3, 1, 1)
    plain = (low == high).all(1, keepdim=True)
    usable = observed & (count.round() >= _NEIGHBOURS)
    near = F.max_pool2d((~observed).to(y), 2 * _REACH + 1, 1, _REACH) > 0
    beside, elsewhere = plain[usable & near], plain[usable & ~near]
    if len(beside) < _FEWEST:
        return 0.0
    return float(beside.double().mean()) - float(
        elsewhere.double().mean() if len(elsewhere) >= _FEWEST else 0.0
    )
