"""Posterior sampler made of a guidance and an unconditional sampler."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from problems.checks import check_choice
from solvers.capabilities import Exactness
from solvers.guidance.base import Guidance
from solvers.posterior.base import IndependentSampler
from solvers.posterior.records import Run
from solvers.posterior.unexplained import explain_residual
from solvers.samplers.base import Sampler

__all__ = ["Guided"]


@dataclass(frozen=True)
class Guided(IndependentSampler):
    """Posterior sampler that conditions the prior by guidance and samples the result.

    Args:
        guidance: Method that turns the prior into an approximate posterior denoiser. It determines
            the exactness and the required capabilities.
        sampler: Unconditional sampler that runs on the guided prior.
        finish: What the last step returns, "mean": the mean of x_0 given the last x_t and y, as a
            sampler does; "draw": a draw, where the guidance has a covariance
            (:meth:`Guidance.draw`). The mean lacks the variance that is left at the last noise
            level. A draw whose residual is larger than the noise makes it is moved towards y
            (:mod:`solvers.posterior.unexplained`).

    Raises:
        ValueError: If finish is unknown.

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
    finish: Literal["mean", "draw"] = "mean"

    def __post_init__(self) -> None:
        check_choice("finish", self.finish, ("mean", "draw"))

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
        if self.finish == "draw":
            guided.keeping()
        last: list[Tensor] = []

        def reached(step: int, steps: int, t: Tensor, x_t: Tensor, x0_hat: Tensor) -> None:
            last[:] = [x_t, t]
            run.note(run.prior.sde.noise_to_signal(t), x0_hat)
            run.progress(step / steps)

        x = self.sampler.sample(guided, len(run.y), generator=run.generators, callback=reached)
        if self.finish == "draw":
            x = guided.draw_after(x, last[0], last[1], run.randn(), run.generators)
            s = run.prior.sde.noise_to_signal(last[1]).to(x)
            x = explain_residual(run, x, s.expand(len(x)))
        return x, guided.vjps
