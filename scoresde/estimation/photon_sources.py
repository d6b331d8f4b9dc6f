r"""The slope of ln p(y | gain, read noise) from posterior draws, and its missing information.

The variance of entry i is :math:`v_i = 4 u_i g + s^2`, with the light :math:`u = (A x + 1)/2` and
the gain g, and :math:`\theta` holds ln g, and ln s if the read noise is sought too. In the
likelihood of a Gaussian with this variance the slope is

.. math:: S_k = \sum_i \frac{\partial_k v_i}{2 v_i^2}
          \bigl(E[(y - A x)_i^2 | y] - v_i\bigr),

with :math:`\partial_{\ln g} v = 4 u g` and :math:`\partial_{\ln s} v = 2 s^2`. Whatever the law of
the counts is, S has mean 0 at the true values, because only their variance enters. The weights
:math:`\partial v / v^2` are taken at one photon at least, so that dark pixels do not rule. With the
complete information :math:`J_{kl} = \sum_i \partial_k v_i \partial_l v_i / 2 v_i^2` the
information is M = J less the variance of the complete slope over the posterior (Louis 1982), and
the variance of S over measurements is that of complete data less the same. Complete data have

.. math:: B_{kl} = \sum_i \frac{\partial_k v_i \partial_l v_i}{4 v_i^4}
          \bigl(2 v_i^2 + 16 u_i g^3\bigr),

where the last term is the fourth cumulant of a Poisson count.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from problems import InverseProblem, Noise
from scoresde.evaluation.residual.missing_information import missing_information
from scoresde.priors.base import Prior
from solvers import PosteriorSampler

__all__ = ["FAINTEST", "PhotonDraws", "PhotonEquations", "PhotonSource", "informed"]

FAINTEST = 1.0
"""Photons of the darkest pixels, where v weighs them."""

_LEAST, _MOST = 0.02, 3.0  # of the complete information


@dataclass(frozen=True)
class PhotonEquations:
    """Slopes and information in ln g, or in ln g and ln s, float64.

    Args:
        slope: S, (k,).
        complete: J, the information of known pictures, (k, k).
        information: M, (k, k).
        variance: Of S over measurements and draws, (k, k).
        entries: Number of entries that count.
    """

    slope: Tensor
    complete: Tensor
    information: Tensor
    variance: Tensor
    entries: int

    @property
    def error(self) -> Tensor:
        """Standard errors of ln g, or of ln g and ln s, (k,)."""
        inverse = torch.linalg.inv(self.information)
        return (inverse @ self.variance @ inverse.T).diagonal().sqrt()


def informed(
    matrix: Tensor, complete: Tensor, least: float = _LEAST, most: float = _MOST
) -> Tensor:
    """Bound a matrix by shares of another one, such as the information of complete data.

    Args:
        matrix: Symmetric part of it counts, (k, k).
        complete: Information of complete data, positive definite, (k, k).
        least: The smallest share.
        most: The largest one.

    Returns:
        A positive definite matrix (k, k).
    """
    jitter = 1e-9 * complete.diagonal().clamp_min(1e-30)
    L = torch.linalg.cholesky(complete + torch.diag(jitter))
    inverse = torch.linalg.inv(L)
    share, Q = torch.linalg.eigh(inverse @ ((matrix + matrix.T) / 2) @ inverse.T)
    root = L @ Q
    return (root * share.clamp(least, most)) @ root.T


class PhotonSource(ABC):
    """Equations of the photons at any values, with the same random numbers at all of them.

    Args:
        problem: Operator.
        noise: Makes the noise of gain and read noise.
        y: Measurement (1, ...).
        prior: Prior of the picture.
        counted: Entries that are observed and not clipped, bool, shape of y.
        solver: Sampler of the posterior.
        draws: Draws at all values.
        seed: Of the random numbers.

    Attributes:
        name: Where the posterior comes from.
        measured: Whether M comes from differences of S.
    """

    name: ClassVar[str]
    measured: ClassVar[bool]

    def __init__(
        self,
        problem: InverseProblem,
        noise: Callable[[float, float], Noise],
        y: Tensor,
        prior: Prior,
        counted: Tensor,
        solver: PosteriorSampler,
        draws: int,
        seed: int,
    ) -> None:
        self.problem, self.noise, self.y, self.prior = problem, noise, y, prior
        self.counted, self.solver, self.draws, self.seed = counted, solver, draws, seed

    def stated(self, gain: float, read: float) -> InverseProblem:
        """State the problem with these values.

        Args:
            gain: 1 / photons at white.
            read: Standard deviation of the read noise.

        Returns:
            The problem.
        """
        return replace(self.problem, noise=self.noise(gain, read))

    @abstractmethod
    def at(self, gain: float, read: float, both: bool) -> PhotonEquations:
        """Evaluate the posterior at these values.

        Args:
            gain: 1 / photons at white.
            read: Standard deviation of the read noise.
            both: Whether the read noise is sought, too.

        Returns:
            The equations.
        """


class PhotonDraws(PhotonSource):
    """Draws of a solver."""

    name, measured = "draws", False

    def at(self, gain: float, read: float, both: bool) -> PhotonEquations:
        """Draw from the posterior at these values."""
        problem = self.stated(gain, read)
        x = self.solver.sample(
            self.prior, problem, self.y, self.draws,
            generator=torch.Generator().manual_seed(self.seed),
        ).draws[:, 0]  # fmt: skip
        mean = problem.operator.apply(x.to(self.y)).double()[:, self.counted[0]]  # (n, m)
        r = self.y[self.counted].double() - mean
        light = ((mean.mean(0) + 1) / 2).clamp_min(0)
        return equations(r, light, gain, read, both)


def equations(r: Tensor, light: Tensor, gain: float, read: float, both: bool) -> PhotonEquations:
    """Form the equations of residuals.

    Args:
        r: Residuals of n draws (n, m), float64.
        light: Mean light u of the entries, at least 0, (m,).
        gain: 1 / photons at white.
        read: Standard deviation of the read noise.
        both: Whether the read noise is sought, too.

    Returns:
        The equations.
    """
    n = len(r)
    v = 4 * gain * light + read**2
    weight = 4 * gain * light.clamp_min(FAINTEST * gain) + read**2
    d = (4 * gain * light / weight)[None]
    if both:
        d = torch.cat([d, (2 * read**2 / weight)[None]])
    slope = 0.5 * (d * (r.square().mean(0) - v) / weight).sum(1)
    complete = 0.5 * d @ d.T
    fourth = 2 * v**2 + 16 * light * gain**3
    over_data = 0.25 * (d * fourth / weight**2) @ d.T
    missing = _missing(r / weight.sqrt(), d) if n > 1 else torch.zeros_like(complete)
    information = informed(complete - missing, complete)
    variance = informed(over_data - missing, over_data) + missing / n
    return PhotonEquations(slope, complete, information, variance, r.shape[1])


def _missing(e: Tensor, d: Tensor) -> Tensor:
    """Covariances of the complete slopes over the posterior, (k, k)."""
    k = len(d)
    found = torch.zeros(k, k, dtype=e.dtype, device=e.device)
    for i in range(k):
        found[i, i] = missing_information(e, 0.5 * d[i] * e).variance
    for i in range(k):
        for j in range(i):
            of_sum = missing_information(e, 0.5 * (d[i] + d[j]) * e).variance
            found[i, j] = found[j, i] = (of_sum - found[i, i] - found[j, j]) / 2
    return found
