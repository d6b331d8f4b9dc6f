r"""The singular value decomposition :math:`A = U \operatorname{diag}(s) V^T` as four transforms.

No matrix is stored. With it many functions of A have a closed form:

.. math::

    (c_0 I + c_1 A A^T)^{-1} = U \frac{1}{c_0 + c_1 s^2} U^T + \frac{1}{c_0} (I - U U^T), \qquad
    A^+ = V s^{+} U^T .
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from problems.linalg.broadcast import expand_like

__all__ = ["SVD", "along_axes", "dense_svd", "identity", "separable_svd"]

Transform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class SVD:
    """Singular values and the transforms between coefficients and tensors.

    The columns of V are orthonormal, and so are those of U whose singular value is above zero.

    Args:
        s: Singular values >= 0, in any order and of any shape S.
        V: Transform of coefficients ``(B, *S)`` into x (B, ...).
        Vt: Transform of x (B, ...) into coefficients ``(B, *S)``.
        U: Transform of coefficients ``(B, *S)`` into y (B, ...).
        Ut: Transform of y (B, ...) into coefficients ``(B, *S)``.
        complete_v: Whether the columns of V span the whole space of x.
        complete_u: Whether the columns of U span the whole space of y.

    Example:
        >>> import torch
        >>> from problems import SuperResolution
        >>> operator, x = SuperResolution(2), torch.ones(1, 1, 8, 8, dtype=torch.float64)
        >>> svd = operator.svd((1, 8, 8))
        >>> torch.allclose(svd.U(svd.s * svd.Vt(x)), operator.apply(x))
        True
    """

    s: Tensor
    V: Transform
    Vt: Transform
    U: Transform
    Ut: Transform
    complete_v: bool = False
    complete_u: bool = False

    def solve(self, v: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        """Compute (c0 I + c1 A A^T)^{-1} v.

        Args:
            v: Tensors (B, ...), of the shape of y.
            c0: Number > 0, or one per sample (B,).
            c1: Number >= 0, or one per sample (B,).

        Returns:
            Solutions, of the shape of v.
        """
        return self._resolvent(v, c0, c1, self.U, self.Ut, self.complete_u)

    def solve_primal(self, z: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        """Compute (c0 I + c1 A^T A)^{-1} z.

        Args:
            z: Tensors (B, ...), of the shape of x.
            c0: Number > 0, or one per sample (B,).
            c1: Number >= 0, or one per sample (B,).

        Returns:
            Solutions, of the shape of z.
        """
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
        """Compute the pseudo-inverse A^+ y.

        Args:
            y: Measurements (B, ...).
            rtol: Singular values up to rtol times the largest count as zero; None for their number
                times the machine precision.

        Returns:
            Least-squares solutions of least norm, of the shape of x.
        """
        w = self.Ut(y)
        rtol = self.s.numel() * torch.finfo(self.s.dtype).eps if rtol is None else rtol
        kept = self.s > rtol * self.s.max()
        return self.V(torch.where(kept, w / torch.where(kept, self.s, 1), 0))


def identity(x: Tensor) -> Tensor:
    """Return the argument unchanged: the transform of an SVD whose U or V is the identity.

    Args:
        x: Any tensor.

    Returns:
        The same tensor.
    """
    return x


def dense_svd(matrix: Tensor, shape_x: tuple[int, ...], shape_y: tuple[int, ...]) -> SVD:
    """Decompose an explicit matrix.

    Args:
        matrix: Matrix (m, D).
        shape_x: Shape of x without the batch, of D numbers.
        shape_y: Shape of y without the batch, of m numbers.

    Returns:
        Decomposition with min(m, D) singular values.
    """
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


def separable_svd(channels: int, axes: Sequence[tuple[Tensor, Tensor, Tensor]]) -> SVD:
    """Decompose a map that acts on each axis of each channel by a matrix, from their thin SVDs.

    For images, x -> R_h x R_w^T, with s = s_h s_w^T.

    Args:
        channels: Number of channels of x.
        axes: Thin SVD (U, s, V^T) of the matrix of each axis, in the order of the axes.

    Returns:
        Decomposition with singular values of shape (channels, len(s_h), len(s_w)) for images.
    """
    U, values, Vt = zip(*axes, strict=True)
    s = values[0]
    for more in values[1:]:
        s = s[..., None] * more
    V_, Ut = [m.T for m in Vt], [m.T for m in U]
    return SVD(
        s.expand(channels, *s.shape),
        V=lambda w: along_axes(w, V_),
        Vt=lambda x: along_axes(x, Vt),
        U=lambda w: along_axes(w, U),
        Ut=lambda y: along_axes(y, Ut),
        complete_v=all(m.shape[0] == m.shape[1] for m in Vt),
        complete_u=all(m.shape[0] == m.shape[1] for m in U),
    )


def along_axes(x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Multiply the last axes of a tensor by one matrix each.

    Args:
        x: Tensor (..., n_1, ..., n_d).
        matrices: The d matrices, (m_i, n_i).

    Returns:
        Tensor (..., m_1, ..., m_d).

    Example:
        >>> x, rows, columns = torch.ones(3, 4), torch.ones(2, 3), torch.ones(5, 4)
        >>> torch.equal(along_axes(x, [rows, columns]), rows @ x @ columns.T)
        True
    """
    for axis, matrix in enumerate(matrices, start=-len(matrices)):
        if axis == -1:
            x = x @ matrix.T
        elif axis == -2:
            x = matrix @ x
        else:
            x = torch.einsum("mn,...nhw->...mhw", matrix, x)
    return x
