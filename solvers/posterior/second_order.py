r"""Second-order ancestral sampling: the conditional reverse kernel with its covariance, for images.

In :math:`u = x_0 + s n` let :math:`D = E[x_0|u]` and :math:`V = s^2 J = \mathrm{Cov}[x_0|u]`,
:math:`J = dD/du` (Tweedie, to second order). Approximate :math:`x_0|u` by :math:`N(D, V)`. A step
from s to :math:`s' = \sqrt\rho s` given :math:`y = A x_0 + n` then consists of a draw of
:math:`x_0` given u and y, and a draw of u' between that and u:

.. math:: \tilde x_0 = D + V^{1/2} z,\qquad
          \hat x_0 = \tilde x_0 + V A^T (\Sigma_y + A V A^T)^{-1}(y - A\tilde x_0 - n'),\qquad
          u' = (1 - \rho)\hat x_0 + \rho u + s\sqrt{\rho(1 - \rho)}\, e,

with :math:`n' \sim N(0, \Sigma_y)` and z, e white. This is Matheron's rule: a prior draw, corrected
by its misfit to y. For a Gaussian prior every step is exact, however long. The ancestral sampler of
a guided prior omits the covariance :math:`(1 - \rho)^2 V` of a step and needs many short steps.
:math:`V^{1/2} z = s J^{1/2} z` comes from a few steps of Lanczos's method (Chow and Saad 2014), the
correction from conjugate gradients as in :class:`MMPS`; each iteration costs one vector-Jacobian
product. The covariance of the reverse kernel is from Bao et al. 2022 and Ou et al. 2024. For priors
with several modes the error is that of a Gaussian :math:`p(x_0|u)`; :class:`PredictedTwistSMC`
corrects it by weights.

A learned J is not exactly symmetric and not exactly a covariance. Both methods work with its
symmetric part within their Krylov spaces, and the correction is bounded by the misfit
(:mod:`solvers.guidance.krylov`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from problems.linalg.broadcast import expand_like
from problems.linalg.solve import dot
from scoresde.priors.base import Prior
from solvers.capabilities import Exactness
from solvers.guidance import MMPS
from solvers.guidance.base import Products
from solvers.jacobian import Linearisation
from solvers.posterior.base import IndependentSampler
from solvers.posterior.records import Run
from solvers.presets import RESTORATION_GRID, Preset
from solvers.samplers.grid import TimeGrid

__all__ = ["SecondOrderAncestral", "lanczos", "linearised_denoiser", "square_root_product"]


@dataclass(frozen=True)
class SecondOrderAncestral(IndependentSampler):
    """Ancestral sampling with the covariance of each step, given a measurement.

    A step costs one network evaluation, ``lanczos`` vector-Jacobian products, and at most
    ``correction.iterations`` more.

    Args:
        steps: Number of steps, which is the number of network evaluations.
        lanczos: Vector-Jacobian products for the square root of J, at each step.
        correction: Conjugate gradients that condition each step on y.
        grid: Noise levels.

    Raises:
        ValueError: If steps or lanczos is below 1.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> g = torch.Generator().manual_seed(0)
        >>> y = torch.ones(1, 1, 2, 2)
        >>> posterior = SecondOrderAncestral(5).sample(prior, problem, y, n=200, generator=g)
        >>> posterior.draws.shape, posterior.nfe
        (torch.Size([200, 1, 1, 2, 2]), 5)
        >>> round(float(posterior.mean.mean()), 1)  # the exact posterior mean is 0.8
        0.8
    """

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
        """Return the named settings of this solver.

        Returns:
            Name -> settings for photographs.
        """
        return {
            "second-order": Preset(
                "ancestral steps with full covariance, accurate spread in few steps; "
                "1 evaluation and at most 6 VJPs per step",
                lambda steps: cls(steps, grid=RESTORATION_GRID),
                steps=20,
            ),
        }

    @classmethod
    def verified(cls) -> dict[str, Any]:
        """Return the settings of this solver for exact problems.

        Returns:
            Name -> posterior sampler.
        """
        return {"second-order": cls(40, lanczos=4, correction=MMPS(iterations=4))}

    def _draw(self, run: Run) -> tuple[Tensor, int]:
        times, levels = self.grid.along(run.prior, self.steps)
        return self._descend(run, levels[0] * run.randn(), list(times), levels)

    def _descend(
        self, run: Run, u: Tensor, times: Sequence[Tensor], levels: Sequence[Any]
    ) -> tuple[Tensor, int]:
        """Follow the reverse kernels from u at the first level to the last, and count the VJPs.

        Each level is a number, or one of each draw, which broadcasts over u.
        """
        count = 0
        for i, t in enumerate(times):
            s, rho = levels[i], (levels[i + 1] / levels[i]) ** 2
            x0, products = self._conditional_draw(run, u, t, s)
            with torch.no_grad():
                u = (1 - rho) * x0 + rho * u + s * (rho * (1 - rho)) ** 0.5 * run.randn()
            count += products
            run.progress((i + 1) / len(times))
        return u, count

    def _conditional_draw(self, run: Run, u: Tensor, t: Tensor, s: Any) -> tuple[Tensor, int]:
        """Draw x_0 given u and y, and count the VJPs."""
        problem, at = run.problem, linearised_denoiser(run.prior, u, t)
        with torch.no_grad():
            x0 = at.value + s * square_root_product(at.vjp, run.randn(), self.lanczos)
            misfit = run.y - problem.noise.sample(problem.operator.apply(x0), run.generators)
            mean = problem.operator.apply(at.value)
            ratios = (u.new_zeros(()) + s).flatten().expand(len(u))
            x0 = x0 + self.correction.gain(misfit, at.value, mean, at.vjp, ratios, problem)
        return x0, at.count


def linearised_denoiser(prior: Prior, u: Tensor, t: Tensor) -> Linearisation:
    """Evaluate D(u) = E[x_0 | u], u = x_t / alpha_t, for products with its Jacobian.

    Args:
        prior: Prior of x.
        u: Points, shape (B, ...).
        t: Time, a scalar or shape (B,).

    Returns:
        D linearised at u.
    """
    alpha_t = prior.sde.alpha(t)
    return Linearisation(lambda u: prior.denoise(expand_like(alpha_t, u) * u, t), u)


def square_root_product(product: Products, z: Tensor, iterations: int) -> Tensor:
    r"""Compute J^(1/2) z for a symmetric J >= 0, given by its products, with Lanczos's method.

    With the orthonormal basis Q of the Krylov space of (J, z) and T = Q^T J Q the result is |z| Q
    T^(1/2) e_1. It is exact if the square root is a polynomial of degree ``iterations`` - 1 on the
    spectrum of J. Of a network's Jacobian, which is not exactly symmetric, the symmetric part of T
    counts, and eigenvalues that are negative count as 0.

    Args:
        product: Function v -> J v on tensors of shape (B, ...), each sample by itself.
        z: Vectors to multiply, shape (B, ...).
        iterations: Number of products, at least 1.

    Returns:
        J^(1/2) z, shape (B, ...).

    Example:
        >>> import torch
        >>> eigenvalues = torch.tensor([1.0, 4.0, 9.0])
        >>> root = square_root_product(lambda v: eigenvalues * v, torch.ones(1, 3), iterations=3)
        >>> [[round(x, 3) for x in row] for row in root.tolist()]
        [[1.0, 2.0, 3.0]]
    """
    T, Q = lanczos(product, z, iterations)
    values, vectors = torch.linalg.eigh(T)
    weights = (vectors * values.clamp_min(0).sqrt()[:, None]) @ vectors[:, 0, :, None]
    return expand_like(dot(z, z).sqrt(), z) * torch.stack(
        [expand_like(weights[:, k, 0], z) * one for k, one in enumerate(Q)]
    ).sum(0)


def lanczos(product: Products, z: Tensor, iterations: int) -> tuple[Tensor, list[Tensor]]:
    """Run Lanczos's method for a symmetric matrix that is given by its products.

    Args:
        product: Function v -> J v on tensors of shape (B, ...), each sample by itself. If J is not
            exactly symmetric, its symmetric part in the Krylov space counts (with all products
            kept, which is Arnoldi's method).
        z: Start vectors, shape (B, ...).
        iterations: Number of products, at least 1.

    Returns:
        The matrices T, the symmetric part of Q^T J Q, shape (B, k, k), tridiagonal for a symmetric
        J, and the orthonormal bases Q of the Krylov spaces, k tensors of shape (B, ...).

    Example:
        >>> import torch
        >>> eigenvalues = torch.tensor([1.0, 4.0, 9.0])
        >>> T, Q = lanczos(lambda v: eigenvalues * v, torch.ones(1, 3), iterations=3)
        >>> torch.linalg.eigvalsh(T).round(decimals=3)
        tensor([[1., 4., 9.]])
    """
    q, Q = z / expand_like(dot(z, z).sqrt(), z), []
    H = z.new_zeros(len(z), iterations, iterations)  # Q^T J Q, zero below its first subdiagonal
    for k in range(iterations):
        Q.append(q)
        w = product(q)
        for _ in range(2):  # two passes of Gram-Schmidt are enough, in single precision too
            for i, one in enumerate(Q):
                part = dot(w, one)
                H[:, i, k] += part
                w = w - expand_like(part, w) * one
        beta = dot(w, w).sqrt()
        if k + 1 < iterations:
            H[:, k + 1, k] = beta
        # once the Krylov space is exhausted, w is 0 and so is the next basis vector
        q = w / expand_like(beta.clamp_min(torch.finfo(w.dtype).tiny), w)
    return (H + H.mT) / 2, Q
