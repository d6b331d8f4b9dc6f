"""Processes that restore pictures, and the orders that they get.

A process of its own bounds what a picture can do: it can be ended at any moment, its memory comes
back, and a crash costs one restoration.
"""

import multiprocessing
import queue
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from threading import Event as Flag
from types import TracebackType
from typing import Self

from scoresde.errors import InputError
from scoresde.ui.limits import Limits
from scoresde.ui.messages import Event, Finished, Order, Refused
from scoresde.ui.work import STOP, serve

__all__ = ["Workers"]

_LOOK = 0.1  # seconds between looks at the flag
_GRACE = 60.0
"""Seconds beyond the limit for the step that is under way and for writing the results."""

_CRASHED = "the process that restored the picture has ended, perhaps for lack of memory"


class _Worker:
    """One process."""

    def __init__(self, prior: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe: Connection
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, prior), daemon=True)
        self.process.start()
        theirs.close()
        self._ready = False

    def wait(self) -> None:
        """Wait until the weights are loaded."""
        if not self._ready:
            try:
                self.pipe.recv()
            except EOFError:
                raise InputError("a process that restores pictures could not be started") from None
            self._ready = True

    def end(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


class Workers:
    """The processes of a server; a context manager that ends them.

    Args:
        limits: How many there are, and what an order may take.
        prior: Name of the prior that they load when they start.
    """

    def __init__(self, limits: Limits, prior: str = "natural") -> None:
        self.limits, self.prior = limits, prior
        self._idle: queue.Queue[_Worker] = queue.Queue()
        self._all: set[_Worker] = set()

    def __enter__(self) -> Self:
        made = [self._start() for _ in range(self.limits.jobs)]
        try:
            for worker in made:
                worker.wait()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all processes."""
        while self._all:
            self._all.pop().end()

    def _start(self) -> _Worker:
        worker = _Worker(self.prior)
        self._all.add(worker)
        self._idle.put(worker)
        return worker

    def _replace(self, worker: _Worker) -> None:
        self._all.discard(worker)
        worker.end()
        self._start()

    def run(self, order: Order, stop: Flag) -> Iterator[Event]:
        """Have a picture restored.

        Args:
            order: What to do.
            stop: Set to end with the draws that are finished.

        Yields:
            What happens. The last event is a :class:`Finished` or a :class:`Refused`. If the
            iterator is closed before, the work ends at once.
        """
        worker = self._idle.get()
        done = False
        try:
            worker.wait()
            worker.pipe.send(order)
            for event in _events(worker, stop, order.limits.seconds + _GRACE):
                done = isinstance(event, Finished | Refused)
                yield event
            if not done:
                yield Refused(_CRASHED)
        except (EOFError, OSError):
            yield Refused(_CRASHED)
        finally:
            if done:
                self._idle.put(worker)
            else:
                self._replace(worker)


def _events(worker: _Worker, stop: Flag, seconds: float) -> Iterator[Event]:
    """The events of an order until its last one, or until the time is over."""
    end, told = time.monotonic() + seconds, False
    while time.monotonic() < end:
        if stop.is_set() and not told:
            worker.pipe.send(STOP)
            told = True
        if worker.pipe.poll(_LOOK):
            event: Event = worker.pipe.recv()
            yield event
            if isinstance(event, Finished | Refused):
                return
