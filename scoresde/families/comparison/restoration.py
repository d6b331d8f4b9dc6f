"""The same measurements restored by every family."""

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
"""Of the noise, on [-1, 1]: 0.05 on [0, 1]."""


@dataclass(frozen=True)
class RestorationScores:
    """draws: (n, B, C, H, W), as 8-bit pictures. scores: plain numbers."""

    draws: Tensor
    scores: dict[str, Any]


def problems_for(shape: tuple[int, ...]) -> dict[str, InverseProblem]:
    """A hole of half the side in the middle, a Gaussian blur, half the resolution; all with noise."""
    height, width = shape[1:]
    hole = box_mask(height, width, height // 4, width // 4, height // 2, width // 2)
    noise = GaussianNoise(SIGMA)
    return {
        "inpainting": InverseProblem(Inpainting(hole), noise),
        "deblurring": InverseProblem(GaussianBlur(1.5), noise),
        "super-resolution": InverseProblem(SuperResolution(2), noise),
    }


def family_settings(model: GenerativeModel, n: int) -> dict[str, Any]:
    """What its own means are given: about as long a chain as each needs to forget its start, fewer chains where one is dear."""
    if isinstance(model, Diffusion):
        return {}
    if isinstance(model, Autoregressive):
        return {"particles": 16, "sweeps": 1, "steps": 150}
    if isinstance(model, Flow):
        return {"steps": 60, "leapfrog": 8, "climb": 60, "restarts": 3, "chains": min(n, 3)}
    return {"steps": 120, "leapfrog": 8, "climb": 100, "restarts": 12, "chains": min(n, 3)}


def range_coverage(draws: Tensor, truth: Tensor, generator: torch.Generator) -> tuple[float, int]:
    """The share of entries whose truth lies within the range of the n draws (n, ...), and how many entries there were.

    For draws of the exact posterior the expectation is (n - 1)/(n + 1): truth and draws are then exchangeable, and of their n + 1 ranks all
    but the first and the last count as within. Equal values are ranked at random, and entries where all n + 1 are equal are left out, both
    of which leave exchangeability as it is.
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
    """truth (B, C, H, W), 8-bit pictures on [-1, 1]; y: their measurements.

    misfit: mean of |y - A x|^2 / (M sigma^2) over the draws, as they come; about 1 - k/M for a posterior that the measurement binds in k
    directions. range: see :func:`range_coverage`.
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
