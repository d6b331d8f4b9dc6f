r"""A Gaussian mixture whose components share one covariance, cheap in many dimensions.

Let the precision be :math:`C^{-1} = (I + F^T F)/v` with few rows F, whose singular values are s and
right singular vectors V. Then :math:`C = v(I - V\,\mathrm{diag}(h) V^T)`, :math:`h = s^2/(1+s^2)`,
and the denoiser costs O(D (K + r)) rather than O(D^2 K). A linear measurement with noise of
covariance :math:`L L^T` adds the rows :math:`\sqrt v L^{-1}A` to F, so that the posterior is again
of this kind (Bishop 2006, section 2.3.3).
"""

import math

import torch
from torch import Tensor

from problems.checks import check_number
from scoresde.priors.mixture import ExactMixture, LinearGaussianProblem
from scoresde.sde import SDE

__all__ = ["SharedMixturePrior"]


class SharedMixturePrior(ExactMixture):
    r"""Gaussian mixture with one covariance for all components, :math:`\sum_k w_k N(\mu_k, C)`.

    It has the methods of :class:`scoresde.GaussianMixturePrior`. The precision is
    :math:`C^{-1} = (I + F^T F)/v`.

    Args:
        weights: Weights, shape (K,), positive; they are normalised here.
        means: Means, shape (K, *shape), finite.
        variance: Variance v, above 0.
        rows: Matrix F, shape (r, D), where D is the number of entries of one sample; None for C = v
            I.
        sde: Forward process; None for ``EDMSDE()``.

    Raises:
        ValueError: If the shapes do not fit, a weight or the variance is not positive, or a mean or
            a row is not finite.

    Example:
        >>> import torch
        >>> from scoresde.priors.shared_mixture import SharedMixturePrior
        >>> means = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
        >>> rows = torch.tensor([[1.0, 0.0]])  # C = 0.5 diag(1/2, 1)
        >>> prior = SharedMixturePrior(torch.ones(2), means, 0.5, rows)
        >>> prior.moments()[1]
        tensor([[1.2500, 0.0000],
                [0.0000, 0.5000]], dtype=torch.float64)
    """

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
        super().__init__(weights, means, sde)
        variance = check_number(variance, "the variance of a mixture", above=0)
        D = self.means.shape[1]
        F = self.means.new_zeros(0, D) if rows is None else rows.to(self.means)
        if F.ndim != 2 or F.shape[1] != D or not bool(torch.isfinite(F).all()):
            raise ValueError(
                f"the rows of a shared mixture must be finite, of shape (r, {D}), "
                f"got {tuple(F.shape)}"
            )
        _, s, Vt = torch.linalg.svd(F, full_matrices=False)
        self.variance = variance
        self.register_buffer("V", Vt.T.contiguous())
        self.register_buffer("h", s**2 / (1 + s**2))

    def _levels(self, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Alpha (B, 1) and the variances of x_t, (B, 1) orthogonal to V and (B, r) along it."""
        a, noise = alpha[:, None], sigma[:, None] ** 2
        return a, a**2 * self.variance + noise, a**2 * self.variance * (1 - self.h) + noise

    def _log_joint(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
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
        mean = self._log_joint(x, alpha, sigma).softmax(-1) @ self.means
        d, gain = x - a * mean, a * self.variance / outside
        extra = a * self.variance * (1 - self.h) / along - gain
        return (
            (mean + gain * d + (extra * (d @ self.V)) @ self.V.T).reshape(x_t.shape).to(x_t.dtype)
        )

    def _colour(self, k: Tensor, z: Tensor) -> Tensor:
        # C^(1/2) = v^(1/2) (I - V diag(1 - sqrt(1 - h)) V^T)
        z = z - ((z @ self.V) * (1 - (1 - self.h).sqrt())) @ self.V.T
        scale: float = self.variance**0.5
        return scale * z

    def moments(self) -> tuple[Tensor, Tensor]:
        """Compute the mean and the covariance of the mixture.

        Returns:
            Mean, shape (D,), and covariance, shape (D, D), of x_0, float64.
        """
        mean = self.weights @ self.means
        d = self.means - mean
        eye = torch.eye(len(self.V), dtype=self.V.dtype, device=self.V.device)
        within = self.variance * (eye - (self.V * self.h) @ self.V.T)
        return mean, within + (d.T * self.weights) @ d

    def posterior(self, problem: LinearGaussianProblem, y: Tensor) -> "SharedMixturePrior":
        r"""Compute the exact posterior of a linear problem with Gaussian noise.

        With :math:`B = L^{-1}A`, :math:`r_k = L^{-1}y - B\mu_k` and :math:`S = I + B C B^T`, its
        means are :math:`\mu_k + C B^T S^{-1} r_k` and its weights :math:`w_k N(r_k; 0, S)`.

        Args:
            problem: Operator and noise of the measurement.
            y: One measurement, shape (1, ...).

        Returns:
            p(x_0 | y), with the SDE and the dtype of this prior.

        Raises:
            ValueError: If the problem is not linear with Gaussian noise, y is not one measurement
                of the right size, or the noise level is 0.
        """
        A = self._matrix(problem, y)
        L, failed = torch.linalg.cholesky_ex(problem.noise_covariance(tuple(y.shape[1:])).to(A))
        if int(failed):
            raise ValueError("the exact posterior of a shared mixture needs a noise level above 0")
        B = torch.linalg.solve_triangular(L, A, upper=False)
        r = (
            torch.linalg.solve_triangular(L, y.double().reshape(-1, 1), upper=False).T
            - self.means @ B.T
        )
        BV = B @ self.V
        eye = torch.eye(len(B), dtype=B.dtype, device=B.device)
        S = eye + self.variance * (B @ B.T - (BV * self.h) @ BV.T)
        weighed = torch.linalg.solve(S, r.T).T
        log_weights = torch.log_softmax(self.log_weights - 0.5 * (r * weighed).sum(1), 0).clamp_min(
            -700
        )
        pull = weighed @ B
        means = self.means + self.variance * (pull - ((pull @ self.V) * self.h) @ self.V.T)
        F = torch.cat([(self.h / (1 - self.h)).sqrt()[:, None] * self.V.T, self.variance**0.5 * B])
        return SharedMixturePrior(
            log_weights.exp(), means.reshape(-1, *self.shape), self.variance, F, self.sde
        ).to(self.dtype)
