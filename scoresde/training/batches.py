"""The batches of the steps, prepared ahead by a thread."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

__all__ = ["Batches"]


class Batches:
    """Batches in the order of the steps, on the device.

    One thread prepares the batches of the next steps while the device computes. On a GPU, pinned
    memory and asynchronous copies let neither wait for the other. The random numbers of a step
    depend on its number alone, so that the batches are the same with and without the thread.

    Args:
        draw: Draws the batch of a step.
        device: Device to which tensors are moved.
        stop: Step before which to stop.
        ahead: Batches to prepare ahead; 0 for no thread.

    Example:
        >>> with Batches(lambda step: (step,), torch.device("cpu"), stop=3, ahead=2) as batches:
        ...     [batches.get(step) for step in range(3)]
        [(0,), (1,), (2,)]
    """

    def __init__(
        self,
        draw: Callable[[int], tuple[Any, ...]],
        device: torch.device,
        stop: int,
        ahead: int = 0,
    ) -> None:
        self._draw, self._device, self._stop, self._ahead = draw, device, stop, ahead
        self._waiting: deque[tuple[int, Future[tuple[Any, ...]]]] = deque()
        self._thread: ThreadPoolExecutor | None = None

    def __enter__(self) -> "Batches":
        if self._ahead > 0:
            self._thread = ThreadPoolExecutor(1, "batches", self._enter_thread)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
        self._waiting.clear()

    def get(self, step: int) -> tuple[Any, ...]:
        """Wait for the batch of a step.

        Args:
            step: Number of the step, one more than in the last call.

        Returns:
            The batch. An exception of the thread is raised here.
        """
        if self._thread is None:
            return self._prepare(step)
        following = self._waiting[-1][0] + 1 if self._waiting else step
        for number in range(following, min(self._stop, step + 1 + self._ahead)):
            self._waiting.append((number, self._thread.submit(self._prepare, number)))
        number, batch = self._waiting.popleft()
        if number != step:
            raise ValueError(f"the batch of step {number} is next, not that of {step}")
        return batch.result()

    def _prepare(self, step: int) -> tuple[Any, ...]:
        return tuple(self._moved(v) if isinstance(v, Tensor) else v for v in self._draw(step))

    def _moved(self, value: Tensor) -> Tensor:
        if self._device.type != "cuda" or value.device.type == "cuda":
            return value.to(self._device)
        return value.pin_memory().to(self._device, non_blocking=True)

    def _enter_thread(self) -> None:
        # the current GPU belongs to a thread; memory is pinned for that one
        if self._device.type == "cuda" and self._device.index is not None:
            torch.cuda.set_device(self._device)
