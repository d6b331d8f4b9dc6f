"""Encoders and decoders of a VAE of images. No normalisation layers, as in the UNet."""

import itertools
import math

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ConvDecoder", "ConvEncoder"]


class _Block(nn.Module):
    """x + conv(silu(conv(silu(x)))), the last convolution zero at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


class ConvEncoder(nn.Module):
    """x (B, C, H, W) -> (B, outputs): p x p pixels folded into channels, then levels of half the resolution each, then a linear map."""

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
        return self.net(x)


class ConvDecoder(nn.Module):
    """z (B, latent) -> (B, outputs, H, W): the encoder's mirror image."""

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
        return self.net(z)
