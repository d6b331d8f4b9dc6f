"""What a check of a prior concludes: findings that need a change, and notes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.evaluation.prior_check.contest import Explanation
from scoresde.evaluation.prior_check.levels import LevelCheck
from scoresde.evaluation.prior_check.tests_of_means import LEVEL, surely_positive

__all__ = ["Finding", "level_words", "verdict"]

_TOLERANCE = 2.0
"""Factor by which a trained network may miss a variance that an exact denoiser predicts, and by
which a correction must lower its squared error to count. A network is not exact, and the samples
are not its training data, so a difference that chance excludes is no mistake by itself."""


@dataclass(frozen=True)
class Finding:
    """One finding.

    Args:
        kind: What it is about, one word: "range", "sigma", "prediction", "step", "channels",
            "error", "slope", "mean", "jacobian" or "calibration".
        text: One line that says what is wrong and what to do.
    """

    kind: str
    text: str


def level_words(check: LevelCheck) -> list[str]:
    """Say in a few words what stands out at a noise level, chance excluded.

    Args:
        check: The prior at one noise level.

    Returns:
        Words such as "worse than linear", for the table; none if all is as it should be.
    """
    return [words for _, words in _faults(check, LEVEL / _TESTS)]


_TESTS = 7  # of one level


def verdict(checks: Sequence[LevelCheck], explanation: Explanation | None) -> list[Finding]:
    """Draw the conclusion.

    Args:
        checks: The prior at each noise level, increasing.
        explanation: The mistake that explains the prior best; None if none does.

    Returns:
        The findings: the mistake alone if there is one, because it causes the others; else what is
        wrong at the noise levels; nothing if the prior is fine.
    """
    if explanation is not None:
        repair, most = explanation.repair, max(explanation.gains.values())
        return [
            Finding(
                repair.kind,
                f"{repair.mistake}; {repair.remedy} (the error falls by up to {most:.2g} dB, "
                f"{explanation.significance:.0f} standard errors)",
            )
        ]
    found: dict[str, tuple[str, list[float]]] = {}
    for check in checks:
        for kind, words in _faults(check, LEVEL / (_TESTS * len(checks))):
            found.setdefault(words, (kind, []))[1].append(check.s)
    return [
        Finding(kind, f"{words} at the noise levels {_list(levels, checks)}; {_REMEDIES[kind]}")
        for words, (kind, levels) in found.items()
    ]


_REMEDIES = {
    "error": "these levels are outside of its training, or the samples are not of its kind: give "
    "--images like its training data, or let the SDE of the prior end before these levels",
    "slope": "check the scale of the network's output",
    "mean": "check the range of its values",
    "jacobian": "that of a denoiser is symmetric and positive: methods that use it as a covariance "
    "(mmps, tmpd) cannot trust this one; prefer diffpir or hqs",
    "calibration": "uncertainties from this prior will be off by the root of the ratio; check the "
    "noise level that the network is told, or give --images like its training data",
}


def _faults(check: LevelCheck, level: float) -> list[tuple[str, str]]:
    """Kind and words of everything at one noise level that is wrong beyond chance."""
    if not bool(torch.isfinite(check.D).all()):
        return [("error", "it returns values that are not finite")]
    found = []
    if surely_positive(check.error - check.noise, level):
        found.append(("error", "it adds noise"))
    elif surely_positive(check.error - check.linear, level):
        found.append(("error", "it is worse than a linear filter"))
    if surely_positive(check.error / _TOLERANCE - check.rescaled, level):
        found.append(("slope", f"its residual is {1 / check.slope[0]:.2g} times what it should be"))
    if surely_positive(check.error / _TOLERANCE - check.centred, level):
        found.append(("mean", "its mean is wrong"))
    if check.trace is None or check.symmetric is None or check.antisymmetric is None:
        return found
    if surely_positive(-check.trace, level):
        found.append(("jacobian", "its Jacobian is negative"))
    elif _mostly_antisymmetric(check.antisymmetric, check.symmetric, level):
        found.append(("jacobian", "its Jacobian is more antisymmetric than symmetric"))
    if surely_positive(check.error - _TOLERANCE * check.trace, level):
        found.append(("calibration", "its error is more than twice its own variance"))
    elif surely_positive(check.trace / _TOLERANCE - check.error, level):
        found.append(("calibration", "its error is less than half its own variance"))
    return found


def _mostly_antisymmetric(antisymmetric: Tensor, symmetric: Tensor, level: float) -> bool:
    """F test of |A|^2 > |S|^2: both products are normal for random vectors of many entries."""
    from scipy.stats import f as fisher  # slow to import

    ratio = float(antisymmetric.square().sum() / symmetric.square().sum())
    return ratio > float(fisher.isf(level, len(symmetric), len(symmetric)))


def _list(levels: list[float], checks: Sequence[LevelCheck]) -> str:
    if len(levels) == len(checks):
        return f"{levels[0]:.3g} to {levels[-1]:.3g} (all)"
    return ", ".join(f"{s:.3g}" for s in levels)
