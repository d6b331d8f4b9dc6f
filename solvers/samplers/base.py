"""What every sampler of a prior shares: a time grid, a start, and one verb."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from problems.checks import check_choice
from scoresde.priors.base import CountingPrior, Prior
from solvers.samplers.grid import TimeGrid
from solvers.streams import NormalStream

__all__ = ["Callback", "Sampler", "Trajectory"]

Start = Literal["noise", "mean"]

Callback = Callable[[int, int, Tensor, Tensor, Tensor], None]
"""(step, steps, t, x_t, x0_hat): at each time t of the way, () or (n,), the state and what the denoiser makes of it."""


@dataclass(frozen=True)
class Trajectory:
    r"""A run of a sampler: states x_t at their times, and what the denoiser made of each, :math:`\hat x_0 = D(x_t, t)`.

    t: (steps, n), since in adaptive methods each draw has a clock of its own; x_t, x0_hat: (steps, n, *shape), from the first noise on;
    draws: (n, *shape), the last x0_hat; nfe: evaluations of the denoiser. Annealed Langevin keeps the state at the end of each level;
    without MALA its x0_hat is from before the last update there, but for the last level. ODE methods that solve each draw alone
    keep the last state only.
    """

    draws: Tensor
    t: Tensor
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
        check_choice("start", self.start, Start)

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
        noise = NormalStream(generator)
        with torch.no_grad():
            x_t = prior.sde.sigma(times[0]) * noise(
                (n, *(shape or prior.shape)), prior.dtype, prior.device
            )
            if self.start == "mean":
                x_t = x_t + prior.sde.alpha(times[0]) * prior.denoise(
                    torch.zeros_like(x_t), times[0]
                )
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
        states: list[tuple[Tensor, Tensor, Tensor]] = []
        counted = CountingPrior(prior)

        def keep(_step: int, _steps: int, t: Tensor, x_t: Tensor, x0_hat: Tensor) -> None:
            states.append((t.expand(n).clone(), x_t.clone(), x0_hat.clone()))

        draws = self.sample(counted, n, generator=generator, shape=shape, callback=keep)
        t, x_t, x0_hat = (torch.stack(part) for part in zip(*states, strict=True))
        return Trajectory(draws, t, x_t, x0_hat, counted.nfe)

    @abstractmethod
    def _run(
        self,
        prior: Prior,
        x_t: Tensor,
        times: Tensor,
        noise: NormalStream,
        callback: Callback | None,
    ) -> Tensor:
        """Carry x_t from times[0] to time 0."""
