r"""Monte Carlo guided diffusion (Cardoso et al. 2023): SMC in the basis of singular vectors.

The measured coefficient :math:`\bar x_i` is known to within :math:`\tau_i = \sigma_y/s_i`, which is to say that the diffusion passed
through :math:`\bar y_i` when its noise was :math:`\tau_i`; before, at :math:`s > \tau_i`, it was :math:`N(\bar y_i, s^2 - \tau_i^2)`.
Particles are drawn from the ancestral kernel times these Gaussians and weighted by its normaliser over the last one's,

.. math:: \frac{\prod_i N(\bar y_i;\, m_i,\, v + s'^2 - \tau_i^2)}{\prod_i N(\bar y_i;\, u_i,\, s^2 - \tau_i^2)} .

Where :math:`\tau_i` lies between s and s', the path is led through :math:`\bar y_i` at :math:`\tau_i`, and weighted by the density that the
ancestral kernel gives to that. Below, the coefficient is free. No pass back through the network. Exact as particles and steps grow.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from solvers.capabilities import Exactness
from solvers.posterior.records import ancestral_mean
from solvers.posterior.smc.base import ParticleSampler, Population, ess_fraction, systematic
from solvers.presets import RESTORATION_GRID, Preset
from solvers.samplers.grid import TimeGrid

__all__ = ["MCGDiff"]


@dataclass(frozen=True)
class MCGDiff(ParticleSampler):
    """particles: at least so many, and at least the draws; resampled at every step, as published. NFE = steps per particle."""

    exactness: ClassVar[Exactness] = "asymptotic"
    requires: ClassVar[frozenset[str]] = frozenset({"linear", "adjoint", "gaussian_noise"})

    steps: int = 100
    particles: int = 64
    grid: TimeGrid = field(default_factory=TimeGrid)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.particles < 1:
            raise ValueError(f"MCGDiff needs steps and particles >= 1, got {self}")

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        return {
            "mcgdiff": Preset(
                "SMC in the basis of singular vectors, 64 particles or as many as draws; no products; for small pictures",
                lambda steps: cls(steps, particles=64, grid=RESTORATION_GRID),
                steps=100,
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        return {"mcgdiff": cls()}

    def _population(self, run: Population) -> tuple[Tensor, dict[str, Any]]:
        denoise, problem, y, n = run.denoise, run.problem, run.y, run.n
        sde, shape = denoise.prior.sde, denoise.shape
        svd = problem.linear_operator.svd(shape, y)
        seen = svd.s > 1e-6 * svd.s.max()
        tau2 = torch.where(
            seen, problem.noise_variance / torch.where(seen, svd.s, 1) ** 2, torch.inf
        )
        y_bar = torch.where(seen, svd.Ut(y) / torch.where(seen, svd.s, 1), 0)
        levels = self.grid.levels(sde, self.steps)
        many = max(n, self.particles)

        z = run.randn(many, *shape)
        left = (levels[0] ** 2 - tau2).clamp_min(
            0
        )  # variance of u_i about y_i, 0 where the coefficient is free
        start = torch.where(left > 0, y_bar + left.sqrt() * svd.Vt(z), levels[0] * svd.Vt(z))
        u = levels[0] * z + svd.V(start - levels[0] * svd.Vt(z))
        ancestors, ess = torch.arange(many), 1.0
        for i, (s, s_next) in enumerate(itertools.pairwise(levels)):
            D = denoise(u.flatten(1), s).reshape(u.shape)
            q = (s_next / s) ** 2
            mean, v = ancestral_mean(D, u, s, s_next), s_next**2 * (1 - q)
            D_bar, u_bar, m = svd.Vt(D), svd.Vt(u), svd.Vt(mean)
            ahead = (s_next**2 - tau2).clamp_min(0)
            crossing = (left > 0) & ~(ahead > 0)  # the path passes y_i at tau_i, between s and s'
            at = torch.where(crossing, tau2 / s**2, 0)
            passing, width = (
                (1 - at) * D_bar + at * u_bar,
                torch.where(crossing, tau2 * (1 - at), 1),
            )
            weight = torch.where(
                ahead > 0,
                _log_normal(y_bar - m, v + ahead),
                torch.where(crossing, _log_normal(y_bar - passing, width), 0),
            )
            inc = (
                (weight - torch.where(left > 0, _log_normal(y_bar - u_bar, left), 0))
                .flatten(1)
                .sum(1)
            )
            ess = min(ess, ess_fraction(inc))
            chosen = systematic(inc, many, run.generator)
            mean, m, D_bar, ancestors = (
                mean[chosen],
                m[chosen],
                D_bar[chosen],
                ancestors[chosen.cpu()],
            )
            z = run.randn(many, *shape)
            z_bar = svd.Vt(z)
            gain = torch.where(ahead > 0, v / (v + ahead).clamp_min(1e-300), 0)
            pulled = m + gain * (y_bar - m) + (v * (1 - gain)).clamp_min(0).sqrt() * z_bar
            on = torch.where(crossing, s_next**2 / tau2.clamp_min(1e-300), 0)
            passed = (1 - on) * D_bar + on * y_bar + s_next * (1 - on).clamp_min(0).sqrt() * z_bar
            free = mean + v**0.5 * z
            steered = torch.where(ahead > 0, pulled, passed)
            u = free + svd.V(torch.where((ahead > 0) | crossing, steered - svd.Vt(free), 0))
            left = ahead
            run.progress((i + 1) / self.steps)
        chosen = systematic(torch.zeros(many, dtype=torch.float64), n, run.generator)
        return u.flatten(1)[chosen], {
            "ess_fraction": ess,
            "ancestors": len(ancestors[chosen.cpu()].unique()),
        }


def _log_normal(r: Tensor, variance: Tensor) -> Tensor:
    variance = torch.where(variance > 0, variance, 1).nan_to_num(posinf=1)
    return -0.5 * (r**2 / variance + variance.log())
