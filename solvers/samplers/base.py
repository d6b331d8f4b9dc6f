"""What every sampler of a prior shares: a time grid, a start, and one verb."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from scoresde.prior import Prior
from solvers.noise import Noise
from solvers.samplers.grid import TimeGrid

__all__ = ["Callback", "Sampler"]

Callback = Callable[[int, int, Tensor, Tensor], None]
"""(step, steps, x_t, x0_hat), after each step."""


@dataclass(frozen=True)
class Sampler(ABC):
    """Draws from any :class:`Prior`, guided or not. steps: points of the time grid."""

    steps: int = 50
    grid: TimeGrid = field(default_factory=TimeGrid)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"a sampler needs at least one step, got {self.steps}")

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
        times = self.grid.times(prior.sde, self.steps).to(dtype=prior.dtype, device=prior.device)
        noise = Noise(generator)
        with torch.no_grad():
            x_t = prior.sde.sigma(times[0]) * noise((n, *(shape or prior.shape)), prior.dtype, prior.device)
            return self._run(prior, x_t, times, noise, callback)

    @abstractmethod
    def _run(self, prior: Prior, x_t: Tensor, times: Tensor, noise: Noise, callback: Callback | None) -> Tensor:
        """Carry x_t from times[0] to time 0."""
