r"""Convolutional UNet for small machines: pixel-unshuffle stem, no normalisation, additive skips.

The stem folds each :math:`p \times p` block of pixels into channels (Shi et al. 2016), so that all
convolutions run at :math:`1/p` of the resolution. Blocks have no normalisation layers: on a CPU
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

from scoresde.networks.attention import Attention2d
from scoresde.networks.embedding import NoiseEmbedding
from scoresde.networks.sizes import LARGEST, whole_size

__all__ = ["UNet", "UNetConfig"]

_MOST_LEVELS, _MOST_BLOCKS, _MOST_PATCH = 12, 256, 64


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a :class:`UNet`.

    Args:
        channels: Channels of the image.
        patch: Side p of the blocks of pixels that the stem folds into channels.
        widths: Channels of each level, finest first; each level halves the resolution.
        blocks: Residual blocks per direction, of every level or of each.
        attention: Levels that end with self-attention. Its memory grows with the square of the
            number of pixels, so only coarse levels are suitable.
        embedding: Number of features of the noise level.
        extra: Further input channels, which carry features of the image.
        preactivation: True for blocks that apply the nonlinearity before both convolutions (He et
            al. 2016); False for one nonlinearity between them (EDSR, Lim et al. 2017), which is
            faster where convolutions cost little.

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

    def __post_init__(self) -> None:
        for name, least, most in (
            ("channels", 1, LARGEST),
            ("patch", 1, _MOST_PATCH),
            ("embedding", 1, LARGEST),
            ("extra", 0, LARGEST),
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
    """

    def __init__(self, channels: int, embedding: int, preactivation: bool = True) -> None:
        super().__init__()
        self.preactivation = preactivation
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * channels)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Apply the block.

        Args:
            x: Feature map, shape (B, C, H, W).
            features: Features of the noise level, shape (B, embedding).

        Returns:
            Feature map, shape of x.
        """
        scale, shift = self.film(features)[..., None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(x) if self.preactivation else x)
        scale, shift = (1 + scale).to(h.dtype), shift.to(h.dtype)
        if torch.is_grad_enabled() or h.dtype != x.dtype:
            return x + self.conv2(F.silu(shift + scale * h))
        return self.conv2(F.silu(h.mul_(scale).add_(shift), inplace=True)).add_(x)


class UNet(nn.Module):
    """UNet that takes an image of any size and a noise label.

    The image is padded to a multiple of the stride, and the output cropped to its size. The last
    layer starts at zero.

    Args:
        config: Sizes of the network; None for the default ones.

    Attributes:
        stride: Factor between the resolution of the image and that of the coarsest level.

    Example:
        >>> import torch
        >>> from scoresde.networks import UNet, UNetConfig
        >>> network = UNet(UNetConfig(channels=1, widths=(8, 16), blocks=1, attention=(1,)))
        >>> network(torch.randn(2, 1, 13, 9), torch.zeros(2)).shape
        torch.Size([2, 1, 13, 9])
    """

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
            blocks: list[nn.Module] = [
                ResBlock(widths[i], e, config.preactivation)
                for _ in range(config.blocks_of_levels[i])
            ]
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
        """Evaluate the network.

        Args:
            x: Images and further channels, shape (B, C + extra, H, W).
            label: Noise labels ln(sigma)/4, shape (B,).

        Returns:
            Output, shape (B, C, H, W).
        """
        height, width = x.shape[-2:]
        pad = (-width % self.stride, -height % self.stride)
        if any(pad):
            x = F.pad(x, (0, pad[0], 0, pad[1]), mode="replicate")
        features = self.embedding(label)

        h = F.pixel_unshuffle(x, self.config.patch)
        h = self.stem(h.to(self.stem.weight.dtype, memory_format=torch.channels_last))
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
        out = F.pixel_shuffle(self.head(F.silu(h, inplace=owned)), self.config.patch)
        return out[..., :height, :width].contiguous()

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
        for module in other.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return other


def _run(blocks: nn.Module, h: Tensor, features: Tensor) -> Tensor:
    for block in blocks:  # type: ignore[attr-defined]
        h = block(h, features) if isinstance(block, ResBlock) else block(h)
    return h
