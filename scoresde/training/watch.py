"""A watch over losses and gradients that does not wait for the device."""

import torch
from torch import Tensor

__all__ = ["FiniteWatch"]


class FiniteWatch:
    """The first value that was not finite, remembered on the device.

    To read a number from a GPU is to wait until it has finished all that it was asked to do.
    Values are therefore compared on the device, and the result is read once in many steps.

    Args:
        device: Device of the values.

    Example:
        >>> import torch
        >>> watch = FiniteWatch(torch.device("cpu"))
        >>> for step, loss in enumerate([1.0, float("nan"), float("inf")]):
        ...     watch.look(torch.tensor(loss), step)
        >>> watch.failure()
        (1, nan)
    """

    def __init__(self, device: torch.device) -> None:
        self._code = torch.full((), -1, dtype=torch.int64, device=device)
        self._value = torch.zeros((), device=device)

    def look(self, value: Tensor, code: int) -> None:
        """Look at a value.

        Args:
            value: A scalar.
            code: Number, from 0, that says which value it is.
        """
        value = value.detach()
        first = ~torch.isfinite(value) & (self._code < 0)
        # a scalar argument of `where` would be copied to the device, which waits
        self._code.masked_fill_(first, code)
        self._value = torch.where(first, value.to(self._value.dtype), self._value)

    @property
    def failed(self) -> Tensor:
        """1 from the first value on that is not finite, else 0: a scalar on the device, float32."""
        return (self._code >= 0).float()

    def failure(self) -> tuple[int, float] | None:
        """Read the result, which waits for the device.

        Returns:
            Code and value of the first value that was not finite; None if all were finite.
        """
        code = int(self._code)
        return None if code < 0 else (code, float(self._value))
