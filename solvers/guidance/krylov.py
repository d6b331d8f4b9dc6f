r"""The best linear estimate from a covariance that is only nearly one.

Wanted is :math:`V A^T (\Sigma_y + A V A^T)^{-1} r` with the covariance :math:`V = s^2 J` of a
denoiser. For an exact denoiser V is symmetric and positive, and conjugate gradients are the right
method. The Jacobian of a network is neither: 10 to 40 % of it may be antisymmetric, and
:math:`A V A^T` may have eigenvalues of minus thousands of noise variances. Conjugate gradients then
take steps of any size, and a test of each direction's curvature does not help, because
:math:`p^T A V A^T p` does not see the antisymmetric part and a direction that is almost flat is
enough.

Here the system is projected on the Krylov space of k products (Arnoldi's method, with all vectors
kept). With its orthonormal basis W, :math:`G + K = W^T A V A^T W` splits into a symmetric and an
antisymmetric part, and

.. math:: c = \bigl(|G| + \tfrac12 \|K\| I + W^T\Sigma_y W\bigr)^{-1} W^T r,\qquad
          \text{estimate} = V A^T W c .

Where V is symmetric and positive, K = 0 and |G| = G, and this is the iterate of conjugate gradients
itself. Otherwise K measures the error of V: a random error has a symmetric part of the same size,
which cannot be seen, and no direction with less variance than that is trusted (a ridge, as for
least squares with an uncertain matrix). A negative eigenvalue is an error of at least its own size,
hence |G|. So
:math:`|Gc| \le |r|` and :math:`|Kc| \le 2|r|` for white noise: within the Krylov space the
prediction :math:`A\,\times` estimate is at most three times the residual, whatever the network
does.

How many products are enough follows from the noise. If the system is left with a residual
:math:`\rho`, the estimate errs by :math:`\delta = V A^T S^{-1}\rho`,
:math:`S = \Sigma_y + A V A^T`, and in units of the covariance
:math:`V_y = V - V A^T S^{-1} A V` of :math:`x_0` given u and y

.. math:: \delta^T V_y^{-1} \delta \le \rho^T \Sigma_y^{-1} \rho .

The iterations stop where the right side is below ``accuracy``\ :math:`{}^2` for each of the numbers
that were measured: the estimate is then within that many standard deviations, in root mean square,
of what conditions it. They also stop where what is left of the residual is no larger than
:math:`\sqrt{m/k}\,|Kc|`. In the k dimensions that are seen, :math:`|Kc|` is what the error of V
does to the prediction, and of all m numbers they are the share k/m: more products are of no use.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from problems.linalg.broadcast import expand_like
from problems.linalg.solve import dot
from problems.storage import VectorList
from solvers.guidance.health import note

__all__ = ["nearly_symmetric_gain"]

_RIDGE = 0.5  # of the norm of the antisymmetric part
_NEGATIVE = 0.5  # noise variances of a negative variance that counts as one

Matrix = list[list[Tensor]]


def nearly_symmetric_gain(
    cross: Callable[[Tensor], Tensor],
    predict: Callable[[Tensor], Tensor],
    noise: Callable[[Tensor], Tensor],
    r: Tensor,
    iterations: int,
    rtol: float,
    accuracy: float = 0.0,
) -> Tensor:
    r"""Compute :math:`V A^T (\Sigma_y + A V A^T)^{-1} r` for a V that is nearly a covariance.

    Args:
        cross: Maps w, shaped as r, to :math:`V A^T w`. It is called at most ``iterations`` times.
        predict: The linear map A, from the results of ``cross`` to the shape of r.
        noise: Product with :math:`\Sigma_y`, on tensors shaped as r.
        r: Residuals, shape (B, ...).
        iterations: Largest dimension of the Krylov space, at least 1.
        rtol: Relative residual of the linear system at which a sample stops.
        accuracy: Error of the estimate at which a sample stops, too, see above; 0 for no such stop.

    Returns:
        The estimates, one for each residual.

    Example:
        >>> import torch
        >>> V = torch.tensor([3.0, 1.0])
        >>> nearly_symmetric_gain(
        ...     lambda w: V * w, lambda x: x, lambda w: w, torch.ones(1, 2), iterations=2, rtol=0.0
        ... )
        tensor([[0.7500, 0.5000]])
        >>> turned = lambda w: 1e4 * torch.stack([-w[:, 1], w[:, 0]], 1)  # no covariance at all
        >>> x = nearly_symmetric_gain(
        ...     turned, lambda x: x, lambda w: w, torch.ones(1, 2), iterations=2, rtol=0.0
        ... )
        >>> bool(x.norm() < 3)
        True
    """
    precise = torch.promote_types(r.dtype, torch.float64)
    size, eps = _norm(r), torch.finfo(r.dtype).eps
    alive = size > torch.finfo(r.dtype).tiny
    entries = (r != 0).flatten(1).sum(1)  # what is not observed is 0
    w = r / expand_like(torch.where(alive, size, torch.ones_like(size)), r)
    basis, products = VectorList(), VectorList()
    H: Matrix = []  # columns of W^T (Sigma_y + A V A^T) W
    N: Matrix = []  # columns of W^T Sigma_y W, above and on the diagonal
    filler: list[Tensor] = []  # keeps the system of a sample that stopped regular
    below: list[Tensor] = []  # entries of H below its diagonal
    last = _LastWeight(size.to(precise))
    while True:
        basis.append(w)
        product = cross(w)
        products.append(product)
        filler.append((~alive).to(precise))
        blurred = noise(w)
        q = blurred + predict(product)
        del product
        N.append([dot(one, blurred).to(precise) for one in basis])
        del blurred
        whole, column = dot(q, q), [torch.zeros_like(size) for _ in range(len(basis))]
        for _ in range(2):  # two passes of Gram-Schmidt are enough, in single precision too
            for i, one in enumerate(basis):
                part = dot(one, q)
                column[i], q = column[i] + part, torch.addcmul(q, -expand_like(part, q), one)
        H.append([one.to(precise) for one in column])
        if len(basis) == iterations:
            break
        rest = dot(q, q)
        alive = alive & (rest > (10 * eps) ** 2 * whole)  # else the Krylov space is exhausted
        length = torch.where(alive, rest, torch.ones_like(rest)).sqrt()
        w = q / expand_like(length, q)
        residual = length * last.after(H[-1], below).to(size)
        alive = alive & (residual > rtol * size)
        if accuracy > 0:
            explained = dot(w, noise(w)) * entries
            rest, doubt = _left(H, below, N, filler, size.to(precise), length.to(precise))
            alive = alive & (rest**2 > accuracy**2 * explained)
            alive = alive & (rest > doubt * (entries / len(basis)).sqrt())
        if not bool(alive.any()):
            break
        w = torch.where(expand_like(alive, q), w, torch.zeros_like(q))
        below.append(torch.where(alive, length, torch.zeros_like(length)).to(precise))
    c, asymmetry, negative = _solve(H, below, N, filler, size.to(precise))
    note(asymmetry, negative)
    parts = (expand_like(c[:, k].to(one.dtype), one) * one for k, one in enumerate(products))
    return sum(parts, start=r.new_zeros(()))


def _left(
    H: Matrix, below: list[Tensor], N: Matrix, filler: list[Tensor], size: Tensor, length: Tensor
) -> tuple[Tensor, Tensor]:
    """Residual of the system outside of the Krylov space, and |K c|, (B,) each."""
    c, K, _ = _guarded(H, below, N, filler, size)
    return length * c[:, -1].abs(), (K @ c[..., None]).flatten(1).norm(dim=1)


class _LastWeight:
    """Last weight of the unguarded system, whose product with |q| is its residual, by elimination.

    For a covariance it is the residual of conjugate gradients.
    """

    def __init__(self, size: Tensor) -> None:
        self._right, self._factors, self._pivot = size.detach(), [torch.zeros_like(size)], size

    def after(self, column: list[Tensor], below: list[Tensor]) -> Tensor:
        """Absolute value of the last weight, (B,), after one more column of the matrix."""
        above = column[0].detach()
        if len(column) > 1:
            self._factors.append(below[-1].detach() / self._pivot)
            self._right = -self._factors[-1] * self._right
        for one, factor in zip(column[1:], self._factors[1:], strict=True):
            above = one.detach() - factor * above
        self._pivot = above
        return (self._right / above).abs()


def _norm(r: Tensor) -> Tensor:
    """Euclidean norm of each sample, with the gradient 0 at 0."""
    square = dot(r, r)
    return torch.where(square > 0, square, torch.ones_like(square)).sqrt() * (square > 0)


def _solve(
    H: Matrix, below: list[Tensor], N: Matrix, filler: list[Tensor], size: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Weights c (B, k) of the basis, the asymmetry (B,), and whether a variance is negative."""
    c, K, (G, values, least) = _guarded(H, below, N, filler, size)
    asymmetry = K.flatten(1).norm(dim=1) / G.flatten(1).norm(dim=1).clamp_min(
        torch.finfo(G.dtype).tiny
    )
    return c, asymmetry, values[:, 0] < -_NEGATIVE * least


