r"""Second-order ancestral sampling given a measurement: the reverse kernel with its covariance, at the size of images.

In :math:`u = x_0 + s n` let :math:`D = E[x_0|u]` and :math:`V = s^2 J = \mathrm{Cov}[x_0|u]`, J = dD/du (Tweedie, to second order). With
:math:`x_0|u` taken as :math:`N(D, V)` a step from s to :math:`s' = \sqrt\rho s` given :math:`y = A x_0 + n` is a draw of :math:`x_0`
given u and y, and of u' between it and u:

.. math:: \tilde x_0 = D + V^{1/2} z,\qquad \hat x_0 = \tilde x_0 + V A^T (\Sigma_y + A V A^T)^{-1}(y - A\tilde x_0 - n'),\qquad
          u' = (1 - \rho)\hat x_0 + \rho u + s\sqrt{\rho(1 - \rho)}\, e,

with :math:`n' \sim N(0, \Sigma_y)` and z, e white: Matheron's rule, a prior draw and a correction by its own misfit. For a Gaussian prior
every step is exact, however long, where the ancestral sampler of a guided prior forgets the covariance :math:`(1 - \rho)^2 V` of a step
and needs many short ones. :math:`V^{1/2} z = s J^{1/2} z` comes from a few steps of Lanczos's method (Chow and Saad 2014), the correction
from conjugate gradients as in :class:`MMPS`; each iteration is one vector-Jacobian product. (The reverse kernel's covariance: Bao et al.
2022; Ou et al. 2024.) For priors of several modes it errs as far as :math:`p(x_0|u)` is not a Gaussian: :class:`PredictedTwistSMC` weighs.

A learned J is neither quite symmetric nor quite a covariance: more iterations of either method then make the draws worse, not better.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from problems.linalg.broadcast import expand_like
from problems.linalg.solve import dot
from solvers.capabilities import Exactness
from solvers.guidance import MMPS
from solvers.guidance.base import Products
from solvers.jacobian import Linearisation
from solvers.posterior.base import IndependentSampler
from solvers.posterior.records import Run
from solvers.presets import RESTORATION_GRID, Preset
from solvers.samplers.grid import TimeGrid

__all__ = ["SecondOrderAncestral", "square_root_product"]


@dataclass(frozen=True)
class SecondOrderAncestral(IndependentSampler):
    """steps: NFE. lanczos: products for the square root, at each step; correction: conjugate gradients, at most so many products more."""

    exactness: ClassVar[Exactness] = "gaussian"
    requires: ClassVar[frozenset[str]] = MMPS.requires

    steps: int = 20
    lanczos: int = 3
    correction: MMPS = field(default_factory=lambda: MMPS(iterations=3))
    grid: TimeGrid = field(default_factory=TimeGrid)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.lanczos < 1:
            raise ValueError(
                f"steps and lanczos must be at least 1, got {self.steps} and {self.lanczos}"
            )

    @classmethod
    def presets(cls) -> dict[str, Preset]:
        return {
            "second-order": Preset(
                "ancestral steps with the covariance of each, drawn given y; spreads as wide as it should in few steps",
                lambda steps: cls(steps, grid=RESTORATION_GRID),
                steps=20,
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        return {"second-order": cls(40, lanczos=4, correction=MMPS(iterations=4))}

    def _draw(self, run: Run) -> tuple[Tensor, int]:
        prior, problem, y = run.prior, run.problem, run.y
        sde = prior.sde
        times, levels = self.grid.along(prior, self.steps)

        u, count = levels[0] * run.randn(), 0
        for i, t in enumerate(times):
            s, rho = levels[i], (levels[i + 1] / levels[i]) ** 2
            at = Linearisation(lambda u, t=t: prior.denoise(sde.alpha(t) * u, t), u)  # type: ignore[misc]
            with torch.no_grad():
                x0 = at.value + s * square_root_product(at.vjp, run.randn(), self.lanczos)
                misfit = y - problem.noise.sample(problem.operator.apply(x0), run.generators)
                mean = problem.operator.apply(at.value)
                x0 = x0 + self.correction.gain(
                    misfit, at.value, mean, at.vjp, u.new_full((len(u),), s), problem
                )
                u = (1 - rho) * x0 + rho * u + s * (rho * (1 - rho)) ** 0.5 * run.randn()
            count += at.count
            run.progress((i + 1) / self.steps)
        return u, count


def square_root_product(product: Products, z: Tensor, iterations: int) -> Tensor:
    r"""J^(1/2) z, (B, ...), for a symmetric J >= 0 given by its products, each sample by itself: Lanczos's method.

    With the orthonormal basis Q of the Krylov space of (J, z) and T = Q^T J Q it is |z| Q T^(1/2) e_1, exact for polynomials of degree
    ``iterations`` - 1. Eigenvalues that rounding, or a network that is not quite symmetric, made negative count as 0.
    """
    norm = dot(z, z).sqrt()
    q, Q, alphas, betas = z / expand_like(norm, z), [], [], []
    for k in range(iterations):
        Q.append(q)
        w = product(q)
        alphas.append(dot(w, q))
        for _ in range(2):  # twice is enough, in single precision too
            for one in Q:
                w = w - expand_like(dot(w, one), w) * one
        beta = dot(w, w).sqrt()
        if k + 1 < iterations:
            betas.append(beta)
        # a space that is exhausted is extended by nothing
        q = w / expand_like(beta.clamp_min(torch.finfo(w.dtype).tiny), w)
    T = torch.diag_embed(torch.stack(alphas, -1))
    if betas:
        off = torch.diag_embed(torch.stack(betas, -1), offset=1)
        T = T + off + off.mT
    values, vectors = torch.linalg.eigh(T)
    weights = (vectors * values.clamp_min(0).sqrt()[:, None]) @ vectors[:, 0, :, None]
    return expand_like(norm, z) * torch.stack(
        [expand_like(weights[:, k, 0], z) * one for k, one in enumerate(Q)]
    ).sum(0)
