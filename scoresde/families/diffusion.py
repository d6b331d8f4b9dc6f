"""A score prior on the interface of the other families.

The density comes from the probability-flow ODE, draws from any sampler, and restoration from a
posterior sampler, MMPS by default.
"""

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
    """Settings of a :class:`Diffusion` model; none of them changes the network.

    Args:
        sampler: Sampler of ``sample``, a name in ``solvers.SAMPLERS``.
        steps: Number of steps of the sampler.
        schedule: Spacing of a :class:`solvers.TimeGrid` from the highest noise to the lowest; None
            for the sampler's default grid.
        solver: Posterior sampler of ``restore``, a name in ``solvers.SOLVERS``.
        nodes: Number of nodes of the likelihood's grid of noise levels.
        noise: Distribution of the noise levels in ``loss``.
    """

    sampler: str = "dpm-solver"
    steps: int = 20
    schedule: str | None = None
    solver: str = "mmps"
    nodes: int = 64
    noise: NoiseLevels = field(default_factory=NoiseLevels)


class Diffusion(GenerativeModel):
    """A :class:`ScorePrior` as a generative model; it is stored and loaded as the prior.

    Args:
        prior: Score prior. Its card becomes the card of this model.
        config: Sampler, solver and grids; None for the defaults.

    Example:
        >>> import torch
        >>> from scoresde import EDMSDE, ScorePrior
        >>> from scoresde.families import Diffusion, DiffusionConfig
        >>> from scoresde.networks import UNet, UNetConfig
        >>> network = UNet(UNetConfig(channels=1, widths=(8,), blocks=1, attention=(), embedding=8))
        >>> model = Diffusion(ScorePrior(network, EDMSDE(), (1, 4, 4)), DiffusionConfig(steps=3))
        >>> model.sample(2, torch.Generator().manual_seed(0)).shape
        torch.Size([2, 1, 4, 4])
        >>> model.nfe_per_sample
        3
    """

    density: ClassVar[DensityKind] = "exact"

    def __init__(self, prior: ScorePrior, config: DiffusionConfig | None = None) -> None:
        super().__init__()
        self.prior = prior
        self.config = config or DiffusionConfig()
        self.card = prior.card

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one sample, without the batch axis."""
        return self.prior.shape

    @property
    def continuous(self) -> bool:
        """True: the model learns a density on [-1, 1]."""
        return True

    @property
    def nfe_per_sample(self) -> int:
        """Network evaluations per sample, counted while one sample is drawn."""
        counted = CountingPrior(self.prior)
        self._sample(counted, 1, torch.Generator().manual_seed(0))
        return counted.nfe

    def loss(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Compute the loss of denoising score matching.

        Args:
            x: Samples, shape (B, *shape).
            generator: Source of the noise levels and the noise, on the CPU; None for a new one
                whose seed comes from torch's global generator.

        Returns:
            Mean of the weighted squared error over the batch, a scalar.
        """
        generator = generator or torch.Generator().manual_seed(int(torch.randint(2**31, ())))
        noise = torch.randn(x.shape, generator=generator).to(x)
        return denoising_score_matching(
            self.prior, x, self.config.noise.draw(len(x), generator).to(x), noise
        ).mean()

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples by the sampler of the configuration.

        Args:
            n: Number of draws, at least 1.
            generator: Source of the random numbers; None for torch's global one.

        Returns:
            Independent draws, shape (n, *shape).
        """
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
        """Compute the density at the smallest noise level by the probability-flow ODE.

        Args:
            x: Samples, shape (B, *shape).
            k: Number of structured probes for the trace of the Jacobian at every node, a power of
                2. If k is at least the number of entries of a sample, the trace is exact and uses
                no random numbers.
            generator: Source of the probes; None for torch's global one.

        Returns:
            Log-densities in nats, shape (B,), with their standard errors.

        Raises:
            ValueError: If x is not a batch of this model's samples, or k is not allowed.
        """
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
        """Compute the variational lower bound on ln p(x) between the same noise levels.

        Args:
            x: Samples, shape (B, *shape).
            draws: Repetitions, which are averaged.
            generator: Source of the random numbers; None for torch's global one.

        Returns:
            The bound in nats, shape (B,), with its standard errors.

        Raises:
            ValueError: If x is not a batch of this model's samples, or draws < 1.
        """
        self.check(x)
        found = elbo(self.prior, x, nodes=self.config.nodes, draws=draws, generator=generator)
        return LogProb(found.value, "ELBO", std_error=found.std_error)

    def _restore(self, request: Request, **settings: Any) -> Draws:
        """Draw by the posterior sampler that the configuration names."""
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
