"""Processes that start without state of the parent, and the number of processors."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext, SpawnContext

__all__ = ["clean_processes", "end_without_a_word", "processors"]


def clean_processes() -> ForkServerContext | SpawnContext:
    """Choose a start method for processes that inherit no state from this one.

    Returns:
        A fork server that has imported this package and done nothing else, so that processes start
        fast; the spawn method where the system has no fork server.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["solvers.verification"])
    with _interruptions_ignored():  # and so in the server, which would print where it was
        forkserver.ensure_running()
    return context


@contextmanager
def _interruptions_ignored() -> Iterator[None]:
    """Ignore Ctrl-C for the milliseconds in which a process is started; the new one inherits it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def end_without_a_word() -> None:
    """Let this process end at once at Ctrl-C, which the terminal sends to the parent, too.

    The parent tells the user. Else each process would print where it was.
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))


def processors() -> int:
    """Count the processors that this process may use.

    Returns:
        Their number, at least 1.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
