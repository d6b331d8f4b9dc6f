"""Ctrl-C: remembered, because imports may turn it into another exception."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["remembered_interruption"]


@contextmanager
def remembered_interruption() -> Iterator[list[int]]:
    """Let SIGINT raise KeyboardInterrupt, as Python does, and remember that it came.

    If it comes while an extension module is imported, numpy, scipy and torch give an ImportError or
    a RecursionError in its place. Only the main thread may handle signals, and a handler of others
    stays as it is; then the list stays empty.

    Yields:
        A list that receives the number of each signal.
    """
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        received.append(number)
        raise KeyboardInterrupt

    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, handle)
    try:
        yield received
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
