"""Posterior sampler made of a guidance and an unconditional sampler."""

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
    """Posterior sampler that conditions the prior by guidance and samples the result.

    Args:
        guidance: Method that turns the prior into an approximate posterior denoiser. It determines
            the exactness and the required capabilities.
        sampler: Unconditional sampler that runs on the guided prior.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> from solvers import MMPS, Heun
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> solver = Guided(MMPS(), Heun(10))
        >>> g = torch.Generator().manual_seed(0)
        >>> posterior = solver.sample(prior, problem, torch.ones(1, 1, 2, 2), n=4, generator=g)
        >>> posterior.draws.shape, posterior.nfe
        (torch.Size([4, 1, 1, 2, 2]), 19)
    """

    guidance: Guidance
    sampler: Sampler

    @property
    def exactness(self) -> Exactness:  # type: ignore[override]
        """Exactness of the guidance."""
        return self.guidance.exactness

    @property
    def requires(self) -> frozenset[str]:  # type: ignore[override]
        """Capabilities that the guidance requires of a problem."""
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
