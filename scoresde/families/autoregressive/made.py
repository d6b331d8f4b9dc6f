"""A causal network on vectors (MADE, Germain et al. 2015).

Output d depends only on the entries before d.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MADE"]


class _Masked(nn.Linear):
    """Linear layer with a weight between units of degrees a and b only if a <= b.

    The degree of a unit is the number of entries that it depends on, or may depend on.
    """

    mask: Tensor

    def __init__(self, degrees_in: Tensor, degrees_out: Tensor) -> None:
        super().__init__(len(degrees_in), len(degrees_out))
        self.register_buffer(
            "mask", (degrees_in[None] <= degrees_out[:, None]).float(), persistent=False
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.mask.to(self.weight.dtype), self.bias)


class MADE(nn.Module):
    """Masked perceptron from x (B, D) to (B, D, outputs).

    Args:
        size: Number D of entries.
        outputs: Numbers that the network returns for each entry.
        widths: Units of each hidden layer. Their degrees cycle through 0, ..., D-1.
    """

    def __init__(self, size: int, outputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.size, self.outputs = size, outputs
        degrees = [torch.arange(1, size + 1), *(torch.arange(width) % size for width in widths)]
        self.layers = nn.ModuleList(_Masked(a, b) for a, b in itertools.pairwise(degrees))
        self.head = _Masked(degrees[-1], torch.arange(size).repeat_interleave(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the outputs of every entry.

        Args:
            x: Vectors, shape (B, D).

        Returns:
            Outputs, shape (B, D, outputs).
        """
        for layer in self.layers:
            x = F.silu(layer(x))
        return self.head(x).reshape(-1, self.size, self.outputs)
