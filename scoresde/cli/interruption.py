"""Ctrl-C and SIGTERM: remembered, because imports may turn them into another exception."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["interruption_status", "remembered_interruption"]

_OURS = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
"""The handlers that are replaced: those that Python sets when it starts."""


@contextmanager
def remembered_interruption() -> Iterator[list[int]]:
    """Let SIGINT and SIGTERM raise KeyboardInterrupt, and remember that they came.

    SIGTERM is what a cluster sends at the end of a job's time; without a handler it would leave
    temporary files. If a signal comes while an extension module is imported, numpy, scipy and torch
    give an ImportError or a RecursionError in its place. Only the main thread may handle signals,
    and a handler of others stays as it is; then the list stays empty.

    Yields:
        A list that receives the number of each signal.
    """
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        received.append(number)
        raise KeyboardInterrupt(number)

    main = threading.current_thread() is threading.main_thread()
    ours = {one: usual for one, usual in _OURS.items() if main and signal.getsignal(one) is usual}
    for one in ours:
        signal.signal(one, handle)
    try:
        yield received
    finally:
        for one, usual in ours.items():
            signal.signal(one, usual)


def interruption_status(received: list[int], error: BaseException | None = None) -> int:
    """Give the exit status of a shell for a command that a signal ended.

    Args:
        received: Numbers of the signals, the last one counts.
        error: The exception that ended the command, with the number of the signal if it has one.

    Returns:
        128 plus the number, which is that of SIGINT where it is not known.

    Example:
        >>> interruption_status([]), interruption_status([15])
        (130, 143)
    """
    told = [one for one in getattr(error, "args", ()) if isinstance(one, int)]
    return 128 + int([signal.SIGINT, *told, *received][-1])
