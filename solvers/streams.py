"""Random numbers of each draw, independent of the batch it is made in."""

from collections.abc import Sequence

import torch
from torch import Tensor

from problems.random_fields import current_noise

__all__ = ["LaterDraws", "NormalStream", "fixed_normal", "spawn"]

_BLOCK = 1 << 14


class NormalStream:
    """Source of standard normal numbers, called with (shape, dtype, device).

    From one generator the whole batch is drawn at once. From a sequence of B generators each row
    has its own stream, so that row i does not depend on the other rows of the batch. Small rows are
    drawn ahead, in one call for an increasing number of steps.

    Args:
        generator: One generator for the batch, a sequence of one generator per row, or None for
            torch's default generator.

    Example:
        >>> import torch
        >>> from solvers.streams import NormalStream, spawn
        >>> two = NormalStream(spawn(torch.manual_seed(0), 2))
        >>> three = NormalStream(spawn(torch.manual_seed(0), 3))
        >>> a = two((2, 4), torch.float32, torch.device("cpu"))
        >>> b = three((3, 4), torch.float32, torch.device("cpu"))
        >>> torch.equal(a, b[:2])
        True
    """

    def __init__(
        self, generator: torch.Generator | Sequence[torch.Generator] | None = None
    ) -> None:
        self._generator = generator
        # one list per shape, because solvers alternate between the shapes of x and of y
        self._ahead: dict[object, list[Tensor]] = {}
        self._steps: dict[object, int] = {}

    def __call__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        """Draw the next numbers.

        Args:
            shape: Shape (B, ...) of the numbers.
            dtype: Floating type of the numbers.
            device: Device of the numbers. They are drawn on the generators' device, if there are
                generators, and copied to this one.

        Returns:
            Independent standard normal numbers.

        Raises:
            ValueError: If the number of generators in the sequence is not B.
        """
        g = self._generator
        if isinstance(g, Sequence) and len(g) != shape[0]:
            raise ValueError(f"{len(g)} generators for {shape[0]} draws")
        found = self._placed(tuple(shape), dtype)
        if found is not None:
            return found.to(device)
        if not isinstance(g, Sequence):
            where = g.device if g is not None else device
            return torch.randn(shape, generator=g, dtype=dtype, device=where).to(device)
        key = (tuple(shape), dtype)
        ahead = self._ahead.setdefault(key, [])
        if not ahead:
            steps = max(1, min(self._steps.get(key, 1), _BLOCK // torch.Size(shape[1:]).numel()))
            self._steps[key] = 2 * steps
            each = [
                torch.randn((steps, *shape[1:]), generator=one, dtype=dtype, device=one.device)
                for one in g
            ]
            ahead.extend(torch.stack(each, dim=1).to(device).flip(0))
        return ahead.pop()

    def _placed(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor | None:
        """Numbers of the places of a window, where noise is drawn for a larger picture."""
        g, placed = self._generator, current_noise()
        if placed is None:
            return None
        if not isinstance(g, Sequence):
            return placed.draw(shape, g, dtype)
        rows = [placed.draw(shape[1:], one, dtype) for one in g]
        known = [one for one in rows if one is not None]  # all or none
        return torch.stack(known) if known else None


class LaterDraws(list[torch.Generator]):
    """Generators of draws that continue earlier ones, which were made elsewhere.

    Args:
        generators: One generator for each of these draws.
        earlier: Those of the draws before, from the first on.

    Example:
        >>> import torch
        >>> four = spawn(torch.manual_seed(0), 4)
        >>> len(LaterDraws(four[2:], four[:2])), len(LaterDraws(four[2:], four[:2]).earlier)
        (2, 2)
    """

    def __init__(
        self, generators: Sequence[torch.Generator], earlier: Sequence[torch.Generator]
    ) -> None:
        super().__init__(generators)
        self.earlier = list(earlier)


def spawn(
    generator: torch.Generator | Sequence[torch.Generator] | None, n: int
) -> list[torch.Generator]:
    """Make n independent generators, of which the i-th is the same for every n.

    A draw made with the i-th generator thus depends neither on the number of draws nor on their
    batches.

    Args:
        generator: Generator of the seeds (None: torch's default generator), or a sequence of n
            generators, which is returned as a list.
        n: Number of generators.

    Returns:
        The n generators, on the device of ``generator``, or on the CPU if that is None.

    Raises:
        ValueError: If a sequence of another length than n is given.

    Example:
        >>> import torch
        >>> two, three = (spawn(torch.manual_seed(0), n) for n in (2, 3))
        >>> [g.initial_seed() for g in two] == [g.initial_seed() for g in three[:2]]
        True
    """
    if isinstance(generator, Sequence):
        if len(generator) != n:
            raise ValueError(f"{len(generator)} generators for {n} samples")
        return list(generator)
    device = generator.device if generator is not None else torch.device("cpu")
    seeds = torch.randint(2**62, (n,), generator=generator, device=device).tolist()
    return [torch.Generator(device).manual_seed(seed) for seed in seeds]


def fixed_normal(like: Tensor) -> Tensor:
    """Give standard normal numbers that never change, the same for each sample of a batch.

    They are probes: what is measured with them is a function of its input alone.

    Args:
        like: Batch whose shape (B, ...), dtype and device are used.

    Returns:
        Random numbers, shape (B, ...).

    Example:
        >>> import torch
        >>> v = fixed_normal(torch.zeros(2, 3))
        >>> torch.equal(v[0], v[1]), torch.equal(v, fixed_normal(torch.ones(2, 3)))
        (True, True)
    """
    v = torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(0))
    return v.to(like).expand_as(like)
