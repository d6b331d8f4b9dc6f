"""Random numbers that the tests of problems share."""

import torch
from torch import Tensor

__all__ = ["randn", "seeded"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)
