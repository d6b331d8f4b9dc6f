"""What every sampler of a prior shares: a time grid, a start, and one verb."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from scoresde.prior import Counted, Prior
from solvers.noise import Noise
from solvers.samplers.grid import TimeGrid

__all__ = ["Callback", "Sampler", "Trajectory"]

Start = Literal["noise", "mean"]

Callback = Callable[[int, int, Tensor, Tensor], None]
"""(step, steps, x_t, x0_hat), after each step."""


@dataclass(frozen=True)
class Trajectory:
    """A run of a sampler, step by step. x_t, x0_hat: (steps, n, *shape); draws: (n, *shape); nfe: evaluations of the denoiser."""

    draws: Tensor
    x_t: Tensor
    x0_hat: Tensor
    nfe: int


@dataclass(frozen=True)
class Sampler(ABC):
    r"""Draws from any :class:`Prior`, guided or not. steps: points of the time grid.

    start: at the first time T, with :math:`s = \sigma_T/\alpha_T`, "noise" draws :math:`x_T/\alpha_T \sim N(0, s^2 I)`, as published;
    "mean" draws :math:`N(D(0, s), s^2 I)` for one evaluation more. :math:`D(0, s)` tends to the mean of the data as s grows, so the second
    start errs by the covariance of the data alone, and the grid may begin at a lower noise.
    """

    steps: int = 50
    grid: TimeGrid = field(default_factory=TimeGrid)
    start: Start = "noise"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"a sampler needs at least one step, got {self.steps}")
        if self.start not in get_args(Start):
            raise ValueError(f"unknown start {self.start!r}; known: {', '.join(get_args(Start))}")

    def sample(
        self,
        prior: Prior,
        n: int,
        *,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        shape: tuple[int, ...] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """n draws, (n, *shape). shape: of one draw, if not the prior's own.

        The same generator state gives the same draws. A sequence of n generators gives each draw a stream of its own.
        """
        times, _ = self.grid.along(prior, self.steps)
        noise = Noise(generator)
        with torch.no_grad():
            x_t = prior.sde.sigma(times[0]) * noise((n, *(shape or prior.shape)), prior.dtype, prior.device)
            if self.start == "mean":
                x_t = x_t + prior.sde.alpha(times[0]) * prior.denoise(torch.zeros_like(x_t), times[0])
            return self._run(prior, x_t, times, noise, callback)

    def trajectory(
        self,
        prior: Prior,
        n: int,
        *,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Trajectory:
        """The same draws, with every state on their way."""
        states: list[tuple[Tensor, Tensor]] = []
        counted = Counted(prior)
        keep: Callback = lambda _i, _steps, x_t, x0_hat: states.append((x_t.clone(), x0_hat.clone()))  # noqa: E731
        draws = self.sample(counted, n, generator=generator, shape=shape, callback=keep)
        x_t, x0_hat = (torch.stack(part) for part in zip(*states, strict=True))
        return Trajectory(draws, x_t, x0_hat, counted.nfe)

    @abstractmethod
    def _run(self, prior: Prior, x_t: Tensor, times: Tensor, noise: Noise, callback: Callback | None) -> Tensor:
        """Carry x_t from times[0] to time 0."""
