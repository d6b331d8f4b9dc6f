"""How well a model draws: distances to held-out pictures, fidelity, diversity, classes, copies of the training set, and the cost."""

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
    """train, test: pictures (N, C, H, W) on [-1, 1] as 8 bits have them. features: what distances are measured in; ``digits``: whether the
    pictures are digits, whose classes can be counted."""

    train: Tensor
    test: Tensor
    features: Features
    digits: bool

    @cached_property
    def test_features(self) -> Tensor:
        """Of all test pictures, (N, F): the same for every entrant."""
        return self.features.extract(self.test)


def draw(
    model: GenerativeModel, n: int, generator: torch.Generator, batch: int = 250
) -> tuple[Tensor, float]:
    """n draws as 8-bit pictures show them, and the seconds that each took, by :func:`clock_for`."""
    clock = clock_for(model.device)
    start = clock()
    with torch.no_grad():
        draws = torch.cat(
            [model.sample(min(batch, n - first), generator) for first in range(0, n, batch)]
        )
    seconds = (clock() - start) / n
    return model.as_pictures(draws).cpu(), seconds


def judge_draws(draws: Tensor, reference: RealData) -> dict[str, Any]:
    """Of n draws against the test pictures: all for the distances, n of them for the neighbourhoods (whose sizes should be equal)."""
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
