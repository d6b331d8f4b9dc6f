r"""Split Gibbs sampling: PnP-DM (Wu et al. 2024), DPnP (Xu and Chi 2024).

A copy z of x, tied by :math:`N(z; x, \rho^2 I)`, and two exact conditional draws in turn:

.. math:: z \sim p(y|z)\,N(z; x, \rho^2 I) \quad\text{(a Gaussian: prox and perturb)}, \qquad
          x \sim p_0(x)\,N(z; x, \rho^2 I) \quad\text{(the reverse SDE from noise } \rho).

For :math:`\rho \to 0` the law of x tends to the posterior, ever more slowly; :math:`\rho` is lowered along the way. At a given
:math:`\rho` the chain's law is the posterior under the measurement :math:`y = A(x + \rho n') + n`: too wide by :math:`\rho`.
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
    """sweeps: of two draws each. rho falls geometrically from rho_max to rho_min over ``anneal`` of them and stays. inner: steps of each
    reverse SDE. NFE = sweeps * inner."""

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
                f"SplitGibbs needs sweeps, inner >= 1, 0 < s_min < rho_min <= rho_max and anneal in [0, 1], got {self}"
            )

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        return {
            "split-gibbs": Preset(
                "exact draws given y and given the prior by turns (PnP-DM); steps are sweeps of 3 evaluations",
                lambda steps: cls(steps, rho_max=2.0, rho_min=0.08, inner=3, anneal=0.9),
                steps=12,
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        return {"split-gibbs": cls()}

    def rho(self, sweep: int) -> float:
        """The tie of this sweep."""
        fraction = min(1.0, sweep / max(1.0, self.anneal * (self.sweeps - 1)))
        return self.rho_max * (self.rho_min / self.rho_max) ** fraction

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
        """A draw of x_0 given x_0 + rho n = z: ancestral steps down from rho."""
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
