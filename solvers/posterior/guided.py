"""A guidance method and a sampler make a posterior sampler."""

from dataclasses import dataclass

from torch import Tensor

from solvers.capabilities import Exactness
from solvers.guidance.base import Guidance
from solvers.posterior.base import IndependentSampler
from solvers.posterior.records import Run
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

    def _draw(self, run: Run) -> tuple[Tensor, int]:
        guided = self.guidance.condition(run.prior, run.problem, run.y)
        x = self.sampler.sample(
            guided,
            len(run.y),
            generator=run.generators,
            callback=lambda i, steps, *_: run.progress(i / steps),
        )
        return x, guided.vjps
