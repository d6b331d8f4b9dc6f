"""Pixels in raster order with every feature computed once."""

import torch
from torch import Tensor

from scoresde.families.autoregressive.pixelcnn import Cache, PixelCNN

__all__ = ["Raster"]


class Raster:
    """A batch of images (n, C, H, W) that becomes known pixel by pixel: ask ``outputs`` at (i, j), then ``put`` its channels, in raster
    order.

    evaluated: pixels at which the network has been computed, per image; H W for a whole one, where evaluating the whole network anew for
    each pixel takes (H W)^2.
    """

    def __init__(self, network: PixelCNN, n: int, shape: tuple[int, ...], like: Tensor) -> None:
        self.network, self.shape = network, shape
        self.cache = Cache()
        self.padded = network.pad(torch.zeros(n, *shape, dtype=like.dtype, device=like.device))
        self.evaluated = 0

    @property
    def x(self) -> Tensor:
        """(n, C, H, W); zeros where not known yet."""
        return self.padded[:, :-1, 2:, 2:-1].clone()

    def outputs(self, i: int, j: int) -> Tensor:
        """What the network says of pixel (i, j), (n, outputs)."""
        if j == 0:
            self.network.row(self.cache, self.padded, i)
        self.evaluated += 1
        return self.network.pixel(self.cache, self.padded, i, j)

    def put(self, i: int, j: int, channel: int, value: Tensor) -> None:
        """value (n,)."""
        self.padded[:, channel, i + 2, j + 2] = value

    def at(self, i: int, j: int) -> Tensor:
        """Channels of pixel (i, j), (n, C)."""
        return self.padded[:, :-1, i + 2, j + 2]

    def select(self, index: Tensor) -> None:
        """Image k becomes a copy of image index[k], with all that is known about it."""
        self.padded = self.padded[index]
        self.cache.select(index)
