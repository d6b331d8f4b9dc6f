r"""Gaussian mixtures with full covariances, written without the package that they measure.

:class:`Mixture` has the density, the score and the exact posterior in closed form.
:class:`CountedDenoiser` is its denoiser and counts evaluations and products with its Jacobian, so
that both sides of a comparison run the same code and are counted in the same way.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["F64", "CountedDenoiser", "Mixture", "random_field"]

F64 = torch.float64


class Mixture:
    """sum_k w_k N(mu_k, C_k) in float64.

    Args:
        logw: Logarithms of the weights up to a constant, (K,).
        mu: Means, (K, D).
        cov: Covariances, (K, D, D).
    """

    def __init__(self, logw: Tensor, mu: Tensor, cov: Tensor) -> None:
        self.logw, self.mu, self.cov = torch.log_softmax(logw, 0), mu, cov
        lam, self.Q = torch.linalg.eigh(cov)
        self.lam = lam.clamp_min(1e-12)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draws, (n, D)."""
        k = torch.multinomial(self.logw.exp(), n, replacement=True, generator=generator)
        z = torch.randn(n, self.mu.shape[1], dtype=F64, generator=generator)
        root = self.Q[k] * self.lam[k].sqrt()[:, None, :]
        return self.mu[k] + torch.einsum("nij,nj->ni", root, z)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean (D,) and covariance (D, D) of the whole."""
        w = self.logw.exp()
        mean = w @ self.mu
        d = self.mu - mean
        return mean, torch.einsum("k,kij->ij", w, self.cov) + torch.einsum("k,ki,kj->ij", w, d, d)

    def responsibilities(self, x: Tensor) -> Tensor:
        """Probability of each component given x, (n, K)."""
        u = torch.einsum("nki,kij->nkj", x[:, None] - self.mu, self.Q)
        return torch.softmax(self.logw - 0.5 * (u**2 / self.lam + self.lam.log()).sum(-1), -1)

    def posterior(self, A: Tensor, y: Tensor, std: float) -> "Mixture":
        """The exact posterior given y ~ N(A x, std^2 I)."""
        S = A @ self.cov @ A.T + std**2 * torch.eye(len(A), dtype=F64)
        r = y - self.mu @ A.T
        gain = torch.linalg.solve(S, A @ self.cov).mT
        mu = self.mu + torch.einsum("kij,kj->ki", gain, r)
        cov = self.cov - gain @ (A @ self.cov)
        fit = (r * torch.linalg.solve(S, r)).sum(-1) + torch.linalg.slogdet(S).logabsdet
        return Mixture(self.logw - 0.5 * fit, mu, (cov + cov.mT) / 2)

    def _joint(self, x: Tensor, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log joint density (n, K) of x and component under a x_0 + s eps, and its parts."""
        Q, mu, lam, logw = (v.to(x) for v in (self.Q, self.mu, self.lam, self.logw))
        K, D = mu.shape
        variance = (a**2)[:, None, None] * lam + (s**2)[:, None, None]
        columns = Q.permute(1, 0, 2).reshape(D, K * D)
        centre = a[:, None, None] * torch.einsum("ki,kij->kj", mu, Q)
        u = (x @ columns).reshape(-1, K, D) - centre
        fit = (u * u / variance).sum(-1) + variance.log().sum(-1) + D * math.log(2 * math.pi)
        return logw - 0.5 * fit, u, variance, columns

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density of x (n, D), (n,)."""
        one = torch.ones(len(x), dtype=x.dtype)
        return self._joint(x, one, 0 * one)[0].logsumexp(-1)

    def score(self, x: Tensor, a: Tensor, s: Tensor) -> Tensor:
        """Gradient of the log density of a x_0 + s eps at x (n, D), with a and s of shape (n,)."""
        joint, u, variance, columns = self._joint(x, a, s)
        r = torch.softmax(joint, -1)
        return -((r[..., None] * u / variance).reshape(len(x), -1) @ columns.T)


class _CountProducts(torch.autograd.Function):
    """The identity, which counts the backward passes through it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, owner: "CountedDenoiser") -> Tensor:
        ctx.owner = owner
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        ctx.owner.products += 1
        return gradients[0], None


class CountedDenoiser(nn.Module):
    """The exact E[x_0 | x_t] of a mixture; ``nfe`` and ``products`` count its use.

    Args:
        mixture: Law of x_0.
        dtype: Precision in which it computes.
    """

    def __init__(self, mixture: Mixture, dtype: torch.dtype) -> None:
        super().__init__()
        self.nfe, self.products = 0, 0
        K, D = mixture.mu.shape
        self.logw, self.mu, self.lam = (
            v.to(dtype) for v in (mixture.logw, mixture.mu, mixture.lam)
        )
        self.Q = mixture.Q.permute(1, 0, 2).reshape(D, K * D).to(dtype)
        self.muQ = torch.einsum("ki,kij->kj", mixture.mu, mixture.Q).to(dtype)

    def forward(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The denoised x_t (n, D), whose noise level is the same for all n."""
        self.nfe += 1
        x = _CountProducts.apply(x_t, self)
        K, D = self.mu.shape
        variance = alpha**2 * self.lam + sigma**2
        u = (x @ self.Q).reshape(-1, K, D) - alpha * self.muQ
        w = u / variance
        r = torch.softmax(self.logw - 0.5 * (u * w + variance.log()).sum(-1), -1)
        shift = (r[..., None] * alpha * self.lam * w).reshape(-1, K * D) @ self.Q.T
        return r @ self.mu + shift


def random_field(side: int, length: float, amplitude: float, nugget: float) -> Tensor:
    """Covariance a^2 exp(-|p - q|^2 / (2 length^2)) + nugget^2 between pixels p and q."""
    line = torch.arange(side, dtype=F64)
    places = torch.cartesian_prod(line, line)
    near = torch.exp(-(torch.cdist(places, places) ** 2) / (2 * length**2))
    return amplitude**2 * near + nugget**2 * torch.eye(side**2, dtype=F64)
