r"""Per-pixel intervals that hold the truth as often as they say: conformal risk control.

The interval of a pixel is :math:`[m - q s, m + q s]` with :math:`s = \sqrt{v + f^2}`: m and v the mean and the variance of the posterior
draws, f a floor, all on [-1, 1]. Its score is :math:`r = |x - m| / s`, so that the truth x lies within if and only if :math:`r \le q`. The
loss of a picture is the share of its pixels (in all channels) outside, :math:`L_i(q) \in [0, 1]`, which falls with q. Over n pictures

.. math:: q = \min\Big\{q : \frac{n}{n+1} \frac1n \sum_i L_i(q) + \frac{1}{n+1} \le 1 - \text{level}\Big\}

gives :math:`E[1 - L_{n+1}(q)] \ge \text{level}` for one more picture, whatever the prior, the solver and the pictures are, if only the
n + 1 are exchangeable and restored in one and the same way. (Angelopoulos, Bates, Fisch, Lei and Schuster 2024, "Conformal risk control",
theorem 1.) It is a promise for the average over pictures, not for each picture and not for each pixel.
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
    """What an interval asks of a posterior (``solvers.Posterior`` is one): both (B, ...), over the draws."""

    @property
    def mean(self) -> Tensor: ...

    @property
    def std(self) -> Tensor: ...


def check_level(level: float) -> Fraction:
    """The level as the decimal number that was meant: 0.9 is 9/10, which no float is. ValueError outside (0, 1)."""
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval must lie in (0, 1), got {level:g}")
    return Fraction(repr(float(level)))


def pictures_needed(level: float) -> int:
    """The least n with (n + 1)(1 - level) >= 1: from fewer pictures no finite interval has that level."""
    return math.ceil(1 / (1 - check_level(level))) - 1


def spread(posterior: _Posterior, floor: float = FLOOR) -> Tensor:
    """s = sqrt(std^2 + floor^2) of each entry, (B, ...), float64, on [-1, 1]."""
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
    """|truth - mean| / sqrt(std^2 + floor^2) of each picture, ascending, (B, m), float64.

    m is the number of its pixels in all channels. Of more than 2^16 a picture, 2^16 drawn at random stand for all: their share outside has
    the same mean, so the guarantee stays. generator: for that draw, one with seed 0 by default.
    """
    scores = ((truth - posterior.mean).double().abs() / spread(posterior, floor)).flatten(1)
    if scores.shape[1] > _PIXELS:
        generator = generator or torch.Generator().manual_seed(0)
        chosen = torch.randperm(scores.shape[1], generator=generator)[:_PIXELS]
        scores = scores[:, chosen.to(scores.device)]
    return scores.sort(1).values


@dataclass(frozen=True)
class ScoreTable:
    """The scores of n pictures, each (m,) as :func:`pixel_scores` gives them; m may differ. Every answer is exact: shares are counted in
    rational numbers, and the least q is searched among the scores themselves, where alone the loss changes."""

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
        """sum_i L_i(q) over the pictures ``among`` (all by default)."""
        outside: dict[
            int, int
        ] = {}  # number of pixels -> how many lie outside, over the pictures of that size
        for i in range(len(self)) if among is None else among:
            scores = self.pictures[i]
            outside[len(scores)] = (
                outside.get(len(scores), 0)
                + len(scores)
                - int(torch.searchsorted(scores, q, right=True))
            )
        return sum((Fraction(count, size) for size, count in outside.items()), Fraction(0))

    def coverage(self, q: float, among: Sequence[int] | None = None) -> float:
        """Mean share of the pixels of a picture with a score of at most q."""
        n = len(self) if among is None else len(among)
        return float(1 - self.total_loss(q, among) / n)

    def scale(self, level: float, among: Sequence[int] | None = None) -> float:
        """The least q that conformal risk control allows, from the pictures ``among`` (all by default)."""
        n = len(self) if among is None else len(among)
        budget = (n + 1) * (1 - check_level(level)) - 1  # the sum of the losses may reach this
        if budget < 0:
            raise ValueError(
                f"a level of {level:g} needs at least {pictures_needed(level)} pictures, there {'is' if n == 1 else 'are'} {n}; "
                "give more pictures or a lower level"
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
        """Leave-one-out: the mean coverage of each picture by the scale of all others; None if those are too few for the level."""
        if len(self) - 1 < pictures_needed(level):
            return None
        everyone = range(len(self))
        return sum(
            self.coverage(self.scale(level, [*everyone[:i], *everyone[i + 1 :]]), [i])
            for i in everyone
        ) / len(self)


@dataclass(frozen=True)
class Calibration:
    """A factor ``scale`` for each level, from so many ``pictures``, for one ``procedure``: problem, sigma, prior, solver, steps, samples,
    as plain values. size: (height, width) of the pictures. floor: of the standard deviation, on [-1, 1]."""

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
                "a calibration has one scale for each of its levels, and each level once"
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
                "a calibration has a floor above 0, at least one picture, and a height and a width"
            )

    @classmethod
    def fit(
        cls, table: ScoreTable, size: tuple[int, int], levels: Sequence[float] = LEVELS, floor: float = FLOOR,
        procedure: dict[str, Any] | None = None,
    ) -> "Calibration":  # fmt: skip
        """From the scores of pictures, which were made with the same floor."""
        return cls(
            tuple(levels),
            tuple(table.scale(level) for level in levels),
            len(table),
            size,
            floor,
            procedure or {},
        )

    def scale(self, level: float) -> float:
        """q at one of the levels."""
        for known, scale in zip(self.levels, self.scales, strict=True):
            if math.isclose(known, level, rel_tol=1e-12):
                return scale
        raise ValueError(
            f"the calibration has the levels {', '.join(f'{known:g}' for known in self.levels)}, not {level:g}"
        )

    def save(self, path: str | Path) -> None:
        """Write JSON, every number to the bit."""
        write_json({"format": _FORMAT} | asdict(self), Path(path))

    @classmethod
    def load(cls, path: str | Path) -> "Calibration":
        """Read what :meth:`save` wrote; InputError says what is wrong with the file."""
        try:
            content = json.loads(Path(path).read_text())
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InputError(
                f"cannot read the calibration {path}: {getattr(error, 'strerror', None) or error}"
            ) from None
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise InputError(
                f"{path} is not a calibration that this version reads (it needs the format {_FORMAT!r})"
            )
        try:
            height, width = (int(side) for side in content["size"])
            return cls(
                tuple(float(level) for level in content["levels"]), tuple(float(scale) for scale in content["scales"]),
                int(content["pictures"]), (height, width), float(content["floor"]), dict(content["procedure"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
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
    """(lower, upper), each (B, ...), float64. Without a calibration the raw Gaussian one, mean ± Phi^-1((1 + level) / 2) std."""
    half = _half(posterior, level, calibration)
    return posterior.mean - half, posterior.mean + half


def mean_width(
    posterior: _Posterior, level: float, calibration: Calibration | None = None
) -> Tensor:
    """Mean length of the intervals of each picture, (B,), on [-1, 1]."""
    return 2 * _half(posterior, level, calibration).flatten(1).mean(1)


def coverage(
    posterior: _Posterior, truth: Tensor, level: float, calibration: Calibration | None = None
) -> Tensor:
    """Share of the pixels of each picture, in all channels, whose interval holds the truth, (B,)."""
    inside = (truth - posterior.mean).double().abs() <= _half(posterior, level, calibration)
    return inside.flatten(1).double().mean(1)
