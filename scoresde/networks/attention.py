"""Self-attention over the pixels of a low-resolution feature map."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

__all__ = ["Attention2d"]


class Attention2d(nn.Module):
    """Residual self-attention x + proj(softmax(q k^T) v) over the positions of a feature map.

    Queries and keys have unit length times a learned temperature, so that the logits stay bounded
    on maps larger than those seen in training (Henry et al. 2020, "Query-key normalization for
    transformers"). The projection starts at zero, so that the module is the identity at first.

    Args:
        channels: Channels of the feature map.
        head_channels: Approximate number of channels per head.
    """

    def __init__(self, channels: int, head_channels: int = 32) -> None:
        super().__init__()
        self.heads = math.gcd(channels, max(1, channels // head_channels))
        self.norm = nn.GroupNorm(1, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=False)
        self.temperature = nn.Parameter(
            nn.init.constant_(self.qkv.weight.new_empty(self.heads, 1, 1), 8.0)
        )
        self.proj = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Apply the attention.

        Args:
            x: Feature map, shape (B, C, H, W).

        Returns:
            Feature map, shape of x.
        """
        height, width = x.shape[-2:]
        q, k, v = rearrange(
            self.qkv(self.norm(x.to(self.norm.weight.dtype)).to(x.dtype)),
            "b (three head c) h w -> three b head (h w) c",
            three=3,
            head=self.heads,
        )
        precise = torch.promote_types(q.dtype, torch.float32)
        q = F.normalize(q.to(precise), dim=-1) * self.temperature
        k = F.normalize(k.to(precise), dim=-1)
        out = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, scale=1.0)
        return x + self.proj(rearrange(out, "b head (h w) c -> b (head c) h w", h=height, w=width))
