r"""What a particle filter in raster order is told of the measurement before it places the next entry: a factor for every level of it.

A potential is a sequence of functions :math:`\psi_i(x_{\le i})` with :math:`\psi_0` constant and, at the end, :math:`\psi_D(x) = p(y|x)`
up to a constant; the filter asks for :math:`\ln\psi_i/\psi_{i-1}`. Whatever lies between is free: it costs particles, not truth.

- ``Pointwise``: y speaks of each entry by itself, and each factor is :math:`p(y_i | x_i)`.
- ``GaussianLookahead``: y = A x + noise. :math:`\psi_i` is the likelihood of what is placed if the rest were Gaussian given it. With
  x = m + L e, L unit lower triangular in raster order and e independent of variances d, placing an entry fixes one :math:`e_i`, and

  .. math:: \ln\frac{\psi_i}{\psi_{i-1}} = e_i\beta - \tfrac12 e_i^2\alpha - \tfrac12 \frac{d_i\beta^2}{1 + d_i\alpha}
            + \tfrac12\ln(1 + d_i\alpha),\qquad \alpha = a_i^T b_i,\ \beta = b_i^T r,\ b_i = S_i^{-1} a_i,

  :math:`a_i` the columns of A L, :math:`S_i = \Sigma_y + \sum_{j>i} d_j a_j a_j^T`, and r = y - A m - what is placed. The b are the same
  for all particles: rank-one downdates of :math:`S^{-1}`, from the last entry to the first.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["GaussianLookahead", "LookaheadFactors", "Pointwise", "Potential"]


class Potential(ABC):
    """Of P populations. ``begin`` resets it for so many particles each; ``select`` and ``put`` follow what happens to them."""

    populations: int
    levels: int

    @abstractmethod
    def split(self, size: int) -> list["Potential"]:
        """The same for so many populations at a time."""

    @abstractmethod
    def begin(self, particles: int) -> None: ...

    @abstractmethod
    def factors(self, c: int, i: int, j: int) -> Tensor | None:
        """ln psi_i/psi_{i-1} of every level of the entry, (P, 1 or particles, levels); None where y says nothing."""

    @abstractmethod
    def free(self) -> Tensor:
        """(P, C, H, W): the entries that y does not fix."""

    @abstractmethod
    def select(self, index: Tensor) -> None:
        """Particle k becomes what index[k] was, (P particles,)."""

    @abstractmethod
    def put(self, c: int, i: int, j: int, value: Tensor) -> None:
        """The entry has been given these values, (P particles,)."""


class Pointwise(Potential):
    """table: (P, C, H, W, levels), ln p(y_i | x_i) up to a constant for each i."""

    def __init__(self, table: Tensor) -> None:
        self.table, self.populations, self.levels = table, len(table), table.shape[-1]
        self._speaks = (table != table[..., :1]).any(-1).any(0).cpu()

    def split(self, size: int) -> list[Potential]:
        return [Pointwise(part) for part in self.table.split(size)]

    def begin(self, particles: int) -> None:
        pass

    def factors(self, c: int, i: int, j: int) -> Tensor | None:
        return self.table[:, None, c, i, j] if bool(self._speaks[c, i, j]) else None

    def free(self) -> Tensor:
        return torch.isfinite(self.table).sum(-1) > 1

    def select(self, index: Tensor) -> None:
        pass

    def put(self, c: int, i: int, j: int, value: Tensor) -> None:
        pass


@dataclass(frozen=True)
class LookaheadFactors:
    """What is the same for all measurements. D entries in raster order, channels of a pixel last; K numbers measured. float64.

    shape: (C, H, W). mean (D,), L (D, D), variances (D,): of the Gaussian. columns: (D, K), of A L. gains: (D, K), the b. alpha: (D,).
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
        """draws: (n, C, H, W), of the model; their mean and covariance, half of it the diagonal alone if they are as few as entries, make
        the Gaussian. matrix: (C H W, K), the measurement of each unit vector, in the order of the picture."""
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
        variances = (
            C.diagonal() + (2 / 255) ** 2
        )  # a grey level of doubt even where all draws agree
        C = (1 - shrink) * C + torch.diag(variances - (1 - shrink) * C.diagonal())
        root = torch.linalg.cholesky(C)
        scale = root.diagonal()
        L, d = root / scale, scale.square()
        columns = L.T @ A  # row i: A L e_i
        precision = torch.eye(A.shape[1], dtype=A.dtype, device=A.device) / noise_variance
        gains, alpha = torch.empty_like(columns), torch.empty_like(d)
        for i in reversed(range(D)):
            gains[i] = precision @ columns[i]
            alpha[i] = columns[i] @ gains[i]
            precision = precision - torch.outer(gains[i], gains[i]) * (d[i] / (1 + d[i] * alpha[i]))
        return cls(shape, mean, L, d, columns, gains, alpha, mean @ A)


class GaussianLookahead(Potential):
    """y: (P, K), float64. levels: evenly spaced on [-1, 1]."""

    def __init__(self, factors: LookaheadFactors, y: Tensor, levels: int) -> None:
        self.given, self.y, self.populations, self.levels = factors, y, len(y), levels
        self.grid = torch.linspace(-1, 1, levels, dtype=torch.float64, device=y.device)

    def split(self, size: int) -> list[Potential]:
        return [GaussianLookahead(self.given, part, self.levels) for part in self.y.split(size)]

    def begin(self, particles: int) -> None:
        self.particles = particles
        self.residual = (self.y - self.given.seen_mean).repeat_interleave(particles, 0)
        self.placed = self.residual.new_zeros(len(self.residual), len(self.given.mean))

    def _at(self, c: int, i: int, j: int) -> tuple[int, Tensor]:
        """The place in raster order, and the Gaussian's mean there given what is placed, (P particles,)."""
        k = (i * self.given.shape[2] + j) * self.given.shape[0] + c
        return k, self.given.mean[k] + self.placed[:, :k] @ self.given.L[k, :k]

    def factors(self, c: int, i: int, j: int) -> Tensor | None:
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
        return torch.ones(
            self.populations, *self.given.shape, dtype=torch.bool, device=self.y.device
        )

    def select(self, index: Tensor) -> None:
        self.residual, self.placed = self.residual[index], self.placed[index]

    def put(self, c: int, i: int, j: int, value: Tensor) -> None:
        k, expected = self._at(c, i, j)
        e = value.double() - expected
        self.placed[:, k] = e
        self.residual = self.residual - e[:, None] * self.given.columns[k]
