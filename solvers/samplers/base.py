"""The base of all samplers of a prior: a time grid, a start, and the methods that draw."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from problems.checks import check_choice, check_number
from scoresde.priors.base import CountingPrior, Prior
from solvers.samplers.checks import check_draws, check_generators, failures_named
from solvers.samplers.grid import TimeGrid, check_steps
from solvers.scale import Scale, fitted
from solvers.streams import NormalStream

__all__ = ["Callback", "Sampler", "Trajectory"]

Start = Literal["noise", "mean"]

Callback = Callable[[int, int, Tensor, Tensor, Tensor], None]
"""Called with (step, steps, t, x_t, x0_hat) at each time of a run.

step counts from 1 to steps (in percent for ODE methods), t has the shape () or (n,), and x_t and
x0_hat = D(x_t, t) have the shape (n, *shape).
"""


@dataclass(frozen=True)
class Trajectory:
    r"""A run of a sampler: its states and their denoised estimates :math:`\hat x_0 = D(x_t, t)`.

    Annealed Langevin dynamics keep the state at the end of each level. Without MALA their x0_hat is
    that of the state before the last update of the level, except at the last level. ODE methods
    that solve each draw alone keep the last state only.

    Args:
        draws: The draws, shape (n, *shape), equal to the last x0_hat.
        t: Times, shape (steps, n): in adaptive methods each draw has its own.
        x_t: States, shape (steps, n, *shape), beginning with the first noise.
        x0_hat: Denoised estimates, shape (steps, n, *shape).
        nfe: Number of network evaluations, for the whole batch at once.

    Example:
        >>> import torch
        >>> from scoresde import GaussianPrior
        >>> from solvers import DDIM
        >>> prior = GaussianPrior(torch.zeros(2), torch.eye(2))
        >>> path = DDIM(steps=10).trajectory(prior, n=3)
        >>> path.x_t.shape, path.t.shape, path.nfe
        (torch.Size([10, 3, 2]), torch.Size([10, 3]), 10)
        >>> torch.equal(path.draws, path.x0_hat[-1])
        True
    """

    draws: Tensor
    t: Tensor
    x_t: Tensor
    x0_hat: Tensor
    nfe: int


@dataclass(frozen=True)
class Sampler(ABC):
    r"""Base of the samplers, which draw from any :class:`Prior`, guided or not.

    Args:
        steps: Number of points of the time grid, at least 1.
        grid: Time grid.
        start: Law of the state at the first time T, with :math:`s = \sigma_T/\alpha_T`. "noise":
            :math:`x_T/\alpha_T \sim N(0, s^2 I)`, as published; "mean": :math:`N(D(0, s), s^2 I)`,
            for one evaluation more. :math:`D(0, s)` tends to the mean of the data as s grows, so
            the second start neglects the covariance of the data alone, and the grid may begin at a
            lower noise.

    Raises:
        ValueError: If steps is no whole number of at least 1 or the start is unknown.

    Example:
        >>> import torch
        >>> from scoresde import GaussianPrior
        >>> from solvers import Heun, Sampler
        >>> prior = GaussianPrior(torch.full((1,), 3.0), 0.01 * torch.eye(1))
        >>> sampler = Heun(steps=20)
        >>> isinstance(sampler, Sampler)
        True
        >>> x = sampler.sample(prior, 500, generator=torch.manual_seed(0))
        >>> x.shape, round(float(x.mean()), 1), round(float(x.std()), 1)
        (torch.Size([500, 1]), 3.0, 0.1)
        >>> torch.equal(x, sampler.sample(prior, 500, generator=torch.manual_seed(0)))
        True
    """

    steps: int = 50
    grid: TimeGrid = field(default_factory=TimeGrid)
    start: Start = "noise"

    def __post_init__(self) -> None:
        check_steps(self.steps)
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
        """Draw from the prior.

        Args:
            prior: Prior to sample.
            n: Number of draws.
            generator: Source of the random numbers: one generator, whose state decides the draws;
                a sequence of n, which gives each draw its own stream; None for torch's default
                generator.
            shape: Shape of one draw; None for the shape of the prior.
            callback: Called at each time with the state; None for no call.

        Returns:
            The draws, shape (n, *shape).

        Raises:
            ValueError: If n is no whole number of at least 1, the number of generators in the
                sequence is not n, the prior has no samples of the shape, the grid does not overlap
                the noise levels of the prior's SDE, or draws come out with NaN or infinite entries.
        """
        n = int(check_number(n, "the number of draws n", least=1, whole=True))
        check_generators(generator)
        return fitted(self, Scale(prior))._sample(prior, n, generator, shape, callback)

    def _sample(
        self,
        prior: Prior,
        n: int,
        generator: torch.Generator | Sequence[torch.Generator] | None,
        shape: tuple[int, ...] | None,
        callback: Callback | None,
    ) -> Tensor:
        if shape is not None:
            prior.check_shape(shape, "a draw")
        times, _ = self.grid.along(prior, self.steps)
        noise = NormalStream(generator)
        with torch.no_grad(), failures_named(type(self).__name__):
            x_t = prior.sde.sigma(times[0]) * noise(
                (n, *(shape or prior.shape)), prior.dtype, prior.device
            )
            if self.start == "mean":
                x_t = x_t + prior.sde.alpha(times[0]) * prior.denoise(
                    torch.zeros_like(x_t), times[0]
                )
            draws = self._run(prior, x_t, times, noise, callback)
        check_draws(draws, type(self).__name__)
        return draws

    def trajectory(
        self,
        prior: Prior,
        n: int,
        *,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Trajectory:
        """Draw from the prior and keep every state on the way.

        Args:
            prior: Prior to sample.
            n: Number of draws.
            generator: Source of the random numbers, as in ``sample``.
            shape: Shape of one draw; None for the shape of the prior.

        Returns:
            The draws, the same as those of ``sample``, and the states that lead to them.
        """
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
