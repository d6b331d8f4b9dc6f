"""Batches of independent draws that other processes make, as if they were made here.

A batch is the same computation wherever it runs: its draws go through the network together, each
with its own random stream. What all draws of a measurement share has no random numbers and is
found anew by each process.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor

from solvers.guidance.health import Health

__all__ = ["Batch", "current_maker", "keep_batch", "keeping_batches", "made_by"]


@dataclass(frozen=True)
class Batch:
    """Finished draws of a batch.

    Args:
        x: The draws (k, ...).
        vjps: Vector-Jacobian products of each.
        nfe: Network evaluations of each.
        health: What guidance noticed.
    """

    x: Tensor
    vjps: int
    nfe: int
    health: Health


_maker: ContextVar[Callable[[int], Batch] | None] = ContextVar("maker", default=None)
_kept: ContextVar[list[Batch] | None] = ContextVar("kept", default=None)


@contextmanager
def made_by(make: Callable[[int], Batch]) -> Iterator[None]:
    """Take the batches of an independent sampler that is called within the block from elsewhere.

    Args:
        make: Gives batch i; called with 0, 1, 2, ...

    Yields:
        Nothing.

    Example:
        >>> import torch
        >>> from problems import Denoising, GaussianNoise, InverseProblem
        >>> from scoresde import GaussianPrior
        >>> from solvers import DDRM
        >>> prior = GaussianPrior(torch.zeros(1, 2, 2), torch.eye(4))
        >>> problem = InverseProblem(Denoising(), GaussianNoise(0.5))
        >>> def sample():
        ...     g = torch.Generator().manual_seed(0)
        ...     y = torch.ones(1, 1, 2, 2)
        ...     return DDRM(5).sample(prior, problem, y, 4, generator=g, batch=2)
        >>> with keeping_batches() as batches:
        ...     here = sample()
        >>> with made_by(lambda i: batches[i]):
        ...     torch.equal(sample().draws, here.draws)
        True
    """
    token = _maker.set(make)
    try:
        yield
    finally:
        _maker.reset(token)


@contextmanager
def keeping_batches() -> Iterator[list[Batch]]:
    """Keep the batches of an independent sampler that is called within the block.

    Yields:
        The batches, in their order.
    """
    batches: list[Batch] = []
    token = _kept.set(batches)
    try:
        yield batches
    finally:
        _kept.reset(token)


def current_maker() -> Callable[[int], Batch] | None:
    """Find what makes the batches elsewhere.

    Returns:
        The function that :func:`made_by` was given; None where they are made here.
    """
    return _maker.get()


def keep_batch(batch: Batch) -> None:
    """Keep a batch where :func:`keeping_batches` asks for it.

    Args:
        batch: The batch.
    """
    kept = _kept.get()
    if kept is not None:
        kept.append(batch)
