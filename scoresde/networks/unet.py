r"""A convolutional UNet made for small machines: pixel-unshuffle stem, no normalisation, additive skips.

The stem folds each :math:`p \times p` block of pixels into channels (Shi et al. 2016), so that all convolutions run at
:math:`1/p` of the resolution. Blocks have no normalisation layers: on a CPU these cost as much as the convolutions, and
the preconditioning of the prior keeps inputs and targets at unit variance already (DRUNet, Zhang et al. 2021, trains the
same way). The noise level enters each block as a per-channel scale and shift (FiLM, Perez et al. 2018).
"""

import itertools
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from scoresde.networks.attention import Attention2d
from scoresde.networks.embedding import NoiseEmbedding

__all__ = ["UNet", "UNetConfig"]


@dataclass(frozen=True)
class UNetConfig:
    """Size of a :class:`UNet`.

    channels: of the image. extra: further input channels, which carry features of the image. patch: side p of the pixel-unshuffle
    stem. widths: channels of each level, finest first; each level halves the resolution. blocks: residual blocks per level and
    direction. attention: levels that end with self-attention (memory grows with the square of the pixels there, so only coarse
    levels). embedding: noise features.
    """

    channels: int = 3
    patch: int = 2
    widths: tuple[int, ...] = (48, 96, 192)
    blocks: int = 2
    attention: tuple[int, ...] = (2,)
    embedding: int = 128
    extra: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        object.__setattr__(self, "attention", tuple(self.attention))
        if (
            self.extra < 0
            or not self.widths
            or min(self.channels, self.patch, self.blocks, self.embedding, *self.widths) < 1
        ):
            raise ValueError(f"all sizes of a UNet must be positive, got {self}")
        if any(not 0 <= level < len(self.widths) for level in self.attention):
            raise ValueError(
                f"attention levels {self.attention} are not among the {len(self.widths)} levels"
            )


class ResBlock(nn.Module):
    """x + conv(silu((1 + a) conv(silu(x)) + b)), with a, b linear in the noise features."""

    def __init__(self, channels: int, embedding: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * channels)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        scale, shift = self.film(features)[..., None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(x))
        h = self.conv2(F.silu(shift.to(h.dtype) + (1 + scale).to(h.dtype) * h))
        return x + h


class UNet(nn.Module):
    """(x (B, C + extra, H, W), label (B,)) -> (B, C, H, W), for any H and W: the image is padded and cropped inside."""

    def __init__(self, config: UNetConfig | None = None) -> None:
        super().__init__()
        config = config or UNetConfig()
        self.config = config
        self.stride = config.patch * 2 ** (len(config.widths) - 1)
        self.embedding = NoiseEmbedding(config.embedding)
        folded = config.channels * config.patch**2
        features = config.extra * config.patch**2
        widths, e = config.widths, config.embedding

        def level(i: int) -> nn.ModuleList:
            blocks: list[nn.Module] = [ResBlock(widths[i], e) for _ in range(config.blocks)]
            if i in config.attention:
                blocks.append(Attention2d(widths[i]))
            return nn.ModuleList(blocks)

        pairs = list(itertools.pairwise(widths))
        self.stem = nn.Conv2d(folded + features, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(level(i) for i in range(len(widths)))
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in pairs
        )
        self.up_blocks = nn.ModuleList(level(i) for i in range(len(widths) - 1))
        self.head = nn.Conv2d(widths[0], folded, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        pad = (-width % self.stride, -height % self.stride)
        if any(pad):
            x = F.pad(x, (0, pad[0], 0, pad[1]), mode="replicate")
        features = self.embedding(label)

        h = self.stem(F.pixel_unshuffle(x, self.config.patch))
        skips = []
        for i, blocks in enumerate(self.down_blocks):
            if i > 0:
                skips.append(h)
                h = self.down[i - 1](h)
            h = _run(blocks, h, features)
        for i in reversed(range(len(self.up))):
            h = _run(self.up_blocks[i], self.up[i](h) + skips[i], features)
        out = F.pixel_shuffle(self.head(F.silu(h)), self.config.patch)
        return out[..., :height, :width]


def _run(blocks: nn.Module, h: Tensor, features: Tensor) -> Tensor:
    for block in blocks:  # type: ignore[attr-defined]
        h = block(h, features) if isinstance(block, ResBlock) else block(h)
    return h
