"""A score prior on the interface of the other families: density by the probability-flow ODE, draws by any sampler, restoration by MMPS."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from scoresde.families.base import DensityKind, GenerativeModel, LogProb
from scoresde.priors.base import CountingPrior
from scoresde.priors.score import ScorePrior
from scoresde.training.objective import NoiseLevels, denoising_score_matching
from solvers import SAMPLERS, TimeGrid, elbo, log_likelihood, make_solver
from solvers.posterior.records import Draws, Request

__all__ = ["Diffusion", "DiffusionConfig"]


@dataclass(frozen=True)
class DiffusionConfig:
    """sampler, steps: for ``sample``, a name of ``solvers.SAMPLERS``; on its own grid, or from the highest noise to the lowest by this
    ``schedule`` of a ``TimeGrid``. solver: for ``restore``, a name of ``solvers.SOLVERS``. nodes: of the
    likelihood's grid. noise: levels that ``loss`` draws."""

    sampler: str = "dpm-solver"
    steps: int = 20
    schedule: str | None = None
    solver: str = "mmps"
    nodes: int = 64
    noise: NoiseLevels = field(default_factory=NoiseLevels)


class Diffusion(GenerativeModel):
    """A :class:`ScorePrior`, which is stored and loaded as one."""

    density: ClassVar[DensityKind] = "exact"

    def __init__(self, prior: ScorePrior, config: DiffusionConfig | None = None) -> None:
        super().__init__()
        self.prior, self.config, self.card = prior, config or DiffusionConfig(), prior.card

    @property
    def shape(self) -> tuple[int, ...]:
        return self.prior.shape

    @property
    def continuous(self) -> bool:
        return True

    @property
    def nfe_per_sample(self) -> int:
        """CountingPrior, on one sample."""
        counted = CountingPrior(self.prior)
        self._sample(counted, 1, torch.Generator().manual_seed(0))
        return counted.nfe

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        generator = generator or torch.Generator().manual_seed(int(torch.randint(2**31, ())))
        noise = torch.randn(x.shape, generator=generator).to(x)
        return denoising_score_matching(
            self.prior, x, self.config.noise.draw(len(x), generator).to(x), noise
        ).mean()

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return self._sample(self.prior, n, generator)

    def _sample(
        self, prior: ScorePrior | CountingPrior, n: int, generator: torch.Generator | None
    ) -> Tensor:
        grid = TimeGrid(self.config.schedule) if self.config.schedule else None  # type: ignore[arg-type]
        return SAMPLERS[self.config.sampler](self.config.steps, grid).sample(
            prior, n, generator=generator
        )

    def log_prob(
        self, x: Tensor, *, k: int = 1, generator: torch.Generator | None = None
    ) -> LogProb:
        """The density at the smallest noise; the trace of the flow by k structured probes at every node (a power of 2), or without
        chance where k is no less than the entries of a sample."""
        self.check(x)
        trace: dict[str, Any] = (
            {"probes": k, "divergence": "hutchinson"}
            if k < x[0].numel()
            else {"divergence": "exact"}
        )
        found = log_likelihood(
            self.prior, x, nodes=self.config.nodes, end="t_min", generator=generator, **trace
        )
        return LogProb(found.value, "exact", std_error=found.std_error)

    def elbo(
        self, x: Tensor, *, draws: int = 1, generator: torch.Generator | None = None
    ) -> LogProb:
        """The variational lower bound on ln p(x) between the same noise levels; draws: repetitions, which are averaged."""
        self.check(x)
        found = elbo(self.prior, x, nodes=self.config.nodes, draws=draws, generator=generator)
        return LogProb(found.value, "ELBO", std_error=found.std_error)

    def _restore(self, request: Request, **settings: Any) -> Draws:
        """By the named solver of the configuration."""
        solver = make_solver(self.config.solver, **settings)
        found = solver.sample(
            self.prior,
            request.problem,
            request.y,
            request.n,
            generator=request.generator,
            progress=request.progress,
        )
        return Draws(found.draws, found.nfe, found.vjps, found.diagnostics)
