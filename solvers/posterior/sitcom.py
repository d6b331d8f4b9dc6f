r"""SITCOM, step-wise triple-consistent sampling (Alkhouri et al. 2025): at each noise level the network's input is moved until its denoised
image agrees with the measurement.

With :math:`x_t` at unit variance, K steps of Adam from :math:`v = x_t` on

.. math:: \|y - A\,D(v)\|^2 + \lambda\,\|v - x_t\|^2

make :math:`\hat x_0 = D(v)`, which agrees with y, lies on the network's range, and is near the denoised :math:`x_t`; fresh noise of the
next level follows. The steps stop where the residual is no larger than the noise explains. No posterior is behind it: the
whole noise is fresh at every level while D(v) carries over, a recursion that has not the posterior's variance, seen or unseen.
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

__all__ = ["SITCOM"]


@dataclass(frozen=True)
class SITCOM(IndependentSampler):
    """steps: noise levels. inner: steps of Adam at each, at most. learning_rate: of Adam. lam: pull towards x_t. patience: the residual's
    norm, in multiples of the noise's, at which a level is done. NFE = steps (inner + 1) at most, with inner products to a level."""

    exactness: ClassVar[Exactness] = "heuristic"
    requires: ClassVar[frozenset[str]] = frozenset({"vjp", "gaussian_noise"})

    steps: int = 20
    inner: int = 20
    learning_rate: float = 0.01
    lam: float = 0.0
    patience: float = 1.0
    grid: TimeGrid = field(default_factory=TimeGrid)

    def __post_init__(self) -> None:
        if (
            self.steps < 1
            or self.inner < 1
            or not self.learning_rate > 0
            or not (self.lam >= 0 and self.patience >= 0)
        ):
            raise ValueError(
                f"SITCOM needs steps, inner >= 1, learning_rate > 0 and lam, patience >= 0, got {self}"
            )

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        return {
            "sitcom": Preset(
                "at each level the network's input is moved until its output agrees with y; no posterior behind it",
                lambda steps: cls(steps=steps, inner=4, learning_rate=0.03, grid=RESTORATION_GRID),
                steps=20,
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        return {"sitcom": cls()}

    @torch.no_grad()
    def _draw(self, run: Run) -> tuple[Tensor, int]:
        prior, problem, y = run.prior, run.problem, run.y
        (times, levels), products = self.grid.along(prior, self.steps), 0
        explained = problem.noise_variance * problem.operator.mask_unobserved(
            torch.ones_like(y)
        ).flatten(1).sum(1)
        u = (levels[0] ** 2 + 1) ** 0.5 * run.randn()
        for i, t in enumerate(times):
            x_t = u / (1 + levels[i] ** 2) ** 0.5
            x0_hat, count = self._consistent(run, x_t, levels[i], t, explained)
            products += count
            u = x0_hat + levels[i + 1] * run.randn()
            run.progress((i + 1) / len(times))
        return u, products

    def _consistent(
        self, run: Run, x_t: Tensor, s: float, t: Tensor, explained: Tensor
    ) -> tuple[Tensor, int]:
        """D(v) after the steps of Adam, and their products."""
        prior, problem, y = run.prior, run.problem, run.y
        scale = prior.sde.alpha(t) * (1 + s**2) ** 0.5

        def denoise(v: Tensor) -> Tensor:
            return prior.denoise(scale * v, t)

        v = x_t.clone()
        adam = torch.optim.Adam([v], self.learning_rate)
        for k in range(self.inner):
            at = Linearisation(denoise, v)
            residual = problem.operator.mask_unobserved(problem.residual(y, at.value))
            open_ = residual.flatten(1).square().sum(1) > self.patience**2 * explained
            if not bool(open_.any()):
                return at.value, k
            v.grad = 2 * (self.lam * (v - x_t) - at.vjp(problem.operator.vjp(at.value, residual)))
            done = v[~open_]
            adam.step()
            v[~open_] = done  # Adam's momentum would carry them on
        return prior.denoise(scale * v, t), self.inner
