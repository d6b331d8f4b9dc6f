r"""Predicted likelihood of particles, and the noise of their next step conditioned on it.

Everything is for a measurement whitened to m numbers, :math:`y = A x_0 + N(0, I)`; see
``predicted_twist`` for the derivation.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["Lookahead", "Twist", "log_normal"]


def log_normal(r: Tensor, L: Tensor) -> Tensor:
    """Compute ln N(r; 0, L L^T) without the constant -m/2 ln 2 pi.

    Args:
        r: Residuals, shape (N, m).
        L: Lower triangular Cholesky factors, shape (N, m, m) or (1, m, m).

    Returns:
        Log-densities in nats, shape (N,).
    """
    w: Tensor = torch.linalg.solve_triangular(L, r[..., None], upper=False)[..., 0]
    return -0.5 * w.square().sum(-1) - L.diagonal(dim1=-2, dim2=-1).log().sum(-1)


@dataclass(frozen=True)
class Lookahead:
    r"""Predicted twist after a step from noise s to :math:`s' = \sqrt\rho s`, given its noise z.

    The prediction is :math:`r' = r - M z` and :math:`S' = S - M M^T = L' L'^T`.

    Args:
        twist: Twist before the step.
        M: Map from the noise of the step to the residual, at the representatives of ``twist``,
            shape (R, m, D).
        L_next: Cholesky factors L' of S', shape (R, m, m).
    """

    twist: "Twist"
    M: Tensor
    L_next: Tensor

    def condition(self, z: Tensor, e: Tensor) -> Tensor:
        """Condition the noise of the step on y by Matheron's rule.

        Args:
            z: Standard normal numbers, shape (N, D).
            e: Standard normal numbers, shape (N, m).

        Returns:
            Draws from the density proportional to p(z) N(r - M z; 0, S'), shape (N, D).
        """
        of = self.twist.of
        missed = self.twist.r - _times(self.M[of], z) - _times(self.L_next[of], e)
        return z + _times(
            self.M[of].mT, torch.cholesky_solve(missed[..., None], self.twist.L[of])[..., 0]
        )

    def log_density(self, z: Tensor) -> Tensor:
        """Compute the predicted twist ln N(r - M z; 0, S') without its constant.

        Args:
            z: Noise of the step, shape (N, D).

        Returns:
            Log-densities in nats, shape (N,).
        """
        of = self.twist.of
        return log_normal(self.twist.r - _times(self.M[of], z), self.L_next[of])


@dataclass(frozen=True)
class Twist:
    r"""Twist :math:`\psi(u) = N(r; 0, S)` of N particles at one noise level.

    Here :math:`r = y - A D(u)`, :math:`S = I + A V A^T`, :math:`V = s^2 J`. The matrices are known
    at R representative particles, and every particle uses those of one representative.

    Args:
        s: Noise level, a standard deviation.
        r: Residuals of all particles, shape (N, m).
        G: Products J A^T at the representatives, shape (R, D, m).
        P: A V A^T at the representatives, shape (R, m, m).
        L: Cholesky factors of S at the representatives, shape (R, m, m).
        of: Index of the representative of each particle, shape (N,).
    """

    s: float
    r: Tensor
    G: Tensor
    P: Tensor
    L: Tensor
    of: Tensor

    @staticmethod
    def at(s: float, r: Tensor, G: Tensor, of: Tensor, A: Tensor) -> "Twist":
        """Build the twist from residuals and Jacobian products.

        Args:
            s: Noise level, a standard deviation.
            r: Residuals of all particles, shape (N, m).
            G: Products J A^T at the representatives, shape (R, D, m).
            of: Index of the representative of each particle, shape (N,).
            A: Whitened measurement matrix, shape (m, D).

        Returns:
            The twist.
        """
        P = _semidefinite(s**2 * (A @ G))
        return Twist(
            s, r, G, P, cholesky(torch.eye(len(A), dtype=A.dtype, device=A.device) + P), of
        )

    def __getitem__(self, chosen: Tensor) -> "Twist":
        return replace(self, r=self.r[chosen], of=self.of[chosen])

    def log_density(self) -> Tensor:
        """Compute ln psi without its constant.

        Returns:
            Log-densities in nats, shape (N,).
        """
        return log_normal(self.r, self.L[self.of])

    def information(self) -> float:
        """Compute the information about x_0 that is still to be gained from y.

        Returns:
            ln |S| / 2 in nats, the mean over the representatives.
        """
        return float(self.L.diagonal(dim1=-2, dim2=-1).log().sum(-1).mean())

    def lookahead(self, AAt: Tensor, rho: float) -> Lookahead:
        r"""Predict the twist after a step to noise sqrt(rho) s.

        :math:`M M^T = P (P + s^2 \rho/(1 - \rho) A A^T)^{-1} P` with :math:`P = A V A^T`.

        Args:
            AAt: A A^T, shape (m, m).
            rho: Squared ratio of the noise levels after and before the step, in [0, 1).

        Returns:
            The prediction, for any noise of the step.
        """
        P, eye = self.P, torch.eye(len(AAt), dtype=AAt.dtype, device=AAt.device)
        K = P @ torch.linalg.solve(
            P + self.s**2 * (rho / (1 - rho) * AAt + 1e-12 * AAt.diagonal().amax() * eye), P
        )
        # the noise acts through J, and A J = G^T, so M = K^(1/2) (G^T G)^(-1/2) G^T
        M = cholesky((K + K.mT) / 2) @ torch.linalg.solve_triangular(
            cholesky(self.G.mT @ self.G), self.G.mT, upper=False
        )
        return Lookahead(self, M, cholesky(eye + P - M @ M.mT))


def _semidefinite(P: Tensor) -> Tensor:
    """Return the symmetric part of P (R, m, m) with negative eigenvalues set to 0.

    A learned Jacobian is not an exact covariance and may have negative eigenvalues.
    """
    P = (P + P.mT) / 2
    jitter = 1e-9 * P.diagonal(dim1=-2, dim2=-1).abs().amax(-1)
    if not bool(
        torch.linalg.cholesky_ex(
            P + torch.diag_embed(jitter[:, None].expand(-1, P.shape[-1]))
        ).info.any()
    ):
        return P
    values, vectors = torch.linalg.eigh(P)
    clipped: Tensor = (vectors * values.clamp_min(0)[..., None, :]) @ vectors.mT
    return clipped


def _times(M: Tensor, v: Tensor) -> Tensor:
    return (M @ v[..., None])[..., 0]


def cholesky(S: Tensor) -> Tensor:
    """Compute Cholesky factors of symmetric matrices that may be slightly indefinite.

    Rounding or a network's Jacobian can make eigenvalues negative. They are raised to a small
    positive floor.

    Args:
        S: Symmetric matrices, shape (R, m, m).

    Returns:
        Lower triangular factors, shape (R, m, m).
    """
    L: Tensor
    L, info = torch.linalg.cholesky_ex(S)
    if not bool(info.any()):
        return L
    values, vectors = torch.linalg.eigh(S)
    floor = 1e-10 * values.amax(-1, keepdim=True).clamp_min(1e-300)
    R: Tensor = torch.linalg.qr((vectors * values.maximum(floor).sqrt()[..., None, :]).mT).R
    return R.mT * torch.where(R.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)[..., None, :]
