r"""DiffPIR: half-quadratic splitting inside DDIM.

Source: Zhu et al. 2023, "Denoising diffusion models for plug-and-play image restoration",
algorithm 1. Each step denoises, pulls the estimate towards the measurement by a proximal step, and
adds the noise of the next level, of which a share zeta is fresh:

.. math:: \hat x_0 = \arg\min_x \tfrac12\|y - A x\|^2 + \tfrac{\rho_t}{2}\|x - D(x_t)\|^2,\quad
          \rho_t = \lambda\sigma_y^2/s_t^2

.. math:: x_s = \alpha_s\hat x_0 + \sigma_s(\sqrt{1-\zeta}\,\hat\varepsilon + \sqrt{\zeta}\,z),\quad
          \hat\varepsilon = (x_t - \alpha_t\hat x_0)/\sigma_t .

The proximal step assumes that :math:`x_0|x_t` has variance :math:`s^2/\lambda` in every direction,
and the noise estimate ignores that :math:`\hat x_0` is a mean. The draws are therefore not
posterior draws even for a Gaussian prior.

The published settings (:math:`\lambda = 8, \zeta = 0.3`) favour sharp pictures and err in the
mean: a large lambda pulls towards the denoiser at every level, and noise that is kept carries the
start of the run to its end. The defaults here, :math:`\lambda = \zeta = 1`, have a fraction of
that error on exact problems. The price is draws whose variance is about half of the right one.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from solvers.capabilities import Exactness
from solvers.posterior.base import IndependentSampler
from solvers.posterior.records import Run
from solvers.presets import RESTORATION_GRID, Preset
from solvers.samplers.grid import TimeGrid

__all__ = ["DiffPIR"]


@dataclass(frozen=True)
class DiffPIR(IndependentSampler):
    """DiffPIR, a plug-and-play solver for linear measurements.

    The cost is one network evaluation per step.

    Args:
        steps: Number of steps.
        lam: Weight of the denoiser against the data, 1 to 15 in the paper.
        zeta: Share of fresh noise in [0, 1], 0.1 to 0.3 in the paper.
        grid: Noise levels.

    Raises:
        ValueError: If steps is below 1, lam is not positive, or zeta is not in [0, 1].

    Example:
        >>> import torch
        >>> from problems import GaussianNoise, Inpainting, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> mask = torch.tensor([[True, False], [True, True]])
        >>> problem = InverseProblem(Inpainting(mask), GaussianNoise(0.5))
        >>> g = torch.Generator().manual_seed(0)
        >>> y = torch.ones(1, 1, 2, 2)
        >>> posterior = DiffPIR(steps=5).sample(prior, problem, y, n=4, generator=g)
        >>> posterior.draws.shape, posterior.nfe
        (torch.Size([4, 1, 1, 2, 2]), 5)
    """

    exactness: ClassVar[Exactness] = "heuristic"
    requires: ClassVar[frozenset[str]] = frozenset({"linear", "adjoint", "solve", "gaussian_noise"})

    steps: int = 100
    lam: float = 1.0
    zeta: float = 1.0
    grid: TimeGrid = field(default_factory=TimeGrid)

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.lam > 0 or not 0 <= self.zeta <= 1:
            raise ValueError(
                "DiffPIR needs steps >= 1, lam > 0 and zeta in [0, 1], "
                f"got {self.steps}, {self.lam}, {self.zeta}"
            )

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        """Return the named settings of this solver.

        Returns:
            Name -> settings for photographs.
        """
        return {
            "diffpir": Preset(
                "proximal steps towards y between denoising steps; fast, 1 evaluation per step; "
                "the draws vary too little",
                lambda steps: cls(steps, lam=3.0, zeta=1.0, grid=RESTORATION_GRID),
                steps=30,
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        """Return the settings of this solver for exact problems.

        Returns:
            Name -> posterior sampler.
        """
        return {"diffpir": cls(100, lam=8.0, zeta=0.3)}

    @torch.no_grad()
    def _draw(self, run: Run) -> tuple[Tensor, int]:
        prior, problem, y = run.prior, run.problem, run.y
        sde, variance = prior.sde, problem.noise_variance
        times, _ = self.grid.along(prior, self.steps)
        x_t = sde.sigma(times[0]) * run.randn()
        x0_hat = x_t
        for i, t in enumerate(times):
            s2 = float(sde.noise_to_signal(t)) ** 2
            x0_hat = problem.linear_operator.prox(prior.denoise(x_t, t), y, variance, s2 / self.lam)
            run.note(s2**0.5, x0_hat)
            if i + 1 < len(times):
                t_next = times[i + 1]
                eps_hat = (x_t - sde.alpha(t) * x0_hat) / sde.sigma(t)
                eps = (1 - self.zeta) ** 0.5 * eps_hat
                if self.zeta > 0:
                    eps = eps + self.zeta**0.5 * run.randn()
                x_t = sde.alpha(t_next) * x0_hat + sde.sigma(t_next) * eps
            run.progress((i + 1) / len(times))
        return x0_hat, 0
