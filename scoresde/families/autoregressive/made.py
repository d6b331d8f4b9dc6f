"""A causal network on vectors: output d sees the entries before d and no other (MADE, Germain et al. 2015)."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MADE"]


class _Masked(nn.Linear):
    """Weights from a unit of degree a to one of degree b are there where a <= b; degree: how many entries the unit sees, or may see."""

    mask: Tensor

    def __init__(self, degrees_in: Tensor, degrees_out: Tensor) -> None:
        super().__init__(len(degrees_in), len(degrees_out))
        self.register_buffer(
            "mask", (degrees_in[None] <= degrees_out[:, None]).float(), persistent=False
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask.to(self.weight.dtype), self.bias)


class MADE(nn.Module):
    """x (B, D) -> (B, D, outputs). widths: hidden units of each layer; their degrees go round 0, ..., D-1."""

    def __init__(self, size: int, outputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.size, self.outputs = size, outputs
        degrees = [torch.arange(1, size + 1), *(torch.arange(width) % size for width in widths)]
        self.layers = nn.ModuleList(_Masked(a, b) for a, b in itertools.pairwise(degrees))
        self.head = _Masked(degrees[-1], torch.arange(size).repeat_interleave(outputs))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = F.silu(layer(x))
        return self.head(x).reshape(-1, self.size, self.outputs)
