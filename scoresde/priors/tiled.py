"""Large images in bounded memory: the denoiser runs on overlapping tiles.

The result of each tile is weighted by a ramp that falls to (nearly) zero at the inner edges of the
tile, so that no seams are visible. Where gradients flow, each tile is computed again in the
backward pass instead of being kept (Chen et al. 2016), so that memory is that of one tile in both
directions.
"""

import math

import torch
from torch import Tensor

from scoresde.defaults import TILE, TILE_OVERLAP
from scoresde.priors.base import Prior, Wrapper

__all__ = ["TiledPrior"]


class TiledPrior(Wrapper):
    """Prior whose denoiser sees at most ``tile`` x ``tile`` pixels at a time.

    Images up to that size are not cut. The result on larger images differs from that of the whole
    image, since a tile does not see pixels outside of it.

    Args:
        prior: Prior of images (C, H, W) that takes any size.
        tile: Largest side of a tile, in pixels.
        overlap: Pixels that adjacent tiles share at least, between 0 and half of the tile.

    Raises:
        ValueError: If the overlap is negative or larger than half of the tile.

    Example:
        >>> import torch
        >>> from scoresde import EDMSDE, ScorePrior
        >>> from scoresde.networks import UNet, UNetConfig
        >>> from scoresde.priors.tiled import TiledPrior
        >>> network = UNet(UNetConfig(channels=1, widths=(8,), blocks=1, attention=()))
        >>> prior = TiledPrior(ScorePrior(network, EDMSDE(), (1, 8, 8)), tile=16, overlap=4)
        >>> x_t = torch.ones(1, 1, 40, 24)
        >>> torch.allclose(prior.denoise(x_t, 0.5), prior.prior.denoise(x_t, 0.5))
        True
    """

    def __init__(self, prior: Prior, tile: int = TILE, overlap: int = TILE_OVERLAP) -> None:
        super().__init__(prior)
        if not 0 <= 2 * overlap <= tile:
            raise ValueError(
                f"the overlap must be between 0 and half of the tile ({tile}), got {overlap}"
            )
        self.tile, self.overlap = tile, overlap

    def _starts(self, size: int) -> list[int]:
        if size <= self.tile:
            return [0]
        count = math.ceil((size - self.overlap) / (self.tile - self.overlap))
        return [round(i * (size - self.tile) / (count - 1)) for i in range(count)]

    def _ramp(self, start: int, size: int, like: Tensor) -> Tensor:
        length = min(self.tile, size)
        distance = torch.arange(length, dtype=like.dtype, device=like.device) + 0.5
        ramp = torch.ones_like(distance)
        if start > 0:
            ramp = torch.minimum(ramp, distance / max(self.overlap, 1))
        if start + length < size:
            ramp = torch.minimum(ramp, distance.flip(0) / max(self.overlap, 1))
        return ramp

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        height, width = x_t.shape[-2:]
        if max(height, width) <= self.tile:
            return self.prior._denoise(x_t, t)
        total, weights = torch.zeros_like(x_t), torch.zeros_like(x_t[:1, :1])
        for top in self._starts(height):
            for left in self._starts(width):
                box = (..., slice(top, top + self.tile), slice(left, left + self.tile))
                piece = x_t[box]
                D = self._inner(piece, t, recompute=True)
                weight = self._ramp(top, height, x_t)[:, None] * self._ramp(left, width, x_t)
                pad = (left, width - left - piece.shape[-1], top, height - top - piece.shape[-2])
                total = total + torch.nn.functional.pad(weight * D, pad)
                weights[box] += weight
        return total / weights
