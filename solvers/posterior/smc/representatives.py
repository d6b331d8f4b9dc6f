"""Twists of a population whose Jacobians are computed at some of the particles only.

A twist needs the products J A^T, m of them for m measured numbers. They are computed at a few
particles, the representatives, and every other particle takes the matrices of the representative
whose denoised image is nearest to its own. Where a neighbour's matrices give another twist, more
representatives are taken: one kind of image has one Jacobian and needs few of them, while every
sparse signal has a Jacobian of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from solvers.posterior.smc.base import systematic
from solvers.posterior.smc.twist import Twist, log_normal

__all__ = ["Representatives"]

_FEWEST = 32  # first representatives
_PRODUCTS = 1 << 11  # of the first representatives together
_ENTRIES = 1 << 25  # of their matrices J A^T together, 256 MB
_TOLERANCE = 0.4  # nats
_GROWTH = 4


@dataclass(frozen=True)
class Representatives:
    """Twists of weighted particles from Jacobians at representatives.

    Args:
        A: Whitened measurement matrix, shape (m, D).
        y: Whitened measurement, shape (1, m) or (m,).
        vjp_budget: Most vector-Jacobian products for one twist; 32 representatives are taken in
            any case.
        generator: Source of random numbers.
    """

    A: Tensor
    y: Tensor
    vjp_budget: int
    generator: torch.Generator

    def twist(
        self, s: float, D: Tensor, log_w: Tensor, rows: Callable[[Tensor, Tensor], Tensor]
    ) -> Twist:
        """Compute the twist of all particles at one noise level.

        Args:
            s: Noise level, a standard deviation.
            D: Denoised particles, shape (N, D).
            log_w: Logarithms of the weights of the particles, shape (N,).
            rows: Function (indices (R,), vectors (m, D)) -> J^T a for every vector a at these
                particles, (R, D, m).

        Returns:
            The twist of the N particles.
        """
        living = systematic(log_w, len(D), self.generator).unique()
        device = self.generator.device
        mixed = torch.randperm(len(living), generator=self.generator, device=device)
        order = living[mixed.to(living.device)]
        n, most = self._numbers(len(order))
        G = rows(order[:n], self.A)
        while True:
            twist = self._from(s, D, order[:n], G)
            if n >= most or self._disagreement(twist, D[order[:n]], order[:n]) <= _TOLERANCE:
                return twist
            more = order[n : min(_GROWTH * n, most)]
            G, n = torch.cat([G, rows(more, self.A)]), n + len(more)

    def _numbers(self, living: int) -> tuple[int, int]:
        """First and largest number of representatives among the living particles."""
        m, D = self.A.shape
        first = min(max(_PRODUCTS // m, _FEWEST), living)
        most = min(self.vjp_budget // m, _ENTRIES // (m * D), living)
        return first, max(first, most)

    def _from(self, s: float, D: Tensor, chosen: Tensor, G: Tensor) -> Twist:
        nearest = torch.cdist(D, D[chosen]).argmin(1)
        return Twist.at(s, self.y - D @ self.A.T, G, nearest, self.A)

    def _disagreement(self, twist: Twist, D: Tensor, chosen: Tensor) -> float:
        """Median change of a representative's log-twist by a neighbour's matrices, in nats."""
        if len(chosen) < 2:
            return 0.0
        neighbour = torch.cdist(D, D).fill_diagonal_(torch.inf).argmin(1)
        r = twist.r[chosen]
        difference = log_normal(r, twist.L) - log_normal(r, twist.L[neighbour])
        return float(difference.abs().median())
