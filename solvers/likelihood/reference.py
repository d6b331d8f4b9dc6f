r"""The Gaussian reference: a known density relative to which that of a prior is computed.

Under :math:`N(\mu, U \Lambda U^T)` the probability flow has a closed form. The denoiser at the
noise-to-signal ratio s is
:math:`D_G(u) = \mu + U \tfrac{\Lambda}{\Lambda + s^2} U^T (u - \mu)`, and along the flow
:math:`z = (\Lambda + s^2)^{-1/2} U^T (u - \mu)` is constant. A method that integrates the
difference between a prior and such a reference is exact for Gaussian data. For data that is nearly
Gaussian at most noise levels the integrand is small.
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
    """Gaussian N(mean, U diag(variances) U^T) in the D entries of a sample.

    Args:
        mean: Mean of the flattened sample, (D,), float64.
        variances: Variances of the coordinates U^T x, (D,), float64, not negative.
        basis: Orthogonal matrix U, (D, D), float64; None for the identity.

    Raises:
        ValueError: If shapes do not fit, a value is not finite, or a variance is negative.

    Example:
        >>> import torch
        >>> mean = torch.zeros(2, dtype=torch.float64)
        >>> covariance = torch.tensor([[2.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
        >>> reference = GaussianReference.from_covariance(mean, covariance)
        >>> [round(v, 6) for v in reference.variances.tolist()]
        [3.0, 1.0]
        >>> x = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
        >>> torch.allclose(reference.from_coordinates(reference.coordinates(x)), x)
        True
    """

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
                "a reference in D dimensions needs a mean (D,), variances (D,), "
                "and a basis (D, D) or None"
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
        """Make a reference of a mean and a covariance, by an eigendecomposition.

        Args:
            mean: Mean, (D,).
            covariance: Covariance, (D, D), symmetric positive semi-definite.

        Returns:
            The reference, with decreasing variances.
        """
        variances, basis = torch.linalg.eigh(covariance.double())
        return cls(mean.double(), variances.flip(0).clamp_min(0), basis.flip(1))

    @classmethod
    def from_data(cls, x: Tensor) -> "GaussianReference":
        """Make a reference of the mean and the covariance of data.

        Args:
            x: Samples, (n, *shape), n at least 2.

        Returns:
            The reference in the entries of one sample.
        """
        x = x.double().flatten(1)
        return cls.from_covariance(x.mean(0), torch.cov(x.T).reshape(x.shape[1], -1))

    @classmethod
    def of(cls, prior: Prior, shape: tuple[int, ...], probes: int = 8) -> "GaussianReference":
        """Make a reference of the moments of a prior, exact or estimated.

        A Gaussian mixture has exact moments. For other priors the mean is the denoiser's value
        D(0, s_max), and all coordinates have one variance: for a network the variance of the data
        that it is scaled for, otherwise s^2 tr(J)/D at s_max (Tweedie's second-order formula).

        Args:
            prior: Prior to approximate.
            shape: Shape of one sample.
            probes: Number of random vectors that estimate the trace, where one is needed.

        Returns:
            The reference in the entries of one sample.
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
        """Copy the reference to a device.

        Args:
            device: Device of the copy.

        Returns:
            The same Gaussian on that device.
        """
        return GaussianReference(
            self.mean.to(device),
            self.variances.to(device),
            None if self.basis is None else self.basis.to(device),
        )

    def coordinates(self, x: Tensor) -> Tensor:
        """Compute the coordinates U^T x.

        Args:
            x: Vectors, (..., D).

        Returns:
            Their coordinates, (..., D).
        """
        return x if self.basis is None else x @ self.basis

    def from_coordinates(self, c: Tensor) -> Tensor:
        """Compute the vectors U c.

        Args:
            c: Coordinates, (..., D).

        Returns:
            The vectors, (..., D).
        """
        return c if self.basis is None else c @ self.basis.T


def _network(prior: Prior) -> ScorePrior | None:
    """The score network within priors that average, tile or count it; None if there is none."""
    *around, prior = prior.nesting()
    return (
        prior
        if isinstance(prior, ScorePrior)
        and not any(isinstance(layer, GuidedPrior) for layer in around)
        else None
    )
