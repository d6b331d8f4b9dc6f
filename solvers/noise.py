"""Random numbers that belong to a draw, not to its batch."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Noise", "spawn"]

_BLOCK = 1 << 14


class Noise:
    """A source of standard normal numbers (B, ...).

    From one generator (or None, torch's own) the whole batch is drawn at once. From a sequence of B generators each row has a stream of
    its own, so that row i is the same whatever else is in the batch; small rows are drawn more and more steps ahead, in one call.
    """

    def __init__(self, generator: torch.Generator | Sequence[torch.Generator] | None = None) -> None:
        self._generator = generator
        self._ahead: list[Tensor] = []
        self._steps = 1

    def __call__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
        g = self._generator
        if not isinstance(g, Sequence):
            where = g.device if g is not None else device
            return torch.randn(shape, generator=g, dtype=dtype, device=where).to(device)
        if len(g) != shape[0]:
            raise ValueError(f"{len(g)} generators for {shape[0]} draws")
        if not self._ahead or self._ahead[-1].shape != torch.Size(shape) or self._ahead[-1].dtype != dtype:
            steps = max(1, min(self._steps, _BLOCK // torch.Size(shape[1:]).numel()))
            self._steps = 2 * steps
            rows = [torch.randn((steps, *shape[1:]), generator=one, dtype=dtype, device=one.device) for one in g]
            self._ahead = list(torch.stack(rows, dim=1).to(device).flip(0))
        return self._ahead.pop()


def spawn(generator: torch.Generator | None, n: int) -> list[torch.Generator]:
    """n independent generators, the i-th the same for every n: a draw depends neither on how many others are made nor on their batch."""
    device = generator.device if generator is not None else torch.device("cpu")
    seeds = torch.randint(2**62, (n,), generator=generator, device=device).tolist()
    return [torch.Generator(device).manual_seed(seed) for seed in seeds]
