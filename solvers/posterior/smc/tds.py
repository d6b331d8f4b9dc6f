r"""Twisted diffusion sampler (Wu et al. 2023): SMC with an approximate likelihood.

Particles follow the reverse SDE. With the ancestral kernel :math:`p(u'|u) = N(m(u), v I)` and the
twist :math:`\psi_s(u) = N\bigl(y;\, A D(u),\, \sigma_y^2 I + r^2 A A^T\bigr)`,
:math:`r^2 = s^2 v_0/(s^2 + v_0)` with the variance :math:`v_0` of the data, they are proposed from
:math:`q = N(m + v \nabla\log\psi_s, v I)` and weighted by
:math:`p(u'|u)\,\psi_{s'}(u') / (q(u'|u)\,\psi_s(u))`. The last twist is the likelihood, so the
draws tend to the posterior as the numbers of particles and steps grow.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from problems.linalg.svd import SVD
from solvers.capabilities import Exactness
from solvers.posterior.records import ancestral_mean
from solvers.posterior.smc.base import (
    Denoiser,
    ParticleSampler,
    Population,
    effective_ancestors,
    ess_fraction,
    systematic,
)
from solvers.presets import RESTORATION_GRID, Preset
from solvers.samplers.grid import TimeGrid
from solvers.scale import OfData

__all__ = ["TDS"]


@dataclass(frozen=True)
class TDS(ParticleSampler):
    """Twisted diffusion sampler, for linear measurements with Gaussian noise.

    The cost is ``steps`` network evaluations and as many vector-Jacobian products per particle. The
    diagnostics are "ess_fraction" and "ancestors", see :class:`PredictedTwistSMC`.

    Args:
        steps: Number of steps.
        particles: Smallest number of particles.
        per_draw: Smallest number of particles for each draw, at least 1.
        resample: Effective sample size, as a fraction in [0, 1], below which the particles are
            resampled.
        grid: Noise levels.
        prior_variance: Variance v_0 of the data, positive, in squared units of x; 1 in the paper.

    Raises:
        ValueError: If steps, particles or per_draw is below 1, resample is not in [0, 1], or
            prior_variance is not positive.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> g = torch.Generator().manual_seed(0)
        >>> y = torch.ones(1, 1, 2, 2)
        >>> posterior = TDS(steps=5, per_draw=1).sample(prior, problem, y, n=20, generator=g)
        >>> posterior.draws.shape, posterior.nfe, posterior.vjps
        (torch.Size([20, 1, 1, 2, 2]), 5, 5)
        >>> sorted(posterior.diagnostics)
        ['ancestors', 'effective_ancestors', 'ess_fraction']
    """

    exactness: ClassVar[Exactness] = "asymptotic"
    requires: ClassVar[frozenset[str]] = frozenset({"linear", "adjoint", "gaussian_noise"})

    steps: int = 100
    particles: int = 16
    resample: float = 0.5
    grid: TimeGrid = field(default_factory=TimeGrid)
    per_draw: int = 4
    prior_variance: float = 1.0

    def __post_init__(self) -> None:
        if (
            min(self.steps, self.particles, self.per_draw) < 1
            or not 0 <= self.resample <= 1
            or not self.prior_variance > 0
        ):
            raise ValueError(
                "TDS needs steps, particles, per_draw >= 1, resample in [0, 1] and "
                f"prior_variance > 0, got {self}"
            )

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        """Return the named settings of this solver.

        Returns:
            Name -> settings for photographs.
        """
        return {
            "tds": Preset(
                "twisted SMC on the reverse SDE, for small images; at least 64 particles and "
                "4 for each draw, with 1 evaluation and 1 VJP per step",
                lambda steps: cls(
                    steps,
                    particles=64,
                    grid=RESTORATION_GRID,
                    prior_variance=OfData(1.0, power=2),
                ),
                steps=100,
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        """Return the settings of this solver for exact problems.

        Returns:
            Name -> posterior sampler.
        """
        return {"tds": cls()}

    def _population(self, run: Population) -> tuple[Tensor, dict[str, Any]]:
        denoise, problem, y, n = run.denoise, run.problem, run.y, run.n
        sde, shape, variance = denoise.prior.sde, denoise.shape, problem.noise_variance
        svd = problem.linear_operator.svd(shape, y)
        levels = self.grid.levels(sde, self.steps)
        many, size = max(self.per_draw * n, self.particles), torch.Size(shape).numel()

        u = levels[0] * run.randn(many, size)
        log_w, ancestors = (
            torch.zeros(many, dtype=torch.float64, device=y.device),
            torch.arange(many),
        )
        D, slope, log_psi = self._twist(denoise, svd, u, levels[0], y, variance)
        log_w, ess = log_w + log_psi, 1.0
        for i, (s, s_next) in enumerate(itertools.pairwise(levels)):
            if ess_fraction(log_w) < self.resample:
                chosen = systematic(log_w, many, run.generator)
                u, D, slope, log_psi, ancestors = (
                    u[chosen],
                    D[chosen],
                    slope[chosen],
                    log_psi[chosen],
                    ancestors[chosen.cpu()],
                )
                log_w = torch.zeros_like(log_w)
            q = (s_next / s) ** 2
            mean = ancestral_mean(D, u, s, s_next)
            v = s_next**2 * (1 - q)
            if s_next > 0:
                z = run.randn(many, size)
                u = mean + v * slope + v**0.5 * z
                ratio = -0.5 * ((u - mean).square().sum(1) / v - z.square().sum(1))
                D, slope, new = self._twist(denoise, svd, u, s_next, y, variance)
            else:
                # a random last step of variance r^2 would need the density of x_0, so
                # the last step returns its mean
                u, ratio = mean, 0.0
                residual = problem.residual(y.expand(many, *y.shape[1:]), u.reshape(many, *shape))
                new = -0.5 * residual.flatten(1).square().sum(1) / variance
                rank = int((svd.s > 0).sum())
                new = new - 0.5 * rank * torch.tensor(variance).log()
            inc = ratio + new - log_psi
            log_w, log_psi, ess = log_w + inc, new, min(ess, ess_fraction(inc))
            run.progress((i + 1) / self.steps)
        chosen = systematic(log_w, n, run.generator)
        return u[chosen], {
            "ess_fraction": ess,
            "ancestors": len(ancestors[chosen.cpu()].unique()),
            "effective_ancestors": effective_ancestors(ancestors, log_w),
        }

    def _twist(
        self, denoise: Denoiser, svd: SVD, u: Tensor, s: float, y: Tensor, variance: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return D(u), the gradient of ln psi, and ln psi up to a constant, shape (N,)."""
        r2 = s**2 * self.prior_variance / (s**2 + self.prior_variance)
        spread = variance + r2 * svd.s**2
        at = denoise.at(u, s)
        r = svd.Ut(y) - svd.s * svd.Vt(at.D.reshape(-1, *denoise.shape))
        log_psi = -0.5 * torch.where(svd.s > 0, r**2 / spread + spread.log(), 0).flatten(1).sum(1)
        return (
            at.D,
            at.vjp(svd.V(torch.where(svd.s > 0, svd.s * r / spread, 0)).flatten(1)),
            log_psi,
        )
