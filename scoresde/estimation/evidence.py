r"""The noise level that is most likely under a Gaussian prior: exact evidence.

For :math:`x \sim N(\mu, C)` and :math:`y = A x + \sigma n` the measurement is
:math:`N(A\mu, A C A^T + \sigma^2 I)`. With the eigenvalues :math:`\lambda_i` of
:math:`A C A^T` and the squares :math:`w_i` of :math:`y - A\mu` in its eigenvectors

.. math:: \ln p(y | \sigma) = -\tfrac12 \sum_i \Bigl(\frac{w_i}{\lambda_i + \sigma^2}
          + \ln 2\pi(\lambda_i + \sigma^2)\Bigr) ,

a function of one number. Its maximum is the estimate (type II maximum likelihood), and
minus its second derivative in :math:`\ln\sigma` there is the observed information, whose inverse
root is the standard error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from problems import InverseProblem
from scoresde.priors.mixture import GaussianPrior

__all__ = ["Evidence", "GaussianEvidence"]

_GRID = 200  # levels at which the evidence is looked at first
_NEWTON = 30
_DECADES = (1e-4, 10.0)  # of the root mean square of y - A mu, where levels are sought


@dataclass(frozen=True)
class Evidence:
    """Maxima of the evidence of several measurements.

    Args:
        sigma: Noise levels (B,), float64; 0 where the evidence grows towards no noise.
        information: Observed information of ln sigma (B,), float64.
    """

    sigma: Tensor
    information: Tensor

    @property
    def error(self) -> Tensor:
        """Standard error of ln sigma, (B,); infinite where there is no information."""
        return torch.where(self.information > 0, self.information, 0).rsqrt()


@dataclass(frozen=True)
class GaussianEvidence:
    """ln p(y | sigma) of a Gaussian prior and a linear operator.

    Args:
        mean: Mean A mu of y, (m,), float64, over the observed entries.
        eigenvalues: Of A C A^T, (m,), float64.
        eigenvectors: Its eigenvectors, (m, m), one per column.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(400), torch.eye(400).clone().fill_diagonal_(0))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(1.0))
        >>> evidence = GaussianEvidence.of(prior, problem, torch.ones(1, 400))
        >>> found = evidence.maximise(torch.full((1, 400), 0.3))  # nothing but noise
        >>> round(float(found.sigma), 4), round(float(found.error), 4)  # 1 / sqrt(2 m)
        (0.3, 0.0354)
    """

    mean: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor

    @classmethod
    def of(cls, prior: GaussianPrior, problem: InverseProblem, y: Tensor) -> GaussianEvidence:
        """Decompose the covariance of the measurement without noise.

        Args:
            prior: Gaussian prior.
            problem: Linear operator; its noise is not used.
            y: A measurement (1, ...), for its shape and what of it is observed.

        Returns:
            The evidence as a function.
        """
        mean, covariance = measured_moments(prior, problem, y)
        lam, Q = torch.linalg.eigh(covariance)
        return cls(mean, lam.clamp_min(0), Q)

    def log_prob(self, y: Tensor, sigma: Tensor) -> Tensor:
        """Compute ln p(y | sigma).

        Args:
            y: Measurements (B, m), observed entries.
            sigma: Noise levels, (B,) or (B, k).

        Returns:
            Nats, of the shape of sigma, float64.
        """
        w, s = self._squares(y), sigma.double().reshape(len(y), -1)
        return self._log_prob(w, s).reshape(sigma.shape)

    def _squares(self, y: Tensor) -> Tensor:
        return ((y.double() - self.mean) @ self.eigenvectors).square()

    def _log_prob(self, w: Tensor, s: Tensor) -> Tensor:
        v = self.eigenvalues + s[..., None].square()
        return -0.5 * (w[:, None] / v + (2 * math.pi * v).log()).sum(-1)

    def maximise(self, y: Tensor) -> Evidence:
        """Find the most likely noise level of each of several measurements.

        The evidence is looked at on a grid of levels, and Newton's method in ln sigma goes on from
        the best of them.

        Args:
            y: Measurements (B, m), observed entries.

        Returns:
            The maxima.
        """
        w = self._squares(y)
        scale = w.mean(1).sqrt().clamp_min(1e-300)
        low, high = (math.log(d) for d in _DECADES)
        grid = torch.linspace(low, high, _GRID, dtype=torch.float64)
        values = torch.stack([self._log_prob(w, (scale * s.exp())[:, None])[:, 0] for s in grid], 1)
        best = values.argmax(1)
        theta = scale.log() + grid[best]
        step = float(grid[1] - grid[0])
        for _ in range(_NEWTON):
            slope, information = self._slopes(w, theta)
            move = torch.where(information > 0, slope / information, slope.sign() * step)
            theta = theta + move.clamp(-step, step)
        _, information = self._slopes(w, theta)
        return Evidence(torch.where(best > 0, theta.exp(), 0.0), information)

    def _slopes(self, w: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """First derivative of ln p in ln sigma, and minus the second one."""
        s2 = (2 * theta).exp()[:, None]
        v = self.eigenvalues + s2
        first = s2 * (w / v**2 - 1 / v)  # d/dtheta = 2 s2 d/ds2, and ln p has 1/2
        second = 2 * first + 2 * s2**2 * (-2 * w / v**3 + 1 / v**2)
        return first.sum(1), -second.sum(1)


def measured_moments(
    prior: GaussianPrior, problem: InverseProblem, y: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the observed entries of A x.

    Args:
        prior: Gaussian prior.
        problem: Linear operator.
        y: A measurement (1, ...), for its shape and what of it is observed.

    Returns:
        Mean (m,) and covariance (m, m), float64.
    """
    A = problem.linear_operator.dense(prior.shape).to(prior.means)
    A = A[problem.operator.observed(y).flatten()]
    mean, covariance = prior.moments()
    M = A @ covariance @ A.T
    return A @ mean, (M + M.T) / 2
