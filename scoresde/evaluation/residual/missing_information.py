r"""What draws of the posterior leave unknown about a slope of the log-likelihood.

For a residual e and a direction h, both in units of the noise, the information about the parameter
lacks :math:`\mathrm{Var}(e^T h | y)` (Louis 1982). With means :math:`\bar e, \bar h` and deviations
:math:`a_i, b_i` of n draws

.. math:: e_i^T h_i = \bar e^T \bar h + (\bar e^T b_i + a_i^T \bar h) + a_i^T b_i .

The variance of the linear term is that of n numbers. For a Gaussian posterior the variance of the
product is half the mean square of :math:`K_{ij} = a_i^T b_j + a_j^T b_i` over pairs of independent
draws, of which there are n^2 / 2. Centring by the mean of the same draws biases it, which
U-centring undoes (Szekely and Rizzo 2014).

The noise of every four draws of some solvers sums to zero (:mod:`solvers.balanced`), so that they
are not independent. They are :math:`c + (\pm d_1 \pm d_2 \pm d_3) / \sqrt 3` with the mean c and
three differences d which, like draws, have the posterior's covariance, are independent if it is
Gaussian, and have the mean 0, so that they need no centring. The means c are all the same if the
posterior is Gaussian. The covariance of a draw is the sum of those of c and of d, and K has four
parts, in which each of the two factors is along c or along d. The mean over a group lacks the
linear term along d and the products of one factor of each kind. Three quarters as many draws are
independent, and the lower end is one of 90 %: with 80 %, up to 4 % of right models are suspected.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from problems.random_numbers import BALANCED_SIGNS

__all__ = ["MissingInformation", "missing_information", "missing_information_of_groups"]

_LEVEL, _LEVEL_OF_GROUPS = 0.8, 0.9  # of the one-sided intervals
_FEWEST = 4  # draws from which the mean can be taken out of K without bias


@dataclass(frozen=True)
class MissingInformation:
    """The variance of a slope over the posterior, estimated from draws.

    Args:
        linear: Variance of the term that is linear in the draws.
        product: Variance of the product of deviations.
        of_mean: Variance of the mean slope of these draws about that of all draws.
        degrees: Degrees of freedom of the two estimates.
        level: Level of the one-sided intervals of ``lower``.
    """

    linear: float
    product: float
    of_mean: float
    degrees: tuple[float, float]
    level: float

    @property
    def variance(self) -> float:
        """The variance of the slope of one draw."""
        return self.linear + self.product

    @property
    def lower(self) -> float:
        """The sum of the lower ends of the one-sided intervals of both terms."""
        linear, product = (d / float(stats.chi2(d).ppf(self.level)) for d in self.degrees)
        return self.linear * linear + self.product * product


def missing_information(e: Tensor, h: Tensor) -> MissingInformation:
    """Estimate Var(e^T h | y) from independent draws.

    Args:
        e: Residuals (n, m), in units of the noise, of at least 4 draws.
        h: Directions (n, m), in units of the noise.

    Returns:
        The estimate.

    Example:
        >>> import torch
        >>> e = torch.randn(64, 100, generator=torch.Generator().manual_seed(0))
        >>> round(missing_information(e, e).variance, -2)  # of chi-squared of 100 entries: 200
        200.0
    """
    n = len(e)
    e_bar, h_bar = e.mean(0), h.mean(0)
    a, b = e - e_bar, h - h_bar
    product = _product(a, b)
    linear = max(float((b @ e_bar + a @ h_bar).var()) - 2 * product / n, 0.0)
    of_mean = (linear + product) / n
    return MissingInformation(linear, product, of_mean, (n - 1, n * (n - 3) / 2), _LEVEL)


def missing_information_of_groups(e: Tensor, h: Tensor) -> MissingInformation:
    """Estimate Var(e^T h | y) from groups of four draws whose noise sums to zero.

    Args:
        e: Residuals (groups, 4, m), in units of the noise. With fewer than 4 groups the product of
            two deviations of their means, which is 0 for Gaussian posteriors, is left out.
        h: Directions (groups, 4, m), in units of the noise.

    Returns:
        The estimate.

    Example:
        >>> import torch
        >>> white = torch.randn(20, 3, 100, generator=torch.Generator().manual_seed(0))
        >>> e = BALANCED_SIGNS @ white / 3**0.5
        >>> round(missing_information_of_groups(e, e).variance, -2)
        200.0
    """
    n = len(e)
    c, g = e.mean(1), h.mean(1)
    d, f = _differences(e), _differences(h)  # (3 n, m)
    e_bar, h_bar = c.mean(0), g.mean(0)
    a, b = c - e_bar, g - h_bar
    both, one, neither = _mean_square(d @ f.T + f @ d.T) / 2, 0.0, 0.0
    along_d, along_c = float((f @ e_bar + d @ h_bar).square().mean()), 0.0
    if n > 1:
        apart = ~torch.eye(n, dtype=torch.bool).repeat_interleave(len(d) // n, 1)
        K = (a @ f.T + b @ d.T)[apart]  # along d for one factor, along c for the other
        one = float(K.square().mean()) * n / (n - 1) / 2
        neither = _product(a, b) if n >= _FEWEST else 0.0
        along_d = max(along_d - 2 * one / n, 0.0)
        along_c = max(float((b @ e_bar + a @ h_bar).var()) - 2 * neither / n, 0.0)
    return MissingInformation(
        along_d + along_c,
        both + 2 * one + neither,
        (along_c + neither) / n + both / len(d),
        (len(d), len(d) * (len(d) - 1) / 2),
        _LEVEL_OF_GROUPS,
    )


def _differences(e: Tensor) -> Tensor:
    """The differences d_1, d_2, d_3 of groups of four, (groups, 4, m) -> (3 groups, m)."""
    signs = BALANCED_SIGNS.to(e)
    return (signs.T @ e * (signs.shape[1] ** 0.5 / len(signs))).flatten(0, 1)


def _product(a: Tensor, b: Tensor) -> float:
    """Half the mean square of K of deviations from the mean of the same draws."""
    n = len(a)
    K = a @ b.T
    K = (K + K.T).fill_diagonal_(0)
    rows, total = K.sum(1), K.sum()
    K = K - (rows[:, None] + rows) / (n - 2) + total / ((n - 1) * (n - 2))
    return float(K.fill_diagonal_(0).square().sum()) / (n * (n - 3)) / 2


def _mean_square(K: Tensor) -> float:
    """Mean square of the entries beside the diagonal."""
    n = len(K)
    return float(K.fill_diagonal_(0).square().sum()) / (n * (n - 1))
