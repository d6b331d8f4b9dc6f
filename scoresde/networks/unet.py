r"""Convolutional UNet for small machines: pixel-unshuffle stem, no normalisation, additive skips.

It is for signals, pictures or volumes, with one, two or three axes. The stem folds each block of
:math:`p^d` positions into channels (Shi et al. 2016), so that all convolutions run at :math:`1/p`
of the resolution. Blocks have no normalisation layers: on a CPU
these cost as much as the convolutions, and the preconditioning of the prior already keeps inputs
and targets at unit variance (DRUNet, Zhang et al. 2021, trains in the same way). The noise level
enters each block as a per-channel scale and shift (FiLM, Perez et al. 2018).

Feature maps are stored with the channels last, which convolutions take without conversion. Without
gradients the elementwise steps between the convolutions overwrite tensors that nothing else needs.
"""

import copy
import itertools
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scoresde.networks.attention import Attention
from scoresde.networks.axes import (
    CONVOLUTIONS,
    LAYOUTS,
    TRANSPOSED,
    channels_last,
    cropped,
    fold,
    pad_to_multiple,
    unfold,
)
from scoresde.networks.embedding import NoiseEmbedding
from scoresde.networks.sizes import LARGEST, whole_size

__all__ = ["UNet", "UNetConfig"]

_MOST_LEVELS, _MOST_BLOCKS, _MOST_PATCH = 12, 256, 64


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a :class:`UNet`.

    Args:
        channels: Channels of the sample.
        patch: Side p of the blocks of positions that the stem folds into channels.
        widths: Channels of each level, finest first; each level halves the resolution.
        blocks: Residual blocks per direction, of every level or of each.
        attention: Levels that end with self-attention. Its memory grows with the square of the
            number of pixels, so only coarse levels are suitable.
        embedding: Number of features of the noise level.
        extra: Further input channels, which carry features of the sample.
        preactivation: True for blocks that apply the nonlinearity before both convolutions (He et
            al. 2016); False for one nonlinearity between them (EDSR, Lim et al. 2017), which is
            faster where convolutions cost little.
        dimensions: Number of axes: 1 for signals (C, L), 2 for pictures (C, H, W), 3 for volumes
            (C, D, H, W).

    Raises:
        ValueError: If a size is no positive whole number (``extra`` may be 0) or absurdly large, a
            level of attention does not exist, or ``blocks`` are given for another number of levels.
    """

    channels: int = 3
    patch: int = 2
    widths: tuple[int, ...] = (48, 96, 192)
    blocks: int | tuple[int, ...] = 2
    attention: tuple[int, ...] = (2,)
    embedding: int = 128
    extra: int = 0
    preactivation: bool = True
    dimensions: int = 2

    def __post_init__(self) -> None:
        for name, least, most in (
            ("channels", 1, LARGEST),
            ("patch", 1, _MOST_PATCH),
            ("embedding", 1, LARGEST),
            ("extra", 0, LARGEST),
            ("dimensions", 1, 3),
        ):
            size = whole_size(getattr(self, name), f"{name} of a UNet", least, most)
            object.__setattr__(self, name, size)
        single = not isinstance(self.blocks, list | tuple)
        blocks = (self.blocks,) if single else self.blocks
        for name, values, least, most in (
            ("widths", self.widths, 1, LARGEST),
            ("blocks", blocks, 1, _MOST_BLOCKS),
            ("attention", self.attention, 0, _MOST_LEVELS),
        ):
            if not isinstance(values, list | tuple) or len(values) > _MOST_LEVELS:
                raise ValueError(
                    f"{name} of a UNet are a list of at most {_MOST_LEVELS} numbers, got "
                    f"{values!r:.80}"
                )
            whole = tuple(whole_size(v, f"{name} of a UNet", least, most) for v in values)
            object.__setattr__(self, name, whole)
        if single:
            object.__setattr__(self, "blocks", self.blocks[0])  # type: ignore[index]
        if not isinstance(self.preactivation, bool):
            raise ValueError(
                f"preactivation of a UNet must be true or false, got {self.preactivation!r:.80}"
            )
        if not self.widths:
            raise ValueError("a UNet needs at least one width")
        if len(self.blocks_of_levels) != len(self.widths):
            raise ValueError(f"blocks {self.blocks} do not fit the {len(self.widths)} levels")
        if any(level >= len(self.widths) for level in self.attention):
            raise ValueError(
                f"attention levels {self.attention} are not among the {len(self.widths)} levels"
            )

    @property
    def blocks_of_levels(self) -> tuple[int, ...]:
        """Residual blocks per direction of each level."""
        if isinstance(self.blocks, int):
            return (self.blocks,) * len(self.widths)
        return self.blocks


class ResBlock(nn.Module):
    """Residual block x + conv(silu((1 + a) conv(g(x)) + b)), g = silu or the identity.

    The scale a and the shift b are linear in the noise features. The last convolution and the scale
    and shift start at zero.

    Args:
        channels: Channels of the feature map.
        embedding: Number of features of the noise level.
        preactivation: True for g = silu.
        dimensions: Number of axes, 1 to 3.
    """

    def __init__(
        self, channels: int, embedding: int, preactivation: bool = True, dimensions: int = 2
    ) -> None:
        super().__init__()
        convolution, self.preactivation = CONVOLUTIONS[dimensions], preactivation
        self.conv1 = convolution(channels, channels, 3, padding=1)
        self.conv2 = convolution(channels, channels, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * channels)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: Feature map, shape (B, C, ...).
            features: Features of the noise level, shape (B, embedding).

        Returns:
            Feature map, shape of x.
        """
        film = self.film(features)
        scale, shift = film[(..., *[None] * (x.ndim - 2))].chunk(2, dim=1)
        h = self.conv1(F.silu(x) if self.preactivation else x)
        scale, shift = (1 + scale).to(h.dtype), shift.to(h.dtype)
        if torch.is_grad_enabled() or h.dtype != x.dtype:
            return x + self.conv2(F.silu(shift + scale * h))
        return self.conv2(F.silu(h.mul_(scale).add_(shift), inplace=True)).add_(x)


