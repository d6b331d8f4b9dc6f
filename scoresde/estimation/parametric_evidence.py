r"""The slope of the log-evidence in closed form, for a Gaussian prior and linear operators.

For :math:`x \sim N(\mu, C)` and :math:`y = A_\theta x + \sigma n` the measurement is
:math:`N(A\mu, S)` with :math:`S = A C A^T + \sigma^2 I`. With :math:`\alpha = S^{-1}(y - A\mu)`

.. math:: \frac{\partial \ln p}{\partial u_i} = \alpha^T \partial_i A\,\mu
          + \tfrac12\bigl(\alpha^T \partial_i S\,\alpha
          - \operatorname{tr} S^{-1}\partial_i S\bigr), \qquad
          I_{ij} = \tfrac12 \operatorname{tr} S^{-1}\partial_i S\,S^{-1}\partial_j S
          + (\partial_i A\,\mu)^T S^{-1} \partial_j A\,\mu .
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from problems import InverseProblem
from scoresde.estimation.evidence import measured_moments
from scoresde.estimation.family import Equations, Family
from scoresde.priors.mixture import GaussianPrior

__all__ = ["EvidenceSource"]


@dataclass(frozen=True)
class EvidenceSource:
    """The equations of maximum likelihood without draws.

    Args:
        family: Linear problems with Gaussian noise.
        y: Measurement (1, ...).
        prior: Gaussian prior.
    """

    family: Family
    y: Tensor
    prior: GaussianPrior

    def _moments(self, problem: InverseProblem) -> tuple[Tensor, Tensor]:
        """Mean and covariance of the observed entries of y."""
        mean, covariance = measured_moments(self.prior, problem, self.y)
        seen = problem.operator.observed(self.y).expand_as(self.y).flatten()
        noise = problem.noise_covariance(tuple(self.y.shape[1:])).to(covariance)
        return mean, covariance + noise[seen][:, seen]

    def log_prob(self, u: Sequence[float], y: Tensor) -> Tensor:
        """Compute ln p(y | theta).

        Args:
            u: Coordinates of the parameters.
            y: Observed entries of measurements (B, m).

        Returns:
            Nats (B,), float64.
        """
        mean, S = self._moments(self.family.at(u))
        law = torch.distributions.MultivariateNormal(mean, S, validate_args=False)
        found: Tensor = law.log_prob(y.double())
        return found

    def at(self, u: Sequence[float], draws: int = 0) -> Equations:
        """Evaluate the equations.

        Args:
            u: Coordinates of the parameters.
            draws: Not used.

        Returns:
            The equations, with Fisher's information in the place of that of complete data.
        """
        problem = self.family.at(u)
        mean, S = self._moments(problem)
        seen = problem.operator.observed(self.y).expand_as(self.y)
        root = torch.linalg.cholesky(S)
        alpha = torch.cholesky_solve((self.y[seen].double() - mean)[:, None], root)[:, 0]
        slopes, means, ratios = [], [], []
        for i in range(len(self.family.parameters)):
            low, high, width = self.family.beside(u, i)
            (m0, S0), (m1, S1) = self._moments(low), self._moments(high)
            dm, dS = (m1 - m0) / width, (S1 - S0) / width
            ratio = torch.cholesky_solve(dS, root)
            slopes.append(alpha @ dm + 0.5 * (alpha @ dS @ alpha - ratio.trace()))
            means.append(dm)
            ratios.append(ratio)
        D = torch.stack(means)
        information = D @ torch.cholesky_solve(D.T, root) + 0.5 * torch.stack(
            [torch.stack([(a * b.T).sum() for b in ratios]) for a in ratios]
        )
        slope, none = torch.stack(slopes), torch.zeros_like(information)
        return Equations(slope, slope, information, information, none)
