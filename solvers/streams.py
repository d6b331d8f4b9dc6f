"""Random numbers that belong to a draw, not to its batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["NormalStream", "spawn"]

_BLOCK = 1 << 14


class NormalStream:
    """A source of standard normal numbers (B, ...).

    From one generator (or None, torch's own) the whole batch is drawn at once. From a sequence of B generators each row has a stream of
    its own, so that row i is the same whatever else is in the batch; small rows are drawn more and more steps ahead, in one call.
    """

    def __init__(
        self, generator: torch.Generator | Sequence[torch.Generator] | None = None
    ) -> None:
        self._generator = generator
        self._ahead: dict[
            object, list[Tensor]
        ] = {}  # for each shape: solvers ask for those of x and of y by turns
        self._steps: dict[object, int] = {}

    def __call__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        g = self._generator
        if not isinstance(g, Sequence):
            where = g.device if g is not None else device
            return torch.randn(shape, generator=g, dtype=dtype, device=where).to(device)
        if len(g) != shape[0]:
            raise ValueError(f"{len(g)} generators for {shape[0]} draws")
        key = (tuple(shape), dtype)
        ahead = self._ahead.setdefault(key, [])
        if not ahead:
            steps = max(1, min(self._steps.get(key, 1), _BLOCK // torch.Size(shape[1:]).numel()))
            self._steps[key] = 2 * steps
            rows = [
                torch.randn((steps, *shape[1:]), generator=one, dtype=dtype, device=one.device)
                for one in g
            ]
            ahead.extend(torch.stack(rows, dim=1).to(device).flip(0))
        return ahead.pop()


def spawn(
    generator: torch.Generator | Sequence[torch.Generator] | None, n: int
) -> list[torch.Generator]:
    """n independent generators, the i-th the same for every n: a draw depends neither on how many others are made nor on their batch.

    A sequence of n generators is taken as it is; ValueError for another number.
    """
    if isinstance(generator, Sequence):
        if len(generator) != n:
            raise ValueError(f"{len(generator)} generators for {n} samples")
        return list(generator)
    device = generator.device if generator is not None else torch.device("cpu")
    seeds = torch.randint(2**62, (n,), generator=generator, device=device).tolist()
    return [torch.Generator(device).manual_seed(seed) for seed in seeds]
