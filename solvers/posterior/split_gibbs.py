r"""Split Gibbs sampling: PnP-DM (Wu et al. 2024), DPnP (Xu and Chi 2024).

The state has a copy z of x, coupled to it by :math:`N(z; x, \rho^2 I)`. Two conditional draws
alternate:

.. math:: z \sim p(y|z)\,N(z; x, \rho^2 I) \quad\text{(a Gaussian: prox and perturb)}, \qquad
          x \sim p_0(x)\,N(z; x, \rho^2 I) \quad\text{(the reverse SDE from noise } \rho).

For :math:`\rho \to 0` the law of x tends to the posterior, but the chain mixes more and more
slowly, so :math:`\rho` is lowered during the run. At a given :math:`\rho` the law of the chain is
the posterior of the measurement :math:`y = A(x + \rho n') + n`, which is too wide by :math:`\rho`.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from solvers.capabilities import Exactness
from solvers.posterior.base import IndependentSampler
from solvers.posterior.records import Run, ancestral_mean
from solvers.presets import Preset
from solvers.samplers.grid import TimeGrid

__all__ = ["SplitGibbs"]


@dataclass(frozen=True)
class SplitGibbs(IndependentSampler):
    """Split Gibbs sampling, for linear measurements with Gaussian noise.

    The cost is sweeps * inner network evaluations.

    Args:
        sweeps: Number of sweeps of two draws each.
        rho_max: Coupling of the first sweep, a standard deviation.
        rho_min: Coupling of the last sweeps, a standard deviation.
        anneal: Share of the sweeps in [0, 1] over which rho falls geometrically from rho_max to
            rho_min, where it stays.
        inner: Steps of the reverse SDE in each sweep.
        s_min: Smallest noise level of the reverse SDE, below rho_min.
        grid: Spacing of the levels of the reverse SDE; only ``spacing`` and ``rho`` are used.

    Raises:
        ValueError: If sweeps or inner is below 1, anneal is not in [0, 1], or
            0 < s_min < rho_min <= rho_max does not hold.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> g = torch.Generator().manual_seed(0)
        >>> y = torch.ones(1, 1, 2, 2)
        >>> posterior = SplitGibbs(sweeps=4, inner=3).sample(prior, problem, y, n=4, generator=g)
        >>> posterior.draws.shape, posterior.nfe
        (torch.Size([4, 1, 1, 2, 2]), 12)
    """

    exactness: ClassVar[Exactness] = "asymptotic"
    requires: ClassVar[frozenset[str]] = frozenset({"linear", "adjoint", "solve", "gaussian_noise"})

    sweeps: int = 100
    rho_max: float = 10.0
    rho_min: float = 0.3
    anneal: float = 0.6
    inner: int = 10
    s_min: float = 0.01
    grid: TimeGrid = field(default_factory=lambda: TimeGrid("log_snr"))

    def __post_init__(self) -> None:
        if (
            self.sweeps < 1
            or self.inner < 1
            or not 0 < self.s_min < self.rho_min <= self.rho_max
            or not 0 <= self.anneal <= 1
        ):
            raise ValueError(
                "SplitGibbs needs sweeps, inner >= 1, 0 < s_min < rho_min <= rho_max "
                f"and anneal in [0, 1], got {self}"
            )

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        """Return the named settings of this solver.

        Returns:
            Name -> settings for photographs.
        """
        return {
            "split-gibbs": Preset(
                "alternates draws given y and given the prior (PnP-DM), for linear measurements; "
                "a step is a sweep of 3 evaluations",
                lambda steps: cls(steps, rho_max=2.0, rho_min=0.08, inner=3, anneal=0.9),
                steps=12,
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        """Return the settings of this solver for exact problems.

        Returns:
            Name -> posterior sampler.
        """
        return {"split-gibbs": cls()}

    def rho(self, sweep: int) -> float:
        """Compute the coupling of a sweep.

        Args:
            sweep: Index of the sweep, from 0.

        Returns:
            Standard deviation rho of z given x.
        """
        fraction = min(1.0, sweep / max(1.0, self.anneal * (self.sweeps - 1)))
        rho: float = self.rho_max * (self.rho_min / self.rho_max) ** fraction
        return rho

    @torch.no_grad()
    def _draw(self, run: Run) -> tuple[Tensor, int]:
        problem, y = run.problem, run.y
        A = problem.linear_operator
        x = self.rho_max * run.randn()
        for sweep in range(self.sweeps):
            rho = self.rho(sweep)
            z = x + rho * run.randn()
            blurred = y + problem.noise_variance**0.5 * run.randn_like(y)
            z = A.prox(z, A.mask_unobserved(blurred), problem.noise_variance, rho**2)
            x = self._denoising_draw(run, z, rho)
            run.progress((sweep + 1) / self.sweeps)
        return x, 0

    def _denoising_draw(self, run: Run, z: Tensor, rho: float) -> Tensor:
        """Draw x_0 given x_0 + rho n = z by ancestral steps from noise rho down to 0."""
        prior, sde = run.prior, run.prior.sde
        grid = TimeGrid(self.grid.spacing, self.grid.rho, rho, self.s_min)
        times, levels = grid.along(prior, self.inner)
        levels[0], u = rho, z
        for t, s, s_next in zip(times, levels, levels[1:], strict=False):
            D = prior.denoise(sde.alpha(t) * u, t)
            q = (s_next / s) ** 2
            u = ancestral_mean(D, u, s, s_next)
            if s_next > 0:
                u = u + s_next * (1 - q) ** 0.5 * run.randn_like(u)
        return u
