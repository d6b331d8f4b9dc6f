"""Restoration of the same measurements by every family."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from problems import (
    GaussianBlur,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    SuperResolution,
    box_mask,
)
from scoresde.evaluation import psnr
from scoresde.families.autoregressive.model import Autoregressive
from scoresde.families.base import GenerativeModel
from scoresde.families.comparison.clock import clock_for
from scoresde.families.diffusion import Diffusion
from scoresde.families.flow.model import Flow

__all__ = [
    "SIGMA",
    "RestorationScores",
    "judge_restoration",
    "problems_for",
    "range_coverage",
    "family_settings",
]

SIGMA = 0.1
"""Standard deviation of the noise on [-1, 1]; 0.05 on [0, 1]."""


@dataclass(frozen=True)
class RestorationScores:
    """Restorations of one problem by one model.

    Args:
        draws: Posterior draws rounded to 8 bits, shape (n, B, C, H, W), on [-1, 1].
        scores: Scores as plain numbers.
    """

    draws: Tensor
    scores: dict[str, Any]


def problems_for(shape: tuple[int, ...]) -> dict[str, InverseProblem]:
    """Build the problems of the comparison, all with Gaussian noise of deviation ``SIGMA``.

    Args:
        shape: Shape of a picture, (C, H, W).

    Returns:
        "inpainting": a central hole of half the side; "deblurring": a Gaussian blur;
        "super-resolution": half the resolution.
    """
    height, width = shape[1:]
    hole = box_mask(height, width, height // 4, width // 4, height // 2, width // 2)
    noise = GaussianNoise(SIGMA)
    return {
        "inpainting": InverseProblem(Inpainting(hole), noise),
        "deblurring": InverseProblem(GaussianBlur(1.5), noise),
        "super-resolution": InverseProblem(SuperResolution(2), noise),
    }


def family_settings(model: GenerativeModel, n: int) -> dict[str, Any]:
    """Choose the settings of a model's own posterior sampler.

    Chains are about as long as their mixing time. Families whose chains are slow get fewer chains.

    Args:
        model: Model that restores.
        n: Posterior draws per picture.

    Returns:
        Keyword arguments for ``model.restore``.
    """
    if isinstance(model, Diffusion):
        return {}
    if isinstance(model, Autoregressive):
        return {"particles": 16, "sweeps": 1, "steps": 150}
    if isinstance(model, Flow):
        return {"steps": 60, "leapfrog": 8, "climb": 60, "restarts": 3, "chains": min(n, 3)}
    return {"steps": 120, "leapfrog": 8, "climb": 100, "restarts": 12, "chains": min(n, 3)}


def range_coverage(draws: Tensor, truth: Tensor, generator: torch.Generator) -> tuple[float, int]:
    """Compute the share of entries whose truth lies within the range of the draws.

    For draws of the exact posterior its expectation is (n - 1)/(n + 1): truth and draws are then
    exchangeable, and of the n + 1 ranks of the truth all but the first and the last count as
    within. Equal values are ranked at random, and entries where all n + 1 values are equal are left
    out; both preserve exchangeability.

    Args:
        draws: Posterior draws, shape (n, ...).
        truth: True values, shape (...).
        generator: Source of the random ranks of equal values.

    Returns:
        The share, and the number of entries that were counted.
    """
    n = len(draws)
    below, same = (draws < truth).sum(0), (draws == truth).sum(0)
    rank = below + (torch.rand(truth.shape, generator=generator) * (same + 1)).long()
    counted = same < n
    within = (rank >= 1) & (rank <= n - 1) & counted
    return float(within.sum() / counted.sum().clamp_min(1)), int(counted.sum())


def judge_restoration(
    model: GenerativeModel, problem: InverseProblem, truth: Tensor, y: Tensor, n: int, seed: int
) -> RestorationScores:
    """Restore measurements with a model and score the restorations.

    The score "misfit" is the mean of |y - A x|^2 / (M sigma^2) over the draws before rounding, M
    being the number of measured entries. It is about 1 - k/M for a posterior that the measurement
    constrains in k directions. The score "range" is that of :func:`range_coverage`.

    Args:
        model: Model that restores.
        problem: Operator and noise of the measurement.
        truth: True pictures rounded to 8 bits, shape (B, C, H, W), on [-1, 1].
        y: Measurements of these, shape (B, ...).
        n: Posterior draws per picture.
        seed: Seed of the draws.

    Returns:
        The draws and their scores.
    """
    clock = clock_for(model.device)
    start = clock()
    found = model.restore(
        problem,
        y.to(model.device),
        n,
        generator=torch.Generator().manual_seed(seed),
        **family_settings(model, n),
    )
    seconds, raw = clock() - start, found.draws.detach().cpu()
    draws = model.as_pictures(raw)
    residual = torch.stack([problem.residual(y, x) for x in raw])
    seen = problem.operator.mask_unobserved(torch.ones_like(y)).sum()
    share, counted = range_coverage(draws, truth, torch.Generator().manual_seed(seed))
    scores = {
        "pictures": len(truth),
        "draws": n,
        "psnr_mean": float(psnr(draws.mean(0), truth).mean()),
        "psnr_draw": float(torch.stack([psnr(x, truth).mean() for x in draws]).mean()),
        "range": share,
        "range_expected": (n - 1) / (n + 1),
        "range_entries": counted,
        "misfit": float(
            problem.operator.mask_unobserved(residual.flatten(0, 1)).square().sum()
            / (n * seen * SIGMA**2)
        ),
        "nfe": found.nfe,
        "vjps": found.vjps,
        "seconds": seconds / len(truth),
    }
    if (rhat := found.diagnostics.get("rhat")) is not None:
        scores["rhat"] = max(rhat)
    return RestorationScores(draws, scores)
