"""What the posterior samplers ask of an autoregressive model, so that the model can import them."""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from scoresde.families.base import LogProb

__all__ = ["Mixture", "PixelModel"]

Mixture = tuple[Tensor, Tensor, Tensor]
"""Logits, means and log-scales, each (..., components)."""


class _Config(Protocol):
    @property
    def levels(self) -> int: ...


class PixelModel(Protocol):
    """p(x) as a product over the entries of an image in raster order, or of a vector."""

    @property
    def network(self) -> nn.Module: ...

    @property
    def config(self) -> _Config: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def is_image(self) -> bool: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def split(self, outputs: Tensor, x: Tensor) -> Mixture: ...

    def entry_log_prob(self, x: Tensor) -> Tensor: ...

    def log_prob(self, x: Tensor) -> LogProb: ...

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor: ...
