"""Noise schedules of 1000 steps on which many published networks were trained."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["SCHEDULES", "Schedule"]


@dataclass(frozen=True)
class Schedule:
    """A discrete variance-preserving schedule.

    Args:
        name: Its name.
        alphas_cumprod: Product of 1 - beta up to each step, decreasing.

    Example:
        >>> linear = SCHEDULES[0]
        >>> [round(linear.level(i), 4) for i in (0, 1, 10, 500)]
        [0.01, 0.0148, 0.0469, 3.443]
    """

    name: str
    alphas_cumprod: tuple[float, ...]

    @cached_property
    def _log_levels(self) -> Tensor:
        bar = torch.tensor(self.alphas_cumprod, dtype=torch.float64)
        return ((1 - bar) / bar).log() / 2

    def index(self, s: float) -> float | None:
        """Find the index of a noise level.

        Args:
            s: Noise-to-signal ratio; between two steps the index is linear in ln s.

        Returns:
            Index from 0 on, with a fraction; None outside of the schedule.
        """
        levels, wanted = self._log_levels, math.log(s)
        # the first level of the schedule is 0.01, which rounding must not miss
        if not levels[0] - 1e-6 <= wanted <= levels[-1] + 1e-6:
            return None
        i = min(max(int(torch.searchsorted(levels, wanted)), 1), len(levels) - 1)
        low, high = float(levels[i - 1]), float(levels[i])
        return i - 1 + (wanted - low) / (high - low)

    def level(self, index: float) -> float | None:
        """Find the noise level of an index.

        Args:
            index: Index from 0 on, with a fraction.

        Returns:
            Noise-to-signal ratio; None outside of the schedule.
        """
        last = len(self.alphas_cumprod) - 1
        if not -1e-6 <= index <= last + 1e-6:
            return None
        i = min(max(int(index), 0), last - 1)
        low, high = float(self._log_levels[i]), float(self._log_levels[i + 1])
        return math.exp(low + (index - i) * (high - low))


def _of_betas(name: str, betas: Tensor) -> Schedule:
    return Schedule(name, tuple((1 - betas).cumprod(0).tolist()))


def _linear(first: float, last: float) -> Tensor:
    return torch.linspace(first, last, 1000, dtype=torch.float64)


def _cosine() -> Tensor:
    """Betas of Nichol and Dhariwal (2021)."""
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    bar = ((t + 0.008) / 1.008 * math.pi / 2).cos() ** 2
    return (1 - bar[1:] / bar[:-1]).clamp_max(0.999)


SCHEDULES = (
    _of_betas("linear", _linear(1e-4, 0.02)),
    _of_betas("scaled-linear", _linear(0.00085**0.5, 0.012**0.5) ** 2),
    _of_betas("cosine", _cosine()),
)
"""Those of Ho et al. (2020), Rombach et al. (2022) and Nichol and Dhariwal (2021)."""
