r"""Monte Carlo guided diffusion (Cardoso et al. 2023): SMC in the basis of singular vectors.

The measured coefficient :math:`\bar x_i` is known with error :math:`\tau_i = \sigma_y/s_i`. This is
equivalent to a diffusion that passes through :math:`\bar y_i` when its noise is :math:`\tau_i`;
before that, at :math:`s > \tau_i`, its law is :math:`N(\bar y_i, s^2 - \tau_i^2)`. Particles are
drawn from the product of the ancestral kernel and these Gaussians. Their weight is the normaliser
of that product over the last Gaussian,

.. math:: \frac{\prod_i N(\bar y_i;\, m_i,\, v + s'^2 - \tau_i^2)}
          {\prod_i N(\bar y_i;\, u_i,\, s^2 - \tau_i^2)} .

If :math:`\tau_i` lies between s and s', the path is led through :math:`\bar y_i` at :math:`\tau_i`,
and its weight is the density of that point under the ancestral kernel. Below :math:`\tau_i` the
coefficient is free. No backward pass through the network is needed. The draws are exact in the
limit of many particles and steps.
"""

import itertools
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from problems import InverseProblem
from problems.linalg.svd import SVD
from solvers.capabilities import Exactness
from solvers.posterior.records import RANK_RTOL, ancestral_mean
from solvers.posterior.smc.base import (
    ParticleSampler,
    Population,
    effective_ancestors,
    ess_fraction,
    systematic,
)
from solvers.presets import RESTORATION_GRID, Preset
from solvers.samplers.grid import TimeGrid

__all__ = ["MCGDiff"]


