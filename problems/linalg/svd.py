r"""The singular value decomposition :math:`A = U \operatorname{diag}(s) V^T` as four transforms, never as matrices.

With it every question about A has a closed form:

.. math:: (c_0 I + c_1 A A^T)^{-1} = U \frac{1}{c_0 + c_1 s^2} U^T + \frac{1}{c_0} (I - U U^T), \qquad A^+ = V s^{+} U^T .
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from problems.linalg.broadcast import expand_like

__all__ = ["SVD", "dense_svd", "identity", "separable_svd"]

Transform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class SVD:
    """s: the singular values, >= 0, in any order and of any shape S. The transforms map between batches of coefficients and tensors:

    Vt: x (B, ...) -> (B, *S) and V back; Ut: y (B, ...) -> (B, *S) and U back. The columns of V are orthonormal, and those of U whose
    singular value is above zero. complete_v, complete_u: the columns span all of x, all of y.
    """

    s: Tensor
    V: Transform
    Vt: Transform
    U: Transform
    Ut: Transform
    complete_v: bool = False
    complete_u: bool = False

    def solve(self, v: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        """(c0 I + c1 A A^T)^{-1} v."""
        return self._resolvent(v, c0, c1, self.U, self.Ut, self.complete_u)

    def solve_primal(self, z: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        """(c0 I + c1 A^T A)^{-1} z."""
        return self._resolvent(z, c0, c1, self.V, self.Vt, self.complete_v)

    def _resolvent(
        self,
        v: Tensor,
        c0: Tensor | float,
        c1: Tensor | float,
        Q: Transform,
        Qt: Transform,
        complete: bool,
    ) -> Tensor:
        w = Qt(v)
        inside = Q(w / (expand_like(c0, w) + expand_like(c1, w) * self.s**2))
        return inside if complete else inside + (v - Q(w)) / expand_like(c0, v)

    def pinv(self, y: Tensor, rtol: float | None = None) -> Tensor:
        """A^+ y, singular values below rtol times the largest counted as zero."""
        w = self.Ut(y)
        rtol = self.s.numel() * torch.finfo(self.s.dtype).eps if rtol is None else rtol
        kept = self.s > rtol * self.s.max()
        return self.V(torch.where(kept, w / torch.where(kept, self.s, 1), 0))


def identity(x: Tensor) -> Tensor:
    return x


def dense_svd(matrix: Tensor, shape_x: tuple[int, ...], shape_y: tuple[int, ...]) -> SVD:
    """Of an explicit matrix (m, D)."""
    U, s, Vh = torch.linalg.svd(matrix, full_matrices=False)
    return SVD(
        s,
        V=lambda w: (w @ Vh).reshape(-1, *shape_x),
        Vt=lambda x: x.flatten(1) @ Vh.T,
        U=lambda w: (w @ U.T).reshape(-1, *shape_y),
        Ut=lambda y: y.flatten(1) @ U,
        complete_v=len(s) == matrix.shape[1],
        complete_u=len(s) == matrix.shape[0],
    )


def separable_svd(
    channels: int, rows: tuple[Tensor, Tensor, Tensor], columns: tuple[Tensor, Tensor, Tensor]
) -> SVD:
    """Of x -> R_h x R_w^T on each channel, from the thin decompositions (U, s, V^T) of R_h and R_w: s = s_h s_w^T."""
    (U_h, s_h, Vt_h), (U_w, s_w, Vt_w) = rows, columns
    return SVD(
        (s_h[:, None] * s_w).expand(channels, -1, -1),
        V=lambda w: Vt_h.T @ w @ Vt_w,
        Vt=lambda x: Vt_h @ x @ Vt_w.T,
        U=lambda w: U_h @ w @ U_w.T,
        Ut=lambda y: U_h.T @ y @ U_w,
        complete_v=Vt_h.shape[0] == Vt_h.shape[1] and Vt_w.shape[0] == Vt_w.shape[1],
        complete_u=U_h.shape[0] == U_h.shape[1] and U_w.shape[0] == U_w.shape[1],
    )
