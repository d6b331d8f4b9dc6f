"""Base class of point estimators: one image for each measurement, and no draws."""

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from problems import InverseProblem
from scoresde.priors.base import CountingPrior, Prior
from solvers.capabilities import Exactness
from solvers.posterior.base import PosteriorSampler
from solvers.posterior.records import Draws, Progress, Request, silent
from solvers.scale import Scale, fitted

__all__ = ["PointEstimator"]


class PointEstimator(PosteriorSampler):
    """Base of the solvers that compute one image for each measurement.

    An estimate has no spread. ``Posterior.std`` of a single draw is NaN, and asking for several
    draws is an error, because copies of one estimate would look like certainty.
    """

    exactness: ClassVar[Exactness] = "estimate"

    def _check(self, problem: InverseProblem, y: Tensor, n: int, batch: int | None) -> None:
        super()._check(problem, y, n, batch)
        if n != 1:
            raise ValueError(
                f"{type(self).__name__} gives one estimate and no draws, but {n} were asked for; "
                "ask for 1, or choose a solver that draws"
            )

    def _sample(self, prior: Prior, request: Request) -> Draws:
        counted = CountingPrior(prior)
        y = request.y.to(device=prior.device, dtype=prior.dtype)
        size = min(request.batch or len(y), len(y))
        x = self.estimate(counted, request.problem, y, batch=size, progress=request.progress)
        return Draws(x[None], counted.nfe // math.ceil(len(y) / size), 0)

    @torch.no_grad()
    def estimate(
        self,
        prior: Prior,
        problem: InverseProblem,
        y: Tensor,
        *,
        batch: int | None = None,
        progress: Progress = silent,
    ) -> Tensor:
        """Compute the estimates alone, without checks of the arguments.

        Args:
            prior: Prior of x.
            problem: Operator and noise that made y.
            y: Measurements, shape (B, ...), on the prior's device and in its dtype.
            batch: Number of measurements at once; None for all.
            progress: Called with the finished fraction of the work, 0 to 1.

        Returns:
            Estimates, shape (B, *shape).
        """
        solver = fitted(self, Scale(prior, problem, y))
        chunks = y.split(batch or len(y))
        estimates = []
        for index, chunk in enumerate(chunks):

            def report(fraction: float, index: int = index) -> None:
                progress((index + fraction) / len(chunks))

            estimates.append(solver._estimate(prior, problem, chunk, report))
        return torch.cat(estimates)

    @abstractmethod
    def _estimate(
        self, prior: Prior, problem: InverseProblem, y: Tensor, progress: Progress
    ) -> Tensor:
        """Compute the estimates (B, *shape) of a batch of measurements."""
