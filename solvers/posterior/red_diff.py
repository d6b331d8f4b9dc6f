r"""RED-diff (Mardani et al. 2024): one image by optimisation, with the denoiser as regulariser.

The posterior is approximated by :math:`N(\mu, 0)`. Adam follows stochastic gradients of the
variational bound, with t going from noise to data,

.. math:: \nabla_\mu \tfrac1{2\sigma_y^2}\|y - A\mu\|^2
          + \lambda \tfrac{\sigma_t}{\alpha_t} \bigl(\hat\varepsilon(x_t) - \varepsilon\bigr),
          \qquad x_t = \alpha_t\mu + \sigma_t\varepsilon .

The result is a point estimate: its "draws" differ only by the noise of the optimisation and carry
no information about uncertainty.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from solvers.capabilities import Exactness
from solvers.posterior.base import IndependentSampler
from solvers.posterior.records import Run
from solvers.presets import Preset
from solvers.samplers.grid import TimeGrid
from solvers.scale import OfData

__all__ = ["REDDiff"]


@dataclass(frozen=True)
class REDDiff(IndependentSampler):
    """RED-diff, a point estimate for any differentiable measurement.

    The cost is one network evaluation per step.

    Args:
        steps: Number of steps of Adam.
        learning_rate: Step size of Adam, in the units of x.
        lam: Weight of the prior against the data term, without unit: both are in units of the
            noise's precision.
        grid: Noise levels, one for each step.

    Raises:
        ValueError: If steps is below 1, learning_rate is not positive, or lam is negative.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> g = torch.Generator().manual_seed(0)
        >>> y = torch.ones(1, 1, 2, 2)
        >>> posterior = REDDiff(steps=20).sample(prior, problem, y, n=2, generator=g)
        >>> posterior.draws.shape, posterior.nfe
        (torch.Size([2, 1, 1, 2, 2]), 20)
    """

    exactness: ClassVar[Exactness] = "heuristic"
    requires: ClassVar[frozenset[str]] = frozenset({"vjp"})

    steps: int = 1000
    learning_rate: float = 0.1
    lam: float = 0.25
    grid: TimeGrid = field(default_factory=lambda: TimeGrid("log_snr", s_max=10.0, s_min=0.01))

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.learning_rate > 0 or not self.lam >= 0:
            raise ValueError(
                f"REDDiff needs steps >= 1, learning_rate > 0 and lam >= 0, got {self}"
            )

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        """Return the named settings of this solver.

        Returns:
            Name -> settings for photographs.
        """
        return {
            "red-diff": Preset(
                "one image by optimisation, without uncertainty; any differentiable measurement; "
                "1 evaluation per step",
                lambda steps: cls(
                    steps,
                    learning_rate=OfData(0.2),
                    grid=TimeGrid("log_snr", s_max=OfData(20.0), s_min=OfData(0.02)),
                ),
                steps=60,
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        """Return the settings of this solver for exact problems.

        Returns:
            Name -> posterior sampler.
        """
        return {"red-diff": cls()}

    @torch.no_grad()
    def _draw(self, run: Run) -> tuple[Tensor, int]:
        prior, problem, y = run.prior, run.problem, run.y
        sde = prior.sde
        mu = problem.operator.vjp(
            torch.zeros(run.shape, dtype=prior.dtype, device=prior.device), y
        ).clone()
        adam = torch.optim.Adam([mu], self.learning_rate, betas=(0.9, 0.99))
        for i, t in enumerate(self.grid.along(prior, self.steps)[0]):
            s, eps = float(sde.noise_to_signal(t)), run.randn()
            u = mu + s * eps
            eps_hat = (u - prior.denoise(sde.alpha(t) * u, t)) / s
            mu.grad = self.lam * s * (eps_hat - eps) - problem.operator.vjp(
                mu, problem.residual(y, mu, rounded=False)
            )
            adam.step()
            run.progress((i + 1) / self.steps)
        return mu, 0
