"""A matrix as an operator, with all its entries or only those that are not zero."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from problems.checks import check_sizes, check_tensor
from problems.linalg.broadcast import expand_like
from problems.linalg.svd import SVD, dense_svd
from problems.operators.base import LinearOperator, Operator, Shape

__all__ = ["LinearMatrix", "SparseMatrix"]


class _Matrix(LinearOperator):
    """What operators by a matrix (m, D) share: the shapes that they take and give."""

    shape: Shape | None

    @property
    @abstractmethod
    def _measured(self) -> int:
        """Number m of the entries of a measurement."""

    def output_shape(self, shape: Shape) -> Shape:
        """Compute the shape of the measurement.

        Args:
            shape: Shape of x without its batch, the shape of this operator.

        Returns:
            Shape of y without its batch, (m,).

        Raises:
            ValueError: If the shape is not that of this operator.
        """
        if tuple(shape) != self.shape:
            raise ValueError(f"the matrix is made for x of shape {self.shape}, got {tuple(shape)}")
        return (self._measured,)

    def input_shape(self, shape: Shape) -> Shape:
        """Compute the shape of x from the shape of the measurement.

        Args:
            shape: Shape of y without its batch, (m,).

        Returns:
            Shape of x without its batch, the shape of this operator.

        Raises:
            ValueError: If y does not have m entries.
        """
        if tuple(shape) != (self._measured,):
            raise ValueError(
                f"the matrix measures {self._measured} numbers, "
                f"got a measurement of shape {tuple(shape)}"
            )
        assert self.shape is not None
        return self.shape


@dataclass(frozen=True, eq=False, repr=False)
class LinearMatrix(_Matrix):
    """Linear operator y = A vec(x) from an explicit matrix.

    Args:
        matrix: Real matrix A of shape (m, D), a tensor or a NumPy array; it is copied. For a
            matrix of scipy.sparse see :class:`SparseMatrix`.
        shape: Shape of x without its batch, with D entries in all; None for the flat shape (D,).

    Raises:
        ValueError: If the matrix does not have two axes, is empty, complex or not finite, or the
            shape does not have D entries.

    Example:
        >>> import torch
        >>> from problems import LinearMatrix
        >>> operator = LinearMatrix(torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]))
        >>> y = operator.apply(torch.tensor([[1.0, 2.0, 3.0]]))
        >>> y
        tensor([[1., 4.]])
        >>> torch.allclose(operator.pinv(y), torch.tensor([[1.0, 2.0, 0.0]]))
        True
        >>> import numpy as np
        >>> LinearMatrix(np.eye(3)[:2]).apply(torch.tensor([[1.0, 2.0, 3.0]]))
        tensor([[1., 2.]])
    """

    structure: ClassVar[frozenset[str]] = frozenset({"svd", "closed_form"})

    matrix: Tensor
    shape: Shape | None = None

    def __post_init__(self) -> None:
        matrix = _dense(self.matrix)
        if matrix.ndim != 2 or not matrix.numel():
            raise ValueError(f"the matrix must have two axes, got {tuple(matrix.shape)}")
        if matrix.is_complex():
            raise ValueError("the matrix must be real; stack real and imaginary parts")
        if not torch.isfinite(matrix).all():
            raise ValueError("the matrix must be finite")
        object.__setattr__(self, "matrix", matrix.detach().clone())
        object.__setattr__(self, "shape", _sample_shape(self.shape, matrix.shape[1]))

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build typical instances for the test sheet.

        Args:
            shape: Shape (C, H, W) of the images.

        Returns:
            Operators by name.
        """
        size = torch.Size(shape).numel()
        generator = torch.Generator().manual_seed(4)
        return {
            f"matrix-{name}": cls(
                torch.randn(m, size, generator=generator, dtype=torch.float64) / size**0.5, shape
            )
            for name, m in (("wide", max(1, size // 5)), ("tall", size + 3))
        }

    @property
    def _measured(self) -> int:
        return len(self.matrix)

    def _apply(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix.to(x).T

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        return (y @ self.matrix.to(y)).reshape(len(y), *shape)

    def _svd(self, shape: Shape, like: Tensor) -> SVD:
        return dense_svd(self.matrix.double().to(like), shape, (self.matrix.shape[0],))


def _dense(matrix: Any) -> Tensor:
    """The entries of a matrix as a tensor."""
    if scipy.sparse.issparse(matrix) or (
        isinstance(matrix, Tensor) and matrix.layout != torch.strided
    ):
        raise ValueError("the matrix is sparse; give it to SparseMatrix, which keeps it so")
    if isinstance(matrix, np.ndarray):
        if matrix.dtype.kind not in "biufc":
            raise ValueError(f"the matrix must hold numbers, got an array of {matrix.dtype}")
        return torch.from_numpy(np.array(matrix))  # a copy: the array may be read-only
    if not isinstance(matrix, Tensor):
        raise ValueError(
            f"the matrix must be a tensor or a NumPy array, got {type(matrix).__name__}"
        )
    return matrix


def _sample_shape(shape: Any, columns: int) -> Shape:
    """The shape of x of a matrix with so many columns."""
    sides = (columns,) if shape is None else check_sizes(shape, "shape")
    if torch.Size(sides).numel() != columns:
        raise ValueError(f"shape {sides} does not have the matrix's {columns} entries")
    return sides


@dataclass(frozen=True, eq=False, repr=False)
class SparseMatrix(_Matrix):
    """Linear operator y = A vec(x) from the entries of a matrix that are not zero.

    Products cost as much as there are entries, and solves take conjugate gradients, which scale the
    rows to the same norm. For a matrix of scipy.sparse see :meth:`of`.

    Args:
        rows: Row of each entry, from 0, (entries,), whole numbers.
        columns: Column of each entry, (entries,). Entries of the same place add up.
        values: The entries, real, (entries,).
        size: Numbers (m, D) of rows and columns.
        shape: Shape of x without its batch, with D entries in all; None for the flat shape (D,).

    Raises:
        ValueError: If the entries have different lengths, lie outside of the matrix, are complex or
            not finite, or the shape does not have D entries.

    Example:
        A difference of neighbours along a signal of one channel:

        >>> import scipy.sparse
        >>> import torch
        >>> from problems import SparseMatrix
        >>> D = scipy.sparse.diags([-1.0, 1.0], [0, 1], shape=(3, 4))
        >>> operator = SparseMatrix.of(D, shape=(1, 4))
        >>> operator.apply(torch.tensor([[[1.0, 2.0, 4.0, 7.0]]]))
        tensor([[1., 2., 3.]])
        >>> operator.adjoint(torch.tensor([[1.0, 0.0, 0.0]]))
        tensor([[[-1.,  1.,  0.,  0.]]])
    """

    rows: Tensor
    columns: Tensor
    values: Tensor
    size: tuple[int, int]
    shape: Shape | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.size, list | tuple) or len(self.size) != 2:
            raise ValueError(f"size of a sparse matrix must be (m, D), got {self.size!s:.80}")
        # each on its own: their product, the number of dense entries, may be vast
        m, D = (check_sizes((n,), "size of a sparse matrix")[0] for n in self.size)
        object.__setattr__(self, "size", (m, D))
        for name, most in (("rows", m), ("columns", D)):
            places = check_tensor(getattr(self, name), name)
            if places.is_floating_point() or places.ndim != 1:
                raise ValueError(
                    f"{name} of a sparse matrix are whole numbers (entries,), got {places.dtype} "
                    f"{tuple(places.shape)}"
                )
            if len(places) and not (int(places.min()) >= 0 and int(places.max()) < most):
                raise ValueError(f"{name} of this sparse matrix must lie in 0 to {most - 1}")
            object.__setattr__(self, name, places.detach().long().clone())
        values = check_tensor(self.values, "values of a sparse matrix").detach().clone()
        if values.shape != self.rows.shape or values.shape != self.columns.shape:
            raise ValueError(
                "rows, columns and values of a sparse matrix must have the same length, got "
                f"{len(self.rows)}, {len(self.columns)} and {tuple(values.shape)}"
            )
        if not torch.isfinite(values).all():
            raise ValueError("the matrix must be finite")
        object.__setattr__(
            self, "values", values if values.is_floating_point() else values.double()
        )
        object.__setattr__(self, "shape", _sample_shape(self.shape, D))

    @classmethod
    def of(cls, matrix: Any, shape: Shape | None = None) -> SparseMatrix:
        """Take over a matrix of another library.

        Args:
            matrix: Real matrix (m, D): an array or matrix of scipy.sparse in any format, or a
                tensor, sparse or not.
            shape: Shape of x without its batch; None for (D,).

        Returns:
            The operator.

        Raises:
            ValueError: If the matrix is of another kind, complex, or not finite.
        """
        if scipy.sparse.issparse(matrix):
            entries = matrix.tocoo()
            if entries.dtype.kind == "c":
                raise ValueError("the matrix must be real; stack real and imaginary parts")
            places = [torch.from_numpy(np.array(p, dtype=np.int64)) for p in entries.coords]
            rows, columns, values = (*places, torch.from_numpy(np.array(entries.data)))
        elif isinstance(matrix, Tensor) and matrix.ndim == 2:
            if matrix.is_complex():
                raise ValueError("the matrix must be real; stack real and imaginary parts")
            entries = matrix.detach().to_sparse_coo().coalesce()
            (rows, columns), values = entries.indices(), entries.values()
        else:
            raise ValueError(
                "a sparse matrix is one of scipy.sparse or a tensor (m, D), "
                f"got {type(matrix).__name__}; a NumPy array goes to LinearMatrix"
            )
        return cls(rows, columns, values, tuple(matrix.shape), shape)

    @classmethod
    def examples(cls, shape: Shape) -> dict[str, Operator]:
        """Build typical instances for the test sheet.

        Args:
            shape: Shape (C, H, W) of the images.

        Returns:
            Operators by name.
        """
        D, generator = torch.Size(shape).numel(), torch.Generator().manual_seed(6)
        found: dict[str, Operator] = {}
        for name, m in (("wide", max(1, D // 3)), ("tall", D + 2)):
            matrix = torch.randn(m, D, generator=generator, dtype=torch.float64) / D**0.5
            matrix[torch.rand(m, D, generator=generator) < 0.7] = 0
            found[f"sparse-{name}"] = cls.of(matrix + torch.eye(m, D), shape)
        return found

    @property
    def _measured(self) -> int:
        return self.size[0]

    def _stored(self, like: Tensor, transpose: bool) -> Tensor:
        """A or its transpose in a format for products, with the dtype and device of ``like``."""

        def make() -> Tensor:
            places = torch.stack([self.rows, self.columns])
            places, size = (places.flip(0), self.size[::-1]) if transpose else (places, self.size)
            entries = torch.sparse_coo_tensor(
                places, self.values, size, check_invariants=False
            )  # they were checked
            return entries.to(like).coalesce()

        return self._constant(("stored", transpose), like, make)

    def _apply(self, x: Tensor) -> Tensor:
        y: Tensor = torch.sparse.mm(self._stored(x, transpose=False), x.flatten(1).T)
        return y.T

    def _adjoint(self, y: Tensor, shape: Shape) -> Tensor:
        x: Tensor = torch.sparse.mm(self._stored(y, transpose=True), y.T)
        return x.T.reshape(len(y), *shape)

    def _row_powers(self, like: Tensor) -> Tensor:
        """The diagonal of A A^T."""

        def make() -> Tensor:
            stored = self._stored(like, transpose=False)
            powers = like.new_zeros(self.size[0])
            return powers.index_add(0, stored.indices()[0], stored.values().square())

        return self._constant("row powers", like, make)

    def _precondition(self, r: Tensor, c0: Tensor | float, c1: Tensor | float) -> Tensor:
        """Divide by the diagonal."""
        return r / (expand_like(c0, r) + expand_like(c1, r) * self._row_powers(r))
