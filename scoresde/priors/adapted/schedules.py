r"""Noise schedules of networks.

A schedule connects three things: the log signal-to-noise ratio
:math:`\lambda = \ln(\alpha^2/\sigma^2)`, its own time variable (t, or the index of a step), and the
scales :math:`\alpha` and :math:`\sigma` of data and noise in what the network sees. Everything is
computed in float64: there is one value per sample.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from problems.checks import check_choice
from scoresde.priors.adapted.times import Level
from scoresde.sde import SDE, sde_from

__all__ = [
    "DiscreteSchedule",
    "FunctionSchedule",
    "SDESchedule",
    "Schedule",
    "schedule_from",
    "schedule_of",
]

_BISECTIONS = 64  # halvings of an interval of time: below the spacing of numbers in float64


class Schedule(ABC):
    """Base class of schedules; see the module for what they connect."""

    discrete: bool = False

    @property
    @abstractmethod
    def ends(self) -> tuple[float, float]:
        """Smallest and largest noise-to-signal ratio of the schedule."""

    @abstractmethod
    def level(self, log_snr: Tensor) -> Level:
        """Find the level of a log signal-to-noise ratio.

        Args:
            log_snr: Log signal-to-noise ratios, float64, shape (B,). Those outside of the
                schedule get the position of its nearest end.

        Returns:
            Position, alpha and sigma, float64, (B,). Alpha and sigma have the given ratio also
            outside of the schedule.
        """

    def rounded(self, log_snr: Tensor) -> Tensor:
        """Round log signal-to-noise ratios to those of the nearest steps.

        Args:
            log_snr: Log signal-to-noise ratios, float64, shape (B,).

        Returns:
            The ratios of the nearest steps, shape (B,); the ratios themselves for a continuous
            schedule.
        """
        return log_snr

    @property
    def pure_noise(self) -> bool:
        """Whether the schedule has a level without any signal."""
        level = self.level(torch.full((1,), -math.inf, dtype=torch.float64))
        return all(
            bool(torch.isfinite(v).all()) for v in (level.position, level.alpha, level.sigma)
        )

    def describe(self) -> dict[str, Any]:
        """Describe the schedule by plain values.

        Returns:
            A dictionary from which :func:`schedule_from` makes the same schedule.

        Raises:
            ValueError: If the schedule is made of functions, which have no description.
        """
        raise ValueError(
            f"a {type(self).__name__} is made of functions and cannot be written to a file; "
            "describe it by one of the SDEs of scoresde or by alphas_cumprod"
        )


@dataclass(frozen=True)
class SDESchedule(Schedule):
    """Schedule of an SDE of this package.

    Args:
        sde: The SDE; the position is its time.

    Example:
        >>> import torch
        >>> from scoresde import FlowMatchingSDE
        >>> from scoresde.priors.adapted import SDESchedule
        >>> level = SDESchedule(FlowMatchingSDE()).level(torch.zeros(1, dtype=torch.float64))
        >>> float(level.position), float(level.alpha)
        (0.5, 0.5)
    """

    sde: SDE

    @property
    def ends(self) -> tuple[float, float]:
        """Noise-to-signal ratios at t_min and t_max."""
        t = torch.tensor([self.sde.t_min, self.sde.t_max], dtype=torch.float64)
        low, high = self.sde.noise_to_signal(t).tolist()
        return low, high

    def level(self, log_snr: Tensor) -> Level:
        """Find the level of a log signal-to-noise ratio.

        Args:
            log_snr: Log signal-to-noise ratios, float64, shape (B,).

        Returns:
            The time of the SDE, alpha and sigma, (B,).
        """
        t = self.sde.t_from_log_snr(log_snr)
        return Level(t, self.sde.alpha(t), self.sde.sigma(t))

    def describe(self) -> dict[str, Any]:
        """Describe the schedule by plain values.

        Returns:
            The description of the SDE, as ``{"sde": ...}``.
        """
        return {"sde": self.sde.describe()}


@dataclass(frozen=True)
class FunctionSchedule(Schedule):
    """Continuous schedule given by two functions of the time.

    The time of a noise level is found by bisection, to the last bits of float64.

    Args:
        alpha: Scale of the data at times of any shape, float64.
        sigma: Scale of the noise at times of any shape, float64.
        first: Time at one end.
        last: Time at the other end. The noise-to-signal ratio must be monotonic between them; it
            may rise or, as in flows whose time runs from noise to data, fall.

    Raises:
        ValueError: If the ratio is not strictly monotonic on a grid of times.

    Example:
        >>> import torch
        >>> from scoresde.priors.adapted import FunctionSchedule
        >>> schedule = FunctionSchedule(lambda t: t, lambda t: 1 - t, 0.0, 0.999)
        >>> level = schedule.level(torch.tensor([0.0], dtype=torch.float64))
        >>> round(float(level.position), 12)
        0.5
    """

    alpha: Callable[[Tensor], Tensor]
    sigma: Callable[[Tensor], Tensor]
    first: float = 0.0
    last: float = 1.0

    def __post_init__(self) -> None:
        values = self._log_snr(torch.linspace(self.first, self.last, 257, dtype=torch.float64))
        steps = values.diff()
        if bool(values.isnan().any()) or not (bool((steps < 0).all()) or bool((steps > 0).all())):
            raise ValueError(
                f"sigma / alpha must rise or fall strictly between t = {self.first:g} and "
                f"{self.last:g}; check the functions alpha and sigma and the ends of the time"
            )

    def _log_snr(self, t: Tensor) -> Tensor:
        alpha, sigma = self.alpha(t), self.sigma(t)
        return 2 * (alpha.double().log() - sigma.double().log())

    @property
    def ends(self) -> tuple[float, float]:
        """Noise-to-signal ratios at the two ends of the time, the smaller one first."""
        t = torch.tensor([self.first, self.last], dtype=torch.float64)
        low, high = sorted((-self._log_snr(t) / 2).exp().tolist())
        return low, high

    def level(self, log_snr: Tensor) -> Level:
        """Find the level of a log signal-to-noise ratio.

        Args:
            log_snr: Log signal-to-noise ratios, float64, shape (B,).

        Returns:
            Time, alpha and sigma, (B,). Outside of the schedule alpha and sigma keep the length
            sqrt(alpha^2 + sigma^2) of the nearest end.
        """
        ends = torch.tensor([self.first, self.last], dtype=torch.float64, device=log_snr.device)
        clean, noisy = ends if bool(self._log_snr(ends).diff() < 0) else ends.flip(0)
        low, high = clean.expand_as(log_snr), noisy.expand_as(log_snr)
        for _ in range(_BISECTIONS):
            t = (low + high) / 2
            beyond = self._log_snr(t) < log_snr
            low, high = torch.where(beyond, low, t), torch.where(beyond, t, high)
        # the loop never reaches an end exactly
        at_ends = self._log_snr(torch.stack([clean, noisy]))
        t = torch.where(log_snr >= at_ends[0], clean, (low + high) / 2)
        t = torch.where(log_snr <= at_ends[1], noisy, t)
        length = torch.hypot(self.alpha(t).double(), self.sigma(t).double())
        alpha, sigma = _preserving(log_snr)
        return Level(t, length * alpha, length * sigma)


@dataclass(frozen=True)
class DiscreteSchedule(Schedule):
    """Schedule of numbered noise levels, interpolated linearly in the log signal-to-noise ratio.

    Args:
        ratios: Noise-to-signal ratios of the steps, positive and increasing, at least two. The last
            one may be infinite (no signal left); a finite level beyond the last finite one then has
            the index of that one.
        preserving: True if alpha^2 + sigma^2 = 1 (variance preserving), False if alpha = 1
            (variance exploding).

    Raises:
        ValueError: If the ratios are fewer than two, not positive or not increasing.

    Example:
        >>> import torch
        >>> from scoresde.priors.adapted import DiscreteSchedule
        >>> schedule = DiscreteSchedule.from_alphas_cumprod([0.99, 0.5, 0.01])
        >>> level = schedule.level(torch.zeros(1, dtype=torch.float64))  # alpha^2 = sigma^2
        >>> float(level.position), round(float(level.alpha) ** 2, 12)
        (1.0, 0.5)
    """

    ratios: tuple[float, ...]
    preserving: bool = True

    discrete = True

    def __post_init__(self) -> None:
        s = self.ratios
        rising = all(a < b for a, b in itertools.pairwise(s))
        if len(s) < 2 or not (s[0] > 0 and rising) or math.isinf(s[-2]):
            raise ValueError(
                "the noise levels of a discrete schedule are at least two, positive and strictly "
                f"increasing, got {len(s)} from {s[0] if s else None} to {s[-1] if s else None}; "
                "check that alphas_cumprod falls from step to step"
            )

    @classmethod
    def from_alphas_cumprod(cls, alphas_cumprod: Sequence[float] | Tensor) -> "DiscreteSchedule":
        """Make the schedule of a DDPM from the cumulative products of 1 - beta.

        Args:
            alphas_cumprod: Values of alpha^2 of all steps, between 0 and 1, decreasing; the last
                one may be 0 (zero terminal signal-to-noise ratio, Lin et al. 2024).

        Returns:
            The variance-preserving schedule.

        Raises:
            ValueError: If a value is outside of [0, 1) or the values do not decrease.
        """
        a = torch.as_tensor(alphas_cumprod, dtype=torch.float64).detach().cpu().flatten()
        if not bool(((a >= 0) & (a < 1)).all()):
            raise ValueError("alphas_cumprod must lie in [0, 1)")
        return cls(tuple(((1 - a) / a).sqrt().tolist()))

    @classmethod
    def from_betas(cls, betas: Sequence[float] | Tensor) -> "DiscreteSchedule":
        """Make the schedule of a DDPM from its noise rates.

        Args:
            betas: Noise rates of all steps, in (0, 1]; 1 at the last step alone.

        Returns:
            The variance-preserving schedule.

        Raises:
            ValueError: If a rate is outside of (0, 1].
        """
        beta = torch.as_tensor(betas, dtype=torch.float64).detach().cpu().flatten()
        if not bool(((beta > 0) & (beta <= 1)).all()):
            raise ValueError("noise rates must lie in (0, 1]")
        # 1 - prod(1 - beta) without cancellation
        total = torch.log1p(-beta).cumsum(0)
        return cls(tuple(torch.expm1(-total).sqrt().tolist()))

    @property
    def ends(self) -> tuple[float, float]:
        """Noise-to-signal ratios of the first and of the last step."""
        return self.ratios[0], self.ratios[-1]

    def _table(self, like: Tensor) -> Tensor:
        ratios = torch.tensor(self.ratios, dtype=torch.float64, device=like.device)
        return -2 * ratios.log()

    def level(self, log_snr: Tensor) -> Level:
        """Find the level of a log signal-to-noise ratio.

        Args:
            log_snr: Log signal-to-noise ratios, float64, shape (B,).

        Returns:
            Fractional index of the step, alpha and sigma, (B,).
        """
        table = self._table(log_snr)
        # the last step whose log-SNR is at least the wanted one
        # (counted: ONNX has no sorted search)
        i = ((table >= log_snr[..., None]).sum(-1) - 1).clamp(0, len(table) - 2)
        # against the last step of infinite noise this is 0, and NaN at that step itself
        weight = ((log_snr - table[i]) / (table[i + 1] - table[i])).nan_to_num(nan=1.0)
        position = i + weight.clamp(0, 1)
        alpha, sigma = _preserving(log_snr)
        if not self.preserving:
            alpha, sigma = torch.ones_like(alpha), (-log_snr / 2).exp()
        return Level(position, alpha, sigma)

    def rounded(self, log_snr: Tensor) -> Tensor:
        """Round log signal-to-noise ratios to those of the nearest steps.

        Args:
            log_snr: Log signal-to-noise ratios, float64, shape (B,).

        Returns:
            The ratios of the steps whose indices are nearest, shape (B,).
        """
        return self._table(log_snr)[self.level(log_snr).position.round().long()]

    def describe(self) -> dict[str, Any]:
        """Describe the schedule by plain values.

        Returns:
            Ratios (an infinite one as None) and whether the variance is preserved.
        """
        finite = [s if math.isfinite(s) else None for s in self.ratios]
        return {"ratios": finite, "preserving": self.preserving}


def _preserving(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """Scales with alpha^2 + sigma^2 = 1."""
    return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()


def schedule_of(given: object) -> Schedule:
    """Make a schedule of what describes one.

    Args:
        given: A schedule, an SDE, a tensor or sequence of alphas_cumprod, or a pair of functions
            (alpha, sigma) of t in [0, 1].

    Returns:
        The schedule.

    Raises:
        ValueError: If it is none of these.

    Example:
        >>> import torch
        >>> from scoresde.priors.adapted import schedule_of
        >>> schedule_of(torch.linspace(0.999, 0.01, 1000)).discrete
        True
    """
    if isinstance(given, Schedule):
        return given
    if isinstance(given, SDE):
        return SDESchedule(given)
    if isinstance(given, Tensor | np.ndarray):
        return DiscreteSchedule.from_alphas_cumprod(torch.as_tensor(given))
    if isinstance(given, list | tuple):
        if len(given) == 2 and callable(given[0]) and callable(given[1]):
            return FunctionSchedule(given[0], given[1])
        if given and all(isinstance(v, int | float) for v in given):
            return DiscreteSchedule.from_alphas_cumprod(given)
    raise ValueError(
        "a schedule is an SDE of scoresde, a tensor of alphas_cumprod, a pair of functions "
        f"(alpha, sigma) of t in [0, 1], or a FunctionSchedule; got {type(given).__name__}"
    )


def schedule_from(description: dict[str, Any]) -> Schedule:
    """Build a schedule from its description.

    Args:
        description: What :meth:`Schedule.describe` returned.

    Returns:
        The schedule.

    Raises:
        ValueError: If the description is not that of a schedule.

    Example:
        >>> from scoresde import VPSDE
        >>> from scoresde.priors.adapted import SDESchedule, schedule_from
        >>> schedule_from(SDESchedule(VPSDE()).describe()) == SDESchedule(VPSDE())
        True
    """
    if not isinstance(description, dict):
        raise ValueError(f"a schedule is described by a dictionary, got {description!r:.80}")
    if set(description) == {"sde"}:
        return SDESchedule(sde_from(description["sde"]))
    check_choice(
        "description of a schedule",
        "ratios" if "ratios" in description else str(sorted(description)),
        ("sde", "ratios"),
    )
    try:
        ratios = tuple(math.inf if s is None else float(s) for s in description["ratios"])
    except (TypeError, ValueError):
        raise ValueError("the noise levels of a schedule must be a list of numbers") from None
    return DiscreteSchedule(ratios, bool(description.get("preserving", True)))
