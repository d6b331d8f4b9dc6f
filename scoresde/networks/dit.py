r"""Diffusion transformer (DiT, Peebles and Xie 2023) for signals, pictures or volumes of any size.

Each block of :math:`p^d` positions is a token. Scale, shift and gate of every layer are linear in
the features of the noise level and start at zero, so that each block is the identity at first
(adaLN-zero). Two things differ from the source, both so that one network serves all sizes:
positions enter by rotary embeddings along each axis (Su et al. 2021), where only differences of
positions count, and queries and keys have unit length (Henry et al. 2020).
"""

import copy
import math
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scoresde.networks.attention import attend
from scoresde.networks.axes import cropped, fold, pad_to_multiple, unfold
from scoresde.networks.embedding import NoiseEmbedding
from scoresde.networks.sizes import LARGEST, whole_size

__all__ = ["DiT", "DiTConfig"]

_MOST_PATCH, _MOST_DEPTH = 64, 256
_LONGEST = 100.0  # ratio of the wavelengths of the rotary embedding, the shortest 2 pi tokens


@dataclass(frozen=True)
class DiTConfig:
    """Sizes of a :class:`DiT`.

    Args:
        channels: Channels of the sample.
        patch: Side p of the blocks of positions that are one token. Time and memory grow with the
            square of the number of tokens.
        width: Features of a token.
        depth: Number of transformer blocks.
        heads: Heads of the attention, each with width / heads features.
        dimensions: Number of axes: 1 for signals (C, L), 2 for pictures (C, H, W), 3 for volumes
            (C, D, H, W).
        extra: Further input channels, which carry features of the sample.

    Raises:
        ValueError: If a size is no positive whole number (``extra`` may be 0) or absurdly large, or
            a head has no two features for each axis.
    """

    channels: int = 3
    patch: int = 4
    width: int = 128
    depth: int = 6
    heads: int = 4
    dimensions: int = 2
    extra: int = 0

    def __post_init__(self) -> None:
        for name, least, most in (
            ("channels", 1, LARGEST),
            ("patch", 1, _MOST_PATCH),
            ("width", 1, LARGEST),
            ("depth", 1, _MOST_DEPTH),
            ("heads", 1, LARGEST),
            ("dimensions", 1, 3),
            ("extra", 0, LARGEST),
        ):
            size = whole_size(getattr(self, name), f"{name} of a DiT", least, most)
            object.__setattr__(self, name, size)
        if self.width % self.heads or self.width // self.heads < 2 * self.dimensions:
            raise ValueError(
                f"the width of a DiT must be a multiple of its heads, with {2 * self.dimensions} "
                f"features or more for each, got width {self.width} and {self.heads} heads"
            )


