"""The part of an autoregressive model that its posterior samplers need.

It is a separate module so that the model can import the samplers.
"""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from scoresde.families.base import LogProb

__all__ = ["Mixture", "PixelModel"]

Mixture = tuple[Tensor, Tensor, Tensor]
"""Logits, means and log-scales, each (..., components)."""


class _Config(Protocol):
    """The part of a configuration that is needed here."""

    @property
    def levels(self) -> int:
        """Number of grey levels."""


class PixelModel(Protocol):
    """p(x) as a product over the entries of an image in raster order, or of a vector."""

    @property
    def network(self) -> nn.Module:
        """The causal network."""

    @property
    def config(self) -> _Config:
        """Configuration with the number of grey levels."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, without the batch axis."""

    @property
    def is_image(self) -> bool:
        """True for images, False for vectors."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the parameters of the network.

        Returns:
            Iterator over the parameters.
        """

    def split(self, outputs: Tensor, x: Tensor) -> Mixture:
        """Convert outputs of the network to mixtures.

        Args:
            outputs: Outputs of the network, shape (..., outputs).
            x: Channels of the pixels, shape (..., C).

        Returns:
            Mixtures of the channels, each tensor (..., C, components).
        """

    def entry_log_prob(self, x: Tensor) -> Tensor:
        """Compute ln p(x_i | x_<i) of every entry.

        Args:
            x: Samples, shape (B, *shape).

        Returns:
            Log-probabilities in nats, shape of x.
        """

    def log_prob(self, x: Tensor) -> LogProb:
        """Compute ln p(x).

        Args:
            x: Samples, shape (B, *shape).

        Returns:
            Log-probabilities in nats, shape (B,).
        """

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples.

        Args:
            n: Number of draws.
            generator: Source of the random numbers; None for torch's global one.

        Returns:
            Independent draws, shape (n, *shape).
        """
