r"""Sequential Monte Carlo with a second-order reverse kernel and predicted twists: draws that tend to the exact posterior.

In :math:`u = x_0 + \sigma n`, with :math:`D = E[x_0|u]` and :math:`V = \sigma^2 J = \mathrm{Cov}[x_0|u]` (Tweedie, to second order),
and the measurement whitened to m numbers, :math:`y = A x_0 + N(0, I)`:

*Kernel.* Given u, the particle at the lower noise :math:`\sigma'`, :math:`\rho = (\sigma'/\sigma)^2`, has mean
:math:`(1-\rho)D + \rho u` and covariance :math:`c^2(\rho I + (1-\rho)J)`, :math:`c^2 = \sigma^2(1-\rho)`. The step
:math:`c(\sqrt\rho\,z + (1-\sqrt\rho) J z)` has this covariance where J is 0 or 1 and nearly so between.

*Twist.* :math:`\psi = N(r; 0, S)` with :math:`r = y - A D`, :math:`S = I + A V A^T`, is :math:`p(y|u)` by moment matching. Before the
step is made, its outcome at :math:`\sigma'` is predicted: :math:`r' = r - M z`, :math:`S' = S - M M^T`, where
:math:`M M^T = K = P (P + \sigma^2\tfrac{\rho}{1-\rho} A A^T)^{-1} P`, :math:`P = A V A^T`. Drawing z from
:math:`p(z)\tilde\psi(z)/\psi`, :math:`\tilde\psi = N(r'; 0, S')`, is conditioning a Gaussian, and the weight of the particle is exactly
:math:`\psi_{new}(u')/\tilde\psi(z)`: the predicted twist against the actual one, no density of any kernel needed.

As the number of particles and of levels grows the draws tend to the posterior; the twists need not be right for that, only not too wrong.
The products :math:`J A^T` cost m each; with m > 4 they are made at some representative particles and shared with those nearest in D.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from problems import InverseProblem
from solvers.capabilities import Exactness
from solvers.posterior.particles import Denoiser, ParticleSampler, effective_share, log_normal, systematic

__all__ = ["PredictedTwist"]


@dataclass(frozen=True)
class PredictedTwist(ParticleSampler):
    """particles: at least so many, and at least twice the draws. ratio: sigma'/sigma, and ``late_ratio`` once the weights have become
    flat, when the population also shrinks to half. cap: of a log-weight above the median, against outliers while the twists are crude
    (None for an unbiased evidence). products: with the Jacobian, at each level, of all representatives together.

    diagnostics: "share" (least effective share of an increment: below .1 is suspect), "ancestors" (first particles with living offspring:
    below 30 the masses of modes are suspect), "levels", "log_evidence" (ln p of the whitened y; low by what is capped).
    """

    exactness: ClassVar[Exactness] = "asymptotic"
    requires: ClassVar[frozenset[str]] = frozenset({"linear", "adjoint", "gaussian_noise"})

    particles: int = 512
    ratio: float = 0.8
    late_ratio: float = 0.65
    s_max: float = 80.0
    s_min: float = 0.02
    products: int = 2048
    cap: float | None = 6.0

    _FEWEST = 32  # representatives
    _ROWS = 1024  # of a measurement whose m x m matrices are still handled outright

    def __post_init__(self) -> None:
        if not (0 < self.ratio < 1 and 0 < self.late_ratio < 1 and 0 < self.s_min < self.s_max):
            raise ValueError(f"ratios must lie in (0, 1) and 0 < s_min < s_max, got {self}")
        if self.particles < 2 or self.products < 1 or (self.cap is not None and not self.cap > 0):
            raise ValueError(f"at least 2 particles, 1 product and a positive cap are needed, got {self}")

    def _population(
        self, denoise: Denoiser, problem: InverseProblem, y: Tensor, n: int, generator: torch.Generator, progress: Callable[[float], None]
    ) -> tuple[Tensor, dict[str, Any]]:
        A, r_y = self._whitened(problem, denoise.shape, y)
        m, size = A.shape
        eye, AAt = torch.eye(m, dtype=A.dtype, device=A.device), A @ A.T
        many = max(2 * n, self.particles)

        def randn(*shape: int) -> Tensor:
            return torch.randn(shape, dtype=A.dtype, generator=generator, device=generator.device).to(A.device)

        s, ratio, levels, calm, rough = self.s_max, self.ratio, 0, 0, False
        z = randn(many, size)
        D, Jz = denoise.with_product(torch.zeros_like(z), s, z)
        u = D + s * (z + Jz / 2)  # N(D(0), s^2 + V), to first order in V / s^2
        log_w, ancestors, predicted = torch.zeros(many, dtype=A.dtype, device=A.device), torch.arange(many), None
        share, evidence = 1.0, 0.0
        while s > 0:
            levels += 1
            D = denoise(u, s)
            G, of = self._products(denoise, A, u, D, s, log_w, generator)
            P = s**2 * (A @ G)
            P = (P + P.mT) / 2
            S = eye + P
            r, L = r_y - D @ A.T, _cholesky(S)
            log_psi = log_normal(r, L[of])
            log_w, step_share, step_evidence = self._weigh(log_w, log_psi if predicted is None else log_psi - predicted)
            share, evidence = min(share, step_share), evidence + step_evidence
            rough, calm = rough or step_share < 0.97, calm + 1 if step_share > 0.985 else 0
            shrink = rough and calm >= 2 and len(u) > max(n, self.particles // 2)
            if shrink or effective_share(log_w) < 0.8:
                chosen = systematic(log_w, max(n, self.particles // 2) if shrink else len(u), generator)
                u, D, r, of, ancestors = u[chosen], D[chosen], r[chosen], of[chosen], ancestors[chosen.cpu()]
                log_w = torch.zeros(len(chosen), dtype=A.dtype, device=A.device)
            ratio = self.late_ratio if shrink else ratio
            s_next = ratio * s if s > self.s_min else 0.0
            rho = (s_next / s) ** 2
            c = s * math.sqrt(1 - rho)
            K = P @ torch.linalg.solve(P + s**2 * rho / (1 - rho) * AAt + 1e-12 * s**2 * AAt.diagonal().amax() * eye, P)
            M = _cholesky((K + K.mT) / 2) @ torch.linalg.solve_triangular(_cholesky(G.mT @ G), G.mT, upper=False)
            L_next = _cholesky(S - M @ M.mT)
            z = randn(len(u), size)
            missed = r - _matvec(M[of], z) - _matvec(L_next[of], randn(len(u), m))
            z = z + _matvec(M[of].mT, torch.cholesky_solve(missed[..., None], L[of])[..., 0])
            predicted = log_normal(r - _matvec(M[of], z), L_next[of])
            Jz = denoise.with_product(u, s, z)[1]
            u = (1 - rho) * D + rho * u + c * (math.sqrt(rho) * z + (1 - math.sqrt(rho)) * Jz)
            s = s_next
            progress(1 - max(math.log(max(s, self.s_min) / self.s_min), 0) / math.log(self.s_max / self.s_min))
        assert predicted is not None
        inc = -0.5 * (r_y - u @ A.T).square().sum(1) - predicted
        log_w = log_w + inc
        chosen = systematic(log_w, n, generator)
        evidence += float(torch.logsumexp(log_w, 0) - torch.logsumexp(log_w - inc, 0)) - 0.5 * m * math.log(2 * math.pi)
        living = len(ancestors[chosen.cpu()].unique())
        share = min(share, effective_share(inc))
        return u[chosen], {"share": share, "ancestors": living, "levels": levels, "log_evidence": evidence}

    def _whitened(self, problem: InverseProblem, shape: tuple[int, ...], y: Tensor) -> tuple[Tensor, Tensor]:
        """(m, D) and (m,): A and y in the left singular vectors, in units of the noise."""
        svd = problem.linear_operator.svd(shape, y)
        s = svd.s.flatten() / problem.noise_variance**0.5
        kept = (s > 1e-8 * s.max()).nonzero()[:, 0]
        if len(kept) > self._ROWS:
            raise ValueError(f"PredictedTwist handles measurements of at most {self._ROWS} numbers, got {len(kept)}; use MMPS")
        unit = torch.zeros(len(kept), len(s), dtype=y.dtype, device=y.device)
        unit[torch.arange(len(kept)), kept] = s[kept]
        rows = svd.V(unit.reshape(-1, *svd.s.shape)).flatten(1)
        return rows, svd.Ut(y).flatten()[kept] / problem.noise_variance**0.5

    def _products(
        self, denoise: Denoiser, A: Tensor, u: Tensor, D: Tensor, s: float, log_w: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """G = J A^T at some particles, (R, D, m), and for each particle whose it uses, (M,)."""
        of = torch.arange(len(u), device=u.device)
        representatives = max(self.products // len(A), self._FEWEST)
        if len(A) > 4 and len(u) > representatives:
            chosen = systematic(log_w, representatives, generator).unique()
            of, u = torch.cdist(D, D[chosen]).argmin(1), u[chosen]
        G = denoise.with_product(u.repeat_interleave(len(A), 0), s, A.repeat(len(u), 1))[1]
        return G.reshape(len(u), len(A), -1).mT, of

    def _weigh(self, log_w: Tensor, inc: Tensor) -> tuple[Tensor, float, float]:
        """New log-weights, the effective share of the increment, and its part of the log-evidence."""
        if self.cap is not None:
            inc = inc.minimum(inc.median() + self.cap)
        evidence = torch.logsumexp(log_w + inc, 0) - torch.logsumexp(log_w, 0)
        return log_w + inc, effective_share(inc), float(evidence)


def _matvec(M: Tensor, v: Tensor) -> Tensor:
    return (M @ v[..., None])[..., 0]


def _cholesky(S: Tensor) -> Tensor:
    """Of symmetric matrices (R, m, m) that rounding, or a network's Jacobian, may have left slightly indefinite."""
    L, info = torch.linalg.cholesky_ex(S)
    if not bool(info.any()):
        return L
    values, vectors = torch.linalg.eigh(S)
    floor = 1e-10 * values.amax(-1, keepdim=True).clamp_min(1e-300)
    R = torch.linalg.qr((vectors * values.maximum(floor).sqrt()[..., None, :]).mT).R
    return R.mT * torch.where(R.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)[..., None, :]
