"""The distribution p(x | z) of a VAE, factorised over the entries of x.

Its parameters are the output of the decoder, ``raw``, of shape (B, *shape, outputs).
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from problems.random_numbers import normal
from scoresde.families.autoregressive.logistic import (
    discretised_logistic_mixture_log_prob,
    sample_discretised_logistic_mixture,
)

__all__ = ["GaussianLikelihood", "LogisticLikelihood", "PixelLikelihood"]


class PixelLikelihood(nn.Module, ABC):
    """Base class of the likelihoods.

    Attributes:
        outputs: Numbers that the decoder outputs for each entry of x.
        discrete: True if x are grey levels, False if they are real numbers.
    """

    outputs: int
    discrete: ClassVar[bool]

    @abstractmethod
    def log_prob(self, x: Tensor, raw: Tensor) -> Tensor:
        """Compute ln p(x | z).

        Args:
            x: Samples, shape (B, *shape).
            raw: Output of the decoder, shape (B, *shape, outputs).

        Returns:
            Log-probabilities in nats, shape (B,).
        """

    @abstractmethod
    def mean(self, raw: Tensor) -> Tensor:
        """Compute E[x | z].

        Args:
            raw: Output of the decoder, shape (B, *shape, outputs).

        Returns:
            Means, shape (B, *shape).
        """

    @abstractmethod
    def sample(self, raw: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw x given z.

        Args:
            raw: Output of the decoder, shape (B, *shape, outputs).
            generator: Source of the random numbers; None for torch's global one.

        Returns:
            One draw per row, shape (B, *shape).
        """


class GaussianLikelihood(PixelLikelihood):
    """N(raw, std^2 I) with one learnt standard deviation for all entries.

    This is the sigma-VAE of Rybkin et al. 2021.

    Args:
        std: Initial standard deviation, in the units of x.
    """

    discrete: ClassVar[bool] = False

    def __init__(self, std: float) -> None:
        super().__init__()
        self.outputs = 1
        self.log_std = nn.Parameter(torch.tensor(math.log(std)))

    @property
    def std(self) -> Tensor:
        """Standard deviation, at least 1e-3, a scalar."""
        return self.log_std.clamp_min(math.log(1e-3)).exp()

    def log_prob(self, x: Tensor, raw: Tensor) -> Tensor:
        """Compute ln p(x | z).

        Args:
            x: Samples, shape (B, *shape).
            raw: Output of the decoder, shape (B, *shape, outputs).

        Returns:
            Log-probabilities in nats, shape (B,).
        """
        u = (x - self.mean(raw)) / self.std
        return (
            -(u.square() + math.log(2 * math.pi)).flatten(1).sum(1) / 2
            - self.std.log() * x[0].numel()
        )

    def mean(self, raw: Tensor) -> Tensor:
        """Compute E[x | z].

        Args:
            raw: Output of the decoder, shape (B, *shape, outputs).

        Returns:
            Means, shape (B, *shape).
        """
        return raw[..., 0]

    def sample(self, raw: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw x given z.

        Args:
            raw: Output of the decoder, shape (B, *shape, outputs).
            generator: Source of the random numbers; None for torch's global one.

        Returns:
            One draw per row, shape (B, *shape).
        """
        mean = self.mean(raw)
        return mean + self.std * normal(mean.shape, generator, mean)


class LogisticLikelihood(PixelLikelihood):
    """A mixture of logistics over the 256 grey levels on [-1, 1].

    Each component has its own log-scale, at least -7.

    Args:
        components: Number K of components.
    """

    discrete: ClassVar[bool] = True

    def __init__(self, components: int) -> None:
        super().__init__()
        self.components, self.outputs = components, 3 * components

    def _parts(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, means, log_scales = raw.chunk(3, dim=-1)
        if self.components > 1:  # the components start apart
            means = means + torch.linspace(
                -1, 1, self.components, dtype=raw.dtype, device=raw.device
            )
        return logits, means, (log_scales - 2).clamp(-7, 3)

    def log_prob(self, x: Tensor, raw: Tensor) -> Tensor:
        """Compute ln p(x | z).

        Args:
            x: Samples on [-1, 1], rounded to the nearest grey level, shape (B, *shape).
            raw: Output of the decoder, shape (B, *shape, 3 K).

        Returns:
            Log-probabilities in nats, shape (B,).
        """
        return discretised_logistic_mixture_log_prob(x, *self._parts(raw)).flatten(1).sum(1)

    def mean(self, raw: Tensor) -> Tensor:
        r"""Compute the mean of the mixture.

        The mixture is cut off at -1 and 1, as the levels are: :math:`-1 + \int_{-1}^1 (1 - F)` for
        each component.

        Args:
            raw: Output of the decoder, shape (B, *shape, 3 K).

        Returns:
            Means, shape (B, *shape).
        """
        logits, means, log_scales = self._parts(raw)
        s = log_scales.exp()
        each = s * (F.softplus((means + 1) / s) - F.softplus((means - 1) / s)) - 1
        return (logits.softmax(-1) * each).sum(-1)

    def sample(self, raw: Tensor, generator: torch.Generator | None) -> Tensor:
        """Draw x given z.

        Args:
            raw: Output of the decoder, shape (B, *shape, 3 K).
            generator: Source of the random numbers; None for torch's global one.

        Returns:
            Grey levels on [-1, 1], shape (B, *shape).
        """
        return sample_discretised_logistic_mixture(*self._parts(raw), generator)
