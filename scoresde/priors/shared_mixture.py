r"""A Gaussian mixture whose components share one covariance, cheap in many dimensions.

Let the precision be :math:`C^{-1} = (I + F^T F)/v` with few rows F, whose singular values are s and right singular vectors V. Then
:math:`C = v(I - V\,\mathrm{diag}(h) V^T)`, :math:`h = s^2/(1+s^2)`, and the denoiser costs O(D (K + r)) rather than O(D^2 K). A linear
measurement with noise of covariance :math:`L L^T` adds the rows :math:`\sqrt v L^{-1}A` to F, so that the posterior is another of these
(Bishop 2006, section 2.3.3).
"""

import math

import torch
from torch import Tensor

from problems import InverseProblem
from scoresde.priors.base import Prior
from scoresde.sde import EDMSDE, SDE

__all__ = ["SharedMixturePrior"]

F64 = torch.float64


class SharedMixturePrior(Prior):
    """sum_k w_k N(mu_k, C), in float64, with the methods of ``GaussianMixturePrior``.

    weights: (K,), positive, normalised here. means: (K, *shape). variance: v. rows: F, (r, D); None for C = v I.
    """

    log_weights: Tensor
    means: Tensor
    V: Tensor
    h: Tensor

    def __init__(
        self,
        weights: Tensor,
        means: Tensor,
        variance: float,
        rows: Tensor | None = None,
        sde: SDE | None = None,
    ) -> None:
        super().__init__(sde or EDMSDE(), tuple(means.shape[1:]))
        flat = means.double().flatten(1)
        if tuple(weights.shape) != (len(means),) or not bool((weights > 0).all()):
            raise ValueError(
                f"with means {tuple(means.shape)}, weights must be ({len(means)},) and positive"
            )
        if not variance > 0:
            raise ValueError(f"the variance of a mixture must be positive, got {variance}")
        F = flat.new_zeros(0, flat.shape[1]) if rows is None else rows.to(flat)
        _, s, Vt = torch.linalg.svd(F, full_matrices=False)
        self.variance = float(variance)
        self.register_buffer("log_weights", torch.log_softmax(weights.double().log(), 0))
        self.register_buffer("means", flat)
        self.register_buffer("V", Vt.T.contiguous())
        self.register_buffer("h", s**2 / (1 + s**2))

    @property
    def weights(self) -> Tensor:
        return self.log_weights.exp()

    def _levels(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """alpha (B, 1) and variances of x_t, (B, 1) outside of V and (B, r) along it."""
        a, noise = alpha[:, None], sigma[:, None] ** 2
        return a, a**2 * self.variance + noise, a**2 * self.variance * (1 - self.h) + noise

    def _joint(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """x (B, D), alpha and sigma (B,) -> log w_k p_k(x), (B, K)."""
        a, outside, along = self._levels(alpha, sigma)
        square = (
            x.square().sum(1, keepdim=True)
            - 2 * a * (x @ self.means.T)
            + a**2 * self.means.square().sum(1)
        )
        d = (x @ self.V)[:, None] - a[..., None] * (self.means @ self.V)
        q = square / outside + (d.square() * (1 / along - 1 / outside)[:, None]).sum(-1)
        D, r = self.V.shape
        log_det = (
            (D - r) * outside.log() + along.log().sum(1, keepdim=True) + D * math.log(2 * math.pi)
        )
        return self.log_weights - 0.5 * (q + log_det)

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        alpha, sigma = self.sde.alpha(t.double()), self.sde.sigma(t.double())
        x = x_t.double().flatten(1)
        a, outside, along = self._levels(alpha, sigma)
        mean = self._joint(x, alpha, sigma).softmax(-1) @ self.means
        d, gain = x - a * mean, a * self.variance / outside
        extra = a * self.variance * (1 - self.h) / along - gain
        return (
            (mean + gain * d + (extra * (d @ self.V)) @ self.V.T).reshape(x_t.shape).to(x_t.dtype)
        )

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x_0 = x) in nats, (B,)."""
        zero = torch.zeros(len(x), dtype=F64, device=x.device)
        return self._joint(x.double().flatten(1), zero + 1, zero).logsumexp(-1)

    def responsibilities(self, x: Tensor) -> Tensor:
        """p(component | x_0 = x), (B, K)."""
        zero = torch.zeros(len(x), dtype=F64, device=x.device)
        return self._joint(x.double().flatten(1), zero + 1, zero).softmax(-1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n exact draws, (n, *shape): C^(1/2) = v^(1/2) (I - V diag(1 - sqrt(1 - h)) V^T)."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        z = torch.randn(n, len(self.V), dtype=F64, generator=generator)
        z = z - ((z @ self.V) * (1 - (1 - self.h).sqrt())) @ self.V.T
        return (self.means[k] + self.variance**0.5 * z).reshape(n, *self.shape)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean (D,) and covariance (D, D) of x_0."""
        mean = self.weights @ self.means
        d = self.means - mean
        within = self.variance * (torch.eye(len(self.V), dtype=F64) - (self.V * self.h) @ self.V.T)
        return mean, within + (d.T * self.weights) @ d

    def posterior(self, problem: InverseProblem, y: Tensor) -> "SharedMixturePrior":
        r"""The exact posterior p(x_0 | y), y (1, ...), of a linear problem with Gaussian noise.

        With :math:`B = L^{-1}A`, :math:`r_k = L^{-1}y - B\mu_k` and :math:`S = I + B C B^T`: means :math:`\mu_k + C B^T S^{-1} r_k`,
        weights :math:`w_k N(r_k; 0, S)`.
        """
        if missing := {"linear", "normal"} - problem.capabilities:
            raise ValueError(
                f"the exact posterior of a mixture needs a linear problem with Gaussian noise; missing: {sorted(missing)}"
            )
        if len(y) != 1:
            raise ValueError(
                f"one measurement at a time: y must have a leading axis of 1, got {tuple(y.shape)}"
            )
        A = problem.linear_operator.dense(self.shape)
        L, failed = torch.linalg.cholesky_ex(problem.noise_covariance(tuple(y.shape[1:])))
        if int(failed):
            raise ValueError("the exact posterior of a shared mixture needs a noise level above 0")
        B = torch.linalg.solve_triangular(L, A, upper=False)
        r = (
            torch.linalg.solve_triangular(L, y.double().reshape(-1, 1), upper=False).T
            - self.means @ B.T
        )
        BV = B @ self.V
        S = torch.eye(len(B), dtype=F64) + self.variance * (B @ B.T - (BV * self.h) @ BV.T)
        weighed = torch.linalg.solve(S, r.T).T
        log_weights = torch.log_softmax(self.log_weights - 0.5 * (r * weighed).sum(1), 0).clamp_min(
            -700
        )
        pull = weighed @ B
        means = self.means + self.variance * (pull - ((pull @ self.V) * self.h) @ self.V.T)
        F = torch.cat([(self.h / (1 - self.h)).sqrt()[:, None] * self.V.T, self.variance**0.5 * B])
        return SharedMixturePrior(
            log_weights.exp(), means.reshape(-1, *self.shape), self.variance, F, self.sde
        )
