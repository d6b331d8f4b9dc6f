r"""Random numbers of four draws that sum to zero.

If :math:`w_1, w_2, w_3` are independent and standard normal, so is each of

.. math:: z_j = \tfrac{1}{\sqrt 3} (\pm w_1 \pm w_2 \pm w_3), \qquad j = 1 \dots 4,

with the signs of the vertices of a tetrahedron, an even number of them negative. Any two of them
have the correlation -1/3, and all four sum to zero (antithetic variates, Hammersley and Morton
1956; Fishman and Huang 1983). What a solver makes of its noise by linear steps then has the same
mean over four draws as without noise: the posterior mean has no error by chance where the posterior
is Gaussian. In pairs z, -z the same holds, but only half of the draws are independent; here it is
three quarters, from which the spread is known better.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from problems.random_numbers import BALANCED_SIGNS
from solvers.streams import NormalStream, spawn

__all__ = ["BalancedStream"]


class BalancedStream:
    """Source of standard normal numbers, called with (shape, dtype, device), in groups of four.

    Each row has generators of its own, those of its group, so that it is the same in every batch.

    Args:
        generators: Generators of three sources, each a sequence of one generator per row.
        weights: Weights of the sources in each row, (B, 3).
    """

    def __init__(self, generators: Sequence[Sequence[torch.Generator]], weights: Tensor) -> None:
        self._generators, self._weights = generators, weights
        self._streams = [NormalStream(source) for source in generators]

    @classmethod
    def of_draws(
        cls, generators: Sequence[torch.Generator], rows: Sequence[int], size: int
    ) -> "BalancedStream":
        """Make the stream of some draws of several measurements.

        Args:
            generators: A generator for each of the first rows. The seed of that of the first draw
                of a group is the seed of the group.
            rows: Numbers of the rows, draw by draw: row i is draw i // size of measurement
                i mod size.
            size: Number of measurements.

        Returns:
            The stream of these rows.

        Example:
            >>> import torch
            >>> generators = spawn(torch.manual_seed(0), 4)
            >>> noise = BalancedStream.of_draws(generators, range(4), 1)
            >>> z = noise((4, 1000), torch.float64, torch.device("cpu"))
            >>> z.sum(0).abs().max() < 1e-12, round(float(z[0] @ z[1]) / 1000, 1)
            (tensor(True), -0.3)
        """
        members, count = BALANCED_SIGNS.shape
        sources: list[list[torch.Generator]] = [[] for _ in range(count)]
        weights = []
        for row in rows:
            draw, measurement = divmod(row, size)
            group, place = divmod(draw, members)
            first = generators[group * members * size + measurement]
            seed = torch.Generator(first.device).manual_seed(first.initial_seed())
            for source, generator in zip(sources, spawn(seed, count), strict=True):
                source.append(generator)
            weights.append(BALANCED_SIGNS[place] / count**0.5)
        return cls(sources, torch.stack(weights))

    def __call__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Draw the next numbers.

        Args:
            shape: Shape (B, ...) of the numbers.
            dtype: Floating type of the numbers.
            device: Device of the numbers.

        Returns:
            Standard normal numbers, those of a whole group with the sum zero.
        """
        return self._sum(stream(shape, dtype, device) for stream in self._streams)

    def combine(self, noise: Callable[[Sequence[torch.Generator]], Tensor]) -> Tensor:
        """Combine noise of another kind, whose law is Gaussian with mean zero.

        Args:
            noise: Makes noise (B, ...) from one generator per row.

        Returns:
            Noise of the same law, that of a whole group with the sum zero.
        """
        return self._sum(noise(source) for source in self._generators)

    def _sum(self, parts: Iterator[Tensor]) -> Tensor:
        """Weighted sum over the sources, one of which is in memory at a time."""
        total: Tensor | None = None
        for weight, part in zip(self._weights.T, parts, strict=True):
            part = part.mul_(weight.to(part).reshape(-1, *[1] * (part.ndim - 1)))
            total = part if total is None else total.add_(part)
        assert total is not None
        return total