class DiTBlock(nn.Module):
    """Transformer block x + g1 attention(n1(x)), then x + g2 mlp(n2(x)).

    The gates g, and scale and shift after the normalisations n, are linear in the noise features.

    Args:
        width: Features of a token.
        heads: Heads of the attention.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.temperature = nn.Parameter(
            nn.init.constant_(self.qkv.weight.new_empty(heads, 1, 1), 8.0)
        )
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width)
        )
        self.modulation = _zero(nn.Linear(width, 6 * width))

    def forward(self, h: Tensor, features: Tensor, angles: Tensor) -> Tensor:
        """Apply the block.

        Args:
            h: Tokens, shape (B, N, width).
            features: Features of the noise level, shape (B, width).
            angles: Angles of the rotary embedding, shape (N, number of rotated pairs).

        Returns:
            Tokens, shape of h.
        """
        modulation = self.modulation(features).to(h.dtype)[:, None].chunk(6, dim=-1)
        scale1, shift1, gate1, scale2, shift2, gate2 = modulation
        qkv = self.qkv(_normalised(h) * (1 + scale1) + shift1)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        precise = torch.promote_types(q.dtype, torch.float32)
        q, k = (_rotated(F.normalize(one.to(precise), dim=-1), angles) for one in (q, k))
        h = h + gate1 * self.proj(attend(q * self.temperature, k, v).transpose(1, 2).flatten(2))
        return h + gate2 * self.mlp(_normalised(h) * (1 + scale2) + shift2)


class DiT(nn.Module):
    """Diffusion transformer that takes a sample of any size and a noise label.

    The sample is padded to a multiple of the patch, and the output cropped to its size. The last
    layer starts at zero.

    Args:
        config: Sizes of the network; None for the default ones.

    Attributes:
        dimensions: Number of axes of a sample, each of any size.

    Example:
        >>> import torch
        >>> from scoresde.networks import DiT, DiTConfig
        >>> network = DiT(DiTConfig(channels=2, width=32, depth=2, dimensions=1))
        >>> network(torch.randn(3, 2, 50), torch.zeros(3)).shape
        torch.Size([3, 2, 50])
    """

    def __init__(self, config: DiTConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or DiTConfig()
        self.dimensions, width = config.dimensions, config.width
        block = config.patch**config.dimensions
        self.embedding = NoiseEmbedding(width)
        self.stem = nn.Linear((config.channels + config.extra) * block, width)
        self.blocks = nn.ModuleList(DiTBlock(width, config.heads) for _ in range(config.depth))
        self.modulation = _zero(nn.Linear(width, 2 * width))
        self.head = _zero(nn.Linear(width, config.channels * block))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Evaluate the network.

        Args:
            x: Samples and further channels, shape (B, C + extra, ...).
            label: Noise labels ln(sigma)/4, shape (B,).

        Returns:
            Output, shape (B, C, ...).
        """
        sides, patch, features = x.shape[2:], self.config.patch, self.embedding(label)
        folded = fold(pad_to_multiple(x, patch), patch)
        pairs = self.config.width // self.config.heads // (2 * self.dimensions)
        angles = _angles(folded.shape[2:], pairs, features)
        h = self.stem(folded.flatten(2).transpose(1, 2).to(self.stem.weight.dtype))
        for block in self.blocks:
            h = block(h, features, angles)
        scale, shift = self.modulation(features).to(h.dtype)[:, None].chunk(2, dim=-1)
        out = self.head(_normalised(h) * (1 + scale) + shift)
        out = unfold(out.transpose(1, 2).unflatten(2, folded.shape[2:]), patch)
        return cropped(out, sides)

    def in_dtype(self, dtype: torch.dtype) -> Self:
        """Copy the network, with the layers that act on tokens in another precision.

        What is computed of the noise label stays in the present precision.

        Args:
            dtype: Precision of the tokens and of the layers that act on them.

        Returns:
            A network with weights of its own, which do not require gradients.
        """
        other = copy.deepcopy(self).requires_grad_(False)
        for layer in (other.stem, other.head):
            layer.to(dtype)
        for block in other.blocks:
            for layer in (block.qkv, block.proj, block.mlp):  # type: ignore[assignment]
                layer.to(dtype)
        return other


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _normalised(h: Tensor) -> Tensor:
    return F.layer_norm(h, h.shape[-1:])


def _angles(grid: torch.Size, pairs: int, like: Tensor) -> Tensor:
    """Angles (N, axes * pairs) of the positions of a grid, in log-spaced frequencies."""
    exponents = torch.arange(pairs, dtype=like.dtype, device=like.device) / pairs
    frequencies = torch.exp(-math.log(_LONGEST) * exponents)
    positions = torch.meshgrid(
        *(torch.arange(n, dtype=like.dtype, device=like.device) for n in grid), indexing="ij"
    )
    return torch.cat([axis.reshape(-1, 1) * frequencies for axis in positions], dim=1)


def _rotated(x: Tensor, angles: Tensor) -> Tensor:
    """Rotate pairs of features of x (..., N, c) by angles (N, pairs); the others are left."""
    pairs = angles.shape[1]
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b, rest = x[..., :pairs], x[..., pairs : 2 * pairs], x[..., 2 * pairs :]
    return torch.cat([a * cos - b * sin, a * sin + b * cos, rest], dim=-1)
