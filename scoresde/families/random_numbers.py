"""Random numbers from a generator, wherever it lives."""

import torch
from torch import Tensor

__all__ = ["normal", "uniform"]


def normal(shape: tuple[int, ...], generator: torch.Generator | None, like: Tensor) -> Tensor:
    """N(0, 1), of the precision and on the device of ``like``."""
    return torch.randn(
        shape, generator=generator, dtype=like.dtype, device=_where(generator, like)
    ).to(like.device)


def uniform(shape: tuple[int, ...], generator: torch.Generator | None, like: Tensor) -> Tensor:
    """U[0, 1), in float64, on the device of ``like``."""
    return torch.rand(
        shape, generator=generator, dtype=torch.float64, device=_where(generator, like)
    ).to(like.device)


def _where(generator: torch.Generator | None, like: Tensor) -> torch.device:
    return generator.device if generator is not None else like.device
