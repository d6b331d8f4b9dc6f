r"""Times at which a sampler evaluates the denoiser on its way from noise to data.

A grid is chosen in the noise-to-signal ratio :math:`s = \sigma/\alpha`, so that it means the same
under every SDE.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from problems.checks import check_choice, check_number
from scoresde.priors.base import Prior
from scoresde.sde import SDE
from solvers.scale import OfData, Scale

__all__ = ["MOST_STEPS", "TimeGrid", "check_steps", "time_at"]

Spacing = Literal["karras", "log_snr", "uniform"]
MOST_STEPS = 10**7  # of steps: more could not be carried out
_STEEPEST = 1000.0  # of rho: "log_snr" is the limit of large ones


@dataclass(frozen=True)
class TimeGrid:
    r"""Decreasing times at which a sampler evaluates the denoiser.

    The times lead from t_max of the SDE, or the time at which s_max is reached, to t_min, or the
    time at which s_min is reached. Samplers start from :math:`N(0, \sigma^2 I)` at the first time
    and return the denoised image after the last, so s_max should be many times the spread of the
    data, and s_min below the finest detail that matters.

    Args:
        spacing: "karras": :math:`s_i = (a + \tfrac{i}{n-1}(b - a))^\rho` with
            :math:`a = s_{max}^{1/\rho}` and :math:`b = s_{min}^{1/\rho}` (Karras et al. 2022,
            eq. 5); "log_snr": uniform in ln s; "uniform": uniform in the time of the SDE.
        rho: Exponent of the "karras" spacing, positive.
        s_max: Largest noise-to-signal ratio; None, or a value above that of the SDE at t_max, for
            that of the SDE.
        s_min: Smallest noise-to-signal ratio; None, or a value below that of the SDE at t_min, for
            that of the SDE.
        finest: Largest s_min in units of :math:`\sigma_y/\|A\|`, the width of the likelihood in the
            direction that a measurement determines best: with ``finest`` f a solver that ends with
            a denoised mean omits at most the share :math:`f^2/(1 + f^2)` of the variance there.
            None for no such bound.

    s_max and s_min are in the units of the data, or multiples of their standard deviation
    (:class:`solvers.scale.OfData`). Solvers and samplers replace these by numbers, see ``fitted``.

    Raises:
        ValueError: If the spacing is unknown, rho is not in (0, 1000], finest is not positive, or
            0 < s_min < s_max does not hold.

    Example:
        >>> from scoresde import VESDE, VPSDE
        >>> from solvers import TimeGrid
        >>> grid = TimeGrid("log_snr", s_max=10.0, s_min=0.1)
        >>> [round(s, 3) for s in grid.levels(VPSDE(), 3)]
        [10.0, 1.0, 0.1, 0.0]
        >>> [round(s, 3) for s in grid.levels(VESDE(), 3)]
        [10.0, 1.0, 0.1, 0.0]
    """

    spacing: Spacing = "karras"
    rho: float = 7.0
    s_max: float | None = None
    s_min: float | None = None
    finest: float | None = None

    def __post_init__(self) -> None:
        check_choice("spacing", self.spacing, Spacing)
        check_number(self.rho, "rho", above=0, most=_STEEPEST)
        for name in ("s_max", "s_min"):
            if getattr(self, name) is not None and getattr(self, name) != math.inf:
                check_number(getattr(self, name), name)
        low, high = (
            0.0 if self.s_min is None else self.s_min,
            math.inf if self.s_max is None else self.s_max,
        )
        if not (low < high and (self.s_min is None or low > 0)):
            raise ValueError(f"a grid needs 0 < s_min < s_max, got {self.s_min} and {self.s_max}")
        if self.finest is not None:
            check_number(self.finest, "finest", above=0)

    def fitted(self, scale: Scale) -> "TimeGrid":
        """Replace what is in units of the data or of the measurement by numbers.

        A first level in units of the data is raised to half as many standard deviations of the
        direction in which they vary most, where that is known. Levels in units of the data and
        of the measurement stay within those that a network was trained on.

        Args:
            scale: Lengths of the prior and of the measurement.

        Returns:
            A grid in the units of x; this one if it is one.
        """
        if self.finest is None and not (
            isinstance(self.s_max, OfData) or isinstance(self.s_min, OfData)
        ):
            return self
        s_max, s_min = self.s_max, self.s_min
        lowest, highest = scale.trained
        if isinstance(s_max, OfData):
            s_max = min(max(s_max.times(scale.data), s_max.times(scale.widest) / 2), highest)
        if isinstance(s_min, OfData):
            s_min = max(s_min.times(scale.data), lowest)
        if self.finest is not None:
            least = math.inf if s_min is None else s_min
            s_min = max(min(least, self.finest * scale.measured), lowest)
            s_min = None if math.isinf(s_min) else s_min
        return replace(self, s_max=s_max, s_min=s_min, finest=None)

    def times(self, sde: SDE, n: int) -> Tensor:
        """Compute the times of the grid.

        Args:
            sde: Forward process whose time is used.
            n: Number of times, at least 1.

        Returns:
            Decreasing times, shape (n,), float64.

        Raises:
            ValueError: If n < 1, or s_max and s_min lie outside of the SDE's noise levels.
        """
        n = check_steps(n)
        ends = self._ends(sde)
        ramp = torch.linspace(0, 1, n, dtype=torch.float64)
        if self.spacing == "uniform":
            times = torch.lerp(ends[0], ends[1], ramp)
        elif self.spacing == "log_snr":
            first, last = sde.log_snr(ends)
            times = sde.t_from_log_snr(torch.lerp(first, last, ramp))
        else:
            first, last = sde.noise_to_signal(ends) ** (1 / self.rho)
            times = sde.t_from_noise_to_signal(torch.lerp(first, last, ramp) ** self.rho)
        times[0] = ends[0]  # rounding must not leave the interval
        if n > 1:
            times[-1] = ends[1]
        return times

    def levels(self, sde: SDE, n: int) -> list[float]:
        """Compute the noise-to-signal ratios of the times, and 0, which is that of the data.

        Args:
            sde: Forward process.
            n: Number of times, at least 1.

        Returns:
            n + 1 decreasing ratios, of which the last is 0; they bound n steps.
        """
        return [*sde.noise_to_signal(self.times(sde, n)).tolist(), 0.0]

    def along(self, prior: Prior, n: int) -> tuple[Tensor, list[float]]:
        """Compute the times and noise levels at which a solver evaluates a prior.

        Args:
            prior: Prior whose SDE, dtype and device are used.
            n: Number of times, at least 1.

        Returns:
            The n times, shape (n,), in the prior's dtype and on its device, and the n + 1
            noise-to-signal ratios of ``levels``.
        """
        times = self.times(prior.sde, n)
        return times.to(dtype=prior.dtype, device=prior.device), [
            *prior.sde.noise_to_signal(times).tolist(),
            0.0,
        ]

    def _ends(self, sde: SDE) -> Tensor:
        if isinstance(self.s_max, OfData) or isinstance(self.s_min, OfData):
            raise ValueError(
                "this grid is in units of the data; solvers know them, elsewhere call "
                f"fitted(Scale(prior)) of solvers.scale first, got {self}"
            )
        ends = torch.tensor([sde.t_max, sde.t_min], dtype=torch.float64)
        limits = sde.noise_to_signal(ends)
        if not (self.s_max is None or self.s_max > float(limits[1])) or not (
            self.s_min is None or self.s_min < float(limits[0])
        ):
            raise ValueError(
                f"the grid should lie between s_min = {self.s_min} and s_max = {self.s_max}, but "
                f"the SDE has levels from {float(limits[1]):.3g} to {float(limits[0]):.3g}"
            )
        for i, s in enumerate((self.s_max, self.s_min)):
            if s is not None and float(limits[1]) < s < float(limits[0]):
                ends[i] = sde.t_from_noise_to_signal(torch.tensor(s, dtype=torch.float64))
        return ends


def check_steps(n: int) -> int:
    """Check a number of steps.

    Args:
        n: Number of steps.

    Returns:
        The number as a plain int.

    Raises:
        ValueError: If it is no whole number between 1 and 10^7.

    Example:
        >>> check_steps(40)
        40
    """
    return int(check_number(n, "the number of steps", least=1, most=MOST_STEPS, whole=True))


def time_at(prior: Prior, s: Tensor) -> Tensor:
    """Compute the times at which a prior has given noise-to-signal ratios.

    Args:
        prior: Prior whose SDE, dtype and device are used.
        s: Noise-to-signal ratios, any shape. The times are computed in float64.

    Returns:
        Times, shape of s, in the prior's dtype and on its device.

    Example:
        >>> import torch
        >>> from scoresde import EDMSDE, GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(2), torch.eye(2), EDMSDE())
        >>> time_at(prior, torch.tensor([0.5]))
        tensor([0.5000], dtype=torch.float64)
    """
    t: Tensor = prior.sde.t_from_noise_to_signal(s.double())
    return t.to(dtype=prior.dtype, device=prior.device)
