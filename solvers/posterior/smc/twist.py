r"""The predicted likelihood of particles, and the noise of their next step given it.

All for a measurement whitened to m numbers, :math:`y = A x_0 + N(0, I)`; see ``predicted_twist`` for the derivation.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["Lookahead", "Twist", "log_normal"]


def log_normal(r: Tensor, L: Tensor) -> Tensor:
    """ln N(r; 0, L L^T) but for the constant -m/2 ln 2 pi: r (N, m), L (N or 1, m, m) lower triangular -> (N,)."""
    w = torch.linalg.solve_triangular(L, r[..., None], upper=False)[..., 0]
    return -0.5 * w.square().sum(-1) - L.diagonal(dim1=-2, dim2=-1).log().sum(-1)


@dataclass(frozen=True)
class Lookahead:
    r"""What a step from noise s to :math:`s' = \sqrt\rho s` will tell of y: :math:`r' = r - M z`, :math:`S' = S - M M^T = L' L'^T`.

    M (R, m, D), L_next (R, m, m), at the representatives of ``twist``.
    """

    twist: "Twist"
    M: Tensor
    L_next: Tensor

    def condition(self, z: Tensor, e: Tensor) -> Tensor:
        """z (N, D) and e (N, m), both N(0, I), become a draw of p(z) N(r - M z; 0, S'), normalised (Matheron's rule)."""
        of = self.twist.of
        missed = self.twist.r - _times(self.M[of], z) - _times(self.L_next[of], e)
        return z + _times(
            self.M[of].mT, torch.cholesky_solve(missed[..., None], self.twist.L[of])[..., 0]
        )

    def log_density(self, z: Tensor) -> Tensor:
        """ln N(r - M z; 0, S'), (N,): the twist as it is predicted before the step is made."""
        of = self.twist.of
        return log_normal(self.twist.r - _times(self.M[of], z), self.L_next[of])


@dataclass(frozen=True)
class Twist:
    r""":math:`\psi(u) = N(r; 0, S),\ r = y - A D(u),\ S = I + A V A^T,\ V = s^2 J`, at N particles of one noise level s.

    r: (N, m). G = J A^T (R, D, m), P = A V A^T and L, the Cholesky factor of S (R, m, m), at R representatives. of: (N,), whose each
    particle uses.
    """

    s: float
    r: Tensor
    G: Tensor
    P: Tensor
    L: Tensor
    of: Tensor

    @staticmethod
    def at(s: float, r: Tensor, G: Tensor, of: Tensor, A: Tensor) -> "Twist":
        """A: (m, D)."""
        P = _semidefinite(s**2 * (A @ G))
        return Twist(
            s, r, G, P, cholesky(torch.eye(len(A), dtype=A.dtype, device=A.device) + P), of
        )

    def __getitem__(self, chosen: Tensor) -> "Twist":
        return replace(self, r=self.r[chosen], of=self.of[chosen])

    def log_density(self) -> Tensor:
        """ln psi, (N,)."""
        return log_normal(self.r, self.L[self.of])

    def information(self) -> float:
        """ln |S| / 2, the mean over representatives: the nats that y has still to tell."""
        return float(self.L.diagonal(dim1=-2, dim2=-1).log().sum(-1).mean())

    def lookahead(self, AAt: Tensor, rho: float) -> Lookahead:
        """For a step to the noise sqrt(rho) s, with :math:`M M^T = P (P + s^2 \\rho/(1 - \\rho) A A^T)^{-1} P,\\ P = A V A^T`."""
        P, eye = self.P, torch.eye(len(AAt), dtype=AAt.dtype, device=AAt.device)
        K = P @ torch.linalg.solve(
            P + self.s**2 * (rho / (1 - rho) * AAt + 1e-12 * AAt.diagonal().amax() * eye), P
        )
        # the noise acts through J, whose range towards y is that of G: M = K^(1/2) (G^T G)^(-1/2) G^T
        M = cholesky((K + K.mT) / 2) @ torch.linalg.solve_triangular(
            cholesky(self.G.mT @ self.G), self.G.mT, upper=False
        )
        return Lookahead(self, M, cholesky(eye + P - M @ M.mT))


def _semidefinite(P: Tensor) -> Tensor:
    """The symmetric part of (R, m, m), without the negative eigenvalues that a learned Jacobian, no true covariance, may have."""
    P = (P + P.mT) / 2
    jitter = 1e-9 * P.diagonal(dim1=-2, dim2=-1).abs().amax(-1)
    if not bool(
        torch.linalg.cholesky_ex(
            P + torch.diag_embed(jitter[:, None].expand(-1, P.shape[-1]))
        ).info.any()
    ):
        return P
    values, vectors = torch.linalg.eigh(P)
    return (vectors * values.clamp_min(0)[..., None, :]) @ vectors.mT


def _times(M: Tensor, v: Tensor) -> Tensor:
    return (M @ v[..., None])[..., 0]


def cholesky(S: Tensor) -> Tensor:
    """Of symmetric matrices (R, m, m) that rounding, or a network's Jacobian, may have left slightly indefinite."""
    L, info = torch.linalg.cholesky_ex(S)
    if not bool(info.any()):
        return L
    values, vectors = torch.linalg.eigh(S)
    floor = 1e-10 * values.amax(-1, keepdim=True).clamp_min(1e-300)
    R = torch.linalg.qr((vectors * values.maximum(floor).sqrt()[..., None, :]).mT).R
    return R.mT * torch.where(R.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)[..., None, :]