def _guarded(
    H: Matrix, below: list[Tensor], N: Matrix, filler: list[Tensor], size: Tensor
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor]]:
    """Weights c (B, k), K (B, k, k), and G with its eigenvalues and the least noise variance."""
    k, zero = len(H), torch.zeros_like(size)

    def entry(i: int, j: int) -> Tensor:
        if i <= j:
            return H[j][i]
        return below[j] if i == j + 1 else zero

    M = torch.stack([torch.stack([entry(i, j) for j in range(k)], -1) for i in range(k)], -2)
    noise = torch.stack(
        [torch.stack([N[max(i, j)][min(i, j)] for j in range(k)], -1) for i in range(k)], -2
    )
    symmetric, K = (M + M.mT) / 2, ((M - M.mT) / 2).detach()
    G = (symmetric - noise).detach()
    # a stopped sample has zeros for the rest of its rows: its noise is taken to be 1 there
    fill = torch.diag_embed(torch.stack(filler, -1))
    values, vectors = torch.linalg.eigh(G)
    upright = (vectors * (values.abs() - values)[:, None]) @ vectors.mT
    ridge = _RIDGE * torch.linalg.matrix_norm(K, 2)
    system = symmetric + upright + torch.diag_embed(ridge[:, None].expand(-1, k)) + fill
    first = torch.stack([size, *[zero] * (k - 1)], -1)
    c = torch.linalg.solve(system, first)
    least = (noise + fill).diagonal(dim1=-2, dim2=-1).amin(-1).detach()
    return c, K, (G, values, least)
