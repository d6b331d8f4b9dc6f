"""Records that posterior samplers exchange, and small helpers that they share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from problems import InverseProblem
from scoresde.priors.base import Prior
from solvers.balanced import BalancedStream
from solvers.posterior.path import DenoisingPath, Kind
from solvers.streams import NormalStream

__all__ = [
    "RANK_RTOL",
    "WHITENING_RTOL",
    "Arrived",
    "Draws",
    "Enough",
    "Progress",
    "Request",
    "Run",
    "ancestral_mean",
    "silent",
]

RANK_RTOL = 1e-6
"""Relative cut-off of singular values in solvers that divide by them.

Directions whose singular value is at most this fraction of the largest count as unobserved. Solvers
that divide y by the singular values also run in float32, where smaller ones are rounding errors.
"""

WHITENING_RTOL = 1e-8
"""Relative cut-off of singular values when a measurement is whitened.

It is lower than ``RANK_RTOL`` because whitening multiplies by the singular values, in float64, and
never divides by them.
"""

Progress = Callable[[float], None]
"""Callback that receives the finished fraction of the work, 0 to 1."""


Arrived = Callable[[Tensor], None]
"""Callback that receives finished draws, shape (k, ...)."""


class Enough(Exception):
    """Raised by a progress callback: make no further draws, and return those that are finished.

    Samplers that make all draws together, and those that have no finished draw yet, pass it on.
    """


def silent(fraction: float) -> None:
    """Ignore a progress report.

    Args:
        fraction: Finished fraction of the work, 0 to 1.
    """


@dataclass(frozen=True)
class Request:
    """A request for n draws of p(x | y) for each of B measurements.

    Args:
        problem: Operator and noise that made y.
        y: Measurements, shape (B, ...), zero where nothing is observed.
        n: Number of draws for each measurement.
        generator: Source of random numbers; None for torch's global one.
        batch: Number of draws, or particles, in the network at once; None for all.
        progress: Called with the finished fraction of the work, 0 to 1.
        arrived: Called with the draws of each batch once they are finished.
        out: Where the draws go, shape (n, B, ...); None for a tensor of their own.
    """

    problem: InverseProblem
    y: Tensor
    n: int
    generator: torch.Generator | None = None
    batch: int | None = None
    progress: Progress = silent
    arrived: Arrived | None = None
    out: Tensor | None = None


@dataclass(frozen=True)
class Draws:
    """The answer to a :class:`Request`.

    Args:
        x: n draws for each of the B measurements, shape (n, B, ...).
        nfe: Network evaluations per draw.
        vjps: Vector-Jacobian products per draw.
        diagnostics: Findings of the solver by name, a list with one entry for each measurement.
    """

    x: Tensor
    nfe: int
    vjps: int
    diagnostics: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A batch of B independent draws, each with its measurement and its random stream.

    Args:
        prior: Prior of x; it counts its evaluations.
        problem: Operator and noise that made y.
        y: One measurement for each draw, shape (B, ...).
        generators: B generators, one for each draw.
        progress: Called with the finished fraction of this batch, 0 to 1.
        prepared: What the solver found out about each measurement beforehand, by name; tensors of
            shape (B, ...).
        path: Where the estimates of the first draw are kept; None for nowhere.
        balanced: Where the noise of the draws comes from instead of the generators, so that it sums
            to zero over every four draws; None for nowhere.
    """

    prior: Prior
    problem: InverseProblem
    y: Tensor
    generators: list[torch.Generator]
    progress: Progress
    prepared: dict[str, Tensor] = field(default_factory=dict)
    path: DenoisingPath | None = None
    balanced: BalancedStream | None = None

    def note(self, s: float | Tensor, x0: Tensor, kind: Kind = "estimate") -> None:
        """Tell the estimates of x_0 of a step, which are kept if someone asked for them.

        Args:
            s: Noise-to-signal ratio of the noisy states; of each draw, or of all.
            x0: Estimates, shape (B, ...).
            kind: "estimate" or "draw", see :data:`solvers.posterior.path.Kind`.
        """
        if self.path is not None:
            level = float(s.flatten()[0]) if isinstance(s, Tensor) else float(s)
            self.path.add(level, x0[0], kind)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of the draws, (B, ...)."""
        return (len(self.y), *self.problem.input_shape(self.y))

    @cached_property
    def noise(self) -> NormalStream | BalancedStream:
        """Random streams of the draws, one for each."""
        return NormalStream(self.generators) if self.balanced is None else self.balanced

    def randn(self) -> Tensor:
        """Draw standard normal numbers of the shape of the draws.

        Returns:
            Random numbers of the prior's dtype, shape (B, ...).
        """
        return self.noise(self.shape, self.prior.dtype, self.prior.device)

    def randn_like(self, x: Tensor) -> Tensor:
        """Draw standard normal numbers of the shape of a tensor.

        Args:
            x: Tensor whose shape, dtype and device are used, shape (B, ...).

        Returns:
            Random numbers, shape (B, ...).
        """
        return self.noise(tuple(x.shape), x.dtype, x.device)


def ancestral_mean(D: Tensor, u: Tensor, s: float, s_next: float) -> Tensor:
    """Compute the mean of an ancestral step, u at noise s_next given u at noise s and x_0 = D.

    The variance of the step is s_next^2 (1 - s_next^2 / s^2).

    Args:
        D: Denoised image, shape (B, ...).
        u: Noisy image x_t / alpha_t at noise s, shape (B, ...).
        s: Noise-to-signal ratio before the step.
        s_next: Noise-to-signal ratio after the step, below s.

    Returns:
        Mean of u at noise s_next, shape (B, ...).
    """
    q = (s_next / s) ** 2
    return (1 - q) * D + q * u
