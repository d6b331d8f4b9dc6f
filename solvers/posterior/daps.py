r"""Decoupled annealing posterior sampling (Zhang et al. 2025).

"Improving diffusion inverse problem solving with decoupled noise annealing". Each noise level s has
three parts: a short probability-flow ODE from :math:`x_t` to :math:`\hat x_0`; a draw from
:math:`q(x_0) \propto N(x_0; \hat x_0, r^2 I)\,p(y|x_0)`; fresh noise of the next level. The levels
are decoupled: there is no continuous path through them.

The draws are exact only if :math:`p(x_0|x_t) = N(\hat x_0, r^2 I)`. With :math:`r = s` ("sigma",
the published choice) the variance of unobserved directions is doubled at every level;
:math:`r^2 = s^2/(1 + s^2)` ("unit") is the value for a white prior of variance 1.

The published runs ("DAPS-1K", :meth:`DAPS.published`) have 200 levels from 100 to 0.1, 5
evaluations of the ODE down to 0.01, and 100 unadjusted Langevin steps, whose size falls linearly to
a hundredth over the levels. They take :math:`p(y|x) \propto \exp(-|y - A(x)|^2/\tau^2)` with
:math:`\tau = 0.01`, a noise of 0.007 where that of the measurements is 0.05. Here the likelihood
has the noise of the problem, or :attr:`DAPS.noise` times it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from problems import GaussianNoise, InverseProblem
from problems.checks import check_choice, check_number
from scoresde.priors.base import Prior
from solvers.capabilities import Exactness
from solvers.posterior.base import IndependentSampler
from solvers.posterior.mala import langevin_steps
from solvers.posterior.records import Run
from solvers.presets import RESTORATION_GRID, Preset
from solvers.samplers.grid import TimeGrid, time_at

__all__ = ["DAPS"]


@dataclass(frozen=True)
class DAPS(IndependentSampler):
    """Decoupled annealing posterior sampling, for differentiable measurements.

    The likelihood uses the noise of the problem. The cost is steps * ode network evaluations.

    Args:
        steps: Number of noise levels.
        ode: Network evaluations of the probability-flow ODE at each level, one more than its Euler
            steps.
        r: Standard deviation of x_0 given x_t: "sigma" for s, "unit" for s / sqrt(1 + s^2).
        inner: Method for the draw of x_0 given y: "langevin" for unadjusted Langevin steps, "mala"
            for Metropolis-adjusted ones, "exact" for the exact draw by ``prox``, which needs a
            linear measurement with Gaussian noise.
        langevin: Langevin steps at each level.
        tau: Size of the Langevin steps in units of the inverse curvature, in (0, 2).
        grid: Noise levels.
        decay: Size of the Langevin steps of the last level in units of those of the first, above 0
            and at most 1; linear in between.
        noise: Standard deviation of the noise that the Langevin steps assume, in units of that of
            the problem, positive. Values other than 1 need Gaussian noise of one level.
        ode_end: Noise level at which the ODE ends; None for the last one of the grid.

    Raises:
        ValueError: If steps, ode or langevin is below 1, tau is not in (0, 2), decay is not in
            (0, 1], noise or ode_end is not positive, or r or inner is unknown.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> solver = DAPS(steps=5, ode=2, r="unit", inner="exact")
        >>> g = torch.Generator().manual_seed(0)
        >>> posterior = solver.sample(prior, problem, torch.ones(1, 1, 2, 2), n=4, generator=g)
        >>> posterior.draws.shape, posterior.nfe
        (torch.Size([4, 1, 1, 2, 2]), 10)
    """

    exactness: ClassVar[Exactness] = "heuristic"

    steps: int = 200
    ode: int = 5
    r: Literal["sigma", "unit"] = "sigma"
    inner: Literal["langevin", "mala", "exact"] = "langevin"
    langevin: int = 100
    tau: float = 0.3
    grid: TimeGrid = field(default_factory=TimeGrid)
    decay: float = 1.0
    noise: float = 1.0
    ode_end: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 1 or self.ode < 1 or self.langevin < 1 or not 0 < self.tau < 2:
            raise ValueError(f"DAPS needs steps, ode, langevin >= 1 and tau in (0, 2), got {self}")
        check_choice("r", self.r, ("sigma", "unit"))
        check_choice("inner", self.inner, ("langevin", "mala", "exact"))
        check_number(self.decay, "decay", above=0, most=1)
        check_number(self.noise, "noise", above=0)
        if self.ode_end is not None:
            check_number(self.ode_end, "ode_end", above=0)

    @classmethod
    def published(cls, steps: int = 200, ode: int = 5) -> DAPS:
        """Return the settings of the published code for phase retrieval of photographs.

        They are for measurements with noise of 0.05. Its step of 5e-5 is 0.25 of the inverse
        curvature there.

        Args:
            steps: Number of noise levels; 200 for "DAPS-1K", 400 for "DAPS-4K".
            ode: Network evaluations at each level; 5 and 10.

        Returns:
            The sampler.

        Example:
            >>> solver = DAPS.published()
            >>> solver.steps * solver.ode, solver.langevin, solver.decay
            (1000, 100, 0.01)
        """
        return cls(
            steps,
            ode,
            langevin=100,
            tau=0.25,
            grid=TimeGrid(s_max=100.0, s_min=0.1),
            decay=0.01,
            noise=0.01 / 2**0.5 / 0.05,
            ode_end=0.01,
        )

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        """Return the named settings of this solver.

        Returns:
            Name -> settings for photographs.
        """
        return {
            "daps": Preset(
                "decoupled annealing with Langevin steps; for any differentiable measurement; "
                "2 evaluations per step",
                lambda steps: cls(steps=steps, ode=2, langevin=20, tau=0.1, grid=RESTORATION_GRID),
                steps=20,
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        """Return the settings of this solver for exact problems.

        Returns:
            Name -> posterior sampler.
        """
        return {
            "daps": cls(steps=50, langevin=50),
            "daps-exact": cls(steps=100, inner="exact", r="unit"),
        }

    @property
    def requires(self) -> frozenset[str]:  # type: ignore[override]
        """Capabilities that a problem must have, which depend on ``inner``."""
        if self.inner == "exact":
            return frozenset({"linear", "solve", "gaussian_noise"})
        noise = "noise_covariance" if self.noise == 1 else "gaussian_noise"
        return frozenset({"vjp", noise})

    @torch.no_grad()
    def _draw(self, run: Run) -> tuple[Tensor, int]:
        prior = run.prior
        levels = self.grid.levels(prior.sde, self.steps)[:-1]
        lowest = float(prior.sde.noise_to_signal(torch.tensor(prior.sde.t_min)))
        end = levels[-1] if self.ode_end is None else max(self.ode_end, lowest)
        assumed = replace(run, problem=self._assumed(run.problem))
        u = levels[0] * run.randn()
        x0 = u
        for i, s in enumerate(levels):
            x0_hat = self._ode(prior, u, s, end)
            r2 = s**2 if self.r == "sigma" else s**2 / (1 + s**2)
            if self.inner == "exact":
                x0 = self._exact(run, x0_hat, r2)
            else:
                tau = self.tau * (1 + (self.decay - 1) * i / max(1, len(levels) - 1))
                adjust = self.inner == "mala"
                x0, _ = langevin_steps(assumed, x0_hat, x0_hat, r2, self.langevin, tau, adjust)
            run.note(s, x0, "draw")
            if i + 1 < len(levels):
                u = x0 + levels[i + 1] * run.randn()
            run.progress((i + 1) / len(levels))
        return x0, 0

    def _assumed(self, problem: InverseProblem) -> InverseProblem:
        """The problem with the noise that the Langevin steps assume."""
        if self.noise == 1:
            return problem
        return replace(problem, noise=GaussianNoise(self.noise * problem.noise_variance**0.5))

    def _ode(self, prior: Prior, u: Tensor, s: float, s_min: float) -> Tensor:
        """Solve du/ds = (u - D)/s from s to s_min by Euler steps evenly spaced in s^{1/7}.

        The last evaluation is not a step: its denoised image is the result.
        """
        sde, D = prior.sde, u
        ends = torch.tensor([s, min(s, s_min)], dtype=torch.float64) ** (1 / 7)
        levels = (
            (torch.lerp(ends[0], ends[1], torch.linspace(0, 1, self.ode, dtype=torch.float64)) ** 7)
            if self.ode > 1
            else ends[:1] ** 7
        )
        for i, level in enumerate(levels):
            t = time_at(prior, level)
            D = prior.denoise(sde.alpha(t) * u, t)
            if i + 1 < len(levels):
                u = u + float(levels[i + 1] / level - 1) * (u - D)
        return D

    def _exact(self, run: Run, x0_hat: Tensor, r2: float) -> Tensor:
        A, variance, y = run.problem.linear_operator, run.problem.noise_variance, run.y
        z = x0_hat + r2**0.5 * run.randn_like(x0_hat)
        blurred = A.mask_unobserved(y + variance**0.5 * run.randn_like(y))
        return A.prox(z, blurred, variance, r2)
