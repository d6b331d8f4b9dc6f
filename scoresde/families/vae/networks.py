"""Encoders and decoders of a VAE of images, without normalisation layers, as in the UNet."""

import itertools
import math

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ConvDecoder", "ConvEncoder"]


class _Block(nn.Module):
    """x + conv(silu(conv(silu(x)))); the last convolution starts at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


class ConvEncoder(nn.Module):
    """Convolutional encoder of images.

    It folds p x p pixels into channels, halves the resolution from level to level, and ends with a
    linear map.

    Args:
        shape: Shape (C, H, W) of an image.
        widths: Channels of each level, finest first.
        blocks: Residual blocks per level.
        patch: Side p of the square of pixels folded into channels.
        outputs: Numbers that the encoder returns for each image.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        widths: tuple[int, ...],
        blocks: int,
        patch: int,
        outputs: int,
    ) -> None:
        super().__init__()
        channels, height, width = shape
        stride = patch * 2 ** (len(widths) - 1)
        layers: list[nn.Module] = [
            nn.PixelUnshuffle(patch),
            nn.Conv2d(channels * patch**2, widths[0], 3, padding=1),
        ]
        layers += [_Block(widths[0]) for _ in range(blocks)]
        for fine, coarse in itertools.pairwise(widths):
            layers += [
                nn.Conv2d(fine, coarse, 2, stride=2),
                *(_Block(coarse) for _ in range(blocks)),
            ]
        layers += [
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(widths[-1] * (height // stride) * (width // stride), outputs),
        ]
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Encode images.

        Args:
            x: Images, shape (B, C, H, W).

        Returns:
            Features, shape (B, outputs).
        """
        return self.net(x)


class ConvDecoder(nn.Module):
    """Convolutional decoder of images, the mirror image of :class:`ConvEncoder`.

    Args:
        outputs: Channels of the result.
        size: Height and width of the result.
        widths: Channels of each level, finest first.
        blocks: Residual blocks per level.
        patch: Side of the square of pixels folded into channels.
        latent: Number of entries of z.
    """

    def __init__(
        self,
        outputs: int,
        size: tuple[int, int],
        widths: tuple[int, ...],
        blocks: int,
        patch: int,
        latent: int,
    ) -> None:
        super().__init__()
        stride = patch * 2 ** (len(widths) - 1)
        coarsest = (widths[-1], size[0] // stride, size[1] // stride)
        layers: list[nn.Module] = [
            nn.Linear(latent, math.prod(coarsest)),
            nn.Unflatten(1, coarsest),
        ]
        layers += [_Block(widths[-1]) for _ in range(blocks)]
        for coarse, fine in itertools.pairwise(reversed(widths)):
            layers += [
                nn.ConvTranspose2d(coarse, fine, 2, stride=2),
                *(_Block(fine) for _ in range(blocks)),
            ]
        layers += [
            nn.SiLU(),
            nn.Conv2d(widths[0], outputs * patch**2, 3, padding=1),
            nn.PixelShuffle(patch),
        ]
        self.net = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """Decode latent vectors.

        Args:
            z: Latent vectors, shape (B, latent).

        Returns:
            Parameters of each pixel, shape (B, outputs, H, W).
        """
        return self.net(z)
