"""A guidance method and a sampler make a posterior sampler."""

from dataclasses import dataclass

import torch
from torch import Tensor

from problems import InverseProblem
from scoresde.priors.base import Prior
from solvers.capabilities import Exactness
from solvers.guidance.base import Guidance
from solvers.posterior.base import IndependentSampler, Progress
from solvers.samplers.base import Sampler

__all__ = ["Guided"]


@dataclass(frozen=True)
class Guided(IndependentSampler):
    """Condition the prior, then sample it."""

    guidance: Guidance
    sampler: Sampler

    @property
    def exactness(self) -> Exactness:  # type: ignore[override]
        return self.guidance.exactness

    @property
    def requires(self) -> frozenset[str]:  # type: ignore[override]
        return self.guidance.requires

    def _draw(self, prior: Prior, problem: InverseProblem, y: Tensor, generators: list[torch.Generator], progress: Progress) -> tuple[Tensor, int]:
        guided = self.guidance.condition(prior, problem, y)
        x = self.sampler.sample(guided, len(y), generator=generators, callback=lambda i, steps, *_: progress(i / steps))
        return x, guided.vjps
