r"""Traces of Jacobians, exact or by random probes.

.. math:: \mathrm{tr}\,J = \sum_i e_i^T J e_i = E[v^T J v], \quad E[v v^T] = I .

With Rademacher probes the error comes from the off-diagonal entries of J alone. Structured probes :math:`v_m = d \circ H_m` multiply one
random sign pattern d by rows of a Hadamard matrix whose columns are dealt out to the coordinates as colours: over a full set of rows all
pairs of coordinates of different colours cancel exactly, and only pairs of one colour remain (Tang and Saad 2012, "A probing method for
computing the diagonal of a matrix inverse"; Stathopoulos, Laeuchli and Orginos 2013). On a picture the colours tile the plane, so that no
near neighbours share one: the Jacobian of a denoiser is local where the noise is small.
"""

from collections.abc import Sequence

import torch
from scipy.linalg import hadamard
from torch import Tensor

from solvers.likelihood.reference import GaussianReference

__all__ = ["Probes", "lattice_colours"]


def lattice_colours(shape: tuple[int, ...], k: int) -> Tensor:
    """(D,) colours 0..k-1 for the entries of one sample (..., H, W), k a power of 2: tiles of about sqrt(k) x sqrt(k) pixels."""
    height, width = shape[-2:] if len(shape) > 1 else (1, shape[-1])
    rest = torch.Size(shape).numel() // (height * width)
    exponent = k.bit_length() - 1
    rows = 2 ** (exponent // 2) if height > 1 else 1
    columns = k // rows
    i, j = torch.arange(height)[:, None], torch.arange(width)[None]
    plane = (i % rows) * columns + j % columns
    # the same pixel of another channel gets another colour, as far off as there is room
    shift = torch.arange(rest) * max(1, k // max(rest, 1))
    return ((plane[None] + shift[:, None, None]) % k).flatten()


class Probes:
    """Probe vectors for samples of a shape: k at a time, in pixels or in the coordinates of a reference.

    k: a power of 2. structured: Hadamard rows on one sign pattern; else k independent patterns.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        k: int,
        reference: GaussianReference,
        eigen: bool,
        structured: bool,
    ) -> None:
        if k < 1 or (structured and k & (k - 1)):
            raise ValueError(f"the number of structured probes must be a power of 2, got {k}")
        self.shape, self.k, self.structured, self.eigen = tuple(shape), k, structured, eigen
        self.reference = reference
        D = torch.Size(shape).numel()
        colours = torch.arange(D) % k if eigen else lattice_colours(shape, k)
        self.pattern = (
            torch.as_tensor(hadamard(k), dtype=torch.int8)[:, colours] if structured else None
        )

    def draw(
        self, generators: Sequence[torch.Generator], dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """(k, B, *shape), the b-th from the b-th generator."""
        D = torch.Size(self.shape).numel()
        rows = 1 if self.structured else self.k
        signs = [
            torch.randint(0, 2, (rows, D), generator=g, dtype=torch.int8, device=g.device)
            for g in generators
        ]
        v = torch.stack(signs, 1).to(device) * 2 - 1  # (rows, B, D)
        if self.pattern is not None:
            v = v * self.pattern.to(device)[:, None]
        if self.eigen:
            v = self.reference.from_coordinates(v.double())
        return v.to(dtype).reshape(self.k, len(generators), *self.shape)
