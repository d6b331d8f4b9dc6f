r"""Priors whose every answer is known: Gaussian mixtures with full covariances.

For :math:`p(x_0) = \sum_k w_k N(\mu_k, C_k)` the noisy marginal is
:math:`p_t(x) = \sum_k w_k N(\alpha\mu_k, \alpha^2 C_k + \sigma^2 I)`, and with its responsibilities :math:`r_k(x)`

.. math:: E[x_0 | x_t] = \sum_k r_k(x_t) \left(\mu_k + \alpha C_k (\alpha^2 C_k + \sigma^2 I)^{-1}(x_t - \alpha\mu_k)\right).

A linear measurement with Gaussian noise turns a mixture into another mixture, so the exact posterior is one of these again: the
judge of every solver. (Bishop 2006, sections 2.3.3 and 2.3.9.)
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from scoresde.priors.base import Prior
from scoresde.sde import EDMSDE, SDE

__all__ = ["GaussianMixturePrior", "GaussianPrior"]


class _Operator(Protocol):
    def dense(self, shape: tuple[int, ...], dtype: torch.dtype = ...) -> Tensor: ...


class _Problem(Protocol):
    """What the exact posterior asks of a linear-Gaussian problem (an ``InverseProblem`` of the problems package is one)."""

    @property
    def linear_operator(self) -> _Operator: ...

    def noise_covariance(self, shape: tuple[int, ...]) -> Tensor: ...

    @property
    def capabilities(self) -> frozenset[str]: ...


class GaussianMixturePrior(Prior):
    """sum_k w_k N(mu_k, C_k), in float64.

    weights: (K,), positive, normalised here. means: (K, *shape). covariances: (K, D, D), symmetric positive semi-definite, D the
    number of entries of one sample, flattened in C order.
    """

    log_weights: Tensor
    means: Tensor
    lam: Tensor
    Q: Tensor
    Q_flat: Tensor
    means_in_Q: Tensor

    def __init__(
        self, weights: Tensor, means: Tensor, covariances: Tensor, sde: SDE | None = None
    ) -> None:
        super().__init__(sde or EDMSDE(), tuple(means.shape[1:]))
        K, D = len(means), int(torch.Size(self.shape).numel())
        if tuple(weights.shape) != (K,) or tuple(covariances.shape) != (K, D, D):
            raise ValueError(
                f"with means {tuple(means.shape)}, weights must be ({K},) and covariances ({K}, {D}, {D})"
            )
        if not (torch.isfinite(means).all() and torch.isfinite(covariances).all()):
            raise ValueError("the means and covariances of a mixture must be finite")
        if not bool((weights > 0).all()):
            raise ValueError("the weights of a mixture must be positive")
        covariances = covariances.double()
        lam, Q = torch.linalg.eigh((covariances + covariances.mT) / 2)
        if bool((lam < -1e-8 * lam.amax(-1, keepdim=True)).any()):
            raise ValueError("the covariances of a mixture must be positive semi-definite")
        self.register_buffer("log_weights", torch.log_softmax(weights.double().log(), 0))
        self.register_buffer("means", means.double().reshape(K, D))
        self.register_buffer("lam", lam.clamp_min(0))
        self.register_buffer("Q", Q)
        self.register_buffer(
            "Q_flat", Q.transpose(0, 1).reshape(D, K * D)
        )  # all eigenbases side by side: one product serves them all
        self.register_buffer(
            "means_in_Q", torch.einsum("kde,kd->ke", Q, means.double().reshape(K, D))
        )

    @property
    def weights(self) -> Tensor:
        return self.log_weights.exp()

    @property
    def covariances(self) -> Tensor:
        return (self.Q * self.lam[:, None]) @ self.Q.mT

    def _joint(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, D), alpha and sigma (B,) -> log w_k p_k(x) (B, K); x - alpha mu in each eigenbasis (B, K, D); its variances."""
        if alpha.stride() == (0,):  # one time for all: one set of variances
            alpha, sigma = alpha[:1], sigma[:1]
        K, D = self.lam.shape
        u = (x @ self.Q_flat).reshape(-1, K, D) - alpha[:, None, None] * self.means_in_Q
        variance = alpha[:, None, None] ** 2 * self.lam + sigma[:, None, None] ** 2
        log_normal = -0.5 * ((u**2 / variance).sum(-1) + (2 * math.pi * variance).log().sum(-1))
        return self.log_weights + log_normal, u, variance

    def _denoise(self, x_t: Tensor, t: Tensor) -> Tensor:
        if t.stride() == (0,):  # elementwise functions lose the sign that all times are one
            t = t[:1]
        alpha, sigma = (
            v.expand(len(x_t)) for v in (self.sde.alpha(t.double()), self.sde.sigma(t.double()))
        )
        joint, u, variance = self._joint(x_t.double().flatten(1), alpha, sigma)
        r = joint.softmax(-1)
        pull = r[..., None] * (alpha[: len(variance), None, None] * self.lam / variance) * u
        return (r @ self.means + pull.flatten(1) @ self.Q_flat.T).reshape(x_t.shape).to(x_t.dtype)

    def log_prob(self, x: Tensor, t: Tensor | float | None = None) -> Tensor:
        """log p_t(x) in nats, (B,); t = None is the data itself."""
        if t is None:
            alpha = torch.ones(len(x), dtype=torch.float64, device=x.device)
            sigma = torch.zeros_like(alpha)
        else:
            time = torch.as_tensor(t, dtype=torch.float64, device=x.device).expand(len(x))
            alpha, sigma = self.sde.alpha(time), self.sde.sigma(time)
        return self._joint(x.double().flatten(1), alpha, sigma)[0].logsumexp(-1)

    def responsibilities(self, x: Tensor) -> Tensor:
        """p(component | x_0 = x), (B, K)."""
        zero = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        return self._joint(x.double().flatten(1), zero + 1, zero)[0].softmax(-1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n exact draws, (n, *shape)."""
        device = generator.device if generator is not None else self.means.device
        k = torch.multinomial(self.weights.to(device), n, replacement=True, generator=generator).to(
            self.means.device
        )
        z = torch.randn(
            n, self.means.shape[1], dtype=torch.float64, generator=generator, device=device
        ).to(self.means)
        x = self.means[k] + torch.einsum("nde,ne->nd", self.Q[k] * self.lam[k].sqrt()[:, None], z)
        return x.reshape(n, *self.shape)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean (D,) and covariance (D, D) of x_0."""
        mean = self.weights @ self.means
        d = self.means - mean
        return mean, torch.einsum(
            "k,kij->ij", self.weights, self.covariances + d[:, :, None] * d[:, None, :]
        )

    def posterior(self, problem: _Problem, y: Tensor) -> "GaussianMixturePrior":
        r"""The exact posterior p(x_0 | y), y (1, ...), of a linear problem with Gaussian noise.

        :math:`S_k = A C_k A^T + \Sigma_y`, gain :math:`G_k = C_k A^T S_k^{-1}`, mean :math:`\mu_k + G_k(y - A\mu_k)`, covariance
        :math:`(I - G_k A) C_k (I - G_k A)^T + G_k \Sigma_y G_k^T` (Joseph's form), weight :math:`w_k N(y; A\mu_k, S_k)`.
        """
        if missing := {"linear", "normal"} - problem.capabilities:
            raise ValueError(
                f"the exact posterior of a mixture needs a linear problem with Gaussian noise; missing: {', '.join(sorted(missing))}"
            )
        if len(y) != 1:
            raise ValueError(
                f"one measurement at a time: y must have a leading axis of 1, got {tuple(y.shape)}"
            )
        A = problem.linear_operator.dense(self.shape).to(self.means)
        if y.numel() != len(A):
            raise ValueError(
                f"the measurement of a sample {self.shape} has {len(A)} entries, got y of shape {tuple(y.shape)}"
            )
        C, noise = self.covariances, problem.noise_covariance(tuple(y.shape[1:])).to(A)
        S = A @ C @ A.T + noise
        r = y.double().reshape(1, -1) - self.means @ A.T
        try:
            G = torch.linalg.solve(S, A @ C).mT
        except torch.linalg.LinAlgError:
            raise ValueError(
                "without noise some entries of y are certain beforehand; give the problem a noise level above 0"
            ) from None
        means = self.means + torch.einsum("kdm,km->kd", G, r)
        rest = torch.eye(A.shape[1], dtype=A.dtype, device=A.device) - G @ A
        covariances = rest @ C @ rest.mT + G @ noise @ G.mT
        evidence = -0.5 * (
            (r * torch.linalg.solve(S, r)).sum(-1) + torch.linalg.slogdet(S).logabsdet
        )
        log_weights = torch.log_softmax(self.log_weights + evidence, 0).clamp_min(-700)
        return GaussianMixturePrior(
            log_weights.exp(), means.reshape(-1, *self.shape), covariances, self.sde
        )


class GaussianPrior(GaussianMixturePrior):
    """N(mean, covariance): mean (*shape), covariance (D, D)."""

    def __init__(self, mean: Tensor, covariance: Tensor, sde: SDE | None = None) -> None:
        super().__init__(torch.ones(1), mean[None], covariance[None], sde)
