r"""Which mistake explains a prior best: a comparison of its error with that of each repair.

No function of u has a smaller mean squared error than E[x_0|u], and the error x_0 - E[x_0|u] is
orthogonal to every function of u. So if the prior P is right, its repair R is worse and
:math:`E[(x_0 - P) \cdot (R - P)] = 0`. If a mistake has been made, its repair has the smallest
error of all at every noise level, and the product has the mean :math:`E|R - P|^2`. It has half the
standard error of the difference of the squared errors. The tests take samples as independent:

- a repair is dropped at the first level where it is worse than the prior on one half of the
  samples (Student's test, ``DROPPED`` for both halves together);
- of the rest those count whose product, summed over the levels, is positive (Student's test at
  ``LEVEL`` over the number of repairs) and at least half of what it is if the repair is right. A
  level has the weight :math:`E|R - P|^2` over the variance of the product, as in a least-squares
  fit of the product to its mean;
- with the repair the error must not be larger than that of a linear filter (Student's test,
  ``DROPPED``), which no exact denoiser's is; else the repair helps, but does not explain. A coarse
  repair, such as a shift by about 64 steps, gives way to the finer ones near it beforehand;
- a repair must lower the error by ``WORTH`` at some level;
- the winner is beaten by no other at the levels that both reach, by the sum of the t statistics of
  their differences in squared error.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.evaluation.prior_check.denoiser import Denoiser
from scoresde.evaluation.prior_check.levels import LevelCheck
from scoresde.evaluation.prior_check.repairs import Question, Repair
from scoresde.evaluation.prior_check.tests_of_means import LEVEL, surely_positive, t_statistic

__all__ = ["DROPPED", "WORTH", "Explanation", "best_repair"]

DROPPED = 1e-3
"""Probability that the right repair is dropped at a level."""

WORTH = 0.01
"""Share of the squared error by which a repair must lower it at some level. Trainings of the same
network differ by more, and a network is never exact: a smaller gain is no mistake."""

_FEWEST = 3
"""Levels that a repair must reach."""


@dataclass(frozen=True)
class Explanation:
    """The repair that explains a prior best.

    Args:
        repair: The repair.
        errors: Squared errors of the samples with the repair, (N,), by noise level.
        gains: Ratios of the mean squared errors without and with the repair, in decibels, by noise
            level.
        significance: Student's t of the products, N - 1 degrees of freedom.
    """

    repair: Repair
    errors: dict[float, Tensor]
    gains: dict[float, float]
    significance: float

    def beats(self, other: "Explanation") -> bool:
        """Compare with another repair.

        Args:
            other: The other repair.

        Returns:
            Whether the errors are smaller at the levels that both reach; False if there are none.
        """
        both = self.errors.keys() & other.errors.keys()
        return sum(t_statistic(other.errors[s] - self.errors[s]) for s in both) > 0


class _Answers:
    """Answers of the denoiser to the questions of repairs, computed once each.

    Args:
        denoiser: The prior.
        batch: Samples in the network at once.
    """

    def __init__(self, denoiser: Denoiser, batch: int) -> None:
        self.denoiser, self.batch = denoiser, batch
        self._of: str = ""
        self._known: dict[tuple[float, int], Tensor | None] = {}

    def to(self, question: Question | None, check: LevelCheck, some: slice) -> Tensor | None:
        """The answer for some samples of a level; None where the prior has no such level."""
        if question is None:
            return check.D[some]
        if question.name != self._of:  # repairs with the same question follow each other
            self._of, self._known = question.name, {}
        key = check.s, some.start
        if key not in self._known:
            self._known[key] = self._ask(question, check.u[some], check.s)
        return self._known[key]

    def _ask(self, question: Question, u: Tensor, s: float) -> Tensor | None:
        asked = question.asked(u, s)
        if asked is None or not self.denoiser.knows(asked[1]):
            return None
        with torch.no_grad():
            return torch.cat([self.denoiser(v, asked[1]) for v in asked[0].split(self.batch)])


def best_repair(
    denoiser: Denoiser,
    x0: Tensor,
    checks: Sequence[LevelCheck],
    candidates: Sequence[Repair],
    batch: int,
    progress: Callable[[float], None] | None = None,
) -> Explanation | None:
    """Find the repair that explains a prior best.

    Args:
        denoiser: The prior.
        x0: Clean samples, shape (N, ...).
        checks: The prior at each noise level.
        candidates: The repairs.
        batch: Samples in the network at once.
        progress: Called with the finished fraction of the work.

    Returns:
        The best repair that is better than the prior by more than chance allows; None if there is
        none.
    """
    answers, truth = _Answers(denoiser, batch), x0.double()
    level = LEVEL / len(candidates)
    found: list[Explanation] = []
    for i, repair in enumerate(candidates):
        one = _compare(answers, truth, checks, repair, level)
        found += [one] if one is not None else []
        if progress:
            progress((i + 1) / len(candidates))
    while (best := _unbeaten(found)) is not None and best.repair.finer is not None:
        # the other coarse repairs have lost to this one
        found = [one for one in found if one.repair.finer is None]
        finer = [_compare(answers, truth, checks, one, level) for one in best.repair.finer()]
        found += [one for one in finer if one is not None]
    return best


def _unbeaten(found: Sequence[Explanation]) -> Explanation | None:
    """The repair that the fewest others beat: the right one is beaten by none.

    Repairs that reach other levels cannot be compared, so to win often means nothing.
    """
    return min(found, key=lambda a: (sum(b.beats(a) for b in found), -a.significance), default=None)


def _compare(
    answers: _Answers, x0: Tensor, checks: Sequence[LevelCheck], repair: Repair, level: float
) -> Explanation | None:
    """The errors with a repair, if it is nowhere worse, and better as a whole."""
    total, expected = torch.zeros(len(x0), dtype=torch.float64, device=x0.device), 0.0
    errors: dict[float, Tensor] = {}
    gains: dict[float, float] = {}
    half = len(x0) // 2
    for check in checks:
        parts = []
        for some in (slice(0, half), slice(half, len(x0))):
            answer = answers.to(repair.question, check, some)
            if answer is None:
                break
            restored = repair.repaired(check.u[some].double(), check.s, answer.double())
            wrong, change = check.D[some].double() - x0[some], restored - check.D[some].double()
            error = (wrong + change).flatten(1).square().sum(1)
            if not bool(torch.isfinite(error).all()):
                return None
            # most repairs are far off, which the first half of the samples shows
            if surely_positive(error - check.error[some], DROPPED / 2):
                return None
            product, size = -(wrong * change).flatten(1).sum(1), change.flatten(1).square().sum(1)
            parts.append(torch.stack([error, product, size]))
        if len(parts) < 2:
            continue
        error, product, size = torch.cat(parts, 1)
        if repair.finer is None and surely_positive(error - check.linear, DROPPED):
            return None
        errors[check.s] = error
        gains[check.s] = 10 * math.log10(
            float(check.error.mean()) / max(float(error.mean()), 1e-30)
        )
        if (variance := float(product.var())) > 0:
            weight = float(size.mean()) / variance
            total += weight * product
            expected += weight * float(size.mean())
    if len(errors) < min(_FEWEST, len(checks)) or not surely_positive(total, level):
        return None
    if float(total.mean()) < expected / 2:  # half of the change would be better than all of it
        return None
    if max(gains.values()) < -10 * math.log10(1 - WORTH):
        return None
    return Explanation(repair, errors, gains, t_statistic(total))
