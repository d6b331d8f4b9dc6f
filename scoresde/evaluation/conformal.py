r"""Per-pixel intervals with a guaranteed mean coverage: conformal risk control.

The interval of a pixel is :math:`[m - q s, m + q s]` with :math:`s = \sqrt{v + f^2}`, where m and v
are the mean and the variance of the posterior draws and f is a floor, all on [-1, 1]. The score of
a pixel is :math:`r = |x - m| / s`, so that the truth x lies within if and only if :math:`r \le q`.
The loss of a picture is the share of its pixels (in all channels) outside,
:math:`L_i(q) \in [0, 1]`, which decreases with q. Over n pictures

.. math:: q = \min\Big\{q : \frac{n}{n+1} \frac1n \sum_i L_i(q) + \frac{1}{n+1}
          \le 1 - \text{level}\Big\}

gives :math:`E[1 - L_{n+1}(q)] \ge \text{level}` for one more picture, whatever the prior, the
solver and the pictures are, if the n + 1 pictures are exchangeable and restored in the same way.
(Angelopoulos, Bates, Fisch, Lei and Schuster 2024, "Conformal risk control", theorem 1.) The
guarantee is for the average over pictures, not for each picture and not for each pixel.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import Any, Protocol

import torch
from torch import Tensor

from problems.reading.regular import read_text_file
from scoresde.errors import InputError
from scoresde.files import write_json

__all__ = [
    "FLOOR",
    "LEVELS",
    "Calibration",
    "ScoreTable",
    "check_level",
    "coverage",
    "interval",
    "mean_width",
    "pictures_needed",
    "pixel_scores",
    "spread",
]

LEVELS = (0.5, 0.68, 0.9, 0.95)
FLOOR = 1 / 255
_FORMAT = "scoresde.calibration/1"
_PIXELS = 1 << 16


class _Posterior(Protocol):
    """Posterior as an interval needs it; ``solvers.Posterior`` is one."""

    @property
    def mean(self) -> Tensor: ...

    @property
    def std(self) -> Tensor: ...


def check_level(level: float) -> Fraction:
    """Check the level of an interval and convert it to the decimal fraction that was written.

    Args:
        level: Nominal coverage, in (0, 1).

    Returns:
        The exact fraction: 0.9 becomes 9/10, which no float equals.

    Raises:
        ValueError: If the level is outside of (0, 1).

    Example:
        >>> check_level(0.9)
        Fraction(9, 10)
    """
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval must lie in (0, 1), got {level:g}")
    return Fraction(repr(float(level)))


def pictures_needed(level: float) -> int:
    """Compute the smallest number of pictures from which a level can be calibrated.

    Args:
        level: Nominal coverage, in (0, 1).

    Returns:
        Smallest n with (n + 1)(1 - level) >= 1; with fewer pictures no finite interval has that
        level.

    Raises:
        ValueError: If the level is outside of (0, 1).

    Example:
        >>> pictures_needed(0.9)
        9
    """
    return math.ceil(1 / (1 - check_level(level))) - 1


def spread(posterior: _Posterior, floor: float = FLOOR) -> Tensor:
    """Compute the scale s = sqrt(std^2 + floor^2) of the intervals.

    Args:
        posterior: Posterior with ``mean`` and ``std``, shape (B, C, H, W), on [-1, 1].
        floor: Floor of the standard deviation, on [-1, 1].

    Returns:
        Scale of each pixel, shape (B, C, H, W), float64, on [-1, 1].

    Raises:
        ValueError: If a standard deviation is not finite, as with fewer than two draws.
    """
    std = posterior.std.double()
    if not bool(std.isfinite().all()):
        raise ValueError("an interval needs a finite standard deviation, hence at least two draws")
    return (std.square() + floor**2).sqrt()


def pixel_scores(
    posterior: _Posterior,
    truth: Tensor,
    floor: float = FLOOR,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Compute the scores |truth - mean| / sqrt(std^2 + floor^2) of the pixels.

    Of pictures with more than 2^16 pixels (in all channels) a random 2^16 are used. The mean of
    their loss is the same, so the guarantee holds.

    Args:
        posterior: Posterior with ``mean`` and ``std``, shape (B, C, H, W), on [-1, 1].
        truth: True images, shape (B, C, H, W), on [-1, 1].
        floor: Floor of the standard deviation, on [-1, 1].
        generator: Source of the random numbers that choose the pixels; None for one with seed 0.

    Returns:
        Scores of each picture in ascending order, shape (B, m), float64, with m pixels per picture.

    Raises:
        ValueError: If a standard deviation is not finite, as with fewer than two draws.
    """
    scores = ((truth - posterior.mean).double().abs() / spread(posterior, floor)).flatten(1)
    if scores.shape[1] > _PIXELS:
        generator = generator or torch.Generator().manual_seed(0)
        chosen = torch.randperm(scores.shape[1], generator=generator)[:_PIXELS]
        scores = scores[:, chosen.to(scores.device)]
    return scores.sort(1).values


