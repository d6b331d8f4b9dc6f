r"""p(x | z) of a VAE, factorised over the entries of x, from what the decoder puts out: ``raw`` (B, *shape, outputs)."""

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
    """outputs: numbers that the decoder gives for each entry. discrete: whether x are grey levels, else points of the line."""

    outputs: int
    discrete: ClassVar[bool]

    @abstractmethod
    def log_prob(self, x: Tensor, raw: Tensor) -> Tensor:
        """ln p(x | z), nats, (B,)."""

    @abstractmethod
    def mean(self, raw: Tensor) -> Tensor:
        """E[x | z], (B, *shape)."""

    @abstractmethod
    def sample(self, raw: Tensor, generator: torch.Generator | None) -> Tensor:
        """A draw of x | z, (B, *shape)."""


class GaussianLikelihood(PixelLikelihood):
    """N(raw, std^2 I) with one learnt standard deviation for all entries (sigma-VAE, Rybkin et al. 2021), at least 1e-3."""

    discrete: ClassVar[bool] = False

    def __init__(self, std: float) -> None:
        super().__init__()
        self.outputs = 1
        self.log_std = nn.Parameter(torch.tensor(math.log(std)))

    @property
    def std(self) -> Tensor:
        return self.log_std.clamp_min(math.log(1e-3)).exp()

    def log_prob(self, x: Tensor, raw: Tensor) -> Tensor:
        u = (x - self.mean(raw)) / self.std
        return (
            -(u.square() + math.log(2 * math.pi)).flatten(1).sum(1) / 2
            - self.std.log() * x[0].numel()
        )

    def mean(self, raw: Tensor) -> Tensor:
        return raw[..., 0]

    def sample(self, raw: Tensor, generator: torch.Generator | None) -> Tensor:
        mean = self.mean(raw)
        return mean + self.std * normal(mean.shape, generator, mean)


class LogisticLikelihood(PixelLikelihood):
    """A mixture of logistics over the 256 grey levels on [-1, 1], of K components with their own log-scales (at least -7)."""

    discrete: ClassVar[bool] = True

    def __init__(self, components: int) -> None:
        super().__init__()
        self.components, self.outputs = components, 3 * components

    def _parts(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, means, log_scales = raw.chunk(3, dim=-1)
        if self.components > 1:  # apart at first
            means = means + torch.linspace(
                -1, 1, self.components, dtype=raw.dtype, device=raw.device
            )
        return logits, means, (log_scales - 2).clamp(-7, 3)

    def log_prob(self, x: Tensor, raw: Tensor) -> Tensor:
        return discretised_logistic_mixture_log_prob(x, *self._parts(raw)).flatten(1).sum(1)

    def mean(self, raw: Tensor) -> Tensor:
        r"""Of the mixture cut off at -1 and 1, as the levels are: :math:`-1 + \int_{-1}^1 (1 - F)` for each component."""
        logits, means, log_scales = self._parts(raw)
        s = log_scales.exp()
        each = s * (F.softplus((means + 1) / s) - F.softplus((means - 1) / s)) - 1
        return (logits.softmax(-1) * each).sum(-1)

    def sample(self, raw: Tensor, generator: torch.Generator | None) -> Tensor:
        return sample_discretised_logistic_mixture(*self._parts(raw), generator)
