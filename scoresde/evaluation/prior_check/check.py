"""A prior, looked over: its denoiser at many noise levels, and the mistakes that explain it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scoresde.evaluation.prior_check.contest import Explanation, best_repair
from scoresde.evaluation.prior_check.denoiser import Denoiser, noise_levels
from scoresde.evaluation.prior_check.levels import LevelCheck, examine
from scoresde.evaluation.prior_check.repairs import repairs
from scoresde.evaluation.prior_check.verdict import Finding, level_words, verdict
from scoresde.priors.base import Prior

__all__ = ["FEWEST_SAMPLES", "PriorCheck", "check_prior"]

FEWEST_SAMPLES = 8
"""Samples that a check needs: Student's test has little power with fewer."""


@dataclass(frozen=True)
class PriorCheck:
    """The result of a check.

    Args:
        levels: The prior at each noise level, increasing.
        explanation: The mistake that explains the prior best; None if none does.
        findings: What needs a change, each in one line; empty if the prior is fine.
    """

    levels: tuple[LevelCheck, ...]
    explanation: Explanation | None
    findings: tuple[Finding, ...]

    @property
    def fine(self) -> bool:
        """Whether there are no findings."""
        return not self.findings

    def rows(self) -> list[dict[str, Any]]:
        """Summarise the noise levels in plain values.

        Returns:
            For each level "s"; "error", "linear", the squared errors of the prior and of the
            linear filter over that of the noisy samples; "slope", "bias", "calibration" and their
            standard errors; "asymmetry" and "lowest", as :class:`LevelCheck` explains them, None
            where the prior cannot be differentiated; "words", what stands out.
        """
        return [_row(check) for check in self.levels]


def check_prior(
    prior: Prior,
    samples: Tensor,
    *,
    seed: int = 0,
    levels: int = 13,
    batch: int = 16,
    progress: Callable[[float], None] | None = None,
) -> PriorCheck:
    """Look a prior over.

    Args:
        prior: Prior to check, of any kind.
        samples: Samples like those of its training, in its units, shape (N, ...), N at least 8.
        seed: Seed of the random numbers.
        levels: Number of noise levels, at least 3.
        batch: Samples in the network at once.
        progress: Called with the finished fraction of the work.

    Returns:
        The result.

    Raises:
        ValueError: If there are too few samples or levels, the samples do not fit the prior, are
            not finite or all the same, or its noise levels do not suit them.

    Example:
        >>> import torch
        >>> from scoresde import GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(2), torch.eye(2))
        >>> samples = prior.sample(64, torch.Generator().manual_seed(0))
        >>> check_prior(prior, samples, levels=3).fine
        True
    """
    if len(samples) < FEWEST_SAMPLES:
        raise ValueError(
            f"a check needs at least {FEWEST_SAMPLES} samples, got {len(samples)}; give more"
        )
    if levels < 3:
        raise ValueError(f"a check needs at least 3 noise levels, got {levels}")
    prior.check_shape(tuple(samples.shape[1:]), "a sample")
    if not bool(torch.isfinite(samples).all()):
        raise ValueError("the samples have values that are NaN or infinite; leave them out")
    scale = float(samples.double().std())
    if scale == 0:
        raise ValueError("the samples are all the same constant; give others")
    x0 = samples.to(device=prior.device, dtype=prior.dtype)
    denoiser, generator = Denoiser(prior), torch.Generator().manual_seed(seed)
    candidates = repairs(tuple(samples.shape[1:]))
    rounds = levels + len(candidates) / 4  # one product costs as much as several evaluations

    def report(done: float) -> None:
        if progress:
            progress(done / rounds)

    checks = []
    for k, s in enumerate(noise_levels(denoiser, scale, levels)):
        checks.append(examine(denoiser, x0, s, generator, batch))
        report(k + 1)
    usable = [check for check in checks if bool(torch.isfinite(check.error).all())]
    explanation = None
    if usable:
        explanation = best_repair(
            denoiser,
            x0,
            usable,
            candidates,
            batch,
            lambda done: report(levels + done * len(candidates) / 4),
        )
    return PriorCheck(tuple(checks), explanation, tuple(verdict(checks, explanation)))


def _row(check: LevelCheck) -> dict[str, Any]:
    noise, calibration = float(check.noise.mean()), check.calibration
    return {
        "s": check.s,
        "error": float(check.error.mean()) / noise,
        "linear": float(check.linear.mean()) / noise,
        "slope": check.slope[0],
        "slope_error": check.slope[1],
        "bias": check.bias[0],
        "bias_error": check.bias[1],
        "calibration": calibration and calibration[0],
        "calibration_error": calibration and calibration[1],
        "asymmetry": check.asymmetry,
        "lowest": check.lowest,
        "words": level_words(check),
    }
