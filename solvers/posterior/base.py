"""What every posterior sampler shares: one call, one kind of answer."""

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from problems import InverseProblem
from scoresde.priors.base import CountingPrior, Prior
from solvers.capabilities import Exactness, check_capabilities
from solvers.posterior.records import Draws, Progress, Request, Run, silent
from solvers.presets import Registered
from solvers.streams import spawn

__all__ = ["IndependentSampler", "Posterior", "PosteriorSampler", "Progress"]


@dataclass(frozen=True)
class Posterior:
    """Draws of p(x | y). draws: (n, B, ...). nfe, vjps: network evaluations and vector-Jacobian products per draw. seconds: wall time."""

    draws: Tensor
    nfe: int
    vjps: int
    seconds: float
    diagnostics: dict[str, Any] = field(default_factory=dict)

    @property
    def mean(self) -> Tensor:
        """The estimate of least squared error, (B, ...)."""
        return self.draws.mean(0)

    @property
    def std(self) -> Tensor:
        """Standard deviation of each entry over the draws, (B, ...); NaN for a single draw, which says nothing about it."""
        if len(self.draws) == 1:
            return torch.full_like(self.draws[0], torch.nan)
        return self.draws.std(0)

    def interval(self, level: float = 0.9) -> tuple[Tensor, Tensor]:
        """Central interval of each entry from the quantiles of the draws: (lower, upper), each (B, ...)."""
        if not 0 < level < 1:
            raise ValueError(f"the level of an interval must lie in (0, 1), got {level}")
        ends = torch.tensor(
            [(1 - level) / 2, (1 + level) / 2], dtype=self.draws.dtype, device=self.draws.device
        )
        flat = self.draws.flatten(1)
        pieces = [
            torch.quantile(piece, ends, dim=0) for piece in flat.split(1 << 20, dim=1)
        ]  # quantile limits its input's size
        lower, upper = torch.cat(pieces, dim=1).reshape(2, *self.draws.shape[1:])
        return lower, upper


class PosteriorSampler(Registered, ABC):
    """(prior, problem, y) -> draws of p(x | y). ``exactness`` and ``requires`` say what it promises and what it needs."""

    exactness: ClassVar[Exactness]
    requires: ClassVar[frozenset[str]]

    def sample(
        self,
        prior: Prior,
        problem: InverseProblem,
        y: Tensor,
        n: int = 1,
        *,
        generator: torch.Generator | None = None,
        batch: int | None = None,
        progress: Progress | None = None,
    ) -> Posterior:
        """n draws for each of the B measurements y (B, ...).

        batch: how many draws, or particles, to run through the network at once (all by default); it bounds memory. Draws of an
        :class:`IndependentSampler` do not depend on it, and those of a ``ParticleSampler`` by rounding only.
        """
        self._check(problem, y, n, batch)
        start = time.perf_counter()
        draws = self._sample(
            prior,
            Request(
                problem,
                problem.operator.mask_unobserved(y),
                n,
                generator,
                batch,
                progress or silent,
            ),
        )
        return Posterior(
            draws.x,
            draws.nfe,
            draws.vjps * prior.cost,
            time.perf_counter() - start,
            draws.diagnostics,
        )

    @abstractmethod
    def _sample(self, prior: Prior, request: Request) -> Draws:
        """The draws; ``vjps`` counts batches through this prior, whatever its cost."""

    def _check(self, problem: InverseProblem, y: Tensor, n: int, batch: int | None) -> None:
        """ValueError that names what is wrong with the arguments of ``sample``."""
        check_capabilities(self, problem)
        if n < 1 or (batch is not None and batch < 1):
            raise ValueError(f"n and batch must be at least 1, got {n} and {batch}")
        if not bool(torch.isfinite(y).all()):
            raise ValueError("the measurement has NaN or infinite entries; mask them out")


class IndependentSampler(PosteriorSampler):
    """Draws that know nothing of one another: each has a random stream of its own, derived from ``generator``, whatever its batch."""

    def _sample(self, prior: Prior, request: Request) -> Draws:
        counted = CountingPrior(prior)
        y = request.y
        total = request.n * len(y)
        generators = spawn(request.generator, total)
        y = y.to(device=prior.device, dtype=prior.dtype)
        size = min(request.batch or total, total)
        chunks, vjps = list(range(0, total, size)), 0
        draws = []
        for index, first in enumerate(chunks):
            rows = torch.arange(first, min(first + size, total))

            def report(fraction: float, index: int = index) -> None:
                request.progress((index + fraction) / len(chunks))

            run = Run(
                counted,
                request.problem,
                y[rows % len(y)],
                generators[first : first + len(rows)],
                report,
            )
            x, products = self._draw(run)
            draws.append(x)
            vjps += products
        x = torch.cat(draws).reshape(request.n, len(y), *draws[0].shape[1:])
        return Draws(x, counted.nfe // len(chunks), vjps // len(chunks))

    @abstractmethod
    def _draw(self, run: Run) -> tuple[Tensor, int]:
        """One draw for each row of y, row i from generators[i]; and the number of vector-Jacobian products."""