@dataclass(frozen=True)
class ScoreTable:
    """Scores of the pixels of n pictures.

    All results are exact: shares are rational numbers, and the smallest q is searched among the
    scores, the only values at which the loss changes.

    Args:
        pictures: Scores of each picture, shape (m,), as :func:`pixel_scores` gives them; m may
            differ.

    Raises:
        ValueError: If there are no pictures, or a picture has no scores or scores that are not
            finite.
    """

    pictures: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        if not self.pictures or any(
            x.ndim != 1 or not len(x) or not bool(x.isfinite().all()) for x in self.pictures
        ):
            raise ValueError("a table of scores needs pictures, each with a row of finite scores")
        object.__setattr__(self, "pictures", tuple(x.double().sort().values for x in self.pictures))

    def __len__(self) -> int:
        return len(self.pictures)

    @cached_property
    def _candidates(self) -> Tensor:
        return torch.cat(self.pictures).unique()

    def total_loss(self, q: float, among: Sequence[int] | None = None) -> Fraction:
        """Sum the losses L_i(q) of the pictures.

        Args:
            q: Half-width of the intervals in units of their scale.
            among: Indices of the pictures that are used; None for all.

        Returns:
            The exact sum of the shares of the pixels with a score above q.
        """
        # number of pixels -> number of pixels outside, summed over the pictures of that size
        outside: dict[int, int] = {}
        for i in range(len(self)) if among is None else among:
            scores = self.pictures[i]
            outside[len(scores)] = (
                outside.get(len(scores), 0)
                + len(scores)
                - int(torch.searchsorted(scores, q, right=True))
            )
        return sum((Fraction(count, size) for size, count in outside.items()), Fraction(0))

    def coverage(self, q: float, among: Sequence[int] | None = None) -> float:
        """Compute the mean share of the pixels of a picture with a score of at most q.

        Args:
            q: Half-width of the intervals in units of their scale.
            among: Indices of the pictures that are used; None for all.

        Returns:
            Mean coverage, in [0, 1].
        """
        n = len(self) if among is None else len(among)
        return float(1 - self.total_loss(q, among) / n)

    def scale(self, level: float, among: Sequence[int] | None = None) -> float:
        """Compute the smallest q that conformal risk control allows.

        Args:
            level: Nominal coverage, in (0, 1).
            among: Indices of the pictures that are used; None for all.

        Returns:
            Half-width q of the intervals in units of their scale.

        Raises:
            ValueError: If the level is outside of (0, 1) or there are too few pictures for it.
        """
        n = len(self) if among is None else len(among)
        budget = (n + 1) * (1 - check_level(level)) - 1  # largest allowed sum of the losses
        if budget < 0:
            raise ValueError(
                f"a level of {level:g} needs at least {pictures_needed(level)} pictures, "
                f"there {'is' if n == 1 else 'are'} {n}; give more pictures or a lower level"
            )
        low, high = 0, len(self._candidates) - 1  # the last candidate has no loss
        while low < high:
            middle = (low + high) // 2
            if self.total_loss(float(self._candidates[middle]), among) <= budget:
                high = middle
            else:
                low = middle + 1
        return float(self._candidates[low])

    def held_out(self, level: float) -> float | None:
        """Compute the leave-one-out coverage: each picture with the scale from all others.

        Args:
            level: Nominal coverage, in (0, 1).

        Returns:
            Mean coverage over the pictures; None if n - 1 pictures are too few for the level.

        Raises:
            ValueError: If the level is outside of (0, 1).
        """
        if len(self) - 1 < pictures_needed(level):
            return None
        everyone = range(len(self))
        return sum(
            self.coverage(self.scale(level, [*everyone[:i], *everyone[i + 1 :]]), [i])
            for i in everyone
        ) / len(self)


