"""What guidance notices about a learned Jacobian while it runs, kept for the diagnostics.

The interface of a guidance is its shift alone. What it notices beside goes to the :class:`Health`
that the running solver has opened with :func:`recording`, and nowhere if none has.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

__all__ = ["Health", "note", "recording"]


class Health:
    """Record of the corrections of a batch of draws, one entry for each step.

    Args:
        draws: Number of draws in the batch.

    Example:
        >>> import torch
        >>> from solvers.guidance.health import Health, note, recording
        >>> with recording(Health(2)) as health:
        ...     note(torch.tensor([0.1, 0.3]), torch.tensor([False, True]))
        ...     note(torch.tensor([0.2, 0.1]), torch.tensor([False, False]))
        >>> health.asymmetry().tolist(), health.guarded().tolist()
        ([0.20000000298023224, 0.30000001192092896], [0.0, 0.5])
    """

    def __init__(self, draws: int) -> None:
        self.draws = draws
        self._asymmetry: list[Tensor] = []
        self._negative: list[Tensor] = []

    def add(self, asymmetry: Tensor, negative: Tensor) -> None:
        """Add what was seen in one correction of each draw.

        Args:
            asymmetry: Size of the antisymmetric part over that of the symmetric one, shape (B,).
            negative: Whether a variance was negative, shape (B,), bool. A batch of another size
                than the draws' belongs to something else (tiles, nested priors) and is left out.
        """
        if len(asymmetry) == self.draws:
            self._asymmetry.append(asymmetry)
            self._negative.append(negative)

    def cpu(self) -> "Health":
        """Give the same record on the CPU, for another process.

        Returns:
            The record.
        """
        found = Health(self.draws)
        found._asymmetry = [one.cpu() for one in self._asymmetry]
        found._negative = [one.cpu() for one in self._negative]
        return found

    def __bool__(self) -> bool:
        """Say whether anything was recorded."""
        return bool(self._asymmetry)

    def asymmetry(self) -> Tensor:
        """Find the largest asymmetry of each draw.

        Returns:
            Shape (B,), on the CPU.
        """
        return torch.stack(self._asymmetry).amax(0).cpu()

    def guarded(self) -> Tensor:
        """Compute the share of the corrections of each draw with a negative variance.

        Returns:
            Shape (B,), in [0, 1], on the CPU.
        """
        return torch.stack(self._negative).float().mean(0).cpu()


_current: ContextVar[Health | None] = ContextVar("health", default=None)


@contextmanager
def recording(health: Health) -> Iterator[Health]:
    """Record what guidance notices within the block.

    Args:
        health: Record to add to.

    Yields:
        The record.
    """
    token = _current.set(health)
    try:
        yield health
    finally:
        _current.reset(token)


def note(asymmetry: Tensor, negative: Tensor) -> None:
    """Add to the record that is open, if there is one.

    Args:
        asymmetry: As :meth:`Health.add`, shape (B,).
        negative: As :meth:`Health.add`, shape (B,).
    """
    health = _current.get()
    if health is not None:
        health.add(asymmetry.detach(), negative.detach())
