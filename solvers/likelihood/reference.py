r"""The Gaussian against which a prior is measured.

Under :math:`N(\mu, U \Lambda U^T)` everything about the probability flow is known: its denoiser at the noise-to-signal ratio s is
:math:`D_G(u) = \mu + U \tfrac{\Lambda}{\Lambda + s^2} U^T (u - \mu)`, and along its flow
:math:`z = (\Lambda + s^2)^{-1/2} U^T (u - \mu)` does not move. A method that follows the difference of a prior to such a reference is
exact for Gaussian data and has little to do for data that is nearly Gaussian at most noise levels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.priors.base import CountingPrior, Prior
from scoresde.priors.mixture import GaussianMixturePrior
from scoresde.priors.score import ScorePrior
from solvers.guidance import GuidedPrior
from solvers.jacobian import value_and_products

__all__ = ["GaussianReference"]


@dataclass(frozen=True)
class GaussianReference:
    """mean: (D,); variances: (D,), of the coordinates U^T x; basis: U (D, D), orthogonal, or None for the identity. float64."""

    mean: Tensor
    variances: Tensor
    basis: Tensor | None = None

    def __post_init__(self) -> None:
        d = len(self.mean)
        if (
            self.mean.shape != (d,)
            or self.variances.shape != (d,)
            or (self.basis is not None and self.basis.shape != (d, d))
        ):
            raise ValueError(
                "a reference in D dimensions needs a mean (D,), variances (D,) and a basis (D, D) or none"
            )
        if not bool(
            (self.variances >= 0).all()
            and torch.isfinite(self.variances).all()
            and torch.isfinite(self.mean).all()
        ):
            raise ValueError(
                "the mean of a reference must be finite, its variances finite and not negative"
            )

    @classmethod
    def from_covariance(cls, mean: Tensor, covariance: Tensor) -> "GaussianReference":
        """mean (D,), covariance (D, D); largest variance first."""
        variances, basis = torch.linalg.eigh(covariance.double())
        return cls(mean.double(), variances.flip(0).clamp_min(0), basis.flip(1))

    @classmethod
    def from_data(cls, x: Tensor) -> "GaussianReference":
        """The mean and covariance of samples x (n, ...)."""
        x = x.double().flatten(1)
        return cls.from_covariance(x.mean(0), torch.cov(x.T).reshape(x.shape[1], -1))

    @classmethod
    def of(cls, prior: Prior, shape: tuple[int, ...], probes: int = 8) -> "GaussianReference":
        """What the prior itself says: its moments if it knows them; else the mean D(0, s_max) and one variance for all coordinates.

        The variance is that of the data for a network, and otherwise s^2 tr(J)/D at s_max (Tweedie's second formula), by a few probes.
        """
        while isinstance(prior, CountingPrior):
            prior = prior.prior
        if isinstance(prior, GaussianMixturePrior):
            return cls.from_covariance(*prior.moments())
        t = torch.tensor([prior.sde.t_max], dtype=prior.dtype, device=prior.device)
        x = torch.zeros(1, *shape, dtype=prior.dtype, device=prior.device)
        if (network := _network(prior)) is not None:
            with torch.no_grad():
                mean = prior.denoise(x, t).double().flatten()
            variance = network.sigma_data**2
        else:
            D, products = value_and_products(lambda x_t: prior.denoise(x_t, t), x)
            mean = D.double().flatten()
            v = (
                torch.randint(0, 2, (probes, *x.shape), generator=torch.Generator().manual_seed(0))
                * 2
                - 1
            ).to(x)
            trace = float((v * products(v)).double().sum()) / probes
            alpha, sigma = prior.sde.alpha(t).double(), prior.sde.sigma(t).double()
            variance = max(trace * float(sigma**2 / alpha) / x.numel(), 1e-6)
        return cls(mean, torch.full_like(mean, variance))

    def to(self, device: torch.device) -> "GaussianReference":
        return GaussianReference(
            self.mean.to(device),
            self.variances.to(device),
            None if self.basis is None else self.basis.to(device),
        )

    def coordinates(self, x: Tensor) -> Tensor:
        """U^T x, for x (..., D)."""
        return x if self.basis is None else x @ self.basis

    def from_coordinates(self, c: Tensor) -> Tensor:
        """U c, for c (..., D)."""
        return c if self.basis is None else c @ self.basis.T


def _network(prior: Prior) -> ScorePrior | None:
    """The score network within a prior that averages, tiles or counts it, if there is one."""
    *around, prior = prior.nesting()
    return (
        prior
        if isinstance(prior, ScorePrior)
        and not any(isinstance(layer, GuidedPrior) for layer in around)
        else None
    )
