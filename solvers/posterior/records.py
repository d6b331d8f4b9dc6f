"""What posterior samplers are asked, what a batch of independent draws works with, and what all answer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from problems import InverseProblem
from scoresde.priors.base import Prior
from solvers.streams import NormalStream

__all__ = ["Draws", "Progress", "Request", "Run", "ancestral_mean", "silent"]

Progress = Callable[[float], None]
"""Called with the finished fraction of the work, 0 to 1."""


def silent(fraction: float) -> None:
    """Report progress to nobody."""


@dataclass(frozen=True)
class Request:
    """n draws of p(x | y) for each of the B measurements y (B, ...), zero where nothing is observed.

    batch: how many draws, or particles, to run through the network at once; None for all.
    """

    problem: InverseProblem
    y: Tensor
    n: int
    generator: torch.Generator | None = None
    batch: int | None = None
    progress: Progress = silent


@dataclass(frozen=True)
class Draws:
    """x: (n, B, ...). nfe, vjps: network evaluations and vector-Jacobian products per draw."""

    x: Tensor
    nfe: int
    vjps: int
    diagnostics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A batch of independent draws: a measurement and a random stream for each. y: (B, ...); generators: B of them."""

    prior: Prior
    problem: InverseProblem
    y: Tensor
    generators: list[torch.Generator]
    progress: Progress

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Of the draws, (B, *shape)."""
        return (len(self.y), *self.problem.input_shape(self.y))

    @cached_property
    def noise(self) -> NormalStream:
        """The streams of the draws."""
        return NormalStream(self.generators)

    def randn(self) -> Tensor:
        """Standard normal numbers of the shape of the draws."""
        return self.noise(self.shape, self.prior.dtype, self.prior.device)

    def randn_like(self, x: Tensor) -> Tensor:
        """Standard normal numbers of the shape of x (B, ...)."""
        return self.noise(tuple(x.shape), x.dtype, x.device)


def ancestral_mean(D: Tensor, u: Tensor, s: float, s_next: float) -> Tensor:
    """Mean of u at the noise s_next given u at the noise s and x_0 = D; the variance is s_next^2 (1 - s_next^2 / s^2)."""
    q = (s_next / s) ** 2
    return (1 - q) * D + q * u
