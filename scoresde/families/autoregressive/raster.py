"""Pixels in raster order with every feature computed once."""

import torch
from torch import Tensor

from scoresde.families.autoregressive.pixelcnn import Cache, PixelCNN

__all__ = ["Raster"]


class Raster:
    """A batch of images that become known pixel by pixel, in raster order.

    At each pixel, call ``outputs``, then ``put`` for each channel.

    Args:
        network: Causal network.
        n: Number of images.
        shape: Shape (C, H, W) of an image.
        like: Tensor that gives the precision and the device.

    Attributes:
        cache: Features computed so far.
        padded: Images in the form of :meth:`PixelCNN.pad`.
        evaluated: Number of pixels per image at which the network has been computed: H W for a
            whole image. Evaluating the whole network at each pixel would need (H W)^2.
    """

    def __init__(self, network: PixelCNN, n: int, shape: tuple[int, ...], like: Tensor) -> None:
        self.network, self.shape = network, shape
        self.cache = Cache()
        self.padded = network.pad(torch.zeros(n, *shape, dtype=like.dtype, device=like.device))
        self.evaluated = 0

    @property
    def x(self) -> Tensor:
        """Images, shape (n, C, H, W), with zeros at pixels that are not known yet."""
        return self.padded[:, :-1, 2:, 2:-1].clone()

    def outputs(self, i: int, j: int) -> Tensor:
        """Compute the outputs of the network at a pixel.

        Args:
            i: Row of the pixel.
            j: Column of the pixel.

        Returns:
            Outputs, shape (n, outputs).
        """
        if j == 0:
            self.network.row(self.cache, self.padded, i)
        self.evaluated += 1
        return self.network.pixel(self.cache, self.padded, i, j)

    def put(self, i: int, j: int, channel: int, value: Tensor) -> None:
        """Set one channel of a pixel.

        Args:
            i: Row of the pixel.
            j: Column of the pixel.
            channel: Channel to set.
            value: Values on [-1, 1], shape (n,).
        """
        self.padded[:, channel, i + 2, j + 2] = value

    def at(self, i: int, j: int) -> Tensor:
        """Look up the channels of a pixel.

        Args:
            i: Row of the pixel.
            j: Column of the pixel.

        Returns:
            Channels, shape (n, C).
        """
        return self.padded[:, :-1, i + 2, j + 2]

    def select(self, index: Tensor) -> None:
        """Replace image k by a copy of image index[k], with all its features.

        Args:
            index: Indices of images, shape (n,), int64.
        """
        self.padded = self.padded[index]
        self.cache.select(index)
