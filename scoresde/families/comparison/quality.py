"""Quality of a model's draws.

Distances to held-out pictures, fidelity, diversity, classes, copies of the training set, and the
cost.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from scoresde.evaluation import (
    Features,
    class_report,
    frechet_distance,
    kernel_distance,
    load_classifier,
    manifold,
    memorisation,
)
from scoresde.families.base import GenerativeModel
from scoresde.families.comparison.clock import clock_for

__all__ = ["RealData", "draw", "judge_draws"]


@dataclass(frozen=True)
class RealData:
    """Pictures that the draws are compared with.

    Args:
        train: Training pictures rounded to 8 bits, shape (N, C, H, W), on [-1, 1].
        test: Held-out pictures rounded to 8 bits, shape (M, C, H, W), on [-1, 1].
        features: Features in which distances are measured.
        digits: True if the pictures are digits, whose classes can be counted.
    """

    train: Tensor
    test: Tensor
    features: Features
    digits: bool

    @cached_property
    def test_features(self) -> Tensor:
        """Features of all test pictures, shape (M, F); the same for all entrants."""
        return self.features.extract(self.test)


def draw(
    model: GenerativeModel, n: int, generator: torch.Generator, batch: int = 250
) -> tuple[Tensor, float]:
    """Draw samples and measure their cost.

    Args:
        model: Model to draw from.
        n: Number of draws.
        generator: Source of the random numbers.
        batch: Largest number of draws per call.

    Returns:
        The draws rounded to 8 bits, shape (n, C, H, W), on [-1, 1], on the CPU; and the seconds per
        draw by the clock of ``clock_for``.
    """
    clock = clock_for(model.device)
    start = clock()
    with torch.no_grad():
        draws = torch.cat(
            [model.sample(min(batch, n - first), generator) for first in range(0, n, batch)]
        )
    seconds = (clock() - start) / n
    return model.as_pictures(draws).cpu(), seconds


def judge_draws(draws: Tensor, reference: RealData) -> dict[str, Any]:
    """Score draws against the test pictures.

    Distances use all test pictures. Precision, recall, density and coverage use the first n of
    them, as they need sets of equal size.

    Args:
        draws: Draws, shape (n, C, H, W), on [-1, 1].
        reference: Training and test pictures.

    Returns:
        Scores as plain values: Fréchet and kernel distance, precision, recall, density, coverage,
        copies of training pictures, and for digits the classes.
    """
    real, fake = reference.test_features, reference.features.extract(draws)
    distance = kernel_distance(real, fake)
    report: dict[str, Any] = {
        "features": reference.features.name,
        "draws": len(draws),
        "fid": frechet_distance(real, fake),
        "kid": distance.mean,
        "kid_error": distance.error,
    }
    near = manifold(real[: len(fake)], fake)
    report |= {
        "precision": near.precision,
        "recall": near.recall,
        "density": near.density,
        "coverage": near.coverage,
    }
    copied = memorisation(draws, reference.train, reference.test[: len(draws)])
    report |= {"copies": copied.copies, "nearest_ratio": copied.ratio}
    if reference.digits:
        classes = class_report(load_classifier(), draws)
        report |= {
            "classes": classes.found,
            "class_kl": classes.kl,
            "confidence": classes.confidence,
        }
    return report