class UNet(nn.Module):
    """UNet that takes a sample of any size and a noise label.

    The sample is padded to a multiple of the stride, and the output cropped to its size. The last
    layer starts at zero.

    Args:
        config: Sizes of the network; None for the default ones.

    Attributes:
        stride: Factor between the resolution of the sample and that of the coarsest level.
        dimensions: Number of axes of a sample, each of any size.

    Example:
        >>> import torch
        >>> from scoresde.networks import UNet, UNetConfig
        >>> network = UNet(UNetConfig(channels=1, widths=(8, 16), blocks=1, attention=(1,)))
        >>> network(torch.randn(2, 1, 13, 9), torch.zeros(2)).shape
        torch.Size([2, 1, 13, 9])
        >>> signals = UNet(UNetConfig(1, widths=(8, 16), attention=(), dimensions=1))
        >>> signals(torch.randn(2, 1, 50), torch.zeros(2)).shape
        torch.Size([2, 1, 50])
    """

    def __init__(self, config: UNetConfig | None = None) -> None:
        super().__init__()
        config = config or UNetConfig()
        self.config, self.dimensions = config, config.dimensions
        self.stride = config.patch * 2 ** (len(config.widths) - 1)
        self.embedding = NoiseEmbedding(config.embedding)
        d, widths, e = config.dimensions, config.widths, config.embedding
        folded, features = (n * config.patch**d for n in (config.channels, config.extra))
        convolution, transposed = CONVOLUTIONS[d], TRANSPOSED[d]

        def level(i: int) -> nn.ModuleList:
            blocks: list[nn.Module] = [
                ResBlock(widths[i], e, config.preactivation, d)
                for _ in range(config.blocks_of_levels[i])
            ]
            if i in config.attention:
                blocks.append(Attention(widths[i], dimensions=d))
            return nn.ModuleList(blocks)

        pairs = list(itertools.pairwise(widths))
        self.stem = convolution(folded + features, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(level(i) for i in range(len(widths)))
        self.down = nn.ModuleList(convolution(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.up = nn.ModuleList(transposed(coarse, fine, 2, stride=2) for fine, coarse in pairs)
        self.up_blocks = nn.ModuleList(level(i) for i in range(len(widths) - 1))
        self.head = convolution(widths[0], folded, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Evaluate the network.

        Args:
            x: Samples and further channels, shape (B, C + extra, ...).
            label: Noise labels ln(sigma)/4, shape (B,).

        Returns:
            Output, shape (B, C, ...).
        """
        sides = x.shape[2:]
        x, features = pad_to_multiple(x, self.stride), self.embedding(label)

        h = fold(x, self.config.patch)
        layout = LAYOUTS[self.dimensions]
        h = self.stem(h.to(self.stem.weight.dtype, memory_format=layout))
        skips = []
        for i, blocks in enumerate(self.down_blocks):
            if i > 0:
                skips.append(h)
                h = self.down[i - 1](h)
            h = _run(blocks, h, features)
        owned = not torch.is_grad_enabled()
        for i in reversed(range(len(self.up))):
            h, skip = self.up[i](h), skips.pop()
            h = _run(self.up_blocks[i], h.add_(skip) if owned else h + skip, features)
        out = unfold(self.head(F.silu(h, inplace=owned)), self.config.patch)
        return cropped(out, sides)

    def in_dtype(self, dtype: torch.dtype) -> Self:
        """Copy the network, with convolutions in another precision.

        The noise label and what is computed of it stay in the present precision. Rounded to
        bfloat16, labels of neighbouring noise levels would be the same.

        Args:
            dtype: Precision of the convolutions and of the feature maps.

        Returns:
            A network with weights of its own, which do not require gradients.
        """
        other = copy.deepcopy(self).requires_grad_(False)
        converted = (CONVOLUTIONS[self.dimensions], TRANSPOSED[self.dimensions])
        for module in other.modules():
            if isinstance(module, converted):
                channels_last(module.to(dtype=dtype))
        return other


def _run(blocks: nn.Module, h: Tensor, features: Tensor) -> Tensor:
    for block in blocks:  # type: ignore[attr-defined]
        h = block(h, features) if isinstance(block, ResBlock) else block(h)
    return h
