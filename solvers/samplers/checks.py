"""Checks of what goes into a sampler, and of what comes out of it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from problems.storage import release

__all__ = ["check_draws", "check_generators", "failures_named"]

_ENTRIES = 1 << 24  # looked at together


def check_draws(draws: Tensor, solver: str) -> None:
    """Check that draws are finite, once and at the end, so that no step waits for a GPU.

    Args:
        draws: Draws, shape (n, ...).
        solver: Name of what made them.

    Raises:
        ValueError: If an entry is NaN or infinite; the message counts the draws.

    Example:
        >>> import torch
        >>> from solvers.samplers.checks import check_draws
        >>> check_draws(torch.tensor([[1.0], [float("nan")]]), "DDIM")
        Traceback (most recent call last):
        ValueError: 1 of 2 draws of DDIM has NaN or infinite entries; check the weights of the \
prior and the step sizes and noise levels of the solver
    """
    lost = []
    # a few at a time, since large draws may lie in a file
    for some in draws.split(max(1, _ENTRIES // max(1, draws[0].numel()))):
        lost.append((~torch.isfinite(some)).flatten(1).any(1))
        release(some)
    bad = int(torch.cat(lost).sum())
    if bad:
        raise ValueError(
            f"{bad} of {len(draws)} draws of {solver} {'has' if bad == 1 else 'have'} NaN or "
            "infinite entries; check the weights of the prior and the step sizes and noise levels "
            "of the solver"
        )


def check_generators(generator: object) -> None:
    """Check that random numbers can come from an argument.

    Args:
        generator: One generator of torch, a sequence of them, or None.

    Raises:
        ValueError: If it is anything else, such as a seed.

    Example:
        >>> from solvers.samplers.checks import check_generators
        >>> check_generators(3)
        Traceback (most recent call last):
        ValueError: a generator is a torch.Generator or a sequence of them, got int; make one \
with torch.Generator().manual_seed(seed)
    """
    parts = generator if isinstance(generator, Sequence) else [generator]
    for part in parts:
        if not isinstance(part, torch.Generator | None):
            raise ValueError(
                f"a generator is a torch.Generator or a sequence of them, got "
                f"{type(part).__name__}; make one with torch.Generator().manual_seed(seed)"
            )


@contextmanager
def failures_named(solver: str) -> Iterator[None]:
    """Turn what numerical libraries raise at NaN or infinite numbers into one ValueError.

    Args:
        solver: Name of what draws.

    Yields:
        Nothing; the draws are made within the block.

    Raises:
        ValueError: If an ODE could not be solved, or a matrix not be decomposed.
    """
    try:
        yield
    except (FloatingPointError, torch.linalg.LinAlgError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{solver} met numbers that are not finite ({reason}); check the weights of the prior "
            "and the step sizes and noise levels of the solver"
        ) from error