@dataclass(frozen=True)
class MCGDiff(ParticleSampler):
    """Monte Carlo guided diffusion, for linear measurements with Gaussian noise and an SVD.

    The particles are resampled at every step, as published. The cost is ``steps`` network
    evaluations per particle. The diagnostics are "ess_fraction" and "ancestors", see
    :class:`PredictedTwistSMC`.

    Args:
        steps: Number of steps.
        particles: Smallest number of particles.
        per_draw: Smallest number of particles for each draw, at least 1.
        grid: Noise levels.

    Raises:
        ValueError: If steps, particles or per_draw is below 1.

    Example:
        >>> import torch
        >>> from problems import GaussianNoise, Inpainting, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> mask = torch.tensor([[True, False], [True, True]])
        >>> problem = InverseProblem(Inpainting(mask), GaussianNoise(0.5))
        >>> g = torch.Generator().manual_seed(0)
        >>> y = torch.ones(1, 1, 2, 2)
        >>> posterior = MCGDiff(steps=5, per_draw=1).sample(prior, problem, y, n=64, generator=g)
        >>> posterior.draws.shape, posterior.nfe, posterior.vjps
        (torch.Size([64, 1, 1, 2, 2]), 5, 0)
        >>> sorted(posterior.diagnostics)
        ['ancestors', 'effective_ancestors', 'ess_fraction']
    """

    exactness: ClassVar[Exactness] = "asymptotic"
    requires: ClassVar[frozenset[str]] = frozenset({"linear", "adjoint", "gaussian_noise"})

    steps: int = 100
    particles: int = 64
    grid: TimeGrid = field(default_factory=TimeGrid)
    per_draw: int = 4

    def __post_init__(self) -> None:
        if min(self.steps, self.particles, self.per_draw) < 1:
            raise ValueError(f"MCGDiff needs steps, particles and per_draw >= 1, got {self}")

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        """Return the named settings of this solver.

        Returns:
            Name -> settings for photographs.
        """
        return {
            "mcgdiff": Preset(
                "SMC in the singular basis of the measurement, for small images; "
                "at least 64 particles and 4 for each draw, with 1 evaluation per step",
                lambda steps: cls(steps, particles=64, grid=RESTORATION_GRID),
                steps=100,
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        """Return the settings of this solver for exact problems.

        Returns:
            Name -> posterior sampler.
        """
        return {"mcgdiff": cls()}

    def _population(self, run: Population) -> tuple[Tensor, dict[str, Any]]:
        denoise, shape, generator = run.denoise, run.denoise.shape, run.generator
        measured = _Measured.of(run.problem, shape, run.y)
        levels = self.grid.levels(denoise.prior.sde, self.steps)
        particles = max(self.per_draw * run.n, self.particles)

        u = measured.start(levels[0], run.randn(particles, *shape))
        ancestors, ess = torch.arange(particles), 1.0
        for i, (s, s_next) in enumerate(itertools.pairwise(levels)):
            D = denoise(u.flatten(1), s).reshape(u.shape)
            step = _Step.of(measured, u, D, s, s_next)
            log_weights = step.log_weights()
            ess = min(ess, ess_fraction(log_weights))
            chosen = systematic(log_weights, particles, generator)
            step, ancestors = step[chosen], ancestors[chosen.cpu()]
            u = step.propose(run.randn(particles, *shape))
            run.progress((i + 1) / self.steps)
        chosen = systematic(torch.zeros(particles, dtype=torch.float64), run.n, generator)
        return u.flatten(1)[chosen], {
            "ess_fraction": ess,
            "ancestors": len(ancestors[chosen.cpu()].unique()),
            "effective_ancestors": effective_ancestors(ancestors),
        }


@dataclass(frozen=True)
class _Measured:
    """A measurement in the basis of singular vectors.

    y_bar: measured coefficients, 0 where unobserved. tau2: variance of their error, inf where
    unobserved.
    """

    svd: SVD
    y_bar: Tensor
    tau2: Tensor

    @staticmethod
    def of(problem: InverseProblem, shape: tuple[int, ...], y: Tensor) -> "_Measured":
        svd = problem.linear_operator.svd(shape, y)
        seen = svd.s > RANK_RTOL * svd.s.max()
        divisor = torch.where(seen, svd.s, 1)
        tau2 = torch.where(seen, problem.noise_variance / divisor**2, torch.inf)
        return _Measured(svd, torch.where(seen, svd.Ut(y) / divisor, 0), tau2)

    def variance(self, s: float) -> Tensor:
        """Variance of the coefficients about y_bar at noise s; 0 where a coefficient is free."""
        return (s**2 - self.tau2).clamp_min(0)

    def start(self, s: float, z: Tensor) -> Tensor:
        """Draw particles at the largest noise s, from white noise z of their shape."""
        variance, z_bar = self.variance(s), self.svd.Vt(z)
        start = torch.where(variance > 0, self.y_bar + variance.sqrt() * z_bar, s * z_bar)
        return s * z + self.svd.V(start - s * z_bar)


@dataclass(frozen=True)
class _Step:
    """A step of all particles from noise s to s_next, in the basis of singular vectors.

    mean: of the ancestral kernel, (M, ...). mean_bar, D_bar, u_bar: coefficients of that mean, of
    the denoised particles and of the particles.
    """

    measured: _Measured
    s: float
    s_next: float
    mean: Tensor
    mean_bar: Tensor
    D_bar: Tensor
    u_bar: Tensor

    @staticmethod
    def of(measured: _Measured, u: Tensor, D: Tensor, s: float, s_next: float) -> "_Step":
        mean, Vt = ancestral_mean(D, u, s, s_next), measured.svd.Vt
        return _Step(measured, s, s_next, mean, Vt(mean), Vt(D), Vt(u))

    def __getitem__(self, chosen: Tensor) -> "_Step":
        return replace(
            self,
            mean=self.mean[chosen],
            mean_bar=self.mean_bar[chosen],
            D_bar=self.D_bar[chosen],
            u_bar=self.u_bar[chosen],
        )

    @property
    def kernel_variance(self) -> float:
        """Variance of the ancestral kernel."""
        return self.s_next**2 * (1 - (self.s_next / self.s) ** 2)

    @cached_property
    def guided(self) -> Tensor:
        """Coefficients that are still above their tau after the step."""
        return self.measured.variance(self.s_next) > 0

    @cached_property
    def crossing(self) -> Tensor:
        """Coefficients whose path passes y_bar at the noise tau, between s and s_next."""
        return (self.measured.variance(self.s) > 0) & ~self.guided

    def log_weights(self) -> Tensor:
        """Density of y given the step over its density given the particles, in logarithms, (M,)."""
        y_bar, tau2 = self.measured.y_bar, self.measured.tau2
        variance, variance_next = (self.measured.variance(s) for s in (self.s, self.s_next))

        # the ancestral kernel from s to tau: share of u in its mean, and its variance
        share = torch.where(self.crossing, tau2 / self.s**2, 0)
        mean_at_tau = (1 - share) * self.D_bar + share * self.u_bar
        variance_at_tau = torch.where(self.crossing, tau2 * (1 - share), 1)

        after = torch.where(
            self.guided,
            _log_normal(y_bar - self.mean_bar, self.kernel_variance + variance_next),
            torch.where(self.crossing, _log_normal(y_bar - mean_at_tau, variance_at_tau), 0),
        )
        before = torch.where(variance > 0, _log_normal(y_bar - self.u_bar, variance), 0)
        return (after - before).flatten(1).sum(1)

    def propose(self, z: Tensor) -> Tensor:
        """Draw the particles at s_next given y, from white noise z of their shape."""
        svd, y_bar, tau2 = self.measured.svd, self.measured.y_bar, self.measured.tau2
        v, variance_next, z_bar = (
            self.kernel_variance,
            self.measured.variance(self.s_next),
            svd.Vt(z),
        )

        # product of the ancestral kernel and N(y_bar, variance_next)
        gain = torch.where(self.guided, v / (v + variance_next).clamp_min(1e-300), 0)
        pulled = self.mean_bar + gain * (y_bar - self.mean_bar)
        pulled = pulled + (v * (1 - gain)).clamp_min(0).sqrt() * z_bar

        # the ancestral kernel from y_bar at noise tau to s_next
        share = torch.where(self.crossing, self.s_next**2 / tau2.clamp_min(1e-300), 0)
        from_y = (1 - share) * self.D_bar + share * y_bar
        from_y = from_y + self.s_next * (1 - share).clamp_min(0).sqrt() * z_bar

        free: Tensor = self.mean + v**0.5 * z
        conditioned = torch.where(self.guided, pulled, from_y)
        change = torch.where(self.guided | self.crossing, conditioned - svd.Vt(free), 0)
        return free + svd.V(change)


def _log_normal(r: Tensor, variance: Tensor) -> Tensor:
    """Compute ln N(r; 0, variance) without its constant; a variance of 0 or inf counts as 1."""
    variance = torch.where(variance > 0, variance, 1).nan_to_num(posinf=1)
    return -0.5 * (r**2 / variance + variance.log())
