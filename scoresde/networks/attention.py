"""Self-attention over the positions of a low-resolution feature map."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from scoresde.networks.axes import AXES, CONVOLUTIONS

__all__ = ["Attention", "attend"]


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Average the values with the weights softmax(q k^T).

    Args:
        q: Queries, scaled as they are to be, shape (B, heads, N, c).
        k: Keys, shape of q.
        v: Values, shape of q. The products are computed in their precision.

    Returns:
        Averages, shape of q, dtype of v.
    """
    return F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, scale=1.0)


class Attention(nn.Module):
    """Residual self-attention x + proj(softmax(q k^T) v) over the positions of a feature map.

    Queries and keys have unit length times a learned temperature, so that the logits stay bounded
    on maps larger than those seen in training (Henry et al. 2020, "Query-key normalization for
    transformers"). The projection starts at zero, so that the module is the identity at first.

    Args:
        channels: Channels of the feature map.
        head_channels: Approximate number of channels per head.
        dimensions: Number of axes of the feature map, 1 to 3.
    """

    def __init__(self, channels: int, head_channels: int = 32, dimensions: int = 2) -> None:
        super().__init__()
        convolution, self.axes = CONVOLUTIONS[dimensions], AXES[dimensions]
        self.heads = math.gcd(channels, max(1, channels // head_channels))
        self.norm = nn.GroupNorm(1, channels)
        self.qkv = convolution(channels, 3 * channels, 1, bias=False)
        self.temperature = nn.Parameter(
            nn.init.constant_(self.qkv.weight.new_empty(self.heads, 1, 1), 8.0)
        )
        self.proj = convolution(channels, channels, 1)
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the attention.

        Args:
            x: Feature map, shape (B, C, ...).

        Returns:
            Feature map, shape of x.
        """
        q, k, v = rearrange(
            self.qkv(self.norm(x.to(self.norm.weight.dtype)).to(x.dtype)),
            f"b (three head c) {self.axes} -> three b head ({self.axes}) c",
            three=3,
            head=self.heads,
        )
        precise = torch.promote_types(q.dtype, torch.float32)
        q = F.normalize(q.to(precise), dim=-1) * self.temperature
        k = F.normalize(k.to(precise), dim=-1)
        sides = dict(zip(self.axes.split(), x.shape[2:], strict=True))
        pattern = f"b head ({self.axes}) c -> b (head c) {self.axes}"
        return x + self.proj(rearrange(attend(q, k, v), pattern, **sides))