@dataclass(frozen=True)
class Calibration:
    """Scales of the intervals of one procedure, from pictures with known truth.

    Args:
        levels: Nominal coverages, each in (0, 1) and given once.
        scales: Half-width q of the intervals at each level, in units of their scale, 0 or more.
        pictures: Number of pictures of the calibration, at least 1.
        size: Height and width of these pictures.
        floor: Floor of the standard deviation, above 0, on [-1, 1].
        procedure: Problem, sigma, prior, solver, steps and samples as plain JSON values. The
            calibration holds only for this procedure.

    Raises:
        ValueError: If a level, a scale, the floor, the number of pictures or the size is invalid.

    Example:
        >>> import torch
        >>> from scoresde.evaluation import Calibration
        >>> from scoresde.evaluation.conformal import ScoreTable
        >>> generator = torch.Generator().manual_seed(0)
        >>> scores = tuple(torch.randn(1000, generator=generator).abs() for _ in range(50))
        >>> calibration = Calibration.fit(ScoreTable(scores), size=(25, 40), levels=(0.9,))
        >>> round(calibration.scale(0.9), 1)  # a little above the normal quantile 1.645
        1.7
    """

    levels: tuple[float, ...]
    scales: tuple[float, ...]
    pictures: int
    size: tuple[int, int]
    floor: float = FLOOR
    procedure: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for level in self.levels:
            check_level(level)
        if (
            not self.levels
            or len(self.levels) != len(self.scales)
            or len(set(self.levels)) != len(self.levels)
        ):
            raise ValueError(
                "a calibration needs one scale for each of its levels, and each level once"
            )
        if not all(math.isfinite(q) and q >= 0 for q in self.scales):
            raise ValueError(
                f"the scales of a calibration must be finite and not negative, got {self.scales}"
            )
        if (
            not (math.isfinite(self.floor) and self.floor > 0)
            or self.pictures < 1
            or len(self.size) != 2
        ):
            raise ValueError(
                "a calibration needs a floor above 0, at least one picture, a height and a width"
            )

    @classmethod
    def fit(
        cls,
        table: ScoreTable,
        size: tuple[int, int],
        levels: Sequence[float] = LEVELS,
        floor: float = FLOOR,
        procedure: dict[str, Any] | None = None,
    ) -> "Calibration":
        """Calibrate from the scores of pictures.

        Args:
            table: Scores of the pictures, made with the same floor.
            size: Height and width of the pictures.
            levels: Nominal coverages, each in (0, 1).
            floor: Floor of the standard deviation with which the scores were made, on [-1, 1].
            procedure: Description of the procedure as plain JSON values; None for an empty one.

        Returns:
            The calibration.

        Raises:
            ValueError: If there are too few pictures for a level, or a level is invalid.
        """
        return cls(
            tuple(levels),
            tuple(table.scale(level) for level in levels),
            len(table),
            size,
            floor,
            procedure or {},
        )

    def scale(self, level: float) -> float:
        """Look up the scale of a level.

        Args:
            level: One of the levels of the calibration.

        Returns:
            Half-width q of the intervals in units of their scale.

        Raises:
            ValueError: If the calibration does not have the level.
        """
        for known, scale in zip(self.levels, self.scales, strict=True):
            if math.isclose(known, level, rel_tol=1e-12):
                return scale
        raise ValueError(
            f"the calibration has the levels {', '.join(f'{known:g}' for known in self.levels)}, "
            f"not {level:g}"
        )

    def save(self, path: str | Path) -> None:
        """Write the calibration as JSON, with all digits.

        Args:
            path: Path of the file.

        Raises:
            InputError: If the file cannot be written.
        """
        write_json({"format": _FORMAT} | asdict(self), Path(path))

    @classmethod
    def load(cls, path: str | Path) -> "Calibration":
        """Read a calibration that :meth:`save` wrote.

        Args:
            path: Path of the file.

        Returns:
            The calibration.

        Raises:
            InputError: If the file cannot be read or is not a valid calibration.
        """
        try:
            content = json.loads(read_text_file(Path(path)))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(
                f"cannot read the calibration {path}: {getattr(error, 'strerror', None) or error}"
            ) from None
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise InputError(
                f"{path} is not a calibration that this version reads "
                f"(it needs the format {_FORMAT!r})"
            )
        try:
            height, width = (int(side) for side in content["size"])
            return cls(
                tuple(float(level) for level in content["levels"]),
                tuple(float(scale) for scale in content["scales"]),
                int(content["pictures"]),
                (height, width),
                float(content["floor"]),
                dict(content["procedure"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
            raise InputError(
                f"{path} is a broken calibration ({what}); make it again with `scoresde calibrate`"
            ) from None


def _half(posterior: _Posterior, level: float, calibration: Calibration | None) -> Tensor:
    if calibration is None:
        return NormalDist().inv_cdf(float((1 + check_level(level)) / 2)) * spread(posterior, 0.0)
    return calibration.scale(level) * spread(posterior, calibration.floor)


def interval(
    posterior: _Posterior, level: float, calibration: Calibration | None = None
) -> tuple[Tensor, Tensor]:
    """Compute the intervals of the pixels.

    Args:
        posterior: Posterior with ``mean`` and ``std``, shape (B, C, H, W), on [-1, 1].
        level: Nominal coverage, in (0, 1).
        calibration: Calibration of the procedure; None for the raw Gaussian interval, mean ±
            Phi^-1((1 + level) / 2) std.

    Returns:
        Lower and upper ends, each of shape (B, C, H, W), float64, on [-1, 1].

    Raises:
        ValueError: If the level is outside of (0, 1) or not one of the calibration, or there are
            fewer than two draws.
    """
    half = _half(posterior, level, calibration)
    return posterior.mean - half, posterior.mean + half


def mean_width(
    posterior: _Posterior, level: float, calibration: Calibration | None = None
) -> Tensor:
    """Compute the mean width of the intervals of each picture.

    Args:
        posterior: Posterior with ``mean`` and ``std``, shape (B, C, H, W), on [-1, 1].
        level: Nominal coverage, in (0, 1).
        calibration: Calibration of the procedure; None for the raw Gaussian interval, mean ±
            Phi^-1((1 + level) / 2) std.

    Returns:
        Mean width, shape (B,), on [-1, 1].

    Raises:
        ValueError: If the level is outside of (0, 1) or not one of the calibration, or there are
            fewer than two draws.
    """
    return 2 * _half(posterior, level, calibration).flatten(1).mean(1)


def coverage(
    posterior: _Posterior, truth: Tensor, level: float, calibration: Calibration | None = None
) -> Tensor:
    """Compute the share of the pixels of each picture whose interval contains the truth.

    Args:
        posterior: Posterior with ``mean`` and ``std``, shape (B, C, H, W), on [-1, 1].
        truth: True images, shape (B, C, H, W), on [-1, 1].
        level: Nominal coverage, in (0, 1).
        calibration: Calibration of the procedure; None for the raw Gaussian interval, mean ±
            Phi^-1((1 + level) / 2) std.

    Returns:
        Coverage over all channels, shape (B,), in [0, 1].

    Raises:
        ValueError: If the level is outside of (0, 1) or not one of the calibration, or there are
            fewer than two draws.
    """
    inside = (truth - posterior.mean).double().abs() <= _half(posterior, level, calibration)
    return inside.flatten(1).double().mean(1)
