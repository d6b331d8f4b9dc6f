r"""SITCOM, step-wise triple-consistent sampling (Alkhouri et al. 2025).

At each noise level the network's input is optimised until its denoised image agrees with the
measurement. With :math:`x_t` scaled to unit variance, which assumes data of variance
``prior_variance``, K steps of Adam from :math:`v = x_t` on

.. math:: \|y - A\,D(v)\|^2 + \lambda\,\|v - x_t\|^2

give :math:`\hat x_0 = D(v)`, which agrees with y, lies in the range of the network, and is close to
the denoised :math:`x_t`. Then the fresh noise of the next level is added. The optimisation stops
once the residual is no larger than the noise explains. The method has no posterior as its target:
all noise is fresh at every level while D(v) carries over, a recursion that does not reproduce the
posterior variance in observed or unobserved directions.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from solvers.capabilities import Exactness
from solvers.jacobian import Linearisation
from solvers.posterior.base import IndependentSampler
from solvers.posterior.records import Run
from solvers.presets import RESTORATION_GRID, Preset
from solvers.samplers.grid import TimeGrid
from solvers.scale import OfData

__all__ = ["SITCOM"]


@dataclass(frozen=True)
class SITCOM(IndependentSampler):
    """SITCOM, optimisation of the network's input at each noise level.

    The cost is at most steps * (inner + 1) network evaluations and steps * inner vector-Jacobian
    products.

    Args:
        steps: Number of noise levels.
        inner: Largest number of steps of Adam at each level.
        learning_rate: Step size of Adam, on x_t of unit variance, without unit.
        lam: Weight of the squared distance to x_t, in squared units of y.
        patience: Norm of the residual at which a level is finished, in multiples of the expected
            norm of the noise.
        grid: Noise levels.
        prior_variance: Variance of the data, positive, in squared units of x; 1 in the paper.

    Raises:
        ValueError: If steps or inner is below 1, learning_rate or prior_variance is not positive,
            or lam or patience is negative.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> g = torch.Generator().manual_seed(0)
        >>> y = torch.ones(1, 1, 2, 2)
        >>> posterior = SITCOM(steps=5, inner=3).sample(prior, problem, y, n=4, generator=g)
        >>> posterior.draws.shape, posterior.nfe <= 5 * 4
        (torch.Size([4, 1, 1, 2, 2]), True)
    """

    exactness: ClassVar[Exactness] = "heuristic"
    requires: ClassVar[frozenset[str]] = frozenset({"vjp", "gaussian_noise"})

    steps: int = 20
    inner: int = 20
    learning_rate: float = 0.01
    lam: float = 0.0
    patience: float = 1.0
    grid: TimeGrid = field(default_factory=TimeGrid)
    prior_variance: float = 1.0

    def __post_init__(self) -> None:
        if (
            self.steps < 1
            or self.inner < 1
            or not (self.learning_rate > 0 and self.prior_variance > 0)
            or not (self.lam >= 0 and self.patience >= 0)
        ):
            raise ValueError(
                "SITCOM needs steps, inner >= 1, learning_rate, prior_variance > 0 and lam, "
                "patience >= 0, "
                f"got {self}"
            )

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        """Return the named settings of this solver.

        Returns:
            Name -> settings for photographs.
        """
        return {
            "sitcom": Preset(
                "optimises the network input until its output fits y, without a posterior; "
                "at most 5 evaluations and 4 VJPs per step",
                lambda steps: cls(
                    steps,
                    inner=4,
                    learning_rate=0.03,
                    grid=RESTORATION_GRID,
                    prior_variance=OfData(4.0, power=2),
                ),
                steps=20,
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        """Return the settings of this solver for exact problems.

        Returns:
            Name -> posterior sampler.
        """
        return {"sitcom": cls()}

    @torch.no_grad()
    def _draw(self, run: Run) -> tuple[Tensor, int]:
        prior, problem, y = run.prior, run.problem, run.y
        (times, levels), products = self.grid.along(prior, self.steps), 0
        explained = problem.noise_variance * problem.operator.mask_unobserved(
            torch.ones_like(y)
        ).flatten(1).sum(1)
        u = (levels[0] ** 2 + self.prior_variance) ** 0.5 * run.randn()
        for i, t in enumerate(times):
            x_t = u / (self.prior_variance + levels[i] ** 2) ** 0.5
            x0_hat, count = self._consistent(run, x_t, levels[i], t, explained)
            products += count
            run.note(levels[i], x0_hat)
            u = x0_hat + levels[i + 1] * run.randn()
            run.progress((i + 1) / len(times))
        return u, products

    def _consistent(
        self, run: Run, x_t: Tensor, s: float, t: Tensor, explained: Tensor
    ) -> tuple[Tensor, int]:
        """Return D(v) after the steps of Adam, and the number of VJPs."""
        prior, problem, y = run.prior, run.problem, run.y
        scale = prior.sde.alpha(t) * (self.prior_variance + s**2) ** 0.5

        def denoise(v: Tensor) -> Tensor:
            return prior.denoise(scale * v, t)

        v = x_t.clone()
        adam = torch.optim.Adam([v], self.learning_rate)
        for k in range(self.inner):
            at = Linearisation(denoise, v)
            residual = problem.operator.mask_unobserved(
                problem.residual(y, at.value, rounded=False)
            )
            open_ = residual.flatten(1).square().sum(1) > self.patience**2 * explained
            if not bool(open_.any()):
                return at.value, k
            v.grad = 2 * (self.lam * (v - x_t) - at.vjp(problem.operator.vjp(at.value, residual)))
            done = v[~open_]
            adam.step()
            v[~open_] = done  # Adam's momentum would move finished samples further
        return prior.denoise(scale * v, t), self.inner
