r"""Traces of Jacobians, exact or by random probes.

.. math:: \mathrm{tr}\,J = \sum_i e_i^T J e_i = E[v^T J v], \quad E[v v^T] = I .

With Rademacher probes only the off-diagonal entries of J cause an error. Structured probes
:math:`v_m = d \circ H_m` multiply one random sign pattern d by rows of a Hadamard matrix. Each
coordinate is given one column of the matrix, its colour. Over a full set of rows all pairs of
coordinates of different colours cancel exactly, and only pairs of one colour remain (Tang and Saad
2012, "A probing method for computing the diagonal of a matrix inverse"; Stathopoulos, Laeuchli and
Orginos 2013). On an image the colours tile the plane, so that near neighbours have different
colours: the Jacobian of a denoiser is local where the noise is small.
"""

from collections.abc import Sequence

import torch
from scipy.linalg import hadamard
from torch import Tensor

from solvers.likelihood.reference import GaussianReference

__all__ = ["Probes", "lattice_colours"]


def lattice_colours(shape: tuple[int, ...], k: int) -> Tensor:
    """Colour the entries of a sample in tiles of about sqrt(k) x sqrt(k) pixels.

    Args:
        shape: Shape of one sample, (..., H, W) or (D,).
        k: Number of colours, a power of 2.

    Returns:
        Colours 0..k-1 of the D flattened entries, (D,), int64.
    """
    height, width = shape[-2:] if len(shape) > 1 else (1, shape[-1])
    rest = torch.Size(shape).numel() // (height * width)
    exponent = k.bit_length() - 1
    rows = 2 ** (exponent // 2) if height > 1 else 1
    columns = k // rows
    i, j = torch.arange(height)[:, None], torch.arange(width)[None]
    plane = (i % rows) * columns + j % columns
    # one pixel has different colours in different channels, as far apart as k allows
    shift = torch.arange(rest) * max(1, k // max(rest, 1))
    return ((plane[None] + shift[:, None, None]) % k).flatten()


class Probes:
    """Source of sets of k random probe vectors v with E[v v^T] = I.

    Args:
        shape: Shape of one sample, with D entries.
        k: Vectors in a set; a power of 2 if they are structured.
        reference: Gaussian in whose coordinates signs are drawn if eigen is true.
        eigen: Whether the entries of a probe are signs in the coordinates of the reference; if
            not, in those of the sample.
        structured: Whether the vectors are Hadamard rows times one random sign pattern; if not,
            they are k independent sign patterns.

    Attributes:
        pattern: Hadamard rows by coordinate, (k, D), int8; None if not structured.

    Raises:
        ValueError: If k is less than 1, or not a power of 2 with structured probes.

    Example:
        A full set of structured probes gives the exact trace.

        >>> import torch
        >>> from solvers import GaussianReference
        >>> reference = GaussianReference(torch.zeros(4), torch.ones(4))
        >>> probes = Probes((4,), 4, reference, eigen=False, structured=True)
        >>> generators = [torch.Generator().manual_seed(0)]
        >>> v = probes.draw(generators, torch.float64, torch.device("cpu"))[:, 0]
        >>> J = torch.arange(16, dtype=torch.float64).reshape(4, 4)
        >>> float((v * (v @ J)).sum() / 4), float(J.trace())
        (30.0, 30.0)
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
        """Draw one set of probes for each sample of a batch.

        Args:
            generators: Random generator of each of the B samples.
            dtype: Floating type of the probes.
            device: Device of the probes.

        Returns:
            Probe vectors, (k, B, *shape); those of sample b depend on generator b alone.
        """
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
