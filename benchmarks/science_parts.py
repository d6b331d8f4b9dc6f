"""What the parts of benchmarks/science.py share: errors, intervals, and their calibration."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from scipy.stats import t as student
from torch import Tensor

from scoresde.evaluation.conformal import (
    Calibration,
    ScoreTable,
    coverage,
    mean_width,
    pixel_scores,
)
from solvers import Posterior

__all__ = ["LEVEL", "Restored", "exact_coverage", "intervals", "rms", "seeded"]

LEVEL = 0.9


def seeded(seed: int) -> torch.Generator:
    """A generator on the CPU."""
    return torch.Generator().manual_seed(seed)


def rms(errors: Sequence[Tensor]) -> float:
    """The root of the mean square over all entries."""
    return float(torch.cat([e.double().flatten() for e in errors]).square().mean().sqrt())


def exact_coverage(draws: int) -> float:
    """How often mean ± 1.645 std of so many independent normal draws holds one more draw.

    The truth less the mean has the variance 1 + 1/n, and their ratio to std is Student's t.
    """
    half = float(torch.distributions.Normal(0.0, 1.0).icdf(torch.tensor((1 + LEVEL) / 2)))
    return float(2 * student.cdf(half / (1 + 1 / draws) ** 0.5, draws - 1) - 1)


@dataclass(frozen=True)
class Restored:
    """The draws of one picture and its truth, at the pixels that are judged, in the prior's units.

    Args:
        draws: Draws (n, pixels).
        truth: Truth (pixels,).
        seconds: Wall time of the draws.
    """

    draws: Tensor
    truth: Tensor
    seconds: float

    @property
    def posterior(self) -> Posterior:
        """The draws with their mean and spread, one measurement of one channel."""
        return Posterior(self.draws[:, None, None], 0, 0, self.seconds)


def intervals(restored: Sequence[Restored], scale: float) -> dict[str, float]:
    """Coverage and width of 90 % intervals, raw and calibrated on all other pictures.

    Args:
        restored: Pictures; each is judged by the calibration of the others.
        scale: Physical units for each unit of the prior.

    Returns:
        Mean coverages, and mean widths in physical units.
    """
    scores = [pixel_scores(one.posterior, one.truth[None, None])[0] for one in restored]
    table = ScoreTable(tuple(scores))
    everyone = range(len(restored))
    factors = [table.scale(LEVEL, [j for j in everyone if j != i]) for i in everyone]

    def mean(values: Iterable[float | Tensor]) -> float:
        return sum(float(value) for value in values) / len(restored)

    raw = [mean_width(one.posterior, LEVEL) for one in restored]
    made = [Calibration((LEVEL,), (q,), len(restored) - 1, (0, 0)) for q in factors]
    pairs = list(zip(restored, made, strict=True))
    return {
        "raw": mean(coverage(one.posterior, one.truth[None, None], LEVEL) for one in restored),
        "raw width": scale * mean(raw),
        "calibrated": mean(table.coverage(q, [i]) for i, q in enumerate(factors)),
        "calibrated width": scale * mean(mean_width(one.posterior, LEVEL, c) for one, c in pairs),
        "factor": mean(factors),
    }
