r"""Potentials that include the measurement in a particle filter in raster order.

Before the filter places the next entry, a potential gives a factor for every level of it. A
potential is a sequence of functions :math:`\psi_i(x_{\le i})` with :math:`\psi_0` constant and, at
the end, :math:`\psi_D(x) = p(y|x)` up to a constant. The filter needs :math:`\ln\psi_i/\psi_{i-1}`.
The functions in between may be chosen freely: a poor choice needs more particles, but the limit
stays exact.

- ``Pointwise``: the likelihood factorises over the entries, and each factor is
  :math:`p(y_i | x_i)`.
- ``GaussianLookahead``: y = A x + noise. :math:`\psi_i` is the likelihood of the entries placed so
  far if the others were Gaussian given them. With x = m + L e, L unit lower triangular in raster
  order and e independent of variances d, placing an entry fixes one :math:`e_i`, and

  .. math:: \ln\frac{\psi_i}{\psi_{i-1}} = e_i\beta - \tfrac12 e_i^2\alpha
            - \tfrac12 \frac{d_i\beta^2}{1 + d_i\alpha} + \tfrac12\ln(1 + d_i\alpha),\qquad
            \alpha = a_i^T b_i,\ \beta = b_i^T r,\ b_i = S_i^{-1} a_i,

  with :math:`a_i` the columns of A L, :math:`S_i = \Sigma_y + \sum_{j>i} d_j a_j a_j^T`, and
  r = y - A m minus the contribution of the entries placed so far. The b are the same for all
  particles. They come from rank-one downdates of :math:`S^{-1}`, from the last entry to the first.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["GaussianLookahead", "LookaheadFactors", "Pointwise", "Potential"]


class Potential(ABC):
    """Base class of the potentials of P populations of particles.

    ``begin`` starts a pass; ``select`` and ``put`` follow the resampling and the placing of
    entries.

    Attributes:
        populations: Number P of populations.
        levels: Number of levels of an entry.
    """

    populations: int
    levels: int

    @abstractmethod
    def split(self, size: int) -> list["Potential"]:
        """Split the potential into groups of populations.

        Args:
            size: Most populations in a group.

        Returns:
            The potentials of the groups, in order.
        """

    @abstractmethod
    def begin(self, particles: int) -> None:
        """Start a new pass over the image.

        Args:
            particles: Particles in each population.
        """

    @abstractmethod
    def factors(self, c: int, i: int, j: int) -> Tensor | None:
        """Compute ln psi_i/psi_{i-1} of every level of an entry.

        Args:
            c: Channel of the entry.
            i: Row of the entry.
            j: Column of the entry.

        Returns:
            Log-factors, shape (P, 1 or particles, levels); None if y does not depend on the entry.
        """

    @abstractmethod
    def free(self) -> Tensor:
        """Find the entries that y does not fix.

        Returns:
            True at these entries, shape (P, C, H, W).
        """

    @abstractmethod
    def select(self, index: Tensor) -> None:
        """Replace particle k by particle index[k].

        Args:
            index: Indices into all particles, shape (P particles,), int64.
        """

    @abstractmethod
    def put(self, c: int, i: int, j: int, value: Tensor) -> None:
        """Record the values that have been placed at an entry.

        Args:
            c: Channel of the entry.
            i: Row of the entry.
            j: Column of the entry.
            value: Values on [-1, 1], shape (P particles,).
        """


class Pointwise(Potential):
    """Potential of a likelihood that factorises over the entries.

    Args:
        table: ln p(y_i | x_i) up to a constant for each i, shape (P, C, H, W, levels).
    """

    def __init__(self, table: Tensor) -> None:
        self.table, self.populations, self.levels = table, len(table), table.shape[-1]
        self._speaks = (table != table[..., :1]).any(-1).any(0).cpu()

    def split(self, size: int) -> list[Potential]:
        """Split the potential into groups of populations.

        Args:
            size: Most populations in a group.

        Returns:
            The potentials of the groups, in order.
        """
        return [Pointwise(part) for part in self.table.split(size)]

    def begin(self, particles: int) -> None:
        """Start a new pass over the image.

        Args:
            particles: Particles in each population.
        """

    def factors(self, c: int, i: int, j: int) -> Tensor | None:
        """Compute ln psi_i/psi_{i-1} of every level of an entry.

        Args:
            c: Channel of the entry.
            i: Row of the entry.
            j: Column of the entry.

        Returns:
            Log-factors, shape (P, 1, levels); None if y does not depend on the entry.
        """
        return self.table[:, None, c, i, j] if bool(self._speaks[c, i, j]) else None

    def free(self) -> Tensor:
        """Find the entries that y does not fix.

        Returns:
            True at these entries, shape (P, C, H, W).
        """
        return torch.isfinite(self.table).sum(-1) > 1

    def select(self, index: Tensor) -> None:
        """Do nothing: the factors do not depend on the particles.

        Args:
            index: Indices into all particles, shape (P particles,), int64.
        """

    def put(self, c: int, i: int, j: int, value: Tensor) -> None:
        """Do nothing: the factors do not depend on the particles.

        Args:
            c: Channel of the entry.
            i: Row of the entry.
            j: Column of the entry.
            value: Values on [-1, 1], shape (P particles,).
        """


@dataclass(frozen=True)
class LookaheadFactors:
    """The part of the Gaussian look-ahead that is the same for all measurements.

    There are D entries in raster order, channels of a pixel last, and K numbers in a measurement.
    All tensors are float64.

    Args:
        shape: Shape (C, H, W) of an image.
        mean: Mean m of the Gaussian, shape (D,).
        L: Unit lower triangular factor of its covariance, shape (D, D).
        variances: Variances d of the independent variables e, shape (D,).
        columns: Columns a of A L as rows, shape (D, K).
        gains: The vectors b, shape (D, K).
        alpha: The numbers a^T b, shape (D,).
        seen_mean: The measurement A m of the mean, shape (K,).
    """

    shape: tuple[int, ...]
    mean: Tensor
    L: Tensor
    variances: Tensor
    columns: Tensor
    gains: Tensor
    alpha: Tensor
    seen_mean: Tensor

    @classmethod
    def of(cls, draws: Tensor, matrix: Tensor, noise_variance: float) -> "LookaheadFactors":
        """Compute the factors from draws of the model.

        The Gaussian has the mean of the draws. Its covariance is that of the draws, shrunk towards
        its diagonal by the share D / (n + D), which is one half for as many draws as entries.

        Args:
            draws: Draws of the model, shape (n, C, H, W).
            matrix: Measurement of each unit vector, shape (C H W, K), in the order of the image's
                memory.
            noise_variance: Variance of the noise of each number measured.

        Returns:
            The factors.
        """
        shape = tuple(draws.shape[1:])
        order = (
            torch.arange(draws[0].numel(), device=draws.device)
            .reshape(shape)
            .permute(1, 2, 0)
            .flatten()
        )
        x, A = draws.double().flatten(1)[:, order], matrix.double()[order]
        n, D = x.shape
        mean, C = x.mean(0), torch.cov(x.T).reshape(D, D)
        shrink = D / (n + D)
        # A standard deviation of a grey level even at entries where all draws agree.
        variances = C.diagonal() + (2 / 255) ** 2
        C = (1 - shrink) * C + torch.diag(variances - (1 - shrink) * C.diagonal())
        root = torch.linalg.cholesky(C)
        scale = root.diagonal()
        L, d = root / scale, scale.square()
        columns = L.T @ A  # row i is A L e_i
        precision = torch.eye(A.shape[1], dtype=A.dtype, device=A.device) / noise_variance
        gains, alpha = torch.empty_like(columns), torch.empty_like(d)
        for i in reversed(range(D)):
            gains[i] = precision @ columns[i]
            alpha[i] = columns[i] @ gains[i]
            precision = precision - torch.outer(gains[i], gains[i]) * (d[i] / (1 + d[i] * alpha[i]))
        return cls(shape, mean, L, d, columns, gains, alpha, mean @ A)


class GaussianLookahead(Potential):
    """Potential of linear measurements with Gaussian noise.

    Args:
        factors: Factors that all measurements share.
        y: Measurements, shape (P, K), float64.
        levels: Number of levels, evenly spaced on [-1, 1].
    """

    def __init__(self, factors: LookaheadFactors, y: Tensor, levels: int) -> None:
        self.given = factors
        self.y = y
        self.populations = len(y)
        self.levels = levels
        self.grid = torch.linspace(-1, 1, levels, dtype=torch.float64, device=y.device)

    def split(self, size: int) -> list[Potential]:
        """Split the potential into groups of populations.

        Args:
            size: Most populations in a group.

        Returns:
            The potentials of the groups, in order.
        """
        return [GaussianLookahead(self.given, part, self.levels) for part in self.y.split(size)]

    def begin(self, particles: int) -> None:
        """Start a new pass over the image.

        Args:
            particles: Particles in each population.
        """
        self.particles = particles
        self.residual = (self.y - self.given.seen_mean).repeat_interleave(particles, 0)
        self.placed = self.residual.new_zeros(len(self.residual), len(self.given.mean))

    def _at(self, c: int, i: int, j: int) -> tuple[int, Tensor]:
        """Compute the place k in raster order and the Gaussian's conditional mean there.

        The mean has shape (P particles,).
        """
        k = (i * self.given.shape[2] + j) * self.given.shape[0] + c
        return k, self.given.mean[k] + self.placed[:, :k] @ self.given.L[k, :k]

    def factors(self, c: int, i: int, j: int) -> Tensor | None:
        """Compute ln psi_i/psi_{i-1} of every level of an entry.

        Args:
            c: Channel of the entry.
            i: Row of the entry.
            j: Column of the entry.

        Returns:
            Log-factors, shape (P, particles, levels).
        """
        k, expected = self._at(c, i, j)
        alpha, d = self.given.alpha[k], self.given.variances[k]
        beta = (self.residual @ self.given.gains[k])[:, None]
        e = self.grid - expected[:, None]
        ratio = (
            e * beta
            - e.square() * alpha / 2
            - d * beta.square() / (1 + d * alpha) / 2
            + torch.log1p(d * alpha) / 2
        )
        return ratio.reshape(self.populations, self.particles, self.levels)

    def free(self) -> Tensor:
        """Find the entries that y does not fix.

        Returns:
            True at these entries, shape (P, C, H, W).
        """
        return torch.ones(
            self.populations, *self.given.shape, dtype=torch.bool, device=self.y.device
        )

    def select(self, index: Tensor) -> None:
        """Replace particle k by particle index[k].

        Args:
            index: Indices into all particles, shape (P particles,), int64.
        """
        self.residual, self.placed = self.residual[index], self.placed[index]

    def put(self, c: int, i: int, j: int, value: Tensor) -> None:
        """Record the values that have been placed at an entry.

        Args:
            c: Channel of the entry.
            i: Row of the entry.
            j: Column of the entry.
            value: Values on [-1, 1], shape (P particles,).
        """
        k, expected = self._at(c, i, j)
        e = value.double() - expected
        self.placed[:, k] = e
        self.residual = self.residual - e[:, None] * self.given.columns[k]
