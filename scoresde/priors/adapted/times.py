"""How a network is told the noise level."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

__all__ = ["TIMES", "Level", "TimeLabel"]


@dataclass(frozen=True)
class Level:
    """Noise level of each sample, in the units of the network.

    Args:
        position: Time variable of the schedule: t, or the (fractional) index of the step, (B,).
        alpha: Scale of the data, (B,).
        sigma: Scale of the noise, (B,).
    """

    position: Tensor
    alpha: Tensor
    sigma: Tensor

    @property
    def ratio(self) -> Tensor:
        """Noise-to-signal ratio sigma / alpha, shape (B,)."""
        return self.sigma / self.alpha


@dataclass(frozen=True)
class TimeLabel:
    """A way to label noise levels.

    Args:
        label: Function of the level that returns the label, shape (B,).
        schedule: Kind of schedule that has such a label: "discrete", "continuous", or "any".
        whole: Whether the label is an integer; noise levels are then rounded to the nearest step.
        pure_noise: Whether the label is finite where no signal is left.
    """

    label: Callable[[Level], Tensor]
    schedule: Literal["discrete", "continuous", "any"] = "any"
    whole: bool = False
    pure_noise: bool = True


TIMES: dict[str, TimeLabel] = {
    "index": TimeLabel(lambda level: level.position, "discrete"),
    "step": TimeLabel(lambda level: level.position.round().long(), "discrete", whole=True),
    "t": TimeLabel(lambda level: level.position, "continuous"),
    "sigma": TimeLabel(lambda level: level.sigma),
    "ratio": TimeLabel(lambda level: level.ratio, pure_noise=False),
    "log_ratio": TimeLabel(lambda level: level.ratio.log(), pure_noise=False),
    "edm": TimeLabel(lambda level: level.ratio.log() / 4, pure_noise=False),
    "log_snr": TimeLabel(lambda level: -2 * level.ratio.log(), pure_noise=False),
}
"""Labels of noise levels by name.

- "index": index of the step, fractional between steps, as a floating-point number.
- "step": index of the nearest step, as an integer (for networks with a table of embeddings).
- "t": time of the continuous schedule.
- "sigma": scale of the noise in the state.
- "ratio": noise-to-signal ratio sigma / alpha.
- "log_ratio": its natural logarithm.
- "edm": a quarter of that (Karras et al. 2022).
- "log_snr": ln(alpha^2 / sigma^2).
"""
