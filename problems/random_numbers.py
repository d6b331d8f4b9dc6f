"""Random tensors from a generator on any device; all packages draw their numbers here."""

from collections.abc import Sequence

import torch
from torch import Tensor

from problems.random_fields import current_noise

__all__ = ["BALANCED_SIGNS", "Generators", "normal", "rand_like", "randn_like", "uniform"]

Generators = torch.Generator | Sequence[torch.Generator] | None
"""One generator, one for each sample of a batch, or None for the global generator of torch."""

BALANCED_SIGNS = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
"""Signs of three sources of noise in four draws, (4, 3): vertices of a tetrahedron, whose sum is 0.

Over the root of 3 they make standard normal numbers of standard normal sources.
"""


def normal(shape: tuple[int, ...], generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Draw N(0, 1).

    Args:
        shape: Shape of the result.
        generator: Source of the numbers, on any device; None for the global one.
        like: Tensor whose dtype and device the result has.

    Returns:
        Standard normal numbers of the given shape.
    """
    placed = current_noise()
    if placed is not None:
        found = placed.draw(tuple(shape), generator, like.dtype)
        if found is not None:
            return found.to(like.device)
    numbers = torch.randn(
        shape, generator=generator, dtype=like.dtype, device=_device(generator, like)
    )
    return numbers.to(like.device)


def uniform(shape: tuple[int, ...], generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Draw U[0, 1) in float64.

    Args:
        shape: Shape of the result.
        generator: Source of the numbers, on any device; None for the global one.
        like: Tensor whose device the result has.

    Returns:
        Uniform numbers of the given shape, float64.
    """
    numbers = torch.rand(
        shape, generator=generator, dtype=torch.float64, device=_device(generator, like)
    )
    return numbers.to(like.device)


def randn_like(x: Tensor, generator: Generators = None) -> Tensor:
    """Draw N(0, 1) in the shape of a batch.

    Args:
        x: Batch (B, ...) whose shape, dtype and device the result has.
        generator: One generator, or a sequence of B with a separate stream for each sample; None
            for the global one.

    Returns:
        Standard normal numbers, shape (B, ...).

    Raises:
        ValueError: If the number of generators is not B.
    """
    if isinstance(generator, Sequence):
        if len(generator) != len(x):
            raise ValueError(f"{len(generator)} generators for {len(x)} samples")
        return torch.stack([randn_like(row, one) for row, one in zip(x, generator, strict=True)])
    return normal(tuple(x.shape), generator, x)


def rand_like(x: Tensor, generator: Generators = None) -> Tensor:
    """Draw U(0, 1) in the shape of a batch, by the normal distribution function of ``randn_like``.

    Args:
        x: Batch (B, ...) whose shape, dtype and device the result has.
        generator: One generator, or a sequence of B with a separate stream for each sample; None
            for the global one.

    Returns:
        Uniform numbers in (0, 1), shape (B, ...).

    Raises:
        ValueError: If the number of generators is not B.
    """
    tiny = torch.finfo(x.dtype).eps
    probability: Tensor = torch.special.ndtr(randn_like(x, generator))
    return probability.clamp(tiny, 1 - tiny)


def _device(generator: torch.Generator | None, like: Tensor) -> torch.device:
    return generator.device if generator is not None else like.device
